"""The queue: one row a sample, decided ones stay in their place with a mark."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len

from labeltui.text import probability, short_name
from labeltui.tui.layout import Piece, divide, fit, fit_end
from labeltui.tui.session import WORDS, Session
from labeltui.tui.widgets.rows import Rows


class Queue(Rows):
    """Rows ``name  score  given → suggested``."""

    HEADED = True

    def __init__(self, session: Session) -> None:
        super().__init__(id="queue")
        self.session = session
        self.shown: NDArray[np.int64] | None = None
        """The queue that stands on the screen."""
        self.name_width = 6

    def reset(self, row: int) -> None:
        self._fit_names()
        super().reset(row)

    def _fit_names(self) -> None:
        """Give the names' column the width that the first names need."""
        self.shown = self.session.queue
        names = (short_name(self.session.audit.sample_name(i)) for i in self.shown[:100].tolist())
        self.name_width = max((cell_len(name) for name in names), default=6)

    def count(self) -> int:
        if self.shown is not self.session.queue:
            self._fit_names()
        return len(self.session.queue)

    def pieces(self, row: int, width: int) -> list[Piece]:
        session, audit = self.session, self.session.audit
        sample = int(session.queue[row])
        decision = None if session.hidden(sample) else audit.decision(sample)
        if decision is None:
            mark: Piece = ("● " if sample in session.selected else "  ", "key")
            suggestions = session.suggestions(sample)
            target = audit.names[suggestions[0][0]] if suggestions else audit.fault(sample).replace("_", "-")
            style, arrow = "plain", "→" if suggestions else " "
        else:
            glyph, style = WORDS[decision.kind]
            mark = (glyph + " ", style)
            target, arrow = decision.kind, " "
            if decision.kind == "relabel":
                target, arrow = audit.names[int(audit.current[sample])], glyph
        name = short_name(audit.sample_name(sample))
        name_width, labels = self._columns(width)
        given_name = session.name(int(audit.given[sample]))
        given_width, target_width = divide(given_name, target, labels)
        score = None if audit.fault(sample) or session.hidden(sample) else audit.score(sample)
        return [
            mark,
            (fit_end(name, name_width), "faint" if decision else "plain"),
            (fit(probability(score), 5, right=True), "faint"),
            (" ", "plain"),
            (session.cut(given_name, given_width), "faint"),
            (f" {arrow} ", "faint"),
            (session.cut(target, target_width), style),
        ]

    def heading(self, width: int) -> list[Piece]:
        name_width, labels = self._columns(width)
        file = "file" if self.session.audit.images.present else "id"
        return [
            (fit(f"  {file}", 2 + name_width), "faint"),
            (fit("score", 5, right=True), "faint"),
            (fit(" given → suggested", labels + 4), "faint"),
        ]

    def _columns(self, width: int) -> tuple[int, int]:
        """Return the cells of the file's name and of both classes; the file's name is shortened first."""
        room = width - 11
        both = max(12, min(2 * self.session.longest_name, room // 2 + 3))
        name = max(5, min(self.name_width, room - both))
        return name, room - name
