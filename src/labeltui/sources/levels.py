"""Which 16-bit grey levels are black and white: one range for a whole data set, from the values that occur.

Cameras and scanners store 10 or 12 bits in files of 16, and some programs 8: the upper 8 bits of these are black. A
range for each image would make differences in brightness disappear, and with them what may separate classes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np

from labeltui.errors import SourceError
from labeltui.sources.decode import Levels, grey_levels

FIRST_LOOK = 64  # files whose headers are read
LOOK = 512  # files of 16-bit grey whose values are read
FULL = (1 << 16) - 1
FEW = 64  # different levels


def find_levels(read: Callable[[int], bytes], n: int) -> tuple[Levels | None, str]:
    """Look at some files of a data set.

    Parameters
    ----------
    read : callable
        Gives the bytes of a sample's file.
    n : int
        Samples.

    Returns
    -------
    levels : (int, int) or None
        Shown as black and white: from 0 to the largest number of as many bits as are used, or the least and the
        largest value where nothing occurs in the lower half. None where no file is 16-bit grey or all 16 bits are used.
    note : str
        Empty where no file is 16-bit grey.
    """
    occurs = np.zeros(FULL + 1, bool)
    if not _look(read, n, FIRST_LOOK, occurs):
        return None, ""
    found = _look(read, n, LOOK, occurs)
    values = np.flatnonzero(occurs)
    least, largest = int(values[0]), int(values[-1])
    black, white = least, largest
    if least <= largest // 2:
        black, white = 0, max(255, (1 << largest.bit_length()) - 1)
    elif least == largest:
        white = black + 1
    note = f"16-bit grey: {least:,} to {largest:,} occur in the {found:,} files looked at"
    if len(values) < FEW:
        note += f", only {len(values)} different levels"
    levels = None if (black, white) == (0, FULL) else (black, white)
    return (
        levels,
        note if levels is None else f"{note}; {black:,} is shown as black and {white:,} as white in all",
    )


def _look(
    read: Callable[[int], bytes], n: int, limit: int, occurs: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> int:
    """Mark the levels that occur in up to `limit` files, evenly spaced; return how many are 16-bit grey."""
    found = 0
    for index in np.unique(np.linspace(0, n - 1, min(limit, n)).astype(int)).tolist():
        with suppress(SourceError):
            if (grey := grey_levels(read(index))) is not None:
                occurs[grey] = True
                found += 1
    return found
