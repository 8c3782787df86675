"""The whole story in a terminal: relabel, train, lose the terminal, log in again, and find the queue re-ranked."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from labeltui.audit import Audit
from labeltui.journal import lives_here
from labeltui.train import jobs
from labeltui.train.jobs import list_jobs
from tests.factories import make_audit
from tests.tui.pseudo import PATHS, UTF8, Terminal

WAIT = 100.0


class Login:
    """A shell in a terminal, and the review in the shell."""

    def __init__(self, path: Path, home: Path) -> None:
        self.audit = path
        self.terminal = Terminal()
        review = shlex.join([sys.executable, "-m", "labeltui", "review", str(path), "--graphics", "blocks"])

        def attach_terminal() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.shell = subprocess.Popen(
            ["/bin/sh", "-c", f"{review}; echo logged out"],
            stdin=self.terminal.slave,
            stdout=self.terminal.slave,
            stderr=self.terminal.slave,
            preexec_fn=attach_terminal,
            env={"PATH": os.environ["PATH"], "HOME": str(home), **PATHS, **UTF8},
        )

    @property
    def text(self) -> str:
        screen = self.terminal.screen
        return "\n".join(screen.row(y) for y in range(screen.rows))

    @property
    def sample(self) -> str:
        """The sample looked at: the queue's row at the cursor."""
        return self.text.split("▌")[1].split()[0]

    @property
    def owner(self) -> dict[str, Any]:
        """The review's process, as the audit's lock names it."""
        record: dict[str, Any] = json.loads((self.audit / "journal.lock").read_text())
        return record

    def see(self, *words: str) -> None:
        until(lambda: all(word in self.text for word in words), lambda: f"{words} on\n{self.text}")

    def type(self, keys: str) -> None:
        self.terminal.type(keys)

    def lose(self) -> None:
        """Kill everything of the login at once: UI, shell, terminal."""
        os.kill(self.owner["pid"], signal.SIGKILL)
        self.shell.kill()
        self.shell.wait()
        self.terminal.close()


def until(holds: Callable[[], bool], what: Callable[[], str]) -> None:
    end = time.monotonic() + WAIT
    while not holds():
        assert time.monotonic() < end, f"waited {WAIT:.0f} s for {what()}"
        time.sleep(0.05)


@contextmanager
def login(path: Path, home: Path) -> Iterator[Login]:
    made = Login(path, home)
    try:
        yield made
    finally:
        if made.shell.poll() is None:
            made.lose()


def process_of(job: jobs.Job) -> int:
    return int(json.loads((job.directory / "heartbeat.json").read_text())["pid"])


@pytest.mark.timeout(400)
def test_training_survives_the_terminal_and_a_lost_run_goes_on(tmp_path: Path) -> None:
    path, home = make_audit(tmp_path, n=240), tmp_path / "home"
    (home / ".config" / "labeltui").mkdir(parents=True)
    (home / ".config" / "labeltui" / "config.toml").write_text("[train]\nafter = 3\n")
    with login(path, home) as first:
        first.see("Is the given label right?")
        first.type("x")  # closes the greeting
        first.see("QUEUE", "suggested")
        first.type("111")  # the third one starts training
        until(lambda: any(job.state == "running" for job in list_jobs(path)), lambda: first.text)
        job = list_jobs(path)[0]
        process = process_of(job)
        assert os.getsid(process) == process != os.getsid(first.shell.pid)
        first.see("TRAIN")
        sample = first.sample
        remembered = home / ".local" / "state" / "labeltui" / "audits"
        until(
            lambda: any(
                json.loads(file.read_text())["sample"] == int(sample) for file in remembered.glob("*.json")
            ),
            lambda: f"the place {sample}",
        )
        first.lose()
        until(lambda: not lives_here(first.owner), lambda: "the review's end")
    assert jobs.read(job.directory).state == "running"
    # It works on; it is held for a moment only so that it does not end before somebody logs in.
    os.kill(process, signal.SIGSTOP)
    with login(path, home) as second:
        second.see("QUEUE", "TRAIN head", "relabelled 3")
        assert second.sample == sample  # where the terminal was lost
        second.type("jj")
        until(lambda: second.sample != sample, lambda: second.text)
        time.sleep(0.2)
        sample = second.sample
        os.kill(process, signal.SIGCONT)
        second.see("new scores:", "new flags", "cleared; the queue is re-ranked")
        assert second.sample == sample
        assert "TRAIN" not in second.text
        second.type("r")
        second.see("TRAINING RUNS", "1 run", "✓ done", "measured  accuracy")
        second.type("\r")
        second.see("COMPARISON", "given", "current", "samples with a label")
        second.type("\x1b")
        second.see("TRAINING RUNS")
        second.type("\x1b")
        second.see("QUEUE")

        # The next run is killed itself, as by the kernel when memory is short.
        second.type("t")
        until(lambda: len(list_jobs(path)) == 2, lambda: second.text)
        lost = list_jobs(path)[1]
        until(lambda: jobs.read(lost.directory).state == "running", lambda: second.text)
        os.kill(process_of(lost), signal.SIGKILL)
        second.see("run 2 lost: its process ended unexpectedly")
        second.type("r")
        second.see("? lost")
        second.type("t")
        second.see("run 2 resumes")
        until(lambda: jobs.read(lost.directory).state == "done", lambda: second.text)
        second.see("✓ done")
        second.type("\x1b")
        second.see("QUEUE", "new scores:")
        second.type("q")
        second.see("logged out")
    with Audit.open(path) as audit:
        assert audit.summary().relabelled == 3
        assert audit.refresh() is None  # the review has adopted both
        assert audit.generation == 2
