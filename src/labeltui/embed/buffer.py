"""The memory that decoding processes and the process that embeds write to and read from together."""

from __future__ import annotations

import mmap
import os
import tempfile

import numpy as np
import numpy.typing as npt

# state of a row
PENDING, DECODED, FAILED = 0, 1, 2


class SharedBuffer:
    """Rows of prepared pixels with their hashes, in a file without a name.

    Attributes
    ----------
    pixels : (rows, height, width, 3) uint8
    content : (rows, 32) uint8
        SHA-256 of the stored bytes; zeros when there are none.
    image : (rows, 32) uint8
        SHA-256 of the decoded image; zeros when there is none.
    state : (rows,) uint8
    """

    def __init__(self, rows: int, height: int, width: int, descriptor: int | None = None) -> None:
        self.shape = (rows, height, width)
        image = height * width * 3
        size = rows * (image + 65)
        if descriptor is None:
            self.descriptor = _nameless(size)
        else:
            self.descriptor = descriptor
        memory = np.frombuffer(mmap.mmap(self.descriptor, size), np.uint8)
        parts = np.split(memory, np.cumsum([rows * image, rows * 32, rows * 32]))
        self.pixels: npt.NDArray[np.uint8] = parts[0].reshape(rows, height, width, 3)
        self.content: npt.NDArray[np.uint8] = parts[1].reshape(rows, 32)
        self.image: npt.NDArray[np.uint8] = parts[2].reshape(rows, 32)
        self.state: npt.NDArray[np.uint8] = parts[3]

    def clear(self, start: int, stop: int) -> None:
        """Reset rows to pending and blank, so that a failed decode never exposes stale pixels.

        Parameters
        ----------
        start, stop : int
            Rows start..stop-1.
        """
        for part in (self.pixels, self.content, self.image, self.state):
            part[start:stop] = 0

    def close(self) -> None:
        """Give the file back; the memory goes when the arrays do."""
        os.close(self.descriptor)


def _nameless(size: int) -> int:
    """Return the descriptor of a new file of zeros that vanishes with the last process that has it open."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("labeltui", os.MFD_CLOEXEC)
    else:  # not on macOS
        descriptor, path = tempfile.mkstemp(prefix="labeltui-")
        os.unlink(path)
    os.truncate(descriptor, size)
    return descriptor
