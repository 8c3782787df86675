"""Figures of a study: means over seeds with intervals, paired differences, fractions of a gap."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from labeltui.train.compare import t_interval

LEAST_GAP = 0.04
"""Gap of accuracy between corrected and noisy labels below which no fraction of it is stated: it drowns in the noise of
the test."""


@dataclass(frozen=True)
class Figure:
    """A mean over seeds.

    Attributes
    ----------
    key : dict
        The parameters that the values share.
    mean, low, high : float
        With Student's 95 % interval over seeds; the mean itself for one seed.
    n : int
        Seeds.
    more : dict
        Other values of the first of the cells.
    """

    key: Mapping[str, Any]
    mean: float
    low: float
    high: float
    n: int
    more: Mapping[str, Any]


def mean_of(values: Sequence[float]) -> tuple[float, float, float]:
    """Return a mean and Student's 95 % interval; the mean thrice for one value."""
    found = np.asarray(values, dtype=np.float64)
    mean = float(found.mean())
    low, high = t_interval(found) if len(found) > 1 else (mean, mean)
    return mean, low, high


def figures(
    cells: Iterable[Mapping[str, Any]], keys: Sequence[str], measure: str = "accuracy"
) -> list[Figure]:
    """Average a measure over the cells that agree in `keys`, in the order in which they first occur.

    Parameters
    ----------
    cells : iterable of mappings
        ``cell`` and ``result``; those without the measure are left out.
    keys : sequence of str
    measure : str
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for each in cells:
        if measure in each["result"]:
            groups.setdefault(tuple(each["cell"][key] for key in keys), []).append(each)
    return [
        Figure(
            dict(zip(keys, values, strict=True)),
            *mean_of([each["result"][measure] for each in group]),
            len(group),
            group[0]["result"],
        )
        for values, group in groups.items()
    ]


@dataclass(frozen=True)
class Fraction:
    """Which fraction of the oracle's gap in accuracy a correction closes, paired over seeds.

    Attributes
    ----------
    gap : float
        Oracle minus noisy.
    gain : float
        The correction minus noisy.
    value, low, high : float or None
        gain / gap with a 95 % interval by Fieller's theorem; None where the gap is below `LEAST_GAP`. The interval is
        None with one seed, or where the gap is not clear of 0.
    n : int
        Seeds.
    """

    gap: float
    gain: float
    value: float | None
    low: float | None
    high: float | None
    n: int


def fraction_of_gap(noisy: Sequence[float], corrected: Sequence[float], oracle: Sequence[float]) -> Fraction:
    """Compare a correction with the oracle's.

    Parameters
    ----------
    noisy, corrected, oracle : sequence of float
        Accuracy by seed, in the same order.
    """
    gain = np.asarray(corrected, dtype=np.float64) - np.asarray(noisy, dtype=np.float64)
    gap = np.asarray(oracle, dtype=np.float64) - np.asarray(noisy, dtype=np.float64)
    n, a, b = len(gap), float(gain.mean()), float(gap.mean())
    if b < LEAST_GAP:
        return Fraction(b, a, None, None, None, n)
    if n < 2:
        return Fraction(b, a, a / b, None, None, n)
    from scipy.special import stdtrit  # slow to import

    cov = np.cov(gain, gap) / n * float(stdtrit(n - 1, 0.975)) ** 2
    g = cov[1, 1] / b**2
    if g >= 1:
        return Fraction(b, a, a / b, None, None, n)
    ratio = a / b
    centre = (ratio - g * (cov[0, 1] / cov[1, 1] if cov[1, 1] > 0 else 0.0)) / (1 - g)
    inner = cov[0, 0] - 2 * ratio * cov[0, 1] + ratio**2 * cov[1, 1]
    inner -= g * (cov[0, 0] - (cov[0, 1] ** 2 / cov[1, 1] if cov[1, 1] > 0 else 0.0))
    half = math.sqrt(max(0.0, inner)) / b / (1 - g)
    return Fraction(b, a, ratio, centre - half, centre + half, n)


def needed_samples(found: Iterable[Figure], target: float) -> tuple[list[tuple[int, float]], float | None]:
    """Return how many clean samples each alpha needs to reach an accuracy, and R^2 of a straight line through them.

    Parameters
    ----------
    found : iterable of Figure
        With ``alpha`` and ``fraction`` as keys and ``clean_samples`` beside them.
    target : float
        Accuracy.

    Returns
    -------
    needed : list of (alpha, samples)
        Interpolated in the logarithm of the number; those alphas that reach the target between two sizes.
    r2 : float or None
        None with fewer than three alphas.
    """
    curves: dict[int, list[tuple[float, float]]] = {}
    for each in found:
        curves.setdefault(each.key["alpha"], []).append((float(each.more["clean_samples"]), each.mean))
    needed = []
    for alpha, points in sorted(curves.items()):
        points.sort()
        for (n0, a0), (n1, a1) in pairwise(points):
            if a0 < target <= a1:
                part = (target - a0) / (a1 - a0)
                needed.append((alpha, math.exp(math.log(n0) + part * math.log(n1 / n0))))
                break
    if len(needed) < 3:
        return needed, None
    x, y = np.array(needed, dtype=np.float64).T
    residual = y - np.polyval(np.polyfit(x, y, 1), x)
    return needed, float(1.0 - (residual**2).sum() / ((y - y.mean()) ** 2).sum())
