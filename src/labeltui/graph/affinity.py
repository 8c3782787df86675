"""The neighbour graph as a sparse matrix, for everything that works on matrices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from labeltui.errors import InputError, UsageError

if TYPE_CHECKING:
    from scipy import sparse

    from labeltui.graph.build import Graph

SPREAD = np.float32(0.2)  # how far 50 neighbours spread by the cosine of image embeddings
WEIGHTS = ("binary", "similarity", "self-tuning")
SYMMETRIES = (None, "union", "mutual")

_LOCAL_SCALE = 7  # Zelnik-Manor and Perona take the distance to the seventh neighbour as a point's own scale


def distances(graph: Graph) -> npt.NDArray[np.float32]:
    """Return the distances (N, k) float32 that belong to the similarities: 1 - s for cosine, -s for euclidean.

    Raises
    ------
    InputError
        For inner products, which are not the negative of any distance.
    """
    if graph.metric == "cosine":
        distance: npt.NDArray[np.float32] = np.maximum(np.float32(1.0) - graph.similarity, np.float32(0.0))
        return distance
    if graph.metric == "euclidean":
        return np.negative(graph.similarity) + np.float32(0.0)
    raise InputError(
        "distances must come from the cosine or the euclidean metric", f"the graph's metric is {graph.metric}"
    )


def relative_similarity(graph: Graph) -> npt.NDArray[np.float32]:
    """Return similarities of any metric on the scale of the cosine's, (N, k) float32.

    Votes weigh neighbours by ``exp(similarity / temperature)``, which distances of any unit cannot enter. So of other
    metrics than the cosine the nearest possible similarity of a row becomes 1 and that of its last neighbour
    1 - `SPREAD`, with the square between them: a Gaussian whose width is local to the row.
    """
    if graph.metric == "cosine":
        return graph.similarity
    valid = graph.indices >= 0
    nearest = np.float32(0) if graph.metric == "euclidean" else graph.similarity[:, :1]
    gap = np.where(valid, nearest - graph.similarity, np.float32(0))
    span = gap.max(axis=1, keepdims=True, initial=0)
    relative = np.divide(gap, span, out=np.zeros_like(gap), where=span > 0)
    return np.where(valid, np.float32(1) - SPREAD * relative**2, np.float32(0)).astype(np.float32)


def affinity(graph: Graph, weight: str = "binary", symmetrise: str | None = None) -> sparse.csr_matrix:
    """Return the graph as a weighted sparse matrix.

    Parameters
    ----------
    graph : Graph
    weight : {"binary", "similarity", "self-tuning"}
        1; the similarity (for "euclidean" 1 / (1 + distance)); or exp(-d_ij^2 / (s_i s_j)) with s_i the distance of
        i to its 7th neighbour (the last one when k < 7), the local scaling of Zelnik-Manor and Perona (2004), eq. 2.
        For cosine d is the chord between unit vectors, sqrt(2 - 2 s).
    symmetrise : {None, "union", "mutual"}
        None keeps one direction (row i lists the neighbours of i); "union" keeps an edge that either end lists, with
        the larger of the two weights; "mutual" keeps one that both ends list, with the smaller.

    Returns
    -------
    scipy.sparse.csr_matrix
        (N, N) float32 with sorted column indices; rows without neighbours are empty.
    """
    if weight not in WEIGHTS:
        raise UsageError(f"weight must be one of {', '.join(WEIGHTS)}", f"got {weight!r}")
    if symmetrise not in SYMMETRIES:
        raise UsageError("symmetrise must be None, union or mutual", f"got {symmetrise!r}")
    n = len(graph.indices)
    valid = graph.indices >= 0
    source = np.repeat(np.arange(n, dtype=np.int64), valid.sum(axis=1))
    target = graph.indices[valid].astype(np.int64)
    value = _weights(graph, weight, valid)[valid]
    if symmetrise is None:
        return _csr(source, target, value, n)
    edge = np.concatenate([source * n + target, target * n + source])
    value = np.concatenate([value, value])
    order = np.argsort(edge, kind="stable")
    edge, value = edge[order], value[order]
    # An edge that both ends list occurs twice, once in each direction.
    first = (
        np.flatnonzero(np.concatenate([[True], edge[1:] != edge[:-1]]))
        if len(edge)
        else np.zeros(0, np.int64)
    )
    if symmetrise == "union":
        value = np.maximum.reduceat(value, first) if len(first) else value
        edge = edge[first]
    else:
        twice = np.diff(np.append(first, len(edge))) == 2
        first = first[twice]
        value = (
            np.minimum(value[first], value[np.minimum(first + 1, len(edge) - 1)]) if len(first) else value[:0]
        )
        edge = edge[first]
    return _csr(edge // n, edge % n, value, n)


def _weights(graph: Graph, weight: str, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    if weight == "binary":
        return np.ones(graph.indices.shape, np.float32)
    if weight == "similarity":
        if graph.metric == "euclidean":
            return np.float32(1.0) / (np.float32(1.0) + distances(graph))
        return graph.similarity
    if graph.metric == "cosine":
        distance = np.sqrt(2.0 * distances(graph).astype(np.float64))
    else:
        distance = distances(graph).astype(np.float64)
    count = valid.sum(axis=1)
    own = np.zeros(len(distance))
    filled = np.flatnonzero(count > 0)
    own[filled] = distance[filled, np.minimum(count[filled], _LOCAL_SCALE) - 1]
    scale = own[:, None] * own[np.where(valid, graph.indices, 0)]
    # Duplicates: a scale of zero gives weight 1 to a distance of zero and 0 to any other.
    tuned = np.exp(-(distance**2) / np.maximum(scale, np.finfo(np.float64).tiny))
    return tuned.astype(np.float32)


def _csr(
    source: npt.NDArray[np.int64], target: npt.NDArray[np.int64], value: npt.NDArray[np.float32], n: int
) -> sparse.csr_matrix:
    """Rows come in order; columns are sorted here."""
    from scipy import sparse  # takes a tenth of a second, and searching needs none of it

    indptr = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(source, minlength=n), out=indptr[1:])
    matrix = sparse.csr_matrix((value, target, indptr), shape=(n, n))
    matrix.sort_indices()
    return matrix


def knn_distances(graph: Graph) -> sparse.csr_matrix:
    """Return the graph as the distance matrix that neighbour methods take as "precomputed".

    Fits scikit-learn's ``metric="precomputed"`` estimators and cleanlab's ``find_issues(knn_graph=...)`` unchanged.

    Parameters
    ----------
    graph : Graph
        Cosine (distance 1 - similarity) or euclidean, with all k neighbours in every row.

    Returns
    -------
    scipy.sparse.csr_matrix
        (N, N) float64, k entries a row in ascending distance, self not among them.

    Raises
    ------
    InputError
        For inner products, or when a row has fewer than k neighbours (samples left out): take the graph from before
        `expand`.
    """
    from scipy import sparse

    n, k = graph.indices.shape
    short = np.flatnonzero((graph.indices < 0).any(axis=1))
    if len(short):
        raise InputError(
            "every row must have k neighbours",
            f"{len(short)} row(s) have fewer, the first is {short[0]}",
            "use the graph of the usable samples alone",
        )
    data = distances(graph).astype(np.float64).ravel()
    indptr = np.arange(n + 1, dtype=np.int32 if n * k < 2**31 else np.int64) * k
    return sparse.csr_matrix((data, graph.indices.astype(indptr.dtype).ravel(), indptr), shape=(n, n))
