"""The one place of an app that knows its images and what the terminal shows of them.

Textual sends one string a frame. The canvas stands between Textual and the driver: each frame is followed,
within the same synchronised update, by the escape data of the pixels that are missing after it. So pixels are
never half wiped on show, and a frame that does not touch an image sends nothing of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Hashable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from rich.console import Console
from textual.app import App, ScreenStackError
from textual.geometry import Region

from labeltui import frames
from labeltui.frames.internals import CompositorUpdate
from labeltui.graphics.answers import Answers, Reader, question
from labeltui.graphics.ascii import AsciiEncoder
from labeltui.graphics.base import Encoded, Encoder, PixelImage, SmoothEncoder
from labeltui.graphics.blocks import BlocksEncoder
from labeltui.graphics.capabilities import FOUND, Capabilities, choose, from_environment
from labeltui.graphics.kitty import KittyEncoder
from labeltui.graphics.layer import (
    KittyPainter,
    Painter,
    SixelPainter,
    Spans,
    Target,
    render,
    touched,
    visible,
)
from labeltui.graphics.placeholders import PlaceholderEncoder, PlaceholderImage, PlaceholderPainter
from labeltui.graphics.probe import cache_file, decide, identity, remember, window_size
from labeltui.graphics.sixel import SixelEncoder
from labeltui.graphics.studio import Studio

if TYPE_CHECKING:
    from textual.screen import Screen
    from textual.widget import Widget

LINE_SHARE = 0.5
"""Seconds that one image may occupy a line whose speed was given."""
TMUX_LIMIT = 900_000
"""tmux drops escape sequences of more than about 1 MB."""
PIXEL_KINDS = ("sixel", "kitty")
EXPECT = 10.0
"""Seconds for which an answer from the terminal is looked for among the keys."""


def encoder_for(caps: Capabilities, light: bool = False, smooth: bool = False) -> Encoder:
    """Return the encoder for a terminal.

    Parameters
    ----------
    caps : Capabilities
    light : bool
        Dark text on a light background.
    smooth : bool
        Whether small images are enlarged smoothly.

    Returns
    -------
    Encoder
    """
    if smooth:
        return SmoothEncoder(encoder_for(caps, light), caps.cell)
    if caps.kind == "sixel":
        return SixelEncoder(caps.cell, caps.registers, caps.geometry, TMUX_LIMIT if caps.tmux else None)
    if caps.kind == "kitty":
        return PlaceholderEncoder(caps.cell) if caps.layers else KittyEncoder(caps.cell)
    if caps.kind == "blocks":
        return BlocksEncoder(caps.cell, caps.colours)
    return AsciiEncoder(caps.cell, light)


class Shown(Protocol):
    """What the canvas needs of a widget that shows an image."""

    encoded: Encoded | None

    @property
    def region(self) -> Region:
        """Where the widget is on the screen."""
        ...

    @property
    def fits(self) -> bool:
        """Whether `encoded` was made for the size that the widget has now."""
        ...

    def encode(self) -> None:
        """Have the image encoded for the canvas as it is now."""
        ...

    def refresh(self) -> Any:
        """Paint the widget again."""
        ...


class Canvas:
    """Images of one app.

    Parameters
    ----------
    app : textual.app.App
    caps : Capabilities
    max_kbps : float, optional
        Speed of the line; images get smaller so that one takes at most half a second.
    smooth : bool
        Whether small images are enlarged smoothly; else each of their pixels stays one.
    """

    def __init__(
        self, app: App[Any], caps: Capabilities, max_kbps: float | None = None, smooth: bool = False
    ) -> None:
        self.app = app
        caps = _drawable(caps)
        self.caps = caps
        self.smooth = smooth
        self.budget = None if max_kbps is None else max(64, int(max_kbps * 1000 / 8 * LINE_SHARE))
        self.studio = Studio(encoder_for(caps, self._light, smooth), self.budget)
        self.images: set[Shown] = set()
        self._drawn_light = self._light
        self._forced = caps.kind if caps.forced else "auto"
        self._layers = caps.layers if caps.forced else FOUND
        self._painter = _painter(caps)
        self._hooked = False
        self._asked = False
        # Questions without an answer yet: the probe's own may still be answered.
        self._open_questions = int(caps.source == "terminal" and not caps.answered)
        self._expected_until = time.monotonic() + EXPECT if self._open_questions else 0.0
        self._requested = False
        self._drawn = False
        self._size = self._asked_size = app.size
        self._map: object = None
        self._covers: dict[Widget, list[Region]] = {}
        self._kept: dict[Hashable, Target] = {}
        if caps.source != "environment":
            reader = Reader(inside=True)
            app.driver_class = frames.listening(
                app.driver_class,
                reader,
                lambda: self._hear(reader.answers),
                lambda: self._open_questions > 0 and time.monotonic() < self._expected_until,
                caps.typed,
            )

    @property
    def _light(self) -> bool:
        return not self.app.current_theme.dark

    @property
    def pixels(self) -> bool:
        """Whether images are pixels, drawn by the canvas, and not text."""
        return self._painter is not None

    def add(self, image: Shown) -> None:
        """Take care of a mounted image."""
        self.images.add(image)
        self._hook()
        if not self._asked:
            # Remembered answers may be another terminal's; a slow one may still answer.
            self._asked = True
            if self.caps.source == "cache" or self.caps.set_registers or not self.caps.answered:
                self.app.call_after_refresh(self.ask)

    def remove(self, image: Shown) -> None:
        """Forget an unmounted image."""
        self.images.discard(image)
        self.studio.forget(id(image))
        self.request()

    def request(self) -> None:
        """Bring the pixels up to date soon, in one frame for all who ask meanwhile."""
        if self.pixels and not self._requested:
            self._requested = True
            self.app.call_later(self._paint)

    def change(self, caps: Capabilities) -> None:
        """Go on with other capabilities: everything is drawn anew."""
        if self._painter is not None:
            self._write(self._painter.reset())
        caps = _drawable(caps)
        self.caps = caps
        self._drawn_light = self._light
        self._painter = _painter(caps)
        self.studio.replace_encoder(encoder_for(caps, self._light, self.smooth))
        self._hook()
        for image in self.images:
            image.encoded = None
            image.refresh()
            image.encode()

    def themed(self) -> None:
        """The theme changed: characters need more ink where the ground is light."""
        if self.caps.kind == "ascii" and self._light != self._drawn_light:
            self.change(self.caps)

    def scale(self, smooth: bool) -> None:
        """Enlarge small images smoothly from now on, or pixel by pixel."""
        self.smooth = smooth
        self.change(self.caps)

    def resized(self) -> None:
        """The window may have changed, and with it the size of its cells."""
        if self.app.size != self._asked_size and self.caps.answered and self.caps.source != "environment":
            self._asked_size = self.app.size
            self.app.set_timer(0.4, self.ask)

    def redraw(self) -> None:
        """Send everything again, for a terminal whose screen was garbled."""
        if self._painter is not None:
            self._write(self._painter.reset())
        self.app.refresh()

    # Asking the terminal while the app runs

    def ask(self) -> None:
        """Ask the terminal once more; the answer changes what is drawn, if it differs from what was known."""
        if self.caps.source == "environment" or self.app.is_headless or not frames.usable():
            return  # nobody would take the answers out of the keys
        if time.monotonic() > self._expected_until:
            self._open_questions = 0  # those were never answered
        self._open_questions += 1
        self._expected_until = time.monotonic() + EXPECT
        registers = f"\x1b[?1;3;{self.caps.registers}S" if self.caps.set_registers else ""
        self._write(registers + question(os.environ, inside=True))

    def _hear(self, answers: Answers) -> None:
        self._open_questions -= 1
        self.app.call_later(self._heard, answers)  # from the input thread to the app's

    def _heard(self, answers: Answers) -> None:
        answers.synchronised = self.caps.synchronised
        caps = choose(decide(os.environ, answers, window_size()), self._forced, self._layers)
        remember(identity(os.environ), answers, cache_file())
        if self.caps.set_registers and answers.registers == self.caps.registers:
            caps = replace(caps, set_registers=False)
        if _drawing(caps) == _drawing(self.caps):
            self.caps = caps
        else:
            self.change(caps)

    def _write(self, data: str) -> None:
        driver = frames.driver_of(self.app)
        if data and driver is not None and not self.app.is_headless:
            driver.write(data)
            driver.flush()

    # Frames

    def _hook(self) -> None:
        driver = frames.driver_of(self.app)
        if self._hooked or not self.pixels or driver is None:
            return
        self._hooked = True
        display, stop = self.app._display, driver.stop_application_mode

        def display_with_images(screen: Screen[Any], renderable: Any) -> None:
            # Textual gives frames here that are no renderables by their type.
            if isinstance(renderable, CompositorUpdate) and not isinstance(renderable, _Frame):
                renderable = _Frame(self, renderable)
            display(screen, renderable)

        def stop_without_images() -> None:
            if self._painter is not None:
                self._write(self._painter.reset())
            stop()

        self.app._display = display_with_images  # type: ignore[method-assign]
        driver.stop_application_mode = stop_without_images  # type: ignore[method-assign]

    def _paint(self) -> None:
        self._requested = False
        if not self.app.is_running:
            return
        self._drawn = False
        frame: Any = _Frame(self, None)
        try:
            self.app._display(self.app.screen, frame)
        except ScreenStackError:
            return
        if not self._drawn and not self.app.is_headless:  # Textual holds frames back for the moment
            self.app.set_timer(0.05, self.request)

    def frame(self, update: CompositorUpdate | None, console: Console) -> str:
        """Return a frame followed by its pixels.

        Parameters
        ----------
        update : CompositorUpdate or None
            Textual's frame; None if only pixels changed.
        console : Console

        Returns
        -------
        str
        """
        self._drawn = True
        if self._painter is None:
            return "" if update is None else update.render_segments(console)
        size = self.app.size
        before = self._painter.moved() if size != self._size else ""
        self._size = size
        targets = self._targets(update)
        text, spans = "", cast("Spans | None", {})
        if update is not None:
            text, spans = render(update, self._painter.holes(targets), console)
        pixels = self._painter.frame(targets, spans, size)
        if left := self._painter.leftovers():
            self.app.screen.refresh(*left)
        return before + text + pixels

    def _targets(self, update: CompositorUpdate | None) -> dict[Hashable, Target]:
        shown = frames.visible_widgets(self.app.screen)
        if shown is not self._map:
            self._map = shown
            self._covers = self._find_covers(shown)
            self._kept = {}
        repainted = touched(update)
        targets: dict[Hashable, Target] = {}
        for widget, covers in self._covers.items():
            image: Any = widget
            encoded, kept = image.encoded, self._kept.get(widget)
            region, clip = shown[widget]
            if kept is not None and kept.image is encoded and not repainted(region):
                targets[widget] = kept
            elif isinstance(encoded, PixelImage | PlaceholderImage) and image.fits:
                x, y = region.x + widget.gutter.left, region.y + widget.gutter.top
                box = Region(x + encoded.box.x, y + encoded.box.y, encoded.box.width, encoded.box.height)
                mask = visible(box, clip.intersection(region.shrink(widget.gutter)), covers)
                targets[widget] = Target(encoded, box.x, box.y, mask, widget.background_colors)
        self._kept = targets
        return targets

    def _find_covers(self, shown: dict[Widget, tuple[Region, Region]]) -> dict[Widget, list[Region]]:
        images: set[object] = set(self.images)
        found: dict[Widget, list[Region]] = {}
        front: list[Region] = []
        for widget, (region, clip) in shown.items():  # front to back
            if widget in images:
                found[widget] = [cover for cover in front if cover.overlaps(region)]
            if seen := region.intersection(clip):
                front.append(seen)
        return found


class _Frame(CompositorUpdate):
    """A frame of Textual's, or none, and the pixels that must follow it."""

    def __init__(self, canvas: Canvas, update: CompositorUpdate | None) -> None:
        self._canvas = canvas
        self._update = update

    def render_segments(self, console: Console) -> str:
        return self._canvas.frame(self._update, console)


