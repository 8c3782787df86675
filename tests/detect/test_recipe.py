"""The recipe of the shipped weights: made again, they are the same."""

from __future__ import annotations

import json
import sys
from importlib import resources
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save

import labeltui
from labeltui import parallel
from labeltui.detect.dynamics import network
from labeltui.detect.dynamics.curves import Curves

RECIPE = Path(__file__).parents[2] / "data" / "noise_detector"
SMALL = (2, 3)  # worlds that take a second


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, as a module."""
    monkeypatch.syspath_prepend(RECIPE)
    import make

    monkeypatch.setattr(make, "STEPS", 12)
    yield make
    for name in ("make", "worlds"):
        sys.modules.pop(name, None)


def test_worlds_and_weights_follow_from_their_numbers_and_seed(make: ModuleType) -> None:
    files = []
    with parallel.limit_blas(1):
        for _ in range(2):
            made = [make.worlds.make(number) for number in SMALL]
            rng = np.random.default_rng(0)
            sheets = [make.sheet(Curves(each.record, each.n_classes), each.wrong, rng) for each in made]
            files.append(save(make.train(sheets).state_dict()))
    assert files[0] == files[1]


def test_the_shipped_weights_say_what_made_them() -> None:
    path = resources.files(labeltui.detect.dynamics).joinpath(network.WEIGHTS)
    with resources.as_file(path) as file, safe_open(str(file), "numpy") as weights:
        made = json.loads(weights.metadata()["made"])
    assert (RECIPE.parents[1] / made["recipe"]).exists()
    assert made["worlds"] >= 100
    assert path.stat().st_size < 2_000_000
