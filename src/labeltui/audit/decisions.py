"""The decision log: the current decision of each sample, and the undo and redo stacks.

Each decision row holds the sample's full new state and the row that it replaced, so that undoing an action visits its
own rows only. Memory: 5 bytes per sample and about 30 bytes per row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeltui.errors import DamagedAudit
from labeltui.journal import Action, StoredAssignment, StoredOpinion, StoredRow
from labeltui.store import Store
from labeltui.text import safe

KINDS = ("", "keep", "relabel", "exclude", "ambiguous", "unsure", "skip")
"""Kinds of decisions by their number in `DecisionLog.kind`; 0 = undecided, possibly with a note."""

HOW = ("", "alone", "bulk", "check", "automatic")
"""How a decision came about, by its number in `DecisionLog.how`: looked at alone, with others, as a random check,
or by a program, without a person."""

ALONE, BULK, CHECK, AUTOMATIC = range(1, len(HOW))

UNDECIDED, KEEP, RELABEL, EXCLUDE, AMBIGUOUS, UNSURE, SKIP = range(len(KINDS))

Index = NDArray[np.int64]


@dataclass(slots=True)
class Entry:
    """An action with its rows, from `start` up to `stop`; a long session makes tens of thousands."""

    action: Action
    start: int
    stop: int

    @property
    def rows(self) -> slice:
        """The rows."""
        return slice(self.start, self.stop)


class _Column:
    """A growing array."""

    def __init__(self, dtype: Any) -> None:
        self._data: NDArray[Any] = np.empty(64, dtype)
        self.length = 0

    def extend(self, values: NDArray[Any]) -> None:
        stop = self.length + len(values)
        if stop > len(self._data):
            grown = np.empty(max(stop, 2 * len(self._data)), self._data.dtype)
            grown[: self.length] = self._data[: self.length]
            self._data = grown
        self._data[self.length : stop] = values
        self.length = stop

    @property
    def values(self) -> NDArray[Any]:
        return self._data[: self.length]


@dataclass(slots=True)
class _Rows:
    """All decision rows, undone or not, by column."""

    sample: _Column = field(default_factory=lambda: _Column(np.int32))
    kind: _Column = field(default_factory=lambda: _Column(np.int8))
    label: _Column = field(default_factory=lambda: _Column(np.int32))
    second: _Column = field(default_factory=lambda: _Column(np.int32))
    entry: _Column = field(default_factory=lambda: _Column(np.int32))
    before: _Column = field(default_factory=lambda: _Column(np.int32))  # the replaced row, -1 = none
    notes: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Foreign:
    """A decision that a merge brought: who decided a sample how, and when.

    `kind` is a position in `KINDS`, `how` one in `HOW`; `final` says whether it was in effect where it came from (an
    earlier one by somebody else may stand beside it).
    """

    sample: int
    kind: int
    label: int
    second: int
    note: str | None
    reviewer: str
    time: str
    how: int
    final: bool

    @property
    def definite(self) -> bool:
        """Whether it decides something: neither unsure nor skip."""
        return self.kind not in (UNDECIDED, UNSURE, SKIP)

    def agrees(self, kind: int, label: int, second: int) -> bool:
        """Whether another decision says the same; a keep and a relabel do where their labels are one."""
        kinds = {RELABEL if each == KEEP else each for each in (self.kind, kind)}
        if len(kinds) > 1:
            return False
        return EXCLUDE in kinds or (self.label, self.second) == (label, second)


class DecisionLog:
    """The decisions of one audit in memory.

    Parameters
    ----------
    n : int
        Number of samples.

    Attributes
    ----------
    row : (n,) int32
        Each sample's current row, -1 = none.
    kind : (n,) int8
        Each sample's current decision as its position in `KINDS`.
    """

    def __init__(self, n: int) -> None:
        self.row = np.full(n, -1, np.int32)
        self.kind = np.zeros(n, np.int8)
        self._rows = _Rows()
        self._entries: list[Entry] = []
        self._done: list[int] = []
        self._undone: list[int] = []
        self._undo_of: dict[int, str] = {}  # entry on the redo stack -> uuid of its undo
        self._foreign: dict[int, list[Foreign]] = {}  # entry of a merge -> what it brought
        self._authors: dict[int, dict[int, Foreign]] = {}  # the same by sample, of those in effect
        self._assigned: dict[int, dict[str, Index]] = {}  # entry of a split -> samples by reviewer

    # one action at a time

    def push(
        self,
        action: Action,
        samples: Index,
        kinds: NDArray[np.int8],
        labels: NDArray[np.int32],
        seconds: NDArray[np.int32],
        notes: Sequence[str | None],
        foreign: Sequence[Foreign] = (),
        assigned: Mapping[str, Index] | None = None,
    ) -> None:
        """Add and apply an action; clears the redo stack.

        Parameters
        ----------
        action : Action
        samples : (m,) int64
            Distinct sample indices.
        kinds : (m,) int8
            Positions in `KINDS`.
        labels, seconds : (m,) int32
            Label after the decision, and the second possible one; -1 = none.
        notes : sequence of str or None
            The note after the decision.
        foreign : sequence of Foreign
            Of a merge: all decisions that it brought.
        assigned : mapping of str to (m,) int64, optional
            Of a split: samples by reviewer.
        """
        self._undone.clear()
        self._undo_of.clear()
        self._share(len(self._entries), foreign, assigned or {})
        self._done.append(self._add(action, samples, kinds, labels, seconds, notes))
        self._apply(self._entries[-1])

    def _share(self, number: int, foreign: Sequence[Foreign], assigned: Mapping[str, Index]) -> None:
        if foreign:
            self._foreign[number] = list(foreign)
            self._authors[number] = {each.sample: each for each in foreign if each.final}
        if assigned:
            self._assigned[number] = dict(assigned)

    def to_undo(self) -> Action | None:
        """The action to undo next."""
        return self._entries[self._done[-1]].action if self._done else None

    def to_redo(self) -> tuple[Action, str] | None:
        """The action to redo next, and the uuid of its undo."""
        if not self._undone:
            return None
        return self._entries[self._undone[-1]].action, self._undo_of[self._undone[-1]]

    def scope(self, action: Action) -> tuple[Index, str]:
        """Samples of the action on top of either stack, and its kind (``note``, or one of `KINDS`)."""
        number = next(
            stack[-1]
            for stack in (self._done, self._undone)
            if stack and self._entries[stack[-1]].action is action
        )
        rows = self._entries[number].rows
        if action.kind in ("merge", "assign"):
            return self._rows.sample.values[rows].astype(np.int64), action.kind
        kinds = self._rows.kind.values[rows]
        # A bulk relabel keeps samples that have the label already: the others name it.
        kind = (
            "note"
            if action.kind == "note"
            else KINDS[int(kinds.max() if (kinds == RELABEL).any() else kinds[0])]
        )
        return self._rows.sample.values[rows].astype(np.int64), kind

    def undo(self, uuid: str) -> Index:
        """Undo the latest action; `uuid` names the undo. Returns its samples."""
        number = self._done.pop()
        self._undone.append(number)
        self._undo_of[number] = uuid
        rows = self._entries[number].rows
        samples = self._rows.sample.values[rows]
        before = self._rows.before.values[rows]
        self.row[samples] = before
        self.kind[samples] = np.where(before < 0, UNDECIDED, self._rows.kind.values[before])
        return samples.astype(np.int64)

    def redo(self) -> Index:
        """Redo the last undone action. Returns its samples."""
        number = self._undone.pop()
        del self._undo_of[number]
        self._done.append(number)
        self._apply(self._entries[number])
        return self._rows.sample.values[self._entries[number].rows].astype(np.int64)

    def _add(
        self,
        action: Action,
        samples: Index,
        kinds: NDArray[np.int8],
        labels: NDArray[np.int32],
        seconds: NDArray[np.int32],
        notes: Sequence[str | None],
    ) -> int:
        rows, start, number = self._rows, self._rows.sample.length, len(self._entries)
        rows.sample.extend(samples)
        rows.kind.extend(kinds)
        rows.label.extend(labels)
        rows.second.extend(seconds)
        rows.entry.extend(np.full(len(samples), number, np.int32))
        rows.before.extend(np.full(len(samples), -1, np.int32))
        rows.notes.update((start + place, note) for place, note in enumerate(notes) if note)
        self._entries.append(Entry(action, start, rows.sample.length))
        return number

    def _apply(self, entry: Entry) -> None:
        samples = self._rows.sample.values[entry.rows]
        self._rows.before.values[entry.rows] = self.row[samples]
        self.row[samples] = np.arange(entry.rows.start, entry.rows.stop, dtype=np.int32)
        self.kind[samples] = self._rows.kind.values[entry.rows]

    # bulk loading

    def load(
        self,
        actions: Sequence[Action],
        stored: Sequence[StoredRow],
        class_index: Callable[[bytes | None], int],
        foreign: Mapping[int, Sequence[Foreign]] | None = None,
        assigned: Mapping[int, Mapping[str, Index]] | None = None,
    ) -> None:
        """Replay a journal; called once, on an empty log.

        The stacks are replayed on the actions alone; the rows of those in effect are then linked in one step.

        Parameters
        ----------
        actions : sequence of Action
            In order.
        stored : sequence of tuple
            Rows of the decisions.
        class_index : callable
            Maps a class id to its index; -1 for None.
        foreign, assigned : mapping, optional
            What merges and splits brought, by the `seq` of their action.

        Raises
        ------
        DamagedAudit
            The journal contradicts itself or the audit.
        """
        kind_number = {kind: number for number, kind in enumerate(KINDS)}
        seq, sample, kind, label, second, note, _ = zip(*stored, strict=True) if stored else ((),) * 7
        unknown = set(kind) - kind_number.keys()
        if unknown:
            raise DamagedAudit(
                f"a decision is one of {', '.join(KINDS[1:])}",
                f"the journal holds {safe(min(unknown), 40)}",
                "put back the journal that was made with this audit",
            )
        class_number = {name: class_index(name) for name in {*label, *second}}
        rows = self._rows
        rows.sample.extend(np.array(sample, np.int32))
        rows.kind.extend(np.fromiter(map(kind_number.__getitem__, kind), np.int8, len(stored)))
        rows.label.extend(np.fromiter(map(class_number.__getitem__, label), np.int32, len(stored)))
        rows.second.extend(np.fromiter(map(class_number.__getitem__, second), np.int32, len(stored)))
        rows.before.extend(np.full(len(stored), -1, np.int32))
        rows.notes.update((place, text) for place, text in enumerate(note) if text)
        seqs = np.array(seq, np.int64)
        starts = np.searchsorted(seqs, [action.seq for action in actions]).tolist()
        stops = np.searchsorted(seqs, [action.seq for action in actions], side="right").tolist()
        numbers: dict[str, int] = {}  # uuid of an action, or of the undo of one -> its entry
        for action, start, stop in zip(actions, starts, stops, strict=True):
            # One without rows decides nothing, but for those that share.
            if (
                action.kind in ("decide", "bulk", "check", "automatic", "note") and start < stop
            ) or action.kind in (
                "merge",
                "assign",
            ):
                number = numbers[action.uuid] = len(self._entries)
                if foreign or assigned:
                    self._share(
                        number, (foreign or {}).get(action.seq, ()), (assigned or {}).get(action.seq, {})
                    )
                self._entries.append(Entry(action, start, stop))
                self._done.append(number)
                self._undone.clear()
                self._undo_of.clear()
            elif action.kind == "undo" and action.undoes in numbers:
                number = numbers[action.uuid] = numbers[action.undoes]
                if _take(self._done, number):
                    self._undone.append(number)
                    self._undo_of[number] = action.uuid
            elif action.kind == "redo" and action.undoes in numbers:
                number = numbers[action.uuid] = numbers[action.undoes]
                if _take(self._undone, number):
                    del self._undo_of[number]
                    self._done.append(number)
        lengths = [entry.stop - entry.start for entry in self._entries]
        rows.entry.extend(np.repeat(np.arange(len(lengths), dtype=np.int32), lengths))
        self._link()

    def _link(self) -> None:
        """Set `before`, `row` and `kind` for all rows of the actions in effect."""
        if not self._done:
            return
        place = np.full(len(self._entries), -1, np.int64)  # of an entry among those in effect
        place[self._done] = np.arange(len(self._done))
        of_row = place[self._rows.entry.values]
        rows = np.flatnonzero(of_row >= 0)
        if not len(rows):
            return
        if self._done != sorted(self._done):  # only after a merge
            rows = rows[np.argsort(of_row[rows], kind="stable")]
        samples = self._rows.sample.values[rows]
        order = np.argsort(samples, kind="stable")
        rows, samples = rows[order], samples[order]
        same = samples[1:] == samples[:-1]
        before = self._rows.before.values
        before[rows[1:][same]] = rows[:-1][same]
        last = np.append(~same, True)
        self.row[samples[last]] = rows[last]
        self.kind[samples[last]] = self._rows.kind.values[rows[last]]

    # what is in effect

    @property
    def decided(self) -> Index:
        """The samples that have a decision, ascending."""
        return np.flatnonzero(self.kind)

    def touched(self) -> Index:
        """The samples that have a decision or a note, ascending."""
        return np.flatnonzero(self.row >= 0)

    def counts(self) -> dict[str, int]:
        """Number of samples by decision."""
        found = np.bincount(self.kind, minlength=len(KINDS))
        return {kind: int(found[number]) for number, kind in enumerate(KINDS) if number}

    def label(self, samples: Index) -> NDArray[np.int32]:
        """Labels after the present rows of `samples`, which all have one."""
        found: NDArray[np.int32] = self._rows.label.values[self.row[samples]]
        return found

    def second(self, sample: int) -> int:
        """The second possible label, -1 = none."""
        row = int(self.row[sample])
        return -1 if row < 0 else int(self._rows.second.values[row])

    def note(self, sample: int) -> str | None:
        """The note on a sample."""
        row = int(self.row[sample])
        return None if row < 0 else self._rows.notes.get(row)

    def action(self, sample: int) -> Action | None:
        """The action that decided a sample; a note written later does not count as deciding."""
        row = int(self.row[sample])
        while row >= 0:
            number = int(self._rows.entry.values[row])
            action = self._entries[number].action
            before = int(self._rows.before.values[row])
            if action.kind != "note" or before < 0:
                author = self._authors.get(number, {}).get(sample)
                return (
                    action if author is None else action._replace(reviewer=author.reviewer, time=author.time)
                )
            row = before
        return None

    def how(self) -> NDArray[np.int8]:
        """How each sample's present decision came about, as its position in `HOW`: (n,) int8.

        A decision on several samples counts as bulk, whatever its action says.
        """
        found = np.zeros(len(self.kind), np.int8)
        samples = self.decided
        if not len(samples):
            return found
        codes = np.array([_how(entry) for entry in self._entries], np.int8)
        found[samples] = codes[self._rows.entry.values[self.row[samples]]]
        for sample in samples[found[samples] == 0].tolist():  # a note was written after the decision
            found[sample] = self.how_of(sample)
        return found

    def how_of(self, sample: int) -> int:
        """`how` of one sample."""
        row = int(self.row[sample]) if self.kind[sample] else -1
        while row >= 0:
            number = int(self._rows.entry.values[row])
            author = self._authors.get(number, {}).get(sample)
            how = _how(self._entries[number]) if author is None else author.how
            if how:
                return how
            row = int(self._rows.before.values[row])
        return 0

    def opinions(self) -> Iterator[Foreign]:
        """Yield the latest decision of each reviewer on each sample, by sample, then in order."""
        latest: dict[tuple[int, str], Foreign] = {}
        for number in self._done:
            for each in self._decided_by(number):
                latest.pop(key := (each.sample, each.reviewer), None)
                latest[key] = each
        for each in sorted(latest.values(), key=lambda each: each.sample):
            yield each

    def _decided_by(self, number: int) -> Iterator[Foreign]:
        """What one entry decided, with authors; a merge decides what it brought."""
        entry, rows = self._entries[number], self._rows
        if number in self._foreign:
            yield from self._foreign[number]
        elif entry.action.kind != "note":
            how = _how(entry)
            for row in range(entry.rows.start, entry.rows.stop):
                yield Foreign(
                    int(rows.sample.values[row]),
                    int(rows.kind.values[row]),
                    int(rows.label.values[row]),
                    int(rows.second.values[row]),
                    rows.notes.get(row),
                    entry.action.reviewer,
                    entry.action.time,
                    how,
                    True,
                )

    def disagreements(self) -> dict[int, list[Foreign]]:
        """Decisions that merges brought and that the ones in effect contradict, by sample.

        A sample that was decided again after the merge is settled; unsure and skip contradict nothing.
        """
        found: dict[int, list[Foreign]] = {}
        rows = self._rows
        for number in self._done:
            for each in self._foreign.get(number, ()):
                row = int(self.row[each.sample])
                if not each.definite or not each.final or row < 0:
                    continue
                kind = int(rows.kind.values[row])
                settled = int(rows.entry.values[row]) > number
                same = each.agrees(kind, int(rows.label.values[row]), int(rows.second.values[row]))
                if not settled and not same and kind not in (UNDECIDED, UNSURE, SKIP):
                    found.setdefault(each.sample, []).append(each)
        return found

    def assigned(self) -> dict[str, Index]:
        """Samples by reviewer as the newest split says; empty where there is none."""
        return next(
            (self._assigned[number] for number in reversed(self._done) if number in self._assigned), {}
        )

    def relabels_after(self, seq: int) -> int:
        """Number of relabelled samples whose decision is younger than action `seq`."""
        samples = np.flatnonzero(self.kind == RELABEL)
        if not len(samples):
            return 0
        entries, place = np.unique(self._rows.entry.values[self.row[samples]], return_inverse=True)
        young = np.array([self._entries[number].action.seq > seq for number in entries])
        return int(np.count_nonzero(young[place]))


def replay(
    store: Store,
    actions: Sequence[Action],
    rows: Sequence[StoredRow],
    opinions: Sequence[StoredOpinion] = (),
    assignments: Sequence[StoredAssignment] = (),
) -> DecisionLog:
    """Return the decision log of a journal.

    Parameters
    ----------
    store : Store
        The audit whose samples and classes the journal names.
    actions : sequence of Action
        In order.
    rows : sequence of StoredRow
        Their decisions, in order.
    opinions, assignments : sequence
        What merges and splits brought.

    Raises
    ------
    DamagedAudit
        A decision is on a sample, or for a class, that the audit does not have, or of a kind that does not exist.
    """
    classes = {name: index for index, name in enumerate(store.class_ids)}

    def label_index(name: bytes | None) -> int:
        if name is None:
            return -1
        try:
            return classes[name]
        except KeyError:
            raise DamagedAudit(
                "the journal's labels are classes of the audit",
                f"class {safe(name)} is not",
                "put back the journal that was made with this audit",
            ) from None

    decision_log = DecisionLog(store.n)
    decision_log.load(
        actions,
        _by_id(store, rows),
        label_index,
        _foreign(store, opinions, label_index),
        _assigned(store, assignments),
    )
    return decision_log


def _foreign(
    store: Store, opinions: Sequence[StoredOpinion], label_index: Callable[[bytes | None], int]
) -> dict[int, list[Foreign]]:
    found: dict[int, list[Foreign]] = {}
    places = _by_id(store, [row[:7] for row in opinions])
    for (seq, sample, kind, label, second, note, _), row in zip(places, opinions, strict=True):
        if kind not in KINDS:
            raise DamagedAudit(
                f"a decision is one of {', '.join(KINDS[1:])}",
                f"the journal holds {safe(kind, 40)}",
                "put back the journal that was made with this audit",
            )
        found.setdefault(seq, []).append(
            Foreign(
                sample,
                KINDS.index(kind),
                label_index(label),
                label_index(second),
                note,
                row[7],
                row[8],
                HOW.index(row[9]),
                bool(row[10]),
            )
        )
    return found


def _assigned(store: Store, assignments: Sequence[StoredAssignment]) -> dict[int, dict[str, Index]]:
    rows: list[StoredRow] = [
        (seq, sample, "", None, None, None, name) for seq, sample, name, _ in assignments
    ]
    found: dict[int, dict[str, list[int]]] = {}
    for row, (*_, reviewer) in zip(_by_id(store, rows), assignments, strict=True):
        found.setdefault(row[0], {}).setdefault(reviewer, []).append(row[1])
    return {
        seq: {reviewer: np.array(samples, np.int64) for reviewer, samples in by.items()}
        for seq, by in found.items()
    }


def _by_id(store: Store, rows: Sequence[StoredRow]) -> Sequence[StoredRow]:
    """Give the journal's rows the indices of the samples that they name.

    A row says both; as a rule they agree. The id decides, and one that no sample has is an error, not a guess.
    """
    ids, positions = store.ids, np.array([row[1] for row in rows], np.int64)
    inside = (positions >= 0) & (positions < store.n)
    named = ids.take(np.where(inside, positions, 0)) if store.n else [b""] * len(rows)
    claimed = [row[6] for row in rows]
    apart: list[int] = []
    if named != claimed or not inside.all():
        apart = [
            at
            for at, (name, claim) in enumerate(zip(named, claimed, strict=True))
            if name != claim or not inside[at]
        ]
    if not apart:
        return rows
    found = ids.indices(rows[at][6] for at in apart).tolist()
    lost = [rows[at][6] for at, index in zip(apart, found, strict=True) if index < 0]
    if lost:
        raise DamagedAudit(
            "the journal's decisions are on samples of the audit",
            f"{len(lost):,} are on others, the first on {safe(lost[0])}",
            "put back the journal that was made with this audit",
        )
    rows = list(rows)
    for at, index in zip(apart, found, strict=True):
        rows[at] = (rows[at][0], index, *rows[at][2:])
    return rows


def _how(entry: Entry) -> int:
    """Position in `HOW` of what an action decided; 0 for a note, and for a merge, whose decisions differ in it."""
    if entry.action.kind in ("note", "merge"):
        return 0
    if entry.action.kind == "automatic":
        return AUTOMATIC
    if entry.action.kind == "bulk" or entry.rows.stop - entry.rows.start > 1:
        return BULK
    return CHECK if entry.action.kind == "check" else ALONE


def _take(stack: list[int], number: int) -> bool:
    """Remove `number` from a stack, where it nearly always is on top. Returns whether it was there."""
    for place in range(len(stack) - 1, -1, -1):
        if stack[place] == number:
            del stack[place]
            return True
    return False
