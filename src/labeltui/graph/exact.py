"""The exact backend: filter, rank, prove, and search again what was not proven."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from labeltui._fast import knn
from labeltui.errors import UsageError
from labeltui.graph.loops import Cancel, Progress, run

VARIABLE = "LABELTUI_KNN"

# Below this many rows comparing each with each in float64 takes no time worth saving.
_FEW = 512

_FINER = ("c", "avx2", "avx512")  # float32 paths
_MANY = 0.1  # share of unproven rows from which a second filter costs less than comparing them in float64


def paths() -> tuple[str, ...]:
    """Return the ways in which this CPU can search, slowest first; all give the same bytes.

    "direct" compares every pair in float64. The others filter first: "c", "avx2" and "avx512" with float32 products,
    "vnni" and "amx" with int8 ones.
    """
    return ("direct", *knn.paths())


def choose(path: str | None, n: int, d: int) -> str:
    """Return the path to take: the one asked for, by argument or environment, or the fastest."""
    asked = path or os.environ.get(VARIABLE) or None
    if asked is None:
        return "direct" if n <= _FEW else paths()[-1]
    if asked not in paths():
        raise UsageError(
            f"the search path must be one of {', '.join(paths())} on this CPU",
            f"{asked!r} came",
            f"unset {VARIABLE}",
        )
    return asked


def search(
    rows: knn.Rows,
    hashes: npt.NDArray[np.uint64],
    indices: npt.NDArray[np.int32],
    similarity: npt.NDArray[np.float32],
    path: str | None,
    threads: int,
    progress: Progress | None,
    cancel: Cancel | None,
) -> int:
    """Fill indices and similarity (n, k); return how many rows the filter could not prove.

    Equal rows are searched once: they have equal neighbours, and a row with hundreds of copies could never be proven,
    because no bound tells the copies apart.
    """
    k = indices.shape[1]
    if k == 0:
        return 0
    chosen = choose(path, rows.n, rows.d)
    first = rows.first_copies(hashes, np.argsort(hashes, kind="stable"))
    distinct = np.flatnonzero(first == np.arange(rows.n))
    if len(distinct) == rows.n:
        return int(_distinct(rows, indices, similarity, chosen, threads, progress, cancel).sum())
    some = knn.Rows(rows.x, rows.metric, distinct if rows.rows is None else rows.rows[distinct])
    some.measured(rows.squared[distinct])
    near_k = min(k, len(distinct) - 1)
    near = np.full((len(distinct), near_k), -1, np.int32)
    near_similarity = np.zeros((len(distinct), near_k), np.float32)
    again = np.zeros(len(distinct), bool)
    if near_k:
        again = _distinct(some, near, near_similarity, chosen, threads, progress, cancel)
    of = np.searchsorted(distinct, first)
    members = np.argsort(of, kind="stable")
    start = np.searchsorted(of[members], np.arange(len(distinct) + 1))
    run(
        knn.Spread(some, of, start, members, near, near_similarity, indices, similarity),
        threads,
        progress,
        cancel,
        (0.98, 1.0),
    )
    return int(again[of].sum())


def _distinct(
    rows: knn.Rows,
    indices: npt.NDArray[np.int32],
    similarity: npt.NDArray[np.float32],
    path: str,
    threads: int,
    progress: Progress | None,
    cancel: Cancel | None,
) -> npt.NDArray[np.bool_]:
    """Search rows that all differ; return which were searched again (with "direct": all, nothing was filtered)."""
    unproven = np.ones(rows.n, bool)
    if path != "direct":
        rows.restrict(knn.PATHS.index(path))
        unproven = _filtered(rows, path, indices, similarity, threads, progress, cancel)
        finer = [name for name in paths() if name in _FINER]
        if path not in _FINER and unproven.sum() > rows.n * _MANY:
            # Rows closer together than int8 can tell: float32 tells some hundred times more.
            unproven = _filtered(rows, finer[-1], indices, similarity, threads, progress, cancel)
    targets = np.flatnonzero(unproven)
    run(knn.Direct(rows, targets, indices, similarity), threads, progress, cancel, (0.95, 0.98))
    return unproven


def _filtered(
    rows: knn.Rows,
    path: str,
    indices: npt.NDArray[np.int32],
    similarity: npt.NDArray[np.float32],
    threads: int,
    progress: Progress | None,
    cancel: Cancel | None,
) -> npt.NDArray[np.bool_]:
    """Fill what the filter proves; return which rows it does not."""
    shared = knn.Filter(rows, knn.PATHS.index(path), indices.shape[1])
    try:
        sketch = knn.Sketch(shared)
        run(sketch, threads, progress, cancel, (0.0, 0.02))
        sketch.end()
        tiles = knn.Tiles(shared)
        run(tiles, threads, progress, cancel, (0.02, 0.85))
        tiles.end()
        finish = knn.Finish(shared, indices, similarity)
        run(finish, threads, progress, cancel, (0.85, 0.95))
        return finish.proven == 0
    finally:
        shared.close()


def memory(n: int, d: int, k: int, threads: int) -> int:
    """Return the most bytes needed beside the rows, result included: whatever the path, and if rows repeat."""
    if k < 1:
        return 80 * n
    result = 8 * k * n
    sizes = [knn.filter_bytes(n, d, k, knn.PATHS.index(path)) for path in knn.paths()]
    direct = 64 * max(2 * k, k + 64) + 104 * (d + 8)
    facts, copies = 50 * n, result + 60 * n  # lengths, hashes, their order; a second graph when rows repeat
    return (
        result
        + facts
        + copies
        + max(size for size, _ in sizes)
        + threads * max(direct, *(x for _, x in sizes))
    )
