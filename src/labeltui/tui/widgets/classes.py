"""The classes, most overlapping first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labeltui.tui.session import Session
from labeltui.tui.widgets.paint import Piece, bar, fit
from labeltui.tui.widgets.rows import Rows

if TYPE_CHECKING:
    from labeltui.audit import ClassRow


class Classes(Rows):
    """One row a class with a bar of its overlap and the flags left; above them a row for all classes."""

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
        mark: Piece = ("▸ " if open_ else "  ", "key")
        if row == 0:
            flags = session.classes.total("flags")
            return [
                mark,
                (fit("all classes" if width >= 20 else "all", width - 9), "strong" if open_ else "plain"),
                (f"{flags:>7,}", "plain"),
            ]
        entry = session.classes[row - 1]
        text, share = self._column(entry)
        longest = session.longest_name
        rest = width - 2 - 6  # beside the mark and the flags
        number_width = 6 if width >= 22 or longest <= rest - 6 else 0
        rest -= number_width
        bar_width = max(5, min(rest - 1 - longest, 12)) if width >= 22 else 0
        full, empty = bar(share, bar_width)
        name = "strong" if open_ else "plain" if entry.flags else "faint"
        return [
            mark,
            (session.cut(entry.name, rest - bar_width - (1 if bar_width else 0)), name),
            (fit(text, number_width, right=True), "faint"),
            (" " if bar_width else "", "plain"),
            (full, "bar"),
            (empty, "plain"),
            (f"{entry.flags:>6,}", "plain" if entry.flags else "good"),
        ]

    def _column(self, entry: ClassRow) -> tuple[str, float]:
        """Return the number that the classes are sorted by, as text and as a share of the largest."""
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
