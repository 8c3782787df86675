"""Images in real terminals: xterm and kitty on a virtual screen, photographed, and tmux, asked for its pane."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

X_TOOLS = ("Xvfb", "xdotool", "import")
TERMINALS = {
    "xterm": [
        *("xterm", "-ti", "vt340", "-b", "0", "-bw", "0", "+sb", "-geometry", "90x30+0+0"),
        *("-e", "env", "TERM=xterm-256color", "COLORTERM=truecolor"),
    ],
    "kitty": [
        *("kitty", "--config", "NONE", "-o", "remember_window_size=no", "-o", "placement_strategy=top-left"),
        *("-o", "initial_window_width=90c", "-o", "initial_window_height=30c", "-o", "font_size=9"),
        *("-o", "shell_integration=disabled", "-o", "update_check_interval=0"),
    ],
}
APP = """
import json, sys
from PIL import Image
from textual.app import App
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from labeltui.graphics import ImageView, attach, detect

class Modal(ModalScreen):
    CSS = "Modal { align: center middle; background: $background; }"
    BINDINGS = [("c", "app.close", "")]
    def compose(self):
        yield Static("modal")

class Try(App):
    CSS = "OptionList { width: 20; } ImageView { height: 14; } #column { scrollbar-size: 0 0; }"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS = [("m", "modal", ""), ("s", "down", ""), ("n", "next", ""), ("q", "quit", "")]

    def compose(self):
        with Horizontal():
            yield OptionList(*[f"row {i}" for i in range(50)])
            with VerticalScroll(id="column"):
                yield Static("above")
                yield ImageView()
                yield Static("below " * 400)

    def on_mount(self):
        self.seen = 0
        self.step()

    def step(self):
        self.query_one(ImageView).show(self.seen, Image.open(sys.argv[2 + self.seen]))
        self.set_timer(0.1, self.report)

    def report(self):
        image = self.screen_stack[0].query_one(ImageView)
        if image.encoded is None:
            self.set_timer(0.05, self.report)
            return
        box, region = image.encoded.box, image.content_region
        state = dict(kind=image.encoded.kind, x=region.x + box.x, y=region.y + box.y, columns=box.width,
                     rows=box.height, pixels=image.encoded.pixels, cell=[caps.cell.width, caps.cell.height],
                     screens=len(self.screen_stack), why=caps.why, seen=self.seen)
        with open(sys.argv[1] + ".new", "w") as out:
            json.dump(state, out)
        import os
        os.replace(sys.argv[1] + ".new", sys.argv[1])

    def action_modal(self):
        self.push_screen(Modal())
        self.set_timer(0.1, self.report)

    def action_close(self):
        self.pop_screen()
        self.set_timer(0.1, self.report)

    def action_down(self):
        self.query_one("#column").scroll_to(y=5, animate=False)
        self.set_timer(0.1, self.report)

    def action_next(self):
        self.seen = 1
        self.step()

caps = detect(fresh=True)
app = Try()
attach(app, caps)
app.run()
"""


def images(tmp_path: Path) -> list[Path]:
    """Two smooth images that have little in common."""
    paths = []
    for seed in range(2):
        coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
        paths.append(tmp_path / f"{seed}.png")
        Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC).save(paths[-1])
    return paths


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        **more,
    }


def until(ready: Any, seconds: float = 20.0) -> Any:
    """Wait until `ready()` returns something true, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := ready():
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds} s in vain")


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.reshape(-1).astype(float), b.reshape(-1).astype(float))[0, 1])


@contextmanager
def display() -> Iterator[str]:
    read, write = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "1000x700x24", "-nolisten", "tcp"],
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    try:
        with os.fdopen(read) as number:
            yield f":{number.readline().strip()}"
    finally:
        server.terminate()
        server.wait()


@pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in X_TOOLS),
    reason=f"needs {', '.join(X_TOOLS)}: apt-get install xvfb xdotool imagemagick",
)
@pytest.mark.parametrize(("name", "kind", "least"), [("xterm", "sixel", 0.98), ("kitty", "kitty", 0.93)])
def test_a_real_terminal_shows_the_image(tmp_path: Path, name: str, kind: str, least: float) -> None:
    if shutil.which(name) is None:
        pytest.skip(f"needs {name}: apt-get install {name}")
    paths, state = images(tmp_path), tmp_path / "state.json"
    script = tmp_path / "app.py"
    script.write_text(APP)
    with display() as number:
        env = environment(tmp_path, DISPLAY=number, LIBGL_ALWAYS_SOFTWARE="1", XDG_RUNTIME_DIR=str(tmp_path))
        command = [sys.executable, str(script), str(state), *map(str, paths)]
        terminal = subprocess.Popen([*TERMINALS[name], *command], env=env, stderr=subprocess.DEVNULL)

        def press(key: str) -> None:
            state.unlink()
            subprocess.run(["xdotool", "mousemove", "200", "100", "key", key], env=env, check=True)

        def told() -> dict[str, Any]:
            until(state.exists)
            found: dict[str, Any] = json.loads(state.read_text())
            return found

        def screen() -> np.ndarray:
            shot = subprocess.run(
                ["import", "-window", "root", "png:-"], env=env, check=True, capture_output=True
            )
            return np.asarray(Image.open(io.BytesIO(shot.stdout)).convert("RGB"))

        def likeness(at: dict[str, Any], path: Path, skip_rows: int = 0) -> float:
            """Correlation of the image's region on the screen with the image."""
            width, height = at["pixels"]
            left, top = at["x"] * at["cell"][0], at["y"] * at["cell"][1]
            cut = skip_rows * at["cell"][1]
            wanted = np.asarray(Image.open(path).resize((width, height), Image.Resampling.NEAREST))[cut:]
            shown = screen()[top + cut : top + height, left : left + width]
            return correlation(shown, wanted) if shown.std() > 0 else 0.0

        try:
            at = told()
            assert at["kind"] == kind, at["why"]
            assert at["pixels"][0] > 100
            assert until(lambda: likeness(at, paths[0]) >= least)
            time.sleep(0.2)
            below = screen()[(at["y"] + at["rows"]) * at["cell"][1] :]

            press("m")
            assert told()["screens"] == 2
            until(lambda: abs(likeness(at, paths[0])) < 0.5)  # nothing of it is left
            press("c")
            told()
            assert until(lambda: likeness(at, paths[0]) >= least)

            press("n")
            assert told()["seen"] == 1
            assert until(lambda: likeness(at, paths[1]) >= least)
            assert likeness(at, paths[0]) < 0.6
            np.testing.assert_array_equal(screen()[(at["y"] + at["rows"]) * at["cell"][1] :], below)

            press("s")
            moved = told()
            assert moved["y"] == at["y"] - 5
            assert until(lambda: likeness(moved, paths[1], skip_rows=5) >= least)
        finally:
            terminal.terminate()
            terminal.wait()


@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux: apt-get install tmux")
def test_tmux_shows_half_blocks(tmp_path: Path) -> None:
    paths, state = images(tmp_path), tmp_path / "state.json"
    script = tmp_path / "app.py"
    script.write_text(APP)
    env = environment(tmp_path, TERM="xterm-256color", COLORTERM="truecolor")
    tmux = ["tmux", "-S", str(tmp_path / "socket"), "-f", "/dev/null"]
    command = [sys.executable, str(script), str(state), *map(str, paths)]
    subprocess.run([*tmux, "new-session", "-d", "-x", "90", "-y", "30", *command], env=env, check=True)
    try:
        until(state.exists)
        at = json.loads(state.read_text())
        if at["kind"] == "sixel":
            pytest.skip("this tmux draws sixel itself")
        assert at["kind"] == "blocks"
        assert "tmux" in at["why"]

        def colours() -> np.ndarray | None:
            pane = subprocess.run(
                [*tmux, "capture-pane", "-p", "-e"], env=env, check=True, capture_output=True
            )
            dots = np.zeros((2 * at["rows"], at["columns"], 3))
            for row in range(at["rows"]):
                line = pane.stdout.decode().split("\n")[at["y"] + row]
                front: Any = (0, 0, 0)
                back: Any = (0, 0, 0)
                column = -at["x"]
                for match in re.finditer(r"\x1b\[([\d;]*)m|(.)", line):
                    if match[2]:
                        if 0 <= column < at["columns"]:
                            if match[2] not in " ▀▄█":
                                return None
                            dots[2 * row, column] = front if match[2] in "▀█" else back
                            dots[2 * row + 1, column] = front if match[2] in "▄█" else back
                        column += 1
                        continue
                    for kind, colour in re.findall(r"([34])8;2;(\d+;\d+;\d+)", match[1]):
                        value = tuple(map(int, colour.split(";")))
                        front, back = (value, back) if kind == "3" else (front, value)
            return dots

        shown = until(lambda: (found := colours()) is not None and found.std() > 5 and [found])[0]
        size = at["columns"], 2 * at["rows"]
        wanted = np.asarray(Image.open(paths[0]).resize(size, Image.Resampling.BOX))
        assert correlation(shown, wanted) >= 0.98
    finally:
        subprocess.run([*tmux, "kill-server"], env=env, check=False)
