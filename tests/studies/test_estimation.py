"""How noisy an audit is, and what to do about it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from labeltui.audit import Audit
from labeltui.cli import cli
from labeltui.errors import UsageError
from labeltui.studies import estimation
from tests.factories import make_audit


@pytest.fixture(scope="module")
def audit_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_audit(tmp_path_factory.mktemp("audit"))


def test_a_tenth_of_wrong_labels_is_within_the_bound(audit_path: Path) -> None:
    with Audit.open(audit_path, read_only=True) as audit:
        found = estimation.estimate(audit)
    assert found.checks == 0
    assert found.low == 0.0
    assert found.high >= 0.1 > found.rate * 0.3
    assert found.alpha_high == pytest.approx(found.high / (1 - found.high))
    assert found.transition.sum(axis=1) == pytest.approx(1.0)
    assert 0 < found.enough < 240


def test_a_bound_stays_a_bound_after_the_next_reviews(audit_path: Path) -> None:
    with Audit.open(audit_path, read_only=True) as audit:
        found = estimation.estimate(audit)
    said = "\n".join(found.lines())
    assert f"at most about {found.high:.1%}" in said
    assert len(found.reviewing) == 2  # 240 samples
    for each in found.reviewing:
        assert each.low == 0.0
        assert each.high == pytest.approx(found.high - each.corrected / found.samples)
        assert f"at most {each.high:.1%} wrong then" in said
    assert "expected" not in said  # a number that nothing but features vouch for


def test_random_checks_give_an_interval_that_holds_the_truth(audit_path: Path, tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    truth = np.load(tmp_path / "truth.npy")
    with Audit.open(path, reviewer="r") as audit:
        before = estimation.estimate(audit)
        for i in audit.check_plan.order(np.arange(audit.n))[:120].tolist():
            if truth[i] == audit.given[i]:
                audit.decide([i], "keep", how="check")
            else:
                audit.decide([i], "relabel", int(truth[i]), how="check")
        after = estimation.estimate(audit)
    assert after.checks == 120
    assert 0 < after.low <= 0.1 <= after.high < 0.25
    assert after.training.label_smoothing <= before.training.label_smoothing
    assert "random checks" in "\n".join(after.lines())
    # What was corrected already is wrong no more.
    done = sum(truth[i] != audit.given[i] for i in np.flatnonzero(audit.kinds)) / after.samples
    for each in after.reviewing:
        gain = each.corrected / after.samples
        bounds = (max(0.0, bound - done - gain) for bound in (after.low, after.high))
        assert (each.low, each.high) == pytest.approx(tuple(bounds))
        assert f"{each.low:.1%} to {each.high:.1%} wrong then" in "\n".join(after.lines())


def test_the_gap_is_the_lead_of_the_right_label() -> None:
    transition = np.array([[0.6, 0.4, 0.0], [0.1, 0.3, 0.6], [0.0, 0.0, 1.0]])
    np.testing.assert_allclose(estimation.class_gaps(transition), [0.2, -0.3, 1.0])


def test_more_noise_asks_for_larger_batches_and_more_smoothing() -> None:
    clean = estimation.recommend(0.0, 50_000, 64, 1e-3, 0.1)
    assert (clean.batch, clean.learning_rate, clean.label_smoothing) == (64, 1e-3, 0.1)
    half = estimation.recommend(0.5, 50_000, 64, 1e-3, 0.1)  # alpha 1: four times the batch
    assert (half.batch, half.learning_rate, half.label_smoothing) == (256, 1e-3, 0.5)
    few = estimation.recommend(0.5, 1_000, 64, 1e-3, 0.1)  # too few samples for that: smaller steps instead
    assert few.batch == 100
    assert few.learning_rate < 1e-3


def test_commands(audit_path: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    said = runner.invoke(cli, ["noise", "estimate", str(audit_path), "--json"], catch_exceptions=False)
    assert 0 < json.loads(said.stdout)["alpha"] < 1
    shown = runner.invoke(cli, ["noise", "estimate", str(audit_path)], catch_exceptions=False)
    assert "plurality gap" in shown.stdout
    with Audit.open(audit_path, read_only=True) as audit, pytest.raises(UsageError):
        estimation.estimate(audit, epsilon=0.0)
    out = str(tmp_path / "t.csv")
    options = ["noise", "inject", str(audit_path), "--model", "symmetric", "--rate", "0.25", "-o", out]
    done = runner.invoke(cli, options, catch_exceptions=False)
    assert "60 labels made wrong" in done.stderr
    assert Path(out).read_text().count("True") == 60
