"""A whole journal as columns: a million decisions in about a second, where tuples take four.

SQLite joins the values of a column into one text (`group_concat`), some thousand rows at a time; NumPy takes it apart.
"""

from __future__ import annotations

import bisect
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labeltui.io.names import Names, pack_names

BLOCK = 16_384
"""Rows joined at once: far below SQLite's limit of 1e9 bytes, however long their texts."""
_LAST_KEY = 2**63 - 1

# Separators are literals: a call such as char(10) would be made for each row.
_DECISIONS = """
SELECT count(*), count(second_label) + count(note), typeof(sum(action)), typeof(sum(sample_index)),
    group_concat(action), group_concat(sample_index), group_concat(length(sample_id)), group_concat(sample_id, ''),
    group_concat(kind, ' '), count(new_label), group_concat(new_label, '\n')
FROM decision WHERE rowid BETWEEN ? AND ?
"""
_QUOTED_LABELS = "SELECT group_concat(quote(new_label)) FROM decision WHERE rowid BETWEEN ? AND ?"
_RARE = """
SELECT rowid, second_label, typeof(second_label), note, typeof(note) FROM decision WHERE rowid BETWEEN ? AND ?
    AND (second_label IS NOT NULL OR note IS NOT NULL)
"""
_ACTIONS = """
SELECT count(*), group_concat(kind, '\n'), group_concat(uuid, '\n'), group_concat(time, '\n'),
    group_concat(reviewer, '\n'), group_concat(host, '\n')
FROM action WHERE seq BETWEEN ? AND ?
"""
_ACTION_ROWS = "SELECT kind, uuid, time, reviewer, host FROM action WHERE seq BETWEEN ? AND ? ORDER BY seq"
_UNDOS = """
SELECT a.seq, a.kind, a.uuid, b.seq FROM action AS a JOIN action AS b ON b.uuid = a.undoes
WHERE a.kind IN ('undo', 'redo') AND b.seq < a.seq ORDER BY a.seq
"""


class MistypedError(ValueError):
    """A row of a table, which the text names, holds what labeltui does not write."""


class Coded(NamedTuple):
    """A column of few distinct values: row i holds ``values[codes[i]]``; (n,) int32."""

    codes: NDArray[np.int32]
    values: list[Any]

    def map(self, function: Callable[[Any], Any], dtype: Any) -> NDArray[Any]:
        """Return a function of each row's value; it is called once for each distinct one."""
        return np.array([function(value) for value in self.values], dtype)[self.codes]


class _Numbers(dict[Any, int]):
    """Numbers values as they come."""

    def __missing__(self, value: Any) -> int:
        self[value] = number = len(self)
        return number


class _Coder:
    """Makes a `Coded` of blocks of rows."""

    def __init__(self) -> None:
        self._numbers = _Numbers()
        self._parts = [np.zeros(0, np.int32)]

    def add(self, rows: Sequence[Any]) -> None:
        self._parts.append(np.fromiter(map(self._numbers.__getitem__, rows), np.int32, len(rows)))

    def coded(self) -> Coded:
        return Coded(np.concatenate(self._parts), list(self._numbers))


