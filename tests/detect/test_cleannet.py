"""CleanNet: what decisions about some classes say of the others."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, roc_auc_score

from labeltui import noise
from labeltui.detect import base, calibrate, cleannet
from labeltui.detect.cleannet import CleanNet, Objective, fit_pool_weights
from labeltui.detect.cleannet_model import CleanNetSpec, Prototypes, TrainingSet, centroids
from labeltui.detect.probabilities import Head
from labeltui.errors import Cancelled

K, N, D = 6, 900, 24
SMALL = CleanNetSpec(centres=8, components=16, hidden=16, code=12, steps=40, refit_steps=8, batch=64)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CleanNet, "spec", SMALL)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return np.random.default_rng(0).integers(0, K, size=N).astype(np.int32)


@pytest.fixture(scope="module")
def facts(truth: np.ndarray) -> base.DetectorInputs:
    """Classes of two lumps each, 20 % of the labels wrong, and probabilities that lean to the truth."""
    rng = np.random.default_rng(1)
    lumps = rng.normal(size=(K, 2, D)) * 0.6  # neither they nor the head tell enough alone
    x = (lumps[truth, rng.integers(0, 2, N)] + rng.normal(size=(N, D))).astype(np.float32)
    labels, _ = noise.symmetric(truth, 0.2, 0, K)
    z = rng.normal(size=(N, K))
    z[np.arange(N), truth] += 1.5
    p = np.exp(z)
    fold = (np.arange(N) % 4).astype(np.int8)
    p_head = (p / p.sum(axis=1, keepdims=True)).astype(np.float32)
    return base.DetectorInputs(
        labels, K, np.ones(N, dtype=bool), p_head=p_head, embeddings=x, fold=fold, device="cpu"
    )


T = np.full((K, K), 0.2 / (K - 1)) + np.eye(K) * (0.8 - 0.2 / (K - 1))


def decided(
    facts: base.DetectorInputs, truth: np.ndarray, number: int, classes: int = K
) -> base.DetectorInputs:
    """The facts after decisions about samples of the first classes."""
    among = np.flatnonzero(facts.labels < classes)
    rows = np.random.default_rng(2).choice(among, number, replace=False)
    checked = np.full(N, -1, dtype=np.int8)
    checked[rows] = facts.labels[rows] == truth[rows]
    current = facts.labels.copy()
    current[rows] = truth[rows]
    return dataclasses.replace(facts, labels=current, given=facts.labels, checked=checked)


def fitted(facts: base.DetectorInputs) -> CleanNet:
    detector = CleanNet(facts)
    detector.fit_with_noise(T, [Head(facts)], lambda share: None, None)
    return detector


def training_set(facts: base.DetectorInputs) -> TrainingSet:
    assert facts.fold is not None
    z = np.asarray(facts.embeddings, dtype=np.float32)
    return TrainingSet(z, facts.labels, facts.fold, np.zeros(N, dtype=bool), facts.p_head, T)


def test_nothing_decided_is_the_cosine_to_centroids_that_do_not_know_the_sample(
    facts: base.DetectorInputs,
) -> None:
    detector = fitted(facts)
    assert detector._centroids is not None
    z = detector._centroids.samples
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1.0, atol=1e-5)
    trust = dataclasses.replace(training_set(facts), z=z).trust()
    cosine = np.empty((N, K))
    for fold in range(4):
        rows = facts.fold == fold
        for label in range(K):
            others = (facts.labels == label) & ~rows
            centre = (z[others] * trust[others, None]).sum(axis=0)
            cosine[rows, label] = z[rows] @ centre / np.linalg.norm(centre)
    np.testing.assert_allclose(detector.cosines(0, N), cosine[np.arange(N), facts.labels], atol=1e-4)
    assert detector.probabilities(0, 1) is None
    assert detector.attributes()["steps"] == 0
    assert set(detector.arrays()) == {"cosine"}
    np.testing.assert_array_equal(detector.proposal(0, N, None), cosine.argmax(axis=1))


def test_reference_sets_leave_their_fold_out(facts: base.DetectorInputs) -> None:
    training_set_ = training_set(facts)
    found = Prototypes.of(training_set_, SMALL, 0)
    trust = training_set_.trust()
    for fold, label in ((0, 0), (3, K - 1)):
        members = (facts.labels == label) & (facts.fold != fold)
        np.testing.assert_allclose(found.mass[fold, label].sum(), trust[members].sum(), rtol=1e-4)
        total = (found.means[fold, label] * found.mass[fold, label][:, None]).sum(axis=0)
        np.testing.assert_allclose(
            total, (training_set_.z[members] * trust[members, None]).sum(axis=0), atol=1e-2
        )
    np.testing.assert_allclose(np.linalg.norm(centroids(found), axis=2), 1.0, atol=1e-5)
    again = Prototypes.of(training_set_, SMALL, 0, found.centres)
    assert np.abs(again.centres - found.centres).mean() < np.abs(found.centres).mean()


def test_a_class_smaller_than_its_reference_set_and_one_without_samples(
    facts: base.DetectorInputs, truth: np.ndarray
) -> None:
    labels = facts.labels.copy()
    rare = np.flatnonzero(labels == 5)[:3]
    labels[labels == 5] = 4
    labels[rare] = 5
    some = decided(dataclasses.replace(facts, labels=labels), truth, 200, 3)
    transition = np.pad(T, ((0, 1), (0, 1)))
    transition[-1, -1] = 1.0
    p = np.pad(np.asarray(facts.p_head), ((0, 0), (0, 1)))
    detector = CleanNet(dataclasses.replace(some, n_classes=K + 1, p_head=p))
    detector.fit_with_noise(transition, [Head(detector.inputs)], lambda share: None, None)
    score = detector.score(0, N)
    assert np.isfinite(score).all()
    assert ((score >= 0) & (score <= 1)).all()
    assert (detector.proposal(0, N, None) < K).all()


def test_decisions_about_three_classes_tell_of_the_other_three(
    facts: base.DetectorInputs, truth: np.ndarray
) -> None:
    """Better than either source of evidence whose threshold the same decisions choose."""
    wrong, others = (facts.labels != truth)[facts.labels >= 3], facts.labels >= 3
    some = decided(facts, truth, 300, 3)
    assert facts.p_head is not None
    assert some.checked is not None
    before, after = fitted(facts), fitted(some)
    score = after.score(0, N)
    error = ((score[others] >= 0.5) == wrong).mean()
    ap = average_precision_score(wrong, -score[others])
    for alone in (before.score(0, N), base.label_probability(facts.p_head, facts.labels)):
        right = calibrate.fit(alone, some.checked).apply(alone)[others]
        assert error < 0.75 * ((right >= 0.5) == wrong).mean()
        assert ap > average_precision_score(wrong, -right) + 0.05
    assert abs(score[others].mean() - (~wrong).mean()) < 0.05
    best = [(each.proposal(0, N, None) == truth)[others].mean() for each in (before, after)]
    assert best[1] > max(best[0], 1.0 - wrong.mean()) + 0.05
    cosine = after.cosines(0, N)
    assert ((cosine >= -1.0001) & (cosine <= 1.0001)).all()
    assert cosine[others][~wrong].mean() > cosine[others][wrong].mean() + 0.2


def test_what_was_decided_counts_and_not_that_something_was(
    facts: base.DetectorInputs, truth: np.ndarray
) -> None:
    """A person who calls right wrong and wrong right about three classes turns the others upside down."""
    wrong, others = facts.labels != truth, facts.labels >= 3
    some = decided(facts, truth, 300, 3)
    assert some.checked is not None
    turned = np.where(some.checked >= 0, 1 - some.checked, -1).astype(np.int8)
    score = fitted(dataclasses.replace(some, checked=turned, labels=facts.labels)).score(0, N)
    assert roc_auc_score(wrong[others], -score[others]) < 0.3


def test_the_first_decisions_leave_the_centroids_half_of_the_say(
    facts: base.DetectorInputs, truth: np.ndarray
) -> None:
    order = [
        rankdata(each.score(0, N))
        for each in (fitted(facts), fitted(decided(facts, truth, 25)), fitted(decided(facts, truth, 400)))
    ]
    kin = [np.corrcoef(order[0], each)[0, 1] for each in order[1:]]
    assert 1 - kin[0] > 0.02
    assert 1 - kin[0] < 0.8 * (1 - kin[1])


def test_threads_change_no_byte(facts: base.DetectorInputs, truth: np.ndarray) -> None:
    some = decided(facts, truth, 100)
    first = fitted(dataclasses.replace(some, threads=1))
    second = fitted(dataclasses.replace(some, threads=3))
    assert first.score(0, N).tobytes() == second.score(0, N).tobytes()
    for name, array in first.arrays().items():
        assert array.tobytes() == second.arrays()[name].tobytes(), name


def test_a_refit_goes_on_from_what_was_kept_unless_the_embedding_is_another(
    facts: base.DetectorInputs, truth: np.ndarray
) -> None:
    wrong = facts.labels != truth
    first = fitted(decided(facts, truth, 150))
    more = dataclasses.replace(decided(facts, truth, 170), kept={"cleannet": first.arrays()})
    second = fitted(more)
    assert second.attributes()["steps"] == SMALL.refit_steps
    ap = [average_precision_score(wrong, -each.score(0, N)) for each in (first, second)]
    assert ap[1] > ap[0] - 0.02
    assert facts.embeddings is not None
    turned = dataclasses.replace(more, embeddings=facts.embeddings[:, ::-1].copy())
    assert fitted(turned).attributes()["steps"] == SMALL.steps


def test_few_or_one_sided_decisions_train_nothing(facts: base.DetectorInputs, truth: np.ndarray) -> None:
    few = decided(facts, truth, cleannet.LEAST - 1)
    right = decided(facts, truth, 200)
    one_sided = dataclasses.replace(right, checked=np.where(right.checked == 1, 1, -1).astype(np.int8))
    for each in (few, one_sided):
        assert fitted(each).attributes()["steps"] == 0
    assert not CleanNet.feasible(dataclasses.replace(facts, fold=np.zeros(N, dtype=np.int8)))


def test_excluded_samples_are_only_known_to_be_wrong(facts: base.DetectorInputs, truth: np.ndarray) -> None:
    some = decided(facts, truth, 200)
    gone = np.flatnonzero(some.checked == 0)
    labels, fold = some.labels.copy(), some.fold.copy()
    labels[gone], fold[gone] = -1, -1
    detector = fitted(dataclasses.replace(some, labels=labels, fold=fold))
    score = detector.score(0, N)
    assert detector.attributes()["decisions"] == 200
    assert score[gone].mean() < score[some.checked == 1].mean() - 0.4


def test_cancel_stops_the_networks(facts: base.DetectorInputs, truth: np.ndarray) -> None:
    with pytest.raises(Cancelled):
        CleanNet(decided(facts, truth, 100)).fit_with_noise(T, [], lambda share: None, lambda: True)


def test_exponents_find_the_evidence_and_their_slope_is_right() -> None:
    rng = np.random.default_rng(0)
    planes = np.log(rng.dirichlet(np.ones(4), size=(2, 400)))
    labels = np.array([rng.choice(4, p=np.exp(row)) for row in planes[0]], dtype=np.int32)
    named = np.ones(400, dtype=bool)
    weights = fit_pool_weights(planes, labels, named, np.array([0.5, 0.5]), 0.5)
    assert weights[0] > 0.8
    assert abs(weights[1]) < 0.2
    labels[:100] = (labels[:100] + 1) % 4
    named[:100] = False
    objective = Objective(planes, labels, named, np.array([0.5, 0.5]), 0.5)
    at = np.array([0.7, 0.3])
    gap = check_grad(lambda w: objective(w)[0], lambda w: objective(w)[1], at)
    assert gap < 1e-3 * np.abs(objective(at)[1]).max()
    np.testing.assert_array_equal(fit_pool_weights(planes[:, :0], labels[:0], named[:0], at, 0.5), at)
