"""Class lists, display names, and the order of classes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from labeltui import report
from labeltui.audit import Audit
from labeltui.audit import status as status_of
from labeltui.errors import SourceError
from labeltui.scanning import ScanOptions, scan, summary
from labeltui.scanning.label_table import read_label_table
from labeltui.sources import open_source, order_classes, read_class_names, read_classes
from labeltui.sources.base import check_labels
from labeltui.tui.session import Session
from tests.factories import HEAD


def test_classes_are_ordered_by_number_when_all_are() -> None:
    assert order_classes([b"10", b"9", b"-1", None, b"9"]) == [b"-1", b"9", b"10"]
    assert order_classes([b"10", b"9", b"x"]) == [b"10", b"9", b"x"]
    assert order_classes([b"7", b"007", b"07"]) == [b"007", b"07", b"7"]
    assert order_classes([b"1" * 5000, b"2"]) == [b"1" * 5000, b"2"]


def test_additions_come_last_in_their_own_order() -> None:
    assert order_classes([b"b", b"a"], [b"z", b"a", b"c", b"z"]) == [b"a", b"b", b"z", b"c"]
    assert order_classes([b"2", b"10"], [b"other", b"1"]) == [b"2", b"10", b"other", b"1"]


def test_a_class_list(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_bytes(b"\xef\xbb\xbfcat \r\n\n# birds\nred fox\ncaf\xe9\n")
    assert read_classes(tmp_path / "c.txt") == [b"cat", b"red fox", b"caf\xe9"]
    (tmp_path / "c.txt").write_text("cat\ndog\ncat\n")
    with pytest.raises(SourceError, match="line 3: cat is already in line 1"):
        read_classes(tmp_path / "c.txt")
    (tmp_path / "c.txt").write_text("# nothing\n")
    with pytest.raises(SourceError, match="names none"):
        read_classes(tmp_path / "c.txt")
    with pytest.raises(SourceError, match="there is no"):
        read_classes(tmp_path / "d.txt")


def test_display_names(tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text('n02124075,Egyptian cat\nn2,"dog, small"\n')
    assert read_class_names(tmp_path / "n.csv") == {b"n02124075": "Egyptian cat", b"n2": "dog, small"}
    (tmp_path / "n.tsv").write_text("0\tcat, tabby\n1\tdog\n")
    assert read_class_names(tmp_path / "n.tsv") == {b"0": "cat, tabby", b"1": "dog"}
    (tmp_path / "n.csv").write_text("a,x\nb\na,y\n,z\n")
    with pytest.raises(SourceError) as caught:
        read_class_names(tmp_path / "n.csv")
    assert [line[:7] for line in caught.value.got.splitlines()] == ["line 2:", "line 3:", "line 4:"]


def test_names_in_a_legacy_encoding_are_noted(tmp_path: Path) -> None:
    if sys.platform == "darwin":
        pytest.skip("the file system refuses such names")
    for name in (b"cat/1.png", b"dog/fa\xe7ade.png", "dog/façade.png".encode()):
        path = os.path.join(os.fsencode(tmp_path), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb"):
            pass
    notes = read_label_table(open_source(tmp_path), None, None, None).notes
    (note,) = [note for note in notes if "UTF-8" in note]
    assert note.startswith("1 names are not UTF-8")
    assert "fa\\xe7ade" in note


@pytest.mark.parametrize(
    ("one", "other", "shown"),
    [
        ("caf\u00e9", "cafe\u0301", "cafe\\u0301, caf\\xe9"),
        ("cat", "cat\u200b", "cat, cat\\u200b"),
        ("cat", "cat\u00a0", "cat, cat\\xa0"),
        ("class1", "class01", "class01, class1"),
        ("7", "007", "007, 7"),
        ("Cat", "cat", "Cat, cat"),
    ],
)
def test_classes_that_look_alike_are_noted(one: str, other: str, shown: str) -> None:
    (note,) = check_labels([one.encode(), other.encode(), b"dog"] * 2, "x")
    assert note.startswith(f"the classes {shown} differ only in")


def test_classes_that_differ_are_not_noted() -> None:
    assert check_labels([b"1.05", b"1.5", b"10", b"100", b"a0b", b"ab"] * 2, "x") == []


def test_display_names_of_several_classes_are_told_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids = np.array(["n1", "n2", "n3"])
    np.savez(
        tmp_path / "d.npz",
        embeddings=rng.normal(size=(30, 4)).astype(np.float32),
        labels=ids[np.arange(30) % 3],
    )
    (tmp_path / "names.csv").write_text("n1,crane\nn2,crane\nn3,owl\n")
    scan(tmp_path / "d.npz", tmp_path / "a.audit", ScanOptions(head=HEAD, class_names=tmp_path / "names.csv"))
    assert any(
        "several classes share" in note and "crane" in note for note in summary(tmp_path / "a.audit").notes
    )
    with Audit.open(tmp_path / "a.audit", read_only=True) as audit:
        assert audit.names == ["crane (n1)", "crane (n2)", "owl"]
        assert {row["name"] for row in status_of(audit)["classes"]} == {*audit.names}
        assert {report.explanation(audit, str(i))["given"] for i in range(30)} == {*audit.names}
        session = Session(audit)
        assert session.cut("crane (n1)", 8) != session.cut("crane (n2)", 8)
