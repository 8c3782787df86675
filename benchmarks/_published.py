"""Rows of `detection.py` that are published recipes, trained as their papers say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import _cleannet
import _lstm
from _measures import Row
from _ours import CHECKS, HEAD, Arrays, Stage
from _peers import Found
from _worlds import World, digits, plant
from labeltui import head

RECIPES = (Path(_lstm.__file__), Path(_cleannet.__file__))
TAUGHT = (
    "symmetric",
    0.2,
    100,
)  # kind, rate and seed of the errors planted in the digits that the LSTM learns from


def lstm(stage: Stage) -> Found:
    """The published LSTM: taught on digits with planted errors, moved to this world's record without retraining."""
    kind, rate, seed = TAUGHT
    of = digits()
    teacher = Stage(World(of, kind, rate, plant(of, kind, rate, seed), seed), stage.keep)
    kept = stage.kept("published LSTM", read, (*HEAD, *RECIPES), teacher, stage.record)
    return {"published LSTM (taught on digits)": Row(kept["score"], seconds=float(kept["seconds"]))}, {}


def read(teacher: Stage, record: head.Dynamics) -> Arrays:
    return {"score": _lstm.published([teacher.record], [teacher.world.wrong], record)}


def cleannet(stage: Stage) -> Found:
    """Published CleanNet, told the right answer on random samples, as many as the checks."""
    world = stage.world
    rows = np.random.default_rng([world.seed, CHECKS]).choice(len(world.labels), CHECKS, replace=False)
    kept = stage.kept("published CleanNet", compare, RECIPES, world, np.sort(rows))
    row = Row(kept["score"], kept["score"] < _cleannet.MARGIN, seconds=float(kept["seconds"]))
    return {f"published CleanNet ({CHECKS} verified)": row}, {}


def compare(world: World, rows: NDArray[np.int64]) -> Arrays:
    right = ~world.wrong[rows]
    return {
        "score": _cleannet.published(
            world.pictures.X, world.labels, world.n_classes, rows, right, seed=world.seed
        )
    }
