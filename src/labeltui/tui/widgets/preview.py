"""The sample looked at: its image, why it is here, and what can be chosen."""

from __future__ import annotations

import textwrap
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, cast

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.timer import Timer

from labeltui.graphics import ImageView, Thumb, Thumbnails
from labeltui.tui.session import WORDS, Session
from labeltui.tui.widgets.paint import Lines, Piece, bar, fit, fit_end, number

if TYPE_CHECKING:
    from labeltui.audit import Evidence

TALL = 32
"""Rows of the pane from which on neighbours and bars have room."""
FACTS, FEW_FACTS = 6, 3
"""Lines of reasons in a tall and in a short pane."""
JOINT = "\u00a0"
"""A blank at which no line is broken."""
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
        self.facts = Lines(id="facts")
        self.choices = Lines(id="choices")
        self._rest: Timer | None = None
        self._epoch = 0
        self._gathered: tuple[tuple[int, int, int], Evidence] | None = None

    def compose(self) -> ComposeResult:
        yield self.image
        yield self.nearest_title
        yield self.nearest
        yield self.facts
        yield self.choices

    def show(self) -> None:
        """Show the session's sample."""
        sample = self.session.sample
        width, height = self.content_size
        if not width or not height:
            return
        if self._rest is not None:
            self._rest.stop()
        self._layout(width, height)
        if sample is None:
            self.image.clear(self.session.advice())
            self.nearest.show([])
            self.nearest_title.show([])
            self.facts.show([])
            self.choices.show([])
            return
        audit = self.session.audit
        self.image.show((self._epoch, sample), lambda: audit.image(sample))
        self.facts.show(self._facts(sample, width))
        self.choices.show(self._choices(sample, width, height >= TALL))
        self._rest = self.set_timer(REST, self._rested)

    def forget(self) -> None:
        """Load every image anew."""
        self._epoch += 1

    def _layout(self, width: int, height: int) -> None:
        # Fixed heights for a size of the pane: a step to the next sample repaints text and moves nothing.
        tall = height >= TALL
        rows = min(10, max(3, height // 9)) if tall else 0
        self.nearest.cell_rows, self.nearest.cell_columns = rows, 2 * rows
        self.nearest.styles.height = rows + 1 if tall else 0
        self.nearest_title.styles.height = 1 if tall else 0
        self.facts.styles.height = 1 + (FACTS if tall else FEW_FACTS)
        self.choices.styles.height = 7 if tall else 3

    def _rested(self) -> None:
        audit = self.session.audit
        coming = self.session.queue[self.session.row + 1 : self.session.row + 4].tolist()
        keys = [(self._epoch, sample) for sample in coming]
        self.image.prefetch(keys, lambda key: audit.image(cast("tuple[int, int]", key)[1]))
        sample = self.session.sample
        if sample is None or not self.nearest.cell_rows:
            return
        neighbours = self._evidence(sample).neighbours
        self.nearest_title.show([[("NEAREST", "title"), ("  most alike first", "faint")]])
        self.nearest.show(
            [
                Thumb((self._epoch, near.index), partial(audit.image, near.index), audit.names[near.label])
                for near in neighbours[: self.nearest.across]
            ]
        )

    def title(self, width: int, cut: bool = False) -> list[Piece] | None:
        """Return the pane's title; None where it takes more than `width` cells, unless it may be `cut`."""
        session, audit = self.session, self.session.audit
        sample = session.sample
        if sample is None:
            return []
        given = session.name(int(audit.given[sample]))
        decision = audit.decision(sample)
        suggestions = audit.suggestions(sample)
        arrow: Piece = ("", "plain")
        target: Piece = ("", "plain")
        more = ""
        if decision is not None:
            glyph, style = WORDS[decision.kind]
            target = (f"{glyph} {decision.kind}", style)
            if decision.kind == "relabel":
                target = (f"{glyph} {session.name(int(audit.current[sample]))}", style)
            arrow = ("  ", "plain")
        elif suggestions:
            arrow, target = ("  suggest ", "faint"), (audit.names[suggestions[0][0]], "link")
            more = " " + number(suggestions[0][1])
        if cell_len(given) + sum(map(cell_len, ("given ", arrow[0], target[0], more))) <= width:
            return [("given ", "faint"), (given, "strong"), arrow, target, (more, "faint")]
        arrow = (" → " if decision is None and suggestions else " ", "faint")
        if not cut and cell_len(given) + sum(map(cell_len, (arrow[0], target[0], more))) > width:
            return None
        room = width - cell_len(arrow[0])
        if cell_len(given) + cell_len(target[0]) + len(more) > room:
            more = ""
        first = min(cell_len(given), max(room // 2, room - cell_len(target[0])))
        second = min(cell_len(target[0]), room - first)
        return [
            (session.cut(given, first), "strong"),
            arrow,
            (session.cut(target[0], second), target[1]),
            (more, "faint"),
        ]

    def _facts(self, sample: int, width: int) -> list[list[Piece]]:
        audit = self.session.audit
        tall = self.content_size.height >= TALL
        room = FACTS if tall else FEW_FACTS
        lines: list[list[Piece]] = []
        for word, text in self._reasons(sample, tall):
            if len(lines) == room:
                break
            wrapped = textwrap.wrap(text, max(20, width - 6), max_lines=room - len(lines), placeholder=" …")
            for part, words in enumerate(wrapped):
                lines.append([(fit("" if part else word, 6), "title"), (words.replace(JOINT, " "), "plain")])
        split = audit.split_of(sample)
        name = fit_end(audit.sample_name(sample), width - 6 - (len(split) + 2 if split else 0))
        lines.append([("file  ", "title"), (name, "faint"), (f"  {split}" if split else "", "faint")])
        return lines

    def _evidence(self, sample: int) -> Evidence:
        """Gather the evidence once for text and images."""
        key = (sample, self.session.audit.journal_seq, self.session.audit.generation)
        if self._gathered is None or self._gathered[0] != key:
            self._gathered = key, self.session.audit.evidence(sample)
        return self._gathered[1]

    def _reasons(self, sample: int, tall: bool) -> list[tuple[str, str]]:
        """Say why the sample is here, most telling first: a word, and what there is to it."""
        audit = self.session.audit
        names, given = audit.names, int(audit.given[sample])
        if self.session.is_check(sample):
            return [("why", "a random check: it is not flagged, decide as you see it")]
        if fault := audit.fault(sample):
            return [("why", f"the scan could not use this sample: {fault.replace('_', '-')}")]
        evidence = self._evidence(sample)
        near = Counter(n.label for n in evidence.neighbours if n.label >= 0).most_common(2)
        known = sum(n.label >= 0 for n in evidence.neighbours)
        reasons = []
        if near:
            counts = ", ".join(f"{count}× {names[label]}" for label, count in near)
            reasons.append(("near", f"{counts} of {known}{' neighbours' if tall else ''}"))
        if given >= 0 and evidence.votes:
            reasons += _votes(evidence.votes, names, tall)
        if evidence.pair_overlap is not None and evidence.pair_share is not None:
            other = names[audit.suggestions(sample)[0][0]]
            told = f"overlap {number(evidence.pair_overlap)}"
            if tall:
                told += f", {evidence.pair_share:.0%} of {names[given]}'s neighbours are {other}"
            reasons.append(("pair", told))
        if evidence.group:
            count = len(evidence.group)
            copies = ("copy", f"{count} more {'copy' if count == 1 else 'copies'} of this image")
            reasons.insert(1 if tall else 0, copies)
        return reasons

    def _choices(self, sample: int, width: int, tall: bool) -> list[list[Piece]]:
        session, audit = self.session, self.session.audit
        suggestions = audit.suggestions(sample)
        lines: list[list[Piece]] = []
        if tall:
            names = min(24, max((cell_len(audit.names[label]) for label, _ in suggestions), default=4))
            for n, (label, p) in enumerate(suggestions, 1):
                full, empty = bar(p, max(0, width - names - 11))
                lines.append(
                    [
                        (f" {n} ", "key"),
                        ("→ ", "faint"),
                        (fit(audit.names[label], names), "strong" if n == 1 else "plain"),
                        (" " + fit(number(p), 3, right=True) + " ", "faint"),
                        (full, "bar"),
                        (empty, "plain"),
                    ]
                )
        else:
            lines += _wrap(
                [(str(n), audit.names[label], number(p)) for n, (label, p) in enumerate(suggestions, 1)],
                width,
            )
        used = [(str(n), audit.names[label], "") for n, label in enumerate(session.recent, 6)]
        lines += _wrap(used, width)
        return lines


def _votes(votes: list[tuple[str, float, int | None]], names: list[str], each: bool) -> list[tuple[str, str]]:
    """Say what the detectors propose, with each one's score of the given label or, where room is scarce, counted."""
    proposed = Counter(label for _, _, label in votes if label is not None)
    if not each:
        count = ", ".join(f"{number}× {names[label]}" for label, number in proposed.most_common(2))
        return [("votes", f"{count or 'no label'} of {len(votes)}")]
    said: list[tuple[str, str]] = []
    for label in [*(label for label, _ in proposed.most_common()), None]:
        scores = "  ".join(
            f"{name}{JOINT}{number(score)}" for name, score, proposal in votes if proposal == label
        )
        if scores:
            said.append(("" if said else "votes", f"{'none' if label is None else names[label]}:  {scores}"))
    return said


def _wrap(choices: list[tuple[str, str, str]], width: int) -> list[list[Piece]]:
    lines: list[list[Piece]] = []
    line: list[Piece] = []
    used = 0
    for key, name, more in choices:
        name = fit(name, min(cell_len(name), 24, width - len(more) - 6))
        size = len(key) + cell_len(name) + len(more) + 4
        if line and used + size - 1 > width:
            lines.append(line)
            line, used = [], 0
        line += [
            (f" {key}", "key"),
            ("→", "faint"),
            (name, "plain"),
            (f" {more} " if more else "  ", "faint"),
        ]
        used += size
    return [*lines, line] if line else lines
