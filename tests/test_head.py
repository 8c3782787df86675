from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from labeltui import head, noise
from labeltui.errors import Cancelled, InputError
from labeltui.head.training import posterior_logits
from tests.keeping import Memory


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    data = load_digits()
    return (data.data / 16).astype(np.float32), data.target.astype(np.int32)


# ---------------------------------------------------------------------------------------------- folds


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(-1, 4), min_size=1, max_size=80),
    n_groups=st.integers(1, 80),
    n_folds=st.integers(2, 6),
    seed=st.integers(0, 99),
)
def test_folds_keep_groups_together_and_leave_out_what_has_no_label(
    labels: list[int], n_groups: int, n_folds: int, seed: int
) -> None:
    y = np.array(labels)
    rng = np.random.default_rng(seed)
    groups = rng.integers(-1, n_groups, size=len(y))
    ok = rng.random(len(y)) < 0.9
    fold = head.folds(y, groups, ok, n_folds, seed)
    inside = (y >= 0) & ok
    bundles = len(np.unique(groups[inside & (groups >= 0)])) + int((inside & (groups < 0)).sum())
    if bundles < 2:
        assert (fold == -1).all()
        return
    np.testing.assert_array_equal(fold >= 0, inside)
    assert set(fold[inside]) == set(range(min(n_folds, bundles)))
    for group in np.unique(groups[groups >= 0]):
        assert len(set(fold[inside & (groups == group)])) <= 1
    np.testing.assert_array_equal(fold, head.folds(y, groups, ok, n_folds, seed))


def test_folds_are_stratified_to_one_sample_and_even() -> None:
    y = np.random.default_rng(0).integers(0, 7, size=1003)
    fold = head.folds(y, None, None, 5, 0)
    table = np.array([np.bincount(fold[y == c], minlength=5) for c in range(7)])
    assert (np.ptp(table, axis=1) <= 1).all()
    assert np.ptp(table.sum(axis=0)) <= 1
    assert (fold != head.folds(y, None, None, 5, 1)).any()


def test_a_class_smaller_than_the_folds_is_spread() -> None:
    y = np.array([0] * 20 + [1, 1, 1])
    fold = head.folds(y, None, None, 5, 0)
    assert len(set(fold[20:])) == 3


def test_large_duplicate_groups_are_balanced_by_the_single_samples() -> None:
    y = np.zeros(100, dtype=int)
    groups = np.full(100, -1)
    groups[:20] = 0
    groups[20:30] = 1
    fold = head.folds(y, groups, None, 4, 0)
    np.testing.assert_array_equal(np.sort(np.bincount(fold)), [25, 25, 25, 25])


def test_folds_refuse_a_senseless_number() -> None:
    with pytest.raises(InputError):
        head.folds([0, 1], None, None, 1)


# ---------------------------------------------------------------------------------------------- out of fold


