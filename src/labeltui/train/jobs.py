"""Training jobs on disk: start, watch, cancel.

Nothing here keeps a connection to the child: all that is known of a job is what stands in its directory, so any
process, on any day, sees the same.
"""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labeltui import threads
from labeltui.errors import JobError, UsageError
from labeltui.text import safe
from labeltui.train.spec import TrainSpec, label_hash

if TYPE_CHECKING:
    from labeltui.audit import Audit

HEARTBEAT_SECONDS = 2.0
# Another host's process cannot be looked up; a network file system may show its heartbeat late.
LOST_AFTER_SECONDS = 60.0
# A child needs some seconds to import torch before its first heartbeat; a cluster's launcher may queue it for long.
START_SECONDS = 120.0


@dataclass(frozen=True)
class Job:
    """One training job as its directory shows it.

    Attributes
    ----------
    directory : Path
        ``runs/<id>``.
    id : str
        UTC start time and four random characters.
    number : int
        Counted from 1 by age.
    what : str
        What is trained: ``head``.
    state : str
        starting, running, done, failed, cancelled, or lost (its process is gone and left no word).
    message : str
        Why it failed, else empty.
    progress : float
        0..1.
    stage : str
        What it does at the moment.
    seconds : float
        Since its start, or in all when it has ended.
    """

    directory: Path
    id: str
    number: int
    what: str
    state: str
    message: str
    progress: float
    stage: str
    seconds: float

    @property
    def active(self) -> bool:
        """Whether it may still produce a result."""
        return self.state in ("starting", "running")

    @property
    def eta(self) -> float | None:
        """Seconds left, extrapolated; None before anything is known."""
        if self.state != "running" or self.progress <= 0.02:
            return None
        return self.seconds * (1 - self.progress) / self.progress

    def as_json(self) -> dict[str, Any]:
        """What ``status --json`` and ``jobs --json`` say of it."""
        return {
            "id": self.id,
            "number": self.number,
            "what": self.what,
            "state": self.state,
            "message": self.message,
            "stage": self.stage,
            "progress": round(self.progress, 4),
            "seconds": round(self.seconds, 1),
        }


def start(
    audit: Path,
    labels: NDArray[np.int32],
    *,
    audit_uuid: str,
    generation: int,
    journal_seq: int,
    seed: int = 0,
    folds: int = 5,
    device: str = "auto",
    launcher: str = "",
    n_threads: int | None = None,
) -> Job:
    """Start a head training job in a detached process.

    Parameters
    ----------
    audit : Path
        The audit directory.
    labels : (N,) int32
        Labels to train on, -1 for samples to leave out.
    audit_uuid, generation, journal_seq, seed, folds, device
        See `TrainSpec`.
    launcher : str
        Words put before the child's command line, split as a shell does.
    n_threads : int, optional
        CPU threads of the child; by default all cores but one, which the terminal UI keeps.

    Raises
    ------
    JobError
        A job is active already, or the process could not be started.
    """
    for job in list_jobs(audit):
        if job.active:
            raise JobError(
                "one training job at a time runs on an audit",
                f"run {job.id} is {job.state}",
                f"wait for it, or stop it: labeltui jobs {shlex.quote(str(audit))} --cancel {job.id}",
            )
    try:
        prefix = shlex.split(launcher)
    except ValueError as error:
        raise UsageError(
            "train.launcher must be words as a shell reads them", f"{launcher!r}: {error}"
        ) from None
    spec = TrainSpec(
        kind="head",
        audit_uuid=audit_uuid,
        generation=generation,
        label_sha256=label_hash(labels),
        journal_seq=journal_seq,
        folds=folds,
        seed=seed,
        device=device,
        threads=n_threads or max(1, threads.count() - 1),
    )
    directory = _new_directory(audit, spec, labels)
    command = [*prefix, sys.executable, "-m", "labeltui.train.child", str(directory)]
    try:
        with open(directory / "log.txt", "ab") as log:
            # A session of its own: closing the terminal must not reach it. All three streams are given, for inside
            # a full-screen program the inherited ones are not usable.
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
    except OSError as error:
        shutil.rmtree(directory, ignore_errors=True)
        raise JobError(
            "the training process must be startable",
            f"{shlex.join(command)}: {error}",
            "check train.launcher",
        ) from None
    return read(directory)


def _new_directory(audit: Path, spec: TrainSpec, labels: NDArray[np.int32]) -> Path:
    # Ids sort by age: a clock that stands still or goes back must not put a new run before an old one.
    moments = [_started(run.name) for run in _directories(audit)]
    moment = max([time.time(), *(m + 1 for m in moments)])
    stamp = datetime.fromtimestamp(moment, UTC).strftime("%Y%m%dT%H%M%SZ")
    tail = "".join(random.SystemRandom().choices("abcdefghijkmnpqrstuvwxyz23456789", k=4))
    runs = audit / "runs"
    runs.mkdir(exist_ok=True)
    # Filled under a hidden name: whoever lists the runs sees a complete one.
    hidden = runs / f".{stamp}-{tail}"
    hidden.mkdir()
    spec.write(hidden / "spec.json")
    np.save(hidden / "labels.npy", labels)
    return hidden.rename(runs / f"{stamp}-{tail}")


