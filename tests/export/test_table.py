"""The exported table: columns, what counts as changed, names of every kind, and files that are never replaced."""

from __future__ import annotations

import csv
import io
import os
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from labeltui import journal, paths, store
from labeltui.audit import Audit, QueueSpec
from labeltui.errors import UsageError
from labeltui.export import COLUMNS, export, write
from labeltui.io.atomic import write_json
from labeltui.io.h5_writer import write_h5
from labeltui.io.names import pack_names
from labeltui.text import escape, is_utf8, unescape
from tests.factories import make_audit


@pytest.fixture
def audit(tmp_path: Path) -> Iterator[Audit]:
    with Audit.open(make_audit(tmp_path), reviewer='ada, "the" first') as opened:
        yield opened


def rows_of(path: Path) -> list[dict[str, str]]:
    text = path.read_bytes().decode("utf-8")
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def test_every_sample_once_in_source_order(audit: Audit, tmp_path: Path) -> None:
    done = export(audit, tmp_path / "labels.csv")
    rows = rows_of(tmp_path / "labels.csv")
    assert tuple(rows[0]) == COLUMNS
    assert done.rows == len(rows) == audit.n
    assert [unescape(row["path"]) for row in rows] == audit.sample_ids(np.arange(audit.n))
    assert [row["given_label"] for row in rows] == [f"class{c}" for c in audit.given]
    assert [row["corrected_label"] for row in rows] == [row["given_label"] for row in rows]
    assert [row["predicted_label"] for row in rows] == [f"class{c}" for c in audit.suggested[:, 0]]
    assert [row["is_label_issue"] == "True" for row in rows] == audit.flags.tolist()
    assert np.array_equal(np.array([row["label_score"] for row in rows], np.float32), audit.scores)
    assert {(r["decision"], r["exclude"], r["note"], r["reviewer"], r["decided_at"]) for r in rows} == {
        ("", "False", "", "", "")
    }


def test_each_kind_of_decision(audit: Audit, tmp_path: Path) -> None:
    q = audit.queue(QueueSpec(given=0)).tolist()
    audit.decide([q[0]], "relabel", label=2, note='one, "two"\r\nthree')
    audit.decide([q[1]], "exclude")
    audit.decide([q[2]], "ambiguous", second=3)
    audit.decide([q[3]], "keep")
    audit.decide([q[4]], "unsure")
    audit.decide([q[5]], "skip")
    audit.note(q[6], "seen \\x41 and ñ")
    export(audit, tmp_path / "all.csv")
    rows = rows_of(tmp_path / "all.csv")
    shown = [
        [rows[i][c] for c in ("corrected_label", "decision", "exclude", "second_label", "note")]
        for i in q[:7]
    ]
    assert shown == [
        ["class2", "relabel", "False", "", 'one, "two"\r\nthree'],
        ["class0", "exclude", "True", "", ""],
        ["class0", "ambiguous", "False", "class3", ""],
        ["class0", "keep", "False", "", ""],
        ["class0", "unsure", "False", "", ""],
        ["class0", "skip", "False", "", ""],
        ["class0", "", "False", "", "seen \\x41 and ñ"],
    ]
    assert rows[q[0]]["reviewer"] == 'ada, "the" first'
    when = datetime.fromisoformat(rows[q[0]]["decided_at"])
    assert when.tzinfo is not None
    assert abs((datetime.now(when.tzinfo) - when).total_seconds()) < 60
    assert rows[q[6]]["reviewer"] == rows[q[6]]["decided_at"] == ""
    assert all(rows[i]["given_label"] == "class0" for i in q)


def test_only_changed(audit: Audit, tmp_path: Path) -> None:
    q = audit.queue(QueueSpec()).tolist()
    new = (int(audit.given[q[0]]) + 1) % audit.K
    audit.decide([q[0]], "relabel", label=new)
    audit.decide([q[1]], "exclude")
    audit.decide([q[2]], "keep")
    audit.decide([q[3]], "relabel", label=int(audit.given[q[3]]))  # the label it has: nothing changed
    audit.decide([q[4]], "relabel", label=new)
    audit.undo()
    done = export(audit, tmp_path / "changed.csv", only_changed=True)
    rows = rows_of(tmp_path / "changed.csv")
    assert sorted(audit.index(unescape(r["path"])) for r in rows) == sorted(q[:2])
    assert (done.rows, done.corrected, done.excluded, done.auto) == (2, 1, 1, 0)


