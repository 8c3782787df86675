"""From what a sample looks like to what its label probably should be: the noise channel.

The pool says how probable each label is for a picture like this one, without looking at the sample's own
label. The label that it was given is evidence too: labels are mostly right, and some mistakes are far more
common than others (trucks called cars, not trucks called frogs). With T_ty = P(given y | right t) and
sharpened pooled probabilities q,

    P(right label t | picture, given label y)  ~  q_t T_ty.

Its value at t = y is the blend, P(label right); its largest classes are the suggestions.

Both parts are learned from the labels as they are. T comes from each class's anchors
(`noise.estimate.Anchors`). The pool was fitted to noisy labels and so is too flat about right ones; ``q ~
pool ** sharpness``, and the sharpness is the one that makes the given labels most probable after they went
through the channel, ``sum_t q_t T_ty``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from labeltui.detect.base import Floats, Ints

_FLOOR = 1e-6


@dataclass(frozen=True)
class Channel:
    """What becomes of right labels.

    Attributes
    ----------
    transition : ndarray of float64, shape (K, K)
        T_ty = P(given y | right t).
    """

    transition: npt.NDArray[np.float64]

    def posterior(self, pooled: Floats, labels: Ints) -> Floats:
        """Return the distribution over right labels, shape (n, K).

        Parameters
        ----------
        pooled : ndarray of float32, shape (n, K)
        labels : ndarray of int32, shape (n,)
            Given labels; with -1 the picture alone decides.
        """
        q = pooled.copy()
        known = labels >= 0
        q[known] *= self.transition.T[labels[known]].astype(np.float32)
        q /= np.maximum(q.sum(axis=1, keepdims=True), np.float32(1e-30))
        return q


def sharpen(pooled: Floats, sharpness: float) -> Floats:
    """Return ``pooled ** sharpness`` with rows that sum to 1, shape (n, K)."""
    z = np.log(np.maximum(pooled, np.float32(_FLOOR)))
    z *= np.float32(sharpness)
    z -= z.max(axis=1, keepdims=True)
    np.exp(z, out=z)
    z /= z.sum(axis=1, keepdims=True)
    return np.asarray(z, dtype=np.float32)


def learn_sharpness(pooled: Floats, labels: Ints, transition: npt.NDArray[np.float64]) -> float:
    """Return the sharpness in 0.5..4 that makes the labels most probable behind the channel; 1 without data.

    Parameters
    ----------
    pooled : ndarray of float32, shape (n, K)
    labels : ndarray of int32, shape (n,)
        0..K-1.
    transition : ndarray of float64, shape (K, K)
    """
    if not len(labels):
        return 1.0
    columns = transition.T[labels].astype(np.float32)  # (n, K): T_ty of each sample's y

    def loss(sharpness: float) -> float:
        p = (sharpen(pooled, sharpness) * columns).sum(axis=1)
        return -float(np.log(np.maximum(p, 1e-12)).mean(dtype=np.float64))

    best = minimize_scalar(loss, bounds=(0.5, 4.0), method="bounded", options={"xatol": 1e-3})
    return round(float(best.x), 3)
