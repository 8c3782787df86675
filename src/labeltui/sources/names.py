"""Small text files about classes: a list of them, or their display names."""

from __future__ import annotations

from pathlib import Path

from labeltui.errors import SourceError
from labeltui.io.tables import read_rows, read_text
from labeltui.sources.base import faults
from labeltui.text import safe


def read_classes(path: Path) -> list[bytes]:
    """Return the class ids of a text file, one a line (``--classes``).

    Empty lines and lines that start with ``#`` are skipped; white space at the ends of a line belongs to no
    id.

    Raises
    ------
    SourceError
        The file cannot be read, holds no class, or names one twice.
    """
    seen: dict[str, int] = {}
    found = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        name = line.strip()
        if not name or name.startswith("#"):
            continue
        if name in seen:
            found.append(f"line {number}: {safe(name)} is already in line {seen[name]}")
        seen.setdefault(name, number)
    if found:
        raise faults(f"{safe(str(path))} must name each class once", found, "remove the repetitions")
    if not seen:
        raise SourceError(
            "a class list names at least one class", f"{safe(str(path))} names none", "one id a line"
        )
    return [name.encode("utf-8", "surrogateescape") for name in seen]


def read_class_names(path: Path) -> dict[bytes, str]:
    """Return the display names of a table of two columns, id and name, without a header (``--class-names``).

    Commas, semicolons or tabs separate the columns; a name that holds the separator is quoted.

    Raises
    ------
    SourceError
        The file cannot be read, or a line is no pair or repeats an id.
    """
    text = read_text(path)
    head = text.partition("\n")[0]
    delimiter = max("\t", ",", ";", key=lambda mark: (mark in head, mark == "\t"))
    names: dict[bytes, str] = {}
    found = []
    for line, fields in read_rows(text, delimiter):
        if isinstance(fields, str):
            found.append(f"line {line}: {fields}")
            continue
        key = fields[0].strip().encode("utf-8", "surrogateescape")
        if len(fields) != 2 or not key or not fields[1].strip():
            found.append(f"line {line}: not an id and a name, but {len(fields)} fields")
        elif key in names:
            found.append(f"line {line}: {safe(key)} has a name already")
        else:
            names[key] = fields[1].strip()
    if found:
        raise faults(
            f"{safe(str(path))} must give each class id one name", found, "write id,name on each line"
        )
    return names
