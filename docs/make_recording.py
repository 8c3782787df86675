"""Record the session of the README: ``python docs/make_recording.py [COLUMNS ROWS]`` (needs the extra ``test``).

A shell in a pseudo-terminal, in which a scan, a review and an export are typed as a person would type them, on pieces
of two photographs with 8 % of the labels wrong on purpose (`make_screenshots.cut`). Writes what the terminal got as an
asciicast v2 (``asciinema play docs/screenshots/quickstart.cast``), and as an animated GIF of the same.
"""

from __future__ import annotations

import copy
import fcntl
import itertools
import json
import os
import pty
import re
import select
import shlex
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import pyte
from make_screenshots import IMAGES, cut
from PIL import Image, ImageDraw, ImageFont

COMMANDS = (
    "labeltui scan photographs -o photographs.audit --model pixels",
    "labeltui photographs.audit",
    "labeltui export photographs.audit -o labels.csv",
    "grep relabel labels.csv | cut -d , -f 1,3-5",
)
KEYS = (  # what is typed in the review, what the screen then shows, and how long a person looks at it, in seconds
    ("\r", "QUEUE", 2.0),
    ("1", "was", 1.2),
    ("1", "was", 1.2),
    (" ", "keep", 1.2),
    ("n", "NEIGHBOURS", 2.5),
    ("1", "was", 1.2),
    ("\x1b", "QUEUE", 0.8),
    ("g", "SHEET", 2.0),
    ("\x1b", "QUEUE", 0.8),
    ("P", "variance", 2.5),
    ("\x1b", "QUEUE", 0.8),
    ("u", "undone", 1.2),
    ("1", "was", 1.2),
    ("q", "$ ", 0.6),
)
PATIENCE = 60.0
LONGEST = 2.5
"""Seconds that players and the GIF let nothing happen."""
FRAME = 0.08
"""Seconds without output that end a frame of the GIF."""
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono.ttf"
CELL = 8, 17
GROUND, INK = "10141a", "d8dee6"
NAMED = {
    "black": "10141a", "red": "ff7b72", "green": "7fd88f", "brown": "ffb454", "blue": "6cb6ff",
    "magenta": "d2a8ff", "cyan": "5fd0c0", "white": "d8dee6",
}  # fmt: skip
DOTS = (0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)
"""Column and row of each bit of a character of Braille."""
QUESTION, ANSWER = b"\x1b[c", b"\x1b[?1;2c"
"""The terminal answers what every terminal answers, and no more: images are half blocks."""
ALTERNATE = 1049
"""The mode by which programs take the second screen."""
UNREAD = re.compile(r"\x1b[P_\]].*?(?:\x1b\\|\x07)|\x1b\[[<=>][0-9;]*[a-zA-Z]", re.DOTALL)
"""Sequences that pyte would print or misread."""


class Screen(pyte.Screen):
    """Pyte's screen with the second one that full-screen programs draw on."""

    def set_mode(self, *modes: int, **options: bool) -> None:
        if ALTERNATE in modes:
            self._behind = copy.deepcopy(self.buffer), self.cursor.x, self.cursor.y
            self.erase_in_display(2)
        super().set_mode(*modes, **options)

    def reset_mode(self, *modes: int, **options: bool) -> None:
        super().reset_mode(*modes, **options)
        if ALTERNATE in modes:
            self.buffer, self.cursor.x, self.cursor.y = self._behind
            self.dirty.update(range(self.lines))


