"""Training jobs on disk: start, watch, cancel.

No connection to the child is kept: the state of a job is its directory, which any process can read at any time.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import random
import re
import shlex
import shutil
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labeltui import paths
from labeltui.errors import JobError
from labeltui.io import files
from labeltui.io.atomic import sync_directory
from labeltui.journal import lives_here
from labeltui.parallel import StageProgress
from labeltui.progress import span
from labeltui.text import safe, safe_json
from labeltui.train import launch

if TYPE_CHECKING:
    from labeltui.audit import Audit
    from labeltui.train.plan import Request
    from labeltui.train.spec import TrainSpec

HEARTBEAT_SECONDS = 2.0
# A process on another host cannot be looked up, and a network file system may delay its heartbeat.
LOST_AFTER_SECONDS = 60.0
# Limit until the first heartbeat, which follows the import of torch. A child queued by a running launcher such as srun
# may take longer; this is for a launcher that exits at once.
START_SECONDS = 120.0

ENDED = ("done", "failed", "cancelled", "paused")
"""Final states, as written to exit.json."""

DAY = 8
"""Digits that an id begins with; fewer of them, and nothing else, are a number."""
METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "ece", "n")


@dataclass(frozen=True)
class Job:
    """One training job, read from its directory.

    Attributes
    ----------
    directory : Path
        ``runs/<id>``.
    id : str
        UTC start time and four random characters.
    number : int
        Counted from 1 by age.
    what : str
        What is trained: ``head``, a backbone's name, or ``study dilution``.
    labels : str
        On which labels: ``current``, ``given``, or a table and its column.
    seed : int
    state : str
        starting, running, done, failed, cancelled, paused (time limit reached), or lost (its process ended
        without writing exit.json).
    message : str
        Why it failed, else empty.
    progress : float
        0..1.
    stage : str
        Current stage.
    seconds : float
        Since its start; in total once it has ended.
    launched : float
        When its process was last started, in seconds since 1970.
    eta : float or None
        Seconds left, extrapolated from the speed since the last start; None if unknown.
    result : mapping
        Contents of exit.json: ``flags``, ``metrics``, ``notes`` and so on.
    warning : str
        From `start` and `resume`: why it may not survive a logout.
    """

    directory: Path
    id: str
    number: int
    what: str
    labels: str
    seed: int
    state: str
    message: str
    progress: float
    stage: str
    seconds: float
    launched: float
    eta: float | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    warning: str = ""

    @property
    def active(self) -> bool:
        """Whether it may still produce a result."""
        return self.state in ("starting", "running")

    @property
    def began(self) -> float:
        """Seconds since 1970."""
        return _started(self.id)

    @property
    def turn(self) -> tuple[float, str]:
        """Jobs of an audit run in ascending order of this."""
        return self.launched, self.id

    @property
    def resumable(self) -> bool:
        """Whether it stopped early and can be resumed."""
        return not self.active and self.state != "done"

    @property
    def accuracy(self) -> float | None:
        """Against its own labels, on held-out samples; None if unknown."""
        found = (self.result.get("metrics") or {}).get("accuracy")
        return None if found is None else float(found)

    def as_json(self) -> dict[str, Any]:
        """The entry of ``status --json`` and ``jobs --json``."""
        return {
            "id": self.id,
            "number": self.number,
            "what": self.what,
            "labels": self.labels,
            "seed": self.seed,
            "state": self.state,
            "message": self.message,
            "stage": self.stage,
            "progress": round(self.progress, 4),
            "seconds": round(self.seconds, 1),
            **({"metrics": self.result["metrics"]} if "metrics" in self.result else {}),
        }


def start(
    audit: Path,
    spec: TrainSpec,
    arrays: Mapping[str, NDArray[Any]],
    *,
    launcher: str = "",
    minutes: float = 0.0,
    queue: bool = False,
) -> Job:
    """Start a training job in a detached process.

    Parameters
    ----------
    audit : Path
        The audit directory.
    spec : TrainSpec
    arrays : mapping of str to ndarray
        ``labels`` and, as in the spec, ``roles`` and ``weights``; see `labeltui.train.plan`.
    launcher : str
        Words put before the child's command line, split as a shell does.
    minutes : float
        Pause after this many minutes; 0 = never.
    queue : bool
        Wait for active jobs instead of failing.

    Raises
    ------
    JobError
        A job is active already, or the process could not be started.
    """
    if not queue:
        _require_idle(audit)
    launch.launcher_words(launcher)  # a fault there leaves no directory behind
    directory = create(audit, spec, arrays)
    try:
        warning = launch.launch(directory, launcher, minutes=minutes, queue=queue)
    except JobError:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return replace(read(directory), warning=warning)


def resume(audit: Path, run_id: str, *, launcher: str = "", minutes: float = 0.0, queue: bool = False) -> Job:
    """Resume a run that was lost, paused, cancelled or failed from its last checkpoint.

    Parameters
    ----------
    audit : Path
        The audit directory.
    run_id : str
        The id, or a unique beginning or end of it.
    launcher : str
        See `start`.
    minutes : float
        See `start`.
    queue : bool
        See `start`.

    Returns
    -------
    Job

    Raises
    ------
    JobError
        There is no such run, it is active or done, or another one is active.
    """
    job = find(audit, run_id)
    if not job.resumable:
        raise JobError(
            "only a lost, paused, cancelled or failed run can be resumed", f"run {job.id} is {job.state}"
        )
    require_no_links(job.directory)
    if not queue:
        _require_idle(audit)
    launch.launcher_words(launcher)
    try:
        for name in (paths.CANCEL_FILE, paths.EXIT_FILE, paths.HEARTBEAT_FILE, launch.LAUNCHER):
            (job.directory / name).unlink(missing_ok=True)
    except OSError as error:
        raise _unusable(job.directory, error) from None
    warning = launch.launch(job.directory, launcher, minutes=minutes, queue=queue, progress=job.progress)
    return replace(read(job.directory), warning=warning)


def _require_idle(audit: Path) -> None:
    for job in list_jobs(audit):
        if job.active:
            raise JobError(
                "one training job at a time runs on an audit",
                f"run {job.id} is {job.state}",
                f"wait for it, stop it (labeltui jobs {shlex.quote(str(audit))} --cancel {job.id}), or give --queue",
            )


def require_no_links(directory: Path) -> None:
    """Refuse a run directory that contains links, so that its files stay inside it.

    Raises
    ------
    JobError
        There is a link inside.
    """
    for folder, directories, names in os.walk(directory):
        for name in (*directories, *names):
            if os.path.islink(os.path.join(folder, name)):
                raise JobError(
                    "a run's directory holds no links",
                    f"{safe(os.path.join(folder, name))} is one",
                    "start a new run",
                )


def create(audit: Path, spec: TrainSpec, arrays: Mapping[str, NDArray[Any]]) -> Path:
    """Create the directory of a new job without starting a process.

    Parameters
    ----------
    audit : Path
        The audit directory.
    spec : TrainSpec
    arrays : mapping of str to ndarray
        See `start`.

    Returns
    -------
    Path
        ``runs/<id>``.

    Raises
    ------
    JobError
        The directory cannot be written.
    """
    # Ids sort by age: a clock that stops or is set back must not put a new run before an old one.
    moments = [_started(run.name) for run in _directories(audit)]
    moment = max([time.time(), *(m + 1 for m in moments)])
    stamp = datetime.fromtimestamp(moment, UTC).strftime("%Y%m%dT%H%M%SZ")
    tail = "".join(random.SystemRandom().choices("abcdefghijkmnpqrstuvwxyz23456789", k=4))
    runs = audit / paths.RUNS
    # Filled under a hidden name and flushed, so that a listed run is complete even after a power cut.
    hidden = runs / f".{stamp}-{tail}"
    try:
        files.make_directory(runs)
        files.make_directory(hidden)
        spec.write(hidden / paths.SPEC_FILE)
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array)
            files.write_own(hidden / f"{name}.npy", content.getvalue())
        sync_directory(hidden)
        made = hidden.rename(runs / f"{stamp}-{tail}")
        sync_directory(runs)
        sync_directory(audit)
    except OSError as error:
        shutil.rmtree(hidden, ignore_errors=True)
        raise _unusable(runs, error) from None
    return made


class JobManager:
    """Starts and watches the training jobs of one open audit.

    Parameters
    ----------
    audit : Audit
        Open in any way; stays the caller's to close.
    launcher : str
        See `start`.
    request : Request, optional
        Default job; the head on the current labels unless given.
    """

    def __init__(self, audit: Audit, *, launcher: str = "", request: Request | None = None) -> None:
        self._audit = audit
        self._launcher = launcher
        self._request = request
        self._seen: Job | None = None

    def start(self, request: Request | None = None, *, minutes: float = 0.0, queue: bool = False) -> Job:
        """Start a job.

        Parameters
        ----------
        request : Request, optional
        minutes, queue
            See `start`.

        Raises
        ------
        JobError
            A job is active already, nothing can be trained, or the process could not be started.
        UsageError, SourceError
            The request names something that is not there.
        """
        from labeltui.train.plan import Request, prepare  # takes longer to import than a look at the jobs

        spec, arrays = prepare(self._audit, request or self._request or Request())
        self._seen = start(
            self._audit.path, spec, arrays, launcher=self._launcher, minutes=minutes, queue=queue
        )
        return self._seen

    def resume(self, run_id: str) -> Job:
        """Resume a run; see `resume`."""
        self._seen = resume(self._audit.path, run_id, launcher=self._launcher)
        return self._seen

    def status(self) -> Job | None:
        """The last result of `poll`, `start` or `resume`, without disk access."""
        return self._seen

    def poll(self) -> Job | None:
        """Read the active job from disk, or else the newest."""
        jobs = list_jobs(self._audit.path)
        self._seen = next((job for job in jobs if job.active), jobs[-1] if jobs else None)
        return self._seen

    def cancel(self, run_id: str = "") -> None:
        """Request that a job stop, by default the active one."""
        job = find(self._audit.path, run_id) if run_id else self.poll()
        if job is not None and job.active:
            cancel(job)


def list_jobs(audit: Path) -> list[Job]:
    """All jobs of an audit, oldest first."""
    return [_read(directory, number) for number, directory in enumerate(_directories(audit), start=1)]


def _directories(audit: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(audit / paths.RUNS))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unusable(audit / paths.RUNS, error) from None
    found = [audit / paths.RUNS / name for name in names if re.fullmatch(r"\d{8}T\d{6}Z-\w{4}", name)]
    return [run for run in found if run.is_dir() and not run.is_symlink()]


def _unusable(directory: Path, error: OSError) -> JobError:
    return JobError(
        "the directories of training runs must be readable and writable",
        f"{safe(str(directory))}: {safe(error.strerror or str(error))}",
        "check the disk, the space on it and the permissions",
    )


def find(audit: Path, run_id: str) -> Job:
    """Find a job by its number or id.

    Parameters
    ----------
    audit : Path
        The audit directory.
    run_id : str
        The number, the id, or a unique beginning or end of the id.

    Returns
    -------
    Job

    Raises
    ------
    JobError
        None or several match.
    """
    jobs = list_jobs(audit)
    number = run_id.isdecimal() and len(run_id) < DAY  # the last letters of an id may be digits
    if number and 1 <= int(run_id) <= len(jobs):
        return jobs[int(run_id) - 1]
    found = (
        []
        if number
        else [job for job in jobs if run_id and (job.id.startswith(run_id) or job.id.endswith(run_id))]
    )
    if len(found) != 1:
        raise JobError(
            "a run is given by its number, its id, or a beginning or end of its id that no other run has",
            f"{safe(run_id)!r} fits {len(found)} runs",
            "the runs are: " + (", ".join(f"{job.number} {job.id}" for job in jobs) or "none yet"),
        )
    return found[0]


def read(directory: Path) -> Job:
    """Read the current state of a job from its directory."""
    return _read(directory, _directories(directory.parent.parent).index(directory) + 1)


def _read(directory: Path, number: int) -> Job:
    started = _started(directory.name)
    spec = _read_json(directory / paths.SPEC_FILE)
    launch_ = _read_json(directory / paths.LAUNCH_FILE)
    launched = _number(launch_.get("time"), started)
    heartbeat = _read_json(directory / paths.HEARTBEAT_FILE)
    alive = bool(heartbeat) and _alive(directory, heartbeat)
    exit_ = _read_json(
        directory / paths.EXIT_FILE
    )  # read after checking the process, which writes it before exiting
    last = _last_progress(directory / paths.EVENTS_FILE)
    if exit_:
        state, message = str(exit_.get("state", "failed")), str(exit_.get("message", ""))
        if state not in ENDED:
            state, message = "failed", f"its exit.json names an unknown state: {state[:40]}"
    elif not heartbeat:
        state, message = _before_its_start(directory, launched)
    elif alive:
        state, message = "running", ""
    else:
        state, message = "lost", "its process ended unexpectedly (killed, out of memory, or a reboot)"
    progress = 1.0 if state == "done" else min(max(_number(last.get("progress"), 0.0), 0.0), 1.0)
    gained = progress - _number(launch_.get("progress"), 0.0)
    eta = None
    if state == "running" and gained > 0.02:
        eta = max(0.0, time.time() - launched) * (1 - progress) / gained
    end = _number(exit_.get("time"), started) if exit_ else time.time()
    return Job(
        directory=directory,
        id=directory.name,
        number=number,
        what=_what(spec),
        labels=str(spec.get("labels", "")),
        seed=seed if isinstance(seed := spec.get("seed"), int) else 0,
        state=state,
        message=message,
        progress=progress,
        stage=str(last.get("stage", "")),
        seconds=max(0.0, end - started),
        launched=launched,
        eta=eta,
        result=_result(exit_),
    )


def _before_its_start(directory: Path, launched: float) -> tuple[str, str]:
    """State and message of a job whose child has not started."""
    launcher = _read_json(directory / launch.LAUNCHER)
    cancelled = (directory / paths.CANCEL_FILE).exists()
    if lives_here(launcher):
        return "starting", ""
    if cancelled:  # a child that starts after all reads the request and stops
        return "cancelled", "stopped before it began"
    if launcher and launcher.get("host") != socket.gethostname():
        return "starting", ""  # a launcher on another host may wait for days and cannot be checked
    # A clock that was set back must not keep a dead job starting for ever.
    if abs(time.time() - launched) < START_SECONDS:
        return "starting", ""
    return "lost", "it never began; see log.txt"


def _what(spec: dict[str, Any]) -> str:
    backbone, study = spec.get("backbone"), spec.get("study")
    if isinstance(study, dict):
        return f"study {study.get('study')}"
    return str(backbone.get("model", "")) if isinstance(backbone, dict) else str(spec.get("kind", ""))


def _result(exit_: dict[str, Any]) -> dict[str, Any]:
    """What a run left beside its state: notes are a list, and metrics numbers, or they are left out."""
    result = {key: exit_[key] for key in exit_.keys() - {"state", "message", "time"}}
    if not isinstance(result.get("notes", []), list):
        del result["notes"]
    metrics = result.get("metrics", dict.fromkeys(METRICS, 0.0))
    if not isinstance(metrics, dict) or any(
        _number(metrics.get(name), math.nan) != metrics.get(name) for name in METRICS
    ):
        del result["metrics"]
    return result


def _number(value: object, otherwise: float) -> float:
    """A finite number as it is; anything else is not believed."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15:
        return float(value)
    return otherwise


