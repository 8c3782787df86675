"""Principal components of an embedding, blockwise and with the same bits on any number of threads."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from labeltui.head.types import Floats, Mask

if TYPE_CHECKING:
    import torch

BLOCK = 4096  # rows at a time wherever the whole matrix would cost a second copy
_COVARIANCE_ROWS = 25_000


def finite_rows(X: npt.NDArray[np.floating]) -> Mask:
    finite = np.empty(len(X), dtype=bool)
    for start in range(0, len(X), BLOCK):
        finite[start : start + BLOCK] = np.isfinite(X[start : start + BLOCK]).all(axis=1)
    return finite


def components(
    X: npt.NDArray[np.floating], rows: Mask, most: int, n_threads: int
) -> tuple[npt.NDArray[np.float64], Floats]:
    """Return the principal directions of the marked rows, scaled so that the m coordinates have unit mean square.

    Blocks are multiplied on one thread each and added in their order, so the sum has the same bits on any
    number of threads.

    Parameters
    ----------
    X : ndarray of float, shape (N, d)
    rows : ndarray of bool, shape (N,)
        Rows to use, all finite; at most 25,000 of them are read.
    most : int
        Largest m.
    n_threads : int

    Returns
    -------
    mean : ndarray of float64, shape (d,)
    directions : ndarray of float32, shape (d, m)
    """
    used = np.flatnonzero(rows)
    if len(used) > _COVARIANCE_ROWS:
        used = used[np.linspace(0, len(used) - 1, _COVARIANCE_ROWS).astype(np.int64)]
    d = X.shape[1]
    blocks = [used[start : start + BLOCK] for start in range(0, len(used), BLOCK)]
    mean = np.zeros(d)
    for block in blocks:
        mean += X[block].sum(axis=0, dtype=np.float64)
    mean /= max(len(used), 1)
    shift = mean.astype(np.float32)

    def gram(block: npt.NDArray[np.int64]) -> Floats:
        centred = X[block].astype(np.float32, copy=False) - shift
        return centred.T @ centred

    covariance = np.zeros((d, d))
    with ThreadPoolExecutor(max_workers=n_threads) as pool:
        # A few blocks at a time: each waits as a (d, d) matrix.
        for start in range(0, len(blocks), 2 * n_threads):
            for part in pool.map(gram, blocks[start : start + 2 * n_threads]):
                covariance += part
    covariance /= max(len(used), 1)
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    m = max(1, min(most, d, int((values > 1e-10 * max(values[0], 1e-30)).sum())))
    scale = math.sqrt(float(values[:m].mean())) or 1.0
    return mean, np.ascontiguousarray(vectors[:, :m] / scale, dtype=np.float32)


def project(
    X: npt.NDArray[np.floating],
    finite: Mask,
    directions: tuple[npt.NDArray[np.float64], Floats],
    kind: torch.dtype,
    n_threads: int,
) -> torch.Tensor:
    """Return the principal coordinates of all rows, zeros for rows that are not finite.

    Parameters
    ----------
    X : ndarray of float, shape (N, d)
    finite : ndarray of bool, shape (N,)
    directions : (ndarray of float64, ndarray of float32)
        Mean (d,) and directions (d, m) from `components`.
    kind : torch.dtype
        Of the result.
    n_threads : int

    Returns
    -------
    Tensor, shape (N, m)
    """
    import torch

    mean, axes = directions
    shift = mean.astype(np.float32)
    z = torch.zeros((len(X), axes.shape[1]), dtype=kind)

    def block(start: int) -> None:
        part = slice(start, min(start + BLOCK, len(X)))
        rows = X[part].astype(np.float32, copy=False) - shift
        rows[~finite[part]] = 0.0
        z[part] = torch.from_numpy(rows @ axes).to(kind)

    with ThreadPoolExecutor(max_workers=n_threads) as pool:
        list(pool.map(block, range(0, len(X), BLOCK)))
    return z
