"""What holds for every exporter, and that a new one must pass."""

from __future__ import annotations

import csv
import fcntl
import importlib.util
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labeltui.audit import Audit
from labeltui.errors import UsageError
from labeltui.export import EXPORTERS, export, write
from tests.factories import make_audit

Row = dict[str, Any]


def read_csv(path: Path, encoding: str = "utf-8") -> list[Row]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode(encoding), newline=""), strict=True))


def read_annotators(path: Path) -> list[Row]:
    rows: dict[str, Row] = {}
    for row in read_csv(path):
        if row["annotator"] == "given":
            rows[row["sample"]] = {
                "path": row["sample"],
                "given_label": row["label"],
                "corrected_label": row["label"],
            }
        else:
            rows[row["sample"]] |= {"decision": row["decision"]}
            rows[row["sample"]]["corrected_label"] = row["label"] or rows[row["sample"]]["given_label"]
    return list(rows.values())


def read_parquet(path: Path) -> list[Row]:
    import pyarrow.parquet as pq

    files = sorted(path.glob("data/*.parquet")) if path.is_dir() else [path]
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def read_fiftyone(path: Path) -> list[Row]:
    content = json.loads((path / "labels.json").read_text())
    assert {file.stem for file in (path / "data").iterdir()} == set(content["labels"])
    rows = [each["attributes"] for each in content["labels"].values()]
    for row, each in zip(rows, content["labels"].values(), strict=True):
        assert content["classes"][each["label"]] == row["corrected_label"]
        is_given = row["corrected_label"] == row["given_label"]
        assert each["confidence"] == (row["label_score"] if is_given else None)
    return rows


def read_webdataset(path: Path) -> list[Row]:
    classes = (path / "classes.txt").read_text().splitlines()
    for shard in sorted(path.glob("*.tar")):
        with tarfile.open(shard) as tar:
            contents = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        for name, data in contents.items():
            if name.endswith(".cls"):
                row = json.loads(contents[name.replace(".cls", ".json")])
                assert classes[int(data)] == row["corrected_label"]
                assert not row["exclude"]
    return read_csv(path / "labels.csv")


def read_image_folder(path: Path) -> list[Row]:
    rows = read_csv(path / "labels.csv")
    placed = {file.stem: file.parent.name for file in path.glob("*/*")}
    for row in rows:
        expected = None if row["exclude"] == "True" else row["corrected_label"]
        assert placed.get(Path(row["path"]).stem) == expected
    return rows


READERS: dict[str, Callable[[Path], list[Row]]] = {
    "csv": read_csv,
    "excel-csv": lambda path: read_csv(path, "utf-8-sig"),
    "annotators": read_annotators,
    "parquet": read_parquet,
    "label-studio": lambda path: [task["data"] for task in json.loads(path.read_text())],
    "huggingface": read_parquet,
    "fiftyone": read_fiftyone,
    "webdataset": read_webdataset,
    "imagefolder": read_image_folder,
    "cleanlab": lambda path: read_csv(path / "labels.csv"),
}


@pytest.fixture(params=EXPORTERS)
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    needs = EXPORTERS[request.param].needs
    if needs and importlib.util.find_spec(needs) is None:
        pytest.skip(f"needs {needs}")
    return request.param


def test_no_label_path_or_decision_is_lost(reviewed: Audit, name: str, tmp_path: Path) -> None:
    done = export(reviewed, tmp_path / "out", format=name)
    rows = READERS[name](tmp_path / "out")
    assert done.rows == len(rows) == reviewed.n
    assert done.lost == 0
    assert [row["path"].encode() for row in rows] == reviewed.sample_ids(np.arange(reviewed.n))
    given, labels = ([f"class{label}" for label in each] for each in (reviewed.given, reviewed.current))
    assert [row["given_label"] for row in rows] == given
    assert [row["corrected_label"] for row in rows] == labels
    decisions = [reviewed.decision(i) for i in range(reviewed.n)]
    assert [row.get("decision") or None for row in rows] == [each and each.kind for each in decisions]
    if name != "annotators":
        assert [row.get("reviewer") or None for row in rows] == [each and each.reviewer for each in decisions]
        notes = [row.get("note") or None for row in rows]
        assert notes == [reviewed.note_of(i) for i in range(reviewed.n)]


