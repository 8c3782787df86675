"""Training jobs on a real audit, as real processes."""

from __future__ import annotations

import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labeltui import head, paths, store
from labeltui.audit import Audit
from labeltui.errors import JobError, UsageError
from labeltui.io.h5_reader import H5
from labeltui.io.part import Part
from labeltui.journal import identity
from labeltui.train import child, curves, jobs, launch
from labeltui.train.dynamics import read_dynamics
from labeltui.train.plan import Request, prepare
from labeltui.train.spec import TrainSpec
from tests.factories import HEAD, make_audit
from tests.runs import end, here, prepared

WAIT = 60.0


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, f"waited {WAIT} s for {what}"
        time.sleep(0.05)


def flipped(audit: Audit, directory: Path) -> np.ndarray:
    return np.flatnonzero(audit.given != np.load(directory / "truth.npy"))


def test_a_job_re_ranks_the_queue_and_keeps_decisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_audit(tmp_path)
    truth = np.load(tmp_path / "truth.npy")
    with Audit.open(path, reviewer="ada") as audit:
        wrong = flipped(audit, tmp_path)
        for sample in wrong[:10]:
            audit.decide([int(sample)], "relabel", int(truth[sample]))
        right = np.flatnonzero(audit.given == truth)[:12]
        for sample in right:
            audit.decide([int(sample)], "keep")
        audit.decide([int(wrong[10])], "unsure")
        trainer = jobs.JobManager(audit, request=Request(head=HEAD))
        first = trainer.start()
        assert first.active
        assert first.number == 1
        assert first.what == "head"
        states = [job.state for job in jobs.follow(first)]
        assert states[-1] == "done", (trainer.poll(), (first.directory / "log.txt").read_text())
        spec = TrainSpec.read(first.directory / "spec.json")
        assert spec.journal_seq == audit.journal_seq
        labels = np.load(first.directory / "labels.npy")
        assert np.array_equal(np.load(first.directory / "roles.npy"), (labels >= 0).astype(np.uint8))
        assert np.array_equal(labels, audit.training_labels())
        checked = np.load(first.directory / "checked.npy")
        assert (checked[wrong[:10]] == 0).all()
        assert (checked[right] == 1).all()
        assert (checked >= 0).sum() == 22
        change = audit.refresh()
        assert change is not None
        assert audit.generation == 1
        with store.Store.open(path, 1) as opened:
            assert opened.attrs("scores/blend")["calibration_checks"] == 22
            assert opened.attrs("scores/dynamics")["records"] == 3
            assert opened.attrs("scores/cleannet")["decisions"] == 22
            assert "weight_corrected" in opened.attrs(
                "scores/cleannet"
            )  # it looks when the others have looked
            first_steps = opened.attrs("scores/cleannet")["steps"]
            cosine = opened.array("detectors/cleannet/cosine")
        assert audit.relabels_after(audit.newest_run_seq()) == 0
        # The scores of the run speak of the given labels still, and of the relabelled samples too.
        assert all(audit.flagged(int(sample)) for sample in wrong[:10])
        assert np.mean([audit.score(int(sample)) for sample in wrong]) < 0.3
        assert audit.refresh() is None
        done = jobs.read(first.directory)
        assert done.result["metrics"]["accuracy"] > 0.8
        recorded = read_dynamics(first.directory)
        assert np.array_equal(recorded.labels, labels)
        assert recorded.log_p.shape[1] == audit.n
        assert np.isfinite(recorded.log_p[:, labels >= 0].astype(np.float32)).all()
        _, arrays = prepare(audit, Request(weights="cleannet"))
        decided = np.concatenate([right, wrong[:11]])
        assert (arrays["weights"][decided] == 1).all()
        rest = np.setdiff1d(np.arange(audit.n), decided)
        np.testing.assert_array_equal(arrays["weights"][rest], np.maximum(cosine, 0)[rest])
        monkeypatch.setattr(launch, "launch", here)
        trainer.start(Request(weights="cleannet"))
        audit.refresh()
        with store.Store.open(path, 2) as opened:  # goes on from the networks that the first run kept
            assert 0 < opened.attrs("scores/cleannet")["steps"] < first_steps
    with Audit.open(path, reviewer="ada") as audit:
        assert audit.generation == 2
        assert all(audit.current[sample] == truth[sample] for sample in wrong[:10])


