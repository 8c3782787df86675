"""Programs in C that tests and benchmarks put between labeltui and the system."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("faults.c")
OPEN, WRITE, SYNC, RENAME, UNLINK, TRUNCATE, TORN = (1 << bit for bit in range(7))


def build(directory: Path) -> Path:
    """Compile the shim into a directory; raises when there is no C compiler."""
    target = directory / "faults.so"
    subprocess.run(
        ["cc", "-O1", "-shared", "-fPIC", "-o", target, SOURCE, "-ldl", "-lpthread"],
        check=True,
        capture_output=True,
    )
    return target


def environment(shim: Path) -> dict[str, str]:
    """The environment of a process into which the shim is loaded."""
    return {**os.environ, "LD_PRELOAD": str(shim)}


class Faults:
    """The shim as the process that it is loaded into sees it."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)

    def arm(self, kinds: int, path: str, at: int, error: int) -> None:
        """Let call number `at` (-1: all) of some kinds fail on files whose path contains `path`."""
        self._library.faults_arm(kinds, os.fsencode(path), at, error)

    def delay(self, path: str, milliseconds: int) -> None:
        """Let opening and looking up files whose path contains `path` take longer."""
        self._library.faults_delay(os.fsencode(path), milliseconds)

    def disarm(self) -> int:
        """Let all calls through; returns how many were counted."""
        counted = int(self._library.faults_count())
        self._library.faults_arm(0, b"", 0, 0)
        return counted

    def trace(self, path: str, log: str) -> None:
        """Write what changes files below `path` into `log`, until it is called with an empty one."""
        self._library.faults_trace(os.fsencode(path), os.fsencode(log))
