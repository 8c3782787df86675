"""Pixels above cells: which cells of an image may be seen, which still hold its pixels, what has to be sent.

Text and pixels share the screen, and each terminal family mixes them in its own way:

* sixel: writing a character wipes the pixels of its cell, so pixels must follow the text, and cells that no
  character was written to keep theirs;
* kitty: placements lie above the text until they are taken away by name.

A painter keeps account of what the terminal shows and turns the difference to what it should show into escape
data. Nothing that is already there is sent again: Textual likes to repaint the whole screen, so the cells under
good pixels are left out of its frames (the cursor steps over them).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from textual.geometry import Region
from textual.strip import Strip

from labeltui.frames.internals import ChopsUpdate, CompositorUpdate, LayoutUpdate
from labeltui.graphics.base import Box, Encoded, PixelImage
from labeltui.graphics.kitty import KittyImage, delete, remove
from labeltui.graphics.strips import Joined

Spans = dict[int, list[tuple[int, int]]]
"""Cells by row: first column, and the column behind the last."""
Mask = NDArray[np.bool_]

PIXELS = 16 << 20
"""How many pixels a kitty terminal is asked to keep: 64 MB, a fifth of what kitty grants a window."""
FIRST_IMAGE = 0x6C740000


@dataclass(frozen=True, eq=False)
class Target:
    """Where an image should be.

    Attributes
    ----------
    image : Encoded
    x, y : int
        Screen column and row of its box's upper left corner; may be negative.
    visible : (box height, box width) bool
        The cells that nothing covers.
    ground : hashable
        What the cells look like where the image leaves them free: their background.
    """

    image: Encoded
    x: int
    y: int
    visible: Mask
    ground: Hashable = None


def render(update: CompositorUpdate, holes: Spans, console: Console) -> tuple[str, Spans | None]:
    """Render one of Textual's frames without the cells in `holes`.

    Parameters
    ----------
    update : CompositorUpdate
    holes : dict of int to list of (int, int)
        Cells to leave out: spans of columns by line.
    console : Console

    Returns
    -------
    tuple
        The text, and the cells that it writes; None means all of them.
    """
    out: list[str] = []
    spans: Spans = {}

    def write(y: int, x: int, strip: Strip) -> None:
        end = x + strip.cell_length
        out.append(f"\x1b[{y + 1};{x + 1}H")
        position = x
        for first, last in holes.get(y, ()):
            first, last = max(first, position), min(last, end)
            if first < last:
                if first > position:
                    out.append(strip.crop(position - x, first - x).render(console))
                    spans.setdefault(y, []).append((position, first))
                out.append(f"\x1b[{last - first}C")
                position = last
        if position < end:
            out.append((strip if position == x else strip.crop(position - x, end - x)).render(console))
            spans.setdefault(y, []).append((position, end))

    if isinstance(update, LayoutUpdate):
        for y, line in enumerate(update.strips, update.region.y):
            write(y, update.region.x, Strip.join(line) if y in holes else Joined(list(line)))
    elif isinstance(update, ChopsUpdate):
        for y, x1, x2 in update.spans:
            for end, (x, strip) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
                # A span begins with the whole piece of line that it begins in, as in Textual's own rendering.
                if strip is not None and x < x2 and end > x1:
                    write(y, x, strip if x >= x1 and end <= x2 else strip.crop(0, min(end, x2) - x))
    else:
        return update.render_segments(console), None
    return "".join(out), spans


def touched(update: CompositorUpdate | None) -> Callable[[Region], bool]:
    """Return a function that tells whether a frame may repaint any cell of a region."""
    if update is None:
        return lambda region: False
    if not isinstance(update, ChopsUpdate):
        return lambda region: True
    spans = update.spans
    first, last = spans[0][0], spans[-1][0]

    def test(region: Region) -> bool:
        if region.y > last or region.bottom <= first:
            return False
        # A span begins with the whole piece of line that it begins in, so its left end says nothing.
        return any(region.y <= y < region.bottom and x2 > region.x for y, _, x2 in spans)

    return test


def visible(box: Region, clip: Region, covers: Iterable[Region]) -> Mask:
    """Return which cells of `box` lie within `clip` and under none of `covers`.

    Parameters
    ----------
    box, clip : Region
    covers : iterable of Region

    Returns
    -------
    ndarray of bool, shape (box.height, box.width)
    """
    mask = np.full((box.height, box.width), clip.contains_region(box))
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
    if mask.all():
        return [Box(0, 0, mask.shape[1], mask.shape[0])]
    if not mask.any():
        return []
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

    def holes(self, targets: Mapping[Hashable, Target]) -> Spans:
        """Return the cells that the next frame's text may leave out, in order; good pixels lie there."""
        ...

    def frame(self, targets: Mapping[Hashable, Target], spans: Spans | None, size: tuple[int, int]) -> str:
        """Return what has to follow the text of a frame.

        Parameters
        ----------
        targets : mapping
            Where each image should be, by a name that stays with it.
        spans : dict, optional
            The cells that the frame's text writes; None means all.
        size : tuple of int
            Columns and rows of the screen.
        """
        ...

    def leftovers(self) -> list[Region]:
        """Return cells that still show pixels which belong to no image now, and forget them."""
        ...

    def moved(self) -> str:
        """Take note that the terminal may have moved or lost what was on its screen."""
        ...

    def reset(self) -> str:
        """Take everything off the screen and forget it."""
        ...


