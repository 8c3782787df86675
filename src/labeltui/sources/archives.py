"""Members of zip and tar archives: listing them, and reading one without unpacking the others.

A list of all members (name, place, size) is made once by reading the headers alone and kept as arrays, so that a
member is found by its name in any process. Python's own `tarfile` and `zipfile` read the headers; what they would do
with a member (follow a link, make a device, expand holes) is never asked for.

Nobody vouches for an archive. Names are only ids: no file is ever opened by one. Links, devices and sparse members are
left out and counted; members that overlap, a header of more than `HEADER_BYTES`, and an archive that is cut off or
damaged are refused; a member is read into memory up to `MAX_FILE_BYTES` and must have the size (in zip also the
checksum) that its header states.
"""

from __future__ import annotations

import stat
import tarfile
import zipfile
import zlib
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from labeltui.errors import SourceError, UnreadableImage
from labeltui.sources import places
from labeltui.sources.decode import MAX_FILE_BYTES
from labeltui.sources.places import Opened
from labeltui.text import safe

TAR, ZIP = (".tar",), (".zip",)
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
HEADER_BYTES = 1 << 20
LOCAL_HEADER = 30  # bytes of zip's header before the member's name
NAME_AND_EXTRA = 1024  # bytes that usually suffice for name and extra field
BLOCK = 512  # bytes of tar
LEFT_BEHIND = 1 << 16  # bytes behind a tar's end mark beyond padding
STORED, DEFLATED, ENCRYPTED, OTHER = range(4)
PLAIN = -1  # a member of a tar: its bytes as they are


@dataclass
class Listing:
    """The regular members of one archive, in its order.

    Attributes
    ----------
    names : list of bytes
    start : array of int64
        Where a member lies: its data in a tar, its local header in a zip.
    packed, size : array of int64
        Bytes in the archive, and unpacked.
    method : array of int64
        `PLAIN`, `STORED`, `DEFLATED`, `ENCRYPTED` or `OTHER`.
    crc : array of int64
        Checksum, -1 = none.
    left_out : Counter of str
        Members that are no regular files, by what they are.
    behind : int
        Bytes after a tar's end mark.
    ended : bool
        Whether a tar has that mark.
    """

    names: list[bytes] = field(default_factory=list)
    start: Any = field(default_factory=lambda: array("q"))
    packed: Any = field(default_factory=lambda: array("q"))
    size: Any = field(default_factory=lambda: array("q"))
    method: Any = field(default_factory=lambda: array("q"))
    crc: Any = field(default_factory=lambda: array("q"))
    left_out: Counter[str] = field(default_factory=Counter)
    behind: int = 0
    ended: bool = True

    def add(self, name: bytes, start: int, packed: int, size: int, method: int, crc: int = -1) -> None:
        """Append a member.

        Parameters
        ----------
        name, start, packed, size, method, crc
            Its part of each list.
        """
        self.names.append(name)
        for column, value in zip(
            (self.start, self.packed, self.size, self.method, self.crc),
            (start, packed, size, method, crc),
            strict=True,
        ):
            column.append(value)


