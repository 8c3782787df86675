"""Results of training runs becoming generations of the audit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from labeltui import paths
from labeltui.errors import AuditError
from labeltui.io import files
from labeltui.io.atomic import sha256
from labeltui.journal import GenerationRow
from labeltui.store import Store
from labeltui.text import safe


def newest(store: Store, rows: Sequence[GenerationRow]) -> Store:
    """The store at the generation that became current last, among those whose file exists.

    A file may be missing if only part of the audit was copied; older scores are then used.

    Parameters
    ----------
    store : Store
    rows : sequence of GenerationRow
        From the journal, oldest first.

    Returns
    -------
    Store
    """
    there = set(store.generations())
    for row in reversed(rows):
        if row.n in there:
            return store if row.n == store.generation else _reopen(store, row.n)
    return store


def _reopen(store: Store, n: int) -> Store:
    found = store.at(n)
    store.close()
    return found


def listing(path: Path) -> list[str]:
    """Names of the generations' files, to detect changes by other processes."""
    try:
        return sorted(os.listdir(path / paths.DERIVED))
    except OSError:
        return []


def runs(path: Path) -> list[Path]:
    """The directories of training runs, oldest first."""
    try:
        names = sorted(os.listdir(path / paths.RUNS))
    except OSError:  # usually there are none yet; other errors are reported where runs are listed
        return []
    return [path / paths.RUNS / name for name in names if not name.startswith(".")]


def prepare(store: Store, rows: Sequence[GenerationRow], refused: set[str]) -> list[GenerationRow]:
    """Copy the finished results that no generation holds yet.

    Generations that nothing needs any more are deleted first, so that there are never more than three or so.

    Parameters
    ----------
    store : Store
        The current generation.
    rows : sequence of GenerationRow
        What the journal holds.
    refused : set of str
        Runs to leave alone. One whose result is damaged is added, so that it is complained of once.

    Returns
    -------
    list of GenerationRow
        Oldest first; their `seq` is 0 until the journal has an action for them.

    Raises
    ------
    DamagedAudit, NewerFormat
        A result cannot be adopted; those after it are taken at the next call.
    """
    known = {row.run for row in rows} | refused
    results = [run / paths.RESULT_FILE for run in runs(store.path) if run.name not in known]
    results = [result for result in results if result.is_file()]
    if not results:
        return []
    store.prune(keep=[row.n for row in rows[-2:]])
    made: list[GenerationRow] = []
    after = max((row.n for row in rows), default=0)
    for result in results:
        try:
            n = store.adopt(result, after)
            digest = sha256(store.generation_path(n))
        except OSError as error:  # a full disk, for example: tried again at the next call
            if made:
                return made
            raise AuditError(
                "the result of a run must be copied into the audit",
                f"{result.parent.name}: {safe(error.strerror or str(error))}",
                "free some space or mend the disk; it is tried again",
            ) from None
        except AuditError:
            if made:  # these are good; the next call complains
                return made
            refused.add(result.parent.name)
            raise
        made.append(GenerationRow(0, n, digest, result.parent.name))
        after = max(after, n)
    return made


def numbered(row: GenerationRow, seq: int) -> GenerationRow:
    """Return the row with the number of its action.

    Parameters
    ----------
    row : GenerationRow
    seq : int

    Returns
    -------
    GenerationRow
    """
    return row._replace(seq=seq)


def newest_run_seq(path: Path) -> int:
    """The last action of the journal that the labels of the newest run contain, 0 without any run."""
    for run in reversed(runs(path)):
        try:
            seq = files.read_json(run / paths.SPEC_FILE)["journal_seq"]
        except (OSError, ValueError, KeyError):
            continue
        if isinstance(seq, int):
            return seq
    return 0
