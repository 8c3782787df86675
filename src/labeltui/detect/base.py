"""What a detector gets, what it is, and what all of them return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from labeltui.errors import InputError
from labeltui.head import Dynamics, HeadSpec
from labeltui.parallel import Progress
from labeltui.unfinished import Keeper

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]
Attribute = str | int | float

UNKNOWN = np.float32(0.5)  # the score of a sample without evidence about its label
_BLOCK_VALUES = 4_000_000  # probabilities at a time: 16 MB for each detector


@dataclass(frozen=True)
class DetectorInputs:
    """The arrays of an audit that detectors read.

    Attributes
    ----------
    labels : ndarray of int32, shape (N,)
        The labels that neighbours vote with and heads learned, -1 = none.
    n_classes : int
        K.
    ok : ndarray of bool, shape (N,)
        False = no usable embedding.
    indices : ndarray of int32, shape (N, k), optional
        Nearest neighbours, nearest first, -1 = none.
    similarity : ndarray of float32, shape (N, k), optional
        Their cosine similarities.
    groups : ndarray of int32, shape (N,), optional
        Duplicates have the same number.
    p_head : ndarray of float32, shape (N, K), optional
        Out-of-fold probabilities of the head.
    p_tuned : ndarray of float32, shape (N, K), optional
        Out-of-fold probabilities of a backbone fine-tuned on the images.
    pred_probs : ndarray of float32, shape (N, K), optional
        Out-of-fold probabilities that the user brought, columns in the audit's class order.
    embeddings : ndarray, shape (N, d), optional
    fold : ndarray of int8, shape (N,), optional
        The folds behind `p_head`, -1 = none.
    given : ndarray of int32, shape (N,), optional
        The labels in doubt, which scores and flags speak of, where a person has since changed some of
        `labels`.
    checked : ndarray of int8, shape (N,), optional
        What people found: 1 = the given label is correct, 0 = wrong, -1 = not reviewed.
    weights : ndarray of float32, shape (N,), optional
        Sample weights for heads that detectors train.
    head : HeadSpec, optional
        What such heads are like.
    dynamics : Dynamics, optional
        The training of the head, or of a fine-tuned backbone, as it was recorded.
    head_dynamics : bool
        Whether it is the head's.
    injected : ndarray of bool, shape (N,), optional
        Samples whose label was replaced by a wrong one on purpose in that training, and there alone.
    device : str
        Where they are trained.
    seed : int
    threads : int, optional
    kept : mapping of str to mapping
        By detector, the arrays that it gave at its last run (`Detector.arrays`), to go on from.
    keeper : Keeper, optional
        Place for the unfinished work of the detector that takes longest, the noise-corrected classifier.
    """

    labels: Ints
    n_classes: int
    ok: Mask
    indices: Ints | None = None
    similarity: Floats | None = None
    groups: Ints | None = None
    p_head: Floats | None = None
    pred_probs: Floats | None = None
    embeddings: npt.NDArray[np.floating] | None = None
    fold: npt.NDArray[np.int8] | None = None
    given: Ints | None = None
    checked: npt.NDArray[np.int8] | None = None
    weights: Floats | None = None
    head: HeadSpec | None = None
    device: str = "auto"
    seed: int = 0
    threads: int | None = None
    p_tuned: Floats | None = None
    dynamics: Dynamics | None = None
    head_dynamics: bool = True
    injected: Mask | None = None
    kept: Mapping[str, Mapping[str, npt.NDArray[Any]]] = field(default_factory=dict)
    keeper: Keeper | None = None

    def __post_init__(self) -> None:
        n, k = len(self.labels), self.n_classes
        shapes = {
            "labels": (self.labels, (n,)),
            "given": (self.given, (n,)),
            "ok": (self.ok, (n,)),
            "groups": (self.groups, (n,)),
            "fold": (self.fold, (n,)),
            "p_head": (self.p_head, (n, k)),
            "p_tuned": (self.p_tuned, (n, k)),
            "weights": (self.weights, (n,)),
            "checked": (self.checked, (n,)),
            "injected": (self.injected, (n,)),
            "dynamics": (None if self.dynamics is None else self.dynamics.labels, (n,)),
            "pred_probs": (self.pred_probs, (n, k)),
        }
        for name, (array, shape) in shapes.items():
            if array is not None and array.shape != shape:
                raise InputError(f"{name} must have the shape {shape}", f"got {array.shape}")
        for name in ("indices", "similarity", "embeddings"):
            array = getattr(self, name)
            if array is not None and (array.ndim != 2 or len(array) != n):
                raise InputError(f"{name} must have one row for each of {n} samples", f"got {array.shape}")
        for labels in (self.labels, self.given_labels):
            if n and (labels.max() >= k or labels.min() < -1):
                raise InputError(f"labels must be -1 or in 0..{k - 1}", "got others")

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.labels)

    @property
    def given_labels(self) -> Ints:
        """The labels that scores and flags speak of."""
        return self.labels if self.given is None else self.given

    @property
    def more_dynamics(self) -> bool:
        """Whether heads that detectors train can be recorded beside `dynamics`: like it, they learn the labels.

        The labels of a run with injected ones they do not learn, and a backbone's record is of another network.
        """
        return self.dynamics is not None and self.head_dynamics and self.injected is None

    @cached_property
    def scorable(self) -> Mask:
        """Samples whose label can be scored: usable, labelled, and of a class that others outside the sample's own
        duplicate group have too. A label that occurs once cannot be confirmed by anything.
        """
        known = self.ok & (self.given_labels >= 0)
        groups = self.groups if self.groups is not None else np.arange(self.n, dtype=np.int32)
        pairs = np.unique(np.stack([self.given_labels[known], groups[known]], axis=1), axis=0)
        bundles = (
            np.bincount(pairs[:, 0], minlength=self.n_classes) if len(pairs) else np.zeros(self.n_classes)
        )
        scorable = known.copy()
        scorable[known] = bundles[self.given_labels[known]] >= 2
        return scorable

    @cached_property
    def by_given_probs(self) -> Mask:
        """Samples that nothing but the user's own probabilities can judge: usable and alone in their class."""
        if self.pred_probs is None:
            return np.zeros(self.n, dtype=bool)
        return self.ok & (self.given_labels >= 0) & ~self.scorable

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Row ranges small enough that a block of probabilities takes little memory."""
        rows = max(1, _BLOCK_VALUES // max(self.n_classes, 1))
        for start in range(0, self.n, rows):
            yield start, min(start + rows, self.n)

    def blocks_of(
        self, rows: npt.NDArray[np.int64]
    ) -> Iterator[tuple[int, int, slice, npt.NDArray[np.int64]]]:
        """The blocks that hold some of `rows`, ascending: start, stop, their places in `rows`, and in the block."""
        for start, stop in self.blocks():
            first, last = (int(at) for at in np.searchsorted(rows, [start, stop]))
            if first < last:
                yield start, stop, slice(first, last), rows[first:last] - start


class Detector(ABC):
    """One opinion about labels.

    To add a detector: subclass, name what it needs of `DetectorInputs`, and give either class probabilities or a
    score.

    ``name``
        Names the dataset ``/scores/<name>`` and the line in the evidence; lower case, unique.
    ``title``
        A few words for people.
    ``needs``
        Attributes of `DetectorInputs` that must not be None; without them the detector is left out.
    ``fit()``
        One pass over everything, if it needs one. Optional.
    ``probabilities(start, stop)``
        Distribution over all classes for the samples start..stop, float32 (stop - start, K), rows sum to 1,
        formed without the samples' own labels. None for a detector that only scores. The blend pools them,
        and the suggested labels come from them.
    ``proposal(start, stop, p)``
        The label that it would give; by default the most probable one. Optional.
    ``score(start, stop)``
        float32 in [0, 1], LOW = the label looks wrong. By default the probability of the label.

    Then put ``@register`` over it (`labeltui.detect.registry`), or name it in the entry-point group
    ``labeltui.detectors`` of your own package. Samples that cannot be scored need no care: `run` gives them
    the score one half.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, inputs: DetectorInputs) -> None:
        self.inputs = inputs

    @classmethod
    def feasible(cls, inputs: DetectorInputs) -> bool:
        """Whether this data set's size allows the detector; its needs are met when this is asked."""
        return True

    def fit(self) -> None:  # noqa: B027 - most detectors have nothing to fit
        """Look at everything once."""

    @abstractmethod
    def probabilities(self, start: int, stop: int) -> Floats | None:
        """Distribution over the classes for the samples start..stop, or None.

        Parameters
        ----------
        start, stop : int
            Samples start..stop-1; n of them.

        Returns
        -------
        ndarray of float32, shape (n, K), or None
            Rows sum to 1; None if the detector gives no probabilities.
        """

    @property
    def gives_probabilities(self) -> bool:
        """Whether it gives probabilities, once fitted."""
        return self.inputs.n > 0 and self.probabilities(0, 1) is not None

    def score(self, start: int, stop: int) -> Floats:
        """Trust in the labels of the samples start..stop, 0..1.

        Parameters
        ----------
        start, stop : int
            Samples start..stop-1; n of them.

        Returns
        -------
        ndarray of float32, shape (n,)
            0..1, high = the given label looks correct.
        """
        p = self.probabilities(start, stop)
        if p is None:
            raise NotImplementedError(f"{type(self).__name__} gives neither probabilities nor a score")
        return label_probability(p, self.inputs.given_labels[start:stop])

    def proposal(self, start: int, stop: int, p: Floats | None) -> Ints | None:
        """Label that the detector would give the samples start..stop, -1 = none; None where it proposes nothing.

        By default the most probable class; `p` is what `probabilities` gave for these samples.

        Parameters
        ----------
        start, stop : int
            Samples start..stop-1; n of them.
        p : ndarray of float32, shape (n, K), or None
            What `probabilities` returned for these samples.

        Returns
        -------
        ndarray of int32, shape (n,), or None
        """
        return None if p is None else p.argmax(axis=1).astype(np.int32)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Further arrays to store, below ``/detectors/<name>``; asked for when everything is scored."""
        return {}

    def attributes(self) -> dict[str, Attribute]:
        """Settings, for the record."""
        return {}


class NoiseAwareDetector(Detector):
    """A detector that is fitted with the transition matrix that the others imply.

    ``order``
        Those with a smaller one are fitted first.
    ``reads(inputs)``
        Names of such detectors whose results it uses, where they can run. Optional.
    ``robust``
        Whether it holds where most labels are wrong. There the blend pools none but these.
    ``wanted(error_rate)``
        Whether to fit it at all, where about so many labels are wrong. Optional.
    """

    order: ClassVar[int] = 0
    robust: ClassVar[bool] = False

    @classmethod
    def wanted(cls, error_rate: float) -> bool:
        """Whether the detector is of use where this fraction of the labels is wrong; otherwise it is left out.

        Parameters
        ----------
        error_rate : float
            As the detectors that learn the given labels imply it, 0..1.
        """
        return True

    @classmethod
    def reads(cls, inputs: DetectorInputs) -> frozenset[str]:
        """Names of noise-aware detectors of smaller order whose results it uses, where they can run."""
        return frozenset()

    def seconds(self) -> float:
        """Estimate the time of fitting, on as many cores as it uses; only progress is told by it."""
        return 1e-5 * self.inputs.n

    @abstractmethod
    def fit_with_noise(
        self,
        transition: npt.NDArray[np.float64],
        detectors: Sequence[Detector],
        progress: Progress,
        cancel: Callable[[], bool] | None,
    ) -> None:
        """Fit. Called once, after `fit` and before `probabilities` and `score`.

        Parameters
        ----------
        transition : ndarray of float64, shape (K, K)
            T_ty = P(label y | right label t) of `DetectorInputs.labels`.
        detectors : sequence of Detector
            Those that give probabilities, fitted so far.
        progress : callable
            Called with the fraction done, 0..1.
        cancel : callable, optional
            Returns whether to stop.
        """


@dataclass(frozen=True)
class Findings:
    """The result of all detectors.

    Attributes
    ----------
    scores : dict of str to ndarray of float32, shape (N,)
        By detector; [0, 1], low = bad; one half for samples that cannot be scorable.
    blend : ndarray of float32, shape (N,)
        P(given label correct).
    suggest_label : ndarray of int32, shape (N, 5)
        Most probable labels, best first; -1 fills up. A sample is flagged when the first is not its label: where
        that is wrong with more than the chance that makes a flag, the most probable other one comes first.
    suggest_p : ndarray of float32, shape (N, 5)
        Their probabilities.
    transition : ndarray of float64, shape (K, K)
        Estimated T_ty = P(given label y | right label t).
    proposals : dict of str to ndarray of int32, shape (N,)
        By detector, the label that it would give; -1 = none.
    attrs : dict of str to dict
        Settings by detector, and of "blend".
    arrays : dict of str to dict
        By detector, further arrays to store.
    """

    scores: dict[str, Floats]
    blend: Floats
    suggest_label: Ints
    suggest_p: Floats
    transition: npt.NDArray[np.float64]
    proposals: dict[str, Ints] = field(default_factory=dict)
    attrs: dict[str, dict[str, Attribute]] = field(default_factory=dict)
    arrays: dict[str, dict[str, npt.NDArray[Any]]] = field(default_factory=dict)


def label_probability(p: Floats, labels: Ints) -> Floats:
    """Return each row's entry for its label; one half where the label is -1.

    Parameters
    ----------
    p : ndarray of float32, shape (n, K)
    labels : ndarray of int32, shape (n,)
        -1 = none.

    Returns
    -------
    ndarray of float32, shape (n,)
    """
    score = np.full(len(p), UNKNOWN, dtype=np.float32)
    rows = np.flatnonzero(labels >= 0)
    score[rows] = p[rows, labels[rows]]
    return score
