r"""Corrected labels as a table.

One row a sample, in the order of the source: CSV in UTF-8 with a header, fields quoted only where they need
it, lines ended by ``\n``. Columns:

====================  ========================================================================================
path                  the sample's path below the source's root, or its own key
status                ok; unreadable, non_finite or zero: the scan could not use it; not_scored: nothing is known of
                      its label, which lies in a split that was left out or is the only one of its class; where images
                      were verified, changed, missing or unreadable: no longer the image of the scan
given_label           class id, empty = none
corrected_label       class id now: another one after a relabel (or an automatic correction), else the given one
decision              keep, relabel, exclude, ambiguous, unsure, skip, auto, or empty
exclude               True for samples reviewed as belonging to no class
second_label          class id: the other possible label of an ambiguous sample
note                  free text
is_label_issue        True where the given label is not the blend's top class; empty = nothing is known
label_score           P(given label right), low = bad; empty = nothing is known
predicted_label       class id: the blend's top class; empty = nothing is known
reviewer, decided_at  who decided, and when (ISO 8601, UTC); ``auto`` for automatic corrections
====================  ========================================================================================

Names of files are bytes and need not be UTF-8. In `path` and in the label columns a name that is valid UTF-8
stands as it is; of any other the undecodable bytes are written ``\xHH``, and its own ``\x`` as ``\x5cx``
(`labeltui.text.escape`). With raw paths, bytes are written as they are and the file is UTF-8 only where the names
are.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from labeltui.audit import Audit
from labeltui.errors import UsageError
from labeltui.paths import OK, STATUS_NAMES
from labeltui.store import replacing
from labeltui.text import escape, safe

COLUMNS = (
    "path",
    "status",
    "given_label",
    "corrected_label",
    "decision",
    "exclude",
    "second_label",
    "note",
    "is_label_issue",
    "label_score",
    "predicted_label",
    "reviewer",
    "decided_at",
)
AUTO = "auto"
FORMULA = (b"=", b"+", b"-", b"@", b"\t", b"\r")
"""What a cell begins with that a spreadsheet evaluates."""

_BLOCK = 65_536
_QUOTED = re.compile(rb'[,"\r\n]')
_UNUSUAL = re.compile(rb'[,"\r\n\\\x80-\xff]')


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes
    ----------
    rows : int
        Samples.
    corrected : int
        Rows whose corrected label differs from the given one.
    excluded : int
        Rows that are excluded.
    auto : int
        Automatic corrections among `corrected`.
    auto_wrong : float
        How many of these are expected to be wrong, by the suggestions' own probabilities.
    lost : int
        Rows whose image is no longer the one of the scan; 0 where that was not asked for.
    auto_from : float or None
        The probability from which on suggestions were applied; above 1 where no suggestion was sure enough.
    """

    rows: int
    corrected: int
    excluded: int
    auto: int
    auto_wrong: float
    auto_from: float | None
    lost: int = 0


def export(
    audit: Audit,
    out: Path,
    *,
    only_changed: bool = False,
    apply_suggestions: float | None = None,
    target_precision: float | None = None,
    raw_paths: bool = False,
    excel: bool = False,
    verify: bool = False,
    force: bool = False,
) -> Exported:
    """Write the table to a file, complete or not at all.

    Parameters
    ----------
    audit : Audit
    out : Path
        The file.
    only_changed : bool
        Only rows whose corrected label differs from the given one, or that are excluded.
    apply_suggestions : float, optional
        Correct flagged samples that nobody decided, where the first suggestion has at least this probability; 0
        corrects all, since a flag's suggestion is more probable than its given label. The journal does not change.
    target_precision : float, optional
        The same, with the lowest probability at which this fraction of the corrections is expected to be right.
    raw_paths : bool
        Write undecodable bytes as they are.
    excel : bool
        Write for spreadsheets: with a UTF-8 mark, and with ' before cells that they would take for formulas.
    verify : bool
        Read every image, and mark in `status` those that are no longer the scan's.
    force : bool
        Replace an existing file. A file that the audit or its source consists of is never replaced.

    Raises
    ------
    UsageError
        The file exists, belongs to the source or the audit, or cannot be written; or the probability is none.
    """
    _check_probability(apply_suggestions, target_precision)
    out = Path(out)
    _check_target(audit, out, force)
    target = Path(os.path.realpath(out))  # behind a link, not in its place
    try:
        _sweep(target)
        with replacing(target) as hidden, open(hidden, "wb") as file:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            done = write(
                audit,
                file,
                only_changed=only_changed,
                apply_suggestions=apply_suggestions,
                target_precision=target_precision,
                raw_paths=raw_paths,
                excel=excel,
                verify=verify,
            )
    except OSError as error:
        raise UsageError(
            "the output must be writable",
            f"{safe(str(out))}: {error.strerror}",
            "check the directory, its permissions and the space on its disk",
        ) from None
    return done


