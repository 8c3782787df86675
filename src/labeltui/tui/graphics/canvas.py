"""The one place of an app that knows which pictures the terminal shows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from textual.app import App

from labeltui.tui.graphics.ascii import AsciiEncoder
from labeltui.tui.graphics.base import Encoder
from labeltui.tui.graphics.blocks import BlocksEncoder
from labeltui.tui.graphics.capabilities import Capabilities, from_environment
from labeltui.tui.graphics.studio import Studio

if TYPE_CHECKING:
    from labeltui.tui.graphics.picture import Picture

LINE_SHARE = 0.5
"""Seconds that one picture may occupy a line whose speed was given."""


def encoder_for(caps: Capabilities, light: bool = False) -> Encoder:
    """Return the encoder for a terminal."""
    if caps.kind == "blocks":
        return BlocksEncoder(caps.cell, caps.colours)
    return AsciiEncoder(caps.cell, light)


class Canvas:
    """Pictures of one app.

    Parameters
    ----------
    app : textual.app.App
    caps : Capabilities
    max_kbps : float, optional
        Speed of the line; pictures get smaller so that one takes at most half a second.
    """

    def __init__(self, app: App[object], caps: Capabilities, max_kbps: float | None = None) -> None:
        self.app = app
        self.caps = caps
        self.budget = None if max_kbps is None else max(64, int(max_kbps * 1000 / 8 * LINE_SHARE))
        self.studio = Studio(encoder_for(caps), self.budget)
        self.pictures: set[Picture] = set()

    @property
    def pixels(self) -> bool:
        """Whether pictures are pixels, drawn by the canvas, and not text."""
        return self.caps.kind in ("sixel", "kitty")

    def change(self, caps: Capabilities) -> None:
        """Go on with other capabilities; all pictures are encoded again."""
        self.caps = caps
        self.studio.replace_encoder(encoder_for(caps))
        for picture in self.pictures:
            picture.encode()

    def add(self, picture: Picture) -> None:
        """Remember a mounted picture."""
        self.pictures.add(picture)

    def remove(self, picture: Picture) -> None:
        """Forget an unmounted picture."""
        self.pictures.discard(picture)
        self.studio.forget(id(picture))


_CANVASES: WeakKeyDictionary[App[object], Canvas] = WeakKeyDictionary()


def attach(app: App[object], caps: Capabilities, max_kbps: float | None = None) -> Canvas:
    """Tell an app what its terminal can show, before it runs.

    Parameters
    ----------
    app : textual.app.App
    caps : Capabilities
        From `labeltui.tui.graphics.detect`.
    max_kbps : float, optional
        Speed of the line in kilobits per second; pictures get smaller so that one takes at most half a
        second.
    """
    canvas = _CANVASES[app] = Canvas(app, caps, max_kbps)
    return canvas


def canvas_of(app: App[object]) -> Canvas:
    """Return an app's canvas; an app that nobody attached one to shows text pictures."""
    canvas = _CANVASES.get(app)
    return attach(app, replace(from_environment(), cell_known=False)) if canvas is None else canvas
