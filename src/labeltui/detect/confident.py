"""The margin of the classifier's out-of-fold probabilities, as in confident learning (Northcutt et al., JAIR 2021)."""

from __future__ import annotations

import numpy as np

from labeltui.detect.base import Attribute, Detector, DetectorInputs, Floats, Ints
from labeltui.detect.registry import register
from labeltui.noise.estimate import confident_counts, thresholds


def margins(p: Floats, labels: Ints) -> Floats:
    """Return p of the label minus the largest other probability, -1..1; 0 where the label is -1.

    Parameters
    ----------
    p : ndarray of float32, shape (n, K)
    labels : ndarray of int32, shape (n,)
        -1 = none.

    Returns
    -------
    ndarray of float32, shape (n,)
    """
    rows = np.flatnonzero(labels >= 0)
    margin = np.zeros(len(p), dtype=np.float32)
    if p.shape[1] < 2:
        return margin
    mine = p[rows, labels[rows]]
    others = p[rows].copy()
    others[np.arange(len(rows)), labels[rows]] = -np.inf
    margin[rows] = mine - others.max(axis=1)
    return margin


@register
class Confident(Detector):
    """Normalised margin of the classifier: (1 + p of the label - largest other p) / 2."""

    name = "confident"
    title = "margin of the classifier"
    needs = frozenset({"p_head"})

    def __init__(self, inputs: DetectorInputs) -> None:
        super().__init__(inputs)
        self._attributes: dict[str, Attribute] = {}

    def fit(self) -> None:
        """Count the confident joint, for the record."""
        inputs = self.inputs
        assert inputs.p_head is not None  # `needs` says so
        p_head = inputs.p_head
        labels = np.where(inputs.scorable, inputs.given_labels, -1).astype(np.int32)
        limits = thresholds(labels, ((a, p_head[a:b]) for a, b in inputs.blocks()), inputs.n_classes)
        joint = confident_counts(labels, ((a, p_head[a:b]) for a, b in inputs.blocks()), limits)
        if joint.sum() > 0:
            self._attributes["confident_joint_rate"] = round(1.0 - float(np.trace(joint) / joint.sum()), 4)

    def probabilities(self, start: int, stop: int) -> None:
        """None: the head itself gives them."""

    def score(self, start: int, stop: int) -> Floats:
        """Margin, moved to 0..1."""
        assert self.inputs.p_head is not None
        p = np.asarray(self.inputs.p_head[start:stop], dtype=np.float32)
        return (margins(p, self.inputs.given_labels[start:stop]) + np.float32(1.0)) / np.float32(2.0)

    def attributes(self) -> dict[str, Attribute]:
        """Share of labels that the confident joint calls wrong: an upper bound on human noise."""
        return self._attributes
