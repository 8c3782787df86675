"""A matrix of class pairs: of any number of classes, the part around the pair looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.style import Style
from textual.color import Color

from labeltui.graphics import canvas_of
from labeltui.text import fraction
from labeltui.tui.layout import Piece, fit, shared
from labeltui.tui.widgets.paint import Lines

SHADES = (" ", "░", "▒", "▓", "█")
"""Five steps that are told apart without colour."""
STEPS = 24
"""Steps of colour, where the terminal has them."""
TALLEST = 8
"""Letters of a column's name that is written downwards."""


class Heat(Lines):
    """Rows and columns are classes in one order; a cell's shade is its value over the largest one shown."""

    def draw(
        self,
        matrix: Any,
        order: list[int],
        names: list[str],
        pair: tuple[int, int],
        axes: tuple[str, str],
        measure: str,
    ) -> None:
        """Show a matrix.

        Parameters
        ----------
        matrix : (K, K) array or sparse array
            Values of pairs.
        order : list of int
            Classes in the order of rows and columns.
        names : list of str
        pair : (int, int)
            The classes of the row and the column to mark.
        axes : (str, str)
            What rows and columns are.
        measure : str
            What a value is, for the legend.
        """
        width, height = self.size
        head = min(14, max(4, width // 4), max(map(len, names), default=4))
        wide = max(2, min(6, (width - head - 2) // max(1, len(order))))
        across = max(1, min(len(order), (width - head - 2) // wide))
        letters = 1 if wide > 3 else min(TALLEST, max(map(len, names), default=1), max(1, height // 3))
        room = height - 4 - letters  # beside the axes, the columns' names and the legend
        high = max(1, min(3, room // max(1, len(order)), wide // 2))
        down = max(1, min(len(order), room // high))
        place = {label: at for at, label in enumerate(order)}
        row, column = place.get(pair[0], 0), place.get(pair[1], 0)
        top, left = _window(row, down, len(order)), _window(column, across, len(order))
        rows, columns = order[top : top + down], order[left : left + across]
        values = _part(matrix, rows, columns)
        same = np.array(rows)[:, None] == np.array(columns)[None, :]
        most = float(values[~same].max()) if (~same).any() else 0.0
        total = f"{len(order):,} classes"
        if across < len(order):
            total = f"{left + 1}-{left + across} of {len(order):,}"
        lines: list[list[Piece]] = [
            [(f"columns: {axes[1]}", "faint")],
            *self._columns([names[label] for label in columns], columns.index(pair[1]), head, wide, letters),
        ]
        for label, line, own in zip(rows, values.tolist(), same.tolist(), strict=True):
            marked = label == pair[0]
            for part in range(high):
                name = fit(names[label], head) if part == 0 else " " * head
                pieces: list[Piece] = [(name, "key" if marked else "plain"), (" ", "plain")]
                for other, value, diagonal in zip(columns, line, own, strict=True):
                    if diagonal:
                        pieces.append((("╲" if part == 0 else "").ljust(wide), "rule"))
                        continue
                    last = part == high - 1
                    pieces.append(
                        self._cell(value, most, wide, last, last and high > 1, marked and other == pair[1])
                    )
                lines.append(_joined(pieces))
        lines += [[(f"rows: {axes[0]}; {total}", "faint")], self._legend(measure, most)]
        self.show(lines)

    def _columns(
        self, names: list[str], marked: int, head: int, wide: int, letters: int
    ) -> list[list[Piece]]:
        """Return the columns' names, written downwards where a column is narrow."""
        alike = shared(names) if any(len(name) > max(wide - 1, letters) for name in names) else 0
        cut = [name[alike:] or name for name in names]
        lines: list[list[Piece]] = []
        for line in range(letters):
            pieces: list[Piece] = [(" " * (head + 1), "plain")]
            for at, name in enumerate(cut):
                text = (
                    fit(name, wide - 1) + " "
                    if letters == 1
                    else fit(_downwards(name, letters)[line].strip(), wide)
                )
                pieces.append((text, "key" if at == marked else "faint"))
            lines.append(_joined(pieces))
        return lines

    def _cell(self, value: float, most: float, wide: int, last: bool, below: bool, marked: bool) -> Piece:
        """Return one line of a cell; its number stands in its last line where that is wide enough."""
        part = value / most if most else 0.0
        number = fraction(value).rjust(wide - 1) + " " if wide > 3 and last and value >= 0.005 else ""
        if self._colours:
            text, style = number or " " * wide, f"heat-{round(STEPS * part)}"
            if marked:
                text, style = (number or "◖◗".center(wide)), "caret" if number else "key"
            return text, style
        shade = SHADES[min(4, round(4 * part))] * wide
        text, style = (number, "plain") if number and below else (shade, "bar")
        if marked:
            text, style = ("◖◗", "key") if wide < 4 else (text, "caret" if text.strip(SHADES[4]) else "key")
        return text, style

    def _legend(self, measure: str, most: float) -> list[Piece]:
        """Return what the shades mean, from nothing to the largest value."""
        pieces: list[Piece] = [(f"{measure} ", "faint")]
        room = self.size.width - len(measure) - 1
        wide, gap = (2, " ") if room >= 4 * 8 else (1, "")
        for step in (1, 2, 3, 4):
            style = f"heat-{STEPS * step // 4}"
            shade: Piece = (" " * wide, style) if self._colours else (SHADES[step] * wide, "bar")
            pieces += [shade, (f"{gap}{fraction(most * step / 4)} ", "faint")]
        return pieces

    @property
    def _colours(self) -> bool:
        """Whether the terminal and the theme have more colours than can be told by shades."""
        return canvas_of(self.app).caps.colours in ("truecolor", "256") and not self.app.current_theme.ansi

    def _pen(self, row: str, name: str) -> Style:
        if not name.startswith("heat-"):
            return super()._pen(row, name)
        theme = self.app.theme_variables
        ground, peak = Color.parse(theme["background"]), Color.parse(theme["primary"])
        under = ground.blend(peak, int(name.removeprefix("heat-")) / STEPS)
        return Style(color=under.get_contrast_text(0.9).rich_color, bgcolor=under.rich_color)


def _downwards(name: str, letters: int) -> str:
    """Return a name as exactly so many characters, one for each line."""
    return (name if len(name) <= letters else name[: letters - 1] + "…").ljust(letters)


def _window(at: int, size: int, total: int) -> int:
    """Return where a window of `size` begins so that `at` is in its middle, as far as the ends allow."""
    return max(0, min(at - size // 2, total - size))


def _part(matrix: Any, rows: list[int], columns: list[int]) -> NDArray[np.float64]:
    part = matrix[rows][:, columns]
    return np.asarray(part.toarray() if hasattr(part, "toarray") else part, dtype=np.float64)


def _joined(pieces: list[Piece]) -> list[Piece]:
    joined: list[Piece] = []
    for text, style in pieces:
        if joined and joined[-1][1] == style:
            joined[-1] = (joined[-1][0] + text, style)
        else:
            joined.append((text, style))
    return joined
