"""The other side of a pseudo-terminal, and programs that run in it."""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.tui.terminal import Screen

UTF8 = {"LANG": "en_US.UTF-8", "TERM": "xterm-256color", "COLORTERM": "truecolor"}
PATHS = {key: os.environ[key] for key in ("PYTHONPATH",) if key in os.environ}
XTERM = (
    "\x1bP>|XTerm(390)\x1b\\\x1b[6;20;10t\x1b[4;480;800t\x1b[8;24;80t"
    "\x1b[?1;0;16S\x1b[?1;0;1024S\x1b[?2;0;800;480S\x1b[?2026;2$y\x1b[?63;1;2;4;22c"
)
KITTY = "\x1b_Gi=4207;OK\x1b\\\x1bP>|kitty(0.36.4)\x1b\\\x1b[6;20;10t\x1b[?2026;2$y\x1b[?62;52;c"
PLAIN = "\x1b[?1;2c"


class Terminal:
    """The other side of a pseudo-terminal: shows what comes and answers questions after a while.

    Parameters
    ----------
    answer : str
        What it answers to a question that ends with DA1.
    delay : float, optional
        Seconds before it answers; None for never.
    """

    def __init__(self, answer: str = XTERM, delay: float | None = 0.0, chunk: int = 4096) -> None:
        self.answer, self.delay, self.chunk = answer, delay, chunk
        self.screen = Screen(80, 24)
        self.questions = 0
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self._stop = threading.Event()
        self._due: list[tuple[float, bytes]] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def resize(self, columns: int, rows: int, pid: int) -> None:
        """Change the size, and tell the program in the foreground as the kernel would."""
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.kill(pid, signal.SIGWINCH)

    def answered(self, questions: int, seconds: float = 20.0) -> bool:
        """Wait until so many questions came and every answer went out whole: a key would break into it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.questions >= questions and not self._due:
                return True
            time.sleep(0.02)
        return False

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self.master)
        os.close(self.slave)

    def _run(self) -> None:
        # A read may end within a character, or within a question.
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        end = ""
        while not self._stop.is_set():
            if select.select([self.master], [], [], 0.005)[0]:
                try:
                    data = decode(os.read(self.master, 65536))
                except OSError:
                    return
                for _ in range((end + data).count("\x1b[c")):
                    if self.delay is not None:
                        text = self.answer.encode()
                        pieces = [text[i : i + self.chunk] for i in range(0, len(text), self.chunk)]
                        at = time.monotonic() + self.delay
                        self._due += [(at + 0.01 * n, piece) for n, piece in enumerate(pieces)]
                    self.questions += 1
                end = (end + data)[-2:]
                self.screen.feed(data)
            while self._due and self._due[0][0] <= time.monotonic():
                os.write(self.master, self._due.pop(0)[1])


@contextmanager
def child(script: str, terminal: Terminal, tmp_path: Path, **env: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process whose controlling terminal is ours; it talks to the test by lines on a pipe."""
    read, write = os.pipe()
    code = textwrap.dedent(script)
    prelude = "import os, sys, json\nOUT = os.fdopen(int(sys.argv[1]), 'w', buffering=1)\n"

    def attach_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        [sys.executable, "-c", prelude + code, str(write)],
        stdin=terminal.slave,
        stdout=terminal.slave,
        stderr=terminal.slave,
        pass_fds=[write],
        preexec_fn=attach_terminal,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "XDG_CACHE_HOME": str(tmp_path),
            **PATHS,
            **UTF8,
            **env,
        },
    )
    os.close(write)
    process.lines = os.fdopen(read)  # type: ignore[attr-defined]
    try:
        yield process  # type: ignore[misc]
    finally:
        process.kill()
        process.wait()
        process.lines.close()  # type: ignore[attr-defined]


def line(process: Any) -> Any:
    text = process.lines.readline()
    assert text, "the child ended"
    return json.loads(text)
