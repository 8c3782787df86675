"""Images in the terminal: asking it what it can show, encoding, and widgets.

::

    detect() ── Capabilities ── attach(app, ...) ── Canvas: what the terminal shows
       │                                              │
     probe: one question,                          Studio: one thread, keeps what it made
     asked before the app starts                      │
                                            kitty │ sixel │ blocks │ ascii   (one interface: base.Encoder)

`ImageView` and `Thumbnails` are widgets like any other. Blocks and ascii are text and go the way of all text.
Kitty and sixel pixels do not fit into lines of cells: the canvas adds them to the frame that Textual is about
to send, behind its text, and only where pixels are missing or were overwritten.
"""

from __future__ import annotations

from labeltui.graphics.canvas import attach, canvas_of
from labeltui.graphics.capabilities import KINDS, Capabilities, Cell
from labeltui.graphics.probe import detect
from labeltui.graphics.view import ImageView, Thumb, Thumbnails

__all__ = [
    "KINDS",
    "Capabilities",
    "Cell",
    "ImageView",
    "Thumb",
    "Thumbnails",
    "attach",
    "canvas_of",
    "detect",
]
