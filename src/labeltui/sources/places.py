"""Files of the local system and at URLs, read by the same few calls.

A URL (``s3://bucket/shards``) is reached by `fsspec`, with the credentials and endpoints that its libraries find in the
environment; nothing is written there. It travels as a `Path`, which makes one slash of the two (``s3:/bucket/shards``);
`labeltui.paths.as_url` puts the other one back. No URL is followed because an audit names it: a person names it, see
`labeltui.audit.images`.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from labeltui.errors import SourceError, UsageError
from labeltui.io.files import open_regular
from labeltui.paths import as_url
from labeltui.text import safe

BLOCK = 4 << 20  # bytes fetched ahead while headers are read


@dataclass(frozen=True)
class Opened:
    """A file that is open for reading.

    Attributes
    ----------
    file : binary file
        Can seek.
    size : int
        Bytes.
    read_range : callable
        ``read_range(start, length)``, apart from the position of `file`.
    """

    file: IO[bytes]
    size: int
    read_range: Callable[[int, int], bytes]


def shown(path: Path) -> str:
    """Return a path or a URL for display."""
    return safe(as_url(path) or str(path))


def unreachable(path: Path, error: OSError) -> SourceError:
    """Return the error for a person who named a URL that cannot be read.

    Parameters
    ----------
    path : Path
    error : OSError

    Returns
    -------
    SourceError
    """
    return SourceError(
        "data at a URL must be there and readable",
        f"{shown(path)}: {safe(error.strerror or str(error), 300)}",
        "check the URL, and the credentials in the environment",
    )


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """Open a file.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OSError
        It is missing, no regular file, or cannot be reached.
    UsageError
        It is at a URL, and fsspec or the library for its scheme is not installed.
    """
    if as_url(path) is None:
        with open(open_regular(path), "rb") as file:
            yield Opened(
                file,
                os.fstat(file.fileno()).st_size,
                lambda start, length: os.pread(file.fileno(), length, start),
            )
        return
    with _reached(path) as (system, name):
        remote = system.open(name, "rb", block_size=BLOCK, cache_type="readahead")
    with remote:
        yield Opened(remote, int(remote.size), lambda start, length: _range(path, start, length))


def read_whole(path: Path) -> bytes:
    """Return the content of a file.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OSError, UsageError
        As `opened`.
    """
    with opened(path) as found:
        return found.file.read()


def exists(path: Path) -> bool:
    """Return whether there is a file at a URL.

    Parameters
    ----------
    path : Path
        A URL.

    Raises
    ------
    OSError, UsageError
        As `opened`.
    """
    with _reached(path) as (system, name):
        return bool(system.exists(name))


def read_range(path: Path, start: int, length: int) -> bytes:
    """Return a part of a file; shorter where the file ends.

    Parameters
    ----------
    path : Path
    start, length : int

    Raises
    ------
    OSError, UsageError
        As `opened`.
    """
    if as_url(path) is not None:
        return _range(path, start, length)
    descriptor = open_regular(path)
    try:
        return os.pread(descriptor, length, start)
    finally:
        os.close(descriptor)


def fetch(path: Path, to: Path) -> None:
    """Copy a file at a URL to a local one.

    Parameters
    ----------
    path : Path
        A URL.
    to : Path

    Raises
    ------
    OSError, UsageError
        As `opened`; or the local file cannot be written.
    """
    with _reached(path) as (system, name):
        system.get_file(name, os.fspath(to))


def stamp(path: Path) -> bytes:
    """Return what changes when a file does: name, size, time of change or what the store says of it.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OSError, UsageError
        As `opened`.
    """
    if as_url(path) is None:
        status = os.stat(path)
        facts = (status.st_size, status.st_mtime_ns, status.st_ino)
        return b"\0".join([os.fsencode(os.path.abspath(path)), *(b"%d" % fact for fact in facts)])
    with _reached(path) as (system, name):
        info = system.info(name)
    return hashlib.sha256(f"{as_url(path)} {sorted(info.items(), key=str)}".encode()).digest()


def is_directory(path: Path) -> bool:
    """Return whether there is a directory, or objects whose names begin with that of one.

    Parameters
    ----------
    path : Path

    Raises
    ------
    OSError, UsageError
        As `opened`.
    """
    if as_url(path) is None:
        return path.is_dir()
    with _reached(path) as (system, name):
        return bool(system.isdir(name))


def files_below(path: Path) -> list[bytes]:
    """Return the names of all files at any depth below a URL, sorted.

    Parameters
    ----------
    path : Path
        A URL.

    Raises
    ------
    OSError, UsageError
        As `opened`.
    """
    with _reached(path) as (system, name):
        found = system.find(name)
    start = name.rstrip("/") + "/"
    return sorted(
        each[len(start) :].encode("utf-8", "surrogateescape") for each in found if each.startswith(start)
    )


def matching(path: Path) -> list[Path]:
    """Return the files at URLs that a pattern with ``*``, ``?`` or ``[`` stands for.

    Parameters
    ----------
    path : Path
        A URL.

    Raises
    ------
    OSError, UsageError
        As `opened`.
    """
    with _reached(path) as (system, name):
        return [Path(system.unstrip_protocol(each)) for each in sorted(system.glob(name))]


def _range(path: Path, start: int, length: int) -> bytes:
    if length == 0:
        return b""
    with _reached(path) as (system, name):
        data: bytes = system.cat_file(name, start=start, end=start + length)
        return data


def _system(path: Path) -> tuple[Any, str]:
    """Return the file system of a URL, and the name in it."""
    if importlib.util.find_spec("fsspec") is None:
        raise UsageError(
            "data at URLs is read by fsspec", "it is not installed", "pip install 'labeltui[remote]'"
        )
    import fsspec

    url = as_url(path)
    if url is not None and "::" in url:  # to fsspec one place within another: it would read another file
        raise OSError(errno.EINVAL, "names with :: cannot be read from URLs", url)
    try:
        return fsspec.core.url_to_fs(url)  # type: ignore[no-any-return]
    except (ImportError, ValueError) as error:
        raise UsageError(
            "a URL has a scheme that an installed library reads", f"{safe(str(url))}: {safe(str(error), 200)}"
        ) from None


@contextmanager
def _reached(path: Path) -> Iterator[tuple[Any, str]]:
    """Yield `_system`, and turn what the libraries of stores raise, of whatever type, into OSError."""
    reached = _system(path)
    try:
        yield reached
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), as_url(path)) from None
    except Exception as error:
        raise OSError(errno.EIO, str(error) or type(error).__name__, as_url(path)) from None
