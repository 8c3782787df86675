"""The neighbour graph against its definition, and what is built from it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from labeltui import graph
from labeltui._fast import knn, reference
from labeltui.errors import Cancelled, InputError, UsageError
from labeltui.graph import approximate, cuda, exact
from labeltui.graph.tasks import run_task
from labeltui.parallel import Portions

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
    assert got.n_certified + got.n_fallback == 150


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


@pytest.mark.parametrize("path", ["direct", "c", exact.paths()[-1]])
def test_cancel_ends_a_long_search_within_half_a_second(path: str) -> None:
    x = blobs(60_000, 64)  # seconds of work, by every path
    asked = 0.0

    def cancel() -> bool:
        nonlocal asked
        if asked == 0.0 and time.perf_counter() - begin > 0.05:
            asked = time.perf_counter()
        return asked > 0.0

    begin = time.perf_counter()
    with pytest.raises(Cancelled):
        graph.build(x, 50, path=path, threads=2, cancel=cancel)
    assert asked
    assert time.perf_counter() - asked < 0.5


def test_the_number_of_threads_comes_by_argument_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    start = threading.Thread.start

    def counted(thread: threading.Thread) -> None:
        started.append(thread.name)
        start(thread)

    def team(**options: int) -> set[str]:
        started.clear()
        graph.build(blobs(30, 4), 3, **options)
        return set(started)

    monkeypatch.setattr(threading.Thread, "start", counted)
    assert team(threads=2) == {"labeltui-0", "labeltui-1"}
    monkeypatch.setenv("LABELTUI_THREADS", "3")
    assert team() == {"labeltui-0", "labeltui-1", "labeltui-2"}
    assert team(threads=1) == {"labeltui-0"}


def test_progress_rises_to_the_end_and_its_errors_come_through() -> None:
    told: list[float] = []
    graph.build(blobs(6000, 64), 10, path="c", progress=told.append)
    assert told == sorted(told)
    assert 0.9 < told[-1] <= 1.0

    def fail(_: float) -> None:
        raise KeyError("from progress")

    with pytest.raises(KeyError):
        graph.build(blobs(600, 8), 3, progress=fail)


def test_memory_is_known_before_and_kept() -> None:
    code = (
        "import numpy as np; from labeltui import graph\n"
        "x = np.random.default_rng(0).normal(size=(40000, 64)).astype('f4')\n"
        "graph.build(x[:600], 10, threads=2)\n"
        "def kb(name): return int([l for l in open('/proc/self/status') if l.startswith(name)][0].split()[1])\n"
        "open('/proc/self/clear_refs', 'w').write('5'); before = kb('VmRSS')\n"
        "graph.build(x, 10, threads=2); print((kb('VmHWM') - before) * 1024, graph.memory(40000, 64, 10, threads=2))"
    )
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    used, promised = map(int, subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert 0.2 * promised < used < promised + 4e6  # the allocator keeps a little more


def test_rows_and_expand_agree_with_leaving_rows_out() -> None:
    x = blobs(60, 9)
    x[[0, 31]] = np.nan
    rows = np.setdiff1d(np.arange(60), [0, 31])
    some = graph.build(x, 5, rows=rows)
    assert some.indices.tobytes() == graph.build(x[rows], 5).indices.tobytes()
    whole = graph.expand(some, rows, 60)
    assert whole.indices[0].tolist() == [-1] * 5
    np.testing.assert_array_equal(whole.indices[rows], rows[some.indices])


def test_one_row_has_no_neighbours() -> None:
    got = graph.build(np.ones((1, 3), np.float32), 5)
    assert got.indices.shape == (1, 0)
    assert graph.affinity(got, "self-tuning", "union").nnz == 0
    assert graph.expand(got, np.array([2]), 4).indices.shape == (4, 0)


def test_reverse_lists_name_everyone_who_lists_a_row() -> None:
    got = graph.build(blobs(80, 6), 10)
    for k in (1, 4, 10):
        for mine, theirs in zip(got.reverse(k), reference.reverse_lists(got.indices, k), strict=True):
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs)


@pytest.fixture(scope="module")
def small() -> tuple[np.ndarray, graph.Graph]:
    x = blobs(90, 6, seed=4)
    return x, graph.build(x, 9)


def dense(g: graph.Graph, value: np.ndarray) -> np.ndarray:
    out = np.zeros((len(g.indices), len(g.indices)), np.float32)
    np.put_along_axis(out, g.indices.astype(np.int64), value, axis=1)
    return out


def test_affinity_weights_and_symmetries(small: tuple[np.ndarray, graph.Graph]) -> None:
    _, g = small
    listed = dense(g, np.ones_like(g.similarity)) > 0
    for weight in ("binary", "similarity", "self-tuning"):
        plain = graph.affinity(g, weight)
        assert plain.dtype == np.float32
        assert plain.has_sorted_indices
        assert (np.diff(plain.indptr) == g.k).all()
        w = plain.toarray()
        union, mutual = (
            graph.affinity(g, weight, "union").toarray(),
            graph.affinity(g, weight, "mutual").toarray(),
        )
        np.testing.assert_array_equal(union, union.T)
        np.testing.assert_array_equal(union, np.maximum(w, w.T))  # all weights here are positive
        np.testing.assert_array_equal(mutual, np.where(listed & listed.T, np.minimum(w, w.T), 0))
    assert (graph.affinity(g).data == 1).all()
    np.testing.assert_array_equal(graph.affinity(g, "similarity").toarray(), dense(g, g.similarity))


def test_self_tuning_follows_its_formula(small: tuple[np.ndarray, graph.Graph]) -> None:
    x, _ = small
    g = graph.build(x, 9, metric="euclidean")
    far = np.sqrt(((x[:, None].astype(float) - x[None]) ** 2).sum(-1))
    scale = np.sort(far, axis=1)[:, 7]  # column 0 is the row itself
    want = np.exp(-(far**2) / (scale[:, None] * scale[None]))
    got = graph.affinity(g, "self-tuning").toarray()
    np.testing.assert_allclose(got[got > 0], want[got > 0], rtol=1e-5)


def test_affinity_of_copies_and_of_left_out_rows_is_finite() -> None:
    x = np.repeat(blobs(5, 4), 12, axis=0)
    g = graph.expand(graph.build(x, 20), np.arange(60) + 2, 64)
    for weight in ("binary", "similarity", "self-tuning"):
        w = graph.affinity(g, weight, "union")
        assert np.isfinite(w.data).all()
        assert w.shape == (64, 64)
        assert w[0].nnz == w[:, 63].nnz == 0


def test_negative_and_zero_similarities_stay_edges() -> None:
    x = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    w = graph.affinity(graph.build(x, 2), "similarity", "union")
    assert w.nnz == 6
    assert w[0, 2] == -1


def test_bad_affinities(small: tuple[np.ndarray, graph.Graph]) -> None:
    x, g = small
    with pytest.raises(UsageError):
        graph.affinity(g, "heat")
    with pytest.raises(UsageError):
        graph.affinity(g, "binary", "both")
    with pytest.raises(InputError):
        graph.knn_distances(graph.build(x, 3, metric="inner_product"))
    with pytest.raises(InputError, match="first is 0"):
        graph.knn_distances(graph.expand(g, np.arange(90) + 1, 91))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_distances_hand_over_to_scikit_learn_and_cleanlab(metric: str) -> None:
    from cleanlab.data_valuation import data_shapley_knn
    from sklearn.cluster import DBSCAN
    from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

    x = blobs(200, 12)
    y = np.random.default_rng(1).integers(3, size=200)
    mine = graph.knn_distances(graph.build(x, 10, metric=metric))
    before = mine.copy()
    theirs = NearestNeighbors(n_neighbors=10, metric=metric).fit(x).kneighbors_graph(mode="distance")
    np.testing.assert_array_equal(mine.indices, theirs.indices)
    np.testing.assert_allclose(mine.data, theirs.data, atol=1e-6)
    np.testing.assert_allclose(
        data_shapley_knn(y, knn_graph=mine, k=10), data_shapley_knn(y, knn_graph=theirs, k=10)
    )
    classifier = KNeighborsClassifier(5, metric="precomputed").fit(mine, y)
    np.testing.assert_array_equal(classifier.predict(mine), classifier.fit(theirs, y).predict(theirs))
    reach = float(np.median(mine.data))
    clusters = [DBSCAN(eps=reach, metric="precomputed").fit_predict(m) for m in (mine, theirs)]
    np.testing.assert_array_equal(*clusters)
    assert (mine != before).nnz == 0


def test_distances_hand_over_to_datalab() -> None:
    pytest.importorskip("datasets", reason="cleanlab[datalab] is not installed")
    from cleanlab import Datalab

    y = np.random.default_rng(1).integers(3, size=120)
    mine = graph.knn_distances(graph.build(blobs(120, 12), 10))
    lab = Datalab({"y": y}, label_name="y", verbosity=0)
    lab.find_issues(pred_probs=np.eye(3)[y] * 0.7 + 0.1, knn_graph=mine)
    assert (lab.get_info("statistics")["weighted_knn_graph"] != mine).nnz == 0
    assert "is_near_duplicate_issue" in lab.get_issues()


def test_advice_names_a_backend_and_never_acts() -> None:
    assert graph.recommend_backend(50_000, 512, threads=2).backend == "exact"
    large = graph.recommend_backend(100_000_000, 512, threads=2)
    assert large.backend in ("approximate", "cuda")
    assert large.why


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynndescent", None)
    with pytest.raises(UsageError, match=r"labeltui\[approximate\]"):
        graph.build(blobs(30, 4), 3, backend="approximate")


def test_recall_is_measured_against_the_exact_graph() -> None:
    x = blobs(1500, 10)
    right = graph.build(x, 10).indices
    rows = knn.Rows(x, 0)
    stats = knn.RowStats(rows)
    run_task(stats, 1)
    rows.set_lengths(stats.squared)
    assert approximate.recall(rows, right, 0, 2) == 1.0
    wrong = right.copy()
    wrong[:, 7:] = -1
    assert approximate.recall(rows, wrong, 0, 2) == pytest.approx(0.7)


@pytest.mark.timeout(600)  # the peer is compiled when it is first called
def test_the_approximate_backend_says_what_it_missed() -> None:
    pytest.importorskip("pynndescent", reason="labeltui[approximate] is not installed")
    x = blobs(1500, 16)
    want, got = graph.build(x, 10), graph.build(x, 10, backend="approximate")
    assert (got.backend, got.exact, got.n_certified, got.n_fallback) == ("approximate", False, 0, 0)
    assert (want.backend, want.exact, want.recall) == ("exact", True, None)
    rows = np.sort(np.random.default_rng(0).choice(1500, 1000, replace=False))  # those that it looks at
    hits = sum(len(np.intersect1d(got.indices[row], want.indices[row])) for row in rows)
    assert got.recall == hits / 10_000 > 0.9
    x[7] = np.nan
    with pytest.raises(InputError, match="7"):
        graph.build(x, 10, backend="approximate")


def test_ranking_proposals_drops_repetitions_and_self() -> None:
    x = blobs(50, 5)
    rows = knn.Rows(x, 0)
    stats = knn.RowStats(rows)
    run_task(stats, 1)
    rows.set_lengths(stats.squared)
    proposed = np.full((50, 6), -1, np.int32)
    proposed[:, 0], proposed[:, 1:4] = np.arange(50), np.array([7, 8, 7])
    indices, similarity = np.empty((50, 3), np.int32), np.empty((50, 3), np.float32)
    run_task(knn.Rank(rows, proposed, indices, similarity), 2)
    s = reference.similarities(x)
    assert indices[7].tolist() == [8, -1, -1]
    assert sorted(indices[0, :2].tolist()) == [7, 8]
    assert similarity[0, 0] == s[0, [7, 8]].max()
    assert similarity[0, 2] == 0


def searched_by_torch(
    x: np.ndarray, k: int, metric: str, half: bool, cancel: Callable[[], bool] | None = None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Indices, similarities and the number of rows without a proof: the CUDA backend's steps on the CPU."""
    torch = pytest.importorskip("torch")
    rows = knn.Rows(x, METRICS.index(metric))
    stats = knn.RowStats(rows)
    run_task(stats, 1)
    rows.set_lengths(stats.squared)
    indices, similarity = np.empty((len(x), k), np.int32), np.empty((len(x), k), np.float32)
    searcher = partial(cuda.filtered, progress=None, cancel=cancel, device=torch.device("cpu"), half=half)
    again = exact.search(rows, stats.hash, indices, similarity, searcher, 1, Portions(None, {}), None)
    return indices, similarity, again


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_steps_of_the_cuda_backend_give_the_same_bytes(metric: str, dtype: type, half: bool) -> None:
    x = np.concatenate([blobs(300, 27), np.repeat(blobs(2, 27, seed=9), 30, axis=0)]).astype(dtype)
    want = graph.build(x, 8, metric=metric)
    indices, similarity, again = searched_by_torch(x, 8, metric, half)
    assert again < 36
    assert indices.tobytes() == want.indices.tobytes()
    assert similarity.tobytes() == want.similarity.tobytes()