def content(path: Path) -> dict[str, bytes]:
    """What lies in a file or a directory; of a link its target."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return {
        str(file.relative_to(path)): os.readlink(file).encode() if file.is_symlink() else file.read_bytes()
        for file in files
        if not file.is_dir()
    }


def test_the_same_audit_gives_the_same_bytes(reviewed: Audit, name: str, tmp_path: Path) -> None:
    for out in ("a", "b"):
        export(reviewed, tmp_path / out, format=name, apply_suggestions=0.5)
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_only_changed_samples(reviewed: Audit, name: str, tmp_path: Path) -> None:
    done = export(reviewed, tmp_path / "out", format=name, only_changed=True)
    assert (done.rows, done.corrected, done.excluded) == (2, 1, 1)
    assert len(READERS[name](tmp_path / "out")) == 2


def test_what_is_there_is_not_replaced(reviewed: Audit, name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if EXPORTERS[name].to_directory:
        out.mkdir()
        (out / "mine.txt").write_text("mine")
        options: dict[str, Any] = {"force": True}
    else:
        out.write_text("mine")
        options = {}
    with pytest.raises(UsageError):
        export(reviewed, out, format=name, **options)
    with pytest.raises(UsageError):
        export(reviewed, reviewed.path / "audit.h5", format=name, force=True)
    assert list(content(out).values()) == [b"mine"]


def test_a_failure_leaves_nothing(
    reviewed: Audit, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(tmp_path.iterdir())
    for method in ("sample_ids", "sample_id"):
        monkeypatch.setattr(Audit, method, lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(reviewed, tmp_path / "out", format=name)
    assert sorted(tmp_path.iterdir()) == before


def test_standard_output_takes_files_only(reviewed: Audit, name: str) -> None:
    file = io.BytesIO()
    if EXPORTERS[name].to_directory:
        with pytest.raises(UsageError, match="standard output"):
            write(reviewed, file, format=name)
    else:
        write(reviewed, file, format=name)
        assert file.getvalue()


def test_images_that_are_gone_are_counted(reviewed: Audit, name: str, tmp_path: Path) -> None:
    assert reviewed.images.root is not None
    (reviewed.images.root / reviewed.sample_name(7)).unlink()
    done = export(reviewed, tmp_path / "out", format=name)
    assert done.lost == EXPORTERS[name].images
    assert done.rows == reviewed.n


def test_embeddings_alone_have_tables_alone(tmp_path: Path, name: str) -> None:
    with Audit.open(make_audit(tmp_path, n=120, classes=3, images=False)) as audit:
        if EXPORTERS[name].images:
            with pytest.raises(UsageError, match="images"):
                export(audit, tmp_path / "out", format=name)
        else:
            assert export(audit, tmp_path / "out", format=name).rows == audit.n


def test_an_unknown_format_is_named(reviewed: Audit, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        export(reviewed, tmp_path / "out", format="coco")
    assert "fiftyone" in error.value.hint
    with pytest.raises(UsageError, match="CSV"):
        export(reviewed, tmp_path / "out", format="label-studio", raw_paths=True)


@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_verifying_counts_every_image_that_is_no_longer_the_scans(
    reviewed: Audit, tmp_path: Path, format: str
) -> None:
    if format == "parquet":
        pytest.importorskip("pyarrow")
    names = [reviewed.sample_name(i) for i in (0, 50, 100)]
    data = tmp_path / "data"
    (data / names[0]).unlink()
    (data / names[1]).write_bytes((data / names[2]).read_bytes())
    (data / names[2]).unlink()
    (data / names[2]).mkdir()  # there, and no file
    done = export(reviewed, tmp_path / "labels", format=format, verify=True)
    assert done.lost == 3


def test_what_a_killed_export_left_is_swept_by_the_next_one(reviewed: Audit, tmp_path: Path) -> None:
    left, active = (tmp_path / f".out.{pid}.tmp" for pid in (123, 124))
    for directory in (left, active):
        (directory / "class0").mkdir(parents=True)
        (directory / "class0" / "a.png").write_bytes(b"half")
    lock = os.open(active, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        export(reviewed, tmp_path / "out", format="imagefolder")
        assert not left.exists()
        assert active.exists()  # another process is writing it
    finally:
        os.close(lock)
    shutil.rmtree(tmp_path / "out")
    export(reviewed, tmp_path / "out", format="imagefolder")
    assert not list(tmp_path.glob(".out.*"))
