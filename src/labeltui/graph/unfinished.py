"""Keeping the unfinished work of an exact search, so that a killed one goes on instead of starting again.

What is kept is the state between two pieces of work: for the tiles the candidates and the threshold of every row, for
the direct search the rows it has found. The rest (clusters, int8 copies) is made anew from the rows in a time that
grows with N alone. Which tiles came before a kill and which after does not change the graph: its rows are ranked
exactly, and proven, from whatever candidates there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from labeltui._fast import knn
from labeltui.errors import Cancelled
from labeltui.graph.tasks import run_task
from labeltui.parallel import Cancel, Progress
from labeltui.unfinished import Keeper, Pieces, Reader

VERSION = 2  # of what is kept; another layout of tiles or other bounds need another
_SLOTS = 4096  # packed at a time


class Unfinished:
    """The unfinished work of the search of these rows.

    Parameters
    ----------
    keeper : Keeper
    rows : Rows
        With lengths set.
    hashes : ndarray of uint64, shape (n,)
        Of the rows' bytes.
    """

    def __init__(self, keeper: Keeper, rows: knn.Rows, hashes: npt.NDArray[np.uint64]) -> None:
        self._keeper = keeper
        digest = hashlib.sha256(f"{VERSION} {rows.n} {rows.d} {rows.metric}".encode())
        digest.update(hashes.data)
        self._rows = digest.hexdigest()

    def key(self, *parts: object) -> str:
        """Return the key of a part of the search.

        Parameters
        ----------
        *parts : object
            What it depends on besides the rows.

        Returns
        -------
        str
        """
        return " ".join([self._rows, *map(str, parts)])

    def run(
        self,
        task: knn.Resumable,
        key: str,
        pieces: Callable[[], Pieces],
        threads: int,
        progress: Progress | None,
        cancel: Cancel | None,
    ) -> None:
        """Run a task to its end, saving its state whenever that is due, and when it is cancelled.

        Parameters
        ----------
        task : Resumable
        key : str
        pieces : callable
            Makes the state's bytes, while no thread works.
        threads, progress, cancel
            As for `run_task`; progress is that of the work that was not done before.

        Raises
        ------
        Cancelled
        """
        cancelled = False

        def look() -> bool:
            nonlocal cancelled
            cancelled = cancelled or (cancel is not None and cancel())
            if cancelled or self._keeper.due():
                task.pause()
            return False  # a pause leaves a state that can be kept, a stop does not

        before = task.done

        def report(_: float) -> None:  # which takes a pause for the end
            if progress is not None:
                progress((task.done - before) / max(1, task.total - before))

        while True:
            run_task(task, threads, report, look)
            paused = task.next < task.pieces
            if paused or self._keeper.due():
                self._keeper.save(key, pieces())
            if cancelled or (cancel is not None and cancel()):
                raise Cancelled("the search was stopped")
            if not paused:
                return
            task.resume(task.next, task.done)

    def load(self, key: str) -> Reader | None:
        """Return the state kept under a key, to be read in the order it was written.

        Parameters
        ----------
        key : str

        Returns
        -------
        Reader or None
        """
        found = self._keeper.load(key)
        return None if found is None else Reader(found)


def tile_pieces(shared: knn.Filter, task: knn.Tiles) -> Pieces:
    """Make the state of a filter between two tiles.

    Parameters
    ----------
    shared : Filter
    task : Tiles

    Yields
    ------
    bytes or memoryview
    """
    yield np.array([task.next, task.done], np.int64).tobytes()
    for begin in range(0, shared.slots, _SLOTS):
        size, threshold, keys = shared.pack(begin, min(begin + _SLOTS, shared.slots))
        yield from (size.data, threshold.data, keys.data)


def restore_tiles(shared: knn.Filter, task: knn.Tiles, reader: Reader) -> None:
    """Put a filter into the state that `tile_pieces` made.

    Parameters
    ----------
    shared : Filter
        After its second stage.
    task : Tiles
    reader : Reader

    Raises
    ------
    ValueError
        It is not the state of such a filter, which may now hold a part of it.
    """
    following, done = reader.take(np.int64, 2).tolist()
    for begin in range(0, shared.slots, _SLOTS):
        count = min(_SLOTS, shared.slots - begin)
        size, threshold = reader.take(np.int32, count), reader.take(np.float32, count)
        shared.unpack(begin, size, threshold, reader.take(np.uint64, int(size.sum(dtype=np.int64))))
    if not 0 <= following <= task.pieces:
        raise ValueError("the kept work does not fit")
    task.resume(following, done)
