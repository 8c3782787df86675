"""Pooling several detectors' class probabilities into one distribution.

The pool is a weighted geometric mean, ``p_j ~ prod_m p_mj ** w_m``. Geometric means of probabilities beat
averages of ranks on human label noise. The exponents are learned from the labels as they are, wrong ones
included: those that make the labels most probable under the pool. That is sound without any clean label,
because every part's probabilities were formed without the sample's own label.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from labeltui.detect.base import Floats, Ints

Weights = npt.NDArray[np.float64]

_FLOOR = 1e-6  # a part that is certain must not veto the others
_VALUES = 12_000_000  # log-probabilities looked at while the exponents are learned


def log_parts(parts: list[Floats]) -> npt.NDArray[np.float32]:
    """Return the logarithms of the parts, floored, shape (M, n, K)."""
    return np.stack([np.log(np.maximum(part, np.float32(_FLOOR))) for part in parts])


def mix(logs: npt.NDArray[np.float32], weights: Weights) -> Floats:
    """Return the pooled distribution, shape (n, K).

    Parameters
    ----------
    logs : ndarray of float32, shape (M, n, K)
        From `log_parts`.
    weights : ndarray of float64, shape (M,)
    """
    z = _sum(logs, weights)
    z -= z.max(axis=1, keepdims=True)
    np.exp(z, out=z)
    z /= z.sum(axis=1, keepdims=True)
    return np.asarray(z, dtype=np.float32)


def _sum(logs: npt.NDArray[np.float32], weights: Weights) -> npt.NDArray[np.float32]:
    """Weighted sum over the parts; no BLAS, whose last bits depend on the shape and the number of threads."""
    total: npt.NDArray[np.float32] = logs[0] * np.float32(weights[0])
    for part, weight in zip(logs[1:], weights[1:], strict=True):
        total += part * np.float32(weight)
    return total


def some(among: npt.NDArray[np.bool_], most: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the rows that are marked, or a seeded sample of `most` of them, ascending."""
    rows = np.flatnonzero(among)
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, size=most, replace=False))
    return rows


def sample_rows(
    judged: npt.NDArray[np.bool_], n_classes: int, n_parts: int, seed: int
) -> npt.NDArray[np.int64]:
    """Return the rows on which exponents are learned: all, or a seeded sample that fits the memory."""
    return some(judged, max(1000, _VALUES // max(1, n_classes * n_parts)), seed)


def surprise(
    logs: npt.NDArray[np.float32], weights: Weights, labels: Ints, transition: npt.NDArray[np.float64]
) -> float:
    """Return the mean of ``-log sum_t q_t T_ty``: what the labels cost under the pool q and the noise channel; 0 for
    none.

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
    p = (mix(logs, weights) * transition.T[labels]).sum(axis=1)
    return -float(np.log(np.maximum(p, 1e-300)).mean())


def learn(
    logs: npt.NDArray[np.float32],
    labels: Ints,
    transition: npt.NDArray[np.float64] | None = None,
    start: Weights | None = None,
) -> Weights:
    """Return the exponents, not negative, that make the labels most probable.

    With a transition matrix the pool q speaks of right labels, and the labels' probability is ``sum_t q_t
    T_ty``. Without one the problem is convex. A little pull toward the start keeps tiny data sane.

    Parameters
    ----------
    logs : ndarray of float32, shape (M, n, K)
    labels : ndarray of int32, shape (n,)
        0..K-1.
    transition : ndarray of float64, shape (K, K), optional
    start : ndarray of float64, shape (M,), optional
        Where to begin; equal exponents that sum to 1 by default.

    Returns
    -------
    ndarray of float64, shape (M,)
    """
    m, n, _ = logs.shape
    first = np.full(m, 1.0 / m) if start is None else start
    if n == 0:
        return first
    rows = np.arange(n)
    seen = None if transition is None else transition.T[labels]  # (n, K): T_ty of each sample's y
    own = logs[:, rows, labels].astype(np.float64).mean(axis=1)

    def loss(weights: Weights) -> tuple[float, Weights]:
        z = _sum(logs, weights).astype(np.float64)  # (n, K)
        top = z.max(axis=1, keepdims=True)
        q = np.exp(z - top)
        total = q.sum(axis=1, keepdims=True)
        q /= total
        norm = top + np.log(total)
        if seen is None:
            value = float(norm.mean() - (weights * own).sum())
            slope = np.array([float((q * part).sum(axis=1).mean()) for part in logs]) - own
        else:
            reached = q * seen
            p = reached.sum(axis=1, keepdims=True)
            value = -float(np.log(np.maximum(p, 1e-300)).mean())
            gap = q - reached / np.maximum(p, 1e-300)
            slope = np.array([float((gap * part).sum(axis=1).mean()) for part in logs])
        pull = weights - first
        return value + 5.0 / n * float((pull * pull).sum()), slope + 10.0 / n * pull

    best = minimize(
        loss, first, jac=True, bounds=[(0.0, 4.0)] * m, method="L-BFGS-B", options={"maxiter": 60}
    )
    # A machine's last bits must not decide which samples are flagged.
    weights = np.asarray([round(float(weight), 4) for weight in best.x])
    return weights if weights.sum() > 0 else first
