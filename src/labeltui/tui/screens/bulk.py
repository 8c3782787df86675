"""Many samples, one decision: first what it would change, then Enter."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len
from textual import work
from textual.widget import Widget

from labeltui.tui.actions import Keymap
from labeltui.tui.layout import Piece, fit
from labeltui.tui.requirements import Context
from labeltui.tui.screens.deciding import Deciding
from labeltui.tui.screens.opened import WithRows
from labeltui.tui.session import Session
from labeltui.tui.widgets.over import Item
from labeltui.tui.widgets.paint import Lines
from labeltui.tui.widgets.rows import Rows

if TYPE_CHECKING:
    from labeltui.audit import WhatIf

SHOWN = 12
"""Classes listed by their change of overlap."""


@dataclass(frozen=True)
class Choice:
    """One decision that could be made; `label` is -1 for each sample's own suggestion."""

    text: str
    kind: str
    label: int | None = None


class _Choices(Rows):
    HEADED = True

    def __init__(self, choices: list[Choice]) -> None:
        super().__init__(id="bulk-choices")
        self.choices = choices

    def count(self) -> int:
        return len(self.choices)

    def pieces(self, row: int, width: int) -> list[Piece]:
        return [(fit(" " + self.choices[row].text, width), "plain")]

    def heading(self, width: int) -> list[Piece]:
        return [(fit(" decision", width), "faint")]


