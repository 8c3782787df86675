"""Lines of cells that are sent as they are, and taken apart only where somebody cuts them.

An image of half blocks has a thousand styles. As Rich's segments they cost more time than all else in a frame, and
collecting them as garbage stopped the program for 200 ms; hardly any of them is ever looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.color import Color
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from labeltui.frames import usable
from labeltui.frames.strips import LazyStrip

UPPER = "▀"


def joined(parts: Sequence[Strip]) -> Strip:
    """Return strips side by side as one."""
    if len(parts) == 1:
        return parts[0]
    return Joined(parts) if usable() else Strip.join(parts)


class Joined(LazyStrip):
    """Strips side by side, each rendered its own way."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[Strip]) -> None:
        self._parts = parts
        super().__init__(sum(part.cell_length for part in parts))

    def segments(self) -> list[Segment]:
        return [segment for part in self._parts for segment in part]

    def render(self, console: Console) -> str:
        return "".join([part.render(console) for part in self._parts])


class HalfBlocks(LazyStrip):
    """A row of half blocks that sends only what changes from cell to cell.

    Textual resets the style after each segment, which costs half of an image's bytes. Where the strip has to be cut,
    Textual makes ordinary ones from the segments, and the image looks the same.

    A privacy message, which terminals ignore, names its cells and stands at its end: there is nothing to gain from
    taking it apart again, so `labeltui.frames` sends it as it is, or not at all.

    Parameters
    ----------
    dots : (2, columns) int32
        Colours: 0xRRGGBB, or numbers of the terminal's colours.
    truecolor : bool
        Which of the two.
    compact : str
        What is sent.
    """

    __slots__ = ("_dots", "_truecolor", "compact")

    def __init__(self, dots: NDArray[np.int32], truecolor: bool, compact: str) -> None:
        super().__init__(dots.shape[1])
        self._dots = dots
        self._truecolor = truecolor
        self.compact = compact

    def segments(self) -> list[Segment]:
        colours = {code: self._colour(code) for code in np.unique(self._dots).tolist()}
        return [
            Segment(UPPER, Style(color=colours[upper], bgcolor=colours[lower]))
            for upper, lower in zip(*self._dots.tolist(), strict=True)
        ]

    def _colour(self, code: int) -> Color:
        if self._truecolor:
            return Color.from_rgb(code >> 16, code >> 8 & 255, code & 255)
        return Color.from_ansi(code)

    def render(self, console: Console) -> str:
        return f"\x1b^{self.cell_length}\x1b\\{self.compact}\x1b^\x1b\\"
