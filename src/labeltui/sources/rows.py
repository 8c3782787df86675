"""Images in the rows of Parquet and Arrow files."""

from __future__ import annotations

import bisect
import itertools
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labeltui.errors import MissingImage, SourceError, UnreadableImage
from labeltui.io import files
from labeltui.paths import as_url
from labeltui.sources import places
from labeltui.sources.decode import Levels
from labeltui.sources.images import Images, described_files, described_levels
from labeltui.sources.parquet_index import Index, load_index
from labeltui.text import safe

_GROUPS = 4  # row groups that are kept in memory
_BATCH = 16  # rows read at a time
_MOST_BYTES = 128 << 20  # of one row group that are kept
_BUFFER = 1 << 20  # bytes of a file read at a time


@dataclass
class ParquetImages(Images):
    """Each sample is a row of one of several Parquet files.

    Attributes
    ----------
    files : tuple of Path
    starts : tuple of int
        The first sample of each file, and the number of all.
    column : str
        Holds the images: structs of bytes and path, or bytes.
    levels : (int, int), optional
        See `labeltui.sources.levels`.
    """

    files: tuple[Path, ...]
    starts: tuple[int, ...]
    column: str
    levels: Levels | None = None
    _kept: dict[tuple[int, int], Any] = field(default_factory=dict, repr=False)
    _bounds: dict[int, list[int]] = field(default_factory=dict, repr=False)
    _footers: dict[int, Any] = field(default_factory=dict, repr=False)
    _indexes: dict[int, Index | None] = field(default_factory=dict, repr=False)
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    def __getstate__(self) -> dict[str, object]:
        empty: dict[str, object] = {name: {} for name in ("_kept", "_bounds", "_footers", "_indexes")}
        return {**self.__dict__, **empty, "_lock": None}  # another process maps the indexes itself

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    @classmethod
    def opened(cls, description: Mapping[str, object], root: Path) -> ParquetImages:
        """See `Images.opened`."""
        counts, column = description.get("rows"), description.get("column")
        names = described_files(description, root)
        good = (
            isinstance(counts, list | tuple)
            and len(names) == len(counts)
            and isinstance(column, str)
            and all(isinstance(each, int) and each >= 0 for each in counts)
        )
        if not good:
            raise SourceError(
                "a description of tables names files and rows", "this one does not", "scan again"
            )
        assert isinstance(counts, list | tuple)
        return cls(
            names,
            tuple(itertools.accumulate(counts, initial=0)),
            str(column),
            described_levels(description),
        )

    def read(self, sample_id: bytes, index: int) -> bytes:
        """Return the image of a row, as it is stored.

        Parameters
        ----------
        sample_id : bytes
        index : int
            Position of the sample.

        Returns
        -------
        bytes

        Raises
        ------
        MissingImage, UnreadableImage
        """
        if not 0 <= index < self.starts[-1]:
            raise MissingImage(f"there are only {self.starts[-1]:,} rows")
        at = bisect.bisect_right(self.starts, index) - 1
        try:
            value = self._value(at, index - self.starts[at])
        except FileNotFoundError:
            raise MissingImage(f"there is no {safe(str(self.files[at]))}") from None
        # Damaged files make pyarrow raise errors of many types.
        except (OSError, ValueError, KeyError, IndexError, TypeError, NotImplementedError) as error:
            raise UnreadableImage(
                f"{safe(str(self.files[at]))} cannot be read: {safe(str(error), 200)}"
            ) from None
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None:
            raise MissingImage("the row holds no image")
        if not isinstance(data, bytes):
            raise UnreadableImage("the row holds no bytes of an image")
        return data

    def _value(self, at: int, row: int) -> Any:
        if at not in self._indexes:
            local = as_url(self.files[at]) is None
            self._indexes[at] = load_index(self.files[at], self.column) if local else None
        if (index := self._indexes[at]) is not None:
            with suppress(OSError, ValueError, IndexError, OverflowError, struct.error):  # pyarrow knows why
                return index.read(self.files[at], row)
        with self._lock:  # a reader of Parquet is used by one thread at a time
            if at not in self._bounds:
                with parquet_file(self.files[at]) as file:
                    self._footers[at] = file.metadata
                    counts = [file.metadata.row_group(each).num_rows for each in range(file.num_row_groups)]
                self._bounds[at] = [0, *itertools.accumulate(counts)]
            bounds = self._bounds[at]
            group = bisect.bisect_right(bounds, row) - 1
            if group >= len(bounds) - 1:
                raise IndexError("the file has fewer rows than at the scan")
            if (at, group) not in self._kept:
                while len(self._kept) >= _GROUPS:
                    self._kept.pop(next(iter(self._kept))).close()
                self._kept[at, group] = _Group(self.files[at], self._footers[at], group, self.column)
            return self._kept[at, group].row(row - bounds[group])


