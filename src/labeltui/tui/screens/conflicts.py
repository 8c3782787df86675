"""Copies of one image whose labels disagree: side by side, one key resolves them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from textual import on
from textual.containers import Vertical
from textual.widget import Widget

from labeltui.tui.actions import Context, Keymap
from labeltui.tui.graphics import Thumb, Thumbnails
from labeltui.tui.screens.opened import WithRows
from labeltui.tui.session import WORDS, Session
from labeltui.tui.widgets.paint import Lines, Piece, fit
from labeltui.tui.widgets.rows import Rows


class GroupList(Rows):
    """One row a group: how many copies, and their labels."""

    def __init__(self, session: Session) -> None:
        super().__init__(id="groups")
        self.session = session
        self.groups: list[NDArray[np.int64]] = []
        self.open: set[int] = set()

    def count(self) -> int:
        return len(self.groups)

    def pieces(self, row: int, width: int) -> list[Piece]:
        audit = self.session.audit
        members = self.groups[row]
        labels = dict.fromkeys(audit.current[members].tolist())
        names = ", ".join(self.session.name(label) for label in labels)
        mark: Piece = ("  ", "plain") if row in self.open else ("✓ ", "good")
        return [mark, (f"{len(members):>3} copies  ", "faint"), (fit(names, width - 14), "plain")]


class ConflictsScreen(WithRows):
    """Groups stay in their place when they are resolved, marked, until the screen is opened anew."""

    name_in_table = "conflicts"

    def __init__(self, session: Session, keymap: Keymap) -> None:
        super().__init__(session, keymap)
        self.list = GroupList(session)
        self.members = Thumbnails(16, 8, id="members")
        self.facts = Lines(id="members-facts")

    def parts(self) -> Sequence[Widget]:
        return [self.list, Vertical(self.members, self.facts, id="right")]

    def rows(self) -> Rows:
        return self.list

    def on_mount(self) -> None:
        self.list.lit = True
        self.list.groups = self.session.audit.conflicts()
        self._find_open()

    def _find_open(self) -> None:
        unresolved = {tuple(group.tolist()) for group in self.session.audit.conflicts()}
        kinds = self.session.audit.kinds
        self.list.open = {
            row
            for row, group in enumerate(self.list.groups)
            if tuple(group.tolist()) in unresolved and not (kinds[group] != 0).all()
        }

    @property
    def group(self) -> list[int]:
        """The samples of the group looked at."""
        if not self.list.groups:
            return []
        found: list[int] = self.list.groups[self.list.row].tolist()
        return found

    def looked_at(self) -> int | None:
        return self.group[0] if self.group else None

    def context(self) -> Context:
        return Context(sample=bool(self.group), read_only=self.session.audit.read_only)

    def paint(self) -> None:
        self.list.reset(self.list.row)
        self.paint_group()

    def paint_group(self) -> None:
        """Paint the copies of the group looked at."""
        session, audit = self.session, self.session.audit
        left = len(self.list.open)
        if not self.group:
            self.entitle(
                ("LABEL CONFLICTS  ", "title"), ("no copies of one image have different labels", "good")
            )
            self.facts.show([[("Copies are images that are identical or nearly so.", "faint")]])
            return
        self.entitle(
            ("LABEL CONFLICTS  ", "title"), (f"{left:,} of {len(self.list.groups):,} left", "strong")
        )
        rows = 4 if self.size.height < 30 else 8
        self.members.cell_rows, self.members.cell_columns = rows, 2 * rows
        self.members.styles.height = max(rows + 1, self.size.height - 6 - min(9, len(self.group)))
        self.members.show(
            [
                Thumb(
                    sample,
                    partial(audit.image, sample),
                    f"{number} {session.name(int(audit.current[sample]))}",
                )
                for number, sample in enumerate(self.group, 1)
            ]
        )
        lines: list[list[Piece]] = []
        for number, sample in enumerate(self.group[:9], 1):
            decision = audit.decision(sample)
            done: Piece = ("", "plain")
            if decision is not None:
                done = (f"  {WORDS[decision.kind][0]} {decision.kind}", WORDS[decision.kind][1])
            label = session.name(int(audit.current[sample]))
            split = audit.split_of(sample)
            where = audit.sample_name(sample) + (f"  {split}" if split else "")
            lines.append([(f" {number} ", "key"), (fit(label, 16), "strong"), (where, "faint"), done])
        self.facts.styles.height = len(lines)
        self.facts.show(lines)

    @on(Rows.Moved)
    def _moved(self) -> None:
        self.paint_group()

    def decided(self) -> None:
        self._find_open()
        for row in (*range(self.list.row + 1, len(self.list.groups)), *range(self.list.row)):
            if row in self.list.open:
                self.list.row = row
                break
        self.paint()

    def _resolve(self, kind: str, label: int | None = None) -> None:
        outcome = self.session.decide(self.group, kind, label)
        self.decided()
        self.say(outcome.words if self.list.open else f"{outcome.words}. No conflict is left", outcome.style)
        self.labeltui.decided()

    def do_resolve(self, number: int) -> None:
        if number > len(self.group):
            self.say(f"there are {len(self.group)} copies", "warn")
            return
        label = int(self.session.audit.current[self.group[number - 1]])
        self._resolve("relabel", label)

    def do_resolve_class(self) -> None:
        self.panel.find(
            "Give all copies which class?", self.class_items(), lambda label: self._resolve("relabel", label)
        )

    def do_resolve_exclude(self) -> None:
        self._resolve("exclude")

    def do_resolve_keep(self) -> None:
        self._resolve("keep")

    def _history(self, verb: str) -> None:
        outcome = self.session.history(verb)
        self._find_open()
        self.paint()
        self.say(outcome.words if outcome else f"nothing to {verb}", outcome.style if outcome else "warn")

    def do_open(self) -> None:
        if self.group:
            self.session.visit(self.group[0])
            self.dismiss(None)
