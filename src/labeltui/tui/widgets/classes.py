"""The classes, most overlapping first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labeltui.tui.layout import Piece, bar, fit
from labeltui.tui.session import Session
from labeltui.tui.widgets.rows import Rows

if TYPE_CHECKING:
    from labeltui.audit import ClassRow


HEADINGS = {
    "samples": ("samples", "n"),
    "reviewed": ("reviewed", "done"),
    "flags": ("flags", "left"),
    "self_similarity": ("own class", "own"),
    "spectral_contribution": ("spectral", "spec"),
}
"""Headings, long and short, of the number that the classes are sorted by; else it is the overlap W."""


class Classes(Rows):
    """One row a class with a bar of its overlap and the flags left; above them a row for all classes."""

    HEADED = True

    def __init__(self, session: Session) -> None:
        super().__init__(id="classes")
        self.session = session
        self.at: int | None = None

    def count(self) -> int:
        return len(self.session.classes) + 1

    def label(self, row: int) -> int | None:
        """Return the class of a row; None is all of them."""
        return self.session.classes[row - 1].index if row else None

    def row_of(self, label: int | None) -> int:
        """Return the row of a class."""
        if label is None:
            return 0
        return self.session.classes.row_of(label) + 1

    def go(self, row: int, tell: bool = True) -> bool:
        moved = super().go(row, tell)
        self.at = self.label(self.row)
        return moved

    def show(self) -> None:
        """Paint the table anew; the cursor stays with its class."""
        self.renew(self.row_of(self.at))

    def put(self, label: int | None) -> None:
        """Put the cursor on a class."""
        self.at = label
        self.show()

    def pieces(self, row: int, width: int) -> list[Piece]:
        session = self.session
        open_ = self.label(row) == session.spec.given
        mark: Piece = ("▸" if open_ else " ", "key")
        names, value, bars, counts = self._widths(width)
        if row == 0:
            flags = session.classes.total("flags")
            return [
                mark,
                (fit("all classes", width - 1 - counts), "strong" if open_ else "plain"),
                (fit(f"{flags:,}", counts, right=True), "plain"),
            ]
        entry = session.classes[row - 1]
        text, share = self._column(entry)
        full, empty = bar(share, max(0, bars - 1))
        name = "strong" if open_ else "plain" if entry.flags else "faint"
        return [
            mark,
            (session.cut(entry.name, names), name),
            (fit(text, value, right=True), "faint"),
            (" " if bars else "", "plain"),
            (full, "bar"),
            (empty, "plain"),
            (fit(f"{entry.flags:,}", counts, right=True), "plain" if entry.flags else "good"),
        ]

    def heading(self, width: int) -> list[Piece]:
        names, value, bars, counts = self._widths(width)
        long, short = HEADINGS.get(self.session.class_order, ("overlap W", "W"))
        return [
            (fit(" class", 1 + names), "faint"),
            (fit(f" {long if bars else short}", value + bars), "faint"),
            (fit("flags", counts, right=True), "faint"),
        ]

    def _widths(self, width: int) -> tuple[int, int, int, int]:
        """Return the cells of name, number, bar and flags; names are shortened before a number is left out."""
        session = self.session
        counts = max(5, len(f"{session.classes.total('flags'):,}") + 1)
        value = 5 if self.session.largest < 100 else 6
        rest = width - 1 - value - counts
        bars = max(6, min(rest - session.longest_name, 13)) if width >= 26 else 0
        return rest - bars, value, bars, counts

    def _column(self, entry: ClassRow) -> tuple[str, float]:
        """Return the number that the classes are sorted by, as text and as a fraction of the largest."""
        order, largest = self.session.class_order, self.session.largest
        if order in ("samples", "reviewed", "flags"):
            value = float(getattr(entry, order))
            return f"{value:,.0f}", value / largest
        if order in ("self_similarity", "spectral_contribution"):
            share = getattr(entry, order)
            return ("–" if share is None else f"{share:.2f}"), max(0.0, share or 0.0) / largest
        if entry.overlap is None:
            return "–", 0.0
        decimals = 2 if largest < 100 else 0
        return (f"{entry.overlap:.{decimals}f}" if entry.reliable else "?"), entry.overlap / largest
