"""`check` names what is damaged and repairs without guessing; `backup` copies what was saved."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from labeltui import cli, store
from labeltui.audit import Audit
from labeltui.backup import backup
from labeltui.check import check
from labeltui.errors import AuditBusy, DamagedAudit, UsageError
from labeltui.io.h5_writer import write_h5
from labeltui.journal import Journal
from tests import runs
from tests.factories import make_audit


def finished_run(path: Path, score: float) -> str:
    """A run that is done and left a result; returns its id."""
    directory = runs.prepared(path)
    with store.Store.open(path) as opened:
        arrays = {"scores/blend": np.full(opened.n, score, np.float32)}
        write_h5(
            directory / "result.h5",
            arrays,
            {"": store.generation_attrs(opened.uuid, run=directory.name)},
        )
    runs.end(directory, "done")
    return directory.name


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit with three decisions, one of them undone, and two generations."""
    path = make_audit(tmp_path_factory.mktemp("check"), n=60, images=False)
    with Audit.open(path) as audit:
        audit.decide([1, 2], "exclude")
        audit.decide([3], "relabel", label=(int(audit.given[3]) + 1) % audit.K)
        audit.undo()
    for score in (0.25, 0.75):
        finished_run(path, score)
        with Audit.open(path) as audit:
            assert audit.refresh() is not None
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "my.audit"))


def names(path: Path) -> set[str]:
    return {finding.file for finding in check(path).findings}


def test_a_whole_audit_is_whole(path: Path) -> None:
    before = {each: each.stat().st_mtime_ns for each in path.rglob("*")}
    report = check(path)
    assert report.findings == []
    assert report.whole
    assert report.checked == {"samples": 60, "actions": 5, "decisions": 3, "generations": 2, "runs": 2}
    assert {each: each.stat().st_mtime_ns for each in path.rglob("*")} == before  # looking changes nothing


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


