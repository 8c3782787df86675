"""Run a compiled loop in threads, with progress and cancel from the calling thread."""

from __future__ import annotations

from labeltui import parallel
from labeltui._fast import knn
from labeltui.parallel import Cancel, Progress


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
    start, stop = span
    parallel.run(
        [loop.work] * threads,
        threads,
        fraction=lambda: loop.done / max(1, loop.total),
        stop=loop.stop,
        progress=None if progress is None else lambda part: progress(start + (stop - start) * part),
        cancel=cancel,
        what="the search",
    )
