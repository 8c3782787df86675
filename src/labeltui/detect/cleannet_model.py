"""The network of `cleannet`: one encoder for samples and for the reference sets of classes, compared by cosine.

::

    sample z_i --------------------------- encode --> code  \\
                                                             cosine --> x scale --> softmax over classes
    32 prototypes of a class --- encode --> attention --> code /

CleanNet (Lee et al., CVPR 2018) has two encoders, learns from verified samples alone whether a label fits, and
gives all others a pseudo-label from its own cosine. Here

* both sides share one encoder, ``U z + V tanh(W z + b)``, initialised to the principal axes with V = 0: before
  the first step the cosines are those of sample and class centroid;
* an unverified sample's target is the distribution over correct labels given its out-of-fold head and the
  transition matrix, a verified one's is its verified label. Steps on verified samples alone, as published,
  draw the codes to the reviewed classes and away from the others;
* everything is out of fold: the network of a fold, and the prototypes it uses, are fitted on the other folds, so no
  cosine depends on the label that it scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from labeltui import parallel
from labeltui.detect.base import Floats, Ints, Mask
from labeltui.errors import Cancelled
from labeltui.head.optimiser import AdamW, one_cycle
from labeltui.parallel import Progress

if TYPE_CHECKING:
    import torch

NAMES = ("U", "V", "W", "b", "context", "scale")  # of the parameters, in their order
_FLOOR = 1e-6
_BLOCK = 8192


@dataclass(frozen=True)
class CleanNetSpec:
    """Architecture and training of the networks.

    Attributes
    ----------
    centres : int
        Prototypes per class; a class with fewer members has as many as members.
    components : int
        Largest number of principal components.
    hidden, code : int
        Width of the hidden layer and of the codes; a narrower embedding has narrower codes.
    steps, refit_steps : int
        Training steps from scratch, and from a warm start.
    batch : int
        Samples of one step.
    classes : int
        Classes compared in a step: all up to this number, otherwise those of its samples and this many more.
    learning_rate, weight_decay : float
        Of AdamW, one cosine cycle.
    spread : float
        Prior standard deviation of the pool weights.
    """

    centres: int = 32
    components: int = 256
    hidden: int = 128
    code: int = 128
    steps: int = 150
    refit_steps: int = 40
    batch: int = 256
    classes: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    spread: float = 0.25


@dataclass(frozen=True)
class TrainingSet:
    """Training data of the networks of all folds.

    Attributes
    ----------
    z : ndarray of float32, shape (N, m)
        Principal coordinates, rows of length 1.
    labels : ndarray of int32, shape (N,)
        -1 = none.
    fold : ndarray of int8, shape (N,)
        -1 = never trained on.
    verified : ndarray of bool, shape (N,)
        Samples whose label a person confirmed or assigned.
    p : ndarray of float32, shape (N, K), optional
        Out-of-fold probabilities.
    transition : ndarray of float64, shape (K, K)
        T_ty = P(label y | correct label t).
    """

    z: Floats
    labels: Ints
    fold: npt.NDArray[np.int8]
    verified: Mask
    p: Floats | None
    transition: npt.NDArray[np.float64]

    @property
    def n_classes(self) -> int:
        """K."""
        return len(self.transition)

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return int(self.fold.max()) + 1

    @cached_property
    def fold_of(self) -> npt.NDArray[np.int8]:
        """Fold whose network scores a sample: its own; samples outside the folds are assigned in turn."""
        dealt = np.arange(len(self.fold)) % self.n_folds
        return np.where(self.fold >= 0, self.fold, dealt).astype(np.int8)

    def targets(self, rows: npt.NDArray[np.int64]) -> Floats:
        """Return distributions over correct labels, shape (n, K)."""
        labels = self.labels[rows]
        q = np.asarray(self.transition.T[labels], dtype=np.float32)
        if self.p is not None:
            q = q * np.maximum(self.p[rows], np.float32(_FLOOR))
        known = self.verified[rows]
        q[known] = 0.0
        q[known, labels[known]] = 1.0
        q /= np.maximum(q.sum(axis=1, keepdims=True), np.float32(1e-30))
        return q

    def trust(self) -> Floats:
        """Return the weight of each sample in the prototypes of its class, 0..1, shape (N,)."""
        weight = np.zeros(len(self.labels), dtype=np.float32)
        rows = np.flatnonzero(self.fold >= 0)
        for start in range(0, len(rows), _BLOCK):
            part = rows[start : start + _BLOCK]
            weight[part] = self.targets(part)[np.arange(len(part)), self.labels[part]]
        return np.maximum(weight, np.float32(0.01)) * (self.fold >= 0)


@dataclass(frozen=True)
class Prototypes:
    """Prototypes: the cluster means of each class without the samples of one fold.

    Attributes
    ----------
    centres : ndarray of float32, shape (K, R, m)
        Means over all samples: initial centres of the next clustering.
    means : ndarray of float32, shape (F, K, R, m)
    mass : ndarray of float32, shape (F, K, R)
        Weight of each; 0 = empty.
    """

    centres: Floats
    means: Floats
    mass: Floats

    @classmethod
    def of(
        cls, training_set: TrainingSet, spec: CleanNetSpec, seed: int, begin: Floats | None = None
    ) -> Prototypes:
        """Cluster each class by k-means, weighted by `TrainingSet.trust`.

        Parameters
        ----------
        training_set : TrainingSet
        spec : CleanNetSpec
        seed : int
        begin : ndarray of float32, shape (K, R, m), optional
            Initial centres; then a single pass of k-means is made.
        """
        z, weight = training_set.z, training_set.trust()
        k, r, m, folds = training_set.n_classes, spec.centres, training_set.z.shape[1], training_set.n_folds
        centres = np.zeros((k, r, m), dtype=np.float32) if begin is None else begin.copy()
        means = np.zeros((folds, k, r, m), dtype=np.float32)
        mass = np.zeros((folds, k, r), dtype=np.float32)
        for label in range(k):
            rows = np.flatnonzero((training_set.labels == label) & (training_set.fold >= 0))
            if not len(rows):
                continue
            amount = min(r, len(rows))
            with parallel.limit_blas(1):  # more threads would change the order of summation
                first_guess = None if begin is None else centres[label]
                where = _clusters(z[rows], weight[rows], amount, seed, first_guess)
            sums = np.zeros((folds, amount, m))
            total = np.zeros((folds, amount))
            cell = training_set.fold[rows].astype(np.int64) * amount + where
            order = np.argsort(cell, kind="stable")
            found, first = np.unique(cell[order], return_index=True)
            weighted = z[rows[order]] * weight[rows[order]][:, None]
            sums.reshape(-1, m)[found] = np.add.reduceat(weighted, first, axis=0, dtype=np.float64)
            total.reshape(-1)[found] = np.add.reduceat(weight[rows[order]], first, dtype=np.float64)
            whole = total.sum(axis=0)
            centres[label, :amount] = sums.sum(axis=0) / np.maximum(whole, 1e-12)[:, None]
            rest = np.maximum(whole - total, 0.0) * (
                _counts(where, training_set.fold[rows], folds, amount) > 0
            )
            means[:, label, :amount] = (sums.sum(axis=0) - sums) / np.maximum(rest, 1e-12)[:, :, None]
            means[:, label, :amount] *= (rest > 0)[:, :, None]
            mass[:, label, :amount] = rest
        return cls(centres, means, mass)


def _clusters(
    z: Floats, weight: Floats, amount: int, seed: int, begin: Floats | None
) -> npt.NDArray[np.int64]:
    """Cluster of each row."""
    if len(z) <= amount:
        return np.arange(len(z))
    if amount == 1:
        return np.zeros(len(z), dtype=np.int64)
    if begin is None:
        from sklearn.cluster import MiniBatchKMeans  # slow to import, and not needed in the review

        fitted = MiniBatchKMeans(amount, random_state=seed, batch_size=2048, n_init=1, max_iter=30)
        fitted.fit(z, sample_weight=weight)
        begin = np.asarray(fitted.cluster_centers_, dtype=np.float32)
    near = z @ begin[:amount].T - 0.5 * (begin[:amount] ** 2).sum(axis=1)
    return np.asarray(near.argmax(axis=1))


def _counts(
    where: npt.NDArray[np.int64], fold: npt.NDArray[np.int8], folds: int, amount: int
) -> npt.NDArray[np.int64]:
    """Members of each cluster outside each fold, (F, R)."""
    inside = np.bincount(fold.astype(np.int64) * amount + where, minlength=folds * amount)
    inside = inside.reshape(folds, amount)
    return np.asarray(inside.sum(axis=0) - inside)


def centroids(prototypes: Prototypes) -> Floats:
    """Return the centroid of each class without one fold, length 1, shape (F, K, m); 0 for a class without members."""
    total = (prototypes.means * prototypes.mass[:, :, :, None]).sum(axis=2)
    return np.asarray(
        total / np.maximum(np.linalg.norm(total, axis=2, keepdims=True), 1e-12), dtype=np.float32
    )


@dataclass(frozen=True)
class Encodings:
    """What the networks made of samples and classes.

    Attributes
    ----------
    samples : ndarray of float32, shape (N, c)
        Rows of length 1, each from the network that was not trained on the sample.
    classes : ndarray of float32, shape (F, K, c)
        Rows of length 1; 0 for a class without samples in the fold's training set.
    scale : ndarray of float32, shape (F,)
        Scale of the cosines in the softmax over classes.
    home : ndarray of int8, shape (N,)
        Fold whose network encodes the sample.
    weights : dict of str to ndarray
        The networks' parameters, (F, ...) each.
    """

    samples: Floats
    classes: Floats
    scale: Floats
    fold_of: npt.NDArray[np.int8]
    weights: Mapping[str, Floats]

    def cosines(self, start: int, stop: int) -> Floats:
        """Return the cosines of the samples start..stop and all classes, shape (n, K).

        Parameters
        ----------
        start, stop : int
            Samples start..stop-1; n of them.

        Returns
        -------
        ndarray of float32, shape (n, K)
        """
        fold_of = self.fold_of[start:stop]
        found = np.zeros((stop - start, self.classes.shape[1]), dtype=np.float32)
        with parallel.limit_blas(1):
            for number, classes in enumerate(self.classes):
                rows = np.flatnonzero(fold_of == number)
                found[rows] = self.samples[start:stop][rows] @ classes.T
        return found

    def log_p(self, start: int, stop: int) -> Floats:
        """Return the log-probabilities of all classes for the samples start..stop, shape (n, K).

        Parameters
        ----------
        start, stop : int
            Samples start..stop-1; n of them.

        Returns
        -------
        ndarray of float32, shape (n, K)
        """
        logits = self.cosines(start, stop) * self.scale[self.fold_of[start:stop]][:, None]
        seen = np.abs(self.classes).sum(axis=2) > 0
        logits[~seen[self.fold_of[start:stop]]] = -30.0
        logits -= logits.max(axis=1, keepdims=True)
        return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), dtype=np.float32)


def train(
    training_set: TrainingSet,
    prototypes: Prototypes,
    spec: CleanNetSpec,
    *,
    seed: int,
    threads: int | None,
    device: torch.device,
    begin: Mapping[str, Floats] | None = None,
    progress: Progress | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Encodings:
    """Train one network for each fold on the samples of the others and encode everything.

    Parameters
    ----------
    training_set : TrainingSet
    prototypes : Prototypes
    spec : CleanNetSpec
    seed : int
        The same seed and input give the same result on the same kind of machine, on any number of threads.
    threads : int, optional
        Networks trained at once on a CPU.
    device : torch.device
    begin : mapping, optional
        Initial parameters; then `spec.refit_steps` steps are taken.
    progress, cancel : callable, optional

    Returns
    -------
    Encodings

    Raises
    ------
    Cancelled
    """
    import torch

    n, folds = len(training_set.z), training_set.n_folds
    fold_of = training_set.fold_of
    z = torch.from_numpy(training_set.z).to(device)
    done, stop = [0] * folds, [False]
    steps = spec.refit_steps if begin is not None else spec.steps
    parts: list[tuple[Floats, Floats, list[Floats]]] = []

    def work(fold: int) -> tuple[Floats, Floats, list[Floats]]:
        if device.type == "cpu":
            torch.set_num_threads(1)
        net = _Network(training_set, prototypes, spec, fold, seed, z, begin)
        for _ in net.learn(steps):
            done[fold] += 1
            if stop[0]:
                break
        rows = np.flatnonzero(fold_of == fold)
        return net.samples(rows), net.classes().cpu().numpy(), net.arrays()

    before = torch.get_num_threads()
    workers = parallel.count_threads(threads) if device.type == "cpu" else 1
    try:
        with parallel.limit_blas(1), ThreadPoolExecutor(min(workers, folds)) as pool:
            jobs = [pool.submit(work, fold) for fold in range(folds)]
            try:
                for job in jobs:
                    while not job.done():
                        if cancel is not None and cancel():
                            raise Cancelled(
                                "cleannet was cancelled", f"after {sum(done)} of {folds * steps} steps"
                            )
                        if progress is not None:
                            progress(sum(done) / (folds * steps))
                        wait([job], timeout=0.1)
                    parts.append(job.result())
            except BaseException:
                stop[0] = True
                raise
    finally:
        torch.set_num_threads(before)
    samples = np.zeros((n, parts[0][0].shape[1]), dtype=np.float32)
    for fold, part in enumerate(parts):
        samples[fold_of == fold] = part[0]
    weights = {name: np.stack([part[2][at] for part in parts]) for at, name in enumerate(NAMES)}
    scale = np.exp(weights["scale"]).astype(np.float32).reshape(-1)
    return Encodings(samples, np.stack([part[1] for part in parts]), scale, fold_of, weights)


class _Network:
    """The network of one fold."""

    def __init__(
        self,
        training_set: TrainingSet,
        prototypes: Prototypes,
        spec: CleanNetSpec,
        fold: int,
        seed: int,
        z: torch.Tensor,
        begin: Mapping[str, Floats] | None,
    ) -> None:
        import torch

        self.training_set, self.spec, self.z = training_set, spec, z
        self.rng = np.random.default_rng([seed, fold])
        m = training_set.z.shape[1]
        if begin is None:
            code = min(spec.code, m)
            first = {
                "U": np.eye(code, m, dtype=np.float32),
                "V": np.zeros((code, spec.hidden), dtype=np.float32),
                "W": self.rng.standard_normal((spec.hidden, m), dtype=np.float32),
                "b": np.zeros(spec.hidden, dtype=np.float32),
                "context": np.zeros(code, dtype=np.float32),
                "scale": np.full(1, math.log(10.0), dtype=np.float32),
            }
        else:
            first = {name: np.array(begin[name][fold]) for name in NAMES}
        self.parameters = [torch.from_numpy(first[name]).to(z.device).requires_grad_() for name in NAMES]
        self.means = torch.from_numpy(prototypes.means[fold]).to(z.device)  # (K, R, m)
        mass = prototypes.mass[fold]
        self.seen = mass.sum(axis=1) > 0
        with np.errstate(divide="ignore"):
            log_mass = np.log(mass / np.maximum(mass.sum(axis=1, keepdims=True), 1e-12))
        log_mass[~self.seen] = 0.0  # their codes are not used
        self.log_mass = torch.from_numpy(log_mass.astype(np.float32)).to(z.device)
        others = (training_set.fold >= 0) & (training_set.fold_of != fold)
        self.rows = np.flatnonzero(others & self.seen[training_set.labels])

    def learn(self, steps: int) -> Iterator[None]:
        """Train for `steps` steps; yields after each."""
        u, v, w, b, context, scale = self.parameters
        optimiser = AdamW([u, v, w], [b, context, scale], self.spec.weight_decay)
        for step in range(steps):
            loss = self._loss()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step(self.spec.learning_rate * one_cycle(step / steps))
            yield

    def _loss(self) -> torch.Tensor:
        import torch

        training_set, spec = self.training_set, self.spec
        rows = self.rng.choice(self.rows, spec.batch)
        targets = training_set.targets(rows)
        chosen = self._compared(targets)
        classes = self.classes(chosen)
        log_p = torch.log_softmax(self._logits(rows, classes), dim=1)  # (b, k)
        wanted = targets[:, chosen]
        wanted /= np.maximum(wanted.sum(axis=1, keepdims=True), np.float32(1e-12))
        return -(torch.from_numpy(wanted).to(self.z.device) * log_p).sum(dim=1).mean()

    def _compared(self, targets: Floats) -> npt.NDArray[np.int64]:
        """Classes compared in a step."""
        seen = np.flatnonzero(self.seen)
        if len(seen) <= self.spec.classes:
            return seen
        needed = np.where(self.seen, targets, -1.0).argmax(axis=1)
        return np.union1d(needed, self.rng.choice(seen, self.spec.classes, replace=False)).astype(np.int64)

    def _encode(self, z: torch.Tensor) -> torch.Tensor:
        from torch.nn.functional import linear, normalize

        u, v, w, b, _, _ = self.parameters
        return normalize(linear(z, u) + linear(linear(z, w, b).tanh(), v), dim=-1)  # (..., c)

    def _logits(self, rows: npt.NDArray[np.int64], classes: torch.Tensor) -> torch.Tensor:
        import torch

        codes = self._encode(self.z[torch.from_numpy(rows).to(self.z.device)])
        return self.parameters[5].exp() * (codes @ classes.T)

    def classes(self, chosen: npt.NDArray[np.int64] | None = None) -> torch.Tensor:
        """Codes of the classes `chosen`, or of all; 0 for classes without prototypes."""
        import torch
        from torch.nn.functional import normalize

        if chosen is None:
            codes = torch.zeros((len(self.seen), self.parameters[0].shape[0]), device=self.z.device)
            with torch.no_grad():
                for part in np.array_split(np.flatnonzero(self.seen), max(1, len(self.seen) // 256)):
                    codes[torch.from_numpy(part)] = self.classes(part)
            return codes
        index = torch.from_numpy(chosen).to(self.z.device)
        codes = self._encode(self.means[index])  # (k, R, c)
        attention = torch.softmax(codes @ self.parameters[4] + self.log_mass[index], dim=1)  # (k, R)
        return normalize((attention[:, :, None] * codes).sum(dim=1), dim=-1)

    def samples(self, rows: npt.NDArray[np.int64]) -> Floats:
        """Codes of samples."""
        import torch

        parts = [np.zeros((0, self.parameters[0].shape[0]), dtype=np.float32)]
        with torch.no_grad():
            for start in range(0, len(rows), _BLOCK):
                index = torch.from_numpy(rows[start : start + _BLOCK]).to(self.z.device)
                parts.append(self._encode(self.z[index]).cpu().numpy())
        return np.concatenate(parts)

    def arrays(self) -> list[Floats]:
        """Parameters, in the order of `NAMES`."""
        return [value.detach().cpu().numpy() for value in self.parameters]
