"""A CSV or TSV table with a path, a label and perhaps a split in each row."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from labeltui.errors import SourceError, UsageError
from labeltui.io.tables import parse_table, read_text
from labeltui.paths import as_url
from labeltui.sources import places
from labeltui.sources.base import Samples, SourceOptions, check_labels, faults, listed
from labeltui.sources.images import FileImages, Images
from labeltui.sources.probabilities import read_probabilities
from labeltui.sources.remote_images import RemoteFiles
from labeltui.text import safe

SUFFIXES = (".csv", ".tsv", ".tab", ".txt")


@dataclass(eq=False)
class Table(Samples):
    """Image files listed in a table; made by `open_table`."""

    kind: str = "table"
    description: dict[str, object] = field(default_factory=dict)

    def describe(self) -> dict[str, object]:
        return {**self.description, "levels": self.levels}

    def images(self) -> Images:
        return _files(self.root).opened(self.describe(), self.root)


@dataclass(frozen=True)
class Columns:
    """The columns that were asked for, in the order of the rows; a column that is not there is None."""

    paths: list[str] | None
    labels: list[str]
    splits: list[str] | None
    lines: list[int]  # of the file, for messages


def open_table(path: Path, options: SourceOptions) -> Table:
    """Read a table of samples.

    Ids are the paths as written in the table, relative to `options.image_root` or else to the table's
    directory; each of these, and the table, may be at a URL. A path may be absolute, or a URL below that of the
    directory. A listed file need not exist: its sample is unreadable. An empty label is none. A file listed again
    with another label or split is another sample of the same image, with ``./`` before its name in the id, so that
    its labels are found to disagree. Repeated rows are left out.

    Parameters
    ----------
    path : Path
    options : SourceOptions

    Returns
    -------
    Table

    Raises
    ------
    SourceError
        The table cannot be read, lacks a column, or has bad rows; all faults are listed with their lines.
    """
    table = read_columns(path, options, need_path=True)
    assert table.paths is not None
    given_splits = table.splits if table.splits is not None else [""] * len(table.labels)
    ids: list[bytes] = []
    labels: list[bytes | None] = []
    splits: list[str] = []
    found = []
    rows_of: dict[bytes, dict[tuple[str, str], bytes]] = {}  # file -> label and split -> id
    repeated, conflicts = 0, []
    for text, label, split, line in zip(table.paths, table.labels, given_splits, table.lines, strict=True):
        name = encode(text)
        if not name or b"\0" in name:
            found.append(
                f"line {line}: " + ("a path cannot hold a NUL character" if name else "the path is empty")
            )
            continue
        others = rows_of.setdefault(os.path.normpath(name), {})
        if (label, split) in others:
            repeated += 1
            continue
        if others:
            conflicts.append(f"{safe(name)} (line {line})")
            directory, last = os.path.split(os.path.normpath(name))
            dots = len(others)
            while (name := os.path.join(directory, b"./" * dots + last)) in others.values():
                dots += 1  # the table itself writes a path so
        others[label, split] = name
        ids.append(name)
        labels.append(encode(label) or None)
        splits.append(split)
    if found:
        raise faults(f"each row of {safe(path.name)} must name a file", found, "correct or remove these rows")
    root = path.parent if options.image_root is None else options.image_root
    notes = check_labels(labels, safe(path.name))
    if repeated:
        notes.append(f"{repeated:,} rows that repeat another one were left out")
    if conflicts:
        notes.append(
            f"{len(conflicts):,} rows name a file again with another label or split: {listed(conflicts, 5)}; each is "
            "a sample of its own, and the review lists them as conflicts"
        )
    if table.splits is not None:
        notes.insert(
            0, f"splits from column {safe(options.split_column or '')}: {listed(sorted(set(splits)))}"
        )
    remote = as_url(root) is not None
    looked_at = ids[: 10 if remote else 1000]  # at a URL each is a request
    if not any(map(_files(root)(root).exists, looked_at)):
        notes.append(
            f"none of the first {len(looked_at):,} files exists below {places.shown(root)}; "
            "--image-root DIR says where the paths start"
        )
    source = Table(
        root=root,
        ids=ids,
        labels=labels,
        splits=None if table.splits is None else splits,
        notes=notes,
        description={
            "kind": "table",
            "image_store": "remote" if remote else "files",
            "file": os.path.relpath(path, root),
            "path_column": options.path_column,
            "label_column": options.label_column,
            "split_column": options.split_column if table.splits is not None else None,
            "delimiter": options.delimiter,
        },
    )
    source.find_levels()
    if options.pred_probs is not None:
        probabilities = read_probabilities(options.pred_probs, options, ids, notes)
        source.pred_probs, source.pred_probs_classes = probabilities
    return source


def read_columns(path: Path, options: SourceOptions, need_path: bool) -> Columns:
    """Return the path, label and split columns of a table with a header.

    Parameters
    ----------
    path : Path
    options : SourceOptions
        `path_column`, `label_column`, `split_column` and `delimiter` are used.
    need_path : bool
        Whether a missing path column is an error.

    Raises
    ------
    SourceError
        The file cannot be read, lacks a column, or has rows of another length than its header.
    UsageError
        The delimiter is no single character.
    """
    name = safe(path.name)
    wanted, delimiter = {options.path_column, options.label_column}, _delimiter(options)
    table = parse_table(path, read_text(path, places.read_whole), wanted, delimiter)
    header = table.header
    path_at = _find(header, options.path_column, "--path-column", name, need_path)
    label_at = _find(header, options.label_column, "--label-column", name, True)
    split_at = None
    if options.split_column is not None:
        asked = options.split_column != SourceOptions.split_column
        split_at = _find(header, options.split_column, "--split-column", name, asked)
    assert label_at is not None

    if table.faults:
        raise faults(
            f"each row of {name} must have the fields of its header",
            table.faults,
            'put "..." around fields that hold the delimiter, a quote or a line break; double the quotes inside',
        )
    return Columns(
        None if path_at is None else [fields[path_at] for _, fields in table.rows],
        [fields[label_at] for _, fields in table.rows],
        None if split_at is None else [fields[split_at] for _, fields in table.rows],
        [line for line, _ in table.rows],
    )


def _files(root: Path) -> type[FileImages] | type[RemoteFiles]:
    """Return what reads image files below a directory or a URL."""
    return FileImages if as_url(root) is None else RemoteFiles


def encode(text: str) -> bytes:
    """Return the bytes of a field in the file."""
    return text.encode("utf-8", "surrogateescape")


def _find(header: Sequence[str], column: str, option: str, name: str, needed: bool) -> int | None:
    if header.count(column) > 1:
        raise SourceError(f"{name} must have one column {safe(column)}", "it has several of that name")
    if column in header:
        return header.index(column)
    if not needed:
        return None
    raise SourceError(
        f"{name} must have a column {safe(column)}",
        f"its first line names {listed(header)}",
        f"name the column with {option}; commas, semicolons, tabs or | separate columns",
    )


def _delimiter(options: SourceOptions) -> str | None:
    """Return the delimiter that was chosen, None where the header decides."""
    if options.delimiter is not None and (len(options.delimiter) != 1 or options.delimiter in '"\r\n'):
        raise UsageError(
            "the delimiter must be one character, no quote and no line break",
            f"got {safe(options.delimiter)!r}",
        )
    return options.delimiter
