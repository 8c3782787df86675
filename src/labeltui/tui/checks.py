"""When to stop: random checks mixed into the queue, and what they and the decided flags say of the errors left.

Two strata of the samples that a queue speaks of (a class, or all):

* *flags*: decided in the queue's order. The share found wrong so far is the precision of flags here. Worse ones come
  first, so for those left it rather overstates.
* *the rest*, which nobody would look at: every `EVERY`-th place of the queue holds one of them, drawn in an order that
  is fixed by the seed. The longest decided beginning of that order is a simple random sample, whatever was decided
  besides; it needs no record of its own, and survives restarts.

Each stratum's share has an exact (Clopper-Pearson) interval at 97.5 %, so that both hold together at 95 % or more
(Bonferroni); errors left are the shares times the samples left, and their bounds the sums of the bounds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labeltui.audit import KINDS

if TYPE_CHECKING:
    from labeltui.audit import Audit, QueueSpec

EVERY = 10
"""Each so many places of the queue one is a random check."""
SEED = 1905
WRONG = ("relabel", "exclude")
RIGHT = ("keep",)


@dataclass(frozen=True)
class Estimate:
    """What is known of the errors left.

    Attributes
    ----------
    flags, wrong_flags : int
        Flags decided as right or wrong, and those decided as wrong.
    precision : (float, float, float) or None
        Share of wrong ones among decided flags, with its 95 % interval.
    checks, wrong_checks : int
        Random checks decided, and those found wrong.
    errors_left : (float, float, float) or None
        Estimate and 95 % interval; None before the first check.
    """

    flags: int
    wrong_flags: int
    precision: tuple[float, float, float] | None
    checks: int
    wrong_checks: int
    errors_left: tuple[float, float, float] | None


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
        self._kept: dict[tuple[object, ...], tuple[NDArray[np.int64], NDArray[np.int64]]] = {}

    def applies(self, spec: QueueSpec) -> bool:
        """Whether checks can be mixed into this kind of queue: undecided flags."""
        return bool(spec.flagged) and spec.decided is False and spec.decision is None

    def strata(self, spec: QueueSpec) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the flagged samples of the class (or all) of a queue, and the rest in the checks' order.

        Sorting a million samples takes a tenth of a second; the last strata are kept.
        """
        key = (self._audit.generation, spec.given, spec.split, spec.text)
        if key not in self._kept:
            from labeltui.audit import QueueSpec

            whole = QueueSpec(
                given=spec.given, split=spec.split, text=spec.text, decided=None, unusable=False
            )
            flags = self._audit.queue(replace(whole, order="index"))
            rest = self._audit.queue(replace(whole, flagged=False, order="random", seed=SEED))
            while len(self._kept) > 7:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = flags, rest
        return self._kept[key]

    def mix(self, queue: NDArray[np.int64], spec: QueueSpec) -> NDArray[np.int64]:
        """Insert the next random checks into a queue, one at every `EVERY`-th position.

        Parameters
        ----------
        queue : ndarray of int64
            Samples in order.
        spec : QueueSpec
            Of the queue.

        Returns
        -------
        ndarray of int64
        """
        if not self.on or not self.applies(spec) or not len(queue):
            return queue
        rest = self.strata(spec)[1]
        wanted = len(queue) // (EVERY - 1) + 1
        coming = rest[np.flatnonzero(self._audit.kinds[rest] == 0)[:wanted]]
        places = np.minimum(np.arange(len(coming)) * (EVERY - 1) + EVERY // 2, len(queue))
        mixed: NDArray[np.int64] = np.insert(queue, places, coming)
        return mixed

    def estimate(self, spec: QueueSpec) -> Estimate:
        """Say what is known of the samples that `spec` speaks of."""
        flags, rest = self.strata(spec)
        kinds = self._audit.kinds
        counts = np.bincount(kinds[flags], minlength=len(KINDS))
        wrong = int(sum(counts[KINDS.index(kind)] for kind in WRONG))
        known = wrong + int(sum(counts[KINDS.index(kind)] for kind in RIGHT))
        states = kinds[rest]
        undecided = int(np.count_nonzero(states == 0))
        beginning = states[: int(np.argmax(states == 0))] if undecided else states
        found = np.bincount(beginning, minlength=len(KINDS))
        wrong_checks = int(sum(found[KINDS.index(kind)] for kind in WRONG))
        checks = wrong_checks + int(sum(found[KINDS.index(kind)] for kind in RIGHT))
        precision = (wrong / known, *clopper_pearson(wrong, known)) if known else None
        errors = None
        if checks:
            left = int(counts[0])
            flag_share = wrong / known if known else 0.5
            flag_low, flag_high = clopper_pearson(wrong, known, 0.975)
            low, high = clopper_pearson(wrong_checks, checks, 0.975)
            errors = (
                left * flag_share + undecided * wrong_checks / checks,
                left * flag_low + undecided * low,
                left * flag_high + undecided * high,
            )
        return Estimate(known, wrong, precision, checks, wrong_checks, errors)
