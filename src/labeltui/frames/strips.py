"""Strips whose segments are made when they are asked for."""

from __future__ import annotations

from rich.segment import Segment
from textual.strip import Strip


class LazyStrip(Strip):
    """A strip whose segments are made when they are asked for."""

    __slots__ = ()

    def __init__(self, cell_length: int) -> None:
        super().__init__((), cell_length)

    def segments(self) -> list[Segment]:
        """Return what the strip is made of."""
        raise NotImplementedError

    @property
    def _segments(self) -> list[Segment]:
        return self.segments()

    @_segments.setter
    def _segments(self, value: list[Segment]) -> None:
        """Ignore the empty list that Textual begins with."""

    def __bool__(self) -> bool:
        return bool(self.cell_length)
