"""The queue as a contact sheet: look at many, mark some, decide on them at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rich.cells import cell_len
from textual.widget import Widget

from labeltui.graphics import Thumb, Thumbnails
from labeltui.tui.actions import Keymap
from labeltui.tui.screens.opened import Opened
from labeltui.tui.session import WORDS, Session


class SheetScreen(Opened):
    """A page of thumbnails; marks are the session's, so they are the same here and in the queue."""

    name_in_table = "sheet"

    def __init__(self, session: Session, keymap: Keymap) -> None:
        super().__init__(session, keymap)
        self.grid = Thumbnails(12, 6, captions=2, gap=1, id="grid")

    def parts(self) -> Sequence[Widget]:
        return [self.grid]

    @property
    def page(self) -> int:
        """How many images stand on a page."""
        return max(1, self.grid.capacity)

    def paint(self) -> None:
        session = self.session
        if not len(session.queue):
            self.dismiss(None)
            return
        rows = 4 if self.size.height < 30 else 6
        self.grid.cell_rows, self.grid.cell_columns = rows, 2 * rows
        first = session.row // self.page * self.page
        shown = session.queue[first : first + self.page].tolist()
        self.grid.show([self._thumb(sample, first + at == session.row) for at, sample in enumerate(shown)])
        marked = f"  {len(session.selected):,} marked" if session.selected else ""
        sample = int(session.queue[session.row])
        of = f"  {session.row + 1:,} of {len(session.queue):,}"
        self.entitle_sample("SHEET", sample, (of, "faint"), (marked, "key"))

    def _thumb(self, sample: int, at_cursor: bool) -> Thumb:
        session, audit = self.session, self.session.audit
        decision = None if session.hidden(sample) else audit.decision(sample)
        suggestions = session.suggestions(sample)
        glyph, target = ("→", session.name(suggestions[0][0])) if suggestions else (" ", "")
        classes = []
        if decision is not None:
            glyph, target = WORDS[decision.kind][0], decision.kind
            if decision.kind == "relabel":
                target = session.name(decision.label)
            classes.append("-decided")
        mark = "● " if sample in session.selected else ""
        if mark:
            classes.append("-marked")
        mark = "▌" + mark if at_cursor else mark
        if at_cursor:
            classes.append("-cursor")
        width = self.grid.cell_columns
        given = session.cut(session.name(int(audit.given[sample])), width - cell_len(mark))
        caption = f"{mark}{given}\n{glyph} {session.cut(target, width - 2)}"
        return Thumb(sample, partial(audit.images.image, sample), caption, " ".join(classes))

    def _go(self, row: int) -> None:
        self.session.row = max(0, min(row, len(self.session.queue) - 1))
        self.paint()

    def do_right(self) -> None:
        self._go(self.session.row + 1)

    def do_left(self) -> None:
        self._go(self.session.row - 1)

    def do_down(self) -> None:
        self._go(self.session.row + self.grid.across)

    def do_up(self) -> None:
        self._go(self.session.row - self.grid.across)

    def do_page_down(self) -> None:
        self._go(self.session.row + self.page)

    def do_page_up(self) -> None:
        self._go(self.session.row - self.page)

    def do_top(self) -> None:
        self._go(0)

    def do_bottom(self) -> None:
        self._go(len(self.session.queue) - 1)

    def do_open(self) -> None:
        from labeltui.tui.screens.image import ImageScreen

        self.app.push_screen(ImageScreen(self.session, self.keymap))

    def do_mark(self) -> None:
        self.session.mark()
        self._go(self.session.row + 1)

    def do_mark_all(self) -> None:
        self.say(self.session.mark_all())
        self.paint()

    def do_bulk(self) -> None:
        from labeltui.tui.screens.bulk import choose

        choose(self)

    def wheel(self, widget: Widget, steps: int) -> None:
        if self.grid in widget.ancestors_with_self and not self.reader.is_open:
            self._go(self.session.row + steps * self.grid.across)
        else:
            super().wheel(widget, steps)

    async def clicked(self, widget: Widget, y: int) -> None:
        for at, thumbnail in enumerate(self.grid.children):
            if thumbnail in widget.ancestors_with_self:
                self._go(self.session.row // self.page * self.page + at)
        await super().clicked(widget, y)
