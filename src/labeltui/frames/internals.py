"""The private names of Textual, and whether the installed Textual has them."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

try:
    from textual._compositor import ChopsUpdate, Compositor, CompositorUpdate, LayoutUpdate
    from textual._xterm_parser import XTermParser
except ImportError:  # `problems` says so; nothing that is derived from these is used then
    ChopsUpdate = Compositor = CompositorUpdate = LayoutUpdate = XTermParser = object  # type: ignore[assignment,misc]

if TYPE_CHECKING:
    from textual.app import App
    from textual.driver import Driver
    from textual.geometry import Region
    from textual.screen import Screen
    from textual.widget import Widget

__all__ = [
    "ChopsUpdate",
    "Compositor",
    "CompositorUpdate",
    "LayoutUpdate",
    "XTermParser",
    "driver_of",
    "problems",
    "usable",
    "visible_widgets",
]

SWITCH = "LABELTUI_FRAMES"
"""Environment variable; ``textual`` leaves everything to Textual."""

USED: Mapping[str, tuple[str, ...] | None] = {
    "textual._compositor:Compositor.render_full_update": ("self", "simplify"),
    "textual._compositor:Compositor.render_partial_update": ("self",),
    "textual._compositor:Compositor._regions_to_spans": ("regions",),
    "textual._compositor:Compositor.cuts": None,
    "textual._compositor:Compositor.visible_widgets": None,
    "textual._compositor:CompositorUpdate.render_segments": ("self", "console"),
    "textual._compositor:ChopsUpdate": ("chops", "spans", "chop_ends"),
    "textual._compositor:LayoutUpdate": ("strips", "region"),
    "textual.strip:Strip._segments": None,
    "textual._xterm_parser:XTermParser.feed": ("self", "data"),
    "textual._xterm_parser:XTermParser.tick": ("self",),
    "textual.app:App._display": ("self", "screen", "renderable"),
    "textual.app:App._refresh_truecolor_filter": ("self", "theme"),
    "textual.drivers.linux_driver:XTermParser": ("debug",),
    "textual.drivers.linux_driver:LinuxDriver.run_input_thread": ("self",),
}
"""Names as ``module:attribute``, with the parameters of what is called or overridden."""


def missing(used: Mapping[str, tuple[str, ...] | None]) -> list[str]:
    """Return what of some names is not as it is expected, in words.

    Parameters
    ----------
    used : mapping
        As `USED`.
    """
    found = []
    for name, parameters in used.items():
        module, _, attributes = name.partition(":")
        try:
            value: Any = importlib.import_module(module)
            for attribute in attributes.split("."):
                value = getattr(value, attribute)
        except (ImportError, AttributeError) as error:
            found.append(f"{name}: {error}")
            continue
        if parameters is not None and (now := tuple(inspect.signature(value).parameters)) != parameters:
            found.append(f"{name} takes {', '.join(now)}, not {', '.join(parameters)}")
    return found


@cache
def problems() -> tuple[str, ...]:
    """Return why Textual's own frames are used, one reason an entry; empty if they are not."""
    if os.environ.get(SWITCH) == "textual":
        return (f"{SWITCH}=textual is set",)
    return tuple(missing(USED))


def usable() -> bool:
    """Whether the frames of this package can be used."""
    return not problems()


def driver_of(app: App[Any]) -> Driver | None:
    """Return what writes to the terminal while an app runs."""
    driver: Driver | None = getattr(app, "_driver", None)
    return driver


def visible_widgets(screen: Screen[Any]) -> dict[Widget, tuple[Region, Region]]:
    """Return the region and the clip of each widget on a screen, front to back; the same object while none moved."""
    return screen._compositor.visible_widgets
