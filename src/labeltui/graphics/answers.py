"""What terminals answer: the question, and reading answers out of the stream of keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

KITTY_QUERY_ID = 4207

# Complete answers, and what may be the beginning of one at the end of what was read.
_ANSWER = re.compile(
    r"\x1bP>\|(?P<version>[^\x1b\x07]*)(?:\x1b\\|\x07)"
    rf"|\x1b_Gi={KITTY_QUERY_ID}[^;\x1b]*;(?P<kitty>[^\x1b]*)\x1b\\"
    r"|\x1b\[\?(?P<da1>[\d;]*)c"
    r"|\x1b\[\?(?P<item>[12]);(?P<status>\d+)(?P<values>[\d;]*)S"
    r"|\x1b\[(?P<window>[468]);(?P<height>\d+);(?P<width>\d+)t"
)
_SYNCHRONISED = re.compile(r"\x1b\[\?2026;(?P<mode>\d)\$y")
_BEGINNING = re.compile(
    r"\x1b(?:P(?:>(?:\|[^\x1b\x07]*\x1b?)?)?"
    r"|_(?:G[^\x1b]*\x1b?)?"
    r"|\[(?:\?[\d;]*|[468](?:;\d*(?:;\d*)?)?)?)?\Z"
)
LONGEST = 300


@dataclass
class Answers:
    """What one terminal said of itself; None where it said nothing.

    Attributes
    ----------
    da1 : tuple of int, optional
        Parameters of its primary device attributes; 4 among them means sixel.
    version : str
        Name and version (XTVERSION).
    kitty : bool
        Whether it accepted an image by kitty's protocol.
    cell, window, grid : tuple of int, optional
        Width and height of a cell and of the text area in pixels, and of the text area in cells.
    registers, most_registers : int, optional
        Sixel colours it uses now, and could use.
    geometry : tuple of int, optional
        Width and height of the largest sixel image.
    synchronised : bool
        Whether it knows mode 2026.
    seconds : float
        How long it took to answer, or how long was waited in vain.
    typed : str
        What else arrived meanwhile: keys typed ahead, and the beginning of an answer that came too late.
    """

    da1: tuple[int, ...] | None = None
    version: str = ""
    kitty: bool = False
    cell: tuple[int, int] | None = None
    window: tuple[int, int] | None = None
    grid: tuple[int, int] | None = None
    registers: int | None = None
    most_registers: int | None = None
    geometry: tuple[int, int] | None = None
    synchronised: bool = False
    seconds: float = 0.0
    typed: str = ""

    def same(self, other: Answers) -> bool:
        """Tell whether two sets of answers say the same of the terminal, times and sizes aside."""
        return (self.da1, self.version, self.kitty, self.most_registers) == (
            other.da1,
            other.version,
            other.kitty,
            other.most_registers,
        )


def question(environment: Mapping[str, str], inside: bool = False) -> str:
    """Return all queries in one string; every terminal answers the last one, so its answer ends the wait.

    Parameters
    ----------
    environment : mapping
        Terminals known to print what they do not understand are spared that part.
    inside : bool
        Whether a program already runs that asks for mode 2026 itself.
    """
    term = environment.get("TERM", "")
    parts = []
    if term != "linux" and not environment.get("TMUX"):
        parts.append(f"\x1b_Gi={KITTY_QUERY_ID},s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\")
    if term != "linux":
        parts.append("\x1b[>0q")
    parts.append("\x1b[16t\x1b[14t\x1b[18t")
    # Colour registers in use, the most there can be, and the largest image (XTSMGRAPHICS).
    parts.append("\x1b[?1;1;0S\x1b[?1;4;0S\x1b[?2;1;0S")
    if environment.get("TERM_PROGRAM") != "Apple_Terminal" and not inside:
        parts.append("\x1b[?2026$p")
    parts.append("\x1b[c")
    return "".join(parts)


def without_mode(text: str) -> str:
    """Return text without the answer about mode 2026, which `Reader` leaves in what is no answer of ours."""
    return _SYNCHRONISED.sub("", text)


class Reader:
    """Takes answers out of what a terminal sends, in pieces of any size.

    Parameters
    ----------
    inside : bool
        Whether a program reads the rest as keys, and its own answers (mode 2026) with them.
    """

    def __init__(self, inside: bool = False) -> None:
        self.answers = Answers()
        self.done = False
        """Whether the last answer has arrived."""
        self._inside = inside
        self.held = ""
        """What may become an answer."""
        self._registers: list[int] = []

    def feed(self, text: str) -> str:
        """Return what is no answer; what may become one is held back until the next call."""
        text = self.held + text
        self.held = ""
        rest: list[str] = []
        position = 0
        while match := _ANSWER.search(text, position):
            rest.append(text[position : match.start()])
            self._take(match)
            position = match.end()
        text = text[position:]
        if not self._inside and (mode := _SYNCHRONISED.search("".join(rest) + text)):
            self.answers.synchronised = mode["mode"] in "123"
        if (beginning := _BEGINNING.search(text)) and len(text) - beginning.start() <= LONGEST:
            self.held = text[beginning.start() :]
            text = text[: beginning.start()]
        rest.append(text)
        return "".join(rest)

    def renew(self) -> None:
        """Begin anew with the next batch of answers, as another object."""
        self.answers = Answers()
        self.done = False
        self._registers = []

    def release(self) -> str:
        """Return what was held back, when nothing followed: it is no answer."""
        held, self.held = self.held, ""
        return held

    def _take(self, match: re.Match[str]) -> None:
        answers = self.answers
        if match["version"] is not None:
            answers.version = "".join(c for c in match["version"] if c.isprintable())[:80]
        elif match["kitty"] is not None:
            answers.kitty = match["kitty"] == "OK"
        elif match["da1"] is not None:
            answers.da1 = _numbers(match["da1"])
            self.done = True
        elif match["item"] is not None:
            self._graphics(match["item"], match["status"] == "0", _numbers(match["values"]))
        else:
            size = int(match["width"]), int(match["height"])
            if all(size):
                setattr(answers, {"4": "window", "6": "cell", "8": "grid"}[match["window"]], size)

    def _graphics(self, item: str, good: bool, values: tuple[int, ...]) -> None:
        if item == "2":
            if good and len(values) >= 2 and all(values[:2]):
                self.answers.geometry = values[0], values[1]
            return
        # Two questions about registers were asked, in this order; a refusal counts as an answer.
        self._registers.append(values[0] if good and values else 0)
        if len(self._registers) == 1:
            self.answers.registers = self._registers[0] or None
        else:
            self.answers.most_registers = self._registers[1] or None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(";") if part)
