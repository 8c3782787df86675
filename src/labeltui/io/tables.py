"""Reading text files that people and spreadsheets wrote: encoding, delimiter, quotes, faults with their lines."""

from __future__ import annotations

import codecs
import csv
import io
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from labeltui.errors import SourceError
from labeltui.io import files
from labeltui.text import safe

csv.field_size_limit(min(sys.maxsize, 1 << 31 - 1))

DELIMITERS = (",", ";", "\t", "|")


def read_text(path: Path, read: Callable[[Path], bytes] = files.read_regular) -> str:
    """Return a text file: UTF-8 with or without BOM, or UTF-16 with one; undecodable bytes become surrogates.

    Parameters
    ----------
    path : Path
    read : callable
        Returns the content.

    Raises
    ------
    SourceError
        The file is missing or cannot be read.
    """
    try:
        data = read(path)
    except FileNotFoundError:
        raise SourceError("the file must exist", f"there is no {safe(str(path))}", "check the path") from None
    except (OSError, ValueError) as error:
        reason = str(error.strerror if isinstance(error, OSError) else error)
        raise SourceError("the file must be readable", f"{safe(str(path))}: {safe(reason)}") from None
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise SourceError(
                "a file that starts with a UTF-16 mark must be UTF-16",
                f"{safe(str(path))}: {safe(str(error))}",
                "save it as UTF-8",
            ) from None
    return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")


def read_rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Yield the rows of a delimited text.

    Lines count from 1; a row that spans several has the number of its first. Empty lines are skipped. Fields
    may be quoted with ``"``, which is doubled inside.

    Parameters
    ----------
    text : str
    delimiter : str

    Yields
    ------
    line : int
    fields : list of str, or str
        A string describes what is wrong with the row.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, f"the quotes do not match ({error})"
            continue
        if fields:
            yield line, fields


def find_delimiter(path: Path, text: str, wanted: Collection[str]) -> str:
    """Return the delimiter whose header has most of the wanted columns; ties go to the default of the file extension.

    Parameters
    ----------
    path : Path
    text : str
    wanted : collection of str
        Column names.

    Returns
    -------
    str
    """
    usual = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","

    def matches(delimiter: str) -> int:
        _, header = next(read_rows(text[:100_000], delimiter), (1, ""))
        return 0 if isinstance(header, str) else len(set(wanted).intersection(header))

    return max((usual, *DELIMITERS), key=matches)


@dataclass(frozen=True)
class Table:
    """A delimited text with a header.

    Attributes
    ----------
    header : list of str
    rows : list of (int, list of str)
        Line, counted from 1, and fields; each has as many fields as the header.
    faults : list of str
        What is wrong with the other rows, each with its line.
    delimiter : str
    """

    header: list[str]
    rows: list[tuple[int, list[str]]]
    faults: list[str]
    delimiter: str


def read_table(path: Path, wanted: Collection[str], delimiter: str | None = None) -> Table:
    """Read a table.

    Parameters
    ----------
    path : Path
    wanted : collection of str
        Columns by which the delimiter is recognised.
    delimiter : str, optional

    Returns
    -------
    Table

    Raises
    ------
    SourceError
        The file cannot be read, or has no header.
    """
    return parse_table(path, read_text(path), wanted, delimiter)


def parse_table(path: Path, text: str, wanted: Collection[str], delimiter: str | None = None) -> Table:
    """Find header, rows and faults of a delimited text.

    Parameters
    ----------
    path : Path
        Where it was read, for messages and the usual delimiter.
    text : str
    wanted : collection of str
        Columns by which the delimiter is recognised.
    delimiter : str, optional

    Returns
    -------
    Table

    Raises
    ------
    SourceError
        It has no header.
    """
    delimiter = delimiter or find_delimiter(path, text, wanted)
    lines = read_rows(text, delimiter)
    _, header = next(lines, (1, ""))
    if isinstance(header, str):
        what = f"{safe(path.name)}, line 1: {header}" if header else f"{safe(path.name)} is empty"
        raise SourceError("a table has a header and rows", what)
    rows: list[tuple[int, list[str]]] = []
    faults: list[str] = []
    for line, fields in lines:
        if isinstance(fields, str):
            faults.append(f"line {line}: {fields}")
        elif len(fields) != len(header):
            faults.append(f"line {line}: {len(fields)} fields, not {len(header)}")
        else:
            rows.append((line, fields))
    return Table(header, rows, faults, delimiter)
