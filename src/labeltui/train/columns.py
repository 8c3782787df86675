"""One column of a table, matched to an audit's samples by name."""

from __future__ import annotations

from pathlib import Path

from labeltui.errors import SourceError, UsageError
from labeltui.io.names import Names
from labeltui.io.tables import find_delimiter, read_rows, read_text
from labeltui.text import safe, unescape

PATH_COLUMN = "path"
SHOWN = 3


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
    text = read_text(table)
    rows = read_rows(text, find_delimiter(table, text, {PATH_COLUMN, column}))
    _, header = next(rows, (1, []))
    if isinstance(header, str):
        raise SourceError(f"{name} must be a table", f"line 1: {safe(header)}")
    missing = [wanted for wanted in (PATH_COLUMN, column) if wanted not in header]
    if missing:
        raise SourceError(
            f"{name} must have the columns {PATH_COLUMN} and {safe(column)}",
            f"it has {safe(', '.join(header))}",
            "name another one: TABLE:COLUMN",
        )
    path_at, value_at = header.index(PATH_COLUMN), header.index(column)
    index = {ids[i]: i for i in range(len(ids))}
    values: list[str | None] = [None] * len(ids)
    seen = bytearray(len(ids))
    faults: list[str] = []
    for line, fields in rows:
        if isinstance(fields, str):
            faults.append(f"line {line}: {safe(fields)}")
            continue
        if len(fields) != len(header):
            faults.append(f"line {line}: {len(fields)} fields, not {len(header)}")
            continue
        raw = fields[path_at].encode("utf-8", "surrogateescape")
        found = index.get(raw, index.get(unescape(raw)))
        if found is None:
            faults.append(f"line {line}: no sample {safe(fields[path_at])}")
        elif seen[found]:
            faults.append(f"line {line}: {safe(fields[path_at])} a second time")
        else:
            seen[found] = 1
            values[found] = fields[value_at] or None
    if faults:
        more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise SourceError(
            f"each row of {name} must name one sample of the audit, once", "; ".join(faults[:SHOWN]) + more
        )
    return values
