"""Rows of `detection.py` that are published recipes, trained as their papers say; the LSTM is in `dynamics.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from _measures import Row
from _ours import CHECKS, Arrays, Stage
from _worlds import World
from peers import cleannet as network
from peers.scores import Found

RECIPES = (Path(network.__file__),)


def cleannet(stage: Stage) -> Found:
    """Published CleanNet, trained with the correct answers on as many random samples as are checked."""
    world = stage.world
    rows = np.random.default_rng([world.seed, CHECKS]).choice(len(world.labels), CHECKS, replace=False)
    kept = stage.kept("published CleanNet", compare, RECIPES, world, np.sort(rows))
    row = Row(kept["score"], kept["score"] < network.MARGIN, seconds=float(kept["seconds"]))
    return {f"published CleanNet ({CHECKS} verified)": row}, {}


def compare(world: World, rows: NDArray[np.int64]) -> Arrays:
    right = ~world.wrong[rows]
    return {
        "score": network.published(
            world.images.X, world.labels, world.n_classes, rows, right, seed=world.seed
        )
    }
