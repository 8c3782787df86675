"""An audit that somebody else made, or that a disk damaged, is refused by name, and never followed out of its files."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from labeltui.audit import Audit
from labeltui.audit import status as status_of
from labeltui.errors import DamagedAudit
from labeltui.io.h5_reader import H5
from labeltui.io.h5_writer import write_h5
from labeltui.store import generation_attrs
from tests.factories import make_audit


def changed(path: Path, name: str, change: Callable[[np.ndarray], None]) -> None:
    """Change an array where it lies, as a bad disk does."""
    with h5py.File(path / "audit.h5", "r+", locking=False) as file:
        array = file[name][()]
        change(array)
        file[name][...] = array


def graph(path: Path) -> str:
    with h5py.File(path / "audit.h5", "r", locking=False) as file:
        return f"graph/{next(iter(file['graph']))}"


LOOK = """
    import sys
    from pathlib import Path
    from labeltui.audit import Audit
    from labeltui.errors import DamagedAudit
    try:
        with Audit.open(Path(sys.argv[1])) as audit:
            audit.decide([1], "relabel", label=2)
            audit.summary()
            audit.solve_csg()
            audit.evidence(60)
    except DamagedAudit as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("name", "value"),
    [("indices", 10**9), ("indices", -7), ("rev_indices", 2**30), ("rev_indices", -1), ("rev_indptr", 10**7)],
)
def test_an_index_outside_the_audit_is_damage_not_a_crash(tmp_path: Path, name: str, value: int) -> None:
    path = make_audit(tmp_path, n=120)

    def change(array: np.ndarray) -> None:
        array.reshape(-1)[len(array.reshape(-1)) // 2] = value

    changed(path, f"{graph(path)}/{name}", change)
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(LOOK), path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "graph/" in done.stdout


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("suggest/label", 10**6),
        ("suggest/label", -2),
        ("suggest/p", np.nan),
        ("scores/blend", np.inf),
        ("scores/blend", -1.0),
        ("labels/given", 4),
        ("samples/status", 4),
        ("samples/split", 0),
        ("groups/duplicate", -1),
        ("groups/duplicate", 2**31 - 1),
        ("proposals/head", 4),
        ("samples/id_offsets", 10**9),
        ("classes/name_offsets", 10**9),
    ],
)
def test_values_that_would_be_followed_are_checked_at_opening(
    tmp_path: Path, name: str, value: float
) -> None:
    path = make_audit(tmp_path, n=120)

    def change(array: np.ndarray) -> None:
        array.reshape(-1)[1] = value

    changed(path, name, change)
    with pytest.raises(DamagedAudit, match=f"audit.h5.*{name}"):
        Audit.open(path)


@pytest.mark.parametrize(
    "arrays",
    [
        {"suggest/label": np.full((120, 5), 77, np.int32)},
        {"suggest/label": np.zeros((120, 3), np.int32)},
        {"suggest/p": np.full((120, 5), np.nan, np.float32)},
        {"scores/blend": np.full(120, 2, np.float32)},
        {"scores/blend": np.zeros((120, 2), np.float32)},
        {"embeddings/other": np.zeros((120, 2), np.float32)},
        {"groups/duplicate": np.full(120, 10**6, np.int32)},
        {"graph/x/indices": np.full((120, 2), 500, np.int32)},
    ],
)
def test_a_bad_result_is_refused_and_the_generation_before_stays(
    tmp_path: Path, arrays: dict[str, np.ndarray]
) -> None:
    path = make_audit(tmp_path, n=120)
    run = path / "runs" / "20261120T140000Z-aaaa"
    run.mkdir(parents=True)
    with Audit.open(path) as audit:
        write_h5(run / "result.h5", arrays, {"": generation_attrs(audit.uuid)})
        with pytest.raises(DamagedAudit):
            audit.refresh()
        assert audit.generation == 0
        assert audit.journal_seq == 0
        status_of(audit)
    assert not list((path / "derived").glob("*.h5"))
    with Audit.open(path) as audit:
        assert audit.generation == 0


