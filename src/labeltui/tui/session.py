"""What the review screen works on: the audit, the open queue, the sample looked at. Knows no widget."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labeltui.audit import QueueSpec

if TYPE_CHECKING:
    from labeltui.audit import Audit, Change, ClassRow

RECENT = 4


class Session:
    """One person's place in one audit.

    The queue keeps what was decided in its place, marked, until it is built anew (another class, another
    filter, new scores): rows never move under the cursor.

    Parameters
    ----------
    audit : Audit
        Stays the caller's to close.
    """

    def __init__(self, audit: Audit) -> None:
        self.audit = audit
        self.spec = QueueSpec()
        self.queue: NDArray[np.int64] = np.empty(0, np.int64)
        self.row = 0
        self.recent: list[int] = []
        self._by_use: list[int] = []
        self.class_order = "overlap"
        self.classes: list[ClassRow] = []
        self.left = 0

    @property
    def sample(self) -> int | None:
        """The sample looked at."""
        return int(self.queue[self.row]) if len(self.queue) else None

    def load_classes(self) -> None:
        """Read the class table anew."""
        self.classes = self.audit.class_rows(self.class_order)

    def class_row(self, label: int) -> int | None:
        """Return where a class stands in the table."""
        return next((row for row, entry in enumerate(self.classes) if entry.index == label), None)

    def open(self, spec: QueueSpec, keep: int | None = None) -> None:
        """Build the queue of `spec`; `keep` stays the sample looked at, in the queue or not."""
        self.spec = spec
        queue = self.audit.queue(spec)
        self.left = len(queue)
        row = 0
        if keep is not None:
            places = np.flatnonzero(queue == keep)
            if len(places):
                row = int(places[0])
            else:
                row = min(self.row, len(queue))
                queue = np.insert(queue, row, keep)
        self.queue, self.row = queue, row

    def open_class(self, label: int | None) -> None:
        """Open the flagged samples of a given class, or of all."""
        self.open(replace(self.spec, given=label, suggested=None))

    def visit(self, sample: int) -> None:
        """Look at `sample`: in this queue when it is there, else in its class's queue."""
        places = np.flatnonzero(self.queue == sample)
        if len(places):
            self.row = int(places[0])
        elif self.spec.given is None or self.spec.given == self.audit.given[sample]:
            self.open(self.spec, sample)
        else:
            self.open(replace(self.spec, given=int(self.audit.given[sample]), suggested=None), sample)

    def refresh(self) -> Change | None:
        """Adopt finished training runs and re-rank around the sample looked at."""
        change = self.audit.refresh()
        if change is not None:
            self.open(self.spec, self.sample)
            self.load_classes()
        return change

    def next_open(self) -> bool:
        """Step to the next undecided sample, from the end back to the start; False when none is left."""
        audit = self.audit
        for row in (*range(self.row + 1, len(self.queue)), *range(self.row)):
            if audit.decision(int(self.queue[row])) is None:
                self.row = row
                return True
        return False

    def used(self, label: int) -> None:
        """Remember a class as used last.

        A class keeps its digit as long as it is among the last ones: fingers learn it.
        """
        if label not in self.recent:
            if len(self.recent) < RECENT:
                self.recent.append(label)
            else:
                self.recent[self.recent.index(self._by_use[0])] = label
                self._by_use.pop(0)
        if label in self._by_use:
            self._by_use.remove(label)
        self._by_use.append(label)
