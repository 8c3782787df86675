"""Keeping freed memory for the next pass.

A pass through a network frees and allocates the same large blocks again and again. The C library gives each back to the
system at once, and a third of the time of a small network then goes into the system clearing pages that it just had.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

# mallopt's parameters, and the largest threshold that glibc accepts on 64-bit systems
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 32 * 1024 * 1024
DEFAULT_TRIM = DEFAULT_MMAP = 128 * 1024
NEVER = 2**31 - 1


@contextmanager
def kept() -> Iterator[None]:
    """Keep freed memory inside the block and give it back afterwards; nothing happens without glibc."""
    try:
        library = ctypes.CDLL(None)
        mallopt, malloc_trim = library.mallopt, library.malloc_trim
    except (OSError, AttributeError):
        yield
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST)
    mallopt(M_TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:
        mallopt(M_TRIM_THRESHOLD, DEFAULT_TRIM)
        mallopt(M_MMAP_THRESHOLD, DEFAULT_MMAP)
        malloc_trim(ctypes.c_size_t(0))
