"""Plots: a map of the samples, the reliability diagram, and how a training run learned."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Sequence

import numpy as np
from textual import work
from textual.widget import Widget

from labeltui.audit.calibration import PER_BIN
from labeltui.audit.sample_map import SampleMap, sample_map
from labeltui.text import fraction, safe
from labeltui.train.curves import Curve, read
from labeltui.train.jobs import Job, list_jobs
from labeltui.tui.actions import Keymap
from labeltui.tui.layout import Piece, fit
from labeltui.tui.requirements import Context
from labeltui.tui.screens.opened import Opened
from labeltui.tui.session import Session
from labeltui.tui.widgets.paint import Lines
from labeltui.tui.widgets.plot import Axis, Plot, Series

POLL = 1.0
"""Seconds between two looks at the files of a run that is active."""
ALIKE = 3
"""Classes that are shown beside the one looked at, those that overlap it most."""
FLAG, OWN, OTHERS = "×", "●", "○△□"
"""Markers, which mean the same without colours."""
DOTS = "⠿"


class PlotsScreen(Opened):
    """The plot left, what its marks mean right."""

    name_in_table = "plots"

    def __init__(self, session: Session, keymap: Keymap, run: str = "") -> None:
        super().__init__(session, keymap)
        self.plot = Plot(id="plot")
        self.legend = Lines(id="legend")
        self.shown = "accuracy" if run else "map"
        self.run = run
        """Id of the run whose curve is shown; empty: the newest."""
        self.label: int | None = self._class_looked_at()
        """The class on the map, None = all."""
        self.map: SampleMap | None = None
        self.waits = True
        """Whether the map is still being made."""
        self.jobs: list[Job] = []
        self.curve: Curve | None = None
        """Of that run, once it was read."""

    def _class_looked_at(self) -> int | None:
        session = self.session
        if session.sample is None:
            return None
        label = int(session.audit.current[session.sample])
        return label if label >= 0 else None

    def parts(self) -> Sequence[Widget]:
        return [self.plot, self.legend]

    def on_mount(self) -> None:
        self._place()
        self._watch()

    def context(self) -> Context:
        return Context(read_only=self.session.audit.read_only)

    @work(exclusive=True, group="map", exit_on_error=False)
    async def _place(self) -> None:
        """Make the map off the UI thread: a principal component analysis takes a moment."""
        try:
            self.map = await asyncio.to_thread(sample_map, self.session.audit)
        finally:
            self.waits = False
        self.paint()

    @work(exclusive=True, group="curves", exit_on_error=False)
    async def _watch(self) -> None:
        """Read the runs and the curve of the one shown, again and again while it learns."""
        while True:
            jobs = list(reversed(await asyncio.to_thread(list_jobs, self.session.audit.path)))
            job = next((job for job in jobs if job.id == self.run), jobs[0] if jobs else None)
            curve = await asyncio.to_thread(read, job.directory) if job is not None else Curve()
            changed = (jobs, curve) != (self.jobs, self.curve)
            self.jobs, self.curve = jobs, curve
            if changed and self.shown in ("accuracy", "loss"):
                self.paint()
            if job is None or not job.active:
                return
            await asyncio.sleep(POLL)

    @property
    def job(self) -> Job | None:
        """The run whose curve is shown."""
        return next((job for job in self.jobs if job.id == self.run), self.jobs[0] if self.jobs else None)

    # -- painting ------------------------------------------------------------

    def paint(self) -> None:
        if self.shown == "map":
            self._paint_map()
        elif self.shown == "reliability":
            self._paint_reliability()
        else:
            self._paint_curve()

    def _nothing(self, *sentences: str) -> None:
        """Say why there is no plot."""
        width = max(12, self.plot.size.width - 2)
        lines = [line for sentence in sentences for line in textwrap.wrap(sentence, width)]
        self.plot.show([[(f" {line}", "faint")] for line in lines])
        self.legend.show([])

    def _explain(self, lines: list[list[Piece]], *sentences: str) -> None:
        """Show what marks mean, then sentences."""
        width = max(12, self.legend.size.width - 2)
        for sentence in sentences:
            lines += [[], *([(line, "faint")] for line in textwrap.wrap(sentence, width))]
        self.legend.show(lines)

    def _paint_map(self) -> None:
        name = "all classes" if self.label is None else self.session.name(self.label)
        self.entitle(("PLOTS  ", "title"), ("map of the samples  ", "strong"), (name, "link"))
        made, audit = self.map, self.session.audit
        if made is None:
            self._nothing(
                "placing the samples …" if self.waits else "too few samples for a map, or all in one place"
            )
            return
        labels, flagged = audit.current[made.samples], (audit.flags & (audit.kinds == 0))[made.samples]
        kinds: list[tuple[str, str, str, np.ndarray]] = []  # name, marker, style, which samples
        if self.label is None:
            kinds = [("samples", "", "bar", ~flagged), ("flagged", FLAG, "bad", flagged)]
        else:
            overlap = np.array(self._overlaps(self.label))
            alike = [c for c in np.argsort(-overlap, kind="stable")[:ALIKE].tolist() if overlap[c] > 0]
            shown = [self.label, *alike]
            kinds.append(("others", "", "faint", ~np.isin(labels, shown)))
            for other, marker, style in zip(alike, OTHERS, ("link", "warn", "good"), strict=False):
                kinds.append((self.session.name(other), marker, style, labels == other))
            own = labels == self.label
            kinds.append((name, OWN, "title", own & ~flagged))
            kinds.append(("flagged", FLAG, "bad", own & flagged))
        x, y = made.places.T
        series = [
            Series(x[which].tolist(), y[which].tolist(), marker, style) for _, marker, style, which in kinds
        ]
        across, up = (
            Axis(axis, float(values.min()), float(values.max()))
            for axis, values in zip(made.axes, (x, y), strict=True)
        )
        self.plot.draw(series, across, up)
        width = max(12, self.legend.size.width - 2)
        rows: list[list[Piece]] = [
            [
                (f"{marker or DOTS} ", style),
                (fit(said, width - 8), "plain"),
                (f"{int(which.sum()):>6,}", "strong"),
            ]
            for said, marker, style, which in reversed(kinds)
        ]
        drawn = "" if len(made.samples) == np.count_nonzero(audit.statuses == 0) else " drawn at random"
        self._explain(
            rows,
            f"{len(made.samples):,} samples{drawn}, by their labels now. A mark covers those of the lines below it. "
            "Flags are those that nobody decided on.",
            "What lies together here may be apart in other dimensions.",
        )

    def _overlaps(self, label: int) -> list[float]:
        """Overlap W of a class with each class, 0 with itself."""
        row = self.session.audit.matrix()[[label]]
        values: list[float] = np.asarray(row.toarray() if hasattr(row, "toarray") else row).ravel().tolist()
        values[label] = 0.0
        return values

    def _paint_reliability(self) -> None:
        self.entitle(("PLOTS  ", "title"), ("reliability diagram", "strong"))
        known = self.session.audit.calibration()
        bins = known["bins"]
        if not bins:
            self._nothing(
                f"No diagram yet: it takes {PER_BIN} samples that were looked at, kept or relabelled.",
                f"So far there are {known['decided']:,}.",
            )
            return
        stated, found = ([float(each[name]) for each in bins] for name in ("stated", "found"))
        series = [Series([0.0, 1.0], [0.0, 1.0], joined=True), Series(stated, found, OWN, "title")]
        self.plot.draw(series, Axis("stated P(given label right)", 0.0, 1.0), Axis("found right", 0.0, 1.0))
        rows: list[list[Piece]] = [[(f"{OWN} ", "title"), ("stated   found  reviews", "faint")]]
        rows += [
            [(f"{fraction(a):>8}{fraction(b):>8}", "plain"), (f"{each['decided']:>9,}", "strong")]
            for a, b, each in zip(stated, found, bins, strict=True)
        ]
        self._explain(
            rows,
            f"{known['decided']:,} samples that were looked at, in groups of equal size. On the dotted line what is "
            "stated is what was found.",
            "People look at doubtful labels first, so it speaks of such labels.",
        )

    def _paint_curve(self) -> None:
        job, curve = self.job, self.curve
        what = "accuracy on held-out samples" if self.shown == "accuracy" else "training loss"
        self.entitle(
            ("PLOTS  ", "title"),
            (what, "strong"),
            (f"  run {job.number}  {job.state}" if job is not None else "", "link"),
        )
        if job is None:
            none = f"No run yet: {self.keymap.hint('train')} on the review screen starts one."
            self._nothing("reading …" if curve is None else none)
            return
        if curve is None:
            self._nothing("reading …")
            return
        values = curve.accuracy if self.shown == "accuracy" else curve.loss
        if not values:
            why = "has reported no epoch yet" if not curve.loss else "looked at no held-out samples"
            self._nothing(f"Run {job.number} {why}.")
            return
        epochs = [float(epoch) for epoch in range(1, len(values) + 1)]
        low, high = min(values), max(values)
        self.plot.draw(
            [Series(epochs, values, OWN, "title", joined=True)],
            Axis("epoch", 1.0, float(max(len(values), curve.epochs, 2)), whole=True),
            Axis(self.shown, low, high),
        )
        best = max(values) if self.shown == "accuracy" else min(values)
        rows: list[list[Piece]] = [
            [("first ", "faint"), (f"{values[0]:.4f}", "plain")],
            [("last  ", "faint"), (f"{values[-1]:.4f}", "strong")],
            [("best  ", "faint"), (f"{best:.4f}", "good"), (f"  epoch {values.index(best) + 1}", "faint")],
            [("epoch ", "faint"), (f"{curve.epoch} of {curve.epochs}", "plain")],
        ]
        self._explain(
            rows,
            f"{safe(job.what)}, {safe(job.labels)} labels, seed {job.seed}.",
            "By the labels that the run learned from, on samples that it did not train on."
            if self.shown == "accuracy"
            else "On the samples that the run trains on.",
            "Where a run has several models, their mean.",
        )

    # -- doing ------------------------------------------------------------

    def _show(self, plot: str) -> None:
        self.shown = plot
        self.paint()

    def do_plot_map(self) -> None:
        self._show("map")

    def do_plot_reliability(self) -> None:
        self._show("reliability")

    def do_plot_accuracy(self) -> None:
        self._show("accuracy")

    def do_plot_loss(self) -> None:
        self._show("loss")

    def do_plot_next(self) -> None:
        self._step(1)

    def do_plot_previous(self) -> None:
        self._step(-1)

    def _step(self, by: int) -> None:
        """Go to another class of the list, or to another run; the newest stands first."""
        if self.shown == "map":
            order = [None, *self.session.classes.labels]
            self.label = order[(order.index(self.label) + by) % len(order)]
        elif self.shown != "reliability" and self.job is not None:
            ids = [job.id for job in self.jobs]
            self.run = ids[(ids.index(self.job.id) + by) % len(ids)]
            self.curve = None
            self._watch()
        self.paint()