class _Group:
    """The rows of one row group, read as far as they were asked for: a row costs what lies before it.

    Of what was read, the last `_MOST_BYTES` are kept; what lay before them is read again.

    Parameters
    ----------
    path : Path
        The file.
    footer : pyarrow.parquet.FileMetaData
    group : int
    column : str
    """

    def __init__(self, path: Path, footer: Any, group: int, column: str) -> None:
        self._open = ExitStack()
        self._file = self._open.enter_context(parquet_file(path, footer))
        self._group, self._column = group, column
        self._start()

    def _start(self) -> None:
        # On one thread: starting others takes longer than they save, and makes some reads much slower than most.
        self._batches = self._file.iter_batches(
            _BATCH, row_groups=[self._group], columns=[self._column], use_threads=False
        )
        self._read: list[Any] = []
        self._starts: list[int] = []  # the first row of each that was read
        self._stop = self._bytes = 0

    def row(self, row: int) -> Any:
        """Return a row's value."""
        if self._starts and row < self._starts[0]:
            self._start()
        while row >= self._stop:
            batch = next(self._batches, None)
            if batch is None:
                raise IndexError("the row group has fewer rows than it states")
            self._read.append(batch.column(0))
            self._starts.append(self._stop)
            self._stop += len(batch)
            self._bytes += batch.nbytes
            while self._bytes > _MOST_BYTES and len(self._read) > 1:
                self._bytes -= self._read.pop(0).nbytes
                self._starts.pop(0)
        at = bisect.bisect_right(self._starts, row) - 1
        return self._read[at][row - self._starts[at]].as_py()

    def close(self) -> None:
        """Close the file."""
        self._open.close()


@dataclass
class ArrowImages(ParquetImages):
    """Each sample is a row of one of several files in Arrow's stream format, which are memory-mapped."""

    def _value(self, at: int, row: int) -> Any:
        with self._lock:
            if at not in self._bounds:
                column = read_arrow(self.files[at]).column(self.column)
                self._bounds[at] = [0, *itertools.accumulate(len(chunk) for chunk in column.chunks)]
                self._kept |= {(at, group): [chunk, False] for group, chunk in enumerate(column.chunks)}
            bounds = self._bounds[at]
            group = bisect.bisect_right(bounds, row) - 1
            if group >= len(bounds) - 1:
                raise IndexError("the file has fewer rows than at the scan")
            kept = self._kept[at, group]
            if not kept[1]:
                kept[0].validate(full=True)  # offsets in a file from anywhere may point out of it
                kept[1] = True
            return kept[0][row - bounds[group]].as_py()


@contextmanager
def parquet_file(path: Path, footer: Any = None) -> Iterator[Any]:
    """Open a Parquet file with pyarrow.

    Parameters
    ----------
    path : Path
    footer : pyarrow.parquet.FileMetaData, optional
        What was read of it before.

    Raises
    ------
    OSError, ValueError
        It cannot be read.
    """
    import pyarrow.parquet as pq

    if as_url(path) is not None:
        with places.opened(path) as opened, pq.ParquetFile(opened.file, metadata=footer) as file:
            yield file
        return
    files.require_regular(path)
    with pq.ParquetFile(path, metadata=footer, buffer_size=_BUFFER, pre_buffer=False) as file:
        yield file


def read_arrow(file: Path) -> Any:
    """Return the table in a file in Arrow's stream format, memory-mapped and not validated.

    Parameters
    ----------
    file : Path

    Raises
    ------
    OSError, ValueError
        It cannot be read.
    """
    import pyarrow as pa

    files.require_regular(file)
    return pa.ipc.open_stream(pa.memory_map(str(file))).read_all()
