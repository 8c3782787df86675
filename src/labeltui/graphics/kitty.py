"""Images by kitty's graphics protocol: the terminal gets a PNG once, and scales it.

https://sw.kovidgoyal.net/kitty/graphics-protocol/ names the keys used here: ``a`` action, ``i`` image, ``p``
placement,
``c`` and ``r`` columns and rows, ``x y w h`` the part of the image, ``C=1`` leaves the cursor, ``q=2``
forbids answers.
"""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass

from PIL import Image

from labeltui.graphics.base import WHOLE, Box, Crop, PixelImage, centred, fit, plain, reduce, shrunk
from labeltui.graphics.capabilities import Cell

CHUNK = 4096


@dataclass(frozen=True)
class KittyImage(PixelImage):
    """A PNG and the cells that it fills.

    Attributes
    ----------
    size : tuple of int
        Width and height of the PNG.
    data : str
        The PNG in base64.
    """

    size: tuple[int, int]
    data: str

    @property
    def nbytes(self) -> int:
        return len(self.data) + 500

    @property
    def wire(self) -> int:
        return len(self.transmit(1)) + len(self.place(1, 1, Box(0, 0, self.box.width, self.box.height)))

    def draw(self, part: Box) -> str:
        """See `labeltui.graphics.base.PixelImage.draw`; under a fixed number."""
        return self.transmit(1) + self.place(1, 1, part)

    def transmit(self, image: int, action: str = "a=t") -> str:
        """Return the escape data that hands the PNG to the terminal under a number.

        Parameters
        ----------
        image : int
            The number.
        action : str
            Keys that say what the terminal shall do; ``a=t`` keeps it and shows nothing.
        """
        pieces = [self.data[start : start + CHUNK] for start in range(0, len(self.data), CHUNK)]
        out = []
        for position, piece in enumerate(pieces):
            more = int(position + 1 < len(pieces))
            keys = f"{action},f=100,i={image},q=2,m={more}" if position == 0 else f"m={more},q=2"
            out.append(f"\x1b_G{keys};{piece}\x1b\\")
        return "".join(out)

    def place(self, image: int, placement: int, part: Box) -> str:
        """Return the escape data that shows a part of a transmitted image at the cursor.

        Parameters
        ----------
        image : int
            Its id in the terminal.
        placement : int
            Id of the placement.
        part : Box
            Part to show, in cells of the image.

        Returns
        -------
        str
        """
        keys = f"a=p,i={image},p={placement},c={part.width},r={part.height},C=1,q=2"
        if (part.width, part.height) != (self.box.width, self.box.height):
            left, right = (round(at * self.size[0] / self.box.width) for at in (part.x, part.x + part.width))
            top, low = (round(at * self.size[1] / self.box.height) for at in (part.y, part.y + part.height))
            keys += f",x={left},y={top},w={max(1, right - left)},h={max(1, low - top)}"
        return f"\x1b_G{keys}\x1b\\"


def remove(image: int, placement: int) -> str:
    """Return the escape data that takes one placement off the screen; the image stays in the terminal.

    Parameters
    ----------
    image : int
        Its id in the terminal.
    placement : int
        Id of the placement.

    Returns
    -------
    str
    """
    return f"\x1b_Ga=d,d=i,i={image},p={placement},q=2\x1b\\"


def delete(image: int) -> str:
    """Return the escape data that frees an image and all its placements."""
    return f"\x1b_Ga=d,d=I,i={image},q=2\x1b\\"


class KittyEncoder:
    """Hands PNGs over; images larger than their area are reduced first.

    Parameters
    ----------
    cell : Cell
        Size of a cell in pixels.
    """

    kind = "kitty"

    def __init__(self, cell: Cell) -> None:
        self.cell = cell

    def encode(
        self, image: Image.Image, columns: int, rows: int, crop: Crop = WHOLE, budget: int | None = None
    ) -> KittyImage:
        """See `labeltui.graphics.base.Encoder.encode`."""
        image = plain(image, crop)
        area = columns, rows
        while True:
            encoded = self._encode(image, area, (columns, rows), reduced=area != (columns, rows))
            if budget is None or encoded.wire <= budget or area == (1, 1):
                return encoded
            area = shrunk(*area, budget / encoded.wire)

    def _encode(
        self, image: Image.Image, area: tuple[int, int], outer: tuple[int, int], reduced: bool
    ) -> KittyImage:
        width, height = fit(*image.size, area[0] * self.cell.width, area[1] * self.cell.height)
        if reduced:  # for the budget fewer pixels must be sent: shrink a small sample too
            share = math.sqrt(area[0] * area[1] / (outer[0] * outer[1]))
            width = min(width, max(1, round(image.width * share)))
            height = min(height, max(1, round(image.height * share)))
        small = reduce(image, width, height)
        columns, rows = self._grid(image.size, *area)
        with io.BytesIO() as file:
            small.save(file, "PNG", compress_level=4)  # higher levels: 8 times the time for 6 % less
            data = base64.standard_b64encode(file.getvalue()).decode("ascii")
        return KittyImage(
            kind=self.kind,
            area=outer,
            box=centred(*outer, columns, rows),
            pixels=(columns * self.cell.width, rows * self.cell.height),
            size=small.size,
            data=data,
        )

    def _grid(self, size: tuple[int, int], most_columns: int, most_rows: int) -> tuple[int, int]:
        """Return whole columns and rows whose shape is nearest to the image's."""
        width, height = fit(*size, most_columns * self.cell.width, most_rows * self.cell.height)
        columns, rows = width / self.cell.width, height / self.cell.height
        best, least = (1, 1), math.inf
        for c in {max(1, math.floor(columns)), min(most_columns, math.ceil(columns))}:
            for r in {max(1, math.floor(rows)), min(most_rows, math.ceil(rows))}:
                shape = (c * self.cell.width * size[1]) / (r * self.cell.height * size[0])
                error = abs(math.log(shape))
                if (error, -c * r) < (least, -best[0] * best[1]):
                    best, least = (c, r), error
        return best
