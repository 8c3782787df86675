"""What goes wrong around the program ends neither it nor what is shown."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from textual import events
from textual._compositor import CompositorUpdate
from textual.geometry import Size

from labeltui.audit import Audit
from labeltui.errors import AuditError
from labeltui.frames.differ import DifferedUpdate, FrameDiffer
from labeltui.train import launch
from labeltui.train.jobs import JobManager
from tests import shims
from tests.factories import make_audit
from tests.runs import begin
from tests.tui.desk import at_desk
from tests.tui.pseudo import KITTY, PLAIN, XTERM, Terminal, child, line
from tests.tui.terminal import Screen

PROGRAM = """
    from pathlib import Path
    from labeltui.audit import Audit
    from labeltui.tui.app import LabeltuiApp
    from labeltui.graphics import attach
    from labeltui.graphics.probe import detect

    caps = detect("auto")
    print(json.dumps(caps.kind), file=OUT)
    with Audit.open(Path({path!r}), reviewer="tester") as audit:
        app = LabeltuiApp(audit, train_after=0)
        attach(app, caps, None)
        app.run()
"""


ROOT = Path(__file__).parents[2]


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


def test_the_terminal_of_these_tests_reads_what_comes_in_pieces() -> None:
    terminal = Terminal(delay=None)
    try:
        for byte in "│\x1b[cé\x1b[31m…".encode():
            os.write(terminal.slave, bytes([byte]))
            time.sleep(0.02)
        wait(lambda: terminal.screen.row(0).rstrip() == "│é…")
        assert terminal.questions == 1
    finally:
        terminal.close()


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


RESIZES = 500
LARGEST = 200, 60
STORM = PROGRAM.replace(
    "    with Audit",
    """
    from labeltui.frames.differ import FrameDiffer
    difference = FrameDiffer.difference

    def report(self, frame):  # what goes wrong here is mended by sending the whole frame
        try:
            return difference(self, frame)
        except Exception as error:
            print(json.dumps(repr(error)), file=OUT)
            raise

    FrameDiffer.difference = report
    with Audit""",
    1,
)


def corner(terminal: Terminal) -> tuple[list[str], int]:
    """Return what `seen` would, of the part that 80x24 cells take."""
    screen = terminal.screen
    return [screen.row(y)[:80] for y in range(24)], int(screen.has_pixels()[:24, :80].sum())


@pytest.mark.timeout(400)  # seconds, on a machine of its own
@pytest.mark.parametrize("answer", [PLAIN, XTERM, KITTY], ids=["blocks", "sixel", "kitty"])
def test_any_number_of_resizes_at_any_speed_is_survived(answer: str, tmp_path: Path) -> None:
    rng = random.Random(0)
    path = make_audit(tmp_path, n=60)
    terminal = Terminal(answer=answer)
    try:
        with child(STORM.format(path=str(path)), terminal, tmp_path) as process:
            line(process)
            wait(lambda: "QUEUE" in "\n".join(seen(terminal)[0]))
            before = settled(terminal)
            # Large enough for every size: frames that are on their way at a change of size do not run out of it.
            images, placements = terminal.screen.images, terminal.screen.placements
            terminal.screen = Screen(*LARGEST, images=images, placements=placements)
            for number in range(RESIZES):
                terminal.resize(rng.randrange(10, LARGEST[0]), rng.randrange(4, LARGEST[1]), process.pid)
                if number % 10 == 0:
                    terminal.type(rng.choice("jk"))
                time.sleep(rng.choice((0, 0.001, 0.01)))
            terminal.resize(80, 24, process.pid)
            settled(terminal)
            terminal.type("k" * RESIZES + "\x0c")
            end = time.monotonic() + 60
            while corner(terminal) != before and time.monotonic() < end:
                time.sleep(0.1)
            assert corner(terminal) == before
            terminal.type("q")
            assert process.wait(60) == 0
            assert process.lines.read() == "", "a frame could not be compared"
    finally:
        terminal.close()


class Frame(CompositorUpdate):
    def __init__(self, text: str) -> None:
        self.text = text

    def render_segments(self, console: Console) -> str:
        return self.text


def test_a_frame_for_a_wider_terminal_is_no_error() -> None:
    differ = FrameDiffer()
    differ.forget(10, 2)
    mark = "\x1b^4\x1b\\▀▀▀▀\x1b^\x1b\\"
    assert differ.difference(f"\x1b[1;31H{mark}") is not None
    assert "▀" not in differ.difference(f"\x1b[1;31H{mark}")


def test_a_frame_that_cannot_be_compared_goes_out_as_it_is() -> None:
    differ = FrameDiffer()
    differ.forget(10, 2)
    differ._styles.clear()  # whatever the reason is
    sent = DifferedUpdate(differ, Frame("\x1b[1;1Habc\x1b^2\x1b\\▀▀\x1b^\x1b\\")).render_segments(Console())
    assert sent == "\x1b[1;1Habc▀▀"
    assert "abc" in DifferedUpdate(differ, Frame("\x1b[1;1Habc")).render_segments(Console())


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


async def test_training_waits_until_a_bulk_decision_can_be_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "launch", begin)
    path = make_audit(tmp_path, n=240)
    async with at_desk(path, trains=True, train_after=3) as desk:
        await desk.press("v", "v", "v", "v", "b")
        await desk.press("enter")
        assert desk.audit.summary().relabelled == 4
        assert not desk.app.training.active
        await desk.do("undo")
        assert desk.audit.summary().relabelled == 0
        assert not desk.app.training.active
        await desk.do("redo", "suggestion-1")
        await desk.until(lambda: "started after" in desk.status, 60)


@pytest.fixture
def full_disk() -> Iterator[Callable[[bool], None]]:
    """Limits the size of files: to the process a disk that is full."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda full: resource.setrlimit(resource.RLIMIT_FSIZE, (0 if full else old[0], old[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
    signal.signal(signal.SIGXFSZ, handler)


