"""Tables and arrays that are edited after the scan: said by status, export and review."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from labeltui import report
from labeltui.audit import Audit
from labeltui.audit import status as status_of
from labeltui.scanning import ScanOptions, scan
from labeltui.sources import SourceOptions
from tests.factories import HEAD, copied, shared
from tests.tui.desk import at_desk


def make(here: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(here / "e.npy", rng.normal(size=(30, 4)).astype(np.float32))
    (here / "labels.csv").write_text("label\n" + "cat\ndog\n" * 15)
    (here / "names.csv").write_text("cat,Cat\ndog,Dog\n")
    source = SourceOptions(labels=here / "labels.csv")
    scan(
        here / "e.npy",
        here / "a.audit",
        ScanOptions(source=source, head=HEAD, class_names=here / "names.csv"),
    )


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return copied(shared("changed files", make), tmp_path) / "a.audit"


def changed(path: Path, source_root: Path | None = None) -> list[str]:
    with Audit.open(path, read_only=True, source_root=source_root) as opened:
        return opened.images.changed_files()


def test_an_edited_table_is_named_wherever_labels_leave_the_audit(audit: Path, tmp_path: Path) -> None:
    assert changed(audit) == []
    labels = tmp_path / "labels.csv"
    labels.write_text(labels.read_text().replace("cat", "dog", 1))
    assert changed(audit) == ["labels.csv"]
    with Audit.open(audit, read_only=True) as opened:
        status = status_of(opened)
    assert status["changed_files"] == ["labels.csv"]
    assert any("CHANGED since the scan: labels.csv" in line for line in report.status_lines(status))
    command = [sys.executable, "-m", "labeltui", "export", str(audit), "-o", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "CHANGED since the scan: labels.csv" in done.stderr


def test_content_counts_and_time_does_not(audit: Path, tmp_path: Path) -> None:
    os.utime(tmp_path / "labels.csv")
    (tmp_path / "names.csv").write_text((tmp_path / "names.csv").read_text())
    assert changed(audit) == []
    np.save(tmp_path / "e.npy", np.load(tmp_path / "e.npy")[::-1])
    (tmp_path / "names.csv").write_text("cat,Dog\ndog,Cat\n")
    assert changed(audit) == ["e.npy", "names.csv"]


def test_files_are_found_where_the_source_moved(audit: Path, tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    for name in ("e.npy", "labels.csv", "names.csv"):
        shutil.move(tmp_path / name, tmp_path / "moved" / name)
    assert changed(audit) == []  # gone, not changed
    (tmp_path / "moved/labels.csv").write_text("label\n" + "dog\ncat\n" * 15)
    assert changed(audit, tmp_path / "moved") == ["labels.csv"]


@pytest.mark.parametrize("files", [None, 3, [3], [{"path": "\0"}], [{"path": "/dev/zero", "size": 0}]])
def test_what_scan_json_says_may_be_anything(audit: Path, files: object) -> None:
    record = json.loads((audit / "scan.json").read_text())
    (audit / "scan.json").write_text(json.dumps({**record, "files": files}))
    assert changed(audit) in ([], ["zero"])


async def test_the_review_says_so(audit: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("label\n" + "dog\ncat\n" * 15)
    async with at_desk(audit) as desk:
        await desk.until(lambda: "changed since the scan: labels.csv" in desk.status)
