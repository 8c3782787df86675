"""The labels that a person compares: given → suggested, or what was decided."""

from __future__ import annotations

from rich.cells import cell_len

from labeltui.text import probability
from labeltui.tui.layout import Piece, divide
from labeltui.tui.session import WORDS, Session


def labels_title(session: Session, sample: int, width: int) -> list[Piece]:
    """Return ``given automobile → deer .96`` in at most `width` cells.

    Where room is scarce the word goes first, then the names are shortened; the probability goes last.

    Parameters
    ----------
    session : Session
    sample : int
    width : int
        Cells.

    Returns
    -------
    list of Piece
    """
    audit = session.audit
    given = session.name(int(audit.given[sample]))
    decision = None if session.hidden(sample) else audit.decision(sample)
    suggestions = session.suggestions(sample)
    arrow, target, style, more = "", "", "plain", ""
    if decision is not None:
        glyph, style = WORDS[decision.kind]
        arrow = f" {glyph} "
        target = session.name(decision.label) if decision.kind == "relabel" else decision.kind
    elif suggestions:
        label, p = suggestions[0]
        arrow, target, style, more = " → ", audit.names[label], "link", f" {probability(p)}"
    word = "given "
    room = width - cell_len(arrow) - cell_len(more)
    if cell_len(word) + cell_len(given) + cell_len(target) > room:
        word = ""
    first, second = divide(given, target, room - len(word))
    return [
        (word, "faint"),
        (session.cut(given, first), "strong"),
        (arrow, "faint" if decision is None else style),
        (session.cut(target, second), style),
        (more, "faint"),
    ]
