"""Backbones fine-tuned on images, in this process: what a run leaves, repeats, survives and says."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labeltui import store
from labeltui.audit import Audit
from labeltui.errors import JobError, UsageError
from labeltui.io.h5_reader import H5
from labeltui.train import child, curves, dynamics, jobs
from labeltui.train.predictions import Predictions
from labeltui.train.spec import HELD_OUT, TRAIN, BackboneSpec, TrainSpec
from tests import runs
from tests.factories import make_audit

TINY = BackboneSpec(
    "test_resnet", pretrained=False, image_size=16, epochs=2, batch_size=32, learning_rate=3e-3, augment=()
)


def prepared(path: Path, backbone: BackboneSpec = TINY, **asked: Any) -> Path:
    return runs.prepared(path, backbone=backbone, **{"threads": 1, **asked})


def head_run(path: Path) -> Path:
    return runs.prepared(path, threads=1)


def finished(directory: Path) -> jobs.Job:
    state = child.run(directory)
    job = jobs.read(directory)
    assert state == job.state == "done", job.message
    return job


def resumed(directory: Path) -> str:
    """What `jobs.resume` does, without a process."""
    for name in ("cancel", "exit.json"):
        (directory / name).unlink(missing_ok=True)
    return child.run(directory)


def arrays_of(directory: Path, file: str = "result.h5") -> dict[str, bytes]:
    with H5(directory / file) as opened:
        names = (
            ["scores/blend", "scores/tuned", "suggest/label", "suggest/p", "trained/p"]
            if file == "result.h5"
            else [*dynamics.FIELDS, "labels", "fold"]
        )
        return {name: opened[name].tobytes() for name in names}


def test_out_of_fold_probabilities_re_rank_the_queue(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    truth = np.load(tmp_path / "truth.npy")
    directory = prepared(path, replace(TINY, epochs=8), folds=2)
    job = finished(directory)
    assert job.what == "test_resnet"
    assert job.result["weights"] == "random (from scratch)"
    predictions = Predictions.read(directory)
    assert np.array_equal(predictions.rows, np.arange(240))
    assert predictions.against(truth, 4).accuracy > 0.7
    assert job.result["metrics"]["accuracy"] == pytest.approx(
        predictions.against(np.load(directory / "labels.npy"), 4).accuracy, abs=1e-6
    )
    recorded = dynamics.read_dynamics(directory)
    assert recorded.log_p.shape == (8, 240)
    assert np.isfinite(recorded.log_p.astype(np.float32)).all()
    wrong = np.load(directory / "labels.npy") != truth
    mean = recorded.log_p.astype(np.float32).mean(axis=0)
    assert mean[wrong].mean() < mean[~wrong].mean() - 0.5  # wrong labels are learned late
    assert not (directory / "epochs").exists()
    curve = curves.read(directory)
    assert (curve.epoch, curve.epochs, len(curve.loss)) == (8, 8, 8)
    assert curve.loss[-1] < curve.loss[0]
    assert curve.accuracy[-1] > 0.6 > curve.accuracy[0]
    with Audit.open(path) as audit:
        change = audit.refresh()
        assert change is not None
        assert audit.detectors()["tuned"] == "fine-tuned backbone"
        with store.Store.open(path, audit.generation) as opened:
            attrs = opened.attrs("scores/dynamics")
        assert (attrs["records"], attrs["epochs"]) == (1, 8)  # the backbone's
        assert np.mean([audit.score(int(i)) for i in np.flatnonzero(wrong)]) < 0.3


def test_pieces_give_the_bytes_of_one_go(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    backbone = replace(TINY, augment=("shift", "flip"), ema=0.9, drop_rate=0.2, patience=2, clean_pass=True)
    whole, pieces = (prepared(path, backbone, folds=2) for _ in range(2))
    finished(whole)
    # So few minutes that each piece is one step, in the middle of epochs.
    (pieces / "launch.json").write_text(json.dumps({"minutes": 1e-9}))
    states = [child.run(pieces)]
    assert states == ["paused"]
    assert jobs.read(pieces).result["notes"] == []
    assert (pieces / "checkpoints" / "last.safetensors").exists()
    (pieces / "cancel").touch()
    assert resumed_with_cancel(pieces) == "cancelled"
    while states[-1] == "paused":
        states.append(resumed(pieces))
        assert len(states) < 40
    assert states[-1] == "done", jobs.read(pieces).message
    assert len(states) > 8
    assert arrays_of(whole) == arrays_of(pieces)
    for file in ("dynamics.h5", "clean-dynamics.h5"):
        assert arrays_of(whole, file) == arrays_of(pieces, file)
    assert not (pieces / "checkpoints" / "last.safetensors").exists()


def resumed_with_cancel(directory: Path) -> str:
    (directory / "exit.json").unlink()
    return child.run(directory)


def test_one_model_is_measured_on_what_it_never_saw(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    first, second = (prepared(path, replace(TINY, reembed=True), folds=0, seed=seed) for seed in (0, 1))
    roles = [np.load(directory / "roles.npy") for directory in (first, second)]
    assert np.array_equal(*roles)  # another seed, the same held-out samples
    held = np.flatnonzero(roles[0] == HELD_OUT)
    assert 18 <= len(held) <= 30
    with store.Store.open(path) as opened:
        groups = opened.array("groups/duplicate")
        assert not np.intersect1d(groups[held], groups[roles[0] == TRAIN]).size
    job = finished(first)
    assert np.array_equal(Predictions.read(first).rows, held)
    assert job.result["metrics"]["n"] == len(held)
    recorded = dynamics.read_dynamics(first)
    assert np.isnan(recorded.log_p[:, held].astype(np.float32)).all()
    assert (recorded.top[:, held] == -1).all()
    from safetensors import safe_open

    with safe_open(first / "checkpoints" / "model.safetensors", framework="np") as file:
        assert "fc.weight" in file.keys()  # noqa: SIM118 - no mapping
    with Audit.open(path) as audit:
        assert audit.refresh() is not None
        assert audit.embedding_name.startswith("test_resnet-16-tuned-")
        assert len(audit.queue()) > 0
        assert audit.evidence(3).neighbours
        audit.decide([3], "relabel", int((audit.given[3] + 1) % 4))
        assert audit.summary().csg is not None
        audit.undo()


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    directory = prepared(path, replace(TINY, learning_rate=1e20, warmup=0.6, epochs=3), folds=0)
    assert child.run(directory) == "failed"
    message = jobs.read(directory).message
    assert "finite" in message
    assert "epoch" in message


def test_a_class_without_training_samples_is_never_predicted(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    with Audit.open(path, read_only=True) as audit:
        rows = [f"{audit.sample_id(i).decode()},class{audit.given[i] % 3}" for i in range(audit.n)]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["path,better", *rows]) + "\n")
    directory = prepared(path, folds=2, labels=f"{table}:better")
    job = finished(directory)
    assert any("no training sample of class3" in note for note in job.result["notes"])
    assert (Predictions.read(directory).predicted < 3).all()
    with H5(directory / "result.h5") as result:
        assert (result["trained/p"][:, 3] == 0).all()


def test_lost_images_are_left_out_and_named(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    directory = prepared(path, folds=2)
    files = sorted((tmp_path / "data").rglob("*.png"))
    files[0].unlink()
    files[1].write_bytes(b"no image")
    files[2].write_bytes(files[3].read_bytes())  # another sample's image
    job = finished(directory)
    assert job.result["lost"] == 3
    assert any("changed since the scan" in note and "3 of" in note for note in job.result["notes"])
    assert np.array_equal(Predictions.read(directory).rows, np.arange(3, 240))
    with H5(directory / "result.h5") as result:
        assert (result["trained/p"][:3] == 0.25).all()  # nothing is known of them
    again = prepared(path, replace(TINY, reembed=True), folds=0)
    assert child.run(again) == "failed"
    assert "every image" in jobs.read(again).message
    for file in files[2:80]:
        file.unlink()
    other = prepared(path, folds=0)
    assert child.run(other) == "failed"
    assert "--source" in jobs.read(other).message


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_room_for_a_checkpoint_fails_and_can_be_resumed(tmp_path: Path) -> None:
    directory = prepared(make_audit(tmp_path), folds=0)
    with largest_file(300_000):  # a checkpoint has more than a megabyte
        assert child.run(directory) == "failed"
    assert "resume" in jobs.read(directory).message
    assert [file.name for file in (directory / "checkpoints").iterdir()] == []
    assert resumed(directory) == "done"


FULL = """
import os, subprocess, sys
from pathlib import Path
from labeltui.train import child, jobs
directory = Path(sys.argv[1])
assert child.run(directory) == "failed"
print(jobs.read(directory).message, flush=True)
subprocess.run(["mount", "-o", "remount,size=64m", str(directory.parent)], check=True)
print(os.listdir(directory), flush=True)
(directory / "exit.json").unlink()
assert child.run(directory) == "done"
print((directory / "result.h5").stat().st_size)
"""


def test_a_full_disk_fails_the_run_and_more_room_resumes_it(tmp_path: Path) -> None:
    directory = head_run(make_audit(tmp_path))
    runs, copy = directory.parent, tmp_path / "copy"
    shutil.copytree(directory, copy / directory.name)
    steps = [
        f"mount -t tmpfs -o size=48k none {runs}",  # room for what a run begins with, not for its result
        f"cp -r {copy}/. {runs}",
        f'exec "{sys.executable}" -c "$0" {directory}',
    ]
    script = ["unshare", "-rm", "sh", "-c", " && ".join(steps), FULL]
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount in a name space of its own")
    done = subprocess.run(script, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
    message, left, size = done.stdout.splitlines()
    assert "the disk is full" in message
    assert ".tmp" not in left
    assert int(size) > 0


def test_no_room_for_a_line_fails_and_can_be_resumed(tmp_path: Path) -> None:
    directory = prepared(make_audit(tmp_path), replace(TINY, epochs=1), folds=0)
    (directory / "events.jsonl").write_text("x" * 2000 + "\n")
    with largest_file(2000):
        assert child.run(directory) == "failed"
    assert "the disk is full" in jobs.read(directory).message
    assert resumed(directory) == "done"


def test_what_a_killed_process_left_half_written_goes(tmp_path: Path) -> None:
    directory = prepared(make_audit(tmp_path), replace(TINY, epochs=1), folds=0)
    (directory / "checkpoints").mkdir()
    for name in ("checkpoints/.last.safetensors.0a1b.tmp", ".result.h5.0a1b.tmp"):
        (directory / name).write_bytes(b"half")
    assert child.run(directory) == "done"
    assert not list(directory.rglob(".*.tmp"))


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    directory = prepared(make_audit(tmp_path), folds=0)
    (directory / "launch.json").write_text(json.dumps({"minutes": 1e-9}))
    assert child.run(directory) == "paused"
    file = directory / "checkpoints" / "last.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    assert resumed(directory) == "failed"
    assert "checkpoint" in jobs.read(directory).message


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"held_out": "dev"}, "split"),
        ({"held_out": "0.9"}, "0.01 to 0.5"),
        ({"folds": 1}, "--folds"),
        ({"splits": ("train",)}, "split"),
        ({"labels": "nothing"}, "TABLE:COLUMN"),
    ],
)
def test_what_cannot_be_asked(tmp_path: Path, asked: dict[str, Any], word: str) -> None:
    path = make_audit(tmp_path)
    with pytest.raises(UsageError, match=word):
        prepared(path, **asked)
    assert jobs.list_jobs(path) == []


def test_a_backbone_needs_images(tmp_path: Path) -> None:
    path = make_audit(tmp_path, images=False)
    with pytest.raises(JobError, match="images"):
        prepared(path)


def test_a_spec_keeps_what_was_asked(tmp_path: Path) -> None:
    backbone = replace(TINY, model_args={"drop_path_rate": 0.1}, augment=("crop", "erase"))
    directory = prepared(make_audit(tmp_path), backbone, seed=7)
    spec = TrainSpec.read(directory / "spec.json")
    assert spec.backbone == backbone
    assert (spec.kind, spec.seed, spec.folds, spec.what) == ("backbone", 7, 3, "test_resnet")
    for change in ({"augment": ("cut",)}, {"epochs": 0}, {"layer_decay": 0.0}, {"optimizer": "lion"}):
        with pytest.raises(UsageError):
            replace(backbone, **change)
