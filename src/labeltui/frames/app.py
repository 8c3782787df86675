"""An application whose frames are compared with what the terminal shows already."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from textual.app import App

from labeltui.frames.differ import DifferedUpdate, FrameDiffer
from labeltui.frames.internals import CompositorUpdate, usable

if TYPE_CHECKING:
    from textual.geometry import Region


class FrameApp(App[None], inherit_bindings=False):
    """Textual's application; of each frame, only the cells go out that the terminal does not show."""

    def __init__(self) -> None:
        super().__init__()
        self.differ = FrameDiffer()

    def pixel_regions(self) -> Iterable[Region]:
        """Cells that may hold pixels after a frame, which text wipes; none here."""
        return ()

    def forget_frames(self) -> None:
        """Write the next frames in full: something else may have written on the terminal."""
        self.differ.forget(*self.size)

    def begin_with_theme(self, theme: str) -> None:
        """Take a theme before anything is painted: set as usual, all styles would be worked out twice at the start."""
        if not usable():
            self.theme = theme
            return
        self.set_reactive(App.theme, theme)
        dark = self.current_theme.dark
        names = [name for name in self.classes if name.startswith("-theme-")]
        classes = {**dict.fromkeys(names, False), f"-theme-{theme}": True}
        self.update_classes({**classes, "-dark-mode": dark, "-light-mode": not dark}, update=False)
        self._refresh_truecolor_filter(self.ansi_theme)
        self.stylesheet.set_variables(self.get_css_variables())

    def _display(self, screen: Any, renderable: Any) -> None:
        # All of Textual's frames pass here.
        if not usable() or not isinstance(renderable, CompositorUpdate):
            super()._display(screen, renderable)
            return
        if (self.differ.width, self.differ.height) != self.size:
            self.forget_frames()
        super()._display(screen, DifferedUpdate(self.differ, renderable))
        self.differ.invalidate(self.pixel_regions())
