"""What the other samples of a run say of each one.

A curve alone does not tell a hard sample from a wrong label. The run as a whole does in part: a class that is hard is
given little probability even where its label is right, and labels that are often mixed up in one direction and not in
the other are wrong more often than they are hard. Both are seen as the confident joint does (Northcutt et al., JAIR
2021, eq. 1): the level of a class is the mean probability that its own samples give it, and a sample counts as one of
its rival's where it gives the rival at least that.

============  ================================================================================================
of a sample   its rival is the other class that was on top most often; p are means over the epochs
============  ================================================================================================
standing      where its AUM stands among all samples, as a normal score
in_class      ... among those of its label; a small class leans on all
own           log-odds of p of the label, less those of the label's level
other         log-odds of p of the rival while it was on top, less those of the rival's level
pair          samples of its label that count as its rival's, as a share of the label: logarithm
back          samples of its rival that count as its label's, as a share of the rival: logarithm
label_rate    samples of its label that count as any other's, as a share of the label: logarithm
rival_rate    ... of its rival
label_level   log-odds of its label's level
rival_level   ... of its rival's
============  ================================================================================================
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import logit, ndtri

from labeltui.detect.base import Floats, Mask
from labeltui.detect.dynamics.statistics import aum, mean_confidence
from labeltui.head import Dynamics

FACTS = (
    "standing",
    "in_class",
    "own",
    "other",
    "pair",
    "back",
    "label_rate",
    "rival_rate",
    "label_level",
    "rival_level",
)
_BLOCK = 8192
_LEANS = 4.0  # samples of all classes that a class's own are mixed with
_SEEN = 0.5  # added to each count of a pair

Doubles = npt.NDArray[np.float64]


class Company:
    """Reads a record once.

    Parameters
    ----------
    record : Dynamics
    n_classes : int
    known : ndarray of bool, shape (E, N)
        From `statistics.recorded`.

    Attributes
    ----------
    rival : ndarray of int32, shape (N,)
        The other class that was on top most often; -1 = none was.
    facts : ndarray of float32, shape (N, 10)
        As `FACTS` names them, about -3..3; 0 for samples that were not recorded.
    """

    def __init__(self, record: Dynamics, n_classes: int, known: Mask) -> None:
        n = len(record.labels)
        rows = np.flatnonzero(known.any(axis=0))
        self.rival: npt.NDArray[np.int32] = np.full(n, -1, dtype=np.int32)
        other = np.zeros(n)
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            self.rival[block], other[block] = _rivals(record, known, block, n_classes)
        self.facts: Floats = np.zeros((n, len(FACTS)), dtype=np.float32)
        if len(rows):
            self.facts[rows] = _facts(
                record.labels[rows].astype(np.int64),
                self.rival[rows].astype(np.int64),
                aum(record)[rows],
                mean_confidence(record)[rows].astype(np.float64),
                other[rows],
                n_classes,
            )


def _facts(
    labels: npt.NDArray[np.int64],
    rival: npt.NDArray[np.int64],
    margins: Floats,
    own: Doubles,
    other: Doubles,
    n_classes: int,
) -> Doubles:
    """The facts of samples with these labels, rivals, AUM, and mean probabilities of both, (n, 10)."""
    place = _places(margins)
    size = np.bincount(labels, minlength=n_classes)
    level = (np.bincount(labels, own, minlength=n_classes) + _LEANS * own.mean()) / (size + _LEANS)
    rivals = np.where(rival < 0, labels, rival)  # without one: its own class, which nobody counts as
    counts = (rival >= 0) & (other >= level[rivals])
    share = np.bincount(labels[counts], minlength=n_classes) + _LEANS * counts.mean()
    rate = np.log(share / (size + _LEANS) + 0.01)
    # Pairs that were seen, as one number each: their square would be too many for many classes.
    pairs, times = np.unique(labels[counts] * n_classes + rivals[counts], return_counts=True)
    there = _found(pairs, times, labels * n_classes + rivals) + _SEEN
    back = _found(pairs, times, rivals * n_classes + labels) + _SEEN
    levels = _log_odds(level)
    return np.stack(
        [
            ndtri(np.clip(place, 1e-4, 1.0 - 1e-4)),
            ndtri(np.clip(_places_in_class(place, labels), 1e-4, 1.0 - 1e-4)),
            (_log_odds(own) - levels[labels]) / 3.0,
            (_log_odds(other) - levels[rivals]) / 3.0,
            np.log(there / (size[labels] + _LEANS)) / 3.0 + 1.0,
            np.log(back / (size[rivals] + _LEANS)) / 3.0 + 1.0,
            rate[labels] / 2.0 + 1.0,
            rate[rivals] / 2.0 + 1.0,
            levels[labels] / 2.0,
            levels[rivals] / 2.0,
        ],
        axis=1,
    )


def _log_odds(p: Doubles) -> Doubles:
    """Log-odds, of at least one in ten thousand either way."""
    return np.asarray(logit(np.clip(p, 1e-4, 1.0 - 1e-4)))


def _rivals(
    record: Dynamics, known: Mask, rows: npt.NDArray[np.int64], n_classes: int
) -> tuple[npt.NDArray[np.int32], Doubles]:
    """Of the samples `rows`: the rival, and the mean over the recorded epochs of its probability where on top."""
    top = record.top[:, rows].astype(np.int64)
    epoch, sample = np.nonzero(known[:, rows] & (top != record.labels[rows]))
    p = record.top_p[epoch, rows[sample]].astype(np.float64)
    code, which, times = np.unique(
        sample * n_classes + top[epoch, sample], return_inverse=True, return_counts=True
    )
    total = np.bincount(which, p, minlength=len(code))
    sample, other = np.divmod(code, n_classes)
    order = np.lexsort((-other, times, sample))  # of equal classes the first
    chosen = order[np.flatnonzero(np.diff(sample[order], append=-1))]
    rival = np.full(len(rows), -1, dtype=np.int32)
    rival[sample[chosen]] = other[chosen]
    mean = np.zeros(len(rows))
    mean[sample[chosen]] = total[chosen] / known[:, rows].sum(axis=0)[sample[chosen]]
    return rival, mean


def _places(values: Floats) -> Doubles:
    """Where each value stands among all, from 0 to 1."""
    order = np.argsort(values, kind="stable")
    place = np.empty(len(values))
    place[order] = (np.arange(len(values)) + 0.5) / len(values)
    return place


def _places_in_class(place: Doubles, labels: npt.NDArray[np.int64]) -> Doubles:
    """Where each sample stands among those of its label, from 0 to 1."""
    order = np.lexsort((place, labels))
    size = np.bincount(labels)
    first = np.cumsum(size) - size
    own = np.empty(len(labels))
    own[order] = np.arange(len(labels)) - first[labels[order]] + 0.5
    return np.asarray((own + _LEANS * place) / (size[labels] + _LEANS))


def _found(
    pairs: npt.NDArray[np.int64], times: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """How often the wanted pairs were seen; 0 for those that were not."""
    if not len(pairs):
        return np.zeros(len(wanted), dtype=np.int64)
    at = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    return np.where(pairs[at] == wanted, times[at], 0)
