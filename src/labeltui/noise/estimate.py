"""Estimate the transition matrix T, T_ij = P(given label j | correct label i), without clean labels.

Two estimators:

`anchors`
    The given labels of the most probable samples of class i (Patrini et al., CVPR 2017, section 4.1, with the
    mean over many anchors instead of one probability). Unbiased if noise does not depend on the difficulty of an
    image; on human labels somewhat low, since the clearest images are labelled best.
`confident_joint`
    Counts of (given label, class whose probability exceeds its own threshold) (Northcutt et al., JAIR 2021).
    Errors of the model count as noise: on human labels an upper bound.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from labeltui.noise._validation import Floats, Labels, require, validate_labels

Block = tuple[int, npt.NDArray[np.float32]]


class Anchors:
    """Collects, block by block, the most probable samples of each class.

    Parameters
    ----------
    labels : ndarray of int32, shape (N,)
        -1 = none; such samples are never anchors.
    n_classes : int
    fraction : float
        Anchors per class, as a fraction of the samples with its label; at least 5 if the class has them.
    """

    def __init__(self, labels: Labels, n_classes: int, fraction: float = 0.2) -> None:
        require(0.0 < fraction <= 1.0, "the fraction of anchors must be above 0 and at most 1", fraction)
        self.labels = labels
        size = np.bincount(labels[labels >= 0], minlength=n_classes)
        self.n_wanted = np.maximum(np.ceil(fraction * size).astype(np.int64), np.minimum(size, 5))
        self._p: list[Floats] = [np.zeros(0) for _ in range(n_classes)]
        self._rows: list[npt.NDArray[np.int64]] = [np.zeros(0, dtype=np.int64) for _ in range(n_classes)]

    def add(self, start: int, p: npt.NDArray[np.float32]) -> None:
        """Add the probabilities of the samples start..start + len(p).

        Parameters
        ----------
        start : int
        p : ndarray of float32, shape (n, K)
        """
        rows = np.flatnonzero(self.labels[start : start + len(p)] >= 0)
        for label, n_wanted in enumerate(self.n_wanted):
            if not n_wanted:
                continue
            column = p[rows, label]
            known = self._p[label]
            if len(known) >= n_wanted:  # most rows are below the least probable anchor so far
                near = np.flatnonzero(column > known[-1])
                column, mine = column[near], rows[near]
            else:
                mine = rows
            if not len(mine):
                continue
            values = np.concatenate([known, column.astype(np.float64)])
            places = np.concatenate([self._rows[label], mine + start])
            order = np.lexsort((places, -values))[:n_wanted]
            self._p[label], self._rows[label] = values[order], places[order]

    def counts(self) -> Floats:
        """Return counts of labels (columns) among the anchors of each class (rows), shape (K, K)."""
        n_classes = len(self.n_wanted)
        rows = [np.bincount(self.labels[rows], minlength=n_classes) for rows in self._rows]
        return np.array(rows, dtype=np.float64).reshape(n_classes, n_classes)

    def matrix(self) -> Floats:
        """Return T, the label frequencies of each class's anchors, shape (K, K).

        A class is shrunk toward the mean class with the weight of 20 anchors, and 2 % are spread over all labels,
        since the clearest images have the clearest labels.
        """
        n_classes, counts = len(self.n_wanted), self.counts()
        each = counts.sum(axis=1, keepdims=True)
        total = max(float(each.sum()), 1.0)
        wrong = max(1.0 - float(np.trace(counts)) / total, 0.5 / total)
        mean = np.full((n_classes, n_classes), wrong / max(n_classes - 1, 1))
        np.fill_diagonal(mean, 1.0 - wrong if n_classes > 1 else 1.0)
        counts += 20.0 * mean + 0.02 * each / n_classes
        return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def anchors(labels: npt.ArrayLike, probabilities: npt.ArrayLike, fraction: float = 0.2) -> Floats:
    """Estimate the transition matrix from the most probable samples of each class.

    Parameters
    ----------
    labels : array-like of int, shape (N,)
        Given labels, -1 = none.
    probabilities : array-like, shape (N, K)
        Out-of-fold class probabilities.
    fraction : float
        Anchors per class, as a fraction of its samples.

    Returns
    -------
    ndarray of float64, shape (K, K)
        Rows sum to 1.
    """
    p = np.asarray(probabilities, dtype=np.float32)
    given = _matching(labels, p)
    estimate = Anchors(given, p.shape[1], fraction)
    estimate.add(0, p)
    return estimate.matrix()


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
        Estimated fraction of wrong labels; an upper bound, since errors of the model count.
    """
    p = np.asarray(probabilities)
    given = _matching(labels, p)
    joint = confident_counts(given, [(0, p.astype(np.float32))], thresholds(given, [(0, p)], p.shape[1]))
    size = np.bincount(given[given >= 0], minlength=p.shape[1])
    # Samples above no threshold are distributed like the others of their label.
    total = joint.sum(axis=1, keepdims=True)
    scaled = (
        np.where(total > 0, joint / np.maximum(total, 1), np.eye(len(joint))) * size[:, None]
    )  # (given, correct)
    if scaled.sum() == 0:
        return np.eye(len(joint)), 0.0
    rate = 1.0 - float(np.trace(scaled) / scaled.sum())
    right = scaled.sum(axis=0, keepdims=True)
    transition = np.where(right > 0, scaled / np.where(right > 0, right, 1.0), np.eye(len(joint))).T
    return np.ascontiguousarray(transition), rate


def thresholds(labels: Labels, blocks: Iterable[Block], n_classes: int) -> Floats:
    """Return t_j, the mean probability of class j over the samples labelled j.

    Parameters
    ----------
    labels : ndarray of int32, shape (N,)
        -1 = none.
    blocks : iterable of (int, ndarray)
        First sample and probabilities (n, K) of each block.
    n_classes : int
        K.

    Returns
    -------
    ndarray of float64, shape (K,)
        Above 1 for absent classes.
    """
    total, count = np.zeros(n_classes), np.zeros(n_classes)
    for start, p in blocks:
        rows = np.flatnonzero(labels[start : start + len(p)] >= 0)
        given = labels[start + rows]
        total += np.bincount(given, weights=p[rows, given].astype(np.float64), minlength=n_classes)
        count += np.bincount(given, minlength=n_classes)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), 2.0))


def confident_counts(labels: Labels, blocks: Iterable[Block], limits: Floats) -> Floats:
    """Return the counts of the confident joint.

    Parameters
    ----------
    labels : ndarray of int32, shape (N,)
        -1 = none.
    blocks : iterable of (int, ndarray)
        First sample and probabilities (n, K) of each block.
    limits : ndarray of float64, shape (K,)
        From `thresholds`.

    Returns
    -------
    ndarray of float64, shape (K, K)
        Given label by confident class.
    """
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
    given, _ = validate_labels(labels, p.shape[1])
    require(
        len(p) == len(given),
        "probabilities must have one row for each label",
        f"{len(p)} for {len(given)} labels",
    )
    return given
