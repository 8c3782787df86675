"""The training process: ``python -m labeltui.train.child RUNDIR``, detached from its parent."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labeltui import paths, store
from labeltui.errors import Cancelled, JobError, LabeltuiError
from labeltui.io.atomic import sweep
from labeltui.locks import LocksUnsupported, try_lock
from labeltui.train import device
from labeltui.train.jobs import Job, list_jobs, require_no_links
from labeltui.train.spec import OUT, TRAIN, TrainSpec, array_hash, label_hash
from labeltui.train.task import Paused, Run, Task

Train = Callable[[Task], dict[str, Any]]
QUEUE_SECONDS = 1.0  # between two checks of the earlier jobs


def run(directory: Path, train: Train | None = None) -> str:
    """Run the job of `directory` and return its final state.

    Parameters
    ----------
    directory : Path
        ``runs/<id>``.
    train : callable, optional
        Does the work of a `Task`, and returns what goes into exit.json; by default `train_network`.
    """
    lock = os.open(directory, os.O_RDONLY)
    try:
        # Two people may resume one run at once; a second process would write over the first one's files.
        with contextlib.suppress(LocksUnsupported):
            if not try_lock(lock):
                print("another process works on this run", flush=True)
                return "running"
        return _run(directory, train or train_network)
    finally:
        os.close(lock)


def _run(directory: Path, train: Train) -> str:
    try:
        require_no_links(directory)
    except JobError as error:
        print(error, flush=True)
        return "failed"
    for folder in (directory, *(each for each in directory.iterdir() if each.is_dir())):
        sweep(folder)  # temporary files of a killed process
    job = Run(directory)
    with job.heartbeat():
        more: dict[str, Any] = {}
        try:
            _wait_for_turn(job)
            more = _train(job, train)
            state, message = "done", ""
        except Cancelled:
            state, message = "cancelled", "stopped on request"
        except Paused:
            state, message = "paused", "time limit reached; resume with --resume"
        except LabeltuiError as error:
            state, message = "failed", str(error)
        except OSError as error:
            traceback.print_exc()
            state, message = "failed", _explained(error)
        except Exception as error:
            # The process has no parent to report to: record every error here.
            traceback.print_exc()
            state, message = "failed", f"{type(error).__name__}: {error}"
        try:
            job.exit(state, message, **more)
        except OSError:
            # The disk is full. The process ends and the run counts as lost; it can be resumed.
            traceback.print_exc()
    return state


def _explained(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"the disk is full ({error}); make room, then resume the run; its last checkpoint is intact"
    return f"{type(error).__name__}: {error}"


def _wait_for_turn(job: Run) -> None:
    """Wait for earlier jobs of this audit, if the run was queued."""
    while other := _before(job):
        if not job.launch.get("queue"):  # both were started at the same moment
            raise JobError(
                "one training job at a time runs on an audit",
                f"run {other.id} is {other.state}",
                "give --queue",
            )
        job.event(f"waiting for run {other.number}", 0.0)
        if job.cancelled():
            raise Cancelled("the run was stopped", "before it started")
        time.sleep(QUEUE_SECONDS)


def _before(job: Run) -> Job | None:
    """The active job launched before this one, if any; a resumed job counts from its resumption."""
    jobs = list_jobs(job.directory.parent.parent)
    own = next(each for each in jobs if each.directory.name == job.directory.name)
    return next((each for each in jobs if each.active and each.turn < own.turn), None)


def _train(job: Run, train: Train) -> dict[str, Any]:
    spec = TrainSpec.read(job.directory / paths.SPEC_FILE)
    labels = _load(job, "labels", spec.label_sha256, "<i4")
    with store.Store.open(job.directory.parent.parent, spec.generation) as audit:
        audit.validate()
        if audit.uuid != spec.audit_uuid:
            raise JobError(
                "a run belongs to one audit",
                f"this one belongs to {spec.audit_uuid}, the audit is {audit.uuid}",
                "start a new run",
            )
        roles = None
        if spec.roles_sha256:
            roles = _load(job, "roles", spec.roles_sha256, "u1")
        weights = _load(job, "weights", spec.weights_sha256, "<f4") if spec.weights_sha256 else None
        checked = _load(job, "checked", spec.checked_sha256, "i1") if spec.checked_sha256 else None
        injected = _load(job, "injected", spec.injected_sha256, "<i4") if spec.injected_sha256 else None
        roles = _roles(audit, labels) if roles is None else roles
        task = Task(job, spec, audit, labels, roles, weights, checked, injected)
        with device.held(spec.device, lambda: job.event("waiting for the GPU", 0.0), job.cancelled):
            return train(task)


def train_network(task: Task) -> dict[str, Any]:
    """Train the head or the backbone that the spec names."""
    if task.spec.kind == "head":
        from labeltui.train.head_job import train_head

        return train_head(task)
    if task.spec.kind == "backbone" and task.spec.backbone is not None:
        from labeltui.train.backbone import train_backbone

        return train_backbone(task)
    raise JobError("a run trains a head or a backbone", f"got {task.spec.kind!r}", "start a new run")


def _roles(audit: store.Store, labels: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
    """Train on every sample scored by the scan."""
    scored = audit.array(f"graph/{audit.embedding_name}/indices")[:, 0] >= 0
    return np.where((audit.status == paths.OK) & scored & (labels >= 0), TRAIN, OUT).astype(np.uint8)


def _load(job: Run, name: str, digest: str, dtype: str) -> npt.NDArray[Any]:
    try:
        values: npt.NDArray[Any] = np.load(job.directory / f"{name}.npy", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise JobError(
            f"a run needs its {name}", f"{name}.npy cannot be read: {error}", "start a new run"
        ) from None
    if (label_hash(values) if name == "labels" else array_hash(values, dtype)) != digest:
        raise JobError(
            f"{name}.npy must be the {name} that spec.json names", "the hashes differ", "start a new run"
        )
    return values


def main(train: Train) -> None:
    """Run the job whose directory is the first argument, and exit."""
    # What the run writes is for those who may read the audit.
    os.umask(0o777 & ~stat.S_IMODE(os.stat(Path(sys.argv[1]).parent.parent).st_mode))
    with contextlib.suppress(OSError):
        os.nice(10)  # the terminal UI and other people come first
    sys.exit(0 if run(Path(sys.argv[1]), train) == "done" else 1)


if __name__ == "__main__":
    main(train_network)
