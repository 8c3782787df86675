"""Calibration of the dynamics score to the run at hand, which its network was not taught on.

`level` needs a noise rate: how many labels are wrong differs from run to run, and shifts all log-odds alike (prior
shift: Saerens et al., Neural Computation 2002).

`fit` needs labels that were corrupted on purpose: a share of the labels was replaced before training, so their curves
are known to be those of wrong labels; the rest are right and wrong in unknown proportion. Let z be the network's
log-odds, and P(wrong | z) = s(a - b z) with the logistic function s. Planted curves are distributed like those of
wrong labels, hence by Bayes

    P(planted | z) = c s(a - b z) / (1 + c s(a - b z)),    c = (planted / rest) / rate,

with rate the unknown share of wrong labels in the rest (Elkan and Noto, KDD 2008: positive and unlabelled samples;
the planted share of the worst curves stays below one because wrong labels are among them). a, b and log c are the
most probable ones under a broad prior around the network's own odds and around the noise rate that was estimated
otherwise.

The order of samples does not change, only how much the score says. Planted errors are blind to the image and so
easier to see than a person's: the calibrated score is too sure of itself on the hard ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, minimize
from scipy.special import expit

from labeltui.detect.base import Floats, Mask

LEAST = 30  # planted labels; with fewer the network's own odds stay
_OFFSET, _SLOPE = 2.0, 0.5  # standard deviations a priori, in a and log b
# ... in log c: anchors tell the noise rate to about a seventh, with right labels to measure by.
_SHARE, _SHARE_OF_GUESS = 0.2, 0.5
_GUESS = 0.1  # noise rate


@dataclass(frozen=True)
class Curve:
    """From the network's log-odds of a right label to calibrated ones.

    Attributes
    ----------
    shift, stretch : float
        -a and b.
    rate : float
        Share of wrong labels among those that were not planted.
    """

    shift: float
    stretch: float
    rate: float

    def apply(self, z: npt.NDArray[np.floating]) -> Floats:
        """Return P(label right)."""
        with np.errstate(over="ignore"):
            return np.asarray(1.0 / (1.0 + np.exp(-(self.shift + self.stretch * z))), dtype=np.float32)


def level(z: npt.NDArray[np.floating], rate: float) -> Curve:
    """Return the curve by which as many labels are wrong, in the mean, as the rate says.

    Parameters
    ----------
    z : ndarray, shape (n,)
        The network's log-odds of a right label, finite.
    rate : float
        Share of wrong labels; kept within .002 and .98.
    """
    wanted = 1.0 - min(max(rate, 0.002), 0.98)
    x = z.astype(np.float64)
    far = float(np.abs(x).max(initial=0.0)) + 10.0  # there the mean is beyond either bound
    shift = brentq(lambda by: float(expit(x + by).mean()) - wanted, -far, far, xtol=1e-4)
    return Curve(round(float(shift), 4), 1.0, rate)


def fit(z: npt.NDArray[np.floating], planted: Mask, rate: float | None) -> Curve | None:
    """Fit the curve; None with fewer than `LEAST` planted or other samples.

    Parameters
    ----------
    z : ndarray, shape (n,)
        The network's log-odds of a right label.
    planted : ndarray of bool, shape (n,)
    rate : float or None
        Estimated share of wrong labels among the others; None = unknown.
    """
    count = int(planted.sum())
    if min(count, len(planted) - count) < LEAST:
        return None
    odds = count / (len(planted) - count)
    x = z.astype(np.float64)
    expected = _GUESS if rate is None else min(max(rate, 0.005), 0.8)
    prior = np.array([0.0, 0.0, np.log(odds / expected)])
    width = np.array([_OFFSET, _SLOPE, _SHARE_OF_GUESS if rate is None else _SHARE])

    def loss(v: npt.NDArray[np.float64]) -> float:
        t = v[0] - np.exp(v[1]) * x
        odds_here = v[2] - np.logaddexp(0.0, -t)  # log of c s(t)
        mixture = np.logaddexp(0.0, odds_here)
        return float(mixture.sum() - odds_here[planted].sum() + 0.5 * (((v - prior) / width) ** 2).sum())

    a, b, c = minimize(loss, prior, method="L-BFGS-B").x
    return Curve(round(float(-a), 4), round(float(np.exp(b)), 4), round(float(odds / np.exp(c)), 4))
