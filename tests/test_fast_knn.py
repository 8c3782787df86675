"""The compiled search: every path against float64 brute force, and all paths against each other, byte by byte."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labeltui import graph
from labeltui._fast import knn, reference
from labeltui.errors import UsageError
from labeltui.graph import exact

METRICS = knn.METRICS
FILTERS = knn.paths()
KINDS = (
    "random",
    "clustered",
    "copies",
    "scaled copies",
    "heavy",
    "relu",
    "constant",
    "whole",
    "near",
    "offset",
)


def rows_of(kind: str, n: int, d: int, seed: int) -> np.ndarray:
    """Data of the kinds that searches trip over; no zero row."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    if kind == "clustered":
        x = rng.normal(size=(4, d))[rng.integers(4, size=n)] + 0.05 * x
    elif kind == "copies":
        x = x[rng.integers(max(1, n // 40), size=n)]
    elif kind == "scaled copies":  # one direction, other bytes: ties that equality of rows does not catch
        x = x[rng.integers(max(1, n // 40), size=n)] * 2.0 ** rng.integers(-3, 4, size=(n, 1)) * 1.1
    elif kind == "heavy":
        x = rng.standard_cauchy(size=(n, d)) * 10.0 ** rng.integers(-3, 4, size=(n, 1))
    elif kind == "relu":
        x = np.maximum(x - 0.3, 0)
    elif kind == "constant":
        x[:, rng.random(d) < 0.7] = 3.0
    elif kind == "whole":
        x = rng.integers(-2, 3, size=(n, d))
    elif kind == "near":
        x = rng.normal(size=(1, d)) + 1e-4 * x
    elif kind == "offset":
        x = x + 1000.0
    x = x.astype(np.float32)
    x[~x.any(axis=1), 0] = 1.0
    return x


def brute(x: np.ndarray, metric: str) -> np.ndarray:
    """Similarities in float64, by another road than the kernels'."""
    y = x.astype(np.float64)
    if metric == "cosine":
        y /= np.linalg.norm(y, axis=1, keepdims=True)
    if metric != "euclidean":
        return y @ y.T
    return -np.sqrt(np.stack([((y - row) ** 2).sum(axis=1) for row in y]))


def check(got: graph.Graph, x: np.ndarray, k: int) -> None:
    """Neighbours in order, none better left out, ties at equal similarity by index."""
    n = len(x)
    s = brute(x, got.metric)
    scale = np.abs(s).max() if got.metric != "cosine" else 1.0
    tolerance = 4e-7 * scale
    assert got.indices.shape == (n, k)
    np.fill_diagonal(s, -np.inf)
    mine = np.take_along_axis(s, got.indices.astype(np.int64), axis=1)
    np.testing.assert_allclose(got.similarity, mine, rtol=3e-7, atol=tolerance)
    assert not (got.indices == np.arange(n)[:, None]).any()
    assert all(len(set(row)) == k for row in got.indices.tolist())
    falling = np.diff(got.similarity, axis=1)
    assert (falling <= 0).all()
    assert (np.diff(got.indices, axis=1)[falling == 0] > 0).all()
    np.put_along_axis(s, got.indices.astype(np.int64), -np.inf, axis=1)
    assert (s.max(axis=1) <= got.similarity[:, -1] + tolerance + 3e-7 * np.abs(got.similarity[:, -1])).all()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    kind=st.sampled_from(KINDS),
    metric=st.sampled_from(METRICS),
    n=st.one_of(st.integers(2, 40), st.integers(41, 300)),
    d=st.one_of(st.integers(1, 8), st.integers(9, 200), st.integers(201, 3000)),
    k=st.one_of(st.integers(1, 12), st.integers(1, 299)),
    half=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_path_finds_the_true_neighbours(
    kind: str, metric: str, n: int, d: int, k: int, half: bool, seed: int
) -> None:
    x = rows_of(kind, n, d, seed)
    if half:
        x = np.clip(x, -6e4, 6e4).astype(np.float16)
        x[~x.any(axis=1), 0] = 1
    want = graph.build(x, k, metric=metric, path="direct", threads=1)
    check(want, x, min(k, n - 1))
    for path in FILTERS:
        got = graph.build(x, k, metric=metric, path=path, threads=1)
        assert got.indices.tobytes() == want.indices.tobytes(), path
        assert got.similarity.tobytes() == want.similarity.tobytes(), path


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("n", "d"), [(60, 1), (90, 7), (120, 40), (50, 300)])
def test_bits_equal_the_numpy_twin(metric: str, n: int, d: int) -> None:
    x = rows_of("clustered", n, d, n)
    for dtype in (np.float32, np.float16):
        y = x.astype(dtype)
        got = graph.build(y, 9, metric=metric)
        indices, similarity = reference.knn_graph(y, 9, metric)
        np.testing.assert_array_equal(got.indices, indices)
        assert got.similarity.tobytes() == similarity.tobytes()


@pytest.fixture(scope="module")
def many() -> np.ndarray:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(12, 24))[rng.integers(12, size=2500)] @ rng.normal(size=(24, 100))
    return (x + rng.normal(size=x.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def truth(many: np.ndarray) -> dict[str, graph.Graph]:
    return {metric: graph.build(many, 20, metric=metric, path="direct") for metric in METRICS}


@pytest.mark.parametrize("path", FILTERS)
@pytest.mark.parametrize("metric", METRICS)
def test_paths_and_threads_give_the_same_bytes(
    many: np.ndarray, truth: dict[str, graph.Graph], metric: str, path: str
) -> None:
    for threads in (1, 2, 4):
        got = graph.build(many, 20, metric=metric, path=path, threads=threads)
        assert got.indices.tobytes() == truth[metric].indices.tobytes()
        assert got.similarity.tobytes() == truth[metric].similarity.tobytes()
        assert got.n_certified + got.n_fallback == len(many)
        assert got.n_certified > 0.9 * len(many)  # the filter does the work


def filtered(
    x: np.ndarray, k: int, path: str, block: int, threads: int = 3, metric: str = "cosine"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The filter alone, without the search that mends it: indices, similarity, certified."""
    rows = knn.Rows(x, METRICS.index(metric))
    stats = knn.RowStats(rows)
    stats.work()
    rows.set_lengths(stats.squared)
    indices = np.full((len(x), k), -1, np.int32)
    similarity = np.zeros((len(x), k), np.float32)
    shared = knn.Filter(rows, knn.PATHS.index(path), k, block)
    rerank = knn.Rerank(shared, indices, similarity)
    for stage in (knn.Assign(shared), knn.Sketch(shared), knn.Tiles(shared), rerank):
        team = [threading.Thread(target=stage.work) for _ in range(threads)]
        for member in team:
            member.start()
        for member in team:
            member.join()
        if stage is not rerank:
            stage.end()
    shared.close()
    return indices, similarity, rerank.certified


@pytest.mark.parametrize("path", FILTERS)
@pytest.mark.parametrize("blocks", [2, 3, 8])
def test_certified_rows_are_right_whatever_the_tiles(path: str, blocks: int) -> None:
    n = 96 * blocks - 17
    x = rows_of("relu", n, 70, blocks)
    k = 5
    indices, similarity, certified = filtered(x, k, path, 96)
    want = graph.build(x, k, path="direct")
    np.testing.assert_array_equal(indices[certified == 1], want.indices[certified == 1])
    np.testing.assert_array_equal(similarity[certified == 1], want.similarity[certified == 1])
    assert certified.mean() > 0.5


@pytest.mark.parametrize("path", FILTERS)
def test_what_the_bound_cannot_separate_is_not_certified(path: str) -> None:
    # 300 rows of one direction: more equal candidates than a row keeps, so none of them can be certified.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 33)) * rng.uniform(0.5, 2, size=(300, 1))
    *_, certified = filtered(x.astype(np.float32), 3, path, 96)
    assert not certified.any()
    again = graph.build(x.astype(np.float32), 3, path=path)
    assert again.n_fallback == 300
    assert again.indices.tobytes() == graph.build(x.astype(np.float32), 3, path="direct").indices.tobytes()


@pytest.mark.parametrize("path", FILTERS)
@pytest.mark.parametrize("metric", ["cosine", "inner_product"])
def test_rows_close_together_far_from_the_origin_are_certified(path: str, metric: str) -> None:
    # The offset that all similarities share is left out of the bounds: its digits do not hide what differs.
    rng = np.random.default_rng(0)
    x = (rng.normal(size=64) + 0.003 * rng.normal(size=(3000, 64))).astype(np.float32)
    indices, similarity, certified = filtered(x, 10, path, 192, metric=metric)
    assert certified.mean() > 0.99
    if metric == "cosine":
        assert 1 - similarity.min() < 4e-5
    want = graph.build(x, 10, metric=metric, path="direct")
    np.testing.assert_array_equal(indices[certified == 1], want.indices[certified == 1])
    assert graph.build(x, 10, metric=metric, path=path).indices.tobytes() == want.indices.tobytes()


def test_proof_does_not_depend_on_the_schedule() -> None:
    x = rows_of("random", 1200, 300, 1)  # expand evenly: many rows near the limit of what int8 proves
    for path in FILTERS:
        first = filtered(x, 10, path, 192, threads=1)[2]
        for _ in range(2):
            np.testing.assert_array_equal(filtered(x, 10, path, 192, threads=4)[2], first)


@pytest.mark.parametrize("metric", METRICS)
def test_each_row_400_times(metric: str) -> None:
    x = np.repeat(rows_of("random", 4, 20, 5), 400, axis=0)[np.random.default_rng(0).permutation(1600)]
    indices, similarity = reference.knn_graph(x, 12, metric)
    for path in ("direct", *FILTERS):
        got = graph.build(x, 12, metric=metric, path=path)
        np.testing.assert_array_equal(got.indices, indices)
        assert got.similarity.tobytes() == similarity.tobytes()


@pytest.mark.parametrize(("distinct", "k"), [(1, 5), (2, 7), (5, 3), (5, 99)])
def test_copies_among_few_distinct_rows(distinct: int, k: int) -> None:
    x = rows_of("whole", distinct, 6, 1)[np.random.default_rng(distinct).integers(distinct, size=100)]
    for metric in METRICS:
        got = graph.build(x, k, metric=metric)
        indices, similarity = reference.knn_graph(x, k, metric)
        np.testing.assert_array_equal(got.indices, indices)
        assert got.similarity.tobytes() == similarity.tobytes()


@pytest.mark.parametrize("path", ["direct", *FILTERS])
@pytest.mark.parametrize("size", [1e-38, 1e-30, 1e-12, 1e15, 1e30])
def test_sizes_at_the_ends_of_float32(size: float, path: str) -> None:
    x = (rows_of("clustered", 130, 12, 9).astype(np.float64) * size).astype(np.float32)
    x[~x.any(axis=1), 0] = size
    for metric in METRICS:
        got = graph.build(x, 6, metric=metric, path=path)
        indices, similarity = reference.knn_graph(x, 6, metric)
        assert got.similarity.tobytes() == similarity.tobytes()
        np.testing.assert_array_equal(got.indices, indices)


def test_views_and_files_are_read_where_they_lie(tmp_path, many: np.ndarray) -> None:
    want = graph.build(many, 5).indices
    np.save(tmp_path / "x.npy", many)
    assert np.array_equal(graph.build(np.load(tmp_path / "x.npy", mmap_mode="r"), 5).indices, want)
    half = many.astype(np.float16)
    np.save(tmp_path / "half.npy", half)
    mapped = graph.build(np.load(tmp_path / "half.npy", mmap_mode="r"), 5)
    assert mapped.indices.tobytes() == graph.build(half.astype(np.float32), 5).indices.tobytes()
    wide = np.zeros((len(many), 150), np.float32)
    wide[:, 20:120] = many
    assert np.array_equal(graph.build(wide[:, 20:120], 5).indices, want)  # rows with gaps
    assert np.array_equal(graph.build(np.asfortranarray(many), 5).indices, want)
    turned = graph.build(np.ascontiguousarray(many[::-1]), 5).indices
    assert np.array_equal(graph.build(many[::-1], 5).indices, turned)
    assert np.array_equal(graph.build(many.astype(np.float64), 5).indices, want)
    raw = bytearray(many.nbytes + 1)
    odd = np.frombuffer(raw, np.float32, offset=1, count=many.size).reshape(many.shape)
    odd[:] = many
    assert not odd.flags.aligned
    assert np.array_equal(graph.build(odd, 5).indices, want)
    assert np.array_equal(graph.build(many.astype(">f4"), 5).indices, want)


def test_the_path_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(exact.VARIABLE, "c")
    assert exact.choose(None, 10**6, 64) == "c"
    assert exact.choose("direct", 10**6, 64) == "direct"
    monkeypatch.delenv(exact.VARIABLE)
    assert exact.choose(None, 10**6, 64) == FILTERS[-1]
    assert exact.choose(None, 10**6, 1 << 17) in ("c", "avx2", "avx512")  # int8 sums would leave int32
    with pytest.raises(UsageError):
        exact.choose("abacus", 10**6, 64)
