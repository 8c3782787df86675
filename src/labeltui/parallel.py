"""Threads: how many to use, running work in them with progress and cancel, and keeping BLAS from adding its own."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

from labeltui.errors import Cancelled, UsageError

VARIABLE = "LABELTUI_THREADS"

Progress = Callable[[float], None]  # called with the finished fraction, 0..1, from the waiting thread
StageProgress = Callable[
    [str, int, int], None
]  # called with a stage's name, its finished units and their total
Cancel = Callable[[], bool]  # whether to stop

Result = TypeVar("Result")

_POLL_SECONDS = 0.1  # between two calls of cancel
_REPORT_SECONDS = 0.2


def count_threads(threads: int | None = None) -> int:
    """Return the number of threads to use.

    Parameters
    ----------
    threads : int, optional
        By default the value of the environment variable ``LABELTUI_THREADS``, and without that the number of CPUs
        that this process may run on.

    Raises
    ------
    UsageError
        The number is not a positive integer.
    """
    if threads is None:
        value = os.environ.get(VARIABLE)
        if value is None:
            try:
                return len(os.sched_getaffinity(0))
            except AttributeError:  # not on macOS
                return os.cpu_count() or 1
        try:
            threads = int(value)
        except ValueError:
            raise UsageError(
                f"{VARIABLE} must be a whole number", f"it is {value!r}", "unset it or set 1 or more"
            ) from None
    if threads < 1:
        raise UsageError(
            "the number of threads must be 1 or more", f"got {threads}", "leave it out to use all cores"
        )
    return threads


@lru_cache(maxsize=1)
def _pools(modules: int) -> ThreadpoolController:
    """Return the thread pools of the libraries that are loaded; to look for them takes 10 ms.

    A library arrives with a module, so the number of imported modules tells whether to look again.
    """
    return ThreadpoolController()


class _BlasLimits:
    """The BLAS limits in force in this process, of all threads; the lowest one counts.

    The number of BLAS threads belongs to the process. Blocks of different threads may end in any order, so none of
    them can restore the state at its start: the end of the last restores the numbers from before the first.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limits: list[int] = []
        self._before: dict[str, int] = {}  # path of a library -> its threads without a limit

    def add(self, limit: int) -> None:
        with self._lock:
            self._limits.append(limit)
            self._apply()

    def remove(self, limit: int) -> None:
        with self._lock:
            self._limits.remove(limit)
            self._apply()

    def _apply(self) -> None:
        for library in _pools(len(sys.modules)).select(user_api="blas").lib_controllers:
            before = self._before.setdefault(library.filepath, library.num_threads)
            library.set_num_threads(min(self._limits, default=before))
        if not self._limits:
            self._before.clear()


_blas_limits = _BlasLimits()


@contextmanager
def limit_blas(threads: int) -> Iterator[None]:
    """Limit BLAS and OpenMP pools to `threads` threads inside the block.

    Blocks may overlap in several threads: the lowest limit counts for BLAS, and the last block to end restores the
    numbers from before the first.
    """
    _blas_limits.add(threads)
    try:
        pools = _pools(len(sys.modules))
        with pools.limit(limits=threads, user_api="openmp"):  # of this thread only
            yield
    finally:
        _blas_limits.remove(threads)


MOST_DONE = 0.999


