r"""CSV in UTF-8 with a header, fields quoted only where they need it, lines ended by ``\n``; for spreadsheets too.

With raw paths, undecodable bytes are written as they are and the file is UTF-8 only where the names are.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from labeltui.audit import Audit
from labeltui.export.corrections import COLUMNS, Corrections
from labeltui.text import escape

FORMULA = (b"=", b"+", b"-", b"@", b"\t", b"\r")
"""What a cell begins with that a spreadsheet evaluates."""

_QUOTED = re.compile(rb'[,"\r\n]')
_UNUSUAL = re.compile(rb'[,"\r\n\\\x80-\xff]')


def write(corrections: Corrections, file: BinaryIO, excel: bool = False) -> int:
    """Write the table.

    Parameters
    ----------
    corrections : Corrections
    file : BinaryIO
    excel : bool
        Write for spreadsheets: with a UTF-8 mark, and with ' before cells that they would take for formulas.

    Returns
    -------
    int
        Rows whose image is no longer the scan's; 0 where that was not asked for.
    """
    cell = partial(_cell, raw=corrections.raw_paths, excel=excel)
    file.write((codecs.BOM_UTF8 if excel else b"") + ",".join(COLUMNS).encode() + b"\n")
    n_lost = 0
    for block in corrections.blocks():
        lost = corrections.lost(block)
        n_lost += len(lost)
        file.write(b"".join(_rows(corrections, block, cell, not excel, lost)))
    return n_lost


def _rows(
    corrections: Corrections,
    block: NDArray[np.int64],
    cell: Callable[[bytes], bytes],
    plain: bool,
    lost: Mapping[int, str],
) -> Iterator[bytes]:
    """The lines of a block of samples; those that nobody touched need no look-up of their own.

    `plain` says whether names without unusual characters can be written as they are.
    """
    audit = corrections.audit
    classes = [cell(name) for name in audit.class_ids]
    classes.append(b"")  # -1 = none
    scorable, predicted = corrections.known(block)
    auto = corrections.auto[block]
    scores = np.where(scorable, audit.scores[block].astype(np.float32).astype("S16"), b"").tolist()
    flags = np.where(audit.flags[block], b"True", b"False")
    touched = audit.touched[block].tolist()
    names = audit.sample_ids(block)
    plain = plain and not _UNUSUAL.search(b"".join(names))  # mostly so, and one search for all is fast
    columns = zip(
        block.tolist(),
        names if plain else [cell(name) for name in names],
        [status.encode() for status in corrections.statuses(block, lost)],
        audit.given[block].tolist(),
        corrections.labels[block].tolist(),
        np.where(auto, b",auto,False,,,", b",,False,,,").tolist(),
        np.where(scorable, flags, b"").tolist(),
        scores,
        predicted.tolist(),
        np.where(auto, b",auto,", b",,").tolist(),
        touched,
        strict=True,
    )
    for i, path, status, given, now, middle, flag, score, top, tail, seen in columns:
        if seen:
            middle, tail = _decided(audit, i, classes, middle, tail, cell)
        yield b"%b,%b,%b,%b%b%b,%b,%b%b\n" % (
            path,
            status,
            classes[given],
            classes[now],
            middle,
            flag,
            score,
            classes[top],
            tail,
        )


def _decided(
    audit: Audit,
    i: int,
    classes: list[bytes],
    middle: bytes,
    tail: bytes,
    cell: Callable[..., bytes],
) -> tuple[bytes, bytes]:
    """The columns decision to note, reviewer and decided_at, of a reviewed or noted sample."""
    decision = audit.decision(i)
    note = cell((audit.note_of(i) or "").encode("utf-8", "backslashreplace"), raw=True)
    if decision is None:  # a note alone: what stands there may be an automatic correction
        return middle[:-1] + note + b",", tail
    middle = b",%b,%b,%b,%b," % (
        decision.kind.encode(),
        b"True" if decision.kind == "exclude" else b"False",
        classes[decision.second],
        note,
    )
    reviewer = cell(decision.reviewer.encode("utf-8", "backslashreplace"), raw=True)
    return middle, b",%b,%b" % (reviewer, decision.time.encode())


def _cell(text: bytes, raw: bool, excel: bool) -> bytes:
    """A name or a text as a field: escaped unless it is raw, and no formula where a spreadsheet reads it."""
    text = text if raw else escape(text)
    if excel and text.startswith(FORMULA):
        text = b"'" + text
    return _field(text)


def _field(text: bytes) -> bytes:
    """Quote a field where it needs it."""
    return b'"' + text.replace(b'"', b'""') + b'"' if _QUOTED.search(text) else text
