"""How many threads to use, and keeping the BLAS library from adding its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import threadpool_limits

from labeltui.errors import UsageError

VARIABLE = "LABELTUI_THREADS"

Result = TypeVar("Result")


def count(threads: int | None = None) -> int:
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
            "the number of threads must be 1 or more", f"{threads} came", "leave it out to use all cores"
        )
    return threads


@contextmanager
def blas(threads: int) -> Iterator[None]:
    """Limit BLAS and OpenMP pools to `threads` threads inside the block."""
    with threadpool_limits(limits=threads):
        yield


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
        As for `count`.
    least : int
        Smallest piece that is worth a thread.
    """
    if stop <= start:
        return []
    pieces = min(count(threads), max(1, (stop - start) // least))
    borders = [start + (stop - start) * piece // pieces for piece in range(pieces + 1)]
    if pieces == 1:
        return [function(start, stop)]
    with ThreadPoolExecutor(pieces) as pool:
        return list(pool.map(function, borders[:-1], borders[1:]))
