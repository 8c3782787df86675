"""Runs side by side: on the given, the current and reference labels, paired over seeds, with intervals."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual import work
from textual.widget import Widget

from labeltui.errors import LabeltuiError
from labeltui.text import safe
from labeltui.tui.actions import Keymap
from labeltui.tui.layout import Piece, fit, fit_end
from labeltui.tui.requirements import Context
from labeltui.tui.screens.opened import WithRows
from labeltui.tui.session import Session
from labeltui.tui.widgets.over import Text
from labeltui.tui.widgets.rows import Rows

if TYPE_CHECKING:
    from labeltui.audit import Audit
    from labeltui.train.compare import Comparison, Difference, Row

MEASURES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "ece": "calibration error (low is good)",
}
COLUMN = 12
"""Cells of a label vector's column."""


@dataclass(frozen=True)
class Sides:
    """The same runs measured against several label vectors; `fault` says why one of these is missing."""

    made: dict[str, Comparison]
    fault: LabeltuiError | None = None


def measure(audit: Audit, runs: Sequence[str], reference: str) -> Sides:
    """Compare runs on the given, the current and optionally the reference labels.

    Parameters
    ----------
    audit : Audit
    runs : sequence of str
        Ids of two runs.
    reference : str
        ``TABLE:COLUMN``, or empty.

    Returns
    -------
    Sides
    """
    from labeltui.train.compare import compare

    made: dict[str, Comparison] = {}
    fault = None
    for name, against in (("given", "given"), ("current", "current"), ("reference", reference)):
        try:
            if against:
                made[name] = compare(audit, runs, against)
        except LabeltuiError as error:
            fault = error
    return Sides(made, fault)


class ComparisonScreen(WithRows):
    """One table of measures, then each kind of run against the first."""

    name_in_table = "comparison"

    def __init__(self, session: Session, keymap: Keymap, runs: Sequence[str]) -> None:
        super().__init__(session, keymap)
        self.runs = runs
        self.measure = "accuracy"
        self.table = Text(id="comparison")
        self.sides = Sides({})

    def parts(self) -> Sequence[Widget]:
        return [self.table]

    def rows(self) -> Rows:
        return self.table

    def on_mount(self) -> None:
        self._measure()

    def context(self) -> Context:
        return Context(read_only=self.session.audit.read_only)

    @work(exclusive=True, group="measure", exit_on_error=False)
    async def _measure(self) -> None:
        """Measure off the UI thread: predictions of many samples take a moment."""
        audit, reference = self.session.audit, self.session.reference
        self.sides = await asyncio.to_thread(measure, audit, self.runs, reference)
        if self.sides.fault is not None:
            self.complain(self.sides.fault)
        self.paint()

    # -- painting ------------------------------------------------------------

    def paint(self) -> None:
        count = len(self.runs)
        self.entitle(
            ("COMPARISON  ", "title"),
            (MEASURES[self.measure], "strong"),
            (
                f"   {count:,} {'run' if count == 1 else 'runs'} on samples that none of them trained on",
                "faint",
            ),
        )
        self.table.text_lines = [*self._measures(), *self._differences(), *self._advice()]
        self.table.reset(self.table.row)

    def _measures(self) -> list[list[Piece]]:
        sides = list(self.sides.made.items())
        if not sides:
            return [
                [("measuring …" if self.sides.fault is None else "these runs cannot be compared", "faint")]
            ]
        names = self.size.width - 4 - COLUMN * 3 - 9 - 4
        what = max(8, names // 2)
        lines: list[list[Piece]] = [
            [
                (fit("run", 4 + names + 9), "faint"),
                *((fit(f"{name}", COLUMN, right=True), "title") for name, _ in sides),
            ]
        ]
        for at, row in enumerate(sides[0][1].rows):
            values = [(made, getattr(made.rows[at].metrics, self.measure)) for _, made in sides]
            lines.append(
                [
                    (fit(str(row.job.number), 3, right=True) + " ", "strong"),
                    (fit(row.what, what - 1) + " ", "plain"),
                    (fit_end(row.labels, names - what - 1) + " ", "plain"),
                    (fit(f"seed {row.seed}", 9), "faint"),
                    *(
                        (
                            fit(f"{value:.4f}", COLUMN, right=True),
                            "strong" if value == self._best(made) else "plain",
                        )
                        for made, value in values
                    ),
                ]
            )
        counts = [(fit(f"{made.n:,}", COLUMN, right=True), "faint") for _, made in sides]
        return [*lines, [(fit("samples with a label", 4 + names + 9), "faint"), *counts]]

    def _best(self, made: Comparison) -> float:
        values = [float(getattr(row.metrics, self.measure)) for row in made.rows]
        return min(values) if self.measure == "ece" else max(values)

    def _differences(self) -> list[list[Piece]]:
        """Each kind of run minus the first kind, on every label vector."""
        found: dict[tuple[str, str, str], list[tuple[str, Difference]]] = {}
        for name, made in self.sides.made.items():
            for each in made.differences:
                if each.measure == self.measure:
                    found.setdefault((each.labels, each.what, each.against), []).append((name, each))
        lines: list[list[Piece]] = []
        for (labels, what, against), differences in found.items():
            method, pairs = differences[0][1].method, differences[0][1].pairs
            kinds = fit(f"{labels}, {what} minus {against}", max(20, self.size.width - 35)).rstrip()
            over = f"{pairs} seeds, Student's t" if method == "t over seeds" else "one seed, bootstrap"
            lines += [[], [(kinds, "strong"), (f"   {over}", "faint")]]
            for name, each in differences:
                word, style = verdict(each)
                lines.append(
                    [
                        (fit(f"  by {name} labels", 24), "plain"),
                        (f"{each.mean:+.4f}", "strong"),
                        (f"   95 % {each.low:+.4f} .. {each.high:+.4f}   ", "plain"),
                        (word, style),
                    ]
                )
        if not lines and self.sides.made and len({(r.labels, r.what) for r in self._rows()}) > 1:
            lines = [[], [("No seed is common to both kinds of run, or too few for an interval.", "faint")]]
        return lines

    def _rows(self) -> list[Row]:
        return next(iter(self.sides.made.values())).rows

    def _advice(self) -> list[list[Piece]]:
        if self.session.reference:
            return [
                [],
                [("reference: ", "faint"), (safe(self.session.reference, self.size.width - 16), "plain")],
            ]
        key = self.keymap.hint("reference")
        return [
            [],
            [
                ("Current labels favour runs trained on them. ", "faint"),
                (key, "key"),
                (" names a reference.", "faint"),
            ],
        ]

    # -- doing ------------------------------------------------------------

    def do_measure(self) -> None:
        names = list(MEASURES)
        self.measure = names[(names.index(self.measure) + 1) % len(names)]
        self.paint()

    def do_reference(self) -> None:
        def take(text: str) -> None:
            self.session.reference = text.strip()
            self.say("")
            self._measure()

        hint = "a table with a column path; empty: none"
        self.panel.ask("Reference labels, as TABLE:COLUMN", take, self.session.reference, hint)


def verdict(difference: Difference) -> tuple[str, str]:
    """Say in a word, and a style, what an interval tells."""
    if difference.low <= 0 <= difference.high:
        return "no clear difference", "faint"
    return ("better", "good") if (difference.mean > 0) != (difference.measure == "ece") else ("worse", "bad")
