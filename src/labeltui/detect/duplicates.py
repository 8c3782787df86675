"""Duplicates of an image that have different labels."""

from __future__ import annotations

import numpy as np

from labeltui.detect.base import Attribute, Detector, DetectorInputs, Floats
from labeltui.detect.registry import register


@register
class Duplicates(Detector):
    """Fraction of a sample's duplicates (exact or near) that have its label.

    ``(duplicates with the label + 1/2) / (duplicates + 1)``; one half without labelled duplicates. At least
    one label of a conflict is wrong; which one, the other detectors must say, so this does not join the pool.
    """

    name = "duplicates"
    title = "labels of its duplicates"
    needs = frozenset({"groups"})

    def __init__(self, inputs: DetectorInputs) -> None:
        super().__init__(inputs)
        self._score = np.full(inputs.n, 0.5, dtype=np.float32)
        self._conflicts = 0

    def fit(self) -> None:
        """Count the labels in each group."""
        inputs = self.inputs
        assert inputs.groups is not None  # `needs` says so
        rows = np.flatnonzero(inputs.ok & (inputs.given_labels >= 0) & (inputs.groups >= 0))
        if not len(rows):
            return
        _, group, size = np.unique(inputs.groups[rows], return_inverse=True, return_counts=True)
        pair = group.astype(np.int64) * inputs.n_classes + inputs.given_labels[rows]
        _, cell, same = np.unique(pair, return_inverse=True, return_counts=True)
        others, agreeing = size[group] - 1, same[cell] - 1
        self._score[rows] = (agreeing + 0.5) / (others + 1.0)
        self._conflicts = len(np.unique(group[agreeing < others]))

    def probabilities(self, start: int, stop: int) -> None:
        """None: a duplicate must not confirm a wrong label."""

    def score(self, start: int, stop: int) -> Floats:
        """Low where the duplicates have another label."""
        return self._score[start:stop]

    def attributes(self) -> dict[str, Attribute]:
        """Number of groups with conflicting labels."""
        return {"conflicts": self._conflicts}
