"""Studies: what their cells compute, and that an interruption leaves no trace."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from labeltui.audit import Audit
from labeltui.cli import cli
from labeltui.errors import Cancelled, JobError, UsageError
from labeltui.studies import job as studies
from labeltui.studies import report
from labeltui.studies.cells import diluted, frequencies, structured_noise
from labeltui.studies.data import StudyData
from labeltui.studies.networks import Recipe, fit_predict
from labeltui.studies.plan import INFINITE, StudySpec
from labeltui.studies.summary import Figure, fraction_of_gap, needed_samples
from labeltui.train import child, jobs
from labeltui.train.plan import Request, prepare
from tests.factories import make_audit


@pytest.fixture(scope="module")
def audit_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_audit(tmp_path_factory.mktemp("audit"), flips=0.0)


@pytest.fixture(scope="module")
def data() -> StudyData:
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=400).astype(np.int32)
    images = np.clip(rng.normal(128, 20, (4, 3, 8, 8))[labels] + rng.normal(0, 20, (400, 3, 8, 8)), 0, 255)
    features = images.reshape(400, -1).astype(np.float32)
    rows = rng.permutation(400)
    pixels = images.astype(np.uint8)
    return StudyData(labels, 4, np.sort(rows[:300]), np.sort(rows[300:]), features, lambda: pixels)


class Quiet:
    """Neither reports nor stops, but for a number of checks."""

    def __init__(self, stop_after: int = 1 << 30) -> None:
        self.left = stop_after

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Cancelled("stopped")

    def report(self, done: int, total: int) -> None:
        pass


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((directory / studies.CELLS).iterdir())}


def values(cells: list[dict[str, Any]], **wanted: Any) -> float:
    found = [
        each["result"]["accuracy"]
        for each in cells
        if all(each["cell"].get(key) == value for key, value in wanted.items())
    ]
    assert found
    return float(np.mean(found))


def test_dilution_costs_accuracy_and_an_interruption_leaves_the_same_bytes(
    data: StudyData, tmp_path: Path
) -> None:
    spec = StudySpec("dilution", ("linear", "cnn"), seeds=(0,), steps=40, alphas=(0, 100))
    for name in ("whole", "pieces"):
        (tmp_path / name).mkdir()
    cells = studies.run_cells(spec, data, tmp_path / "whole", Quiet())
    rng = np.random.default_rng(0)
    interruptions = 0
    while True:
        try:
            studies.run_cells(spec, data, tmp_path / "pieces", Quiet(int(rng.integers(30, 100))))
            break
        except Cancelled:
            interruptions += 1
    assert interruptions > 1
    assert content(tmp_path / "pieces") == content(tmp_path / "whole")
    for network in spec.networks:
        assert values(cells, network=network, alpha=0) > 0.95
        assert values(cells, network=network, alpha=100) < values(cells, network=network, alpha=0)


def test_correction_reports_labels_csg_and_every_condition(data: StudyData, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    second = (data.features @ rng.normal(size=(192, 40))).astype(np.float32)
    spec = StudySpec("correction", ("mlp",), seeds=(0,), steps=60, noises=("symmetric:0.4",), reviews=20)
    cells = studies.run_cells(spec, replace(data, second=second), tmp_path, Quiet())
    labels = cells[0]["result"]
    assert labels["wrong"]["noisy"] == pytest.approx(0.4)
    assert labels["wrong"]["blind"] < 0.2
    assert labels["wrong"]["reviewed"] <= labels["wrong"]["blind"]
    noisy, half, clean = (labels["csg_second"][name][0] for name in ("noisy", "half corrected", "oracle"))
    assert noisy > half > clean
    assert values(cells, condition="oracle") == values(cells, condition="original")
    study = {"study": spec.as_json(), "labels": "current", "train": 300, "test": 100, "cells": cells}
    text = "\n".join(report.lines(study))
    assert "second embedding" in text
    assert "symmetric:0.4, mlp: blind closes" in text
    made = report.summary(study)
    assert made["labels"][0]["wrong"]["noisy"][0] == pytest.approx(0.4)


def test_structure_and_batch_name_what_they_vary(data: StudyData, tmp_path: Path) -> None:
    spec = StudySpec("structure", ("linear",), seeds=(0,), steps=40, alphas=(4,), deltas=(0.0, 1.0, 2.0))
    strange = np.random.default_rng(0).normal(128, 60, (50, 192)).astype(np.float32)
    for name in ("with", "without", "batch"):
        (tmp_path / name).mkdir()
    cells = studies.run_cells(spec, replace(data, strangers=strange), tmp_path / "with", Quiet())
    gaps = [each["result"]["plurality_gap"] for each in cells if each["cell"]["kind"] == "confusable"]
    assert gaps[0] > 0.1
    assert gaps[1] == pytest.approx(0.0, abs=1e-5)
    assert gaps[2] < 0
    assert values(cells, kind="white noise") > values(cells, kind="confusable", delta=2.0)
    assert values(cells, kind="out-of-vocabulary") > 0.5
    skipped = studies.run_cells(spec, data, tmp_path / "without", Quiet())
    study = {"study": spec.as_json(), "labels": "given", "train": 300, "test": 100, "cells": skipped}
    assert "--other" in report.lines(study)[-1]
    spec = StudySpec(
        "batch", ("linear",), (0,), steps=40, alphas=(3,), batches=(32, INFINITE), learning_rates=(1e-3,)
    )
    cells = studies.run_cells(spec, data, tmp_path / "batch", Quiet())
    assert values(cells, batch=INFINITE) >= values(cells, batch=32)  # no noise but its expectation


def test_dilution_is_one_clean_label_and_alpha_random_ones() -> None:
    labels = np.repeat(np.arange(5), 400).astype(np.int32)
    found = diluted(labels, 5, 4, 0)
    np.testing.assert_array_equal(found[:, 0], labels)
    assert (found[:, 1:] == labels[:, None]).mean() == pytest.approx(0.2, abs=0.02)
    shares = frequencies(found, 5)
    assert shares.sum(axis=1) == pytest.approx(1.0)
    assert shares[np.arange(2000), labels].mean() == pytest.approx(0.2 + 0.8 * 0.2, abs=0.02)
    noise = np.zeros((5, 5))
    noise[:, 2] = 1.0
    assert (diluted(labels, 5, 4, 0, noise)[:, 1:] == 2).all()


def test_structured_noise_ties_at_delta_1(data: StudyData) -> None:
    clean = data.labels[data.train]
    for alpha in (4, 20):
        noise = structured_noise(clean, 4, data.neighbours, alpha, 1.0)
        assert noise.sum(axis=1) == pytest.approx(1.0)
        counts = np.eye(4) + alpha * noise
        others = counts - 1e9 * np.eye(4)
        np.testing.assert_allclose(np.diag(counts), others.max(axis=1))


def test_training_leaves_torch_as_it_was_and_ignores_its_threads(data: StudyData) -> None:
    import torch

    recipe = Recipe("cnn", 10, 32)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    args = (data.inputs("cnn"), data.train, data.labels[data.train], data.test, 4, recipe)
    first = fit_predict(*args)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    torch.manual_seed(7)
    torch.set_num_threads(2)
    try:
        np.testing.assert_array_equal(fit_predict(*args), first)
    finally:
        torch.set_num_threads(threads)


def test_fraction_of_the_gap() -> None:
    found = fraction_of_gap([0.50, 0.52, 0.48], [0.60, 0.62, 0.58], [0.70, 0.72, 0.68])
    assert found.value == pytest.approx(0.5)
    assert found.low == pytest.approx(0.5)  # the pairs agree exactly
    wide = fraction_of_gap([0.50, 0.52, 0.48], [0.58, 0.64, 0.57], [0.71, 0.70, 0.69])
    assert wide.low is not None
    assert wide.high is not None
    assert wide.low < wide.value < wide.high  # type: ignore[operator]
    small = fraction_of_gap([0.50, 0.50], [0.52, 0.52], [0.53, 0.53])
    assert small.value is None


def test_clean_samples_needed_are_interpolated_and_fitted() -> None:
    found = [
        Figure(
            {"alpha": alpha, "fraction": 1.0},
            min(1.0, n / (100 * (1 + alpha))),
            0,
            0,
            1,
            {"clean_samples": n},
        )
        for alpha in (0, 1, 3)
        for n in (10, 50, 100, 150, 200, 300, 400)
    ]
    needed, r2 = needed_samples(found, 0.99)
    assert [round(n, -1) for _, n in needed] == [100, 200, 400]
    assert r2 is not None
    assert r2 > 0.99


def test_a_killed_study_resumes_with_the_same_bytes(audit_path: Path, tmp_path: Path) -> None:
    spec = StudySpec("dilution", ("linear", "mlp"), seeds=(0,), steps=200, alphas=(0, 3, 10))
    with Audit.open(audit_path, read_only=True) as audit:
        killed = studies.start(audit, spec)
    deadline = time.monotonic() + 60
    while len(list(killed.directory.glob("cells/*.json"))) < 2:
        assert time.monotonic() < deadline, jobs.read(killed.directory)
        time.sleep(0.01)
    os.kill(json.loads((killed.directory / "heartbeat.json").read_text())["pid"], signal.SIGKILL)
    while jobs.read(killed.directory).active:
        time.sleep(0.01)
    assert jobs.read(killed.directory).state == "lost"
    while (state := child.run(killed.directory, studies.run_study)) == "running":
        time.sleep(0.01)  # the killed process still holds its lock
    assert state == "done"
    with Audit.open(audit_path, read_only=True) as audit:
        made, arrays = prepare(audit, Request(held_out="0.2", seed=0))
    whole = jobs.create(audit_path, replace(made, kind="study", study=spec.as_json()), arrays)
    assert child.run(whole, studies.run_study) == "done"
    for name in ("study.json", "study.svg"):
        assert (whole / name).read_bytes() == (killed.directory / name).read_bytes()
    assert jobs.read(whole).what == "study dilution"
    shown = CliRunner().invoke(cli, ["noise", "report", str(audit_path), whole.name], catch_exceptions=False)
    assert "mlp" in shown.stdout
    picture = tmp_path / "p.png"
    CliRunner().invoke(
        cli, ["noise", "report", str(audit_path), whole.name, "--plot", str(picture)], catch_exceptions=False
    )
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_timm_network_is_fine_tuned_and_its_weights_are_named(
    audit_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    spec = StudySpec("correction", ("test_resnet",), (0,), noises=("symmetric:0.3",), epochs=1, image_size=32)
    with Audit.open(audit_path, read_only=True) as audit:
        made, arrays = prepare(audit, Request(held_out="0.2", seed=0))
    directory = jobs.create(audit_path, replace(made, kind="study", study=spec.as_json()), arrays)
    state = child.run(directory, studies.run_study)
    assert state == "done", jobs.read(directory).message
    found = report.read(directory)
    assert {each["result"]["weights"][:6] for each in found["cells"][1:]} <= {"random", "pretra"}
    assert not (directory / "network").exists()


def test_strange_images_come_from_the_other_audit(audit_path: Path, tmp_path: Path) -> None:
    other = make_audit(tmp_path, seed=1)
    spec = StudySpec(
        "structure", ("cnn",), (0,), steps=30, alphas=(1,), deltas=(0.0,), image_size=8, other=str(other)
    )
    with Audit.open(audit_path, read_only=True) as audit:
        made, arrays = prepare(audit, Request(held_out="0.2", seed=0))
    directory = jobs.create(audit_path, replace(made, kind="study", study=spec.as_json()), arrays)
    assert child.run(directory, studies.run_study) == "done", jobs.read(directory).message
    strange = report.read(directory)["cells"][1]
    assert strange["cell"]["kind"] == "out-of-vocabulary"
    assert strange["result"]["accuracy"] > 0.3


def test_what_a_study_cannot_do_is_said_before_it_starts(
    tmp_path: Path, audit_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = make_audit(tmp_path, images=False)
    with Audit.open(bare, read_only=True) as audit:
        with pytest.raises(UsageError, match="images"):
            studies.start(audit, StudySpec("dilution", ("cnn",)))
        with pytest.raises(UsageError, match="same samples"):
            studies.start(audit, StudySpec("correction", second=str(audit_path)))
        with pytest.raises(JobError, match="measure"):
            studies.start(audit, StudySpec("dilution"), held_out="none")
    with pytest.raises(JobError, match="finished study"):
        report.read(tmp_path)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match="matplotlib"):
        report.plot({"study": {"study": "dilution"}, "cells": []}, tmp_path / "p.svg")


@pytest.mark.parametrize(
    "wrong",
    [
        {"study": "other"},
        {"study": "dilution", "networks": ("resnet18",)},
        {"study": "dilution", "alphas": (-1,)},
        {"study": "correction", "noises": ("symmetric",)},
        {"study": "correction", "noises": ("none",)},
        {"study": "batch", "batches": (1,)},
    ],
)
def test_bad_parameters_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        StudySpec(**wrong)


def test_parameters_survive_the_file() -> None:
    spec = StudySpec("batch", seeds=(1, 2), alphas=(3,))
    assert StudySpec.from_json(json.loads(json.dumps(spec.as_json()))) == spec
    with pytest.raises(UsageError):
        StudySpec.from_json({"study": "dilution", "steps": "many"})
