"""What the other samples of a run say of each one.

A curve alone does not tell a hard sample from a wrong label. The run as a whole does in part: labels that are often
mixed up in one direction and not in the other are wrong more often than they are hard.

=============  ===============================================================================================
of a sample    its rival is the other class that was on top most often, in a share of the epochs
=============  ===============================================================================================
standing       where its AUM stands among all samples, as a normal score
in_class       ... among those of its label; a small class leans on all
pair           the sum of these shares over its label and its rival, as a multiple of that of any other class: logarithm
direction      ... as a multiple of that of the two classes the other way round: logarithm
label_doubt    the mean share over the samples of its label
rival_doubt    ... of its rival's label
=============  ===============================================================================================
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from labeltui.detect.base import Floats, Mask
from labeltui.detect.dynamics.statistics import aum
from labeltui.head import Dynamics

FACTS = ("standing", "in_class", "pair", "direction", "label_doubt", "rival_doubt")
_BLOCK = 8192
_LEANS = 4.0  # samples of all classes that a class's own are mixed with
_SEEN = 1.0  # added to each sum of a pair


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
    facts : ndarray of float32, shape (N, 6)
        As `FACTS` names them, about -3..3; 0 for samples that were not recorded.
    """

    def __init__(self, record: Dynamics, n_classes: int, known: Mask) -> None:
        n = len(record.labels)
        labels = record.labels.astype(np.int64)
        rows = np.flatnonzero(known.any(axis=0))
        self.rival: npt.NDArray[np.int32] = np.full(n, -1, dtype=np.int32)
        share = np.zeros(n)
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            self.rival[block], share[block] = _rivals(record, known, block, n_classes)
        self.facts: Floats = np.zeros((n, len(FACTS)), dtype=np.float32)
        if not len(rows):
            return
        place = _places(aum(record)[rows])
        own = _places_in_class(place, labels[rows])
        self.facts[rows, 0] = ndtri(np.clip(place, 1e-4, 1.0 - 1e-4))
        self.facts[rows, 1] = ndtri(np.clip(own, 1e-4, 1.0 - 1e-4))
        size = np.bincount(labels[rows], minlength=n_classes)
        doubted = np.bincount(labels[rows], share[rows], minlength=n_classes)
        mean = share[rows].mean()
        doubt = (doubted + _LEANS * mean) / (size + _LEANS)
        having = rows[self.rival[rows] >= 0]
        given, rival = labels[having], self.rival[having].astype(np.int64)
        # Pairs that were seen, as one number each: their square would be too many for many classes.
        pairs, which = np.unique(given * n_classes + rival, return_inverse=True)
        sums = np.bincount(which, share[having], minlength=len(pairs)).astype(np.float64)
        there = sums[which] + _SEEN
        back = _found(pairs, sums, rival * n_classes + given) + _SEEN
        alike = doubted[given] / max(n_classes - 1, 1) + _SEEN
        self.facts[having, 2] = np.log(there / alike) / 2.0
        self.facts[having, 3] = np.log(there / back) / 2.0
        self.facts[rows, 4] = 2.0 * doubt[labels[rows]]
        self.facts[rows, 5] = 2.0 * mean
        self.facts[having, 5] = 2.0 * doubt[rival]


def _rivals(
    record: Dynamics, known: Mask, rows: npt.NDArray[np.int64], n_classes: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Of the samples `rows`: the rival, and in which share of the recorded epochs it was on top."""
    top = record.top[:, rows].astype(np.int64)
    epoch, sample = np.nonzero(known[:, rows] & (top != record.labels[rows]))
    code, times = np.unique(sample * n_classes + top[epoch, sample], return_counts=True)
    sample, other = np.divmod(code, n_classes)
    order = np.lexsort((-other, times, sample))  # of equal classes the first
    chosen = order[np.flatnonzero(np.diff(sample[order], append=-1))]
    rival = np.full(len(rows), -1, dtype=np.int32)
    rival[sample[chosen]] = other[chosen]
    share = np.zeros(len(rows))
    share[sample[chosen]] = times[chosen] / known[:, rows].sum(axis=0)[sample[chosen]]
    return rival, share


def _places(values: Floats) -> npt.NDArray[np.float64]:
    """Where each value stands among all, from 0 to 1."""
    order = np.argsort(values, kind="stable")
    place = np.empty(len(values))
    place[order] = (np.arange(len(values)) + 0.5) / len(values)
    return place


def _places_in_class(
    place: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Where each sample stands among those of its label, from 0 to 1."""
    order = np.lexsort((place, labels))
    size = np.bincount(labels)
    first = np.cumsum(size) - size
    own = np.empty(len(labels))
    own[order] = np.arange(len(labels)) - first[labels[order]] + 0.5
    return np.asarray((own + _LEANS * place) / (size[labels] + _LEANS))


def _found(
    pairs: npt.NDArray[np.int64], sums: npt.NDArray[np.float64], wanted: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """The sums of the wanted pairs; 0 for those that were not seen."""
    if not len(pairs):
        return np.zeros(len(wanted))
    at = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    return np.where(pairs[at] == wanted, sums[at], 0.0)
