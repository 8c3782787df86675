"""Plots in the terminal: every mark stands where the numbers at the axes say, and every number is the audit's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from textual.geometry import Size

from labeltui import paths
from labeltui.audit.sample_map import sample_map
from labeltui.text import fraction
from labeltui.train import jobs
from labeltui.tui.layout import Piece
from tests.factories import make_audit
from tests.runs import begin, end, prepared
from tests.tui.desk import Desk, at_desk
from tests.tui.drawn import draw_audit

pytest.importorskip("plotille")
from labeltui.tui.widgets.plot import MARGIN, Axis, Plot, Series


class Sheet(Plot):
    """A plot of a fixed size without a screen."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__()
        self._sheet = Size(width, height)

    @property
    def size(self) -> Size:
        return self._sheet


def ticks(lines: list[str]) -> tuple[dict[int, float], dict[int, float]]:
    """The numbers at the axes: by column of the canvas, and by row."""
    *rows, _, numbers, _ = lines[1:]
    across = {
        found.start() - MARGIN: float(found[0])
        for found in re.finditer(r"-?[\d.]+", numbers.replace("|", " "))
    }
    up = {row: float(line.split("|")[0]) for row, line in enumerate(rows) if line.split("|")[0].strip()}
    return across, up


@pytest.mark.parametrize("size", [(45, 17), (54, 21), (84, 37), (200, 60)])
def test_marks_stand_where_the_numbers_say(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(size)
    for trial in range(15):
        extent = 10.0 ** rng.uniform(-3, 4, 2)
        x, y = (width * (rng.normal() * 10 + rng.random(5)) for width in extent)
        if trial == 0:
            x, y = np.linspace(0, 1, 5), np.linspace(1, 0, 5)
        sheet = Sheet(*size)
        axes = Axis("across", x.min(), x.max()), Axis("up", y.min(), y.max())
        sheet.draw([Series(x[:1], y[:1], "●"), Series(x[1:], y[1:], "×")], *axes)
        lines = sheet.text.split("\n")
        assert len(lines) <= size[1]
        assert max(map(cell_len, lines)) <= size[0]
        columns, rows = ticks(lines)
        assert len(columns) >= 2
        assert len(rows) >= 2
        (c0, at0), *_, (c1, at1) = columns.items()
        (r0, up0), *_, (r1, up1) = rows.items()
        canvas = [line[MARGIN:] for line in lines[1:-3]]
        seen = {(r, c) for r, line in enumerate(canvas) for c, mark in enumerate(line) if mark in "●×"}
        # A cell has two dots across and four up, the first one at its number; a mark stands at the nearest dot.
        exact_columns = c0 + (x - at0) / (at1 - at0) * (c1 - c0)
        exact_rows = r0 + (y - up0) / (up1 - up0) * (r1 - r0)
        expected = zip(np.ceil(exact_rows - 0.125 - 1e-6), np.floor(exact_columns + 0.25 + 1e-6), strict=True)
        assert seen == {(int(r), int(c)) for r, c in expected}


@pytest.mark.parametrize("epochs", [2, 3, 14, 350])
@pytest.mark.parametrize("width", [35, 76, 300])
def test_epochs_are_whole_numbers(epochs: int, width: int) -> None:
    sheet = Sheet(width, 29)
    x = list(range(1, epochs + 1))
    sheet.draw([Series(x, [0.5] * epochs, "●")], Axis("epoch", 1, epochs, whole=True), Axis("loss", 0.5, 0.5))
    numbers = sheet.text.split("\n")[-2].split("|")[1].split()
    assert len(numbers) >= 2
    assert all(number.isdigit() for number in numbers)


def test_constant_values_and_no_room() -> None:
    sheet = Sheet(60, 20)
    sheet.draw([Series([1.0], [0.5], "●", joined=True)], Axis("epoch", 1.0, 2.0), Axis("loss", 0.5, 0.5))
    assert sheet.text.count("●") == 1
    small = Sheet(30, 9)
    small.draw([Series([1.0], [0.5], "●")], Axis("epoch", 1.0, 2.0), Axis("loss", 0.0, 1.0))
    assert "no room" in small.text


def legend(desk: Desk) -> list[list[Piece]]:
    return desk.app.screen.query_one("#legend").lines  # type: ignore[attr-defined,no-any-return]


def counted(desk: Desk) -> dict[str, int]:
    """Markers of the legend and how many samples they stand for."""
    return {row[0][0].strip(): int(row[-1][0].replace(",", "")) for row in legend(desk) if len(row) == 3}


async def test_the_map_shows_every_sample_once(tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path), size=(80, 24)) as desk:
        audit, label = desk.audit, int(desk.audit.given[desk.sample])
        made = sample_map(audit)
        assert made is not None
        await desk.do("plots")
        await desk.until(lambda: "×" in desk.text)
        for size in ((80, 24), (100, 32), (120, 40)):
            await desk.pilot.resize_terminal(*size)
            await desk.pilot.pause()
            assert audit.names[label] in desk.screen[0]
            counts = counted(desk)
            flagged = audit.flags & (audit.given == label)
            assert counts["×"] == flagged.sum()
            assert counts["●"] == ((audit.given == label) & ~flagged).sum()
            assert sum(counts.values()) == audit.n
            # Without colours too: each kind has a marker of its own, and it is on the plot.
            plot = desk.app.screen.query_one("#plot", Plot)
            assert all(marker in plot.text for marker in counts if marker != "⠿")
            assert all(axis in plot.text for axis in made.axes)
            lines = plot.text.split("\n")
            assert max(map(cell_len, lines)) <= plot.size.width
            assert 0.8 * plot.size.height <= len(lines) <= plot.size.height
        order = desk.session.classes.labels
        await desk.do(*["plot-previous"] * (order.index(label) + 1))
        assert "all classes" in desk.screen[0]
        assert counted(desk) == {"×": audit.flags.sum(), "⠿": audit.n - audit.flags.sum()}
        await desk.do("plot-next")
        assert audit.names[order[0]] in desk.screen[0]

        # A flag that was decided on is none any more, and its sample stands with the class that it has now.
        await desk.do("back")
        sample, label = desk.sample, int(audit.suggested[desk.sample, 0])
        audit.decide([sample], "relabel", label)
        await desk.do("plots")
        await desk.until(lambda: "×" in desk.text)
        assert audit.names[label] in desk.screen[0]
        flagged = audit.flags & (np.arange(audit.n) != sample)
        assert counted(desk)["×"] == ((audit.current == label) & flagged).sum()
        assert counted(desk)["●"] == ((audit.current == label) & ~flagged).sum()


