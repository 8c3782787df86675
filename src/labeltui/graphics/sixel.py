"""Images as sixels: pixels in bands of six lines, from a palette.

The image is reduced to few colours at its own size (or at the shown size where that is smaller), then its
pixels are repeated while packing. So a 32 x 32 sample costs what 32 x 32 pixels cost, however large it is
shown.

Two rules keep text and pixels apart: an image is never wider or higher than its cells, and its height is a
multiple of six wherever there is room for one band, since some terminals round up to whole bands and would
wipe the next row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labeltui._fast.sixel import calm, few_colours, pack, quantise
from labeltui.graphics.base import (
    WHOLE,
    Box,
    Crop,
    PixelImage,
    cells,
    centred,
    fit,
    plain,
    reduce,
    shrunk,
)
from labeltui.graphics.capabilities import Cell

BAND = 6
ALIGN = 0.06
"""An image may be this much smaller than its area if then each of its rows covers whole bands: the data
halves."""

TOLERANCE = 64, 128
"""How much a pixel's squared error may grow to be like its neighbour: 8 of 256 levels, 10 % fewer bytes; 11 levels in
images of more than `MANY` pixels, where a single one is hardly seen."""
MANY = 128 * 128


@dataclass(frozen=True, eq=False)
class SixelImage(PixelImage):
    """An image of few colours and how its pixels are repeated.

    Attributes
    ----------
    index : (height, width) uint8
        Colour numbers at the image's own size.
    palette : (colours, 3) uint8
    edges : (width + 1,) int32
        Column c covers the pixels from edges[c] up to edges[c + 1].
    lines : (pixel height,) int32
        The row that each line of pixels shows.
    cell : Cell
    whole : str
        Escape data of all of it.
    """

    index: NDArray[np.uint8]
    palette: NDArray[np.uint8]
    edges: NDArray[np.int32]
    lines: NDArray[np.int32]
    cell: Cell
    whole: str

    @property
    def nbytes(self) -> int:
        return len(self.whole) + self.index.nbytes + self.edges.nbytes + self.lines.nbytes + 1000

    @property
    def wire(self) -> int:
        return len(self.whole)

    def draw(self, part: Box) -> str:
        """See `labeltui.graphics.base.PixelImage.draw`."""
        if (part.x, part.y, part.width, part.height) == (0, 0, self.box.width, self.box.height):
            return self.whole
        x0, y0 = part.x * self.cell.width, part.y * self.cell.height
        x1, y1 = x0 + part.width * self.cell.width, y0 + part.height * self.cell.height
        edges = (np.clip(self.edges, x0, x1) - x0).astype(np.int32)
        lines = self.lines[y0:y1]
        if edges[-1] == 0 or not len(lines):
            return ""
        used = np.flatnonzero(np.diff(edges))
        first, last = int(used[0]), int(used[-1]) + 1
        index = np.ascontiguousarray(self.index[lines[0] : lines[-1] + 1, first:last])
        return _assemble(index, self.palette, np.ascontiguousarray(edges[first : last + 1]), lines - lines[0])


class SixelEncoder:
    """Draws sixels.

    Parameters
    ----------
    cell : Cell
        Size of a cell in pixels, as the terminal told it.
    registers : int
        Colours that one image may use, 2 to 256.
    geometry : tuple of int, optional
        Largest image in pixels.
    most_bytes : int, optional
        Longest sequence that the terminal (or tmux) accepts.
    """

    kind = "sixel"

    def __init__(
        self,
        cell: Cell,
        registers: int = 256,
        geometry: tuple[int, int] | None = None,
        most_bytes: int | None = None,
    ) -> None:
        self.cell = cell
        self.registers = registers
        self.geometry = geometry
        self.most_bytes = most_bytes

    def encode(
        self, image: Image.Image, columns: int, rows: int, crop: Crop = WHOLE, budget: int | None = None
    ) -> SixelImage:
        """See `labeltui.graphics.base.Encoder.encode`."""
        image = plain(image, crop)
        if self.most_bytes is not None:
            budget = self.most_bytes if budget is None else min(budget, self.most_bytes)
        area = columns, rows
        while True:
            encoded = self._encode(image, area, (columns, rows))
            if budget is None or encoded.wire <= budget or area == (1, 1):
                return encoded
            area = shrunk(*area, budget / encoded.wire)

    def _encode(self, image: Image.Image, area: tuple[int, int], outer: tuple[int, int]) -> SixelImage:
        most = area[0] * self.cell.width, area[1] * self.cell.height
        if self.geometry is not None:
            most = min(most[0], self.geometry[0]), min(most[1], self.geometry[1])
        width, height = _size(image.size, *most)
        small = reduce(image, width, height)
        pixels = np.ascontiguousarray(np.asarray(small).reshape(-1, 3))
        exact = few_colours(pixels, self.registers)
        palette, flat = exact or quantise(pixels, self.registers)
        if exact is None:
            calm(flat.reshape(small.height, small.width), pixels, palette, TOLERANCE[len(pixels) > MANY])
        # Frequent colours get short numbers.
        order = np.argsort(-np.bincount(flat, minlength=len(palette)), kind="stable")
        number = np.empty(len(order), np.uint8)
        number[order] = np.arange(len(order))
        palette = palette[order]
        index = number[flat].reshape(small.height, small.width)
        edges = (np.arange(small.width + 1) * width // small.width).astype(np.int32)
        lines = (np.arange(height) * small.height // height).astype(np.int32)
        return SixelImage(
            kind=self.kind,
            area=outer,
            box=centred(*outer, cells(width, self.cell.width), cells(height, self.cell.height)),
            pixels=(width, height),
            index=index,
            palette=palette,
            edges=edges,
            lines=lines,
            cell=self.cell,
            whole=_assemble(index, palette, edges, lines),
        )


def _size(image_size: tuple[int, int], box_width: int, box_height: int) -> tuple[int, int]:
    """Return the shown size: the largest that fits, of whole bands, aligned to them if that costs little."""
    limit = box_height // BAND * BAND or box_height
    width, height = fit(*image_size, box_width, limit)
    if height >= BAND:
        height -= height % BAND
        step = BAND * image_size[1]
        aligned = height // step * step
        if aligned >= height * (1 - ALIGN):
            height = aligned
        width = max(1, min(box_width, round(height * image_size[0] / image_size[1])))
    return width, height


def _assemble(
    index: NDArray[np.uint8], palette: NDArray[np.uint8], edges: NDArray[np.int32], lines: NDArray[np.int32]
) -> str:
    # Parameters: pixels as high as wide; what is not drawn stays as it is. Then the size, the colours, the
    # bands.
    out = [f'\x1bP7;1;q"1;1;{edges[-1]};{len(lines)}']
    used = np.unique(index)
    percent = (palette.astype(np.int64) * 100 + 127) // 255
    out += [f"#{k};2;{percent[k, 0]};{percent[k, 1]};{percent[k, 2]}" for k in used.tolist()]
    out.append(pack(index, edges, lines).decode("ascii"))
    out.append("\x1b\\")
    return "".join(out)
