"""The readable numpy twin of every kernel: what the compiled code must equal, and the oracle of its tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# ---- knn ----


def exact_products(x: npt.NDArray[Any], y: npt.NDArray[Any], distance: bool = False) -> npt.NDArray[np.float64]:
    """Return the products (or squared distances) of every row of x with every row of y, in the one defined order.

    Element t goes to lane t % 8, lanes add in float64 one element after the other, and the lanes are folded in halves.

    Parameters
    ----------
    x, y : (n, d) and (m, d) float32 or float16

    Returns
    -------
    (n, m) float64
    """
    n, m, d = len(x), len(y), x.shape[1]
    lanes = np.zeros((n, m, 8))
    for t in range(d):
        a, b = x[:, None, t].astype(np.float64), y[None, :, t].astype(np.float64)
        lanes[:, :, t % 8] += (a - b) ** 2 if distance else a * b
    halves = lanes[:, :, :4] + lanes[:, :, 4:]
    quarters = halves[:, :, :2] + halves[:, :, 2:]
    total: npt.NDArray[np.float64] = quarters[:, :, 0] + quarters[:, :, 1]
    return total


def similarities(x: npt.NDArray[Any], metric: str = "cosine") -> npt.NDArray[np.float32]:
    """Return the (N, N) float32 similarities that order the neighbour graph."""
    if metric == "euclidean":
        return -np.sqrt(exact_products(x, x, distance=True)).astype(np.float32)
    products = exact_products(x, x)
    if metric == "cosine":
        inverse = 1.0 / np.sqrt(np.diagonal(products))
        products = products * (inverse[:, None] * inverse[None, :])
    with np.errstate(over="ignore"):
        return products.astype(np.float32)


def knn_graph(
    x: npt.NDArray[Any], k: int, metric: str = "cosine"
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Return the k most similar other rows of each row, ties by index, and their similarities."""
    s = similarities(x, metric)
    n = len(s)
    indices = np.empty((n, k), np.int32)
    for i in range(n):
        others = np.delete(np.arange(n), i)
        indices[i] = others[np.argsort(-s[i, others], kind="stable")[:k]]
    return indices, np.take_along_axis(s, indices.astype(np.int64), axis=1) + np.float32(0.0)


def reverse_lists(indices: npt.NDArray[np.int32], k: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Return, for each row, who lists it among its first k neighbours: offsets and members in ascending order."""
    n = len(indices)
    lists = [np.flatnonzero((indices[:, :k] == s).any(axis=1)) for s in range(n)]
    offsets = np.concatenate([[0], np.cumsum([len(members) for members in lists])]).astype(np.int64)
    return offsets, np.concatenate([*lists, np.zeros(0, np.int64)]).astype(np.int32)
