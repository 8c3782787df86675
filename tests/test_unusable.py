"""Samples of which nothing is known: found by the scan, and never lost or dressed up as clean afterwards."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labeltui import report
from labeltui.audit import Audit, QueueSpec
from labeltui.audit import status as status_of
from labeltui.embed import EmbedSpec
from labeltui.export import write
from labeltui.scanning import ScanOptions, scan, summary
from labeltui.tui.checks import Checks
from tests.factories import HEAD
from tests.tui.desk import at_desk


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes with an empty file in one of them, a class of one sample, and one whose files are all broken."""
    root = tmp_path_factory.mktemp("unusable")
    rng = np.random.default_rng(0)
    for label, name in enumerate(["cat", "dog"]):
        for i in range(12):
            pixels = np.clip(rng.normal(80 + 90 * label, 20, (8, 8, 3)), 0, 255).astype(np.uint8)
            path = root / "data" / name / f"{i:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    (root / "data/cat/empty.png").touch()
    (root / "data/owl").mkdir()
    Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(root / "data/owl/1.png")
    (root / "data/pig").mkdir()
    (root / "data/pig/1.png").write_bytes(b"no image")
    (root / "data/pig/2.png").touch()
    spec = EmbedSpec("pixels", image_size=4, workers=0)
    scan(root / "data", root / "a.audit", ScanOptions(embed=spec, head=HEAD))
    return root


@pytest.fixture
def audit(made: Path, tmp_path: Path) -> Iterator[Audit]:
    shutil.copytree(made / "a.audit", tmp_path / "a.audit")
    with Audit.open(tmp_path / "a.audit") as opened:
        yield opened


BROKEN = [b"cat/empty.png", b"pig/1.png", b"pig/2.png"]


def test_the_export_says_which_rows_nothing_is_known_of(audit: Audit) -> None:
    buffer = io.BytesIO()
    write(audit, buffer)
    rows = {row["path"]: row for row in csv.DictReader(io.StringIO(buffer.getvalue().decode()))}
    told = ("status", "is_label_issue", "label_score", "predicted_label")
    for name in BROKEN:
        assert [rows[name.decode()][column] for column in told] == ["unreadable", "", "", ""]
    assert [rows["owl/1.png"][column] for column in told] == ["not_scored", "", "", ""]
    known = [row for row in rows.values() if row["status"] == "ok"]
    assert len(known) == 24
    assert {row["is_label_issue"] for row in known} <= {"True", "False"}
    assert all(0 <= float(row["label_score"]) <= 1 and row["predicted_label"] for row in known)


def test_samples_of_splits_left_out_have_no_score(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(30, 4)).astype(np.float32)
    splits = np.array(["train", "train", "test"] * 10)
    np.savez(tmp_path / "d.npz", embeddings=embeddings, labels=np.array(["a", "b"] * 15), splits=splits)
    scan(tmp_path / "d.npz", tmp_path / "a.audit", ScanOptions(head=HEAD, splits=("train",)))
    buffer = io.BytesIO()
    with Audit.open(tmp_path / "a.audit", read_only=True) as audit:
        write(audit, buffer)
    rows = list(csv.DictReader(io.StringIO(buffer.getvalue().decode())))
    assert [row["status"] for row in rows] == ["ok", "ok", "not_scored"] * 10
    assert [bool(row["label_score"]) for row in rows] == [True, True, False] * 10


def test_a_class_of_which_nothing_can_be_read_has_no_overlap(audit: Audit) -> None:
    def rows() -> dict[str, float | None]:
        return {row.name: row.overlap for row in audit.class_rows()}

    assert rows()["pig"] is None
    assert rows()["cat"] is not None
    assert [row.name for row in audit.class_rows()][-1] == "pig"  # not the cleanest, and not the worst
    audit.decide([audit.index(b"cat/00.png")], "relabel", label=audit.names.index("dog"))
    assert rows()["pig"] is None
    status = status_of(audit)
    assert json.loads(json.dumps(status, allow_nan=False))["classes"][-1]["overlap"] is None
    line = next(line for line in report.status_lines(status) if line.startswith("pig"))
    assert "–" in line
    assert "0.00" not in line


def test_a_queue_of_what_the_scan_could_not_use(audit: Audit) -> None:
    found = audit.queue(QueueSpec(unusable=True, flagged=None))
    assert [audit.sample_id(i) for i in found.tolist()] == BROKEN
    assert [audit.suggestions(i) for i in found.tolist()] == [[], [], []]
    rest = Checks(audit).samples(QueueSpec())
    assert not set(rest.tolist()) & set(found.tolist())  # a random check is something that can be looked at


async def test_the_review_lists_and_excludes_unreadable_samples(audit: Audit) -> None:
    path = audit.path
    audit.close()
    async with at_desk(path) as desk:
        await desk.do("filter")
        await desk.type("unusable")
        await desk.press("enter")
        assert len(desk.session.queue) == 3
        assert "3 samples: flagged or not, unusable" in desk.text
        assert "–" in desk.text
        assert ".50" not in desk.text
        sample = desk.sample
        await desk.do("exclude")
        assert desk.audit.decision(sample) is not None


@pytest.mark.parametrize("workers", [0, 1])
def test_what_was_mended_is_said(tmp_path: Path, workers: int) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat/1.jpg", "cat/2.jpg", "dog/3.jpg", "dog/4.jpg"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-2])
    spec = EmbedSpec("pixels", image_size=4, workers=workers)
    scan(tmp_path / "data", tmp_path / "a.audit", ScanOptions(embed=spec, head=HEAD))
    found = summary(tmp_path / "a.audit")
    assert sum(found.not_ok.values()) == 0
    assert "1 x a JPEG without the mark at its end, such as dog/4.jpg" in found.notes
