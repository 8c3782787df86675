"""A graph that is extended is the one that is built from all rows, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest

from labeltui.errors import Cancelled, InputError
from labeltui.graph import build, extend


def data(n: int, d: int, kind: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(8, d))[rng.integers(8, size=n)] * 2 + rng.normal(size=(n, d))
    if kind == "lattice":  # many rows at one distance
        x = np.round(x)
        x[:, 0] += 0.5
    if kind == "duplicates":
        x[rng.integers(n, size=n // 3)] = x[rng.integers(n, size=n // 3)]
        x[n // 2 : n // 2 + 70] = x[5]
    return x.astype(np.float32)


def extended(x: np.ndarray, fresh: np.ndarray, gone: int, k: int, metric: str, **more: object) -> tuple:
    """Build a graph of all rows but the fresh ones, and some others that are gone by now; then extend it."""
    n = len(x)
    everything = np.concatenate([x, data(gone, x.shape[1], "", 9)]) if gone else x
    old = np.sort(np.random.default_rng(1).permutation(np.r_[np.flatnonzero(~fresh), n : n + gone]))
    before = build(everything, k, metric, rows=old)
    place = np.where(old < n, old, -1)
    lists = np.full((n, before.k), -1, np.int32)
    lists[place[place >= 0]] = place[before.indices][place >= 0]
    whole = (lists >= 0).all(1)
    return extend(x, lists, whole, fresh, k, metric, **more), build(x, k, metric)  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "inner_product"])
@pytest.mark.parametrize("kind", ["clusters", "lattice", "duplicates"])
@pytest.mark.parametrize("gone", [0, 5])
def test_the_same_bytes_as_a_graph_of_all(metric: str, kind: str, gone: int) -> None:
    x = data(900, 12, kind)
    fresh = np.zeros(900, bool)
    fresh[np.random.default_rng(2).choice(900, 20, replace=False)] = True
    found, expected = extended(x, fresh, gone, 10, metric)
    assert found.indices.tobytes() == expected.indices.tobytes()
    assert found.similarity.tobytes() == expected.similarity.tobytes()
    assert found.exact


def test_most_rows_are_not_searched_anew() -> None:
    x = data(2000, 16, "clusters")
    fresh = np.arange(2000) % 100 == 7
    found, expected = extended(x, fresh, 0, 50, "cosine")
    assert found.indices.tobytes() == expected.indices.tobytes()
    assert found.similarity.tobytes() == expected.similarity.tobytes()
    assert found.n_fallback == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_some_rows_of_an_array_and_any_number_of_threads(dtype: type) -> None:
    x = data(700, 8, "duplicates").astype(dtype)
    chosen = np.flatnonzero(np.arange(700) % 7)
    fresh = np.zeros(len(chosen), bool)
    fresh[::60] = True
    old = build(x, 10, rows=chosen[~fresh])
    lists = np.full((len(chosen), 10), -1, np.int32)
    lists[~fresh] = np.flatnonzero(~fresh)[old.indices]
    expected = build(x, 10, rows=chosen)
    for threads in (1, 3):
        found = extend(x, lists, ~fresh, fresh, 10, rows=chosen, threads=threads)
        assert found.indices.tobytes() == expected.indices.tobytes()
        assert found.similarity.tobytes() == expected.similarity.tobytes()


def test_what_build_refuses_is_refused() -> None:
    x = data(300, 8, "clusters")
    old = build(x, 10)
    whole, fresh = np.ones(300, bool), np.zeros(300, bool)
    with pytest.raises(Cancelled):
        extend(x, old.indices, whole, fresh, 10, cancel=lambda: True)
    x[3] = 0
    with pytest.raises(InputError, match="direction"):
        extend(x, old.indices, whole, fresh, 10)
