"""The SQLite file and the thread that writes it."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import sqlite3
import tempfile
import threading
import uuid as uuids
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from labeltui.errors import AuditBusy, AuditError, AuditExists, DamagedAudit, NewerFormat, NotAnAudit
from labeltui.io.atomic import replacing
from labeltui.journal.columns import MistypedError, StoredActions, StoredDecisions, read_decisions
from labeltui.journal.lock import OwnerLock, on_shared_file_system, utc_now
from labeltui.paths import JOURNAL_FILE, JOURNAL_LOCK
from labeltui.text import safe

FORMAT = 1

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE action (
    seq INTEGER PRIMARY KEY,
    uuid TEXT NOT NULL UNIQUE,
    time TEXT NOT NULL,
    reviewer TEXT NOT NULL,
    host TEXT NOT NULL,
    kind TEXT NOT NULL,
    undoes TEXT
);
CREATE TABLE decision (
    action INTEGER NOT NULL REFERENCES action(seq),
    sample_index INTEGER NOT NULL,
    sample_id BLOB NOT NULL,
    kind TEXT NOT NULL,
    old_label BLOB,
    new_label BLOB,
    second_label BLOB,
    note TEXT
);
CREATE INDEX decision_of_action ON decision(action);
CREATE TABLE generation (
    seq INTEGER PRIMARY KEY REFERENCES action(seq),
    n INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    run TEXT NOT NULL
);
"""
# What is there from the first merge or split on.
SHARING = """
CREATE TABLE IF NOT EXISTS opinion (
    action INTEGER NOT NULL REFERENCES action(seq),
    sample_index INTEGER NOT NULL,
    sample_id BLOB NOT NULL,
    kind TEXT NOT NULL,
    label BLOB,
    second_label BLOB,
    note TEXT,
    reviewer TEXT NOT NULL,
    time TEXT NOT NULL,
    how TEXT NOT NULL,
    final INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS assignment (
    action INTEGER NOT NULL REFERENCES action(seq),
    sample_index INTEGER NOT NULL,
    sample_id BLOB NOT NULL,
    reviewer TEXT NOT NULL
);
"""
_SHARING_OBJECTS = {("table", "opinion"), ("table", "assignment")}
_SCHEMA_OBJECTS = {
    ("table", "meta"),
    ("table", "action"),
    ("table", "decision"),
    ("table", "generation"),
    ("index", "decision_of_action"),
}
_ACTIONS = "SELECT seq, uuid, time, reviewer, host, kind, undoes FROM action WHERE seq > ? ORDER BY seq"
_DECISIONS = (
    "SELECT action, sample_index, kind, new_label, second_label, note, sample_id FROM decision"
    " WHERE action > ? ORDER BY action, rowid"
)
_OPINIONS = (
    "SELECT action, sample_index, kind, label, second_label, note, sample_id, reviewer, time, how, final"
    " FROM opinion WHERE action > ? ORDER BY action, rowid"
)
_ASSIGNMENTS = (
    "SELECT action, sample_index, sample_id, reviewer FROM assignment WHERE action > ? ORDER BY action, rowid"
)
_GENERATIONS = "SELECT seq, n, sha256, run FROM generation WHERE seq > ? ORDER BY seq"

