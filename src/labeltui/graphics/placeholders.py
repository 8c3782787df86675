"""Images inside tmux: kitty's protocol with placeholders, which to tmux are ordinary characters.

The image goes past tmux to the terminal once. Where it is to be seen stand characters, U+10EEEE, the first of each line
with the row and the column of the image that it shows as combining characters; the image's number is the colour of the
characters, and a third combining character. So tmux moves, cuts and covers an image like any text.

https://sw.kovidgoyal.net/kitty/graphics-protocol/#unicode-placeholders
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

from PIL import Image
from rich.color import Color
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip

from labeltui.frames.strips import LazyStrip
from labeltui.graphics.base import WHOLE, Crop, TextImage, centred, shrunk
from labeltui.graphics.capabilities import Cell
from labeltui.graphics.kitty import KittyEncoder, KittyImage, delete
from labeltui.graphics.layer import PIXELS, Spans, Target
from labeltui.graphics.tmux import wrap

PLACEHOLDER = "\U0010eeee"
_RANGES = (
    "305 30d-30e 310 312 33d-33f 346 34a-34c 350-352 357 35b 363-36f 483-487 592-595 597-599 59c-5a1 5a8-5a9 5ab-5ac "
    "5af 5c4 610-617 657-65b 65d-65e 6d6-6dc 6df-6e2 6e4 6e7-6e8 6eb-6ec 730 732-733 735-736 73a 73d 73f-741 743 745 "
    "747 749-74a 7eb-7f1 7f3 816-819 81b-823 825-827 829-82d 951 953-954 f82-f83 f86-f87 135d-135f 17dd 193a 1a17 "
    "1a75-1a7c 1b6b 1b6d-1b73 1cd0-1cd2 1cda-1cdb 1ce0 1dc0-1dc1 1dc3-1dc9 1dcb-1dcc 1dd1-1ddf"
)
NUMERALS = tuple(
    chr(code)
    for part in _RANGES.split()
    for code in range(int(part.split("-")[0], 16), int(part.split("-")[-1], 16) + 1)
)
"""Combining characters that stand for the numbers 0, 1, 2 ...; the first 190 of the protocol's 297."""


@dataclass(frozen=True)
class PlaceholderImage(TextImage):
    """An image that the terminal keeps, and the characters in whose place it is drawn.

    Attributes
    ----------
    number : int
        Its number in the terminal.
    image : KittyImage
        What is handed over.
    """

    number: int
    image: KittyImage

    @property
    def nbytes(self) -> int:
        return super().nbytes + self.image.nbytes

    @property
    def handed_over(self) -> str:
        """Escape data that hands the image to the terminal and names its rows and columns."""
        return self.image.transmit(self.number, f"a=T,U=1,c={self.box.width},r={self.box.height}")