async def test_unsaved_decisions_are_neither_exported_nor_left_silently(
    tmp_path: Path, full_disk: Callable[[bool], None]
) -> None:
    path = make_audit(tmp_path, n=240)
    out = tmp_path / "labels.csv"
    with pytest.raises(AuditError, match="1 actions could not be saved"):  # noqa: PT012
        async with at_desk(path, size=(160, 40)) as desk:
            full_disk(True)
            await desk.do("suggestion-1")
            await desk.until(lambda: desk.audit.failed is not None)
            desk.app.export(out, only_changed=False, force=False)
            await desk.until(lambda: "not saved yet" in desk.text)
            assert not out.exists()
            await desk.press("escape", "q")
            await desk.until(lambda: "NOT SAVED" in desk.text)
            assert desk.app.is_running
            assert desk.audit.pending == 1
    full_disk(False)


def test_unsaved_decisions_can_be_written_elsewhere(
    tmp_path: Path, full_disk: Callable[[bool], None]
) -> None:
    path = make_audit(tmp_path, n=60)
    elsewhere = tmp_path / "unsaved.jsonl"
    audit = Audit.open(path, reviewer="ada")
    full_disk(True)
    audit.decide([3], "relabel", label=1)
    assert not audit.flush(10)
    # One process has one limit: the pause after a failure is the other disk.
    audit._journal._commit = lambda batch: (_ for _ in ()).throw(OSError("full"))  # type: ignore[method-assign]
    full_disk(False)
    assert audit.write_unsaved(elsewhere) == 1
    with pytest.raises(AuditError, match="1 actions could not be saved"):
        audit.close()
    action = json.loads(elsewhere.read_text())
    assert action["reviewer"] == "ada"
    assert action["rows"][0]["sample_id"] == os.fsdecode(audit_id(path, 3))
    assert action["rows"][0]["new_label"] == "class1"
    with pytest.raises(AuditError, match="new file"), Audit.open(path) as again:
        again.write_unsaved(elsewhere)


def audit_id(path: Path, sample: int) -> bytes:
    with Audit.open(path, read_only=True) as audit:
        return audit.sample_id(sample)


TRAINS = PROGRAM.replace("train_after=0", "later=lambda: JobManager(audit), train_after=3").replace(
    "    with Audit",
    """
    from labeltui.train.jobs import JobManager
    from tests.shims import Faults
    Faults().delay("/runs", {delay})
    with Audit""",
)
SLOW = 6.0
"""Seconds that each look at the runs takes, in the test of a file system that hardly answers."""


