"""Text of a given width in cells: cutting, padding, sharing a line."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from rich.cells import cell_len, set_cell_size

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
