"""The ensemble: what all detectors' class probabilities and the given label together say of the correct label.

1. **Pool.** Detectors give class probabilities formed without the sample's own label. They are combined into one
   distribution by a weighted geometric mean, ``q_j ~ prod_m p_mj ** w_m``.
2. **Noise posterior.** The given label is evidence too: labels are mostly correct, and some mistakes are far more
   common than others. With the transition matrix T_ty = P(given y | correct t),

       P(correct label t | image, given label y)  ~  q_t T_ty.

   Its value at t = y is the label score; its largest classes are the suggested labels.
3. **Fit.** Both parts are learned from the labels as they are. T comes from each class's anchors
   (`labeltui.noise.estimate.Anchors`), shrunk toward mistakes that strike every class alike, since anchors disagree by
   the confusion of classes as well (`labeltui.noise.shrinkage`). The weights are those under which the given labels are
   most probable once they have passed through T: ``sum_t q_t T_ty`` (as in forward correction, Patrini et al., CVPR
   2017). No clean label is needed, because no detector has seen the label that it predicts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar

from labeltui.detect.base import Attribute, Detector, DetectorInputs, Floats, Ints, Mask, label_probability
from labeltui.noise._validation import Floats as Matrix
from labeltui.noise.estimate import Anchors
from labeltui.noise.shrinkage import Disagreements

Weights = npt.NDArray[np.float64]
LogProbabilities = npt.NDArray[np.float32]

_FLOOR = np.float32(1e-6)  # so that a detector that is certain does not overrule the others
_MAX_VALUES = 12_000_000  # log-probabilities held while the weights are fitted: 48 MB
_TRUSTS = (0.03, 0.06, 0.12, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0)
_TRUST_ROWS = 20_000


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
        T of the labels that the detectors learned from; another one only where a person has changed some.
    trust : float
        How far T follows the anchors' counts (`fit_trust`).
    error_rate : float
        Estimated fraction of wrong labels.
    """

    def __init__(
        self, inputs: DetectorInputs, detectors: Sequence[Detector], noise_aware: Sequence[Detector] = ()
    ) -> None:
        self.inputs = inputs
        self.detectors = [*detectors, *noise_aware]
        self.weights: Weights = np.zeros(0)
        self.transition: Matrix = np.eye(inputs.n_classes)
        self.train_transition = self.transition
        self.trust = 0.0
        self.error_rate = 0.0
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
            "trust": self.trust,
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
        both_kinds = 0 < n_plain < m
        if both_kinds:
            # Where two classes are given for each other almost as often as for themselves, detectors of the given
            # label lead the weights astray; a second start leaves them out.
            starts.append(np.where(np.arange(m) >= n_plain, 1.0 / (m - n_plain), 0.0))
        fits = []
        for weights, found in zip(starts, self._disagreements(starts, scorable), strict=True):
            transition = found.transition()
            sharpened = weights * fit_sharpness(geometric_pool(logs, weights), labels, transition)
            weights = fit_weights(logs, labels, transition, sharpened)
            fits.append((round(nll(logs, weights, labels, transition), 5), weights, found))
        _, self.weights, found = min(fits, key=lambda fit: fit[0])
        if both_kinds:  # the better pool has the better anchors
            (found,) = self._disagreements([self.weights], scorable)
        self.trust = fit_trust(geometric_pool(logs, self.weights), labels, found)
        self.transition = found.transition(self.trust)
        self.weights = fit_weights(logs, labels, self.transition, self.weights)
        self.train_transition = self.transition
        if inputs.given is not None:
            current = np.where(learnable, inputs.labels, -1).astype(np.int32)
            (found,) = self._disagreements([self.weights], current)
            self.train_transition = found.transition(self.trust)
        if len(rows):
            p = noise_posterior(geometric_pool(logs, self.weights), labels, self.transition)
            self.error_rate = float((1.0 - label_probability(p, labels)).mean(dtype=np.float64))

    def _disagreements(self, weights: list[Weights], labels: Ints) -> list[Disagreements]:
        """Count the `labels` (-1 = none) of the anchors of each pool."""
        anchors = [Anchors(labels, self.inputs.n_classes) for _ in weights]
        for start, stop in self.inputs.blocks():
            logs = log_probabilities(self._probabilities(start, stop))
            for each, exponents in zip(anchors, weights, strict=True):
                each.add(start, geometric_pool(logs, exponents))
        return [Disagreements(each.counts()) for each in anchors]


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


def fit_trust(pooled: Floats, labels: Ints, found: Disagreements) -> float:
    """Return the fraction of the anchors' disagreements that makes the labels most probable, as even mistakes.

    Near 0 where the pool explains the labels by the confusion of classes alone, near 1 where it does not. The pool's
    sharpness is refitted for each fraction.

    Parameters
    ----------
    pooled : ndarray of float32, shape (n, K)
    labels : ndarray of int32, shape (n,)
        0..K-1.
    found : Disagreements

    Returns
    -------
    float
        One of a few values in 0..1; 0 without data.
    """
    if not len(labels):
        return 0.0
    step = max(1, len(labels) // _TRUST_ROWS)
    pooled, labels = pooled[::step], labels[::step]
    logs = np.log(np.maximum(pooled, _FLOOR))[None]
    losses = []
    for trust in _TRUSTS:
        transition = found.transition(scale=trust)
        sharpness = fit_sharpness(pooled, labels, transition)
        losses.append(round(nll(logs, np.array([sharpness]), labels, transition), 5))
    return _TRUSTS[int(np.argmin(losses))]


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