def _drawable(caps: Capabilities) -> Capabilities:
    """Return what of the capabilities can be used: pixels follow frames, and Textual's own frames take none."""
    return caps if frames.usable() or caps.kind not in PIXEL_KINDS else replace(caps, kind="blocks")


def _drawing(caps: Capabilities) -> tuple[object, ...]:
    """What of the capabilities decides how images look."""
    return caps.kind, caps.layers, caps.cell, caps.registers, caps.geometry, caps.colours


def _painter(caps: Capabilities) -> Painter | None:
    if caps.kind == "sixel":
        return SixelPainter(fragile=caps.tmux)
    if caps.kind == "kitty":
        return PlaceholderPainter(caps.layers) if caps.layers else KittyPainter()
    return None


KEPT = "_labeltui_canvas"  # the name under which an app carries its canvas


def attach(app: App[Any], caps: Capabilities, max_kbps: float | None = None, smooth: bool = False) -> Canvas:
    """Tell an app what its terminal can show, before it runs.

    Parameters
    ----------
    app : textual.app.App
    caps : Capabilities
        From `labeltui.graphics.detect`.
    max_kbps : float, optional
        Speed of the line in kilobits per second; images get smaller so that one takes at most half a
        second.
    smooth : bool
        Whether small images are enlarged smoothly.
    """
    canvas = vars(app)[KEPT] = Canvas(app, caps, max_kbps, smooth)
    return canvas


def canvas_of(app: App[Any]) -> Canvas:
    """Return an app's canvas; an app that nobody attached one to shows text images."""
    canvas: Canvas | None = vars(app).get(KEPT)
    return attach(app, from_environment()) if canvas is None else canvas
