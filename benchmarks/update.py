"""Updating an audit by 1 % new samples against scanning everything again: time by stage, and what is the same.

Ready embeddings of clusters, so that embedding costs nothing; with --photographs also images through a backbone with
random weights, of which an update embeds the new ones only.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from _common import Report, parser
from labeltui.scanning import ScanOptions, scan
from labeltui.store import Store

VOTES = ("neighbours", "nearest", "duplicates", "csg")
"""Detectors that need no classifier."""


def measured(data: Path, out: Path, update: Path | None = None, **options: object) -> dict[str, object]:
    """Scan; return the seconds of all, wall clock and processor, and of each stage."""
    begun, processor = time.perf_counter(), time.process_time()
    scan(data, out, ScanOptions.of(**options), update=update)
    stages = json.loads((out / "scan.json").read_text())["summary"]["stages"]
    return {
        "seconds": time.perf_counter() - begun,
        "processor_seconds": time.process_time() - processor,
        **stages,
    }


def compared(updated: Path, fresh: Path) -> dict[str, float]:
    """What is the same bytes, and how far the scores of new samples agree with those of a scan of everything."""
    with Store.open(updated) as a, Store.open(fresh) as b:
        graph = f"graph/{b.embedding_name}"
        names = [f"{graph}/{part}" for part in ("indices", "similarity")]
        names += [f"scores/{name}" for name in VOTES] + [f"csg/{name}" for name in b.names_in("csg")]
        same = all(np.array_equal(a.array(name), b.array(name), equal_nan=True) for name in names)
        scored = a.scan.get("carried", {}).get("scored", 0)
        flags = [each.array("suggest/label")[:, 0] != each.given for each in (a, b)]
        blend = [each.array("scores/blend") for each in (a, b)]
        return {
            "same": float(same),
            "scored": scored,
            "flags": float(flags[1].sum()),
            "flags_agree": float((flags[0] & flags[1]).sum() / max(1, (flags[0] | flags[1]).sum())),
            "score_correlation": float(np.corrcoef(blend[0], blend[1])[0, 1]),
        }


def embeddings(here: Path, n: int, d: int, classes: int = 10) -> tuple[Path, Path]:
    """Clusters with 5 % wrong labels: all but 1 %, and all."""
    rng = np.random.default_rng(0)
    labels = rng.integers(classes, size=n)
    rows = (rng.normal(size=(classes, d))[labels] + rng.normal(size=(n, d)) * 2).astype(np.float32)
    given = np.where(rng.random(n) < 0.05, rng.integers(classes, size=n), labels)
    names = np.array([f"class{label}" for label in given])
    old = np.ones(n, bool)
    old[rng.choice(n, n // 100, replace=False)] = False
    ids = np.arange(n).astype(str)
    np.savez(here / "old.npz", embeddings=rows[old], labels=names[old], ids=ids[old])
    np.savez(here / "data.npz", embeddings=rows, labels=names, ids=ids)
    return here / "old.npz", here / "data.npz"


def photographs(here: Path, n: int, classes: int = 10) -> tuple[Path, Path]:
    """JPEG files of 256 x 256, as two trees of links: all but 1 %, and all."""
    rng = np.random.default_rng(0)
    late = set(rng.choice(n, n // 100, replace=False).tolist())
    patterns = rng.integers(0, 256, (classes, 8, 8, 3))
    for i in range(n):
        label = i % classes
        pixels = np.clip(patterns[label] + rng.normal(0, 60, (8, 8, 3)), 0, 255).astype(np.uint8)
        for tree in ("old", "all"):
            if tree == "all" or i not in late:
                file = here / tree / f"class{label}" / f"{i:06}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).resize((256, 256), Image.Resampling.BICUBIC).save(file)
    return here / "old", here / "all"


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--samples", type=int, default=50_000)
    options.add_argument("--dimensions", type=int, default=512)
    options.add_argument("--photographs", type=int, default=0, help="also so many images")
    options.add_argument("--model", default="resnet50", help="backbone for the photographs")
    asked = options.parse_args()
    report = Report("update", asked)
    n, d = (5000, 64) if asked.quick else (asked.samples, asked.dimensions)
    kinds = [("embeddings", lambda here: embeddings(here, n, d), {})]
    if asked.photographs:
        model = {"model": asked.model, "pretrained": False, "image_size": 224}
        kinds.append((asked.model, lambda here: photographs(here, asked.photographs), model))
    for kind, make, chosen in kinds:
        with tempfile.TemporaryDirectory() as scratch:
            here = Path(scratch)
            old, data = make(here)
            measured(old, here / "old.audit", **chosen)
            updated = measured(data, here / "new.audit", here / "old.audit", **chosen)
            rescored = measured(data, here / "anew.audit", here / "old.audit", rescore=True, **chosen)
            fresh = measured(data, here / "fresh.audit", **chosen)
            found = compared(here / "new.audit", here / "fresh.audit")
            identical = (here / "anew.audit" / "audit.h5").read_bytes() == (
                here / "fresh.audit" / "audit.h5"
            ).read_bytes()
        detail = {"update": updated, "rescored": rescored, "fresh": fresh, **found}
        for clock in ("processor_seconds", "seconds"):
            report.add(f"{kind}: {clock} of an update by 1 %, of a fresh scan's", updated[clock] / fresh[clock], "x",
                       better="lower", target=0.1, detail=detail if clock == "seconds" else None)  # fmt: skip
        report.add(f"{kind}: the same with --rescore", rescored["processor_seconds"] / fresh["processor_seconds"], "x",
                   better="lower")  # fmt: skip
        report.add(f"{kind}: graph, CSG and votes are the same", found["same"], "", target=1)
        report.add(f"{kind}: with --rescore audit.h5 is the same file", float(identical), "", target=1)
        report.add(f"{kind}: flags in both, of those in either", found["flags_agree"], "")
    report.finish()


if __name__ == "__main__":
    main()
