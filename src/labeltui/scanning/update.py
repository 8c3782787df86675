"""A scan of data that was scanned before: what stayed is taken over, what is new is added.

::

    earlier audit --Earlier--> which sample is which (by the SHA-256 of its content)
                                |
        embeddings of those that stayed        EarlierRows, asked by `labeltui.scanning.stages.embed_rows`
        their neighbours                       ExtendingCache, asked by `labeltui.pipeline.score`
        decisions, notes, authors, times       carried_history, written with the new journal

The result is a new audit beside the earlier one, which stays as it is. Its arrays are those of a scan of everything.
"""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labeltui import embed, graph, journal, parallel, paths, sources, store
from labeltui.errors import SourceError
from labeltui.head import HeadSpec
from labeltui.options import build, options_of
from labeltui.parallel import Cancel
from labeltui.pipeline import Arrays, Cache, Compute
from labeltui.scanning.options import ScanOptions
from labeltui.sources.base import listed
from labeltui.text import safe
from labeltui.unfinished import Keeper

Array = npt.NDArray[Any]
Index = npt.NDArray[np.int64]
SHOWN = 5


@dataclass
class Changes:
    """What an update found.

    Attributes
    ----------
    added, gone, changed : list of bytes
        Ids of samples that are new, no longer there, or another image now.
    moved : list of (bytes, bytes)
        Ids before and now.
    relabelled : dict of str to int
        Samples whose given label is another one than at the earlier scan, by what our decision says of it: ``ours``
        (the new label is our correction), ``contradicts`` (we decided otherwise) and ``undecided``.
    carried, dropped : int
        Decisions and notes in effect that were taken over; and those left behind, on samples gone or changed.
    """

    added: list[bytes] = field(default_factory=list)
    gone: list[bytes] = field(default_factory=list)
    changed: list[bytes] = field(default_factory=list)
    moved: list[tuple[bytes, bytes]] = field(default_factory=list)
    relabelled: dict[str, int] = field(default_factory=lambda: {"ours": 0, "contradicts": 0, "undecided": 0})
    carried: int = 0
    dropped: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {
            "added": len(self.added),
            "gone": len(self.gone),
            "changed": len(self.changed),
            "moved": len(self.moved),
            "relabelled": dict(self.relabelled),
            "decisions_carried": self.carried,
            "decisions_left": self.dropped,
        }

    def lines(self) -> list[str]:
        """Return the changes as notes of a scan."""
        lines = []
        for word, names in (("new", self.added), ("gone", self.gone), ("another image now", self.changed)):
            if names:
                lines.append(f"{len(names):,} samples are {word}: {listed(names, SHOWN)}")
        if self.moved:
            pairs = [f"{safe(old)} to {safe(new)}" for old, new in self.moved[:SHOWN]]
            more = f" and {len(self.moved) - SHOWN:,} more" if len(self.moved) > SHOWN else ""
            lines.append(f"{len(self.moved):,} samples moved: {', '.join(pairs)}{more}")
        if sum(self.relabelled.values()):
            ours, against, other = (self.relabelled[name] for name in ("ours", "contradicts", "undecided"))
            lines.append(
                f"{ours + against + other:,} given labels were changed since: {ours:,} to what was decided here, "
                f"{against:,} against a decision here, which stays, {other:,} undecided here"
            )
        lines.append(
            f"{self.carried:,} decisions and notes taken over"
            + (
                f", {self.dropped:,} left behind with samples that are gone or changed"
                if self.dropped
                else ""
            )
        )
        return lines


def recorded_options(audit: Path, **changed: Any) -> ScanOptions:
    """Return the options of an earlier scan, with some of them changed.

    Parameters
    ----------
    audit : Path
    changed
        Keywords of `ScanOptions.of`.

    Raises
    ------
    AuditError
        There is no readable audit.
    """
    with store.Store.open(audit) as opened:
        record, smoke = opened.scan.get("options") or {}, bool(opened.scan.get("smoke_test"))
    flat: dict[str, Any] = {}
    for values in (record, *(value for value in record.values() if isinstance(value, Mapping))):
        flat |= {name: value for name, value in values.items() if name in options_of(ScanOptions)}
    if isinstance(flat.get("head"), Mapping):
        flat["head"] = HeadSpec(**flat["head"])
    flat = {name: tuple(value) if isinstance(value, list) else value for name, value in flat.items()}
    if smoke and "model" not in changed:
        flat["model_named"] = False
    return build(ScanOptions, {**flat, **changed})