# SQLite allows any type in any column; these values are used without conversion.
_MISTYPED = """
SELECT 'action', seq FROM action WHERE typeof(uuid) <> 'text' OR typeof(time) <> 'text' OR typeof(reviewer) <> 'text'
    OR typeof(host) <> 'text' OR typeof(kind) <> 'text' OR typeof(undoes) NOT IN ('null', 'text')
UNION ALL
SELECT 'decision', rowid FROM decision WHERE typeof(action) <> 'integer' OR typeof(sample_index) <> 'integer'
    OR typeof(sample_id) <> 'blob' OR typeof(kind) <> 'text' OR typeof(new_label) NOT IN ('null', 'blob')
    OR typeof(second_label) NOT IN ('null', 'blob') OR typeof(note) NOT IN ('null', 'text')
LIMIT 1
"""
_MISTYPED_GENERATION = """
SELECT 'generation', seq FROM generation WHERE typeof(n) <> 'integer' OR n < 0 OR typeof(sha256) <> 'text'
    OR typeof(run) <> 'text'
LIMIT 1
"""
_MISTYPED_SHARING = """
SELECT 'opinion', rowid FROM opinion WHERE typeof(action) <> 'integer' OR typeof(sample_index) <> 'integer'
    OR typeof(sample_id) <> 'blob' OR typeof(kind) <> 'text' OR typeof(label) NOT IN ('null', 'blob')
    OR typeof(second_label) NOT IN ('null', 'blob') OR typeof(note) NOT IN ('null', 'text')
    OR typeof(reviewer) <> 'text' OR typeof(time) <> 'text' OR how NOT IN ('alone', 'bulk', 'check', 'automatic')
    OR final NOT IN (0, 1)
UNION ALL
SELECT 'assignment', rowid FROM assignment WHERE typeof(action) <> 'integer' OR typeof(sample_index) <> 'integer'
    OR typeof(sample_id) <> 'blob' OR typeof(reviewer) <> 'text'
LIMIT 1
"""

# Contradictions that no writer produces, each with a query that counts them.
_CONTRADICTIONS = {
    "decisions belong to no action": "SELECT count(*) FROM decision WHERE action NOT IN (SELECT seq FROM action)",
    "generations belong to no action": "SELECT count(*) FROM generation WHERE seq NOT IN (SELECT seq FROM action)",
    "actions undo or redo one that is not there": "SELECT count(*) FROM action AS a WHERE kind IN ('undo', 'redo') AND"
    " NOT EXISTS (SELECT 1 FROM action AS b WHERE b.uuid = a.undoes AND b.seq < a.seq)",
    "actions are of a kind that does not exist": "SELECT count(*) FROM action"
    " WHERE kind NOT IN ('decide', 'check', 'bulk', 'automatic', 'note',"
    " 'undo', 'redo', 'generation', 'merge', 'assign')",
    "actions hold no decision": "SELECT count(*) FROM action"
    " WHERE kind IN ('decide', 'check', 'bulk', 'automatic', 'note')"
    " AND seq NOT IN (SELECT action FROM decision)",
    "actions are missing": "SELECT coalesce(max(seq), 0) - count(*) FROM action",
}

_RETRY_SECONDS = 1.0
_BUSY_SECONDS = 10.0


class Action(NamedTuple):  # faster to create than a dataclass: a journal has tens of thousands
    """One row of the table ``action``.

    Attributes
    ----------
    seq : int
        Position in this journal, from 1.
    uuid : str
        Name of the action in any journal.
    time : str
        UTC, ISO 8601 with milliseconds and ``Z``.
    reviewer, host : str
        Who, and where.
    kind : str
        ``decide``, ``check`` (decided as a random check), ``bulk`` (many decided at once, not looked at one by one),
        ``note``, ``undo``, ``redo``, ``generation``, ``merge`` (decisions of other reviewers, in the table
        ``opinion``) or ``assign`` (who reviews which sample).
    undoes : str or None
        For undo and redo: the uuid of the undone action or undo.
    """

    seq: int
    uuid: str
    time: str
    reviewer: str
    host: str
    kind: str
    undoes: str | None = None


class GenerationRow(NamedTuple):
    """One row of the table ``generation``: action `seq` made `n` current, a result of the run `run`."""

    seq: int
    n: int
    sha256: str
    run: str


class Columns(NamedTuple):
    """A whole journal, but for what merges and splits brought."""

    actions: StoredActions
    decisions: StoredDecisions
    generations: list[GenerationRow]


