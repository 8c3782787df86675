"""The detector of wrong labels from training dynamics."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from labeltui.detect.base import UNKNOWN, Attribute, Detector, DetectorInputs, Floats, NoiseAwareDetector
from labeltui.detect.corrected import MEMBERS, Corrected
from labeltui.detect.cost import record_seconds
from labeltui.detect.dynamics import calibration
from labeltui.detect.registry import register
from labeltui.head import Dynamics
from labeltui.noise.estimate import Anchors
from labeltui.parallel import Progress, count_threads

MAX_CLASSES = np.iinfo(np.int16).max  # a record stores the top class in 16 bits


@register
class DynamicsDetector(NoiseAwareDetector):
    """Label score from the training dynamics, by a network shipped with the package.

    The mean log-odds over the records of the classifier and of the noise-corrected heads. The latter hold how probable
    the given label is of being correct, not of being given: heads that know the noise (Patrini et al., CVPR 2017)
    learn frequent mistakes less readily. A fine-tuned backbone's record, and that of a run with injected labels, which
    the corrected heads do not learn, are read alone.

    A sample gets one half if no model was trained on it, or only with another label than the given one (relabelled or
    injected).
    """

    name = "dynamics"
    title = "training dynamics"
    needs = frozenset({"dynamics"})
    order = 1

    def __init__(self, inputs: DetectorInputs) -> None:
        super().__init__(inputs)
        self._score = np.full(inputs.n, UNKNOWN, dtype=np.float32)
        self._attributes: dict[str, Attribute] = {}

    @classmethod
    def feasible(cls, inputs: DetectorInputs) -> bool:
        """Whether there are two or more classes, and few enough for the record."""
        return 2 <= inputs.n_classes <= MAX_CLASSES

    @classmethod
    def reads(cls, inputs: DetectorInputs) -> frozenset[str]:
        """The noise-corrected heads, where they learn the labels that the record is of."""
        return frozenset({Corrected.name}) if inputs.more_dynamics else frozenset()

    def seconds(self) -> float:
        """Estimate the time of reading the records."""
        records = 1 + MEMBERS if self.inputs.more_dynamics else 1
        return records * record_seconds(self.inputs.n) / count_threads(self.inputs.threads)

    def fit_with_noise(
        self,
        transition: npt.NDArray[np.float64],
        detectors: Sequence[Detector],
        progress: Progress,
        cancel: Callable[[], bool] | None,
    ) -> None:
        """Score all curves."""
        from labeltui.detect.dynamics import network

        inputs = self.inputs
        assert inputs.dynamics is not None  # `needs` says so
        records: list[Dynamics] = [inputs.dynamics]
        for detector in detectors:
            if isinstance(detector, Corrected):
                records += detector.records
        usable, log_odds = network.mean_log_odds(
            network.shipped(), records, inputs.n_classes, inputs.threads, cancel, progress
        )
        rows = np.flatnonzero(usable)
        z = log_odds[rows]
        rate = self._rate()
        curve = calibration.Curve(0.0, 1.0, float("nan"))
        if rate is not None and len(rows):
            curve = calibration.prior_shift(z, rate)
        injected = np.zeros(len(rows), dtype=bool) if inputs.injected is None else inputs.injected[rows]
        self._attributes = {
            "epochs": len(inputs.dynamics.log_p),
            "records": len(records),
            "recorded": len(rows),
        }
        if (found := calibration.fit(z, injected, rate)) is not None:
            curve = found
            self._attributes |= {
                "injected": int(injected.sum()),
                "injected_shift": curve.shift,
                "injected_stretch": curve.stretch,
                "injected_rate": curve.rate,
            }
        same = ~injected & (inputs.dynamics.labels[rows] == inputs.given_labels[rows])
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
        """Epochs of the first record, records, samples, and the calibration if labels were injected."""
        return self._attributes