async def test_without_a_map_it_says_why(tmp_path: Path) -> None:
    async with at_desk(draw_audit(tmp_path)) as desk:  # all its embeddings are the same
        await desk.do("plots")
        await desk.until(lambda: "all in one place" in desk.text)


async def test_reliability_is_that_of_status(tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path), size=(80, 24)) as desk:
        truth = np.load(tmp_path / "truth.npy")
        await desk.do("plots", "plot-reliability")
        assert "So far there are 0." in desk.text
        for i in range(0, 240, 3):
            right = truth[i] == desk.audit.given[i]
            desk.audit.decide([i], "keep" if right else "relabel", None if right else int(truth[i]))
        await desk.do("plot-reliability")
        bins = desk.audit.calibration()["bins"]
        assert len(bins) == 2
        rows = [" ".join("".join(text for text, _ in line).split()) for line in legend(desk)]
        for each in bins:
            assert f"{fraction(each['stated'])} {fraction(each['found'])} {each['decided']}" in rows
        assert desk.app.screen.query_one("#plot", Plot).text.count("●") == len({str(each) for each in bins})


async def test_curves_of_runs_while_they_learn(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    for seed in range(2):
        directory = prepared(path, labels="given", seed=seed)
        begin(directory)
        if seed == 0:
            end(directory, "done")
    first, second = jobs.list_jobs(path)
    async with at_desk(path, size=(80, 24)) as desk:
        await desk.do("runs")
        await desk.until(lambda: "2 runs" in desk.screen[0])
        await desk.do("down", "plot-run")
        await desk.until(lambda: "run 1  done" in desk.screen[0])
        await desk.until(lambda: "last  0.7500" in desk.text)
        assert "accuracy on held-out samples" in desk.screen[0]
        await desk.do("plot-loss")
        assert "best  0.5000  epoch 2" in desk.text
        await desk.do("plot-previous")  # the newer one, which goes on
        await desk.until(lambda: "epoch 2 of 4" in desk.text)
        event = {
            "stage": "x",
            "progress": 0.6,
            "model": 0,
            "epoch": 3,
            "epochs": 4,
            "loss": 0.25,
            "accuracy": 0.8,
        }
        with open(second.directory / paths.EVENTS_FILE, "a") as file:
            file.write(json.dumps(event) + "\n")
        await desk.until(lambda: "epoch 3 of 4" in desk.text)
        assert "best  0.2500  epoch 3" in desk.text
        await desk.do("plot-accuracy")
        assert "last  0.8000" in desk.text
        await desk.do("back")
        assert "TRAINING RUNS" in desk.screen[0]
    assert first.number == 1


async def test_without_runs_it_says_what_starts_one(tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path)) as desk:
        await desk.do("plots", "plot-loss")
        await desk.until(lambda: "No run yet: [t]" in desk.text)