# sample_index, sample_id, kind, old_label, new_label, second_label, note
Row = tuple[int, bytes, str, bytes | None, bytes | None, bytes | None, str | None]
# action, sample_index, kind, new_label, second_label, note, sample_id
StoredRow = tuple[int, int, str, bytes | None, bytes | None, str | None, bytes]
# sample_index, sample_id, kind, label, second_label, note, reviewer, time, how, final
OpinionRow = tuple[int, bytes, str, bytes | None, bytes | None, str | None, str, str, str, int]
# action, sample_index, kind, label, second_label, note, sample_id, reviewer, time, how, final
StoredOpinion = tuple[int, int, str, bytes | None, bytes | None, str | None, bytes, str, str, str, int]
# sample_index, sample_id, reviewer
AssignmentRow = tuple[int, bytes, str]
# action, sample_index, sample_id, reviewer
StoredAssignment = tuple[int, int, bytes, str]


class _Pending(NamedTuple):
    action: Action
    rows: Iterable[Row]
    generation: GenerationRow | None
    opinions: Sequence[OpinionRow] = ()
    assignments: Sequence[AssignmentRow] = ()


@dataclass
class History:
    """Actions that a new journal begins with, each with its own author and time; they are numbered anew."""

    actions: list[Action] = field(default_factory=list)
    decisions: list[tuple[int, *Row]] = field(default_factory=list)
    opinions: list[tuple[int, *OpinionRow]] = field(default_factory=list)
    assignments: list[tuple[int, *AssignmentRow]] = field(default_factory=list)

    def add(
        self,
        action: Action,
        decisions: Iterable[Row],
        opinions: Iterable[OpinionRow],
        assignments: Iterable[AssignmentRow],
    ) -> None:
        """Add an action with its rows.

        Parameters
        ----------
        action : Action
        decisions : iterable of Row
        opinions : iterable of OpinionRow
        assignments : iterable of AssignmentRow
        """
        seq = len(self.actions) + 1
        self.actions.append(action._replace(seq=seq))
        self.decisions += ((seq, *row) for row in decisions)
        self.opinions += ((seq, *row) for row in opinions)
        self.assignments += ((seq, *row) for row in assignments)

    def write(self, db: sqlite3.Connection) -> None:
        """Insert everything.

        Parameters
        ----------
        db : Connection
            Inside a transaction.
        """
        db.executemany("INSERT INTO action VALUES (?, ?, ?, ?, ?, ?, ?)", self.actions)
        db.executemany("INSERT INTO decision VALUES (?, ?, ?, ?, ?, ?, ?, ?)", self.decisions)
        if self.opinions or self.assignments:
            _add_sharing(db, self.opinions, self.assignments)


