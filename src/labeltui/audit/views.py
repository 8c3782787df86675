"""What an open audit hands out: small immutable records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

CLASS_ORDERS = (
    "overlap",
    "name",
    "samples",
    "flags",
    "self_similarity",
    "spectral_contribution",
    "reviewed",
    "index",
)


class Step(NamedTuple):
    """One thing that was done, undone or redone.

    Attributes
    ----------
    seq : int
        Its action in the journal; saved when ``Audit.saved_seq`` has reached it.
    uuid : str
        The action's name in any journal.
    command : str
        ``decide``, ``note``, ``undo`` or ``redo``.
    kind : str
        What was decided, also for undo and redo: a kind of decision, or ``note``.
    samples : (m,) int64
        The samples concerned.
    """

    seq: int
    uuid: str
    command: str
    kind: str
    samples: NDArray[np.int64]


class Decision(NamedTuple):
    """The decision on one sample; labels are class indices, -1 = none."""

    kind: str
    label: int
    second: int
    note: str | None
    reviewer: str
    time: str


class Opinion(NamedTuple):
    """What one reviewer decided of one sample last; labels are class indices, -1 = none."""

    sample: int
    reviewer: str
    kind: str
    label: int
    second: int
    note: str | None
    time: str


class Summary(NamedTuple):
    """An audit at a glance.

    Attributes
    ----------
    samples, classes : int
    csg : float or None
        None when the scan could not compute one.
    csg_stale : bool
        Labels moved since `csg` was solved (only above 200 classes); ``Audit.solve_csg`` brings it up to
        date.
    csg_scan : float or None
        Of the given labels.
    interval : (float, float) or None
        The scan's 95 % bootstrap interval, moved with `csg`: single relabels hardly change its width.
    reviewed, relabelled : int
        Samples that have a decision; whose decision is another label.
    flagged, flags : int
        Samples for which another label is suggested first: all, and those without a decision.
    generation : int
    pending : int
        Actions that are not on disk yet.
    saved : bool
        Whether there are none.
    failed : str
        Why saving failed, empty when it did not.
    """

    samples: int
    classes: int
    csg: float | None
    csg_stale: bool
    csg_scan: float | None
    interval: tuple[float, float] | None
    reviewed: int
    relabelled: int
    flagged: int
    flags: int
    generation: int
    pending: int
    saved: bool
    failed: str


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class.

    Attributes
    ----------
    index : int
    id : bytes
    name : str
        For showing.
    samples : int
        With this current label, excluded ones not counted.
    flags, flagged : int
        Given this label and flagged: without a decision, and all.
    overlap, self_similarity : float or None
        Complexity (summed overlap with the other classes), and S[i, i]; None where no sample of the class counts.
    spectral_contribution : float or None
        Signed contribution to the CSG as last solved.
    reviewed : int
        Samples given this label that have a decision.
    reliable : bool
        More samples than neighbours counted.
    """

    index: int
    id: bytes
    name: str
    samples: int
    flags: int
    flagged: int
    overlap: float | None
    self_similarity: float | None
    spectral_contribution: float | None
    reviewed: int
    reliable: bool


class ClassTable(Sequence[ClassRow]):
    """All classes in an order. A row is made when it is asked for: of 1,000 classes a screen shows forty.

    Parameters
    ----------
    places : (K,) int64
        Class of each row.
    columns : mapping of str to (K,) array
        By field of `ClassRow`, by class; owned.
    ids : list of bytes
    names : list of str
    reliable_above : int
        Samples that a class needs more of to be reliable.
    """

    def __init__(
        self,
        places: NDArray[np.int64],
        columns: Mapping[str, NDArray[Any]],
        ids: list[bytes],
        names: list[str],
        reliable_above: int,
    ) -> None:
        self._places = places
        self._columns = columns
        self._ids = ids
        self._names = names
        self._reliable_above = reliable_above

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, row: int) -> ClassRow: ...
    @overload
    def __getitem__(self, row: slice) -> list[ClassRow]: ...
    def __getitem__(self, row: int | slice) -> ClassRow | list[ClassRow]:
        if isinstance(row, slice):
            return [self._row(label) for label in self._places[row].tolist()]
        return self._row(int(self._places[row]))

    def _row(self, label: int) -> ClassRow:
        values = {name: column[label].item() for name, column in self._columns.items()}
        values = {name: None if value != value else value for name, value in values.items()}  # NaN: not known
        return ClassRow(
            index=label,
            id=self._ids[label],
            name=self._names[label],
            spectral_contribution=values.pop("spectral_contribution", None),
            reliable=values["samples"] > self._reliable_above,
            **values,
        )

    @cached_property
    def _rows(self) -> NDArray[np.int64]:
        return np.argsort(self._places)

    def row_of(self, label: int) -> int:
        """Return the rank of a class."""
        return int(self._rows[label])

    @property
    def labels(self) -> list[int]:
        """The classes in their order."""
        found: list[int] = self._places.tolist()
        return found

    def total(self, column: str) -> int:
        """Return the sum of a column of counts."""
        return int(self._columns[column].sum())

    def largest(self, column: str) -> float:
        """Return the largest value of a column; 0 where there is none."""
        values = self._columns.get(column)
        if values is None or not len(values) or np.isnan(values).all():
            return 0.0
        return float(np.nanmax(values))


class PairRow(NamedTuple):
    """Two classes: their overlap `W`, and `S_ab`, the proportion of b among the neighbours of a."""

    a: int
    b: int
    W: float
    S_ab: float
    S_ba: float


class WhatIf(NamedTuple):
    """What a decision on many samples would change.

    Attributes
    ----------
    samples : int
        Samples whose decision would change.
    by_given, by_suggested : list of (class, count)
        Most frequent first; class -1 = none.
    d_overlap : (K,) float64
        Change of each class's overlap.
    csg_before, csg_after : float or None
        None above 5,000 classes.
    trace_before, trace_after : float
        CSG, and the mean overlap tr(L) / K.
    """

    samples: int
    by_given: list[tuple[int, int]]
    by_suggested: list[tuple[int, int]]
    d_overlap: NDArray[np.float64]
    csg_before: float | None
    csg_after: float | None
    trace_before: float
    trace_after: float


class Change(NamedTuple):
    """Effect of a run's new scores: undecided samples newly flagged, and those no longer flagged.

    `reason` says why, where the flags became many times as many or as few (`labeltui.audit.moved`).
    """

    new_flags: int
    cleared_flags: int
    generation: int
    run: str
    reason: str = ""
