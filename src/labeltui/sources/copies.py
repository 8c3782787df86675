"""Local copies of files at URLs that have to be memory-mapped: arrays, and what options name.

A copy is kept in the user's cache directory under what the store says of the file (size, time, ETag), so one that has
changed is fetched again, and a scan that was interrupted, previews and other processes use the same one.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from labeltui import paths
from labeltui.io.atomic import replacing
from labeltui.paths import as_url
from labeltui.sources.places import fetch, shown, stamp, unreachable

KEPT_DAYS = 30  # since the last use


def local_copy(path: Path) -> Path:
    """Return a local file with the content of a file at a URL, fetched unless there is one; a local path itself.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OSError
        It cannot be reached, changed while it was fetched, or the disk is full.
    UsageError
        As `labeltui.sources.places.opened`.
    """
    if as_url(path) is None:
        return path
    copies = paths.cache_dir() / "copies"
    mark = stamp(path)
    copy = copies / f"{mark.hex()}{path.suffix}"
    with suppress(FileNotFoundError):
        os.utime(copy)
        return copy
    copies.mkdir(0o700, parents=True, exist_ok=True)
    delete_unused(copies)
    with replacing(copy) as temporary:
        fetch(path, temporary)
        if stamp(path) != mark:
            raise OSError(f"{shown(path)} changed while it was fetched")
    return copy


def named_copy(path: Path) -> Path:
    """Return `local_copy` of a file that a person named.

    Parameters
    ----------
    path : Path

    Raises
    ------
    SourceError
        It cannot be fetched.
    UsageError
        As `labeltui.sources.places.opened`.
    """
    try:
        return local_copy(path)
    except OSError as error:
        raise unreachable(path, error) from None


def delete_unused(directory: Path) -> None:
    """Delete files that were not used for long, and what killed processes left.

    Parameters
    ----------
    directory : Path
        Of the user's cache.
    """
    oldest = time.time() - KEPT_DAYS * 24 * 3600
    for each in directory.iterdir():
        with suppress(FileNotFoundError):
            if each.stat().st_mtime < oldest:
                each.unlink()
