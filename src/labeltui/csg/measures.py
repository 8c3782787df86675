"""Overlaps, spectrum, CSG and spectral contributions of the class matrices."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import ThreadpoolController

from labeltui.csg.counting import Floats, Integers, Matrix, class_sizes, overlap, pooled_counts, similarity
from labeltui.errors import InputError

# Eigenvalues closer than this fraction of the largest span one eigenspace, whose eigenvectors are arbitrary.
DEGENERATE = 1e-7
ENDS = 16
"""Eigenvalues at each end, of spectra too large to solve."""

_solver = threading.Lock()


@dataclass(frozen=True)
class Overlaps:
    """Overlap of each class and each pair of classes; cheap, without a spectrum.

    Attributes
    ----------
    S : (K, K) float64 or csr_array
        Proportion of class j among the neighbours of class i; rows of present classes sum to 1, others are 0.
    W : (K, K) float64 or csr_array
        Symmetric, in [0, 1]; 1 on the diagonal of present classes.
    overlap : (K,) float64
        Sum of W over the other classes: the complexity of a class. 0 for absent classes.
    self_similarity : (K,) float64
        S[i, i].
    present : (K,) bool
        Classes with at least one counted neighbour.
    reliable : (K,) bool
        Present classes of at least k + 1 samples.
    sizes : (K,) int64
        Samples of each class that have a neighbour list.
    k : int
        Neighbours counted per sample.
    n : int
        Labelled samples in S.
    """

    S: Matrix
    W: Matrix
    overlap: Floats
    self_similarity: Floats
    present: NDArray[np.bool_]
    reliable: NDArray[np.bool_]
    sizes: Integers
    k: int
    n: int

    @property
    def classes(self) -> int:
        """Number of present classes."""
        return int(self.present.sum())

    @property
    def trace(self) -> float:
        """tr(L) / K: the mean overlap of the present classes."""
        return float(self.overlap.sum() / self.classes) if self.classes else 0.0

    def pairs(self, by: str = "overlap", limit: int | None = None) -> tuple[Integers, Integers, Floats]:
        """Pairs of different classes that overlap at all, the largest first, ties by class index.

        Parameters
        ----------
        by : {"overlap", "directed"}
            Rank pairs i < j by W[i, j], or ordered pairs i -> j by S[i, j].
        limit : int, optional
            At most this many.

        Returns
        -------
        i, j : (P,) int64
        value : (P,) float64
        """
        if by not in ("overlap", "directed"):
            raise InputError("pairs are ranked by 'overlap' or 'directed'", f"got {by!r}")
        matrix = self.W if by == "overlap" else self.S
        if sparse.issparse(matrix):
            entries = matrix.tocoo()
            i, j, value = entries.row.astype(np.int64), entries.col.astype(np.int64), entries.data
        else:
            i, j = np.nonzero(matrix)
            value = matrix[i, j]
        present = i < j if by == "overlap" else i != j
        i, j, value = i[present], j[present], value[present]
        order = np.lexsort((j, i, -value))[:limit]
        return i[order], j[order], value[order]


@dataclass(frozen=True)
class Complexity(Overlaps):
    """Overlaps and the spectrum over the present classes.

    Attributes
    ----------
    eigenvalues : (present classes,) float64
        Of L, ascending.
    csg : float
        Between 0 (no overlap) and the number of present classes - 1 (all alike).
    spectral_contribution : (K,) float64
        What each class adds to the gaps of the spectrum; sums to `csg`. Signed: it describes the cut between
        groups of classes, not which class is hard (that is `overlap`), so it is no percentage.
    """

    eigenvalues: Floats
    csg: float
    spectral_contribution: Floats

    @property
    def csg_normalised(self) -> float:
        """CSG / (K - 1) of the present classes, in [0, 1]; 0 with fewer than two."""
        return self.csg / (self.classes - 1) if self.classes > 1 else 0.0

    @property
    def l1(self) -> float:
        """The second eigenvalue: 0 when the classes fall into groups that do not touch."""
        return float(self.eigenvalues[1]) if self.classes > 1 else 0.0


def spectrum(W: Matrix) -> tuple[Floats, float]:
    """Eigenvalues (ascending, the first set to at least 0) of L = D - W, and the CSG they give.

    Parameters
    ----------
    W : (K, K) float64 or csr_array
        Overlaps of present classes only; the diagonal does not matter.

    Returns
    -------
    eigenvalues : (K,) float64
    csg : float
    """
    if W.shape[0] == 0:
        return np.zeros(0), 0.0
    with _one_blas_thread():
        eigenvalues = np.maximum(np.linalg.eigvalsh(_laplacian(W)), 0.0)
    return eigenvalues, _gradient(eigenvalues)


def spectrum_ends(W: Matrix, count: int = ENDS) -> tuple[Floats, Floats]:
    """Both ends of the spectrum of L = D - W, without solving for what is between: no CSG follows from them.

    Lanczos iterations on the sparse L, and on c I - L for the lower end; what has not converged is left out.

    Parameters
    ----------
    W : (K, K) float64 or csr_array
        Overlaps of present classes only; the diagonal does not matter.
    count : int
        Eigenvalues at each end, at most.

    Returns
    -------
    low, high : (up to count,) float64
        Ascending; those of `low` are at least 0.
    """
    K = W.shape[0]
    if 4 * count >= K:
        values = spectrum(W)[0]
        return values[:count], values[-count:]
    from scipy.sparse.linalg import ArpackNoConvergence, eigsh

    off = sparse.csr_array(W)
    off = off - sparse.diags_array(off.diagonal())
    L = sparse.csr_array(sparse.diags_array(np.asarray(off.sum(axis=1)).ravel()) - off)
    bound = 2.0 * float(L.diagonal().max())  # Gershgorin
    start = 1.0 + 1e-3 * np.random.default_rng(0).normal(size=K)

    def largest(matrix: sparse.csr_array) -> Floats:
        try:
            found = eigsh(matrix, count, which="LA", v0=start, ncv=6 * count, return_eigenvectors=False)
        except ArpackNoConvergence as incomplete:
            found = incomplete.eigenvalues
        return np.sort(np.asarray(found, dtype=np.float64))

    with _one_blas_thread():
        high = largest(L)
        low = bound - largest(sparse.csr_array(bound * sparse.eye_array(K) - L))[::-1]
    return np.maximum(low, 0.0), high


def overlaps(
    T: Matrix, sizes: NDArray[Any], k: int, *, prior_corrected: bool = False, threads: int | None = None
) -> Overlaps:
    """Compute S, W and what follows from them without an eigen-solve.

    Parameters
    ----------
    T : (K, K) int64 or csr_array
        From `pooled_counts`.
    sizes : (K,) int
        From `class_sizes`.
    k : int
        Neighbours counted per sample.
    prior_corrected : bool
        Correct for the classes' different sizes, see `similarity`.
    threads : int, optional
        Does not change the result.

    Returns
    -------
    Overlaps

    Raises
    ------
    InputError
        T is not K x K.
    """
    return Overlaps(**_overlap_fields(T, sizes, k, prior_corrected, threads))


def complexity(
    T: Matrix, sizes: NDArray[Any], k: int, *, prior_corrected: bool = False, threads: int | None = None
) -> Complexity:
    """Overlaps, spectrum, CSG and spectral contributions from pooled counts.

    A pure function of its arguments: pass `LiveCsg.snapshot()`'s copies to run it on another thread. The
    spectrum costs about K^3: 0.2 ms at 10 classes, 1 ms at 100, 200 to 500 ms at 1,000, a minute and several
    times 8 K^2 bytes at 5,000: beyond, use `overlaps` and `spectrum_ends`.

    Parameters
    ----------
    T : (K, K) int64 or csr_array
        From `pooled_counts`.
    sizes : (K,) int
        From `class_sizes`.
    k : int
        Neighbours counted per sample.
    prior_corrected : bool
        Correct for the classes' different sizes, see `similarity`.
    threads : int, optional
        For W; the eigen-solve always uses one thread, so that its result does not depend on their number.

    Returns
    -------
    Complexity
        Never contains NaN.
    """
    fields = _overlap_fields(T, sizes, k, prior_corrected, threads)
    present = np.flatnonzero(fields["present"])
    contribution = np.zeros(len(fields["present"]))
    if len(present):
        W = fields["W"]
        whole = len(present) == W.shape[0]
        W = W if whole else W[np.ix_(present, present)] if not sparse.issparse(W) else W[present][:, present]
        W = W.toarray() if sparse.issparse(W) else W
        with _one_blas_thread():
            eigenvalues, vectors = np.linalg.eigh(_laplacian(W))
            eigenvalues = np.maximum(eigenvalues, 0.0)
            contribution[present] = _spectral_contribution(W, eigenvalues, vectors)
    else:
        eigenvalues = np.zeros(0)
    return Complexity(
        **fields, eigenvalues=eigenvalues, csg=_gradient(eigenvalues), spectral_contribution=contribution
    )


def measure(
    indices: NDArray[Any],
    labels: NDArray[Any],
    n_classes: int,
    k: int,
    *,
    prior_corrected: bool = False,
    threads: int | None = None,
) -> Complexity:
    """Compute the `complexity` of a labelled graph.

    Parameters
    ----------
    indices : (N, >= k) int32
        Neighbour lists, nearest first, self excluded; -1 = none.
    labels : (N,) int32
        Class of each sample; -1 = none.
    n_classes : int
        K.
    k : int
        Neighbours to count per sample.
    prior_corrected : bool
        Correct for the classes' different sizes, see `similarity`.
    threads : int, optional
        Does not change the result.

    Returns
    -------
    Complexity

    Raises
    ------
    InputError
        Shapes do not fit, or an index or label is out of range.
    """
    T = pooled_counts(indices, labels, n_classes, k, threads)
    sizes = class_sizes(indices, labels, n_classes)
    return complexity(T, sizes, k, prior_corrected=prior_corrected, threads=threads)


def csg_of(T: Matrix, threads: int | None) -> float:
    """Compute the CSG alone, without eigenvectors.

    Parameters
    ----------
    T : (K, K) int64 or csr_array
        From `pooled_counts`.
    threads : int or None
        Does not change the result.

    Returns
    -------
    float
    """
    present = np.flatnonzero(np.asarray(T.sum(axis=1)) > 0)
    W = overlap(similarity(T), threads)
    return spectrum(W[present][:, present] if len(present) < W.shape[0] else W)[1]


def _overlap_fields(
    T: Matrix, sizes: NDArray[Any], k: int, prior_corrected: bool, threads: int | None
) -> dict[str, Any]:
    sizes = np.array(sizes, dtype=np.int64)
    if T.shape != (len(sizes), len(sizes)):
        raise InputError(
            "pooled counts must be K x K for K class sizes", f"got {T.shape} with {len(sizes)} sizes"
        )
    S = similarity(T, sizes if prior_corrected else None)
    W = overlap(S, threads)
    present = np.asarray(S.sum(axis=1)) > 0
    return {
        "S": S,
        "W": W,
        "overlap": np.asarray(W.sum(axis=1)) - W.diagonal(),
        "self_similarity": np.array(S.diagonal()),
        "present": present,
        "reliable": present & (sizes > k),
        "sizes": sizes,
        "k": int(k),
        "n": int(sizes.sum()),
    }


def _laplacian(W: Matrix) -> Floats:
    L: Floats = -(W.toarray() if sparse.issparse(W) else np.asarray(W, dtype=np.float64))
    np.fill_diagonal(L, 0.0)
    np.fill_diagonal(L, -L.sum(axis=1))
    return L


def _gaps(eigenvalues: Floats) -> Floats:
    K = len(eigenvalues)
    return np.diff(eigenvalues) / (K - np.arange(K - 1))  # g_i = (l_{i+1} - l_i) / (K - i)


def _gradient(eigenvalues: Floats) -> float:
    return float(np.maximum.accumulate(_gaps(eigenvalues)).sum()) if len(eigenvalues) > 1 else 0.0


def _spectral_contribution(W: Floats, eigenvalues: Floats, vectors: Floats) -> Floats:
    """Half the row sums of W * G, G_ij = sum_m c_m (v_mi - v_mj)^2, so that all classes sum to CSG.

    CSG = sum_m c_m l_m: a gap l that is the running maximum n times adds n / (K - l) to the coefficient of
    its upper eigenvalue and takes as much from that of its lower one.
    """
    K = len(eigenvalues)
    gaps = _gaps(eigenvalues)
    c = np.zeros(K)
    best = 0
    for m in range(K - 1):
        if gaps[m] > gaps[best] * (1 + 1e-12):  # rounding must not choose among equal gaps
            best = m
        c[best + 1] += 1 / (K - best)
        c[best] -= 1 / (K - best)
    # Equal eigenvalues: only their common space is defined, so all its vectors get the mean coefficient.
    space = np.concatenate([[0], np.cumsum(np.diff(eigenvalues) > DEGENERATE * eigenvalues[-1])])
    c = (np.bincount(space, weights=c) / np.bincount(space))[space]
    used = np.flatnonzero(np.abs(c) > 1e-15)
    V = vectors[:, used]
    P = (V * c[used]) @ V.T
    diagonal = np.diag(P)
    off = W.copy()
    np.fill_diagonal(off, 0.0)
    contribution: Floats = 0.5 * (off.sum(axis=1) * diagonal + off @ diagonal) - (off * P).sum(axis=1)
    return contribution


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # inspects all loaded libraries: once is enough


class _one_blas_thread:
    """Limit BLAS to one thread inside the block, one block at a time, since the limit is process-wide.

    The solver's result must not depend on the number of threads, and on shared cores a spinning pool was a
    hundred times slower.
    """

    def __enter__(self) -> None:
        _solver.acquire()
        self._limit = _controller().limit(limits=1, user_api="blas")
        self._limit.__enter__()

    def __exit__(self, *error: object) -> None:
        self._limit.__exit__(*error)
        _solver.release()
