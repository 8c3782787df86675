"""The open audit: reading, deciding, and taking in the results of training runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labeltui.audit import generations
from labeltui.audit.decisions import EXCLUDE, HOW, KEEP, KINDS, replay
from labeltui.audit.reading import Index, Reading
from labeltui.audit.views import Change, Step, WhatIf
from labeltui.errors import AuditError, InputError
from labeltui.journal import Action, GenerationRow, Journal, Row
from labeltui.store import Store
from labeltui.text import safe

ATTEMPTS = 5


class Audit(Reading):
    """An audit directory, open for reviewing or for reading. Use `open`, and close it or use ``with``.

    Attributes
    ----------
    on_saved : callable or None
        Called from the journal's thread after each attempt to save.
    """

    def __init__(self, store: Store, journal: Journal, source_root: Path | None) -> None:
        super().__init__(store, journal, source_root)
        self.on_saved: Callable[[], None] | None = None
        self._prepared: list[GenerationRow] = []
        self._refused: set[str] = set()
        journal.on_change = self._saved

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        reviewer: str | None = None,
        read_only: bool = False,
        source_root: Path | None = None,
    ) -> Audit:
        """Open an audit.

        Parameters
        ----------
        path : Path
            The audit directory.
        reviewer : str, optional
            Name put on decisions; by default the user's login name.
        read_only : bool
            Open for reading; works during someone's review and on read-only media.
        source_root : Path, optional
            Where the data lies now, if it was moved since the scan.

        Raises
        ------
        NotAnAudit, NewerFormat, DamagedAudit
            There is no readable audit.
        AuditBusy
            Another process reviews it.
        """
        path = Path(path)
        for _ in range(ATTEMPTS):
            before = generations.listing(path)
            try:
                return cls._open(path, reviewer, read_only, source_root)
            except AuditError:
                # Whoever reviews it may have replaced the generation that was just to be read.
                if not read_only or generations.listing(path) == before:
                    raise
        return cls._open(path, reviewer, read_only, source_root)

    @classmethod
    def _open(cls, path: Path, reviewer: str | None, read_only: bool, source_root: Path | None) -> Audit:
        store = Store.open(path)
        try:
            journal = Journal.open(store.path, store.uuid, reviewer=reviewer, read_only=read_only)
            try:
                return cls(store, journal, source_root)
            except BaseException:
                journal.close()
                raise
        except BaseException:
            store.close()
            raise

    def __enter__(self) -> Audit:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Save what is pending and let the audit go.

        Raises
        ------
        AuditError
            Something could not be saved.
        """
        try:
            self._journal.close()
        finally:
            self._store.close()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything is on disk; False when it failed or took longer than `timeout` seconds."""
        return self._journal.flush(timeout)

    def write_unsaved(self, path: Path) -> int:
        """Write the decisions that are not on disk yet into a new file; see `Journal.write_pending`."""
        return self._journal.write_pending(path)

    def warm(self) -> None:
        """Prepare the first moves and relabels in the background; call it once the first screen is shown."""
        self._complexity.warm()
        store, duplicates = self._store, self._duplicates

        def fetch() -> None:
            store.read_ahead()
            duplicates.index()

        threading.Thread(target=fetch, name="warm", daemon=True).start()

    def _saved(self) -> None:
        if self.on_saved is not None:
            self.on_saved()

    # deciding

    def decide(
        self,
        indices: ArrayLike,
        kind: str,
        label: int | ArrayLike | None = None,
        second: int | None = None,
        note: str | None = None,
        how: str = "alone",
    ) -> Step:
        """Decide on one sample or many, as one action with one undo.

        Parameters
        ----------
        indices : (m,) int
            Samples; repeated ones count once.
        kind : str
            keep, relabel, exclude, ambiguous, unsure or skip. A relabel with the given label is a keep.
        label : int or (m,) int, optional
            The new label or labels; for relabel only.
        second : int, optional
            For ambiguous: the other label that is right.
        note : str, optional
            Replaces the samples' notes; None leaves them.
        how : str
            ``alone`` (the sample was looked at), ``check`` (as a random check) or ``bulk``; several samples are bulk
            in any case. Bulk decisions change labels and prove nothing.

        Raises
        ------
        InputError
            An index, kind or label is not allowed; nothing has changed then.
        AuditError
            The audit is open for reading only.
        """
        samples, new = self._targets(indices, kind, label)
        if second is not None and (kind != "ambiguous" or not 0 <= second < self.K):
            raise InputError("a second label is a class and goes with ambiguous", f"got {second} with {kind}")
        kinds = np.full(len(samples), KINDS.index(kind), np.int8)
        if kind == "relabel":
            kinds[new == self.given[samples]] = KEEP
        seconds = np.full(len(samples), -1 if second is None else second, np.int32)
        notes = [self._decision_log.note(i) if note is None else note or None for i in samples.tolist()]
        if how not in HOW[1:]:
            raise InputError(
                f"a decision comes about in one of the ways {', '.join(HOW[1:])}", f"{safe(how)} came"
            )
        verb = "bulk" if len(samples) > 1 or how == "bulk" else "check" if how == "check" else "decide"
        return self._act(verb, kind, samples, kinds, new, seconds, notes)

    def note(self, i: int, text: str) -> Step:
        """Set the note of a sample, decided or not; empty text removes it.

        Parameters
        ----------
        i : int
            Sample index.
        text : str

        Returns
        -------
        Step
        """
        samples, _ = self._targets([i], "keep", None)
        return self._act(
            "note",
            "note",
            samples,
            self._decision_log.kind[samples],
            self._current[samples],
            np.array([self._decision_log.second(int(samples[0]))], np.int32),
            [text or None],
        )

    def _targets(
        self, indices: ArrayLike, kind: str, label: int | ArrayLike | None
    ) -> tuple[Index, NDArray[np.int32]]:
        """Check a decision; return its distinct samples and their labels after it."""
        if kind not in KINDS[1:]:
            raise InputError(f"a decision is one of {', '.join(KINDS[1:])}", f"got {safe(kind)}")
        given = np.asarray(indices)
        if given.ndim != 1 or not len(given) or given.dtype.kind not in "iu":
            raise InputError("a decision needs a list of sample indices", f"got {given.dtype} {given.shape}")
        samples, first = np.unique(given.astype(np.int64), return_index=True)
        if samples[0] < 0 or samples[-1] >= self.n:
            raise InputError(f"samples are 0..{self.n - 1}", f"got {samples[0]}..{samples[-1]}")
        if (label is not None) != (kind == "relabel"):
            raise InputError("a label goes with relabel and with nothing else", f"got {label!r} with {kind}")
        if label is None:
            return samples, self.given[samples]
        labels = np.asarray(label)
        if labels.dtype.kind not in "iu" or labels.shape not in ((), given.shape):
            raise InputError("a relabel needs one class, or one for each sample", f"got shape {labels.shape}")
        if labels.min() < 0 or labels.max() >= self.K:
            raise InputError(f"classes are 0..{self.K - 1}", f"got {labels.min()}..{labels.max()}")
        new = np.broadcast_to(labels, given.shape)[first].astype(np.int32)
        return samples, new

    def _act(
        self,
        command: str,
        kind: str,
        samples: Index,
        kinds: NDArray[np.int8],
        labels: NDArray[np.int32],
        seconds: NDArray[np.int32],
        notes: list[str | None],
    ) -> Step:
        old = self._current[samples]
        rows = _Rows(self._store, self.class_ids, samples, kinds, old, labels, seconds, notes)
        action = self._journal.append(command, rows)
        before = self._decision_log.kind[samples].copy()
        self._decision_log.push(action, samples, kinds, labels, seconds, notes)
        self._follow(samples, before)
        return Step(action.seq, action.uuid, command, kind, samples)

    def undo(self) -> Step | None:
        """Undo the latest action in effect, whoever made it; None if there is none."""
        target = self._decision_log.to_undo()
        return None if target is None else self._move("undo", target, target.uuid)

    def redo(self) -> Step | None:
        """Repeat what was undone last; None when nothing was, or something was decided since."""
        found = self._decision_log.to_redo()
        return None if found is None else self._move("redo", *found)

    def _move(self, command: str, target: Action, undoes: str) -> Step:
        samples, kind = self._decision_log.scope(target)
        before = self._decision_log.kind[samples].copy()
        action = self._journal.append(command, undoes=undoes)
        if command == "undo":
            self._decision_log.undo(action.uuid)
        else:
            self._decision_log.redo()
        self._follow(samples, before)
        return Step(action.seq, action.uuid, command, kind, samples)

    def _follow(self, samples: Index, before: NDArray[np.int8]) -> None:
        """Bring labels, counts and overlaps up to date after the rows of distinct `samples` changed."""
        after, old = self._decision_log.kind[samples], self._current[samples]
        new = self._labels_after(self._store, samples)
        given, flagged = self.given[samples], self._queues.flagged[samples]
        self._current[samples] = new
        np.add.at(self._kinds, after, 1)
        np.subtract.at(self._kinds, before, 1)
        step = (after != 0).astype(np.int64) - (before != 0)
        labelled = given >= 0
        np.add.at(self._reviewed, given[labelled], step[labelled])
        np.subtract.at(self._left, given[flagged], step[flagged])
        was, now = np.where(before == EXCLUDE, -1, old), np.where(after == EXCLUDE, -1, new)
        np.subtract.at(self._samples, was[was >= 0], 1)
        np.add.at(self._samples, now[now >= 0], 1)
        moved = was != now
        if moved.any():
            self._complexity.follow(samples[moved], now[moved].astype(np.int32))

    def what_if(
        self, indices: ArrayLike, kind: str = "relabel", label: int | ArrayLike | None = None
    ) -> WhatIf:
        """Compute what a decision would change, without making it; see `what_if_later`.

        Parameters
        ----------
        indices : array-like of int, shape (n,)
        kind : str
            One of `KINDS`.
        label : int or array-like of int, optional
            For "relabel": one label, or one per sample.

        Returns
        -------
        WhatIf
        """
        return self.what_if_later(indices, kind, label)()

    def what_if_later(
        self, indices: ArrayLike, kind: str = "relabel", label: int | ArrayLike | None = None
    ) -> Callable[[], WhatIf]:
        """What a decision would change, to be computed on any thread.

        Parameters
        ----------
        indices, kind, label
            As for `decide`.

        Returns
        -------
        callable
            Copies the counts and solves for CSG twice when it is called (0.3 s at 1,000 classes).

        Raises
        ------
        InputError
            As `decide`.
        """
        samples, new = self._targets(indices, kind, label)
        target = np.full(len(samples), -1, np.int32) if kind == "exclude" else new
        solve = self._complexity.what_if(samples, target)
        by_given = _most_frequent(self.given[samples])
        by_suggested = _most_frequent(self._suggested[samples, 0])

        def measure() -> WhatIf:
            before, after = solve()
            return WhatIf(
                samples=len(samples),
                by_given=by_given,
                by_suggested=by_suggested,
                d_overlap=after.overlap - before.overlap,
                csg_before=before.csg,
                csg_after=after.csg,
                trace_before=before.trace,
                trace_after=after.trace,
            )

        return measure

    # generations

    def training_labels(self) -> NDArray[np.int32]:
        """(N,) int32, the current labels; -1 for samples to leave out: excluded, unlabelled, not ok."""
        labels = self._labels_in_s().copy()
        labels[self._store.status != 0] = -1
        return labels

    @property
    def relabels_since_run(self) -> int:
        """Samples relabelled since the labels of the newest training run were taken."""
        return self._decision_log.relabels_after(generations.newest_run_seq(self.path))

    def prepare(self) -> int:
        """Copy the results of finished runs into the audit; returns how many are ready for `refresh`.

        One other thread at a time may call this; it takes seconds for large results on a slow disk, and
        changes nothing that is shown.
        """
        if not self.read_only and not self._prepared:
            self._prepared = generations.prepare(self._store, self._generations, self._refused)
        return len(self._prepared)

    def refresh(self) -> Change | None:
        """Show the results of runs that finished since, and of other writers when open for reading only.

        Copies them first where `prepare` was not called, and raises as it does. Decisions stay as they are.

        Returns
        -------
        Change or None
            None when there is nothing new.
        """
        if self.read_only:
            before = generations.listing(self.path)
            try:
                self._reread()
                wanted = generations.newest(self._store, self._generations)
            except AuditError:
                if generations.listing(self.path) == before:
                    raise
                return None  # a newer one has replaced it: the next call shows that
            if wanted.generation == self.generation:
                return None
            run = next((row.run for row in self._generations if row.n == wanted.generation), "")
        else:
            self.prepare()
            made, self._prepared = self._prepared, []
            for row in made:
                action = self._journal.append("generation", generation=(row.n, row.sha256, row.run))
                self._generations.append(generations.numbered(row, action.seq))
            if not made:
                return None
            run = made[-1].run
            wanted = self._store.at(made[-1].n)
        old_flags, old_store = self._queues.flagged, self._store
        self._show(wanted)
        old_store.close()
        self._images = None
        undecided = self._decision_log.kind == 0
        new = int(np.count_nonzero(self._queues.flagged & ~old_flags & undecided))
        cleared = int(np.count_nonzero(old_flags & ~self._queues.flagged & undecided))
        return Change(new, cleared, self.generation, run)

    def _reread(self) -> None:
        """Follow what another process wrote since."""
        if not self._journal.read(self._read_seq)[0]:
            return
        actions, rows, self._generations = self._journal.read()
        self._read_seq = actions[-1].seq
        old = self._decision_log
        self._decision_log = replay(self._store, actions, rows)
        changed = np.union1d(old.touched(), self._decision_log.touched())
        self._current[changed] = self._labels_after(self._store, changed)
        self._show(self._store)


class _Rows:
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


def _most_frequent(labels: NDArray[np.int32]) -> list[tuple[int, int]]:
    values, counts = np.unique(labels, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return list(zip(values[order].tolist(), counts[order].tolist(), strict=True))
