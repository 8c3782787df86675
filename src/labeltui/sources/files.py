"""The files that a scan read whole (tables, arrays, lists of classes), and whether they changed since."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from labeltui.text import safe

HASHED = 256 << 20  # bytes; of larger files size and time of change must do


def record_files(paths: Iterable[Path]) -> list[dict[str, object]]:
    """Return size, time and hash of files as JSON values; what is no readable file is left out."""
    found: list[dict[str, object]] = []
    for path in paths:
        with suppress(OSError, ValueError):
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                found.append(
                    {
                        "path": os.path.abspath(path),
                        "size": status.st_size,
                        "mtime_ns": status.st_mtime_ns,
                        "sha256": _hash(path) if status.st_size <= HASHED else "",
                    }
                )
    return found


def changed_files(recorded: object, root: Path | None) -> list[str]:
    """Return the names of files, for display, whose content differs from when they were recorded.

    A missing file does not count: its content is unknown.

    Parameters
    ----------
    recorded : list of dict
        What `record_files` returned.
    root : Path, optional
        Of the source now: the files are looked for where they lay from there, then where they lay.
    """
    entries = (
        [entry for entry in recorded if isinstance(entry, Mapping)] if isinstance(recorded, list) else []
    )
    return [safe(Path(str(entry.get("path"))).name) for entry in entries if _changed(entry, root)]


def _changed(entry: Mapping[str, object], root: Path | None) -> bool:
    for path in _places(entry, root):
        with suppress(OSError, ValueError):
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                return True
            if status.st_size != entry.get("size"):
                return True
            if status.st_mtime_ns == entry.get("mtime_ns"):
                return False
            # Copied or touched: compare the content.
            return bool(entry.get("sha256")) and status.st_size <= HASHED and _hash(path) != entry["sha256"]
    return False


def _places(entry: Mapping[str, object], root: Path | None) -> Iterator[Path]:
    if root is not None:
        yield root / str(entry.get("file"))
    yield Path(str(entry.get("path")))


def _hash(path: Path) -> str:
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
