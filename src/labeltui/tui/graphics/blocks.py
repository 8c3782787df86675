"""Pictures from half blocks: two dots in each cell, coloured as foreground and background."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from PIL import Image
from rich.color import Color
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from labeltui.tui.graphics.base import WHOLE, Crop, TextPicture, centred, plain, shrunk, text_size
from labeltui.tui.graphics.capabilities import Cell

UPPER, LOWER, FULL = "▀", "▄", "█"

# The sixteen colours as xterm shows them; other terminals differ a little, which dithering hides.
SIXTEEN = (
    (0, 0, 0), (205, 0, 0), (0, 205, 0), (205, 205, 0),
    (0, 0, 238), (205, 0, 205), (0, 205, 205), (229, 229, 229),
    (127, 127, 127), (255, 0, 0), (0, 255, 0), (255, 255, 0),
    (92, 92, 255), (255, 0, 255), (0, 255, 255), (255, 255, 255),
)  # fmt: skip
LEVELS = (0, 95, 135, 175, 215, 255)
# Colours 16..255 only: the first sixteen are whatever the person's theme says.
CUBE = tuple((r, g, b) for r in LEVELS for g in LEVELS for b in LEVELS) + tuple(
    (v, v, v) for v in range(8, 248, 10)
)


class CompactStrip(Strip):
    """A strip that sends only what changes from cell to cell.

    Textual resets the style after each segment, which costs half of a picture's bytes. Where a strip has to
    be cut, Textual makes ordinary ones from the segments, and the picture looks the same.

    A privacy message, which terminals ignore, names its cells and stands at its end: there is nothing to gain from
    taking it apart again, so `labeltui.tui.wire` sends it as it is, or not at all.
    """

    __slots__ = ["compact"]

    def __init__(self, segments: Iterable[Segment], cell_length: int, compact: str) -> None:
        super().__init__(segments, cell_length)
        self.compact = compact

    def render(self, console: Console) -> str:
        return f"\x1b^{self.cell_length}\x1b\\{self.compact}\x1b^\x1b\\"


class BlocksEncoder:
    """Draws half blocks.

    Parameters
    ----------
    cell : Cell
        Only its shape matters.
    colours : str
        ``truecolor``, ``256`` or ``16``; the last two are dithered.
    """

    kind = "blocks"

    def __init__(self, cell: Cell, colours: str = "truecolor") -> None:
        self.cell = cell
        self.colours = colours

    def encode(
        self, image: Image.Image, columns: int, rows: int, crop: Crop = WHOLE, budget: int | None = None
    ) -> TextPicture:
        """See `labeltui.tui.graphics.base.Encoder.encode`."""
        image = plain(image, crop)
        area = columns, rows
        while True:
            width, height = text_size(image.size, *area, self.cell, 2)
            strips = self._strips(image, width, height)
            sent = sum(len(strip.compact.encode()) for strip in strips)
            if budget is None or sent <= budget or area == (1, 1):
                break
            area = shrunk(*area, budget / sent)
        return TextPicture(
            kind=self.kind,
            area=(columns, rows),
            box=centred(columns, rows, width, len(strips)),
            pixels=(width * self.cell.width, height * self.cell.height // 2),
            strips=tuple(strips),
            sent=sent,
        )

    def _strips(self, image: Image.Image, width: int, height: int) -> list[CompactStrip]:
        dots = _resize(image, width, height)
        if height % 2:  # an odd last row of dots fills its cell
            dots = np.concatenate([dots, dots[-1:]])
        if self.colours == "truecolor":
            codes = dots.astype(np.int64) @ np.array([65536, 256, 1])
        else:
            codes = _dither(dots, SIXTEEN if self.colours == "16" else CUBE)
            codes += 0 if self.colours == "16" else 16
        pens = {int(code): _Pen(int(code), self.colours) for code in np.unique(codes)}
        rows = codes.tolist()
        return [_strip(rows[y], rows[y + 1], pens) for y in range(0, len(rows), 2)]


class _Pen:
    """One colour: its escape parameters and its Rich form."""

    __slots__ = ("back", "colour", "front")

    def __init__(self, code: int, colours: str) -> None:
        if colours == "truecolor":
            red, green, blue = code >> 16, code >> 8 & 255, code & 255
            self.front, self.back = f"38;2;{red};{green};{blue}", f"48;2;{red};{green};{blue}"
            self.colour = Color.from_rgb(red, green, blue)
        elif colours == "256":
            self.front, self.back = f"38;5;{code}", f"48;5;{code}"
            self.colour = Color.from_ansi(code)
        else:
            base = code if code < 8 else code + 52  # 30..37, then 90..97
            self.front, self.back = str(30 + base), str(40 + base)
            self.colour = Color.from_ansi(code)


def _strip(top: list[int], bottom: list[int], pens: dict[int, _Pen]) -> CompactStrip:
    segments: list[Segment] = []
    out: list[str] = []
    front = back = -1  # what the terminal's pen holds now
    styles: dict[tuple[int, int], Style] = {}
    for upper, lower in zip(top, bottom, strict=True):
        style = styles.get((upper, lower))
        if style is None:
            style = styles[upper, lower] = Style(color=pens[upper].colour, bgcolor=pens[lower].colour)
        if segments and segments[-1].style is style:
            segments[-1] = Segment(segments[-1].text + UPPER, style)
        else:
            segments.append(Segment(UPPER, style))
        # Of all ways to draw the cell take the one that changes least.
        if upper == lower:
            if back == upper:
                out.append(" ")
            elif front == upper:
                out.append(FULL)
            else:
                out.append(f"\x1b[{pens[upper].back}m ")
                back = upper
        else:
            if (front == lower) + (back == upper) > (front == upper) + (back == lower):
                glyph, fore, ground = LOWER, lower, upper
            else:
                glyph, fore, ground = UPPER, upper, lower
            change = [pens[fore].front] if front != fore else []
            if back != ground:
                change.append(pens[ground].back)
            if change:
                out.append(f"\x1b[{';'.join(change)}m")
            out.append(glyph)
            front, back = fore, ground
    out.append("\x1b[0m")
    return CompactStrip(segments, len(top), "".join(out))


def _resize(image: Image.Image, width: int, height: int) -> np.ndarray:
    # Shrinking averages; growing repeats, so that a pixel of a small sample stays a pixel.
    for size in ((min(width, image.width), min(height, image.height)), (width, height)):
        if size != image.size:
            shrinks = size[0] < image.width or size[1] < image.height
            image = image.resize(size, Image.Resampling.BOX if shrinks else Image.Resampling.NEAREST)
    return np.asarray(image)


def _dither(dots: np.ndarray, palette: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    table = Image.new("P", (1, 1))
    flat = [value for colour in palette for value in colour]
    table.putpalette(flat + flat[:3] * (256 - len(palette)))
    drawn = Image.fromarray(dots).quantize(palette=table, dither=Image.Dither.FLOYDSTEINBERG)
    codes = np.asarray(drawn).astype(np.int64)
    return np.where(codes < len(palette), codes, 0)
