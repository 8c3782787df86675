"""When to stop: random checks mixed into the queue, and what they say of the errors left.

Every `EVERY`-th place of a queue of flags holds the next sample in the audit's order of checks
(`labeltui.audit.checks`), flagged or not, shown without anything that tells it from the others; an empty queue holds
checks alone. They give the number of wrong labels with its interval. Errors left are that number without the wrong
labels that were looked at. The precision of flags is that of the checks among flags, with its exact (Clopper-Pearson)
interval: flags that were decided worst first overstate it, and suggestions accepted in bulk say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from labeltui.audit import Audit, QueueSpec
    from labeltui.noise.checked import NumberWrong

EVERY = 10
"""Each so many places of the queue one is a random check."""
ALONE = 50
"""Checks at a time where no flag is left."""


@dataclass(frozen=True)
class Estimate:
    """What is known of the errors left.

    Attributes
    ----------
    wrong : NumberWrong
        Wrong given labels, found or not.
    flags, wrong_flags : int
        Checks among flags, and those of them found wrong.
    precision : (float, float, float) or None
        Share of wrong ones among checked flags, with its 95 % interval.
    errors_left : (float, float, float)
        Estimate and 95 % interval; without checks the last is a bound.
    """

    wrong: NumberWrong
    flags: int
    wrong_flags: int
    precision: tuple[float, float, float] | None
    errors_left: tuple[float, float, float]


def clopper_pearson(hits: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact confidence interval of a proportion (Clopper and Pearson, 1934).

    Parameters
    ----------
    hits : int
    trials : int
    confidence : float
        0..1.

    Returns
    -------
    low, high : float
    """
    if trials == 0:
        return 0.0, 1.0
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else float(betaincinv(hits, trials - hits + 1, tail))
    high = 1.0 if hits == trials else float(betaincinv(hits + 1, trials - hits, 1 - tail))
    return low, high


class Checks:
    """Random checks of one audit.

    Attributes
    ----------
    on : bool
        Whether they are mixed into queues.
    """

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self.on = False
        self._kept: dict[tuple[object, ...], NDArray[np.int64]] = {}

    def applies(self, spec: QueueSpec) -> bool:
        """Whether checks can be mixed into this kind of queue: undecided flags."""
        return bool(spec.flagged) and spec.decided is False and spec.decision is None

    def samples(self, spec: QueueSpec) -> NDArray[np.int64]:
        """Return the samples that a queue speaks of (its class, or all), in the order of checks.

        Sorting a million samples takes a tenth of a second; the last ones are kept.
        """
        key = (spec.given, spec.split, spec.text)
        if key not in self._kept:
            from labeltui.audit import QueueSpec

            whole = QueueSpec(given=spec.given, split=spec.split, text=spec.text, decided=None, flagged=None)
            members = np.sort(self._audit.queue(replace(whole, order="index")))
            while len(self._kept) > 7:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = self._audit.check_plan.order(members)
        return self._kept[key]

    def mix(self, queue: NDArray[np.int64], spec: QueueSpec) -> tuple[NDArray[np.int64], frozenset[int]]:
        """Put the next random checks into a queue, one at every `EVERY`-th place.

        Returns
        -------
        queue : ndarray of int64
            A check that is a flag of the queue stands at the check's place only.
        checks : frozenset of int
            The samples that stand in it as checks.
        """
        if not self.on or not self.applies(spec):
            return queue, frozenset()
        order = self.samples(spec)
        wanted = len(queue) // (EVERY - 1) + 1 if len(queue) else ALONE
        coming = order[np.flatnonzero(~self._audit.looked[order])[:wanted]]
        queue = queue[~np.isin(queue, coming)]
        places = np.minimum(np.arange(len(coming)) * (EVERY - 1) + EVERY // 2, len(queue))
        mixed: NDArray[np.int64] = np.insert(queue, places, coming)
        return mixed, frozenset(coming.tolist())

    def estimate(self, spec: QueueSpec) -> Estimate:
        """Say what is known of the samples that `spec` speaks of."""
        audit = self._audit
        order = self.samples(spec)
        verdict = audit.checked
        checked = audit.check_plan.beginning(order, audit.looked)
        flags = checked[audit.flags[checked] & (verdict[checked] >= 0)]
        hits = int(np.count_nonzero(verdict[flags] == 0))
        wrong = audit.number_wrong(order)
        found = int(np.count_nonzero(verdict[order] == 0))
        return Estimate(
            wrong,
            len(flags),
            hits,
            (hits / len(flags), *clopper_pearson(hits, len(flags))) if len(flags) else None,
            (
                max(0.0, wrong.expected - found),
                max(0.0, wrong.low - found),
                max(0.0, wrong.high - found),
            ),
        )
