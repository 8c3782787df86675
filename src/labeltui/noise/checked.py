"""How many labels are wrong: at most, from features alone; as an interval, from random checks by a person.

**Without checks.** The sum of P(wrong) is what the labels' likelihood confirms. Of people's errors, which lie where
classes look alike, it misses some, and the more labels are wrong, the more of them agree with what was learned from
labels. So the number stated is a bound: the sum times `AT_MOST`, and times more by `HIDDEN` of its share; and by
`ALIKE` of the structure that labels prove, since where mistakes are seen to follow likeness more of them are not seen.

**With checks.** Samples are drawn by strata of P(wrong), more often where it is uncertain (`check_keys`): between the
fraction of all samples in a stratum and the fraction that would be best if P were right. In each stratum the checks
are a simple random sample, so what they show holds whatever P is worth. The fraction of wrong labels in a stratum has
a beta posterior whose prior is the stratum's mean P, of which `DOUBT` is moved toward one half because P itself may be
far off, with the weight of `PRIOR_CHECKS`; how many of those left are wrong is binomial given the fraction. The sum
over strata is close to the mean of P plus the mean of wrong - P over the checks: a prediction-powered estimate
(Angelopoulos et al., Science 2023) that cannot leave 0..1 and does not take a stratum without a found error for one
without errors.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from labeltui.noise.likelihood import STRUCTURES

STRATA = 6
PRIOR_CHECKS = 1.0
DOUBT = 0.1
"""Without it, where P said a third of what was true, the interval held the truth in half of the draws; set on synthetic
data (240 samples, 40 checks: 98 % and more), not on labels of people."""
AT_MOST, HIDDEN, ALIKE = 1.55, 5.0, 2.0
"""Errors put into text, digits and made tables needed 1.2 at most; people's on CIFAR-10 1.5 at 3 %, 1.9 at 18 %, and
2.5 where the structure was .9."""
_EVEN = 0.5  # of the checks, spread as the samples are
_QUANTILES = 0.015, 0.985  # covers at least 95 %
_DRAWS = 8000

Floats = npt.NDArray[np.float64]


class NumberWrong(NamedTuple):
    """How many of the samples have a wrong given label.

    Attributes
    ----------
    samples : int
        Those that it speaks of.
    expected : float
        Sum of P(wrong), corrected by the checks.
    low, high : float
        95 % interval; without checks 0 and the bound.
    checks, wrong_checks : int
        Random checks that it rests on, and those found wrong.
    """

    samples: int
    expected: float
    low: float
    high: float
    checks: int = 0
    wrong_checks: int = 0


def at_most(p_wrong: npt.NDArray[np.floating], structure: float = 0.0) -> NumberWrong:
    """Return the bound that features alone allow.

    Parameters
    ----------
    p_wrong : ndarray, shape (n,)
        P(given label wrong).
    structure : float
        Of the mistakes, as fitted (`labeltui.noise.likelihood.NoiseFit`).
    """
    total = float(np.sum(p_wrong, dtype=np.float64))
    n = len(p_wrong)
    bound = total * (AT_MOST + HIDDEN * total / max(n, 1) + ALIKE * max(0.0, structure - STRUCTURES[0]))
    return NumberWrong(n, total, 0.0, min(float(n), bound))


def check_strata(p_wrong: npt.NDArray[np.floating]) -> npt.NDArray[np.int8]:
    """Return each sample's stratum 0..STRATA-1, by ascending P(wrong), each with as much uncertainty as the others.

    Parameters
    ----------
    p_wrong : ndarray, shape (n,)

    Returns
    -------
    ndarray of int8, shape (n,)
    """
    p = _inside(p_wrong)
    order = np.argsort(p, kind="stable")
    mass = np.cumsum(np.sqrt(p * (1.0 - p))[order])
    strata = np.empty(len(p), dtype=np.int8)
    if len(p):
        strata[order] = np.minimum((mass / mass[-1] * STRATA).astype(np.int8), STRATA - 1)
    return strata


def check_keys(
    p_wrong: npt.NDArray[np.floating], strata: npt.NDArray[np.int8], uniform: npt.NDArray[np.floating]
) -> Floats:
    """Return keys by whose ascending order samples are to be checked; any beginning of it is well allocated.

    Parameters
    ----------
    p_wrong : ndarray, shape (n,)
    strata : ndarray of int8, shape (n,)
        From `check_strata`.
    uniform : ndarray, shape (n,)
        Seeded random numbers in 0..1, independent of everything.

    Returns
    -------
    ndarray of float64, shape (n,)
        Inside a stratum they ascend as `uniform` does. The order of any subset is good for that subset.
    """
    p = _inside(p_wrong)
    size = np.bincount(strata, minlength=STRATA)
    spread = np.bincount(strata, weights=np.sqrt(p * (1.0 - p)), minlength=STRATA)
    best = spread / max(float(spread.sum()), 1e-12)
    fraction = _EVEN * size / max(len(p), 1) + (1.0 - _EVEN) * best
    rate = fraction / np.maximum(size, 1)
    return np.asarray(uniform / np.maximum(rate, 1e-12)[strata])


def number_wrong(
    p_wrong: npt.NDArray[np.floating], strata: npt.NDArray[np.int8], wrong: npt.NDArray[np.int8]
) -> NumberWrong:
    """Return the number of wrong labels with its interval.

    Parameters
    ----------
    p_wrong : ndarray, shape (n,)
    strata : ndarray of int8, shape (n,)
    wrong : ndarray of int8, shape (n,)
        Of the samples checked at random 1 = wrong, 0 = right; -1 = of no other use here. The checked samples of each
        stratum must be a random sample of it.

    Returns
    -------
    NumberWrong
    """
    p = _inside(p_wrong)
    known = wrong >= 0
    size = np.bincount(strata, minlength=STRATA)
    prior = np.bincount(strata, weights=p, minlength=STRATA) / np.maximum(size, 1)
    prior += DOUBT * (0.5 - prior)
    checks = np.bincount(strata[known], minlength=STRATA)
    found = np.bincount(strata[known], weights=wrong[known], minlength=STRATA)
    rng = np.random.default_rng(0)  # the same checks always give the same interval
    left = size - checks
    total = np.full(_DRAWS, float(found.sum()))
    expected = float(found.sum())
    for h in np.flatnonzero(left):
        a = PRIOR_CHECKS * prior[h] + found[h]
        b = PRIOR_CHECKS * (1.0 - prior[h]) + checks[h] - found[h]
        total += rng.binomial(left[h], rng.beta(a, b, _DRAWS))  # as many as are left, not a fraction of them
        expected += left[h] * a / (a + b)
    low, high = np.quantile(total, _QUANTILES)
    return NumberWrong(len(p), expected, float(low), float(high), int(known.sum()), int(found.sum()))


def _inside(p: npt.NDArray[np.floating]) -> Floats:
    return np.clip(np.asarray(p, dtype=np.float64), 1e-6, 1.0 - 1e-6)
