"""journal.db: every decision of a person, append-only, in SQLite.

::

    meta(key, value)                     format, audit_uuid
    action(seq, uuid, time, reviewer, host, kind, undoes)
    decision(action, sample_index, sample_id, kind, old_label, new_label, second_label, note)
    generation(seq, n, sha256, run)

An action is one key press: a decision, a bulk of decisions, a note, an undo, a redo, or the adoption of a
generation. Nothing is ever changed or deleted: an *undo* is an action whose `undoes` holds the uuid of the
action it takes back, a *redo* one whose `undoes` holds the uuid of the undo. Labels stand as class ids and
samples as names beside their indices, so that journals of two people can be merged.

Who writes
    One process at a time: it holds an advisory lock on ``journal.lock``, in which it records itself (`lock`).
    Others may read beside it.
How it is written
    The caller's thread appends in memory and goes on; a thread of the journal commits in order with
    ``synchronous=FULL`` (``EXTRA`` in rollback mode). What is not committed counts as pending; when the disk fails it
    stays pending and is tried again (`database`).
Where it lies
    SQLite's write-ahead log needs memory that all its users share, so it is used on local file systems only;
    on network file systems a rollback journal is used. At rest the file is in rollback mode everywhere, so an
    audit can be copied to and mounted at any place. On a read-only medium the file is opened as immutable,
    unless a log with content lies beside it, which that would silently leave out: then both are copied to a
    private directory and opened there.
"""

from __future__ import annotations

from labeltui.journal.database import (
    FORMAT,
    Action,
    GenerationRow,
    Journal,
    Row,
    StoredRow,
    create,
)
from labeltui.journal.lock import identity, lives_here, on_shared_file_system
from labeltui.paths import JOURNAL_LOCK

__all__ = [
    "FORMAT",
    "JOURNAL_LOCK",
    "Action",
    "GenerationRow",
    "Journal",
    "Row",
    "StoredRow",
    "create",
    "identity",
    "lives_here",
    "on_shared_file_system",
]
