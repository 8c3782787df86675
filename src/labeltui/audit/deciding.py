"""Checking a decision before it is made, its rows in the journal, and what it would change."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labeltui.audit.decisions import KINDS
from labeltui.audit.live_csg import LiveComplexity
from labeltui.audit.views import WhatIf
from labeltui.errors import InputError
from labeltui.journal import Row
from labeltui.store import Store
from labeltui.text import safe

Index = NDArray[np.int64]


def check_decision(
    indices: ArrayLike, kind: str, label: int | ArrayLike | None, given: NDArray[np.int32], n_classes: int
) -> tuple[Index, NDArray[np.int32]]:
    """Check a decision.

    Parameters
    ----------
    indices : array_like of int, shape (m,)
        Samples; repeated ones count once.
    kind : str
        One of `KINDS`.
    label : int or array_like of int, shape (m,), optional
        New label or labels, for "relabel" alone.
    given : ndarray of int32, shape (N,)
    n_classes : int

    Returns
    -------
    samples : ndarray of int64
        Distinct and ascending.
    labels : ndarray of int32
        Their labels after the decision.

    Raises
    ------
    InputError
        An index, kind or label is not allowed.
    """
    n = len(given)
    if kind not in KINDS[1:]:
        raise InputError(f"a decision is one of {', '.join(KINDS[1:])}", f"got {safe(kind)}")
    wanted = np.asarray(indices)
    if wanted.ndim != 1 or not len(wanted) or wanted.dtype.kind not in "iu":
        raise InputError("a decision needs a list of sample indices", f"got {wanted.dtype} {wanted.shape}")
    samples, first = np.unique(wanted.astype(np.int64), return_index=True)
    if samples[0] < 0 or samples[-1] >= n:
        raise InputError(f"samples are 0..{n - 1}", f"got {samples[0]}..{samples[-1]}")
    if (label is not None) != (kind == "relabel"):
        raise InputError("a label goes with relabel and with nothing else", f"got {label!r} with {kind}")
    if label is None:
        return samples, given[samples]
    labels = np.asarray(label)
    if labels.dtype.kind not in "iu" or labels.shape not in ((), wanted.shape):
        raise InputError("a relabel needs one class, or one for each sample", f"got shape {labels.shape}")
    if labels.min() < 0 or labels.max() >= n_classes:
        raise InputError(f"classes are 0..{n_classes - 1}", f"got {labels.min()}..{labels.max()}")
    new = np.broadcast_to(labels, wanted.shape)[first].astype(np.int32)
    return samples, new


class DecisionRows:
    """The decision rows of one action; built by the journal's thread, not at the key press."""

    def __init__(
        self,
        store: Store,
        class_ids: list[bytes],
        samples: Index,
        kinds: NDArray[np.int8],
        old: NDArray[np.int32],
        new: NDArray[np.int32],
        seconds: NDArray[np.int32],
        notes: list[str | None],
    ) -> None:
        self._ids = store.ids
        self._classes: list[bytes | None] = [*class_ids, None]  # -1 = the last
        self._columns = samples, kinds, old.copy(), new, seconds, notes

    def __iter__(self) -> Iterator[Row]:
        samples, kinds, old, new, seconds, notes = self._columns
        classes = self._classes
        for i, kind, before, after, second, note in zip(
            samples.tolist(), kinds.tolist(), old.tolist(), new.tolist(), seconds.tolist(), notes, strict=True
        ):
            yield i, self._ids[i], KINDS[kind], classes[before], classes[after], classes[second], note


def what_if(
    complexity: LiveComplexity,
    samples: Index,
    target: NDArray[np.int32],
    given: NDArray[np.int32],
    suggested: NDArray[np.int32],
) -> Callable[[], WhatIf]:
    """Prepare to compute what a decision would change.

    Parameters
    ----------
    complexity : LiveComplexity
    samples : ndarray of int64, shape (m,)
    target : ndarray of int32, shape (m,)
        Labels after it, -1 = excluded.
    given, suggested : ndarray of int32, shape (m,)
        Labels of the samples.

    Returns
    -------
    callable
        Computes it, on any thread.
    """
    solve = complexity.what_if(samples, target)

    def measure() -> WhatIf:
        before, after = solve()
        from labeltui.csg import Complexity  # loads scipy, as solving does

        return WhatIf(
            samples=len(samples),
            by_given=_most_frequent(given),
            by_suggested=_most_frequent(suggested),
            d_overlap=after.overlap - before.overlap,
            csg_before=before.csg if isinstance(before, Complexity) else None,
            csg_after=after.csg if isinstance(after, Complexity) else None,
            trace_before=before.trace,
            trace_after=after.trace,
        )

    return measure


def _most_frequent(labels: NDArray[np.int32]) -> list[tuple[int, int]]:
    values, counts = np.unique(labels, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return list(zip(values[order].tolist(), counts[order].tolist(), strict=True))
