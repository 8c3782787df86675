"""The sample looked at: its image, why it is here, and what can be chosen."""

from __future__ import annotations

import textwrap
from functools import partial
from typing import TYPE_CHECKING, cast

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.timer import Timer

from labeltui.graphics import ImageView, Thumb, Thumbnails
from labeltui.text import fraction
from labeltui.tui.layout import Piece, fit, fit_end
from labeltui.tui.session import Session
from labeltui.tui.widgets.choices import choice_lines
from labeltui.tui.widgets.evidence import evidence_table, neighbour_lines, short_reasons
from labeltui.tui.widgets.labels import labels_title
from labeltui.tui.widgets.paint import Lines

if TYPE_CHECKING:
    from labeltui.audit import Evidence, Neighbour

TALL = 32
"""Rows of the pane from which on neighbours and bars have room."""
FACTS, FEW_FACTS = 10, 3
"""Lines of reasons in a tall and in a short pane."""
CHOICES, FEW_CHOICES = 6, 4
"""Lines of what the digits do."""
REST = 0.15
"""Seconds on one sample after which its neighbours' images are worth their bytes."""


class Preview(Vertical):
    """Right pane of the review screen."""

    def __init__(self, session: Session) -> None:
        super().__init__(id="preview")
        self.session = session
        self.image = ImageView(id="image")
        self.nearest_title = Lines(id="nearest-title")
        self.nearest = Thumbnails(8, 4, id="nearest")
        self.neighbours = Lines(id="neighbour-list")
        """In place of the image where there are embeddings alone."""
        self.facts = Lines(id="facts")
        self.choices = Lines(id="choices")
        self._rest: Timer | None = None
        self._epoch = 0
        self._gathered: tuple[tuple[int, int, int], Evidence] | None = None

    def compose(self) -> ComposeResult:
        yield self.image
        yield self.neighbours
        yield self.nearest_title
        yield self.nearest
        yield self.facts
        yield self.choices

    def show(self) -> None:
        """Show the session's sample."""
        audit, sample = self.session.audit, self.session.sample
        width, height = self.content_size
        if not width or not height:
            return
        if self._rest is not None:
            self._rest.stop()
        self._layout(width, height)
        self.image.display = audit.images.present or sample is None
        self.neighbours.display = not self.image.display
        if sample is None:
            self.image.clear(self.session.advice())
            self.nearest.show([])
            self.nearest_title.show([])
            self.facts.show([])
            self.choices.show([])
            return
        if audit.images.present:
            self.image.show((self._epoch, sample), lambda: audit.images.image(sample))
        else:
            rows = height - 1 - (FACTS + CHOICES if height >= TALL else FEW_FACTS + FEW_CHOICES)
            near = [] if audit.fault(sample) else self._evidence(sample).neighbours
            self.neighbours.show(neighbour_lines(self.session, near, width, rows))
        self.facts.show(self._facts(sample, width))
        self.choices.show(choice_lines(self.session, sample, width, height >= TALL))
        self._rest = self.set_timer(REST, self._rested)

    def forget(self) -> None:
        """Load every image anew."""
        self._epoch += 1

    def _layout(self, width: int, height: int) -> None:
        # Fixed heights for a size of the pane: a step to the next sample repaints text and moves nothing.
        tall = height >= TALL
        rows = min(10, max(3, height // 9)) if tall and self.session.audit.images.present else 0
        self.nearest.cell_rows, self.nearest.cell_columns = rows, 2 * rows
        self.nearest.styles.height = rows + 1 if rows else 0
        self.nearest_title.styles.height = 1 if rows else 0
        self.facts.styles.height = 1 + (FACTS if tall else FEW_FACTS)
        self.choices.styles.height = CHOICES if tall else FEW_CHOICES

    def _rested(self) -> None:
        audit = self.session.audit
        coming = self.session.queue[self.session.row + 1 : self.session.row + 4].tolist()
        keys = [(self._epoch, sample) for sample in coming]
        self.image.prefetch(keys, lambda key: audit.images.image(cast("tuple[int, int]", key)[1]))
        sample = self.session.sample
        if sample is None or not self.nearest.cell_rows:
            return
        if self.session.hidden(sample):
            self.nearest_title.show([[("NEAREST", "title"), ("  after you decide", "faint")]])
            self.nearest.show([])
            return
        neighbours = self._evidence(sample).neighbours
        self.nearest_title.show([[("NEAREST", "title"), ("  by cosine similarity", "faint")]])
        self.nearest.show(
            [
                Thumb(
                    (self._epoch, near.index),
                    partial(audit.images.image, near.index),
                    self._caption(near, self.nearest.cell_columns),
                )
                for near in neighbours[: self.nearest.across]
            ]
        )

    def _caption(self, near: Neighbour, width: int) -> str:
        name, alike = self.session.name(near.label), fraction(near.similarity)
        both = f"{name} {alike}"
        return both if cell_len(both) <= width else self.session.cut(name, min(cell_len(name), width))

    def title(self, width: int) -> list[Piece]:
        """Return the pane's title, given → suggested; names are cut where it takes more than `width` cells."""
        return [] if self.session.sample is None else labels_title(self.session, self.session.sample, width)

    def _facts(self, sample: int, width: int) -> list[list[Piece]]:
        audit = self.session.audit
        tall = self.content_size.height >= TALL
        room = FACTS if tall else FEW_FACTS
        lines: list[list[Piece]] = []
        if tall and not self._trouble(sample):
            names = f" P = P({self.session.name(int(audit.given[sample]))} is correct)"
            lines.append([("EVIDENCE", "title"), (fit(names, width - 8), "faint")])
            lines += evidence_table(audit, self._evidence(sample).votes, width, columns=2)
        for text in self._reasons(sample, width, tall):
            wrapped = textwrap.wrap(
                text, max(20, width), max_lines=max(0, room - len(lines)), placeholder=" …"
            )
            lines += [[(line, "plain")] for line in wrapped if len(lines) < room]
        lines = lines[:room]
        split = audit.split_of(sample)
        name = fit_end(audit.sample_name(sample), width - (len(split) + 2 if split else 0))
        lines.append([(name, "faint"), (f"  {split}" if split else "", "faint")])
        return lines

    def _evidence(self, sample: int) -> Evidence:
        """Gather the evidence once for text and images."""
        key = (sample, self.session.audit.journal_seq, self.session.audit.generation)
        if self._gathered is None or self._gathered[0] != key:
            self._gathered = key, self.session.audit.evidence(sample)
        return self._gathered[1]

    def _trouble(self, sample: int) -> str:
        """Say what takes the place of evidence; empty where there is evidence."""
        if self.session.hidden(sample):
            return "a random check: is the label right? judge by the image alone"
        if fault := self.session.audit.fault(sample):
            return f"the scan could not use this sample: {fault.replace('_', '-')}"
        return ""

    def _reasons(self, sample: int, width: int, tall: bool) -> list[str]:
        """Say why the sample is here, most telling first."""
        if trouble := self._trouble(sample):
            return [trouble]
        evidence = self._evidence(sample)
        if tall:
            return evidence.lines
        return short_reasons(self.session, evidence, width)
