"""A second head, trained by forward correction to predict correct labels instead of given ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from labeltui import head
from labeltui.detect.base import Attribute, Detector, DetectorInputs, Floats, NoiseAwareDetector
from labeltui.detect.registry import register
from labeltui.parallel import Progress, count_threads

# Heads per fold: the mean of two is less overconfident, and this detector has the largest weight in the blend.
MEMBERS = 2


def spec_for(spec: head.HeadSpec) -> head.HeadSpec:
    """Return the specification of the second head, given that of the first."""
    return replace(spec, members=max(spec.members, MEMBERS))


@register
class Corrected(NoiseAwareDetector):
    """Out-of-fold head with forward correction (Patrini et al., CVPR 2017, section 4.2).

    The loss compares its softmax times the estimated transition matrix with the given label, so that the head
    explains given labels as correct labels plus noise and does not learn the noise. Same folds as the first head,
    another seed, the mean of `MEMBERS` heads per fold.

    Attributes
    ----------
    records : tuple of Dynamics
        Training dynamics of each member, once fitted, where `DetectorInputs.more_dynamics`.
    """

    name = "corrected"
    title = "noise-corrected classifier"
    needs = frozenset({"embeddings", "fold", "p_head"})

    def __init__(self, inputs: DetectorInputs) -> None:
        super().__init__(inputs)
        self.records: tuple[head.Dynamics, ...] = ()
        self._p: Floats | None = None
        self._attributes: dict[str, Attribute] = {}

    def _spec(self) -> head.HeadSpec:
        return spec_for(self.inputs.head or head.HeadSpec())

    def seconds(self) -> float:
        """Estimate the time of training the heads."""
        assert self.inputs.embeddings is not None
        assert self.inputs.fold is not None
        folds = max(1, int(self.inputs.fold.max(initial=0)) + 1)
        trained, d = int((self.inputs.fold >= 0).sum()), self.inputs.embeddings.shape[1]
        return self._spec().seconds(trained, d, self.inputs.n_classes, folds) / min(
            folds, count_threads(self.inputs.threads)
        )

    def fit_with_noise(
        self,
        transition: npt.NDArray[np.float64],
        detectors: Sequence[Detector],
        progress: Progress,
        cancel: Callable[[], bool] | None,
    ) -> None:
        """Train the heads with the transition matrix (K, K)."""
        inputs = self.inputs
        assert inputs.embeddings is not None  # `needs` says so
        assert inputs.fold is not None
        result = head.out_of_fold(
            inputs.embeddings,
            np.where(inputs.fold >= 0, inputs.labels, -1),
            inputs.fold,
            inputs.n_classes,
            spec=self._spec(),
            seed=inputs.seed + 1,
            threads=inputs.threads,
            device=inputs.device,
            weights=inputs.weights,
            transition=transition,
            progress=lambda epoch: progress(epoch.done / epoch.total),
            cancel=cancel,
            dynamics=inputs.more_dynamics,
            keeper=inputs.keeper,
        )
        self._p = result.p
        self.records = result.records
        self._attributes = dict(result.attrs)

    def probabilities(self, start: int, stop: int) -> Floats:
        """Distribution over correct labels, without the sample's own label."""
        assert self._p is not None, "fit_with_noise() comes first"
        return self._p[start:stop]

    def attributes(self) -> dict[str, Attribute]:
        """Settings of the head."""
        return self._attributes