def sql(*statements: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with sqlite3.connect(path / "journal.db") as db:
            for statement in statements:
                db.execute(statement)
        db.close()

    return change


def newest_run(path: Path) -> Path:
    return sorted((path / "runs").iterdir())[-1]


@pytest.mark.parametrize(
    ("damage", "named", "word"),
    [
        (lambda p: flip(p / "audit.h5"), "audit.h5", "SHA-256"),
        (lambda p: os.truncate(p / "audit.h5", 5000), "audit.h5", "5,000 bytes"),
        (lambda p: (p / "scan.json").write_text("["), "scan.json", "JSON"),
        (lambda p: (p / "scan.json").unlink(), "scan.json", "missing"),
        (lambda p: (p / "journal.db").write_bytes(b"x" * 9000), "journal.db", "SQLite"),
        (lambda p: (p / "journal.db").unlink(), "journal.db", "does not"),
        (sql("UPDATE decision SET sample_id = x'00'"), "journal.db", "on others"),
        (sql("UPDATE decision SET kind = 'maybe'"), "journal.db", "maybe"),
        (sql("UPDATE decision SET new_label = x'7A7A'"), "journal.db", "class zz"),
        (sql("UPDATE decision SET sample_index = 'a'"), "journal.db", "something else"),
        (sql("DELETE FROM action WHERE seq = 1"), "journal.db", "belong to no action"),
        (sql("DELETE FROM decision"), "journal.db", "hold no decision"),
        (sql("UPDATE action SET undoes = 'x' WHERE kind = 'undo'"), "journal.db", "not there"),
        (lambda p: flip(newest_run(p) / "spec.json"), "spec.json", "spec.json"),
        (lambda p: (newest_run(p) / "labels.npy").unlink(), "labels.npy", "cannot be read"),
        (
            lambda p: np.save(newest_run(p) / "labels.npy", np.zeros(60, np.int32)),
            "labels.npy",
            "hashes differ",
        ),
        (lambda p: (newest_run(p) / "exit.json").write_text("{"), "exit.json", "JSON"),
        (lambda p: os.truncate(newest_run(p) / "result.h5", 900), "result.h5", "900 bytes"),
    ],
)
def test_what_is_damaged_is_named_and_stays_as_it_is(
    path: Path, damage: Callable[[Path], None], named: str, word: str
) -> None:
    damage(path)
    report = check(path)
    assert not report.whole
    found = [each for each in report.findings if each.file.endswith(named)]
    assert found, report.findings
    assert any(word in each.fault for each in found), found
    content = {each: each.read_bytes() for each in path.rglob("*") if each.is_file()}
    repaired = check(path, repair=True)
    assert repaired.findings == report.findings
    assert repaired.repaired == []
    content[path / "journal.lock"] = b""  # the lock is taken and given back
    assert {each: each.read_bytes() for each in path.rglob("*") if each.is_file()} == content | {
        each: b"" for each in [path / "journal.lock"] if each.exists()
    }


def test_a_value_out_of_range_is_named_even_where_no_checksum_is_known(path: Path) -> None:
    with h5py.File(path / "audit.h5", "r+", locking=False) as file:
        file["graph/given/indices"][5, 3] = 10**6
        file["embeddings/given"][7, 1] = np.nan
        file["graph/given/similarity"][9, 2] = 5.0
    (path / "scan.json").unlink()
    faults = [each.fault for each in check(path).findings if each.file == "audit.h5"]
    assert [fault.split()[0] for fault in faults] == [
        "embeddings/given",
        "graph/given/indices",
        "graph/given/similarity",
    ]


def test_a_damaged_generation_is_restored_from_its_run(path: Path) -> None:
    flip(path / "derived" / "2.h5")
    (finding,) = check(path).findings
    assert finding.file == "derived/2.h5"
    assert "SHA-256" in finding.fault
    report = check(path, repair=True)
    assert report.whole
    assert "restored" in report.repaired[0]
    assert (path / "derived" / "2.h5").read_bytes() == (newest_run(path) / "result.h5").read_bytes()
    with Audit.open(path) as audit:
        assert (audit.generation, audit.score(0)) == (2, 0.75)


def test_a_generation_that_is_lost_gives_way_to_the_one_before(path: Path) -> None:
    shutil.rmtree(path / "runs")
    os.truncate(path / "derived" / "2.h5", 700)
    with pytest.raises(DamagedAudit):
        Audit.open(path)
    report = check(path, repair=True)
    assert report.whole
    assert "generation 1 is current" in report.repaired[0]
    assert (path / "derived" / "2.h5.damaged").stat().st_size == 700  # set aside, not deleted
    with Audit.open(path) as audit:
        assert (audit.generation, audit.score(0)) == (1, 0.25)
        assert audit.excluded[[1, 2]].all()
        assert audit._generations[-1].n == 1  # in the journal
        finished_run(path, 0.5)
        change = audit.refresh()
        assert change is not None
        assert change.generation == 3  # a number is used once
    os.truncate(path / "derived" / "3.h5", 700)
    os.truncate(path / "derived" / "1.h5", 700)
    shutil.rmtree(path / "runs")
    assert check(path, repair=True).whole
    with Audit.open(path) as audit:
        assert audit.generation == 0


def test_a_damaged_old_generation_keeps_no_new_one_away(path: Path) -> None:
    flip(path / "derived" / "1.h5")
    os.truncate(path / "derived" / "1.h5", 700)
    finished_run(path, 0.5)
    with Audit.open(path) as audit:
        change = audit.refresh()
        assert change is not None
        assert audit.score(0) == 0.5


def test_remains_of_killed_processes_are_named_and_deleted(path: Path) -> None:
    run = newest_run(path)
    (run / "epochs").mkdir()
    remains = [
        path / ".scan.json.0badcafe.tmp",
        path / "derived" / ".3.h5.0badcafe.tmp",
        run / "epochs" / ".00001.npz.0badcafe.tmp",
        path / "runs" / ".20261120T140000Z-aaaa" / "spec.json",
    ]
    for each in remains:
        each.parent.mkdir(exist_ok=True)
        each.write_bytes(b"half")
    fresh = path / "runs" / ".20261120T150000Z-bbbb"  # somebody may be at work on it
    fresh.mkdir()
    os.utime(remains[-1].parent, (0, 0))
    (path / "scan.partial").mkdir()
    report = check(path)
    assert report.whole  # nothing is lost
    assert {each.kind for each in report.findings} == {"leftover"}
    assert len(report.findings) == 5
    report = check(path, repair=True)
    assert report.findings == []
    assert len(report.repaired) == 5
    assert not any(each.exists() for each in remains)
    assert not (path / "scan.partial").exists()
    assert fresh.exists()


def test_a_repair_waits_for_nobody(path: Path) -> None:
    (path / ".x.tmp").touch()
    with Audit.open(path):
        assert names(path) == {".x.tmp"}  # looking works beside a review
        with pytest.raises(AuditBusy):
            check(path, repair=True)


def test_a_copy_holds_all_that_was_saved_and_is_a_plain_audit(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy.audit"
    with Audit.open(path) as audit:
        audit.decide([10], "exclude")
        assert audit.flush(10)
        assert (path / "journal.db-wal").exists()
        made = backup(path, out)
        audit.decide([11], "exclude")
    assert (made.actions, made.generations, made.runs, made.left_out) == (6, 2, 2, [])
    assert not list(out.glob("journal.db-*"))
    assert check(out).findings == []
    with Audit.open(out) as audit:
        assert audit.excluded[[1, 2, 10, 11]].tolist() == [True, True, True, False]
        assert audit.generation == 2
    assert out.stat().st_mode & 0o777 == 0o700
    assert sorted(each.name for each in tmp_path.iterdir()) == ["copy.audit", "my.audit"]


WRITER = """
    import sys
    from pathlib import Path
    from labeltui.audit import Audit
    with Audit.open(Path(sys.argv[1])) as audit:
        print("open", flush=True)
        for number in range(100_000):
            audit.decide([number % audit.n, (number + 1) % audit.n], "keep")
            assert audit.flush(10)
            print(number, flush=True)
"""


def test_copies_beside_a_writer_hold_whole_actions(path: Path, tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), path], stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        actions = []
        for number in range(3):
            saved = int(writer.stdout.readline())  # one more at least before each copy
            actions.append(backup(path, tmp_path / str(number)).actions)
            assert actions[-1] > 5 + saved
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()
    for number, expected in enumerate(actions):
        with store.Store.open(path) as opened:
            uuid = opened.uuid
        with Journal.open(tmp_path / str(number), uuid, read_only=True) as journal:
            found, rows, _ = journal.read()
        assert [action.seq for action in found] == list(range(1, expected + 1))
        assert len(rows) == 3 + 2 * (expected - 5)


def test_what_is_damaged_is_not_copied(path: Path, tmp_path: Path) -> None:
    flip(path / "audit.h5")
    with pytest.raises(DamagedAudit, match="SHA-256"):
        backup(path, tmp_path / "copy")
    assert [each.name for each in tmp_path.iterdir()] == ["my.audit"]


def test_a_backup_never_overwrites(path: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    for out in (tmp_path / "there", tmp_path / "dangling", path / "inside"):
        with pytest.raises(UsageError):
            backup(path, out)


def test_an_active_run_is_left_out(path: Path, tmp_path: Path) -> None:
    run = runs.prepared(path)
    runs.begin(run)
    made = backup(path, tmp_path / "copy")
    assert made.left_out == [run.name]
    assert not (tmp_path / "copy" / "runs" / run.name).exists()


def test_the_commands(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def labeltui(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["labeltui", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().out

    code, text = labeltui("check", path)
    assert code == 0
    assert "whole" in text
    assert labeltui("backup", path, "-o", tmp_path / "copy")[0] == 0
    os.truncate(path / "derived" / "2.h5", 700)
    code, text = labeltui("check", path, "--json")
    assert code == 5
    assert json.loads(text)["findings"][0]["file"] == "derived/2.h5"
    code, text = labeltui("check", path, "--repair")
    assert code == 0
    assert "restored" in text
    assert labeltui("check", tmp_path / "no.audit")[0] == 5
