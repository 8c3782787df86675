"""How a run learns, epoch by epoch: read from its events while it works and afterwards."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from labeltui import paths
from labeltui.io import files

MOST_BYTES = 64 << 20  # far more than a run writes
BLOCKS = "▁▂▃▄▅▆▇█"


class Curve(NamedTuple):
    """Epochs of a run; where it has several models, the mean of those seen so far.

    Attributes
    ----------
    loss : tuple of float
        Mean training loss of each epoch.
    accuracy : tuple of float
        Of each epoch, on samples that the model is not trained on, by the labels of the run; empty where none was
        looked at.
    epoch, epochs : int
        Finished epochs of the model that reported last, and how many it has at most; 0 before the first report.
    """

    loss: tuple[float, ...] = ()
    accuracy: tuple[float, ...] = ()
    epoch: int = 0
    epochs: int = 0


def read(directory: Path) -> Curve:
    """Read the curve of the run in `directory`, empty when it has none.

    An epoch that was done twice, because the run was killed before its checkpoint, counts as it was done last.
    """
    try:
        text = files.read_regular(directory / paths.EVENTS_FILE, MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return Curve()
    found: dict[tuple[int, int], tuple[float, float]] = {}
    last = (0, 0)
    for line in text.split("\n")[:-1]:  # what follows the last newline is being written
        if '"epoch"' not in line:
            continue
        try:
            event = json.loads(line)
            model, epoch, epochs = int(event["model"]), int(event["epoch"]), int(event["epochs"])
            found[epoch, model] = float(event["loss"]), float(event.get("accuracy", math.nan))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue
        last = epoch, epochs
    by_epoch: dict[int, list[tuple[float, float]]] = {}
    for (epoch, _), values in sorted(found.items()):
        by_epoch.setdefault(epoch, []).append(values)
    loss = tuple(_mean([each for each, _ in values]) for values in by_epoch.values())
    accuracy = tuple(_mean([each for _, each in values]) for values in by_epoch.values())
    return Curve(loss, () if any(map(math.isnan, accuracy)) else accuracy, *last)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def sparkline(values: Sequence[float], width: int) -> str:
    """Draw values as a line of blocks, scaled to their range.

    More values than cells are averaged. Constant series are drawn in the middle.

    Parameters
    ----------
    values : sequence of float
        Values that are not finite are blank.
    width : int
        Largest number of cells.

    Returns
    -------
    str

    >>> sparkline([0, 1, 2, 7], 8)
    '▁▂▃█'
    >>> sparkline([5, 5], 8)
    '▄▄'
    """
    if len(values) > width:
        cuts = [round(at * len(values) / width) for at in range(width + 1)]
        values = [_mean(values[start:end]) for start, end in pairwise(cuts)]
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return ""
    low, span = min(known), max(known) - min(known)
    return "".join(
        (BLOCKS[round((value - low) / span * (len(BLOCKS) - 1))] if span else BLOCKS[3])
        if math.isfinite(value)
        else " "
        for value in values
    )
