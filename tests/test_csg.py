"""CSG: its identities, parity with the published implementation at equal S, live relabels, missing
classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.spatial.distance import braycurtis
from sklearn.neighbors import NearestNeighbors
from spectral_metric.estimator import CumulativeGradientEstimator
from spectral_metric.lib import find_samples

from labeltui import csg
from labeltui.csg import counting, resampling
from labeltui.errors import InputError

Graph = tuple[np.ndarray, np.ndarray, np.ndarray]


def blobs(n: int, n_classes: int, spread: float, seed: int, d: int = 6) -> Graph:
    """Overlapping Gaussian classes: points, 12 nearest others, labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n).astype(np.int32)
    X = rng.normal(size=(n_classes, d))[labels] + spread * rng.normal(size=(n, d))
    found = NearestNeighbors(n_neighbors=13, algorithm="brute").fit(X).kneighbors(X, return_distance=False)
    others = np.stack([row[row != sample][:12] for sample, row in enumerate(found)])
    return X, others.astype(np.int32), labels


def reverse(indices: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Who has each sample among its first k neighbours."""
    listed = indices[:, :k].ravel()
    members = np.repeat(np.arange(len(indices)), k)[listed >= 0]
    listed = listed[listed >= 0]
    pointer = np.concatenate([[0], np.cumsum(np.bincount(listed, minlength=len(indices)))])
    return pointer, members[np.argsort(listed, kind="stable")].astype(np.int32)


def live(indices: np.ndarray, labels: np.ndarray, n_classes: int, k: int) -> csg.LiveCsg:
    T = csg.pooled_counts(indices, labels, n_classes, k)
    return csg.LiveCsg(T, indices, labels, *reverse(indices, k), n_classes, k)


# --- identities --------------------------------------------------------------------------------------------


def test_csg_of_classes_that_never_touch_is_zero() -> None:
    assert csg.spectrum(np.eye(7))[1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("K", [2, 3, 10, 100])
def test_csg_of_classes_all_alike_is_one_less_than_their_number(K: int) -> None:
    assert csg.spectrum(np.ones((K, K)))[1] == pytest.approx(K - 1)
    result = csg.complexity(np.ones((K, K), dtype=np.int64), np.full(K, K), k=1)
    assert result.csg == pytest.approx(K - 1)
    assert result.csg_normalised == pytest.approx(1)
    assert result.trace == pytest.approx(K - 1)
    assert result.l1 == pytest.approx(K)


def test_csg_of_equal_overlaps_w_is_w_times_one_less_than_their_number() -> None:
    W = np.full((9, 9), 0.3)
    np.fill_diagonal(W, 1)
    assert csg.spectrum(W)[1] == pytest.approx(0.3 * 8)


def test_csg_of_one_block_of_m_alike_classes_is_m_less_one() -> None:
    W = np.eye(12)
    W[3:8, 3:8] = 1
    assert csg.spectrum(W)[1] == pytest.approx(5 - 1)


@pytest.mark.parametrize("K", [4, 10, 40])
def test_csg_of_identical_pairs(K: int) -> None:
    assert csg.spectrum(np.kron(np.eye(K // 2), np.ones((2, 2))))[1] == pytest.approx(2 * K / (K + 2))


def test_overlap_is_one_less_the_bray_curtis_distance() -> None:
    S = np.random.default_rng(0).dirichlet(np.full(6, 0.4), size=6)
    expected = [[1 - braycurtis(a, b) for a in S] for b in S]
    np.testing.assert_allclose(csg.overlap(S), expected, atol=1e-14)


def test_spectral_shares_sum_to_csg_and_are_its_gradient() -> None:
    T = np.random.default_rng(1).integers(1, 200, (8, 8)) + 400 * np.eye(8, dtype=np.int64)
    result = csg.complexity(T, np.full(8, 100), k=10)
    assert result.spectral_contribution.sum() == pytest.approx(result.csg, rel=1e-10)
    # CSG is of degree 1 in W; growing all overlaps of class i moves CSG by twice its share.
    for i in range(8):
        step = 1e-6
        W = result.W.copy()
        W[i] *= 1 + step
        W[:, i] *= 1 + step
        slope = (csg.spectrum(W)[1] - result.csg) / step
        assert slope == pytest.approx(2 * result.spectral_contribution[i], abs=1e-4)


def test_spectral_share_does_not_depend_on_the_basis_of_equal_eigenvalues() -> None:
    # Three groups of alike classes: the spectrum is degenerate, so eigenvectors are arbitrary. Symmetry
    # decides.
    T = np.kron(np.eye(3, dtype=np.int64), np.full((4, 4), 25))
    share = csg.complexity(T, np.full(12, 50), k=10).spectral_contribution
    np.testing.assert_allclose(share, share[0], atol=1e-9)
    order = np.random.default_rng(2).permutation(12)
    other = csg.complexity(T[np.ix_(order, order)], np.full(12, 50), k=10).spectral_contribution
    np.testing.assert_allclose(other, share[order], atol=1e-9)


def test_csg_is_that_of_the_published_implementation_at_equal_s() -> None:
    X, _, labels = blobs(300, 7, 0.9, seed=3, d=3)
    peer = CumulativeGradientEstimator(M_sample=30, k_nearest=5).fit(X, labels)
    W = csg.overlap(peer.S)
    np.testing.assert_allclose(W, peer.W, atol=1e-12)
    eigenvalues, value = csg.spectrum(W)
    np.testing.assert_allclose(eigenvalues, peer.evals, atol=1e-10)
    assert value == pytest.approx(float(peer.csg[0]), rel=1e-10)
    assert value > 0.1


# --- counts ------------------------------------------------------------------------------------------------


def test_measure_counts_every_sample_and_orders_hard_classes_first() -> None:
    _, indices, labels = blobs(600, 5, 0.8, seed=4)
    result = csg.measure(indices, labels, 5, k=10)
    rows = [np.bincount(labels[indices[labels == i][:, :10]].ravel(), minlength=5) for i in range(5)]
    np.testing.assert_allclose(result.S, [row / row.sum() for row in rows])
    np.testing.assert_allclose(result.overlap, result.W.sum(axis=1) - 1)
    assert result.n == 600
    assert result.sizes.sum() == 600
    assert np.corrcoef(result.overlap, 1 - result.self_similarity)[0, 1] > 0.5
    i, j, value = result.pairs(limit=3)
    off = np.triu(result.W, 1)
    assert value.tolist() == sorted(off.ravel(), reverse=True)[:3]
    assert off[i[0], j[0]] == value[0]
    i, j, value = result.pairs("directed", limit=1)
    assert value[0] == (result.S - np.diag(np.diag(result.S))).max() == result.S[i[0], j[0]]


def test_threads_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MIN_COUNTS_PER_THREAD", 1)
    monkeypatch.setattr(counting, "MIN_CLASSES_PER_THREAD", 1)
    _, indices, labels = blobs(900, 9, 1.0, seed=5)
    one, many = (csg.measure(indices, labels, 9, 10, threads=threads) for threads in (1, 3))
    for name in ("S", "W", "overlap", "eigenvalues", "spectral_contribution"):
        assert getattr(one, name).tobytes() == getattr(many, name).tobytes(), name
    assert one.csg == many.csg


def test_prior_correction_undoes_class_sizes() -> None:
    # One and the same distribution for all classes, the first four times as frequent: after correction all
    # alike.
    rng = np.random.default_rng(6)
    labels = rng.choice(3, 6000, p=[4 / 6, 1 / 6, 1 / 6]).astype(np.int32)
    indices = rng.integers(0, 6000, (6000, 10)).astype(np.int32)
    plain = csg.measure(indices, labels, 3, 10)
    corrected = csg.measure(indices, labels, 3, 10, prior_corrected=True)
    assert plain.S[1, 0] == pytest.approx(4 / 6, abs=0.02)
    np.testing.assert_allclose(corrected.S, 1 / 3, atol=0.02)


def test_absent_classes_and_samples_without_label_leave_the_spectrum() -> None:
    _, indices, labels = blobs(400, 4, 0.8, seed=7)
    wide = np.array([0, 2, 5, 6], np.int32)[labels]  # classes 1, 3, 4 and 7 are empty
    wide[::9] = -1
    narrow = labels.copy()
    narrow[::9] = -1
    gaps, plain = csg.measure(indices, wide, 8, 10), csg.measure(indices, narrow, 4, 10)
    assert gaps.csg == plain.csg
    np.testing.assert_array_equal(gaps.eigenvalues, plain.eigenvalues)
    assert gaps.present.tolist() == [True, False, True, False, False, True, True, False]
    assert gaps.classes == 4
    np.testing.assert_array_equal(gaps.overlap[gaps.present], plain.overlap)
    np.testing.assert_array_equal(gaps.spectral_contribution[gaps.present], plain.spectral_contribution)
    assert not gaps.overlap[~gaps.present].any()
    assert gaps.trace == pytest.approx(plain.trace)
    assert gaps.n == int((wide >= 0).sum())


def test_small_classes_are_marked() -> None:
    _, indices, labels = blobs(300, 3, 0.8, seed=8)
    labels[labels == 2] = 0
    labels[:10] = 2
    assert csg.measure(indices, labels, 3, 10).reliable.tolist() == [True, True, False]
    labels[10] = 2
    assert csg.measure(indices, labels, 3, 10).reliable.tolist() == [True, True, True]


@given(
    n=st.integers(2, 30),
    K=st.integers(1, 6),
    k=st.integers(1, 5),
    corrected=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=80, deadline=None)
def test_nothing_is_ever_nan(n: int, K: int, k: int, corrected: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    indices = rng.integers(-1, n, (n, k)).astype(np.int32)
    indices[rng.random(n) < 0.3] = -1
    labels = rng.integers(-1, K, n).astype(np.int32)
    result = csg.measure(indices, labels, K, k, prior_corrected=corrected)
    for name in (
        "S",
        "W",
        "overlap",
        "self_similarity",
        "spectral_contribution",
        "eigenvalues",
        "csg",
        "trace",
        "l1",
    ):
        assert np.isfinite(getattr(result, name)).all(), name
    assert 0 <= result.csg_normalised <= 1 + 1e-9
    np.testing.assert_array_equal(result.W, result.W.T)
    np.testing.assert_allclose(result.S.sum(axis=1), result.present, atol=1e-12)
    assert result.spectral_contribution.sum() == pytest.approx(result.csg, abs=1e-6)


def test_one_class_and_no_labels_at_all() -> None:
    indices = np.array([[1], [0]], np.int32)
    one = csg.measure(indices, np.zeros(2, np.int32), 1, 1)
    assert (one.csg, one.csg_normalised, one.trace, one.l1, one.classes) == (0, 0, 0, 0, 1)
    none = csg.measure(indices, np.full(2, -1, np.int32), 3, 1)
    assert (none.csg, none.csg_normalised, none.trace, none.l1, none.classes) == (0, 0, 0, 0, 0)
    assert csg.interval(indices, np.full(2, -1, np.int32), 3, 1, n_boot=3) == (0.0, 0.0)


def test_bad_input_is_refused_by_name() -> None:
    _, indices, labels = blobs(50, 3, 0.8, seed=9)
    with pytest.raises(InputError, match="k=13"):
        csg.pooled_counts(indices, labels, 3, 13)
    with pytest.raises(InputError, match="below 2"):
        csg.pooled_counts(indices, labels, 2, 5)
    with pytest.raises(InputError, match="one row per label"):
        csg.pooled_counts(indices, labels[1:], 3, 5)
    broken = indices.copy()
    broken[31, 4] = 50
    with pytest.raises(InputError, match="sample 31"):
        csg.pooled_counts(broken, labels, 3, 5)
    with pytest.raises(InputError, match="ranked by"):
        csg.measure(indices, labels, 3, 5).pairs("size")


# --- sweep and interval ------------------------------------------------------------------------------------


def test_sweep_gives_what_each_k_alone_gives() -> None:
    _, indices, labels = blobs(400, 4, 0.8, seed=10)
    ks, values = csg.sweep(indices, labels, 4)
    assert ks.tolist() == [3, 5, 10]  # 20 and 50 are more than the 12 stored
    np.testing.assert_allclose(values, [csg.measure(indices, labels, 4, k).csg for k in ks], rtol=1e-12)


def test_interval_repeats_and_narrows_with_more_samples() -> None:
    _, indices, labels = blobs(300, 4, 0.8, seed=11)
    value = csg.measure(indices, labels, 4, 10).csg
    low, high = csg.interval(indices, labels, 4, 10, n_boot=100, seed=1)
    assert low <= value < high
    assert csg.interval(indices, labels, 4, 10, n_boot=100, seed=1) == (low, high)
    assert csg.interval(indices, labels, 4, 10, n_boot=100, seed=2) != (low, high)
    _, indices, labels = blobs(3000, 4, 0.8, seed=11)
    wide = csg.interval(indices, labels, 4, 10, n_boot=100, seed=1)
    assert wide[1] - wide[0] < 0.6 * (high - low)


def test_interval_covers_the_value_that_finite_samples_estimate() -> None:
    # Samples whose neighbours' labels are drawn from a known S, so that the CSG of the limit is known.
    rng = np.random.default_rng(12)
    K, per_class, k = 12, 30, 5
    S = 0.5 * np.eye(K) + 0.5 * rng.dirichlet(np.ones(K), size=K)
    limit = csg.spectrum(csg.overlap(S))[1]
    labels = np.repeat(np.arange(K), per_class).astype(np.int32)
    covered = 0
    for _ in range(40):
        drawn = np.array([rng.choice(K, k, p=S[y]) for y in labels])
        indices = (drawn * per_class + rng.integers(0, per_class, drawn.shape)).astype(np.int32)
        low, high = csg.interval(indices, labels, K, k, n_boot=60, seed=0)
        covered += low <= limit <= high
    assert covered >= 28  # the plain quantiles reach 5


def test_compatible_is_the_published_estimate_on_the_same_draw() -> None:
    X, _, labels = blobs(240, 4, 0.9, seed=21, d=3)
    draws = [np.flatnonzero(labels == c)[:25] for c in range(4)]
    peer = CumulativeGradientEstimator(k_nearest=5)
    peer.n_class, peer.class_indices = 4, dict(enumerate(draws))
    peer.compute(X, labels, {c: X[drawn] for c, drawn in enumerate(draws)})
    np.testing.assert_allclose(resampling._boxed_similarity(X, labels, draws, 5, True), peer.S, atol=1e-12)


def test_compatible_agrees_with_the_published_package_within_its_spread() -> None:
    X, _, labels = blobs(240, 4, 0.9, seed=21, d=3)
    ours = [csg.compatible(X, labels, M=20, k=3, seed=seed) for seed in range(40)]
    theirs = []
    for seed in range(40):
        samples, drawn = find_samples(X, labels, 4, M=20, seed=seed)
        peer = CumulativeGradientEstimator(k_nearest=3)
        peer.n_class, peer.class_indices = 4, drawn
        peer.compute(X, labels, samples)
        theirs.append(float(peer.csg[0]))
    error = np.hypot(np.std(ours), np.std(theirs)) / np.sqrt(40)
    assert abs(np.mean(ours) - np.mean(theirs)) < 3 * error
    assert 0.5 < np.std(ours) / np.std(theirs) < 2


def test_compatible_without_volume_on_whole_classes_is_the_exact_csg() -> None:
    X, indices, labels = blobs(240, 4, 0.9, seed=22)
    exact = csg.measure(indices, labels, 4, 3).csg
    assert csg.compatible(X, labels, M=1000, k=3, volume=False) == pytest.approx(exact, rel=1e-12)
    gaps = np.array([2, 5, 6, 11])[labels]
    assert csg.compatible(X, gaps, M=1000, k=3, volume=False) == pytest.approx(exact, rel=1e-12)


def test_compatible_survives_what_broke_the_published_package() -> None:
    rng = np.random.default_rng(23)
    wide = rng.normal(size=(120, 512)) * 50  # boxes beyond the range of float64
    labels = np.arange(120) % 3
    state = np.random.get_state()[1].copy()  # noqa: NPY002 - the state that must not move
    assert 0 < csg.compatible(wide, labels, M=20, seed=1) == csg.compatible(wide, labels, M=20, seed=1) <= 2
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002
    # Each point five times: the copies are its neighbours, it itself is not, and classes do not touch.
    copies = np.repeat(rng.normal(size=(30, 3)), 5, axis=0)
    assert csg.compatible(copies, np.repeat(np.arange(30) % 3, 5), k=3) == pytest.approx(0, abs=1e-12)
    with pytest.raises(InputError, match="row 7"):
        csg.compatible(np.where(np.arange(120)[:, None] == 7, np.nan, wide), labels)
    with pytest.raises(InputError, match="k=120"):
        csg.compatible(wide, labels, k=120)


# --- live --------------------------------------------------------------------------------------------------


def test_live_equals_a_rebuild_after_500_relabels_and_undo_is_exact() -> None:
    _, indices, labels = blobs(500, 6, 0.9, seed=13)
    indices[::17] = -1  # not-ok samples: no list, in no list
    indices[np.isin(indices, np.arange(0, 500, 17))] = -1
    indices = np.take_along_axis(indices, np.argsort(indices < 0, axis=1, kind="stable"), axis=1)
    labels[::23] = -1
    state = live(indices, labels, 6, 10)
    first = state.snapshot()
    rng = np.random.default_rng(14)
    current, moves = labels.copy(), []
    for sample, label in zip(
        rng.integers(0, 500, 500).tolist(), rng.integers(-1, 6, 500).tolist(), strict=True
    ):
        moves.append((sample, state.relabel(sample, label)))
        current[sample] = label
    rebuilt = csg.measure(indices, current, 6, 10)
    np.testing.assert_array_equal(state.labels, current)
    np.testing.assert_array_equal(state.T, csg.pooled_counts(indices, current, 6, 10))
    np.testing.assert_array_equal(state.sizes, rebuilt.sizes)
    np.testing.assert_allclose(state.overlap, rebuilt.overlap, atol=1e-8)
    np.testing.assert_allclose(state.W, rebuilt.W, atol=1e-8)
    np.testing.assert_allclose(state.self_similarity, rebuilt.self_similarity, atol=1e-12)
    assert state.complexity().csg == rebuilt.csg
    for sample, label in reversed(moves):
        state.relabel(sample, label)
    np.testing.assert_array_equal(state.T, first.T)
    assert state.complexity().csg == first.complexity().csg


def test_an_emptied_class_leaves_and_returns_on_undo() -> None:
    _, indices, labels = blobs(200, 4, 0.8, seed=15)
    state = live(indices, labels, 4, 10)
    before = state.complexity()
    undo = [(s, state.relabel(s, 1)) for s in np.flatnonzero(labels == 3).tolist()]
    emptied = state.complexity()
    assert not emptied.present[3]
    assert emptied.classes == 3
    assert state.overlap[3] == emptied.overlap[3] == state.self_similarity[3] == 0
    for sample, label in reversed(undo):
        state.relabel(sample, label)
    np.testing.assert_array_equal(state.complexity().overlap, before.overlap)


def test_what_if_tells_the_outcome_and_changes_nothing() -> None:
    _, indices, labels = blobs(300, 4, 0.8, seed=16)
    state = live(indices, labels, 4, 10)
    samples, wanted = [3, 5, 3, 250], [1, -1, 2, 0]
    before, after = state.what_if(samples, wanted)
    np.testing.assert_array_equal(state.labels, labels)
    assert before.csg == state.complexity().csg
    for sample, label in zip(samples, wanted, strict=True):
        state.relabel(sample, label)
    assert after.csg == state.complexity().csg != before.csg
    np.testing.assert_array_equal(after.overlap, state.complexity().overlap)


def test_a_snapshot_stays_while_labels_go_on() -> None:
    _, indices, labels = blobs(200, 3, 0.8, seed=17)
    state = live(indices, labels, 3, 10)
    shot = state.snapshot()
    state.relabel(0, (labels[0] + 1) % 3)
    assert shot.complexity().csg == csg.measure(indices, labels, 3, 10).csg != state.complexity().csg
    with pytest.raises(ValueError, match="read-only"):
        state.T[0, 0] = 1


def test_live_refuses_what_is_out_of_range_and_stays_as_it_is() -> None:
    _, indices, labels = blobs(100, 3, 0.8, seed=18)
    state = live(indices, labels, 3, 10)
    for sample, label in ((100, 0), (-1, 0), (0, 3), (0, -2)):
        with pytest.raises(InputError):
            state.relabel(sample, label)
    np.testing.assert_array_equal(state.T, csg.pooled_counts(indices, labels, 3, 10))
    with pytest.raises(InputError, match="reverse"):
        csg.LiveCsg(state.T, indices, labels, *reverse(indices[:50] % 50, 10), 3, 10)


# --- many classes ------------------------------------------------------------------------------------------


def test_sparse_matrices_say_the_same_as_dense_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    _, indices, labels = blobs(800, 40, 0.5, seed=19)
    labels[::31] = -1
    labels[labels == 7] = -1
    dense, state = csg.measure(indices, labels, 40, 10), live(indices, labels, 40, 10)
    expected = csg.measure(indices, labels, 40, 10, prior_corrected=True)

    monkeypatch.setattr(counting, "SPARSE_ABOVE", 10)
    monkeypatch.setattr("labeltui.csg.live.SPARSE_ABOVE", 10)
    monkeypatch.setattr(counting, "MIN_CLASSES_PER_THREAD", 4)
    few = csg.measure(indices, labels, 40, 10, threads=3)
    assert sparse.issparse(few.S)
    assert sparse.issparse(few.W)
    np.testing.assert_allclose(few.S.toarray(), dense.S, atol=1e-15)
    np.testing.assert_allclose(few.W.toarray(), dense.W, atol=1e-13)
    np.testing.assert_allclose(few.overlap, dense.overlap, atol=1e-12)
    assert few.csg == pytest.approx(dense.csg, abs=1e-10)
    assert [x[:5].tolist() for x in few.pairs()[:2]] == [x[:5].tolist() for x in dense.pairs()[:2]]
    assert (few.present == dense.present).all()
    corrected = csg.measure(indices, labels, 40, 10, prior_corrected=True)
    np.testing.assert_allclose(corrected.W.toarray(), expected.W, atol=1e-13)

    sparse_state = live(indices, labels, 40, 10)
    rng = np.random.default_rng(20)
    for sample, label in zip(rng.integers(0, 800, 60), rng.integers(-1, 40, 60), strict=True):
        assert sparse_state.relabel(int(sample), int(label)) == state.relabel(int(sample), int(label))
        if sample % 5 == 0:
            np.testing.assert_allclose(sparse_state.overlap, state.overlap, atol=1e-7)
    np.testing.assert_array_equal(sparse_state.T.toarray(), state.T)
    np.testing.assert_array_equal(sparse_state.sizes, state.sizes)
    np.testing.assert_allclose(sparse_state.self_similarity, state.self_similarity, atol=1e-12)
    after = sparse_state.after([1, 2], [3, -1])
    np.testing.assert_array_equal(after.T.toarray(), state.after([1, 2], [3, -1]).T)
    np.testing.assert_array_equal(sparse_state.T.toarray(), state.T)


def test_thousands_of_classes_stay_sparse() -> None:
    K = csg.SPARSE_ABOVE + 500
    n = 4 * K
    labels = (np.arange(n) % K).astype(np.int32)
    indices = ((np.arange(n)[:, None] + np.array([K, 2 * K, 3 * K, 1, -1])) % n).astype(np.int32)
    result = csg.overlaps(csg.pooled_counts(indices, labels, K, 5), csg.class_sizes(indices, labels, K), 5)
    assert result.S.nnz == 3 * K
    # Each row is (.2, .6, .2) around the diagonal: neighbours share .2 + .2, next but one .2.
    np.testing.assert_allclose(result.overlap, 2 * (0.2 + 0.2) + 2 * 0.2)
    assert result.W.nnz == 5 * K
    assert result.trace == pytest.approx(1.2)


def test_both_ends_of_a_spectrum_too_large_to_solve() -> None:
    rng = np.random.default_rng(0)
    K = 400
    labels = np.repeat(np.arange(K), 10).astype(np.int32)
    near = (labels[:, None] + np.round(rng.normal(0, 5, (len(labels), 10)))).astype(int) % K
    indices = (near * 10 + rng.integers(0, 10, near.shape)).astype(np.int32)
    found = csg.measure(indices, labels, K, 10)
    for W in (found.W, sparse.csr_array(found.W)):
        low, high = csg.spectrum_ends(W)
        np.testing.assert_allclose(low, found.eigenvalues[:16], atol=1e-9)
        np.testing.assert_allclose(high, found.eigenvalues[-16:], atol=1e-9)
