"""Threads: how many to use, running work in them with progress and cancel, and keeping BLAS from adding its own."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import ThreadpoolController, threadpool_limits

from labeltui.errors import Cancelled, UsageError

VARIABLE = "LABELTUI_THREADS"

Progress = Callable[[float], None]  # gets the finished fraction, 0..1; called from the thread that waits
StageProgress = Callable[
    [str, int, int], None
]  # gets a stage's name, and how many units of it are done, of how many
Cancel = Callable[[], bool]  # whether to stop

Result = TypeVar("Result")

_POLL_SECONDS = 0.1  # between two looks at cancel
_REPORT_SECONDS = 0.2


def count_threads(threads: int | None = None) -> int:
    """Return the number of threads to use.

    Parameters
    ----------
    threads : int, optional
        An explicit number; without it the environment variable ``LABELTUI_THREADS`` decides, and without
        that the CPUs that this process may run on.

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


class _BlasLimits:
    """The BLAS limits in force in this process, of all threads; the lowest one counts.

    The number of BLAS threads belongs to the process. Blocks of different threads may end in any order, so none of
    them can restore what it found: the numbers from before the first one come back with the end of the last.
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
        for library in ThreadpoolController().select(user_api="blas").lib_controllers:
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
        with threadpool_limits(limits=threads, user_api="openmp"):  # of this thread only
            yield
    finally:
        _blas_limits.remove(threads)


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
        At most so many calls run at a time.
    fraction : callable
        Finished fraction of all calls, 0..1.
    stop : callable
        Makes running calls end soon.
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
        `cancel` said so.
    BaseException
        Whatever a call or one of the callables raised first. All threads have ended by then.
    """
    results: dict[int, Result] = {}
    failures: list[BaseException] = []
    stopped = threading.Event()
    ended = threading.Semaphore(0)
    waiting = iter(enumerate(calls))
    take = threading.Lock()

    def end() -> None:
        stopped.set()
        stop()

    def body() -> None:
        try:
            while not stopped.is_set():
                with take:
                    number, call = next(waiting, (-1, None))
                if call is None:
                    break
                results[number] = call()
        except BaseException as failure:  # raised again by the calling thread
            failures.append(failure)
            end()
        finally:
            ended.release()

    team = [
        threading.Thread(target=body, name=f"labeltui-{number}", daemon=True)
        for number in range(min(threads, len(calls)))
    ]
    try:
        for member in team:
            member.start()
        running = len(team)
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
        end()
        raise
    finally:
        for member in team:
            if member.ident is not None:
                member.join()
    if failures:
        raise failures[0]
    if cancel is not None and cancel():
        raise Cancelled(f"{what} was stopped")
    if progress is not None:
        progress(1.0)
    return [results[number] for number in range(len(calls))]


def share(
    function: Callable[[int, int], Result], start: int, stop: int, threads: int | None = None, least: int = 1
) -> list[Result]:
    """Call ``function(a, b)`` on consecutive pieces of start..stop, one a thread; results in order.

    Parameters
    ----------
    function : callable
        Must release the interpreter lock to gain anything.
    start, stop : int
        The range to divide; an empty one calls nothing.
    threads : int, optional
        As for `count_threads`.
    least : int
        Smallest piece that is worth a thread.
    """
    if stop <= start:
        return []
    pieces = min(count_threads(threads), max(1, (stop - start) // least))
    borders = [start + (stop - start) * piece // pieces for piece in range(pieces + 1)]
    if pieces == 1:
        return [function(start, stop)]
    with ThreadPoolExecutor(pieces) as pool:
        return list(pool.map(function, borders[:-1], borders[1:]))
