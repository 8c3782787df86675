"""Updating an audit against scanning everything again: time by stage, and whether the bytes are the same.

Ready embeddings of clusters (no images, so that embedding costs nothing): 1 % of the samples are new. A scan of images
saves the embedding of the other 99 % on top of that.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from _common import Report, parser
from labeltui.scanning import ScanOptions, scan


def measured(data: Path, out: Path, update: Path | None = None) -> tuple[float, dict[str, float]]:
    """Scan; return the seconds of all, and of each stage."""
    begun = time.perf_counter()
    scan(data, out, ScanOptions(), update=update)
    stages = json.loads((out / "scan.json").read_text())["summary"]["stages"]
    return time.perf_counter() - begun, stages


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--samples", type=int, default=50_000)
    options.add_argument("--dimensions", type=int, default=512)
    asked = options.parse_args()
    report = Report("update", asked)
    n, d, classes = (3000, 64, 10) if asked.quick else (asked.samples, asked.dimensions, 10)
    rng = np.random.default_rng(0)
    labels = rng.integers(classes, size=n)
    rows = (rng.normal(size=(classes, d))[labels] + rng.normal(size=(n, d)) * 2).astype(np.float32)
    names = np.array([f"class{label}" for label in labels])
    old = np.ones(n, bool)
    old[rng.choice(n, n // 100, replace=False)] = False
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        np.savez(here / "old.npz", embeddings=rows[old], labels=names[old])
        np.savez(here / "data.npz", embeddings=rows, labels=names)
        measured(here / "old.npz", here / "old.audit")
        updated, by_stage = measured(here / "data.npz", here / "new.audit", here / "old.audit")
        fresh, by_stage_fresh = measured(here / "data.npz", here / "fresh.audit")
        same = len(
            {
                hashlib.sha256((here / name / "audit.h5").read_bytes()).digest()
                for name in ("new.audit", "fresh.audit")
            }
        )
    detail = {"samples": n, "dimensions": d, "update": by_stage, "fresh": by_stage_fresh}
    report.add("time of an update by 1 % of a fresh scan's", updated / fresh, "x", better="lower", target=0.1,
               detail={**detail, "seconds": [updated, fresh]})  # fmt: skip
    report.add("of its graph", by_stage["graph"] / by_stage_fresh["graph"], "x", better="lower", target=0.1)
    report.add("audit.h5 is the same file", float(same == 1), "", target=1)
    report.finish()


if __name__ == "__main__":
    main()