def replaced(path: Path, make: Callable[[h5py.File], None]) -> Path:
    with h5py.File(path, "w", locking=False) as file:
        file["own"] = np.arange(3)
        make(file)
    return path


def test_links_and_foreign_storage_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.arange(5)
    raw = tmp_path / "raw"
    raw.write_bytes(b"root:x:0:0")

    def virtual(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((5,), "i8")
        layout[:] = h5py.VirtualSource(str(secret), "x", (5,))
        file.create_virtual_dataset("a", layout)

    makers: list[Callable[[h5py.File], object]] = [
        lambda file: file.__setitem__("a", h5py.ExternalLink(str(secret), "x")),
        lambda file: file.__setitem__("a", h5py.SoftLink("/own")),
        lambda file: file.create_dataset("a", (10,), "u1", external=[(str(raw), 0, 10)]),
        virtual,
        lambda file: file.create_dataset("a", (2**36,), "u1", chunks=(2**20,)),
    ]
    for number, make in enumerate(makers):
        path = replaced(tmp_path / f"{number}.h5", make)
        with H5(path) as file:
            assert file["own"].tolist() == [0, 1, 2]
            with pytest.raises(DamagedAudit):
                file["a"]
    path = replaced(
        tmp_path / "group.h5", lambda file: file.__setitem__("g", h5py.ExternalLink(str(secret), "/"))
    )
    with H5(path) as file:
        for use in (
            lambda: file["g/x"],
            lambda: file.names("g"),
            lambda: "g/x" in file,
            lambda: file.attrs("g"),
        ):
            with pytest.raises(DamagedAudit, match="g is a link"):
                use()


def test_a_pipe_is_no_audit(tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=60)
    (path / "audit.h5").unlink()
    os.mkfifo(path / "audit.h5")
    with pytest.raises(DamagedAudit, match="no regular file"):
        H5(path / "audit.h5")


def test_the_training_process_imports_nothing_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from labeltui.train.jobs import JobManager, read
    from labeltui.train.plan import Request
    from tests.factories import HEAD

    path = make_audit(tmp_path, n=120)
    (tmp_path / "secrets.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    with Audit.open(path) as audit:
        job = JobManager(audit, request=Request(head=HEAD)).start()
        while read(job.directory).active:
            time.sleep(0.05)
    assert read(job.directory).state == "done"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("scores/nearest", "k", np.zeros(3)),
        ("scores/neighbours", "temperature", b"x"),
        ("graph/pixels-4", "csg_k", -1),
        ("csg", "csg", b"high"),
        ("csg", "csg", np.nan),
        ("scores/head", "title", 3),
        ("scores/blend", "noise_structure", b""),
        ("scores/blend", "error_rate", -0.5),
    ],
)
def test_attributes_of_another_type_are_damage(tmp_path: Path, name: str, key: str, value: object) -> None:
    path = make_audit(tmp_path, n=120)
    with h5py.File(path / "audit.h5", "r+", locking=False) as file:
        file[name].attrs[key] = value
    with pytest.raises(DamagedAudit, match=f"attribute {key} of {name}"):
        Audit.open(path)


def test_an_action_whose_decisions_are_gone_decides_nothing(tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=120)
    with Audit.open(path) as audit:
        audit.decide([1], "exclude")
    with sqlite3.connect(path / "journal.db") as db:
        db.execute("DELETE FROM decision")
    db.close()
    with Audit.open(path) as audit:
        assert not audit.excluded.any()
        assert audit.undo() is None


def test_what_sqlite_says_of_a_foreign_journal_can_be_shown(tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=120)
    data = (path / "journal.db").read_bytes()
    assert data.count(b"CREATE TABLE decision") == 1
    (path / "journal.db").write_bytes(data.replace(b"CREATE TABLE decision", b"CREATE TABLE d\x1b[2Jion"))
    with pytest.raises(DamagedAudit) as caught:
        Audit.open(path)
    assert str(caught.value).isprintable()


def test_names_that_cannot_be_decoded_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("scores")
        h5py.h5g.create(group.id, b"\xff\xfe")
    with H5(path) as opened, pytest.raises(DamagedAudit, match="UTF-8"):
        opened.names("scores")