def test_automatic_corrections_never_touch_a_persons_decision(audit: Audit, tmp_path: Path) -> None:
    q = audit.queue(QueueSpec()).tolist()
    chances = {i: audit.suggestions(i)[0][1] for i in q}
    least = float(np.median(list(chances.values())))
    sure = [i for i in q if chances[i] >= least]
    assert 3 < len(sure) < len(q)
    audit.decide([sure[0]], "keep")
    audit.decide([sure[1]], "exclude")
    audit.note(sure[2], "look again")
    before = audit.journal_seq
    done = export(audit, tmp_path / "auto.csv", apply_suggestions=least)
    rows = rows_of(tmp_path / "auto.csv")
    auto = [i for i, row in enumerate(rows) if row["decision"] == "auto"]
    assert auto == sorted(sure[2:])
    assert done.auto == len(auto)
    assert done.auto_wrong == pytest.approx(sum(1 - audit.suggestions(i)[0][1] for i in auto), rel=1e-5)
    for i in auto:
        assert rows[i]["corrected_label"] == rows[i]["predicted_label"] != rows[i]["given_label"]
        assert rows[i]["reviewer"] == "auto"
    assert rows[sure[0]]["decision"] == "keep"
    assert rows[sure[1]]["decision"] == "exclude"
    assert rows[sure[2]]["note"] == "look again"
    assert audit.journal_seq == before
    assert (audit.current == audit.given).all()


