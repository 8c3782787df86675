"""Images through real tmux servers, one or two inside one another, to a terminal that says it is kitty."""

from __future__ import annotations

import base64
import fcntl
import io
import json
import os
import pty
import re
import select
import shlex
import shutil
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyte
import pytest
from PIL import Image
from rich.console import Console

from labeltui.graphics.base import WHOLE
from labeltui.graphics.capabilities import Capabilities, Cell, choose
from labeltui.graphics.placeholders import NUMERALS, PLACEHOLDER, PlaceholderEncoder
from labeltui.graphics.tmux import Server, obstacle, servers, wrap

APP = """
import json, os, sys
from PIL import Image
from textual.app import App
from labeltui.graphics import ImageView, attach, detect

class Try(App):
    ENABLE_COMMAND_PALETTE = False
    BINDINGS = [("n", "next", "")]

    def compose(self):
        yield ImageView()

    def on_mount(self):
        self.query_one(ImageView).show(0, Image.open(sys.argv[2]))

    def action_next(self):
        self.query_one(ImageView).show(1, Image.open(sys.argv[3]))

caps = detect("auto", layers=int(sys.argv[4]), fresh=True)
with open(sys.argv[1] + ".new", "w") as out:
    json.dump({"kind": caps.kind, "why": caps.why, "layers": caps.layers}, out)
os.replace(sys.argv[1] + ".new", sys.argv[1])
app = Try()
attach(app, caps)
app.run()
"""
CONFIGURATION = """
set -g allow-passthrough on
set -g default-terminal tmux-256color
set -as terminal-features ',*:RGB'
set -g status off
set -s escape-time 0
"""
needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux: apt-get install tmux")


class Kitty:
    """A terminal of 80x24 that calls itself kitty, and records what it gets."""

    def __init__(self, command: list[str], env: dict[str, str], name: str = "kitty(0.32.2)") -> None:
        self.received = b""
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 800, 480))
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True
        )
        os.close(slave)
        self._answers = {b"\x1b[>q": f"\x1bP>|{name}\x1b\\".encode(), b"\x1b[c": b"\x1b[?62;52;c"}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while self.process.poll() is None:
            if select.select([self._master], [], [], 0.05)[0]:
                try:
                    data = os.read(self._master, 1 << 16)
                except OSError:
                    return
                before = len(self.received)
                self.received += data
                for question, answer in self._answers.items():
                    # A read may end within a question.
                    for _ in range(self.received.count(question, max(0, before - len(question) + 1))):
                        os.write(self._master, answer)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        self._thread.join(10)
        os.close(self._master)

    def images(self) -> dict[int, tuple[dict[str, str], Image.Image]]:
        """The images that arrived whole, by number, with the keys that they came with."""
        found: dict[int, tuple[dict[str, str], Image.Image]] = {}
        keys: dict[str, str] = {}
        data = ""
        for control, piece in re.findall(rb"\x1b_G([^;]*);([^\x1b]*)\x1b\\", self.received):
            new = dict(part.split("=") for part in control.decode().split(","))
            if "i" in new:
                keys, data = new, ""
            data += piece.decode()
            if new["m"] == "0":
                found[int(keys["i"])] = keys, Image.open(io.BytesIO(base64.b64decode(data)))
        return found

    def cells(self) -> set[tuple[int, int, int]]:
        """Number, row and column of every placeholder on the screen."""
        screen = pyte.Screen(80, 24)
        # No string of the terminal's is text.
        text = re.sub(rb"\x1b[_P][^\x1b]*\x1b\\", b"", self.received)
        pyte.ByteStream(screen).feed(text)
        numerals = {numeral: value for value, numeral in enumerate(NUMERALS)}
        found = set()
        for y in range(24):
            row = column = high = -1
            for x in range(80):
                cell = screen.buffer[y][x]
                if cell.data[0] != PLACEHOLDER:
                    row = -1  # none follows from a cell that is none
                elif len(cell.data) == 4:
                    row, column, high = (numerals[numeral] for numeral in cell.data[1:])
                else:
                    column += 1
                if row >= 0:
                    found.add((high << 24 | int(cell.fg, 16), row, column))
        return found


