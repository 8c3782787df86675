"""Numbers of samples, flags and decisions, by class: counted once, then kept up to date."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labeltui.audit.decisions import EXCLUDE, KINDS, DecisionLog

Counts = NDArray[np.int64]


class Counter:
    """Counts of an audit; `follow` keeps them up to date.

    Parameters
    ----------
    given, current : ndarray of int32, shape (N,)
        Labels, -1 = none.
    flagged : ndarray of bool, shape (N,)
    log : DecisionLog
    n_classes : int

    Attributes
    ----------
    flagged, left : ndarray of int64, shape (K,)
        Flagged samples by given label; those of them that are undecided.
    reviewed : ndarray of int64, shape (K,)
        Decided samples by given label.
    samples : ndarray of int64, shape (K,)
        Samples by current label, without excluded ones.
    kinds : ndarray of int64
        Samples by kind of decision; 0 = undecided.
    """

    def __init__(
        self,
        given: NDArray[np.int32],
        current: NDArray[np.int32],
        flagged: NDArray[np.bool_],
        log: DecisionLog,
        n_classes: int,
    ) -> None:
        self._given, self._is_flagged = given, flagged
        self.flagged: Counts = np.bincount(given[flagged], minlength=n_classes)
        decided = log.decided  # most samples have no decision: no pass over all
        labelled = decided[given[decided] >= 0]
        self.reviewed: Counts = np.bincount(given[labelled], minlength=n_classes)
        self.left: Counts = self.flagged - np.bincount(given[decided[flagged[decided]]], minlength=n_classes)
        self.samples: Counts = np.bincount(current + np.int32(1), minlength=n_classes + 1)[1:]
        excluded = decided[log.kind[decided] == EXCLUDE]
        excluded = excluded[current[excluded] >= 0]
        self.samples -= np.bincount(current[excluded], minlength=n_classes)
        self.kinds: Counts = np.bincount(log.kind[decided], minlength=len(KINDS))
        self.kinds[0] = len(given) - len(decided)

    def follow(
        self,
        samples: NDArray[np.int64],
        kinds: tuple[NDArray[np.int8], NDArray[np.int8]],
        labels: tuple[NDArray[np.int32], NDArray[np.int32]],
    ) -> None:
        """Update the counts for distinct samples.

        Parameters
        ----------
        samples : ndarray of int64, shape (m,)
        kinds : pair of ndarray of int8, shape (m,)
            Kind of decision before and after.
        labels : pair of ndarray of int32, shape (m,)
            Current label before and after, -1 for excluded samples.
        """
        before, after = kinds
        np.add.at(self.kinds, after, 1)
        np.subtract.at(self.kinds, before, 1)
        step = (after != 0).astype(np.int64) - (before != 0)
        given, flagged = self._given[samples], self._is_flagged[samples]
        labelled = given >= 0
        np.add.at(self.reviewed, given[labelled], step[labelled])
        np.subtract.at(self.left, given[flagged], step[flagged])
        was, now = labels
        np.subtract.at(self.samples, was[was >= 0], 1)
        np.add.at(self.samples, now[now >= 0], 1)