class Earlier:
    """An earlier audit, and which of its samples each sample of the data is.

    Parameters
    ----------
    path : Path
        The audit.
    """

    def __init__(self, path: Path) -> None:
        self.store = store.Store.open(path, 0)
        self.path = path
        self.place: Index = np.zeros(0, np.int64)
        """(N,) position of each sample in the earlier audit, -1 = it is not there."""
        self.changes = Changes()

    def close(self) -> None:
        """Close the audit."""
        self.store.close()

    def match(self, ids: Sequence[bytes], hashes: Array) -> None:
        """Find each sample in the earlier audit: by id and content, else by content alone.

        Parameters
        ----------
        ids : sequence of bytes
        hashes : (N, 32) uint8
            SHA-256 of the stored bytes; zeros where they cannot be read.
        """
        before, old = self.store.ids, self.store.array("samples/sha256")
        named = before.indices(ids)
        readable = hashes.any(1)
        place = np.full(len(ids), -1, np.int64)
        there = np.flatnonzero((named >= 0) & readable)
        same = there[(old[named[there]] == hashes[there]).all(1)]
        place[same] = named[same]
        free: dict[bytes, list[int]] = {}
        for i in np.setdiff1d(np.arange(len(before)), place[same])[::-1].tolist():
            free.setdefault(old[i].tobytes(), []).append(i)
        changes = self.changes
        for i in np.flatnonzero((place < 0) & readable).tolist():
            if candidates := free.get(hashes[i].tobytes()):
                place[i] = candidates.pop()
                changes.moved.append((before[int(place[i])], ids[i]))
        left = np.flatnonzero(place < 0)
        changes.changed = [ids[i] for i in left.tolist() if named[i] >= 0]
        changes.added = [ids[i] for i in left.tolist() if named[i] < 0]
        known = set(ids)
        changes.gone = [
            before[i]
            for i in np.setdiff1d(np.arange(len(before)), place[place >= 0]).tolist()
            if before[i] not in known
        ]
        self.place = place

    def in_order(self) -> npt.NDArray[np.bool_]:
        """(N,) the most samples that are in the order of before: lists of these as neighbours can be renumbered."""
        found = np.zeros(len(self.place), bool)
        known = np.flatnonzero(self.place >= 0)
        found[known[_longest_ascending(self.place[known].tolist())]] = True
        return found


def _longest_ascending(values: Sequence[int]) -> Index:
    """Positions of a longest ascending subsequence of distinct numbers (patience sorting)."""
    tops: list[int] = []
    at: list[int] = []
    behind: list[int] = []
    for position, value in enumerate(values):
        pile = bisect_left(tops, value)
        behind.append(at[pile - 1] if pile else -1)
        if pile == len(tops):
            tops.append(value)
            at.append(position)
        else:
            tops[pile], at[pile] = value, position
    chain: list[int] = []
    position = at[-1] if at else -1
    while position >= 0:
        chain.append(position)
        position = behind[position]
    return np.array(chain[::-1], np.int64)


# --- embeddings ------------------------------------------------------------------------------------------------------


def content_hashes(source: sources.Source, threads: int | None, cancel: Cancel) -> Array:
    """Return the SHA-256 of each sample's stored bytes, as a scan records them: (N, 32) uint8, zeros = unreadable.

    Parameters
    ----------
    source : Source
    threads : int, optional
    cancel : callable
    """
    if source.embeddings is not None:
        rows = source.embeddings

        def read(i: int) -> bytes:
            return np.ascontiguousarray(rows[i]).tobytes()
    else:
        images = source.images()

        def read(i: int) -> bytes:
            data = images.read(source.ids[i], i)
            return data if isinstance(data, bytes) else data.tobytes()

    found = np.zeros((len(source.ids), 32), np.uint8)

    def look(start: int, stop: int) -> None:
        for i in range(start, stop):
            if cancel():
                return
            with suppress(SourceError):  # the scan says why
                found[i] = np.frombuffer(hashlib.sha256(read(i)).digest(), np.uint8)

    parallel.map_ranges(look, 0, len(source.ids), threads)
    return found


