"""The sample between the two classes in question: nearest of the given class, nearest of the suggested one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from textual.containers import Vertical
from textual.widget import Widget

from labeltui.graphics import ImageView, Thumb, Thumbnails
from labeltui.tui.actions import Keymap
from labeltui.tui.screens.opened import Opened
from labeltui.tui.session import Session
from labeltui.tui.widgets.paint import Lines, Piece, bar, fit, number

STORED = 50
"""Neighbours looked through; an audit stores at most so many."""


class NeighboursScreen(Opened):
    """Left the sample, right its neighbours of both classes, and how each detector votes."""

    name_in_table = "neighbours"

    def __init__(self, session: Session, keymap: Keymap) -> None:
        super().__init__(session, keymap)
        self.image = ImageView(id="large")
        self.votes = Lines(classes="votes")
        self.titles = [Lines(classes="part-title") for _ in range(2)]
        self.thumbs = [Thumbnails(8, 4, classes="near") for _ in range(2)]

    def parts(self) -> Sequence[Widget]:
        right = [widget for pair in zip(self.titles, self.thumbs, strict=True) for widget in pair]
        return [Vertical(self.image, self.votes, id="left"), Vertical(*right, id="right")]

    def paint(self) -> None:
        session, audit = self.session, self.session.audit
        sample = session.sample
        if sample is None:
            self.dismiss(None)
            return
        given = int(audit.given[sample])
        suggestions = [label for label, _ in audit.suggestions(sample) if label != given]
        other = suggestions[0] if suggestions else -1
        self.image.show(sample, lambda: audit.image(sample))
        evidence = audit.evidence(sample, STORED)
        height = max(8, self.size.height - 5)
        rows = min(14, max(2, (height - 4) // 2 - 2), max(2, (self.thumbs[0].size.width // 4 - 1) // 2))
        for place, label in enumerate((given, other)):
            near = [neighbour for neighbour in evidence.neighbours if neighbour.label == label and label >= 0]
            word = "GIVEN " if place == 0 else "SUGGESTED "
            grid = self.thumbs[place]
            grid.cell_rows, grid.cell_columns = rows, 2 * rows
            grid.styles.height = rows + 1
            fits = max(1, grid.across)
            if near:
                what = f"  {len(near)} of the {len(evidence.neighbours)} nearest"
                thumbs = [
                    self._thumb(neighbour.index, number(neighbour.similarity)) for neighbour in near[:fits]
                ]
            else:
                what = (
                    f"  none of the {len(evidence.neighbours)} nearest; typical ones:" if label >= 0 else ""
                )
                thumbs = [self._thumb(sample, "") for sample in session.typical(label, fits)]
            self.titles[place].show([[(word, "title"), (session.name(label), "strong"), (what, "faint")]])
            grid.show(thumbs)
        lines: list[list[Piece]] = [[("VOTES ", "title"), (f"P({session.name(given)} is right)", "faint")]]
        for name, score, proposal in evidence.votes:
            full, empty = bar(score, max(0, min(10, self.votes.size.width - 40)))
            says = "" if proposal in (None, given) else f"  says {session.name(proposal or 0)}"
            lines.append(
                [
                    (fit(name, 12), "plain"),
                    (f"{number(score):>4} ", "plain"),
                    (full, "bar"),
                    (empty, "plain"),
                    (says, "link"),
                ]
            )
        self.votes.styles.height = len(lines)
        self.votes.show(lines)
        name = audit.sample_name(sample)
        decision = audit.decision(sample)
        done: Piece = (f"  {decision.kind}", "good") if decision is not None else ("", "plain")
        of = f"   {session.row + 1:,} of {len(session.queue):,}"
        self.entitle(("NEIGHBOURS of ", "title"), (name, "strong"), done, (of, "faint"))

    def _thumb(self, sample: int, caption: str) -> Thumb:
        return Thumb(sample, partial(self.session.audit.image, sample), caption)

    def _step(self, by: int) -> None:
        self.session.row = max(0, min(self.session.row + by, len(self.session.queue) - 1))
        self.paint()

    def do_down(self) -> None:
        self._step(1)

    def do_up(self) -> None:
        self._step(-1)

    def do_page_down(self) -> None:
        self._step(10)

    def do_page_up(self) -> None:
        self._step(-10)

    def do_top(self) -> None:
        self._step(-len(self.session.queue))

    def do_bottom(self) -> None:
        self._step(len(self.session.queue))

    def do_large(self) -> None:
        from labeltui.tui.screens.image import ImageScreen

        self.app.push_screen(ImageScreen(self.session, self.keymap))
