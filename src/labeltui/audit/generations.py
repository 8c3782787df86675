"""Results of training runs becoming generations of the audit."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from labeltui.journal import GenerationRow
from labeltui.store import Store, sha256

RUNS = "runs"
RESULT = "result.h5"


def newest(store: Store, rows: Sequence[GenerationRow]) -> Store:
    """The store at the generation that the journal made current last, of those whose file is there.

    A file may be gone when somebody copied only part of the audit; the older scores then still serve.
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


def runs(path: Path) -> list[Path]:
    """The directories of training runs, oldest first."""
    try:
        names = sorted(os.listdir(path / RUNS))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [path / RUNS / name for name in names if not name.startswith(".")]


def prepare(store: Store, rows: Sequence[GenerationRow]) -> list[GenerationRow]:
    """Copy the finished results that no generation holds yet; returns their rows, oldest first, `seq` 0."""
    adopted = {row.run for row in rows}
    made = []
    after = max((row.n for row in rows), default=0)
    for run in runs(store.path):
        result = run / RESULT
        if run.name in adopted or not result.is_file():
            continue
        n = store.adopt(result, after)
        made.append(GenerationRow(0, n, sha256(store.generation_path(n)), run.name))
        after = max(after, n)
    return made


def numbered(row: GenerationRow, seq: int) -> GenerationRow:
    """The same row with the number of its action."""
    return replace(row, seq=seq)


def newest_run_seq(path: Path) -> int:
    """The last action of the journal that the labels of the newest run contain, 0 without any run."""
    for run in reversed(runs(path)):
        try:
            seq = json.loads((run / "spec.json").read_text())["journal_seq"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if isinstance(seq, int):
            return seq
    return 0
