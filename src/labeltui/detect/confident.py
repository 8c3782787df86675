"""Confident learning on the head's out-of-fold probabilities (Northcutt et al., JAIR 2021).

A few lines of numpy instead of a dependency: the tests hold them against cleanlab, which the benchmarks run
beside them. On human label noise ranking by the margin, let alone by the blend, beats every pruning rule by
far; the rules are here because people know them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from labeltui.detect.base import Attribute, Detector, Facts, Floats, Ints, Mask
from labeltui.detect.registry import register
from labeltui.errors import UsageError
from labeltui.noise.estimate import confident_counts, thresholds

RULES = ("prune_by_class", "prune_by_noise_rate", "both", "confident_learning")


def margins(p: Floats, labels: Ints) -> Floats:
    """Return p of the label minus the largest other probability, -1..1; 0 where the label is -1."""
    rows = np.flatnonzero(labels >= 0)
    margin = np.zeros(len(p), dtype=np.float32)
    if p.shape[1] < 2:
        return margin
    mine = p[rows, labels[rows]]
    others = p[rows].copy()
    others[np.arange(len(rows)), labels[rows]] = -np.inf
    margin[rows] = mine - others.max(axis=1)
    return margin


def prune(labels: Ints, p: npt.NDArray[np.floating], rule: str = "prune_by_class") -> Mask:
    """Return the samples that a pruning rule of confident learning calls wrong.

    Parameters
    ----------
    labels : ndarray of int32, shape (N,)
        -1 = none; such samples are never called wrong.
    p : ndarray, shape (N, K)
        Out-of-fold class probabilities.
    rule : {"prune_by_class", "prune_by_noise_rate", "both", "confident_learning"}
        The samples of each class with the lowest p of their label, as many as its row of the joint says; the
        samples of each (given, other) pair with the largest p of other minus p of given, as many as its cell
        says; those that both name; or those off the diagonal of the confident joint itself.

    Raises
    ------
    UsageError
        Another rule.
    """
    if rule not in RULES:
        raise UsageError(f"the rule must be one of {', '.join(RULES)}", f"{rule!r} came")
    n_classes = p.shape[1]
    q = np.asarray(p, dtype=np.float32)
    limits = thresholds(labels, [(0, q)], n_classes)
    wrong = np.zeros(len(labels), dtype=bool)
    if rule == "confident_learning":
        rows = np.flatnonzero(labels >= 0)
        sure = np.where(q[rows] >= limits, q[rows], -1.0)
        best = sure.argmax(axis=1)
        wrong[rows] = (sure.max(axis=1) >= 0) & (best != labels[rows])
        return wrong
    if rule == "both":
        return prune(labels, q, "prune_by_class") & prune(labels, q, "prune_by_noise_rate")
    joint = confident_counts(labels, [(0, q)], limits)
    for label in range(n_classes):
        members = np.flatnonzero(labels == label)
        total = joint[label].sum()
        if len(members) < 2 or total == 0:
            continue
        expected = joint[label] / total * len(members)
        if rule == "prune_by_class":
            amount = min(round(float(expected.sum() - expected[label])), len(members) - 1)
            wrong[members[np.argsort(q[members, label], kind="stable")[:amount]]] = True
            continue
        for other in np.flatnonzero(np.round(expected) > 0):
            if other != label:
                lead = q[members, other] - q[members, label]
                amount = min(round(float(expected[other])), len(members) - 1)
                wrong[members[np.argsort(-lead, kind="stable")[:amount]]] = True
    return wrong


@register
class Confident(Detector):
    """Normalised margin of the head: (1 + p of the label - largest other p) / 2."""

    name = "confident"
    title = "margin of the head"
    needs = frozenset({"p_head"})

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._attributes: dict[str, Attribute] = {}

    def fit(self) -> None:
        """Count the confident joint, for the record."""
        facts = self.facts
        assert facts.p_head is not None  # `needs` says so
        p_head = facts.p_head
        labels = np.where(facts.judged, facts.doubted, -1).astype(np.int32)
        limits = thresholds(labels, ((a, p_head[a:b]) for a, b in facts.blocks()), facts.n_classes)
        joint = confident_counts(labels, ((a, p_head[a:b]) for a, b in facts.blocks()), limits)
        if joint.sum() > 0:
            self._attributes["confident_joint_rate"] = round(1.0 - float(np.trace(joint) / joint.sum()), 4)

    def probabilities(self, start: int, stop: int) -> None:
        """None: the head itself gives them."""

    def score(self, start: int, stop: int) -> Floats:
        """Margin, moved to 0..1."""
        assert self.facts.p_head is not None
        p = np.asarray(self.facts.p_head[start:stop], dtype=np.float32)
        return (margins(p, self.facts.doubted[start:stop]) + np.float32(1.0)) / np.float32(2.0)

    def attributes(self) -> dict[str, Attribute]:
        """Share of labels that the confident joint calls wrong: an upper bound on human noise."""
        return self._attributes
