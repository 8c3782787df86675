"""Estimating the transition matrix T, T_ij = P(given label j | right label i), without any right label.

Two ways, neither of which sees the truth:

`anchors`
    Among the samples that look most like class i, the labels they were given (Patrini et al., CVPR 2017,
    section 4.1, with the mean over many anchors instead of one probability). Right where noise does not
    depend on how hard an image is; on human labels somewhat low, since the clearest images are labelled
    best.
`confident_joint`
    Counts of (given label, class whose probability exceeds its own threshold) (Northcutt et al., JAIR 2021).
    Mistakes of the model count as noise: on human labels an upper bound.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from labeltui.noise._validation import Floats, Labels, checked, require

Block = tuple[int, npt.NDArray[np.float32]]


class Anchors:
    """Finds, block by block, the samples that look most like each class.

    Parameters
    ----------
    labels : ndarray of int32, shape (N,)
        -1 = none; such samples are no anchors.
    n_classes : int
    share : float
        Anchors of a class, as a share of the samples labelled so; at least 5 (or all that the class has).
    """

    def __init__(self, labels: Labels, n_classes: int, share: float = 0.2) -> None:
        require(0.0 < share <= 1.0, "the share of anchors must be in 0..1, above 0", share)
        self.labels = labels
        size = np.bincount(labels[labels >= 0], minlength=n_classes)
        self.wanted = np.maximum(np.ceil(share * size).astype(np.int64), np.minimum(size, 5))
        self._p: list[Floats] = [np.zeros(0) for _ in range(n_classes)]
        self._rows: list[npt.NDArray[np.int64]] = [np.zeros(0, dtype=np.int64) for _ in range(n_classes)]

    def add(self, start: int, p: npt.NDArray[np.float32]) -> None:
        """Look at the probabilities of the samples start..start + len(p)."""
        rows = np.flatnonzero(self.labels[start : start + len(p)] >= 0)
        for label, wanted in enumerate(self.wanted):
            if not wanted:
                continue
            column = p[rows, label]
            known = self._p[label]
            if len(known) >= wanted:  # the worst of the anchors so far keeps most rows out
                near = np.flatnonzero(column > known[-1])
                column, mine = column[near], rows[near]
            else:
                mine = rows
            if not len(mine):
                continue
            values = np.concatenate([known, column.astype(np.float64)])
            places = np.concatenate([self._rows[label], mine + start])
            order = np.lexsort((places, -values))[:wanted]
            self._p[label], self._rows[label] = values[order], places[order]

    def counts(self) -> Floats:
        """Return how many anchors of each class have which label, shape (K, K)."""
        n_classes = len(self.wanted)
        rows = [np.bincount(self.labels[rows], minlength=n_classes) for rows in self._rows]
        return np.array(rows, dtype=np.float64).reshape(n_classes, n_classes)

    def matrix(self) -> Floats:
        """Return T: the labels given to each class's anchors.

        A class is drawn toward the mean class with the weight of 20 anchors, so that few anchors do not pass for
        certainty, and 2 % are spread over all labels, since the clearest images have the clearest labels.
        """
        n_classes, counts = len(self.wanted), self.counts()
        each = counts.sum(axis=1, keepdims=True)
        total = max(float(each.sum()), 1.0)
        wrong = max(1.0 - float(np.trace(counts)) / total, 0.5 / total)
        mean = np.full((n_classes, n_classes), wrong / max(n_classes - 1, 1))
        np.fill_diagonal(mean, 1.0 - wrong if n_classes > 1 else 1.0)
        counts += 20.0 * mean + 0.02 * each / n_classes
        return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def anchors(labels: npt.ArrayLike, probabilities: npt.ArrayLike, share: float = 0.2) -> Floats:
    """Estimate the transition matrix from the samples that look most like each class.

    Parameters
    ----------
    labels : array-like of int, shape (N,)
        Given labels, -1 = none.
    probabilities : array-like, shape (N, K)
        Out-of-fold class probabilities.
    share : float
        Anchors of a class, as a share of its samples.

    Returns
    -------
    ndarray of float64, shape (K, K)
        Rows sum to 1.
    """
    p = np.asarray(probabilities, dtype=np.float32)
    given = _matching(labels, p)
    found = Anchors(given, p.shape[1], share)
    found.add(0, p)
    return found.matrix()


def confident_joint(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> tuple[Floats, float]:
    """Estimate the transition matrix and the noise rate by the calibrated confident joint.

    A sample counts for the class with the largest probability among those at or above their threshold t_j,
    the mean probability of j over the samples labelled j. Rows are scaled to the class sizes.

    Parameters
    ----------
    labels : array-like of int, shape (N,)
    probabilities : array-like, shape (N, K)
        Out-of-fold class probabilities.

    Returns
    -------
    transition : ndarray of float64, shape (K, K)
    rate : float
        Estimated share of wrong labels: an upper bound where the model errs.
    """
    p = np.asarray(probabilities)
    given = _matching(labels, p)
    joint = confident_counts(given, [(0, p.astype(np.float32))], thresholds(given, [(0, p)], p.shape[1]))
    size = np.bincount(given[given >= 0], minlength=p.shape[1])
    # Samples that are confident of nothing are spread like the rest of their label.
    total = joint.sum(axis=1, keepdims=True)
    scaled = (
        np.where(total > 0, joint / np.maximum(total, 1), np.eye(len(joint))) * size[:, None]
    )  # (given, right)
    if scaled.sum() == 0:
        return np.eye(len(joint)), 0.0
    rate = 1.0 - float(np.trace(scaled) / scaled.sum())
    right = scaled.sum(axis=0, keepdims=True)
    transition = np.where(right > 0, scaled / np.where(right > 0, right, 1.0), np.eye(len(joint))).T
    return np.ascontiguousarray(transition), rate


def thresholds(labels: Labels, blocks: Iterable[Block], n_classes: int) -> Floats:
    """Return t_j, the mean probability of class j over the samples labelled j; above 1 for absent classes."""
    total, count = np.zeros(n_classes), np.zeros(n_classes)
    for start, p in blocks:
        rows = np.flatnonzero(labels[start : start + len(p)] >= 0)
        given = labels[start + rows]
        total += np.bincount(given, weights=p[rows, given].astype(np.float64), minlength=n_classes)
        count += np.bincount(given, minlength=n_classes)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), 2.0))


def confident_counts(labels: Labels, blocks: Iterable[Block], limits: Floats) -> Floats:
    """Return the confident joint's counts, shape (K, K): given label by confident class."""
    joint = np.zeros((len(limits), len(limits)))
    for start, p in blocks:
        rows = np.flatnonzero(labels[start : start + len(p)] >= 0)
        q = p[rows].astype(np.float64)
        q[q < limits] = -1.0
        best = q.argmax(axis=1)
        sure = q[np.arange(len(q)), best] >= 0
        np.add.at(joint, (labels[start + rows[sure]], best[sure]), 1.0)
    return joint


def _matching(labels: npt.ArrayLike, p: npt.NDArray[np.floating]) -> Labels:
    require(p.ndim == 2, "probabilities must have one row a sample, one column a class", p.shape)
    given, _ = checked(labels, p.shape[1])
    require(
        len(p) == len(given),
        "probabilities must have one row for each label",
        f"{len(p)} for {len(given)} labels",
    )
    return given
