"""What goes over the wire: the same screen for fewer bytes, counted in a pseudo terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyte
import pytest
from PIL import Image

from labeltui.embed import EmbedSpec
from labeltui.frames.differ import FrameDiffer
from labeltui.head import HeadSpec
from labeltui.scanning import ScanOptions, scan

WIDTH, HEIGHT = 30, 8
TEXTS = (
    "a",
    "  ",
    "label",
    " → ",
    "漢字",
    "x漢",
    "━━╸",
    "     spaced     ",
    "é",
    "e\u0301x",
    "[red]",
    "0123",
)
STYLES = (
    "",
    "1",
    "38;2;1;2;3",
    "1;38;2;1;2;3;48;2;9;9;9",
    "48;2;9;9;9",
    "7",
    "4;38;5;7",
    "2;31",
    "3;97;104",
    "9;48;5;200",
)


MARK = re.compile(r"\x1b\^\d*\x1b\\")


def strip(rng: np.random.Generator) -> str:
    """Return one of a few lines of images, as they mark themselves."""
    kind = int(rng.integers(6))
    width = 3 + kind
    drawn = "".join(f"\x1b[38;5;{kind + at};48;5;{at}m▀" for at in range(width))
    return f"\x1b^{width}\x1b\\{drawn}\x1b[0m\x1b^\x1b\\"


def frame(rng: np.random.Generator) -> str:
    """Return a frame as Textual writes them: moves, whole rows of whole styles, resets; with lines of images."""
    parts = []
    for y in rng.choice(HEIGHT, rng.integers(1, 5), replace=False):
        parts.append(f"\x1b[{y + 1};1H")
        room = WIDTH
        while room:
            if rng.random() < 0.25 and room >= 8:
                parts.append(strip(rng))
                room -= parts[-1].count("▀")
                continue
            text = TEXTS[rng.integers(len(TEXTS))] if rng.random() < 0.8 else " " * int(rng.integers(1, 9))
            width = sum(2 if character in "漢字" else 0 if character == "\u0301" else 1 for character in text)
            if width <= room:
                room -= width
                parts.append(f"\x1b[{STYLES[rng.integers(len(STYLES))]}m{text}\x1b[0m")
        parts.append("\n" if y < HEIGHT - 1 and rng.random() < 0.3 else "")
    parts.append("\x1b[1;1H")
    return "".join(parts)


def cells(screen: pyte.Screen) -> list[list[tuple[object, ...]]]:
    """Return what a person sees of each cell: the colour of a blank's letter is nothing to see."""
    rows = []
    for y in range(HEIGHT):
        row: list[tuple[object, ...]] = []
        for x in range(WIDTH):
            cell = screen.buffer[y][x]
            seen = (cell.underscore, cell.reverse, cell.strikethrough)
            letter = (cell.fg, cell.bold, cell.italics) if cell.data.strip() or any(seen) else ()
            row.append((cell.data, cell.bg, seen, letter))
        rows.append(row)
    return rows


@pytest.mark.parametrize("seed", range(8))
def test_the_terminal_ends_up_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    raw, squeezed = pyte.Screen(WIDTH, HEIGHT), pyte.Screen(WIDTH, HEIGHT)
    streams = pyte.Stream(raw), pyte.Stream(squeezed)
    differ = FrameDiffer()
    differ.forget(WIDTH, HEIGHT)
    sent = given = 0
    for number in range(60):
        data = frame(rng)
        if number % 20 == 7:
            differ.forget(WIDTH, HEIGHT)
        less = differ.difference(data)
        streams[0].feed(MARK.sub("", data))
        streams[1].feed(less)
        assert "\x1b^" not in less
        given, sent = given + len(data), sent + len(less)
        assert cells(raw) == cells(squeezed), number
        assert (raw.cursor.x, raw.cursor.y) == (squeezed.cursor.x, squeezed.cursor.y)
    assert sent < given


def test_a_frame_that_changes_nothing_costs_nothing() -> None:
    differ = FrameDiffer()
    differ.forget(WIDTH, HEIGHT)
    data = frame(np.random.default_rng(1))
    differ.difference(data)
    assert differ.difference(data) == "\x1b[1;1H"


def test_a_line_of_a_image_is_sent_again_only_where_it_no_longer_stands() -> None:
    differ = FrameDiffer()
    differ.forget(WIDTH, HEIGHT)
    drawn = "\x1b[38;5;1;48;5;2m▀▀▀▀\x1b[0m"
    line = f"\x1b[2;3H\x1b^4\x1b\\{drawn}\x1b^\x1b\\\x1b[1;1H"
    assert differ.difference(line) == f"\x1b[2;3H{drawn}\x1b[1;1H"
    assert differ.difference(line) == "\x1b[1;1H"
    differ.difference("\x1b[2;5Hx\x1b[1;1H")
    assert drawn in differ.difference(line)
    other = line.replace("\x1b[2;3H", "\x1b[2;5H").replace("48;5;2", "48;5;3")
    assert "48;5;3" in differ.difference(other)
    assert drawn in differ.difference(line)  # the other one lies on half of it


