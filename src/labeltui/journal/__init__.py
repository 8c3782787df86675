"""journal.db: all decisions, append-only, in SQLite.

::

    meta(key, value)                     format, audit_uuid
    action(seq, uuid, time, reviewer, host, kind, undoes)
    decision(action, sample_index, sample_id, kind, old_label, new_label, second_label, note)
    generation(seq, n, sha256, run)
    opinion(action, sample_index, sample_id, kind, label, second_label, note, reviewer, time, how, final)
    assignment(action, sample_index, sample_id, reviewer)

An action is one key press: a decision, a bulk of decisions, a note, an undo, a redo, or the adoption of a
generation. Nothing is ever changed or deleted: an *undo* is an action whose `undoes` is the uuid of the
undone action, a *redo* one whose `undoes` is the uuid of the undo. A *merge* brings the decisions of other reviewers,
each with its author and time, as opinions; those that take effect are its decisions as well. An *assign* says who
reviews which sample. The tables of both are there from the first of them on. Labels are stored as class ids and
samples as names with their indices, so that two journals can be merged.

Who writes
    One process at a time: it holds an advisory lock on ``journal.lock``, which records the process (`lock`).
    Others may read meanwhile.
How it is written
    The calling thread appends in memory and continues; a thread of the journal commits in order with
    ``synchronous=FULL`` (``EXTRA`` in rollback mode). Actions not yet committed are pending; when the disk fails they
    stay pending and are retried (`database`).
Where it is stored
    SQLite's write-ahead log needs shared memory, so it is used on local file systems only;
    on network file systems a rollback journal is used. At rest the file is in rollback mode everywhere, so an
    audit can be copied and mounted anywhere. On a read-only medium the file is opened as immutable, unless there
    is a non-empty log, which would silently be ignored: then both are copied to a private directory and opened there.
"""

from __future__ import annotations

from labeltui.journal.columns import Coded, StoredActions, StoredDecisions
from labeltui.journal.database import (
    FORMAT,
    Action,
    AssignmentRow,
    Columns,
    GenerationRow,
    History,
    Journal,
    OpinionRow,
    Row,
    StoredAssignment,
    StoredOpinion,
    StoredRow,
    create,
)
from labeltui.journal.lock import identity, lives_here, on_shared_file_system
from labeltui.paths import JOURNAL_LOCK

__all__ = [
    "FORMAT",
    "JOURNAL_LOCK",
    "Action",
    "AssignmentRow",
    "Coded",
    "Columns",
    "GenerationRow",
    "History",
    "Journal",
    "OpinionRow",
    "Row",
    "StoredActions",
    "StoredAssignment",
    "StoredDecisions",
    "StoredOpinion",
    "StoredRow",
    "create",
    "identity",
    "lives_here",
    "on_shared_file_system",
]
