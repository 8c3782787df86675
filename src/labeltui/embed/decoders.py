"""Decode images, in processes that may crash or in the calling thread."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from labeltui.embed.buffer import FAILED, PENDING, SharedBuffer
from labeltui.embed.children import Child
from labeltui.embed.transform import Transform
from labeltui.embed.worker import Item, decode_into
from labeltui.errors import Cancelled, LabeltuiError
from labeltui.sources import Images
from labeltui.text import safe

DECODE_TIMEOUT = 300.0  # seconds for one image, a stalled network file system included
SERVE = "import sys; from labeltui.embed.worker import main; main(*map(int, sys.argv[1:]))"
START_TIMEOUT = 120.0  # seconds for a process to start


class Decoder(Protocol):
    """Fills consecutive rows of a buffer; thread-safe."""

    def decode(self, row: int, samples: Sequence[Item]) -> list[tuple[int, str]]:
        """Decode samples into consecutive rows of the buffer.

        Parameters
        ----------
        row : int
            Row of the first sample.
        samples : sequence of (bytes, int)
            Id and index of each.

        Returns
        -------
        list of (int, str)
            Offset and reason of each failure.
        """

    def stop(self) -> None:
        """Make running calls of `decode` raise Cancelled soon."""

    def close(self) -> None:
        """Stop and wait; no call of `decode` may be running."""


class InlineDecoder(Decoder):
    """Decodes in the calling thread: for arrays of pixels, which cannot crash a decoder."""

    def __init__(self, buffer: SharedBuffer, images: Images, transform: Transform) -> None:
        self._buffer = buffer
        self._images = images
        self._transform = transform

    def decode(self, row: int, samples: Sequence[Item]) -> list[tuple[int, str]]:
        return [
            (offset, reason)
            for offset, sample in enumerate(samples)
            if (reason := decode_into(self._buffer, row + offset, self._images, self._transform, sample))
            is not None
        ]

    def stop(self) -> None:
        pass

    def close(self) -> None:
        pass


class ProcessDecoder(Decoder):
    """Decodes in a pool of processes, each replaced when an image ends or blocks it.

    Parameters
    ----------
    buffer : SharedBuffer
    images : Images
    transform : Transform
    workers : int
        Number of processes; `decode` may be called by so many threads at a time without waiting.
    patience : float
        Seconds after which an image is given up.
    """

    def __init__(
        self,
        buffer: SharedBuffer,
        images: Images,
        transform: Transform,
        workers: int,
        patience: float = DECODE_TIMEOUT,
    ) -> None:
        self._buffer = buffer
        self._hello = (buffer.shape, images, transform)
        self._patience = patience
        self._stopped = threading.Event()
        self._idle: queue.SimpleQueue[_Process | None] = queue.SimpleQueue()
        self._all: set[_Process] = set()
        self._lock = threading.Lock()
        for _ in range(workers):
            self._idle.put(None)  # started when it is first wanted

    def decode(self, row: int, samples: Sequence[Item]) -> list[tuple[int, str]]:
        process = self._idle.get()
        reasons: list[tuple[int, str]] = []
        crashed = -1
        done = 0
        try:
            while done < len(samples):
                if process is None:
                    process = self._start()
                failed, end = process.run(
                    row + done, samples[done:], self._buffer, self._patience, self._stopped
                )
                reasons += [(done + offset, reason) for offset, reason in failed]
                if end is None:
                    break
                # It ended, or hangs, on the first row that is still pending.
                self._end(process)
                process = None
                pending = np.flatnonzero(self._buffer.state[row : row + len(samples)] == PENDING)
                done = int(pending[0]) if len(pending) else len(samples)
                if done < len(samples) and (done == crashed or not end.may_pass):
                    self._buffer.clear(row + done, row + done + 1)
                    self._buffer.state[row + done] = FAILED
                    reasons.append((done, end.reason))
                    done += 1
                else:
                    crashed = done  # the system may have ended it for want of memory: one more try
        finally:
            self._idle.put(process)
        return reasons

    def stop(self) -> None:
        self._stopped.set()
        with self._lock:
            for process in self._all:
                process.kill()

    def close(self) -> None:
        self.stop()
        for process in self._all:
            process.end()
        self._all.clear()

    def _start(self) -> _Process:
        process = _Process(self._buffer)
        with self._lock:
            self._all.add(process)
        process.greet(self._hello, self._stopped)
        return process

    def _end(self, process: _Process) -> None:
        process.end()
        with self._lock:
            self._all.discard(process)


@dataclass(frozen=True)
class _End:
    """Why a process did not finish its task."""

    reason: str
    may_pass: bool  # the same image may succeed in another process


class _Process:
    """One decoding process and the connection to it."""

    def __init__(self, buffer: SharedBuffer) -> None:
        self._child = Child(SERVE, buffer.descriptor)
        self._connection = self._child.connection

    def greet(self, hello: object, stopped: threading.Event) -> None:
        """Send the initial state and wait until the process is ready."""
        deadline = time.monotonic() + START_TIMEOUT
        try:
            self._connection.send(hello)
            while not self._connection.poll(0.2):
                if stopped.is_set():
                    raise Cancelled("stopped while a decoding process started")
                if time.monotonic() > deadline:
                    raise TimeoutError("no answer")
            self._connection.recv()
        except (EOFError, OSError) as error:
            raise LabeltuiError(
                "a decoding process must start",
                self._child.last_words() or safe(str(error) or type(error).__name__, 300),
                "--workers 0 decodes without processes",
            ) from None

    def run(
        self,
        row: int,
        samples: Sequence[Item],
        buffer: SharedBuffer,
        patience: float,
        stopped: threading.Event,
    ) -> tuple[list[tuple[int, str]], _End | None]:
        """Return (offset, reason) of each failed sample, and how the process ended if it did not finish."""
        failed: list[tuple[int, str]] = []
        try:
            self._connection.send((row, samples))
            pending, since = len(samples), time.monotonic()
            while True:
                if self._connection.poll(0.2):
                    message = self._connection.recv()
                    if message is None:
                        return failed, None
                    failed.append(message)
                    continue
                if stopped.is_set():
                    raise Cancelled("stopped while images were decoded")
                left = int((buffer.state[row : row + len(samples)] == PENDING).sum())
                if left < pending:
                    pending, since = left, time.monotonic()
                elif time.monotonic() - since > patience:
                    return failed, _End(f"it took longer than {patience:g} s to decode", may_pass=False)
        except (EOFError, OSError):
            if stopped.is_set():
                raise Cancelled("stopped while images were decoded") from None
            return failed, _End(f"the decoder crashed on it ({self._child.how_it_ended()})", may_pass=True)

    def kill(self) -> None:
        """Kill the process if it is still running."""
        self._child.kill()

    def end(self) -> None:
        """End the process and wait for it."""
        self._child.end()
