"""The approximate backend: pynndescent proposes, the exact kernels rank, and a sample says what was missed."""

from __future__ import annotations

import importlib
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from labeltui._fast import knn
from labeltui.errors import UsageError
from labeltui.graph.loops import run
from labeltui.parallel import Cancel, Progress

_SAMPLE = 1000  # rows whose recall is measured: a standard error of about half a point at recall .97
_SPARE = 10  # proposals beyond k: the search keeps better lists than it is asked for


def search(
    rows: knn.Rows,
    indices: npt.NDArray[np.int32],
    similarity: npt.NDArray[np.float32],
    seed: int,
    threads: int,
    progress: Progress | None,
    cancel: Cancel | None,
) -> float:
    """Fill indices and similarity (n, k); return the recall measured on sampled rows.

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
    wanted = min(rows.n, k + 1 + _SPARE)
    threads = min(threads, os.cpu_count() or 1)
    made = pynndescent.NNDescent(
        np.ascontiguousarray(x, np.float32),
        metric=metric,
        n_neighbors=wanted,
        random_state=np.random.RandomState(seed),
        n_jobs=threads,
    )
    proposed = np.ascontiguousarray(made.neighbor_graph[0], np.int32)
    del made, x
    if progress is not None:
        progress(0.8)
    run(knn.Rank(rows, proposed, indices, similarity), threads, progress, cancel, (0.8, 0.9))
    return recall(rows, indices, seed, threads, progress, cancel)


def recall(
    rows: knn.Rows,
    indices: npt.NDArray[np.int32],
    seed: int,
    threads: int,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> float:
    """Return the share of true neighbours among `indices` (n, k), measured exactly on up to 1,000 seeded rows."""
    k = indices.shape[1]
    sample = np.sort(np.random.default_rng(seed).choice(rows.n, min(_SAMPLE, rows.n), replace=False))
    true = np.empty((len(sample), k), np.int32)
    run(
        knn.Direct(rows, sample, true, np.empty((len(sample), k), np.float32)),
        threads,
        progress,
        cancel,
        (0.9, 1.0),
    )
    found = sum(len(np.intersect1d(mine, right)) for mine, right in zip(indices[sample], true, strict=True))
    return found / true.size
