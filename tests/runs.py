"""Training runs without a process of their own: the test stands for it, and writes what it would write."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from labeltui import paths
from labeltui.audit import Audit
from labeltui.io.atomic import write_json
from labeltui.journal import identity
from labeltui.studies.job import run_study
from labeltui.train import child, jobs
from labeltui.train.plan import Request, prepare
from labeltui.train.predictions import Predictions
from labeltui.train.spec import TrainSpec
from tests.factories import HEAD


def begin(directory: Path, launcher: str = "", **options: Any) -> str:
    """Do what `labeltui.train.launch.launch` does, but let this process be the child, two epochs on its way."""
    (directory / "heartbeat.json").write_text(json.dumps(identity()))
    lines = [
        {
            "stage": "fold 1 of 5",
            "progress": 0.2,
            "model": 0,
            "epoch": 1,
            "epochs": 4,
            "loss": 2.0,
            "accuracy": 0.5,
        },
        {
            "stage": "fold 2 of 5",
            "progress": 0.4,
            "model": 0,
            "epoch": 2,
            "epochs": 4,
            "loss": 0.5,
            "accuracy": 0.75,
        },
    ]
    with open(directory / paths.EVENTS_FILE, "a") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))
    return ""


def here(directory: Path, launcher: str = "", **options: Any) -> str:
    """Do what `labeltui.train.launch.launch` does, but run the job in this process, to its end.

    A process of its own imports torch first, which takes longer than a small run.
    """
    write_json(directory / paths.LAUNCH_FILE, {"time": time.time(), **options})
    study = TrainSpec.read(directory / paths.SPEC_FILE).kind == "study"
    child.run(directory, run_study if study else None)
    return ""


def end(directory: Path, state: str, message: str = "", **more: Any) -> None:
    """Write the last word of a run."""
    word = {"state": state, "message": message, "time": time.time(), "notes": [], **more}
    (directory / "exit.json").write_text(json.dumps(word))


def prepared(path: Path, **asked: Any) -> Path:
    """A job's directory as `jobs.start` leaves it, without a process; a small head unless another is asked for."""
    with Audit.open(path, read_only=True) as audit:
        spec, arrays = prepare(audit, Request(**{"head": HEAD, **asked}))
    return jobs.create(path, spec, arrays)


def finished(path: Path, labels: str, seed: int, right: float) -> str:
    """Make a run that is done, with predictions of which a share `right` agree with the truth; return its id."""
    truth = np.load(path.parent / "truth.npy")
    n = len(truth)
    directory = prepared(path, labels=labels, seed=seed)
    rng = np.random.default_rng([seed, len(labels)])
    p = np.full((n, 4), 0.1, np.float32)
    p[np.arange(n), np.where(rng.random(n) < right, truth, (truth + 1) % 4)] = 0.7
    rows = np.random.default_rng(seed).permutation(n)[: n if seed else n - 10]
    begin(directory)
    metrics = Predictions.of(rows, p[rows]).write(
        directory, np.load(directory / "labels.npy"), list("abcd"), "out of fold"
    )
    end(directory, "done", metrics=metrics.summary())
    return directory.name
