from __future__ import annotations

import numpy as np
import pytest

from labeltui.noise.checked import STRATA, at_most, check_keys, check_strata, number_wrong


def world(rate: float, n: int = 10_000, seed: int = 0, level: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """P(wrong) by a detector that ranks well and errs in the level, and which labels are wrong."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n) * 2.5
    low, high = -30.0, 30.0
    for _ in range(60):  # the shift that gives the rate
        middle = (low + high) / 2
        low, high = (middle, high) if (1 / (1 + np.exp(-(z + middle)))).mean() < rate else (low, middle)
    true = 1 / (1 + np.exp(-(z + low)))
    return np.clip(true * level, 0, 0.999), (rng.random(n) < true).astype(np.int8)


def checked(p: np.ndarray, wrong: np.ndarray, count: int, seed: int) -> np.ndarray:
    keys = check_keys(p, check_strata(p), np.random.default_rng(seed).random(len(p)))
    found = np.full(len(p), -1, np.int8)
    some = np.argsort(keys)[:count]
    found[some] = wrong[some]
    return found


@pytest.mark.parametrize(("rate", "level"), [(0.01, 1.0), (0.01, 3.0), (0.15, 1.0), (0.15, 0.4), (0.4, 3.0)])
def test_intervals_cover_the_truth_and_are_narrower_than_the_plain_share(rate: float, level: float) -> None:
    from labeltui.tui.checks import clopper_pearson

    p, wrong = world(rate, n=5000, level=level)
    strata = check_strata(p)
    held, width, plain = [], [], []
    for seed in range(150):
        known = number_wrong(p, strata, checked(p, wrong, 200, seed))
        held.append(known.low <= wrong.sum() <= known.high)
        width.append(known.high - known.low)
        share = np.random.default_rng(seed).choice(wrong, 200, replace=False)
        low, high = clopper_pearson(int(share.sum()), 200)
        plain.append((high - low) * len(p))
        assert known.checks == 200
    assert np.mean(held) >= 0.92  # of 150; those of all seeds are .92 to .98
    assert np.mean(width) < (0.85 if level == 1.0 else 1.0) * np.mean(plain)


def test_intervals_cover_the_truth_where_certain_errors_are_thought_unlikely() -> None:
    rng = np.random.default_rng(0)
    wrong = (np.arange(240) < 48).astype(np.int8)
    p = np.where(wrong, 0.5, 0.001) + rng.normal(size=240) * np.where(wrong, 0.3, 0.0005)
    p = np.clip(p, 0.0005, 0.95)
    held = []
    for seed in range(150):
        known = number_wrong(p, check_strata(p), checked(p, wrong, 40, seed))
        held.append(known.low <= wrong.sum() <= known.high)
    assert np.mean(held) >= 0.92


def test_checks_correct_a_level_that_is_wrong() -> None:
    p, wrong = world(0.05, level=4.0)
    known = number_wrong(p, check_strata(p), checked(p, wrong, 400, 1))
    assert p.sum() > 2.5 * wrong.sum()
    assert abs(known.expected - wrong.sum()) < 0.35 * wrong.sum()


def test_when_all_is_checked_nothing_is_left_open() -> None:
    p, wrong = world(0.2, n=300)
    known = number_wrong(p, check_strata(p), wrong)
    assert known.low == known.high == known.expected == wrong.sum()


def test_any_beginning_of_the_order_is_spread_over_the_strata() -> None:
    p, _ = world(0.05)
    strata = check_strata(p)
    order = np.argsort(check_keys(p, strata, np.random.default_rng(0).random(len(p))))
    size = np.bincount(strata, minlength=STRATA)
    assert (np.diff(size) <= 0).all()
    for count in (60, 300):
        drawn = np.bincount(strata[order[:count]], minlength=STRATA)
        assert drawn.min() >= count // 20
        rate = drawn / size
        assert rate[-1] > 2 * rate[0]  # more where it is uncertain


def test_the_bound_is_wider_where_more_labels_are_wrong_and_never_passes_the_samples() -> None:
    few, many = (at_most(np.full(1000, p)) for p in (0.01, 0.2))
    assert 1.5 * 10 < few.high < 3 * 10
    assert 2 * 200 < many.high < 3 * 200
    assert few.low == many.low == 0
    assert at_most(np.full(1000, 0.01), 1 / 3).high == few.high  # a third is the prior's
    assert at_most(np.full(1000, 0.01), 0.9).high > 1.5 * few.high
    assert at_most(np.full(10, 0.9)).high == 10
    assert at_most(np.zeros(0)).high == 0
