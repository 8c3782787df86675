from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

from labeltui import graph, head, noise
from labeltui.detect import base, neighbours, planted, probabilities, run, stacked
from labeltui.detect.blend import Blend
from labeltui.detect.dynamics import DynamicsDetector
from labeltui.errors import InputError

SPEC = head.HeadSpec(hidden=128, epochs=6)
DIGITS = load_digits()
TRUTH = DIGITS.target.astype(np.int32)
FLAT = np.full((10, 10), 0.1)


@pytest.fixture(autouse=True)
def _few_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacked, "LEAST", 50)


@pytest.fixture(scope="module")
def facts() -> base.Facts:
    x = (DIGITS.data / 16).astype(np.float32)
    g = graph.build(x, k=10)
    labels, _ = noise.symmetric(TRUTH, 0.1, 0, 10)
    fold = head.folds(labels, None, None, 3, 0)
    found = head.out_of_fold(x, labels, fold, 10, spec=SPEC, dynamics=True)
    return base.Facts(
        labels,
        10,
        np.ones(len(x), dtype=bool),
        g.indices,
        g.similarity,
        p_head=found.p,
        dynamics=found.dynamics,
        embeddings=x,
        fold=fold,
        head=SPEC,
    )


@pytest.fixture(scope="module")
def copy(facts: base.Facts) -> planted.Copy:
    return planted.copy(facts, FLAT, 0.08, 5)


