"""Painting lines of text in named styles: nothing here ever reads markup, so text from data stays text."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

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

Piece = tuple[str, str]
"""Text and the name of its style."""


def fit(text: str, width: int, right: bool = False) -> str:
    """Return `text` cut or padded to exactly `width` cells; cut text ends in an ellipsis.

    Parameters
    ----------
    text : str
    width : int
        Cells.
    right : bool
        Align right.

    Returns
    -------
    str
    """
    if width <= 0:
        return ""
    cells = cell_len(text)
    if cells > width:
        return set_cell_size(text, width - 1) + "…"
    return " " * (width - cells) + text if right else text + " " * (width - cells)


def fit_end(text: str, width: int) -> str:
    """Like `fit`, but cut text keeps its end, which distinguishes file names.

    Parameters
    ----------
    text : str
    width : int
        Cells.

    Returns
    -------
    str
    """
    if width <= 0:
        return ""
    while cell_len(text) > width:
        text = "…" + text[2:] if text[0] == "…" else "…" + text[1:]
    return fit(text, width)


def fit_ends(text: str, width: int) -> str:
    """Like `fit`, but cut text keeps both its ends.

    Parameters
    ----------
    text : str
    width : int
        Cells.

    Returns
    -------
    str
    """
    if cell_len(text) <= width or width < 3:
        return fit(text, width)
    head = set_cell_size(text, (width - 1) // 2).rstrip()
    return head + fit_end("…" + text[len(head) :], width - cell_len(head))


def shared_starts(words: Iterable[str]) -> dict[str, int]:
    """Return how many first letters each word has in common with another one, at most."""
    ordered = sorted(set(words))
    found = dict.fromkeys(ordered, 0)
    for before, after in itertools.pairwise(ordered):
        same = shared([before, after])
        found[before], found[after] = max(found[before], same), same
    return found


def shared(words: list[str]) -> int:
    """Return how many first letters all words have in common; 0 for a single word."""
    low, high = min(words), max(words)
    same = next(
        (at for at, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high))
    )
    return same if len(words) > 1 else 0


def cells(pieces: Iterable[Piece]) -> int:
    """Return the width of a line."""
    return sum(cell_len(text) for text, _ in pieces)


def bar(fraction: float, width: int) -> tuple[str, str]:
    """Return a bar of `width` cells as its full and its empty part; half cells count.

    Parameters
    ----------
    fraction : float
        0..1.
    width : int
        Cells.

    Returns
    -------
    full, empty : str
    """
    halves = round(max(0.0, min(1.0, fraction)) * width * 2)
    full = "━" * (halves // 2) + ("╸" if halves % 2 else "")
    return full, " " * (width - len(full))


def divide(first: str, second: str, room: int) -> tuple[int, int]:
    """Return the cells of two names side by side; the longer one is cut first.

    Parameters
    ----------
    first, second : str
    room : int
        Cells for both.

    Returns
    -------
    first, second : int
    """
    left = min(cell_len(first), max(room // 2, room - cell_len(second)))
    return left, min(cell_len(second), max(0, room - left))


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