def cancel(job: Job) -> None:
    """Request that a job stop: within a training step, or at once while its launcher queues it."""
    try:
        os.close(files.open_own(job.directory / paths.CANCEL_FILE, os.O_WRONLY))
    except OSError as error:
        raise _unusable(job.directory, error) from None
    launcher = _read_json(job.directory / launch.LAUNCHER)
    if not (job.directory / paths.HEARTBEAT_FILE).exists() and lives_here(launcher):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(launcher["pid"], signal.SIGTERM)


def follow(job: Job, poll_seconds: float = 0.5) -> Iterator[Job]:
    """Yield the job after each change, the last time once it has ended.

    Parameters
    ----------
    job : Job
    poll_seconds : float

    Yields
    ------
    Job
    """
    seen = None
    while True:
        job = read(job.directory)
        key = (job.state, job.stage, job.progress)
        if key != seen:
            seen = key
            yield job
        if not job.active:
            return
        time.sleep(poll_seconds)


def wait(job: Job, progress: StageProgress | None = None) -> Job:
    """Wait for the end of a job.

    Parameters
    ----------
    job : Job
    progress : callable, optional
        ``progress(stage, done, total)``.

    Returns
    -------
    Job
        Done or paused.

    Raises
    ------
    JobError
        It ended otherwise.
    """
    for state in follow(job):
        job = state
        if state.stage and progress is not None:
            progress(state.stage, round(100 * state.progress), 100)
    if job.state not in ("done", "paused"):
        raise JobError(
            f"run {job.id} was to finish", f"it {job.state}: {job.message}".rstrip(": "), str(job.directory)
        )
    return job


