"""Where every image of a Parquet file lies, so that one is read without those around it.

pyarrow reaches a row through all that lie before it in its row group, and writes a thousand images, or as many as a row
group has, into one page::

    page    header | levels: which rows hold an image | values: length, bytes, length, bytes, ...
            in a dictionary page the values, and in a data page the number of each row's value in there
    snappy  compresses every 64 KiB by themselves, one after the other

So the file is read once, when it is opened for a scan, and places are kept in the user's cache directory: of each row
its page and where it lies in there, of each page of snappy where its pieces of 64 KiB begin. A preview then takes the
few pieces that hold the image; of other codecs it takes one page. What is not understood (another encoding, lists) has
no index and is read by pyarrow.
"""

from __future__ import annotations

import hashlib
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labeltui import paths
from labeltui.io.atomic import replacing
from labeltui.io.files import open_regular
from labeltui.paths import as_url
from labeltui.sources.copies import delete_unused
from labeltui.sources.images import load_array
from labeltui.sources.places import read_range, stamp

VERSION = 1  # of the index
SMALL = 1 << 20  # bytes of a row group's images that are read as fast as an index would be
PIECE = 1 << 16  # bytes that snappy compresses by themselves
MOST_TAGS = 256  # of a piece, on the average; more are found in data so compressible that it would take long
MOST_BYTES = 1 << 31  # of a page
HEADER_BYTES = 1 << 14  # of a page's header, at most
DICTIONARY, DATA, DATA_V2 = 2, 0, 3
PLAIN, PLAIN_DICTIONARY, RLE_DICTIONARY = 0, 2, 8
CODECS = {  # names in Parquet, and for pyarrow's decompression
    "UNCOMPRESSED": "", "SNAPPY": "snappy", "GZIP": "gzip", "BROTLI": "brotli", "ZSTD": "zstd", "LZ4": "lz4_raw",
}  # fmt: skip
NAMES = tuple(CODECS)

Ints = npt.NDArray[np.int64]
Bytes = bytes | memoryview


