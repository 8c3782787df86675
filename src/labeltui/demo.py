"""A finished audit of bundled data with known errors: no download, a few seconds.

The 1,797 handwritten digits that ship with scikit-learn become an image tree. A seeded 8 % of them get the folder of a
digit that looks alike: the likelier, the larger the class similarity S of the clean digits is. Then the tree is
scanned with the ``pixels`` embedder, and the flags are compared with the injected errors.
"""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import labeltui
from labeltui import paths, store
from labeltui.errors import AuditError, UsageError
from labeltui.io.atomic import replacing
from labeltui.parallel import StageProgress
from labeltui.text import safe

RATE = 0.08
SEED = 20261120
SCALE = 4  # of each 8 x 8 image: large enough to look at, every pixel still itself
COLUMNS = ("path", "given", "clean")


@dataclass(frozen=True)
class InjectionMetrics:
    """How well the flags of the scan find the injected errors.

    Attributes
    ----------
    errors : int
        Injected wrong labels.
    precision : float
        Share of the flagged samples that are injected errors.
    recall : float
        Share of the injected errors that are flagged.
    """

    errors: int
    precision: float
    recall: float


@dataclass(frozen=True)
class Demo:
    """A finished demo.

    Attributes
    ----------
    images, truth, audit : Path
        The image tree; a table of path, given and clean label; the audit.
    injected : InjectionMetrics
    seconds : float
        Of this call.
    reused : bool
        Whether it stood there already.
    """

    images: Path
    truth: Path
    audit: Path
    injected: InjectionMetrics
    seconds: float
    reused: bool


def demo(
    out: Path | None = None,
    progress: StageProgress | None = None,
    cancel: Callable[[], bool] | None = None,
    threads: int | None = None,
) -> Demo:
    """Make the demo, finish one that was interrupted, or open the finished one.

    Parameters
    ----------
    out : Path, optional
        Gets ``digits`` (images), ``digits.truth.csv`` and ``digits.audit``; None is a place in the user's cache
        directory.
    progress : callable, optional
        As for `labeltui.scanning.scan`, with the stage "images" before the others.
    cancel : callable, optional
        As for `labeltui.scanning.scan`.
    threads : int, optional
        See `labeltui.parallel.count_threads`.

    Returns
    -------
    Demo

    Raises
    ------
    UsageError
        `out` holds something else, or the demo of another version.
    AuditError
        It cannot be written.
    Cancelled
    """
    begun = time.monotonic()
    out = _cache() if out is None else Path(out)
    images, truth, audit = out / "digits", out / "digits.truth.csv", out / "digits.audit"
    report = progress or (lambda stage, done, total: None)
    reused = _is_finished(out, audit)
    if not reused:
        try:
            _make_images(out, images, truth, report, threads)
        except OSError as error:
            raise AuditError(
                "the demo writes its images", f"{safe(str(out))}: {error.strerror}", "choose another --out"
            ) from None
        _scan(images, audit, progress, cancel, threads)
    injected = measure(audit, truth)
    return Demo(images, truth, audit, injected, round(time.monotonic() - begun, 2), reused)


