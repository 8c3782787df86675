"""Fewer bytes to the terminal: of each frame only the cells go out that the terminal does not show already.

Textual repaints whole widgets, and sets and resets the style around every piece of text. Over a slow line that is what
a person waits for. `FrameDiffer` reads a frame as a terminal would, compares it with what the terminal holds, and
writes the difference with as few style changes and cursor moves as it can::

    frame ──> cells with styles ──> differ from the buffer? ──> moves, style changes, text
                                        (kept per row)

A line of an image made of characters is sent whole, or not at all while it stands there: of one image nothing can be
kept for the next, and comparing a thousand cells took 5 ms. What is no text (pixels, modes) passes through in its
place. Characters wipe sixels that lie on their cells, so whoever draws pixels has to `invalidate` those cells after
each frame: the next text on them is then written whatever it is. And some fonts draw bars and arrows a dot over the
edge of their cell: the cell right of a replaced one is written anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from textual.geometry import Region

from labeltui.frames.internals import CompositorUpdate

_TOKEN = re.compile(
    r"\x1b\[(?P<sgr>[0-9;:]*)m"
    r"|\x1b\[(?P<row>\d*);?(?P<column>\d*)H"
    r"|\x1b\[(?P<forward>\d*)C"
    r"|(?P<strip>\x1b\^(?P<cells>\d+)\x1b\\(?P<drawn>.*?)\x1b\^\x1b\\)"
    r"|(?P<other>\x1bP.*?\x1b\\|\x1b_.*?\x1b\\|\x1b\].*?(?:\x07|\x1b\\)|\x1b\[[\x30-\x3f]*[\x20-\x2f]*[\x40-\x7e]|\x1b[^\[P_\]])"
    r"|(?P<control>[\x00-\x1f])"
    r"|(?P<text>[^\x00-\x1f\x1b]+)",
    re.DOTALL,
)

_MARK = re.compile(r"\x1b\^\d*\x1b\\")
"""What encloses a line of an image in a frame; terminals get only what stands between."""

Style = tuple[str, str, frozenset[str]]
"""Foreground, background (SGR parameters, empty = the terminal's own), and attributes that are on."""
PLAIN: Style = ("", "", frozenset())
_OFF = {
    "1": "22",
    "2": "22",
    "3": "23",
    "4": "24",
    "5": "25",
    "7": "27",
    "8": "28",
    "9": "29",
    "21": "24",
    "53": "55",
}
_VISIBLE_ON_BLANKS = frozenset({"4", "7", "9", "21", "53"})
_SKIP = 4
"""Cells of equal style that are cheaper to write again than to jump over."""


def _apply(style: Style, parameters: str) -> Style:
    """Return the style after an SGR sequence."""
    # Images have more colours than any cache would hold, and set them in these three ways.
    if parameters.startswith("38;2;"):
        fields = parameters.count(";")
        if fields == 4:
            return parameters, style[1], style[2]
        cut = parameters.find(";48;2;")
        if fields == 9 and cut > 0:
            return parameters[:cut], parameters[cut + 1 :], style[2]
    elif parameters.startswith("48;2;") and parameters.count(";") == 4:
        return style[0], parameters, style[2]
    return _parse(style, parameters)


@lru_cache(maxsize=4096)
def _parse(style: Style, parameters: str) -> Style:
    front, back, on = style
    codes = parameters.replace(":", ";").split(";")
    at = 0
    while at < len(codes):
        code = codes[at] or "0"
        if code == "0":
            front, back, on = PLAIN
        elif code in ("38", "48"):
            length = 5 if codes[at + 1 : at + 2] == ["2"] else 3
            colour = ";".join(codes[at : at + length])
            front, back = (colour, back) if code == "38" else (front, colour)
            at += length - 1
        elif code == "39":
            front = ""
        elif code == "49":
            back = ""
        elif code in _OFF:
            on = on | {code}
        elif code in _OFF.values():
            on = frozenset(attribute for attribute in on if _OFF[attribute] != code)
        elif len(code) == 2 and code[0] in "39":
            front = code
        else:  # 40 to 47, 100 to 107
            back = code
        at += 1
    return front, back, on


def _blank(style: Style) -> Style:
    """Return what can be seen of a style on a blank."""
    front, back, on = style
    if not on:
        return "", back, on
    seen = on & _VISIBLE_ON_BLANKS
    return (front if seen else "", back, seen)


def _change(pen: Style, wanted: Style) -> str:
    """Return the shortest SGR sequence from one style to another."""
    if pen[2] == wanted[2] and wanted[0] and wanted[1]:
        if pen[0] == wanted[0]:
            return f"\x1b[{wanted[1]}m"
        if pen[1] == wanted[1]:
            return f"\x1b[{wanted[0]}m"
        return f"\x1b[{wanted[0]};{wanted[1]}m"
    return _shortest(pen, wanted)


@lru_cache(maxsize=4096)
def _shortest(pen: Style, wanted: Style) -> str:
    front, back, on = wanted
    fresh = [*sorted(on), *([front] if front else []), *([back] if back else [])]
    cleared = {_OFF[attribute] for attribute in pen[2] - on}
    steps = sorted(cleared)
    # Switching bold off switches faint off too, so what shares a switch has to be set again.
    steps += sorted(attribute for attribute in on if attribute not in pen[2] or _OFF[attribute] in cleared)
    if front != pen[0]:
        steps.append(front or "39")
    if back != pen[1]:
        steps.append(back or "49")
    return f"\x1b[{min(';'.join(steps), ';'.join(['0', *fresh]) if fresh else '', key=len)}m"


class FrameDiffer:
    """What the terminal holds, and how to change it with few bytes."""

    def __init__(self) -> None:
        self.width = 0
        self.height = 0
        self._characters: list[list[str | None]] = []
        self._spilled = (-1, -1)  # the cell right of a glyph that was replaced and may have left a dot there
        self._styles: list[list[Style]] = []
        # By row: first cell, the cell behind the last, and text of the lines of images; their cells are None.
        self._drawn: list[list[tuple[int, int, str]]] = []

    def forget(self, width: int, height: int) -> None:
        """Discard what is known of the terminal, so that the next frames are written in full.

        Parameters
        ----------
        width, height : int
            Size of the terminal in cells.
        """
        self.width, self.height = width, height
        self._characters = [[None] * width for _ in range(height)]
        self._styles = [[PLAIN] * width for _ in range(height)]
        self._drawn = [[] for _ in range(height)]

    def invalidate(self, regions: Iterable[Region]) -> None:
        """Name the cells that may hold pixels now."""
        screen = Region(0, 0, self.width, self.height)
        for region in regions:
            seen = region.intersection(screen)
            for y in range(seen.y, seen.bottom):
                self._characters[y][seen.x : seen.right] = [None] * seen.width
                self._drawn[y].clear()

    def difference(self, frame: str) -> str:
        """Return what to send so that the terminal shows `frame`."""
        out: list[str] = []
        style = pen = PLAIN
        x = y = 0
        at_x = at_y = -1  # where the terminal's cursor is; -1 = unknown
        for match in _TOKEN.finditer(frame):
            kind = match.lastgroup
            if kind == "text":
                text = match[0]
                if not 0 <= y < self.height:
                    continue
                x, at_x, at_y, pen = self._write(out, text, x, y, style, at_x, at_y, pen)
            elif kind == "sgr":
                style = _apply(style, match["sgr"])
            elif kind == "strip":
                width, style = int(match["cells"]), PLAIN
                if 0 <= y < self.height and self._draw(match["drawn"], x, y, width):
                    out.append("\x1b[m" if pen != PLAIN else "")
                    out.append("" if (at_x, at_y) == (x, y) else f"\x1b[{y + 1};{x + 1}H")
                    out.append(match["drawn"])
                    pen = PLAIN
                    at_x, at_y = (x + width, y) if x + width < self.width else (-1, -1)
                x += width
            elif kind == "column" or kind == "row":
                y, x = int(match["row"] or 1) - 1, int(match["column"] or 1) - 1
            elif kind == "forward":
                x += int(match["forward"] or 1)
            elif kind == "control":
                if match[0] == "\r":
                    x = 0
                elif match[0] == "\n":
                    y += 1
            else:
                # Pixels start at the cursor, so it has to be there; afterwards it may be anywhere.
                if match[0][1] in "P_" and (at_x, at_y) != (x, y):
                    out.append(f"\x1b[{y + 1};{x + 1}H")
                out.append(match[0])
                at_x = at_y = -1
        if pen != PLAIN:
            out.append("\x1b[m")
        if (x, y) != (at_x, at_y):
            out.append(f"\x1b[{y + 1};{x + 1}H")
        return "".join(out)

    def _write(
        self, out: list[str], text: str, x: int, y: int, style: Style, at_x: int, at_y: int, pen: Style
    ) -> tuple[int, int, int, Style]:
        characters, styles = self._characters[y], self._styles[y]
        blank = _blank(style)
        cells = list(text)
        if not text.isascii() and cell_len(text) != len(cells):
            cells = _cells(text)
        start, end = x, x + len(cells)
        stop = min(end, self.width)
        while x < stop:
            cell = cells[x - start]
            wanted = blank if cell == " " else style
            old = characters[x]
            if old == cell and styles[x] == wanted and self._spilled != (x, y):
                x += 1
                continue
            if old is not None and not old.isascii() and old != cell:
                self._spilled = (x + 1, y)
            if (at_x, at_y) != (x, y):
                gap = x - at_x if at_y == y and at_x >= 0 else 0
                if 0 < gap <= _SKIP and self._same(y, at_x, x, pen):
                    out.append("".join(c for c in characters[at_x:x] if c))
                else:
                    out.append(f"\x1b[{gap}C" if gap > 0 else f"\x1b[{y + 1};{x + 1}H")
            if pen != wanted and not (cell == " " and _blank(pen) == wanted):
                out.append(_change(pen, wanted))
                pen = wanted
            out.append(cell)
            self._put(y, x, cell, wanted)
            x += 1
            while x < stop and cells[x - start] == "":
                characters[x], styles[x] = "", wanted
                x += 1
            # Terminals differ in where the cursor is after the last column.
            at_x, at_y = (x, y) if x < self.width else (-1, -1)
        return end, at_x, at_y, pen

    def _draw(self, drawn: str, x: int, y: int, width: int) -> bool:
        """Note a line of an image; False where it stands already."""
        if not 0 <= x < self.width:
            return False
        characters, strips = self._characters[y], self._drawn[y]
        stop = min(x + width, self.width)
        unknown: list[str | None] = [None] * (stop - x)
        if (x, stop, drawn) in strips and characters[x:stop] == unknown:
            return False
        # Half of a wide character does not survive the other half.
        if characters[x] == "" and x:
            characters[x - 1] = None
        if stop < self.width and characters[stop] == "":
            characters[stop] = None
        characters[x:stop] = unknown
        apart = [strip for strip in strips if strip[1] <= x or strip[0] >= stop]
        self._drawn[y] = [*apart, (x, stop, drawn)]
        return True

    def _same(self, y: int, start: int, stop: int, pen: Style) -> bool:
        """Whether the cells hold what could be written again without a change of style."""
        blank = _blank(pen)
        return all(
            character not in (None, "") and style == (blank if character == " " else pen)
            for character, style in zip(
                self._characters[y][start:stop], self._styles[y][start:stop], strict=True
            )
        )

    def _put(self, y: int, x: int, cell: str, style: Style) -> None:
        characters = self._characters[y]
        # Half of a wide character does not survive the other half.
        if characters[x] == "" and x:
            characters[x - 1] = None
        if x + 1 < self.width and characters[x + 1] == "":
            characters[x + 1] = None
        characters[x], self._styles[y][x] = cell, style


def _cells(text: str) -> list[str]:
    """Split text into cells: a wide character is followed by an empty one, a combining one joins the one before."""
    cells: list[str] = []
    for character in text:
        width = cell_len(character)
        if width == 0 and cells:
            at = len(cells) - 1
            while at and cells[at] == "":
                at -= 1
            cells[at] += character
        else:
            cells.append(character)
            cells.extend([""] * (width - 1))
    return cells


class DifferedUpdate(CompositorUpdate):
    """A frame that goes through a `FrameDiffer`."""

    def __init__(self, differ: FrameDiffer, update: CompositorUpdate) -> None:
        self._differ = differ
        self._update = update

    def render_segments(self, console: Console) -> str:
        frame = self._update.render_segments(console)
        try:
            return self._differ.difference(frame)
        except Exception:
            # Fewer bytes are not worth a crash: the frame goes out as Textual made it, and the next ones are compared
            # with nothing.
            self._differ.forget(self._differ.width, self._differ.height)
            return _MARK.sub("", frame)

    def __rich_console__(self, *arguments: Any) -> Any:
        return self._update.__rich_console__(*arguments)  # type: ignore[attr-defined]