@dataclass(frozen=True)
class Index:
    """Places of a file's images.

    Attributes
    ----------
    rows : ndarray of int64, shape (n, 3)
        Page (-1 where the row holds no image), offset in it and length.
    pages : ndarray of int64, shape (p, 5)
        Offset of the compressed bytes in the file, their length, that of the others, position in `NAMES`, and the
        first of `marks`, -1 where there are none.
    marks : ndarray of int64, shape (m,)
        Offset in the compressed bytes of each piece.
    """

    rows: Ints
    pages: Ints
    marks: Ints

    def read(self, path: Path, row: int) -> bytes | None:
        """Return the image of a row, None where it holds none.

        Parameters
        ----------
        path : Path
            The file.
        row : int

        Raises
        ------
        OSError, ValueError, IndexError, OverflowError, struct.error
            It is not what was indexed.
        """
        page, offset, length = self.rows[row].tolist()
        if page < 0:
            return None
        start, packed, size, codec, mark = self.pages[page].tolist()
        before = offset - 4  # of the length before the image
        if NAMES[codec] == "UNCOMPRESSED":
            data: Bytes = read_range(path, start + before, length + 4)
        elif mark < 0:
            data = _decompress(read_range(path, start, packed), size, NAMES[codec])[before:]
        else:
            first, last = before // PIECE, (offset + length - 1) // PIECE
            pieces = -(-size // PIECE)
            begin = int(self.marks[mark + first])
            end = packed if last == pieces - 1 else int(self.marks[mark + last + 1])
            size = min((last + 1) * PIECE, size) - first * PIECE
            raw = _varint(size) + read_range(path, start + begin, end - begin)
            data = _decompress(raw, size, "SNAPPY")[before - first * PIECE :]
        if len(data) < length + 4 or struct.unpack_from("<I", data)[0] != length:
            raise ValueError("the file has changed")
        return bytes(data[4 : length + 4])


def save_index(path: Path, file: Any, column: str) -> int:
    """Make and keep the index of a file's images, where that is of use and they are stored as it understands.

    Parameters
    ----------
    path : Path
    file : pyarrow.parquet.ParquetFile
        The same, open.
    column : str
        Holds the images.

    Returns
    -------
    int
        Bytes that are read for an image, at most.

    Raises
    ------
    OSError, ValueError
        There is no such column, or the file is gone.
    """
    names = [file.schema.column(each).path for each in range(len(file.schema))]
    position = names.index(f"{column}.bytes" if f"{column}.bytes" in names else column)
    groups = [file.metadata.row_group(each) for each in range(file.num_row_groups)]
    largest = max((group.column(position).total_compressed_size for group in groups), default=0)
    if largest <= SMALL or as_url(path) is not None:
        return largest
    index = load_index(path, column)
    if index is None:
        kept = _file(path, column)  # as the file is before it is read
        try:
            index = make_index(path, file.metadata, file.schema.column(position), position)
        except (
            OSError,
            ValueError,
            IndexError,
            KeyError,
            TypeError,
            OverflowError,
            struct.error,
            RecursionError,
        ):
            return largest
        with suppress(OSError):
            kept.parent.mkdir(0o700, parents=True, exist_ok=True)
            delete_unused(kept.parent)
            with replacing(kept) as hidden, open(hidden, "wb") as opened:
                np.savez(opened, rows=index.rows, pages=index.pages, marks=index.marks)
    whole = (index.pages[:, 4] < 0) & (index.pages[:, 3] != NAMES.index("UNCOMPRESSED"))
    return int(index.pages[whole, 1].max(initial=0))


def load_index(path: Path, column: str) -> Index | None:
    """Return the index that was kept of a file, memory-mapped; None if there is none of the file as it is.

    Parameters
    ----------
    path : Path
    column : str
    """
    try:
        file = _file(path, column)
        arrays = [load_array(file, name) for name in ("rows", "pages", "marks")]
        os.utime(file)
    except (OSError, ValueError, KeyError):
        return None
    rows, pages, marks = arrays
    good = all(each.dtype == np.int64 for each in arrays) and (rows.ndim, pages.ndim, marks.ndim) == (2, 2, 1)
    if not good or rows.shape[1] != 3 or pages.shape[1] != 5:
        return None
    return Index(rows, pages, marks)  # type: ignore[arg-type]


def _file(path: Path, column: str) -> Path:
    digest = hashlib.sha256(b"%d\0" % VERSION + column.encode() + b"\0" + stamp(path))
    return paths.cache_dir() / "parquet" / f"{digest.hexdigest()}.npz"


def make_index(path: Path, metadata: Any, leaf: Any, position: int) -> Index:
    """Read a file and find its images.

    Parameters
    ----------
    path : Path
    metadata : pyarrow.parquet.FileMetaData
    leaf : pyarrow.parquet.ColumnSchema
        Of the images' bytes.
    position : int
        Of that column among all that are stored.

    Returns
    -------
    Index

    Raises
    ------
    OSError
        It cannot be read.
    ValueError, IndexError, KeyError, TypeError, OverflowError, struct.error, RecursionError
        It is damaged, or stored in a way that is not understood.
    """
    if leaf.physical_type != "BYTE_ARRAY" or leaf.max_repetition_level:
        raise ValueError("other columns than of bytes are not indexed")
    made = _Maker(leaf.max_definition_level)
    descriptor = open_regular(path)
    try:
        for group in range(metadata.num_row_groups):
            made.add(
                descriptor, metadata.row_group(group).column(position), metadata.row_group(group).num_rows
            )
    finally:
        os.close(descriptor)
    return made.index()


class _Maker:
    def __init__(self, most_defined: int) -> None:
        self.most_defined = most_defined
        self.rows: list[Ints] = []
        self.pages: list[tuple[int, int, int, int, int]] = []
        self.marks: list[int] = []

    def index(self) -> Index:
        rows = np.concatenate([np.zeros((0, 3), np.int64), *self.rows])
        pages = np.array(self.pages, np.int64).reshape(-1, 5)
        return Index(rows, pages, np.array(self.marks, np.int64))

    def add(self, descriptor: int, chunk: Any, left: int) -> None:
        """Index one row group, of `left` rows."""
        start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
        stop = start + chunk.total_compressed_size
        codec, known = chunk.compression, np.zeros((0, 3), np.int64)
        while left:
            header, length = _struct(os.pread(descriptor, HEADER_BYTES, start), 0)
            kind, size, packed = header[1], header[2], header[3]
            start += length
            if not (0 <= packed <= stop - start and 0 <= size < MOST_BYTES):
                raise ValueError("a page does not fit")
            content = os.pread(descriptor, packed, start)
            if kind == DICTIONARY:
                data = self._page(content, start, size, codec)
                known = self._plain(data, 0, header[7][1])
            elif kind in (DATA, DATA_V2):
                count = header[5 if kind == DATA else 8][1]
                if not 0 < count <= left:
                    raise ValueError("a page has other rows than its group")
                self.rows.append(self._data(header, content, start, size, codec, known))
                left -= count
            start += packed

    def _data(
        self, header: dict[int, Any], content: bytes, start: int, size: int, codec: str, known: Ints
    ) -> Ints:
        """Return the places of a data page's rows."""
        width = self.most_defined.bit_length()
        if header[1] == DATA:
            count, encoding = header[5][1], header[5][2]
            data, at = self._page(content, start, size, codec), 0
            levels: Bytes = b""
            if width:
                (length,) = struct.unpack_from("<I", data)
                at = 4 + length
                levels = data[4:at]
        else:
            more = header[8]
            count, encoding, bytes_before = more[1], more[4], more[5] + more[6]
            levels = content[more[6] : bytes_before]
            used = codec if more.get(7, True) else "UNCOMPRESSED"
            data, at = self._page(content[bytes_before:], start + bytes_before, size - bytes_before, used), 0
        there = _hybrid(levels, width, count) == self.most_defined
        rows = np.full((count, 3), (-1, 0, 0), np.int64)
        present = int(there.sum())
        if encoding == PLAIN:
            rows[there] = self._plain(data, at, present)
        elif encoding in (PLAIN_DICTIONARY, RLE_DICTIONARY):
            if present:
                rows[there] = known[_hybrid(data[at + 1 :], data[at], present)]
        else:
            raise ValueError("the encoding is not indexed")
        return rows

    def _page(self, content: bytes, start: int, size: int, codec: str) -> memoryview:
        """Add a page, and return its decompressed bytes."""
        mark = -1
        if codec == "SNAPPY":
            marks = snappy_pieces(content, size)
            if marks is not None:
                mark = len(self.marks)
                self.marks += marks
        self.pages.append((start, len(content), size, NAMES.index(codec), mark))
        return memoryview(content) if codec == "UNCOMPRESSED" else _decompress(content, size, codec)

    def _plain(self, data: memoryview, at: int, count: int) -> Ints:
        """Return the places of values that lie one after the other in the page added last."""
        if not 0 <= count <= len(data) // 4:
            raise ValueError("a page is shorter than its values")
        found = np.empty((count, 3), np.int64)
        page, read = len(self.pages) - 1, struct.Struct("<I").unpack_from
        for number in range(count):
            (length,) = read(data, at)
            found[number] = page, at + 4, length
            at += 4 + length
        if at > len(data):
            raise ValueError("a value is cut off")
        return found


def snappy_pieces(content: bytes, size: int) -> list[int] | None:
    """Return where each 64 KiB of snappy's compressed bytes begin, None where they are not by themselves.

    Parameters
    ----------
    content : bytes
    size : int
        Of the decompressed bytes.
    """
    at = made = 0
    marks: list[int] = []
    while content[at] & 128:  # the size, which is known
        at += 1
    at += 1
    for _ in range(MOST_TAGS * (1 + size // PIECE)):
        if made == size:
            return marks
        if made == PIECE * len(marks):
            marks.append(at)
        tag = content[at]
        at += 1
        if tag & 3 == 0:  # bytes as they are
            length = tag >> 2
            if length >= 60:
                more = length - 59
                length = int.from_bytes(content[at : at + more], "little")
                at += more
            at += length + 1
            made += length + 1
        elif tag & 3 == 1:  # a copy of earlier ones
            made += 4 + (tag >> 2 & 7)
            at += 1
        else:
            made += 1 + (tag >> 2)
            at += 2 if tag & 3 == 2 else 4
        if made > PIECE * len(marks):
            return None
    return None


def _decompress(content: bytes, size: int, codec: str) -> memoryview:
    import pyarrow as pa

    return memoryview(pa.Codec(CODECS[codec]).decompress(content, size)).cast("B")


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])


def _read_varint(data: Bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number is too long")


def _hybrid(data: Bytes, width: int, count: int) -> Ints:
    """Return `count` numbers of `width` bits, in Parquet's mixture of runs and packed bits."""
    found, at = [np.zeros(0, np.int64)], 0
    if width == 0:
        return np.zeros(count, np.int64)
    if width > 32:
        raise ValueError("numbers are too wide")
    while count:
        header, at = _read_varint(data, at)
        if header & 1:
            stop = at + (header >> 1) * width
            bits = np.unpackbits(np.frombuffer(data[at:stop], np.uint8), bitorder="little")
            values = bits.reshape(-1, width) @ (1 << np.arange(width, dtype=np.int64))
            at = stop
        else:
            stop = at + (width + 7) // 8
            values = np.full(min(header >> 1, count), int.from_bytes(data[at:stop], "little"), np.int64)
            at = stop
        if not len(values):
            raise ValueError("a run is empty")
        found.append(values[:count])
        count -= len(found[-1])
    return np.concatenate(found)


def _struct(data: bytes, at: int) -> tuple[dict[int, Any], int]:
    """Read a struct in Thrift's compact protocol: its fields by number, and where it ends."""
    fields: dict[int, Any] = {}
    number = 0
    while data[at]:
        kind, step = data[at] & 15, data[at] >> 4
        at += 1
        if not step:
            raise ValueError("no page's header has such a field")
        number += step
        fields[number], at = _field(data, at, kind)
    return fields, at + 1


def _field(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in (1, 2):
        return kind == 1, at
    if kind in (4, 5, 6):
        value, at = _read_varint(data, at)
        return (value >> 1) ^ -(value & 1), at
    if kind == 8:  # statistics
        length, at = _read_varint(data, at)
        return None, at + length
    if kind == 12:
        return _struct(data, at)
    raise ValueError("no page's header has such a field")
