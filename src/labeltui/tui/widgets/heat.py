"""A matrix of class pairs as shades: of any number of classes, the part around the pair looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeltui.tui.widgets.paint import Lines, Piece, fit, number, shared

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
        wide = max(2, min(6, (width - head - 2) // max(1, len(order))))
        high = max(1, min(3, (height - 2) // max(1, len(order)), wide // 2))
        across = max(1, min(len(order), (width - head - 2) // wide))
        down = max(1, min(len(order), (height - 2) // high))
        place = {label: at for at, label in enumerate(order)}
        row, column = place.get(pair[0], 0), place.get(pair[1], 0)
        top, left = _window(row, down, len(order)), _window(column, across, len(order))
        rows, columns = order[top : top + down], order[left : left + across]
        values = _part(matrix, rows, columns)
        same = np.array(rows)[:, None] == np.array(columns)[None, :]
        most = float(values[~same].max()) if (~same).any() else 0.0
        total = f"{len(order):,}"
        shown = f"{total} classes" if across >= len(order) else f"{left + 1}-{left + across} of {len(order)}"
        alike = shared([names[label] for label in columns])
        heads: list[Piece] = [(fit(shown, head), "faint"), (" ", "plain")]
        for label in columns:
            head_text = names[label] if len(names[label]) < wide else names[label][alike:]
            heads.append((fit(head_text[: wide - 1], wide), "key" if label == pair[1] else "faint"))
        lines: list[list[Piece]] = [_joined(heads)]
        for label, line, own in zip(rows, values.tolist(), same.tolist(), strict=True):
            marked = label == pair[0]
            for part in range(high):
                name = fit(names[label], head) if part == 0 else " " * head
                pieces: list[Piece] = [(name, "key" if marked else "plain"), (" ", "plain")]
                for other, value, diagonal in zip(columns, line, own, strict=True):
                    shade = SHADES[min(4, round(4 * value / most))] if most else " "
                    text = ("╲" if part == 0 else "").ljust(wide) if diagonal else shade * wide
                    style = "rule" if diagonal else "bar"
                    if high > 1 and wide > 3 and part == high - 1 and not diagonal and value >= 0.005:
                        text, style = number(value).rjust(wide - 1) + " ", "plain"
                    if marked and other == pair[1]:
                        text, style = (
                            ("◖◗", "key") if wide < 4 else (text, "caret" if text.strip(SHADES[4]) else "key")
                        )
                    pieces.append((text, style))
                lines.append(_joined(pieces))
        lines.append([(f"{SHADES[1] * 2} {number(most / 4)}  {SHADES[4] * 2} {number(most)}", "faint")])
        self.show(lines)


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
