"""The job that trains the head on the stored embedding."""

from __future__ import annotations

from typing import Any

from labeltui.train.scoring import View, rescore
from labeltui.train.task import Task


def train_head(task: Task) -> dict[str, Any]:
    """Re-train the head on the labels of the job, score every sample again, and write result.h5.

    Returns
    -------
    dict
        ``flags`` under the new scores, ``metrics`` against the labels of the run; for exit.json.
    """
    task.job.event("folds", 0.0)
    return rescore(
        task, View(task.audit), lambda done: task.job.event("head" if done < 0.9 else "score", done)
    )
