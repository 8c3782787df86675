"""CleanNet: transfer of decisions about some samples to all others and to other classes.

Without decisions: the cosine of a sample and the centroids of the classes. With at least `LEAST` decisions:

1. networks compare samples with the reference sets of classes (`cleannet_model`);
2. their probabilities and those of the other detectors are pooled with the given label:
   ``p_t ~ prod_m p_mt ** w_m  T_ty ** v  exp(u [t = y])``. The few weights start at the maximum likelihood of the
   given labels under the transition matrix T (v = 1, u = 0), and the decisions update them. All classes have the same
   weights, so that decisions about some classes hold for the others;
3. with n decisions that distribution has the weight n / (n + `PRIOR_DECISIONS`), and the centroids' the rest;
4. the label score is calibrated (`calibrate`) on decisions held out from the weights.

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
from labeltui.detect.cleannet_model import (
    NAMES,
    CleanNetSpec,
    Encodings,
    Prototypes,
    TrainingSet,
    centroids,
    train,
)
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

LEAST = 20  # decisions, of which some must confirm and some correct labels
PRIOR_DECISIONS = 20
_FINGERPRINT_ROWS = 8  # rows that identify an embedding
_LABELLED = 5000  # samples whose labels give the initial weights


@register
class CleanNet(NoiseAwareDetector):
    """Cosine to the reference sets of the classes, learned from decisions (Lee et al., CVPR 2018).

    With fewer than `LEAST` decisions the score is the label's probability in a softmax over the centroids' cosines,
    and from then on the calibrated label score. It is reported beside the blend and not part of it.
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
        self._codes: Encodings | None = None  # of the networks; None before there are enough decisions
        self._centroids: Encodings | None = None
        self._weights: npt.NDArray[np.float64] = np.zeros((0, 0))  # (F, planes)
        self._network_weight = 0.0
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
        """Compute centroids and, with enough decisions, train the networks and fit the pool weights."""
        inputs, spec = self.inputs, self.spec
        assert inputs.embeddings is not None  # `needs` says so
        assert inputs.fold is not None
        warm = self._warm_start()
        training_set = TrainingSet(
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
        prototypes = Prototypes.of(training_set, spec, inputs.seed, None if warm is None else warm["centres"])
        self._kept["centres"] = prototypes.centres
        centres = centroids(prototypes)
        scale = np.full(training_set.n_folds, self._sharpness(training_set, centres), dtype=np.float32)
        self._centroids = Encodings(training_set.z, centres, scale, training_set.fold_of, {})
        self._attributes = {"decisions": decisions, "components": training_set.z.shape[1], "steps": 0}
        if not enough:
            return
        self._codes = train(
            training_set,
            prototypes,
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
        self._network_weight = decisions / (decisions + PRIOR_DECISIONS)
        self._weigh(transition)

    def _checked(self) -> npt.NDArray[np.int8]:
        """Verdicts on the given labels, of scorable samples."""
        inputs = self.inputs
        if inputs.checked is None:
            return np.full(inputs.n, calibrate.UNCHECKED, dtype=np.int8)
        return np.where(inputs.scorable, inputs.checked, calibrate.UNCHECKED).astype(np.int8)

    def _verified(self) -> Mask:
        """Samples whose current label a person confirmed or assigned."""
        inputs, checked = self.inputs, self._checked()
        relabelled = (checked == 0) & (inputs.labels >= 0) & (inputs.labels != inputs.given_labels)
        return np.asarray((checked == 1) | relabelled)

    # ------------------------------------------------------------------------------ coordinates and centroids

    def _warm_start(self) -> dict[str, npt.NDArray[Any]] | None:
        """Arrays of an earlier fit to the same embedding, or None."""
        inputs, spec = self.inputs, self.spec
        assert inputs.embeddings is not None
        self._kept = {"probe": np.array(inputs.embeddings[self._fingerprint_rows()], dtype=np.float32)}
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

    def _fingerprint_rows(self) -> npt.NDArray[np.int64]:
        usable = np.flatnonzero(self.inputs.ok)
        return usable[np.linspace(0, len(usable) - 1, min(_FINGERPRINT_ROWS, len(usable))).astype(np.int64)]

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

    def _sharpness(self, training_set: TrainingSet, centres: Floats) -> float:
        """Maximum-likelihood scale of the centroids' cosines."""
        rows = sample_rows(training_set.fold >= 0, training_set.n_classes, 1, self.inputs.seed)
        rows = rows[:: max(1, len(rows) // 20_000)]
        codes = Encodings(
            training_set.z[rows],
            centres,
            np.ones(training_set.n_folds, np.float32),
            training_set.fold_of[rows],
            {},
        )
        cosines = codes.cosines(0, len(rows))
        mine = label_probability(cosines, training_set.labels[rows])

        def loss(scale: float) -> float:
            return float((logsumexp(scale * cosines, axis=1) - scale * mine).mean(dtype=np.float64))

        return round(float(minimize_scalar(loss, bounds=(1.0, 50.0), method="bounded").x), 2)

    # ------------------------------------------------------------------------------ weighing

    def _log_planes(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Log-probabilities of the network and the detectors, which ignore the samples' own labels, then the planes of
        those labels, (M + 2, n, K).
        """
        assert self._codes is not None
        parts = [detector.probabilities(start, stop) for detector in self._voters]
        logs = [log_probabilities([part])[0] for part in parts if part is not None]
        return np.stack([self._codes.log_p(start, stop), *logs, *self._label_planes(start, stop)])

    def _planes_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """The same for some rows, ascending."""
        parts = [
            self._log_planes(start, stop)[:, inside] for start, stop, _, inside in self.inputs.blocks_of(rows)
        ]
        return np.concatenate(parts, axis=1)

    def _label_planes(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Planes of the samples' own labels: log T_ty, and whether t = y, (2, n, K); 0 without a label."""
        assert self._log_transition is not None
        labels = self.inputs.given_labels[start:stop]
        known = labels >= 0
        planes = np.zeros((2, len(labels), self.inputs.n_classes), dtype=np.float32)
        planes[0, known] = self._log_transition.T[labels[known]]
        planes[1, known, labels[known]] = 1.0
        return planes

    def _weigh(self, transition: npt.NDArray[np.float64]) -> None:
        """Fit the pool weights of each fold on the decisions outside it, then calibrate on those inside."""
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
        begin = _initial_weights(plain, inputs.given_labels[labelled], transition)
        planes = logs[:, np.searchsorted(rows, decided)].astype(np.float64)
        named = self._verified()[decided]
        labels = np.where(named, inputs.labels[decided], inputs.given_labels[decided])
        fold_of = self._codes.fold_of[decided]
        self._weights = np.stack(
            [
                fit_pool_weights(planes[:, rest], labels[rest], named[rest], begin, self.spec.spread)
                for rest in (fold_of != fold for fold in range(len(self._codes.classes)))
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
        """Distribution over correct labels: from the centroids and, with enough decisions, the weighted pool."""
        assert self._centroids is not None, "fit_with_noise() comes first"
        logs = self._centroids.log_p(start, stop)
        if self._codes is not None:
            weights = self._weights[self._codes.fold_of[start:stop]].astype(np.float32)  # (n, M)
            planes = self._log_planes(start, stop)
            network_weight = np.float32(self._network_weight)
            logs *= 1 - network_weight
            for plane, weight in zip(planes, weights.T, strict=True):
                logs += plane * (network_weight * weight)[:, None]
        logs -= logs.max(axis=1, keepdims=True)
        np.exp(logs, out=logs)
        logs /= logs.sum(axis=1, keepdims=True)
        return logs

    # ------------------------------------------------------------------------------ results

    def probabilities(self, start: int, stop: int) -> None:
        """None: head and neighbours would count twice in the pool, which made the blend worse."""

    def score(self, start: int, stop: int) -> Floats:
        """Calibrated label score, or the label's probability from the centroids."""
        right = label_probability(self._posterior(start, stop), self.inputs.given_labels[start:stop])
        return self._calibration.apply(right) if self._calibration.checks else right

    def proposal(self, start: int, stop: int, p: Floats | None) -> Ints:
        """The most probable label, given also the sample's own."""
        return np.asarray(self._posterior(start, stop).argmax(axis=1), dtype=np.int32)

    def cosines(self, start: int, stop: int) -> Floats:
        """Cosine of the samples' codes and those of their labels, (n,) in -1..1; 1 is a typical sample of its label.

        Parameters
        ----------
        start, stop : int
            Samples start..stop-1; n of them.

        Returns
        -------
        ndarray of float32, shape (n,)
        """
        codes = self._codes or self._centroids
        assert codes is not None, "fit_with_noise() comes first"
        return label_probability(codes.cosines(start, stop), self.inputs.given_labels[start:stop])

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The cosines, for sample weights, and the warm start of the next fit."""
        cosine = np.concatenate([self.cosines(start, stop) for start, stop in self.inputs.blocks()])
        kept = self._kept if self._codes is not None else {}
        return {"cosine": cosine, **kept}

    def attributes(self) -> dict[str, Attribute]:
        """Decisions, steps and weights."""
        return self._attributes


def _initial_weights(
    logs: npt.NDArray[np.float32], labels: Ints, transition: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Maximum-likelihood pool weights under the transition matrix; 1 for the matrix and 0 for the label plane."""
    weights = fit_weights(logs, labels)
    weights = weights * fit_sharpness(geometric_pool(logs, weights), labels, transition)
    return np.array([*fit_weights(logs, labels, transition, weights), 1.0, 0.0])


@dataclass(frozen=True)
class Objective:
    """Negative log-posterior of the pool weights, given the decisions.

    Attributes
    ----------
    planes : ndarray of float64, shape (M, n, K)
        Log-probabilities.
    labels : ndarray of int32, shape (n,)
    named : ndarray of bool, shape (n,)
        True if `labels` is correct, False if it is wrong and the correct label is unknown.
    start : ndarray of float64, shape (M,)
        Prior mean of the weights.
    spread : float
        Prior standard deviation of the weights.
    """

    planes: npt.NDArray[np.float64]
    labels: Ints
    named: Mask
    start: npt.NDArray[np.float64]
    spread: float

    def __call__(self, weights: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        """Return the negative log-posterior and its gradient.

        Parameters
        ----------
        weights : ndarray of float64, shape (M,)
        """
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


def fit_pool_weights(
    planes: npt.NDArray[np.float64], labels: Ints, named: Mask, start: npt.NDArray[np.float64], spread: float
) -> npt.NDArray[np.float64]:
    """Return the pool weights of maximum posterior probability.

    Parameters
    ----------
    planes : ndarray of float64, shape (M, n, K)
        Log-probabilities.
    labels : ndarray of int32, shape (n,)
    named : ndarray of bool, shape (n,)
        True if `labels` is correct, False if it is wrong and the correct label is unknown.
    start : ndarray of float64, shape (M,)
        Prior mean, also the initial value.
    spread : float
        Prior standard deviation.

    Returns
    -------
    ndarray of float64, shape (M,)
        Rounded to 4 decimals.
    """
    if not len(labels):
        return start
    objective = Objective(planes, labels, named, start, spread)
    best = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 100})
    # Rounded, so that flags do not depend on a machine's last bits.
    return np.asarray([round(float(weight), 4) for weight in best.x])
