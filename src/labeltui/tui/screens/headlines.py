"""What the lines around the panes say: the audit at a glance, the queue's title, random checks, a training run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len

from labeltui.progress import span
from labeltui.text import fraction, safe
from labeltui.train import curves
from labeltui.tui.layout import Piece, bar, cells, fit
from labeltui.tui.screens.narrowing import filters_in_words
from labeltui.tui.session import Session

if TYPE_CHECKING:
    from labeltui.audit import Change
    from labeltui.train.curves import Curve
    from labeltui.train.jobs import Job


def audit_line(session: Session, width: int) -> list[Piece]:
    """Return the top line: the audit in numbers, and whether every decision is saved.

    Parameters
    ----------
    session : Session
    width : int
        Cells.

    Returns
    -------
    list of Piece
    """
    summary = session.audit.summary()
    csg, interval = summary.csg, summary.interval
    name = safe(session.audit.path.name, 24)
    # What a narrow terminal leaves out first stands last in this order.
    parts: list[tuple[int, list[Piece]]] = [
        (0, [(" labeltui ", "title"), (f" {name} ", "strong")]),
        (5, [(f"  {summary.samples:,} samples", "plain")]),
        (6, [(f"  {summary.classes:,} classes", "plain")]),
        (1, [("  CSG ", "faint"), ("none" if csg is None else f"{csg:.2f}", "strong")]),
        (4, [(f" ({interval[0]:.2f}..{interval[1]:.2f})" if interval else "", "faint")]),
        (2, [("  reviewed ", "faint"), (f"{summary.reviewed:,}", "strong")]),
        (3, [("  relabelled ", "faint"), (f"{summary.relabelled:,}", "strong")]),
    ]
    if session.audit.read_only:
        mark: Piece = ("read-only ", "warn")
    elif summary.failed:
        mark = ("✗ NOT SAVED ", "bad")
    elif summary.pending:
        mark = ("saving… ", "warn")
    else:
        mark = ("✓ saved ", "good")
    room = width - len(mark[0]) - 1
    while len(parts) > 1 and sum(cells(pieces) for _, pieces in parts) > room:
        parts.remove(max(parts, key=lambda part: part[0]))
    pieces = [piece for _, group in parts for piece in group]
    return [*pieces, (" " * max(1, width - cells(pieces) - len(mark[0])), "plain"), mark]


def queue_title(session: Session, letter: str, width: int) -> list[Piece]:
    """Return the title of the queue: its class or pair, how many are left, filters, marks.

    Where room is scarce the plain word goes first, then filters and names are cut; the numbers stay.

    Parameters
    ----------
    session : Session
    letter : str
        Key of the pane.
    width : int
        Cells.

    Returns
    -------
    list of Piece
    """
    spec, audit = session.spec, session.audit
    name = audit.names[spec.given] if spec.given is not None else "all classes"
    if session.checking:
        filters, what = "", "random checks"
    else:
        if spec.suggested is not None:
            name = f"{name} → {audit.names[spec.suggested]}"
        filters = filters_in_words(spec, audit.split_names)
        what = filters or ("flagged" if spec.flagged else "")
    counts = f"  {session.left:,}"
    marked = f"  ●{len(session.selected):,}" if session.selected else ""
    below = f"{session.trail[-1][0]} › " if session.trail else ""
    head: list[Piece] = [(letter, "key"), (below, "faint"), ("" if below else "QUEUE ", "title")]
    room = width - cells(head) - cell_len(counts) - cell_len(marked)
    if not filters and cell_len(name) + cell_len(what) + 1 > room:
        what = ""
    name = fit(name, min(cell_len(name), max(8, room - min(cell_len(what), room // 2) - 1)))
    what = fit(what, min(cell_len(what), room - cell_len(name) - 1))
    return [
        *head,
        (name, "strong"),
        (counts, "plain"),
        (f" {what}" if what else "", "warn" if filters else "faint"),
        (marked, "key"),
    ]


def checks_line(session: Session, wide: bool) -> list[Piece]:
    """Return the estimates from the random checks of the queue.

    Parameters
    ----------
    session : Session
    wide : bool
        Whether there is room for the long words.

    Returns
    -------
    list of Piece
    """
    known = session.checks.estimate(session.spec)
    done = known.wrong.checks
    pieces: list[Piece] = [(" CHECKS ", "title"), (f"{done:,}{' done' if wide else ''}", "plain")]
    if known.precision is not None:
        share, low, high = known.precision
        pieces.append(("   precision of flags here " if wide else "  precision ", "faint"))
        pieces += [(f"{share:.0%}", "strong"), (f" ({low:.0%}..{high:.0%})", "faint")]
    errors, low, high = known.errors_left
    if done:
        pieces.append(("   errors left about " if wide else "  errors left ", "faint"))
        pieces += [(f"{errors:,.0f}", "strong"), (f" ({low:,.0f}..{high:,.0f})", "faint")]
    else:
        pieces.append(("   errors left at most about " if wide else "  errors left ≤ ", "faint"))
        pieces.append((f"{high:,.0f}", "strong"))
    if session.pace is not None and session.left and not session.checking:
        pieces.append(("   flags take " if wide else "  ", "faint"))
        pieces += [(span(session.pace * session.left, tenths=False), "strong"), (" more", "faint")]
    return pieces


def new_scores(change: Change) -> str:
    """Say what a finished training run changed."""
    if change.reason:
        return f"new scores: {change.reason}"
    return f"new scores: {change.new_flags:,} new flags, {change.cleared_flags:,} cleared; the queue is re-ranked"


def run_line(job: Job, curve: Curve | None, wide: bool) -> list[Piece]:
    """Return the progress and learning curve of a training run.

    Parameters
    ----------
    job : Job
    curve : Curve or None
    wide : bool
        Whether there is room for the long words.

    Returns
    -------
    list of Piece
    """
    full, empty = bar(job.progress, 16 if wide else 8)
    pieces: list[Piece] = [
        (" TRAIN ", "title"),
        (f"{fit(job.what, 24).rstrip()} ", "strong"),
        (full, "bar"),
        (empty, "plain"),
        (f" {job.progress:4.0%}  {safe(job.stage)}", "plain"),
    ]
    if curve is not None and curve.epoch:
        pieces.append((f"  epoch {curve.epoch}/{curve.epochs}", "plain"))
        if curve.accuracy:
            pieces += [("  acc ", "faint"), (fraction(curve.accuracy[-1]), "strong")]
        pieces.append((f" {curves.sparkline(curve.accuracy or curve.loss, 16 if wide else 6)}", "bar"))
    if job.eta is not None:
        pieces.append((f"  {span(job.eta, tenths=False)} left", "plain"))
    if wide:
        pieces.append((f"   run {job.number}, continues after you leave", "faint"))
    return pieces
