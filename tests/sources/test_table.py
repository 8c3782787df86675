"""CSV and TSV tables."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from labeltui.audit import Audit
from labeltui.embed import EmbedSpec
from labeltui.errors import MissingImage, SourceError, UsageError
from labeltui.scanning import ScanOptions, scan
from labeltui.sources import SourceOptions, open_source
from tests.factories import HEAD


def table(path: Path, content: str | bytes, name: str = "labels.csv") -> Path:
    (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return path / name


def test_the_plain_case(tmp_path: Path) -> None:
    source = open_source(table(tmp_path, "path,label,split\nx/1.jpg,cat,train\n2.jpg,dog,\n"))
    assert source.ids == [b"x/1.jpg", b"2.jpg"]
    assert source.labels == [b"cat", b"dog"]
    assert source.splits == ["train", ""]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"path,label\r\na b.jpg,cat\r\nc.jpg,dog\r\n", "l.csv"),
        (b"\xef\xbb\xbfpath,label\na b.jpg,cat\n\nc.jpg,dog", "l.csv"),
        ("path,label\na b.jpg,cat\nc.jpg,dog\n".encode("utf-16"), "l.csv"),
        (b"path\tlabel\na b.jpg\tcat\nc.jpg\tdog\n", "l.tsv"),
        (b"path;label\na b.jpg;cat\nc.jpg;dog\n", "l.csv"),
        (b'"label","n","path"\n"cat","1","a b.jpg"\n"dog","2","c.jpg"\n', "l.csv"),
        (b"path|label\na b.jpg|cat\nc.jpg|dog\n", "l.txt"),
    ],
)
def test_dialects(tmp_path: Path, content: bytes, name: str) -> None:
    source = open_source(table(tmp_path, content, name))
    assert source.ids == [b"a b.jpg", b"c.jpg"]
    assert source.labels == [b"cat", b"dog"]


def test_hostile_names(tmp_path: Path) -> None:
    content = b'path,label\n"a,b\n""c"".jpg",cat\n\xff\xfe.jpg,caf\xe9\n\xe7\x8c\xab.jpg,"x,y"\n'
    source = open_source(table(tmp_path, content))
    assert source.ids == [b'a,b\n"c".jpg', b"\xff\xfe.jpg", "猫.jpg".encode()]
    assert source.labels == [b"cat", b"caf\xe9", b"x,y"]
    assert all(note.isprintable() for note in source.notes)


NAME = st.binary(min_size=1, max_size=12).filter(lambda name: b"\0" not in name)


@settings(max_examples=60, deadline=None)
@given(names=st.lists(NAME, min_size=1, max_size=8, unique_by=os.path.normpath), label=NAME)
def test_any_name_survives_quoting(
    tmp_path_factory: pytest.TempPathFactory, names: list[bytes], label: bytes
) -> None:
    quoted = [b'"' + name.replace(b'"', b'""') + b'"' for name in [*names, label]]
    rows = b"".join(name + b"," + quoted[-1] + b"\r\n" for name in quoted[:-1])
    path = table(tmp_path_factory.getbasetemp(), b"path,label\r\n" + rows)
    source = open_source(path)
    assert source.ids == names
    assert set(source.labels) == {label}


def test_all_faults_come_at_once_with_their_lines(tmp_path: Path) -> None:
    content = 'path,label\n"a\nb.jpg",cat\nc.jpg\nd.jpg,dog,x\n"e"f,dog\ng.jpg,cat\n'
    with pytest.raises(SourceError) as caught:
        open_source(table(tmp_path, content))
    lines = caught.value.got.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["line 4", "line 5", "line 6"]
    assert "1 fields, not 2" in lines[0]
    assert "quotes" in lines[2]


def test_impossible_paths(tmp_path: Path) -> None:
    content = b"path,label\na.jpg,cat\nb.jpg,cat\n./a.jpg,dog\n,dog\nx\0y,dog\nb.jpg,cat\n"
    with pytest.raises(SourceError, match="must name a file") as caught:
        open_source(table(tmp_path, content))
    assert caught.value.got.splitlines() == [
        "line 5: the path is empty",
        "line 6: a path cannot hold a NUL character",
    ]


def test_one_file_with_two_labels_is_a_conflict_and_the_same_row_again_is_nothing(tmp_path: Path) -> None:
    rows = [
        "a/1.png,cat,x",
        "b/2.png,cat,x",
        "./a/1.png,dog,x",
        "a/1.png,dog,x",
        "a/1.png,dog,y",
        "b/3.png,dog,x",
    ]
    content = "\n".join(["path,label,split", *rows])
    rng = np.random.default_rng(0)
    for name in ("a/1.png", "b/2.png", "b/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / name)
    source = open_source(table(tmp_path, content))
    assert source.ids == [b"a/1.png", b"b/2.png", b"a/./1.png", b"a/././1.png", b"b/3.png"]
    assert source.labels == [b"cat", b"cat", b"dog", b"dog", b"dog"]
    assert source.splits == ["x", "x", "x", "y", "x"]
    assert any("1 rows that repeat" in note for note in source.notes)
    assert any("2 rows name a file again" in note and "./a/1.png (line 4)" in note for note in source.notes)
    scan(
        tmp_path / "labels.csv",
        tmp_path / "a.audit",
        ScanOptions(embed=EmbedSpec("pixels", workers=0), head=HEAD),
    )
    with Audit.open(tmp_path / "a.audit", read_only=True) as audit:
        assert [group.tolist() for group in audit.conflicts()] == [[0, 2, 3]]
        assert [group.tolist() for group in audit.across_splits()] == [[0, 2, 3]]
        assert audit.images.image(2).tobytes() == audit.images.image(0).tobytes()
    (tmp_path / "p.csv").write_text("path,cat,dog\na/1.png,.5,.5\nb/2.png,.9,.1\nb/3.png,.2,.8\n")
    p = open_source(tmp_path / "labels.csv", SourceOptions(pred_probs=tmp_path / "p.csv")).pred_probs
    assert p is not None
    assert np.array_equal(p[0], p[3])


@pytest.mark.parametrize("cell", ["cat|dog", "dog;cat", '"cat,dog"', "\"['cat', 'dog']\""])
def test_several_labels_in_a_cell_are_noted(tmp_path: Path, cell: str) -> None:
    source = open_source(table(tmp_path, f"path,label\na.jpg,cat\nb.jpg,dog\nc.jpg,{cell}\nd.jpg,{cell}\n"))
    assert any("2 labels look like several in one cell" in note for note in source.notes)
    assert len(set(source.labels)) == 3


def test_many_faults_are_cut_short(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(table(tmp_path, "path,label\n" + "x\n" * 100))
    assert len(caught.value.got.splitlines()) == 21
    assert "and 80 more" in caught.value.got


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", SourceOptions(), "is empty"),
        ("path,label\n", SourceOptions(), "has no samples"),
        ("path,label\na.jpg,\n", SourceOptions(), "none of the 1 samples"),
        ("file,label\na.jpg,cat\n", SourceOptions(), "names file, label"),
        ("path,class\na.jpg,cat\n", SourceOptions(), "must have a column label"),
        ("path,label\na.jpg,cat\n", SourceOptions(split_column="fold"), "must have a column fold"),
        ("path,label,label\na.jpg,cat,dog\n", SourceOptions(), "one column label"),
        ('path,label\na.jpg,"cat\n', SourceOptions(), "line 2"),
    ],
)
def test_bad_tables(tmp_path: Path, content: str, options: SourceOptions, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(table(tmp_path, content), options)


def test_a_bad_delimiter(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one character"):
        open_source(table(tmp_path, "path,label\n"), SourceOptions(delimiter=",,"))


def test_missing_files_stay_and_fail_when_read(tmp_path: Path) -> None:
    source = open_source(table(tmp_path, "path,label\nno.jpg,cat\nneither.jpg,dog\n/etc/passwd,dog\n"))
    assert len(source.ids) == 3
    with pytest.raises(MissingImage):
        source.read(0)
    source = open_source(table(tmp_path, "path,label\nno.jpg,cat\nneither.jpg,dog\n"))
    assert any("--image-root" in note for note in source.notes)


def test_no_label_is_no_class(tmp_path: Path) -> None:
    source = open_source(table(tmp_path, "path,label\na.jpg,cat\nb.jpg,\nc.jpg,dog\n"))
    assert source.labels == [b"cat", None, b"dog"]
    assert any("1 samples have no label" in note for note in source.notes)


def test_probabilities_are_matched_by_path_and_class(tmp_path: Path) -> None:
    path = table(tmp_path, "path,label\na.jpg,cat\nb.jpg,dog\n")
    probabilities = table(tmp_path, "dog,path,cat\n.75,b.jpg,.25\n0.5,a.jpg,0.5\n", "p.csv")
    source = open_source(path, SourceOptions(pred_probs=probabilities))
    assert source.pred_probs_classes == [b"dog", b"cat"]
    np.testing.assert_array_equal(source.pred_probs, np.float32([[0.5, 0.5], [0.75, 0.25]]))


@pytest.mark.parametrize("directory", ["", "a/", "/a/"])
def test_ids_are_distinct_however_a_table_writes_paths(tmp_path: Path, directory: str) -> None:
    rows = [f"{directory}./1.png,cat", f"{directory}1.png,dog", f"{directory}././1.png,fox"]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows, ""]))
    source = open_source(tmp_path / "labels.csv", SourceOptions())
    assert source.labels == [b"cat", b"dog", b"fox"]
    assert len(set(source.ids)) == 3
    assert {os.path.normpath(each) for each in source.ids} == {f"{directory}1.png".encode()}
