from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeltui import head, noise
from labeltui.errors import InputError
from labeltui.noise import shrinkage
from labeltui.noise.estimate import Anchors
from labeltui.noise.likelihood import NoiseFit, fit_noise
from labeltui.noise.shrinkage import Disagreements, directed_probability

K = 5


def some_labels(n: int = 2000, seed: int = 0) -> np.ndarray:
    labels = np.random.default_rng(seed).integers(-1, K, size=n).astype(np.int32)
    labels[:K] = np.arange(K)
    return labels


def similarity() -> np.ndarray:
    s = np.full((K, K), 0.05)
    s[0, 1] = s[1, 0] = 2.0
    s[4] = 0.0
    return s


def probabilities(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(K), size=n)


def transition() -> np.ndarray:
    t = np.eye(K) * 0.7
    for i in range(K):
        t[i, (i + 1) % K] = 0.2
        t[i, (i + 2) % K] += 0.1
    return t


MODELS = {
    "symmetric": lambda y, rate, seed: noise.symmetric(y, rate, seed, K),
    "pair_flip": lambda y, rate, seed: noise.pair_flip(y, rate, seed, K),
    "confusable": lambda y, rate, seed: noise.confusable(y, similarity(), rate, seed),
    "feature_dependent": lambda y, rate, seed: noise.feature_dependent(
        y, probabilities(len(y)), rate, seed, K
    ),
}


@pytest.mark.parametrize("model", MODELS)
@settings(max_examples=20, deadline=None)
@given(rate=st.floats(0.0, 1.0), seed=st.integers(0, 1000))
def test_the_rate_is_the_share_that_is_wrong(model: str, rate: float, seed: int) -> None:
    y = some_labels(300)
    before = y.copy()
    new, injected = MODELS[model](y, rate, seed)
    np.testing.assert_array_equal(y, before)
    np.testing.assert_array_equal(injected, new != y)
    assert injected.sum() == round(rate * (y >= 0).sum())
    assert (new[y < 0] == -1).all()
    assert new.dtype == np.int32
    assert new.max() < K


@pytest.mark.parametrize("model", MODELS)
def test_a_seed_repeats_and_another_differs(model: str) -> None:
    y = some_labels()
    first, again, other = (MODELS[model](y, 0.3, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.labels, again.labels)
    assert (first.injected != other.injected).any()


@pytest.mark.parametrize("model", MODELS)
def test_folds_of_the_same_seed_do_not_follow_the_noise(model: str) -> None:
    y = some_labels(6000)
    new, injected = MODELS[model](y, 0.4, 0)
    fold = head.folds(new, None, None, 5, 0)
    known = y >= 0
    share = [injected[known & (fold == k)].mean() for k in range(5)]
    np.testing.assert_allclose(share, 0.4, atol=0.06)


def test_symmetric_reaches_every_other_class_alike() -> None:
    y = np.zeros(40_000, dtype=np.int32)
    new, injected = noise.symmetric(y, 0.5, 0, K)
    share = np.bincount(new[injected], minlength=K) / injected.sum()
    assert share[0] == 0
    np.testing.assert_allclose(share[1:], 0.25, atol=0.02)


def test_pair_flip_goes_to_the_next_class() -> None:
    y = some_labels()
    new, injected = noise.pair_flip(y, 0.4, 0, K)
    np.testing.assert_array_equal(new[injected], (y[injected] + 1) % K)


def test_class_dependent_counts_match_the_matrix_to_one_sample() -> None:
    y = some_labels(5000)
    t = transition()
    new, _ = noise.class_dependent(y, t, 3)
    for i in range(K):
        counts = np.bincount(new[y == i], minlength=K)
        assert (np.abs(counts - t[i] * (y == i).sum()) <= 1.0).all()


def test_confusable_follows_the_similarity_and_strength_weakens_it() -> None:
    y = np.zeros(10_000, dtype=np.int32)
    strong = noise.confusable(y, similarity(), 0.5, 0)
    weak = noise.confusable(y, similarity(), 0.5, 0, strength=0.0)
    assert (strong.labels[strong.injected] == 1).mean() > 0.9
    assert abs((weak.labels[weak.injected] == 1).mean() - 0.25) < 0.03
    lonely = noise.confusable(np.full(1000, 4, dtype=np.int32), similarity(), 0.5, 0)
    assert set(lonely.labels[lonely.injected]) == {0, 1, 2, 3}


def test_feature_dependent_targets_depend_on_the_features() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(-2, 1, (1000, 8)), rng.normal(2, 1, (1000, 8))])
    y = np.zeros(2000, dtype=np.int32)
    new, injected = noise.feature_dependent(y, x, 0.5, 0, K)
    left, right = (
        np.bincount(new[h][injected[h]], minlength=K) / injected[h].sum()
        for h in (slice(1000), slice(1000, None))
    )
    assert np.abs(left - right).max() > 0.2
    x[7] = np.nan
    assert not noise.feature_dependent(y, x, 1.0, 0, K).injected[7]


