"""Class overlaps updated incrementally with every relabel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from labeltui._fast import csg as kernels
from labeltui.csg.counting import SPARSE_ABOVE, Floats, Integers, Matrix, checked, class_sizes
from labeltui.csg.measures import Complexity, Overlaps, complexity, overlaps
from labeltui.errors import InputError


class Snapshot(NamedTuple):
    """Copies of the counts of a `LiveCsg` at one moment; safe to measure on any thread."""

    T: Matrix
    sizes: Integers
    k: int

    def complexity(self) -> Complexity:
        """Overlaps, spectrum and CSG; see `labeltui.csg.complexity`."""
        return complexity(self.T, self.sizes, self.k)

    def overlaps(self) -> Overlaps:
        """Overlaps without an eigen-solve."""
        return overlaps(self.T, self.sizes, self.k)


class LiveCsg:
    """The class matrices of a graph, kept exact while single labels change.

    A label does not change the embedding, so the neighbours stay: a relabel changes T only by the few counts
    around one sample, and S and W only in the rows and columns of the classes involved. T equals a rebuild to
    the bit after any sequence of relabels, so giving a sample its previous label back is an exact undo.

    Up to `SPARSE_ABOVE` classes `overlap` and `self_similarity` are updated with each relabel (microseconds). Above,
    T is sparse and they are computed on access. Not thread-safe: hand other threads a `snapshot`.

    Parameters
    ----------
    T : (K, K) int64 or csr_array
        `pooled_counts` of these indices and labels at `csg_k`; copied.
    indices : (N, >= csg_k) int32
        Neighbour lists; kept, never changed, may be memory-mapped.
    labels : (N,) int32
        Class of each sample, -1 = outside S; copied.
    rev_indptr : (N + 1,) int64
    rev_indices : (M,) int32
        Reverse lists of the first `csg_k` neighbours: the samples that have s among theirs are
        ``rev_indices[rev_indptr[s]:rev_indptr[s + 1]]``.
    n_classes : int
        K.
    csg_k : int
        Neighbours counted per sample.

    Raises
    ------
    InputError
        Shapes do not fit, or an index or label is out of range.
    """

    def __init__(
        self,
        T: Matrix,
        indices: NDArray[Any],
        labels: NDArray[Any],
        rev_indptr: NDArray[Any],
        rev_indices: NDArray[Any],
        n_classes: int,
        csg_k: int,
    ) -> None:
        self._indices, checked_labels = checked(indices, labels, n_classes, csg_k)
        self._rev_indptr = np.ascontiguousarray(rev_indptr, dtype=np.int64)
        self._rev_indices = np.ascontiguousarray(rev_indices, dtype=np.int32)
        n = len(checked_labels)
        if T.shape != (n_classes, n_classes):
            raise InputError(f"pooled counts must be {n_classes} x {n_classes}", f"got {T.shape}")
        if len(self._rev_indptr) != n + 1 or self._rev_indptr[-1] != len(self._rev_indices):
            raise InputError(
                "reverse lists must have N + 1 pointers, the last one the number of indices",
                f"got {len(self._rev_indptr)} pointers for {n} samples and {len(self._rev_indices)} indices",
                "take them from Graph.reverse(csg_k)",
            )
        # Validated here, once: the kernels trust these numbers.
        if self._indices.size and not (self._indices.min() >= -1 and self._indices.max() < n):
            raise InputError(
                f"neighbours must be sample indices below {n}, or -1", "got indices out of range"
            )
        if self._rev_indices.size and not (self._rev_indices.min() >= 0 and self._rev_indices.max() < n):
            raise InputError(
                f"reverse neighbours must be sample indices below {n}", "got indices out of range"
            )
        if self._rev_indptr[0] != 0 or (np.diff(self._rev_indptr) < 0).any():
            raise InputError(
                "the pointers of reverse lists must start at 0 and never decrease", "they do not"
            )
        if checked_labels.size and checked_labels.min() < -1:
            raise InputError(
                f"labels must be -1 or class indices below {n_classes}", f"got {checked_labels.min()}"
            )
        self.n_classes = n_classes
        self.csg_k = csg_k
        self._labels = checked_labels.copy()
        self._sizes = class_sizes(self._indices, self._labels, n_classes)
        self._dense = n_classes <= SPARSE_ABOVE
        self._cached: Overlaps | None = None
        if self._dense:
            self._T = np.array(T.toarray() if sparse.issparse(T) else T, dtype=np.int64, order="C")
            self._live = self._counts(self._T, self._labels, self._sizes, matrices=True)
        else:
            self._base = sparse.csr_array(T).astype(np.int64)
            self._moved: dict[tuple[int, int], int] = {}

    @property
    def T(self) -> Matrix:
        """Pooled counts now: a read-only view, or a new csr_array above `SPARSE_ABOVE` classes."""
        return _readonly(self._T) if self._dense else self._sparse_T()

    @property
    def labels(self) -> NDArray[np.int32]:
        """(N,) int32, labels now: a read-only view."""
        return _readonly(self._labels)

    @property
    def sizes(self) -> Integers:
        """(K,) int64, samples of each class now: a read-only view."""
        return _readonly(self._sizes)

    @property
    def overlap(self) -> Floats:
        """(K,) float64, summed overlap of each class with the others now, to about K * 5e-10; a copy."""
        if not self._dense:
            return self._sparse_overlaps().overlap
        overlap: Floats = self._live.overlap / kernels.FIXED_ONE
        return overlap

    @property
    def self_similarity(self) -> Floats:
        """(K,) float64, fraction of a class's neighbours that are of the class itself now; a copy."""
        if not self._dense:
            return self._sparse_overlaps().self_similarity
        sums = self._live.total
        fraction: Floats = np.divide(self._T.diagonal(), sums, out=np.zeros(self.n_classes), where=sums > 0)
        return fraction

    @property
    def W(self) -> Matrix:
        """(K, K) float64 or csr_array, overlaps of all pairs now, each to about K * 5e-10; a copy."""
        return self._live.fixed_W / kernels.FIXED_ONE if self._dense else self._sparse_overlaps().W

    def relabel(self, sample: int, label: int) -> int:
        """Change the label of one sample.

        Parameters
        ----------
        sample : int
            0..N-1.
        label : int
            Its new class, or -1 to leave the sample out of S, as a source and as a neighbour.

        Returns
        -------
        int
            The label it had; relabelling with that one undoes the change to the bit.

        Raises
        ------
        InputError
            Sample or label out of range; nothing is changed.
        """
        if not 0 <= sample < len(self._labels):
            raise InputError(f"a sample must be in 0..{len(self._labels) - 1}", f"got {sample}")
        if not -1 <= label < self.n_classes:
            raise InputError(f"a label must be in -1..{self.n_classes - 1}", f"got {label}")
        if self._dense:
            return self._live.relabel(sample, label)
        return self._sparse_relabel(sample, label)

    def snapshot(self) -> Snapshot:
        """Copy the current counts and sizes."""
        return Snapshot(self._T.copy() if self._dense else self._sparse_T(), self._sizes.copy(), self.csg_k)

    def complexity(self) -> Complexity:
        """Overlaps, spectrum and CSG of the labels now; on another thread call `snapshot().complexity()`."""
        return self.snapshot().complexity()

    def what_if(self, samples: Iterable[int], labels: Iterable[int]) -> tuple[Complexity, Complexity]:
        """Complexity now and after hypothetical relabels; the live state does not change.

        Parameters
        ----------
        samples, labels : iterables of int, equally long
            As for `relabel`; the last entry for a sample wins.

        Returns
        -------
        before, after : Complexity
        """
        before = self.snapshot()
        after = self.after(samples, labels)
        return before.complexity(), after.complexity()

    def after(self, samples: Iterable[int], labels: Iterable[int]) -> Snapshot:
        """Snapshot after hypothetical relabels; the live state does not change.

        Parameters
        ----------
        samples, labels : iterables of int, equally long
            As for `relabel`; the last entry for a sample wins.

        Returns
        -------
        Snapshot

        Raises
        ------
        InputError
            Sample or label out of range.
        """
        pairs = [(int(sample), int(label)) for sample, label in zip(samples, labels, strict=True)]
        trial = LiveCsg.__new__(LiveCsg)
        trial.__dict__.update(self.__dict__)
        trial._labels, trial._sizes, trial._cached = self._labels.copy(), self._sizes.copy(), None
        if self._dense:
            trial._T = self._T.copy()
            trial._live = self._counts(trial._T, trial._labels, trial._sizes, matrices=False)
        else:
            trial._moved = dict(self._moved)
        for sample, label in pairs:
            trial.relabel(sample, label)
        return trial.snapshot()

    def _counts(
        self, T: Integers, labels: NDArray[np.int32], sizes: Integers, matrices: bool
    ) -> kernels.LiveCounts:
        return kernels.LiveCounts(
            T, labels, sizes, self._indices, self._rev_indptr, self._rev_indices, self.csg_k, matrices
        )

    def _sparse_relabel(self, s: int, new: int) -> int:
        old = int(self._labels[s])
        if old == new:
            return old
        self._labels[s] = new
        self._cached = None
        neighbours = self._indices[s, : self.csg_k]
        if neighbours[0] >= 0:
            for label, step in ((old, -1), (new, 1)):
                if label >= 0:
                    self._sizes[label] += step
        neighbour_labels = self._labels[neighbours[neighbours >= 0]].tolist()
        reverse_labels = self._labels[
            self._rev_indices[self._rev_indptr[s] : self._rev_indptr[s + 1]]
        ].tolist()
        for label, step in ((old, -1), (new, 1)):
            if label < 0:
                continue
            for cell in [(label, other) for other in neighbour_labels] + [
                (other, label) for other in reverse_labels
            ]:
                if min(cell) >= 0:
                    self._moved[cell] = self._moved.get(cell, 0) + step
        return old

    def _sparse_T(self) -> Matrix:
        if self._moved:
            cells = np.array(list(self._moved), dtype=np.int64)
            steps = np.array(list(self._moved.values()), dtype=np.int64)
            change = sparse.coo_array((steps, (cells[:, 0], cells[:, 1])), shape=self._base.shape)
            self._base = self._base + change.tocsr()
            self._base.eliminate_zeros()
            self._moved = {}
        return self._base.copy()

    def _sparse_overlaps(self) -> Overlaps:
        if self._cached is None:
            self._cached = self.snapshot().overlaps()
        return self._cached


def _readonly(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view