class EarlierRows:
    """Finished blocks of a scan, made of rows of the earlier audit and of others that are embedded.

    Parameters
    ----------
    earlier : Earlier
        Matched.
    source : Source
    embedder : Embedder
    """

    def __init__(self, earlier: Earlier, source: sources.Source, embedder: embed.Embedder) -> None:
        self._earlier = earlier
        self._source = source
        self._embedder = embedder
        opened, name = earlier.store, f"embeddings/{embedder.name}"
        described = opened.scan.get("source")
        same_levels = isinstance(described, Mapping) and described.get("levels") == _plain_levels(source)
        self._known = np.zeros(len(source.ids), bool)
        # Ready embeddings are read faster than they are looked up.
        if embedder.transform is not None and name in opened and same_levels:
            stored = {key: value for key, value in opened.attrs(name).items() if key != "batch_size"}
            wanted = {key: _plain(value) for key, value in embedder.attrs.items() if key != "batch_size"}
            if {key: _plain(value) for key, value in stored.items()} == wanted:
                place = earlier.place
                self._known = (place >= 0) & (opened.status[np.maximum(place, 0)] == paths.OK)
                self._features = opened.array(name)

    def blocks(
        self,
        ranges: Sequence[tuple[int, int]],
        workers: int | None,
        cancel: Cancel,
        threads: int | None,
    ) -> Iterator[embed.Block]:
        """Yield the blocks of these ranges, in order.

        Parameters
        ----------
        ranges, workers, cancel, threads
            As for `labeltui.embed.stream`.
        """
        wanted = np.concatenate([np.arange(*each) for each in ranges]) if ranges else np.zeros(0, np.int64)
        fresh = wanted[~self._known[wanted]]
        made = embed.stream(
            self._source,
            self._embedder,
            embed.batch_ranges(len(fresh), self._embedder.batch_size),
            workers,
            cancel,
            threads,
            samples=fresh,
        )
        waiting: list[embed.Block] = []  # of rows that are embedded and in no block yet
        for start, stop in ranges:
            block = self._taken_over(start, stop)
            own = fresh[np.searchsorted(fresh, start) : np.searchsorted(fresh, stop)]
            first = int(np.searchsorted(fresh, start))
            while own.size and (not waiting or waiting[-1].stop < first + len(own)):
                waiting.append(next(made))
            for part in waiting:
                low, high = max(part.start, first), min(part.stop, first + len(own))
                if low >= high:
                    continue
                into, out_of = fresh[low:high] - start, slice(low - part.start, high - part.start)
                for name in ("features", "sha256", "pixels", "status"):
                    getattr(block, name)[into] = getattr(part, name)[out_of]
                block.faults += [(int(fresh[at]), reason) for at, reason in part.faults if low <= at < high]
            waiting = [part for part in waiting if part.stop > first + len(own)]
            block.faults.sort()
            yield block

    def _taken_over(self, start: int, stop: int) -> embed.Block:
        n, opened = stop - start, self._earlier.store
        block = embed.Block(
            start,
            stop,
            np.zeros((n, self._embedder.dim), np.float32),
            np.zeros((n, 32), np.uint8),
            np.zeros((n, 32), np.uint8),
            np.zeros(n, np.uint8),
        )
        rows = np.flatnonzero(self._known[start:stop])
        if len(rows):
            place = self._earlier.place[start:stop][rows]
            block.features[rows] = self._features[place]
            block.sha256[rows] = opened.array("samples/sha256")[place]
            block.pixels[rows] = opened.array("samples/pixels")[place]
        return block


def _plain_levels(source: sources.Source) -> Any:
    levels = source.describe().get("levels")
    return list(levels) if isinstance(levels, tuple) else levels