def test_pixels_pass_whole_and_in_their_place() -> None:
    differ = FrameDiffer()
    differ.forget(WIDTH, HEIGHT)
    sixel = "\x1bPq#0~~\x1b\\"
    first = differ.difference(f"\x1b[2;3H\x1b[1mimage\x1b[0m\x1b[4;5H{sixel}\x1b[1;1H")
    assert f"\x1b[4;5H{sixel}" in first
    again = differ.difference(f"\x1b[2;3H\x1b[1mimage\x1b[0m\x1b[4;5H{sixel}\x1b[1;1H")
    assert again == f"\x1b[4;5H{sixel}\x1b[1;1H"


def test_cells_that_a_frame_jumps_over_stay() -> None:
    differ = FrameDiffer()
    differ.forget(WIDTH, HEIGHT)
    differ.difference("\x1b[2;1Habcdefgh")
    less = differ.difference("\x1b[2;1Hab\x1b[4CgH")
    assert less == "\x1b[2;8HH\x1b[2;9H"[: len(less)]
    assert "H" in less


def test_cells_that_may_hold_pixels_are_written_again() -> None:
    from textual.geometry import Region

    differ = FrameDiffer()
    differ.forget(WIDTH, HEIGHT)
    differ.difference("\x1b[1;1Habcdef")
    differ.invalidate([Region(2, 0, 2, 1)])
    assert differ.difference("\x1b[1;1Habcdef") == "\x1b[1;3Hcd\x1b[1;7H"


class Process:
    """The program in a pseudo terminal, and the bytes it writes."""

    def __init__(self, arguments: list[str], size: tuple[int, int], home: Path) -> None:
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "HOME": str(home)}
        for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "NO_COLOR", "TMUX"):
            environment.pop(name, None)
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(sys.executable, [sys.executable, "-m", "labeltui", *arguments], environment)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.screen = pyte.Screen(*size)
        self.stream = pyte.ByteStream(self.screen)
        self.ended = False

    def read(self, quiet: float = 0.6, limit: float = 20.0) -> int:
        """got Read until nothing for a while; returns the number of bytes."""
        count, end = 0, time.monotonic() + limit
        while time.monotonic() < end and select.select([self.fd], [], [], quiet)[0]:
            try:
                data = os.read(self.fd, 1 << 16)
            except OSError:
                data = b""
            if not data:
                self.ended = True
                break
            count += len(data)
            self.stream.feed(data)
        return count

    def until(self, text: str, limit: float = 30.0) -> None:
        end = time.monotonic() + limit
        while text not in self.text:
            assert time.monotonic() < end, self.text
            self.read(0.05, 0.5)

    def press(self, keys: str) -> int:
        os.write(self.fd, keys.encode())
        return self.read()

    @property
    def text(self) -> str:
        return "\n".join(self.screen.display)

    def close(self) -> None:
        if not self.ended:
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit of 32 px pieces of two photographs: images that compress as badly as real ones."""
    from sklearn.datasets import load_sample_image

    directory = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for name in ("china", "flower"):
        photograph = Image.fromarray(load_sample_image(f"{name}.jpg"))
        for number in range(60):
            x, y = int(rng.integers(photograph.width - 96)), int(rng.integers(photograph.height - 96))
            piece = photograph.crop((x, y, x + 96, y + 96)).resize((32, 32), Image.Resampling.LANCZOS)
            label = name if number % 5 else {"china": "flower", "flower": "china"}[name]
            path = directory / "data" / label / f"{name}{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            piece.save(path)
    audit = directory / "photographs.audit"
    head = HeadSpec(hidden=32, components=32, epochs=2, least_steps=10)
    scan(
        directory / "data",
        audit,
        ScanOptions(embed=EmbedSpec("pixels", image_size=4, workers=0), head=head),
    )
    return audit


@pytest.fixture
def program(photographs: Path, tmp_path: Path) -> Iterator[Process]:
    audit = tmp_path / "photographs.audit"
    shutil.copytree(photographs, audit)
    process = Process(["review", str(audit), "--graphics", "blocks"], (120, 40), tmp_path)
    try:
        process.until("Is the given label right?")
        process.press("q")  # closes the greeting and nothing else
        process.until("QUEUE")
        process.read(1.0)
        yield process
    finally:
        process.close()


def test_bytes_of_the_usual_keys(program: Process) -> None:
    assert program.press("h") <= 1000  # to the classes
    moves = [program.press(key) for key in ("j", "j", "k")]
    assert max(moves) <= 1000, moves
    program.press("l")
    relabels = [program.press("1") for _ in range(3)]
    assert max(relabels) <= 32_000, relabels
    assert "relabelled 3" in program.text
    modals = [program.press(key) for key in ("?", "q", "/", "\x1b", ":", "\x1b")]
    assert max(modals) <= 30_000, modals
    assert "QUEUE" in program.text


def test_leaving_gives_the_terminal_back_and_says_what_was_done(program: Process) -> None:
    program.press(" ")
    program.press("q")
    program.read(1.0)
    assert program.ended
    assert "1 samples reviewed, 0 relabelled" in program.text
    assert "labeltui export" in program.text
