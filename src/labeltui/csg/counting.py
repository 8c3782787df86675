"""From neighbour lists to the class matrices T, S and W."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from labeltui import parallel
from labeltui._fast import csg as kernels
from labeltui.errors import InputError

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Matrix: TypeAlias = Any  # NDArray, or scipy.sparse.csr_array above SPARSE_ABOVE classes

SPARSE_ABOVE = 2000
# Less work per thread than this does not repay starting one: neighbours to count, and rows of W.
MIN_COUNTS_PER_THREAD = 400_000
MIN_CLASSES_PER_THREAD = 64


def class_sizes(indices: NDArray[Any], labels: NDArray[Any], n_classes: int) -> Integers:
    """Count the labelled samples of each class that have a neighbour list.

    Parameters
    ----------
    indices : (N, k) int32
        Neighbour lists; a list that starts with -1 is empty.
    labels : (N,) int32
        Class of each sample; -1 = none.
    n_classes : int
        K.

    Returns
    -------
    (K,) int64

    Raises
    ------
    InputError
        Shapes do not fit, or a label is out of range.
    """
    sizes = np.zeros(n_classes, dtype=np.int64)
    if indices.shape[1]:
        kernels.class_sizes(*checked(indices, labels, n_classes, 1), sizes)
    return sizes


def pooled_counts(
    indices: NDArray[Any],
    labels: NDArray[Any],
    n_classes: int,
    k: int,
    threads: int | None = None,
    *,
    first: int = 0,
    weights: NDArray[Any] | None = None,
) -> Matrix:
    """Count the labels of each class's neighbours.

    Parameters
    ----------
    indices : (N, >= k) int32
        Neighbour lists, nearest first, self excluded; -1 = none.
    labels : (N,) int32
        Class of each sample; -1 = none, then it neither counts nor is counted.
    n_classes : int
        K.
    k : int
        Neighbours to count per sample; at most those stored.
    threads : int, optional
        Does not change the result.
    first : int
        Skip this many nearest neighbours; counts of first..k add to those of 0..first.
    weights : (N,) int, optional
        How often each sample counts as a source.

    Returns
    -------
    T : (K, K) int64, or csr_array above `SPARSE_ABOVE` classes

    Raises
    ------
    InputError
        Shapes do not fit, or an index or label is out of range.
    """
    indices, labels = checked(indices, labels, n_classes, k)
    multiples = np.empty(0, np.int32) if weights is None else np.ascontiguousarray(weights, dtype=np.int32)
    if weights is not None and multiples.shape != labels.shape:
        raise InputError(f"weights must have shape {labels.shape}, one per sample", f"got {multiples.shape}")
    if n_classes > SPARSE_ABOVE:
        return _sparse_counts(indices, labels, n_classes, range(first, k), multiples)

    def part(start: int, stop: int) -> tuple[int, Integers]:
        T = np.zeros((n_classes, n_classes), dtype=np.int64)
        return kernels.pooled_counts(indices, labels, multiples, T, start, stop, first, k), T

    least = max(1, max(MIN_COUNTS_PER_THREAD, n_classes**2) // max(1, k - first))
    results = parallel.map_ranges(part, 0, len(labels), threads, least)
    for bad, _ in results:
        if bad >= 0:
            raise _out_of_range(bad, len(labels))
    total = results[0][1] if results else np.zeros((n_classes, n_classes), dtype=np.int64)
    for _, T in results[1:]:
        total += T
    return total


def similarity(T: Matrix, sizes: NDArray[Any] | None = None) -> Matrix:
    """S: rows of `T` divided by their sums; empty rows stay 0.

    Parameters
    ----------
    T : (K, K) int64 or csr_array
    sizes : (K,) int, optional
        Samples per class. With it the classes' different sizes are corrected: column j is first divided by
        its class's size, so that a large class is no likelier a neighbour for being large.

    Returns
    -------
    (K, K) float64, or csr_array for a sparse `T`
    """
    if sizes is not None:
        scale = np.divide(1.0, sizes, out=np.zeros(len(sizes)), where=np.asarray(sizes) > 0)
    if sparse.issparse(T):
        rows = sparse.csr_array(T).astype(np.float64)
        rows.sort_indices()
        rows.eliminate_zeros()
        if sizes is not None:
            rows.data *= scale[rows.indices]
            rows.eliminate_zeros()
        sums = np.asarray(rows.sum(axis=1))
        rows.data /= np.repeat(sums, np.diff(rows.indptr))
        return rows
    S = np.asarray(T, dtype=np.float64)
    if sizes is not None:
        S = S * scale
    sums = S.sum(axis=1, keepdims=True)
    return np.divide(S, sums, out=np.zeros_like(S), where=sums > 0)


def overlap(S: Matrix, threads: int | None = None) -> Matrix:
    """W_ij = sum_c min(S_ic, S_jc), which is 1 - BrayCurtis(S_i, S_j) for rows that sum to 1.

    Parameters
    ----------
    S : (K, K) float64 or csr_array
        Not negative.
    threads : int, optional
        Does not change the result.

    Returns
    -------
    (K, K) float64, or csr_array for a sparse `S`; symmetric to the bit.
    """
    if sparse.issparse(S):
        return _sparse_overlap(S, threads)
    S = np.ascontiguousarray(S, dtype=np.float64)
    K = len(S)
    transposed = np.ascontiguousarray(S.T)
    W = np.zeros((K, K))
    # Rows of the triangle get shorter downwards, so each thread takes interleaved rows.
    pieces = max(1, min(parallel.count_threads(threads), K // MIN_CLASSES_PER_THREAD))
    parallel.map_ranges(lambda piece, _: kernels.overlap(S, transposed, W, piece, pieces), 0, pieces, pieces)
    rows, columns = np.tril_indices(K, -1)
    W[rows, columns] = W[columns, rows]
    return W


def checked(
    indices: NDArray[Any], labels: NDArray[Any], n_classes: int, k: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Validate neighbour lists and labels and return them as contiguous int32.

    Parameters
    ----------
    indices : (N, >= k) int
    labels : (N,) int
    n_classes : int
    k : int

    Returns
    -------
    indices : (N, >= k) int32
    labels : (N,) int32

    Raises
    ------
    InputError
        Shapes do not fit, or `k`, `n_classes` or a label is out of range.
    """
    indices = np.ascontiguousarray(indices, dtype=np.int32)
    labels = np.ascontiguousarray(labels, dtype=np.int32)
    if indices.ndim != 2 or labels.ndim != 1 or len(indices) != len(labels):
        raise InputError(
            "neighbour lists must have one row per label", f"got {indices.shape} and {labels.shape}"
        )
    if not 1 <= k <= indices.shape[1]:
        raise InputError(f"k must be in 1..{indices.shape[1]}, the neighbours stored", f"got k={k}")
    if n_classes < 1:
        raise InputError("there must be at least one class", f"got {n_classes}")
    if len(labels) and int(labels.max()) >= n_classes:
        raise InputError(f"labels must be -1 or class indices below {n_classes}", f"got {int(labels.max())}")
    return indices, labels


