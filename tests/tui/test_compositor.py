"""Frames of what changed: the same cells as Textual's own compositor renders, and far fewer lines asked for."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
from textual._compositor import ChopsUpdate, Compositor, LayoutUpdate
from textual.strip import Strip

from labeltui.frames.compositor import LineCompositor
from labeltui.tui.widgets.paint import Lines
from tests.factories import make_audit
from tests.tui.desk import at_desk
from tests.tui.test_app_random import press_something


def pieces(update: ChopsUpdate | None) -> list[tuple[int, int, list[tuple[str, object]]]]:
    """Return line, column, and text with styles of all that an update may write."""
    if update is None:
        return []
    found = []
    for y, first, last in update.spans:
        for end, (x, strip) in zip(update.chop_ends[y], update.chops[y].items(), strict=True):
            if x < last and end > first:
                assert isinstance(strip, Strip)
                cells = [(letter, segment.style) for segment in strip for letter in segment.text]
                found.append((y, x, cells))
    return found


def lines(update: LayoutUpdate) -> list[list[tuple[str, object]]]:
    """Return letters with styles of each line of the screen."""
    return [
        [(letter, segment.style) for strip in line for segment in strip for letter in segment.text]
        for line in update.strips
    ]


async def test_frames_are_textuals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, whole = LineCompositor.render_partial_update, LineCompositor.render_full_update
    frames: list[object] = []

    def full(self: LineCompositor, simplify: bool = False) -> LayoutUpdate:
        update = whole(self, simplify)
        assert lines(update) == lines(Compositor.render_full_update(self, simplify))
        return update

    def both(self: LineCompositor) -> ChopsUpdate | None:
        regions = self._dirty_regions.copy()
        update = own(self)
        self._dirty_regions = regions
        assert pieces(update) == pieces(Compositor.render_partial_update(self))
        assert not self._dirty_regions
        frames.append(update)
        return update

    monkeypatch.setattr(LineCompositor, "render_partial_update", both)
    monkeypatch.setattr(LineCompositor, "render_full_update", full)
    dice = random.Random(5)
    async with at_desk(make_audit(tmp_path, n=120), size=(110, 34)) as desk:
        for _ in range(60):
            await press_something(desk, dice)
            await desk.pilot.pause()
    assert sum(frame is not None for frame in frames) > 20


async def test_a_decision_asks_no_widget_for_a_line_that_stays(tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path, n=120)) as desk:
        asked: list[tuple[object, int]] = []
        for widget in desk.review.query(Lines):
            widget.render_line = (  # type: ignore[method-assign]
                lambda y, widget=widget: (asked.append((widget, y)), type(widget).render_line(widget, y))[1]
            )
        before = {widget: [list(line) for line in widget.lines] for widget in desk.review.query(Lines)}
        await desk.do("suggestion-1")
        await desk.until(lambda: not desk.audit.pending)
        await desk.pilot.pause()
        stays = {
            (widget, y)
            for widget, lines in before.items()
            for y, (old, new) in enumerate(itertools.zip_longest(lines, widget.lines))
            if old == new
        }
        assert (desk.review.header, 0) in asked
        assert (desk.review.header, 0) not in stays
        assert not stays & set(asked) - {(desk.review.header, 0)}