def write(
    audit: Audit,
    file: BinaryIO,
    *,
    only_changed: bool = False,
    apply_suggestions: float | None = None,
    target_precision: float | None = None,
    raw_paths: bool = False,
    excel: bool = False,
    verify: bool = False,
) -> Exported:
    """Write the table to an open binary file.

    Parameters
    ----------
    audit : Audit
    file : BinaryIO
    only_changed, apply_suggestions, target_precision, raw_paths, excel
        See `export`.

    Returns
    -------
    Exported
    """
    _check_probability(apply_suggestions, target_precision)
    corrected = audit.current.copy()
    decision = audit.kinds
    auto = np.zeros(audit.n, bool)
    auto_wrong = 0.0
    if target_precision is not None:
        from labeltui.detect.calibrate import threshold_for

        apply_suggestions, _, _ = threshold_for(
            target_precision, audit.chances[audit.flags & (decision == 0), 0]
        )
    if apply_suggestions is not None:
        auto = audit.flags & (decision == 0) & (audit.chances[:, 0] >= apply_suggestions)
        corrected[auto] = audit.suggested[auto, 0]
        auto_wrong = float((1 - audit.chances[auto, 0]).sum())
    excluded = audit.excluded
    different = corrected != audit.given
    chosen = np.flatnonzero(different | excluded) if only_changed else np.arange(audit.n)
    cell = partial(_cell, raw=raw_paths, excel=excel)
    file.write((codecs.BOM_UTF8 if excel else b"") + ",".join(COLUMNS).encode() + b"\n")
    n_lost = 0
    for start in range(0, len(chosen), _BLOCK):
        block = chosen[start : start + _BLOCK]
        lost = audit.lost_images(block) if verify else {}
        n_lost += len(lost)
        file.write(b"".join(_rows(audit, block, corrected[block], auto[block], cell, not excel, lost)))
    return Exported(
        rows=len(chosen),
        corrected=int(np.count_nonzero(different)),
        excluded=int(np.count_nonzero(excluded)),
        auto=int(np.count_nonzero(auto)),
        auto_wrong=auto_wrong,
        auto_from=apply_suggestions,
        lost=n_lost,
    )


def _rows(
    audit: Audit,
    block: NDArray[np.int64],
    corrected: NDArray[np.int32],
    auto: NDArray[np.bool_],
    cell: Callable[[bytes], bytes],
    plain: bool,
    lost: Mapping[int, str],
) -> Iterator[bytes]:
    """The lines of a block of samples; those that nobody touched need no look-up of their own.

    `plain` says whether names without unusual characters can be written as they are.
    """
    classes = [cell(name) for name in audit.class_ids]
    classes.append(b"")  # -1 = none
    scorable = audit.scorable[block]
    scores = np.where(scorable, audit.scores[block].astype(np.float32).astype("S16"), b"").tolist()
    flags = np.where(audit.flags[block], b"True", b"False")
    # Of a sample without a label only the probabilities of classes are known, if it was used at all.
    known = scorable | ((audit.given[block] < 0) & (audit.chances[block, 0] > 0))
    touched = audit.touched[block].tolist()
    names = audit.sample_ids(block)
    plain = plain and not _UNUSUAL.search(b"".join(names))  # mostly so, and one search for all is fast
    columns = zip(
        block.tolist(),
        names if plain else [cell(name) for name in names],
        _statuses(audit, block, lost),
        audit.given[block].tolist(),
        corrected.tolist(),
        np.where(auto, b",auto,False,,,", b",,False,,,").tolist(),
        np.where(scorable, flags, b"").tolist(),
        scores,
        np.where(known, audit.suggested[block, 0], -1).tolist(),
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


def _statuses(audit: Audit, block: NDArray[np.int64], lost: Mapping[int, str]) -> list[bytes]:
    """The column status of a block of samples."""
    names = np.array([name.encode() for name in (*STATUS_NAMES, "not_scored")])
    found = audit.statuses[block].astype(np.int64)
    silent = (found == OK) & ~audit.scorable[block] & (audit.given[block] >= 0)
    statuses: list[bytes] = names[np.where(silent, len(names) - 1, found)].tolist()
    if lost:
        statuses = [
            lost[i].encode() if i in lost else status
            for i, status in zip(block.tolist(), statuses, strict=True)
        ]
    return statuses


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


def _sweep(target: Path) -> None:
    """Remove what killed exports to the same file left; one that is still written is locked."""
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        with contextlib.suppress(OSError), open(leftover, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftover.unlink()


def _check_probability(value: float | None, precision: float | None) -> None:
    if value is not None and precision is not None:
        raise UsageError(
            "automatic correction goes by a probability or by a target precision",
            "got both",
            "leave one out",
        )
    if precision is not None and not 0 < precision < 1:
        raise UsageError(
            "--target-precision must be a fraction above 0 and below 1", f"got {precision}", "try 0.9"
        )
    if value is not None and not 0 <= value <= 1:
        raise UsageError("--apply-suggestions takes a probability from 0 to 1", f"got {value}", "try 0.95")


def _check_target(audit: Audit, out: Path, force: bool) -> None:
    shown = safe(str(out))
    if out.is_dir():
        raise UsageError("the output is a file", f"{shown} is a directory", f"try {shown}/labels.csv")
    if not out.exists():
        return
    if audit.owns(out):
        raise UsageError(
            "an export never replaces its source or a part of the audit",
            f"{shown} is one",
            "choose another name",
        )
    if not out.is_file():
        raise UsageError(
            "the output is a file", f"{shown} is a device, a pipe or a socket", "-o - is standard output"
        )
    if not force:
        raise UsageError("the output must not exist", f"{shown} does", "choose another name, or use --force")
