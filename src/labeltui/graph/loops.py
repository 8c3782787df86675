"""Run a compiled loop in threads, with progress and cancel from the calling thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from labeltui._fast import knn
from labeltui.errors import Cancelled

Progress = Callable[[float], None]
Cancel = Callable[[], bool]

_POLL = 0.1  # seconds between two looks at cancel


def run(
    loop: knn.Loop,
    threads: int,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    span: tuple[float, float] = (0.0, 1.0),
) -> None:
    """Run `loop` to its end in `threads` threads.

    Progress goes from span[0] to span[1]. Raises `Cancelled` when `cancel` says so, and whatever a thread or one of the
    two callables raised; all threads have ended by then.
    """
    failures: list[BaseException] = []
    left = threading.Semaphore(0)

    def body() -> None:
        try:
            loop.work()
        except BaseException as failure:  # handed to the caller below
            failures.append(failure)
            loop.stop()
        finally:
            left.release()

    team = [threading.Thread(target=body, name=f"knn-{number}", daemon=True) for number in range(threads)]
    try:
        for member in team:
            member.start()
        waiting = threads
        told = time.monotonic()
        while waiting:
            if left.acquire(timeout=_POLL):
                waiting -= 1
                continue
            if cancel is not None and cancel():
                raise Cancelled("the search was stopped")
            if progress is not None and time.monotonic() - told > 0.2:
                told = time.monotonic()
                progress(span[0] + (span[1] - span[0]) * min(1.0, loop.done / max(1, loop.total)))
    except BaseException:
        loop.stop()
        raise
    finally:
        for member in team:
            if member.ident is not None:
                member.join()
    if failures:
        raise failures[0]
    if cancel is not None and cancel():
        raise Cancelled("the search was stopped")
    if progress is not None:
        progress(span[1])
