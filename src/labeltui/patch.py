"""Corrections as a small file of their own: made from an audit, applied to the data set it was made from.

::

    audit --diff--> patch (JSON: path, SHA-256, label before, label after, who and when) --apply--> corrected data set

A patch holds no images. It is applied to the table or the tree that the audit was made from, elsewhere or later: each
image must be the one that was reviewed, by its hash, and have the label that was reviewed. If one is not, nothing is
changed. Labels that have the corrected value already count as done.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import json
import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import labeltui
from labeltui.audit import Audit
from labeltui.errors import SourceError, UsageError
from labeltui.export.corrections import correct, text
from labeltui.io import files
from labeltui.io.atomic import replacing, sync_directory
from labeltui.io.tables import parse_table, read_text
from labeltui.sources import Source, SourceOptions, encode, open_source
from labeltui.sources.base import faults
from labeltui.text import safe, unescape

FORMAT = 1
LEFT_OUT = ".excluded"
"""Directory of a tree that excluded images are moved to; scans ignore it, since its name begins with a dot."""


@dataclass(frozen=True)
class Change:
    """One correction.

    Attributes
    ----------
    path : str
        The sample's id as text; in a tree, where it lay before.
    sha256 : str
        Of the image's file, hexadecimal.
    before, after : str or None
        Class ids; None = no label. `after` is `before` for samples that are excluded.
    excluded : bool
    decision, reviewer, decided_at, note : str or None
    """

    path: str
    sha256: str
    before: str | None
    after: str | None
    excluded: bool
    decision: str | None = None
    reviewer: str | None = None
    decided_at: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Applied:
    """What `apply` did: labels changed, samples taken out, and changes that had been made before."""

    changed: int
    excluded: int
    done_before: int


def diff(
    audit: Audit,
    out: Path,
    *,
    apply_suggestions: float | None = None,
    target_precision: float | None = None,
    force: bool = False,
) -> int:
    """Write the corrections of an audit as a patch.

    Parameters
    ----------
    audit : Audit
    out : Path
        The file.
    apply_suggestions, target_precision : float, optional
        See `labeltui.export.export`.
    force : bool
        Replace an existing file.

    Returns
    -------
    int
        Number of corrections.

    Raises
    ------
    UsageError
        The file exists; or the audit was not made from image files with a table or a tree.
    """
    kind = audit.source_kind
    if kind not in ("folder", "table"):
        raise UsageError(
            "a patch corrects a table or a tree of image files",
            f"this audit was made from {kind or 'an unknown source'}",
            "export the labels instead: labeltui export",
        )
    if out.exists() and (not force or not out.is_file() or audit.owns(out)):
        raise UsageError(
            "the output must not exist", f"{safe(str(out))} does", "choose another name, or use --force"
        )
    made = correct(
        audit, only_changed=True, apply_suggestions=apply_suggestions, target_precision=target_precision
    )
    changes = []
    for block in made.blocks():
        columns = made.columns(block)
        for place, i in enumerate(block.tolist()):
            row = {name: values[place] for name, values in columns.items()}
            changes.append(
                {
                    "path": row["path"],
                    "sha256": audit.sha256(i).hex(),
                    "before": row["given_label"],
                    "after": row["corrected_label"],
                    "excluded": row["exclude"],
                    **{
                        name: row[name]
                        for name in ("decision", "reviewer", "decided_at", "note")
                        if row[name]
                    },
                }
            )
    content = {
        "labeltui_patch": FORMAT,
        "version": labeltui.__version__,
        "audit": audit.uuid,
        "source": kind,
        "classes": [text(name) for name in audit.class_ids],
        "changes": changes,
    }
    with replacing(out) as hidden:
        hidden.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return len(changes)


def read(path: Path) -> list[Change]:
    """Read a patch.

    Parameters
    ----------
    path : Path

    Returns
    -------
    list of Change

    Raises
    ------
    SourceError
        It is missing, or no patch of this version.
    """
    try:
        content = files.read_json(path)
        version = content.get("labeltui_patch")
        changes = [_change(each) for each in content["changes"]] if version == FORMAT else []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(
            "a patch is a JSON file that labeltui diff wrote", f"{safe(str(path))}: {safe(str(error))}"
        ) from None
    if version != FORMAT:
        raise SourceError(
            f"this labeltui reads patches of format {FORMAT}",
            f"{safe(str(path))} has format {safe(str(version))}",
            "update labeltui, or make the patch anew",
        )
    twice = [path for path, count in Counter(each.path for each in changes).items() if count > 1]
    if twice:
        raise SourceError("a patch changes each sample once", f"{safe(twice[0])} is there twice")
    return changes


def _change(value: dict[str, Any]) -> Change:
    change = Change(**value)
    for name in ("path", "sha256"):
        if not isinstance(getattr(change, name), str):
            raise TypeError(f"{name} is no text")
    if not all(isinstance(each, str | None) for each in (change.before, change.after, change.note)):
        raise TypeError("a label or a note is no text")
    return change


def apply(
    patch: Path,
    data: Path,
    out: Path | None = None,
    *,
    options: SourceOptions | None = None,
    drop_excluded: bool = False,
    reverse: bool = False,
    dry_run: bool = False,
) -> Applied:
    """Apply a patch to a table or a tree.

    Parameters
    ----------
    patch : Path
    data : Path
        A table, or the root of a tree.
    out : Path, optional
        The corrected table: a new file. A tree is corrected in place, by moving files between class directories.
    options : SourceOptions, optional
        How to read the table.
    drop_excluded : bool
        Leave excluded samples out of the new table, or move them to `LEFT_OUT` in the tree; else they keep their
        labels.
    reverse : bool
        Take the patch back.
    dry_run : bool
        Check everything and change nothing.

    Returns
    -------
    Applied

    Raises
    ------
    SourceError
        A sample is missing, is another image or has another label; all are listed, and nothing has changed.
    UsageError
        The output is missing, superfluous or exists.
    """
    changes = read(patch)
    if reverse:
        changes = [Change(c.path, c.sha256, c.after, c.before, c.excluded, c.decision) for c in changes]
    if data.is_dir():
        if out is not None:
            raise UsageError(
                "a tree is corrected in place",
                "got an output",
                "leave -o out; --reverse takes the patch back",
            )
        return _apply_to_tree(changes, data, drop_excluded, reverse, dry_run)
    if (out is None) != dry_run:
        raise UsageError(
            "a corrected table is a new file",
            "got no output" if out is None else "got one for a trial",
            "-o new.csv",
        )
    if out is not None and os.path.lexists(out):
        raise UsageError("the output must not exist", f"{safe(str(out))} does", "choose another name")
    return _apply_to_table(changes, data, out, options or SourceOptions(), drop_excluded)


# --- a tree ----------------------------------------------------------------------------------------------------------


def _apply_to_tree(
    changes: list[Change], root: Path, drop_excluded: bool, reverse: bool, dry_run: bool
) -> Applied:
    moves: list[tuple[Path, Path]] = []
    wrong: list[str] = []
    done = excluded = 0
    targets: set[Path] = set()
    for change in changes:
        original = change.after if reverse else change.before
        source, target = (_placed(root, change, original, label) for label in (change.before, change.after))
        if change.excluded:
            if not drop_excluded:
                continue
            source, target = source, root / LEFT_OUT / source.relative_to(root)
            if reverse:
                source, target = target, source
        if source == target:
            continue
        if not source.is_file() and _digest(target) == change.sha256:
            done += 1
        elif not source.is_file():
            wrong.append(f"{safe(str(source))} is not there")
        elif _digest(source) != change.sha256:
            wrong.append(f"{safe(str(source))} is not the image that was reviewed")
        elif os.path.lexists(target) or target in targets:
            wrong.append(f"{safe(str(target))} is in the way")
        else:
            moves.append((source, target))
            targets.add(target)
            excluded += change.excluded
    _require_none(wrong)
    if not dry_run:
        for source, target in moves:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(source, target)
        for directory in {path.parent for move in moves for path in move}:
            sync_directory(directory)
        if reverse:
            _remove_empty(root / LEFT_OUT)
    return Applied(len(moves) - excluded, excluded, done)


def _remove_empty(directory: Path) -> None:
    """Remove a directory and those below it that hold nothing."""
    for path, _, _ in os.walk(directory, topdown=False):
        with suppress(OSError):  # it holds something
            os.rmdir(path)


def _placed(root: Path, change: Change, original: str | None, label: str | None) -> Path:
    """Where an image lies with a label: its path with the class's directory replaced."""
    name = unescape(change.path)
    if (root / os.fsdecode(name)) != root / os.path.normpath(os.fsdecode(name)) or name.startswith(b"/"):
        raise SourceError("the paths of a tree lie below it", f"{safe(name)} does not")
    parts = name.split(b"/")
    if b".." in parts or original is None or label is None:
        raise SourceError(
            "the samples of a tree lie in the directory of their class", f"{safe(name)} does not"
        )
    at = next((at for at in (0, 1) if at < len(parts) - 1 and parts[at] == unescape(original)), None)
    if at is None:
        raise SourceError(
            "the samples of a tree lie in the directory of their class", f"{safe(name)} does not"
        )
    new = unescape(label)
    if not new or b"/" in new or new in (b".", b".."):
        raise SourceError("a class of a tree is the name of a directory", f"{safe(new)} is none")
    parts[at] = new
    return root / os.fsdecode(b"/".join(parts))