def measure(audit: Path, truth: Path) -> InjectionMetrics:
    """Compare the flags of an audit's scan with the known labels.

    Parameters
    ----------
    audit : Path
    truth : Path
        CSV with the columns path, given and clean, one row a sample.

    Raises
    ------
    NotAnAudit, DamagedAudit
    UsageError
        The table is missing or is not about this audit.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(truth.read_text(encoding="utf-8"))))
        clean_of = {os.fsencode(row["path"]): os.fsencode(row["clean"]) for row in rows}
    except (OSError, UnicodeDecodeError, KeyError):
        clean_of = {}
    with store.Store.open(audit) as opened:
        if clean_of.keys() != set(opened.ids):
            raise UsageError(
                "the demo's truth must name every sample of its audit",
                f"{safe(str(truth))} does not",
                f"delete {safe(str(truth.parent))} and run labeltui demo again",
            )
        number = {name: index for index, name in enumerate(opened.class_ids)}
        clean = np.array([number[clean_of[name]] for name in opened.ids])
        wrong = clean != opened.given
        flagged = (opened.status == paths.OK) & (opened.array("suggest/label")[:, 0] != opened.given)
    hits = int((flagged & wrong).sum())
    return InjectionMetrics(
        int(wrong.sum()), hits / max(1, int(flagged.sum())), hits / max(1, int(wrong.sum()))
    )


def _cache() -> Path:
    return paths.cache_dir() / f"demo-{labeltui.__version__}"


def _is_finished(out: Path, audit: Path) -> bool:
    if not (audit / paths.AUDIT_FILE).exists() or (audit / paths.PARTIAL).exists():
        return False
    with store.Store.open(audit) as opened:
        version = opened.scan.get("version")
    if version != labeltui.__version__:
        raise UsageError(
            "a demo is opened by the version that made it",
            f"{safe(str(out))} holds one of version {safe(str(version))}, this is {labeltui.__version__}",
            "choose another --out, or look at it with labeltui review",
        )
    return True


# --- images ----------------------------------------------------------------------------------------------------------


def _digits(
    threads: int | None,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return images (N, 8, 8), clean labels and labels with injected errors."""
    from sklearn.datasets import load_digits

    from labeltui import csg, graph, noise

    bundle = load_digits()
    clean = bundle.target.astype(np.int32)
    neighbours = graph.build(bundle.data.astype(np.float32), 10, threads=threads)
    similarity = csg.similarity(csg.pooled_counts(neighbours.indices, clean, 10, 10, threads))
    given = noise.confusable(clean, similarity, RATE, SEED).labels
    return np.round(bundle.images * (255 / 16)).astype(np.uint8), clean, given


def _make_images(out: Path, directory: Path, truth: Path, report: StageProgress, threads: int | None) -> None:
    """Write what is missing of the tree and its truth; touch nothing that is there."""
    report("images", 0, 1)
    images, clean, given = _digits(threads)
    paths = [f"{label}/{index:04}.png" for index, label in enumerate(given.tolist())]
    there = set(_files(directory))
    if foreign := sorted(there - set(paths)):
        raise UsageError(
            "--out names a directory for the demo alone",
            f"{safe(str(directory))} holds {len(foreign)} other files, such as {safe(foreign[0])}",
            "choose another --out",
        )
    for label in range(10):
        (directory / str(label)).mkdir(parents=True, exist_ok=True)
    for index, path in enumerate(paths):
        if path not in there:
            _write_png(directory / path, images[index])
        if index % 64 == 0:
            report("images", index, len(paths))
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(zip(paths, given.tolist(), clean.tolist(), strict=True))
    with replacing(truth) as temporary:
        temporary.write_text(rows.getvalue(), encoding="utf-8")
    report("images", len(paths), len(paths))


def _files(directory: Path) -> Iterator[str]:
    for parent, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(parent, name)
            if name.endswith(".png.tmp"):  # of a run that was killed
                os.unlink(path)
            else:
                yield os.path.relpath(path, directory)


def _write_png(path: Path, image: npt.NDArray[np.uint8]) -> None:
    from PIL import Image

    large = np.kron(image, np.ones((SCALE, SCALE), np.uint8))
    # Renamed, so that a killed run leaves no half image; not flushed, since it can be made again.
    temporary = path.with_name(f"{path.name}.tmp")
    Image.fromarray(large).save(temporary, "PNG")
    os.replace(temporary, path)


def _scan(
    images: Path,
    audit: Path,
    progress: StageProgress | None,
    cancel: Callable[[], bool] | None,
    threads: int | None,
) -> None:
    from labeltui.embed import EmbedSpec
    from labeltui.scanning import ScanOptions, scan

    # Decoding an image of 32 x 32 costs less than handing it to another process.
    spec = EmbedSpec("pixels", device="cpu", workers=0)
    options = ScanOptions(embed=spec, threads=threads, command="labeltui demo")
    scan(images, audit, options, progress, cancel)
