"""What goes from Textual to the terminal, and the keys that come back: every name of Textual that is not public.

::

    widgets ── LineCompositor: lines that changed ── FrameDiffer: cells that changed ── terminal
    keys    ── listening(): a parser that tells Escape and answers of the terminal from other keys

`problems` compares the Textual that is installed with the names that are used here. If one is missing, or
``LABELTUI_FRAMES=textual`` is set, Textual's own compositor, frames and parser are used, and images are made of
characters: slower and with more bytes, but complete (`docs/terminals.md` has the figures).
"""

from __future__ import annotations

from labeltui.frames.app import FrameApp
from labeltui.frames.compositor import install_compositor
from labeltui.frames.internals import driver_of, problems, usable, visible_widgets
from labeltui.frames.keys import listening

__all__ = [
    "FrameApp",
    "driver_of",
    "install_compositor",
    "listening",
    "problems",
    "usable",
    "visible_widgets",
]