def test_a_target_precision_applies_as_many_suggestions_as_it_allows(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    with h5py.File(path / "audit.h5", "r+") as file:  # the blend is all but certain of these few
        stored = file["suggest/p"]
        p = stored[:]
        p[:, 0] = np.random.default_rng(0).uniform(0.5, 0.99, len(p))
        stored[:] = p
    with Audit.open(path, reviewer="ada") as audit:
        chances = np.sort([audit.suggestions(i)[0][1] for i in audit.queue(QueueSpec()).tolist()])[::-1]
        target = float(chances[: len(chances) // 2].mean())
        done = export(audit, tmp_path / "some.csv", target_precision=target - 1e-6)
        assert len(chances) // 2 <= done.auto < len(chances)
        assert 1 - done.auto_wrong / done.auto >= target - 1e-5
        assert done.auto_from == pytest.approx(chances[done.auto - 1])
        assert chances[: done.auto + 1].mean() < target
        none = export(audit, tmp_path / "none.csv", target_precision=0.9999999)
        assert none.auto == 0
        assert none.auto_from > 1
        assert export(audit, tmp_path / "plain.csv").auto_from is None
        every = export(audit, tmp_path / "every.csv", apply_suggestions=0.0)
        assert every.auto == len(chances)
        assert every.auto_wrong == pytest.approx((1 - chances).sum(), rel=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"target_precision": 1.0},
        {"target_precision": 0.0},
        {"target_precision": 0.9, "apply_suggestions": 0.9},
    ],
)
def test_a_target_precision_is_a_share_and_comes_alone(
    audit: Audit, tmp_path: Path, wrong: dict[str, float]
) -> None:
    with pytest.raises(UsageError):
        export(audit, tmp_path / "x.csv", **wrong)
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize("p", [-1, 1.5, float("nan")])
def test_a_probability_is_one(audit: Audit, tmp_path: Path, p: float) -> None:
    with pytest.raises(UsageError, match="probability"):
        export(audit, tmp_path / "x.csv", apply_suggestions=p)
    assert not (tmp_path / "x.csv").exists()


# names


nasty = st.lists(
    st.sampled_from(
        [b"\\", b"x", b"5", b"c", b"f", b"\xff", b"\xc3", b"\xa9", b",", b'"', b"\n", b"\r", b"a", b"/", b" "]
    )
    | st.integers(1, 255).map(lambda byte: bytes([byte])),
    min_size=1,
    max_size=12,
).map(b"".join)


@given(nasty)
def test_only_names_that_are_no_utf8_are_escaped(name: bytes) -> None:
    text = escape(name)
    text.decode("utf-8")
    if is_utf8(name):
        assert text == name
    else:
        assert unescape(text.decode("utf-8")) == name


@pytest.mark.parametrize("name", [rb"D:\data\xray\1.png", rb"a\x41", "caf\\xé".encode()])
def test_valid_names_with_backslashes_come_back(name: bytes) -> None:
    assert unescape(escape(name)) == name


def test_nasty_names_come_back(tmp_path: Path) -> None:
    # Few audits with many names each: writing one costs a tenth of a second.
    @settings(max_examples=12, deadline=None)
    @given(
        st.lists(nasty, min_size=30, max_size=60, unique=True),
        st.lists(nasty, min_size=2, max_size=3, unique=True),
    )
    def check(ids: list[bytes], classes: list[bytes]) -> None:
        names = [*ids, *classes]
        assume(
            len({escape(name) for name in names}) == len({*names})
        )  # a name that looks like another's escape
        path = tmp_path / "nasty.audit"
        shutil.rmtree(path, ignore_errors=True)
        write_audit(path, ids, classes)
        with Audit.open(path) as audit:
            audit.decide([0], "relabel", label=1)
            for raw in (False, True):
                out = io.BytesIO()
                write(audit, out, raw_paths=raw)
                text = out.getvalue().decode("utf-8", "surrogateescape" if raw else "strict")
                rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
                known = {*ids, *classes}

                def back(text: str, raw: bool = raw, known: set[bytes] = known) -> bytes:
                    data = os.fsencode(text)
                    return data if raw or data in known else unescape(text)

                assert [back(row["path"]) for row in rows] == ids
                assert back(rows[0]["corrected_label"]) == classes[1]
                assert {back(row["given_label"]) for row in rows} == {classes[0]}

    check()


def write_audit(path: Path, ids: list[bytes], classes: list[bytes]) -> None:
    """An audit without anything but names."""
    n, k = len(ids), len(classes)
    path.mkdir()
    empty = np.zeros((n, 0), np.int32)
    arrays = {
        **pack_names("samples/id", ids),
        **pack_names("classes/id", classes),
        **pack_names("classes/name", classes),
        **pack_names("splits/name", []),
        "samples/split": np.full(n, -1, np.int16),
        "samples/sha256": np.zeros((n, 32), np.uint8),
        "samples/status": np.zeros(n, np.uint8),
        "labels/given": np.zeros(n, np.int32),
        "embeddings/e": np.ones((n, 2), np.float32),
        "graph/e/indices": np.full((n, 1), -1, np.int32),
        "graph/e/similarity": np.zeros((n, 1), np.float32),
        "graph/e/rev_indptr": np.zeros(n + 1, np.int64),
        "graph/e/rev_indices": empty.ravel(),
        "groups/duplicate": np.arange(n, dtype=np.int32),
        "csg/T": np.zeros((k, k), np.int64),
        "scores/blend": np.full(n, 0.5, np.float32),
        "suggest/label": np.zeros((n, 5), np.int32),
        "suggest/p": np.zeros((n, 5), np.float32),
    }
    attrs = {
        "": store.audit_attrs(),
        "embeddings": {"default": "e"},
        "graph/e": {"csg_k": 1},
        "csg": {"k": 1},
    }
    write_h5(path / paths.AUDIT_FILE, arrays, attrs)
    with store.Store.open(path) as opened:
        journal.create(path, opened.uuid)


# files


def test_an_existing_file_needs_force(audit: Audit, tmp_path: Path) -> None:
    out = tmp_path / "labels.csv"
    out.write_text("mine")
    with pytest.raises(UsageError, match="--force"):
        export(audit, out)
    assert out.read_text() == "mine"
    export(audit, out, force=True)
    assert len(rows_of(out)) == audit.n
    link = tmp_path / "link.csv"
    link.symlink_to(out)
    export(audit, link, force=True, only_changed=True)
    assert link.is_symlink()  # the file behind it was replaced
    assert rows_of(out) == []


@pytest.mark.parametrize("how", ["itself", "symlink", "hardlink"])
def test_the_source_table_is_never_replaced(audit: Audit, tmp_path: Path, how: str) -> None:
    table = tmp_path / "data" / "labels.csv"
    table.write_text("path,label\n")
    scan = {
        "root": str(tmp_path / "data"),
        "source": {"kind": "table", "image_store": "files", "file": "labels.csv"},
    }
    write_json(audit.path / "scan.json", scan)
    out = table if how == "itself" else tmp_path / "out.csv"
    if how == "symlink":
        out.symlink_to(table)
    elif how == "hardlink":
        os.link(table, out)
    with Audit.open(audit.path, read_only=True) as other, pytest.raises(UsageError, match="never replaces"):
        export(other, out, force=True)
    assert table.read_text() == "path,label\n"


def test_images_and_the_audit_itself_are_never_replaced(audit: Audit, tmp_path: Path) -> None:
    image = tmp_path / "data" / os.fsdecode(audit.sample_id(0))
    for path in (image, audit.path / "audit.h5", audit.path / "journal.db"):
        before = path.read_bytes()
        with pytest.raises(UsageError, match="never replaces"):
            export(audit, path, force=True)
        assert path.read_bytes() == before


def test_places_that_cannot_be_written(audit: Audit, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="directory"):
        export(audit, tmp_path)
    with pytest.raises(UsageError, match="writable"):
        export(audit, tmp_path / "missing" / "labels.csv")


def test_a_failed_export_leaves_nothing(
    audit: Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "labels.csv"
    export(audit, out)
    before, files = out.read_bytes(), sorted(tmp_path.iterdir())
    monkeypatch.setattr(Audit, "sample_ids", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(audit, out, force=True)
    assert out.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == files


def test_the_same_audit_gives_the_same_bytes(audit: Audit, tmp_path: Path) -> None:
    audit.decide(audit.queue()[:5], "skip")
    for name in ("a.csv", "b.csv"):
        export(audit, tmp_path / name, apply_suggestions=0.5)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
