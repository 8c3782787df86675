from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cleanlab.rank import get_label_quality_scores
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

from labeltui import detect, graph, head, noise
from labeltui.detect import base, calibrate, registry
from labeltui.detect.ensemble import fit_weights, geometric_pool, log_probabilities
from labeltui.detect.run import top_k
from labeltui.errors import Cancelled, InputError, UsageError

DIGITS = load_digits()
TRUTH = DIGITS.target.astype(np.int32)
ALL = ("neighbours", "nearest", "head", "cleannet", "corrected", "confident", "csg", "blend")


def digits(seed: int) -> base.DetectorInputs:
    """Digits with 12 % of the labels wrong, toward what looks alike."""
    x = (DIGITS.data / 16).astype(np.float32)
    g = graph.build(x, k=50)
    alike = np.zeros((10, 10))
    np.add.at(alike, (np.repeat(TRUTH, 10), TRUTH[g.indices[:, :10]].ravel()), 1)
    labels, _ = noise.confusable(TRUTH, alike + 1, 0.12, seed)
    fold = head.folds(labels, None, None, 5, 0)
    p = head.out_of_fold(x, labels, fold, 10).p
    return base.DetectorInputs(
        labels, 10, np.ones(len(x), dtype=bool), g.indices, g.similarity, None, p, fold=fold, embeddings=x
    )


@pytest.fixture(scope="module")
def facts() -> base.DetectorInputs:
    return digits(0)


@pytest.fixture(scope="module")
def findings(facts: base.DetectorInputs) -> base.Findings:
    return detect.run(facts)


@pytest.fixture(scope="module")
def quick(facts: base.DetectorInputs) -> base.DetectorInputs:
    """Without embeddings: no detector trains anything."""
    return dataclasses.replace(facts, embeddings=None)


def ap(facts: base.DetectorInputs, score: np.ndarray) -> float:
    return float(average_precision_score(facts.labels != TRUTH, -score))


# ------------------------------------------------------------------------------------- quality


def test_the_blend_finds_planted_errors_better_than_each_part_and_than_the_peers(
    facts: base.DetectorInputs, findings: base.Findings
) -> None:
    blend = ap(facts, findings.blend)
    assert blend > 0.97
    for name, score in findings.scores.items():
        assert blend > ap(facts, score) - 0.005, name
    drawn = [(facts, findings), *((other, detect.run(other)) for other in map(digits, (1, 2)))]
    for method in ("self_confidence", "normalized_margin"):
        # Three draws of the noise: among 216 errors of one draw, a few that change places are .005 of AP.
        ahead = [
            ap(of, found.blend)
            - ap(of, get_label_quality_scores(of.labels, of.p_head.astype(np.float64), method=method))
            for of, found in drawn
        ]
        assert np.mean(ahead) > 0, method
    flagged = findings.suggest_label[:, 0] != facts.labels
    wrong = facts.labels != TRUTH
    assert wrong[flagged].mean() > 0.95
    assert flagged[wrong].mean() > 0.87  # errors toward classes that look alike may be their confusion
    assert (findings.suggest_label[:, 0][wrong & flagged] == TRUTH[wrong & flagged]).mean() > 0.9


@pytest.mark.parametrize(
    "names",
    [
        ("head",),
        ("neighbours",),
        ("nearest", "csg"),
        ("neighbours", "head"),
        ("confident",),
        ("nearest", "given_probs"),
    ],
)
def test_the_blend_makes_do_with_few_detectors(quick: base.DetectorInputs, names: tuple[str, ...]) -> None:
    told = dataclasses.replace(quick, pred_probs=quick.p_head if "given_probs" in names else None)
    found = detect.run(told, only=names)
    if names == ("confident",):  # scores, but no probabilities: nothing to blend
        assert (found.blend == base.UNKNOWN).all()
        assert ap(quick, found.scores["confident"]) > 0.8
        return
    blend = ap(quick, found.blend)
    assert blend > 0.8
    assert blend > max(ap(quick, score) for score in found.scores.values()) - 0.01
    assert np.isfinite(found.blend).all()
    right = quick.labels == TRUTH
    assert calibrate.brier_skill(found.blend, right) > 0.4
    assert calibrate.calibration_error(found.blend, right) < 0.06


