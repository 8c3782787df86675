"""A training process's view of its job: directory, stop request and inputs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import numpy.typing as npt

from labeltui import paths, store
from labeltui.io import files
from labeltui.io.atomic import write_json
from labeltui.journal import identity
from labeltui.train.jobs import HEARTBEAT_SECONDS
from labeltui.train.spec import TrainSpec

RESERVE = ".reserve"
RESERVE_BYTES = 8192


class Paused(Exception):
    """Time limit reached; checkpoint saved."""


class Run:
    """A job's directory as seen by its own process: progress, heartbeat and stop requests."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        events = files.open_own(directory / paths.EVENTS_FILE, os.O_WRONLY | os.O_APPEND)
        self._events = open(events, "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._last = 0.0
        self._last_event = ("", -1.0)
        self.notes: list[str] = []
        self.launch = _read_launch(directory / paths.LAUNCH_FILE)
        self._begun = time.monotonic()

    @contextlib.contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Keep the heartbeat fresh, and treat SIGTERM as a stop request."""

        def on_terminate(number: int, frame: FrameType | None) -> None:
            self._stop.set()

        signal.signal(signal.SIGTERM, on_terminate)
        # Reserved for exit.json: a run that filled the disk must still be able to report it.
        with contextlib.suppress(OSError):
            files.write_own(self.directory / RESERVE, bytes(RESERVE_BYTES))
        beat = {**identity(), "time": time.time()}
        write_json(self.directory / paths.HEARTBEAT_FILE, beat)
        thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            with contextlib.suppress(OSError):  # the disk is full
                self._events.close()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            # Touched, not rewritten: readers on other hosts check its time, those on this host the process.
            with contextlib.suppress(OSError):
                os.utime(self.directory / paths.HEARTBEAT_FILE, follow_symlinks=False)

    def cancelled(self) -> bool:
        """Whether a stop was requested."""
        return self._stop.is_set() or (self.directory / paths.CANCEL_FILE).exists()

    def time_limit_reached(self) -> bool:
        """Whether the time limit of this start has passed."""
        minutes = float(self.launch.get("minutes", 0.0))
        return minutes > 0 and time.monotonic() - self._begun > 60 * minutes

    def event(self, stage: str, progress: float, **more: float) -> None:
        """Append a progress event: at most ten a second and one per thousandth, except those with `more`.

        This keeps the file small for runs of any length.

        Parameters
        ----------
        stage : str
        progress : float
            0..1, of the whole job.
        **more : float
            Further values of the event, such as losses.
        """
        now, event = time.monotonic(), (stage, round(progress, 3))
        if not more and (event == self._last_event or (progress < 1.0 and now - self._last < 0.1)):
            return
        self._last, self._last_event = now, event
        line = {"time": round(time.time(), 3), "stage": stage, "progress": round(progress, 4), **more}
        self._events.write(json.dumps(line) + "\n")

    def note(self, text: str) -> None:
        """Record a message for the user, once, in exit.json and in the log."""
        if text not in self.notes:
            self.notes.append(text)
            print(text, flush=True)

    def exit(self, state: str, message: str = "", **more: Any) -> None:
        """Write the final state; the last write of a job.

        Parameters
        ----------
        state : str
            One of `labeltui.train.jobs.ENDED`.
        message : str
        **more
            JSON values: metrics, flags and so on.
        """
        (self.directory / RESERVE).unlink(missing_ok=True)
        write_json(
            self.directory / paths.EXIT_FILE,
            {"state": state, "message": message, "time": time.time(), "notes": self.notes, **more},
        )


def _read_launch(path: Path) -> dict[str, Any]:
    try:
        return files.read_json(path)
    except (OSError, ValueError):  # started by hand
        return {}


@dataclass(frozen=True)
class Task:
    """Inputs of a job.

    Attributes
    ----------
    job : Run
    spec : TrainSpec
    audit : Store
        At the generation of the spec.
    labels : ndarray of int32, shape (N,)
        -1 = none.
    roles : ndarray of uint8, shape (N,)
        See `labeltui.train.spec`.
    weights : ndarray of float32, shape (N,), optional
    checked : ndarray of int8, shape (N,), optional
        1 = the given label was confirmed, 0 = it was found wrong, -1 = not reviewed.
    injected : ndarray of int32, shape (N,), optional
        Injected wrong labels that replace `labels` in training, for calibration; -1 = none.
    """

    job: Run
    spec: TrainSpec
    audit: store.Store
    labels: npt.NDArray[np.int32]
    roles: npt.NDArray[np.uint8]
    weights: npt.NDArray[np.float32] | None
    checked: npt.NDArray[np.int8] | None = None
    injected: npt.NDArray[np.int32] | None = None

    @property
    def train_labels(self) -> npt.NDArray[np.int32]:
        """The labels used in training: `labels` with the injected ones."""
        return (
            self.labels if self.injected is None else np.where(self.injected >= 0, self.injected, self.labels)
        )
