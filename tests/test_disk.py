"""A disk that is full, fails, or refuses: every command says so, without a traceback, and harms nothing."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from labeltui.audit import Audit
from labeltui.audit import status as status_of
from labeltui.check import check
from labeltui.errors import AuditError, JobError, LabeltuiError, UsageError
from labeltui.export import export
from labeltui.train import jobs
from labeltui.train.plan import Request
from tests import runs, shims
from tests.factories import HEAD, make_audit

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    return shims.build(tmp_path_factory.mktemp("shim"))


def under(shim: Path, code: str, *arguments: object) -> str:
    """Run code in a process of its own that the shim is loaded into, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env={**shims.environment(shim), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


MATRIX = """
    import contextlib, errno, io, json, os, shutil, sys
    from pathlib import Path
    from labeltui import cli
    from tests.shims import OPEN, RENAME, SYNC, UNLINK, WRITE, Faults

    path, data = sys.argv[1:3]
    out = str(Path(path).parent)
    commands = {
        "status": ["status", path],
        "jobs": ["jobs", path],
        "cancel": ["jobs", path, "--cancel", os.listdir(path + "/runs")[0]],
        "export": ["export", path, "-o", out + "/labels.csv", "--force"],
        "check": ["check", path],
        "repair": ["check", path, "--repair"],
        "backup": ["backup", path, "-o", out + "/copy.audit"],
        "train": ["train", path, "--background"],
        "scan": ["scan", data, "-o", out + "/new.audit"],
    }
    faults = Faults()
    cases = [
        (kinds, error, part)
        for kinds, error in [
            (OPEN, errno.EIO), (OPEN, errno.EACCES), (WRITE, errno.ENOSPC), (SYNC, errno.EIO),
            (RENAME, errno.EIO), (UNLINK, errno.EACCES),
        ]
        for part in ["audit.h5", "scan.json", "journal.db", "journal.lock", "/runs", "labels.csv", ".audit"]
    ]
    found = {}

    def call(words):
        sys.argv = ["labeltui", *words]
        text = io.StringIO()
        try:
            with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
                cli.main()
        except SystemExit as ended:
            return ended.code or 0, text.getvalue()

    for name, words in commands.items():
        if name not in ("train", "scan"):
            assert call(words)[0] == 0, name  # imports what it needs
        shutil.rmtree(out + "/copy.audit", ignore_errors=True)
        for kinds, error, part in cases:
            if name == "train" and part not in ("/runs", "audit.h5"):
                continue  # it would begin to train
            if name == "scan" and (part != ".audit" or kinds == UNLINK):
                continue
            faults.arm(kinds, part, -1, error)
            try:
                code, text = call(words)
            except BaseException as other:
                faults.disarm()
                raise AssertionError(f"{name}: {part}, kind {kinds}, error {error}") from other
            counted = faults.disarm()
            assert "Traceback" not in text, (name, part, kinds, error, text)
            assert code in (0, 2, 3, 5, 7, 8), (name, part, kinds, error, code, text)
            found[f"{name} {part} {kinds} {error}"] = (code, counted, text[-300:])
            shutil.rmtree(out + "/copy.audit", ignore_errors=True)
            shutil.rmtree(out + "/new.audit", ignore_errors=True)
    print(json.dumps(found))
"""


def test_every_command_meets_a_failing_disk_with_an_error_of_ours(tmp_path: Path, shim: Path) -> None:
    path = make_audit(tmp_path, n=60, images=False)
    run = runs.prepared(path)
    runs.begin(run)
    found = json.loads(under(shim, MATRIX, path, tmp_path / "data.npz").splitlines()[-1])
    assert len(found) > 100
    refused = {case for case, (code, _, _) in found.items() if code}
    for case in (
        f"status audit.h5 {shims.OPEN} 5",
        f"status journal.db {shims.OPEN} 5",
        f"export labels.csv {shims.WRITE} 28",
        f"export labels.csv {shims.SYNC} 5",
        f"backup .audit {shims.WRITE} 28",
        f"train /runs {shims.WRITE} 28",
        f"train /runs {shims.SYNC} 5",
        f"scan .audit {shims.WRITE} 28",
        f"scan .audit {shims.SYNC} 5",
        f"scan .audit {shims.OPEN} 13",
    ):
        assert case in refused, (case, found[case])
    assert [job.id for job in jobs.list_jobs(path)] == [run.name]  # no half run is left
    assert (tmp_path / "labels.csv").read_text().count("\n") == 61  # the old table
    assert check(path).whole


SYNCED = """
    import sys
    from pathlib import Path
    from labeltui.embed import EmbedSpec
    from labeltui.scanning import ScanOptions, scan
    from tests import runs
    from tests.factories import HEAD
    from tests.shims import Faults
    faults = Faults()
    faults.trace(sys.argv[1], sys.argv[2])
    path = Path(sys.argv[1]) / "deep" / "my.audit"
    scan(Path(sys.argv[3]), path, ScanOptions(embed=EmbedSpec("pixels", image_size=4, workers=0), head=HEAD))
    runs.prepared(path)
    faults.trace("", "")
"""


def test_what_a_run_and_a_new_audit_need_is_flushed_with_its_directories(tmp_path: Path, shim: Path) -> None:
    make_audit(tmp_path, n=60, images=False)
    place = tmp_path / "place"
    place.mkdir()
    under(shim, SYNCED, place, tmp_path / "log", tmp_path / "data.npz")
    log = (tmp_path / "log").read_bytes()
    flushed, at = [], 0
    while at < len(log):
        kind, first = log[at], int.from_bytes(log[at + 1 : at + 5], "little")
        name = os.fsdecode(log[at + 5 : at + 5 + first])
        at += 5 + first
        at += 4 + int.from_bytes(log[at : at + 4], "little") + 8
        at += 8 + (int.from_bytes(log[at : at + 8], "little") if kind == shims.WRITE else 0)
        if kind == shims.SYNC:
            flushed.append(os.path.relpath(name, place))
    run = next((place / "deep" / "my.audit" / "runs").iterdir()).name
    inside = f"deep/my.audit/runs/.{run}"
    for name in (
        ".",
        "deep",
        "deep/my.audit",
        "deep/my.audit/runs",
        inside,
        f"{inside}/spec.json",
        f"{inside}/labels.npy",
    ):
        assert name in flushed, (name, flushed)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(b"none", os.fsencode(place), b"tmpfs", 0, b"size=4m") != 0:
        pytest.skip("no file system can be mounted here")
    yield place
    library.umount2(os.fsencode(place), 2)


def fill(place: Path) -> Path:
    filler = place / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def test_a_full_disk_refuses_by_name_and_takes_up_again(tmp_path: Path, small_disk: Path) -> None:
    path = Path(shutil.copytree(make_audit(tmp_path, n=60, images=False), small_disk / "my.audit"))
    filler = fill(small_disk)
    with pytest.raises(AuditError, match="No space"):
        Audit.open(path)
    with Audit.open(path, read_only=True) as audit:  # looking needs no room
        status_of(audit)
        with pytest.raises(UsageError, match="No space"):
            export(audit, small_disk / "labels.csv")
        with pytest.raises(JobError, match="No space"):
            jobs.JobManager(audit, request=Request(head=HEAD)).start()
    assert not list(small_disk.glob(".*.tmp"))
    assert jobs.list_jobs(path) == []
    assert check(path).whole
    filler.unlink()
    with Audit.open(path) as audit:
        audit.decide([1], "keep")
        assert audit.flush(10)
        filler = fill(small_disk)
        for i in range(2, 60):
            audit.decide([i], "keep", note="n" * 2000)
        assert not audit.flush(10)
        assert audit.pending
        with contextlib.suppress(LabeltuiError):
            audit.refresh()
        filler.unlink()
        assert audit.flush(20)
    with Audit.open(path, read_only=True) as audit:
        assert (audit.kinds[1:60] > 0).all()
