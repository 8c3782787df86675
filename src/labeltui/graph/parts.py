"""An exact search whose tiles are done in parts, by processes that may be on other machines.

All processes lay the rows out alike and share nothing else: the one that asked does the nearest tiles itself, so that
every row has a threshold, then each part searches its own tiles from these thresholds on, and returns its candidates.
They are merged (what a part dropped is at most its threshold, so the highest threshold holds for all), ranked exactly,
and proven, as those of one process are. So the graph does not depend on who searched which tile, nor on how often.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from labeltui._fast import knn
from labeltui.errors import Cancelled, LabeltuiError
from labeltui.graph.tasks import run_task
from labeltui.parallel import Cancel, Portions, Progress


@dataclass(frozen=True)
class Part:
    """The tiles of one part.

    Attributes
    ----------
    path : str
        Search path, one of `labeltui.graph.exact.paths()`.
    k : int
    begin, end : int
        Pieces of the grid.
    """

    path: str
    k: int
    begin: int
    end: int


@dataclass(frozen=True)
class Found:
    """The candidates of one part.

    Attributes
    ----------
    layout : (slots,) int32
        The row in every slot.
    size : (slots,) int32
    threshold : (slots,) float32
    keys : (size.sum(),) uint64
        Candidates of the slots, one after the other.
    """

    layout: npt.NDArray[np.int32]
    size: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.float32]
    keys: npt.NDArray[np.uint64]


class Crew(Protocol):
    """Processes that search parts."""

    @property
    def size(self) -> int:
        """How many parts are searched at a time."""

    def search(
        self, rows: knn.Rows, thresholds: npt.NDArray[np.float32], parts: Sequence[Part]
    ) -> Iterator[Found | None]:
        """Yield what is found, in any order, and None now and then while nothing is.

        Parameters
        ----------
        rows : Rows
            With lengths set.
        thresholds : (slots,) float32
        parts : sequence of Part
        """


def search_part(
    X: npt.NDArray[Any],
    chosen: npt.NDArray[np.int64] | None,
    metric: int,
    squared: npt.NDArray[np.float64],
    thresholds: npt.NDArray[np.float32],
    part: Part,
    threads: int,
) -> Found:
    """Search the tiles of one part.

    Parameters
    ----------
    X, chosen, metric
        As for `labeltui._fast.knn.Rows`.
    squared : (n,) float64
        Squared lengths of the rows.
    thresholds : (slots,) float32
    part : Part
    threads : int

    Returns
    -------
    Found

    Raises
    ------
    LabeltuiError
        This CPU cannot take the path.
    """
    rows = knn.Rows(X, metric, chosen)
    rows.set_lengths(squared)
    path = knn.PATHS.index(part.path)
    if part.path not in knn.paths():
        raise LabeltuiError(
            "all machines must run the search path of the one that asks",
            f"{part.path} on a CPU with {', '.join(knn.paths())}",
            f"set LABELTUI_KNN={knn.paths()[-1]}",
        )
    rows.restrict(path)
    shared = knn.Filter(rows, path, part.k)
    try:
        lay_out(shared, threads)
        none = np.zeros(shared.slots, np.int32)
        shared.unpack(0, none, np.array(thresholds), np.empty(0, np.uint64))
        tiles = knn.Tiles(shared)
        tiles.limit(part.end)
        tiles.resume(part.begin, 0)
        run_task(tiles, threads)
        return Found(shared.layout, *shared.pack(0, shared.slots))
    finally:
        shared.close()


def lay_out(
    shared: knn.Filter,
    threads: int,
    portions: Portions | None = None,
    path: str = "",
    cancel: Cancel | None = None,
) -> None:
    """Run the first two stages of a filter.

    Parameters
    ----------
    shared : Filter
    threads : int
    portions : Portions, optional
        Of the progress, with the steps of `labeltui.graph.cost.filter_seconds`.
    path : str
    cancel : callable, optional

    Raises
    ------
    Cancelled
    """
    for name, stage in (("assign", knn.Assign(shared)), ("sketch", knn.Sketch(shared))):
        run_task(stage, threads, None if portions is None else portions.step(f"{path} {name}"), cancel)
        stage.end()


def tiles_in_parts(
    shared: knn.Filter,
    path: str,
    k: int,
    crew: Crew,
    threads: int,
    progress: Progress | None,
    cancel: Cancel | None,
) -> knn.Tiles:
    """Run the third stage of a filter with the help of a crew.

    Parameters
    ----------
    shared : Filter
        After its second stage.
    path : str
    k : int
    crew : Crew
    threads : int
        In this process.
    progress, cancel : callable or None

    Returns
    -------
    Tiles
        Finished.

    Raises
    ------
    LabeltuiError
        A part failed.
    Cancelled
    """
    tiles = knn.Tiles(shared)
    first, pieces = min(shared.blocks, tiles.pieces), tiles.pieces
    share = first / max(1, pieces)
    tiles.limit(first)
    run_task(tiles, threads, progress, cancel, (0.0, share))
    if first == pieces:
        return tiles
    step = 4096  # slots: what is packed beside their thresholds is dropped again
    thresholds = np.concatenate(
        [shared.pack(begin, min(begin + step, shared.slots))[1] for begin in range(0, shared.slots, step)]
    )
    borders = np.unique(np.linspace(first, pieces, crew.size + 1).astype(int)).tolist()
    parts = [Part(path, k, begin, end) for begin, end in itertools.pairwise(borders)]
    layout, done = shared.layout, 0
    for found in crew.search(shared.rows, thresholds, parts):
        if cancel is not None and cancel():
            raise Cancelled("the search was stopped")
        if found is None:
            continue
        if not np.array_equal(found.layout, layout):
            raise LabeltuiError(
                "all machines must lay the rows out alike",
                "one does not",
                "use the same version on all of them",
            )
        shared.merge(0, found.size, found.threshold, found.keys)
        done += 1
        if progress is not None:
            progress(share + (1 - share) * done / len(parts))
    if done < len(parts):
        raise LabeltuiError("every part of the search must come back", f"{done} of {len(parts)} did")
    return tiles
