"""Studies as training jobs: start one, and the work of its process.

``runs/<id>/cells/00007.json`` is one finished cell, written at once or not at all; ``study.json`` holds all of them at
the end. Neither has a clock in it, so a study that was interrupted ends with the bytes of one that was not.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labeltui import parallel
from labeltui.errors import Cancelled, JobError, ModelError, UsageError
from labeltui.io import files
from labeltui.io.atomic import replacing, sweep, write_json
from labeltui.studies import report
from labeltui.studies.cells import Arrays, run_cell
from labeltui.studies.data import StudyData
from labeltui.studies.inputs import matched, strangers, study_data
from labeltui.studies.networks import NETWORKS
from labeltui.studies.plan import Cell, StudySpec
from labeltui.text import safe
from labeltui.train import jobs
from labeltui.train.plan import Request, prepare
from labeltui.train.predictions import Predictions
from labeltui.train.spec import HELD_OUT, PRESETS, TRAIN, BackboneSpec
from labeltui.train.task import Paused, Run, Task

if TYPE_CHECKING:
    from labeltui.audit import Audit

CELLS = "cells"
STUDY_FILE = "study.json"


def start(
    audit: Audit,
    spec: StudySpec,
    *,
    labels: str = "current",
    held_out: str = "0.2",
    splits: tuple[str, ...] = (),
    launcher: str = "",
    minutes: float = 0.0,
    queue: bool = False,
) -> jobs.Job:
    """Start a study in the background.

    Parameters
    ----------
    audit : Audit
    spec : StudySpec
    labels : str
        What is taken for right: ``current``, ``given`` or ``TABLE:COLUMN``.
    held_out : str
        A split or a fraction, to measure on.
    splits : tuple of str
        Train only on these; empty = on every scored sample.
    launcher, minutes, queue
        See `labeltui.train.jobs.start`.

    Raises
    ------
    JobError
        A job is active already, or nothing can be trained or measured.
    UsageError, SourceError
        Labels, a split or an audit that the study names do not exist.
    """
    made, arrays = prepare(
        audit, Request(labels=labels, held_out=held_out, splits=splits, seed=spec.seeds[0])
    )
    roles = arrays["roles"]
    if not (roles == HELD_OUT).any():
        raise JobError("a study needs samples to measure on", "none are held out", "give --held-out 0.2")
    # What the child would find out is said now.
    if ("cnn" in spec.networks or set(spec.networks) - set(NETWORKS)) and not audit.images.present:
        raise UsageError(
            "networks on images need images",
            f"got {safe(', '.join(spec.networks))}; this audit has none",
            "choose linear or mlp",
        )
    ids = list(audit.sample_ids(np.arange(audit.n)))
    matched(spec.second, ids)
    strangers(spec.other, audit.embedding_name)
    job = replace(made, kind="study", study=spec.as_json())
    return jobs.start(audit.path, job, arrays, launcher=launcher, minutes=minutes, queue=queue)


def run_study(task: Task) -> dict[str, Any]:
    """Compute the cells of a study that are missing, and write study.json and the plot.

    Returns
    -------
    dict
        ``cells``, their number, for exit.json.
    """
    job = task.job
    spec = StudySpec.from_json(task.spec.study or {})
    job.event("read", 0.0)
    with parallel.limit_blas(1):
        data = study_data(task, spec)
        cells = run_cells(spec, data, job.directory, _Progress(job), _backbone(task, spec, data))
    content = {
        "study": spec.as_json(),
        "labels": task.spec.labels,
        "train": len(data.train),
        "test": len(data.test),
        "classes": data.n_classes,
        "embedding": task.audit.embedding_name,
        "cells": cells,
    }
    write_json(job.directory / STUDY_FILE, content)
    try:
        report.plot(content, job.directory / "study.svg")
    except UsageError as error:  # matplotlib is an extra
        job.note(f"{error.message}: {error.got}; {error.hint}")
    return {"cells": len(cells)}


class _Progress:
    """Reports finished cells, and stops between steps when asked to."""

    def __init__(self, job: Run) -> None:
        self._job = job

    def check(self) -> None:
        """Raise if the job is to stop."""
        if self._job.cancelled():
            raise Cancelled("the run was stopped", "finished cells are kept")
        if self._job.time_limit_reached():
            raise Paused

    def report(self, done: int, total: int) -> None:
        """Say how many cells are finished."""
        self._job.event(f"cell {min(done + 1, total)} of {total}", done / total)


def run_cells(
    spec: StudySpec, data: StudyData, directory: Path, progress: Any, backbone: Any = None
) -> list[dict[str, Any]]:
    """Compute the cells that `directory` does not hold yet, and return all.

    Parameters
    ----------
    spec : StudySpec
    data : StudyData
    directory : Path
        Gets ``cells/``.
    progress : object
        With ``check()`` and ``report(done, total)``.
    backbone : callable, optional
        See `labeltui.studies.cells.Backbone`.

    Returns
    -------
    list of dict
        ``cell`` and ``result`` of each.

    Raises
    ------
    JobError
        A cell on disk is of another study.
    """
    folder = directory / CELLS
    files.make_directory(folder)
    sweep(folder)
    wanted = spec.cells()
    number = {
        (c["noise"], c["seed"]): i for i, c in enumerate(wanted) if "noise" in c and "condition" not in c
    }

    def labels_of(noise: str, seed: int) -> Arrays:
        with np.load(folder / f"{number[noise, seed]:05}.npz", allow_pickle=False) as found:
            return {name: found[name] for name in found.files}

    done = []
    for i, cell in enumerate(wanted):
        progress.report(i, len(wanted))
        path = folder / f"{i:05}.json"
        found = _finished(path, cell)
        if found is None:
            progress.check()
            result, arrays = run_cell(
                spec, cell, data, labels_of=labels_of, backbone=backbone, check=progress.check
            )
            content: dict[str, Any] = dict(arrays)
            if content:
                with replacing(path.with_suffix(".npz")) as temporary, open(temporary, "wb") as file:
                    np.savez(file, **content)
            found = {"cell": cell, "result": result}
            write_json(path, found)
        done.append(found)
    return done


def _finished(path: Path, cell: Cell) -> dict[str, Any] | None:
    try:
        found = files.read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise JobError("a finished cell must be readable", f"{safe(str(path))}: {safe(str(error))}") from None
    if found.get("cell") != cell or not isinstance(found.get("result"), dict):
        raise JobError("a cell must be of its study", f"{safe(str(path))} is of another", "start a new run")
    return found


# --- timm networks ---------------------------------------------------------------------------------------------------


class _CellRun(Run):
    """A cell's directory; stop requests and time limit are those of the study."""

    def __init__(self, directory: Path, study: Run) -> None:
        super().__init__(directory)
        self._study = study

    def cancelled(self) -> bool:
        return self._study.cancelled()

    def time_limit_reached(self) -> bool:
        return self._study.time_limit_reached()

    def close(self) -> None:
        """Close the file of events."""
        self._events.close()