def test_pool_weights_follow_the_evidence() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, size=2000).astype(np.int32)
    good = np.full((2000, 4), 0.1, dtype=np.float32)
    good[np.arange(2000), np.where(rng.random(2000) < 0.7, labels, rng.integers(0, 4, 2000))] = 0.7
    chance = rng.dirichlet(np.ones(4), size=2000).astype(np.float32)
    logs = log_probabilities([chance, good])
    weights = fit_weights(logs, labels)
    assert weights[1] > 10 * weights[0]

    def loss(w: np.ndarray) -> float:
        return float(-np.log(geometric_pool(logs, w)[np.arange(2000), labels]).mean())

    assert (
        loss(weights)
        <= min(loss(np.array([0.5, 0.5])), loss(np.array([0.0, 1.0])), loss(weights * 1.1)) + 1e-6
    )
    np.testing.assert_allclose(geometric_pool(logs, weights).sum(axis=1), 1.0, atol=1e-5)


def test_where_classes_overlap_more_than_labels_are_wrong_their_overlap_is_not_taken_for_errors() -> None:
    rng = np.random.default_rng(7)
    truth = rng.integers(0, 6, 3000).astype(np.int32)
    x = ((rng.normal(size=(6, 16)) * 0.5)[truth] + rng.normal(size=(3000, 16))).astype(np.float32)
    labels, injected = noise.symmetric(truth, 0.01, 0, 6)
    g = graph.build(x, k=50)
    fold = head.folds(labels, None, None, 5, 0)
    p = head.out_of_fold(x, labels, fold, 6).p
    assert (p.argmax(axis=1) != truth).mean() > 0.05  # the features themselves confuse more than 1 %
    facts = base.DetectorInputs(
        labels, 6, np.ones(3000, dtype=bool), g.indices, g.similarity, None, p, fold=fold, embeddings=x
    )
    findings = detect.run(facts, only=("neighbours", "nearest", "head", "corrected"))

    def of(score: np.ndarray) -> float:
        return float(average_precision_score(injected, -score))

    assert of(findings.blend) > max(of(score) for score in findings.scores.values())
    assert (1 - findings.blend).sum() < 2.7 * injected.sum()
    off = findings.transition[~np.eye(6, dtype=bool)]
    assert off.max() < 3 * off.min()


@pytest.mark.parametrize(("rate", "least"), [(0.8, 0.98), (0.5, 0.99)])
def test_most_labels_wrong_are_found_by_spreading_labels_and_by_centroids(rate: float, least: float) -> None:
    x = (DIGITS.data / 16).astype(np.float32)
    labels, _ = noise.symmetric(TRUTH, rate, 0, 10)
    g = graph.build(x, k=50)
    fold = head.folds(labels, None, None, 5, 0)
    p = head.out_of_fold(x, labels, fold, 10, spec=head.HeadSpec(epochs=4)).p
    facts = base.DetectorInputs(
        labels, 10, np.ones(len(x), dtype=bool), g.indices, g.similarity, None, p, embeddings=x, fold=fold
    )
    names = ("neighbours", "nearest", "head", "propagation", "centroids")
    findings = detect.run(facts, only=names)
    scores = {name: ap(facts, score) for name, score in findings.scores.items()}
    assert set(scores) == set(names)
    assert ap(facts, findings.blend) > max(least, *(score - 0.003 for score in scores.values()))


