"""The queue: one row a sample, decided ones stay in their place with a mark."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len

from labeltui.tui.session import WORDS, Session
from labeltui.tui.widgets.paint import Piece, fit, fit_end, number
from labeltui.tui.widgets.rows import Rows


class Queue(Rows):
    """Rows ``name  score  given → suggested``."""

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
        decision = audit.decision(sample)
        if decision is None:
            mark: Piece = ("● " if sample in session.selected else "  ", "key")
            suggestions = audit.suggestions(sample)
            target = audit.names[suggestions[0][0]] if suggestions else audit.fault(sample).replace("_", "-")
            style, arrow = "plain", "→" if suggestions else " "
        else:
            glyph, style = WORDS[decision.kind]
            mark = (glyph + " ", style)
            target, arrow = decision.kind, " "
            if decision.kind == "relabel":
                target, arrow = audit.names[int(audit.current[sample])], "→"
        name = short_name(audit.sample_name(sample))
        name_width, labels, both = self._columns(width)
        given = int(audit.given[sample])
        given_name = (audit.names[given] if given >= 0 else "none") if both else ""
        # The arrow follows the given class; what the one name leaves the other one has.
        given_width = min(cell_len(given_name), max(labels // 2, labels - cell_len(target)))
        target_width = labels - given_width
        return [
            mark,
            (fit_end(name, name_width), "faint" if decision else "plain"),
            (fit("–" if audit.fault(sample) else number(audit.score(sample)), 5, right=True), "faint"),
            (" ", "plain"),
            (session.cut(given_name, given_width), "faint"),
            (f" {arrow} " if both else f"{arrow} ", "faint"),
            (session.cut(target, target_width), style),
        ]

    def _columns(self, width: int) -> tuple[int, int, bool]:
        """Return the cells of the name and of the classes; where room is scarce, the given class goes first."""
        room = width - 8
        alone = self.session.spec.given is not None
        name = max(6, min(self.name_width, room - 12))
        if alone or room - name - 4 < min(2 * self.session.longest_name, 14):
            return name, room - name - 2, False
        name = max(6, min(self.name_width, room - 18))
        return name, room - name - 3, True


def short_name(path: str) -> str:
    """Return a file's name without its folders and its ending."""
    name = path.rsplit("/", 1)[-1]
    stem, dot, ending = name.rpartition(".")
    return stem if dot and stem and len(ending) <= 5 else name
