"""What goes wrong around the program ends neither it nor what is shown."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from textual._compositor import CompositorUpdate

from labeltui.audit import Audit
from labeltui.tui.wire import Squeezed, Wire
from tests.factories import make_audit
from tests.tui.desk import at_desk
from tests.tui.pseudo import KITTY, PLAIN, XTERM, Terminal, child, line

PROGRAM = """
    from pathlib import Path
    from labeltui.audit import Audit
    from labeltui.tui.app import LabeltuiApp
    from labeltui.tui.graphics import attach
    from labeltui.tui.graphics.probe import detect

    caps = detect("auto")
    print(json.dumps(caps.kind), file=OUT)
    with Audit.open(Path({path!r}), reviewer="tester") as audit:
        app = LabeltuiApp(audit, train_after=0)
        attach(app, caps, None)
        app.run()
"""


def wait(holds: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def seen(terminal: Terminal) -> tuple[list[str], int]:
    """Return the text on the screen and how many cells show pixels."""
    screen = terminal.screen
    return [screen.row(y) for y in range(screen.rows)], int(screen.has_pixels().sum())


def settled(terminal: Terminal) -> tuple[list[str], int]:
    """Return what is on the screen once nothing has come for half a second."""
    received = -1
    while received != terminal.screen.received:
        received = terminal.screen.received
        time.sleep(0.5)
    return seen(terminal)


@pytest.mark.parametrize("answer", [PLAIN, XTERM, KITTY], ids=["blocks", "sixel", "kitty"])
def test_redraw_and_resume_show_everything_again(answer: str, tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=60)
    terminal = Terminal(answer=answer)
    try:
        with child(PROGRAM.format(path=str(path)), terminal, tmp_path) as process:
            line(process)
            wait(lambda: "QUEUE" in "\n".join(seen(terminal)[0]))
            before = settled(terminal)
            assert (before[1] > 0) == (answer != PLAIN)

            def wipe() -> None:
                terminal.screen.clear()
                terminal.screen.placements.clear()

            wipe()
            terminal.type("\x0c")
            assert settled(terminal) == before, "Ctrl-L left something out"

            os.kill(process.pid, signal.SIGTSTP)
            wait(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
            wipe()
            os.kill(process.pid, signal.SIGCONT)
            wait(lambda: seen(terminal)[0] == before[0])
            assert settled(terminal) == before, "after SIGCONT something is missing"
    finally:
        terminal.close()


class Frame(CompositorUpdate):
    def __init__(self, text: str) -> None:
        self.text = text

    def render_segments(self, console: Console) -> str:
        return self.text


def test_a_frame_for_a_wider_terminal_is_no_error() -> None:
    wire = Wire()
    wire.forget(10, 2)
    mark = "\x1b^4\x1b\\▀▀▀▀\x1b^\x1b\\"
    assert wire.squeeze(f"\x1b[1;31H{mark}") is not None
    assert "▀" not in wire.squeeze(f"\x1b[1;31H{mark}")


def test_a_frame_that_cannot_be_compared_goes_out_as_it_is() -> None:
    wire = Wire()
    wire.forget(10, 2)
    wire._styles.clear()  # whatever the reason is
    sent = Squeezed(wire, Frame("\x1b[1;1Habc\x1b^2\x1b\\▀▀\x1b^\x1b\\")).render_segments(Console())
    assert sent == "\x1b[1;1Habc▀▀"
    assert "abc" in Squeezed(wire, Frame("\x1b[1;1Habc")).render_segments(Console())


async def test_training_that_cannot_start_ends_nothing(tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=240)
    shutil.rmtree(path / "runs", ignore_errors=True)
    (path / "runs").write_text("no directory can be made here")
    async with at_desk(path, trains=True, train_after=3) as desk:
        await desk.do("suggestion-1", "suggestion-1", "suggestion-1")
        await desk.until(lambda: "training did not start" in desk.status, 60)
        await desk.do("suggestion-1")
        assert desk.app.is_running
    with Audit.open(path, read_only=True) as audit:
        assert audit.summary().relabelled == 4


async def test_an_unknown_state_of_a_run_is_a_failed_run(tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=120)
    run = path / "runs" / "20260101T000000Z-abcd"
    run.mkdir(parents=True)
    (run / "exit.json").write_text('{"state": "sideways"}')
    async with at_desk(path, trains=True) as desk:
        await desk.do("runs")
        await desk.until(lambda: "failed" in desk.text)
        assert "unknown state" in desk.text


async def test_training_waits_until_a_bulk_decision_can_be_undone(tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=240)
    async with at_desk(path, trains=True, train_after=3) as desk:
        await desk.press("v", "v", "v", "v", "b")
        await desk.press("enter")
        assert desk.audit.summary().relabelled == 4
        assert not desk.app.training
        await desk.do("undo")
        assert desk.audit.summary().relabelled == 0
        assert not desk.app.training
        await desk.do("redo", "suggestion-1")
        await desk.until(lambda: "started after" in desk.status, 60)
