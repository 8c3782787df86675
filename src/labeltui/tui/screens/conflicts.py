"""Duplicates whose labels disagree or that lie in several splits, and samples on which reviewers disagree.

They stand side by side; one key resolves them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from textual.containers import Vertical
from textual.widget import Widget

from labeltui.audit import Opinion
from labeltui.graphics import Thumb, Thumbnails
from labeltui.text import safe
from labeltui.tui.actions import Keymap
from labeltui.tui.layout import Piece, fit
from labeltui.tui.requirements import Context
from labeltui.tui.screens.opened import WithRows
from labeltui.tui.session import WORDS, Session
from labeltui.tui.widgets.paint import Lines
from labeltui.tui.widgets.rows import Rows


class GroupList(Rows):
    """One row a group: how many duplicates, and their labels."""

    HEADED = True

    def __init__(self, session: Session) -> None:
        super().__init__(id="groups")
        self.session = session
        self.groups: list[NDArray[np.int64]] = []
        self.open: set[int] = set()
        self.across = False
        """Whether the groups are those that lie in several splits."""

    def count(self) -> int:
        return len(self.groups)

    def pieces(self, row: int, width: int) -> list[Piece]:
        audit = self.session.audit
        members = self.groups[row]
        if len(members) == 1:
            names = "; ".join(
                who_said(self.session, each) for each in opinions(self.session, int(members[0]))
            )
        elif self.across:
            names = ", ".join(
                dict.fromkeys(audit.split_of(sample) or "no split" for sample in members.tolist())
            )
        else:
            labels = dict.fromkeys(audit.current[members].tolist())
            names = ", ".join(self.session.name(label) for label in labels)
        mark: Piece = ("  ", "plain") if row in self.open else ("✓ ", "good")
        return [mark, (f"{len(members):>6}  ", "faint"), (fit(names, width - 10), "plain")]

    def heading(self, width: int) -> list[Piece]:
        return [(fit("  images  " + ("splits" if self.across else "labels"), width), "faint")]


def opinions(session: Session, sample: int) -> list[Opinion]:
    """What reviewers decided of a disputed sample: first what is in effect, then what contradicts it.

    Parameters
    ----------
    session : Session
    sample : int
    """
    theirs = session.audit.disagreements().get(sample, [])
    now = session.audit.decision(sample)
    if now is None:
        return theirs
    return [Opinion(sample, now.reviewer, now.kind, now.label, now.second, now.note, now.time), *theirs]


def who_said(session: Session, each: Opinion) -> str:
    """Say who decided what.

    Parameters
    ----------
    session : Session
    each : Opinion
    """
    what = session.name(each.label) if each.kind in ("keep", "relabel") else each.kind
    return f"{safe(each.reviewer)}: {what}"


class ConflictsScreen(WithRows):
    """Groups stay in their place when they are resolved, marked, until the screen is opened anew."""

    name_in_table = "conflicts"

    def __init__(self, session: Session, keymap: Keymap) -> None:
        super().__init__(session, keymap)
        self.list = GroupList(session)
        self.members = Thumbnails(16, 8, id="members")
        self.facts = Lines(id="members-facts")
        self.leaks = 0

    def parts(self) -> Sequence[Widget]:
        return [self.list, Vertical(self.members, self.facts, id="right")]

    def rows(self) -> Rows:
        return self.list

    def on_mount(self) -> None:
        self.list.lit = True
        self.list.moved = self._moved
        self.leaks = len(self.session.audit.across_splits())
        self._gather()

    def _unresolved(self) -> list[NDArray[np.int64]]:
        audit = self.session.audit
        if self.list.across:
            return audit.across_splits()
        return [*(np.array([sample]) for sample in audit.disagreements()), *audit.conflicts()]

    def do_across_splits(self) -> None:
        self.list.across = not self.list.across
        self.list.row = 0
        self._gather()
        self.paint()

    def _gather(self) -> None:
        self.list.groups = self._unresolved()
        self._find_open(self.list.groups)

    def _find_open(self, groups: list[NDArray[np.int64]]) -> None:
        """Mark those that are among `groups`, the unresolved ones, and not all decided."""
        unresolved = {tuple(group.tolist()) for group in groups}
        kinds = self.session.audit.kinds
        self.list.open = {
            row
            for row, group in enumerate(self.list.groups)
            if tuple(group.tolist()) in unresolved and (len(group) == 1 or not (kinds[group] != 0).all())
        }

    @property
    def group(self) -> list[int]:
        """The samples of the group looked at: one of each label (or split) first, for a group may be long."""
        if not self.list.groups:
            return []
        members: list[int] = self.list.groups[self.list.row].tolist()
        first: dict[str, int] = {}
        for sample in members:
            first.setdefault(self._label_or_split(sample), sample)
        return [*first.values(), *(sample for sample in members if sample not in first.values())]

    def looked_at(self) -> int | None:
        return self.group[0] if self.group else None

    def context(self) -> Context:
        return Context(sample=bool(self.group), read_only=self.session.audit.read_only)

    def paint(self) -> None:
        self.list.reset(self.list.row)
        self.paint_group()

    def paint_group(self) -> None:
        """Paint the duplicates of the group looked at."""
        session, audit = self.session, self.session.audit
        left = len(self.list.open)
        title = "DUPLICATES ACROSS SPLITS  " if self.list.across else "LABEL CONFLICTS  "
        if not self.group:
            none = "none: labels of duplicates agree, and so do reviewers"
            if self.list.across:
                none = "no image lies in several splits"
            self.entitle((title, "title"), (none, "good"), (self._others(), "faint"))
            self.members.show([])
            self.facts.show(
                [[("Duplicates are images that are", "faint")], [("identical or nearly so.", "faint")]]
            )
            return
        remaining = (f"{left:,} of {len(self.list.groups):,} left", "strong")
        self.entitle((title, "title"), remaining, (self._others(), "faint"))
        rows = 4 if self.size.height < 30 else 8
        self.members.cell_rows, self.members.cell_columns = rows, 2 * rows
        self.members.styles.height = max(rows + 1, self.size.height - 6 - min(9, len(self.group)))
        self.members.show(
            [
                Thumb(
                    sample,
                    partial(audit.images.image, sample),
                    f"[{number}] {self._label_or_split(sample)}",
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
            lines.append([(f"[{number}] ", "key"), (fit(label, 16), "strong"), (where, "faint"), done])
        if len(self.group) == 1:
            lines = [
                [
                    (f"[{number}] ", "key"),
                    (who_said(session, each), "strong"),
                    (f"  {safe(each.note or '')}", "faint"),
                ]
                for number, each in enumerate(opinions(session, self.group[0])[:9], 1)
            ]
        self.facts.styles.height = len(lines)
        self.facts.show(lines)

    def _others(self) -> str:
        """Say that there are duplicates across splits too, and which key shows them."""
        if self.list.across or not self.leaks:
            return ""
        return f"   {self.keymap.hint('across-splits')} shows {self.leaks:,} across splits"

    def _label_or_split(self, sample: int) -> str:
        audit = self.session.audit
        return audit.split_of(sample) if self.list.across else self.session.name(int(audit.current[sample]))

    def _moved(self, row: int) -> None:
        self.paint_group()

    def decided(self) -> None:
        self._find_open(self._unresolved())
        for row in (*range(self.list.row + 1, len(self.list.groups)), *range(self.list.row)):
            if row in self.list.open:
                self.list.row = row
                break
        self.paint()

    def _resolve(
        self, kind: str, label: int | None = None, samples: Sequence[int] = (), second: int | None = None
    ) -> None:
        outcome = self.session.decide(samples or self.group, kind, label, second)
        self.decided()
        done = "No group is left" if self.list.across else "No conflict is left"
        self.say(outcome.words if self.list.open else f"{outcome.words}. {done}", outcome.style)
        self.host.decided()

    def _choose(self, number: int) -> None:
        """Resolve a disputed sample as the reviewer of that number decided."""
        found = opinions(self.session, self.group[0])
        if number > len(found):
            self.say(f"there are {len(found)} decisions", "warn")
            return
        each = found[number - 1]
        if each.kind in ("keep", "relabel"):
            self._resolve("relabel", each.label)
        else:
            self._resolve(each.kind, second=each.second if each.second >= 0 else None)

    def do_resolve(self, number: int) -> None:
        if len(self.group) == 1:
            self._choose(number)
            return
        if number > len(self.group):
            self.say(f"there are {len(self.group)} duplicates", "warn")
            return
        audit, chosen = self.session.audit, self.group[number - 1]
        if self.list.across:
            others = [sample for sample in self.group if audit.split_of(sample) != audit.split_of(chosen)]
            self._resolve("exclude", samples=others)
        else:
            self._resolve("relabel", int(audit.current[chosen]))

    def do_resolve_class(self) -> None:
        self.panel.find(
            "Give all duplicates which class?",
            self.class_items(),
            lambda label: self._resolve("relabel", label),
        )

    def do_resolve_exclude(self) -> None:
        self._resolve("exclude")

    def do_resolve_keep(self) -> None:
        self._resolve("keep")

    def _history(self, command: str) -> None:
        outcome = self.session.history(command)
        self._find_open(self._unresolved())
        self.paint()
        self.say(outcome.words if outcome else f"nothing to {command}", outcome.style if outcome else "warn")

    def do_open(self) -> None:
        if self.group:
            self.session.come_from(self.name_in_table)
            self.session.visit(self.group[0])
            self.dismiss(None)
            self.host.show_queue()
