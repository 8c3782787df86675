"""Processes that survive: their terminal, the logout, being killed; and who may go first."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from labeltui.audit import Audit
from labeltui.errors import Cancelled, JobError
from labeltui.journal import identity
from labeltui.train import child, device, jobs, launch
from labeltui.train.plan import Request, prepare
from tests.factories import HEAD, make_audit
from tests.train.test_backbone import TINY, arrays_of, finished, prepared


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("kills", "works", "prefixed", "warned"),
    [("b true", True, True, False), ("b true", False, False, True), ("b false", True, False, False)],
)
def test_where_logging_out_kills_a_scope_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: str, works: bool, prefixed: bool, warned: bool
) -> None:
    program(tmp_path, "busctl", f"echo '{kills}'")
    program(tmp_path, "systemd-run", "exit 0" if works else "echo no bus >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    prefix, warning = launch.scope()
    assert (prefix[:3] == ["systemd-run", "--user", "--scope"]) == prefixed
    assert bool(warning) == warned


def test_without_systemd_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert launch.scope() == ([], "")


def test_a_killed_run_is_resumed_and_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    whole, killed = (prepared(path, folds=2) for _ in range(2))
    finished(whole)
    launch.launch(killed)
    last = killed / "checkpoints" / "last.safetensors"
    end = time.monotonic() + 60
    while not last.exists():
        assert time.monotonic() < end, (killed / "log.txt").read_text()
        time.sleep(0.01)
    os.kill(json.loads((killed / "heartbeat.json").read_text())["pid"], signal.SIGKILL)
    while jobs.read(killed).active:
        time.sleep(0.01)
    assert jobs.read(killed).state == "lost"
    assert any("--resume" in line for line in jobs.list_lines(path, jobs.list_jobs(path)))
    job = list(jobs.follow(jobs.resume(path, killed.name)))[-1]
    assert job.state == "done", (killed / "log.txt").read_text()
    assert arrays_of(whole) == arrays_of(killed)
    # What was lost is less than an epoch: only the one at work was done again.
    lines = [json.loads(line) for line in (killed / "events.jsonl").read_text().splitlines()]
    epochs = [(line["model"], line["epoch"]) for line in lines if "epoch" in line]
    assert len(set(epochs)) == 2 * TINY.epochs
    assert len(epochs) <= 2 * TINY.epochs + 1
    with pytest.raises(JobError, match="is done"):
        jobs.resume(path, killed.name)


def test_a_queued_run_waits_for_the_one_before(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    first, second = prepared(path, folds=0), prepared(path, folds=0)
    (first / "heartbeat.json").write_text(json.dumps(identity()))
    (second / "launch.json").write_text(json.dumps({"queue": True}))
    seen: list[str] = []

    def end_it() -> None:
        while jobs.read(second).stage != "waiting for run 1":
            time.sleep(0.02)
        seen.append(jobs.read(second).state)
        (first / "exit.json").write_text(json.dumps({"state": "failed"}))

    thread = threading.Thread(target=end_it)
    thread.start()
    assert child.run(second) == "done"
    thread.join()
    assert seen == ["running"]
    (first / "exit.json").unlink()
    third = prepared(path, folds=0)
    (third / "launch.json").write_text(json.dumps({"queue": True}))
    (third / "cancel").touch()
    assert child.run(third) == "cancelled"


def test_a_resumed_run_waits_for_a_younger_one_that_works(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    older, younger = prepared(path, folds=0), prepared(path, folds=0)
    now = time.time()
    (younger / "launch.json").write_text(json.dumps({"time": now}))
    (younger / "heartbeat.json").write_text(json.dumps(identity()))
    (older / "launch.json").write_text(json.dumps({"time": now + 1, "queue": False}))
    assert child.run(older) == "failed"
    assert younger.name in jobs.read(older).message


def test_only_a_gpu_is_waited_for() -> None:
    for name in ("cpu", "cuda:99"):
        with device.held(name, lambda: pytest.fail("waited"), lambda: False):
            pass


def test_a_gpu_has_one_job_at_a_time(tmp_path: Path) -> None:
    waited: list[int] = []
    with device.turn("gpu", lambda: None, lambda: False, tmp_path):
        with device.turn("another", lambda: waited.append(0), lambda: False, tmp_path):
            assert waited == []
        with (
            pytest.raises(Cancelled),
            device.turn("gpu", lambda: waited.append(1), lambda: bool(waited), tmp_path),
        ):
            pytest.fail("two jobs have the device")
    assert waited == [1]
    with device.turn("gpu", lambda: waited.append(2), lambda: True, tmp_path):
        assert waited == [1]


def test_the_lock_of_another_user_is_opened_without_creating_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with device.turn("gpu", lambda: None, lambda: False, tmp_path):
        pass
    opened, open_file = [], os.open

    def protected(path: Path, flags: int, mode: int = 0o777) -> int:
        opened.append(flags)
        return open_file(path, flags, mode)

    monkeypatch.setattr(os, "open", protected)  # fs.protected_regular itself needs a second user
    with device.turn("gpu", lambda: None, lambda: False, tmp_path):
        pass
    assert opened
    assert not any(flags & os.O_CREAT for flags in opened)


def test_a_run_that_never_began_is_lost_whatever_the_clock_says(tmp_path: Path) -> None:
    directory = prepared(make_audit(tmp_path))
    for shift in (-2 * jobs.START_SECONDS, 2 * jobs.START_SECONDS):
        (directory / "launch.json").write_text(json.dumps({"time": time.time() + shift}))
        assert jobs.read(directory).state == "lost"
    (directory / "launch.json").write_text(json.dumps({"time": time.time()}))
    assert jobs.read(directory).state == "starting"


def test_a_run_in_the_queue_of_a_launcher_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A stand-in for srun: it waits for a node, then runs the command it was given.
    program(tmp_path, "srun", f'while [ ! -e "{tmp_path}/node" ]; do sleep 0.05; done\nexec "$@"')
    monkeypatch.setattr(jobs, "START_SECONDS", 0.3)
    path = make_audit(tmp_path)
    launcher = str(tmp_path / "srun")
    with Audit.open(path, read_only=True) as audit:
        spec, arrays = prepare(audit, Request(head=HEAD))
    job = jobs.start(path, spec, arrays, launcher=launcher)
    time.sleep(0.6)
    assert jobs.read(job.directory).state == "starting"
    with pytest.raises(JobError, match="one training job at a time"):
        jobs.start(path, spec, arrays)
    # Stopped before a node was free: nothing is left in the queue, and another run may start.
    jobs.cancel(job)
    end = time.monotonic() + 30
    while jobs.read(job.directory).active:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert jobs.read(job.directory).state == "cancelled"
    assert child.run(job.directory) == "cancelled"  # a child that was on its way stops too
    job = jobs.resume(path, job.id, launcher=launcher)
    assert job.state == "starting"
    (tmp_path / "node").touch()
    assert list(jobs.follow(job))[-1].state == "done", (job.directory / "log.txt").read_text()


def test_a_launcher_on_another_host_may_wait_for_days(tmp_path: Path) -> None:
    directory = prepared(make_audit(tmp_path))
    (directory / "launch.json").write_text(json.dumps({"time": time.time() - 1e6}))
    (directory / launch.LAUNCHER).write_text(json.dumps({**identity(), "host": "login1"}))
    assert jobs.read(directory).state == "starting"
    jobs.cancel(jobs.read(directory))
    assert jobs.read(directory).state == "cancelled"


def test_what_a_run_was_told_stands_beside_it(tmp_path: Path) -> None:
    assert not TINY.pretrained
    directory = prepared(make_audit(tmp_path))
    launch.launch(directory, "true", minutes=3.0)  # the launcher is a command that ignores the rest
    told = json.loads((directory / "launch.json").read_text())
    assert told["minutes"] == 3.0
    assert told["child"][0] == "true"
    assert told["versions"]["torch"]
