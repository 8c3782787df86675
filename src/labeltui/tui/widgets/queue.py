"""The queue: one row a sample, decided ones stay in their place with a mark."""

from __future__ import annotations

from labeltui.tui.session import Session
from labeltui.tui.widgets.paint import Piece, fit, fit_end, number
from labeltui.tui.widgets.rows import Rows

MARKS = {
    "keep": ("✓", "good"),
    "relabel": ("→", "link"),
    "exclude": ("×", "bad"),
    "ambiguous": ("≈", "warn"),
    "unsure": ("?", "warn"),
    "skip": ("»", "faint"),
}
"""Glyph and style of each decision; the word stands beside it wherever there is room."""


class Queue(Rows):
    """Rows ``name  score  given → suggested``."""

    def __init__(self, session: Session) -> None:
        super().__init__(id="queue")
        self.session = session

    def count(self) -> int:
        return len(self.session.queue)

    def pieces(self, row: int, width: int) -> list[Piece]:
        session, audit = self.session, self.session.audit
        sample = int(session.queue[row])
        decision = audit.decision(sample)
        given = int(audit.given[sample])
        given_name = audit.names[given] if given >= 0 else "no label"
        name = audit.sample_name(sample).rsplit("/", 1)[-1]
        labels = max(12, min(24, width - 18))
        name_width = width - labels - 8
        if decision is None:
            mark: Piece = (" ", "plain")
            suggestions = audit.suggestions(sample)
            target = audit.names[suggestions[0][0]] if suggestions else ""
            style = "plain"
        else:
            mark = MARKS[decision.kind]
            current = int(audit.current[sample])
            relabelled = decision.kind == "relabel" and current >= 0
            target = audit.names[current] if relabelled else decision.kind
            style = mark[1]
        half = (labels - 3) // 2
        return [
            mark,
            (" ", "plain"),
            (fit_end(name, name_width), "faint" if decision else "plain"),
            (" ", "plain"),
            (fit(number(audit.score(sample)), 4, right=True), "faint"),
            (" ", "plain"),
            *_pair(given_name, target, labels, half, style),
        ]


def _pair(given: str, target: str, width: int, half: int, style: str) -> list[Piece]:
    left = fit(given, min(half, max(len(given), width - 3 - len(target)))).rstrip()
    return [(left, "faint"), (" → ", "faint"), (fit(target, width - len(left) - 3), style)]
