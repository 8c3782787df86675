"""Pixels above cells: which cells of a picture may be seen, which still hold its pixels, what has to be sent.

Text and pixels share the screen, and each terminal family mixes them in its own way:

* sixel: writing a character wipes the pixels of its cell, so pixels must follow the text, and cells that no
character
  was written to keep theirs;
* kitty: placements lie above the text until they are taken away by name.

A painter keeps account of what the terminal shows and turns the difference to what it should show into escape
data. Nothing that is already there is sent again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from textual._compositor import ChopsUpdate, CompositorUpdate
from textual.geometry import Region

from labeltui.tui.graphics.base import Box, PixelPicture
from labeltui.tui.graphics.kitty import KittyPicture, delete, remove

Span = tuple[int, int, int]
"""Row, first column, and the column behind the last, of cells that a frame writes."""
Mask = NDArray[np.bool_]

IMAGES = 256
"""How many pictures a kitty terminal is asked to keep."""
FIRST_IMAGE = 0x6C740000


@dataclass(frozen=True, eq=False)
class Target:
    """Where a picture should be.

    Attributes
    ----------
    picture : PixelPicture
    x, y : int
        Screen column and row of its box's upper left corner; may be negative.
    visible : (box height, box width) bool
        The cells that nothing covers.
    """

    picture: PixelPicture
    x: int
    y: int
    visible: Mask


def written(update: CompositorUpdate | None, size: tuple[int, int]) -> list[Span] | None:
    """Return the cells that one of Textual's frames writes; None means all of them.

    A partial frame repaints spans, but begins each with the whole piece of line that the span begins in.
    """
    if update is None:
        return []
    if not isinstance(update, ChopsUpdate):
        return None
    spans: list[Span] = []
    for y, x1, x2 in update.spans:
        for end, (x, strip) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
            if strip is not None and x <= x2 and end > x1 and min(end, x2) > x:
                spans.append((y, x, min(end, x2)))
    return spans


def visible(box: Region, clip: Region, covers: Iterable[Region]) -> Mask:
    """Return which cells of `box` lie within `clip` and under none of `covers`."""
    mask = np.zeros((box.height, box.width), np.bool_)
    _fill(mask, box, clip, True)
    for cover in covers:
        _fill(mask, box, cover, False)
    return mask


def _fill(mask: Mask, box: Region, region: Region, value: bool) -> None:
    inner = box.intersection(region)
    if inner:
        x, y = inner.x - box.x, inner.y - box.y
        mask[y : y + inner.height, x : x + inner.width] = value


def rectangles(mask: Mask) -> list[Box]:
    """Cut a set of cells into few rectangles: equal runs of neighbouring rows are joined."""
    done: list[Box] = []
    growing: dict[tuple[int, int], int] = {}  # (first, end) -> the row that the rectangle begins in
    for y in range(mask.shape[0] + 1):
        runs: set[tuple[int, int]] = set()
        if y < mask.shape[0]:
            steps = np.flatnonzero(np.diff(mask[y], prepend=False, append=False))
            runs = set(zip(steps[::2].tolist(), steps[1::2].tolist(), strict=True))
        for run in [run for run in growing if run not in runs]:
            top = growing.pop(run)
            done.append(Box(run[0], top, run[1] - run[0], y - top))
        for run in runs:
            growing.setdefault(run, y)
    return sorted(done, key=lambda box: (box.y, box.x))


class Painter(Protocol):
    """Keeps account of the pixels on the screen."""

    def frame(
        self, targets: Mapping[Hashable, Target], spans: Sequence[Span] | None, size: tuple[int, int]
    ) -> str:
        """Return what has to follow the text of a frame.

        Parameters
        ----------
        targets : mapping
            Where each picture should be, by a name that stays with it.
        spans : sequence of tuple, optional
            The cells that the frame's text writes; None means all.
        size : tuple of int
            Columns and rows of the screen.
        """
        ...

    def leftovers(self) -> list[Region]:
        """Return cells that still show pixels which belong to no picture now, and forget them."""
        ...

    def reset(self) -> str:
        """Take everything off the screen and forget it."""
        ...


@dataclass
class _Shown:
    picture: PixelPicture
    x: int
    y: int
    intact: Mask  # cells that hold the picture's pixels

    def write(self, spans: Sequence[Span] | None, fragile: bool) -> None:
        if spans is None:
            self.intact[:] = False
            return
        height, width = self.intact.shape
        for y, x1, x2 in spans:
            row, first, end = y - self.y, max(0, x1 - self.x), min(width, x2 - self.x)
            if 0 <= row < height and first < end:
                if fragile:
                    self.intact[:] = False
                    return
                self.intact[row, first:end] = False


class SixelPainter:
    """Draws sixels over cells that hold none.

    Parameters
    ----------
    fragile : bool
        Whether one character within a picture wipes all of it, as tmux does.
    """

    def __init__(self, fragile: bool = False) -> None:
        self._fragile = fragile
        self._shown: dict[Hashable, _Shown] = {}
        self._left: list[Region] = []

    def frame(
        self, targets: Mapping[Hashable, Target], spans: Sequence[Span] | None, size: tuple[int, int]
    ) -> str:
        """See `Painter.frame`."""
        out: list[str] = []
        for name in [name for name in self._shown if name not in targets]:
            gone = self._shown.pop(name)
            gone.write(spans, self._fragile)
            self._leave(gone, np.zeros_like(gone.intact))
        for name, target in targets.items():
            shown = self._shown.get(name)
            if shown is not None:
                shown.write(spans, self._fragile)
                if shown.picture is not target.picture or (shown.x, shown.y) != (target.x, target.y):
                    same_cells = shown.picture.box == target.picture.box and (shown.x, shown.y) == (
                        target.x,
                        target.y,
                    )
                    if not (same_cells and shown.picture.pixels == target.picture.pixels):
                        self._leave(shown, np.zeros_like(shown.intact))
                    shown = None
            if shown is None:
                shown = _Shown(target.picture, target.x, target.y, np.zeros(target.visible.shape, np.bool_))
                self._shown[name] = shown
            self._leave(shown, target.visible)
            shown.intact &= target.visible
            wanted = target.visible & ~shown.intact
            last = size[1] - 1 - target.y  # the screen's last row: terminals scroll after drawing there
            if 0 <= last < len(wanted):
                wanted[last:] = False
            if wanted.any():
                for part in rectangles(wanted):
                    out.append(f"\x1b[{target.y + part.y + 1};{target.x + part.x + 1}H")
                    out.append(target.picture.draw(part))
                shown.intact |= wanted
        return "".join(out)

    def _leave(self, shown: _Shown, wanted: Mask) -> None:
        stale = shown.intact & ~wanted
        if stale.any():
            self._left += [Region(shown.x + b.x, shown.y + b.y, b.width, b.height) for b in rectangles(stale)]

    def leftovers(self) -> list[Region]:
        """See `Painter.leftovers`."""
        left, self._left = self._left, []
        return left

    def reset(self) -> str:
        """See `Painter.reset`; the characters written next wipe the pixels."""
        self._shown.clear()
        self._left.clear()
        return ""


class KittyPainter:
    """Places and removes pictures by number; each is transmitted once."""

    def __init__(self) -> None:
        # What the terminal keeps, and under which number.
        self._images: OrderedDict[KittyPicture, int] = OrderedDict()
        self._next_image = FIRST_IMAGE
        self._next_placement = 1
        self._placed: dict[Hashable, tuple[KittyPicture, int, int, list[Box], list[int]]] = {}

    def frame(
        self, targets: Mapping[Hashable, Target], spans: Sequence[Span] | None, size: tuple[int, int]
    ) -> str:
        """See `Painter.frame`; text does not touch placements."""
        out: list[str] = []
        old: list[str] = []
        for name in [name for name in self._placed if name not in targets]:
            old += self._take(name)
        for name, target in targets.items():
            picture = target.picture
            assert isinstance(picture, KittyPicture)
            parts = rectangles(target.visible)
            placed = self._placed.get(name)
            if placed is not None and placed[:4] == (picture, target.x, target.y, parts):
                continue
            if placed is not None:
                old += self._take(name)
            numbers: list[int] = []
            if parts:
                image = self._image(picture, out)
                for part in parts:
                    out.append(f"\x1b[{target.y + part.y + 1};{target.x + part.x + 1}H")
                    out.append(picture.place(image, self._next_placement, part))
                    numbers.append(self._next_placement)
                    self._next_placement += 1
            self._placed[name] = picture, target.x, target.y, parts, numbers
        # The old ones go last: a picture is replaced without a gap.
        return "".join(out + old + self._forget())

    def _take(self, name: Hashable) -> list[str]:
        picture, _, _, _, numbers = self._placed.pop(name)
        return [remove(self._images[picture], number) for number in numbers]

    def _image(self, picture: KittyPicture, out: list[str]) -> int:
        number = self._images.get(picture)
        if number is None:
            number = self._images[picture] = self._next_image
            self._next_image += 1
            out.append(picture.transmit(number))
        self._images.move_to_end(picture)
        return number

    def _forget(self) -> list[str]:
        excess = len(self._images) - IMAGES
        if excess <= 0:
            return []
        used = {placed[0] for placed in self._placed.values()}
        return [delete(self._images.pop(old)) for old in [p for p in self._images if p not in used][:excess]]

    def leftovers(self) -> list[Region]:
        """See `Painter.leftovers`; there are none, for placements are removed by name."""
        return []

    def reset(self) -> str:
        """See `Painter.reset`."""
        out = "".join(delete(number) for number in self._images.values())
        self._images.clear()
        self._placed.clear()
        return out