def _backbone(task: Task, spec: StudySpec, data: StudyData) -> Any:
    """Return what fine-tunes a timm network in a directory of its own, from its last checkpoint if there is one."""

    def train(
        network: str, labels: NDArray[np.int32], seed: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float32], str]:
        from labeltui.train.backbone import train_backbone

        roles = np.zeros(len(labels), np.uint8)
        roles[labels >= 0] = TRAIN
        roles[data.test] = HELD_OUT
        measured = labels.copy()
        measured[data.test] = data.labels[data.test]
        asked = BackboneSpec(
            network,
            checkpoint=spec.checkpoint or None,
            image_size=spec.image_size if spec.image_size >= 32 else 32,
            **{**PRESETS.get(network, {}), "epochs": spec.epochs},
        )
        directory = task.job.directory / "network"

        def fine_tune(asked: BackboneSpec) -> dict[str, Any]:
            files.make_directory(directory)
            run = _CellRun(directory, task.job)
            try:
                job = replace(task.spec, kind="backbone", folds=0, seed=seed, backbone=asked, study=None)
                return train_backbone(
                    replace(task, job=run, spec=job, labels=measured, roles=roles, weights=None, checked=None)
                )
            finally:
                run.close()

        note = ""
        try:
            done = fine_tune(asked)
        except ModelError as error:
            if asked.checkpoint is not None:
                raise
            note = f" ({error.message})"
            done = fine_tune(replace(asked, pretrained=False))
        predictions = Predictions.read(directory)
        at = np.searchsorted(predictions.rows, data.test)
        shutil.rmtree(directory)
        return predictions.predicted[at], predictions.confidence[at], str(done["weights"]) + note

    return train
