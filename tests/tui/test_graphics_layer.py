"""The account of cells: rectangles, what may be seen, and what a frame without some cells writes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.geometry import Region
from textual.strip import Strip

from labeltui.tui.graphics.layer import rectangles, render, touched, visible
from tests.tui.terminal import Screen

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=9))
REGIONS = st.builds(Region, st.integers(-4, 12), st.integers(-4, 8), st.integers(0, 9), st.integers(0, 6))
CONSOLE = Console(force_terminal=True, color_system="truecolor")


@given(MASKS)
def test_rectangles_cover_each_cell_once(mask: np.ndarray) -> None:
    count = np.zeros(mask.shape, int)
    for box in rectangles(mask):
        count[box.y : box.y + box.height, box.x : box.x + box.width] += 1
    np.testing.assert_array_equal(count, mask.astype(int))


def test_few_rectangles_for_simple_shapes() -> None:
    ring = np.ones((6, 9), np.bool_)
    ring[2:4, 3:6] = False
    assert len(rectangles(ring)) == 4
    assert len(rectangles(np.ones((6, 9), np.bool_))) == 1
    assert rectangles(np.zeros((6, 9), np.bool_)) == []


@given(REGIONS.filter(bool), REGIONS, st.lists(REGIONS, max_size=3))
def test_visible_is_inside_the_clip_and_under_nothing(
    box: Region, clip: Region, covers: list[Region]
) -> None:
    mask = visible(box, clip, covers)
    for y in range(box.height):
        for x in range(box.width):
            at = box.x + x, box.y + y
            assert mask[y, x] == (clip.contains(*at) and not any(cover.contains(*at) for cover in covers))


def frame(rows: list[str], cuts: list[int]) -> list[dict[int, Strip]]:
    """Lines of text, each cut into strips at the same columns."""
    return [
        {
            start: Strip([Segment(row[start:end], Style(bold=start % 2 == 0))], end - start)
            for start, end in pairwise(cuts)
        }
        for row in rows
    ]


@given(
    st.sets(st.integers(1, 19), max_size=4),
    st.dictionaries(
        st.integers(0, 3), st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=3)
    ),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 19), st.integers(1, 20)), min_size=1, max_size=4),
    st.booleans(),
)
def test_frames_write_what_they_say_and_nothing_else(
    inner: set[int], wanted: dict[int, list[tuple[int, int]]], spans: list[tuple[int, int, int]], full: bool
) -> None:
    rows = ["abcdefghijklmnopqrst", "ABCDEFGHIJKLMNOPQRST", "01234567890123456789", "zyxwvutsrqponmlkjihg"]
    cuts = sorted({0, 20, *inner})
    chops = frame(rows, cuts)
    holes = {}
    for y, pairs in wanted.items():
        position, clean = 0, []
        for first, last in sorted(pairs):  # in order and apart, as a painter gives them
            if position <= first < last:
                clean.append((first, last))
                position = last
        holes[y] = clean
    spans = sorted({y: (y, x1, x2) for y, x1, x2 in spans if x1 < x2}.values())
    if not full and not spans:
        return
    update = (
        LayoutUpdate([list(line.values()) for line in chops], Region(0, 0, 20, 4))
        if full
        else ChopsUpdate(chops, spans, [cuts[1:]] * 4)
    )

    def show(text: str) -> Screen:
        screen = Screen(20, 4)
        screen.drawn[:] = True
        screen.feed(text)
        return screen

    plain = show(update.render_segments(CONSOLE))
    text, written = render(update, holes, CONSOLE)
    ours = show(text)
    assert written is not None
    told = np.zeros((4, 20), np.bool_)
    for y, pairs in written.items():
        for first, last in pairs:
            told[y, first:last] = True
    left_out = np.zeros((4, 20), np.bool_)
    for y, pairs in holes.items():
        for first, last in pairs:
            left_out[y, first:last] = True
    np.testing.assert_array_equal(~ours.has_pixels(), told)
    np.testing.assert_array_equal(told, ~plain.has_pixels() & ~left_out)
    for y, x in zip(*np.nonzero(told), strict=True):
        assert ours.text[y][x] == plain.text[y][x] == rows[y][x]
        assert touched(update)(Region(int(x), int(y), 1, 1))


def test_no_frame_touches_nothing() -> None:
    assert not touched(None)(Region(0, 0, 5, 5))
