"""The approximate backend: pynndescent finds candidates, the exact kernels rank them, sampled rows give the recall."""

from __future__ import annotations

import importlib
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from labeltui._fast import knn
from labeltui.errors import UsageError
from labeltui.graph.tasks import run_task
from labeltui.parallel import Cancel, Progress

SAMPLE = 1000
"""Rows whose recall is measured: a standard error of about half a point at recall .97."""
_SPARE = 10  # candidates beyond k, which raise the recall


def search(
    rows: knn.Rows,
    indices: npt.NDArray[np.int32],
    similarity: npt.NDArray[np.float32],
    seed: int,
    threads: int,
    progress: Progress | None,
    cancel: Cancel | None,
) -> float:
    """Fill `indices` and `similarity`; return the recall measured on sampled rows.

    Parameters
    ----------
    rows : Rows
        With lengths set.
    indices : (n, k) int32
    similarity : (n, k) float32
        Both are overwritten.
    seed : int
        Of the search and of the sample.
    threads : int
    progress, cancel : callable or None

    Returns
    -------
    float
        Recall, 0..1.

    Raises
    ------
    UsageError
        pynndescent is not installed, or the metric is the inner product, which neighbour descent cannot search.
    """
    try:
        pynndescent: Any = importlib.import_module("pynndescent")
    except ImportError:
        raise UsageError(
            "the approximate backend needs pynndescent",
            "it is not installed",
            "pip install 'labeltui[approximate]', or use the exact backend",
        ) from None
    metric = knn.METRICS[rows.metric]
    if metric == "inner_product":
        raise UsageError("the approximate backend searches cosine and euclidean neighbours", f"got {metric}")
    k = indices.shape[1]
    if k == 0:
        return 1.0
    x = rows.x if rows.rows is None else rows.x[rows.rows]
    n_candidates = min(rows.n, k + 1 + _SPARE)
    threads = min(threads, os.cpu_count() or 1)
    index = pynndescent.NNDescent(
        np.ascontiguousarray(x, np.float32),
        metric=metric,
        n_neighbors=n_candidates,
        random_state=np.random.RandomState(seed),
        n_jobs=threads,
    )
    candidates = np.ascontiguousarray(index.neighbor_graph[0], np.int32)
    del index, x
    if progress is not None:
        progress(0.8)
    run_task(knn.Rank(rows, candidates, indices, similarity), threads, progress, cancel, (0.8, 0.9))
    return recall(rows, indices, seed, threads, progress, cancel)


def recall(
    rows: knn.Rows,
    indices: npt.NDArray[np.int32],
    seed: int,
    threads: int,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> float:
    """Measure the recall of an approximate graph on up to 1,000 sampled rows.

    Parameters
    ----------
    rows : Rows
        With lengths set.
    indices : (n, k) int32
        Neighbour lists to measure; not changed.
    seed : int
        Of the sample.
    threads : int
    progress, cancel : callable, optional

    Returns
    -------
    float
        Fraction of true neighbours among `indices`, 0..1.

    Raises
    ------
    Cancelled
    """
    k = indices.shape[1]
    sample = np.sort(np.random.default_rng(seed).choice(rows.n, min(SAMPLE, rows.n), replace=False))
    true = np.empty((len(sample), k), np.int32)
    run_task(
        knn.BruteForce(rows, sample, true, np.empty((len(sample), k), np.float32)),
        threads,
        progress,
        cancel,
        (0.9, 1.0),
    )
    found = sum(len(np.intersect1d(mine, right)) for mine, right in zip(indices[sample], true, strict=True))
    return found / true.size


def recall_sentence(recall: float, n: int) -> str:
    """Return what is to be said wherever an approximate graph is used.

    Parameters
    ----------
    recall : float
        As measured, 0..1.
    n : int
        Rows of the graph.

    Returns
    -------
    str
    """
    return (
        f"the neighbours are approximate: {recall:.1%} of the true ones were found, measured on "
        f"{min(SAMPLE, n):,} rows that were also searched exactly"
    )
