"""The classes that a digit gives a sample: suggested ones, and those used last."""

from __future__ import annotations

from rich.cells import cell_len

from labeltui.text import probability
from labeltui.tui.layout import Piece, bar, fit
from labeltui.tui.session import Session

LONGEST = 24
"""Cells that a class's name gets at most."""


def choice_lines(session: Session, sample: int, width: int, wide: bool) -> list[list[Piece]]:
    """Return what the digits do, in lines of `width` cells.

    With `wide` each suggested class has a line with a bar of its probability; else they follow one another, and
    only the first one's probability is written.

    Parameters
    ----------
    session : Session
    sample : int
    width : int
        Cells.
    wide : bool

    Returns
    -------
    list of list of Piece
    """
    audit = session.audit
    key = session.keymap.hint
    suggestions = session.suggestions(sample)
    lines: list[list[Piece]] = []
    choices: list[tuple[str, str, str]] = []
    if wide:
        names = min(LONGEST, max((cell_len(audit.names[label]) for label, _ in suggestions), default=4))
        for n, (label, p) in enumerate(suggestions, 1):
            full, empty = bar(p, max(0, width - names - 10))
            lines.append(
                [
                    (f"{key(f'suggestion-{n}')} ", "key"),
                    (session.cut(audit.names[label], names), "strong" if n == 1 else "plain"),
                    (" " + fit(probability(p), 4, right=True) + " ", "faint"),
                    (full, "bar"),
                    (empty, "plain"),
                ]
            )
    else:
        for n, (label, p) in enumerate(suggestions, 1):
            more = f" {probability(p)}" if n == 1 else ""
            choices.append((key(f"suggestion-{n}"), audit.names[label], more))
    choices += [(key(f"recent-{n}"), audit.names[label], "") for n, label in enumerate(session.recent, 1)]
    return [*lines, *_wrapped(session, choices, width)]


def _wrapped(session: Session, choices: list[tuple[str, str, str]], width: int) -> list[list[Piece]]:
    """Put choices one after the other; where two stand on a line, neither takes more than a half."""
    lines: list[list[Piece]] = []
    left = 0
    half = (width - 1) // 2
    for place, (key, name, more) in enumerate(choices, 1):
        room = min(LONGEST, max(half - len(key) - 1, left - len(key) - 2))
        if more or place == len(choices):
            room = LONGEST
        shown = session.cut(name, min(cell_len(name), room, width - len(key) - len(more) - 1))
        size = len(key) + 1 + cell_len(shown) + len(more)
        if not lines or size + 1 > left:
            lines.append([])
            left = width + 1
        lines[-1] += [
            (" " if lines[-1] else "", "plain"),
            (key, "key"),
            (f" {shown}", "plain"),
            (more, "faint"),
        ]
        left -= size + 1
    return lines
