"""The sample between the two classes in question: nearest of the given class, nearest of the suggested one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rich.cells import cell_len
from textual.containers import Vertical
from textual.widget import Widget

from labeltui.audit import Neighbour
from labeltui.graphics import ImageView, Thumb, Thumbnails
from labeltui.text import fraction
from labeltui.tui.actions import Keymap
from labeltui.tui.layout import Piece, fit
from labeltui.tui.screens.opened import Opened
from labeltui.tui.session import Session
from labeltui.tui.widgets.choices import choice_lines
from labeltui.tui.widgets.evidence import evidence_table, neighbour_lines
from labeltui.tui.widgets.paint import Lines

STORED = 50
"""Neighbours looked through; an audit stores at most so many."""


class NeighboursScreen(Opened):
    """Left the sample and the table of evidence, right its neighbours of both classes and what the digits do."""

    name_in_table = "neighbours"

    def __init__(self, session: Session, keymap: Keymap) -> None:
        super().__init__(session, keymap)
        self.image = ImageView(id="large")
        self.evidence = Lines(classes="evidence")
        self.titles = [Lines(classes="part-title") for _ in range(2)]
        self.thumbs = [Thumbnails(8, 4, classes="near") for _ in range(2)]
        self.lists = [Lines(classes="near-list") for _ in range(2)]
        self.choices = Lines(classes="choices")

    def parts(self) -> Sequence[Widget]:
        # An audit of embeddings alone has nothing to draw: its neighbours are listed.
        images = self.session.audit.images.present
        self.image.display = images
        below = self.thumbs if images else self.lists
        right = [widget for pair in zip(self.titles, below, strict=True) for widget in pair]
        return [Vertical(self.image, self.evidence, id="left"), Vertical(*right, self.choices, id="right")]

    def paint(self) -> None:
        session, audit = self.session, self.session.audit
        sample = session.sample
        if sample is None:
            self.dismiss(None)
            return
        given = int(audit.given[sample])
        other = next((label for label, _ in session.suggestions(sample) if label != given), -1)
        if audit.images.present:
            self.image.show(sample, lambda: audit.images.image(sample))
        evidence = audit.evidence(sample, STORED)
        width = max(20, self.size.width * 6 // 10 - 3)
        choices = choice_lines(session, sample, width, self.size.height >= 24)
        self.choices.styles.height = len(choices)
        self.choices.show(choices)
        room = max(4, self.size.height - 3 - len(choices))
        for place, label in enumerate((given, other)):
            near = [neighbour for neighbour in evidence.neighbours if neighbour.label == label and label >= 0]
            word = "GIVEN " if place == 0 else "SUGGESTED "
            what = self._show_images if audit.images.present else self._show_list
            what(place, label, near, room // 2 - 1)
            of = f"  {len(near)} of {len(evidence.neighbours)} nearest" if label >= 0 else ""
            name = session.name(label)
            name = session.cut(name, min(cell_len(name), max(8, width - len(word) - len(of))))
            self.titles[place].show([[(word, "title"), (name, "strong"), (of, "faint")]])
        table = evidence_table(audit, evidence.votes, max(24, self.evidence.size.width or width))
        given_name = session.name(given)
        lines: list[list[Piece]] = [
            [("EVIDENCE ", "title"), (fit(f"given {given_name}", cell_len(given_name) + 6), "faint")],
            *table,
        ]
        self.evidence.styles.height = len(lines)
        self.evidence.show(lines)
        of = f"  {session.row + 1:,} of {len(session.queue):,}"
        self.entitle_sample("NEIGHBOURS", sample, (of, "faint"))

    def _show_images(self, place: int, label: int, near: Sequence[Neighbour], room: int) -> None:
        """Show a class's nearest samples, or typical ones."""
        grid = self.thumbs[place]
        rows = min(14, max(2, room - 1), max(2, (grid.size.width // 4 - 1) // 2))
        grid.cell_rows, grid.cell_columns = rows, 2 * rows
        grid.styles.height = rows + 1
        fits = max(1, grid.across)
        if near or label < 0:
            word = "cosine similarity " if 2 * rows > 22 else "cosine " if 2 * rows > 11 else "cos "
            grid.show([self._thumb(each.index, word + fraction(each.similarity)) for each in near[:fits]])
        else:
            grid.show([self._thumb(sample, "typical") for sample in self.session.typical(label, fits)])

    def _show_list(self, place: int, label: int, near: Sequence[Neighbour], room: int) -> None:
        """List a class's nearest samples."""
        listed = self.lists[place]
        listed.styles.height = room
        lines = neighbour_lines(self.session, near, max(20, listed.size.width), room) if near else []
        listed.show(lines)

    def _thumb(self, sample: int, caption: str) -> Thumb:
        return Thumb(sample, partial(self.session.audit.images.image, sample), caption)

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

    def do_open(self) -> None:
        if self.session.audit.images.present:
            self.do_large()

    def do_large(self) -> None:
        from labeltui.tui.screens.image import ImageScreen

        self.app.push_screen(ImageScreen(self.session, self.keymap))
