"""CleanNet: what people decided about some samples, carried over to all others and to other classes.

Nothing decided: the cosine of a sample and the centroids of the classes. From `LEAST` decisions on:

1. networks compare samples with the reference sets of classes (`cleannet_model`);
2. their probabilities and those of heads, neighbours and what else votes are weighed against the given label:
   ``p_t ~ prod_m p_mt ** w_m  T_ty ** v  exp(u [t = y])``. The few exponents begin as those that make the labels
   most probable, as they are, behind the noise channel T (v = 1, u = 0); the decisions move them. They are the same
   for every class: what was found in the classes that somebody looked at holds for the others;
3. with n decisions that distribution has the weight n / (n + `HANDOVER`) beside the centroids';
4. P(label right) is calibrated by the decisions (`calibrate`), which the weighing had not seen.

All of it is out of fold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar
from scipy.special import logsumexp

from labeltui import parallel
from labeltui.detect import calibrate
from labeltui.detect.base import (
    Attribute,
    Detector,
    DetectorInputs,
    Floats,
    Ints,
    Mask,
    NoiseAwareDetector,
    label_probability,
)
from labeltui.detect.cleannet_model import NAMES, CleanNetSpec, Codes, Lesson, References, centroids, train
from labeltui.detect.ensemble import (
    fit_sharpness,
    fit_weights,
    geometric_pool,
    log_probabilities,
    sample_rows,
    subsample,
)
from labeltui.detect.registry import register
from labeltui.head.components import components, finite_rows, project
from labeltui.head.training import device_named
from labeltui.parallel import Progress

LEAST = 20  # decisions, right and wrong ones among them
HANDOVER = 20
_PROBES = 8  # rows by which an embedding is known again
_LABELLED = 5000  # samples whose labels say where the exponents begin


@register
class CleanNet(NoiseAwareDetector):
    """Cosine to the reference sets of the classes, learned from decisions (Lee et al., CVPR 2018).

    The score is P(label right) from `LEAST` decisions on, before that the share of the label in a softmax over the
    centroids' cosines. It is an opinion beside the blend and no part of it.
    """

    name = "cleannet"
    title = "prototypes and your decisions"
    needs = frozenset({"embeddings", "fold"})
    order = 1
    spec = CleanNetSpec()

    def __init__(self, inputs: DetectorInputs) -> None:
        super().__init__(inputs)
        self._voters: list[Detector] = []
        self._kept: dict[str, npt.NDArray[Any]] = {}
        self._attributes: dict[str, Attribute] = {}
        self._log_transition: Floats | None = None
        self._codes: Codes | None = None  # of the networks; None before there are enough decisions
        self._centroids: Codes | None = None
        self._weights: npt.NDArray[np.float64] = np.zeros((0, 0))  # (F, planes)
        self._share = 0.0
        self._calibration = calibrate.Calibration()

    @classmethod
    def feasible(cls, inputs: DetectorInputs) -> bool:
        """Whether there are two classes and two folds to learn from."""
        return inputs.n_classes >= 2 and inputs.fold is not None and int(inputs.fold.max(initial=-1)) >= 1

    def fit_with_noise(
        self,
        transition: npt.NDArray[np.float64],
        detectors: Sequence[Detector],
        progress: Progress,
        cancel: Callable[[], bool] | None,
    ) -> None:
        """Measure centroids and, with enough decisions, train the networks and weigh them and the voters."""
        inputs, spec = self.inputs, self.spec
        assert inputs.embeddings is not None  # `needs` says so
        assert inputs.fold is not None
        warm = self._warm()
        lesson = Lesson(
            self._coordinates(warm),
            inputs.labels,
            inputs.fold,
            self._verified(),
            inputs.p_head,
            transition,
        )
        checked = self._checked()
        decisions, right = int((checked >= 0).sum()), int((checked == 1).sum())
        enough = decisions >= LEAST and 0 < right < decisions
        if not enough:  # the mean of each class will do
            spec, warm = replace(spec, centres=1), None
        references = References.of(lesson, spec, inputs.seed, None if warm is None else warm["centres"])
        self._kept["centres"] = references.centres
        centres = centroids(references)
        scale = np.full(lesson.n_folds, self._sharpness(lesson, centres), dtype=np.float32)
        self._centroids = Codes(lesson.z, centres, scale, lesson.home, {})
        self._attributes = {"decisions": decisions, "components": lesson.z.shape[1], "steps": 0}
        if not enough:
            return
        self._codes = train(
            lesson,
            references,
            spec,
            seed=inputs.seed,
            threads=inputs.threads,
            device=device_named(inputs.device),
            begin=warm,
            progress=progress,
            cancel=cancel,
        )
        self._kept |= self._codes.weights
        self._attributes["steps"] = spec.steps if warm is None else spec.refit_steps
        self._log_transition = np.log(np.maximum(transition, 1e-4)).astype(np.float32)
        self._voters = list(detectors)
        self._share = decisions / (decisions + HANDOVER)
        self._weigh(transition)

    def _checked(self) -> npt.NDArray[np.int8]:
        """What people found of the given_labels labels, where it can be learned from."""
        inputs = self.inputs
        if inputs.checked is None:
            return np.full(inputs.n, calibrate.UNCHECKED, dtype=np.int8)
        return np.where(inputs.scorable, inputs.checked, calibrate.UNCHECKED).astype(np.int8)

    def _verified(self) -> Mask:
        """Samples whose current label a person found right, or put there."""
        inputs, checked = self.inputs, self._checked()
        relabelled = (checked == 0) & (inputs.labels >= 0) & (inputs.labels != inputs.given_labels)
        return np.asarray((checked == 1) | relabelled)

    # ------------------------------------------------------------------------------ coordinates and centroids

    def _warm(self) -> dict[str, npt.NDArray[Any]] | None:
        """What an earlier fit kept, if it read this very embedding."""
        inputs, spec = self.inputs, self.spec
        assert inputs.embeddings is not None
        self._kept = {"probe": np.array(inputs.embeddings[self._probes()], dtype=np.float32)}
        kept = dict(inputs.kept.get(self.name, {}))
        if not {"probe", "mean", "axes", "centres", *NAMES} <= kept.keys():
            return None
        m = kept["axes"].shape[1]
        fits = (
            np.array_equal(kept["probe"], self._kept["probe"])
            and kept["centres"].shape == (inputs.n_classes, spec.centres, m)
            and kept["U"].shape == (int(inputs.fold.max()) + 1, min(spec.code, m), m)  # type: ignore[union-attr]
        )
        return kept if fits else None

    def _probes(self) -> npt.NDArray[np.int64]:
        usable = np.flatnonzero(self.inputs.ok)
        return usable[np.linspace(0, len(usable) - 1, min(_PROBES, len(usable))).astype(np.int64)]

    def _coordinates(self, warm: dict[str, npt.NDArray[Any]] | None) -> Floats:
        """Principal coordinates of all samples, rows of length 1."""
        import torch

        inputs = self.inputs
        assert inputs.embeddings is not None
        n_threads = parallel.count_threads(inputs.threads)
        finite = inputs.ok & finite_rows(inputs.embeddings)
        with parallel.limit_blas(1):
            if warm is not None:
                basis = warm["mean"], warm["axes"]
            else:
                basis = components(inputs.embeddings, finite, self.spec.components, n_threads)
            z = project(inputs.embeddings, finite, basis, torch.float32, n_threads).numpy()
        self._kept |= {"mean": basis[0], "axes": basis[1]}
        z /= np.maximum(np.sqrt(np.einsum("nm,nm->n", z, z))[:, None], np.float32(1e-12))
        return np.asarray(z, dtype=np.float32)

    def _sharpness(self, lesson: Lesson, centres: Floats) -> float:
        """The scale of the centroids' cosines that makes the labels most probable."""
        rows = sample_rows(lesson.fold >= 0, lesson.n_classes, 1, self.inputs.seed)
        rows = rows[:: max(1, len(rows) // 20_000)]
        codes = Codes(lesson.z[rows], centres, np.ones(lesson.n_folds, np.float32), lesson.home[rows], {})
        cosines = codes.cosines(0, len(rows))
        mine = label_probability(cosines, lesson.labels[rows])

        def loss(scale: float) -> float:
            return float((logsumexp(scale * cosines, axis=1) - scale * mine).mean(dtype=np.float64))

        return round(float(minimize_scalar(loss, bounds=(1.0, 50.0), method="bounded").x), 2)

    # ------------------------------------------------------------------------------ weighing

    def _planes(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Log-probabilities of network and voters, without the samples' own labels, then those labels' own say,
        (M + 2, n, K).
        """
        assert self._codes is not None
        parts = [detector.probabilities(start, stop) for detector in self._voters]
        logs = [log_probabilities([part])[0] for part in parts if part is not None]
        return np.stack([self._codes.log_p(start, stop), *logs, *self._label_planes(start, stop)])

    def _planes_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The same for some rows, ascending."""
        parts = [
            self._planes(start, stop)[:, inside] for start, stop, _, inside in self.inputs.blocks_of(rows)
        ]
        return np.concatenate(parts, axis=1)

    def _label_planes(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """What the samples' own labels say of all classes: log T_ty, and whether t = y, (2, n, K); 0 without one."""
        assert self._log_transition is not None
        labels = self.inputs.given_labels[start:stop]
        known = labels >= 0
        planes = np.zeros((2, len(labels), self.inputs.n_classes), dtype=np.float32)
        planes[0, known] = self._log_transition.T[labels[known]]
        planes[1, known, labels[known]] = 1.0
        return planes

    def _weigh(self, transition: npt.NDArray[np.float64]) -> None:
        """Learn the exponents of each fold from the decisions outside it, then calibrate on those inside."""
        inputs = self.inputs
        assert self._codes is not None
        checked = self._checked()
        decided = sample_rows(
            checked != calibrate.UNCHECKED, inputs.n_classes, len(self._voters) + 3, inputs.seed
        )
        labelled = subsample(inputs.scorable, _LABELLED, inputs.seed)
        rows = np.union1d(decided, labelled)
        logs = self._planes_of(rows)
        plain = logs[:-2, np.searchsorted(rows, labelled)]
        begin = _behind_channel(plain, inputs.given_labels[labelled], transition)
        planes = logs[:, np.searchsorted(rows, decided)].astype(np.float64)
        named = self._verified()[decided]
        labels = np.where(named, inputs.labels[decided], inputs.given_labels[decided])
        home = self._codes.home[decided]
        self._weights = np.stack(
            [
                exponents(planes[:, rest], labels[rest], named[rest], begin, self.spec.spread)
                for rest in (home != fold for fold in range(len(self._codes.classes)))
            ]
        )
        names = ["network", *(voter.name for voter in self._voters), "transition", "label"]
        for name, weight in zip(names, self._weights.mean(axis=0), strict=True):
            self._attributes[f"weight_{name}"] = round(float(weight), 4)
        right = np.full(inputs.n, 0.5, dtype=np.float32)
        for start, stop in inputs.blocks():
            if (checked[start:stop] != calibrate.UNCHECKED).any():
                right[start:stop] = label_probability(
                    self._posterior(start, stop), inputs.given_labels[start:stop]
                )
        self._calibration = calibrate.fit(right, checked)

    def _posterior(self, start: int, stop: int) -> Floats:
        """Distribution over right labels: by the centroids and, with enough decisions, by what was weighed."""
        assert self._centroids is not None, "fit_with_noise() comes first"
        logs = self._centroids.log_p(start, stop)
        if self._codes is not None:
            weights = self._weights[self._codes.home[start:stop]].astype(np.float32)  # (n, M)
            planes = self._planes(start, stop)
            share = np.float32(self._share)
            logs *= 1 - share
            for plane, weight in zip(planes, weights.T, strict=True):
                logs += plane * (share * weight)[:, None]
        logs -= logs.max(axis=1, keepdims=True)
        np.exp(logs, out=logs)
        logs /= logs.sum(axis=1, keepdims=True)
        return logs

    # ------------------------------------------------------------------------------ what it says

    def probabilities(self, start: int, stop: int) -> None:
        """None: they would tell the pool a second time what head and neighbours say, which made the blend worse."""

    def score(self, start: int, stop: int) -> Floats:
        """Calibrated P(label right), or the share of the label among the centroids."""
        right = label_probability(self._posterior(start, stop), self.inputs.given_labels[start:stop])
        return self._calibration.apply(right) if self._calibration.checks else right

    def proposal(self, start: int, stop: int, p: Floats | None) -> Ints:
        """The most probable label, the sample's own one included in the evidence."""
        return np.asarray(self._posterior(start, stop).argmax(axis=1), dtype=np.int32)

    def cosines(self, start: int, stop: int) -> Floats:
        """Cosine of the samples' codes and those of their labels, (n,) in -1..1; 1 is a sample without doubt."""
        codes = self._codes or self._centroids
        assert codes is not None, "fit_with_noise() comes first"
        return label_probability(codes.cosines(start, stop), self.inputs.given_labels[start:stop])

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The cosines, for sample weights, and what the next fit begins with."""
        cosine = np.concatenate([self.cosines(start, stop) for start, stop in self.inputs.blocks()])
        kept = self._kept if self._codes is not None else {}
        return {"cosine": cosine, **kept}

    def attributes(self) -> dict[str, Attribute]:
        """Decisions, steps and exponents."""
        return self._attributes


def _behind_channel(
    logs: npt.NDArray[np.float32], labels: Ints, transition: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Exponents that make the labels most probable behind the channel; 1 for the channel and 0 for the label."""
    weights = fit_weights(logs, labels)
    weights = weights * fit_sharpness(geometric_pool(logs, weights), labels, transition)
    return np.array([*fit_weights(logs, labels, transition, weights), 1.0, 0.0])


@dataclass(frozen=True)
class Objective:
    """What the decisions and the prior say against exponents.

    Attributes
    ----------
    planes : ndarray of float64, shape (M, n, K)
        Log-probabilities.
    labels : ndarray of int32, shape (n,)
    named : ndarray of bool, shape (n,)
        True where the label is right, False where it is wrong and nobody said what is right.
    start : ndarray of float64, shape (M,)
        Mean of the exponents a priori.
    spread : float
        Their standard deviation.
    """

    planes: npt.NDArray[np.float64]
    labels: Ints
    named: Mask
    start: npt.NDArray[np.float64]
    spread: float

    def __call__(self, weights: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        """Return minus the logarithm of the posterior density, and its slope."""
        rows = np.arange(len(self.labels))
        z = np.einsum("m,mnk->nk", weights, self.planes)
        log_p = z - logsumexp(z, axis=1, keepdims=True)
        p = np.exp(log_p)
        mine = log_p[rows, self.labels]
        p_mine = np.minimum(p[rows, self.labels], 1.0 - 1e-9)
        value = -np.where(self.named, mine, np.log1p(-p_mine)).sum()
        slope = self.planes[:, rows, self.labels] - np.einsum("nk,mnk->mn", p, self.planes)
        factor = np.where(self.named, -1.0, p_mine / (1.0 - p_mine))
        pull = (weights - self.start) / self.spread
        return float(value + 0.5 * (pull**2).sum()), slope @ factor + pull / self.spread


def exponents(
    planes: npt.NDArray[np.float64], labels: Ints, named: Mask, start: npt.NDArray[np.float64], spread: float
) -> npt.NDArray[np.float64]:
    """Return the most probable exponents under the decisions, shape (M,); see `Objective`."""
    if not len(labels):
        return start
    objective = Objective(planes, labels, named, start, spread)
    best = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 100})
    # A machine's last bits must not decide which samples are flagged.
    return np.asarray([round(float(weight), 4) for weight in best.x])
