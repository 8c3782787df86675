"""Processes that work for this one over a socket, and end when it does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

import labeltui
from labeltui.text import safe


class Child:
    """A process that runs one line of Python.

    Parameters
    ----------
    code : str
        Gets the descriptor of its end of the connection as first argument, then `inherited`.
    inherited : int
        Descriptors that it needs.

    Attributes
    ----------
    connection : Connection
    """

    def __init__(self, code: str, *inherited: int) -> None:
        parent_end, child_end = socket.socketpair()
        # -P: a directory of images may be the working directory, and may hold a numpy.py.
        home = str(Path(labeltui.__file__).parent.parent)
        path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
        with child_end:
            descriptors = (child_end.fileno(), *inherited)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", code, *map(str, descriptors)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=descriptors,
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        self.connection = Connection(parent_end.detach())

    def last_words(self) -> str:
        """Return the last line that it wrote on stderr."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return safe(lines[-1], 300) if lines else ""

    def how_it_ended(self) -> str:
        """Kill it if it still runs, and return how it ended."""
        self.kill()
        code = self._process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"

    def kill(self) -> None:
        """Kill the process if it is still running."""
        self._process.kill()

    def end(self) -> None:
        """End the process and wait for it."""
        self.kill()
        self._process.wait()
        self.connection.close()
        self._errors.close()
