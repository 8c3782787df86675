"""Extending an exact graph by new rows, and closing the gaps of removed ones, without comparing all with all.

::

    row with all its old neighbours    its old list, and every new row that may be nearer than the last of it
    any other row                      every row that may be among its nearest, by products in float32
                                       |
                                       v
                       the k best of these by their exact similarities (`knn.Rank`)

A candidate is left out only where float32 proves that it cannot be among the k nearest: its product lies below the
limit by more than the error bound of such products. So the result is the graph that `build` gives, byte for byte.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from labeltui import parallel
from labeltui._fast import knn
from labeltui.errors import Cancelled
from labeltui.graph.build import Graph, build, validated_rows
from labeltui.graph.tasks import run_task
from labeltui.parallel import Cancel, Progress

MOST_SEARCHED = 0.2
"""Fraction of rows to be searched among all others above which `build` costs less."""
_BLOCK_BYTES = 1 << 27  # of products held at once
_MOST_CANDIDATES = 4  # times k, above which a row is searched by brute force: many rows lie at one distance

Ints = npt.NDArray[np.int32]


def extend(
    X: npt.NDArray[Any],
    lists: Ints,
    whole: npt.NDArray[np.bool_],
    fresh: npt.NDArray[np.bool_],
    k: int,
    metric: str = "cosine",
    threads: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    *,
    rows: npt.NDArray[Any] | None = None,
) -> Graph:
    """Find the k nearest neighbours of every row from those of most rows.

    Parameters
    ----------
    X : (N, d) float32 or float16
    lists : (n, k) int32
        What is known: the k nearest among the rows that are not fresh, ties by their order. Only rows that are
        `whole` are read.
    whole : (n,) bool
        Rows whose list is complete.
    fresh : (n,) bool
        New rows, which are in no list.
    k : int
    metric, threads, progress, cancel
        As for `labeltui.graph.build`.
    rows : (n,) integers, optional
        Search only among these rows of X; everything else counts them 0..n-1.

    Returns
    -------
    Graph
        That of ``build(X, k, metric, rows=rows)``, byte for byte.

    Raises
    ------
    InputError
        As `build`.
    Cancelled
    """
    searched = np.flatnonzero(~whole)
    n = len(whole)
    if len(searched) > MOST_SEARCHED * n or lists.shape[1] < min(k, n - 1):
        return build(X, k, metric, "exact", threads, progress, cancel, rows=rows)
    workers = parallel.count_threads(threads)
    view, _ = validated_rows(X, metric, rows, workers, cancel)
    k = min(k, n - 1)
    known = np.flatnonzero(whole)
    with parallel.limit_blas(workers):
        products = _Products(X if rows is None else X[np.asarray(rows)], view.squared, metric)
        entering = _entering(products, known, lists, np.flatnonzero(fresh), cancel)
        near, crowded = _nearest(products, searched, k, cancel)
    if progress is not None:
        progress(0.5)
    width = max([k, *map(len, near.values()), *(k + len(each) for each in entering.values())])
    candidates = np.full((n, width), -1, np.int32)
    candidates[known, :k] = lists[known, :k]
    for row, more in entering.items():
        candidates[row, k : k + len(more)] = more
    for row, found in near.items():
        candidates[row, : len(found)] = found
    indices, similarity = np.full((n, k), -1, np.int32), np.zeros((n, k), np.float32)
    run_task(knn.Rank(view, candidates, indices, similarity), workers, progress, cancel, (0.5, 0.9))
    if len(crowded):
        own, own_similarity = np.empty((len(crowded), k), np.int32), np.empty((len(crowded), k), np.float32)
        run_task(knn.BruteForce(view, crowded, own, own_similarity), workers, progress, cancel, (0.9, 1.0))
        indices[crowded], similarity[crowded] = own, own_similarity
    return Graph(indices, similarity, metric, k, "exact", True, n - len(crowded), len(crowded))


class _Products:
    """Similarities in float32 with a bound of their error.

    The keys ascend with the similarity: for the cosine the product of unit rows, for the inner product the product, for
    the euclidean distance minus its square.
    """

    def __init__(self, x: npt.NDArray[Any], squared: npt.NDArray[np.float64], metric: str) -> None:
        self.metric = metric
        self.x = np.ascontiguousarray(x, np.float32)
        self.length: npt.NDArray[np.float64] = np.sqrt(squared)
        if metric == "cosine":
            self.x = np.divide(self.x, self.length[:, None].astype(np.float32), dtype=np.float32)
            self.length = np.ones(len(x))
        self.squared = (self.length**2).astype(np.float32)
        # A sum of d products is off by at most d rounding errors of the product of the lengths (Higham, Accuracy and
        # Stability of Numerical Algorithms, section 3.1); the rest covers dividing by lengths and the final steps.
        self.error = (x.shape[1] + 16) * float(np.finfo(np.float32).eps)

    def between(
        self, left: npt.NDArray[np.int64], right: npt.NDArray[np.int64] | slice
    ) -> npt.NDArray[np.float32]:
        """(l, r) float32 keys."""
        product: npt.NDArray[np.float32] = self.x[left] @ self.x[right].T
        if self.metric == "euclidean":
            product *= 2
            product -= self.squared[left][:, None]
            product -= self.squared[right][None]
        return product

    def margin(
        self, left: npt.NDArray[np.int64], right: npt.NDArray[np.int64] | slice
    ) -> npt.NDArray[np.float64]:
        """(l,) how far a key of a row of `left` with any of `right` may be off."""
        longest = float(self.length[right].max(initial=0))
        if self.metric == "euclidean":
            return np.asarray(4 * self.error * (self.length[left] + longest) ** 2)
        return np.asarray(self.error * self.length[left] * longest)

    def exact(self, left: npt.NDArray[np.int64], right: Ints) -> npt.NDArray[np.float64]:
        """(l,) keys of pairs, in float64."""
        a, b = self.x[left].astype(np.float64), self.x[right].astype(np.float64)
        if self.metric == "euclidean":
            return np.asarray(-((a - b) ** 2).sum(1))
        found: npt.NDArray[np.float64] = np.einsum("nd,nd->n", a, b)
        return found


def _check(cancel: Cancel | None) -> None:
    if cancel is not None and cancel():
        raise Cancelled("the search was stopped")


def _blocks(rows: npt.NDArray[np.int64], width: int) -> list[npt.NDArray[np.int64]]:
    step = max(1, _BLOCK_BYTES // (4 * max(1, width)))
    return [rows[start : start + step] for start in range(0, len(rows), step)]


def _entering(
    products: _Products,
    known: npt.NDArray[np.int64],
    lists: Ints,
    fresh: npt.NDArray[np.int64],
    cancel: Cancel | None,
) -> dict[int, Ints]:
    """The new rows that may be nearer than the last neighbour of a known row."""
    found: dict[int, Ints] = {}
    if not len(fresh):
        return found
    for block in _blocks(known, max(len(fresh), 4 * products.x.shape[1])):
        _check(cancel)
        last = products.exact(block, lists[block, -1])
        # The key of the last one comes from rounded rows as well: its error counts twice.
        limit = last - 2 * products.margin(block, slice(None))
        row, column = np.nonzero(products.between(block, fresh) >= limit[:, None])
        for place, more in _grouped(row, fresh[column]):
            found[int(block[place])] = more
    return found


def _nearest(
    products: _Products, searched: npt.NDArray[np.int64], k: int, cancel: Cancel | None
) -> tuple[dict[int, Ints], npt.NDArray[np.int64]]:
    """The rows that may be among the k nearest of those searched; and those of which there are too many."""
    found: dict[int, Ints] = {}
    crowded: list[int] = []
    n = len(products.x)
    for block in _blocks(searched, 2 * n):
        _check(cancel)
        keys = products.between(block, slice(None))
        keys[np.arange(len(block)), block] = -np.inf  # not itself
        limit = np.partition(keys, n - k, axis=1)[:, n - k] - 2 * products.margin(block, slice(None))
        row, column = np.nonzero(keys >= limit[:, None])
        for place, more in _grouped(row, column):
            if len(more) > _MOST_CANDIDATES * k:
                crowded.append(int(block[place]))
            else:
                found[int(block[place])] = more
    return found, np.array(crowded, np.int64)


def _grouped(row: npt.NDArray[np.int64], column: npt.NDArray[np.int64]) -> list[tuple[int, Ints]]:
    """Columns by row, of ascending rows."""
    if not len(row):
        return []
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    parts = np.split(column.astype(np.int32), starts[1:])
    return list(zip(row[starts].tolist(), parts, strict=True))
