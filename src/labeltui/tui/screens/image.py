"""One image, as large as the terminal allows, with zoom and pan."""

from __future__ import annotations

from collections.abc import Sequence

from textual.widget import Widget

from labeltui.graphics import ImageView
from labeltui.tui.actions import Keymap
from labeltui.tui.screens.opened import Opened
from labeltui.tui.session import Session

STEP = 1.5
MOST = 40.0
"""Factor of one step of zoom, and the largest zoom."""


class ImageScreen(Opened):
    """The sample looked at, large; decisions work here too."""

    name_in_table = "image"

    def __init__(self, session: Session, keymap: Keymap) -> None:
        super().__init__(session, keymap)
        self.image = ImageView(id="large")
        self.zoom = 1.0
        self.centre = (0.5, 0.5)

    def parts(self) -> Sequence[Widget]:
        return [self.image]

    @property
    def crop(self) -> tuple[float, float, float, float]:
        """The part shown, as shares of the whole: left, top, right, bottom."""
        half = 0.5 / self.zoom
        x, y = (min(max(centre, half), 1 - half) for centre in self.centre)
        return x - half, y - half, x + half, y + half

    def paint(self) -> None:
        session, audit = self.session, self.session.audit
        sample = session.sample
        if sample is None:
            self.dismiss(None)
            return
        self.image.show(sample, lambda: audit.images.image(sample), crop=self.crop)
        zoom = (f"  zoom {self.zoom:.1f}x" if self.zoom > 1 else "", "key")
        self.entitle_sample("IMAGE", sample, zoom)

    def decided(self) -> None:
        self._reset()
        self.paint()

    def _reset(self) -> None:
        self.zoom, self.centre = 1.0, (0.5, 0.5)

    def _zoom(self, factor: float) -> None:
        left, top, right, bottom = self.crop
        self.centre = (left + right) / 2, (top + bottom) / 2
        self.zoom = min(MOST, max(1.0, self.zoom * factor))
        self.paint()

    def do_zoom_in(self) -> None:
        self._zoom(STEP)

    def do_zoom_out(self) -> None:
        self._zoom(1 / STEP)

    def do_zoom_fit(self) -> None:
        self._reset()
        self.paint()

    def _pan(self, x: float, y: float) -> None:
        if self.zoom == 1.0:
            self.say(f"{self.keymap.hint('zoom-in')} zooms in; then the arrows pan", "faint")
            return
        left, top, right, bottom = self.crop
        self.centre = (left + right) / 2 + x / self.zoom / 4, (top + bottom) / 2 + y / self.zoom / 4
        self.paint()

    def do_pan_left(self) -> None:
        self._pan(-1, 0)

    def do_pan_right(self) -> None:
        self._pan(1, 0)

    def do_pan_up(self) -> None:
        self._pan(0, -1)

    def do_pan_down(self) -> None:
        self._pan(0, 1)

    def _step(self, by: int) -> None:
        self.session.row = max(0, min(self.session.row + by, len(self.session.queue) - 1))
        self._reset()
        self.paint()

    def do_next_sample(self) -> None:
        self._step(1)

    def do_previous_sample(self) -> None:
        self._step(-1)