@pytest.mark.parametrize("name", ["propagation", "centroids"])
def test_spread_labels_and_centroids_do_not_see_the_labels_of_the_own_fold(
    facts: base.DetectorInputs, name: str
) -> None:
    def scores(labels: np.ndarray) -> np.ndarray:
        detector = registry.table()[name](dataclasses.replace(facts, labels=labels, p_head=None))
        detector.fit_with_noise(np.eye(10), [], lambda share: None, None)
        return np.log(detector.probabilities(0, facts.n))

    other = facts.labels.copy()
    mine = facts.fold == 2
    other[mine] = (other[mine] + 1) % 10
    before, after = scores(facts.labels), scores(other)
    spread = [np.ptp(found[mine], axis=1) for found in (before, after)]
    np.testing.assert_allclose(
        spread[0] / spread[1], np.median(spread[0] / spread[1]), rtol=1e-3
    )  # temperature
    np.testing.assert_array_equal(before[mine].argmax(axis=1), after[mine].argmax(axis=1))
    assert (before[~mine].argmax(axis=1) != after[~mine].argmax(axis=1)).any()


def test_the_corrected_head_learns_right_labels_from_wrong_ones() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, size=3000).astype(np.int32)
    x = (rng.normal(size=(4, 16)) * 1.5)[truth].astype(np.float32) + rng.normal(size=(3000, 16)).astype(
        np.float32
    )
    turn = np.eye(4) * 0.6 + np.roll(np.eye(4), 1, axis=1) * 0.4
    labels, _ = noise.class_dependent(truth, turn, 0)
    fold = head.folds(labels, None, None, 3, 0)
    spec = head.HeadSpec(hidden=64, epochs=4)
    p = head.out_of_fold(x, labels, fold, 4, spec=spec).p
    facts = base.DetectorInputs(
        labels, 4, np.ones(3000, dtype=bool), p_head=p, embeddings=x, fold=fold, head=spec
    )
    findings = detect.run(facts)
    np.testing.assert_allclose(findings.transition, turn, atol=0.12)
    corrected = registry.table()["corrected"](facts)
    corrected.fit_with_noise(turn, [], lambda share: None, None)
    own = np.arange(3000), truth
    assert corrected.probabilities(0, 3000)[own].mean() > p[own].mean() + 0.15
    assert (findings.suggest_label[:, 0] == truth).mean() > (labels == truth).mean() + 0.2


# ------------------------------------------------------------------------------------- scores


def test_scores_and_suggestions_keep_their_promises(
    facts: base.DetectorInputs, findings: base.Findings
) -> None:
    arrays = detect.datasets(findings)
    assert set(arrays) == {
        *(f"scores/{name}" for name in ALL),
        "suggest/label",
        "suggest/p",
        "noise/transition",
        *(f"proposals/{name}" for name in ("head", "cleannet", "corrected", "csg")),
        "detectors/cleannet/cosine",
    }
    right = arrays["proposals/head"] == TRUTH
    assert right.mean() > 0.95
    np.testing.assert_array_equal(arrays["proposals/head"], facts.p_head.argmax(axis=1))
    for name, array in arrays.items():
        if name.startswith("scores/"):
            assert array.dtype == np.float32
            assert ((array >= 0) & (array <= 1)).all()
    labels, p = findings.suggest_label, findings.suggest_p
    assert labels.dtype == np.int32
    assert p.dtype == np.float32
    assert labels.shape == p.shape == (facts.n, 5)
    flagged = labels[:, 0] != facts.labels
    assert (np.diff(p[~flagged], axis=1) <= 0).all()
    rest = np.where(
        labels[flagged] == facts.labels[flagged, None], 0.0, p[flagged]
    )  # another label comes first
    assert (rest[:, :1] >= rest).all()
    threshold = float(findings.attrs["blend"]["flag_threshold"])
    assert 1 / 3 <= threshold <= 0.5
    assert np.array_equal(flagged, 1 - findings.blend > threshold)
    assert all(len(set(row)) == 5 for row in labels)
    inside = labels == facts.labels[:, None]
    np.testing.assert_allclose(p[inside], findings.blend[inside.any(axis=1)])
    assert set(detect.attributes(findings)) == {f"scores/{name}" for name in ALL}


