"""A terminal of the tests' own: it reads what an app writes, and knows which character and which pixel is where.

It is strict where real terminals differ: text wipes the sixels of its cell, kitty placements stay until removed, a
sixel that reaches the last row scrolls the screen.
"""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.cells import cell_len

_TOKEN = re.compile(
    r"\x1bP(?P<dcs>.*?)\x1b\\"
    r"|\x1b_G(?P<apc>.*?)\x1b\\"
    r"|\x1b\[(?P<args>[\x30-\x3f]*)(?P<middle>[\x20-\x2f]*)(?P<final>[\x40-\x7e])"
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|\x1b(?P<escape>[^\[P_\]])"
    r"|(?P<control>[\x00-\x1a\x1c-\x1f])"
    r"|(?P<text>[^\x00-\x1f\x1b]+)",
    re.DOTALL,
)
Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def decode_sixel(data: str) -> tuple[Pixels, Mask]:
    """Decode one whole sixel sequence.

    Returns
    -------
    tuple of ndarray
        (height, width, 3) colours and (height, width) bool, which pixels were drawn.
    """
    assert data.startswith("\x1bP")
    assert data.endswith("\x1b\\")
    head, _, body = data[2:-2].partition("q")
    assert re.fullmatch(r"[\d;]*", head)
    raster = re.match(r'"(\d+);(\d+);(\d+);(\d+)', body)
    assert raster is not None
    assert raster[1] == raster[2], "pixels must be as high as wide"
    width, height = int(raster[3]), int(raster[4])
    colours: dict[int, tuple[int, int, int]] = {}
    pixels = np.zeros((height, width, 3), np.uint8)
    drawn = np.zeros((height, width), np.bool_)
    x = y = pen = 0
    for match in re.finditer(
        r"#(\d+)(?:;2;(\d+);(\d+);(\d+))?|!(\d+)([?-~])|([?-~])|([$-])|(.)", body[raster.end() :]
    ):
        if match[9]:
            raise AssertionError(f"not a sixel: {match[9]!r}")
        if match[1]:
            pen = int(match[1])
            if match[2]:
                assert pen not in colours, "a colour is defined twice"
                colours[pen] = tuple(round(int(match[i]) * 255 / 100) for i in (2, 3, 4))  # type: ignore[assignment]
        elif match[8]:
            x = 0
            if match[8] == "-":
                y += 6
        else:
            length, bits = (int(match[5]), ord(match[6]) - 63) if match[5] else (1, ord(match[7]) - 63)
            for bit in range(6):
                if bits >> bit & 1:
                    assert y + bit < height, "drawn below the image"
                    assert x + length <= width, "drawn beside the image"
                    pixels[y + bit, x : x + length] = colours[pen]
                    drawn[y + bit, x : x + length] = True
            x += length
    return pixels, drawn


@dataclass
class Placement:
    """One image on the screen of a kitty terminal, in cells."""

    image: int
    x: int
    y: int
    columns: int
    rows: int


