"""Label issues that cleanlab's Datalab found in the same data: evidence beside that of the detectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from labeltui.errors import SourceError
from labeltui.io.tables import read_table
from labeltui.sources.base import faults
from labeltui.text import safe

SAVED = "issues.csv"  # in the directory that Datalab.save makes
SCORE, PROPOSED, GIVEN, PATH = "label_score", "predicted_label", "given_label", "path"
NO_SCORE = np.float32(0.5)

Issues = tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]


def read_issues(
    path: Path,
    ids: Sequence[bytes],
    labels: Sequence[bytes | None],
    classes: Sequence[bytes],
    notes: list[str],
) -> Issues:
    """Read ``--issues``: a Datalab's frame of label issues as a table, or the directory that it saved.

    Parameters
    ----------
    path : Path
        A table with ``label_score`` and, if it has them, ``predicted_label`` and ``given_label``; rows are matched by
        a column ``path``, without it they are in the order of the samples. Or a directory with ``issues.csv``; no
        pickle in it is read.
    ids : sequence of N bytes
    labels : sequence of N bytes or None
        The given labels.
    classes : sequence of K bytes
    notes : list of str
        What was assumed is added.

    Returns
    -------
    score : (N,) float32
        0..1, low = the label looks wrong; one half where there is none.
    proposed : (N,) int32
        Class index of the predicted label, -1 = none.

    Raises
    ------
    SourceError
        The table cannot be read, or is not about these samples.
    """
    file = path / SAVED if path.is_dir() else path
    name = safe(file.name)
    table = read_table(file, {SCORE, PATH})
    place = {column: position for position, column in enumerate(table.header)}
    if SCORE not in place:
        raise SourceError(
            "a Datalab's label issues have a column label_score",
            f"{name} has {', '.join(map(safe, table.header))}",
            "save them: lab.get_issues('label').to_csv('issues.csv')",
        )
    rows = {sample: row for row, sample in enumerate(ids)}
    index = {c: i for i, c in enumerate(classes)}
    score, proposed = np.full(len(ids), NO_SCORE), np.full(len(ids), -1, np.int32)
    found, other, seen = list(table.faults), 0, np.zeros(len(ids), bool)
    for number, (line, fields) in enumerate(table.rows):
        row = rows.get(_bytes(fields[place[PATH]]), -1) if PATH in place else number
        if not 0 <= row < len(ids):
            what = f"no sample {safe(fields[place[PATH]])}" if PATH in place else "more rows than samples"
            found.append(f"line {line}: {what}")
            continue
        if seen[row]:
            found.append(f"line {line}: {safe(ids[row])} has a row already")
            continue
        seen[row] = True
        if text := fields[place[SCORE]].strip():
            value = _number(text)
            if 0 <= value <= 1:
                score[row] = value
            else:
                found.append(f"line {line}: label_score is {safe(text)}, not in 0..1")
        if PROPOSED in place and (text := fields[place[PROPOSED]]):
            proposed[row] = index.get(_bytes(text), -1)
            if proposed[row] < 0:
                found.append(f"line {line}: predicted_label {safe(text)} is no class")
        if GIVEN in place:
            other += fields[place[GIVEN]] != _text(labels[row])
    if PATH not in place:
        if not found and not seen.all():
            found.append(f"{len(table.rows):,} rows for {len(ids):,} samples")
        notes.append(f"the rows of {name} are taken in the order of the samples")
    if found:
        raise faults(f"{name} must be about these samples", found, "correct these lines")
    if other > len(table.rows) / 2:
        raise SourceError(
            f"{name} must be about these samples",
            f"given_label is another one in {other:,} of {len(table.rows):,} rows",
            "give it a column path, or rows in the order of the samples",
        )
    if other:
        notes.append(f"WARNING: given_label of {name} is another one in {other:,} rows: relabelled since?")
    return score, proposed


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(label: bytes | None) -> str:
    return "" if label is None else label.decode("utf-8", "surrogateescape")
