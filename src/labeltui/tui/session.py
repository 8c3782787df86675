"""What the screens work on: the audit, the open queue, the sample looked at. Knows no widget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.cells import cell_len

from labeltui.audit import QueueSpec
from labeltui.tui.actions import Keymap
from labeltui.tui.checks import Checks
from labeltui.tui.layout import fit, fit_end, fit_ends, shared, shared_starts

if TYPE_CHECKING:
    from labeltui.audit import Audit, Change, ClassTable, Step

RECENT = 4
"""Classes that have a digit because they were used last."""
NEAR = 1024
"""Rows of the queue looked at together for the next undecided one."""

WORDS = {
    "keep": ("✓", "good"),
    "relabel": ("✎", "link"),
    "exclude": ("×", "bad"),
    "ambiguous": ("≈", "warn"),
    "unsure": ("?", "warn"),
    "skip": ("»", "faint"),
}
"""Glyph and style of each decision; the word stands beside it wherever there is room."""


class Outcome(NamedTuple):
    """What a decision, an undo or a redo did, in words and in the style of its kind."""

    words: str
    style: str
    finished: bool = False


class Session:
    """One person's place in one audit.

    The queue keeps what was decided in its place, marked, until it is built anew (another class, another filter, new
    scores): rows never move under the cursor.

    Parameters
    ----------
    audit : Audit
        Stays the caller's to close.
    keymap : Keymap, optional
        Keys that texts name; by default those of the table.
    """

    def __init__(self, audit: Audit, keymap: Keymap | None = None) -> None:
        self.audit = audit
        self.keymap = keymap or Keymap()
        self.longest_name = max((cell_len(name) for name in audit.names), default=0)
        self._same_start = shared(audit.names) >= 3
        self._shared_start = shared_starts(audit.names)
        self.spec = QueueSpec()
        self.queue: NDArray[np.int64] = np.empty(0, np.int64)
        self.finished = False
        """Whether the decision just made left nothing undecided: the sample looked at is the last one decided."""
        self.row = 0
        self.trail: list[tuple[str, QueueSpec, int | None]] = []
        """Where the open queue was opened from: a screen, and the queue and sample before."""
        self.left = 0
        self.selected: set[int] = set()
        self.recent: list[int] = []
        self._by_use: list[int] = []
        self.class_order = "overlap"
        self.load_classes()
        self.checks = Checks(audit)
        self.check_samples: frozenset[int] = frozenset()
        """Samples that stand in the queue as random checks."""
        self.views: dict[str, QueueSpec] = {}
        """Queues that were saved under a name."""
        self.pairs_at = ("overlap", 0)
        """Order and row of the list of class pairs, when a pair was opened from it."""
        self.reference = ""
        """``TABLE:COLUMN`` of reference labels that runs are measured against."""
        self._decided_at: list[float] = []

    # The place

    @property
    def row(self) -> int:
        """Row of the queue that is looked at."""
        return self._row

    @row.setter
    def row(self, row: int) -> None:
        self._row = row
        self.finished = False

    @property
    def sample(self) -> int | None:
        """The sample looked at."""
        return int(self.queue[self.row]) if len(self.queue) else None

    def load_classes(self) -> None:
        """Read the class table anew."""
        self.classes: ClassTable = self.audit.class_rows(self.class_order)
        column = "overlap" if self.class_order in ("name", "index") else self.class_order
        self.largest = self.classes.largest(column) or 1.0

    def open(self, spec: QueueSpec, keep: int | None = None) -> None:
        """Build the queue of a spec.

        Parameters
        ----------
        spec : QueueSpec
        keep : int, optional
            Sample that stays current, in the queue or not.
        """
        self.spec = spec
        if self.checking:
            queue = self.checks.queue(spec)
            if keep not in self.check_samples:
                keep = None  # a flag among checks would show what they hide
            self.check_samples = frozenset(queue.tolist())
            if keep is not None:
                self.check_samples |= {keep}
        else:
            queue, self.check_samples = self.audit.queue(spec), frozenset()
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
        self.selected = set()

    @property
    def checking(self) -> bool:
        """Whether the queue holds random checks, instead of flags."""
        return self.checks.on and self.checks.applies(self.spec)

    def come_from(self, screen: str) -> None:
        """Remember the queue and the sample before a screen opens another queue."""
        self.trail.append((screen, self.spec, self.sample))

    def go_back(self) -> str:
        """Open the queue before, at its sample; returns the screen that opened this one, or nothing."""
        if not self.trail:
            return ""
        screen, spec, sample = self.trail.pop()
        self.open(spec, sample)
        return screen

    def open_class(self, label: int | None) -> None:
        """Open the flagged samples of a given class, or of all, with the filters that are on."""
        self.trail = []
        self.open(replace(self.spec, given=label, suggested=None))

    def open_pair(self, given: int, suggested: int) -> None:
        """Open the flagged samples of one given and one suggested class.

        Parameters
        ----------
        given, suggested : int
            Class indices.
        """
        self.open(
            replace(self.spec, given=given, suggested=suggested, decided=False, flagged=True, decision=None)
        )

    def visit(self, sample: int) -> None:
        """Look at `sample`: in this queue when it is there, else in its class's queue, which ends random checks."""
        places = np.flatnonzero(self.queue == sample)
        self.checks.on &= len(places) > 0
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
            marked = self.selected
            self.open(self.spec, self.sample)
            self.selected = marked.intersection(self.queue.tolist())
            self.load_classes()
        return change

    def step(self) -> bool:
        """Go to the next undecided sample, from the end back to the start; False when none is left."""
        for start, stop in ((self.row + 1, len(self.queue)), (0, self.row + 1)):
            while start < stop:  # it is near as a rule, and a queue may hold a million
                rows = self.queue[start : min(start + NEAR, stop)]
                part = self.audit.kinds[rows] == 0
                # What was decided in bulk may come again as a check.
                part |= np.array([self.hidden(sample) for sample in rows.tolist()], bool)
                if part.any():
                    self.row = start + int(part.argmax())
                    return True
                start += NEAR
        return False

    def undecided(self, stop: int | None = None) -> list[int]:
        """Return the queue's samples without a decision, down to a row; checks are looked at one by one."""
        part = self.queue[:stop]
        found: list[int] = part[self.audit.kinds[part] == 0].tolist()
        return [sample for sample in found if sample not in self.check_samples]

    def mark(self) -> None:
        """Mark the sample looked at, or unmark it; a random check is decided alone."""
        if self.sample is not None and not self.is_check(self.sample):
            self.selected ^= {self.sample}

    def mark_all(self) -> str:
        """Mark all undecided samples of the queue, or unmark all; says which."""
        if self.selected:
            self.selected.clear()
            return "no sample is marked any more"
        self.selected.update(self.undecided())
        return f"{len(self.selected):,} samples are marked; {self.keymap.hint('bulk')} decides on them"

    def typical(self, label: int, count: int) -> list[int]:
        """Return the samples of a class with the highest label scores.

        Parameters
        ----------
        label : int
            Class index.
        count : int

        Returns
        -------
        list of int
        """
        members = np.flatnonzero(self.audit.given == label)
        best = np.argsort(-self.audit.scores[members], kind="stable")[:count]
        found: list[int] = members[best].tolist()
        return found

    def is_check(self, sample: int) -> bool:
        """Whether a sample stands in the queue as a random check."""
        return sample in self.check_samples

    def hidden(self, sample: int) -> bool:
        """Whether nothing that the detectors say of a sample may be shown yet: checks are blind."""
        return self.is_check(sample) and not self.audit.looked_at(sample)

    def suggestions(self, sample: int) -> list[tuple[int, float]]:
        """Return the suggested labels that may be shown, with their probabilities."""
        return [] if self.hidden(sample) else self.audit.suggestions(sample)

    def what_next(self) -> str:
        """Say in a line what to do when the queue is finished."""
        key = self.keymap.hint
        if self.checking:
            return f"These checks are done: {key('checks')} leads back to the flags, and again to others"
        if self.audit.summary().flags:
            return f"This queue is finished: {key('next-class')} opens the next class"
        return (
            f"Every flag is reviewed: {key('export')} exports, {key('train')} trains, "
            f"{key('checks')} looks for errors that were not flagged"
        )

    def advice(self) -> str:
        """Say what to do when the queue is empty."""
        summary, spec, key = self.audit.summary(), self.spec, self.keymap.hint
        if (
            spec.text
            or spec.split is not None
            or spec.score_below is not None
            or spec.score_from is not None
            or spec.decision
            or spec.detector
            or spec.unusable
        ):
            lines = ["No sample passes these filters.", f"{key('filter')} changes them"]
        elif spec.suggested is not None:
            lines = ["No flag of this pair is left.", f"{key('pairs')} shows the other pairs"]
        elif summary.flags:
            lines = [
                "No flag of this class is left.",
                f"{key('next-class')} opens the next class; {summary.flags:,} flags are left in all",
            ]
        elif summary.flagged:
            lines = [
                "Every flag is reviewed.",
                f"{key('export')} exports the corrected labels",
                f"{key('train')} trains on them and looks for more",
                f"{key('checks')} checks random samples: how many errors are left?",
            ]
        else:
            lines = [
                "The scan flagged nothing.",
                f"{key('filter')} shows samples that are not flagged",
                f"{key('pairs')} shows which classes overlap",
            ]
        return "\n".join(lines)

    # Deciding

    def decide(
        self,
        samples: Sequence[int],
        kind: str,
        label: int | ArrayLike | None = None,
        second: int | None = None,
        note: str | None = None,
    ) -> Outcome:
        """Decide on samples as one action, and advance if the current sample is among them.

        Parameters
        ----------
        samples : sequence of int
        kind : str
            One of `labeltui.audit.KINDS`.
        label : int or array-like of int, optional
            For "relabel": one label, or one per sample.
        second : int, optional
            A second possible label.
        note : str, optional

        Returns
        -------
        Outcome
        """
        audit = self.audit
        first = samples[0]
        before = int(audit.current[first])
        undecided = sum(audit.decision(sample) is None and audit.flagged(sample) for sample in samples)
        how = "check" if len(samples) == 1 and self.is_check(first) else "alone"
        audit.decide(list(samples), kind, label=label, second=second, note=note, how=how)
        if how == "check":
            undecided = 1
        in_queue = undecided if len(samples) == 1 else int(np.isin(samples, self.queue).sum())
        self.left = max(0, self.left - min(undecided, in_queue))
        if isinstance(label, int):
            self.used(label)
        self._decided_at = [*self._decided_at[-49:], monotonic()]
        self.selected.difference_update(samples)
        glyph, style, words = self.words(first, before)
        if len(samples) > 1:
            words = f"{len(samples):,} samples: {kind}"
        finished = self.sample in samples and not self.step()
        self.finished = finished
        self.load_classes()
        return Outcome(f"{glyph} {words}", style, finished)

    def words(self, sample: int, before: int | None = None) -> tuple[str, str, str]:
        """Describe the decision of a sample.

        Parameters
        ----------
        sample : int
        before : int, optional
            Label before the decision; by default the given one.

        Returns
        -------
        glyph, style, words : str
        """
        audit = self.audit
        decision = audit.decision(sample)
        name = audit.sample_name(sample)
        old = int(audit.given[sample]) if before is None else before
        old_name = self.name(old)
        if decision is None:
            return "·", "plain", f"{name}  {old_name}: undecided"
        glyph, style = WORDS[decision.kind]
        if decision.kind == "relabel":
            return glyph, style, f"{name}  {self.name(decision.label)}, was {old_name}"
        second = f" with {self.name(decision.second)}" if decision.second >= 0 else ""
        return glyph, style, f"{name}  {self.name(int(audit.given[sample]))}: {decision.kind}{second}"

    def name(self, label: int) -> str:
        """Return a class's name for showing."""
        return self.audit.names[label] if label >= 0 else "no label"

    def history(self, command: str) -> Outcome | None:
        """Undo or redo, and look at the sample concerned; None when there is nothing."""
        step: Step | None = self.audit.undo() if command == "undo" else self.audit.redo()
        if step is None:
            return None
        self.load_classes()
        keep_left = self.audit.queue(self.spec)
        self.left = len(keep_left)
        if not len(step.samples):  # a split, or a merge in which all decisions were known
            return Outcome(f"{'undone' if command == 'undo' else 'redone'}: {step.kind}", "link")
        sample = int(step.samples[0])
        self.visit(sample)
        more = f" and {len(step.samples) - 1:,} more" if len(step.samples) > 1 else ""
        did = "undone" if command == "undo" else "redone"
        return Outcome(f"{did}: {step.kind} of {self.audit.sample_name(sample)}{more}", "link")

    def cut(self, name: str, width: int) -> str:
        """Fit a class name into `width` cells; the end is kept where another name starts alike.

        Parameters
        ----------
        name : str
        width : int

        Returns
        -------
        str
        """
        if self._same_start:
            return fit_end(name, width)
        return fit_ends(name, width) if self._shared_start.get(name, 0) >= width - 1 else fit(name, width)

    def used(self, label: int) -> None:
        """Remember a class as used last.

        A class keeps its digit as long as it is among the last ones: fingers learn it.
        """
        if label not in self.recent:
            if len(self.recent) < RECENT:
                self.recent.append(label)
            else:
                self.recent[self.recent.index(self._by_use.pop(0))] = label
        if label in self._by_use:
            self._by_use.remove(label)
        self._by_use.append(label)

    @property
    def pace(self) -> float | None:
        """Seconds a decision, over the last ones without long pauses; None before there are five."""
        gaps = np.diff(self._decided_at)
        gaps = gaps[gaps < 60]
        return float(gaps.mean()) if len(gaps) >= 4 else None
