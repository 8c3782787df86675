from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import termios

import pytest

from labeltui.progress import ProgressLine, span


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_one_line_a_stage() -> None:
    now = 0.0
    stream = Terminal()
    show = ProgressLine(stream, lambda: now)
    for done in range(0, 1001, 10):
        now = done / 100
        show("embed", done, 1000)
    show("graph", 0, 100)
    text = stream.getvalue()
    lines = text.split("\n")
    assert len(lines) == 2
    last = lines[0].split("\r")[-1]
    assert "100%" in last
    assert "1,000/1,000" in last
    assert "100/s" in last
    assert "in 10s" in last
    assert "  eta 5." in text  # half-way


def test_a_log_file_gets_few_plain_lines() -> None:
    now = 0.0
    stream = io.StringIO()
    show = ProgressLine(stream, lambda: now)
    for done in range(1001):
        now = done / 10
        show("embed", done, 1000)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4  # after 30, 60 and 90 seconds, and the end
    assert not any(c in stream.getvalue() for c in "\r\x1b")
    assert "100%" in lines[-1]


def test_a_resumed_stage_counts_only_its_own_work() -> None:
    now = 0.0
    stream = Terminal()
    show = ProgressLine(stream, lambda: now)
    show("embed", 900, 1000)
    now = 10.0
    show("embed", 950, 1000)
    assert "5/s" in stream.getvalue()


def test_the_end_is_said_once() -> None:
    stream = io.StringIO()
    show = ProgressLine(stream)
    for done, total in [(0, 100), (0, 640), (64, 640), (640, 640), (100, 100)]:
        show("embed", done, total)
    assert len(stream.getvalue().splitlines()) == 1


def test_nothing_to_do() -> None:
    stream = Terminal()
    ProgressLine(stream)("embed", 0, 0)
    assert "100%" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0s"), (9.9, "9.9s"), (59.6, "1m00s"), (100, "1m40s"), (7500, "2h05m")]
)
def test_span(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_the_line_fits_the_terminal_that_it_is_drawn_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # what stdout would give
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 30, 0, 0))
        with open(theirs, "w", closefd=False) as stream:
            show = ProgressLine(stream)
            show("embed", 500, 1000)
            show.finish()
        drawn = os.read(ours, 4096).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    line = drawn.replace("\x1b[K", "").replace("\n", "").split("\r")[1]
    assert len(line) == 29
