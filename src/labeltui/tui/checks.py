"""When to stop: random checks, and what they say of the errors left.

While checks are on, the queue holds the next samples in the audit's order of checks (`labeltui.audit.checks`) and no
others, flagged or not. All of them are shown alike, without score, suggestion or evidence, until they are decided: what
detectors say would sway the answer. Mixed with flags, which show all that, they could be told by what they lack.

They give the number of wrong labels with its interval. Errors left are that number without the wrong labels that were
looked at. The precision of flags is that of the checks among flags, with its exact (Clopper-Pearson) interval: flags
that were decided worst first overstate it, and suggestions accepted in bulk say nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from labeltui.audit import Audit, QueueSpec
    from labeltui.noise.checked import NumberWrong

AT_A_TIME = 50
"""Checks in a queue; they are drawn again when it is opened again."""


class Estimate(NamedTuple):
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
        Whether queues hold checks instead of flags.
    """

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self.on = False
        self._kept: dict[tuple[object, ...], NDArray[np.int64]] = {}

    def applies(self, spec: QueueSpec) -> bool:
        """Whether checks can take the place of this kind of queue: undecided flags."""
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

    def queue(self, spec: QueueSpec) -> NDArray[np.int64]:
        """Return the next checks of the class, split and names that `spec` lets pass.

        What it asks of suggestions and scores is passed over: the queue would tell what detectors say.

        Returns
        -------
        ndarray of int64, shape (m,)
            At most `AT_A_TIME`.
        """
        order = self.samples(spec)
        return order[np.flatnonzero(~self._audit.looked[order])[:AT_A_TIME]]

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