class _Headers:
    """The file as `tarfile` may see it: forward only, and in small pieces."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        if not 0 <= size <= HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._file.read(size)

    def seek(self, position: int) -> int:
        if position < self._file.tell() - 1:  # where a member ends, one byte is read again
            raise tarfile.ReadError("its members overlap")
        return self._file.seek(position)

    def tell(self) -> int:
        return self._file.tell()


def is_archive(path: Path) -> bool:
    """Return whether a name is that of an archive, or of a compressed one, which is refused with the reason."""
    return path.name.lower().endswith(TAR + ZIP + COMPRESSED)


def list_members(path: Path, look: Callable[[bytes, Callable[[], bytes]], None] | None = None) -> Listing:
    """Return the regular members of an archive.

    Parameters
    ----------
    path : Path
    look : callable, optional
        ``look(name, read)`` is called for each; ``read()`` returns the member.

    Returns
    -------
    Listing

    Raises
    ------
    SourceError
        The archive cannot be read, or is damaged.
    """
    name = safe(path.name)
    if path.name.lower().endswith(COMPRESSED):
        raise SourceError(
            "a tar is read where it lies, so it must not be compressed as a whole", f"got {name}", "unpack it"
        )
    try:
        with places.opened(path) as opened:
            return _list_zip(opened, look) if path.suffix.lower() in ZIP else _list_tar(opened, look)
    except SourceError:
        raise
    except Exception as error:  # damaged and made-up archives make the parsers raise anything
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _damaged(name, reason or type(error).__name__) from None


def _damaged(name: str, reason: str) -> SourceError:
    return SourceError("an archive must be whole", f"{name}: {safe(reason, 200)}", "copy or make it again")


def _list_tar(archive: Opened, look: Callable[[bytes, Callable[[], bytes]], None] | None) -> Listing:
    listing = Listing()
    headers: Any = _Headers(archive.file)
    with tarfile.open(fileobj=headers, mode="r:", encoding="utf-8", errors="surrogateescape") as opened:
        tar: Any = opened  # `members` has no published type
        while (info := tar.next()) is not None:
            tar.members.clear()  # a million of them would fill the memory
            if info.isdir():
                continue
            if not info.isreg() or info.issparse():
                listing.left_out["sparse files" if info.isreg() else "links and devices"] += 1
                continue
            if info.size < 0 or info.offset_data + info.size > archive.size:
                raise tarfile.ReadError("it is cut off, or states sizes that it has not")
            name = info.name.encode("utf-8", "surrogateescape")
            listing.add(name, info.offset_data, info.size, info.size, PLAIN)
            if look is not None:
                place = listing.start[-1], info.size
                look(name, lambda place=place: archive.read_range(*place))  # type: ignore[misc]
        mark = archive.read_range(tar.offset, max(0, min(BLOCK, archive.size - tar.offset)))
        if mark.strip(b"\0"):
            raise tarfile.ReadError("a header in it is damaged")
        listing.behind = max(0, archive.size - tar.offset - LEFT_BEHIND)
        listing.ended = len(mark) == BLOCK
    return listing


def _list_zip(opened: Opened, look: Callable[[bytes, Callable[[], bytes]], None] | None) -> Listing:
    listing = Listing()
    with zipfile.ZipFile(opened.file) as archive:
        infos = archive.infolist()
    ends = 0
    for info in sorted(infos, key=lambda each: each.header_offset):
        if info.header_offset < ends:
            raise zipfile.BadZipFile("its members overlap")
        ends = info.header_offset + LOCAL_HEADER + info.compress_size
    if ends > opened.size:
        raise zipfile.BadZipFile("it states sizes that it has not")
    for info in infos:
        if not info.filename or info.filename.endswith("/"):
            continue
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            listing.left_out["links and devices"] += 1
            continue
        method = {zipfile.ZIP_STORED: STORED, zipfile.ZIP_DEFLATED: DEFLATED}.get(info.compress_type, OTHER)
        # The bytes that were written: without the flag zipfile takes them for code page 437, which has all 256.
        name = info.filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437", "surrogateescape")
        listing.add(
            name,
            info.header_offset,
            info.compress_size,
            info.file_size,
            ENCRYPTED if info.flag_bits & 1 else method,
            info.CRC,
        )
        if look is not None:
            row = len(listing.names) - 1
            look(name, lambda row=row: _look_into(opened, listing, row))  # type: ignore[misc]
    return listing


def _look_into(opened: Opened, listing: Listing, row: int) -> bytes:
    columns = (listing.start, listing.packed, listing.size, listing.method, listing.crc)
    try:
        return unpack(opened.read_range, *(each[row] for each in columns))
    except UnreadableImage as error:
        raise SourceError(
            "what stands beside the images must be readable", safe(listing.names[row]), error.message
        ) from None


def read_member(path: Path, start: int, packed: int, size: int, method: int, crc: int) -> bytes:
    """Return a member of an archive.

    Parameters
    ----------
    path : Path
        The archive.
    start, packed, size, method, crc : int
        As in `Listing`.

    Raises
    ------
    FileNotFoundError
        There is no such archive.
    UnreadableImage
        The archive or the member cannot be read.
    """
    try:
        return unpack(partial(places.read_range, path), start, packed, size, method, crc)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnreadableImage(
            f"the archive cannot be read: {safe(error.strerror or str(error), 200)}"
        ) from None


def unpack(
    read: Callable[[int, int], bytes], start: int, packed: int, size: int, method: int, crc: int
) -> bytes:
    """Return a member, from a function that reads a range of the archive.

    Parameters
    ----------
    read : callable
        ``read(start, length)``.
    start, packed, size, method, crc : int
        As in `Listing`.

    Raises
    ------
    UnreadableImage
        It is encrypted, too large, or not what its header says.
    """
    if max(size, packed) > MAX_FILE_BYTES:
        raise UnreadableImage(f"the member has {max(size, packed):,} bytes, more than {MAX_FILE_BYTES:,}")
    if method == ENCRYPTED:
        raise UnreadableImage("the member is encrypted")
    if method == OTHER:
        raise UnreadableImage("the member is neither stored nor deflated")
    data = read(start, size) if method == PLAIN else _inflated(_packed(read, start, packed), size, method)
    if len(data) != size or (crc >= 0 and zlib.crc32(data) != crc):
        raise UnreadableImage("the member is damaged or cut off")
    return data


def _packed(read: Callable[[int, int], bytes], start: int, packed: int) -> bytes:
    """Return the bytes of a zip's member as they are stored, behind its local header."""
    piece = read(start, LOCAL_HEADER + NAME_AND_EXTRA + packed)
    if piece[:4] != b"PK\x03\x04":
        raise UnreadableImage("there is no member where the archive says")
    data = LOCAL_HEADER + int.from_bytes(piece[26:28], "little") + int.from_bytes(piece[28:30], "little")
    return piece[data : data + packed] if len(piece) >= data + packed else read(start + data, packed)


def _inflated(packed: bytes, size: int, method: int) -> bytes:
    if method == STORED:
        return packed
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(packed, size + 1)  # one more than allowed shows that it holds more
    except zlib.error as error:
        raise UnreadableImage(f"the member is damaged: {error}") from None
    return data
