"""Two detectors for massive noise: label propagation on the neighbour graph, and the centroids of the classes.

Where half of the labels and more are wrong, 50 neighbours hold too few right labels to outvote the others, and a
classifier learns wrong ones. Both detectors average over far more samples. Few errors they blur, so they take part only
where the estimated noise calls for it (`LEAST_NOISE`), and what they weigh there, the likelihood of the given labels
decides, as of every other detector. A sample's own label is hidden, with the rest of its fold.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.optimize import minimize_scalar

from labeltui.detect.base import Attribute, Detector, DetectorInputs, Floats, Mask, NoiseAwareDetector
from labeltui.detect.registry import register
from labeltui.parallel import Progress

LEAST_NOISE = 0.3
"""Estimated fraction of wrong labels. Below it the likelihood gave both detectors no weight in trials."""
ALPHA, STEPS = 0.9, 15  # as Zhou et al. and what it takes for another step to change little
_MOST_VALUES = 50_000_000  # probabilities of all samples; a few times as many floats are held meanwhile
_FLOOR = np.float32(1e-9)


class _Smooth(NoiseAwareDetector):
    order: ClassVar[int] = -1
    robust: ClassVar[bool] = True

    def __init__(self, inputs: DetectorInputs) -> None:
        super().__init__(inputs)
        self._p: Floats | None = None
        self._temperature = 1.0

    @classmethod
    def feasible(cls, inputs: DetectorInputs) -> bool:
        """Whether there are folds to hide, and all probabilities fit in memory."""
        many = inputs.n * inputs.n_classes > _MOST_VALUES
        return not many and inputs.fold is not None and int(inputs.fold.max(initial=-1)) >= 1

    @classmethod
    def wanted(cls, error_rate: float) -> bool:
        """Whether that many labels are wrong."""
        return error_rate >= LEAST_NOISE

    def fit_with_noise(
        self,
        transition: npt.NDArray[np.float64],
        detectors: Sequence[Detector],
        progress: Progress,
        cancel: Callable[[], bool] | None,
    ) -> None:
        """Form the scores of each fold without its labels, then one temperature for all.

        The temperature is that under which the given labels are most probable.
        """
        inputs = self.inputs
        scores = np.zeros((inputs.n, inputs.n_classes), dtype=np.float32)
        for fold, hidden in self._folds():
            labels = np.where((inputs.fold >= 0) & ~hidden, inputs.labels, -1)  # type: ignore[operator]
            scores[hidden] = self._log_scores(labels)[hidden]
            progress((fold + 1) / self._n_folds)
        known = np.flatnonzero(inputs.scorable & (inputs.labels >= 0))
        self._p, self._temperature = tempered(scores, known, inputs.labels[known])

    def seconds(self) -> float:
        """Estimate the time of spreading, the longer of the two."""
        inputs = self.inputs
        neighbours = 0 if inputs.indices is None else inputs.indices.shape[1]
        return 2e-9 * self._n_folds * STEPS * inputs.n * neighbours * inputs.n_classes

    @property
    def _n_folds(self) -> int:
        assert self.inputs.fold is not None  # `needs` says so
        return int(self.inputs.fold.max()) + 1

    def _folds(self) -> Iterator[tuple[int, Mask]]:
        """Yield each fold with its samples; to the first belong those of none, which hide no label."""
        fold = self.inputs.fold
        assert fold is not None
        for number in range(self._n_folds):
            yield number, (fold == number) | ((fold < 0) & (number == 0))

    @abstractmethod
    def _log_scores(self, labels: npt.NDArray[np.int32]) -> Floats:
        """Return unnormalised log-probabilities of all samples from these labels, shape (N, K)."""

    def probabilities(self, start: int, stop: int) -> Floats:
        """Distribution over correct labels, without the sample's own label."""
        assert self._p is not None, "fit_with_noise() comes first"
        return self._p[start:stop]

    def attributes(self) -> dict[str, Attribute]:
        """The fitted temperature."""
        return {"temperature": self._temperature}


@register
class Propagation(_Smooth):
    """Labels spread over the neighbour graph (Zhou et al., Learning with local and global consistency, NIPS 2003).

    ``F <- alpha S F + (1 - alpha) Y`` with S the symmetrically normalised graph of which either of two neighbours knows
    the other, and the mass of each class brought to the number of its labels (Zhu et al., ICML 2003, section 4).
    """

    name = "propagation"
    title = "label propagation"
    needs = frozenset({"indices", "fold"})

    def __init__(self, inputs: DetectorInputs) -> None:
        super().__init__(inputs)
        self._graph: sparse.csr_matrix | None = None

    def _log_scores(self, labels: npt.NDArray[np.int32]) -> Floats:
        if self._graph is None:
            assert self.inputs.indices is not None
            self._graph = normalised_graph(self.inputs.indices)
        known = np.flatnonzero(labels >= 0)
        y = np.zeros((len(labels), self.inputs.n_classes), dtype=np.float32)
        y[known, labels[known]] = 1.0
        f = y.copy()
        for _ in range(STEPS):
            f = self._graph @ f
            f *= np.float32(ALPHA)
            f += np.float32(1.0 - ALPHA) * y
        f *= (y.sum(axis=0) / np.maximum(f.sum(axis=0, dtype=np.float64), 1e-12)).astype(np.float32)
        return np.log(np.maximum(f, _FLOOR))


