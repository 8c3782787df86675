"""Images from half blocks: two dots in each cell, coloured as foreground and background."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from textual.strip import Strip

from labeltui._fast import blocks as kernel
from labeltui.frames import usable
from labeltui.graphics.base import WHOLE, Crop, TextImage, centred, plain, shrunk, text_size
from labeltui.graphics.capabilities import Cell
from labeltui.graphics.strips import HalfBlocks

KINDS = {"truecolor": kernel.TRUECOLOR, "256": kernel.INDEXED, "16": kernel.SIXTEEN}

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
    ) -> TextImage:
        """See `labeltui.graphics.base.Encoder.encode`."""
        image = plain(image, crop)
        area = columns, rows
        while True:
            width, height = text_size(image.size, *area, self.cell, 2)
            strips = self._strips(image, width, height)
            sent = sum(len(strip.compact.encode()) for strip in strips)
            if budget is None or sent <= budget or area == (1, 1):
                break
            area = shrunk(*area, budget / sent)
        return TextImage(
            kind=self.kind,
            area=(columns, rows),
            box=centred(columns, rows, width, len(strips)),
            pixels=(width * self.cell.width, height * self.cell.height // 2),
            strips=tuple(strips) if usable() else tuple(Strip(strip.segments(), width) for strip in strips),
            sent=sent,
        )

    def _strips(self, image: Image.Image, width: int, height: int) -> list[HalfBlocks]:
        dots = _resize(image, width, height)
        if height % 2:  # an odd last row of dots fills its cell
            dots = np.concatenate([dots, dots[-1:]])
        truecolor = self.colours == "truecolor"
        if truecolor:
            codes = dots.astype(np.int32) @ np.array([65536, 256, 1], np.int32)
        elif self.colours == "256":
            codes = _dither(dots, CUBE) + np.int32(16)
        else:
            codes = _dither(dots, SIXTEEN)
        rows = codes.reshape(-1, 2, width)
        lines = kernel.pack(codes, KINDS[self.colours])
        return [HalfBlocks(row, truecolor, line) for row, line in zip(rows, lines, strict=True)]


def _resize(image: Image.Image, width: int, height: int) -> NDArray[np.uint8]:
    # Shrinking averages; growing repeats, so that a pixel of a small sample stays a pixel.
    for size in ((min(width, image.width), min(height, image.height)), (width, height)):
        if size != image.size:
            shrinks = size[0] < image.width or size[1] < image.height
            image = image.resize(size, Image.Resampling.BOX if shrinks else Image.Resampling.NEAREST)
    return np.asarray(image)


def _dither(dots: NDArray[np.uint8], palette: tuple[tuple[int, int, int], ...]) -> NDArray[np.int32]:
    table = Image.new("P", (1, 1))
    flat = [value for colour in palette for value in colour]
    table.putpalette(flat + flat[:3] * (256 - len(palette)))
    drawn = Image.fromarray(dots).quantize(palette=table, dither=Image.Dither.FLOYDSTEINBERG)
    codes = np.asarray(drawn).astype(np.int32)
    return np.where(codes < len(palette), codes, np.int32(0))
