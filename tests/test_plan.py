"""What a scan will take, told beforehand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from labeltui import cli, plan
from labeltui.errors import UsageError
from labeltui.plan import Rates, Size, estimate
from labeltui.scanning import ScanOptions
from tests.test_json import faults, schemas

RATES = Rates(quadratic=1.0, linear=1.0, head=1.0, score=1.0, image=0.01, base=800_000_000, seconds=1.0)
LARGE = Size(images=100_000_000, dim=768, classes=1000, ready=True)


def seconds(made: plan.Plan, name: str) -> float:
    return next(step.seconds for step in made.steps if step.name == name)


def test_a_plan_of_a_file_says_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "GRAPH_ROWS", (1000, 2500))
    monkeypatch.setattr(plan, "SCORED_ROWS", 300)
    labels = np.arange(600) % 3
    embeddings = np.random.default_rng(0).normal(size=(600, 16)).astype(np.float16)
    np.savez(tmp_path / "x.npz", embeddings=embeddings, labels=labels)
    result = CliRunner().invoke(cli.cli, ["plan", str(tmp_path / "x.npz"), "--cores", "3", "--json"])
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    assert not list(faults(value, schemas()["plan"]))
    assert value["size"] == {"images": 600, "dim": 16, "classes": 3, "ready": True, "bytes_each": 2}
    assert value["cores"] == 3
    assert [step["name"] for step in value["steps"]] == [
        *("features", "graph", "duplicates", "csg", "classifier", "scores", "write"),
        "review opens in",
    ]
    assert value["seconds"] == pytest.approx(sum(step["seconds"] for step in value["steps"][:-1]))
    assert all(step["low"] < step["seconds"] < step["high"] for step in value["steps"])


def test_the_graph_grows_with_the_square_and_scoring_does_not(tmp_path: Path) -> None:
    def of(n: int, d: int = 512) -> plan.Plan:
        return estimate(Size(n, d, 10, ready=True), ScanOptions(), RATES, 2, 0, tmp_path)

    small, large = of(200_000), of(800_000)
    assert 13 < seconds(large, "graph") / seconds(small, "graph") < 16.1
    assert 3.5 < seconds(large, "scores") / seconds(small, "scores") < 4.1
    assert seconds(of(200_000, 1024), "graph") > 1.6 * seconds(small, "graph")
    assert large.memory > small.memory
    assert (small.engine, small.backend) == ("local", "exact")


def test_the_engine_follows_from_time_and_memory(tmp_path: Path) -> None:
    alone = estimate(LARGE, ScanOptions(), RATES, 2, 0, tmp_path)
    assert (alone.engine, alone.backend) == ("ray", "approximate")
    assert any("memory" in reason for reason in alone.why)
    assert any("far beyond what was measured" in reason for reason in alone.why)
    helped = estimate(replace(LARGE, images=1_281_167), ScanOptions(), RATES, 2, 8, tmp_path)
    assert helped.backend == "cuda"
    assert next(step for step in helped.steps if step.name == "graph").basis == "assumed"
    said = "\n".join(plan.lines(alone))
    assert "--engine ray --backend approximate" in said
    assert "100,000,000 images" in said


def test_what_is_measured_twice_is_told_apart() -> None:
    found = plan._solve([(1.0, 2.0), (9.0, 6.0)], [2 * 1.0 + 3 * 2.0, 2 * 9.0 + 3 * 6.0])
    assert found == pytest.approx((2.0, 3.0))
    assert plan._solve([(1.0, 2.0), (9.0, 6.0)], [100.0, 30.0]) == (2.0, 2.0)  # noise: one factor for both


def test_sizes_are_needed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--images"):
        plan.plan()
    with pytest.raises(UsageError, match="positive"):
        plan.plan(images=10, dim=-1)