# --- a table ---------------------------------------------------------------------------------------------------------


def _apply_to_table(
    changes: list[Change], path: Path, out: Path | None, options: SourceOptions, drop_excluded: bool
) -> Applied:
    source = open_source(path, options)
    if source.kind != "table":
        raise UsageError(
            "a patch corrects a table or a tree",
            f"{safe(str(path))} is neither",
            "give the table of the data",
        )
    place = {name: i for i, name in enumerate(source.ids)}
    wrong: list[str] = []
    new: dict[tuple[bytes, bytes | None], bytes | None] = {}
    drop: set[tuple[bytes, bytes | None]] = set()
    done = 0
    for change in changes:
        name = next((n for n in (encode(change.path), unescape(change.path)) if n in place), None)
        before, after = (None if x is None else _class(source, x) for x in (change.before, change.after))
        if name is None and change.excluded and drop_excluded:
            done += 1
            continue
        if name is None:
            wrong.append(f"{safe(change.path)} is not in the table")
            continue
        label = source.labels[place[name]]
        key = (os.path.normpath(name), label)
        if fault := _fault(source, place[name], change):
            wrong.append(fault)
        elif label == after and label != before:
            done += 1
        elif label != before:
            wrong.append(
                f"{safe(change.path)} has the label {safe(label or b'')}, not {safe(before or b'')}: "
                "somebody else changed it"
            )
        elif change.excluded:
            drop.add(key)
        else:
            new[key] = after
    _require_none(wrong)
    if out is not None:
        _rewrite(path, out, options, new, drop if drop_excluded else set())
    return Applied(len(new), len(drop) if drop_excluded else 0, done)


