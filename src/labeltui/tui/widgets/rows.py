"""A list of any length that paints only the rows it shows and, on a move of its cursor, only two of them."""

from __future__ import annotations

from collections.abc import Callable

from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from labeltui.tui.layout import Piece
from labeltui.tui.widgets.paint import Painted


class Rows(ScrollView, Painted, can_focus=False, inherit_bindings=False):
    """A virtual list; a subclass answers `count` and `pieces`, and `heading` if its columns have names.

    Keys and clicks are the screen's: it calls `move`, `click` and their kin.
    """

    HEADED = False
    """Whether the first line names the columns; it does not scroll."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.row = 0
        self.moved: Callable[[int], object] = lambda row: None
        """Called with the new row inside each move: by a message it would follow behind the next key."""
        self._lit = False
        self._painted: dict[int, list[Piece]] = {}
        self.letters: dict[int, str] = {}
        """Letters that stand before rows in jump mode."""

    @property
    def room(self) -> int:
        """Rows that fit on the screen."""
        return max(0, self.size.height - self.HEADED)

    def visible_rows(self) -> range:
        """Return the rows on the screen."""
        top = self.scroll_offset.y
        return range(top, min(top + self.room, self.count()))

    @property
    def lit(self) -> bool:
        """Whether keys go here, so that the cursor stands out."""
        return self._lit

    @lit.setter
    def lit(self, lit: bool) -> None:
        self._lit = lit
        self.repaint(self.row)

    def count(self) -> int:
        """Return the number of rows."""
        raise NotImplementedError

    def pieces(self, row: int, width: int) -> list[Piece]:
        """Return the contents of a row.

        Parameters
        ----------
        row : int
        width : int
            Cells.

        Returns
        -------
        list of Piece
        """
        raise NotImplementedError

    def heading(self, width: int) -> list[Piece]:
        """Return the names of the columns, `width` cells wide."""
        return []

    # -- moving ------------------------------------------------------------

    def move(self, by: int) -> bool:
        """Move the cursor by rows; False when it cannot."""
        return self.go(self.row + by)

    def page(self, by: int) -> bool:
        """Move the cursor by pages."""
        return self.go(self.row + by * max(1, self.room - 1))

    def go(self, row: int, tell: bool = True) -> bool:
        """Move the cursor to a row.

        Parameters
        ----------
        row : int
            Clamped to the existing rows.
        tell : bool
            Post a message about the move.

        Returns
        -------
        bool
            False if the cursor was there already.
        """
        row = max(0, min(row, self.count() - 1))
        if row == self.row:
            return False
        old, self.row = self.row, row
        if not self._scroll_to_cursor():
            self.repaint(old)
            self.repaint(row)
        if tell:
            self.moved(row)
        return True

    def click(self, y: int) -> bool:
        """Put the cursor on the row at line `y` of the screen; True where it stood there: the row is chosen."""
        row = y - self.region.y - self.HEADED + self.scroll_offset.y
        return y - self.region.y >= self.HEADED and row < self.count() and not self.go(row)

    def wheel(self, by: int) -> None:
        """Scroll by `by` lines; the cursor stays on its row."""
        self.scroll_to(y=self.scroll_offset.y + by, animate=False, force=True, immediate=True)

    def reset(self, row: int) -> None:
        """Show changed rows with the cursor on `row`; `moved` is not called."""
        self.row = max(0, min(row, self.count() - 1))
        self.virtual_size = self._extent()
        self._painted.clear()
        self._scroll_to_cursor()
        self.refresh()

    def renew(self, row: int) -> None:
        """Show changed rows with the cursor on `row`, and paint only those that look different now."""
        if self._extent() != self.virtual_size:
            self.reset(row)
            return
        old, self.row = self.row, max(0, min(row, self.count() - 1))
        if self._scroll_to_cursor():
            return
        for visible in self.visible_rows():
            if visible in (old, self.row) or self._painted.get(visible) != self.pieces(
                visible, self.size.width - 2
            ):
                self.repaint(visible)

    def repaint(self, row: int) -> None:
        """Paint one row anew, if it is visible."""
        y = row - self.scroll_offset.y
        if 0 <= y < self.room:
            self.refresh(Region(0, y + self.HEADED, self.size.width, 1))

    def _extent(self) -> Size:
        return Size(self.size.width, self.count() + self.HEADED)

    def _scroll_to_cursor(self) -> bool:
        # Landing a third of the way down means a full repaint only every many moves: a line-wise scroll would
        # send the whole pane over the wire at each step.
        height = self.room
        if height <= 0:
            return False
        top = self.scroll_offset.y
        if top <= self.row < top + height:
            return False
        third = height // 3
        target = self.row - third if self.row >= top + height else self.row - (height - 1 - third)
        target = max(0, min(target, self.count() - height))
        self.scroll_to(y=target, animate=False, force=True, immediate=True)
        return target != top

    # -- painting ------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        row = y - self.HEADED + self.scroll_offset.y
        width = self.size.width
        if self.HEADED and y == 0:
            return self.strip_of([(" ", "plain"), *self.heading(width - 2)], width)
        if row >= self.count():
            return self.strip_of([], width)
        at_cursor = row == self.row
        under = ("cursor" if self._lit else "rest") if at_cursor else ""
        mark = self.letters.get(row) or (("▌" if self._lit else "▏") if at_cursor else " ")
        if len(self._painted) > 2 * self.room + 2:  # rows seen in hours would pile up
            visible = self.visible_rows()
            self._painted = {seen: pieces for seen, pieces in self._painted.items() if seen in visible}
        pieces = self._painted[row] = self.pieces(row, width - 2)
        return self.strip_of([(mark, "key"), *pieces, (" ", "plain")], width, under)

    def on_resize(self) -> None:
        self.virtual_size = self._extent()
        self._scroll_to_cursor()