def test_runs_repeat_on_any_number_of_threads_and_any_block(
    quick: base.DetectorInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = detect.datasets(detect.run(quick))
    monkeypatch.setattr(base, "_BLOCK_VALUES", 3000)
    second = detect.datasets(detect.run(dataclasses.replace(quick, threads=3)))
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)


def test_samples_that_cannot_be_judged(quick: base.DetectorInputs) -> None:
    labels = quick.labels.copy()
    labels[3] = -1
    labels[4] = 10  # the only one of its class
    labels[6] = labels[7] = 11  # two copies of one image are one witness
    groups = np.arange(quick.n, dtype=np.int32)
    groups[7] = 6
    ok = quick.ok.copy()
    ok[0] = ok[1] = False
    labels[1] = -1
    indices, similarity = quick.indices.copy(), quick.similarity.copy()
    indices[:2], similarity[:2] = -1, 0.0
    p = np.full((quick.n, 12), 1e-4, dtype=np.float32)
    p[:, :10] = quick.p_head
    broken = dataclasses.replace(
        quick, labels=labels, n_classes=12, ok=ok, groups=groups, indices=indices, similarity=similarity,
        p_head=p / p.sum(axis=1, keepdims=True),
    )  # fmt: skip
    findings = detect.run(broken)
    for row in (0, 1, 3, 4, 6, 7):
        assert findings.blend[row] == 0.5
        assert all(score[row] == 0.5 for score in findings.scores.values())
    assert findings.suggest_label[0].tolist() == [labels[0], -1, -1, -1, -1]
    assert findings.suggest_label[1].tolist() == [-1] * 5
    assert (findings.suggest_p[:2] == 0).all()
    assert findings.suggest_label[3, 0] == TRUTH[3]
    for row in (4, 6, 7):
        assert findings.suggest_label[row, 0] == labels[row]
        assert TRUTH[row] in findings.suggest_label[row]
        assert (np.diff(findings.suggest_p[row]) <= 0).all()
    assert all(np.isfinite(array).all() for array in detect.datasets(findings).values())


def test_the_only_sample_of_a_class_keeps_what_the_users_own_model_says(quick: base.DetectorInputs) -> None:
    labels = quick.labels.copy()
    labels[4], labels[5] = 10, 11  # each the only one of its class
    p = np.full((quick.n, 12), 1e-4, dtype=np.float32)
    p[:, :10] = quick.p_head
    own = p.copy()
    own[4], own[5] = 1e-3, 1e-3
    own[4, 10] = own[5, TRUTH[5]] = 0.989  # the model agrees with the one and contradicts the other
    given = dataclasses.replace(quick, labels=labels, n_classes=12, p_head=p, pred_probs=own)
    findings = detect.run(given)
    assert findings.scores["given_probs"][4] == pytest.approx(0.989)
    assert findings.blend[4] > 0.9
    assert findings.suggest_label[4, 0] == 10
    assert findings.blend[5] < 0.3
    assert findings.suggest_label[5, 0] == TRUTH[5]
    assert findings.scores["head"][4] == findings.scores["head"][5] == 0.5
    without = detect.run(given, only=("head", "neighbours"))
    assert (without.blend[4:6] == 0.5).all()
    assert without.suggest_label[4:6, 0].tolist() == [10, 11]


def test_fewer_classes_than_suggestions() -> None:
    labels = np.array([0, 1, 0, 1, 1], dtype=np.int32)
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9], [0.4, 0.6], [0.3, 0.7]], dtype=np.float32)
    findings = detect.run(base.DetectorInputs(labels, 2, np.ones(5, dtype=bool), p_head=p))
    assert findings.suggest_label[:, :2].tolist() == [[0, 1], [1, 0], [1, 0], [1, 0], [1, 0]]
    assert (findings.suggest_label[:, 2:] == -1).all()
    assert np.flatnonzero(findings.suggest_label[:, 0] != labels).tolist() == [2]


