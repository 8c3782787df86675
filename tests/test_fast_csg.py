"""The compiled class matrices against their numpy twins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeltui._fast import csg as kernels
from labeltui._fast import reference

NO_WEIGHTS = np.empty(0, np.int32)


def random_graph(
    n: int, n_classes: int, k: int, seed: int, missing: float = 0.1
) -> tuple[np.ndarray, np.ndarray]:
    """Neighbour lists without self, some rows -1 throughout and named by nobody, and labels with gaps."""
    rng = np.random.default_rng(seed)
    indices = np.stack([rng.permutation(n - 1)[:k] for _ in range(n)]).astype(np.int32)
    indices += indices >= np.arange(n)[:, None]
    gone = rng.random(n) < missing
    indices[gone[indices]] = -1
    indices[gone] = -1
    indices = np.take_along_axis(indices, np.argsort(indices < 0, axis=1, kind="stable"), axis=1)
    labels = rng.integers(-1, n_classes, n).astype(np.int32)
    return indices, labels


def reverse(indices: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    lists = [np.flatnonzero((indices[:, :k] == s).any(axis=1)) for s in range(len(indices))]
    pointer = np.concatenate([[0], np.cumsum([len(part) for part in lists])]).astype(np.int64)
    return pointer, np.concatenate(lists).astype(np.int32)


def counts(indices: np.ndarray, labels: np.ndarray, n_classes: int, k: int, first: int = 0) -> np.ndarray:
    T = np.zeros((n_classes, n_classes), np.int64)
    assert kernels.pooled_counts(indices, labels, NO_WEIGHTS, T, 0, len(labels), first, k) == -1
    return T


@given(
    n=st.integers(2, 60), n_classes=st.integers(1, 9), k=st.integers(1, 12), seed=st.integers(0, 2**32 - 1)
)
@settings(max_examples=60, deadline=None)
def test_counts_are_those_of_the_twin(n: int, n_classes: int, k: int, seed: int) -> None:
    k = min(k, n - 1)
    indices, labels = random_graph(n, n_classes, k, seed)
    np.testing.assert_array_equal(
        counts(indices, labels, n_classes, k), reference.pooled_counts(indices, labels, n_classes, k)
    )


@pytest.mark.parametrize("n_classes", [5, 130])  # 130: counted in place, without the small tables
def test_column_ranges_and_weights_add_up(n_classes: int) -> None:
    indices, labels = random_graph(300, n_classes, 10, seed=1)
    near, far = counts(indices, labels, n_classes, 4), counts(indices, labels, n_classes, 10, first=4)
    whole = reference.pooled_counts(indices, labels, n_classes, 10)
    np.testing.assert_array_equal(near + far, whole)
    weighted = np.zeros_like(whole)
    twice = np.full(300, 2, np.int32)
    twice[labels == 2] = 0
    kernels.pooled_counts(indices, labels, twice, weighted, 0, 300, 0, 10)
    whole[2] = 0
    np.testing.assert_array_equal(weighted, 2 * whole)


def test_a_neighbour_out_of_range_is_reported_with_its_row() -> None:
    indices, labels = random_graph(20, 3, 4, seed=2, missing=0)
    labels[:] = 0
    indices[7, 2] = 20
    T = np.zeros((3, 3), np.int64)
    assert kernels.pooled_counts(indices, labels, NO_WEIGHTS, T, 0, 20, 0, 4) == 7
    assert kernels.pooled_counts(indices, labels, NO_WEIGHTS, T, 8, 20, 0, 4) == -1


@pytest.mark.parametrize("K", [1, 2, 3, 7, 33])
def test_overlap_is_that_of_the_twin_on_every_path(K: int) -> None:
    rng = np.random.default_rng(K)
    S = rng.random((K, K)) * (rng.random((K, K)) < 0.6)
    results = []
    for wide in (0, -1):
        W = np.zeros((K, K))
        for start in range(3):
            kernels.overlap(S, np.ascontiguousarray(S.T), W, start, 3, wide)
        results.append(np.triu(W))
    np.testing.assert_allclose(results[0], np.triu(reference.overlap(S)), rtol=1e-13, atol=1e-15)
    assert results[0].tobytes() == results[1].tobytes()


@given(n=st.integers(2, 40), n_classes=st.integers(1, 8), k=st.integers(1, 8), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_live_counts_equal_a_rebuild_after_any_relabels(n: int, n_classes: int, k: int, seed: int) -> None:
    k = min(k, n - 1)
    indices, labels = random_graph(n, n_classes, k, seed)
    pointer, back = reverse(indices, k)
    rng = np.random.default_rng(seed)

    def build(current: np.ndarray, wide: int) -> tuple[kernels.LiveCounts, np.ndarray, np.ndarray]:
        T = reference.pooled_counts(indices, current, n_classes, k)
        listed = current[(indices[:, 0] >= 0) & (current >= 0)]
        sizes = np.bincount(listed, minlength=n_classes).astype(np.int64)
        return kernels.LiveCounts(T, current, sizes, indices, pointer, back, k, True, wide), T, sizes

    live, T, sizes = build(labels.copy(), wide=-1)
    start = live.fixed_W.copy()
    moves = []
    current = labels.copy()
    for sample, label in zip(rng.integers(0, n, 30), rng.integers(-1, n_classes, 30), strict=True):
        moves.append((int(sample), live.relabel(int(sample), int(label))))
        current[sample] = label
    rebuilt, T_rebuilt, sizes_rebuilt = build(current.copy(), wide=0)
    np.testing.assert_array_equal(T, T_rebuilt)
    np.testing.assert_array_equal(sizes, sizes_rebuilt)
    np.testing.assert_array_equal(live.fixed_W, rebuilt.fixed_W)
    np.testing.assert_array_equal(live.fixed_U.T, reference.fixed_similarity(T, kernels.FIXED_ONE))
    W = reference.overlap(live.fixed_U.T.astype(np.int64))
    np.testing.assert_array_equal(live.fixed_W, W)
    np.testing.assert_array_equal(live.overlap, W.sum(axis=1) - np.diag(W))
    for sample, label in reversed(moves):
        live.relabel(sample, label)
    np.testing.assert_array_equal(T, reference.pooled_counts(indices, labels, n_classes, k))
    np.testing.assert_array_equal(live.fixed_W, start)
