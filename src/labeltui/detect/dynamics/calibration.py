"""Calibration of the dynamics score to the current run.

`prior_shift` needs a noise rate: it differs between runs and shifts all log-odds alike (Saerens et al., Neural
Computation 2002).

`fit` needs injected label noise: a fraction of the labels was replaced before training, so their curves are known to
be those of wrong labels; the rest are correct and wrong in unknown proportion. Let z be the network's log-odds, and
P(wrong | z) = s(a - b z) with the logistic function s. Injected labels have curves like those of wrong labels, hence
by Bayes

    P(injected | z) = c s(a - b z) / (1 + c s(a - b z)),    c = (injected / rest) / rate,

with rate the unknown fraction of wrong labels in the rest (Elkan and Noto, KDD 2008: positive and unlabelled
samples). a, b and log c maximise the posterior under a broad prior around the network's own odds and the noise rate
estimated otherwise.

Calibration keeps the order of the samples. Injected errors do not depend on the image and are therefore easier to
detect than human errors: on hard images the calibrated score is overconfident.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, minimize
from scipy.special import expit

from labeltui.detect.base import Floats, Mask

MIN_INJECTED = 30  # injected labels needed; with fewer the network's own odds are kept
_OFFSET_SD, _SLOPE_SD = 2.0, 0.5  # prior standard deviations of a and log b
# ... of log c, with and without an estimated noise rate.
_RATE_SD, _GUESS_SD = 0.2, 0.5
_DEFAULT_RATE = 0.1  # noise rate


@dataclass(frozen=True)
class Curve:
    """Map from the network's log-odds to calibrated ones.

    Attributes
    ----------
    shift, stretch : float
        -a and b.
    rate : float
        Fraction of wrong labels among those not injected.
    """

    shift: float
    stretch: float
    rate: float

    def apply(self, z: npt.NDArray[np.floating]) -> Floats:
        """Return the calibrated label score."""
        with np.errstate(over="ignore"):
            return np.asarray(1.0 / (1.0 + np.exp(-(self.shift + self.stretch * z))), dtype=np.float32)


def prior_shift(z: npt.NDArray[np.floating], rate: float) -> Curve:
    """Return the shift after which the mean score matches the noise rate.

    Parameters
    ----------
    z : ndarray, shape (n,)
        The network's log-odds of a correct label, finite.
    rate : float
        Fraction of wrong labels; clipped to .002..98.
    """
    wanted = 1.0 - min(max(rate, 0.002), 0.98)
    x = z.astype(np.float64)
    far = float(np.abs(x).max(initial=0.0)) + 10.0  # brackets the root
    shift = brentq(lambda by: float(expit(x + by).mean()) - wanted, -far, far, xtol=1e-4)
    return Curve(round(float(shift), 4), 1.0, rate)


def fit(z: npt.NDArray[np.floating], injected: Mask, rate: float | None) -> Curve | None:
    """Fit the curve on injected labels; None with fewer than `MIN_INJECTED` injected or other samples.

    Parameters
    ----------
    z : ndarray, shape (n,)
        The network's log-odds of a correct label.
    injected : ndarray of bool, shape (n,)
        Samples whose label was replaced.
    rate : float or None
        Estimated fraction of wrong labels among the others; None = unknown.
    """
    count = int(injected.sum())
    if min(count, len(injected) - count) < MIN_INJECTED:
        return None
    odds = count / (len(injected) - count)
    x = z.astype(np.float64)
    expected = _DEFAULT_RATE if rate is None else min(max(rate, 0.005), 0.8)
    prior = np.array([0.0, 0.0, np.log(odds / expected)])
    width = np.array([_OFFSET_SD, _SLOPE_SD, _GUESS_SD if rate is None else _RATE_SD])

    def loss(v: npt.NDArray[np.float64]) -> float:
        t = v[0] - np.exp(v[1]) * x
        odds_here = v[2] - np.logaddexp(0.0, -t)  # log of c s(t)
        mixture = np.logaddexp(0.0, odds_here)
        return float(mixture.sum() - odds_here[injected].sum() + 0.5 * (((v - prior) / width) ** 2).sum())

    a, b, c = minimize(loss, prior, method="L-BFGS-B").x
    return Curve(round(float(-a), 4), round(float(np.exp(b)), 4), round(float(odds / np.exp(c)), 4))