def _plain(value: Any) -> Any:
    """An attribute as it may come from a file: arrays and tuples as lists, numbers as Python's."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


# --- the graph -------------------------------------------------------------------------------------------------------


class ExtendingCache:
    """A scan's cache of long steps that extends the earlier graph instead of building a new one.

    Parameters
    ----------
    cache : Cache
    earlier : Earlier
    name : str
        Of the embedding.
    embeddings : (N, d) array
    threads : int, optional
    """

    def __init__(
        self, cache: Cache, earlier: Earlier, name: str, embeddings: Array, threads: int | None
    ) -> None:
        self._cache = cache
        self._earlier = earlier
        self._name = name
        self._embeddings = embeddings
        self._threads = threads

    def step(
        self, name: str, key: Iterable[object], compute: Compute, expected: Mapping[str, Any]
    ) -> tuple[Arrays, dict[str, Any]]:
        """See `labeltui.pipeline.Cache.step`."""
        key = list(key)
        if name == "graph":
            ok, k, metric, backend = key
            assert isinstance(ok, np.ndarray) and isinstance(k, int)  # noqa: PT018
            if self._fits(str(metric), str(backend), k):
                return self._cache.step(name, key, lambda: self._extend(ok, k, str(metric)), expected)
        return self._cache.step(name, key, compute, expected)

    def unfinished(self, name: str) -> Keeper | None:
        """See `labeltui.pipeline.Cache.unfinished`."""
        return self._cache.unfinished(name)

    def _fits(self, metric: str, backend: str, k: int) -> bool:
        opened, path = self._earlier.store, f"graph/{self._name}"
        if f"{path}/indices" not in opened or backend != "exact":
            return False
        attrs = opened.attrs(path)
        there = opened.array(f"embeddings/{self._name}")
        return (
            attrs.get("metric") == metric
            and bool(attrs.get("exact"))
            and opened.array(f"{path}/indices").shape[1] == k
            and there.dtype == self._embeddings.dtype
            and there.shape[1] == self._embeddings.shape[1]
        )

    def _extend(self, ok: npt.NDArray[np.bool_], k: int, metric: str) -> tuple[Arrays, dict[str, Any]]:
        earlier, n = self._earlier, len(ok)
        old = earlier.store.array(f"graph/{self._name}/indices")
        same = earlier.in_order() & ok
        at = np.flatnonzero(same)
        # Only rows that are the same numbers and were searched before.
        place = earlier.place[at]
        rows_before = earlier.store.array(f"embeddings/{self._name}")
        equal = (rows_before[place] == self._embeddings[at]).all(1) & (old[place, 0] >= 0)
        at, place = at[equal], place[equal]
        chosen = np.flatnonzero(ok)
        number = np.full(n, -1, np.int64)
        number[chosen] = np.arange(len(chosen))
        now = np.full(len(old) + 1, -1, np.int64)  # of an earlier sample, among the chosen; the last stays -1
        now[place] = number[at]
        lists = np.full((len(chosen), old.shape[1]), -1, np.int32)
        lists[number[at]] = now[old[place]]
        fresh = np.ones(len(chosen), bool)
        fresh[number[at]] = False
        made = graph.extend(
            self._embeddings,
            lists,
            (lists >= 0).all(1) & ~fresh,
            fresh,
            k,
            metric,
            self._threads,
            rows=None if len(chosen) == n else chosen,
        )
        names = ("metric", "k", "backend", "exact", "n_certified", "n_fallback", "recall")
        values = {name: getattr(made, name) for name in names}
        made = replace(made, similarity=graph.relative_similarity(made))
        if len(chosen) < n:
            made = graph.expand(made, chosen, n)
        return {"indices": made.indices, "similarity": made.similarity}, values


# --- decisions -------------------------------------------------------------------------------------------------------


def decided_classes(earlier: Earlier) -> list[bytes]:
    """Return the classes that the earlier journal names, and those that no label had: the new audit keeps them."""
    with journal.Journal.open(earlier.path, earlier.store.uuid, read_only=True) as opened:
        _, rows, _ = opened.read()
        opinions, _ = opened.read_sharing()
    named = {label for row in rows for label in row[3:5]} | {label for row in opinions for label in row[3:5]}
    used = np.zeros(len(earlier.store.class_ids), bool)
    given = earlier.store.given
    used[given[given >= 0]] = True
    return [
        name
        for name, occurs in zip(earlier.store.class_ids, used.tolist(), strict=True)
        if name in named or not occurs
    ]


def carried_history(
    earlier: Earlier, ids: Sequence[bytes], given: npt.NDArray[np.int32], class_ids: Sequence[bytes]
) -> journal.History:
    """Translate the earlier journal to the samples of the new audit.

    Every action keeps its name, author and time, undone ones as well, so that undo goes on working. What is on samples
    that are gone or changed is left out, as are results of training runs.

    Parameters
    ----------
    earlier : Earlier
        Matched; its changes are counted.
    ids : sequence of bytes
    given : (N,) int32
    class_ids : sequence of bytes

    Returns
    -------
    History
    """
    with journal.Journal.open(earlier.path, earlier.store.uuid, read_only=True) as opened:
        actions, rows, _ = opened.read()
        opinions, assignments = opened.read_sharing()
    before = {name: i for i, name in enumerate(earlier.store.ids)}
    now = np.full(len(before), -1, np.int64)
    now[earlier.place[earlier.place >= 0]] = np.flatnonzero(earlier.place >= 0)
    labels: list[bytes | None] = [*class_ids, None]

    def where(name: bytes) -> int:
        return int(now[before[name]])

    def fitting(i: int, kind: str, label: bytes | None) -> tuple[str, bytes | None]:
        """A decision as it stands beside the label that the sample is given now."""
        own = labels[given[i]]
        if kind in ("keep", "relabel"):
            return ("keep" if label == own else "relabel"), label
        return kind, own

    decisions: dict[int, list[journal.Row]] = {}
    for seq, _, kind, label, second, note, name in rows:
        if (i := where(name)) >= 0:
            kind, label = fitting(i, kind, label)
            decisions.setdefault(seq, []).append((i, ids[i], kind, labels[given[i]], label, second, note))
    others: dict[int, list[journal.OpinionRow]] = {}
    for seq, _, kind, label, second, note, name, reviewer, time, how, final in opinions:
        if (i := where(name)) >= 0:
            kind, label = fitting(i, kind, label)
            row = (i, ids[i], kind, label, second, note, reviewer, time, how, final)
            others.setdefault(seq, []).append(row)
    dealt: dict[int, list[journal.AssignmentRow]] = {}
    for seq, _, name, reviewer in assignments:
        if (i := where(name)) >= 0:
            dealt.setdefault(seq, []).append((i, ids[i], reviewer))
    history = journal.History()
    there: set[str] = set()
    for action in actions:
        found = any(action.seq in table for table in (decisions, others, dealt))
        if found or (action.kind in ("undo", "redo") and action.undoes in there):
            there.add(action.uuid)
            history.add(
                action,
                decisions.get(action.seq, []),
                others.get(action.seq, []),
                dealt.get(action.seq, []),
            )
    return history


def count_decisions(earlier: Earlier, given: npt.NDArray[np.int32], class_ids: Sequence[bytes]) -> None:
    """Count what was taken over, and given labels that changed since, in the changes of an update.

    Parameters
    ----------
    earlier : Earlier
        Matched.
    given : (N,) int32
    class_ids : sequence of bytes
    """
    changes = earlier.changes
    with journal.Journal.open(earlier.path, earlier.store.uuid, read_only=True) as opened:
        last = _in_effect(opened)
    place, old = earlier.place, earlier.store
    labels = [*class_ids, None]
    before = [*old.class_ids, None]
    stayed = set(place[place >= 0].tolist())
    of = {name: i for i, name in enumerate(old.ids)} if last else {}
    kept = [name for name in last if of[name] in stayed]
    changes.carried, changes.dropped = len(kept), len(last) - len(kept)
    for i in np.flatnonzero(place >= 0).tolist():
        was, now = before[old.given[place[i]]], labels[given[i]]
        if was != now:
            decided = last.get(old.ids[int(place[i])])
            if decided is None or decided[0] not in ("keep", "relabel"):
                changes.relabelled["undecided"] += 1
            else:
                changes.relabelled["ours" if decided[1] == now else "contradicts"] += 1


def _in_effect(opened: journal.Journal) -> dict[bytes, tuple[str, bytes | None]]:
    """Kind and label of the last row of each sample that is not undone."""
    actions, rows, _ = opened.read()
    effective: dict[str, str] = {}
    undone: set[str] = set()
    for action in actions:
        target = effective.get(action.undoes or "", action.undoes or "")
        if action.kind == "undo":
            undone.add(target)
        elif action.kind == "redo":
            undone.discard(target)
        effective[action.uuid] = target if action.kind in ("undo", "redo") else action.uuid
    alive = {action.seq for action in actions if action.uuid not in undone}
    return {row[6]: (row[2], row[3]) for row in rows if row[0] in alive}


def described(path: Path) -> dict[str, str]:
    """Return what scan.json says of the earlier audit."""
    with store.Store.open(path, 0) as opened:
        return {"path": os.fsdecode(os.path.abspath(path)), "uuid": opened.uuid}
