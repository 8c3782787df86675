"""The decision log: the current decision of each sample, and the undo and redo stacks.

Each decision row holds the sample's full new state and the row that it replaced, so that undoing an action visits its
own rows only. Memory: 5 bytes per sample, about 30 bytes per row and 150 per action.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labeltui.errors import DamagedAudit
from labeltui.io.names import Names, pack_names
from labeltui.journal import (
    Action,
    Columns,
    StoredActions,
    StoredAssignment,
    StoredDecisions,
    StoredOpinion,
)
from labeltui.store import Store
from labeltui.text import safe

KINDS = ("", "keep", "relabel", "exclude", "ambiguous", "unsure", "skip")
"""Kinds of decisions by their number in `DecisionLog.kind`; 0 = undecided, possibly with a note."""

HOW = ("", "alone", "bulk", "check", "automatic")
"""How a decision came about, by its number in `DecisionLog.how`: looked at alone, with others, as a random check,
or by a program, without a person."""

ALONE, BULK, CHECK, AUTOMATIC = range(1, len(HOW))

UNDECIDED, KEEP, RELABEL, EXCLUDE, AMBIGUOUS, UNSURE, SKIP = range(len(KINDS))

DECIDING = ("decide", "bulk", "check", "automatic", "note")
SHARING = ("merge", "assign")
"""Kinds of actions that can be undone."""

Index = NDArray[np.int64]


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


@dataclass(slots=True)
class _Entries:
    """The actions that decide something, undone or not, by number."""

    seq: _Column = field(default_factory=lambda: _Column(np.int64))
    start: _Column = field(default_factory=lambda: _Column(np.int64))  # rows, up to `stop`
    stop: _Column = field(default_factory=lambda: _Column(np.int64))
    how: _Column = field(default_factory=lambda: _Column(np.int8))  # as `DecisionLog.how`
    stored: StoredActions | None = None
    places: Index = field(default_factory=lambda: np.zeros(0, np.int64))  # of the first ones in `stored`
    later: list[Action] = field(default_factory=list)

    def __len__(self) -> int:
        return self.seq.length

    def add(self, action: Action, start: int, stop: int) -> None:
        self.seq.extend(np.array([action.seq]))
        self.start.extend(np.array([start]))
        self.stop.extend(np.array([stop]))
        self.how.extend(_how(np.array([_usual_how(action.kind)]), np.array([stop - start])))
        self.later.append(action)

    def action(self, number: int) -> Action:
        """An action; only its own reviewer, time and so on are needed, not whether it undid another."""
        if number >= len(self.places):
            return self.later[number - len(self.places)]
        assert self.stored is not None
        place = int(self.places[number])
        uuid, time, reviewer, host = self.stored.texts(place)
        kind = self.stored.kind.values[self.stored.kind.codes[place]]
        return Action(int(self.stored.seq[place]), uuid, time, reviewer, host, kind)

    def rows(self, number: int) -> slice:
        return slice(int(self.start.values[number]), int(self.stop.values[number]))


class Foreign(NamedTuple):
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
        self._entries = _Entries()
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
        self._apply(self._done[-1])

    def _share(self, number: int, foreign: Sequence[Foreign], assigned: Mapping[str, Index]) -> None:
        if foreign:
            self._foreign[number] = list(foreign)
            self._authors[number] = {each.sample: each for each in foreign if each.final}
        if assigned:
            self._assigned[number] = dict(assigned)

    def to_undo(self) -> Action | None:
        """The action to undo next."""
        return self._entries.action(self._done[-1]) if self._done else None

    def to_redo(self) -> tuple[Action, str] | None:
        """The action to redo next, and the uuid of its undo."""
        if not self._undone:
            return None
        return self._entries.action(self._undone[-1]), self._undo_of[self._undone[-1]]

    def scope(self, action: Action) -> tuple[Index, str]:
        """Samples of the action on top of either stack, and its kind (``note``, or one of `KINDS`)."""
        number = next(
            stack[-1]
            for stack in (self._done, self._undone)
            if stack and self._entries.action(stack[-1]) == action
        )
        rows = self._entries.rows(number)
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
        rows = self._entries.rows(number)
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
        self._apply(number)
        return self._rows.sample.values[self._entries.rows(number)].astype(np.int64)

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
        self._entries.add(action, start, rows.sample.length)
        return number

    def _apply(self, number: int) -> None:
        rows = self._entries.rows(number)
        samples = self._rows.sample.values[rows]
        self._rows.before.values[rows] = self.row[samples]
        self.row[samples] = np.arange(rows.start, rows.stop, dtype=np.int32)
        self.kind[samples] = self._rows.kind.values[rows]

    # bulk loading

    def load(
        self,
        actions: StoredActions,
        decisions: StoredDecisions,
        samples: Index,
        class_index: Callable[[bytes | None], int],
        foreign: Mapping[int, Sequence[Foreign]],
        assigned: Mapping[int, Mapping[str, Index]],
    ) -> None:
        """Replay a journal; called once, on an empty log.

        The stacks are replayed on the actions alone; the rows of those in effect are then linked in one step.

        Parameters
        ----------
        actions : StoredActions
        decisions : StoredDecisions
        samples : (m,) int64
            Sample of each decision.
        class_index : callable
            Maps a class id to its index; -1 for None.
        foreign, assigned : mapping
            What merges and splits brought, by the `seq` of their action.

        Raises
        ------
        DamagedAudit
            The journal contradicts itself or the audit.
        """
        first = np.searchsorted(decisions.action, actions.seq)
        stop = np.searchsorted(decisions.action, actions.seq, side="right")
        # An action without rows decides nothing, but for those that share.
        decides, shares = (actions.kind.map(kinds.__contains__, bool) for kinds in (DECIDING, SHARING))
        places = np.flatnonzero(shares | (decides & (first < stop)))
        entries = self._entries
        entries.stored, entries.places = actions, places
        entries.seq.extend(actions.seq[places])
        entries.start.extend(first[places])
        entries.stop.extend(stop[places])
        how = actions.kind.map(_usual_how, np.int8)[places]
        entries.how.extend(_how(how, stop[places] - first[places]))
        seqs = entries.seq.values
        for seq in foreign.keys() | assigned.keys():
            number = int(np.searchsorted(seqs, seq))
            if number < len(seqs) and seqs[number] == seq:
                self._share(number, foreign.get(seq, ()), assigned.get(seq, {}))
        self._add_stored(decisions, samples, class_index)
        self._replay_stacks(actions.undos)
        self._link()

    def _add_stored(
        self, decisions: StoredDecisions, samples: Index, class_index: Callable[[bytes | None], int]
    ) -> None:
        kinds = {kind: number for number, kind in enumerate(KINDS)}
        if unknown := set(decisions.kind.values) - kinds.keys():
            raise DamagedAudit(
                f"a decision is one of {', '.join(KINDS[1:])}",
                f"the journal holds {safe(min(unknown), 40)}",
                "put back the journal that was made with this audit",
            )
        n, rows, seqs = len(decisions), self._rows, self._entries.seq.values
        rows.sample.extend(samples)
        rows.kind.extend(decisions.kind.map(kinds.__getitem__, np.int8))
        rows.label.extend(decisions.label.map(class_index, np.int32))
        rows.second.extend(np.full(n, -1, np.int32))
        for row, name in decisions.second.items():
            rows.second.values[row] = class_index(name)
        rows.notes.update(decisions.notes)
        rows.before.extend(np.full(n, -1, np.int32))
        entry = np.searchsorted(seqs, decisions.action)
        there = entry < len(seqs)
        there[there] = seqs[entry[there]] == decisions.action[there]
        rows.entry.extend(np.where(there, entry, -1))

    def _replay_stacks(self, undos: Sequence[tuple[int, str, str, int]]) -> None:
        seqs = self._entries.seq.values
        numbers: dict[int, int] = {}  # seq of an undo or redo -> the entry that it is about
        pushed = 0

        def push(stop: int) -> None:
            nonlocal pushed
            if stop > pushed:
                self._done.extend(range(pushed, stop))
                self._undone.clear()
                self._undo_of.clear()
                pushed = stop

        for seq, kind, uuid, target in undos:
            push(int(np.searchsorted(seqs, seq)))
            number = numbers.get(target, int(np.searchsorted(seqs, target)))
            if number == len(seqs) or (target not in numbers and seqs[number] != target):
                continue
            numbers[seq] = number
            if kind == "undo" and _take(self._done, number):
                self._undone.append(number)
                self._undo_of[number] = uuid
            elif kind == "redo" and _take(self._undone, number):
                del self._undo_of[number]
                self._done.append(number)
        push(len(seqs))

    def _link(self) -> None:
        """Set `before`, `row` and `kind` for all rows of the actions in effect."""
        if not self._done:
            return
        done = np.array(self._done)
        place = np.full(
            len(self._entries) + 1, -1, np.int64
        )  # of an entry among those in effect; the last of none
        place[done] = np.arange(len(done))
        of_row = place[self._rows.entry.values]
        rows = np.flatnonzero(of_row >= 0)
        if not len(rows):
            return
        if (np.diff(done) < 0).any():  # only after a merge
            rows = rows[np.argsort(of_row[rows], kind="stable")]
        samples = self._rows.sample.values[rows]
        # Sample and place fit one integer, which sorts ten times as fast as a stable argsort.
        joined = np.sort(samples.astype(np.int64) << 32 | np.arange(len(rows)))
        rows, samples = rows[joined & 0xFFFFFFFF], joined >> 32
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
            action = self._entries.action(number)
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
        found[samples] = self._entries.how.values[self._rows.entry.values[self.row[samples]]]
        for sample in samples[found[samples] == 0].tolist():  # a note was written after the decision
            found[sample] = self.how_of(sample)
        return found

    def how_of(self, sample: int) -> int:
        """`how` of one sample."""
        row = int(self.row[sample]) if self.kind[sample] else -1
        while row >= 0:
            number = int(self._rows.entry.values[row])
            author = self._authors.get(number, {}).get(sample)
            how = int(self._entries.how.values[number]) if author is None else author.how
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
        rows, action = self._rows, self._entries.action(number)
        if number in self._foreign:
            yield from self._foreign[number]
        elif action.kind != "note":
            how, decided = int(self._entries.how.values[number]), self._entries.rows(number)
            for row in range(decided.start, decided.stop):
                yield Foreign(
                    int(rows.sample.values[row]),
                    int(rows.kind.values[row]),
                    int(rows.label.values[row]),
                    int(rows.second.values[row]),
                    rows.notes.get(row),
                    action.reviewer,
                    action.time,
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
        seqs = self._entries.seq.values[self._rows.entry.values[self.row[samples]]]
        return int(np.count_nonzero(seqs > seq))


def replay(
    store: Store,
    columns: Columns,
    opinions: Sequence[StoredOpinion] = (),
    assignments: Sequence[StoredAssignment] = (),
) -> DecisionLog:
    """Return the decision log of a journal.

    Parameters
    ----------
    store : Store
        The audit whose samples and classes the journal names.
    columns : Columns
        The journal.
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
        columns.actions,
        columns.decisions,
        _samples(store, columns.decisions.sample_index, columns.decisions.sample_id),
        label_index,
        _foreign(store, opinions, label_index),
        _assigned(store, assignments),
    )
    return decision_log