def test_digits_are_read_and_planted_errors_found(digits: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = digits
    fold = head.folds(y, None, None, 5, 0)
    clean = head.out_of_fold(x, y, fold, 10)
    assert (clean.p.argmax(axis=1) == y).mean() > 0.97
    np.testing.assert_allclose(clean.p.sum(axis=1), 1.0, atol=1e-5)
    noisy, injected = noise.symmetric(y, 0.08, 0, 10)
    p = head.out_of_fold(x, noisy, fold, 10).p
    worst = np.argsort(p[np.arange(len(y)), noisy])[: injected.sum()]
    assert injected[worst].mean() > 0.9


def test_the_result_does_not_depend_on_threads_and_does_on_the_seed(
    digits: tuple[np.ndarray, np.ndarray],
) -> None:
    x, y = digits[0][:400], digits[1][:400]
    fold = head.folds(y, None, None, 3, 0)
    spec = head.HeadSpec(epochs=2, least_steps=10, members=2)
    one, three, other = (
        head.out_of_fold(x, y, fold, 10, spec=spec, seed=s, threads=t, dynamics=True)
        for s, t in ((0, 1), (0, 3), (1, 1))
    )
    np.testing.assert_array_equal(one.p, three.p)
    for mine, same in zip(one.records, three.records, strict=True):
        np.testing.assert_array_equal(mine.log_p, same.log_p)
    assert one.history == [
        head.Epoch(**{**e.__dict__, "done": f.done}) for e, f in zip(three.history, one.history, strict=True)
    ]
    assert (one.p != other.p).any()


def test_a_sample_cannot_influence_its_own_prediction(digits: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = digits[0][:300], digits[1][:300].copy()
    fold = head.folds(y, None, None, 3, 0)
    spec = head.HeadSpec(epochs=2, least_steps=10)
    before = head.out_of_fold(x, y, fold, 10, spec=spec).p
    held = np.flatnonzero(fold == 1)
    y[held] = (y[held] + 1) % 10
    after = head.out_of_fold(x, y, fold, 10, spec=spec).p
    np.testing.assert_array_equal(before[held], after[held])
    assert (before[fold == 0] != after[fold == 0]).any()


def test_weights_of_zero_leave_samples_out(digits: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = digits
    noisy, injected = noise.symmetric(y, 0.3, 0, 10)
    fold = head.folds(noisy, None, None, 3, 0)
    spec = head.HeadSpec(epochs=8, hidden=128)
    plain = head.out_of_fold(x, noisy, fold, 10, spec=spec).p
    weighted = head.out_of_fold(x, noisy, fold, 10, spec=spec, weights=~injected).p
    own = np.arange(len(y)), y
    assert weighted[own].mean() > plain[own].mean() + 0.1


def test_rows_outside_the_folds(digits: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = digits[0].copy(), digits[1].copy()
    truth = y.copy()
    y[:40] = -1
    x[40] = np.nan
    ok = np.isfinite(x).all(axis=1)
    fold = head.folds(y, None, ok, 3, 0)
    result = head.out_of_fold(x, y, fold, 10, spec=head.HeadSpec(epochs=6))
    assert (result.p[:40].argmax(axis=1) == truth[:40]).mean() > 0.9
    np.testing.assert_allclose(result.p[40], 0.1)
    np.testing.assert_allclose(result.p.sum(axis=1), 1.0, atol=1e-5)
    with pytest.raises(InputError):
        head.out_of_fold(x, y, head.folds(y, None, None, 3, 0), 10)


def test_a_class_of_one_sample_is_never_predicted_by_the_head_that_has_not_seen_it(
    digits: tuple[np.ndarray, np.ndarray],
) -> None:
    x, y = digits[0][:200], digits[1][:200].copy()
    y[5] = 10
    fold = head.folds(y, None, None, 3, 0)
    result = head.out_of_fold(x, y, fold, 12, spec=head.HeadSpec(epochs=2, least_steps=10))
    assert not result.seen[fold[5], 10]
    assert result.p[5, 10] < 1e-6
    assert not result.seen[:, 11].any()
    assert np.isfinite(result.p).all()


def test_accuracy_of_a_run_survives_a_class_that_one_fold_alone_has() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4, dtype=np.int32), (200, 200, 200, 8))
    x = np.eye(4, 12, dtype=np.float32)[labels] * 4 + rng.normal(0, 0.3, (len(labels), 12)).astype(np.float32)
    fold = np.arange(len(labels), dtype=np.int8) % 4
    fold[labels == 3] = 1  # duplicates of each other, for example
    result = head.out_of_fold(x, labels, fold, 4, dynamics=True)
    last = {epoch.fold: epoch for epoch in result.history}
    assert not result.seen[1, 3]
    for number in range(4):
        inside = fold == number
        right = (result.p[inside].argmax(axis=1) == labels[inside]).mean()
        assert last[number].held_accuracy == pytest.approx(right)
        assert right > 0.9
        assert np.isfinite(last[number].held_loss)
    # Fold 1's model is recorded on fold 0; nothing there may look like the class it has not seen.
    assert result.dynamics is not None
    log_p = result.dynamics.log_p[-1].astype(np.float64)
    assert log_p[fold == 0].mean() == pytest.approx(log_p[fold == 2].mean(), abs=0.1)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_tiny_data_gives_probabilities(n: int) -> None:
    x = np.eye(3, 4, dtype=np.float32)[:n]
    y = np.arange(n, dtype=np.int32) % 2
    result = head.out_of_fold(x, y, head.folds(y, None, None, 5, 0), 2)
    assert result.p.shape == (n, 2)
    np.testing.assert_allclose(result.p.sum(axis=1), 1.0, atol=1e-5)


def test_dynamics_are_those_of_a_head_in_training(digits: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = digits
    noisy, injected = noise.symmetric(y, 0.2, 0, 10)
    fold = head.folds(noisy, None, None, 3, 0)
    record = head.out_of_fold(x, noisy, fold, 10, dynamics=True).dynamics
    assert record is not None
    seen = np.isfinite(record.log_p).mean(axis=0)
    assert (seen == 1.0).all()
    log_p = np.nanmean(record.log_p[2:].astype(np.float32), axis=0)
    assert log_p[injected].mean() < log_p[~injected].mean() - 1.0
    finite = np.isfinite(record.log_p)
    right = record.top == noisy
    assert (record.margin[right] >= 0).all()
    assert (record.margin[~right] <= 0).all()
    top_p, squares = record.top_p[finite].astype(np.float32), record.sum_squares[finite].astype(np.float32)
    assert (squares <= top_p + 1e-3).all()
    assert (squares >= top_p**2 - 1e-3).all()
    np.testing.assert_allclose(
        np.exp(record.log_p[finite & right].astype(np.float32)), record.top_p[finite & right], atol=2e-3
    )


def test_each_member_has_its_own_record(digits: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = digits[0][:400], digits[1][:400]
    fold = head.folds(y, None, None, 3, 0)
    spec = head.HeadSpec(epochs=2, least_steps=10, members=3)
    made = head.out_of_fold(x, y, fold, 10, spec=spec, dynamics=True)
    assert len(made.records) == 3
    assert made.dynamics is made.records[0]
    assert len({record.log_p.tobytes() for record in made.records}) == 3
    for record in made.records:
        assert np.isfinite(record.log_p).all()
        np.testing.assert_array_equal(record.labels, y)
    alone = head.out_of_fold(x, y, fold, 10, spec=replace(spec, members=1), dynamics=True)
    np.testing.assert_array_equal(alone.dynamics.log_p, made.dynamics.log_p)
    assert head.out_of_fold(x, y, fold, 10, spec=spec).records == ()


def test_a_head_that_knows_the_noise_is_recorded_by_how_probable_labels_are_of_being_correct() -> None:
    rng = np.random.default_rng(0)
    k, n = 4, 32
    transition = rng.dirichlet(np.ones(k), k)  # rows of T_ty = P(given y | correct t)
    y = (np.arange(n) % k).astype(np.int32)
    x = rng.normal(size=(n, 6)).astype(np.float32)
    fold = head.folds(y, None, None, 2, 0)
    # A single step, on an untrained head: all correct labels are equally probable but for the given one.
    spec = head.HeadSpec(epochs=1, least_steps=1, batch=16)
    record = head.out_of_fold(x, y, fold, k, spec=spec, transition=transition, dynamics=True).records[0]
    assert record.log_p.shape == (1, n)
    correct = transition[:, y] / transition[:, y].sum(axis=0)  # (K, n)
    np.testing.assert_allclose(
        np.exp(record.log_p[0].astype(np.float64)), correct[y, np.arange(n)], rtol=2e-3
    )
    np.testing.assert_array_equal(record.top[0], correct.argmax(axis=0))
    np.testing.assert_allclose(record.top_p[0], correct.max(axis=0), rtol=2e-3)
    np.testing.assert_allclose(record.sum_squares[0], (correct**2).sum(axis=0), rtol=2e-3)
    others = np.where(np.arange(k)[:, None] == y, 0.0, correct).max(axis=0)
    np.testing.assert_allclose(record.margin[0], np.log(correct[y, np.arange(n)] / others), atol=5e-3)


def test_the_posterior_is_bayes_rule() -> None:
    import torch

    rng = np.random.default_rng(1)
    logits, y = rng.normal(size=(50, 5)) * 3, rng.integers(0, 5, 50)
    transition = rng.dirichlet(np.ones(5), 5)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    joint = p * transition[:, y].T
    expected = joint / joint.sum(axis=1, keepdims=True)
    found = posterior_logits(torch.tensor(logits), torch.tensor(transition), torch.tensor(y))
    np.testing.assert_allclose(torch.softmax(found, dim=1).numpy(), expected, rtol=1e-5)


def test_progress_counts_up_and_cancel_stops(digits: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = digits[0][:300], digits[1][:300]
    fold = head.folds(y, None, None, 3, 0)
    reports: list[head.Epoch] = []
    spec = head.HeadSpec(epochs=3, least_steps=10)
    result = head.out_of_fold(x, y, fold, 10, spec=spec, progress=reports.append)
    assert [report.done for report in reports] == list(range(1, 10))
    assert {report.total for report in reports} == {9}
    assert len(result.history) == 9
    with pytest.raises(Cancelled):
        head.out_of_fold(x, y, fold, 10, spec=spec, cancel=lambda: True)


def test_the_output_may_be_a_file(digits: tuple[np.ndarray, np.ndarray], tmp_path: object) -> None:
    x, y = digits[0][:200], digits[1][:200]
    fold = head.folds(y, None, None, 2, 0)
    spec = head.HeadSpec(epochs=1, least_steps=5)
    file = np.lib.format.open_memmap(f"{tmp_path}/p.npy", mode="w+", dtype=np.float32, shape=(200, 10))
    result = head.out_of_fold(x, y, fold, 10, spec=spec, out=file)
    assert result.p is file
    np.testing.assert_array_equal(file, head.out_of_fold(x, y, fold, 10, spec=spec).p)


def test_the_optimiser_is_that_of_torch() -> None:
    import torch

    from labeltui.head.optimiser import AdamW

    start = [torch.randn(5, 3, generator=torch.manual_seed(0)), torch.ones(4)]
    ours, theirs = ([each.clone().requires_grad_() for each in start] for _ in range(2))
    peer = torch.optim.AdamW(
        [{"params": theirs[:1], "weight_decay": 0.1}, {"params": theirs[1:], "weight_decay": 0.0}], fused=True
    )
    mine = AdamW(ours[:1], ours[1:], 0.1)
    for rate in (1e-3, 5e-3, 2e-3):
        for parameters in (ours, theirs):
            sum((each**3).sum() for each in parameters).backward()
        for group in peer.param_groups:
            group["lr"] = rate
        peer.step()
        peer.zero_grad()
        mine.step(rate)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert all(each.grad is None for each in ours)


def test_heads_start_without_torchs_compiler() -> None:
    code = """
import sys
import numpy as np
from labeltui import head
y = np.arange(60) % 2
X = np.random.default_rng(0).normal(size=(60, 4)).astype("f4")
head.out_of_fold(X, y, head.folds(y, None, None, 3), 2, threads=1)
assert "torch" in sys.modules
sys.exit("torch._dynamo" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_head_does_not_import_torch() -> None:
    code = "import sys, labeltui.head; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---------------------------------------------------------------------------------------------- unfinished


class TestUnfinished:
    SPEC = head.HeadSpec(hidden=16, epochs=3, least_steps=10, members=2)

    @pytest.fixture
    def arguments(self, digits: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
        """A training with all that decides it: samples in no fold, weights, a transition matrix."""
        x, y = digits[0][:200].copy(), digits[1][:200].copy()
        y[-20:] = -1
        fold = head.folds(y, None, None, 3, 0)
        weights = np.linspace(0.5, 1.5, len(y))
        transition = np.full((10, 10), 0.01) + 0.9 * np.eye(10)
        return {
            "X": x, "labels": y, "fold": fold, "n_classes": 10, "spec": self.SPEC, "seed": 0, "threads": 2,
            "device": "cpu", "weights": weights, "transition": transition, "dynamics": True,
        }  # fmt: skip

    def stopped(self, arguments: dict[str, Any], after: int) -> Memory:
        """Stop a training after so many epochs of its heads."""
        keeper = Memory()
        with pytest.raises(Cancelled):
            head.out_of_fold(**arguments, keeper=keeper, cancel=lambda: len(keeper.saved) >= after)
        return keeper

    def trained(self, arguments: dict[str, Any], keeper: Memory) -> tuple[head.HeadResult, list[head.Epoch]]:
        """Train, and say which epochs were trained now."""
        epochs: list[head.Epoch] = []
        return head.out_of_fold(**arguments, keeper=keeper, progress=epochs.append), epochs

    @pytest.mark.parametrize("after", [1, 4, 13])  # the first of two members has 9 epochs
    def test_finished_epochs_are_not_trained_again(self, arguments: dict[str, Any], after: int) -> None:
        whole = head.out_of_fold(**arguments)
        keeper = self.stopped(arguments, after)
        got, epochs = self.trained({**arguments, "threads": 1}, keeper)
        assert keeper.used
        assert len(epochs) <= len(whole.history) - after
        assert [(epoch.done, epoch.total) for epoch in epochs] == [
            (done + 1, len(epochs)) for done in range(len(epochs))
        ]
        np.testing.assert_array_equal(got.p, whole.p)
        for mine, same in zip(got.records, whole.records, strict=True):
            for name, array in vars(same).items():
                np.testing.assert_array_equal(getattr(mine, name), array)
        assert [replace(epoch, done=0, total=0) for epoch in got.history] == [
            replace(epoch, done=0, total=0) for epoch in whole.history
        ]

    def test_finished_heads_only_predict(self, arguments: dict[str, Any]) -> None:
        keeper = Memory()
        whole, _ = self.trained(arguments, keeper)
        got, epochs = self.trained(arguments, keeper)
        assert not epochs
        np.testing.assert_array_equal(got.p, whole.p)

    @pytest.mark.parametrize(
        "changed", ["X", "labels", "fold", "spec", "seed", "weights", "transition", "dynamics"]
    )
    def test_another_training_starts_anew(self, arguments: dict[str, Any], changed: str) -> None:
        keeper = self.stopped(arguments, 10)
        other = {**arguments}
        if changed in ("spec", "seed", "dynamics"):
            other |= {"spec": replace(self.SPEC, dropout=0.4), "seed": 1, "dynamics": False}
            other = {**arguments, changed: other[changed]}
        else:
            array = other[changed].copy()
            array[:2] = array[1::-1]  # the first two rows change places
            other[changed] = array
        got, epochs = self.trained(other, keeper)
        assert not keeper.used
        assert len(epochs) == 2 * 3 * 3
        np.testing.assert_array_equal(got.p, head.out_of_fold(**other).p)

    def test_work_that_does_not_fit_is_not_used(self, arguments: dict[str, Any]) -> None:
        whole = head.out_of_fold(**arguments)
        key, content = self.stopped(arguments, 4).saved[-1]
        for damaged in (
            b"", content[:30], content[:-1], bytes(8) + content[8:], content.replace(b"PCG64", b"MT199"),
            content.replace(b'"state"', b'"stats"'), content.replace(b"[[", b"[{"), b"\xff" * len(content),
        ):  # fmt: skip
            assert damaged != content
            keeper = Memory()
            keeper.saved = [(key, damaged)]
            got, epochs = self.trained(arguments, keeper)
            assert len(epochs) == len(whole.history)
            np.testing.assert_array_equal(got.p, whole.p)
            np.testing.assert_array_equal(got.records[0].log_p, whole.records[0].log_p)
