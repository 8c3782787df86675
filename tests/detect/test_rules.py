"""Detectors that follow one rule: margin, overlap reduction, duplicates."""

from __future__ import annotations

import numpy as np
import pytest

from labeltui import csg, noise
from labeltui.detect import base, confident, duplicates, overlap_reduction

K = 4


def test_margins() -> None:
    p = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], dtype=np.float32)
    np.testing.assert_allclose(confident.margins(p, np.array([0, 1, -1])), [0.2, -0.2, 0.0], atol=1e-6)
    facts = base.DetectorInputs(np.array([0, 1, 0], dtype=np.int32), 3, np.ones(3, dtype=bool), p_head=p)
    detector = confident.Confident(facts)
    detector.fit()
    np.testing.assert_allclose(detector.score(0, 3), [0.6, 0.4, 0.15], atol=1e-6)


# ---------------------------------------------------------------------------------- overlap reduction


def graph_world() -> base.DetectorInputs:
    rng = np.random.default_rng(1)
    n = 120
    truth = np.arange(n) % K
    x = rng.normal(size=(n, 3)) + 2.0 * rng.normal(size=(K, 3))[truth]
    distance = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    indices = np.argsort(distance, axis=1)[:, :12].astype(np.int32)
    labels = noise.symmetric(truth, 0.2, 0, K).labels
    ok = np.ones(n, dtype=bool)
    ok[5] = False
    indices[5] = -1
    labels[6] = -1
    return base.DetectorInputs(labels, K, ok, indices, np.zeros((n, 12), dtype=np.float32))


def test_the_reduction_of_overlap_is_that_of_a_recount() -> None:
    facts = graph_world()
    detector = overlap_reduction.OverlapReduction(facts)
    detector.fit()
    indices = facts.indices[:, :10]
    labels = np.where(facts.ok, facts.labels, -1).astype(np.int32)
    before = csg.measure(indices, labels, K, 10)
    for s in [*range(8), 50, 119]:
        if not facts.scorable[s]:
            assert detector.reduction[s] == 0.0
            continue
        near = indices[s]
        options = set(labels[near[near >= 0]].tolist()) - {-1, labels[s]}
        found = {}
        for option in options:
            changed = labels.copy()
            changed[s] = option
            found[option] = csg.measure(indices, changed, K, 10)
        if found:
            best = max(found, key=lambda option: before.overlap.sum() - found[option].overlap.sum())
            assert detector.best[s] == best
            assert detector.reduction[s] == pytest.approx(
                before.overlap.sum() - found[best].overlap.sum(), abs=1e-6
            )
    score = detector.score(0, facts.n)
    scored = facts.scorable
    assert (
        np.argsort(score[scored], kind="stable") == np.argsort(-detector.reduction[scored], kind="stable")
    ).mean() > 0.9


def test_the_reduction_is_about_the_given_label_where_a_person_changed_it() -> None:
    facts = graph_world()
    s = 20
    given = facts.labels.copy()
    given[s] = (facts.labels[s] + 1) % K
    detector = overlap_reduction.OverlapReduction(
        base.DetectorInputs(facts.labels, K, facts.ok, facts.indices, facts.similarity, given=given)
    )
    detector.fit()
    direct = overlap_reduction.OverlapReduction(
        base.DetectorInputs(given, K, facts.ok, facts.indices, facts.similarity)
    )
    direct.fit()
    assert detector.reduction[s] == pytest.approx(direct.reduction[s], abs=1e-9)


def test_too_many_classes_keep_the_detector_out() -> None:
    facts = base.DetectorInputs(
        np.zeros(2, dtype=np.int32), 5000, np.ones(2, dtype=bool), np.array([[1], [0]], dtype=np.int32)
    )
    assert not overlap_reduction.OverlapReduction.feasible(facts)


# ---------------------------------------------------------------------------------- duplicates


def test_copies_with_another_label_lower_the_score() -> None:
    labels = np.array([0, 0, 1, 2, 2, 1, 0, -1], dtype=np.int32)
    groups = np.array([7, 7, 7, 3, 3, 4, 9, 9], dtype=np.int32)
    facts = base.DetectorInputs(labels, 3, np.ones(8, dtype=bool), groups=groups)
    detector = duplicates.Duplicates(facts)
    detector.fit()
    np.testing.assert_allclose(detector.score(0, 8), [0.5, 0.5, 1 / 6, 0.75, 0.75, 0.5, 0.5, 0.5], atol=1e-6)
    assert detector.attributes()["conflicts"] == 1
