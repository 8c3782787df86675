"""What the UI needs of training jobs; `labeltui.train` has the work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class JobState:
    """A training job as the UI shows it.

    Attributes
    ----------
    number : int
        Counted from 1 by age.
    what : str
        What is trained, such as ``head`` or a backbone's name.
    state : str
        starting, running, done, failed, cancelled or lost.
    stage : str
        What it does at the moment, for people.
    progress : float
        0..1.
    eta : float or None
        Seconds left.
    message : str
        Why it failed.
    """

    number: int
    what: str
    state: str
    stage: str = ""
    progress: float = 0.0
    eta: float | None = None
    message: str = ""

    @property
    def active(self) -> bool:
        """Whether it still works."""
        return self.state in ("starting", "running")


class Jobs(Protocol):
    """Starts and watches training jobs of one audit.

    Every method but `status` may touch the disk, so the UI calls it off its own thread.
    """

    def start(self) -> JobState:
        """Start a job on the current labels; raises `labeltui.errors.JobError`."""

    def status(self) -> JobState | None:
        """Return the newest job as last seen, without touching the disk."""

    def poll(self) -> JobState | None:
        """Look at the newest job's files and return what they say."""

    def cancel(self) -> None:
        """Ask the running job to stop."""