def test_the_same_spec_gives_the_same_bytes(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    results = []
    for number in range(2):
        directory = prepared(path, threads=number + 1)
        assert child.run(directory) == "done", jobs.read(directory).message
        results.append(directory / "result.h5")
    with H5(results[0]) as a, H5(results[1]) as b:
        for name in ("scores/blend", "scores/head", "suggest/label", "suggest/p"):
            assert a[name].tobytes() == b[name].tobytes(), name


@pytest.mark.parametrize("name", ["head", "score"])
def test_a_stopped_job_goes_on_within_its_classifiers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = make_audit(tmp_path)
    whole, stopped = prepared(path, threads=1), prepared(path, threads=1)
    trained: list[tuple[bool, int, int, int]] = []
    train, save = head.out_of_fold, Part.save

    def noting(*arguments: Any, progress: Callable[[head.Epoch], None], **named: Any) -> head.HeadResult:
        def followed(epoch: head.Epoch) -> None:
            trained.append(("transition" in named, epoch.fold, epoch.member, epoch.epoch))
            progress(epoch)

        return train(*arguments, progress=followed, **named)

    def stop_soon(self: Part, key: str, pieces: Iterator[bytes | memoryview]) -> None:
        save(self, key, pieces)
        if self.path == stopped / f"{name}.part":
            (stopped / "cancel").touch()

    monkeypatch.setattr(head, "out_of_fold", noting)
    assert child.run(whole) == "done"
    every = set(trained)
    trained.clear()
    with monkeypatch.context() as patched:
        patched.setattr(Part, "due", lambda self: True)
        patched.setattr(Part, "save", stop_soon)
        assert child.run(stopped) == "cancelled"
    (stopped / "cancel").unlink()
    (stopped / "exit.json").unlink()
    assert child.run(stopped) == "done"
    assert len(set(trained)) == len(trained) < len(every)  # the last before the stop was kept, but not told
    assert set(trained) < every
    assert not list(stopped.glob("*.part"))
    lines = [json.loads(line) for line in (stopped / "events.jsonl").read_text().splitlines()]
    assert {line["epochs"] for line in lines if "model" in line} == {HEAD.schedule(192)[2]}
    with H5(whole / "result.h5") as a, H5(stopped / "result.h5") as b:
        for array in ("scores/blend", "scores/head", "scores/corrected", "suggest/label", "suggest/p"):
            assert a[array].tobytes() == b[array].tobytes(), array


def test_killed_jobs_are_recognised(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    directory = prepared(path)
    process = subprocess.Popen(
        [sys.executable, "-m", "labeltui.train.child", str(directory)], stderr=subprocess.DEVNULL
    )
    until(lambda: jobs.read(directory).state == "running", "a heartbeat")
    os.kill(process.pid, signal.SIGSTOP)  # busy or stopped, it lives
    assert jobs.read(directory).state == "running"
    process.kill()
    process.wait()
    job = jobs.read(directory)
    assert job.state == "lost"
    assert not job.active
    assert not (directory / "result.h5").exists()
    with Audit.open(path) as audit:
        assert audit.refresh() is None
        assert jobs.JobManager(audit).start().number == 2  # a lost job does not block the next
        jobs.cancel(jobs.list_jobs(path)[-1])


@pytest.mark.parametrize("how", ["file", "signal"])
def test_cancel(tmp_path: Path, how: str) -> None:
    path = make_audit(tmp_path)
    directory = prepared(path)
    if how == "file":
        jobs.cancel(jobs.read(directory))
        assert child.run(directory) == "cancelled"
    else:
        process = subprocess.Popen([sys.executable, "-m", "labeltui.train.child", str(directory)])
        until(lambda: jobs.read(directory).state == "running", "a heartbeat")
        process.terminate()
        assert process.wait(WAIT) == 1
    assert jobs.read(directory).state == "cancelled"
    assert not (directory / "result.h5").exists()


def test_a_reused_pid_is_not_the_job(tmp_path: Path) -> None:
    directory = prepared(make_audit(tmp_path))
    beat = {**identity(), "time": time.time()}
    (directory / "heartbeat.json").write_text(json.dumps(beat))
    assert jobs.read(directory).state == "running"
    for change in ({"start": "1"}, {"boot_id": "another"}, {"pid": 2**22 + 1}):
        (directory / "heartbeat.json").write_text(json.dumps(beat | change))
        assert jobs.read(directory).state == "lost", change


def test_another_hosts_job_lives_by_its_heartbeat(tmp_path: Path) -> None:
    directory = prepared(make_audit(tmp_path))
    heartbeat = directory / "heartbeat.json"
    heartbeat.write_text(json.dumps({**identity(), "host": "elsewhere"}))
    assert jobs.read(directory).state == "running"
    old = time.time() - 2 * jobs.LOST_AFTER_SECONDS
    os.utime(heartbeat, (old, old))
    assert jobs.read(directory).state == "lost"


def test_one_job_at_a_time(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    running = prepared(path)
    (running / "heartbeat.json").write_text(json.dumps(identity()))
    with Audit.open(path) as audit, pytest.raises(JobError, match="one training job at a time"):
        jobs.JobManager(audit).start()


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda d: (d / "spec.json").write_text("{"), "spec.json"),
        (lambda d: (d / "labels.npy").write_bytes(b"\x93NUMPY"), "labels.npy"),
        (lambda d: np.save(d / "labels.npy", np.zeros(240, np.int32)), "hashes differ"),
        (
            lambda d: (d / "spec.json").write_text(
                json.dumps(json.loads((d / "spec.json").read_text()) | {"audit_uuid": "another"})
            ),
            "belongs to",
        ),
        (
            lambda d: (d / "spec.json").write_text(
                json.dumps(json.loads((d / "spec.json").read_text()) | {"format": 99})
            ),
            "format 99",
        ),
        (
            lambda d: (d / "spec.json").write_text(
                json.dumps(json.loads((d / "spec.json").read_text()) | {"study": "dilution"})
            ),
            "study is no object",
        ),
    ],
)
def test_a_damaged_job_fails_and_says_why(tmp_path: Path, damage: Callable[[Path], None], word: str) -> None:
    directory = prepared(make_audit(tmp_path))
    damage(directory)
    assert child.run(directory) == "failed"
    job = jobs.read(directory)
    assert job.state == "failed"
    assert word in job.message


