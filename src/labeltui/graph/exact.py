"""The exact backend: filter, rerank, certify, and search the remaining rows by brute force."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from labeltui._fast import knn
from labeltui.errors import UsageError
from labeltui.graph.cost import direct_seconds, filter_seconds
from labeltui.graph.parts import Crew, lay_out, tiles_in_parts
from labeltui.graph.tasks import run_task
from labeltui.graph.unfinished import Unfinished, restore_tiles, tile_pieces
from labeltui.parallel import Cancel, Portions
from labeltui.unfinished import Pieces

VARIABLE = "LABELTUI_KNN"

# Up to this many rows brute force in float64 is fast enough.
_BRUTE_FORCE_UP_TO = 512

_FLOAT_PATHS = ("c", "avx2", "avx512")  # float32 paths
_MAX_INT8_DIM = 1 << 16  # beyond, products could overflow int32
_MAX_UNCERTIFIED = 0.1  # fraction of uncertified rows above which a second filter costs less than brute force


def paths() -> tuple[str, ...]:
    """Return the search paths that this CPU supports, slowest first; all give the same bytes.

    "direct" compares every pair in float64. The others filter first: "c", "avx2" and "avx512" with float32 products,
    "vnni" and "amx" with int8 ones.
    """
    return ("direct", *knn.paths())


def _best_float_path() -> str:
    return [name for name in paths() if name in _FLOAT_PATHS][-1]


def choose(path: str | None, n: int, d: int) -> str:
    """Choose a search path.

    Parameters
    ----------
    path : str or None
        Requested path; None reads the environment variable ``LABELTUI_KNN``, and takes the fastest if that is unset.
    n, d : int
        Rows and dimensions: few rows are searched by brute force, many dimensions by float32 filters.

    Returns
    -------
    str
        One of `paths()`.

    Raises
    ------
    UsageError
        This CPU does not support the requested path.
    """
    requested = path or os.environ.get(VARIABLE) or None
    if d > _MAX_INT8_DIM:
        return "direct" if requested == "direct" or n <= _BRUTE_FORCE_UP_TO else _best_float_path()
    if requested is None:
        return "direct" if n <= _BRUTE_FORCE_UP_TO else paths()[-1]
    if requested not in paths():
        raise UsageError(
            f"the search path must be one of {', '.join(paths())} on this CPU",
            f"got {requested!r}",
            f"unset {VARIABLE}",
        )
    return requested


# Searches two or more distinct rows: fills indices and similarity and returns which rows are uncertified.
Searcher = Callable[[knn.Rows, npt.NDArray[np.int32], npt.NDArray[np.float32]], npt.NDArray[np.bool_]]


def search(
    rows: knn.Rows,
    hashes: npt.NDArray[np.uint64],
    indices: npt.NDArray[np.int32],
    similarity: npt.NDArray[np.float32],
    searcher: Searcher,
    threads: int,
    portions: Portions,
    cancel: Cancel | None,
    unfinished: Unfinished | None = None,
) -> int:
    """Fill `indices` and `similarity` with the true neighbours; return how many rows `searcher` did not certify.

    Equal rows are searched once: they have equal neighbours, and a row with hundreds of duplicates could never be
    certified, because no bound separates equal rows.

    Parameters
    ----------
    rows : Rows
        With lengths set.
    hashes : (n,) uint64
        Of the rows' bytes.
    indices : (n, k) int32
    similarity : (n, k) float32
        Both are overwritten.
    searcher : Searcher
    threads : int
    portions : Portions
        Of the progress; steps are added as they are found to be needed.
    cancel : callable or None
    unfinished : Unfinished, optional
        Where the work of an earlier search of the same rows is, and that of this one is kept.

    Returns
    -------
    int
        Rows searched by brute force.

    Raises
    ------
    Cancelled
    """
    k = indices.shape[1]
    if k == 0:
        return 0

    def complete(
        rows: knn.Rows, indices: npt.NDArray[np.int32], similarity: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.bool_]:
        direct = _Direct(rows, indices, similarity, unfinished)
        if not direct.load():
            direct.begin(searcher(rows, indices, similarity))
        direct.run(threads, portions, cancel)
        return direct.uncertified

    first = rows.first_duplicates(hashes, np.argsort(hashes, kind="stable"))
    distinct = np.flatnonzero(first == np.arange(rows.n))
    if len(distinct) == rows.n:
        return int(complete(rows, indices, similarity).sum())
    distinct_rows = knn.Rows(rows.x, rows.metric, distinct if rows.rows is None else rows.rows[distinct])
    distinct_rows.set_lengths(rows.squared[distinct])
    near_k = min(k, len(distinct) - 1)
    near = np.full((len(distinct), near_k), -1, np.int32)
    near_similarity = np.zeros((len(distinct), near_k), np.float32)
    fallback = complete(distinct_rows, near, near_similarity) if near_k else np.zeros(1, bool)
    of = np.searchsorted(distinct, first)
    members = np.argsort(of, kind="stable")
    start = np.searchsorted(of[members], np.arange(len(distinct) + 1))
    expand = knn.ExpandDuplicates(
        distinct_rows, of, start, members, near, near_similarity, indices, similarity
    )
    run_task(expand, threads, cancel=cancel)
    return int(fallback[of].sum())


class _Direct:
    """The direct search of the rows that a filter did not certify."""

    def __init__(
        self,
        rows: knn.Rows,
        indices: npt.NDArray[np.int32],
        similarity: npt.NDArray[np.float32],
        unfinished: Unfinished | None,
    ) -> None:
        self.rows, self.indices, self.similarity = rows, indices, similarity
        self.unfinished = unfinished
        self.key = unfinished.key("direct", rows.n, indices.shape[1]) if unfinished is not None else ""
        self.uncertified = np.zeros(rows.n, bool)

    def begin(self, uncertified: npt.NDArray[np.bool_], found: int = 0) -> None:
        """Take the rows to search; the first `found` of them were."""
        self.uncertified, self.found = uncertified, found
        targets = np.flatnonzero(uncertified)
        shape = len(targets), self.indices.shape[1]
        self.all = len(targets) == self.rows.n
        self.near = self.indices if self.all else np.empty(shape, np.int32)
        self.near_similarity = self.similarity if self.all else np.empty(shape, np.float32)
        self.task = knn.BruteForce(self.rows, targets, self.near, self.near_similarity)
        self.task.resume(found, found)

    def run(self, threads: int, portions: Portions, cancel: Cancel | None) -> None:
        if not self.task.total:
            return
        portions.add({"direct": direct_seconds(self.task.total - self.found, self.rows.n, self.rows.d)})
        progress = portions.step("direct")
        if self.unfinished is None:
            run_task(self.task, threads, progress, cancel)
        else:
            self.unfinished.run(self.task, self.key, self._pieces, threads, progress, cancel)
        if not self.all:
            targets = self.task.targets
            self.indices[targets], self.similarity[targets] = self.near, self.near_similarity

    def _pieces(self) -> Pieces:
        yield np.array([self.task.next], np.int64).tobytes()
        yield self.uncertified.data
        if not self.all:
            yield from (self.indices.data, self.similarity.data)
        yield from (self.near[: self.task.next].data, self.near_similarity[: self.task.next].data)

    def load(self) -> bool:
        """Go on with an earlier search; False if there is none."""
        reader = self.unfinished.load(self.key) if self.unfinished is not None else None
        if reader is None:
            return False
        n, k = self.indices.shape
        try:
            (found,) = reader.take(np.int64, 1).tolist()
            uncertified = reader.take(np.uint8, n) != 0
            self.begin(uncertified, max(0, min(found, int(uncertified.sum()))))
            lists = [] if self.all else [(self.indices, self.similarity, n)]
            for indices, similarity, count in [*lists, (self.near, self.near_similarity, self.found)]:
                kept = reader.take(np.int32, count, k)
                if kept.size and not 0 <= kept.min() <= kept.max() < n:
                    return False
                indices[:count], similarity[:count] = kept, reader.take(np.float32, count, k)
        except ValueError:
            return False
        return True


def cpu_searcher(
    path: str,
    threads: int,
    portions: Portions,
    cancel: Cancel | None,
    unfinished: Unfinished | None = None,
    crew: Crew | None = None,
) -> Searcher:
    """Return the searcher of a CPU path; "direct" certifies nothing, so that every row falls back to brute force.

    Parameters
    ----------
    path : str
        One of `paths()`.
    threads : int
    portions : Portions
    cancel : callable or None
    unfinished : Unfinished, optional
        As for `search`.
    crew : Crew, optional
        Searches the tiles; what it has found is not kept.

    Returns
    -------
    Searcher
    """

    def searcher(
        rows: knn.Rows, indices: npt.NDArray[np.int32], similarity: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.bool_]:
        if path == "direct":
            return np.ones(rows.n, bool)
        rows.restrict(knn.PATHS.index(path))
        better = _best_float_path()
        begun = (
            unfinished is not None
            and crew is None
            and unfinished.load(unfinished.key(better, rows.n, indices.shape[1]))
        )
        if path in _FLOAT_PATHS or not begun:
            uncertified = _filtered(
                rows, path, indices, similarity, threads, portions, cancel, unfinished, crew
            )
        if path not in _FLOAT_PATHS and (begun or uncertified.sum() > rows.n * _MAX_UNCERTIFIED):
            # Rows too close together for int8; float32 resolves distances some hundred times smaller.
            uncertified = _filtered(
                rows, better, indices, similarity, threads, portions, cancel, unfinished, crew
            )
        return uncertified

    return searcher


def _filtered(
    rows: knn.Rows,
    path: str,
    indices: npt.NDArray[np.int32],
    similarity: npt.NDArray[np.float32],
    threads: int,
    portions: Portions,
    cancel: Cancel | None,
    unfinished: Unfinished | None,
    crew: Crew | None,
) -> npt.NDArray[np.bool_]:
    """Fill the rows that the filter certifies; return which it does not."""
    shared = knn.Filter(rows, knn.PATHS.index(path), indices.shape[1])
    try:
        portions.add(filter_seconds(rows.n, rows.d, path))
        lay_out(shared, threads, portions, path, cancel)
        tiles = knn.Tiles(shared)
        if unfinished is not None and crew is None:
            key = unfinished.key(path, rows.n, indices.shape[1])
            kept = unfinished.load(key)
            if kept is not None:
                try:
                    restore_tiles(shared, tiles, kept)
                except ValueError:  # nothing that a filter keeps, and the filter may hold half of it
                    shared.close()
                    return _filtered(rows, path, indices, similarity, threads, portions, cancel, None, None)
                portions.skip(f"{path} tiles", tiles.done / max(1, tiles.total))
        progress = portions.step(f"{path} tiles")
        if crew is not None:
            tiles = tiles_in_parts(shared, path, indices.shape[1], crew, threads, progress, cancel)
        elif unfinished is not None:
            state = partial(tile_pieces, shared, tiles)
            unfinished.run(tiles, key, state, threads, progress, cancel)
        else:
            run_task(tiles, threads, progress, cancel)
        tiles.end()
        rerank = knn.Rerank(shared, indices, similarity)
        run_task(rerank, threads, portions.step(f"{path} rerank"), cancel)
        uncertified: npt.NDArray[np.bool_] = rerank.certified == 0
        return uncertified
    finally:
        shared.close()


def expected_memory(n: int, d: int, k: int, threads: int) -> int:
    """Return the memory of a search of rows that do not repeat, by the path that it will take.

    Parameters
    ----------
    n, d, k : int
        Rows, dimensions, neighbours.
    threads : int

    Returns
    -------
    int
        Bytes besides the rows, the result included.
    """
    path = choose(None, n, d)
    if path == "direct" or k < 1:
        return memory(n, d, k, threads)
    size, each = knn.filter_bytes(n, d, k, knn.PATHS.index(path))
    return 8 * k * n + 50 * n + size + threads * each


def memory(n: int, d: int, k: int, threads: int) -> int:
    """Return an upper bound of the memory of a search, whatever the path and even if rows repeat.

    Parameters
    ----------
    n, d, k : int
        Rows, dimensions, neighbours.
    threads : int

    Returns
    -------
    int
        Bytes besides the rows, the result included.
    """
    if k < 1:
        return 80 * n
    result = 8 * k * n
    sizes = [knn.filter_bytes(n, d, k, knn.PATHS.index(path)) for path in knn.paths()]
    direct = 64 * max(2 * k, k + 64) + 104 * (d + 8)
    stats = 50 * n  # lengths, hashes, their order
    duplicates = result + 60 * n  # a second graph when rows repeat
    return (
        result
        + stats
        + duplicates
        + max(size for size, _ in sizes)
        + threads * max(direct, *(x for _, x in sizes))
    )
