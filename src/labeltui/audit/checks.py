"""Random checks of an audit: which samples, in which order, and what they say of the number of wrong labels.

The order is fixed by the scan: strata of its P(wrong) and a random number for each sample (`labeltui.noise.checked`).
Later generations change neither, so what was checked before a training run counts after it. The longest beginning of
the order whose samples were all looked at is, inside each stratum, a simple random sample, whatever was decided
besides; it needs no record of its own and survives restarts. A decision in bulk is no look.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labeltui.audit.queue import Index, mixed
from labeltui.noise.checked import NumberWrong, at_most, check_keys, check_strata, number_wrong

SEED = 1905


class CheckPlan(NamedTuple):
    """Which samples are to be checked.

    Attributes
    ----------
    p_wrong : (N,) float64
        P(given label wrong) by the scan.
    strata : (N,) int8
    keys : (N,) float64
        Checks come in ascending order; infinite where the label cannot be judged.
    """

    p_wrong: NDArray[np.float64]
    strata: NDArray[np.int8]
    keys: NDArray[np.float64]

    @classmethod
    def of(cls, scores: NDArray[np.float32], scorable: NDArray[np.bool_]) -> CheckPlan:
        """Plan the checks by the scan's P(given label right), (N,), and by which labels can be judged, (N,)."""
        p = 1.0 - np.asarray(scores, dtype=np.float64)
        samples = np.flatnonzero(scorable)
        strata, keys = np.zeros(len(p), np.int8), np.full(len(p), np.inf)
        strata[samples] = check_strata(p[samples])
        keys[samples] = check_keys(p[samples], strata[samples], mixed(samples, SEED))
        return cls(p, strata, keys)

    def order(self, samples: Index) -> Index:
        """Return those of ascending `samples` that can be checked, in the order of checking."""
        able = samples[np.isfinite(self.keys[samples])]
        return able[np.argsort(self.keys[able], kind="stable")]

    def beginning(self, order: Index, looked: NDArray[np.bool_]) -> Index:
        """Return the longest beginning of an `order` of which all samples were `looked` at, (N,)."""
        seen = looked[order]
        return order if seen.all() else order[: int(np.argmin(seen))]

    def number_wrong(
        self,
        order: Index,
        verdict: NDArray[np.int8],
        looked: NDArray[np.bool_],
        scores: NDArray[np.float32],
        structure: float,
    ) -> NumberWrong:
        """Return how many of the samples of an `order` have a wrong given label.

        Parameters
        ----------
        order : (m,) int64
            From `order`.
        verdict : (N,) int8
            1 = a person found the given label right, 0 = wrong, -1 = neither.
        looked : (N,) bool
            Whether a person looked at the sample and decided.
        scores : (N,) float32
            P(given label right) now, for the bound while nothing is checked.
        structure : float
            See `labeltui.noise.checked.at_most`.
        """
        checked = self.beginning(order, looked)
        checked = checked[verdict[checked] >= 0]
        if not len(checked):
            return at_most(1.0 - scores[order], structure)
        wrong = np.full(len(self.keys), -1, np.int8)
        wrong[checked] = 1 - verdict[checked]
        return number_wrong(self.p_wrong[order], self.strata[order], wrong[order])
