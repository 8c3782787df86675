"""The ensemble: what all detectors' class probabilities and the given label together say of the correct label.

1. **Pool.** Detectors give class probabilities formed without the sample's own label. They are combined into one
   distribution by a weighted geometric mean, ``q_j ~ prod_m p_mj ** w_m``.
2. **Noise posterior.** The given label is evidence too: labels are mostly correct, and some mistakes are far more
   common than others. With the transition matrix T_ty = P(given y | correct t),

       P(correct label t | image, given label y)  ~  q_t T_ty.

   Its value at t = y is the label score; its largest classes are the suggested labels.
3. **Fit.** Both parts are learned from the labels as they are. The weights are those under which the given labels are
   most probable once they have passed through a transition matrix, ``sum_t q_t T_ty`` (as in forward correction,
   Patrini et al., CVPR 2017). No clean label is needed, because no detector has seen the label that it predicts. That
   matrix takes all that the classes' anchors disagree (`labeltui.noise.estimate.Anchors`) for mistakes, evenly spread:
   so the pool becomes as sure as it can, and follows no wrong label. Anchors disagree by the confusion of classes as
   well, so the posterior takes the T whose level and structure labels that were held out confirm
   (`labeltui.noise.likelihood`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar

from labeltui.detect.base import Attribute, Detector, DetectorInputs, Floats, Ints, Mask, label_probability
from labeltui.noise._validation import Floats as Matrix
from labeltui.noise.estimate import Anchors
from labeltui.noise.likelihood import NoiseFit, fit_noise
from labeltui.noise.shrinkage import Disagreements

Weights = npt.NDArray[np.float64]
LogProbabilities = npt.NDArray[np.float32]

_FLOOR = np.float32(1e-6)  # so that a detector that is certain does not overrule the others
_MAX_VALUES = 12_000_000  # log-probabilities held while the weights are fitted: 48 MB
CLEAREST = 0.03
"""Anchors are the clearest samples, whose labels are best: where labels confirm their rate, so much more are wrong."""
_HALVES = 1905
_LEVEL_ROWS, _LEVEL_VALUES = 2_000, 100_000  # samples and probabilities that the noise is fitted on


class Ensemble:
    """Weighted geometric pool of the detectors' probabilities, then the noise posterior.

    Parameters
    ----------
    inputs : DetectorInputs
    detectors : sequence of Detector
        Fitted ones that predict the *given* label; without any all samples score one half.
    noise_aware : sequence of Detector, optional
        Fitted ones that predict the *correct* label (`NoiseAwareDetector`).

    Attributes
    ----------
    detectors : list of Detector
        All of them, in the order of `weights`.
    weights : ndarray of float64, shape (M,)
        Exponents in the pool.
    transition : ndarray of float64, shape (K, K)
        T of the given labels.
    train_transition : ndarray of float64, shape (K, K)
        For training on the labels that the detectors learned from: all that the anchors disagree, spread by the fitted
        structure.
    level, structure : float
        Of the mistakes, see `labeltui.noise.likelihood.NoiseFit`.
    error_rate : float
        Estimated fraction of wrong labels.
    anchor_error_rate : float
        The same if all that the anchors disagree were mistakes.
    """

    def __init__(
        self, inputs: DetectorInputs, detectors: Sequence[Detector], noise_aware: Sequence[Detector] = ()
    ) -> None:
        self.inputs = inputs
        self.detectors = [*detectors, *noise_aware]
        self.weights: Weights = np.zeros(0)
        self.transition: Matrix = np.eye(inputs.n_classes)
        self.train_transition = self.transition
        self.level = self.structure = 0.0
        self.error_rate = self.anchor_error_rate = 0.0
        if self.detectors:
            self._fit(len(detectors))

    def posterior(self, start: int, stop: int, parts: list[Floats] | None = None) -> Floats:
        """Return P(correct label) of the samples start..stop, a block of `DetectorInputs.blocks`.

        Parameters
        ----------
        start, stop : int
        parts : list of ndarray of float32, shape (n, K), optional
            The detectors' probabilities, where the caller has them.

        Returns
        -------
        ndarray of float32, shape (n, K)
        """
        logs = log_probabilities(self._probabilities(start, stop) if parts is None else parts)
        pooled = geometric_pool(logs, self.weights)
        return noise_posterior(pooled, self.inputs.given_labels[start:stop], self.transition)

    def attributes(self) -> dict[str, Attribute]:
        """Return what was fitted, for the record."""
        return {
            "method": "weighted geometric mean of class probabilities, then the noise posterior",
            "noise_level": self.level,
            "noise_structure": self.structure,
            "error_rate": self.error_rate,
            "anchor_error_rate": self.anchor_error_rate,
            **{f"weight_{d.name}": float(w) for d, w in zip(self.detectors, self.weights, strict=True)},
        }

    def _probabilities(self, start: int, stop: int) -> list[Floats]:
        found = [detector.probabilities(start, stop) for detector in self.detectors]
        return [p for p in found if p is not None]

    def _fit(self, n_plain: int) -> None:
        inputs, m = self.inputs, len(self.detectors)
        learnable = inputs.scorable & (inputs.labels >= 0)
        rows = sample_rows(learnable, inputs.n_classes, m, inputs.seed)
        logs = np.empty((m, len(rows), inputs.n_classes), dtype=np.float32)
        for start, stop, place, inside in inputs.blocks_of(rows):
            logs[:, place] = log_probabilities([p[inside] for p in self._probabilities(start, stop)])
        labels = inputs.given_labels[rows]
        scorable = np.where(inputs.scorable, inputs.given_labels, -1).astype(np.int32)

        starts = [fit_weights(logs, inputs.labels[rows])]
        if 0 < n_plain < m:
            # Where two classes are given for each other almost as often as for themselves, detectors of the given
            # label lead the weights astray; a second start leaves them out.
            starts.append(np.where(np.arange(m) >= n_plain, 1.0 / (m - n_plain), 0.0))
        fits = []
        for weights, halves in zip(starts, self._anchor_counts(starts, scorable), strict=True):
            found = Disagreements(halves)
            transition = found.transition(found.rate)
            sharpened = weights * fit_sharpness(geometric_pool(logs, weights), labels, transition)
            weights = fit_weights(logs, labels, transition, sharpened)
            fits.append((round(nll(logs, weights, labels, transition), 5), weights))
        _, self.weights = min(fits, key=lambda fit: fit[0])
        (halves,) = self._anchor_counts([self.weights], scorable)  # the better pool has the better anchors
        found = Disagreements(halves)
        even = found.transition(found.rate)
        fit = self._fit_noise(logs, labels, rows, halves)
        confirmed = min(1.0, fit.level / found.rate)
        sure = found.transition(min(found.rate + CLEAREST * confirmed, 1.0), fit.structure)
        self.weights = fit_weights(logs, labels, sure, self.weights)
        fit = self._fit_noise(logs, labels, rows, halves)
        self.transition, self.level, self.structure = fit.transition, fit.level, fit.structure
        self.train_transition = found.transition(found.rate, fit.structure)
        if inputs.given is not None:
            current = np.where(learnable, inputs.labels, -1).astype(np.int32)
            (halves,) = self._anchor_counts([self.weights], current)
            found = Disagreements(halves)
            self.train_transition = found.transition(found.rate, fit.structure)
        if len(rows):
            pooled = geometric_pool(logs, self.weights)
            self.error_rate, self.anchor_error_rate = (
                float((1.0 - label_probability(noise_posterior(pooled, labels, t), labels)).mean())
                for t in (self.transition, even)
            )

    @cached_property
    def _half(self) -> npt.NDArray[np.int8]:
        """Each sample's half, 0 or 1, the same for duplicates."""
        inputs = self.inputs
        groups = np.arange(inputs.n, dtype=np.int32) if inputs.groups is None else inputs.groups
        rng = np.random.default_rng([inputs.seed, _HALVES])  # unlike what else is drawn by the same seed
        return rng.integers(0, 2, int(groups.max(initial=0)) + 1).astype(np.int8)[groups]

    def _fit_noise(
        self,
        logs: LogProbabilities,
        labels: Ints,
        rows: npt.NDArray[np.int64],
        counts: Sequence[Matrix],
    ) -> NoiseFit:
        wanted = max(_LEVEL_ROWS, _LEVEL_VALUES // self.inputs.n_classes)
        step = max(1, -(-len(rows) // wanted))
        pooled = geometric_pool(logs[:, ::step], self.weights)
        return fit_noise(pooled, labels[::step], self._half[rows[::step]], counts)

    def _anchor_counts(self, weights: list[Weights], labels: Ints) -> list[list[Matrix]]:
        """Count the `labels` (-1 = none) of the anchors of each pool, by half."""
        halves = [np.where(self._half == side, labels, -1).astype(np.int32) for side in (0, 1)]
        anchors = [[Anchors(half, self.inputs.n_classes) for half in halves] for _ in weights]
        for start, stop in self.inputs.blocks():
            logs = log_probabilities(self._probabilities(start, stop))
            for both, exponents in zip(anchors, weights, strict=True):
                pooled = geometric_pool(logs, exponents)
                for each in both:
                    each.add(start, pooled)
        return [[each.counts() for each in both] for both in anchors]


# ------------------------------------------------------------------------------ pool


def log_probabilities(parts: list[Floats]) -> LogProbabilities:
    """Return the floored logarithms of M distributions, shape (M, n, K)."""
    return np.stack([np.log(np.maximum(part, _FLOOR)) for part in parts])


def geometric_pool(logs: LogProbabilities, weights: Weights) -> Floats:
    """Return the weighted geometric mean as a distribution.

    Parameters
    ----------
    logs : ndarray of float32, shape (M, n, K)
        From `log_probabilities`.
    weights : ndarray of float64, shape (M,)

    Returns
    -------
    ndarray of float32, shape (n, K)
        Rows sum to 1.
    """
    return _softmax(_weighted_sum(logs, weights))


def noise_posterior(pooled: Floats, labels: Ints, transition: Matrix) -> Floats:
    """Return ``q_t T_ty``, normalised: the distribution over correct labels.

    Parameters
    ----------
    pooled : ndarray of float32, shape (n, K)
        q.
    labels : ndarray of int32, shape (n,)
        Given labels y; with -1 the pool alone decides.
    transition : ndarray of float64, shape (K, K)
        T_ty = P(given y | correct t).

    Returns
    -------
    ndarray of float32, shape (n, K)
    """
    q = pooled.copy()
    known = labels >= 0
    q[known] *= transition.T[labels[known]].astype(np.float32)
    q /= np.maximum(q.sum(axis=1, keepdims=True), np.float32(1e-30))
    return q


# ------------------------------------------------------------------------------ fit


def fit_weights(
    logs: LogProbabilities, labels: Ints, transition: Matrix | None = None, start: Weights | None = None
) -> Weights:
    """Return the non-negative weights that make the labels most probable.

    Minimises ``-mean log sum_t q_t T_ty`` by L-BFGS-B. Without a transition matrix (T = identity) the problem is
    convex. A weak quadratic penalty toward the start keeps tiny data sets sane.

    Parameters
    ----------
    logs : ndarray of float32, shape (M, n, K)
    labels : ndarray of int32, shape (n,)
        0..K-1.
    transition : ndarray of float64, shape (K, K), optional
    start : ndarray of float64, shape (M,), optional
        By default equal weights that sum to 1.

    Returns
    -------
    ndarray of float64, shape (M,)
    """
    m, n, _ = logs.shape
    first = np.full(m, 1.0 / m) if start is None else start
    if n == 0:
        return first
    columns = None if transition is None else transition.T[labels]  # (n, K): T_ty of each sample's y
    label_logs = logs[:, np.arange(n), labels].astype(np.float64).mean(axis=1)

    def loss(weights: Weights) -> tuple[float, Weights]:
        z = _weighted_sum(logs, weights).astype(np.float64)  # (n, K)
        top = z.max(axis=1, keepdims=True)
        q = np.exp(z - top)
        total = q.sum(axis=1, keepdims=True)
        q /= total
        if columns is None:
            value = float((top + np.log(total)).mean() - (weights * label_logs).sum())
            gradient = np.array([float((q * part).sum(axis=1).mean()) for part in logs]) - label_logs
        else:
            joint = q * columns
            p = np.maximum(joint.sum(axis=1, keepdims=True), 1e-300)
            value = -float(np.log(p).mean())
            gap = q - joint / p
            gradient = np.array([float((gap * part).sum(axis=1).mean()) for part in logs])
        shift = weights - first
        return value + 5.0 / n * float((shift * shift).sum()), gradient + 10.0 / n * shift

    best = minimize(
        loss, first, jac=True, bounds=[(0.0, 4.0)] * m, method="L-BFGS-B", options={"maxiter": 60}
    )
    weights = np.round(best.x, 4)  # a machine's last bits must not decide which samples are flagged
    return weights if weights.sum() > 0 else first


def fit_sharpness(pooled: Floats, labels: Ints, transition: Matrix) -> float:
    """Return the exponent in 0.5..4 of the pool under which the labels are most probable; 1 without data.

    Detectors fitted to noisy labels are less confident about the correct label than they should be.

    Parameters
    ----------
    pooled : ndarray of float32, shape (n, K)
    labels : ndarray of int32, shape (n,)
        0..K-1.
    transition : ndarray of float64, shape (K, K)
    """
    if not len(labels):
        return 1.0
    logs = np.log(np.maximum(pooled, _FLOOR))
    columns = transition.T[labels].astype(np.float32)

    def loss(sharpness: float) -> float:
        p = (_softmax(logs * np.float32(sharpness)) * columns).sum(axis=1)
        return -float(np.log(np.maximum(p, 1e-12)).mean(dtype=np.float64))

    best = minimize_scalar(loss, bounds=(0.5, 4.0), method="bounded", options={"xatol": 1e-3})
    return round(float(best.x), 3)


def nll(logs: LogProbabilities, weights: Weights, labels: Ints, transition: Matrix) -> float:
    """Return ``-mean log sum_t q_t T_ty``, the given labels' negative log-likelihood in nats; 0 without data.

    Parameters
    ----------
    logs : ndarray of float32, shape (M, n, K)
    weights : ndarray of float64, shape (M,)
    labels : ndarray of int32, shape (n,)
        0..K-1.
    transition : ndarray of float64, shape (K, K)
    """
    if not len(labels):
        return 0.0
    p = (geometric_pool(logs, weights) * transition.T[labels]).sum(axis=1)
    return -float(np.log(np.maximum(p, 1e-300)).mean())


def subsample(among: Mask, most: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the indices of the True entries, or a seeded sample of `most` of them, ascending.

    Parameters
    ----------
    among : ndarray of bool, shape (N,)
    most : int
        Size of the sample.
    seed : int

    Returns
    -------
    ndarray of int64, ascending
    """
    rows = np.flatnonzero(among)
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, size=most, replace=False))
    return rows


def sample_rows(among: Mask, n_classes: int, n_parts: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the rows that weights are fitted on: all of `among`, or a seeded sample that fits the memory.

    Parameters
    ----------
    among : ndarray of bool, shape (N,)
    n_classes, n_parts : int
        Values per row: one for each class and part.
    seed : int

    Returns
    -------
    ndarray of int64, ascending
    """
    return subsample(among, max(1000, _MAX_VALUES // max(1, n_classes * n_parts)), seed)


def _weighted_sum(logs: LogProbabilities, weights: Weights) -> npt.NDArray[np.float32]:
    """Weighted sum over the first axis, without BLAS, whose last bits depend on the number of threads."""
    total: npt.NDArray[np.float32] = logs[0] * np.float32(weights[0])
    for part, weight in zip(logs[1:], weights[1:], strict=True):
        total += part * np.float32(weight)
    return total


def _softmax(z: npt.NDArray[np.float32]) -> Floats:
    z = z - z.max(axis=1, keepdims=True)
    np.exp(z, out=z)
    z /= z.sum(axis=1, keepdims=True)
    return np.asarray(z, dtype=np.float32)
