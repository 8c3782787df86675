"""Label issues of cleanlab's Datalab as evidence."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labeltui import export, sources
from labeltui.audit import Audit
from labeltui.errors import SourceError
from labeltui.scanning import ScanOptions, scan
from tests.factories import HEAD, make_audit

IDS = [b"a/1.png", b"a/2.png", b"b/3.png"]
LABELS: list[bytes | None] = [b"cat", b"cat", b"dog"]


def read(path: Path, notes: list[str] | None = None) -> tuple[list[float], list[int]]:
    score, proposed = sources.read_issues(path, IDS, LABELS, [b"cat", b"dog"], [] if notes is None else notes)
    return score.tolist(), proposed.tolist()


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_rows_are_matched_by_path_or_taken_in_order(tmp_path: Path) -> None:
    named = write(tmp_path / "named.csv", "path,label_score,predicted_label\nb/3.png,.25,cat\na/1.png,,\n")
    assert read(named) == ([0.5, 0.5, 0.25], [-1, -1, 0])
    notes: list[str] = []
    saved = tmp_path / "lab"
    saved.mkdir()
    write(saved / "issues.csv", "is_label_issue,label_score\nTrue,.125\nFalse,.5\nFalse,1\n")
    (saved / "datalab.pkl").write_bytes(b"never read")
    assert read(saved, notes) == ([0.125, 0.5, 1.0], [-1, -1, -1])
    assert notes == ["the rows of issues.csv are taken in the order of the samples"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("is_label_issue\nTrue\n", "label_score"),
        ("label_score\n.5\n", "1 rows for 3 samples"),
        ("label_score\n.5\n.5\n.5\n.5\n", "more rows than samples"),
        ("label_score\n.5\nnan\n2\n", "not in 0..1"),
        ("label_score,predicted_label\n.5,cow\n.5,dog\n.5,dog\n", "cow is no class"),
        ("path,label_score\nz.png,.5\n", "no sample z.png"),
        ("path,label_score\na/1.png,.5\na/1.png,.5\n", "has a row already"),
        ("label_score,given_label\n.5,dog\n.5,dog\n.5,cat\n", "another one in 3 of 3 rows"),
    ],
)
def test_what_is_about_other_samples_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SourceError) as caught:
        read(write(tmp_path / "issues.csv", text))
    assert said in str(caught.value)


def test_given_labels_that_differ_are_noted(tmp_path: Path) -> None:
    notes: list[str] = []
    read(write(tmp_path / "i.csv", "label_score,given_label\n.5,cat\n.5,dog\n.5,dog\n"), notes)
    assert "another one in 1 rows" in notes[-1]


def test_they_are_evidence_and_change_no_flag(tmp_path: Path) -> None:
    """Our own export of a Datalab frame comes back in; the scan differs in these two arrays alone."""
    path = make_audit(tmp_path, images=False)
    with Audit.open(path, read_only=True) as audit:
        export.export(audit, tmp_path / "out", format="cleanlab")
        blend, flags, names = audit.scores.copy(), audit.flags.copy(), audit.names
    again = tmp_path / "again.audit"
    options = ScanOptions.of(
        issues=tmp_path / "out" / "issues.csv", model="pixels", image_size=4, workers=0, head=HEAD
    )
    scan(tmp_path / "data.npz", again, options)
    with open(tmp_path / "out" / "issues.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    with Audit.open(again, read_only=True) as audit:
        assert np.array_equal(audit.scores, blend)
        assert np.array_equal(audit.flags, flags)
        assert audit.detectors()["datalab"] == "cleanlab's Datalab"
        for i in (0, int(np.flatnonzero(flags)[0])):
            vote = next(each for each in audit.evidence(i, 10).votes if each.detector == "datalab")
            assert vote.score == pytest.approx(float(rows[i]["label_score"]), abs=1e-6)
            assert vote.proposes is not None
            assert names[vote.proposes] == rows[i]["predicted_label"]


@pytest.mark.libraries
def test_a_real_datalab_comes_in(tmp_path: Path) -> None:
    pytest.importorskip("datasets")  # which cleanlab's Datalab needs
    datalab: Any = pytest.importorskip("cleanlab.datalab.datalab")
    path = make_audit(tmp_path, images=False)
    with Audit.open(path, read_only=True) as audit:
        p = np.array(audit.chances[:, :1])
        pred_probs = np.full((audit.n, 4), 0.0)
        pred_probs += (1 - p) / 3
        pred_probs[np.arange(audit.n), audit.suggested[:, 0]] = p[:, 0]
        labels = [audit.names[c] for c in audit.given]
    lab = datalab.Datalab({"label": labels}, label_name="label", verbosity=0)
    lab.find_issues(pred_probs=pred_probs / pred_probs.sum(1, keepdims=True), issue_types={"label": {}})
    frame = lab.get_issues("label")
    frame.to_csv(tmp_path / "issues.csv")
    lab.save(str(tmp_path / "saved"), force=True)
    ids = [str(i).encode() for i in range(len(labels))]
    classes = [f"class{c}".encode() for c in range(4)]
    given = [label.encode() for label in labels]
    score, proposed = sources.read_issues(tmp_path / "issues.csv", ids, given, classes, [])
    assert np.allclose(score, frame["label_score"])
    assert [classes[c].decode() for c in proposed] == frame["predicted_label"].tolist()
    saved, _ = sources.read_issues(tmp_path / "saved", ids, given, classes, [])
    assert np.allclose(saved, score)
