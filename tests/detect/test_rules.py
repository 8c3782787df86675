"""The single rules: pruning, CSG falls, copies, SimiFeat."""

from __future__ import annotations

import numpy as np
import pytest
from cleanlab.filter import find_label_issues

from labeltui import csg, noise
from labeltui.detect import base, confident, copies, csgfall, simifeat
from labeltui.errors import UsageError

K = 4


def world(n: int = 1500, rate: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, noisy labels, and probabilities that lean to the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, K, size=n).astype(np.int32)
    labels, _ = noise.symmetric(truth, rate, seed, K)
    z = rng.normal(size=(n, K))
    z[np.arange(n), truth] += 2.5
    p = np.exp(z)
    return truth, labels, (p / p.sum(axis=1, keepdims=True)).astype(np.float32)


# ---------------------------------------------------------------------------------- confident learning


@pytest.mark.parametrize("rule", confident.RULES)
def test_pruning_rules_are_the_published_ones(rule: str) -> None:
    _, labels, p = world()
    ours = confident.prune(labels, p, rule)
    theirs = find_label_issues(labels, p.astype(np.float64), filter_by=rule, n_jobs=1)
    # The peer rounds the joint to whole counts and drops samples whose largest probability is the label's.
    if rule in ("prune_by_class", "prune_by_noise_rate", "both"):
        theirs_only, ours_only = theirs & ~ours, ours & ~theirs & (p.argmax(axis=1) != labels)
        assert theirs_only.sum() + ours_only.sum() <= 0.03 * theirs.sum() + 4
    else:
        np.testing.assert_array_equal(ours & (p.argmax(axis=1) != labels), theirs)
    assert ours.sum() > 100


def test_pruning_passes_over_what_has_no_label_and_names_a_wrong_rule() -> None:
    _, labels, p = world()
    labels[::3] = -1
    for rule in confident.RULES:
        assert not confident.prune(labels, p, rule)[::3].any()
    with pytest.raises(UsageError):
        confident.prune(labels, p, "prune")


def test_margins() -> None:
    p = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], dtype=np.float32)
    np.testing.assert_allclose(confident.margins(p, np.array([0, 1, -1])), [0.2, -0.2, 0.0], atol=1e-6)
    facts = base.Facts(np.array([0, 1, 0], dtype=np.int32), 3, np.ones(3, dtype=bool), p_head=p)
    detector = confident.Confident(facts)
    detector.fit()
    np.testing.assert_allclose(detector.score(0, 3), [0.6, 0.4, 0.15], atol=1e-6)


# ---------------------------------------------------------------------------------- fall of CSG


def graph_world() -> base.Facts:
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
    return base.Facts(labels, K, ok, indices, np.zeros((n, 12), dtype=np.float32))


def test_the_fall_of_overlap_and_csg_is_that_of_a_recount() -> None:
    facts = graph_world()
    detector = csgfall.CsgFall(facts)
    detector.fit()
    falls = detector.falls
    assert falls is not None
    indices = facts.indices[:, :10]
    labels = np.where(facts.ok, facts.labels, -1).astype(np.int32)
    before = csg.measure(indices, labels, K, 10)
    for s in [*range(8), 50, 119]:
        if not facts.judged[s]:
            assert falls.trace[s] == 0.0
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
            assert falls.best[s] == best
            assert falls.trace[s] == pytest.approx(before.overlap.sum() - found[best].overlap.sum(), abs=1e-6)
            assert falls.csg[s] == pytest.approx(before.csg - found[best].csg, abs=1e-6)
    score = detector.score(0, facts.n)
    judged = facts.judged
    assert (
        np.argsort(score[judged], kind="stable") == np.argsort(-falls.trace[judged], kind="stable")
    ).mean() > 0.9


def test_the_fall_speaks_of_the_given_label_where_a_person_changed_it() -> None:
    facts = graph_world()
    s = 20
    given = facts.labels.copy()
    given[s] = (facts.labels[s] + 1) % K
    detector = csgfall.CsgFall(
        base.Facts(facts.labels, K, facts.ok, facts.indices, facts.similarity, given=given)
    )
    detector.fit()
    direct = csgfall.CsgFall(base.Facts(given, K, facts.ok, facts.indices, facts.similarity))
    direct.fit()
    assert detector.falls.trace[s] == pytest.approx(direct.falls.trace[s], abs=1e-9)


def test_too_many_classes_keep_the_detector_out() -> None:
    facts = base.Facts(
        np.zeros(2, dtype=np.int32), 5000, np.ones(2, dtype=bool), np.array([[1], [0]], dtype=np.int32)
    )
    assert not csgfall.CsgFall.feasible(facts)


# ---------------------------------------------------------------------------------- copies


def test_copies_with_another_label_lower_the_score() -> None:
    labels = np.array([0, 0, 1, 2, 2, 1, 0, -1], dtype=np.int32)
    groups = np.array([7, 7, 7, 3, 3, 4, 9, 9], dtype=np.int32)
    facts = base.Facts(labels, 3, np.ones(8, dtype=bool), groups=groups)
    detector = copies.Duplicates(facts)
    detector.fit()
    np.testing.assert_allclose(detector.score(0, 8), [0.5, 0.5, 1 / 6, 0.75, 0.75, 0.5, 0.5, 0.5], atol=1e-6)
    assert detector.attributes()["conflicts"] == 1


# ---------------------------------------------------------------------------------- SimiFeat


def test_simifeat_flags_by_vote_and_by_rank() -> None:
    truth, labels, votes = world(4000, rate=0.2)
    wrong = labels != truth
    labels[:10] = -1
    voted = simifeat.by_vote(votes, labels)
    np.testing.assert_array_equal(voted[10:], votes.argmax(axis=1)[10:] != labels[10:])
    assert not voted[:10].any()
    t = np.full((K, K), 0.2 / 3) + np.eye(K) * (0.8 - 0.2 / 3)
    ranked = simifeat.by_rank(votes, labels, t, np.full(K, 1 / K))
    assert ranked.mean() == pytest.approx(0.2, abs=0.01)
    assert wrong[ranked].mean() > 0.8
    assert not ranked[:10].any()
