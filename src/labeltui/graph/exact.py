"""The exact backend: filter, rank, prove, and search again what was not proven."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from labeltui._fast import knn
from labeltui.graph.loops import Cancel, Progress, run


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
    """Fill indices and similarity (n, k); return how many rows had to be searched again."""
    targets = np.arange(rows.n)
    run(knn.Direct(rows, targets, indices, similarity), threads, progress, cancel)
    return 0


def memory(n: int, d: int, k: int, threads: int) -> int:
    """Return the most bytes needed beside the rows, result included."""
    return n * (8 * k + 40) + threads * (8 * 8 * max(2 * k, k + 64) + 8 * 13 * (d + 8))
