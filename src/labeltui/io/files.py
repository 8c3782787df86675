"""Untrusted files: read as data, without waiting, and never written through a link.

An audit may come from anybody. So what is read must be a regular file (a pipe would be waited for, a device never
ends), and what is written is opened without following a link, with the permissions of its directory.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

JSON_BYTES = 64 << 20
"""More than any JSON file of an audit has."""


def read_regular(path: Path, limit: int | None = None) -> bytes:
    """Return the content of a regular file.

    Parameters
    ----------
    path : Path
    limit : int, optional
        Most bytes that it may have.

    Raises
    ------
    OSError
        It cannot be read, is no regular file, or is larger than `limit`.
    """
    with open(open_regular(path, limit), "rb") as file:
        return file.read()


def open_regular(path: Path, limit: int | None = None) -> int:
    """Open a regular file for reading.

    Parameters
    ----------
    path : Path
    limit : int, optional
        Largest size in bytes.

    Returns
    -------
    int
        The descriptor.

    Raises
    ------
    OSError
        As `read_regular`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        _require_regular(status, path)
        if limit is not None and status.st_size > limit:
            raise OSError(errno.EFBIG, f"it has {status.st_size:,} bytes, more than {limit:,}", str(path))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def require_regular(path: Path) -> None:
    """Raise OSError unless `path` is, or leads to, a regular file."""
    _require_regular(os.stat(path), path)


def _require_regular(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))


def read_json(path: Path, limit: int = JSON_BYTES) -> dict[str, Any]:
    """Return the JSON object in a file.

    Parameters
    ----------
    path : Path
    limit : int
        Largest size in bytes.

    Returns
    -------
    dict

    Raises
    ------
    OSError
        As `read_regular`.
    ValueError
        It holds no JSON object, or one nested too deep.
    """
    try:
        value = json.loads(read_regular(path, limit).decode("utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value


def open_own(path: Path, flags: int) -> int:
    """Open a file inside an audit for writing, and return its descriptor.

    A missing file is made, with the permissions of its directory (but for executing).

    Parameters
    ----------
    path : Path
    flags : int
        ``os.O_RDWR`` or ``os.O_WRONLY``, with what else `os.open` takes.

    Raises
    ------
    OSError
        It cannot be opened, or is a link or no regular file.
    """
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    mode = stat.S_IMODE(os.stat(path.parent).st_mode) & 0o666
    while True:
        try:
            descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, mode)
            os.fchmod(descriptor, mode)  # whatever the umask leaves of it
            return descriptor
        except FileExistsError:
            pass
        try:
            descriptor = os.open(path, flags)
        except FileNotFoundError:
            if path.is_symlink():
                raise
            continue  # deleted between the two
        try:
            _require_regular(os.fstat(descriptor), path)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def write_own(path: Path, data: bytes) -> None:
    """Replace the content of a small file inside an audit and flush it to the disk; see `open_own`.

    Parameters
    ----------
    path : Path
    data : bytes

    Raises
    ------
    OSError
        As `open_own`, or the disk is full.
    """
    with open(open_own(path, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def make_directory(path: Path) -> None:
    """Make a directory inside an audit, unless it exists, with the permissions of its parent.

    Raises
    ------
    OSError
        It cannot be created, or a link or a file is in its place.
    """
    try:
        path.mkdir(0o700)
    except FileExistsError:
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "a link or a file is in its place", str(path)) from None
        return
    path.chmod(stat.S_IMODE(path.parent.stat().st_mode))
