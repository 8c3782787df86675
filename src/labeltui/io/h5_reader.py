"""Reading HDF5 files of unknown origin: arrays are views of the file, and damage raises `DamagedAudit`."""

from __future__ import annotations

import contextlib
import math
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from labeltui.errors import DamagedAudit
from labeltui.io import files
from labeltui.text import safe

Array = npt.NDArray[Any]

UNWRITTEN_BYTES = 64 << 20
"""An array may declare as much without a byte in the file (it was never written)."""
INFLATED = 64
"""How many times the file's size an array may declare."""


class H5:
    """One HDF5 file, open for reading; its arrays are read-only views of the file.

    This is the only place that opens such a file: HDF5 refuses a second opening with another locking flag in
    the same process, and a locked file could not be read from a read-only disk.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    DamagedAudit
        It is missing, truncated, or no HDF5.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map: mmap.mmap | None = None
        # The file never changes, and HDF5 takes a tenth of a millisecond for each question about it.
        self._links: dict[str, bool] = {}
        self._datasets: dict[str, h5py.Dataset] = {}
        self._views: dict[str, Array] = {}
        self._attrs: dict[str, dict[str, Any]] = {}
        self._names: dict[str, list[str]] = {}
        try:
            # Opening a pipe would block; and once mapped, the file stays readable when it is deleted.
            descriptor = files.open_regular(path)
        except OSError as error:
            raise DamagedAudit(
                f"{safe(path.name)} must be a complete HDF5 file",
                "it is missing" if isinstance(error, FileNotFoundError) else safe(str(error.strerror)),
                "copy it again from where it was made, or scan again",
            ) from None
        try:
            self._size = os.fstat(descriptor).st_size
            self._file = h5py.File(path, "r", locking=False)
            self._map = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise DamagedAudit(
                f"{safe(path.name)} must be a complete HDF5 file",
                f"{self._size:,} bytes that HDF5 refuses ({_first_line(error)})",
                "copy it again from where it was made, or scan again",
            ) from None
        finally:
            os.close(descriptor)

    def __enter__(self) -> H5:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; arrays already handed out stay valid."""
        self._file.close()
        self._map = None
        self._links, self._datasets, self._views, self._attrs, self._names = {}, {}, {}, {}, {}

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str) or name in ("", "/"):
            return name in ("", "/")
        known = self._links.get(name)
        if known is None:
            with self._decoding(name):
                self._refuse_links(name)
                # The link, not what it leads to: a broken array must not look like an absent one.
                known = self._links[name] = self._file.get(name, getlink=True) is not None
        return known

    def names(self, group: str = "") -> list[str]:
        """Return the names inside one group, sorted; nothing if it does not exist."""
        if group not in self._names:
            with self._decoding(group):
                self._refuse_links(group)
                found = self._file.get(group or "/")
                names = sorted(found) if isinstance(found, h5py.Group) else []
                # h5py gives names that it cannot decode as bytes.
                if not all(isinstance(name, str) for name in names):
                    raise ValueError("a name is not UTF-8")
                self._names[group] = names
        return list(self._names[group])

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one array without reading it."""
        dataset = self._dataset(name)
        with self._decoding(name):
            return tuple(dataset.shape)

    def kind(self, name: str) -> str:
        """Return the kind of one array's type, as `numpy.dtype.kind` names it."""
        dataset = self._dataset(name)
        with self._decoding(name):
            return str(dataset.dtype.kind)

    def __getitem__(self, name: str) -> Array:
        """Return one array, read-only: memory-mapped where the file allows it, else read."""
        if name in self._views:
            return self._views[name]
        dataset = self._dataset(name)
        with self._decoding(name):
            shape, dtype = tuple(dataset.shape), dataset.dtype
            offset = dataset.id.get_offset()
            count = math.prod(shape)
            if offset is None or count == 0 or offset % dtype.alignment:
                # No offset: empty, chunked, or never written (HDF5 then yields its fill value).
                array = np.asarray(dataset[()])
                array.flags.writeable = False
                return array
        if offset + count * dtype.itemsize > self._size:
            raise DamagedAudit(
                f"{safe(self.path.name)} must hold all of {name}",
                f"it ends {offset + count * dtype.itemsize - self._size:,} bytes too early",
                "copy it again from where it was made, or scan again",
            )
        if self._map is None:
            raise ValueError("the file is closed")
        view = self._views[name] = np.frombuffer(self._map, dtype, count, offset).reshape(shape)
        return view

    def read_ahead(self, name: str) -> None:
        """Ask the system to bring one mapped array into memory, without waiting for it.

        Thread-safe, also while the file is closed; damage is reported by the read itself.
        """
        with contextlib.suppress(DamagedAudit, KeyError):
            view, mapped = self[name], self._map
            offset = self._dataset(name).id.get_offset() if name in self._views else None
            if mapped is not None and offset is not None:
                start = offset - offset % mmap.PAGESIZE
                mapped.madvise(mmap.MADV_WILLNEED, start, offset + view.nbytes - start)

    def attrs(self, name: str = "") -> dict[str, Any]:
        """Return the attributes of an array or group ("" is the root) as plain Python values."""
        if name not in self:
            raise KeyError(name)
        if name not in self._attrs:
            with self._decoding(name):
                found = {key: _plain(value) for key, value in self._file[name or "/"].attrs.items()}
            self._attrs[name] = found
        return dict(self._attrs[name])

    def _dataset(self, name: str) -> h5py.Dataset:
        if name not in self._datasets:
            if name not in self:
                raise KeyError(name)
            with self._decoding(name):
                found = self._file[name]
                if isinstance(found, h5py.Dataset):
                    self._refuse_foreign(name, found)
            if not isinstance(found, h5py.Dataset):
                raise KeyError(name)
            self._datasets[name] = found
        return self._datasets[name]

    def _refuse_links(self, name: str) -> None:
        """See that no part of a path is a link, which could lead into another file."""
        parts = [part for part in name.split("/") if part]
        for stop in range(1, len(parts) + 1):
            path = "/".join(parts[:stop])
            link = self._file.get(path, getlink=True)
            if link is None:
                return
            if not isinstance(link, h5py.HardLink):
                raise DamagedAudit(
                    f"{safe(self.path.name)} must hold its own arrays", f"{path} is a link", "scan again"
                )

    def _refuse_foreign(self, name: str, found: h5py.Dataset) -> None:
        """Check that an array's bytes are in this file, and not far more than the file has."""
        if found.is_virtual or found.external:
            raise DamagedAudit(
                f"{safe(self.path.name)} must hold its own arrays",
                f"{name} is stored in other files",
                "scan again",
            )
        declared = math.prod(found.shape) * found.dtype.itemsize
        if declared > max(UNWRITTEN_BYTES, INFLATED * self._size):
            raise DamagedAudit(
                f"{safe(self.path.name)} must hold all of {name}",
                f"it declares {declared:,} bytes, far more than the file has",
                "copy it again from where it was made, or scan again",
            )

    @contextlib.contextmanager
    def _decoding(self, name: str) -> Iterator[None]:
        # What h5py raises for broken bytes depends on where they are broken.
        try:
            yield
        except (OSError, RuntimeError, TypeError, ValueError, KeyError) as error:
            raise DamagedAudit(
                f"{safe(self.path.name)} must be a complete HDF5 file",
                f"{name or 'its root'} cannot be decoded ({_first_line(error)})",
                "copy it again from where it was made, or scan again",
            ) from None


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return value.item() if isinstance(value, np.generic) else value


def _first_line(error: BaseException) -> str:
    return safe(str(error).partition("\n")[0], 120)
