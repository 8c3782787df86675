"""Lists of byte strings, such as file names, as two arrays: all bytes, and where each string starts."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from labeltui.errors import DamagedAudit

Array = npt.NDArray[Any]


def pack_names(path: str, names: Iterable[bytes]) -> dict[str, Array]:
    """Return the two datasets that hold a list of byte strings.

    Parameters
    ----------
    path : str
        Where they go, for example ``samples/id``.
    names : iterable of bytes
        n byte strings.

    Returns
    -------
    dict
        ``path``: uint8, all names one after another; ``path_offsets``: int64 (n + 1,), where each starts.
    """
    listed = list(names)
    offsets = np.zeros(len(listed) + 1, np.int64)
    np.cumsum([len(name) for name in listed], out=offsets[1:])
    return {path: np.frombuffer(b"".join(listed), np.uint8), f"{path}_offsets": offsets}


class Names(Sequence[bytes]):
    """A list of byte strings that stays in the file until an entry is asked for.

    Parameters
    ----------
    blob : numpy.ndarray
        uint8, all names one after another.
    offsets : numpy.ndarray
        (n + 1,) int64, where each starts.
    """

    def __init__(self, blob: Array, offsets: Array) -> None:
        if offsets.ndim != 1 or not len(offsets) or offsets[0] != 0 or offsets[-1] != len(blob):
            raise DamagedAudit(
                "the names of an audit must span their bytes", "their offsets do not", "scan again"
            )
        self.blob = blob
        self.offsets = offsets
        self._table: dict[bytes, int] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.blob[self.offsets[index] : self.offsets[index + 1]].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        step = 65_536
        for start in range(0, len(self), step):
            bounds = self.offsets[start : start + step + 1].tolist()
            piece = self.blob[bounds[0] : bounds[-1]].tobytes()
            origin = bounds[0]
            for left, right in itertools.pairwise(bounds):
                yield piece[left - origin : right - origin]

    def index(self, name: bytes, start: int = 0, stop: int | None = None) -> int:
        """Return the position of a name; takes milliseconds for a million names and builds no table.

        Parameters
        ----------
        name : bytes
        start, stop : int, optional
            Range to search; by default all.

        Returns
        -------
        int

        Raises
        ------
        ValueError
            There is no such name.
        """
        stop = len(self) if stop is None else min(stop, len(self))
        bounds = self.offsets[start : stop + 1]
        candidates = np.flatnonzero(np.diff(bounds) == len(name))
        places = bounds[candidates]
        for position in reversed(range(len(name))):  # paths differ at their ends: few survive the first steps
            if not len(places):
                break
            same = self.blob[places + position] == name[position]
            candidates, places = candidates[same], places[same]
        if not len(candidates):
            raise ValueError(f"{name!r} is not in the list")
        return start + int(candidates[0])

    def indices(self, names: Iterable[bytes]) -> npt.NDArray[np.int64]:
        """Return the position of each name, -1 where there is none; builds a table once (0.3 s a million)."""
        if self._table is None:
            self._table = {name: position for position, name in enumerate(self)}
        get = self._table.get
        return np.fromiter((get(name, -1) for name in names), np.int64)

    def take(self, positions: npt.NDArray[np.int64]) -> list[bytes]:
        """Return the names at positions; of many at once in a quarter of the time of one after the other.

        Parameters
        ----------
        positions : ndarray of int64
            Each 0 .. n - 1.
        """
        starts, stops = self.offsets[positions].tolist(), self.offsets[positions + 1].tolist()
        if len(positions) * 8 < len(self):
            return [self.blob[start:stop].tobytes() for start, stop in zip(starts, stops, strict=True)]
        blob = self.blob.tobytes()
        return [blob[start:stop] for start, stop in zip(starts, stops, strict=True)]

    def agree(self, positions: npt.NDArray[np.int64], others: Names) -> npt.NDArray[np.bool_]:
        """Whether the names at positions are those of another list: (n,) bool.

        Parameters
        ----------
        positions : (n,) int64
            Each 0 .. len(self) - 1.
        others : Names
            n names.
        """
        starts = self.offsets[positions]
        lengths = self.offsets[positions + 1] - starts
        same: npt.NDArray[np.bool_] = lengths == np.diff(others.offsets)
        for length in np.unique(lengths[same & (lengths > 0)]).tolist():
            rows = np.flatnonzero(same & (lengths == length))
            ours = _pieces(self.blob, starts[rows], length)
            same[rows] = (ours == _pieces(others.blob, others.offsets[rows], length)).all(1)
        return same


def _pieces(blob: Array, starts: npt.NDArray[np.int64], length: int) -> Array:
    """Bytes from each start on: (n, length) uint8."""
    from_anywhere = np.ndarray(len(blob) - length + 1, f"V{length}", blob, strides=(1,))
    return from_anywhere[starts].view(np.uint8).reshape(len(starts), length)
