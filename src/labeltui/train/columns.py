"""One column of a table, matched to an audit's samples by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from labeltui.errors import SourceError, UsageError
from labeltui.io.names import Names
from labeltui.io.tables import read_table
from labeltui.sources.base import faults
from labeltui.text import safe, unescape

PATH_COLUMN = "path"


def split_name(reference: str) -> tuple[Path, str]:
    """Split ``TABLE:COLUMN`` into the path of the table and the name of the column.

    Raises
    ------
    UsageError
        It is not of that form.
    """
    table, colon, column = reference.rpartition(":")
    if not (table and colon and column):
        raise UsageError(
            "a column is named TABLE:COLUMN",
            f"got {safe(reference)}",
            "for example labels.csv:corrected_label",
        )
    return Path(table), column


def read_column(table: Path, column: str, ids: Names) -> list[str | None]:
    """Read a column.

    Parameters
    ----------
    table : Path
        Separated by commas, semicolons, tabs or |, with a header and a column ``path`` of sample ids, as
        ``labeltui export`` writes it.
    column : str
    ids : Names
        The audit's samples.

    Returns
    -------
    list of (str or None), length N
        None for samples that the table has not, and for empty fields.

    Raises
    ------
    SourceError
        There is no such file or column, or a row is broken, unknown, or repeated.
    """
    name = safe(str(table))
    content = read_table(table, {PATH_COLUMN, column})
    header = content.header
    missing = [wanted for wanted in (PATH_COLUMN, column) if wanted not in header]
    if missing:
        raise SourceError(
            f"{name} must have the columns {PATH_COLUMN} and {safe(column)}",
            f"it has {safe(', '.join(header))}",
            "name another one: TABLE:COLUMN",
        )
    path_at, value_at = header.index(PATH_COLUMN), header.index(column)
    raw = [fields[path_at].encode("utf-8", "surrogateescape") for _, fields in content.rows]
    found = ids.indices(raw)
    escaped = np.flatnonzero(found < 0)
    found[escaped] = ids.indices(unescape(raw[row]) for row in escaped)
    values: list[str | None] = [None] * len(ids)
    seen = bytearray(len(ids))
    wrong = list(content.faults)
    for (line, fields), i in zip(content.rows, found.tolist(), strict=True):
        if i < 0:
            wrong.append(f"line {line}: no sample {safe(fields[path_at])}")
        elif seen[i]:
            wrong.append(f"line {line}: {safe(fields[path_at])} a second time")
        else:
            seen[i] = 1
            values[i] = fields[value_at] or None
    if wrong:
        raise faults(
            f"each row of {name} must name one sample of the audit, once",
            wrong,
            "correct or remove these rows",
        )
    return values
