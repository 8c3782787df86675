"""Duplicate groups of an open audit: the group of a sample, and groups whose labels or splits disagree."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]


class DuplicateGroups:
    """Samples that are (nearly) one image; `labeltui.duplicates` finds them.

    Parameters
    ----------
    groups : (N,) int32
        Equal numbers mark duplicates.
    """

    def __init__(self, groups: NDArray[Any]) -> None:
        self._groups = groups
        self._known: tuple[Index, NDArray[Any]] | None = None

    def index(self) -> tuple[Index, NDArray[Any]]:
        """Samples with duplicates, ordered by group and index, and their groups; computed once, thread-safe.

        10 ms for a million samples: too long for the UI thread.
        """
        if self._known is None:
            members = np.zeros(0, np.int64)
            if len(self._groups):
                members = np.flatnonzero(np.bincount(self._groups)[self._groups] > 1)
            members = members[np.argsort(self._groups[members], kind="stable")]
            self._known = members, self._groups[members]
        return self._known

    def of(self, i: int) -> Index:
        """The samples of the group of `i`, itself among them, ascending."""
        if self._known is None:
            return np.flatnonzero(self._groups == self._groups[i])
        members, groups = self._known
        first, last = (int(np.searchsorted(groups, self._groups[i], side)) for side in ("left", "right"))
        return members[first:last] if last > first else np.array([i])

    def groups(self) -> list[Index]:
        """Groups of two or more, in the order of their numbers."""
        members, groups = self.index()
        return np.split(members, np.flatnonzero(np.diff(groups)) + 1) if len(members) else []

    def disagreeing(self, values: NDArray[Any]) -> list[Index]:
        """Groups in which samples have different values; negative values are ignored.

        Parameters
        ----------
        values : (N,) int
            Labels, or splits.
        """
        known = (part[values[part] >= 0] for part in self.groups())
        return [part for part in known if len(part) > 1 and (values[part] != values[part[0]]).any()]
