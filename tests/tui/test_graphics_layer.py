"""The account of cells: rectangles, what may be seen, and what a frame without some cells writes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.geometry import Region
from textual.strip import Strip

from labeltui.graphics.capabilities import Cell
from labeltui.graphics.layer import SixelPainter, Target, rectangles, render, touched, visible
from labeltui.graphics.sixel import SixelEncoder
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


class TestSixelPainter:
    """What Textual's own repainting would hide if it were tried in an app only."""

    image = SixelEncoder(Cell(8, 12)).encode(Image.new("RGB", (9, 9), (200, 10, 10)), 6, 4)

    def target(self, x: int = 2, ground: str = "dark") -> Target:
        box = self.image.box
        return Target(self.image, x, 1, np.ones((box.height, box.width), np.bool_), ground)

    def test_says_where_pixels_were_left(self) -> None:
        painter = SixelPainter()
        assert painter.frame({"a": self.target()}, {}, (40, 20))
        assert painter.leftovers() == []
        painter.frame({}, {2: [(0, 40)]}, (40, 20))  # gone, and one row was written over
        assert painter.leftovers() == [Region(2, 1, 6, 1), Region(2, 3, 6, 2)]
        assert painter.leftovers() == []

    def test_says_where_a_moved_image_was(self) -> None:
        painter = SixelPainter()
        painter.frame({"a": self.target()}, {}, (40, 20))
        assert painter.frame({"a": self.target(x=12)}, {}, (40, 20)).startswith("\x1b[2;13H")
        assert painter.leftovers() == [Region(2, 1, 6, 4)]

    def test_leaves_out_good_pixels_only_on_the_same_ground(self) -> None:
        painter = SixelPainter()
        assert painter.holes({"a": self.target()}) == {}
        painter.frame({"a": self.target()}, {}, (40, 20))
        assert painter.holes({"a": self.target()}) == {y: [(2, 8)] for y in range(1, 5)}
        assert painter.holes({"a": self.target(ground="light")}) == {}
        assert painter.frame({"a": self.target()}, {}, (40, 20)) == ""
        painter.frame({"a": self.target()}, {1: [(4, 5)]}, (40, 20))
        assert painter.moved() == ""
        assert painter.holes({"a": self.target()}) == {}


def test_no_frame_touches_nothing() -> None:
    assert not touched(None)(Region(0, 0, 5, 5))
