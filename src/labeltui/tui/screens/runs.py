"""All training runs: how each learned and what became of it; marked ones are put side by side."""

from __future__ import annotations

import asyncio
import textwrap
import time
from collections.abc import Sequence

from textual import work
from textual.containers import Vertical
from textual.widget import Widget

from labeltui.errors import LabeltuiError
from labeltui.progress import span
from labeltui.text import fraction, safe
from labeltui.train.curves import Curve, read, sparkline
from labeltui.train.jobs import Job, list_jobs
from labeltui.tui.actions import Keymap
from labeltui.tui.layout import Piece, bar, fit, fit_end
from labeltui.tui.requirements import Context
from labeltui.tui.screens.comparison import ComparisonScreen
from labeltui.tui.screens.opened import WithRows
from labeltui.tui.session import Session
from labeltui.tui.widgets.paint import Lines
from labeltui.tui.widgets.rows import Rows

POLL = 0.5
"""Seconds between two looks at the runs' files."""
STATES = {
    "starting": ("…", "warn"),
    "running": ("▶", "link"),
    "done": ("✓", "good"),
    "paused": ("∥", "warn"),
    "cancelled": ("×", "faint"),
    "failed": ("×", "bad"),
    "lost": ("?", "bad"),
}
"""Glyph and style of each state; the word stands beside it."""


