"""Measures against scikit-learn's, and runs put side by side."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as reference

from labeltui.audit import Audit
from labeltui.detect.calibrate import calibration_error
from labeltui.errors import JobError, SourceError
from labeltui.train.compare import before_and_after, compare
from labeltui.train.jobs import list_jobs
from labeltui.train.plan import Request, prepare
from labeltui.train.predictions import measure
from tests.factories import make_audit
from tests.runs import finished


def test_measures_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=500)  # class 4 has no sample, class 5 is neither there nor predicted
    predicted = np.where(rng.random(500) < 0.6, labels, rng.integers(5, size=500))
    made = measure(labels, predicted, rng.random(500), 6)
    known = list(range(6))
    assert np.array_equal(made.confusion, reference.confusion_matrix(labels, predicted, labels=known))
    assert made.accuracy == pytest.approx(reference.accuracy_score(labels, predicted))
    p, r, f, _ = reference.precision_recall_fscore_support(labels, predicted, labels=known, zero_division=0)
    assert np.allclose((made.precision, made.recall, made.f1), (p, r, f))
    assert made.balanced_accuracy == pytest.approx(r[:4].mean())
    assert made.macro_f1 == pytest.approx(f[:4].mean())


def test_calibration_is_measured_as_it_is_for_detectors() -> None:
    confidence = np.repeat([0.95, 0.55], [10, 30]).astype(np.float32)
    predicted = np.zeros(40, np.int32)
    labels = np.where(np.arange(40) < 8, 0, 1)  # 8 of 10 and 0 of 30 are right
    made = measure(labels, predicted, confidence, 2)
    assert made.ece == calibration_error(confidence, labels == predicted)
    assert made.ece > 0.4
    assert made.n == 40


def test_no_samples_measure_as_zero() -> None:
    nothing = np.zeros(0, np.int32)
    made = measure(nothing, nothing, np.zeros(0, np.float32), 3)
    assert made.summary() == {"n": 0, "accuracy": 0, "balanced_accuracy": 0, "macro_f1": 0, "ece": 0}
    assert made.confusion.shape == (3, 3)


def test_reading_runs_does_not_load_scikit_learn() -> None:
    code = "import sys, labeltui.train.compare; assert 'sklearn.metrics' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_runs_are_paired_over_seeds(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    truth = np.load(tmp_path / "truth.npy")
    with Audit.open(path, read_only=True) as audit:
        table = tmp_path / "truth.csv"
        rows = [f"{audit.sample_id(i).decode()},class{truth[i]}" for i in range(audit.n)]
        table.write_text("\n".join(["path,truth", *rows]) + "\n")
        given = [finished(path, "given", seed, 0.6) for seed in range(3)]
        current = [finished(path, "current", seed, 0.9) for seed in range(3)]
        made = compare(audit, [*given, *current, given[0]], f"{table}:truth")
        assert made.n == 230  # what all of them predicted
        assert [row.labels for row in made.rows] == ["given"] * 3 + ["current"] * 3
        accuracy = [row.metrics.accuracy for row in made.rows]
        gaps = np.array(accuracy[3:]) - accuracy[:3]
        found = next(each for each in made.differences if each.measure == "accuracy")
        assert (found.labels, found.pairs, found.method) == ("current", 3, "t over seeds")
        assert found.mean == pytest.approx(gaps.mean())
        low, high = stats.t.interval(0.95, 2, gaps.mean(), stats.sem(gaps))
        assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)
        assert any("clear of zero" in line for line in made.lines())
        # Against the given labels, a tenth of which are wrong, the same predictions look worse.
        assert max(row.metrics.accuracy for row in compare(audit, current, "given").rows) < max(accuracy)
        one = compare(audit, [given[1], current[1]], f"{table}:truth").differences[0]
        assert one.method == "bootstrap over samples"
        assert one.low < one.mean < one.high
        with pytest.raises(SourceError, match="column"):
            compare(audit, given, f"{table}:wrong")
        (path / "runs" / given[0] / "predictions.npz").unlink()
        with pytest.raises(JobError, match="left none"):
            compare(audit, given)


def test_the_first_run_stands_beside_each_later_one_whatever_both_learned(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    runs = [finished(path, "current", 0, accuracy) for accuracy in (0.6, 0.9, 0.9)]
    (path / "runs" / runs[2] / "predictions.npz").unlink()
    with Audit.open(path, read_only=True) as audit:
        assert not compare(
            audit, runs[:2]
        ).differences  # the same labels, model and seed: nothing to average over
        ((before, after, gap),) = before_and_after(audit, list_jobs(path))
    assert (before.job.id, after.job.id) == (runs[0], runs[1])
    assert before.metrics.n == after.metrics.n == 230
    assert gap.mean == pytest.approx(after.metrics.accuracy - before.metrics.accuracy)
    assert 0 < gap.low < gap.mean < gap.high
    assert not before_and_after(audit, [])


def test_a_table_is_matched_by_name(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    with Audit.open(path, read_only=True) as audit:
        name = audit.sample_id(5).decode()
        table = tmp_path / "some.csv"
        table.write_text(f"x,path,label\n1,{name},class0\n")
        with pytest.raises(JobError, match="two classes"):
            prepare(audit, Request(labels=f"{table}:label"))
        table.write_text(f"path,label\n{name},class0\n{name},class1\nnobody.png,class1\n")
        with pytest.raises(SourceError, match="a second time\nline 4: no sample"):
            prepare(audit, Request(labels=f"{table}:label"))
        table.write_text(f"path,w\n{name},0.25\n")
        _, arrays = prepare(audit, Request(weights=f"{table}:w"))
        assert arrays["weights"][5] == 0.25
        assert arrays["weights"].sum() == audit.n - 0.75
        _, arrays = prepare(audit, Request(weights="score"))
        assert np.array_equal(arrays["weights"], audit.scores)