class BulkScreen(WithRows):
    """Left what can be decided, right what that would change."""

    name_in_table = "bulk"

    def __init__(self, session: Session, keymap: Keymap, samples: Sequence[int]) -> None:
        super().__init__(session, keymap)
        self.samples = list(samples)
        self.choices = _Choices(self._choices())
        self.effect = Lines(id="effect")
        self.shown: WhatIf | None = None

    def _choices(self) -> list[Choice]:
        session, audit = self.session, self.session.audit
        top = audit.suggested[self.samples, 0]
        choices = [Choice("relabel each to its own suggestion", "relabel", -1)]
        labels, counts = np.unique(top[top >= 0], return_counts=True)
        common = labels[np.argsort(-counts, kind="stable")][:4].tolist()
        for label in dict.fromkeys([*common, *session.recent]):
            choices.append(Choice(f"relabel all to {session.name(label)}", "relabel", label))
        choices.append(Choice("keep all given labels: they are right", "keep"))
        choices.append(Choice("exclude all: no class is theirs", "exclude"))
        choices += [Choice("unsure", "unsure"), Choice("skip", "skip")]
        return choices

    def parts(self) -> Sequence[Widget]:
        return [self.choices, self.effect]

    def rows(self) -> Rows:
        return self.choices

    def on_mount(self) -> None:
        self.choices.lit = True
        self.choices.moved = self._moved

    def context(self) -> Context:
        return Context(sample=True, read_only=self.session.audit.read_only)

    def paint(self) -> None:
        self.choices.reset(self.choices.row)
        self.entitle(
            ("BULK  ", "title"),
            (f"{len(self.samples):,} samples", "strong"),
            ("  nothing is changed yet", "faint"),
        )
        self.measure()

    def _moved(self, row: int) -> None:
        self.measure()

    def labels(self) -> int | list[int] | None:
        """Return the new label or labels of the choice at the cursor."""
        choice = self.choices.choices[self.choices.row]
        if choice.label is None or choice.label >= 0:
            return choice.label
        top = self.session.audit.suggested[self.samples, 0]
        given = self.session.audit.given[self.samples]
        own: list[int] = np.where(top >= 0, top, given).tolist()
        return own

    @work(group="what-if", exclusive=True, exit_on_error=False)
    async def measure(self) -> None:
        """Work out, off the UI thread, what the choice at the cursor would change."""
        choice = self.choices.choices[self.choices.row]
        kind = choice.kind if choice.kind in ("relabel", "exclude") else "keep"
        label = self.labels() if kind == "relabel" else None
        self.shown = None
        self._show()
        self.shown = await asyncio.to_thread(self.session.audit.what_if_later(self.samples, kind, label))
        self._show()

    def _show(self) -> None:
        session, effect = self.session, self.shown
        given, counts = np.unique(session.audit.given[self.samples], return_counts=True)
        room = self.effect.content_size.width or self.size.width
        lines: list[list[Piece]] = [[("GIVEN ", "title"), (self._shares(given, counts, room - 6), "plain")]]
        top, counts = np.unique(session.audit.suggested[self.samples, 0], return_counts=True)
        lines.append([("SUGGESTED ", "title"), (self._shares(top, counts, room - 10), "plain")])
        lines.append([])
        if effect is None:
            lines.append([("computing what it would change …", "faint")])
        else:
            if effect.csg_before is not None and effect.csg_after is not None:
                lines.append(_change("CSG ", effect.csg_before, effect.csg_after))
            lines.append(_change("mean overlap ", effect.trace_before, effect.trace_after))
            lines += [[], [("OVERLAP", "title"), (" of the classes it changes most", "faint")]]
            order = np.argsort(-np.abs(effect.d_overlap), kind="stable")[:SHOWN]
            for label in order.tolist():
                change = float(effect.d_overlap[label])
                if abs(change) >= 0.005:
                    arrow, style = ("▼", "good") if change < 0 else ("▲", "warn")
                    lines.append(
                        [(fit(session.name(label), 18), "plain"), (f" {arrow} {abs(change):.2f}", style)]
                    )
            if len(lines) and not lines[-1]:
                lines.pop()
            lines += [
                [],
                [
                    (self.keymap.hint("confirm"), "key"),
                    (" applies it as one step, ", "plain"),
                    (self.keymap.hint("undo"), "key"),
                    (" undoes it", "plain"),
                ],
            ]
        self.effect.show(lines)

    def _shares(self, labels: object, counts: object, room: int) -> str:
        """Say how many have which label, the most frequent first, as many as there is room for."""
        pairs = sorted(
            zip(np.asarray(counts).tolist(), np.asarray(labels).tolist(), strict=True),
            key=lambda p: (-p[0], p[1]),
        )
        words = [f"{count:,}× {self.session.name(label)}" for count, label in pairs]
        shown = min(5, len(words))
        while True:
            left = len(words) - shown
            text = ", ".join(words[:shown]) + (f" and {left} more" if left else "")
            if shown == 1 or cell_len(text) <= room:
                return text
            shown -= 1

    def do_confirm(self) -> None:
        choice = self.choices.choices[self.choices.row]
        outcome = self.session.decide(self.samples, choice.kind, self.labels())
        self.host.decided(bulk=True)
        self.dismiss(None)
        self.host.say_below(f"{outcome.words}   {self.keymap.hint('undo')} undoes it", outcome.style)


def _change(what: str, before: float, after: float) -> list[Piece]:
    style = "good" if after < before else "warn" if after > before else "plain"
    return [
        (what, "title"),
        (f"{before:.3f} → ", "plain"),
        (f"{after:.3f}", style),
        (f"  ({after - before:+.3f})", "faint"),
    ]


def choose(screen: Deciding) -> None:
    """Let the person say which samples, then open the bulk screen on them."""
    session = screen.session

    def open_(samples: list[int]) -> None:
        screen.app.push_screen(BulkScreen(session, screen.keymap, samples))

    undecided = session.undecided()
    if session.selected:
        open_(sorted(session.selected))
        return
    if not undecided:
        screen.say("nothing here is undecided", "warn")
        return
    so_far = session.undecided(session.row + 1)
    items = [Item(f"all {len(undecided):,} undecided samples of this queue", undecided)]
    if 0 < len(so_far) < len(undecided):
        items.append(Item(f"from the top down to here: {len(so_far):,}", so_far))
    screen.panel.find(
        f"Decide on which samples at once?  ({screen.keymap.hint('mark')} marks single ones)", items, open_
    )