class Trainer:
    """Starts and watches the training jobs of one open audit.

    Parameters
    ----------
    audit : Audit
        Open for deciding; stays the caller's to close.
    launcher, device
        See `start`.
    """

    def __init__(self, audit: Audit, *, launcher: str = "", device: str = "auto") -> None:
        self._audit = audit
        self._launcher = launcher
        self._device = device
        self._newest: Job | None = None

    def start(self) -> Job:
        """Start a job on the current labels.

        Raises
        ------
        JobError
            A job is active already, or the process could not be started.
        """
        audit = self._audit
        self._newest = start(
            audit.path,
            audit.training_labels(),
            audit_uuid=audit.uuid,
            generation=audit.generation,
            journal_seq=audit.journal_seq,
            launcher=self._launcher,
            device=self._device,
        )
        return self._newest

    def status(self) -> Job | None:
        """The newest job as last seen, without touching the disk."""
        return self._newest

    def poll(self) -> Job | None:
        """Look at the newest job's files and return what they say; finds jobs that others started."""
        jobs = list_jobs(self._audit.path)
        self._newest = jobs[-1] if jobs else None
        return self._newest

    def cancel(self) -> None:
        """Ask the active job, if there is one, to stop."""
        job = self.poll()
        if job is not None and job.active:
            cancel(job)


def list_jobs(audit: Path) -> list[Job]:
    """All jobs of an audit, oldest first."""
    return [_read(directory, number) for number, directory in enumerate(_directories(audit), start=1)]


def _directories(audit: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(audit / "runs"))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [audit / "runs" / name for name in names if re.fullmatch(r"\d{8}T\d{6}Z-\w{4}", name)]


def find(audit: Path, run_id: str) -> Job:
    """The job whose id begins with, or ends in, `run_id`.

    Raises
    ------
    JobError
        None or several match.
    """
    jobs = list_jobs(audit)
    found = [job for job in jobs if run_id and (job.id.startswith(run_id) or job.id.endswith(run_id))]
    if len(found) != 1:
        raise JobError(
            "a run is named by its id, or by the beginning or end of it that no other run has",
            f"{safe(run_id)!r} fits {len(found)} runs",
            "the runs are: " + (", ".join(job.id for job in jobs) or "none yet"),
        )
    return found[0]


def read(directory: Path) -> Job:
    """What a job's directory says of it now."""
    return _read(directory, _directories(directory.parent.parent).index(directory) + 1)


def _read(directory: Path, number: int) -> Job:
    started = _started(directory.name)
    exit_ = _read_json(directory / "exit.json")
    heartbeat = _read_json(directory / "heartbeat.json")
    last = _last_progress(directory / "events.jsonl")
    if exit_:
        state, message = str(exit_.get("state", "failed")), str(exit_.get("message", ""))
    elif not heartbeat:
        fresh = time.time() - started < START_SECONDS
        state = "starting" if fresh else "lost"
        message = "" if fresh else "it never began; see log.txt"
    elif _alive(directory, heartbeat):
        state, message = "running", ""
    else:
        state, message = "lost", "its process ended without a word (killed, out of memory, or a reboot)"
    end = float(exit_.get("time", started)) if exit_ else time.time()
    return Job(
        directory=directory,
        id=directory.name,
        number=number,
        what=str(_read_json(directory / "spec.json").get("kind", "")),
        state=state,
        message=message,
        progress=1.0 if state == "done" else float(last.get("progress", 0.0)),
        stage=str(last.get("stage", "")),
        seconds=max(0.0, end - started),
    )


def cancel(job: Job) -> None:
    """Ask a job to stop; it does so within a training step."""
    (job.directory / "cancel").touch()


def follow(job: Job, poll_seconds: float = 0.5) -> Iterator[Job]:
    """Yield the job whenever it changed, and last when it has ended."""
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


def identity() -> dict[str, Any]:
    """What tells this process from every other, on any host, across reboots."""
    return {
        "host": socket.gethostname(),
        "boot_id": _boot_id(),
        "pid": os.getpid(),
        "start": _start_time(os.getpid()),
    }


def _alive(directory: Path, heartbeat: dict[str, Any]) -> bool:
    if heartbeat.get("host") != socket.gethostname():
        try:
            return time.time() - (directory / "heartbeat.json").stat().st_mtime < LOST_AFTER_SECONDS
        except OSError:
            return False
    if heartbeat.get("boot_id") != _boot_id():
        return False
    pid = heartbeat.get("pid")
    return isinstance(pid, int) and _start_time(pid) == heartbeat.get("start")


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # no such file outside Linux
        return ""


def _start_time(pid: int) -> str:
    """Start time of a live process in clock ticks since boot; empty when there is none (zombies count as none)."""
    try:
        # The command name, in parentheses, may itself hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "" if Path("/proc/self").exists() else _start_time_ps(pid)
    return "" if fields[0] in "ZX" else fields[19]


def _start_time_ps(pid: int) -> str:
    result = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return result.stdout.strip()


def _started(run_id: str) -> float:
    return datetime.strptime(run_id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _last_progress(path: Path) -> dict[str, Any]:
    """The last complete line of events.jsonl; its end is enough."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 4096))
            lines = file.read().split(b"\n")[:-1]  # what follows the last newline is being written
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "progress" in event:
            return event
    return {}