def list_lines(audit: Path, jobs: Sequence[Job]) -> list[str]:
    """Format the jobs of an audit as a table.

    Parameters
    ----------
    audit : Path
        The audit directory.
    jobs : sequence of Job

    Returns
    -------
    list of str
    """
    if not jobs:
        return [f"no runs yet; start one: labeltui train {shlex.quote(str(audit))}"]
    width, labels = max(len(job.what) for job in jobs), max(len(job.labels) for job in jobs)
    lines = []
    for job in jobs:
        note = safe(job.message) or ("" if job.accuracy is None else f"accuracy {job.accuracy:.4f}")
        lines.append(
            f"{job.number:>3}  {job.id}  {job.what:<{width}}  {job.labels:<{labels}}  seed {job.seed}  "
            f"{job.state:<9} {job.progress:4.0%}  {span(job.seconds):>6}  {note}".rstrip()
        )
    resumable = [job for job in jobs if job.state in ("lost", "paused")]
    if resumable:
        lines.append(f"resume: labeltui train {shlex.quote(str(audit))} --resume {resumable[-1].number}")
    return lines


def result_lines(job: Job) -> list[str]:
    """Summary lines of an ended run, for a terminal."""
    lines = [safe(str(note)) for note in job.result.get("notes", [])]
    if job.state == "paused":
        return [*lines, f"paused at {job.progress:.0%}; resume it with --resume {job.number}"]
    if "weights" in job.result:
        lines.append(f"{job.what}: initial weights: {safe(str(job.result['weights']))}")
    metrics = job.result.get("metrics")
    if metrics:
        lines.append(
            f"accuracy {metrics['accuracy']:.4f}, balanced {metrics['balanced_accuracy']:.4f}, macro F1 "
            f"{metrics['macro_f1']:.4f}, calibration error {metrics['ece']:.4f} on {metrics['n']:,} samples not "
            "trained on, by the labels of the run"
        )
    return lines


def _alive(directory: Path, heartbeat: dict[str, Any]) -> bool:
    if heartbeat.get("host") != socket.gethostname():
        try:
            return time.time() - (directory / paths.HEARTBEAT_FILE).stat().st_mtime < LOST_AFTER_SECONDS
        except OSError:
            return False
    return lives_here(heartbeat)


def _started(run_id: str) -> float:
    return datetime.strptime(run_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a file of a run, fit to be shown; empty when there is none."""
    try:
        found: dict[str, Any] = safe_json(files.read_json(path))
    except (OSError, ValueError):
        return {}
    return found


def _last_progress(path: Path) -> dict[str, Any]:
    """The last complete line of events.jsonl; its end is enough."""
    try:
        with open(files.open_regular(path), "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 4096))
            lines = file.read().split(b"\n")[:-1]  # what follows the last newline is being written
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            event = safe_json(json.loads(line))
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and "progress" in event:
            return event
    return {}
