"""Run-level features: rank, class difficulty, pairwise confusion.

A curve alone does not distinguish a hard sample from a wrong label. The whole run does in part: a hard class gets
little probability even where its label is correct, and labels confused in one direction only are more often wrong
than hard. Both are measured as in the confident joint (Northcutt et al., JAIR 2021, eq. 1): the level of a class is
the mean probability of the class over its own samples, and a sample counts for its rival if it gives the rival at
least the rival's level.

=================  ===========================================================================================
feature            p are means over the epochs; the rival is the other class that was most often on top
=================  ===========================================================================================
aum_rank           rank of the AUM among all samples, as a normal score
aum_rank_in_class  ... among those of its label, shrunk toward the rank among all
label_logit        log-odds of p of the label, minus those of the label's level
rival_logit        log-odds of p of the rival while on top, minus those of the rival's level
confusion          log fraction of the label's samples that count for the rival
reverse_confusion  log fraction of the rival's samples that count for the label
label_rate         log fraction of the label's samples that count for any other class
rival_rate         ... of the rival's
label_level        log-odds of the label's level
rival_level        ... of the rival's level
=================  ===========================================================================================
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import logit, ndtri

from labeltui.detect.base import Floats, Mask
from labeltui.detect.dynamics.statistics import aum, mean_confidence
from labeltui.head import Dynamics

FEATURES = (
    "aum_rank",
    "aum_rank_in_class",
    "label_logit",
    "rival_logit",
    "confusion",
    "reverse_confusion",
    "label_rate",
    "rival_rate",
    "label_level",
    "rival_level",
)
_BLOCK = 8192
_PRIOR_COUNT = 4.0  # pseudo-count of the overall mean in each class mean
_PAIR_PRIOR = 0.5  # pseudo-count of each pair

Doubles = npt.NDArray[np.float64]


class RunFeatures:
    """Compute the features of a record.

    Parameters
    ----------
    record : Dynamics
    n_classes : int
    known : ndarray of bool, shape (E, N)
        From `statistics.recorded`.

    Attributes
    ----------
    rival : ndarray of int32, shape (N,)
        The other class most often on top; -1 = none.
    facts : ndarray of float32, shape (N, 10)
        In the order of `FEATURES`, about -3..3; 0 for samples without a record.
    """

    def __init__(self, record: Dynamics, n_classes: int, known: Mask) -> None:
        n = len(record.labels)
        rows = np.flatnonzero(known.any(axis=0))
        self.rival: npt.NDArray[np.int32] = np.full(n, -1, dtype=np.int32)
        other = np.zeros(n)
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            self.rival[block], other[block] = _rivals(record, known, block, n_classes)
        self.features: Floats = np.zeros((n, len(FEATURES)), dtype=np.float32)
        if len(rows):
            self.features[rows] = _features(
                record.labels[rows].astype(np.int64),
                self.rival[rows].astype(np.int64),
                aum(record)[rows],
                mean_confidence(record)[rows].astype(np.float64),
                other[rows],
                n_classes,
            )


def _features(
    labels: npt.NDArray[np.int64],
    rival: npt.NDArray[np.int64],
    margins: Floats,
    own: Doubles,
    other: Doubles,
    n_classes: int,
) -> Doubles:
    """Features (n, 10) from labels, rivals, AUM, and mean probabilities of both."""
    place = _ranks(margins)
    size = np.bincount(labels, minlength=n_classes)
    class_mean = (np.bincount(labels, own, minlength=n_classes) + _PRIOR_COUNT * own.mean()) / (
        size + _PRIOR_COUNT
    )
    rivals = np.where(rival < 0, labels, rival)  # without a rival: its own class, which is never counted
    counts = (rival >= 0) & (other >= class_mean[rivals])
    fraction = np.bincount(labels[counts], minlength=n_classes) + _PRIOR_COUNT * counts.mean()
    rate = np.log(fraction / (size + _PRIOR_COUNT) + 0.01)
    # Observed pairs as one number each; a K x K table would be too large for many classes.
    pairs, times = np.unique(labels[counts] * n_classes + rivals[counts], return_counts=True)
    there = _lookup(pairs, times, labels * n_classes + rivals) + _PAIR_PRIOR
    back = _lookup(pairs, times, rivals * n_classes + labels) + _PAIR_PRIOR
    levels = _log_odds(class_mean)
    return np.stack(
        [
            ndtri(np.clip(place, 1e-4, 1.0 - 1e-4)),
            ndtri(np.clip(_ranks_in_class(place, labels), 1e-4, 1.0 - 1e-4)),
            (_log_odds(own) - levels[labels]) / 3.0,
            (_log_odds(other) - levels[rivals]) / 3.0,
            np.log(there / (size[labels] + _PRIOR_COUNT)) / 3.0 + 1.0,
            np.log(back / (size[rivals] + _PRIOR_COUNT)) / 3.0 + 1.0,
            rate[labels] / 2.0 + 1.0,
            rate[rivals] / 2.0 + 1.0,
            levels[labels] / 2.0,
            levels[rivals] / 2.0,
        ],
        axis=1,
    )


def _log_odds(p: Doubles) -> Doubles:
    """Log-odds of p clipped to 1e-4..1 - 1e-4."""
    return np.asarray(logit(np.clip(p, 1e-4, 1.0 - 1e-4)))


def _rivals(
    record: Dynamics, known: Mask, rows: npt.NDArray[np.int64], n_classes: int
) -> tuple[npt.NDArray[np.int32], Doubles]:
    """Rival of the samples `rows`, and its mean probability over the recorded epochs (0 where not on top)."""
    top = record.top[:, rows].astype(np.int64)
    epoch, sample = np.nonzero(known[:, rows] & (top != record.labels[rows]))
    p = record.top_p[epoch, rows[sample]].astype(np.float64)
    code, which, times = np.unique(
        sample * n_classes + top[epoch, sample], return_inverse=True, return_counts=True
    )
    total = np.bincount(which, p, minlength=len(code))
    sample, other = np.divmod(code, n_classes)
    order = np.lexsort((-other, times, sample))  # ties: the lower class index
    chosen = order[np.flatnonzero(np.diff(sample[order], append=-1))]
    rival = np.full(len(rows), -1, dtype=np.int32)
    rival[sample[chosen]] = other[chosen]
    mean = np.zeros(len(rows))
    mean[sample[chosen]] = total[chosen] / known[:, rows].sum(axis=0)[sample[chosen]]
    return rival, mean


def _ranks(values: Floats) -> Doubles:
    """Rank of each value among all, 0..1."""
    order = np.argsort(values, kind="stable")
    place = np.empty(len(values))
    place[order] = (np.arange(len(values)) + 0.5) / len(values)
    return place


def _ranks_in_class(place: Doubles, labels: npt.NDArray[np.int64]) -> Doubles:
    """Rank of each sample among those of its label, 0..1."""
    order = np.lexsort((place, labels))
    size = np.bincount(labels)
    first = np.cumsum(size) - size
    own = np.empty(len(labels))
    own[order] = np.arange(len(labels)) - first[labels[order]] + 0.5
    return np.asarray((own + _PRIOR_COUNT * place) / (size[labels] + _PRIOR_COUNT))


def _lookup(
    pairs: npt.NDArray[np.int64], times: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Counts of the requested pairs; 0 for pairs not observed."""
    if not len(pairs):
        return np.zeros(len(wanted), dtype=np.int64)
    at = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
    return np.where(pairs[at] == wanted, times[at], 0)