def until(condition: Callable[[], object], seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


def pictures(place: Path) -> list[Path]:
    paths = []
    for seed in range(2):
        coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
        paths.append(place / f"{seed}.png")
        Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


@needs_tmux
@pytest.mark.parametrize(
    ("depth", "given", "no_color"),
    [(1, -1, False), (2, -1, False), (1, 1, True)],
    ids=["one", "two", "NO_COLOR"],
)
def test_images_reach_the_terminal(tmp_path: Path, depth: int, given: int, no_color: bool) -> None:
    paths, state, script = pictures(tmp_path), tmp_path / "state.json", tmp_path / "app.py"
    script.write_text(APP)
    configuration = tmp_path / "tmux.conf"
    configuration.write_text(CONFIGURATION)
    env = {
        **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        **({"NO_COLOR": "1"} if no_color else {}),
    }
    command = [sys.executable, str(script), str(state), *map(str, paths), str(given)]
    sockets = [str(tmp_path / f"s{number}") for number in range(depth)]
    for socket in sockets:  # the last one is outermost
        server = ["tmux", "-S", socket, "-f", str(configuration)]
        command = [*server, "new-session", f"exec {shlex.join(command)}"]
    kitty = Kitty(command, env)
    try:
        assert until(state.exists), kitty.received[-2000:]
        at = json.loads(state.read_text())
        assert at["kind"] == "kitty", at
        assert at["layers"] == depth
        assert until(lambda: kitty.images() and len(kitty.cells()) > 100), kitty.received[-2000:]
        [(number, (keys, image))] = kitty.images().items()
        assert (keys["a"], keys["U"], keys["q"]) == ("T", "1", "2")
        assert np.array_equal(np.asarray(image), np.asarray(Image.open(paths[0])))
        everywhere = {
            (number, row, column) for row in range(int(keys["r"])) for column in range(int(keys["c"]))
        }
        assert until(lambda: kitty.cells() == everywhere)
        assert b"Ptmux" not in kitty.received
        kitty.type("n")
        assert until(lambda: len(kitty.images()) == 2)
        assert until(lambda: {cell[0] for cell in kitty.cells()} == set(kitty.images()) - {number})
    finally:
        for socket in sockets:
            subprocess.run(["tmux", "-S", socket, "kill-server"], env=env, check=False, capture_output=True)
        kitty.close()


GOOD = Server("3.4", passes=True, rgb=True, terminal="kitty(0.32.2)")


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ((GOOD,), ""),
        ((Server("3.4", True, True, "tmux 3.3a"), GOOD), ""),
        ((Server("3.4", True, True, "ghostty 1.1.3"),), ""),
        ((Server("3.4", False, True, "kitty(0.32.2)"),), "allow-passthrough on"),
        ((GOOD, Server("3.3a", False, True, "kitty(0.32.2)")), "tmux number 2 from inside"),
        ((Server("3.4", True, False, "kitty(0.32.2)"),), "RGB"),
        ((Server("3.4", True, True, "kitty(0.26.5)"),), "does not know placeholders"),
        ((Server("3.4", True, True, "tmux 3.3a"),), "--tmux-layers"),
        ((Server("3.4", True, True, "XTerm(379)"),), "XTerm(379)"),
        ((), "does not say"),
    ],
)
def test_says_what_stands_in_the_way(found: tuple[Server, ...], says: str) -> None:
    assert says in obstacle(found)
    assert bool(obstacle(found)) == bool(says)


def test_a_server_that_is_gone_is_not_waited_for(tmp_path: Path) -> None:
    begin = time.monotonic()
    assert servers({"TMUX": f"{tmp_path}/none,1,0", "TMUX_PANE": "%0"}) == ()
    assert servers({}) == ()
    assert time.monotonic() - begin < 2


def test_wraps_once_for_each_server() -> None:
    sequence = "\x1b_Ga=d\x1b\\"
    assert wrap(sequence, 0) == sequence
    for layers in (1, 2, 3):
        wrapped = wrap(sequence, layers)
        for _ in range(layers):  # what tmux does: take off the frame, and every second escape
            assert wrapped.startswith("\x1bPtmux;")
            wrapped = wrapped.removeprefix("\x1bPtmux;").removesuffix("\x1b\\").replace("\x1b\x1b", "\x1b")
        assert wrapped == sequence


def test_a_person_decides_how_many_servers_there_are() -> None:
    inside = Capabilities(tmux=True, layers=1)
    assert choose(inside, "auto").kind == "blocks"
    assert (choose(inside, "auto", 2).kind, choose(inside, "auto", 2).layers) == ("kitty", 2)
    assert (choose(inside, "kitty", 0).kind, choose(inside, "kitty", 0).layers) == ("kitty", 0)
    assert choose(inside, "kitty").layers == 1
    assert choose(inside, "blocks", 2).kind == "blocks"


def test_parts_of_a_row_keep_their_colour_whatever_is_done_to_text() -> None:
    image = PlaceholderEncoder(Cell(10, 20)).encode(Image.new("RGB", (8, 8), (9, 9, 9)), 8, 4, WHOLE)
    drawn = image.strips[1].crop(2, 5).render(Console(force_terminal=True, no_color=True, width=20))
    red, green, blue = image.number.to_bytes(4, "big")[1:]
    assert f"\x1b[38;2;{red};{green};{blue}m" in drawn
    assert drawn.count(PLACEHOLDER) == 3
    assert PLACEHOLDER + NUMERALS[1] + NUMERALS[2] + NUMERALS[image.number >> 24] in drawn
    assert [part.cell_length for part in image.strips[1].divide([2, 5, 8])] == [2, 3, 3]
