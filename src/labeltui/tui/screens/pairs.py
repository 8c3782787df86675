"""Class pairs: a map of how much classes overlap, and the pairs ranked; Enter opens a pair's queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from textual.widget import Widget

from labeltui.text import fraction
from labeltui.tui.actions import Keymap
from labeltui.tui.layout import Piece, bar, divide, fit
from labeltui.tui.requirements import Context
from labeltui.tui.screens.opened import WithRows
from labeltui.tui.session import Session
from labeltui.tui.widgets.heat import Heat
from labeltui.tui.widgets.over import Item
from labeltui.tui.widgets.rows import Rows

if TYPE_CHECKING:
    from labeltui.audit import PairRow

LISTED = 2000
"""Pairs in the list; a thousand classes have half a million."""


class PairList(Rows):
    """Ranked pairs with the flags given one class and suggested the other, in both directions."""

    HEADED = True

    def __init__(self, session: Session) -> None:
        super().__init__(id="pair-list")
        self.session = session
        self.by = "overlap"
        self.pairs: list[PairRow] = []
        self.flags: dict[tuple[int, int], int] = {}

    def load(self) -> None:
        """Read the pairs and count their flags."""
        audit = self.session.audit
        self.pairs = audit.pairs(self.by, LISTED)
        open_ = np.flatnonzero(audit.flags & (audit.kinds == 0))
        keys, counts = np.unique(
            audit.given[open_].astype(np.int64) * audit.K + audit.suggested[open_, 0], return_counts=True
        )
        self.flags = {
            divmod(key, audit.K): count for key, count in zip(keys.tolist(), counts.tolist(), strict=True)
        }
        self.reset(self.row)

    def count(self) -> int:
        return len(self.pairs)

    def pieces(self, row: int, width: int) -> list[Piece]:
        pair, name = self.pairs[row], self.session.name
        value = pair.W if self.by == "overlap" else pair.S_ab
        most = (self.pairs[0].W if self.by == "overlap" else self.pairs[0].S_ab) or 1.0
        there, back = self.flags.get((pair.a, pair.b), 0), self.flags.get((pair.b, pair.a), 0)
        names, bar_width, counts = self._columns(width)
        full, empty = bar(value / most, bar_width)
        return [
            (self.session.cut(name(pair.a), names), "plain"),
            (" – " if self.by == "overlap" else "   ", "faint"),
            (self.session.cut(name(pair.b), names), "plain"),
            (f" {fraction(value):>4} ", "strong"),
            (full, "bar"),
            (empty, "plain"),
            (fit(f"{there:,}", counts, right=True), "faint"),
            (fit(f"{back:,}", counts, right=True) if self.by == "overlap" else "", "faint"),
        ]

    def heading(self, width: int) -> list[Piece]:
        names, bar_width, counts = self._columns(width)
        a, b, value = ("a", "b", "W") if self.by == "overlap" else ("of class a", "are b", "S")
        return [
            (fit(a, names) + "   " + fit(b, names), "faint"),
            (f" {value:>4} " + " " * bar_width, "faint"),
            (fit("a → b", counts, right=True), "faint"),
            (fit("b → a", counts, right=True) if self.by == "overlap" else "", "faint"),
        ]

    def _columns(self, width: int) -> tuple[int, int, int]:
        """Return the cells of a class's name, of the bar and of a number of flags."""
        bar_width = 8 if width >= 48 else 0
        counts = 7
        return (
            max(5, (width - 9 - bar_width - counts * (2 if self.by == "overlap" else 1)) // 2),
            bar_width,
            counts,
        )


class PairsScreen(WithRows):
    """The map left, the list right; both show the same pair."""

    name_in_table = "pairs"

    def __init__(self, session: Session, keymap: Keymap) -> None:
        super().__init__(session, keymap)
        self.heat = Heat(id="heat")
        self.list = PairList(session)
        self.swapped = False

    def parts(self) -> Sequence[Widget]:
        return [self.heat, self.list]

    def rows(self) -> Rows:
        return self.list

    def on_mount(self) -> None:
        self.list.lit = True
        self.list.moved = self._moved
        self.list.by, self.list.row = self.session.pairs_at
        self.session.pairs_at = "overlap", 0
        self.list.load()

    def context(self) -> Context:
        return Context(sample=bool(self.list.pairs), read_only=self.session.audit.read_only)

    @property
    def pair(self) -> tuple[int, int] | None:
        """The pair looked at: samples given the first class, suggested the second."""
        if not self.list.pairs:
            return None
        row = self.list.pairs[self.list.row]
        return (row.b, row.a) if self.swapped else (row.a, row.b)

    def paint(self) -> None:
        self.list.reset(self.list.row)
        self.paint_pair()

    def paint_pair(self) -> None:
        """Paint the map and the title for the pair looked at."""
        session = self.session
        overlap = self.list.by == "overlap"
        if self.pair is None:
            self.entitle(("CLASS PAIRS", "title"), ("  no classes overlap", "faint"))
            return
        a, b = self.pair
        order = session.classes.labels
        axes, measure = ("class", "class"), "overlap W"
        if not overlap:
            axes, measure = ("class a", "class b of a's neighbours"), "proportion S"
        self.heat.draw(session.audit.matrix(self.list.by), order, session.audit.names, (a, b), axes, measure)
        flags = self.list.flags.get((a, b), 0)
        counted = f"  {flags:,} flag{'' if flags == 1 else 's'}"
        row = self.list.pairs[self.list.row]
        value = f"  {measure} {fraction(row.W if overlap else row.S_ab)}"
        room = self.app.size.width - 24 - len(counted) - len(value)
        first, second = divide(session.name(a), session.name(b), room)
        self.entitle(
            ("CLASS PAIRS  ", "title"),
            (session.cut(session.name(a), first), "strong"),
            (" → ", "faint"),
            (session.cut(session.name(b), second), "link"),
            (counted + value, "faint"),
        )

    def _moved(self, row: int) -> None:
        self.swapped = False
        self.paint_pair()

    def chosen(self, rows: Rows) -> None:
        if rows is self.list:
            self.do_open()

    def do_open(self) -> None:
        if self.pair is None:
            return
        self.session.come_from(self.name_in_table)
        self.session.pairs_at = self.list.by, self.list.row
        self.session.open_pair(*self.pair)
        self.dismiss(None)
        self.host.show_queue(self.pair[0])

    def do_swap(self) -> None:
        self.swapped = not self.swapped
        self.paint_pair()

    def do_by(self) -> None:
        self.list.by = "directed" if self.list.by == "overlap" else "overlap"
        self.swapped = False
        self.list.row = 0
        self.list.load()
        self.paint_pair()

    def do_find(self) -> None:
        def take(row: int) -> None:
            self.list.go(row)

        name = self.session.name
        items = [Item(f"{name(pair.a)} {name(pair.b)}", row) for row, pair in enumerate(self.list.pairs)]
        self.panel.find("Which pair?", items, take)