def _class(source: Source, name: str) -> bytes:
    """A class id from text: as it stands where the data has it, else unescaped."""
    plain_name = encode(name)
    return plain_name if plain_name in source.labels else unescape(name)


def _fault(source: Source, i: int, change: Change) -> str:
    try:
        data = source.read(i)
    except SourceError as error:
        return f"{safe(change.path)}: {error.message}"
    if hashlib.sha256(data).hexdigest() != change.sha256:
        return f"{safe(change.path)} is not the image that was reviewed"
    return ""


def _rewrite(
    path: Path,
    out: Path,
    options: SourceOptions,
    new: dict[tuple[bytes, bytes | None], bytes | None],
    drop: set[tuple[bytes, bytes | None]],
) -> None:
    """Write the table with other labels; every other row stays as it was typed, with its quotes and line end."""
    content = read_text(path)
    table = parse_table(path, content, {options.path_column, options.label_column}, options.delimiter)
    path_at, label_at = table.header.index(options.path_column), table.header.index(options.label_column)
    lines = list(io.StringIO(content, newline=""))  # as the reader of the rows counts them
    starts = [line for line, _ in table.rows]
    ends = [*(line - 1 for line in starts[1:]), len(lines)]
    written = lines[: starts[0] - 1] if starts else lines
    for start, end, (_, fields) in zip(starts, ends, table.rows, strict=True):
        typed = "".join(lines[start - 1 : end])
        key = (os.path.normpath(encode(fields[path_at])), encode(fields[label_at]) or None)
        if key in drop:
            continue
        if key in new:
            fields[label_at] = (new[key] or b"").decode("utf-8", "surrogateescape")
            row = io.StringIO(newline="")
            csv.writer(row, delimiter=table.delimiter).writerow(fields)  # its line end decides what is quoted
            typed = row.getvalue().removesuffix("\r\n") + typed[len(typed.rstrip("\r\n")) :]
        written.append(typed)
    # A spreadsheet knows UTF-8 by its mark; UTF-16 becomes UTF-8.
    with open(path, "rb") as file:
        marked = file.read(3).startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    mark = codecs.BOM_UTF8 if marked else b""
    with replacing(out) as hidden:
        hidden.write_bytes(mark + "".join(written).encode("utf-8", "surrogateescape"))


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(files.read_regular(path)).hexdigest()
    except OSError:
        return ""


def _require_none(wrong: list[str]) -> None:
    if wrong:
        raise faults(
            "a patch is applied to the data that was reviewed, all of it or nothing",
            wrong,
            "nothing was changed; make the patch anew: labeltui scan --update, then labeltui diff",
        )