@dataclass
class _Shown:
    target: Target
    intact: Mask  # cells that hold the image's pixels
    complete: bool  # whether nothing was written to them since

    def write(self, spans: Spans | None, fragile: bool) -> None:
        if spans is None:
            self.intact[:] = False
            self.complete = False
            return
        for row in range(len(self.intact)):
            for x1, x2 in spans.get(self.target.y + row, ()):
                first, last = max(0, x1 - self.target.x), x2 - self.target.x
                if first < last and first < self.intact.shape[1]:
                    self.complete = False
                    if fragile:
                        self.intact[:] = False
                        return
                    self.intact[row, first:last] = False

    def covers_exactly(self, target: Target) -> bool:
        """Whether another image comes to lie on exactly these pixels."""
        old, new = self.target, target
        return (old.x, old.y, old.image.box, old.image.pixels, old.ground) == (
            new.x,
            new.y,
            new.image.box,
            new.image.pixels,
            new.ground,
        )


class SixelPainter:
    """Draws sixels over cells that hold none.

    Parameters
    ----------
    fragile : bool
        Whether one character within an image wipes all of it, as tmux does.
    """

    def __init__(self, fragile: bool = False) -> None:
        self._fragile = fragile
        self._shown: dict[Hashable, _Shown] = {}
        self._left: list[Region] = []

    def holes(self, targets: Mapping[Hashable, Target]) -> Spans:
        """See `Painter.holes`."""
        holes: Spans = {}
        for name, target in targets.items():
            shown = self._shown.get(name)
            if shown is not None and shown.target is not target and shown.covers_exactly(target):
                for part in rectangles(shown.intact & target.visible):
                    for y in range(target.y + part.y, target.y + part.y + part.height):
                        holes.setdefault(y, []).append((target.x + part.x, target.x + part.x + part.width))
        for row in holes.values():
            row.sort()
        return holes

    def frame(self, targets: Mapping[Hashable, Target], spans: Spans | None, size: tuple[int, int]) -> str:
        """See `Painter.frame`."""
        out: list[str] = []
        for shown in self._shown.values():
            shown.write(spans, self._fragile)
        for name in [name for name in self._shown if name not in targets]:
            self._leave(self._shown.pop(name))
        for name, target in targets.items():
            assert isinstance(target.image, PixelImage)
            old = self._shown.get(name)
            if old is not None and old.target is target and old.complete:
                continue
            if old is not None and not old.covers_exactly(target):
                self._leave(old)
                old = None
            intact = np.zeros(target.visible.shape, np.bool_)
            if old is not None:
                self._leave(old, target.visible)
                if old.target.image is target.image:
                    intact = old.intact & target.visible
            wanted = target.visible & ~intact
            last = size[1] - 1 - target.y  # the screen's last row: terminals scroll after drawing there
            if 0 <= last < len(wanted):
                wanted[last:] = False
            for part in rectangles(wanted):
                out.append(f"\x1b[{target.y + part.y + 1};{target.x + part.x + 1}H")
                out.append(target.image.draw(part))
            self._shown[name] = _Shown(target, intact | wanted, complete=True)
        return "".join(out)

    def _leave(self, shown: _Shown, wanted: Mask | None = None) -> None:
        stale = shown.intact if wanted is None else shown.intact & ~wanted
        x, y = shown.target.x, shown.target.y
        self._left += [Region(x + part.x, y + part.y, part.width, part.height) for part in rectangles(stale)]

    def leftovers(self) -> list[Region]:
        """See `Painter.leftovers`."""
        left, self._left = self._left, []
        return left

    def moved(self) -> str:
        """See `Painter.moved`."""
        return self.reset()

    def reset(self) -> str:
        """See `Painter.reset`; the characters written next wipe the pixels."""
        self._shown.clear()
        self._left.clear()
        return ""