def _foreign(
    store: Store, opinions: Sequence[StoredOpinion], label_index: Callable[[bytes | None], int]
) -> dict[int, list[Foreign]]:
    found: dict[int, list[Foreign]] = {}
    samples = _samples(store, *_named(opinions, 1, 6))
    for sample, row in zip(samples.tolist(), opinions, strict=True):
        seq, _, kind, label, second, note, _, reviewer, time, how, final = row
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
                reviewer,
                time,
                HOW.index(how),
                bool(final),
            )
        )
    return found


def _assigned(store: Store, assignments: Sequence[StoredAssignment]) -> dict[int, dict[str, Index]]:
    found: dict[int, dict[str, list[int]]] = {}
    samples = _samples(store, *_named(assignments, 1, 2))
    for sample, (seq, _, _, reviewer) in zip(samples.tolist(), assignments, strict=True):
        found.setdefault(seq, {}).setdefault(reviewer, []).append(sample)
    return {
        seq: {reviewer: np.array(samples, np.int64) for reviewer, samples in by.items()}
        for seq, by in found.items()
    }


def _named(rows: Sequence[tuple[Any, ...]], position: int, name: int) -> tuple[Index, Names]:
    """Positions and names of the samples in two columns of the journal's rows."""
    packed = pack_names("", [row[name] for row in rows])
    return np.array([row[position] for row in rows], np.int64), Names(packed[""], packed["_offsets"])


