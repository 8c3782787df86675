"""Validate, choose the backend requested, and return a `Graph`."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from labeltui import parallel
from labeltui._fast import knn
from labeltui.errors import InputError, UsageError
from labeltui.graph import approximate, cuda, exact
from labeltui.graph.parts import Crew
from labeltui.graph.tasks import run_task
from labeltui.graph.unfinished import Unfinished
from labeltui.parallel import Cancel, Progress
from labeltui.unfinished import Keeper

if TYPE_CHECKING:
    import torch

BACKENDS = ("exact", "cuda", "approximate")


@dataclass(frozen=True)
class Graph:
    """The k nearest neighbours of N samples.

    Attributes
    ----------
    indices : (N, k) int32, C-contiguous
        Neighbours, most similar first, ties by index; -1 where a row has fewer (`expand`, or an approximate search).
    similarity : (N, k) float32, C-contiguous
        Their similarities; 0 beside -1. For "euclidean" minus the distance.
    metric : str
        "cosine", "inner_product" or "euclidean".
    k : int
        Number of columns, min(requested k, N - 1).
    backend : str
        Backend that searched.
    exact : bool
        Whether every row is guaranteed to have its true neighbours.
    n_certified : int
        Rows whose neighbours the filter's error bound certified.
    n_fallback : int
        Other rows, searched again by brute force in float64; n_certified + n_fallback = N when exact.
    recall : float or None
        Fraction of true neighbours found, measured on sampled rows; None when exact.
    """

    indices: npt.NDArray[np.int32]
    similarity: npt.NDArray[np.float32]
    metric: str
    k: int
    backend: str
    exact: bool
    n_certified: int
    n_fallback: int
    recall: float | None = None

    def reverse(self, k: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """Return the reverse neighbours of each sample.

        Parameters
        ----------
        k : int
            1 to ``self.k``.

        Returns
        -------
        indptr : (N + 1,) int64
        indices : (indptr[-1],) int32
            Rows that have sample s among their first k neighbours: ``indices[indptr[s]:indptr[s + 1]]``, ascending.
        """
        if not 0 <= k <= self.k:
            raise InputError(f"k must be at most the graph's {self.k}", f"got {k}")
        return knn.reverse(self.indices, k)


@dataclass(frozen=True)
class Recommendation:
    """The recommended backend and, in one sentence, the reason."""

    backend: str
    why: str


def build(
    X: npt.NDArray[Any],
    k: int = 50,
    metric: str = "cosine",
    backend: str = "exact",
    threads: int | None = None,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    *,
    rows: npt.NDArray[Any] | None = None,
    path: str | None = None,
    seed: int = 0,
    device: torch.device | None = None,
    keeper: Keeper | None = None,
    crew: Crew | None = None,
) -> Graph:
    """Find the k nearest neighbours of every row.

    Parameters
    ----------
    X : (N, d) float32 or float16
        Rows, C-contiguous or with any distance between rows; may be memory-mapped. It is not copied. Other numeric
        dtypes and layouts are converted to a float32 copy first.
    k : int
        Number of neighbours; min(k, N - 1) are returned.
    metric : {"cosine", "inner_product", "euclidean"}
    backend : {"exact", "cuda", "approximate"}
    threads : int, optional
        See `labeltui.parallel.count_threads`. Does not change the result.
    progress : callable, optional
        Called with the finished fraction of the estimated time, 0 to 1, a few times a second, from the calling
        thread. It falls where rows turn out to be too close together for the filter, which then takes longer.
    cancel : callable, optional
        Called a few times a second; once it returns True, `Cancelled` is raised within half a second.
    rows : (n,) integers, optional
        Search only among these rows of X; the graph then numbers them 0..n-1 (see `expand`).
    path : str, optional
        One of `exact.paths()` instead of the fastest on this CPU; also read from the environment variable
        ``LABELTUI_KNN``. Every path gives the same bytes.
    seed : int
        For the approximate backend.
    device : torch.device, optional
        For the cuda backend; by default the first GPU. On a CPU it takes the same steps, to test them.
    keeper : Keeper, optional
        Keeps the unfinished work of the exact backend now and then, and when `cancel` returns True; a later call
        with the same rows goes on from there, and gives the same bytes.
    crew : Crew, optional
        Other processes that search tiles of the exact backend; the bytes stay the same.

    Returns
    -------
    Graph

    Raises
    ------
    InputError
        X is not a matrix of finite numbers, a row is zero (cosine, inner product), or k < 1.
    UsageError
        An unknown metric, backend or path, or one that cannot run here.
    Cancelled
    """
    if backend not in BACKENDS:
        raise UsageError(f"backend must be one of {', '.join(BACKENDS)}", f"got {backend!r}")
    if metric not in knn.METRICS:
        raise UsageError(f"metric must be one of {', '.join(knn.METRICS)}", f"got {metric!r}")
    if k < 1:
        raise InputError("k must be 1 or more", f"got {k}")
    workers = parallel.count_threads(threads)
    view, stats = validated_rows(X, metric, rows, workers, cancel)
    k = min(k, view.n - 1)
    indices = np.full((view.n, k), -1, np.int32)
    similarity = np.zeros((view.n, k), np.float32)
    if backend == "approximate":
        recall = approximate.search(view, indices, similarity, seed, workers, progress, cancel)
        return Graph(indices, similarity, metric, k, backend, False, 0, 0, recall)
    unfinished = None if keeper is None else Unfinished(keeper, view, stats.hash)
    portions = parallel.Portions(progress, {})
    if backend == "cuda":
        portions.add({"cuda": 1.0})
        searcher: exact.Searcher = partial(
            cuda.filtered, progress=portions.step("cuda"), cancel=cancel, device=device
        )
    else:
        chosen = exact.choose(path, view.n, view.d)
        searcher = exact.cpu_searcher(chosen, workers, portions, cancel, unfinished, crew)
    n_fallback = exact.search(
        view, stats.hash, indices, similarity, searcher, workers, portions, cancel, unfinished
    )
    if progress is not None:
        progress(1.0)
    return Graph(indices, similarity, metric, k, backend, True, view.n - n_fallback, n_fallback)


def validated_rows(
    X: npt.NDArray[Any], metric: str, rows: npt.NDArray[Any] | None, threads: int, cancel: Cancel | None
) -> tuple[knn.Rows, knn.RowStats]:
    """Wrap an array for searching and check that every row can be.

    Parameters
    ----------
    X, metric, rows
        As for `build`.
    threads : int
    cancel : callable or None

    Returns
    -------
    view : Rows
        With lengths set.
    stats : RowStats

    Raises
    ------
    InputError
        A row is not finite, or zero where the metric needs a direction.
    """
    view = _rows(X, metric, rows)
    stats = knn.RowStats(view)
    run_task(stats, threads, cancel=cancel)
    _reject_invalid(stats, metric)
    view.set_lengths(stats.squared)
    return view, stats


def _rows(X: npt.NDArray[Any], metric: str, rows: npt.NDArray[Any] | None) -> knn.Rows:
    """Check shape and type and wrap the array without copying it where that is possible."""
    X = np.asanyarray(X)
    if X.ndim != 2:
        raise InputError("embeddings must be a matrix, one row a sample", f"got an array of shape {X.shape}")
    if X.dtype.kind not in "fiub":
        raise InputError("embeddings must be numbers", f"got dtype {X.dtype}")
    if X.shape[1] == 0 or X.shape[0] == 0:
        raise InputError("embeddings must have rows and columns", f"got shape {X.shape}")
    if X.shape[0] >= 2**31 - 1:
        raise InputError("at most 2,147,483,646 rows fit the graph's int32 indices", f"got {X.shape[0]}")
    if X.dtype not in (np.float32, np.float16):
        with np.errstate(over="ignore"):
            X = np.ascontiguousarray(X, np.float32)
    elif not (X.flags.aligned and X.dtype.isnative and (X.shape[1] == 1 or X.strides[1] == X.itemsize)):
        X = np.ascontiguousarray(X, X.dtype.newbyteorder("="))
    chosen = None
    if rows is not None:
        chosen = np.ascontiguousarray(rows, np.int64)
        if chosen.ndim != 1 or (len(chosen) and not (chosen.min() >= 0 and chosen.max() < len(X))):
            raise InputError(f"rows must be positions 0..{len(X) - 1}", "got others")
    return knn.Rows(X, knn.METRICS.index(metric), chosen)


def _reject_invalid(stats: knn.RowStats, metric: str) -> None:
    """Reject rows whose similarity is undefined."""
    bad = np.flatnonzero(stats.finite == 0)
    if len(bad):
        raise InputError(
            "embeddings must be finite numbers",
            f"{len(bad)} row(s) hold NaN or infinity: {_listed(bad)}",
            "leave these rows out",
        )
    zero = np.flatnonzero(stats.squared == 0.0)
    if len(zero) and metric != "euclidean":
        raise InputError(
            f"every row needs a direction for {metric}",
            f"{len(zero)} row(s) are zero: {_listed(zero)}",
            "leave these rows out, or use the euclidean metric",
        )


def _listed(rows: npt.NDArray[np.int64], most: int = 20) -> str:
    text = ", ".join(str(row) for row in rows[:most])
    return text + (f", and {len(rows) - most} more" if len(rows) > most else "")


def expand(graph: Graph, rows: npt.NDArray[Any], n: int) -> Graph:
    """Renumber a graph of some rows as one of all `n` samples.

    Parameters
    ----------
    graph : Graph
        Of ``len(rows)`` samples.
    rows : (graph N,) integers, ascending
        Position of each among the n.
    n : int

    Returns
    -------
    Graph
        Of n samples; the others have indices -1 and similarity 0, and are neighbours of none.
    """
    rows = np.asarray(rows, np.int64)
    if rows.shape != (len(graph.indices),) or (len(rows) and (rows[0] < 0 or rows[-1] >= n)):
        raise InputError(
            f"rows must give the position of each of the graph's {len(graph.indices)} samples", "got other"
        )
    if np.any(np.diff(rows) <= 0):
        raise InputError("rows must ascend, or ties would not stay in index order", "they do not")
    if len(rows) == n:
        return graph
    indices = np.full((n, graph.k), -1, np.int32)
    similarity = np.zeros((n, graph.k), np.float32)
    renumbered = np.append(rows, -1).astype(np.int32)  # -1 stays -1
    for begin in range(0, len(rows), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        indices[rows[part]] = renumbered[graph.indices[part]]
        similarity[rows[part]] = graph.similarity[part]
    return Graph(
        indices,
        similarity,
        graph.metric,
        graph.k,
        graph.backend,
        graph.exact,
        graph.n_certified,
        graph.n_fallback,
        graph.recall,
    )


_CHUNK = 1 << 16  # rows renumbered at once, so that the copies in between stay small


def memory(n: int, d: int, k: int = 50, threads: int | None = None) -> int:
    """Return an upper bound of the memory of an exact `build`.

    Parameters
    ----------
    n, d : int
        Rows and dimensions.
    k : int
        Neighbours per row.
    threads : int, optional
        As for `build`.

    Returns
    -------
    int
        Bytes besides X, the result included.
    """
    return exact.memory(n, d, min(k, max(n - 1, 0)), parallel.count_threads(threads))


# An exact search grows with N squared. Beyond this many element products a thread (about ten minutes at the rate of an
# AVX-512 VNNI core, three quarters of an hour without) another backend may be preferable.
_LARGE = 1.5e14


def recommend_backend(n: int, d: int, threads: int | None = None) -> Recommendation:
    """Recommend a backend for `n` rows of `d` dimensions on this machine; `build` never switches by itself.

    Parameters
    ----------
    n, d : int
        Rows and dimensions.
    threads : int, optional
        As for `build`.

    Returns
    -------
    Recommendation
    """
    work = 0.5 * n * n * d / parallel.count_threads(threads)
    if work < _LARGE:
        return Recommendation("exact", f"{n:,} x {d:,} is fast to search exactly")
    if importlib.util.find_spec("torch") is not None and cuda.available():
        return Recommendation("cuda", f"{n:,} x {d:,} is large for these cores, and a GPU is available")
    return Recommendation(
        "approximate",
        f"{n:,} x {d:,} takes long to search exactly on these cores; an approximate graph misses a few neighbours "
        "and reports its recall (pip install 'labeltui[approximate]')",
    )
