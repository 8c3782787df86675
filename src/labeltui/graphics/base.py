"""What all image encoders share: where an image goes, and what an encoder hands back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from PIL import Image
from textual.strip import Strip

from labeltui.graphics.capabilities import Cell

WHOLE = (0.0, 0.0, 1.0, 1.0)
"""The crop that shows all of an image."""

Crop = tuple[float, float, float, float]
"""Left, top, right and bottom of the part to show, as shares of the image's width and height."""


class Box(NamedTuple):
    """A rectangle of cells: column and row of its upper left corner, then its size."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Encoded:
    """One image, ready to be shown in the middle of its area.

    Attributes
    ----------
    kind : str
        The encoder's kind.
    area : tuple of int
        Columns and rows of the area that it was made for.
    box : Box
        The cells that the image touches, relative to the area's upper left corner.
    pixels : tuple of int
        Width and height in the terminal's pixels (for text: the cells' pixels), before rounding up to cells.
    """

    kind: str
    area: tuple[int, int]
    box: Box
    pixels: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """About how many bytes of memory this holds, for the cache."""
        raise NotImplementedError

    @property
    def wire(self) -> int:
        """How many bytes showing all of it sends to the terminal."""
        raise NotImplementedError


@dataclass(frozen=True)
class TextImage(Encoded):
    """An image made of characters: one strip for each row of its box."""

    strips: tuple[Strip, ...]
    sent: int

    @property
    def nbytes(self) -> int:
        return 80 * self.box.width * self.box.height

    @property
    def wire(self) -> int:
        return self.sent


@dataclass(frozen=True)
class PixelImage(Encoded):
    """An image made of pixels, sent as an escape sequence at the cursor's place."""

    def draw(self, part: Box) -> str:
        """Return the escape data that shows `part` of the box, drawn from the cursor's cell.

        Parameters
        ----------
        part : Box
            Cells relative to the image's own box.
        """
        raise NotImplementedError


class Encoder(Protocol):
    """Turns an image into something that a terminal shows. Same input, same bytes."""

    kind: str

    def encode(
        self, image: Image.Image, columns: int, rows: int, crop: Crop = WHOLE, budget: int | None = None
    ) -> Encoded:
        """Fit an image into an area, keeping its shape.

        Parameters
        ----------
        image : PIL.Image.Image
            Of any mode; transparency is shown on grey.
        columns, rows : int
            Size of the area in cells, at least 1 each.
        crop : tuple of float
            The part of the image to show.
        budget : int, optional
            Most bytes that showing it may send; the image gets smaller until it fits, down to one cell.
        """
        ...


class SmoothEncoder:
    """Enlarges small images smoothly before another encoder draws them; without it a pixel stays a pixel.

    Parameters
    ----------
    encoder : Encoder
    cell : Cell
        Size of a cell in pixels.
    """

    def __init__(self, encoder: Encoder, cell: Cell) -> None:
        self.kind = encoder.kind
        self._encoder = encoder
        self.cell = cell

    def encode(
        self, image: Image.Image, columns: int, rows: int, crop: Crop = WHOLE, budget: int | None = None
    ) -> Encoded:
        """See `Encoder.encode`."""
        image = plain(image, crop)
        size = fit(*image.size, columns * self.cell.width, rows * self.cell.height)
        if size > image.size:
            image = image.resize(size, Image.Resampling.LANCZOS)
        return self._encoder.encode(image, columns, rows, budget=budget)


def fit(width: int, height: int, box_width: int, box_height: int) -> tuple[int, int]:
    """Return the largest size within a box that has the shape of `width` by `height`, at least 1 by 1.

    Parameters
    ----------
    width, height : int
        Shape of the image.
    box_width, box_height : int
        Size of the box.

    Returns
    -------
    width, height : int
    """
    scale = min(box_width / width, box_height / height)
    return max(1, min(box_width, round(width * scale))), max(1, min(box_height, round(height * scale)))


def plain(image: Image.Image, crop: Crop = WHOLE) -> Image.Image:
    """Return the shown part of an image as RGB.

    Sixteen-bit and floating-point images are scaled to their own range, transparent pixels lie on mid grey.

    Parameters
    ----------
    image : PIL.Image.Image
    crop : (float, float, float, float)
        Left, top, right, bottom of the part, as fractions of the image.

    Returns
    -------
    PIL.Image.Image
    """
    if crop != WHOLE:
        left, top, right, bottom = crop
        x0 = min(image.width - 1, max(0, round(left * image.width)))
        y0 = min(image.height - 1, max(0, round(top * image.height)))
        x1 = max(x0 + 1, min(image.width, round(right * image.width)))
        y1 = max(y0 + 1, min(image.height, round(bottom * image.height)))
        image = image.crop((x0, y0, x1, y1))
    if image.mode == "RGB":
        return image
    if image.mode[0] in "IF":
        low, high = image.getextrema()
        assert isinstance(low, (int, float))  # these modes have one band
        assert isinstance(high, (int, float))
        span = high - low
        image = image.convert("F").point(
            lambda value: value * (255 / span if span else 0) - (low * 255 / span if span else 0)
        )
        return image.convert("L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (128, 128, 128, 255))
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def reduce(image: Image.Image, width: int, height: int) -> Image.Image:
    """Shrink an image to `width` by `height` where it is larger; smaller sides are left as they are.

    Parameters
    ----------
    image : PIL.Image.Image
    width, height : int
        Pixels.

    Returns
    -------
    PIL.Image.Image
    """
    size = min(width, image.width), min(height, image.height)
    if size == image.size:
        return image
    return image.resize(size, Image.Resampling.BOX, reducing_gap=3.0)


def shrunk(columns: int, rows: int, share: float) -> tuple[int, int]:
    """Return a smaller area for an image that exceeded its budget of bytes; one cell at least.

    Parameters
    ----------
    columns, rows : int
        Current area in cells.
    share : float
        Budget divided by the bytes sent, below 1.

    Returns
    -------
    columns, rows : int
    """
    scale = min(0.95, share**0.5)
    smaller = max(1, int(columns * scale)), max(1, int(rows * scale))
    return smaller if smaller != (columns, rows) else (max(1, columns - 1), max(1, rows - 1))


def centred(columns: int, rows: int, width: int, height: int) -> Box:
    """Return the box of `width` by `height` cells in the middle of an area.

    Parameters
    ----------
    columns, rows : int
        Size of the area in cells.
    width, height : int
        Size of the box in cells.

    Returns
    -------
    Box
    """
    return Box((columns - width) // 2, (rows - height) // 2, width, height)


def cells(pixels: int, size: int) -> int:
    """Return how many cells of `size` pixels are touched by `pixels` pixels.

    Parameters
    ----------
    pixels : int
    size : int
        Pixels of a cell.

    Returns
    -------
    int
        At least 1.
    """
    return max(1, -(-pixels // size))


def text_size(
    image_size: tuple[int, int], columns: int, rows: int, cell: Cell, per_cell: int
) -> tuple[int, int]:
    """Return width and height of an image in dots: 1 across and `per_cell` down in each cell.

    Parameters
    ----------
    image_size : (int, int)
        Width and height in pixels.
    columns, rows : int
        Size of the area in cells.
    cell : Cell
        Size of a cell in pixels.
    per_cell : int
        Dots of a cell, one above the other.

    Returns
    -------
    width, height : int
        Dots.
    """
    width, height = fit(*image_size, columns * cell.width, rows * cell.height)
    dots = max(1, round(width / cell.width)), max(1, round(height * per_cell / cell.height))
    return min(columns, dots[0]), min(rows * per_cell, dots[1])
