from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.datasets import load_digits

from labeltui import head, noise
from labeltui.detect import base, planted, run
from labeltui.errors import InputError

SPEC = head.HeadSpec(hidden=128, epochs=6)


@pytest.fixture(scope="module")
def facts() -> base.Facts:
    data = load_digits()
    x, truth = (data.data / 16).astype(np.float32), data.target.astype(np.int32)
    labels, _ = noise.symmetric(truth, 0.1, 0, 10)
    fold = head.folds(labels, None, None, 3, 0)
    p = head.out_of_fold(x, labels, fold, 10, spec=SPEC).p
    ok = np.ones(len(x), dtype=bool)
    return base.Facts(labels, 10, ok, p_head=p, embeddings=x, fold=fold, head=SPEC)


def test_planted_scores_come_from_models_fitted_on_the_planted_copy(
    facts: base.Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[np.ndarray] = []
    train = head.out_of_fold

    def watched(x: np.ndarray, labels: np.ndarray, *rest: object, **more: object) -> head.HeadResult:
        learned.append(np.asarray(labels).copy())
        return train(x, labels, *rest, **more)

    monkeypatch.setattr(head, "out_of_fold", watched)
    done = planted.trial(facts, np.full((10, 10), 0.1), 0.08, 5)
    assert len(learned) == 2  # the head and the corrected head: nothing of the real labels' models is reused
    for labels in learned:
        np.testing.assert_array_equal(labels, done.labels)
    assert done.planted.sum() == pytest.approx(0.08 * facts.n, abs=10)
    np.testing.assert_array_equal(done.planted, done.labels != facts.labels)
    # Trained alone on the copy, the same head gives the trial's scores to the bit; on the real labels it does not.
    again = train(facts.embeddings, done.labels, done.facts.fold, 10, spec=SPEC, seed=done.facts.seed)
    rows = np.arange(facts.n)
    np.testing.assert_array_equal(again.p[rows, done.labels], done.findings.scores["head"])
    real = train(facts.embeddings, facts.labels, done.facts.fold, 10, spec=SPEC, seed=done.facts.seed)
    assert (real.p[rows, done.labels] != done.findings.scores["head"]).mean() > 0.99


def test_a_trial_finds_and_restores_what_was_planted(facts: base.Facts) -> None:
    done = planted.trial(facts, run(facts).transition, 0.08, 1)
    assert done.recall > 0.8
    assert 0.75 < done.restored <= done.recall
    before = facts.labels.copy()
    np.testing.assert_array_equal(facts.labels, before)


def test_a_trial_uses_no_probability_that_knows_the_real_labels(facts: base.Facts) -> None:
    known = np.full((facts.n, 10), 1e-3, dtype=np.float32)
    known[np.arange(facts.n), facts.labels] = 0.991
    told = dataclasses.replace(facts, pred_probs=known, p_tuned=known)
    a, b = (planted.trial(f, np.full((10, 10), 0.1), 0.08, 2).findings for f in (facts, told))
    np.testing.assert_array_equal(a.blend, b.blend)


def test_scaling_meets_the_rate() -> None:
    labels = np.repeat(np.arange(3), [100, 300, 600]).astype(np.int32)
    t = np.array([[0.9, 0.1, 0.0], [0.0, 1.0, 0.0], [0.0, 0.3, 0.7]])
    s = planted.scaled(t, labels, 0.1)
    np.testing.assert_allclose(s.sum(axis=1), 1.0)
    assert (1 - np.diag(s)) @ [0.1, 0.3, 0.6] == pytest.approx(0.1)
    assert s[2, 1] / s[0, 1] == pytest.approx(3.0)
    np.testing.assert_allclose((1 - np.diag(planted.scaled(np.eye(3), labels, 0.1))), 0.1)
    with pytest.raises(InputError):
        planted.scaled(t, labels, 0.0)


def test_a_trial_needs_embeddings(facts: base.Facts) -> None:
    with pytest.raises(InputError):
        planted.trial(dataclasses.replace(facts, embeddings=None), np.eye(10))