def _out_of_range(row: int, n: int) -> InputError:
    return InputError(f"neighbours must be sample indices below {n}", f"the list of sample {row} has others")


def _sparse_counts(
    indices: NDArray[np.int32], labels: NDArray[np.int32], K: int, columns: range, weights: NDArray[np.int32]
) -> Matrix:
    T = sparse.csr_array((K, K), dtype=np.int64)
    block = max(1, 2_000_000 // max(1, len(columns)))
    for start in range(0, len(labels), block):
        lists = indices[start : start + block, columns.start : columns.stop]
        bad = (lists >= len(labels)).any(axis=1)
        if bad.any():
            raise _out_of_range(start + int(bad.argmax()), len(labels))
        target = np.where(lists >= 0, labels[lists], -1)
        source = np.broadcast_to(labels[start : start + block, None], target.shape)
        kept = (source >= 0) & (target >= 0)
        times = np.ones(target.shape, np.int64)
        if len(weights):
            times = np.broadcast_to(weights[start : start + block, None], target.shape).astype(np.int64)
        T = T + sparse.coo_array((times[kept], (source[kept], target[kept])), shape=(K, K)).tocsr()
    T.eliminate_zeros()
    return T


def _sparse_overlap(S: Matrix, threads: int | None) -> Matrix:
    rows = sparse.csr_array(S)
    rows.sort_indices()
    columns = rows.tocsc()
    columns.sort_indices()
    K = rows.shape[0]
    pointers = [m.indptr.astype(np.int64) for m in (rows, columns)]
    entries = [m.indices.astype(np.int32) for m in (rows, columns)]
    values = [np.ascontiguousarray(m.data, dtype=np.float64) for m in (rows, columns)]
    parts = parallel.map_ranges(
        lambda a, b: kernels.sparse_overlap(
            pointers[0], entries[0], values[0], pointers[1], entries[1], values[1], a, b
        ),
        0,
        K,
        threads,
        MIN_CLASSES_PER_THREAD,
    )
    lengths = np.concatenate([np.diff(part[0]) for part in parts])
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    return sparse.csr_array(
        (np.concatenate([p[2] for p in parts]), np.concatenate([p[1] for p in parts]), indptr), shape=(K, K)
    )
