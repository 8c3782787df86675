"""Label noise that is injected into one run, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from labeltui import store
from labeltui.audit import Audit
from labeltui.errors import UsageError
from labeltui.head import HeadSpec
from labeltui.io.h5_reader import H5
from labeltui.train import child, jobs
from labeltui.train.dynamics import read_dynamics
from labeltui.train.plan import Request, prepare
from labeltui.train.spec import BackboneSpec, TrainSpec
from tests.factories import make_audit
from tests.runs import prepared

SMALL = BackboneSpec(
    "test_resnet", pretrained=False, image_size=16, epochs=2, batch_size=32, augment=(), learning_rate=3e-3
)


def test_injected_labels_are_learned_and_recorded_but_never_count_against_a_sample(tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=600, images=False)
    truth = np.load(tmp_path / "truth.npy")
    directory = prepared(path, head=HeadSpec(), self_calibrate=0.1, folds=2, threads=1)
    labels, injected = np.load(directory / "labels.npy"), np.load(directory / "injected.npy")
    chosen = injected >= 0
    assert abs(int(chosen.sum()) - 60) <= 4
    assert (injected[chosen] != labels[chosen]).all()
    assert child.run(directory) == "done", jobs.read(directory).message
    recorded = read_dynamics(directory)
    np.testing.assert_array_equal(recorded.labels, np.where(chosen, injected, labels))
    with Audit.open(path, reviewer="ada") as audit:
        assert audit.refresh() is not None
        np.testing.assert_array_equal(audit.training_labels(), labels)
        np.testing.assert_array_equal(audit.current, audit.given)
        with store.Store.open(path, audit.generation) as opened:
            score = opened.array("scores/dynamics")
            attrs = opened.attrs("scores/dynamics")
            flagged = opened.array("suggest/label")[:, 0] != opened.given
    assert (score[chosen] == 0.5).all()
    assert attrs["injected"] == chosen.sum()
    assert attrs["records"] == 1  # the corrected heads do not learn the injected labels
    right = labels == truth
    # The real errors look like the injected ones: they are separated from the correct labels.
    assert roc_auc_score(right[~chosen], score[~chosen]) > 0.98
    assert np.median(score[~right & ~chosen]) < 0.5
    assert np.median(score[right & ~chosen]) > 0.7
    assert attrs["injected_rate"] == pytest.approx((~right).mean(), abs=0.1)
    assert flagged[right & chosen].mean() <= flagged[right & ~chosen].mean() + 0.03


def test_the_seed_decides_the_injected_labels(tmp_path: Path) -> None:
    path = make_audit(tmp_path, images=False)
    with Audit.open(path, read_only=True) as audit:
        made = [prepare(audit, Request(self_calibrate=0.05, seed=seed)) for seed in (0, 0, 1)]
    (first, a), (second, b), (third, c) = made
    np.testing.assert_array_equal(a["injected"], b["injected"])
    assert first.injected_sha256 == second.injected_sha256 != third.injected_sha256
    assert (a["injected"] != c["injected"]).any()


def test_a_backbone_is_taught_them_too(tmp_path: Path) -> None:
    path = make_audit(tmp_path, n=96)
    directory = prepared(path, backbone=SMALL, folds=2, self_calibrate=0.2, threads=1)
    spec = TrainSpec.read(directory / "spec.json")
    assert spec.injected_sha256
    injected = np.load(directory / "injected.npy")
    assert child.run(directory) == "done", jobs.read(directory).message
    recorded = read_dynamics(directory)
    train_labels = np.where(injected >= 0, injected, np.load(directory / "labels.npy"))
    np.testing.assert_array_equal(recorded.labels, train_labels)
    with H5(directory / "result.h5") as result:
        score = np.array(result["scores/dynamics"])
    assert (score[injected >= 0] == 0.5).all()
    assert (score[injected < 0] != 0.5).mean() > 0.9


def test_what_cannot_be_self_calibrated_is_refused(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    with Audit.open(path, read_only=True) as audit:
        for fraction in (0.005, 0.5, -0.1):
            with pytest.raises(UsageError):
                prepare(audit, Request(self_calibrate=fraction))
        with pytest.raises(UsageError):
            prepare(audit, Request(backbone=SMALL, folds=0, self_calibrate=0.1))
