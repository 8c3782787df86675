"""The detector."""

from __future__ import annotations

import numpy as np

from labeltui.detect.base import UNKNOWN, Attribute, Detector, DetectorInputs, Floats
from labeltui.detect.dynamics import planting
from labeltui.detect.dynamics.curves import Curves
from labeltui.detect.registry import register
from labeltui.noise.estimate import Anchors

MOST_CLASSES = np.iinfo(np.int16).max  # a record keeps the top class in 16 bits


@register
class DynamicsDetector(Detector):
    """Trust in the label by the course of its training, as a shipped network reads it.

    A sample that no model was trained on, or on another label than the one in doubt (a person has changed it, or it
    was corrupted on purpose), gets one half.
    """

    name = "dynamics"
    title = "training dynamics"
    needs = frozenset({"dynamics"})

    def __init__(self, inputs: DetectorInputs) -> None:
        super().__init__(inputs)
        self._score = np.full(inputs.n, UNKNOWN, dtype=np.float32)
        self._attributes: dict[str, Attribute] = {}

    @classmethod
    def feasible(cls, inputs: DetectorInputs) -> bool:
        """Whether the record can name all classes, and there is more than one."""
        return 2 <= inputs.n_classes <= MOST_CLASSES

    def fit(self) -> None:
        """Read all curves."""
        from labeltui.detect.dynamics import network

        inputs = self.inputs
        assert inputs.dynamics is not None  # `needs` says so
        record = inputs.dynamics
        curves = Curves(record, inputs.n_classes)
        rows = np.flatnonzero(curves.usable)
        z = network.read(network.shipped(), curves, rows, inputs.threads)
        rate = self._rate()
        curve = planting.Curve(0.0, 1.0, float("nan"))
        if rate is not None and len(rows):
            curve = planting.level(z, rate)
        planted = np.zeros(len(rows), dtype=bool) if inputs.planted is None else inputs.planted[rows]
        self._attributes = {"epochs": len(record.log_p), "recorded": len(rows)}
        if (found := planting.fit(z, planted, rate)) is not None:
            curve = found
            self._attributes |= {
                "planted": int(planted.sum()),
                "planted_shift": curve.shift,
                "planted_stretch": curve.stretch,
                "planted_rate": curve.rate,
            }
        same = ~planted & (record.labels[rows] == inputs.given_labels[rows])
        self._score[rows[same]] = curve.apply(z[same])

    def _rate(self) -> float | None:
        """Share of wrong labels, from the samples that look most like their class; None without a head."""
        inputs = self.inputs
        if inputs.p_head is None:
            return None
        labels = np.where(inputs.scorable & (inputs.labels >= 0), inputs.labels, -1).astype(np.int32)
        anchors = Anchors(labels, inputs.n_classes)
        for start, stop in inputs.blocks():
            anchors.add(start, np.asarray(inputs.p_head[start:stop]))
        share = np.bincount(labels[labels >= 0], minlength=inputs.n_classes) / max(
            int((labels >= 0).sum()), 1
        )
        return float(1.0 - share @ np.diag(anchors.matrix()))

    def probabilities(self, start: int, stop: int) -> None:
        """None: it knows nothing of other labels."""

    def score(self, start: int, stop: int) -> Floats:
        """Trust in the labels of the samples start..stop."""
        return self._score[start:stop]

    def attributes(self) -> dict[str, Attribute]:
        """Epochs, samples, and the calibration where labels were planted."""
        return self._attributes