@dataclass
class Screen:
    """What one terminal shows.

    Attributes
    ----------
    columns, rows : int
    cell : tuple of int
        Width and height of a cell in pixels.
    """

    columns: int
    rows: int
    cell: tuple[int, int] = (10, 20)
    received: int = 0
    scrolled: bool = False
    images_received: int = 0
    image_bytes: int = 0
    images: dict[int, Image.Image] = field(default_factory=dict)
    transmissions: dict[int, int] = field(default_factory=dict)
    placements: dict[tuple[int, int], Placement] = field(default_factory=dict)
    queries: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clear()
        self._rest = ""
        self._chunks: tuple[int, str] | None = None

    def clear(self) -> None:
        """Wipe characters and sixels."""
        width, height = self.cell
        self.x = self.y = 0
        self.text = [[" "] * self.columns for _ in range(self.rows)]
        self.pixels = np.zeros((self.rows * height, self.columns * width, 3), np.uint8)
        self.drawn = np.zeros((self.rows * height, self.columns * width), np.bool_)

    def resize(self, columns: int, rows: int) -> None:
        """Change the size; what was on the screen is garbled, so that only a full repaint is right."""
        self.columns, self.rows = columns, rows
        self.clear()
        self.drawn[:] = True

    def feed(self, data: str) -> None:
        """Read what an app wrote."""
        self.received += len(data.encode())
        data = self._rest + data
        position = 0
        while position < len(data):
            match = _TOKEN.match(data, position)
            if match is None:
                break  # a sequence that goes on in the next write
            position = match.end()
            self._token(match)
        self._rest = data[position:]

    def row(self, y: int) -> str:
        """Return one row's characters."""
        return "".join(self.text[y])

    def has_pixels(self) -> Mask:
        """Return the cells that show any pixel, of either protocol."""
        width, height = self.cell
        cells: Mask = self.drawn.reshape(self.rows, height, self.columns, width).any(axis=(1, 3))
        cells = cells.copy()
        for p in self.placements.values():
            assert p.x >= 0
            assert p.y >= 0
            assert p.x + p.columns <= self.columns
            assert p.y + p.rows <= self.rows
            cells[p.y : p.y + p.rows, p.x : p.x + p.columns] = True
        return cells

    def _token(self, match: re.Match[str]) -> None:
        if match["text"] is not None:
            for character in match["text"]:
                self._put(character)
        elif match["dcs"] is not None:
            if "q" in match["dcs"]:
                self._sixel(match[0])
            else:
                self.queries.append(match[0])
        elif match["apc"] is not None:
            self._kitty(match["apc"])
        elif match["final"] is not None:
            self._csi(match["args"], match["middle"], match["final"], match[0])
        elif match["control"] == "\n":
            self.x = 0  # the line discipline turns it into both
            self.y = min(self.rows - 1, self.y + 1)
        elif match["control"] == "\r":
            self.x = 0

    def _put(self, character: str) -> None:
        size = cell_len(character)
        if self.x + size > self.columns:
            return  # line wrap is off
        width, height = self.cell
        self.text[self.y][self.x] = character
        self.drawn[self.y * height : (self.y + 1) * height, self.x * width : (self.x + size) * width] = False
        self.x += size

    def _csi(self, args: str, middle: str, final: str, whole: str) -> None:
        numbers = [int(part) if part.isdigit() else 0 for part in args.split(";")]
        if final == "H" and not middle:
            row, column = [*numbers, 1, 1][:2] if args else (1, 1)
            assert row >= 1, "the cursor left the screen"
            assert column >= 1, "the cursor left the screen"
            self.y, self.x = min(self.rows, row) - 1, min(self.columns, column) - 1
        elif final == "C" and not middle:
            self.x = min(self.columns - 1, self.x + max(1, numbers[0]))
        elif (final == "J" and not middle) or (final == "h" and args == "?1049"):
            self.clear()
        elif final in "ct" or (final in "Sqp" and (args or middle)):
            self.queries.append(whole)

    def _sixel(self, data: str) -> None:
        self.images_received += 1
        self.image_bytes += len(data)
        pixels, drawn = decode_sixel(data)
        height, width = drawn.shape
        top, left = self.y * self.cell[1], self.x * self.cell[0]
        assert left + width <= self.columns * self.cell[0], "an image runs out of the screen"
        if -(-(top + height) // self.cell[1]) >= self.rows:
            self.scrolled = True
        area = slice(top, top + height), slice(left, left + width)
        self.pixels[area][drawn] = pixels[drawn]
        self.drawn[area] |= drawn

    def _kitty(self, data: str) -> None:
        keys, _, payload = data.partition(";")
        values = dict(part.split("=", 1) for part in keys.split(","))
        if self._chunks is not None:
            image, start = self._chunks
            payload = start + payload
            values = {"a": "t", "i": str(image), "f": "100", **values}
        action = values.get("a", "t")
        if action == "q":
            self.queries.append(data)
            return
        assert values.get("q") == "2", "answers would come as keys"
        image = int(values["i"])
        if action == "t":
            if values.get("m") == "1":
                self._chunks = image, payload
                return
            self._chunks = None
            self.images_received += 1
            self.image_bytes += len(payload)
            self.images[image] = Image.open(io.BytesIO(base64.b64decode(payload, validate=True))).convert(
                "RGB"
            )
            self.transmissions[image] = self.transmissions.get(image, 0) + 1
        elif action == "p":
            assert image in self.images, "placed before it was sent"
            assert values["C"] == "1"
            placement = Placement(image, self.x, self.y, int(values["c"]), int(values["r"]))
            self.placements[image, int(values["p"])] = placement
        elif action == "d" and values["d"] == "i":
            self.placements.pop((image, int(values["p"])))
        elif action == "d" and values["d"] == "I":
            self.placements = {key: p for key, p in self.placements.items() if key[0] != image}
            self.images.pop(image)
        else:
            raise AssertionError(f"not understood: {data[:60]}")
