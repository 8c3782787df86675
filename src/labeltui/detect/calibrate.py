"""Calibration by what people decided: how far the blend's P(label right) is to be believed.

Reviewed samples show whether their given label was correct. A logistic curve maps the blend's log-odds z to
those of the calibrated probability, ``a + exp(b) z``, fitted by the most probable a and b under a prior that
leaves the blend as it is. So ten decisions move little and three hundred decide. Which samples were reviewed
may depend on the blend (people start with the worst): the curve is conditional on z, so that does no harm.
Random checks are best.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from labeltui.detect.base import Floats, Ints, Mask, label_probability

UNCHECKED = -1
_SHIFT, _STRETCH = 1.0, 0.5  # standard deviations of a and b a priori


@dataclass(frozen=True)
class Calibration:
    """A curve from the blend's log-odds to calibrated ones.

    Attributes
    ----------
    shift, stretch : float
        a and exp(b); 0 and 1 leave everything as it is.
    checks : int
        Decisions it rests on.
    """

    shift: float = 0.0
    stretch: float = 1.0
    checks: int = 0

    def apply(self, right: npt.NDArray[np.floating]) -> Floats:
        """Return calibrated probabilities."""
        t = np.clip(self.shift + self.stretch * log_odds(right), -30.0, 30.0)
        return np.asarray(1.0 / (1.0 + np.exp(-t)), dtype=np.float32)

    def distribution(self, p: Floats, labels: Ints) -> Floats:
        """Return distributions over labels whose entry for the label is calibrated; the others are scaled to the rest.

        Parameters
        ----------
        p : ndarray of float32, shape (n, K)
        labels : ndarray of int32, shape (n,)
            Rows with -1 stay as they are.
        """
        if not self.checks:
            return p
        right = self.apply(label_probability(p, labels))
        rest = np.maximum(1.0 - label_probability(p, labels), 1e-12)
        out = p * np.where(labels >= 0, (1.0 - right) / rest, 1.0).astype(np.float32)[:, None]
        rows = np.flatnonzero(labels >= 0)
        out[rows, labels[rows]] = right[rows]
        out /= np.maximum(out.sum(axis=1, keepdims=True), np.float32(1e-30))
        return np.asarray(out, dtype=np.float32)


def fit(right: npt.NDArray[np.floating], checked: npt.NDArray[np.integer]) -> Calibration:
    """Fit the curve.

    Parameters
    ----------
    right : ndarray, shape (n,)
        The blend's P(label right).
    checked : ndarray of int, shape (n,)
        1 = a person found the given label correct, 0 = wrong, -1 = not reviewed.
    """
    known = checked != UNCHECKED
    if not known.any():
        return Calibration()
    z, target = log_odds(right[known]), (checked[known] == 1).astype(np.float64)

    def loss(v: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        a, b = v
        t = a + np.exp(b) * z
        slope = 1.0 / (1.0 + np.exp(-t)) - target
        value = (
            (np.logaddexp(0.0, t) - target * t).sum() + 0.5 * (a / _SHIFT) ** 2 + 0.5 * (b / _STRETCH) ** 2
        )
        return float(value), np.array(
            [slope.sum() + a / _SHIFT**2, (slope * np.exp(b) * z).sum() + b / _STRETCH**2]
        )

    a, b = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B").x
    return Calibration(round(float(a), 4), round(float(np.exp(b)), 4), len(z))


def log_odds(p: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return log(p / (1 - p)), kept finite."""
    q = np.clip(np.asarray(p, dtype=np.float64), 1e-6, 1.0 - 1e-6)
    return np.asarray(np.log(q / (1.0 - q)))


# ------------------------------------------------------------------------------ reporting


def calibration_error(right: npt.NDArray[np.floating], truth: Mask, bins: int = 15) -> float:
    """Return the expected calibration error over bins of equal mass.

    Parameters
    ----------
    right : ndarray, shape (n,)
        P(label right).
    truth : ndarray of bool, shape (n,)
        Whether it is.
    bins : int
    """
    order = np.argsort(right, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [
        abs(float(right[part].mean(dtype=np.float64)) - float(truth[part].mean())) * len(part)
        for part in parts
    ]
    return float(sum(gaps) / max(len(right), 1))


def brier_skill(right: npt.NDArray[np.floating], truth: Mask) -> float:
    """Return the Brier skill over always answering with the base rate; 1 is perfect, 0 no better than the base rate.

    Parameters
    ----------
    right : ndarray of float, shape (n,)
        Estimated probabilities that the label is correct.
    truth : ndarray of bool, shape (n,)
        Whether it is.

    Returns
    -------
    float
        At most 1; 0 if `truth` is constant.
    """
    base = float(truth.mean())
    if base in (0.0, 1.0):
        return 0.0
    return 1.0 - float(((right - truth) ** 2).mean(dtype=np.float64)) / (base * (1.0 - base))


def threshold_for(precision: float, chance: npt.NDArray[np.floating]) -> tuple[float, int, float]:
    """Choose from which probability on suggestions may be applied without a person.

    The more changes the better, as long as the mean calibrated probability of the changes, which is their
    expected precision, stays at or above `precision`.

    Parameters
    ----------
    precision : float
        Wanted fraction of correct changes, 0..1.
    chance : ndarray, shape (n,)
        Calibrated probability of the suggested label, of the samples that would be changed.

    Returns
    -------
    threshold : float
        Smallest probability applied; above 1 when none may be.
    changes : int
    expected_wrong : float
        Expected number of wrong changes.
    """
    best = np.sort(np.asarray(chance, dtype=np.float64))[::-1]
    if not len(best):
        return 2.0, 0, 0.0
    mean = np.cumsum(best) / np.arange(1, len(best) + 1)
    enough = np.flatnonzero(mean >= precision)
    if not len(enough):
        return 2.0, 0, 0.0
    count = int(enough[-1]) + 1
    # Equal probabilities are applied together or not at all.
    while count and count < len(best) and best[count] == best[count - 1]:
        count -= 1
    if not count:
        return 2.0, 0, 0.0
    return float(best[count - 1]), count, float((1.0 - best[:count]).sum())


def f1_threshold(chance: npt.NDArray[np.floating]) -> float:
    """Return the threshold on calibrated probabilities above which the expected F1 is largest.

    It is half of that F1, so never above one half (Lipton, Elkan and Narayanaswamy, ECML 2014, theorem 1).

    Parameters
    ----------
    chance : ndarray, shape (n,)
        P(positive).

    Returns
    -------
    float
        One half without samples.
    """
    best = np.sort(np.asarray(chance, dtype=np.float64))[::-1]
    if not len(best):
        return 0.5
    hits = np.cumsum(best)
    return float((hits / (np.arange(1, len(best) + 1) + hits[-1])).max())
