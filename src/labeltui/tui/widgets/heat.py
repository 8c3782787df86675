"""A matrix of class pairs as shades: of any number of classes, the part around the pair looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeltui.tui.widgets.paint import Lines, Piece, fit

SHADES = (" ", "░", "▒", "▓", "█")
"""Five steps that are told apart without colour."""


class Heat(Lines):
    """Rows and columns are classes in one order; a cell's shade is its value over the largest one shown."""

    def draw(self, matrix: Any, order: list[int], names: list[str], pair: tuple[int, int]) -> None:
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
        """
        width, height = self.size
        head = min(14, max(4, width // 4))
        across = max(1, min(len(order), (width - head - 2) // 2))
        down = max(1, min(len(order), height - 2))
        place = {label: at for at, label in enumerate(order)}
        row, column = place.get(pair[0], 0), place.get(pair[1], 0)
        top, left = _window(row, down, len(order)), _window(column, across, len(order))
        rows, columns = order[top : top + down], order[left : left + across]
        values = _part(matrix, rows, columns)
        same = np.array(rows)[:, None] == np.array(columns)[None, :]
        most = float(values[~same].max()) if (~same).any() else 0.0
        shown = (
            f"{len(order):,} classes"
            if across >= len(order)
            else f"{left + 1:,} to {left + across:,} of {len(order):,}"
        )
        lines: list[list[Piece]] = [
            [(fit(shown, head), "faint"), (" ", "plain"), *_heads(columns, names, pair[1])]
        ]
        for label, line, own in zip(rows, values, same, strict=True):
            marked = label == pair[0]
            pieces: list[Piece] = [(fit(names[label], head), "key" if marked else "plain"), (" ", "plain")]
            for other, value, diagonal in zip(columns, line.tolist(), own.tolist(), strict=True):
                shade = SHADES[min(4, round(4 * value / most))] if most else " "
                cell = "╲ " if diagonal else shade * 2
                here = marked and other == pair[1]
                pieces.append(("◖◗" if here else cell, "caret" if here else "rule" if diagonal else "bar"))
            lines.append(_joined(pieces))
        lines.append([(f"{SHADES[1] * 2} {most / 4:.2f}  {SHADES[4] * 2} {most:.2f}", "faint")])
        self.show(lines)


def _window(at: int, size: int, total: int) -> int:
    """Return where a window of `size` begins so that `at` is in its middle, as far as the ends allow."""
    return max(0, min(at - size // 2, total - size))


def _part(matrix: Any, rows: list[int], columns: list[int]) -> NDArray[np.float64]:
    part = matrix[rows][:, columns]
    return np.asarray(part.toarray() if hasattr(part, "toarray") else part, dtype=np.float64)


def _heads(columns: list[int], names: list[str], marked: int) -> list[Piece]:
    return [
        (fit(names[label], 2).replace("…", " "), "key" if label == marked else "faint") for label in columns
    ]


def _joined(pieces: list[Piece]) -> list[Piece]:
    joined: list[Piece] = []
    for text, style in pieces:
        if joined and joined[-1][1] == style:
            joined[-1] = (joined[-1][0] + text, style)
        else:
            joined.append((text, style))
    return joined
