"""One line of progress on stderr: a bar on a terminal, now and then a plain line in a log file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TextIO

BAR = 24
DEFAULT_COLUMNS = 80
REDRAW_SECONDS = 0.1
LOG_SECONDS = 30.0
LEAST_SHARE = 0.03  # of a stage, before what it has taken says how long it will take


class ProgressLine:
    """Shows how far the stages of a long command are.

    Parameters
    ----------
    stream : text file
        Where to; drawn over in place when it is a terminal.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._clock = clock
        self._stage = ""
        self._begun = 0.0
        self._first = 0
        self._total = 0
        self._complete = False
        self._next = 0.0
        self._line = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report that `done` of `total` units of a stage are finished."""
        now = self._clock()
        if stage != self._stage:
            self.finish()
            self._stage, self._complete, self._total = stage, False, 0
            self._next = now if self._terminal else now + LOG_SECONDS
        if self._complete:
            return
        if total != self._total:  # a stage may learn what it counts; finished work it found is not its own
            self._total, self._begun, self._first = total, now, done
        self._line = self._text(now, done, total)
        self._complete = done >= total
        if now >= self._next or self._complete:
            self._next = now + (REDRAW_SECONDS if self._terminal else LOG_SECONDS)
            self._draw()

    def finish(self) -> None:
        """End the line of the stage shown."""
        if self._stage and self._terminal:
            self._draw()
            self._stream.write("\n")
            self._stream.flush()
        self._stage = ""

    def _text(self, now: float, done: int, total: int) -> str:
        seconds = now - self._begun
        share = done / total if total else 1.0
        filled = int(share * BAR)
        parts = [f"{self._stage:<6} [{'#' * filled}{'.' * (BAR - filled)}] {share:4.0%}"]
        # Stages that count samples have a rate worth showing; those that only know a share have not.
        if total > 100:
            parts.append(f"{done:,}/{total:,}")
        new = done - self._first
        if seconds > 0.5 and new > 0:
            if total > 100:
                parts.append(f"{new / seconds:,.0f}/s")
            if done >= total:
                parts.append(f"in {span(seconds)}")
            elif new >= LEAST_SHARE * (total - self._first):
                parts.append(f"eta {span((total - done) * seconds / new)}")
        return "  ".join(parts)

    def _draw(self) -> None:
        if self._terminal:
            self._stream.write("\r\x1b[K" + self._line[: self._columns() - 1])
        else:
            self._stream.write(self._line + "\n")
        self._stream.flush()

    def _columns(self) -> int:
        """Width of the terminal that the line is drawn on; stdout may be another one, or a pipe."""
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or DEFAULT_COLUMNS
        except (OSError, ValueError):  # no descriptor, or no terminal behind it
            return DEFAULT_COLUMNS


def span(seconds: float, tenths: bool = True) -> str:
    """Format a duration: ``4.2s`` (or ``4s``), ``1m40s``, ``2h05m``.

    Parameters
    ----------
    seconds : float
    tenths : bool
        Show tenths below ten seconds.

    Returns
    -------
    str
    """
    if tenths and seconds < 10:
        return f"{seconds:.1f}s"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    return f"{minutes // 60}h{minutes % 60:02}m"