class RunList(Rows):
    """One row a run, the newest first; runs are numbered by age."""

    HEADED = True

    def __init__(self) -> None:
        super().__init__(id="runs")
        self.jobs: list[Job] = []
        self.marked: set[str] = set()

    @property
    def job(self) -> Job | None:
        """The run at the cursor."""
        return self.jobs[self.row] if self.jobs else None

    def put(self, jobs: Sequence[Job]) -> None:
        """Show these runs, oldest first; the cursor stays on its run."""
        at = self.job
        self.jobs = list(reversed(jobs))
        places = [place for place, job in enumerate(self.jobs) if at is not None and job.id == at.id]
        self.renew(places[0] if places else 0)

    def count(self) -> int:
        return len(self.jobs)

    def pieces(self, row: int, width: int) -> list[Piece]:
        job = self.jobs[row]
        glyph, style = STATES[job.state]
        said = f"{job.state} {job.progress:.0%}" if job.state == "running" else job.state
        what, labels = self._columns(width)
        return [
            ("● " if job.id in self.marked else "  ", "key"),
            (fit(str(job.number), 3, right=True) + " ", "strong"),
            (fit(f"{glyph} {said}", 15), style),
            (fit(job.what, what - 1) + " ", "plain"),
            (fit_end(job.labels, labels - 1) + " ", "plain"),
            (fit(f"seed {job.seed}", 9), "faint"),
            (fit("" if job.accuracy is None else fraction(job.accuracy), 5), "strong"),
            (fit(span(job.seconds, tenths=False), 10, right=True), "faint"),
        ]

    def heading(self, width: int) -> list[Piece]:
        what, labels = self._columns(width)
        names = (("  run", 6), ("state", 15), ("model", what), ("labels", labels), ("seed", 9), ("acc.", 5))
        return [(fit(name, cells), "faint") for name, cells in (*names, ("      took", 10))]

    def _columns(self, width: int) -> tuple[int, int]:
        """Return the cells of the model and of the labels that a run learned from."""
        rest = width - 2 - 4 - 15 - 9 - 5 - 10
        what = max(6, rest // 2)
        return what, rest - what


class RunsScreen(WithRows):
    """The list above, the run at the cursor below."""

    name_in_table = "runs"

    def __init__(self, session: Session, keymap: Keymap) -> None:
        super().__init__(session, keymap)
        self.list = RunList()
        self.facts = Lines(id="run-facts")
        self._curve = Curve()
        self._curve_of = ""

    def parts(self) -> Sequence[Widget]:
        return [Vertical(self.list, self.facts)]

    def rows(self) -> Rows:
        return self.list

    async def on_mount(self) -> None:
        self.list.lit = True
        self.list.moved = self._moved
        try:
            self.list.put(await asyncio.to_thread(list_jobs, self.session.audit.path))
        except Exception as error:
            self.complain(error)
        self._watch()

    def context(self) -> Context:
        job = self.list.job
        return Context(
            run=job.state if job is not None else "",
            read_only=self.session.audit.read_only,
            training=any(job.active for job in self.list.jobs),
            can_train=self.host.training.possible,
            key=self.keymap.hint,
        )

    @work(exclusive=True, group="runs", exit_on_error=False)
    async def _watch(self) -> None:
        while True:
            job = self.list.job
            try:
                jobs = await asyncio.to_thread(list_jobs, self.session.audit.path)
                if job is not None:
                    self._curve, self._curve_of = await asyncio.to_thread(read, job.directory), job.id
            except (
                Exception
            ) as error:  # a network file system that does not answer, a file that is being replaced
                self.complain(error)
                await asyncio.sleep(POLL)
                continue
            self.list.put(jobs)
            self.paint_run()
            now = self.list.job
            if now is None or now.id == self._curve_of:  # else the cursor moved meanwhile
                await asyncio.sleep(POLL)

    # -- painting ------------------------------------------------------------

    def paint(self) -> None:
        self.facts.styles.height = 9 if self.size.height < 30 else 14
        self.list.reset(self.list.row)
        self.paint_run()

    def paint_run(self) -> None:
        """Paint the title, and what is known of the run at the cursor."""
        job, count = self.list.job, len(self.list.jobs)
        marked = f"   {len(self.list.marked):,} marked" if self.list.marked else ""
        self.entitle(
            ("TRAINING RUNS  ", "title"),
            (f"{count:,} {'run' if count == 1 else 'runs'}", "strong"),
            (marked, "key"),
        )
        if job is None:
            self.facts.show(
                [[(f" No run yet: {self.keymap.hint('train')} on the review screen starts one.", "faint")]]
            )
            return
        curve = self._curve if job.id == self._curve_of else Curve()
        self.facts.show([*self._state(job), *self._learned(curve), *self._measured(job), *self._said(job)])

    def _state(self, job: Job) -> list[list[Piece]]:
        glyph, style = STATES[job.state]
        head: list[Piece] = [
            (f" {glyph} {job.state}", style),
            (f"  run {job.number}  ", "strong"),
            (f"{job.id}  {ago(job)}", "faint"),
        ]
        if not job.active:
            return [head]
        full, empty = bar(job.progress, 24)
        left = f"  {span(job.eta, tenths=False)} left" if job.eta is not None else ""
        return [
            head,
            [
                (f" {job.progress:4.0%} ", "plain"),
                (full, "bar"),
                (empty, "plain"),
                (f"  {safe(job.stage)}{left}", "plain"),
            ],
        ]

    def _learned(self, curve: Curve) -> list[list[Piece]]:
        room = max(8, self.size.width - 44)
        lines: list[list[Piece]] = []
        for name, values, style in (("loss", curve.loss, "bar"), ("accuracy", curve.accuracy, "good")):
            if values:
                lines.append(
                    [
                        (f" {fit(name, 9)} ", "faint"),
                        (f"{_short(values[0]):>5} ", "plain"),
                        (sparkline(values, room), style),
                        (f" {_short(values[-1])}", "strong"),
                        (
                            f"  epoch {curve.epoch}/{curve.epochs}"
                            if name == "loss"
                            else "  held-out samples",
                            "faint",
                        ),
                    ]
                )
        return lines

    def _measured(self, job: Job) -> list[list[Piece]]:
        found = job.result.get("metrics")
        if not found:
            return []
        return [
            [
                (" measured  ", "faint"),
                (f"accuracy {found['accuracy']:.4f}", "strong"),
                (f"  balanced {found['balanced_accuracy']:.4f}  macro F1 {found['macro_f1']:.4f}", "plain"),
            ],
            [
                (f"           calibration error {found['ece']:.4f}", "plain"),
                (f"  on {found['n']:,} samples, by the run's own labels", "faint"),
            ],
        ]

    def _said(self, job: Job) -> list[list[Piece]]:
        texts = [(job.message, "warn")] if job.message else []
        texts += [(str(note), "plain") for note in job.result.get("notes", [])]
        width = max(20, self.size.width - 2)
        return [[(f" {line}", style)] for text, style in texts for line in textwrap.wrap(safe(text), width)]

    # -- doing ------------------------------------------------------------

    def _moved(self, row: int) -> None:
        self.paint_run()
        self._watch()

    def chosen(self, rows: Rows) -> None:
        if rows is self.list:
            self.do_compare()

    def do_mark(self) -> None:
        job = self.list.job
        assert job is not None
        if job.state != "done":
            self.say(f"run {job.number} is {job.state}: runs that are done can be compared", "warn")
            return
        self.list.marked ^= {job.id}
        self.list.repaint(self.list.row)
        if not self.list.move(1):
            self.paint_run()

    def do_mark_all(self) -> None:
        done = {job.id for job in self.list.jobs if job.state == "done"}
        self.list.marked = set() if self.list.marked else done
        self.list.refresh()
        self.paint_run()

    def do_compare(self) -> None:
        job = self.list.job
        assert job is not None
        # Oldest first: the kind of run that was there first is what the others are compared with.
        chosen = [each.id for each in reversed(self.list.jobs) if each.id in self.list.marked]
        if not chosen and job.state != "done":
            self.say(f"run {job.number} is {job.state}: runs that are done can be compared", "warn")
            return
        self.app.push_screen(ComparisonScreen(self.session, self.keymap, chosen or [job.id]))

    def do_plot(self) -> None:
        from labeltui.tui.screens.plots import PlotsScreen

        job = self.list.job
        assert job is not None
        self.app.push_screen(PlotsScreen(self.session, self.keymap, job.id))

    @work(group="resume", exit_on_error=False)
    async def do_resume(self) -> None:
        job = self.list.job
        assert job is not None
        try:
            job = await self.host.training.resume(job.id)
        except LabeltuiError as error:
            self.complain(error)
            return
        self.say(
            job.warning or f"run {job.number} resumes from its last checkpoint",
            "warn" if job.warning else "good",
        )
        self._watch()

    def do_cancel(self) -> None:
        job = self.list.job
        assert job is not None
        self.host.training.cancel(job.id, f"run {job.number}")


def ago(job: Job) -> str:
    """Say when a run ended, or began."""
    began = time.time() - job.began
    if job.active:
        return f"began {span(began, tenths=False)} ago"
    return f"took {span(job.seconds, tenths=False)}, began {span(began, tenths=False)} ago"


def _short(value: float) -> str:
    return fraction(value) if 0 <= value < 1 else f"{value:.2f}"