def test_planted_scores_come_from_models_fitted_on_the_planted_copy(
    facts: base.Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[np.ndarray] = []
    seen: list[np.ndarray] = []
    copies: list[planted.Copy] = []
    train, fit, plant = head.out_of_fold, stacked.Look.of, planted.copy

    def trained(x: np.ndarray, labels: np.ndarray, *rest: object, **more: object) -> head.HeadResult:
        learned.append(np.asarray(labels).copy())
        return train(x, labels, *rest, **more)

    def fitted(detectors: list[base.Detector]) -> stacked.Look:
        look = fit(detectors)
        seen.append(look.features(0, facts.n)[:, look.names.index("head")])
        return look

    def copied(*rest: object, **more: object) -> planted.Copy:
        copies.append(plant(*rest, **more))
        return copies[-1]

    monkeypatch.setattr(head, "out_of_fold", trained)
    monkeypatch.setattr(stacked.Look, "of", fitted)
    monkeypatch.setattr(planted, "copy", copied)
    run(facts)
    (made,) = copies
    # The corrected head learns from the real labels and the copy's head from the copy: nothing else is trained.
    assert len(learned) == 2
    np.testing.assert_array_equal(learned[0], facts.labels)
    np.testing.assert_array_equal(learned[1], made.labels)
    assert made.planted.sum() == pytest.approx(0.08 * facts.n, abs=10)
    np.testing.assert_array_equal(made.planted, made.labels != facts.labels)
    # Trained alone on the copy, the same head gives the features' scores to the bit; on the real labels it does not.
    again = train(facts.embeddings, made.labels, made.facts.fold, 10, spec=SPEC, seed=made.facts.seed)
    rows = np.arange(facts.n)
    np.testing.assert_allclose(
        seen[0], stacked.log_odds(again.p[rows, made.labels]), err_msg="head on the copy"
    )
    real = train(facts.embeddings, facts.labels, made.facts.fold, 10, spec=SPEC, seed=made.facts.seed)
    assert (real.p[rows, made.labels] != again.p[rows, made.labels]).mean() > 0.99


def test_a_copy_leaves_the_labels_and_what_knows_them_alone(facts: base.Facts, copy: planted.Copy) -> None:
    known = np.full((facts.n, 10), 1e-3, dtype=np.float32)
    known[np.arange(facts.n), facts.labels] = 0.991
    told = dataclasses.replace(facts, pred_probs=known, p_tuned=known)
    before = facts.labels.copy()
    other = planted.copy(told, FLAT, 0.08, 5)
    np.testing.assert_array_equal(facts.labels, before)
    np.testing.assert_array_equal(copy.before, before)
    np.testing.assert_array_equal(copy.facts.p_head, other.facts.p_head)
    for name in ("p_tuned", "pred_probs", "given", "checked", "planted"):
        assert getattr(other.facts, name) is None
    assert copy.facts.dynamics is not None
    np.testing.assert_array_equal(copy.facts.dynamics.labels, copy.labels)


def test_a_copys_head_learns_from_some_samples_and_all_are_planted(facts: base.Facts) -> None:
    small = planted.copy(facts, FLAT, 0.08, 5, most=600, dynamics=False)
    assert (small.facts.fold >= 0).sum() == 600
    assert small.planted[small.facts.fold < 0].mean() == pytest.approx(0.08, abs=0.03)
    assert small.facts.dynamics is None


class TestLearned:
    def test_the_model_hears_whoever_finds_what_was_planted(self, facts: base.Facts) -> None:
        class Hint(base.Detector):
            """Knows four of five wrong labels and gives no probabilities, so the pool cannot hear it."""

            name, title = "hint", "hint"

            def probabilities(self, start: int, stop: int) -> None:
                return None

            def score(self, start: int, stop: int) -> np.ndarray:
                rows = np.arange(start, stop)
                low = (self.facts.labels[rows] != TRUTH[rows]) & (rows % 5 != 0)
                return np.where(low, 0.3, 0.6).astype(np.float32)

        x = np.ascontiguousarray(
            facts.embeddings[:, 26:30]
        )  # four pixels: the head and the neighbours see little
        g = graph.build(x, k=10)
        p = head.out_of_fold(x, facts.labels, facts.fold, 10, spec=SPEC).p
        facts = dataclasses.replace(facts, embeddings=x, indices=g.indices, similarity=g.similarity, p_head=p)
        detectors: list[base.Detector] = [probabilities.Head(facts), neighbours.Nearest(facts), Hint(facts)]
        blend = Blend(facts, detectors[:2])
        learned = stacked.learn(detectors, blend.channel.transition, lambda share: None, None)
        assert learned is not None
        assert learned.attributes["planted_ap"] > learned.attributes["planted_ap_first_look"] + 0.02
        wrong = facts.labels != TRUTH
        rows = np.arange(facts.n)
        before = blend.posterior(0, facts.n)[rows, facts.labels]
        blend.join(learned)
        after = blend.posterior(0, facts.n)[rows, facts.labels]
        assert average_precision_score(wrong, -after) > average_precision_score(wrong, -before)
        assert ((after - ~wrong) ** 2).mean() < ((before - ~wrong) ** 2).mean()

    def test_a_model_that_finds_no_more_than_the_blend_is_left_out(self, facts: base.Facts) -> None:
        flat = dataclasses.replace(facts, p_head=np.full((facts.n, 10), 0.1, dtype=np.float32))
        detectors: list[base.Detector] = [neighbours.Nearest(flat)]
        assert stacked.learn(detectors, FLAT, lambda share: None, None) is None

    def test_it_takes_no_detector_that_cannot_be_formed_anew(self, facts: base.Facts) -> None:
        def names(changed: base.Facts, wrong: float = 0.1) -> set[str]:
            detectors = [cls(changed) for cls in (probabilities.Head, probabilities.Given, DynamicsDetector)]
            return {detector.name for detector in stacked.usable(changed, detectors, wrong)}

        whole = dataclasses.replace(facts, pred_probs=facts.p_head)
        assert names(whole) == {"head", "dynamics"}
        assert names(dataclasses.replace(whole, head_dynamics=False)) == {"head"}
        assert names(dataclasses.replace(whole, planted=np.zeros(facts.n, dtype=bool))) == {"head"}
        assert names(dataclasses.replace(whole, embeddings=None)) == set()
        # Planted errors would be few among those that are there.
        assert names(whole, wrong=0.4) == set()
        few = np.zeros(facts.n, dtype=bool)
        few[:500] = True
        assert names(dataclasses.replace(whole, ok=few)) == set()

    def test_joining_keeps_the_expected_number_of_wrong_labels(self, facts: base.Facts) -> None:
        class Coin:
            attributes: dict[str, base.Attribute] = {}

            def log_odds(self, start: int, stop: int) -> np.ndarray:
                return np.random.default_rng(0).normal(5.0, 3.0, facts.n)[start:stop]

        blend = Blend(facts, [probabilities.Head(facts), neighbours.Nearest(facts)])
        rows = np.arange(facts.n)
        before = blend.posterior(0, facts.n)
        blend.join(Coin())
        after = blend.posterior(0, facts.n)
        np.testing.assert_allclose(after.sum(axis=1), 1.0, atol=1e-5)
        assert after[rows, facts.labels].sum() == pytest.approx(before[rows, facts.labels].sum(), rel=0.005)
        np.testing.assert_allclose(  # the other labels keep their shares
            (after[:, 0] * before[:, 1])[facts.labels > 1],
            (after[:, 1] * before[:, 0])[facts.labels > 1],
            atol=1e-5,
        )


def test_a_copy_needs_embeddings(facts: base.Facts) -> None:
    with pytest.raises(InputError):
        planted.copy(dataclasses.replace(facts, embeddings=None), np.eye(10), 0.08, 0)