def test_matched_follows_matrix_and_probabilities() -> None:
    y = some_labels(5000)
    p = probabilities(len(y))
    t = transition()
    new, injected = noise.matched(y, t, p, 0)
    np.testing.assert_array_equal(injected, new != y)
    for i in range(K):
        counts = np.bincount(new[y == i], minlength=K)
        assert (np.abs(counts - t[i] * (y == i).sum())[np.arange(K) != i] <= 1.0).all()
    rows = np.flatnonzero(injected)
    assert p[rows, new[rows]].mean() > 1.3 * p[np.flatnonzero(y >= 0)].mean()


def test_dilution_figures() -> None:
    # CIFAR-10N aggre and random1 by plain replacement errors, and symmetric 20/40/60/80 % over ten classes.
    for rate, alpha in (
        (0.20, 0.286),
        (0.40, 0.80),
        (0.60, 2.0),
        (0.80, 8.0),
        (0.0901, 0.111),
        (0.1723, 0.237),
    ):
        assert noise.dilution(rate, 10) == pytest.approx(alpha, abs=1e-3)
        assert noise.error_rate(noise.dilution(rate, 10), 10) == pytest.approx(rate)
    assert noise.dilution(0.5) == pytest.approx(1.0)
    with pytest.raises(InputError):
        noise.dilution(0.95, 10)


def test_plurality_gap() -> None:
    assert noise.plurality_gap(transition()) == pytest.approx(0.5)
    assert noise.plurality_gap([[0.4, 0.6], [0.0, 1.0]]) == pytest.approx(-0.2)


@pytest.mark.parametrize(
    "call",
    [
        lambda: noise.symmetric([0, 1], 1.5, 0, 2),
        lambda: noise.symmetric([0, 2], 0.5, 0, 2),
        lambda: noise.symmetric([0.5], 0.5, 0, 2),
        lambda: noise.symmetric([0, 0], 0.5, 0, 1),
        lambda: noise.class_dependent([0], [[0.5, 0.4], [0, 1]], 0),
        lambda: noise.confusable([0], [[0.0, -1.0], [0.0, 0.0]], 0.5, 0),
        lambda: noise.feature_dependent([0, 1], np.zeros((3, 2)), 0.5, 0, 2),
    ],
)
def test_broken_laws_are_named(call: object) -> None:
    with pytest.raises(InputError):
        call()  # type: ignore[operator]


# ------------------------------------------------------------------------------- estimates