def test_without_any_evidence_nothing_is_flagged() -> None:
    labels = np.array([0, 1, -1], dtype=np.int32)
    findings = detect.run(base.DetectorInputs(labels, 2, np.ones(3, dtype=bool)))
    assert findings.scores == {}
    assert (findings.blend == 0.5).all()
    assert findings.suggest_label[:, 0].tolist() == [0, 1, -1]


@pytest.mark.parametrize("k", [3, 40, 200])
def test_top_takes_the_largest_with_ties_by_class(k: int) -> None:
    p = np.random.default_rng(0).integers(0, 6, size=(50, k)).astype(np.float32)
    expected = np.argsort(-p, axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(top_k(p, 5), expected)


# ------------------------------------------------------------------------------------- registry


@pytest.fixture
def empty_slot() -> Iterator[None]:
    before = dict(registry._TABLE)
    yield
    registry._TABLE.clear()
    registry._TABLE.update(before)


def test_another_detector_joins_and_an_ill_fed_one_stays_out(
    quick: base.DetectorInputs, empty_slot: None
) -> None:
    @detect.register
    class Alphabet(detect.Detector):
        name = "alphabet"
        title = "scores by class"
        needs = frozenset({"groups"})

        def probabilities(self, start: int, stop: int) -> None:
            return None

        def score(self, start: int, stop: int) -> np.ndarray:
            return self.inputs.labels[start:stop].astype(np.float32) / 4  # above 1 for some: is cut

    facts = dataclasses.replace(quick, groups=np.arange(quick.n, dtype=np.int32))
    findings = detect.run(facts)
    assert findings.scores["alphabet"].max() == 1.0
    np.testing.assert_array_equal(
        findings.blend, detect.run(quick, only=["head", "nearest", "neighbours"]).blend
    )
    assert "alphabet" not in detect.run(dataclasses.replace(facts, groups=None)).scores
    with pytest.raises(UsageError):

        @detect.register
        class Copy(Alphabet):
            name = "alphabet"


def test_the_detector_in_the_docs_takes_part(quick: base.DetectorInputs, empty_slot: None) -> None:
    page = Path(__file__).parents[2] / "docs" / "extending.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    exec(compile(block, str(page), "exec"), {})
    findings = detect.run(quick)
    assert ap(quick, findings.scores["three_nearest"]) > 0.8
    assert "three_nearest" in str(findings.attrs["blend"])


def test_only_asks_for_known_and_fed_detectors(quick: base.DetectorInputs) -> None:
    assert set(detect.run(quick, only=["nearest"]).scores) == {"nearest"}
    for name in ("nonsense", "given_probs"):
        with pytest.raises(UsageError):
            detect.run(quick, only=[name])


def test_user_probabilities_take_part(quick: base.DetectorInputs) -> None:
    given = np.full((quick.n, 10), 0.01, dtype=np.float32)
    given[np.arange(quick.n), TRUTH] = 0.91
    findings = detect.run(dataclasses.replace(quick, pred_probs=given))
    assert ap(quick, findings.scores["given_probs"]) > 0.999
    assert ap(quick, findings.blend) > 0.99


def test_progress_ends_at_one_and_cancel_stops(
    quick: base.DetectorInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "_BLOCK_VALUES", 3000)
    seen: list[float] = []
    detect.run(quick, seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) > 3
    with pytest.raises(Cancelled):
        detect.run(quick, cancel=lambda: True)


def test_facts_refuse_shapes_that_do_not_fit(facts: base.DetectorInputs) -> None:
    for wrong in ({"p_head": facts.p_head[:, :5]}, {"ok": facts.ok[:5]}, {"labels": facts.labels + 1}):
        with pytest.raises(InputError):
            dataclasses.replace(facts, **wrong)