def create(path: Path, audit_uuid: str, mode: int = 0o600, history: History | None = None) -> Path:
    """Write a journal: an empty one, or one that begins with the history of an earlier audit.

    Parameters
    ----------
    path : Path
        The audit directory, or the path of the journal in it.
    audit_uuid : str
        The audit the journal belongs to.
    mode : int
        Permissions of the file; SQLite gives the files beside it the same.
    history : History, optional

    Returns
    -------
    Path
        The journal's path.

    Raises
    ------
    AuditExists
        There is one already.
    AuditError
        It cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        path = path / JOURNAL_FILE
    if path.exists():
        raise AuditExists("a journal is created once", f"{safe(str(path))} exists", "choose another place")
    try:
        with replacing(path) as hidden, closing(sqlite3.connect(hidden, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous=FULL")
            db.executescript("BEGIN;" + SCHEMA)
            meta = {"format": str(FORMAT), "audit_uuid": audit_uuid}
            db.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            if history is not None:
                history.write(db)
            db.execute("COMMIT")
            hidden.chmod(mode)
    except (OSError, sqlite3.Error) as error:
        raise AuditError(
            "an audit needs a journal beside it",
            f"{safe(str(path))}: {safe(str(error))}",
            "check space and permissions",
        ) from None
    return path


class Journal:
    """An open journal: use `open`, then close it, or use it as a context manager.

    One thread calls the methods; `on_change` is called from the journal's own thread.

    Attributes
    ----------
    last_seq : int
        The newest action, saved or not.
    saved_seq : int
        The newest action that is on disk; all before it are, too.
    failed : AuditError or None
        Why the last attempt to save failed; None again as soon as one succeeds.
    """

    def __init__(
        self, path: Path, *, reviewer: str, lock: OwnerLock | None, on_change: Callable[[], None] | None
    ) -> None:
        self.path = path
        self.reviewer = reviewer
        self.host = socket.gethostname()
        self.read_only = lock is None
        self.last_seq = 0
        self.saved_seq = 0
        self.failed: AuditError | None = None
        self.on_change = on_change
        self._lock = lock
        self._queue: deque[_Pending] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._db: sqlite3.Connection | None = None
        self._doubted = False  # a commit failed: its pages in the file may not be on the disk
        self._local = not on_shared_file_system(path)

    @classmethod
    def open(
        cls,
        directory: Path,
        audit_uuid: str,
        *,
        reviewer: str | None = None,
        read_only: bool = False,
        on_change: Callable[[], None] | None = None,
    ) -> Journal:
        """Open the journal of an audit.

        Parameters
        ----------
        directory : Path
            The audit directory.
        audit_uuid : str
            The audit's uuid, which the journal must carry.
        reviewer : str, optional
            Name put on new actions; by default the user's login name.
        read_only : bool
            Take no lock and refuse to append.
        on_change : callable, optional
            Called from the journal's thread after each attempt to save.

        Raises
        ------
        NotAnAudit, NewerFormat, DamagedAudit
            The file is missing, too new, damaged, or belongs to another audit.
        AuditBusy
            Another process writes this audit.
        AuditError
            The directory cannot be written.
        """
        path = Path(directory) / JOURNAL_FILE
        try:
            _require_plain(path)
        except OSError as error:
            raise AuditError(
                "an audit must be readable",
                f"{safe(str(path))}: {error.strerror}",
                "check its permissions and its disk",
            ) from None
        reviewer = reviewer or _login()
        lock = None if read_only else OwnerLock(path.with_name(JOURNAL_LOCK), reviewer)
        journal = cls(path, reviewer=reviewer, lock=lock, on_change=on_change)
        try:
            with journal._reading() as db:
                journal._check_meta(db, audit_uuid)
                journal.last_seq = _newest(db)
            journal.saved_seq = journal.last_seq
        except BaseException:
            journal.close()
            raise
        return journal

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, after: int = 0) -> tuple[list[Action], list[StoredRow], list[GenerationRow]]:
        """Read actions, decisions and generations after action `after` from the disk."""
        with self._reading() as db:
            db.execute("BEGIN")  # the reads see one state
            self._require_types(db, _MISTYPED)
            actions = list(map(Action._make, db.execute(_ACTIONS, (after,))))
            rows = db.execute(_DECISIONS, (after,)).fetchall()
            generations = [GenerationRow(*row) for row in db.execute(_GENERATIONS, (after,))]
        if self.read_only and actions:
            self.last_seq = self.saved_seq = actions[-1].seq
        return actions, rows, generations

    def newest(self) -> int:
        """Read the `seq` of the newest action from the disk; 0 where there is none."""
        with self._reading() as db:
            return _newest(db)

    def columns(self) -> Columns:
        """Read all actions, decisions and generations from the disk, as columns.

        Raises
        ------
        DamagedAudit
            They cannot be read, or hold what labeltui does not write.
        """
        with self._reading() as db:
            db.execute("BEGIN")
            try:
                generations = [GenerationRow(*row) for row in db.execute(_GENERATIONS, (0,))]
                found = Columns(StoredActions(db), read_decisions(db), generations)
            except MistypedError as error:
                raise self._mistyped(f"a row of {error}") from None
        if self.read_only and len(found.actions):
            self.last_seq = self.saved_seq = int(found.actions.seq[-1])
        return found

    def read_sharing(self, after: int = 0) -> tuple[list[StoredOpinion], list[StoredAssignment]]:
        """Read what merges and splits after action `after` brought."""
        with self._reading() as db:
            if not _has_sharing(db):
                return [], []
            db.execute("BEGIN")
            return db.execute(_OPINIONS, (after,)).fetchall(), db.execute(_ASSIGNMENTS, (after,)).fetchall()

    def faults(self) -> Iterator[str]:
        """Read the whole journal and yield a description of each contradiction.

        Raises
        ------
        DamagedAudit
            It cannot be read.
        """
        with self._reading() as db:
            self._require_types(db, _MISTYPED)
            yield from (
                safe(str(row[0]), 200) for row in db.execute("PRAGMA integrity_check(5)") if row[0] != "ok"
            )
            for text, query in _CONTRADICTIONS.items():
                if count := db.execute(query).fetchone()[0]:
                    yield f"{count:,} {text}"

    def copy(self, path: Path) -> None:
        """Write a consistent copy of the journal into a new file, also while another process writes it.

        Parameters
        ----------
        path : Path
            The copy: one plain file, complete when this returns.

        Raises
        ------
        DamagedAudit
            The journal cannot be read, or the copy cannot be written.
        """
        with self._reading() as db, closing(sqlite3.connect(path, isolation_level=None)) as copy:
            copy.execute("PRAGMA synchronous=FULL")
            db.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # the mode of a closed journal

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for reading, with or without a log and whether or not the file is writable."""
        scratch: str | None = None
        try:
            beside = [self.path.with_name(JOURNAL_FILE + suffix) for suffix in ("-wal", "-journal")]
            unmerged = [path for path in beside if path.exists() and path.stat().st_size > 0]
            writable = os.access(self.path, os.W_OK) and os.access(self.path.parent, os.W_OK)
            with ExitStack() as stack:
                db: sqlite3.Connection | None = None
                if not self.read_only or (writable and self._local):
                    # Writable, so that SQLite can complete or roll back an interrupted commit.
                    db = stack.enter_context(closing(_connect(self.path, "mode=rw")))
                    if not self._local:
                        db.execute(
                            "PRAGMA locking_mode=EXCLUSIVE"
                        )  # reads a left-over WAL without shared memory
                elif self._local or _in_rollback_mode(self.path):
                    db = stack.enter_context(closing(_connect(self.path, "mode=ro")))
                    if not _answers(db):
                        db = None
                if db is None and unmerged:
                    scratch = tempfile.mkdtemp(prefix="labeltui-journal-")
                    for path in [self.path, *unmerged]:
                        shutil.copyfile(path, os.path.join(scratch, path.name))
                    db = stack.enter_context(closing(_connect(Path(scratch, JOURNAL_FILE), "mode=rw")))
                elif db is None:
                    db = stack.enter_context(closing(_connect(self.path, "mode=ro&immutable=1")))
                yield db
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            raise DamagedAudit(
                "the journal must be a readable SQLite file",
                f"{safe(str(self.path))}: {safe(str(error))}",
                "restore it from a copy",
            ) from None
        finally:
            if scratch is not None:
                shutil.rmtree(scratch, ignore_errors=True)

    def _check_meta(self, db: sqlite3.Connection, audit_uuid: str) -> None:
        # Views and triggers are programs; a journal from elsewhere must not contain any.
        foreign = [
            f"{kind} {safe(name)}"
            for kind, name in db.execute("SELECT type, name FROM sqlite_master ORDER BY name")
            if (kind, name) not in _SCHEMA_OBJECTS | _SHARING_OBJECTS
            and not name.startswith("sqlite_autoindex_")
        ]
        missing = _SCHEMA_OBJECTS - set(db.execute("SELECT type, name FROM sqlite_master"))
        if foreign or missing:
            raise DamagedAudit(
                "a journal holds the tables that labeltui makes, and nothing else",
                f"{safe(str(self.path))} holds {', '.join(foreign[:5])}"
                if foreign
                else f"{safe(str(self.path))} lacks {', '.join(sorted(name for _, name in missing))}",
                "restore it from a copy",
            )
        where = safe(str(self.path))
        self._require_types(db, _MISTYPED_GENERATION)
        if _has_sharing(db):
            self._require_types(db, _MISTYPED_SHARING)
        meta = {str(key): str(value) for key, value in db.execute("SELECT key, value FROM meta")}
        if not meta.get("format", "").isdecimal():
            raise DamagedAudit("a journal states its format", f"{where} does not", "restore it from a copy")
        if int(meta["format"]) > FORMAT:
            raise NewerFormat(
                f"this labeltui reads journals of format {FORMAT} and older",
                f"{where} has format {meta['format']}",
                "install a newer labeltui",
            )
        if meta.get("audit_uuid") != audit_uuid:
            raise DamagedAudit(
                "a journal belongs to the audit beside it",
                f"{where} belongs to audit {safe(str(meta.get('audit_uuid')))}, not to {safe(audit_uuid)}",
                "put back the journal that was made with this audit",
            )

    def _require_types(self, db: sqlite3.Connection, query: str) -> None:
        if mistyped := db.execute(query).fetchone():
            raise self._mistyped(f"row {mistyped[1]} of {mistyped[0]}")

    def _mistyped(self, row: str) -> DamagedAudit:
        return DamagedAudit(
            "a journal's columns hold what labeltui writes into them",
            f"{safe(str(self.path))}: {row} holds something else",
            "restore it from a copy",
        )

    def append(
        self,
        kind: str,
        rows: Iterable[Row] = (),
        *,
        undoes: str | None = None,
        generation: tuple[int, str, str] | None = None,
        opinions: Sequence[OpinionRow] = (),
        assignments: Sequence[AssignmentRow] = (),
    ) -> Action:
        """Append an action in memory and save it in the background.

        Parameters
        ----------
        kind : str
            See `Action`.
        rows : iterable of Row
            Its decisions. They are iterated in the journal's thread, and again after a failure: give a
            sequence, or an object that can be iterated again.
        undoes : str, optional
            The uuid of the action that it takes back.
        generation : (n, sha256, run), optional
            The generation that it makes current.
        opinions : sequence of OpinionRow
            Of a merge: the decisions of others, each with its author and time.
        assignments : sequence of AssignmentRow
            Of a split: who reviews which sample.

        Raises
        ------
        AuditError
            The journal was opened for reading only.
        """
        if self.read_only:
            raise AuditError(
                "decisions need an audit that is open for writing",
                "it is open read-only",
                "open it without --read-only",
            )
        self.last_seq += 1
        action = Action(self.last_seq, str(uuids.uuid4()), utc_now(), self.reviewer, self.host, kind, undoes)
        made = None if generation is None else GenerationRow(action.seq, *generation)
        with self._wake:
            self._queue.append(_Pending(action, rows, made, opinions, assignments))
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
                self._thread.start()
            self._wake.notify_all()
        return action

    @property
    def pending(self) -> int:
        """Actions that are not on disk yet."""
        return self.last_seq - self.saved_seq

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything is on disk, an attempt fails, or `timeout` seconds pass.

        Returns
        -------
        bool
            Whether everything is on disk.
        """
        with self._wake:
            if self.pending:
                self.failed = None  # ends the pause after a failure
            self._wake.notify_all()
            self._wake.wait_for(lambda: not self.pending or self.failed is not None, timeout)
            return not self.pending

    def write_pending(self, path: Path) -> int:
        """Write pending actions to a file of JSON lines elsewhere, for when the audit's disk is full.

        Parameters
        ----------
        path : Path
            A new file. Each line is one action with its columns, and its decisions under ``rows``; names are decoded
            as `os.fsdecode` does.

        Returns
        -------
        int
            How many actions were written.

        Raises
        ------
        AuditError
            The file exists or cannot be written.
        """
        with self._wake:
            pending = list(self._queue)
        keys = ("sample_index", "sample_id", "kind", "old_label", "new_label", "second_label", "note")
        try:
            with open(path, "x", encoding="ascii") as file:
                for item in pending:
                    rows = [
                        {
                            key: os.fsdecode(value) if isinstance(value, bytes) else value
                            for key, value in zip(keys, row, strict=True)
                        }
                        for row in item.rows
                    ]
                    file.write(json.dumps({**item.action._asdict(), "rows": rows}) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise AuditError(
                "unsaved decisions go into a new file",
                f"{safe(str(path))}: {error.strerror}",
                "name another one",
            ) from None
        return len(pending)

    def close(self) -> None:
        """Save pending actions, clean up and release the lock.

        Raises
        ------
        AuditError
            Something could not be saved; everything else is done all the same.
        """
        lost: AuditError | None = None
        if self._thread is not None:
            if not self.flush():
                lost = AuditError(
                    "decisions must be on disk before the audit is closed",
                    f"{self.pending} actions could not be saved: {self.failed.got if self.failed else ''}",
                    "",
                )
            with self._wake:
                self._closing = True
                self._wake.notify_all()
            self._thread.join()
            self._thread = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None
            self.read_only = True
        if lost is not None:
            raise lost

    def _write(self) -> None:
        """The journal's thread: commit queued actions in order, batched into few transactions."""
        while True:
            with self._wake:
                self._wake.wait_for(lambda: bool(self._queue) or self._closing)
                if self._closing:
                    break
                batch = list(self._queue)
            failed: AuditError | None = None
            try:
                self._commit(batch)
            except Exception as error:  # report any error: a dead thread would look like a slow disk
                failed = AuditError(
                    "a decision counts as saved when it is on disk",
                    f"{safe(str(self.path))}: {safe(str(error))}",
                    "free some space or mend the disk; until then all is kept in memory and tried again",
                )
                self._doubted = True
                self._disconnect()
            with self._wake:
                self.failed = failed
                if failed is None:
                    for _ in batch:
                        self._queue.popleft()
                    self.saved_seq = batch[-1].action.seq
                self._wake.notify_all()
            if self.on_change is not None:
                with suppress(Exception):  # a closing screen must not stop the thread
                    self.on_change()
            if failed is not None:
                self._pause(batch[-1])
        if self._db is not None and self._local:
            # Back to a single file. A concurrent reader prevents it; then an empty log remains until the next clean
            # close.
            with suppress(sqlite3.Error):
                self._db.execute("PRAGMA busy_timeout=200")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._db.execute("PRAGMA journal_mode=DELETE")
        self._disconnect()

    def _pause(self, tried: _Pending) -> None:
        """Wait after a failure; a new action, `flush` or `close` ends it."""
        with self._wake:
            self._wake.wait_for(
                lambda: self._closing or not self.failed or self._queue[-1] is not tried, _RETRY_SECONDS
            )

    def _commit(self, batch: Sequence[_Pending]) -> None:
        if self._lock is not None:
            self._lock.check()
        db = self._open_for_writing()
        db.execute("BEGIN IMMEDIATE")
        try:
            # A commit that failed late may still be in the file.
            first = batch[0].action.seq
            there = {row[0] for row in db.execute("SELECT uuid FROM action WHERE seq >= ?", (first,))}
            if there - {item.action.uuid for item in batch}:
                raise AuditBusy(
                    "one process at a time writes an audit",
                    "another one wrote decisions while this one was open",
                    "write the unsaved decisions to a file, then open the audit again",
                )
            for item in batch:
                a = item.action
                if a.uuid in there:
                    continue
                db.execute(
                    "INSERT INTO action VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (a.seq, a.uuid, a.time, a.reviewer, a.host, a.kind, a.undoes),
                )
                rows = ((a.seq, *row) for row in item.rows)
                db.executemany("INSERT INTO decision VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
                if item.opinions or item.assignments:
                    opinions = ((a.seq, *row) for row in item.opinions)
                    _add_sharing(db, opinions, ((a.seq, *row) for row in item.assignments))
                if item.generation is not None:
                    g = item.generation
                    db.execute("INSERT INTO generation VALUES (?, ?, ?, ?)", (g.seq, g.n, g.sha256, g.run))
            if self._doubted:  # an empty transaction would flush nothing
                db.execute(
                    "INSERT OR REPLACE INTO meta VALUES ('flushed', ?)",
                    (f"{batch[-1].action.uuid} {utc_now()}",),
                )
            db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise
        if self._doubted:
            self._force_to_disk(db)
            self._doubted = False

    def _force_to_disk(self, db: sqlite3.Connection) -> None:
        """Flush the whole log and the file, after a flush that failed.

        The kernel forgets pages whose write-back failed, so that the next flush of the same file succeeds without
        them. Moving the log into the file rewrites every page of it.
        """
        if db.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            busy, in_log, moved = db.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
            if busy or in_log != moved:
                raise sqlite3.OperationalError("a reader keeps the log from being moved into the file")

    def _open_for_writing(self) -> sqlite3.Connection:
        if self._db is None:
            db = _connect(self.path, "mode=rw")
            try:
                mode = ""
                if self._local:
                    mode = db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
                else:
                    # A copy of a crashed local audit is still in WAL mode, which without shared memory only an
                    # exclusive connection can leave.
                    db.execute("PRAGMA locking_mode=EXCLUSIVE")
                    db.execute("PRAGMA journal_mode=DELETE")
                    db.execute("PRAGMA locking_mode=NORMAL")
                # A rollback journal commits by its deletion; only EXTRA then flushes the directory.
                db.execute(f"PRAGMA synchronous={'FULL' if mode == 'wal' else 'EXTRA'}")
            except BaseException:
                db.close()
                raise
            self._db = db
        return self._db

    def _disconnect(self) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = None


def _newest(db: sqlite3.Connection) -> int:
    newest: int = db.execute("SELECT coalesce(max(seq), 0) FROM action").fetchone()[0]
    return newest


def _has_sharing(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'opinion'").fetchone() is not None


def _add_sharing(
    db: sqlite3.Connection,
    opinions: Iterable[tuple[int, *OpinionRow]],
    assignments: Iterable[tuple[int, *AssignmentRow]],
) -> None:
    for statement in SHARING.split(";"):
        db.execute(statement)
    db.executemany("INSERT INTO opinion VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", opinions)
    db.executemany("INSERT INTO assignment VALUES (?, ?, ?, ?)", assignments)


def _require_plain(path: Path) -> None:
    """Require a journal, without links among it and SQLite's files."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        # SQLite writes through links, and files in an audit may come from anyone.
        if path.with_name(JOURNAL_FILE + suffix).is_symlink():
            raise DamagedAudit(
                "the files of a journal are no links",
                f"{safe(str(path))}{suffix} is one",
                "put the file itself in its place",
            )
    if not path.is_file():
        raise NotAnAudit(
            f"an audit holds {JOURNAL_FILE}", f"{safe(str(path.parent))} does not", "scan the data again"
        )


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        f"{path.resolve().as_uri()}?{mode}", uri=True, isolation_level=None, timeout=_BUSY_SECONDS
    )
    try:
        db.execute("PRAGMA trusted_schema=OFF")
    except BaseException:
        db.close()
        raise
    return db


def _answers(db: sqlite3.Connection) -> bool:
    """Whether a connection can read; without write access it cannot if a log must be merged first."""
    try:
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        return False
    return True


def _in_rollback_mode(path: Path) -> bool:
    """Whether a database is in rollback mode: bytes 18 and 19 of its header are 1 (2 means WAL)."""
    with open(path, "rb") as file:
        return file.read(20)[18:20] == b"\x01\x01"


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # the user of a container may have no name
        return f"uid{os.getuid()}"
