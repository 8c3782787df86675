"""Figures as SVG: bars, a reliability diagram, a map of points. Hover texts are titles; all need no script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeltui.page.html import esc

WIDTH, HEIGHT, LEFT, BOTTOM = 640, 240, 52, 34
# Ten colours that people with any colour vision tell apart well (Okabe and Ito, and two greys); classes beyond share.
COLOURS = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#a6761d", "#7570b3", "#8c8c8c", "#66a61e",
)  # fmt: skip


def _open(label: str, width: int = WIDTH, height: int = HEIGHT) -> str:
    return (
        f'<svg role="img" aria-label="{esc(label)}" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" xmlns="http://www.w3.org/2000/svg">'
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


def bars(label: str, values: Sequence[float], names: Sequence[str], unit: str) -> str:
    """Draw columns.

    Parameters
    ----------
    label : str
        What a reader who cannot see it is told.
    values : sequence of float
        Not negative.
    names : sequence of str
        Of the columns, for hovering; the first and the last stand below.
    unit : str
        Of the values.

    Returns
    -------
    str
    """
    most = max([*values, 1e-12])
    inner, floor = WIDTH - LEFT - 8, HEIGHT - BOTTOM
    step = inner / max(1, len(values))
    parts = [_open(label)]
    for share in (0.5, 1.0):
        y = floor - share * (floor - 14)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 8}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(share * most)}</text>')
    for at, (value, name) in enumerate(zip(values, names, strict=True)):
        high = value / most * (floor - 14)
        parts.append(
            f'<rect class="bar" x="{LEFT + at * step:.2f}" y="{floor - high:.2f}" width="{max(0.5, step - 1):.2f}" '
            f'height="{high:.2f}"><title>{esc(name)}: {_number(value)} {esc(unit)}</title></rect>'
        )
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - 8}" y1="{floor}" y2="{floor}"/>')
    if names:
        parts.append(f'<text x="{LEFT}" y="{floor + 18}">{esc(names[0])}</text>')
        if len(names) > 1:
            parts.append(f'<text x="{WIDTH - 8}" y="{floor + 18}" text-anchor="end">{esc(names[-1])}</text>')
    return "".join([*parts, "</svg>"])


def reliability(bins: Sequence[dict[str, Any]]) -> str:
    """Draw stated probabilities against the fractions that people found right.

    Parameters
    ----------
    bins : sequence of dict
        As `labeltui.audit.calibration.report` returns them.
    """
    size, low = 320, 40
    span = size - low - 12

    def x(value: float) -> float:
        return low + value * span

    def y(value: float) -> float:
        return size - low - value * span

    told = "; ".join(f"stated {each['stated']:.2f}, found {each['found']:.2f}" for each in bins)
    parts = [_open(f"Reliability diagram: {told}", size, size)]
    for tick in (0, 0.5, 1):
        parts.append(f'<line class="grid" x1="{x(0)}" x2="{x(1)}" y1="{y(tick)}" y2="{y(tick)}"/>')
        parts.append(f'<text x="{low - 6}" y="{y(tick) + 4}" text-anchor="end">{tick:g}</text>')
        parts.append(f'<text x="{x(tick)}" y="{size - low + 18}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<line class="dash" x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}"/>')
    path = " ".join(f"{x(each['stated']):.1f},{y(each['found']):.1f}" for each in bins)
    parts.append(f'<polyline class="line" points="{path}"/>')
    for each in bins:
        parts.append(
            f'<circle class="bar" r="5" cx="{x(each["stated"]):.1f}" cy="{y(each["found"]):.1f}"><title>stated '
            f"{each['stated']:.2f}, found right {each['found']:.2f} of {each['decided']:,} decisions</title></circle>"
        )
    parts.append(f'<text x="{x(0.5)}" y="{size - 4}" text-anchor="middle">stated probability</text>')
    return "".join([*parts, "</svg>"])


def scatter(
    label: str,
    points: NDArray[np.float64],
    classes: NDArray[np.int32],
    flagged: NDArray[np.bool_],
    texts: Sequence[str],
) -> str:
    """Draw a map of samples; flagged ones have a ring.

    Parameters
    ----------
    label : str
    points : (m, 2) float64
    classes : (m,) int32
        -1 = none.
    flagged : (m,) bool
    texts : sequence of str
        For hovering.
    """
    size = 560
    low, high = points.min(0), points.max(0)
    scaled = (points - low) / np.where(high > low, high - low, 1) * (size - 20) + 10
    parts = [_open(label, size, size)]
    for at in np.argsort(flagged, kind="stable").tolist():  # rings on top
        place, label_of = scaled[at], int(classes[at])
        colour = COLOURS[label_of % len(COLOURS)] if label_of >= 0 else "#888"
        ring = ' class="flag"' if flagged[at] else ""
        fill = "" if flagged[at] else f' fill="{colour}" fill-opacity=".7"'
        parts.append(
            f'<circle{ring}{fill} cx="{place[0]:.1f}" cy="{size - place[1]:.1f}" r="{4 if flagged[at] else 2.4}">'
            f"<title>{esc(texts[at])}</title></circle>"
        )
    return "".join([*parts, "</svg>"])


def legend(names: Sequence[str]) -> str:
    """Return the classes with their colours.

    Parameters
    ----------
    names : sequence of str
        At most as many as there are colours.
    """
    items = "".join(
        f'<li><span style="background:{colour}"></span>{esc(name)}</li>'
        for name, colour in zip(names, COLOURS, strict=False)
    )
    return f'<ul class="legend">{items}</ul>'