@dataclass
class Session:
    """A shell in a pseudo-terminal, and everything that it wrote."""

    columns: int
    rows: int
    home: Path
    events: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.screen = Screen(self.columns, self.rows)
        self.stream = pyte.Stream(self.screen)
        environment = {
            "PATH": f"{self.home / 'bin'}:/usr/bin:/bin",
            "HOME": str(self.home),
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
            "LANG": "C.UTF-8",
            "PS1": "$ ",
            "USER": "demo",
            "HF_HUB_OFFLINE": "1",
            "HISTFILE": "",
        }
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            os.chdir(self.home)
            os.execve("/bin/bash", ["bash", "--norc", "--noprofile"], environment)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", self.rows, self.columns, 0, 0))
        self._undecoded = b""
        self.begun = time.monotonic()

    def read(self, seconds: float) -> None:
        """Take what comes within so many seconds."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([self.terminal], [], [], left)[0]:
                return
            data = self._undecoded + os.read(self.terminal, 1 << 16)
            if QUESTION in data:
                os.write(self.terminal, ANSWER)
            text = data.decode("utf-8", "ignore")
            self._undecoded = data[len(text.encode()) :][-3:]
            self.events.append((time.monotonic() - self.begun, text))
            self.stream.feed(UNREAD.sub("", text))

    def until(self, text: str) -> None:
        """Wait until the screen shows a text and rests."""
        end = time.monotonic() + PATIENCE
        while True:
            count = len(self.events)
            self.read(0.3)
            shown = "\n".join(self.screen.display)
            if text in shown and len(self.events) == count:
                return
            if time.monotonic() > end:
                raise TimeoutError(f"{text!r} never came:\n{shown}")

    def prompt(self) -> None:
        """Wait until the shell can take a command: its prompt stands before the cursor."""
        end = time.monotonic() + PATIENCE
        while self.screen.display[self.screen.cursor.y].strip() != "$":
            self.read(0.2)
            if time.monotonic() > end:
                raise TimeoutError("\n".join(self.screen.display))

    def close(self) -> None:
        """End the shell, unrecorded."""
        os.write(self.terminal, b"exit\r")
        os.waitpid(self.process, 0)
        os.close(self.terminal)

    def type(self, text: str, pause: float = 0.045) -> None:
        """Type as fast as a person."""
        for character in text:
            os.write(self.terminal, character.encode())
            self.read(pause)


def play(session: Session) -> None:
    """Scan, review and export."""
    scan, review, *rest = COMMANDS
    session.prompt()
    session.type(f"{scan}\r")
    session.prompt()
    session.read(1.5)
    session.type(f"{review}\r")
    session.until("Welcome")
    session.read(2.5)
    for keys, shown, look in KEYS:
        os.write(session.terminal, keys.encode())
        session.until(shown)
        session.read(look)
    for command in rest:
        session.prompt()
        session.type(f"{command}\r")
        session.prompt()
        session.read(1.5)


def write_cast(session: Session, path: Path) -> None:
    """Write the asciicast v2: a header, then a line for each output."""
    header = {
        "version": 2,
        "width": session.columns,
        "height": session.rows,
        "idle_time_limit": LONGEST,
        "title": "labeltui: from photographs to corrected labels",
        "env": {"TERM": "xterm-256color", "SHELL": "/bin/bash"},
    }
    lines = [json.dumps(header), *(json.dumps([round(at, 3), "o", text]) for at, text in session.events)]
    path.write_text("\n".join(lines) + "\n")


def frames(session: Session) -> Iterator[tuple[Image.Image, float]]:
    """The screen each time that it rests, and for how many seconds."""
    font = ImageFont.truetype(FONT, 13)
    screen = Screen(session.columns, session.rows)
    stream = pyte.Stream(screen)
    events = [*session.events, (session.events[-1][0] + LONGEST, "")]
    since = 0.0
    for (at, text), (following, _) in itertools.pairwise(events):
        stream.feed(UNREAD.sub("", text))
        if following - at >= FRAME:
            yield draw(screen, font), min(LONGEST, following - since)
            since = following


def draw(screen: pyte.Screen, font: ImageFont.FreeTypeFont) -> Image.Image:
    """The cells of a screen as an image; half blocks are filled, so that no font leaves seams in images."""
    wide, high = CELL
    image = Image.new("RGB", (screen.columns * wide, screen.lines * high), f"#{GROUND}")
    pen = ImageDraw.Draw(image)
    for row in range(screen.lines):
        for column in range(screen.columns):
            cell = screen.buffer[row][column]
            ink, ground = colour(cell.fg, INK), colour(cell.bg, GROUND)
            if cell.reverse:
                ink, ground = ground, ink
            x, y = column * wide, row * high
            box = x, y, x + wide - 1, y + high - 1
            if ground != f"#{GROUND}":
                pen.rectangle(box, ground)
            if cell.data in "▀▄█":
                top, bottom = y + (high // 2 + 1) * (cell.data == "▄"), y + high // 2
                pen.rectangle((x, top, x + wide - 1, bottom if cell.data == "▀" else y + high - 1), ink)
            elif 0x2800 <= ord(cell.data[:1] or " ") < 0x2900:  # Braille, which the font lacks
                for bit, (right, down) in enumerate(DOTS):
                    if ord(cell.data) >> bit & 1:
                        at = x + 1 + 4 * right, y + 2 + 4 * down
                        pen.rectangle((*at, at[0] + 1, at[1] + 1), ink)
            elif cell.data.strip():
                pen.text((x, y), cell.data, ink, font, stroke_width=0)
    return image


def colour(name: str, default: str) -> str:
    """A colour of pyte's as Pillow wants it."""
    name = default if name == "default" else NAMED.get(name.removeprefix("bright"), name)
    return f"#{name}"


def write_gif(session: Session, path: Path) -> None:
    """Write the animation, in one palette."""
    images, seconds = zip(*frames(session), strict=True)
    sample = Image.new("RGB", (images[0].width, images[0].height * len(images)))
    for at, image in enumerate(images):
        sample.paste(image, (0, at * image.height))
    palette = sample.quantize(256, dither=Image.Dither.NONE)
    flat = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    flat[0].save(
        path,
        save_all=True,
        append_images=flat[1:],
        duration=[round(1000 * s) for s in seconds],
        loop=0,
        optimize=True,
    )


def main() -> None:
    """Record, then draw."""
    columns, rows = map(int, sys.argv[1:3] or ("100", "30"))
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        cut(home / "photographs")
        (home / "bin").mkdir()
        program = home / "bin" / "labeltui"
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m labeltui "$@"\n')
        program.chmod(0o755)
        session = Session(columns, rows, home)
        play(session)
        session.close()
    IMAGES.mkdir(exist_ok=True)
    write_cast(session, IMAGES / "quickstart.cast")
    write_gif(session, IMAGES / "quickstart.gif")
    for name in ("quickstart.cast", "quickstart.gif"):
        print(IMAGES / name, f"{(IMAGES / name).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
