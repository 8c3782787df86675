"""Images from plain characters, for terminals without colours or without Unicode."""

from __future__ import annotations

import numpy as np
from PIL import Image
from rich.segment import Segment
from textual.strip import Strip

from labeltui.graphics.base import WHOLE, Crop, TextImage, centred, plain, shrunk, text_size
from labeltui.graphics.capabilities import Cell

# Ink by the share of a cell that the glyph covers in common fixed-width fonts.
RAMP = np.array(list(" .:-=+*#%@"))


class AsciiEncoder:
    """Draws grey values with characters of more or less ink.

    Parameters
    ----------
    cell : Cell
        Only its shape matters.
    light : bool
        Whether the terminal's background is light: then ink is dark and the ramp is turned round.
    """

    kind = "ascii"

    def __init__(self, cell: Cell, light: bool = False) -> None:
        self.cell = cell
        self.light = light

    def encode(
        self, image: Image.Image, columns: int, rows: int, crop: Crop = WHOLE, budget: int | None = None
    ) -> TextImage:
        """See `labeltui.graphics.base.Encoder.encode`."""
        image = plain(image, crop).convert("L")
        area = columns, rows
        while True:
            width, height = text_size(image.size, *area, self.cell, 1)
            if budget is None or width * height <= budget or area == (1, 1):
                break
            area = shrunk(*area, budget / (width * height))
        shrinks = width < image.width or height < image.height
        grey = np.asarray(
            image.resize((width, height), Image.Resampling.BOX if shrinks else Image.Resampling.NEAREST),
            np.float64,
        )
        low, high = grey.min(), grey.max()  # ten steps are few: use all of them
        level = (grey - low) / (high - low) if high > low else grey / 255
        if self.light:
            level = 1 - level
        glyphs = RAMP[np.minimum((level * len(RAMP)).astype(np.int64), len(RAMP) - 1)]
        strips = tuple(Strip([Segment("".join(line))], width) for line in glyphs.tolist())
        return TextImage(
            kind=self.kind,
            area=(columns, rows),
            box=centred(columns, rows, width, height),
            pixels=(width * self.cell.width, height * self.cell.height),
            strips=strips,
            sent=width * height,
        )
