"""What the UI needs of training jobs; `labeltui.train` does the work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from labeltui.audit import Audit
    from labeltui.train.jobs import Job


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


class AuditJobs:
    """`Jobs` of an open audit, in its ``runs`` directory: also those that another process started.

    Parameters
    ----------
    audit : Audit
    launcher : str
        Words put before the child's command line.
    """

    def __init__(self, audit: Audit, launcher: str = "") -> None:
        self._audit = audit
        self._launcher = launcher
        self._seen: JobState | None = None
        self._directory: Path | None = None

    def start(self) -> JobState:
        """Start a job on the current labels."""
        from labeltui.train import jobs

        audit = self._audit
        job = jobs.start(
            audit.path,
            audit.training_labels(),
            audit_uuid=audit.uuid,
            generation=audit.generation,
            journal_seq=audit.journal_seq,
            launcher=self._launcher,
        )
        return self._see(job, len(jobs.list_jobs(audit.path)))

    def status(self) -> JobState | None:
        """Return the newest job as last seen."""
        return self._seen

    def poll(self) -> JobState | None:
        """Look at the newest job's files."""
        from labeltui.train import jobs

        if self._seen is not None and self._seen.active and self._directory is not None:
            return self._see(jobs.read(self._directory), self._seen.number)
        found = jobs.list_jobs(self._audit.path)
        return self._see(found[-1], len(found)) if found else None

    def cancel(self) -> None:
        """Ask the running job to stop."""
        from labeltui.train import jobs

        if self._directory is not None:
            jobs.cancel(jobs.read(self._directory))

    def _see(self, job: Job, number: int) -> JobState:
        self._directory = job.directory
        self._seen = JobState(number, "head", job.state, job.stage, job.progress, job.eta, job.message)
        return self._seen
