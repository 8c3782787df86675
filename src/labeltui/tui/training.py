"""Training runs beside the review: started by key or by relabels, watched, and their results adopted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from labeltui.errors import JobError, LabeltuiError
from labeltui.tui.host import JobChanged, Notice, ScoresChanged, parts_of
from labeltui.tui.session import Session

if TYPE_CHECKING:
    from textual.app import App

    from labeltui.train.curves import Curve
    from labeltui.train.jobs import Job, JobManager

BUSY_POLL, IDLE_POLL = 0.5, 5.0
"""Seconds between two looks at a running job's files, and at the directory of jobs while none runs."""


class Training:
    """Training runs of one audit; what happens is told by messages to the application (`labeltui.tui.host`).

    All reading and writing of `runs/` is done on threads: a network file system may not answer for seconds.

    Parameters
    ----------
    app : textual.app.App
    session : Session
        Gets new scores.
    jobs : JobManager, optional
        Without it and `later`, nothing can be trained.
    later : callable, optional
        Makes `jobs`, called on a thread by `bring`: what trains takes a while to import.
    after : int
        Relabels that start a run by themselves; 0 = none do.
    """

    def __init__(
        self,
        app: App[None],
        session: Session,
        jobs: JobManager | None,
        later: Callable[[], JobManager] | None,
        after: int,
    ) -> None:
        self.app, self.session, self.after = app, session, after
        self.audit = session.audit
        read_only = self.audit.read_only
        self.jobs = None if read_only else jobs
        self._later = None if read_only else later
        self._brought = asyncio.Event()  # `jobs` is there, or never will be
        self._starting = False
        self._run_seq = 0  # the newest run's last action, as last seen
        self._asked_at = 0  # relabels since the newest run when a run was last started by itself

    @property
    def possible(self) -> bool:
        """Whether there is a trainer, or will be in a moment."""
        return self.jobs is not None or self._later is not None

    @property
    def active(self) -> bool:
        """Whether a run is being trained, as last seen, or is being started."""
        job = self.jobs.status() if self.jobs is not None else None
        return self._starting or (job is not None and job.active)

    def bring(self) -> None:
        """Load the trainer in the background, and watch what it does."""
        if self.jobs is not None:
            self._watch()
        elif self._later is not None:
            self.app.run_worker(self._bring(self._later), group="bring", exclusive=True, exit_on_error=False)

    async def _bring(self, make: Callable[[], JobManager]) -> None:
        try:
            self.jobs = await asyncio.to_thread(make)
        except BaseException:
            self._later = None  # nothing can be trained; review goes on
            raise
        finally:
            self._brought.set()
        self._watch()
        self.start_when_due()  # somebody may have been quicker

    async def _trainer(self) -> JobManager:
        if self.jobs is None:
            await self._brought.wait()
        if self.jobs is None:
            raise JobError(
                "training must be loaded before a run starts", "loading it failed", "see labeltui doctor"
            )
        return self.jobs

    # Watching

    def _watch(self) -> None:
        self.app.run_worker(self._watched(), group="jobs", exclusive=True, exit_on_error=False)

    async def _watched(self) -> None:
        jobs = self.jobs
        assert jobs is not None
        # What finished while nobody looked is adopted first.
        await self._adopt()
        before: Job | None = None
        while True:
            try:
                job, ended, curve = await asyncio.to_thread(_look, jobs, before)
            except Exception as error:  # a file system that does not answer, a file that is being replaced
                self.app.post_message(Notice(error))
                await asyncio.sleep(IDLE_POLL)
                continue
            self.app.post_message(JobChanged(job, curve))
            if ended is not None and ended.state != "done":
                self._say_ended(ended)
            elif before is None and job is not None and job.state in ("lost", "paused"):
                self._say_ended(job)
            # A run may begin and end between two looks, one that was resumed elsewhere among them.
            if ended is not None or job is None or not job.active:
                await self._adopt()
            before = job
            await asyncio.sleep(BUSY_POLL if job is not None and job.active else IDLE_POLL)

    def _say_ended(self, job: Job) -> None:
        why = f": {job.message}" if job.message else ""
        key = self.session.keymap.hint("runs")
        self._say(f"run {job.number} {job.state}{why}; {key} shows it and can resume it", "warn")

    def _say(self, text: str, style: str = "plain") -> None:
        self.app.post_message(Notice(text, style))

    async def _adopt(self) -> None:
        """Take over the results of finished runs."""
        try:
            ready = await asyncio.to_thread(self.audit.prepare)
            change = self.session.refresh() if ready else None
        except (LabeltuiError, OSError) as error:
            self.app.post_message(Notice(error))
            return
        if change is not None:
            self.audit.warm()
            self.app.post_message(ScoresChanged(change))

    # Starting and stopping

    def start(self, why: str = "") -> None:
        """Start fine-tuning in the background, once the trainer is there; `why`, if nobody asked for it."""
        if self.active:
            return
        if self.jobs is None:
            self._say("training is being loaded; it starts in a moment")
        self._starting = True
        self.app.run_worker(self._start(why), group="start", exit_on_error=False)

    async def _start(self, why: str) -> None:
        try:
            jobs = await self._trainer()
            job = await asyncio.to_thread(jobs.start)
        except (LabeltuiError, OSError) as error:
            self._say(f"training did not start: {'. '.join(parts_of(error))}", "bad")
            return
        finally:
            self._starting = False
        hint = self.session.keymap.hint("export")
        if self.audit.summary().flags:
            words = "keep reviewing, the queue is re-ranked when it ends"
        else:
            words = f"every flag is reviewed: {hint} exports, or wait for what it finds"
        self._say(f"run {job.number} started {why}".rstrip() + f"; {words}")
        if job.warning:
            self._say(job.warning, "warn")
        self.app.post_message(JobChanged(job))
        self._watch()

    def start_when_due(self) -> None:
        """Start a run if enough was relabelled since the newest one."""
        if self.jobs is None or not self.after or self.active:
            return
        # Only once enough may have been relabelled does it matter which run is the newest: the disk is asked then.
        if self.audit.relabels_after(self._run_seq) - self._asked_at >= self.after:
            self.app.run_worker(self._start_if_due(), group="due", exclusive=True, exit_on_error=False)

    async def _start_if_due(self) -> None:
        self._run_seq = await asyncio.to_thread(self.audit.newest_run_seq)
        relabels = self.audit.relabels_after(self._run_seq)
        if relabels < self._asked_at:  # a run took them in
            self._asked_at = 0
        if relabels - self._asked_at >= self.after and not self.active:
            self._asked_at = relabels
            self.start(f"after {relabels:,} relabels")

    async def resume(self, run_id: str) -> Job:
        """Go on with a run."""
        jobs = await self._trainer()
        job = await asyncio.to_thread(jobs.resume, run_id)
        self.app.post_message(JobChanged(job))
        self._watch()
        return job

    def cancel(self, run_id: str = "", what: str = "training") -> None:
        """Request that a run stop, by default the active one.

        Parameters
        ----------
        run_id : str
            Empty = the active run.
        what : str
            Its name in the message.
        """
        self.app.run_worker(self._cancel(run_id, what), group="cancel", exit_on_error=False)

    async def _cancel(self, run_id: str, what: str) -> None:
        jobs = await self._trainer()
        await asyncio.to_thread(jobs.cancel, run_id)
        self._say(f"{what} is asked to stop")


def _look(jobs: JobManager, before: Job | None) -> tuple[Job | None, Job | None, Curve | None]:
    """The job that works (else the newest), the one seen before if it has ended since, and how the first learns."""
    from labeltui.train import curves
    from labeltui.train.jobs import read

    job = jobs.poll()
    ended = None
    if before is not None and before.active:
        if job is not None and job.id == before.id:
            now: Job | None = job
        else:  # a run whose process could not be launched is taken away again
            now = read(before.directory) if before.directory.is_dir() else None
        ended = None if now is None or now.active else now
    return job, ended, curves.read(job.directory) if job is not None and job.active else None
