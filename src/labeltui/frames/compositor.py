"""Composing a frame of what can be seen of the lines that changed, and of nothing else.

Textual renders every widget that touches the rectangle around all changes. A decision changes the line at the top, a
row of the queue and the image: the rectangle around them is the screen, and all widgets on it are asked for all
their lines. `LineCompositor` asks for the changed lines alone, from the front to the back, and stops in each where
nothing is left to fill; what lies behind (panes, the screen) is never rendered, nor is it in a frame of the whole
screen.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from textual.geometry import Region
from textual.strip import Strip

from labeltui.frames.internals import ChopsUpdate, Compositor, LayoutUpdate, usable

if TYPE_CHECKING:
    from textual.screen import Screen
    from textual.widget import Widget

Chops = dict[int, Strip | None]
"""Pieces of one line by the column that they begin in; None = not rendered."""


class LineCompositor(Compositor):
    """Textual's compositor, with frames made line by line."""

    def render_full_update(self, simplify: bool = False) -> LayoutUpdate:
        """Render the whole screen."""
        if simplify:  # for images of the screen
            return super().render_full_update(simplify)
        self._dirty_regions.clear()
        screen = self.size.region
        chops = self._fill([(y, 0, screen.width) for y in range(screen.height)])
        return LayoutUpdate(
            [[piece for piece in line.values() if piece is not None] for line in chops], screen
        )

    def render_partial_update(self) -> ChopsUpdate | None:
        """Render what changed since the last frame; None where nothing did."""
        screen = self.size.region
        changed = {seen for region in self._dirty_regions if (seen := region.intersection(screen))}
        self._dirty_regions.clear()
        if not changed:
            return None
        spans = list(self._regions_to_spans(changed))
        return ChopsUpdate(self._fill(spans), spans, [line[1:] for line in self.cuts])

    def _fill(self, spans: list[tuple[int, int, int]]) -> list[Chops]:
        """Render all pieces of lines that spans (line, first column, the column behind the last) touch."""
        cuts = self.cuts
        chops: list[Chops] = [{} for _ in cuts]
        wanted: dict[int, set[int]] = {}  # by line: where the pieces begin that nothing has filled yet
        for y, first, last in spans:
            line = cuts[y]
            if y not in wanted:
                wanted[y] = set()
                chops[y] = dict.fromkeys(line[:-1])
            wanted[y].update(start for start, end in itertools.pairwise(line) if start < last and end > first)
        for widget, (region, clip) in self.visible_widgets.items():  # front to back
            if not wanted:
                break
            seen = region.intersection(clip)
            lines = [
                y
                for y in range(seen.y, seen.bottom)
                if any(seen.x <= x < seen.right for x in wanted.get(y, ()))
            ]
            for y, strip in _rendered(widget, region, seen, lines):
                within = [cut for cut in cuts[y] if seen.x <= cut <= seen.right]
                pieces = strip.divide([cut - seen.x for cut in within[1:]])
                for start, piece in zip(within, pieces, strict=False):
                    if start in wanted[y]:
                        chops[y][start] = piece
                wanted[y].difference_update(within[:-1])
                if not wanted[y]:
                    del wanted[y]
        return chops


def install_compositor(screen: Screen[Any]) -> None:
    """Let a new screen compose its frames line by line, where that is possible."""
    if usable():
        screen._compositor = LineCompositor()


def _rendered(widget: Widget, region: Region, seen: Region, lines: list[int]) -> Iterator[tuple[int, Strip]]:
    """Render some of a widget's lines on the screen, those that follow each other in one go."""
    start = 0
    for at, y in enumerate(lines, 1):
        if at < len(lines) and lines[at] == y + 1:
            continue
        first = lines[start]
        crop = Region(seen.x - region.x, first - region.y, seen.width, y + 1 - first)
        yield from zip(range(first, y + 1), widget.render_lines(crop), strict=True)
        start = at
