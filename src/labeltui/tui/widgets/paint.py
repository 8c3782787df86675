"""Painting lines of text in named styles: nothing here ever reads markup, so text from data stays text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from labeltui.tui.layout import Piece

PARTS = (
    "plain",
    "faint",
    "strong",
    "key",
    "title",
    "good",
    "bad",
    "warn",
    "link",
    "bar",
    "track",
    "rule",
    "caret",
)
"""Names of styles; the style sheet gives each its colours as ``.paint--NAME``."""

STYLES = {f"paint--{part}" for part in (*PARTS, "cursor", "rest")}
"""Component classes of every screen whose widgets paint.

The screen has them, not each widget: Textual works all of them out for each owner at every change of style, and twenty
owners were a sixth of the time to the first image of the screen.
"""


class Painted(Widget):
    """A widget that paints its lines from `Piece`s."""

    _pens: dict[tuple[str, str], Style] | None = None

    def strip_of(self, pieces: Iterable[Piece], width: int, row: str = "") -> Strip:
        """Return one line.

        Parameters
        ----------
        pieces : iterable of (text, style name)
        width : int
            Cells.
        row : str
            ``cursor`` or ``rest`` lays that style's background under the whole line.
        """
        segments = [Segment(text, self._pen(row, name)) for text, name in pieces if text]
        return Strip(segments).adjust_cell_length(width, self._pen(row, "plain"))

    def _pen(self, row: str, name: str) -> Style:
        # Textual works a style out anew at each question; a line asks for ten.
        if self._pens is None:
            self._pens = {}
        pen = self._pens.get((row, name))
        if pen is None:
            pen = self.rich_style
            for part in (row, name):
                if part and part != "plain":
                    pen += self.screen.get_component_rich_style(f"paint--{part}", partial=True)
            self._pens[row, name] = pen
        return pen

    def notify_style_update(self) -> None:
        self._pens = None
        super().notify_style_update()


class Lines(Painted):
    """A fixed number of lines that repaint only what changed."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.lines: list[list[Piece]] = []
        self.under = ""

    def show(self, lines: Sequence[Sequence[Piece]]) -> None:
        """Show these lines."""
        new = [list(line) for line in lines]
        old, self.lines = self.lines, new
        if not self.is_attached:
            return
        for y in range(max(len(old), len(new))):
            if (old[y] if y < len(old) else None) != (new[y] if y < len(new) else None):
                self.refresh(Region(0, y, self.size.width, 1))

    def lay(self, under: str) -> None:
        """Lay a style's background under all lines: ``cursor``, ``rest``, or the widget's own for nothing."""
        if under != self.under:
            self.under = under
            self.refresh()

    @property
    def text(self) -> str:
        """What stands there, without styles."""
        return "\n".join("".join(text for text, _ in line) for line in self.lines)

    def render_line(self, y: int) -> Strip:
        return self.strip_of(self.lines[y] if y < len(self.lines) else [], self.size.width, self.under)