class StoredActions:
    """All actions of a journal; their texts stay joined until one is asked for.

    Parameters
    ----------
    db : Connection
        Inside a transaction.

    Attributes
    ----------
    seq : (a,) int64
        Ascending.
    kind : Coded
        Of str.
    undos : list of (seq, kind, uuid, target)
        The undos and redos, each with its uuid, and the `seq` of the action or undo that it takes back.

    Raises
    ------
    MistypedError
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        kind = _Coder()
        self._firsts: list[int] = []  # place of the first action of each block
        self._blocks: list[
            list[Any]
        ] = []  # uuid, time, reviewer and host, each as a text or as a list of texts
        seqs = [np.zeros(0, np.int64)]
        n = 0
        for first, last, row in _blocks(db, "action", "seq", _ACTIONS):
            count, *texts = row
            if any(text is None or text.count("\n") != count - 1 for text in texts):
                rows = db.execute(_ACTION_ROWS, (first, last)).fetchall()  # names with line breaks
                if not all(isinstance(value, str) for each in rows for value in each):
                    raise MistypedError("action")
                texts = list(map(list, zip(*rows, strict=True)))
            kinds = texts[0]
            kind.add(kinds.split("\n") if isinstance(kinds, str) else kinds)
            self._firsts.append(n)
            self._blocks.append(texts[1:])
            seqs.append(_keys(db, "action", "seq", first, last, count))
            n += count
        self.kind = kind.coded()
        self.seq: NDArray[np.int64] = np.concatenate(seqs)
        self.undos: list[tuple[int, str, str, int]] = db.execute(_UNDOS).fetchall()

    def __len__(self) -> int:
        return len(self.seq)

    def texts(self, place: int) -> tuple[str, str, str, str]:
        """Uuid, time, reviewer and host of the action at a place."""
        block = bisect.bisect_right(self._firsts, place) - 1
        columns, row = self._blocks[block], place - self._firsts[block]
        if isinstance(columns[0], str):
            columns[:] = [text.split("\n") for text in columns]
        uuid, time, reviewer, host = (column[row] for column in columns)
        return uuid, time, reviewer, host


@dataclass(frozen=True, slots=True)
class StoredDecisions:
    """All decisions of a journal, in the order of their actions.

    Attributes
    ----------
    action : (m,) int64
        `seq` of the action.
    sample_index : (m,) int64
    sample_id : Names
    kind : Coded
        Of str.
    label : Coded
        Of bytes or None.
    second : dict of int to bytes
        Second labels by row, of the rows that have one.
    notes : dict of int to str
        The same of notes.
    """

    action: NDArray[np.int64]
    sample_index: NDArray[np.int64]
    sample_id: Names
    kind: Coded
    label: Coded
    second: dict[int, bytes]
    notes: dict[int, str]

    def __len__(self) -> int:
        return len(self.action)


def read_decisions(db: sqlite3.Connection) -> StoredDecisions:
    """Read the table ``decision``.

    Parameters
    ----------
    db : Connection
        Inside a transaction; texts come as bytes from then on.

    Raises
    ------
    MistypedError
    """
    db.text_factory = bytes  # names need not be UTF-8
    numbers: list[list[NDArray[np.int64]]] = [[np.zeros(0, np.int64)] for _ in range(3)]
    names: list[bytes] = []
    kind, label = _Coder(), _Coder()
    second: dict[int, bytes] = {}
    notes: dict[int, str] = {}
    n = 0
    for first, last, row in _blocks(db, "decision", "rowid", _DECISIONS):
        count, n_rare, *types, action, sample, length, name, kinds, n_labels, label_texts = row
        if types != [b"integer", b"integer"] or any(text is None for text in (length, name, kinds)):
            raise MistypedError("decision")
        columns = [np.fromstring(text, np.int64, sep=",") for text in (action, sample, length)]
        decided = kinds.split(b" ")
        if any(len(column) != count for column in (*columns, decided)) or columns[2].sum() != len(name):
            raise MistypedError("decision")
        for parts, column in zip(numbers, columns, strict=True):
            parts.append(column)
        names.append(name)
        kind.add(decided)
        if n_labels == count and label_texts.count(b"\n") == count - 1:
            label.add(label_texts.split(b"\n"))
        else:
            quoted = db.execute(_QUOTED_LABELS, (first, last)).fetchone()[0].split(b",")
            if len(quoted) != count:
                raise MistypedError("decision")
            label.add([_unquoted(text) for text in quoted])
        if n_rare:
            rare = db.execute(_RARE, (first, last)).fetchall()
            places = n + np.searchsorted(
                _keys(db, "decision", "rowid", first, last, count), [row[0] for row in rare]
            )
            for place, (_, other, type_of_other, note, type_of_note) in zip(
                places.tolist(), rare, strict=True
            ):
                if type_of_other not in (b"null", b"blob") or type_of_note not in (b"null", b"text"):
                    raise MistypedError("decision")
                if other is not None:
                    second[place] = other
                if note:
                    notes[place] = note.decode()
        n += count
    actions, samples, lengths = map(np.concatenate, numbers)
    ids = Names(np.frombuffer(b"".join(names), np.uint8), np.concatenate([[0], np.cumsum(lengths)]))
    kinds = kind.coded()
    kinds = kinds._replace(values=[value.decode() for value in kinds.values])
    found = StoredDecisions(actions, samples, ids, kinds, label.coded(), second, notes)
    return found if (np.diff(actions) >= 0).all() else _by_action(found)


def _by_action(decisions: StoredDecisions) -> StoredDecisions:
    """Sort rows that no writer puts out of the order of their actions."""
    order = np.argsort(decisions.action, kind="stable")
    packed = pack_names("", decisions.sample_id.take(order))
    where = {row: place for place, row in enumerate(order.tolist())}
    return StoredDecisions(
        decisions.action[order],
        decisions.sample_index[order],
        Names(packed[""], packed["_offsets"]),
        decisions.kind._replace(codes=decisions.kind.codes[order]),
        decisions.label._replace(codes=decisions.label.codes[order]),
        {where[row]: label for row, label in decisions.second.items()},
        {where[row]: note for row, note in decisions.notes.items()},
    )


def _blocks(
    db: sqlite3.Connection, table: str, key: str, query: str
) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
    """Yield ranges of `BLOCK` keys, both ends included, with what a query says of each; empty ones are left out."""
    (first,) = db.execute(f"SELECT min({key}) FROM {table}").fetchone()
    while first is not None:
        if not isinstance(first, int):
            raise MistypedError(table)
        last = min(first + BLOCK - 1, _LAST_KEY)
        yield first, last, db.execute(query, (first, last)).fetchone()
        (first,) = db.execute(f"SELECT min({key}) FROM {table} WHERE {key} > ?", (last,)).fetchone()


def _keys(
    db: sqlite3.Connection, table: str, key: str, first: int, last: int, count: int
) -> NDArray[np.int64]:
    """Return the keys of a range that holds `count` of them."""
    if count == last - first + 1:
        return np.arange(first, last + 1)
    rows = db.execute(f"SELECT {key} FROM {table} WHERE {key} BETWEEN ? AND ? ORDER BY {key}", (first, last))
    return np.array([row[0] for row in rows], np.int64)


def _unquoted(text: bytes) -> bytes | None:
    """Return the value of a literal that SQLite's `quote` wrote."""
    if text == b"NULL":
        return None
    if not text.startswith(b"X'"):
        raise MistypedError("decision")
    return bytes.fromhex(text[2:-1].decode("ascii"))
