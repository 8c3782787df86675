"""The detector of wrong labels from training dynamics."""

from __future__ import annotations

import numpy as np

from labeltui.detect.base import UNKNOWN, Attribute, Detector, DetectorInputs, Floats
from labeltui.detect.dynamics import calibration
from labeltui.detect.dynamics.curves import Curves
from labeltui.detect.registry import register
from labeltui.noise.estimate import Anchors

MAX_CLASSES = np.iinfo(np.int16).max  # a record stores the top class in 16 bits


@register
class DynamicsDetector(Detector):
    """Label score from the training dynamics, by a network shipped with the package.

    A sample gets one half if no model was trained on it, or only with another label than the given one (relabelled or
    injected).
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
        """Whether there are two or more classes, and few enough for the record."""
        return 2 <= inputs.n_classes <= MAX_CLASSES

    def fit(self) -> None:
        """Score all curves."""
        from labeltui.detect.dynamics import network

        inputs = self.inputs
        assert inputs.dynamics is not None  # `needs` says so
        record = inputs.dynamics
        curves = Curves(record, inputs.n_classes)
        rows = np.flatnonzero(curves.usable)
        z = network.read(network.shipped(), curves, rows, inputs.threads)
        rate = self._rate()
        curve = calibration.Curve(0.0, 1.0, float("nan"))
        if rate is not None and len(rows):
            curve = calibration.prior_shift(z, rate)
        injected = np.zeros(len(rows), dtype=bool) if inputs.injected is None else inputs.injected[rows]
        self._attributes = {"epochs": len(record.log_p), "recorded": len(rows)}
        if (found := calibration.fit(z, injected, rate)) is not None:
            curve = found
            self._attributes |= {
                "injected": int(injected.sum()),
                "injected_shift": curve.shift,
                "injected_stretch": curve.stretch,
                "injected_rate": curve.rate,
            }
        same = ~injected & (record.labels[rows] == inputs.given_labels[rows])
        self._score[rows[same]] = curve.apply(z[same])

    def _rate(self) -> float | None:
        """Fraction of wrong labels, estimated from anchors; None without a head."""
        inputs = self.inputs
        if inputs.p_head is None:
            return None
        labels = np.where(inputs.scorable & (inputs.labels >= 0), inputs.labels, -1).astype(np.int32)
        anchors = Anchors(labels, inputs.n_classes)
        for start, stop in inputs.blocks():
            anchors.add(start, np.asarray(inputs.p_head[start:stop]))
        frequency = np.bincount(labels[labels >= 0], minlength=inputs.n_classes) / max(
            int((labels >= 0).sum()), 1
        )
        return float(1.0 - frequency @ np.diag(anchors.matrix()))

    def probabilities(self, start: int, stop: int) -> None:
        """None: it has no evidence about other labels."""

    def score(self, start: int, stop: int) -> Floats:
        """Label scores of the samples start..stop."""
        return self._score[start:stop]

    def attributes(self) -> dict[str, Attribute]:
        """Epochs, samples, and the calibration if labels were injected."""
        return self._attributes
