"""The unfinished work of one long step, in a file that is replaced now and then.

::

    <key>, one line | the work, as its maker wrote it | SHA-256 of all before

It only saves time: where it cannot be written the step goes on without, and one that is damaged, or was kept under
another key, is not used.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path

from labeltui.io import files
from labeltui.io.atomic import replacing

LEAST_SECONDS = 5.0
"""Between two saves, so that short steps write nothing."""
SHARE = 0.02  # of the time, at most, is spent saving

_DIGEST_BYTES = hashlib.sha256().digest_size


class Part:
    """Keeps unfinished work in a file; a `labeltui.unfinished.Keeper`.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    used : bool
        Whether the work of an earlier run was loaded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._saved = time.monotonic()
        self._cost = 0.0
        self.used = False

    def due(self) -> bool:
        """Whether so much time has passed that what a kill would cost is worth the cost of saving."""
        return time.monotonic() - self._saved >= max(LEAST_SECONDS, self._cost / SHARE)

    def save(self, key: str, pieces: Iterator[bytes | memoryview]) -> None:
        """Replace the file; the earlier one stays until the new one is on the disk.

        Parameters
        ----------
        key : str
            One line.
        pieces : iterator of bytes
            The work.
        """
        begun = time.monotonic()
        try:
            with replacing(self.path) as temporary:
                digest = hashlib.sha256()
                with open(files.open_own(temporary, os.O_WRONLY), "wb") as file:
                    file.write(head := _head(key))
                    digest.update(head)
                    for piece in pieces:
                        file.write(piece)
                        digest.update(piece)
                    file.write(digest.digest())
        except OSError:
            pass  # a full disk, say: the step can do without, and what needs the space will tell
        self._saved = time.monotonic()
        self._cost = self._saved - begun

    def load(self, key: str) -> memoryview | None:
        """Return the work kept under a key, memory-mapped; None if there is none, or it is damaged.

        Parameters
        ----------
        key : str
        """
        try:
            with open(files.open_regular(self.path), "rb") as file:
                head = _head(key)
                if file.read(len(head)) != head:
                    return None
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):  # ValueError: an empty file cannot be mapped
            return None
        content = memoryview(mapped)
        work, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
        if len(work) < len(head) or hashlib.sha256(work).digest() != digest:
            return None
        self.used = True
        return work[len(head) :]

    def discard(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)


def _head(key: str) -> bytes:
    """The first line, padded so that the work after it is aligned."""
    line = key.encode()
    return line + b" " * (-(len(line) + 1) % 64) + b"\n"