@register
class Centroids(_Smooth):
    """Softmax over the cosines of a sample and the mean of each class, both as seen from the mean of all samples."""

    name = "centroids"
    title = "class centroids"
    needs = frozenset({"embeddings", "fold"})

    def _log_scores(self, labels: npt.NDArray[np.int32]) -> Floats:
        inputs = self.inputs
        assert inputs.embeddings is not None
        usable = inputs.ok
        sums = np.zeros((inputs.n_classes, inputs.embeddings.shape[1]))
        total = np.zeros(inputs.embeddings.shape[1])
        for start, stop in self._blocks():
            x, y = self._unit(start, stop), labels[start:stop]
            total += x[usable[start:stop]].sum(axis=0, dtype=np.float64)
            for label in np.unique(y[y >= 0]):
                sums[label] += x[y == label].sum(axis=0, dtype=np.float64)
        middle = total / max(int(usable.sum()), 1)
        count = np.bincount(labels[labels >= 0], minlength=inputs.n_classes)
        means = _unit_rows(sums / np.maximum(count, 1)[:, None] - middle).astype(np.float32)
        scores = np.full((inputs.n, inputs.n_classes), -1.0, dtype=np.float32)
        for start, stop in self._blocks():
            x = self._unit(start, stop) - middle.astype(np.float32)
            scores[start:stop] = np.einsum("ij,kj->ik", x, means, optimize=False)
        scores[:, count == 0] = -1.0
        return scores

    def _blocks(self) -> Iterator[tuple[int, int]]:
        assert self.inputs.embeddings is not None
        rows = max(1, 4_000_000 // self.inputs.embeddings.shape[1])
        for start in range(0, self.inputs.n, rows):
            yield start, min(start + rows, self.inputs.n)

    def _unit(self, start: int, stop: int) -> Floats:
        """Return unit rows, zeros where a sample has no usable embedding."""
        assert self.inputs.embeddings is not None
        x = np.array(self.inputs.embeddings[start:stop], dtype=np.float32)
        x[~self.inputs.ok[start:stop]] = 0.0
        return np.asarray(_unit_rows(x), dtype=np.float32)


def normalised_graph(indices: npt.NDArray[np.int32]) -> sparse.csr_matrix:
    """Return the undirected graph with rows and columns divided by the roots of their degrees.

    Parameters
    ----------
    indices : ndarray of int32, shape (N, k)
        Nearest neighbours, -1 = none.

    Returns
    -------
    csr_matrix of float32, shape (N, N)
        Two samples are joined where one is among the neighbours of the other.
    """
    n = len(indices)
    some = indices >= 0
    start = np.concatenate([[0], np.cumsum(some.sum(axis=1))])
    # Ones of a byte until the union is known: a graph of large data takes hundreds of megabytes.
    one_way = sparse.csr_matrix((np.ones(start[-1], np.int8), indices[some], start), shape=(n, n))
    joined = one_way.maximum(one_way.T).tocsr()
    degree = np.diff(joined.indptr)
    scale = 1.0 / np.sqrt(np.maximum(degree, 1).astype(np.float32))
    weights = np.repeat(scale, degree)
    weights *= scale[joined.indices]
    return sparse.csr_matrix((weights, joined.indices, joined.indptr), shape=(n, n))


def tempered(
    scores: Floats, rows: npt.NDArray[np.int64], labels: npt.NDArray[np.int32]
) -> tuple[Floats, float]:
    """Return the softmax of the scores times the factor under which labels are most probable, and that factor.

    Parameters
    ----------
    scores : ndarray of float32, shape (N, K)
        Overwritten by the result.
    rows : ndarray of int64, shape (n,)
        Samples whose labels count.
    labels : ndarray of int32, shape (n,)
        Theirs.

    Returns
    -------
    p : ndarray of float32, shape (N, K)
    factor : float
        1 without samples.
    """
    seen = scores[rows].astype(np.float64)
    seen -= seen.max(axis=1, keepdims=True, initial=-np.inf)
    own = seen[np.arange(len(rows)), labels]

    def loss(log_factor: float) -> float:
        factor = float(np.exp(log_factor))
        return float(np.log(np.exp(factor * seen).sum(axis=1)).mean() - factor * own.mean())

    factor = 1.0
    if len(rows):
        best = minimize_scalar(loss, bounds=(-3.0, 6.0), method="bounded", options={"xatol": 1e-3}).x
        factor = round(float(np.exp(best)), 2) or 0.05
    scores *= np.float32(factor)
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores, factor


def _unit_rows(x: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))