class Portions:
    """Progress of steps that take different times: the fraction done is that of their estimated time.

    So the time that is left can be told from the time that has passed, also where one step takes a hundred times
    longer than another.

    Parameters
    ----------
    report : callable, optional
        Called with the fraction of all steps.
    seconds : mapping of str to float
        Estimated time of each step, in any unit.
    """

    def __init__(self, report: Progress | None, seconds: Mapping[str, float]) -> None:
        self._report = report
        self._seconds = dict(seconds)
        self._done = 0.0
        self._now = 0.0

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add steps that turned out to be needed; the fraction falls, since it was too large."""
        self._seconds |= seconds

    def skip(self, name: str, fraction: float) -> None:
        """Leave a part of a step out that is done already.

        Parameters
        ----------
        name : str
        fraction : float
            0..1.
        """
        self._seconds[name] *= 1.0 - fraction

    def step(self, name: str) -> Progress:
        """Begin a step, which ends the one before; return the callback for its fraction.

        Parameters
        ----------
        name : str

        Returns
        -------
        callable
            It reports less than 1, since steps may be added.
        """
        self._done += self._now
        self._now = self._seconds[name]

        def report(fraction: float) -> None:
            if self._report is not None:
                whole = sum(self._seconds.values())
                self._report(
                    min(MOST_DONE, (self._done + self._now * fraction) / whole if whole > 0 else 1.0)
                )

        return report


def run(
    calls: Sequence[Callable[[], Result]],
    threads: int,
    *,
    fraction: Callable[[], float],
    stop: Callable[[], None],
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    what: str = "the work",
) -> list[Result]:
    """Run calls in threads; the calling thread reports progress and asks whether to stop.

    Parameters
    ----------
    calls : sequence of callables
        Each is called once.
    threads : int
        Number of calls that run at a time.
    fraction : callable
        Returns the finished fraction of all calls, 0..1.
    stop : callable
        Asks running calls to end soon.
    progress, cancel : callable, optional
    what : str
        Names the work in the message of `Cancelled`.

    Returns
    -------
    list
        Results in the order of the calls.

    Raises
    ------
    Cancelled
        `cancel` returned True.
    BaseException
        Whatever a call or one of the callables raised first. All threads have ended by then.
    """
    results: dict[int, Result] = {}
    failures: list[BaseException] = []
    stopped = threading.Event()
    ended = threading.Semaphore(0)
    waiting = iter(enumerate(calls))
    lock = threading.Lock()

    def abort() -> None:
        stopped.set()
        stop()

    def work() -> None:
        try:
            while not stopped.is_set():
                with lock:
                    number, call = next(waiting, (-1, None))
                if call is None:
                    break
                results[number] = call()
        except BaseException as failure:  # raised again by the calling thread
            failures.append(failure)
            abort()
        finally:
            ended.release()

    workers = [
        threading.Thread(target=work, name=f"labeltui-{number}", daemon=True)
        for number in range(min(threads, len(calls)))
    ]
    try:
        for worker in workers:
            worker.start()
        running = len(workers)
        reported = time.monotonic()
        while running:
            if ended.acquire(timeout=_POLL_SECONDS):
                running -= 1
                continue
            if cancel is not None and cancel():
                raise Cancelled(f"{what} was stopped")
            if progress is not None and time.monotonic() - reported > _REPORT_SECONDS:
                reported = time.monotonic()
                progress(min(1.0, fraction()))
    except BaseException:
        abort()
        raise
    finally:
        for worker in workers:
            if worker.ident is not None:
                worker.join()
    if failures:
        raise failures[0]
    if cancel is not None and cancel():
        raise Cancelled(f"{what} was stopped")
    if progress is not None:
        progress(1.0)
    return [results[number] for number in range(len(calls))]


def map_ranges(
    function: Callable[[int, int], Result],
    start: int,
    stop: int,
    threads: int | None = None,
    min_size: int = 1,
) -> list[Result]:
    """Call ``function(a, b)`` on consecutive ranges of start..stop, one per thread; results in order.

    Parameters
    ----------
    function : callable
        Must release the interpreter lock to run in parallel.
    start, stop : int
        The range to divide; an empty one calls nothing.
    threads : int, optional
        As for `count_threads`.
    min_size : int
        Smallest range that is worth a thread.

    Returns
    -------
    list
        One result per range.
    """
    if stop <= start:
        return []
    count = min(count_threads(threads), max(1, (stop - start) // min_size))
    bounds = [start + (stop - start) * i // count for i in range(count + 1)]
    if count == 1:
        return [function(start, stop)]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(function, bounds[:-1], bounds[1:]))
