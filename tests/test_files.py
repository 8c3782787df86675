"""Nothing is written through a link, nothing is waited for, and an audit is its owner's alone."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from labeltui import store
from labeltui.audit import Audit
from labeltui.errors import AuditError, DamagedAudit, JobError
from labeltui.io import files
from labeltui.io.h5_writer import write_h5
from labeltui.scanning import ScanOptions, scan
from labeltui.train import child, jobs
from labeltui.train.task import Run
from tests import runs
from tests.factories import HEAD, make_audit


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_audit(tmp_path, n=60, images=False)


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    file = tmp_path / "precious"
    file.write_text("mine")
    return file


def test_own_files_take_the_permissions_of_their_directory(tmp_path: Path, precious: Path) -> None:
    before = os.umask(0o077)
    try:
        for mode, expected in ((0o700, 0o600), (0o770, 0o660), (0o755, 0o644)):
            directory = tmp_path / oct(mode)
            directory.mkdir()
            directory.chmod(mode)
            files.write_own(directory / "x", b"1")
            files.make_directory(directory / "d")
            assert stat.S_IMODE((directory / "x").stat().st_mode) == expected
            assert stat.S_IMODE((directory / "d").stat().st_mode) == mode
    finally:
        os.umask(before)
    files.write_own(tmp_path / "x", b"long")
    files.write_own(tmp_path / "x", b"1")
    assert (tmp_path / "x").read_bytes() == b"1"
    (tmp_path / "link").symlink_to(precious)
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "dangling", "pipe"):
        with pytest.raises(OSError):
            files.write_own(tmp_path / name, b"yours")
    with pytest.raises(OSError):
        files.make_directory(tmp_path / "link")
    assert precious.read_text() == "mine"
    assert not (tmp_path / "nothing").exists()


def test_reading_waits_for_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "deep").write_text('{"a":' * 10_000 + "1" + "}" * 10_000)
    (tmp_path / "list").write_text("[1]")
    for place in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError):
            files.read_regular(place)
    for name in ("deep", "list"):
        with pytest.raises(ValueError, match=r"JSON object|nested too deep"):
            files.read_json(tmp_path / name)


@pytest.mark.parametrize("uuid", ["../../../../tmp/x", "/etc/passwd", "", "X" * 36, "a" * 32])
def test_the_name_of_an_audit_is_no_path(path: Path, uuid: str) -> None:
    import h5py

    with h5py.File(path / "audit.h5", "r+", locking=False) as file:
        file.attrs["uuid"] = np.bytes_(uuid.encode() or b"\0")
    with pytest.raises(DamagedAudit, match="uuid"):
        store.Store.open(path)


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_a_journal_is_never_written_through_a_link(path: Path, precious: Path, suffix: str) -> None:
    file = path / f"journal.db{suffix}"
    if not suffix:
        precious.write_bytes(file.read_bytes())
        file.unlink()
    file.symlink_to(precious)
    before = precious.read_bytes()
    for read_only in (True, False):
        with pytest.raises(AuditError, match="link"):
            Audit.open(path, read_only=read_only)
    assert precious.read_bytes() == before


@pytest.mark.parametrize("name", ["events.jsonl", ".reserve", "log.txt", "launcher.json", "epochs"])
def test_a_foreign_run_writes_through_no_link(path: Path, precious: Path, name: str) -> None:
    run = runs.prepared(path)
    runs.end(run, "failed")
    (run / name).symlink_to(precious.parent if name == "epochs" else precious)
    (precious.parent / ".kept.tmp").touch()
    with pytest.raises(JobError, match="link"):
        jobs.resume(path, run.name)
    assert child.run(run) == "failed"
    if name == "events.jsonl":
        with pytest.raises(OSError):
            Run(run)
    assert precious.read_text() == "mine"
    assert (precious.parent / ".kept.tmp").exists()  # it was swept through the link


def test_asking_to_stop_writes_through_no_link(path: Path, tmp_path: Path) -> None:
    run = runs.prepared(path)
    runs.begin(run)
    (run / "cancel").symlink_to(tmp_path / "made")
    with pytest.raises(JobError):
        jobs.cancel(jobs.read(run))
    assert not (tmp_path / "made").exists()


def test_a_run_that_is_a_link_is_none(path: Path, tmp_path: Path) -> None:
    run = runs.prepared(path)
    (path / "runs" / "20261120T140000Z-aaaa").symlink_to(run)
    assert [job.id for job in jobs.list_jobs(path)] == [run.name]


def test_results_go_into_no_linked_directory(path: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (path / "derived").symlink_to(tmp_path / "elsewhere")
    run = path / "runs" / "20261120T140000Z-aaaa"
    run.mkdir(parents=True)
    with Audit.open(path) as audit:
        arrays = {"scores/blend": np.zeros(audit.n, np.float32)}
        write_h5(run / "result.h5", arrays, {"": store.generation_attrs(audit.uuid)})
        with pytest.raises(AuditError, match="link"):
            audit.refresh()
        assert audit.generation == 0
    assert list((tmp_path / "elsewhere").iterdir()) == []


def modes(path: Path) -> dict[str, int]:
    return {
        str(each.relative_to(path)): stat.S_IMODE(each.stat().st_mode)
        for each in [path, *path.rglob("*")]
        if each.name
        in ("my.audit", "journal.db", "journal.db-wal", "journal.lock", "derived", "runs", "events.jsonl")
        or each.parent.name == "runs"
    }


@pytest.mark.parametrize("shared", [False, True])
def test_an_audit_is_its_owners_or_a_groups(tmp_path: Path, shared: bool) -> None:
    from labeltui.embed import EmbedSpec
    from labeltui.train.plan import Request

    make_audit(tmp_path, n=60, images=False)
    audit = tmp_path / "my.audit"
    spec = EmbedSpec("pixels", image_size=4, workers=0)
    before = os.umask(0o022)
    try:
        scan(tmp_path / "data.npz", audit, ScanOptions(embed=spec, head=HEAD, shared=shared))
        with Audit.open(audit) as opened:
            opened.decide([1], "keep")
            assert opened.flush(10)
            job = jobs.JobManager(opened, request=Request(head=HEAD)).start()
            while jobs.read(job.directory).active:
                time.sleep(0.05)
            assert opened.refresh() is not None
            assert opened.flush(10)
            found = modes(audit)
    finally:
        os.umask(before)
    directory, file = (0o2770, 0o660) if shared else (0o700, 0o600)
    assert found == {
        ".": directory,
        "journal.db": file,
        "journal.db-wal": file,
        "journal.lock": file,
        "derived": directory,
        "runs": directory,
        f"runs/{job.id}": directory,
        f"runs/{job.id}/events.jsonl": file,
    }
    if shared:
        readable = [each for each in audit.rglob("*") if each.is_file() and not each.stat().st_mode & 0o040]
        assert readable == []


AS_ANOTHER = """
import os, sys
from pathlib import Path
from labeltui.journal import Journal
from labeltui.store import Store
with Store.open(Path(sys.argv[1])) as opened:
    uuid = opened.uuid
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(65533)
with Journal.open(Path(sys.argv[1]), uuid, reviewer="other") as journal:
    journal.append("decide", [(2, opened.ids[2], "exclude", None, None, None, None)])
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_group_reviews_a_shared_audit() -> None:
    import shutil
    import tempfile

    from labeltui.embed import EmbedSpec

    # Below /tmp itself: pytest's own directories cannot be entered by another user.
    directory = Path(tempfile.mkdtemp(prefix="labeltui-test-"))
    try:
        make_audit(directory, n=60, images=False)
        directory.chmod(0o755)
        spec = EmbedSpec("pixels", image_size=4, workers=0)
        scan(directory / "data.npz", directory / "my.audit", ScanOptions(embed=spec, head=HEAD, shared=True))
        group = os.stat(directory / "my.audit").st_gid
        for gid, works in ((group, True), (65533, False)):
            done = subprocess.run(
                [sys.executable, "-c", AS_ANOTHER, directory / "my.audit", str(gid)],
                capture_output=True,
                text=True,
                check=False,
            )
            assert (done.returncode == 0) is works, done.stderr
            assert works or "AuditError" in done.stderr
        with Audit.open(directory / "my.audit") as audit:
            decision = audit.decision(2)
            assert decision is not None
            assert decision.reviewer == "other"
    finally:
        shutil.rmtree(directory)
