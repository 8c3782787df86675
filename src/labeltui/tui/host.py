"""What screens may ask of the application, and what it and its background work tell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from textual.message import Message

from labeltui.errors import LabeltuiError
from labeltui.text import safe

if TYPE_CHECKING:
    from labeltui.audit import Change
    from labeltui.train.curves import Curve
    from labeltui.train.jobs import Job


class Trains(Protocol):
    """Training runs beside the review."""

    @property
    def possible(self) -> bool:
        """Whether there is a trainer, or will be in a moment."""
        ...

    @property
    def active(self) -> bool:
        """Whether a run is being trained, as last seen, or is being started."""
        ...

    def start(self, why: str = "") -> None:
        """Start fine-tuning in the background; `why`, if nobody asked for it."""
        ...

    async def resume(self, run_id: str) -> Job:
        """Go on with a run."""
        ...

    def cancel(self, run_id: str = "", what: str = "training") -> None:
        """Request that a run stop, by default the active one; `what` is its name in the message."""
        ...


class Host(Protocol):
    """The application, as screens see it.

    What a later key depends on is a method, done when it returns; messages only tell what happened in the background.
    """

    @property
    def training(self) -> Trains:
        """Training runs beside the review."""
        ...

    def decided(self, bulk: bool = False) -> None:
        """Follow a decision, or many at once."""
        ...

    def export(self, out: Path, only_changed: bool, force: bool) -> None:
        """Export the corrected labels in the background, and report the outcome."""
        ...

    def show_queue(self, given: int | None = None) -> None:
        """Have the next key go to the first screen's queue; `given`, if it holds that class only."""
        ...

    def say_below(self, text: str, style: str) -> None:
        """Show feedback on the first screen."""
        ...

    def remember(self) -> None:
        """Write down the place in the queue, and the views."""
        ...

    def redraw(self) -> None:
        """Paint everything anew."""
        ...

    def leave(self) -> object:
        """End the program; ask first where decisions cannot be saved."""
        ...


class Notice(Message):
    """Something to say on the screen that a person looks at: words, or an error."""

    def __init__(self, what: str | BaseException, style: str = "plain") -> None:
        super().__init__()
        self.what, self.style = what, style


class JobChanged(Message):
    """What is known of the run that is being trained, or of the newest one; `curve`, how it learns."""

    def __init__(self, job: Job | None, curve: Curve | None = None) -> None:
        super().__init__()
        self.job, self.curve = job, curve


class ScoresChanged(Message):
    """The audit has new scores, and the queue their order."""

    def __init__(self, change: Change) -> None:
        super().__init__()
        self.change = change


def parts_of(error: BaseException) -> list[str]:
    """Return what to say of an error."""
    if isinstance(error, LabeltuiError):
        return [safe(part) for part in (error.message, error.got, error.hint) if part]
    if isinstance(error, OSError):
        where = f": {safe(os.fsdecode(error.filename))}" if isinstance(error.filename, str | bytes) else ""
        return [f"{error.strerror or type(error).__name__}{where}"]
    return [f"unexpected {type(error).__name__}: {safe(str(error), 200)}", "your decisions are not affected"]
