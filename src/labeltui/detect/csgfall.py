"""What the overlap of the classes would lose if a sample changed its label."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from labeltui import csg
from labeltui.detect.base import Attribute, Detector, Facts, Floats, Ints
from labeltui.detect.registry import register

NEIGHBOURS = 10
MOST_EXACT = 32  # classes up to which the spectrum is solved for every sample: 20 us each at 10 classes
_ROWS = 4096


class _Falls:
    """Exact falls of tr(L) (the classes' summed overlap) and of CSG, for all judged samples."""

    def __init__(self, facts: Facts) -> None:
        n, k = facts.n, facts.n_classes
        self.trace = np.zeros(n)
        self.csg = np.zeros(n) if k <= MOST_EXACT else None
        self.best = np.full(n, -1, dtype=np.int32)
        assert facts.indices is not None
        count = min(NEIGHBOURS, facts.indices.shape[1])
        indices = np.ascontiguousarray(facts.indices[:, :count], dtype=np.int32)
        labels = np.where(facts.ok, facts.labels, -1).astype(np.int32)
        counts = csg.pooled_counts(indices, labels, k, count, facts.threads)
        live = csg.LiveCsg(counts, indices, labels, *_reverse(indices), k, count)
        nearest = (
            np.argsort(-np.asarray(live.W) * (1 - np.eye(k)), axis=1, kind="stable")[:, 0] if k > 1 else None
        )
        waiting: list[tuple[int, npt.NDArray[np.float64]]] = []
        before = csg_of(np.asarray(live.W)[None])[0] if self.csg is not None else 0.0

        def settle() -> None:
            if waiting and self.csg is not None:
                rows = [row for row, _ in waiting]
                self.csg[rows] = before - csg_of(np.stack([w for _, w in waiting]))
                waiting.clear()

        for row in np.flatnonzero(facts.judged):
            s, label, current = int(row), int(facts.doubted[row]), int(labels[row])
            if current != label:
                live.relabel(s, label)
            start = float(live.overlap.sum())
            near = indices[row]
            options = set(labels[near[near >= 0]].tolist()) - {-1, label}
            if not options and nearest is not None:
                options = {int(nearest[label])}
            best = -np.inf
            kept: npt.NDArray[np.float64] | None = None
            for option in sorted(options):
                live.relabel(s, option)
                fall = start - float(live.overlap.sum())
                if fall > best:
                    best, self.best[row] = fall, option
                    if self.csg is not None:
                        kept = np.asarray(live.W)
            if options:
                self.trace[row] = best
                if kept is not None:
                    waiting.append((s, kept))
            live.relabel(s, current)
            if len(waiting) == _ROWS:
                settle()
        settle()


def csg_of(W: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the CSG of many overlap matrices at once, shape (n,).

    Parameters
    ----------
    W : ndarray of float64, shape (n, K, K)
    """
    n, k, _ = W.shape
    if k < 2 or not n:
        return np.zeros(n)
    off = W * (1 - np.eye(k))
    laplacian = -off
    laplacian[:, np.arange(k), np.arange(k)] = off.sum(axis=2)
    values = np.maximum(np.linalg.eigvalsh(laplacian), 0.0)
    gaps = np.diff(values, axis=1) / (k - np.arange(k - 1))
    return np.asarray(np.maximum.accumulate(gaps, axis=1).sum(axis=1))


def _reverse(indices: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    n, k = indices.shape
    flat = indices.ravel()
    order = np.argsort(flat, kind="stable")
    order = order[np.searchsorted(flat[order], 0) :]
    pointers = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(np.bincount(flat[order], minlength=n), out=pointers[1:])
    return pointers, (order // max(k, 1)).astype(np.int32)


@register
class CsgFall(Detector):
    """Exact fall of tr(L), the classes' summed overlap, if the sample takes its best other label.

    The options are the labels of its 10 nearest neighbours. The score is ``1 / (1 + exp(fall / typical
    fall))``: low where another label would part the classes better. The fall of CSG itself is computed too,
    up to 32 classes, for the record. Neither joins the pool: on human noise they rank like a plain vote.
    """

    name = "csg"
    title = "fall of class overlap"
    needs = frozenset({"indices"})

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self.falls: _Falls | None = None
        self._scale = 1.0

    @classmethod
    def feasible(cls, facts: Facts) -> bool:
        """Whether the class matrices are dense, so that a relabel costs microseconds."""
        return 2 <= facts.n_classes <= csg.SPARSE_ABOVE

    def fit(self) -> None:
        """Try the labels of all samples."""
        self.falls = _Falls(self.facts)
        moved = np.abs(self.falls.trace[self.facts.judged])
        self._scale = float(np.median(moved[moved > 0])) if (moved > 0).any() else 1.0

    def probabilities(self, start: int, stop: int) -> None:
        """None: a fall is no probability."""

    def score(self, start: int, stop: int) -> Floats:
        """Low where the overlap would fall most."""
        assert self.falls is not None, "fit() comes first"
        return squash(self.falls.trace[start:stop] / self._scale)

    def proposal(self, start: int, stop: int, p: Floats | None) -> Ints:
        """The label with the largest fall, where the overlap would fall at all; else the label itself."""
        assert self.falls is not None
        part = slice(start, stop)
        better = self.falls.trace[part] > 0
        return np.where(better, self.falls.best[part], self.facts.doubted[part]).astype(np.int32)

    def attributes(self) -> dict[str, Attribute]:
        """The fall that gives the score 1 / (1 + e)."""
        return {"k": NEIGHBOURS, "typical_fall": self._scale}


def squash(fall: npt.NDArray[np.float64]) -> Floats:
    """Return ``1 / (1 + exp(fall))`` as float32."""
    return np.asarray(1.0 / (1.0 + np.exp(np.clip(fall, -60.0, 60.0))), dtype=np.float32)
