"""What the UI needs of training jobs; `labeltui.train.jobs.Trainer` is that."""

from __future__ import annotations

from typing import Protocol


class JobState(Protocol):
    """A training job as the UI shows it."""

    @property
    def number(self) -> int:
        """Counted from 1 by age."""

    @property
    def what(self) -> str:
        """What is trained, such as ``head`` or a backbone's name."""

    @property
    def state(self) -> str:
        """One of starting, running, done, failed, cancelled, lost."""

    @property
    def active(self) -> bool:
        """Whether it still works."""

    @property
    def stage(self) -> str:
        """What it does at the moment, for people."""

    @property
    def progress(self) -> float:
        """Share of the work done, 0..1."""

    @property
    def eta(self) -> float | None:
        """Seconds left."""

    @property
    def message(self) -> str:
        """Why it failed."""


class Jobs(Protocol):
    """Starts and watches the training jobs of one audit.

    Every method but `status` may touch the disk, so the UI calls it off its own thread, one at a time.
    """

    def start(self) -> JobState:
        """Start a job on the current labels; raises `labeltui.errors.JobError`."""

    def status(self) -> JobState | None:
        """Return the newest job as last seen, without touching the disk."""

    def poll(self) -> JobState | None:
        """Look at the newest job's files and return what they say; None when there never was a job."""

    def cancel(self) -> None:
        """Ask the running job to stop."""
