"""The exact backend: filter, rank, prove, and search again what was not proven."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from labeltui._fast import knn
from labeltui.errors import UsageError
from labeltui.graph.loops import run
from labeltui.parallel import Cancel, Progress

VARIABLE = "LABELTUI_KNN"

# Below this many rows comparing each with each in float64 takes no time worth saving.
_FEW = 512

_FINER = ("c", "avx2", "avx512")  # float32 paths
_WIDE = 1 << 16  # products of more dimensions could leave int32
_MANY = 0.1  # share of unproven rows from which a second filter costs less than comparing them in float64


def paths() -> tuple[str, ...]:
    """Return the ways in which this CPU can search, slowest first; all give the same bytes.

    "direct" compares every pair in float64. The others filter first: "c", "avx2" and "avx512" with float32 products,
    "vnni" and "amx" with int8 ones.
    """
    return ("direct", *knn.paths())


def _finer() -> str:
    return [name for name in paths() if name in _FINER][-1]


def choose(path: str | None, n: int, d: int) -> str:
    """Return the path to take: the one asked for, by argument or environment, or the fastest."""
    asked = path or os.environ.get(VARIABLE) or None
    if d > _WIDE:
        return "direct" if asked == "direct" or n <= _FEW else _finer()
    if asked is None:
        return "direct" if n <= _FEW else paths()[-1]
    if asked not in paths():
        raise UsageError(
            f"the search path must be one of {', '.join(paths())} on this CPU",
            f"got {asked!r}",
            f"unset {VARIABLE}",
        )
    return asked


# Searches distinct rows with at least one other: fills indices and similarity and returns which rows it did not prove.
Searcher = Callable[[knn.Rows, npt.NDArray[np.int32], npt.NDArray[np.float32]], npt.NDArray[np.bool_]]


def search(
    rows: knn.Rows,
    hashes: npt.NDArray[np.uint64],
    indices: npt.NDArray[np.int32],
    similarity: npt.NDArray[np.float32],
    searcher: Searcher,
    threads: int,
    progress: Progress | None,
    cancel: Cancel | None,
) -> int:
    """Fill indices and similarity (n, k) with the true neighbours; return how many rows `searcher` did not prove.

    Equal rows are searched once: they have equal neighbours, and a row with hundreds of copies could never be proven,
    because no bound tells the copies apart.
    """
    k = indices.shape[1]
    if k == 0:
        return 0

    def complete(
        rows: knn.Rows, indices: npt.NDArray[np.int32], similarity: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.bool_]:
        unproven, k = searcher(rows, indices, similarity), indices.shape[1]
        targets = np.flatnonzero(unproven)
        if len(targets) == rows.n:
            run(knn.Direct(rows, targets, indices, similarity), threads, progress, cancel, (0.0, 0.98))
        elif len(targets):
            near, near_similarity = (
                np.empty((len(targets), k), np.int32),
                np.empty((len(targets), k), np.float32),
            )
            run(knn.Direct(rows, targets, near, near_similarity), threads, progress, cancel, (0.95, 0.98))
            indices[targets], similarity[targets] = near, near_similarity
        return unproven

    first = rows.first_copies(hashes, np.argsort(hashes, kind="stable"))
    distinct = np.flatnonzero(first == np.arange(rows.n))
    if len(distinct) == rows.n:
        return int(complete(rows, indices, similarity).sum())
    some = knn.Rows(rows.x, rows.metric, distinct if rows.rows is None else rows.rows[distinct])
    some.measured(rows.squared[distinct])
    near_k = min(k, len(distinct) - 1)
    near = np.full((len(distinct), near_k), -1, np.int32)
    near_similarity = np.zeros((len(distinct), near_k), np.float32)
    again = complete(some, near, near_similarity) if near_k else np.zeros(1, bool)
    of = np.searchsorted(distinct, first)
    members = np.argsort(of, kind="stable")
    start = np.searchsorted(of[members], np.arange(len(distinct) + 1))
    spread = knn.Spread(some, of, start, members, near, near_similarity, indices, similarity)
    run(spread, threads, progress, cancel, (0.98, 1.0))
    return int(again[of].sum())


def on_cpu(path: str, threads: int, progress: Progress | None, cancel: Cancel | None) -> Searcher:
    """Return the searcher that takes `path`; "direct" proves nothing, so that all is compared in float64."""

    def searcher(
        rows: knn.Rows, indices: npt.NDArray[np.int32], similarity: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.bool_]:
        if path == "direct":
            return np.ones(rows.n, bool)
        rows.restrict(knn.PATHS.index(path))
        unproven = _filtered(rows, path, indices, similarity, threads, progress, cancel)
        if path not in _FINER and unproven.sum() > rows.n * _MANY:
            # Rows closer together than int8 can tell: float32 tells some hundred times more.
            unproven = _filtered(rows, _finer(), indices, similarity, threads, progress, cancel)
        return unproven

    return searcher


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
        for stage, span in (
            (knn.Assign(shared), (0.0, 0.02)),
            (knn.Sketch(shared), (0.02, 0.05)),
            (knn.Tiles(shared), (0.05, 0.85)),
        ):
            run(stage, threads, progress, cancel, span)
            stage.end()
        finish = knn.Finish(shared, indices, similarity)
        run(finish, threads, progress, cancel, (0.85, 0.95))
        unproven: npt.NDArray[np.bool_] = finish.proven == 0
        return unproven
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
