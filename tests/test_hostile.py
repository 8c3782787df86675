"""What others made reaches neither the terminal nor a spreadsheet as a command, and is never waited for."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labeltui import config, sources, store
from labeltui.audit import Audit
from labeltui.audit import status as status_of
from labeltui.errors import JobError, LabeltuiError, SourceError, UsageError
from labeltui.export import export
from labeltui.paths import PREDICTIONS_FILE
from labeltui.train import compare, curves, jobs, predictions
from labeltui.train.predictions import Predictions
from tests import runs
from tests.factories import make_audit

ESCAPE = "\x1b]0;owned\x07\x1b[2J\u202e"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_audit(tmp_path, n=60, images=False)


def labeltui(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "labeltui", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def poison(value: Any) -> Any:
    """Put terminal escapes into every text of a JSON value that is not compared with anything."""
    if isinstance(value, dict):
        return {key: each if "sha256" in key or key in KEPT else poison(each) for key, each in value.items()}
    if isinstance(value, list):
        return [poison(each) for each in value]
    return value + ESCAPE if isinstance(value, str) else value


KEPT = {"audit_uuid", "host", "boot_id", "start", "precision"}


def test_escapes_in_the_files_of_a_run_reach_no_terminal(path: Path) -> None:
    ids = [runs.finished(path, "current", seed, 0.9) for seed in (0, 1)]
    lost = runs.prepared(path)
    runs.begin(lost)
    (lost / "heartbeat.json").write_text("{}")
    for run in (path / "runs").iterdir():
        for file in run.glob("*.json"):
            (run / file).write_text(json.dumps(poison(json.loads(file.read_text()))))
        events = (run / "events.jsonl").read_text().splitlines()
        text = "".join(json.dumps(poison(json.loads(line))) + "\n" for line in events)
        (run / "events.jsonl").write_text(text)
    for job in jobs.list_jobs(path):
        shown = json.dumps([*jobs.result_lines(job), *jobs.list_lines(path, [job])], ensure_ascii=False)
        fields = (job.what, job.labels, job.state, job.message, job.stage, *map(str, job.result.values()))
        for text in (shown, *fields):
            assert "\x1b" not in text
            assert "\u202e" not in text
    for words in (("jobs", path), ("compare", path, *ids), ("status", path), ("jobs", path, "--json")):
        done = labeltui(*words)
        assert done.returncode == 0, done.stderr
        assert "owned" in done.stdout or words[0] == "status"
        assert "\x1b" not in done.stdout + done.stderr
        assert "\u202e" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("exit.json", '{"state": "done", "metrics": [1], "notes": 7, "time": "x"}'),
        ("exit.json", '{"state": "done", "metrics": {"accuracy": "high"}, "time": [1]}'),
        ("exit.json", '{"state": ["done"], "message": {"a": 1}}'),
        ("exit.json", '{"a":' * 10_000 + "1" + "}" * 10_000),
        ("launch.json", '{"time": {}, "progress": "half"}'),
        ("launch.json", '{"time": 1e400, "progress": NaN}'),
        ("heartbeat.json", '{"host": [], "pid": {}, "start": 3}'),
        ("spec.json", '{"seed": "x", "backbone": {"model": [1]}, "labels": {}}'),
        ("events.jsonl", '{"progress": "far", "stage": [1], "epoch": {}}\n'),
        ("events.jsonl", '{"progress": -7, "epoch": 1e400}\n' + "[" * 5000 + "\n"),
    ],
)
def test_values_of_another_type_in_the_files_of_a_run_are_not_believed(
    path: Path, file: str, content: str
) -> None:
    run = runs.prepared(path)
    runs.begin(run)
    (run / file).write_text(content)
    (job,) = jobs.list_jobs(path)
    assert 0 <= job.progress <= 1
    json.dumps(job.as_json())
    jobs.list_lines(path, [job])
    jobs.result_lines(job)
    assert job.accuracy is None
    curves.read(run)
    with Audit.open(path, read_only=True) as audit:
        status_of(audit, [job.as_json()])
        assert audit.relabels_after(audit.newest_run_seq()) == 0


def test_a_pipe_in_a_run_is_not_waited_for(path: Path) -> None:
    run = runs.prepared(path)
    for name in ("spec.json", "exit.json", "events.jsonl", "heartbeat.json", "launch.json"):
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)
    done = labeltui("jobs", path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arrays",
    [
        {
            "rows": np.arange(60) + 10,
            "predicted": np.zeros(60, np.int32),
            "confidence": np.ones(60, np.float32),
        },
        {
            "rows": np.arange(60)[::-1],
            "predicted": np.zeros(60, np.int32),
            "confidence": np.ones(60, np.float32),
        },
        {"rows": np.arange(60), "predicted": np.full(60, 9, np.int32), "confidence": np.ones(60, np.float32)},
        {"rows": np.arange(60), "predicted": np.zeros(60, np.int32), "confidence": np.full(60, np.nan)},
        {"rows": np.arange(60.0), "predicted": np.zeros(60, np.int32), "confidence": np.ones(60)},
        {"rows": np.arange(60), "predicted": np.zeros(9, np.int32), "confidence": np.ones(60)},
        {"rows": np.arange(60)},
    ],
)
def test_predictions_that_do_not_fit_are_refused(path: Path, arrays: dict[str, np.ndarray]) -> None:
    ids = [runs.finished(path, "current", seed, 0.9) for seed in (0, 1)]
    np.savez_compressed(path / "runs" / ids[1] / PREDICTIONS_FILE, **arrays)
    with Audit.open(path, read_only=True) as audit, pytest.raises(JobError):
        compare.compare(audit, ids)


def test_predictions_that_unpack_without_end_are_not_unpacked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.finished(path, "current", 0, 0.9)
    monkeypatch.setattr(predictions, "MOST_BYTES", 1000)
    with pytest.raises(JobError, match="unpacks"):
        Predictions.read(path / "runs" / run)


@pytest.mark.parametrize("cut", [0, 10, 100, 700])
def test_torn_predictions_are_refused(path: Path, cut: int) -> None:
    run = runs.finished(path, "current", 0, 0.9)
    os.truncate(path / "runs" / run / PREDICTIONS_FILE, cut)
    with pytest.raises(JobError):
        Predictions.read(path / "runs" / run)


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\r=1"]


def test_no_cell_of_an_excel_csv_is_a_formula(path: Path, tmp_path: Path) -> None:
    with Audit.open(path, reviewer="=cmd|' /C calc'!A0") as audit:
        for i, note in enumerate(FORMULAS):
            audit.decide([i], "exclude", note=note)
    done = labeltui("export", path, "-o", tmp_path / "cli.csv", "--format", "excel-csv")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "cli.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    with Audit.open(path, read_only=True) as audit:
        ids = audit._store.ids
        ids.blob = ids.blob.copy()
        ids.blob[ids.offsets[[0, 1, 2]]] = np.frombuffer(b"=-@", np.uint8)  # how three names begin
        export(audit, tmp_path / "safe.csv", format="excel-csv")
        export(audit, tmp_path / "plain.csv")
    data = (tmp_path / "safe.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    note = rows[0].index("note")
    assert [row[note] for row in rows[1:7]] == ["'" + text for text in FORMULAS]
    plain = list(csv.reader(io.StringIO((tmp_path / "plain.csv").read_bytes().decode(), newline="")))
    assert [row[note] for row in plain[1:7]] == FORMULAS  # as it was written
    assert [row[0][0] for row in plain[1:4]] == ["=", "-", "@"]


def test_an_export_replaces_no_device(path: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with Audit.open(path, read_only=True) as audit:
        for place in (Path("/dev/null"), tmp_path / "pipe"):
            with pytest.raises(UsageError, match="device"):
                export(audit, place, force=True)
    assert Path("/dev/null").is_char_device()


def test_the_next_export_clears_what_a_killed_one_left(path: Path, tmp_path: Path) -> None:
    import fcntl

    out = tmp_path / "labels [1].csv"
    for name in (".labels [1].csv.0badcafe.tmp", ".labels [1].csv.11111111.tmp", ".other.csv.0badcafe.tmp"):
        (tmp_path / name).write_text("half")
    with open(tmp_path / ".labels [1].csv.11111111.tmp") as written, Audit.open(path) as audit:
        fcntl.flock(written, fcntl.LOCK_EX)  # another export is at work on it
        export(audit, out)
    assert sorted(each.name for each in tmp_path.glob(".*.tmp")) == [
        ".labels [1].csv.11111111.tmp",
        ".other.csv.0badcafe.tmp",
    ]


@pytest.mark.parametrize("suffix", ["", ".csv", ".npy", ".npz"])
@pytest.mark.parametrize("kind", ["pipe", "zero"])
def test_pipes_and_devices_are_no_data(tmp_path: Path, kind: str, suffix: str) -> None:
    place = tmp_path / f"data{suffix}"
    os.mkfifo(place) if kind == "pipe" else place.symlink_to("/dev/zero")
    with pytest.raises(SourceError):
        sources.open_source(place)
    (tmp_path / "good.csv").write_text("path,label\na.png,cat\nb.png,dog\n")
    np.save(tmp_path / "good.npy", np.zeros((2, 3), np.float32))
    uses: list[Callable[[], object]] = [
        lambda: sources.open_source(tmp_path / "good.npy", sources.SourceOptions(labels=place)),
        lambda: sources.open_source(
            tmp_path / "good.csv", sources.SourceOptions(pred_probs=place, class_order=["cat", "dog"])
        ),
        lambda: sources.read_classes(place),
        lambda: sources.read_class_names(place),
    ]
    for use in uses:
        with pytest.raises(SourceError):
            use()


def test_settings_nested_without_end_are_an_error_of_ours(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    for content in ("a = " + "[" * 10_000 + "]" * 10_000, "a = " + "{a = " * 10_000 + "1" + "}" * 10_000):
        file.write_text(content)
        with pytest.raises(UsageError, match="TOML"):
            config.load(file)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(UsageError):
        config.load(file)


@pytest.mark.parametrize(
    "content", ["[" * 20_000, '{"terminals":' * 20_000, "[]", '{"terminals": {"xterm": 3}}']
)
def test_what_is_remembered_may_be_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    from labeltui.graphics import probe
    from labeltui.tui import state

    file = tmp_path / "terminals.json"
    file.write_text(content)
    assert probe.recall("xterm", file) is None
    probe.remember("xterm", probe.Answers(), file)
    assert probe.recall("xterm", file) == probe.Answers()
    monkeypatch.setattr(state, "state_dir", lambda: tmp_path)
    (tmp_path / "audits").mkdir()
    (tmp_path / "audits" / "x.json").write_text(content)
    assert state.load("x") == {}


def test_a_record_of_the_scan_nested_without_end_is_damage(path: Path) -> None:
    (path / "scan.json").write_text('{"a":' * 10_000 + "1" + "}" * 10_000)
    with store.Store.open(path) as opened, pytest.raises(LabeltuiError, match="nested"):
        opened.scan  # noqa: B018
