"""When an action is possible: what holds on a screen, and the requirements that read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Context:
    """What holds right now on a screen; requirements of actions read it.

    Attributes
    ----------
    pane : str
        The focused part: ``classes``, ``queue`` or ``preview`` on the review screen.
    sample : bool
        A sample is being looked at.
    suggestions, recent : int
        How many suggested classes and classes used last can be taken by a digit.
    selected : int
        Selected samples (contact sheet).
    read_only : bool
        Decisions cannot be written.
    training : bool
        A training job is running.
    can_train : bool
        There is something that can train.
    run : str
        State of the training run looked at; empty for none.
    finished : bool
        Every sample of the queue is decided, and the one looked at was the last of them.
    images : bool
        The samples are images.
    key : callable
        Returns the key of an action by its id, for the reasons.
    """

    pane: str = ""
    sample: bool = False
    suggestions: int = 0
    recent: int = 0
    selected: int = 0
    read_only: bool = False
    training: bool = False
    can_train: bool = True
    run: str = ""
    finished: bool = False
    images: bool = True
    key: Callable[[str], str] = "[{}]".format


Requirement = Callable[[Context], str]
"""Says why an action is not possible now; an empty text means it is."""


def always(context: Context) -> str:
    """Hold at any time."""
    return ""


def on_sample(context: Context) -> str:
    """Hold while a sample is looked at."""
    return "" if context.sample else "no sample is open"


def writable(context: Context) -> str:
    """Hold unless the audit is open for reading only."""
    return "this audit is open for reading only" if context.read_only else ""


def deciding(context: Context) -> str:
    """Hold while a sample is looked at, in the queue or large, and decisions can be written.

    The last sample of a finished queue stays on the screen: a key more must not change what was decided of it.
    """
    if reason := noting(context):
        return reason
    if context.finished:
        return f"this queue is finished; {context.key('undo')} undoes the last decision, {context.key('up')} goes back"
    return ""


def noting(context: Context) -> str:
    """Hold while a sample is looked at, in the queue or large, and something can be written on it."""
    if reason := choosing(context):
        return reason
    return f"decide in the queue: {context.key('next-pane')} goes there" if context.pane == "classes" else ""


def choosing(context: Context) -> str:
    """Hold while there are samples, and decisions can be written."""
    return writable(context) or on_sample(context)


def on_image(context: Context) -> str:
    """Hold while a sample is looked at that is an image."""
    return on_sample(context) or ("" if context.images else "this audit holds embeddings and no images")


def suggested(number: int) -> Requirement:
    """Hold while there is a suggested class with this number, and one can decide."""

    def requires(context: Context) -> str:
        return deciding(context) or (
            "" if number <= context.suggestions else f"there is no suggestion {number}"
        )

    return requires


def recent(number: int) -> Requirement:
    """Hold while there is a class used last under this number, and one can decide."""

    def requires(context: Context) -> str:
        key = context.key(f"recent-{number}")
        known = "" if number <= context.recent else f"{key} has no class yet: it gets one you used before"
        return deciding(context) or known

    return requires


def can_train(context: Context) -> str:
    """Hold while no training runs."""
    if not context.can_train:
        return "training is not available here"
    return writable(context) or (
        f"a training job is running; {context.key('cancel-training')} cancels it" if context.training else ""
    )


def conflict(context: Context) -> str:
    """Hold while duplicates with different labels are looked at."""
    return writable(context) or ("" if context.sample else "there is no conflict")


def training(context: Context) -> str:
    """Hold while training runs."""
    return "" if context.training else "no training job is running"


def on_run(context: Context) -> str:
    """Hold while a training run is looked at."""
    return (
        "" if context.run else f"there is no run yet; {context.key('train')} on the review screen starts one"
    )


def resumable(context: Context) -> str:
    """Hold while a run is looked at that can be resumed, and nothing else trains."""
    ended = on_run(context) or writable(context)
    if not ended and context.run in ("starting", "running", "done"):
        return f"this run is {context.run}: one that was lost, paused, cancelled or failed can be resumed"
    return ended or can_train(context)


def stoppable(context: Context) -> str:
    """Hold while a run is looked at that works."""
    works = context.run in ("starting", "running")
    return on_run(context) or writable(context) or ("" if works else f"this run is {context.run} already")