def test_ids_sort_by_age_when_the_clock_goes_back(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    future = path / "runs" / "29990101T000000Z-aaaa"
    future.mkdir(parents=True)
    assert prepared(path).name > future.name
    assert [job.number for job in jobs.list_jobs(path)] == [1, 2]


def test_a_launcher_that_is_not_there(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    with Audit.open(path) as audit:
        with pytest.raises(JobError, match="no-such-launcher"):
            jobs.JobManager(audit, launcher="no-such-launcher --gres=gpu:1").start()
        with pytest.raises(UsageError, match="launcher"):
            jobs.JobManager(audit, launcher="srun 'unclosed").start()
    assert jobs.list_jobs(path) == []


def test_runs_are_found_by_either_end_of_their_id(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    directory = prepared(path)
    assert jobs.find(path, directory.name[-4:]).directory == directory
    assert jobs.find(path, directory.name).number == 1
    assert jobs.find(path, "1").directory == directory
    with pytest.raises(JobError, match="fits 0 runs"):
        jobs.find(path, "nope")
    with pytest.raises(JobError):
        jobs.find(path, "")


def test_two_jobs_started_in_the_same_moment(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    first, second = prepared(path), prepared(path)
    (first / "heartbeat.json").write_text(json.dumps(identity()))
    assert child.run(second) == "failed"
    assert "one training job at a time" in jobs.read(second).message


def test_one_run_has_one_process(tmp_path: Path) -> None:
    directory = prepared(make_audit(tmp_path))
    (directory / "events.jsonl").write_text("")
    descriptor = os.open(directory, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert child.run(directory) == "running"
    os.close(descriptor)
    assert not (directory / "heartbeat.json").exists()
    assert (directory / "events.jsonl").read_text() == ""


def test_the_working_job_is_watched_before_those_that_wait(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    first, second = prepared(path), prepared(path)
    for directory in (first, second):
        (directory / "heartbeat.json").write_text(json.dumps(identity()))
    with Audit.open(path) as audit:
        trainer = jobs.JobManager(audit)
        assert trainer.poll().directory == first
        trainer.cancel(second.name)
        assert not (first / "cancel").exists()
        assert (second / "cancel").exists()
        end(first, "done")
        assert trainer.poll().directory == second
        end(second, "failed")
        assert trainer.poll().directory == second
        assert trainer.status().state == "failed"


def test_time_left_counts_from_the_last_start(tmp_path: Path) -> None:
    directory = prepared(make_audit(tmp_path))
    (directory / "heartbeat.json").write_text(json.dumps(identity()))
    (directory / "events.jsonl").write_text('{"stage": "head", "progress": 0.75}\n')
    for launched, left in ((-60, 30.0), (3600, 0.0)):  # a minute ago; or the clock was set back since
        (directory / "launch.json").write_text(json.dumps({"time": time.time() + launched, "progress": 0.25}))
        assert jobs.read(directory).eta == pytest.approx(left, abs=1)


def test_a_curve_is_the_mean_of_the_models_that_came_so_far(tmp_path: Path) -> None:
    lines: list[Any] = [
        {"stage": "fold 1 of 2", "progress": 0.1},
        {"model": 0, "epoch": 1, "epochs": 2, "loss": 2.0, "accuracy": 0.5},
        {"model": 0, "epoch": 2, "epochs": 2, "loss": 9.0, "accuracy": 0.1},
        {"model": 0, "epoch": 2, "epochs": 2, "loss": 1.0, "accuracy": 0.7},  # done again after a kill
        {"model": 1, "epoch": 1, "epochs": 2, "loss": 1.0, "accuracy": 0.6},
        {"epoch": "one"},
        [1, '"epoch"'],
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"model": 1, "epoch": 2, "loss": 0'
    (tmp_path / paths.EVENTS_FILE).write_text(text)
    found = curves.read(tmp_path)
    assert found.loss == (1.5, 1.0)
    assert found.accuracy == pytest.approx((0.55, 0.7))
    assert (found.epoch, found.epochs) == (1, 2)
    assert curves.read(tmp_path / "none") == curves.Curve()
    assert curves.sparkline(range(16), 8) == curves.BLOCKS
    assert curves.sparkline([1.0, math.nan, 3.0], 8) == "▁ █"
    assert curves.sparkline([math.nan], 8) == curves.sparkline([], 8) == ""


def test_half_written_events_are_skipped(tmp_path: Path) -> None:
    directory = prepared(make_audit(tmp_path))
    (directory / "events.jsonl").write_bytes(
        b'{"stage": "head", "progress": 0.25}\nnot json\n{"stage": "head", "progr'
    )
    job = jobs.read(directory)
    assert (job.stage, job.progress) == ("head", 0.25)
