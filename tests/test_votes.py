"""Leave-one-out neighbour votes: what may vote, how it is weighed, and that copies confirm nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeltui._fast import reference, votes
from labeltui.errors import InputError

ALONE = np.arange(6, dtype=np.int32)


def row(*neighbours: int, n: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Lists in which only sample 0 has neighbours, at similarities .9, .8, ..."""
    indices = np.full((n, max(1, len(neighbours))), -1, np.int32)
    indices[0, : len(neighbours)] = neighbours
    similarity = np.tile(np.linspace(0.9, 0.4, indices.shape[1], dtype=np.float32), (n, 1))
    return indices, similarity


def test_equal_votes_and_smoothing() -> None:
    indices, similarity = row(1, 2, 3, 4)
    labels = np.array([0, 1, 1, 1, 2, 0], np.int32)
    p = votes.vote(indices, similarity, labels, ALONE, 3, k=4, smoothing=0.0)
    np.testing.assert_allclose(p[0], [0, 0.75, 0.25], atol=1e-7)
    p = votes.vote(indices, similarity, labels, ALONE, 3, k=4, smoothing=1.5)
    np.testing.assert_allclose(p[0], [0.5 / 5.5, 3.5 / 5.5, 1.5 / 5.5], rtol=1e-6)


def test_own_label_never_counts() -> None:
    indices, similarity = row(1, 2, 3)
    labels = np.array([0, 1, 1, 2, 2, 2], np.int32)
    before = votes.vote(indices, similarity, labels, ALONE, 3, k=3)
    labels[0] = 2
    assert votes.vote(indices, similarity, labels, ALONE, 3, k=3)[0].tobytes() == before[0].tobytes()


def test_a_copy_does_not_confirm_a_wrong_label() -> None:
    indices, _ = row(1, 2, 3, 4, 5)
    labels = np.array([0, 0, 0, 1, 1, 2], np.int32)
    # 1 and 2 are copies of 0; 3 and 4 are copies of each other.
    groups = np.array([7, 7, 7, 8, 8, 9], np.int32)
    assert votes.vote_counts(indices, labels, groups, 3, k=5)[0].tolist() == [0, 1, 1]
    assert votes.vote_counts(indices, labels, None, 3, k=5)[0].tolist() == [2, 2, 1]


def test_the_next_neighbours_step_in_for_those_passed_over() -> None:
    indices, _ = row(1, 2, -1, 3, 4, 5)
    labels = np.array([0, -1, 1, 1, 2, 2], np.int32)
    assert votes.vote_counts(indices, labels, ALONE, 3, k=3)[0].tolist() == [0, 2, 1]
    # An unlabelled copy does not speak for its group, a labelled one behind it does.
    groups = np.array([0, 1, 2, 1, 4, 5], np.int32)
    assert votes.vote_counts(indices, labels, groups, 3, k=2)[0].tolist() == [0, 2, 0]


def test_temperature_weighs_near_neighbours_more() -> None:
    indices, similarity = row(1, 2)
    labels = np.array([0, 1, 2, 0, 0, 0], np.int32)
    p = votes.vote(indices, similarity, labels, ALONE, 3, k=2, temperature=0.25, smoothing=0.0)[0]
    assert p[2] / p[1] == pytest.approx(np.exp(-0.5 / 0.25), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_without_votes_all_classes_are_equal(smoothing: float) -> None:
    indices, similarity = row()
    p = votes.vote(indices, similarity, np.zeros(6, np.int32), ALONE, 4, k=3, smoothing=smoothing)
    np.testing.assert_array_equal(p, np.float32(0.25))


@given(
    n=st.integers(1, 30),
    K=st.integers(1, 6),
    stored=st.integers(1, 12),
    k=st.integers(1, 14),
    temperature=st.sampled_from([None, 0.05, 1.0]),
    smoothing=st.sampled_from([0.0, 0.5, 3.0]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=80, deadline=None)
def test_votes_are_those_of_the_twin(
    n: int, K: int, stored: int, k: int, temperature: float | None, smoothing: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    indices = rng.integers(-1, n, (n, stored)).astype(np.int32)
    similarity = -np.sort(-rng.random((n, stored)).astype(np.float32), axis=1)
    labels = rng.integers(-1, K, n).astype(np.int32)
    groups = rng.integers(0, max(1, n // 2), n).astype(np.int32)
    p = votes.vote(indices, similarity, labels, groups, K, k, temperature, smoothing=smoothing)
    twin = reference.vote(indices, similarity, labels, groups, K, k, temperature, smoothing)
    np.testing.assert_allclose(p, twin, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    counted = votes.vote_counts(indices, labels, groups, K, k)
    ballots = [reference.ballot(indices, labels, groups, sample, k) for sample in range(n)]
    expected = [np.bincount(labels[indices[s, columns]], minlength=K) for s, columns in enumerate(ballots)]
    np.testing.assert_array_equal(counted, expected)


def test_blocks_and_threads_give_the_same_bytes() -> None:
    rng = np.random.default_rng(3)
    n = 3 * votes.LEAST_ROWS
    indices = rng.integers(0, n, (n, 12)).astype(np.int32)
    similarity = -np.sort(-rng.random((n, 12)).astype(np.float32), axis=1)
    labels = rng.integers(0, 5, n).astype(np.int32)
    groups = rng.integers(0, n // 2, n).astype(np.int32)
    whole = votes.vote(indices, similarity, labels, groups, 5, 10, 0.1, threads=1)
    assert votes.vote(indices, similarity, labels, groups, 5, 10, 0.1, threads=3).tobytes() == whole.tobytes()
    parts = [
        votes.vote(indices, similarity, labels, groups, 5, 10, 0.1, start=a, stop=b)
        for a, b in ((0, 1), (1, 5000), (5000, n))
    ]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    one, many = (votes.vote_counts(indices, labels, groups, 5, 10, threads=t) for t in (1, 3))
    assert one.tobytes() == many.tobytes()


def test_bad_arguments_are_refused() -> None:
    indices, similarity = row(1, 2)
    labels = np.zeros(6, np.int32)
    with pytest.raises(InputError, match="sample 0"):
        votes.vote(np.where(indices == 2, 6, indices), similarity, labels, ALONE, 2, 2)
    with pytest.raises(InputError, match="sample 0"):
        votes.vote_counts(indices, labels + 2, ALONE, 2, 2)
    with pytest.raises(InputError, match="temperature"):
        votes.vote(indices, similarity, labels, ALONE, 2, 2, temperature=0.0)
    with pytest.raises(InputError, match="smoothing"):
        votes.vote(indices, similarity, labels, ALONE, 2, 2, smoothing=-1.0)
    with pytest.raises(InputError, match="similarity"):
        votes.vote(indices, similarity[:, :1], labels, ALONE, 2, 2)
    with pytest.raises(InputError, match="rows lie"):
        votes.vote(indices, similarity, labels, ALONE, 2, 2, start=4, stop=7)