@pytest.mark.parametrize("metric", METRICS)
def test_rows_closer_than_half_precision_are_not_certified(metric: str) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([blobs(200, 16), blobs(1, 16, seed=5) + 1e-5 * rng.normal(size=(100, 16))]).astype(
        np.float32
    )
    want = graph.build(x, 8, metric=metric)
    indices, similarity, again = searched_by_torch(x, 8, metric, half=True)
    assert 100 <= again < 300
    assert indices.tobytes() == want.indices.tobytes()
    assert similarity.tobytes() == want.similarity.tobytes()


def test_a_full_gpu_gets_smaller_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    x = blobs(300, 20)
    want = graph.build(x, 8)
    block, fits, sizes = cuda._Search._block, 20, []

    def limited(search: object, begin: int, end: int) -> object:
        sizes.append(end - begin)
        if end - begin > fits:
            raise torch.OutOfMemoryError("injected")
        return block(search, begin, end)

    monkeypatch.setattr(cuda._Search, "_block", limited)
    indices, similarity, _ = searched_by_torch(x, 8, "cosine", half=True)
    assert sizes[:6] == [300, 150, 75, 37, 18, 18]
    assert indices.tobytes() == want.indices.tobytes()
    assert similarity.tobytes() == want.similarity.tobytes()
    fits = 0
    with pytest.raises(UsageError, match="memory ran out"):
        searched_by_torch(x, 8, "cosine", half=True)
    with pytest.raises(Cancelled):
        searched_by_torch(x, 8, "cosine", half=True, cancel=lambda: True)


def test_cuda_without_a_gpu_is_refused() -> None:
    if cuda.available():
        pytest.skip("a GPU is here")
    with pytest.raises(UsageError, match="GPU"):
        graph.build(blobs(30, 4), 3, backend="cuda")


@pytest.mark.cuda
@pytest.mark.parametrize("metric", METRICS)
def test_cuda_gives_the_same_bytes(metric: str) -> None:
    if not cuda.available():
        pytest.skip("no GPU")
    x = blobs(5000, 200)
    want, got = graph.build(x, 20, metric=metric), graph.build(x, 20, metric=metric, backend="cuda")
    assert got.indices.tobytes() == want.indices.tobytes()
    assert got.similarity.tobytes() == want.similarity.tobytes()
    assert got.n_certified > 4500
