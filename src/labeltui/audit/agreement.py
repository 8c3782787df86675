"""How far reviewers agree beyond chance: Cohen's kappa for two, Fleiss' kappa for more, with bootstrap intervals.

What counts is what was decided of a sample: its label, or that it belongs to no class. Unsure and skip are no
decisions.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from labeltui.audit.views import Opinion

DRAWS = 1000
DEFINITE = ("keep", "relabel", "ambiguous", "exclude")


@dataclass(frozen=True)
class Agreement:
    """Agreement of some reviewers on the samples that all of them decided.

    Attributes
    ----------
    reviewers : tuple of str
    samples : int
    observed : float
        Fraction of pairs of decisions that are the same.
    kappa : float
        1 = always, 0 = as often as by chance; NaN where chance alone would agree always.
    low, high : float
        95 % bootstrap interval over samples; NaN below two samples.
    """

    reviewers: tuple[str, ...]
    samples: int
    observed: float
    kappa: float
    low: float
    high: float

    @property
    def name(self) -> str:
        """Cohen's or Fleiss'."""
        return "Cohen's kappa" if len(self.reviewers) == 2 else "Fleiss' kappa"

    @property
    def known(self) -> bool:
        """Whether kappa has an interval: not of one sample, nor where all say one thing."""
        return not np.isnan(self.low)


def agreements(opinions: Iterable[Opinion], seed: int = 0) -> list[Agreement]:
    """Measure the agreement of each pair of reviewers, and of all together where there are more than two.

    Parameters
    ----------
    opinions : iterable of Opinion
    seed : int
        Of the bootstrap.

    Returns
    -------
    list of Agreement
        Only of reviewers who decided a sample in common; the pair with most samples first, all together last.
    """
    by: dict[str, dict[int, int]] = {}
    for each in opinions:
        if each.kind in DEFINITE:
            by.setdefault(each.reviewer, {})[each.sample] = -1 if each.kind == "exclude" else each.label
    groups: list[tuple[str, ...]] = [*combinations(sorted(by), 2)]
    if len(by) > 2:
        groups.append(tuple(sorted(by)))
    found = []
    for group in groups:
        common = sorted(set.intersection(*(set(by[name]) for name in group)))
        if common:
            table = np.array([[by[name][sample] for name in group] for sample in common])
            found.append(measure(group, table, seed))
    return sorted(found, key=lambda each: (len(each.reviewers) > 2, -each.samples))


def measure(reviewers: tuple[str, ...], table: NDArray[np.int64], seed: int = 0) -> Agreement:
    """Measure the agreement on a table of decisions.

    Parameters
    ----------
    reviewers : tuple of str
    table : (n, r) int
        What each reviewer decided of each sample.
    seed : int

    Returns
    -------
    Agreement

    References
    ----------
    Cohen, 1960, A coefficient of agreement for nominal scales. Fleiss, 1971, Measuring nominal scale agreement among
    many raters, equations 3 to 7.
    """
    n, raters = table.shape
    _, codes = np.unique(table, return_inverse=True)
    # Samples with the same decisions count together: there are few such patterns, however many samples.
    patterns, times = np.unique(codes.reshape(table.shape), axis=0, return_counts=True)
    said = np.eye(patterns.max() + 1)[patterns]  # (p, r, categories)
    same = ((said.sum(1) ** 2).sum(1) - raters) / (raters * (raters - 1))  # (p,) agreeing pairs of a sample
    draws = np.random.default_rng(seed).multinomial(n, times / n, DRAWS)
    weights = np.vstack([times, draws]) / n  # the first row is the data itself
    observed = weights @ same
    shares = np.einsum("dp,prc->drc", weights, said)  # how often each reviewer says each category
    chance = (shares[:, 0] * shares[:, 1] if raters == 2 else shares.mean(1) ** 2).sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        kappas = np.where(chance < 1, (observed - chance) / (1 - chance), np.nan)
    low = high = np.nan
    if n > 1 and np.isfinite(kappas[1:]).any():
        low, high = np.nanpercentile(kappas[1:], [2.5, 97.5])
    return Agreement(reviewers, n, float(observed[0]), float(kappas[0]), float(low), float(high))