class KittyPainter:
    """Places and removes images by number; each is transmitted once."""

    def __init__(self) -> None:
        # What the terminal keeps, and under which number.
        self._images: dict[KittyImage, int] = {}
        self._next_image = FIRST_IMAGE
        self._next_placement = 1
        self._placed: dict[Hashable, tuple[KittyImage, int, int, list[Box], list[int]]] = {}

    def holes(self, targets: Mapping[Hashable, Target]) -> Spans:
        """See `Painter.holes`; text does no harm, so it is let through."""
        return {}

    def frame(self, targets: Mapping[Hashable, Target], spans: Spans | None, size: tuple[int, int]) -> str:
        """See `Painter.frame`; text does not touch placements."""
        out: list[str] = []
        old: list[str] = []
        for name in [name for name in self._placed if name not in targets]:
            old += self._take(name)
        for name, target in targets.items():
            image = target.image
            assert isinstance(image, KittyImage)
            parts = rectangles(target.visible)
            placed = self._placed.get(name)
            if placed is not None and placed[:4] == (image, target.x, target.y, parts):
                continue
            if placed is not None:
                old += self._take(name)
            numbers: list[int] = []
            if parts:
                number = self._image(image, out)
                for part in parts:
                    out.append(f"\x1b[{target.y + part.y + 1};{target.x + part.x + 1}H")
                    out.append(image.place(number, self._next_placement, part))
                    numbers.append(self._next_placement)
                    self._next_placement += 1
            self._placed[name] = image, target.x, target.y, parts, numbers
        # The old ones go last: an image is replaced without a gap.
        return "".join(out + old + self._forget())

    def _take(self, name: Hashable) -> list[str]:
        image, _, _, _, numbers = self._placed.pop(name)
        return [remove(self._images[image], number) for number in numbers]

    def _image(self, image: KittyImage, out: list[str]) -> int:
        number = self._images.get(image)
        if number is None:
            number = self._images[image] = self._next_image
            self._next_image += 1
            out.append(image.transmit(number))
        return number

    def _forget(self) -> list[str]:
        if sum(image.size[0] * image.size[1] for image in self._images) <= PIXELS:
            return []
        # Freeing one image makes some versions of kitty free all that are not on the screen: so let all of them go.
        used = {placed[0] for placed in self._placed.values()}
        unused = [image for image in self._images if image not in used]
        return [delete(self._images.pop(image)) for image in unused]

    def leftovers(self) -> list[Region]:
        """See `Painter.leftovers`; there are none, for placements are removed by name."""
        return []

    def moved(self) -> str:
        """See `Painter.moved`; the terminal keeps the images themselves."""
        return "".join([part for name in list(self._placed) for part in self._take(name)])

    def reset(self) -> str:
        """See `Painter.reset`."""
        out = "".join(delete(number) for number in self._images.values())
        self._images.clear()
        self._placed.clear()
        return out
