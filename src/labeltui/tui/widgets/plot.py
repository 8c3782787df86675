"""Points and lines between two axes, drawn by plotille: the theme gives the colours, markers the meaning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotille

from labeltui.tui.layout import Piece, fit
from labeltui.tui.widgets.paint import Lines

MARGIN = 13
"""Cells that plotille puts before a line: a number and the axis."""
PER_TICK = 10
"""Cells between two numbers of the horizontal axis; plotille's own."""
ROWS_PER_TICK = (3, 4, 5, 6, 2)
"""Rows between two numbers of the vertical axis, the best spacing first."""
STEPS = 1, 2, 2.5, 4, 5, 8, 10, 20, 50
AROUND = 5
"""Lines around the canvas: the axes, their numbers and their names."""
SMALLEST = 2 * PER_TICK + 1, 5
"""Cells and rows of a canvas below which numbers find no room."""


@dataclass(frozen=True)
class Series:
    """Points of one kind.

    Attributes
    ----------
    x, y : sequence of float
    marker : str
        One character that no other series of the plot has; empty: dots of Braille, eight to a cell.
    style : str
        Name of a style; dots of all series have that of the last one.
    joined : bool
        Join the points by lines of dots.
    """

    x: Sequence[float]
    y: Sequence[float]
    marker: str = ""
    style: str = "faint"
    joined: bool = False


@dataclass(frozen=True)
class Axis:
    """What an axis shows, and from where to where; `whole` where only whole numbers mean something."""

    name: str
    low: float
    high: float
    whole: bool = False


@dataclass(frozen=True)
class _Scale:
    """An axis that begins and has its numbers at multiples of a round step."""

    start: float
    step: float
    per_tick: int
    cells: int

    @property
    def end(self) -> float:
        """The value behind the last cell."""
        return self.start + self.step * self.cells / self.per_tick

    def number(self, value: float) -> str:
        """Write a multiple of the step; others, and those that find no room, are empty."""
        multiple = value / self.step
        if abs(multiple - round(multiple)) > 1e-6:
            return ""
        digits = next((d for d in range(9) if math.isclose(round(self.step, d), self.step)), 9)
        text = f"{round(multiple) * self.step:.{digits}f}"
        return text if len(text) < PER_TICK else ""


def _scale(axis: Axis, cells: int, dots: int, per_tick: Sequence[int]) -> _Scale:
    """Choose the step, one of `STEPS` times a power of ten, that leaves the fewest cells unused.

    A cell has so many `dots` along the axis; plotille puts a point at the nearest, and drops points beyond the last.
    """
    high = axis.high if axis.high > axis.low else axis.low + 1.0
    found = []
    for rows in per_tick:
        least = max((high - axis.low) / (cells / rows), float(axis.whole))
        power = 10.0 ** math.floor(math.log10(least))
        for factor in STEPS:
            step = factor * power
            if axis.whole and step != round(step):
                continue
            start = math.floor(axis.low / step + 1e-9) * step
            used = math.floor((high - start) / step * rows + 0.5 / dots + 1e-9) + 1
            if used <= cells:
                found.append(_Scale(start, step, rows, used))
                break
    return max(found, key=lambda scale: scale.per_tick / scale.step)


class Plot(Lines):
    """A plot that fills the widget as far as round numbers at the axes allow."""

    def draw(self, series: Sequence[Series], across: Axis, up: Axis) -> None:
        """Show series, later ones over earlier ones; dots lie under all markers.

        Parameters
        ----------
        series : sequence of Series
        across, up : Axis
            All points must lie between their ends.
        """
        room = self.size.width - MARGIN - 1, self.size.height - AROUND
        if room[0] < SMALLEST[0] or room[1] < SMALLEST[1]:
            self.show([[("no room for a plot: enlarge the terminal", "warn")]])
            return
        x, y = _scale(across, room[0], 2, (PER_TICK,)), _scale(up, room[1], 4, ROWS_PER_TICK)
        figure = plotille.Figure()
        figure.width, figure.height = x.cells, y.cells
        figure.with_colors, figure.origin, figure.linesep = False, False, "\n"
        figure.set_x_limits(x.start, x.end)
        figure.set_y_limits(y.start, y.end)

        def number(val: float, chars: int, delta: float, left: bool = False) -> str:
            if not left:  # of the vertical axis
                return y.number(val).rjust(chars)
            text = x.number(val)
            column = MARGIN + round((val - x.start) / x.step * PER_TICK)
            return (text if column + len(text) <= self.size.width else "").ljust(chars)

        for kind in (int, float):
            figure.register_label_formatter(kind, number)
        for each in series:
            if each.joined:
                figure.plot(each.x, each.y)
            if each.marker or not each.joined:
                figure.scatter(each.x, each.y, marker=each.marker or None)
        styles = {each.marker: each.style for each in series}
        dots = next((each.style for each in reversed(series) if each.joined or not each.marker), "faint")
        _, _, *rows, rule, numbers = figure.show().split("\n")
        axes = MARGIN + x.cells
        self.show(
            [
                [(fit(up.name, axes), "faint")],
                *([(row[:MARGIN], "faint"), *_styled(row[MARGIN:], styles, dots)] for row in rows),
                [(rule[:axes], "rule")],
                [(numbers.rstrip(), "faint")],
                [(fit(across.name, axes, right=True), "faint")],
            ]
        )


def _styled(cells: str, styles: dict[str, str], dots: str) -> list[Piece]:
    """Give each cell the style of what is drawn there."""
    pieces: list[Piece] = []
    for cell in cells:
        style = styles.get(cell, dots)
        if pieces and pieces[-1][1] == style:
            pieces[-1] = (pieces[-1][0] + cell, style)
        else:
            pieces.append((cell, style))
    return pieces
