"""Run a compiled task in threads; the calling thread reports progress and handles cancellation."""

from __future__ import annotations

from labeltui import parallel
from labeltui._fast import knn
from labeltui.parallel import Cancel, Progress


def run_task(
    task: knn.Task,
    threads: int,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    span: tuple[float, float] = (0.0, 1.0),
) -> None:
    """Run `task` to completion.

    Parameters
    ----------
    task : Task
        Its `work` is called once in each thread.
    threads : int
    progress, cancel : callable, optional
    span : (float, float)
        Progress is reported from the first to the second of these fractions.

    Raises
    ------
    Cancelled
        `cancel` returned True.
    BaseException
        Whatever a thread or one of the two callables raised first. All threads have ended by then.
    """
    start, stop = span
    parallel.run(
        [task.work] * threads,
        threads,
        fraction=lambda: task.done / max(1, task.total),
        stop=task.stop,
        progress=None if progress is None else lambda part: progress(start + (stop - start) * part),
        cancel=cancel,
        what="the search",
    )