class Placeholders(LazyStrip):
    """Neighbouring placeholders of one row.

    Only the first names its row and column: the others follow it, and tmux sends a character with three combining
    ones as ten.

    Parameters
    ----------
    number : int
        Of the image.
    row : int
    columns : range
    """

    __slots__ = ("_columns", "_number", "_row")

    def __init__(self, number: int, row: int, columns: range) -> None:
        super().__init__(len(columns))
        self._number, self._row, self._columns = number, row, columns

    @property
    def _colour(self) -> tuple[int, int, int]:
        _, red, green, blue = self._number.to_bytes(4, "big")
        return red, green, blue

    @property
    def _cells(self) -> list[str]:
        first = (
            PLACEHOLDER + NUMERALS[self._row] + NUMERALS[self._columns.start] + NUMERALS[self._number >> 24]
        )
        return [first, *[PLACEHOLDER] * (len(self._columns) - 1)]

    def segments(self) -> list[Segment]:
        style = Style(color=Color.from_rgb(*self._colour))
        return [Segment(cell, style) for cell in self._cells]

    def crop(self, start: int, end: int | None = None) -> Strip:
        """Return some of the cells, the first of which names its place again.

        Parameters
        ----------
        start, end : int
            First cell, and the one behind the last; by default to the end.
        """
        columns = self._columns[slice(start, end)]
        return Placeholders(self._number, self._row, columns) if columns else Strip.blank(0)

    def divide(self, cuts: Iterable[int]) -> list[Strip]:
        """Return the parts between cuts, each as `crop` does."""
        ends = list(cuts)
        return [self.crop(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def render(self, console: Console) -> str:
        text = f"\x1b[38;2;{';'.join(map(str, self._colour))}m{''.join(self._cells)}\x1b[m"
        return f"\x1b^{self.cell_length}\x1b\\{text}\x1b^\x1b\\"


class PlaceholderEncoder:
    """Hands PNGs over as `KittyEncoder` does, and writes placeholders where they are to be seen.

    Parameters
    ----------
    cell : Cell
        Only its shape matters.
    """

    kind = "kitty"

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self._encoder = KittyEncoder(cell)

    def encode(
        self, image: Image.Image, columns: int, rows: int, crop: Crop = WHOLE, budget: int | None = None
    ) -> PlaceholderImage:
        """See `labeltui.graphics.base.Encoder.encode`."""
        area = min(columns, len(NUMERALS)), min(rows, len(NUMERALS))
        while True:
            room = None if budget is None else max(1, budget - area[1] * _line(area[0]))
            kitty = self._encoder.encode(image, *area, crop, room)
            encoded = self._with_placeholders(kitty, (columns, rows))
            if budget is None or encoded.wire <= budget or area == (1, 1):
                return encoded
            area = shrunk(*area, budget / encoded.wire)

    def _with_placeholders(self, kitty: KittyImage, outer: tuple[int, int]) -> PlaceholderImage:
        columns, rows = kitty.box.width, kitty.box.height
        # The same image has the same number in every program that the terminal shows: none takes another's away.
        digest = hashlib.blake2b(f"{columns} {rows} {kitty.data}".encode(), digest_size=8).digest()
        number = 1 + int.from_bytes(digest, "big") % (len(NUMERALS) * 2**24 - 1)
        return PlaceholderImage(
            kind=self.kind,
            area=outer,
            box=centred(*outer, columns, rows),
            pixels=kitty.pixels,
            strips=tuple(Placeholders(number, row, range(columns)) for row in range(rows)),
            sent=len(kitty.transmit(number)) + rows * _line(columns),
            number=number,
            image=kitty,
        )


def _line(columns: int) -> int:
    """Return the bytes of a line of placeholders: their colour, and the place of the first."""
    return 4 * columns + 30


class PlaceholderPainter:
    """Hands each image to the terminal once.

    Parameters
    ----------
    layers : int
        tmux servers that pass it on.
    """

    def __init__(self, layers: int) -> None:
        self._layers = layers
        self._handed: dict[int, KittyImage] = {}

    def holes(self, targets: Mapping[Hashable, Target]) -> Spans:
        """See `labeltui.graphics.layer.Painter.holes`; placeholders are text."""
        return {}

    def frame(self, targets: Mapping[Hashable, Target], spans: Spans | None, size: tuple[int, int]) -> str:
        """See `labeltui.graphics.layer.Painter.frame`; the terminal draws an image as soon as it has it."""
        out: list[str] = []
        shown: set[int] = set()
        for target in targets.values():
            image = target.image
            assert isinstance(image, PlaceholderImage)
            shown.add(image.number)
            if self._handed.get(image.number) != image.image:
                self._handed[image.number] = image.image
                out.append(self._wrapped(image.handed_over))
        if sum(image.size[0] * image.size[1] for image in self._handed.values()) > PIXELS:
            out.append(self._free(shown))
        return "".join(out)

    def _free(self, shown: set[int]) -> str:
        unused = [number for number in self._handed if number not in shown]
        for number in unused:
            del self._handed[number]
        return self._wrapped("".join(map(delete, unused)))

    def _wrapped(self, sequences: str) -> str:
        # One by one: tmux drops long ones.
        return "".join(wrap(f"{each}\x1b\\", self._layers) for each in sequences.split("\x1b\\")[:-1])

    def leftovers(self) -> list[Region]:
        """See `labeltui.graphics.layer.Painter.leftovers`; there are none."""
        return []

    def moved(self) -> str:
        """See `labeltui.graphics.layer.Painter.moved`; images move with their placeholders."""
        return ""

    def reset(self) -> str:
        """See `labeltui.graphics.layer.Painter.reset`."""
        return self._free(set())
