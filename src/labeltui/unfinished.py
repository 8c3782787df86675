"""Where a long step keeps its unfinished work, and how it reads what an earlier run kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Pieces = Iterator[bytes | memoryview]


class Keeper(Protocol):
    """A place for the unfinished work of one step; `labeltui.io.part` has it on disk."""

    def due(self) -> bool:
        """Whether it is time to save again; asked some ten times a second."""

    def save(self, key: str, pieces: Pieces) -> None:
        """Replace what is kept by `pieces`, for `load` with the same key."""

    def load(self, key: str) -> memoryview | None:
        """Return the bytes saved last, if that was under `key` and they are still what was saved."""

    @property
    def used(self) -> bool:
        """Whether `load` returned any."""


class Reader:
    """Arrays, one after the other, of kept bytes.

    Parameters
    ----------
    content : memoryview
    """

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._at = 0

    def take(self, dtype: npt.DTypeLike, *shape: int) -> npt.NDArray[Any]:
        """Return the next array.

        Parameters
        ----------
        dtype : data type
        *shape : int

        Returns
        -------
        ndarray
            Read-only.

        Raises
        ------
        ValueError
            There are not that many bytes left.
        """
        count = int(np.prod(shape))
        if count < 0 or count * np.dtype(dtype).itemsize > len(self._content) - self._at:
            raise ValueError("the kept work is incomplete")
        found = np.frombuffer(self._content, dtype, count, self._at)
        self._at += found.nbytes
        return found.reshape(shape)
