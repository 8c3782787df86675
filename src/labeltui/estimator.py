"""Cumulative Spectral Gradient as a scikit-learn estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_X_y

from labeltui import csg, graph


class CumulativeSpectralGradient(BaseEstimator):  # type: ignore[misc]
    """How much the classes of a labelled data set overlap in its neighbour graph.

    Every sample counts, so the result is an exact function of X and y; see `labeltui.csg` for the formulas.

    Parameters
    ----------
    k : int
        Neighbours of each sample that are counted.
    metric : {"cosine", "inner_product", "euclidean"}
    threads : int, optional
        By default all cores; never changes the result.

    Attributes
    ----------
    csg_ : float
        Cumulative Spectral Gradient; 0 = classes do not overlap, larger = harder to separate. Comparable only within
        one embedding, k and N.
    similarity_ : ndarray of float64, shape (K, K)
        S: row i holds the proportions of classes among the neighbours of class i.
    overlap_ : ndarray of float64, shape (K, K)
        W_ij = 1 - Bray-Curtis distance of rows i and j of S.
    eigenvalues_ : ndarray of float64, shape (K,)
        Of the Laplacian D - W, ascending.
    class_overlap_ : ndarray of float64, shape (K,)
        Sum of a class's overlaps with the others.
    classes_ : ndarray, shape (K,)
        Class labels in the order of rows and columns.
    n_features_in_ : int

    References
    ----------
    Branchaud-Charron, Achkar, Jodoin: "Spectral Metric for Dataset Complexity Assessment", CVPR 2019,
    arXiv:1905.07299, equations 2 to 6.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.repeat(np.eye(3), 20, axis=0) + np.random.default_rng(0).normal(0, 0.01, (60, 3))
    >>> float(CumulativeSpectralGradient(k=5).fit(X, np.repeat([0, 1, 2], 20)).csg_)
    0.0
    """

    def __init__(self, k: int = 10, metric: str = "cosine", threads: int | None = None) -> None:
        self.k = k
        self.metric = metric
        self.threads = threads

    def fit(self, X: ArrayLike, y: ArrayLike) -> CumulativeSpectralGradient:
        """Measure the overlap of the classes.

        Parameters
        ----------
        X : array_like of float, shape (N, d)
        y : array_like, shape (N,)
            Labels of any type.

        Returns
        -------
        CumulativeSpectralGradient
            This estimator.

        Raises
        ------
        ValueError
            Shapes do not fit, values are not finite, or k is not in 1..N - 1.
        """
        rows, labels = check_X_y(X, y, dtype=[np.float32, np.float16], ensure_min_samples=2)
        self.n_features_in_ = rows.shape[1]
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        given = numbers.astype(np.int32)
        found = graph.build(rows, self.k, self.metric, threads=self.threads)
        k, n_classes = found.k, len(self.classes_)
        counts = csg.pooled_counts(found.indices, given, n_classes, k, self.threads)
        sizes = csg.class_sizes(found.indices, given, n_classes)
        measured = csg.complexity(counts, sizes, k, threads=self.threads)
        self.csg_: float = measured.csg
        self.similarity_: NDArray[np.float64] = _dense(measured.S)
        self.overlap_: NDArray[np.float64] = _dense(measured.W)
        self.eigenvalues_: NDArray[np.float64] = measured.eigenvalues
        self.class_overlap_: NDArray[np.float64] = measured.overlap
        return self


def _dense(matrix: Any) -> NDArray[np.float64]:
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix, dtype=np.float64)