def test_decisions_do_not_wait_for_a_slow_directory_of_runs(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    try:
        shim = shims.build(tmp_path_factory.mktemp("shim"))
    except OSError:
        pytest.skip("needs a C compiler")
    path = make_audit(tmp_path, n=240)
    (path / "runs" / "20260101T000000Z-abcd").mkdir(parents=True)
    terminal = Terminal(answer=PLAIN)
    environment = {"LD_PRELOAD": str(shim), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    try:
        script = TRAINS.format(path=str(path), delay=round(SLOW * 1000))
        with child(script, terminal, tmp_path, **environment) as process:
            line(process)
            wait(lambda: "QUEUE" in "\n".join(seen(terminal)[0]))
            for number in range(1, 7):  # a run is started behind the third
                terminal.type("1")
                wait(lambda n=number: f"reviewed {n} " in " ".join(seen(terminal)[0]), SLOW - 1)
            terminal.type("?")  # screens open meanwhile, too
            wait(lambda: "Help" in "\n".join(seen(terminal)[0]), SLOW - 1)
    finally:
        terminal.close()
    with Audit.open(path, read_only=True) as audit:
        assert audit.summary().relabelled == 6


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    made = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "none", place], capture_output=True
    )
    if not made or made.returncode:
        pytest.skip("only an administrator can mount a file system")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


async def test_a_full_disk_ends_nothing_and_what_was_decided_meanwhile_is_saved_later(
    small_disk: Path,
) -> None:
    path = make_audit(small_disk, n=240)
    filling = small_disk / "filling"
    async with at_desk(path, size=(120, 40), trains=True, train_after=20) as desk:
        await desk.do("suggestion-1")
        await desk.until(lambda: not desk.audit.pending)
        with filling.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"0" * 4096)
        for _ in range(22):  # training starts by itself behind the twentieth
            await desk.do("suggestion-1")
        await desk.until(lambda: desk.audit.failed is not None)
        await desk.until(lambda: "NOT SAVED" in desk.text)
        assert desk.app.is_running
        filling.unlink()
        await desk.until(lambda: not desk.audit.pending, 60)
        assert "NOT SAVED" not in desk.text
    with Audit.open(path, read_only=True) as audit:
        assert audit.summary().relabelled == 23


@pytest.mark.parametrize("size", [(59, 24), (80, 14)])
async def test_nothing_is_decided_on_a_screen_that_is_too_small(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    path = make_audit(tmp_path, n=120)
    async with at_desk(path, size=size) as desk:
        assert "too small" in desk.status
        await desk.press("1", "d", "space")
        assert desk.audit.summary().reviewed == 0
        desk.app.post_message(events.Resize(Size(80, 24), Size(80, 24)))
        await desk.until(lambda: desk.app.size == (80, 24))
        await desk.press("1")
        assert desk.audit.summary().reviewed == 1


def test_a_terminal_without_a_cursor_is_refused(tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=60)
    terminal = Terminal(answer=PLAIN)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "labeltui", "review", str(path)],
            env={**os.environ, "TERM": "dumb"},
            stdin=terminal.slave,
            stderr=terminal.slave,
        )
        assert done.returncode == 2
        wait(lambda: "TERM is dumb" in "\n".join(seen(terminal)[0]))
    finally:
        terminal.close()


async def test_a_trainer_that_cannot_be_loaded_leaves_the_review_as_it_is(tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=120)

    def broken() -> JobManager:
        raise ImportError("no such library")

    async with at_desk(path, later=broken) as desk:
        await desk.until(lambda: "no such library" in desk.status)
        assert not desk.app.training.possible
        await desk.do("train", "suggestion-1")
        assert not desk.app.training.active
        assert desk.audit.summary().reviewed == 1


async def test_a_click_on_a_screen_that_is_too_small_does_nothing(tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=120)
    async with at_desk(path, size=(59, 20)) as desk:
        row = desk.session.row
        await desk.click(40, 8)
        assert desk.session.row == row