def _samples(store: Store, positions: Index, claimed: Names) -> Index:
    """Return the samples that the journal's rows name.

    A row has a position and an id; as a rule they agree. The id decides, and one that no sample has is an error, not a
    guess.
    """
    if not len(positions):
        return positions
    agree = (positions >= 0) & (positions < store.n)
    if store.n:
        agree &= store.ids.agree(np.where(agree, positions, 0), claimed)
    if agree.all():
        return positions
    apart = np.flatnonzero(~agree)
    names = claimed.take(apart)
    found = store.ids.indices(names)
    lost = [name for name, index in zip(names, found.tolist(), strict=True) if index < 0]
    if lost:
        raise DamagedAudit(
            "the journal's decisions are on samples of the audit",
            f"{len(lost):,} are on others, the first on {safe(lost[0])}",
            "put back the journal that was made with this audit",
        )
    positions = positions.copy()
    positions[apart] = found
    return positions


def _usual_how(kind: str) -> int:
    """Position in `HOW` by an action's kind; 0 for a note, and for a merge, whose decisions differ in it."""
    known = {"note": 0, "merge": 0, "check": CHECK, "bulk": BULK, "automatic": AUTOMATIC}
    return known.get(kind, ALONE)


def _how(usual: NDArray[np.integer[Any]], lengths: NDArray[np.int64]) -> NDArray[np.integer[Any]]:
    """Positions in `HOW` of what actions decided: those on several samples are bulk, whatever they say."""
    return np.where((lengths > 1) & ((usual == ALONE) | (usual == CHECK)), BULK, usual)


def _take(stack: list[int], number: int) -> bool:
    """Remove `number` from a stack, where it nearly always is on top. Returns whether it was there."""
    for place in range(len(stack) - 1, -1, -1):
        if stack[place] == number:
            del stack[place]
            return True
    return False
