"""The neighbour graph against its definition, and what is built from it."""

from __future__ import annotations

import numpy as np
import pytest

from labeltui import graph
from labeltui._fast import reference
from labeltui.errors import Cancelled, InputError, UsageError

METRICS = ("cosine", "inner_product", "euclidean")


def blobs(n: int, d: int, seed: int = 0, classes: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, d))
    return (centres[rng.integers(classes, size=n)] + 0.5 * rng.normal(size=(n, d))).astype(np.float32)


@pytest.mark.parametrize("metric", METRICS)
def test_equals_the_definition(metric: str) -> None:
    x = blobs(150, 37)
    got = graph.build(x, 12, metric=metric)
    indices, similarity = reference.knn_graph(x, 12, metric)
    np.testing.assert_array_equal(got.indices, indices)
    assert got.similarity.tobytes() == similarity.tobytes()
    assert got.exact
    assert got.proven + got.recomputed == 150


def test_ties_go_to_the_lower_index_and_self_is_left_out() -> None:
    x = np.repeat(np.eye(3, 4, dtype=np.float32), 5, axis=0)
    got = graph.build(x, 6)
    assert got.indices[7].tolist() == [5, 6, 8, 9, 0, 1]
    assert got.similarity[7].tolist() == [1, 1, 1, 1, 0, 0]


def test_k_is_cut_to_the_other_rows() -> None:
    got = graph.build(np.eye(3, dtype=np.float32) + 1, 50)
    assert got.k == 2
    assert got.indices.shape == (3, 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_without_similarity_are_refused_by_row(bad: float) -> None:
    x = blobs(30, 4)
    x[[3, 17], 2] = bad
    with pytest.raises(InputError, match="3, 17"):
        graph.build(x, 3)


def test_zero_rows_are_refused_where_they_have_no_direction() -> None:
    x = blobs(30, 4)
    x[[5, 6]] = 0
    with pytest.raises(InputError, match="5, 6"):
        graph.build(x, 3)
    assert graph.build(x, 3, metric="euclidean").indices[5, 0] == 6


@pytest.mark.parametrize(
    ("x", "k", "options", "error"),
    [
        (np.zeros(5, np.float32), 1, {}, InputError),
        (np.zeros((0, 4), np.float32), 1, {}, InputError),
        (np.array([["a"]]), 1, {}, InputError),
        (np.ones((4, 2), np.float32), 0, {}, InputError),
        (np.ones((4, 2), np.float32), 1, {"metric": "hamming"}, UsageError),
        (np.ones((4, 2), np.float32), 1, {"backend": "magic"}, UsageError),
        (np.ones((4, 2), np.float32), 1, {"rows": [4]}, InputError),
    ],
)
def test_bad_arguments(x: np.ndarray, k: int, options: dict, error: type[Exception]) -> None:
    with pytest.raises(error):
        graph.build(x, k, **options)


def test_cancel_is_asked_and_obeyed() -> None:
    with pytest.raises(Cancelled):
        graph.build(blobs(100, 8), 3, cancel=lambda: True)


def test_rows_and_expand_agree_with_leaving_rows_out() -> None:
    x = blobs(60, 9)
    x[[0, 31]] = np.nan
    rows = np.setdiff1d(np.arange(60), [0, 31])
    some = graph.build(x, 5, rows=rows)
    assert some.indices.tobytes() == graph.build(x[rows], 5).indices.tobytes()
    whole = graph.expand(some, rows, 60)
    assert whole.indices[0].tolist() == [-1] * 5
    np.testing.assert_array_equal(whole.indices[rows], rows[some.indices])


def test_reverse_lists_name_everyone_who_lists_a_row() -> None:
    got = graph.build(blobs(80, 6), 10)
    for k in (1, 4, 10):
        for mine, theirs in zip(got.reverse(k), reference.reverse_lists(got.indices, k), strict=True):
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs)
