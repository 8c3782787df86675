"""`labeltui train`, `jobs` and `compare` as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from labeltui.audit import Audit
from labeltui.cli import cli
from labeltui.errors import UsageError
from labeltui.train import launch
from tests.factories import make_audit
from tests.runs import here

MODEL = (
    *("--model", "test_resnet", "--no-pretrained", "--image-size", 16, "--epochs", 1),
    *("--augment", "none", "--threads", 1, "--folds", 0),
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments], catch_exceptions=False)


def test_training_beside_an_open_review_and_comparing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    process = launch.launch
    monkeypatch.setattr(launch, "launch", here)
    path = make_audit(tmp_path)
    truth = np.load(tmp_path / "truth.npy")
    with Audit.open(path, reviewer="ada") as audit:
        wrong = np.flatnonzero(audit.given != truth)
        audit.decide(wrong, "relabel", truth[wrong])
        audit.flush()
        head = run("train", path, "--folds", 2, "--threads", 1)
        assert "the review that is open shows the new scores by itself" in head.output
        assert audit.generation == 0
        assert audit.refresh() is not None  # as the review does
        assert audit.generation == 1
    for labels in ("given", "current"):
        with monkeypatch.context() as patch:
            if labels == "given":  # beside this process, which waits for it with the other
                patch.setattr(launch, "launch", process)
            how = "--background" if labels == "given" else "--queue"
            made = run("train", path, *MODEL, "--labels", labels, how)
        assert made.exit_code == 0, made.output
    assert "accuracy" in made.output
    assert "random (from scratch)" in made.output
    listed = run("jobs", path).output.splitlines()
    assert [line.split()[2] for line in listed] == ["head", "test_resnet", "test_resnet"]
    ids = [line.split()[1] for line in listed]
    found = json.loads(run("compare", path, *ids[1:], "--json").output)
    assert [each["labels"] for each in found["runs"]] == ["given", "current"]
    assert found["samples"] == found["runs"][0]["n"] > 10
    text = run("compare", path, *(each[-4:] for each in ids[1:])).output
    assert "current, test_resnet minus given, test_resnet: accuracy" in text


def test_options_that_do_not_go_together(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    for options, word in (
        (["--epochs", "3"], "--model"),
        (["--model", "test_resnet", "--no-pretrained", "--checkpoint", "x"], "--no-pretrained"),
        (["--model", "test_resnet", "--augment", "flip,cut"], "--augment"),
        (["--model", "test_resnet", "--model-arg", "x"], "KEY=VALUE"),
    ):
        with pytest.raises(UsageError, match=word):
            run("train", path, *options)
