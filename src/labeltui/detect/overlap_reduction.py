"""Expected overlap reduction: how much less the classes would overlap if a sample changed its label."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from labeltui import csg
from labeltui.detect.base import Attribute, Detector, DetectorInputs, Floats, Ints
from labeltui.detect.registry import register

NEIGHBOURS = 10


def overlap_reductions(inputs: DetectorInputs) -> tuple[npt.NDArray[np.float64], Ints]:
    """Return the largest reduction of tr(L), the classes' summed overlap, by a relabel of each scorable sample.

    Parameters
    ----------
    inputs : DetectorInputs
        With `indices`.

    Returns
    -------
    reduction : ndarray of float64, shape (N,)
        Exact; negative if every other label would add overlap, 0 where the label cannot be scored.
    best : ndarray of int32, shape (N,)
        The label that gives it, -1 = none.
    """
    n, k = inputs.n, inputs.n_classes
    reduction = np.zeros(n)
    best = np.full(n, -1, dtype=np.int32)
    assert inputs.indices is not None
    count = min(NEIGHBOURS, inputs.indices.shape[1])
    indices = np.ascontiguousarray(inputs.indices[:, :count], dtype=np.int32)
    labels = np.where(inputs.ok, inputs.labels, -1).astype(np.int32)
    counts = csg.pooled_counts(indices, labels, k, count, inputs.threads)
    live = csg.LiveCsg(counts, indices, labels, *_reverse(indices), k, count)
    nearest = np.argsort(-np.asarray(live.W) * (1 - np.eye(k)), axis=1, kind="stable")[:, 0]
    for row in np.flatnonzero(inputs.scorable):
        s, label, current = int(row), int(inputs.given_labels[row]), int(labels[row])
        if current != label:
            live.relabel(s, label)
        start = float(live.overlap.sum())
        near = indices[row]
        options = set(labels[near[near >= 0]].tolist()) - {-1, label} or {int(nearest[label])}
        largest = -np.inf
        for option in sorted(options):
            live.relabel(s, option)
            gain = start - float(live.overlap.sum())
            if gain > largest:
                largest, best[row] = gain, option
        reduction[row] = largest
        live.relabel(s, current)
    return reduction, best


def _reverse(indices: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    n, k = indices.shape
    flat = indices.ravel()
    order = np.argsort(flat, kind="stable")
    order = order[np.searchsorted(flat[order], 0) :]
    pointers = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(flat[order], minlength=n), out=pointers[1:])
    return pointers, (order // max(k, 1)).astype(np.int32)


@register
class OverlapReduction(Detector):
    """Exact reduction of tr(L), the classes' summed overlap, if the sample takes its best other label.

    The options are the labels of its 10 nearest neighbours. The score is ``1 / (1 + exp(reduction /
    typical reduction))``: low where another label would separate the classes better. It is no part of the ensemble: on
    human noise it ranks like a plain vote.
    """

    name = "csg"
    title = "reduction of class overlap"
    needs = frozenset({"indices"})

    def __init__(self, inputs: DetectorInputs) -> None:
        super().__init__(inputs)
        self.reduction: npt.NDArray[np.float64] = np.zeros(0)  # (N,), of tr(L)
        self.best: Ints = np.zeros(0, dtype=np.int32)  # (N,), the label that gives it
        self._scale = 1.0

    @classmethod
    def feasible(cls, inputs: DetectorInputs) -> bool:
        """Whether the class matrices are dense, so that a relabel costs microseconds."""
        return 2 <= inputs.n_classes <= csg.SPARSE_ABOVE

    def fit(self) -> None:
        """Try the labels of all samples."""
        self.reduction, self.best = overlap_reductions(self.inputs)
        moved = np.abs(self.reduction[self.inputs.scorable])
        self._scale = float(np.median(moved[moved > 0])) if (moved > 0).any() else 1.0

    def probabilities(self, start: int, stop: int) -> None:
        """None: a reduction is no probability."""

    def score(self, start: int, stop: int) -> Floats:
        """Low where the overlap would be reduced most."""
        return squash(self.reduction[start:stop] / self._scale)

    def proposal(self, start: int, stop: int, p: Floats | None) -> Ints:
        """The label with the largest reduction; the given label where nothing reduces the overlap."""
        part = slice(start, stop)
        better = self.reduction[part] > 0
        return np.where(better, self.best[part], self.inputs.given_labels[part]).astype(np.int32)

    def attributes(self) -> dict[str, Attribute]:
        """The reduction that gives the score 1 / (1 + e)."""
        return {"k": NEIGHBOURS, "typical_reduction": self._scale}


def squash(reduction: npt.NDArray[np.float64]) -> Floats:
    """Return ``1 / (1 + exp(reduction))`` as float32."""
    return np.asarray(1.0 / (1.0 + np.exp(np.clip(reduction, -60.0, 60.0))), dtype=np.float32)
