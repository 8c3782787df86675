from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from labeltui import detect
from labeltui.detect import base, calibrate


def believer(n: int = 20_000, shift: float = -1.0, stretch: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """P(right) of somebody too sure, and what is true."""
    rng = np.random.default_rng(0)
    z = rng.normal(2.5, 2.5, size=n)
    truth = rng.random(n) < 1 / (1 + np.exp(-(shift + stretch * z)))
    return 1 / (1 + np.exp(-z)), truth


def checks(truth: np.ndarray, rows: np.ndarray) -> np.ndarray:
    checked = np.full(len(truth), -1, dtype=np.int8)
    checked[rows] = truth[rows]
    return checked


def test_three_hundred_random_checks_calibrate() -> None:
    p, truth = believer()
    rows = np.random.default_rng(1).choice(len(p), 300, replace=False)
    curve = calibrate.fit(p, checks(truth, rows))
    assert curve.checks == 300
    after = curve.apply(p)
    assert calibrate.calibration_error(p, truth) > 0.1
    assert calibrate.calibration_error(after, truth) < 0.045
    assert calibrate.brier_skill(after, truth) > calibrate.brier_skill(p, truth) + 0.05
    assert (np.diff(after[np.argsort(p)]) >= 0).all()


def test_checks_of_the_worst_only_calibrate_them_too() -> None:
    p, truth = believer()
    rows = np.argsort(p)[:2000:7]
    after = calibrate.fit(p, checks(truth, rows)).apply(p)
    worst = np.argsort(p)[:2000]
    assert abs(after[worst].mean() - truth[worst].mean()) < 0.04


def test_few_checks_move_little_and_none_nothing() -> None:
    p, truth = believer()
    assert calibrate.fit(p, np.full(len(p), -1, dtype=np.int8)) == calibrate.Calibration()
    three = calibrate.fit(p, checks(truth, np.arange(3)))
    assert abs(three.shift) < 1.0
    assert 0.5 < three.stretch < 2.0
    np.testing.assert_allclose(calibrate.Calibration().apply(p), p, atol=1e-5)


def test_the_distribution_keeps_its_order_and_sums_to_one() -> None:
    p = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]], dtype=np.float32)
    curve = calibrate.Calibration(-2.0, 1.0, 10)
    out = curve.distribution(p, np.array([0, -1], dtype=np.int32))
    np.testing.assert_allclose(out.sum(axis=1), 1.0, atol=1e-6)
    assert out[0, 0] == pytest.approx(curve.apply(np.array([0.6]))[0])
    assert out[0, 1] / out[0, 2] == pytest.approx(3.0, rel=1e-5)
    np.testing.assert_array_equal(out[1], p[1])


def test_decisions_reach_blend_flags_and_record() -> None:
    rng = np.random.default_rng(0)
    n = 3000
    truth = rng.integers(0, 3, size=n).astype(np.int32)
    z = rng.normal(size=(n, 3))
    z[np.arange(n), truth] += 1.5
    p = np.exp(2 * z)
    p = (p / p.sum(axis=1, keepdims=True)).astype(np.float32)
    labels = np.where(rng.random(n) < 0.2, (truth + 1) % 3, truth).astype(np.int32)
    facts = base.DetectorInputs(labels, 3, np.ones(n, dtype=bool), p_head=p)
    right = labels == truth
    plain = detect.run(facts)
    told = detect.run(dataclasses.replace(facts, checked=checks(right, rng.choice(n, 400, replace=False))))
    assert told.attrs["blend"]["calibration_checks"] == 400
    assert calibrate.calibration_error(told.blend, right) < max(
        0.03, calibrate.calibration_error(plain.blend, right)
    )
    np.testing.assert_array_equal(
        np.argsort(plain.blend, kind="stable")[:50], np.argsort(told.blend, kind="stable")[:50]
    )
    inside = told.suggest_label == labels[:, None]
    np.testing.assert_allclose(told.suggest_p[inside], told.blend[inside.any(axis=1)], atol=1e-6)


def test_figures_of_calibration() -> None:
    truth = np.array([True, True, False, False])
    assert calibrate.calibration_error(np.array([1.0, 1.0, 0.0, 0.0]), truth, 2) == 0.0
    assert calibrate.calibration_error(np.array([0.5, 0.5, 0.5, 0.5]), truth, 1) == 0.0
    assert calibrate.calibration_error(np.array([0.9, 0.9, 0.2, 0.2]), truth, 2) == pytest.approx(0.15)
    assert calibrate.brier_skill(np.full(4, 0.5), truth) == pytest.approx(0.0)
    assert calibrate.brier_skill(truth.astype(float), truth) == 1.0


def test_a_target_precision_chooses_the_threshold() -> None:
    chance = np.array([0.99, 0.95, 0.9, 0.8, 0.4])
    limit, count, wrong = calibrate.threshold_for(0.9, chance)
    assert (limit, count) == (0.8, 4)  # the mean of the four is .91
    assert wrong == pytest.approx(0.36)
    assert calibrate.threshold_for(0.995, chance) == (2.0, 0, 0.0)
    assert calibrate.threshold_for(0.9, np.zeros(0)) == (2.0, 0, 0.0)
    limit, count, _ = calibrate.threshold_for(0.9, np.array([0.99, 0.8, 0.8, 0.8]))
    assert (limit, count) == (0.99, 1)  # equal ones go together: not two of the three