def noisy_world(n: int = 20_000, sharp: float = 6.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right labels, labels by `transition`, probabilities of the right class with some doubt."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, K, size=n).astype(np.int32)
    given = noise.class_dependent(truth, transition(), 1).labels
    z = rng.normal(size=(n, K))
    z[np.arange(n), truth] += sharp
    right = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return truth, given, (right @ transition()).astype(np.float32)


def test_two_estimates_find_the_matrix_where_their_assumptions_hold() -> None:
    _, y, p = noisy_world()
    t = transition()
    np.testing.assert_allclose(noise.anchors(y, p), t, atol=0.06)
    joint, rate = noise.confident_joint(y, p)
    np.testing.assert_allclose(joint, t, atol=0.06)
    assert rate == pytest.approx(0.3, abs=0.04)


def test_the_confident_joint_is_the_published_one() -> None:
    from cleanlab.count import estimate_joint

    _, y, p = noisy_world(3000, sharp=3.0)
    p = p.astype(np.float64)
    joint = estimate_joint(y, p)  # given by right
    transition_matrix, rate = noise.confident_joint(y, p)
    # The peer rounds its counts to whole samples.
    np.testing.assert_allclose(transition_matrix, (joint / joint.sum(axis=0)).T, atol=2e-3)
    assert rate == pytest.approx(1 - np.trace(joint), abs=2e-3)


def test_anchors_do_not_depend_on_blocks_and_pass_over_missing_labels() -> None:
    _, y, p = noisy_world(2000)
    y[::7] = -1
    blocks = Anchors(y, K)
    for start in range(0, len(y), 300):
        blocks.add(start, p[start : start + 300])
    np.testing.assert_array_equal(blocks.matrix(), noise.anchors(y, p))
    np.testing.assert_allclose(blocks.matrix().sum(axis=1), 1.0)


def test_estimates_with_an_absent_class() -> None:
    _, y, p = noisy_world(2000)
    wide = np.concatenate([p, np.zeros((len(p), 1), dtype=np.float32)], axis=1)
    for matrix in (
        noise.anchors(y, wide),
        noise.confident_joint(y, wide)[0],
    ):
        assert matrix.shape == (K + 1, K + 1)
        np.testing.assert_allclose(matrix.sum(axis=1), 1.0)
    with pytest.raises(InputError):
        noise.anchors(y[:5], p)


def test_scaling_meets_the_rate() -> None:
    labels = np.repeat(np.arange(3), [100, 300, 600]).astype(np.int32)
    t = np.array([[0.9, 0.1, 0.0], [0.0, 1.0, 0.0], [0.0, 0.3, 0.7]])
    s = noise.scaled(t, labels, 0.1)
    np.testing.assert_allclose(s.sum(axis=1), 1.0)
    assert (1 - np.diag(s)) @ [0.1, 0.3, 0.6] == pytest.approx(0.1)
    assert s[2, 1] / s[0, 1] == pytest.approx(3.0)
    np.testing.assert_allclose((1 - np.diag(noise.scaled(np.eye(3), labels, 0.1))), 0.1)
    with pytest.raises(InputError):
        noise.scaled(t, labels, 0.0)


# ------------------------------------------------------------------------------- confusion or mistakes


def test_confusion_both_ways_is_not_taken_for_mistakes_and_one_way_is() -> None:
    rng = np.random.default_rng(0)
    k, size = 8, 200
    confusion = np.zeros((k, k))
    for a in range(0, k, 2):  # four pairs that look alike
        confusion[a, a + 1] = confusion[a + 1, a] = 0.15
    flips = np.roll(np.eye(k), 1, axis=1) * 0.2
    for one_way in (False, True):
        off = confusion + 0.02 / (k - 1) * (1 - np.eye(k)) + flips * one_way
        np.fill_diagonal(off, 0.0)
        counts = rng.poisson(off * size).astype(float)
        np.fill_diagonal(counts, size - counts.sum(axis=1))
        t = Disagreements([counts]).transition(0.05)
        np.testing.assert_allclose(t.sum(axis=1), 1.0)
        outside = t[~np.eye(k, dtype=bool)]
        if one_way:
            assert t[1, 2] > 0.12
            assert t[1, 2] > 3 * t[2, 1]
            assert t[3, 4] > 0.12
        else:  # as if every class were struck alike
            assert outside.max() < 1.3 * outside.min()


def test_counts_are_followed_as_far_as_the_structure_says() -> None:
    counts = np.array([[900.0, 90.0, 10.0], [90.0, 900.0, 10.0], [10.0, 10.0, 980.0]])
    found = Disagreements([counts])
    ratio = [t[0, 1] / t[0, 2] for t in (found.transition(0.1, structure) for structure in (0.0, 0.5, 1.0))]
    assert ratio[0] == pytest.approx(1.0)
    assert ratio[0] < ratio[1] < ratio[2] < 9.0
    for structure in (0.0, 1.0):  # the level is that of all labels
        assert 1 - np.diag(found.transition(0.05, structure)).mean() == pytest.approx(0.05, rel=0.01)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_few_anchors_give_a_matrix_all_the_same(k: int) -> None:
    t = Disagreements([np.zeros((k, k))]).transition(0.1, 1.0)
    np.testing.assert_allclose(t.sum(axis=1), 1.0)
    assert (t >= 0).all()


# ------------------------------------------------------------------------------- level and structure


def fitted(rate: float, n: int, pairs: bool = False, seed: int = 0, k: int = 8) -> NoiseFit:
    """Fit the noise of labels whose classes look alike two by two, and of which a fraction was made wrong."""
    rng = np.random.default_rng(seed)
    sure = rng.beta(4.0, 0.3, n)  # most samples are clear
    q = np.full((n, k), 1e-4)
    first = rng.integers(0, k, n)
    q[np.arange(n), first] = sure
    q[np.arange(n), first ^ 1] += 1 - sure  # the other class of the pair
    q /= q.sum(axis=1, keepdims=True)
    correct = (q.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)  # calibrated
    wrong = rng.random(n) < rate
    other = correct ^ 1 if pairs else (correct + rng.integers(1, k, n)) % k
    labels = np.where(wrong, other, correct).astype(np.int32)
    half = rng.integers(0, 2, n).astype(np.int8)
    counts = []
    for side in (0, 1):
        anchors = Anchors(np.where(half == side, labels, -1).astype(np.int32), k)
        anchors.add(0, q.astype(np.float32))
        counts.append(anchors.counts())
    return fit_noise(q.astype(np.float32), labels, half, counts)


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.1, 0.4])
def test_the_likelihood_finds_the_level_though_classes_look_alike(rate: float) -> None:
    found = fitted(rate, 6000)
    np.testing.assert_allclose(found.transition.sum(axis=1), 1.0)
    assert rate / 1.7 <= found.level <= max(1.7 * rate, 0.002)
    assert found.structure < 0.35


def test_structure_is_followed_where_labels_confirm_it() -> None:
    found = fitted(0.15, 6000, pairs=True)
    assert found.structure > 0.6
    off = found.transition * (1 - np.eye(8))
    partner = off[np.arange(8), np.arange(8) ^ 1]
    assert (partner > 0.6 * off.sum(axis=1)).all()


def test_few_labels_leave_the_level_between_what_is_possible() -> None:
    levels = [fitted(0.1, 120, seed=seed).level for seed in range(8)]
    assert max(levels) < 3 * min(levels)  # no lottery
    assert fitted(0.1, 0).level > 0.05  # the prior's


def test_the_anchors_of_a_half_are_judged_once_for_all_shapes_of_the_noise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Judged for each shape they took most of a small scan."""
    calls = []

    def counted(off: np.ndarray) -> np.ndarray:
        calls.append(off)
        return directed_probability(off)

    monkeypatch.setattr(shrinkage, "directed_probability", counted)
    fitted(0.05, 200)
    assert len(calls) == 4  # each half against the other, and both together


def test_equal_data_give_equal_noise() -> None:
    assert fitted(0.1, 400).transition.tobytes() == fitted(0.1, 400).transition.tobytes()
