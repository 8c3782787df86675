"""Writing HDF5 files: in one step, and the same bytes for the same input."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from labeltui.errors import InputError
from labeltui.io.atomic import replacing, sha256

Array = npt.NDArray[Any]

FROM_CONTENT = "00000000-0000-0000-0000-000000000000"
"""As root attribute ``uuid``, asks `write_h5` to derive the identity from everything the file holds."""

BLOCK = 32 << 20  # bytes copied at a time: large arrays are never in memory twice
ALIGNMENT = 64  # a cache line, and a multiple of every dtype's alignment
METADATA = 1024  # bytes of headers and attributes that an array or group may take, ample

Attribute = str | int | float | bool | Sequence[str] | Sequence[int] | Sequence[float] | Array


@dataclass(frozen=True)
class Blocks:
    """An array that is produced piece by piece while it is written.

    Parameters
    ----------
    shape : tuple of int
        Shape of the whole array.
    dtype : numpy.dtype
        Its type.
    produce : callable
        Returns an iterable of arrays that follow one another along the first axis.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    produce: Callable[[], Iterable[Array]]


def pack_matrix(path: str, matrix: Any) -> dict[str, Array]:
    """Return the datasets of a dense matrix (``path``) or of a `scipy.sparse` one.

    The latter is held in compressed rows: ``path_shape`` (2,), ``path_indptr``, ``path_indices``, ``path_data``.

    Parameters
    ----------
    path : str
        Name of the dataset.
    matrix : ndarray or scipy.sparse matrix, shape (K, K)

    Returns
    -------
    dict of str to ndarray
    """
    if isinstance(matrix, np.ndarray):
        return {path: matrix}
    rows = matrix.tocsr()
    rows.sort_indices()
    return {
        f"{path}_shape": np.asarray(rows.shape, np.int64),
        f"{path}_indptr": rows.indptr.astype(np.int64),
        f"{path}_indices": rows.indices.astype(np.int32),
        f"{path}_data": rows.data,
    }


def write_h5(
    path: Path,
    arrays: Mapping[str, Array | Blocks],
    attrs: Mapping[str, Mapping[str, Attribute]] | None = None,
) -> str:
    """Write one complete HDF5 file atomically; the same input gives the same bytes.

    Parameters
    ----------
    path : Path
        The file; an existing one is replaced in one step.
    arrays : mapping
        Path inside the file -> array of a fixed-size numeric type, or `Blocks`. Memory-mapped arrays are
        streamed; bool becomes uint8.
    attrs : mapping, optional
        Path inside the file ("" is the root; groups are made as needed) -> attributes: text, numbers, or
        lists of one of these. A root attribute ``uuid`` equal to `FROM_CONTENT` is replaced by one derived
        from all the rest.

    Returns
    -------
    str
        SHA-256 of the file, hexadecimal.

    Raises
    ------
    InputError
        An array's type has no fixed size, or blocks do not add up to their shape.
    """
    attrs = dict(attrs or {})
    content = hashlib.sha256()
    with replacing(path) as temporary:
        _reserve(
            temporary,
            sum(_bytes(array) for array in arrays.values()) + METADATA * (len(arrays) + len(attrs) + 8),
        )
        # Explicit bounds: newer libraries have other defaults, and the old object headers hold no times.
        with (
            _numbered_errors(path),
            h5py.File(
                temporary,
                "w",
                libver=("earliest", "v110"),
                locking=False,
                alignment_threshold=1,
                alignment_interval=ALIGNMENT,
            ) as file,
        ):
            for name in sorted(_groups(arrays, attrs)):
                file.create_group(name)
            for name in sorted(arrays):
                _write_array(file, name, arrays[name], content)
            for name in sorted(attrs):
                _write_attrs(file[name or "/"], attrs[name], content)
            if attrs.get("", {}).get("uuid") == FROM_CONTENT:
                file.attrs.create("uuid", _as_uuid(content.digest()), dtype=h5py.string_dtype())
        return sha256(temporary)


def _bytes(array: Array | Blocks) -> int:
    return math.prod(array.shape) * np.dtype(array.dtype).itemsize + ALIGNMENT


def _reserve(path: Path, size: int) -> None:
    """Reserve disk space for a file: a disk that fills up under HDF5 may end the whole process."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from None
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _numbered_errors(path: Path) -> Iterator[None]:
    """Restore the errno of system errors: HDF5 reports a full disk in words, sometimes as a RuntimeError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        found = re.search(r"errno = (\d+)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from None


def _groups(arrays: Mapping[str, object], attrs: Mapping[str, object]) -> set[str]:
    groups: set[str] = set()
    for name in [*arrays, *(name for name in attrs if name not in arrays)]:
        parts = name.split("/") if name else []
        last = len(parts) if name in arrays else len(parts) + 1
        groups.update("/".join(parts[:stop]) for stop in range(1, last))
    return groups


def _write_array(file: h5py.File, name: str, array: Array | Blocks, content: hashlib._Hash) -> None:
    dtype = np.dtype(array.dtype)
    if dtype.kind not in "iufb":
        raise InputError("an array of an audit must hold numbers", f"{name} holds {dtype}")
    if dtype.kind == "b":
        dtype = np.dtype(np.uint8)
    dtype = dtype.newbyteorder("<")
    shape = tuple(int(length) for length in array.shape)
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)
    space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    identifier = h5py.h5d.create(file.id, name.encode(), h5py.h5t.py_create(dtype), space, layout)
    content.update(f"{name}\0{dtype.str}\0{shape}\0".encode())
    start = 0
    for block in _pieces(array):
        block = np.ascontiguousarray(block, dtype=dtype)
        if not shape:
            identifier.write(h5py.h5s.ALL, h5py.h5s.ALL, block)
        elif block.size:
            if block.shape[1:] != shape[1:] or start + len(block) > shape[0]:
                raise InputError(
                    "blocks must add up to their shape", f"{name}: {block.shape} at row {start} of {shape}"
                )
            selection = identifier.get_space()
            selection.select_hyperslab((start, *(0 for _ in shape[1:])), block.shape)
            identifier.write(h5py.h5s.create_simple(block.shape), selection, block)
            start += len(block)
        content.update(block.data.cast("B") if block.size else b"")
    if shape and start != shape[0] and 0 not in shape:
        raise InputError("blocks must add up to their shape", f"{name}: got {start} of {shape[0]} rows")


def _pieces(array: Array | Blocks) -> Iterable[Array]:
    if isinstance(array, Blocks):
        return array.produce()
    if not array.shape:
        return [array]
    row = max(1, array.nbytes // max(1, len(array)))
    step = max(1, BLOCK // row)
    return (array[start : start + step] for start in range(0, len(array), step))


def _write_attrs(
    target: h5py.Group | h5py.Dataset, values: Mapping[str, Attribute], content: hashlib._Hash
) -> None:
    for key in sorted(values):
        value = values[key]
        if isinstance(value, str):
            target.attrs.create(key, value.encode("utf-8", "surrogateescape"), dtype=h5py.string_dtype())
            content.update(f"{target.name}\0{key}\0{value}\0".encode("utf-8", "surrogateescape"))
            continue
        if (
            not isinstance(value, np.ndarray)
            and isinstance(value, Sequence)
            and value
            and isinstance(value[0], str)
        ):
            encoded = [str(item).encode("utf-8", "surrogateescape") for item in value]
            target.attrs.create(key, encoded, dtype=h5py.string_dtype())
            text = "\0".join(map(str, value))
            content.update(f"{target.name}\0{key}\0{len(value)}\0{text}\0".encode("utf-8", "surrogateescape"))
            continue
        array = np.asarray(value)
        if array.size == 0:
            array = array.astype(np.int64)
        if array.dtype.kind not in "iufb":
            raise InputError("an attribute must be text, numbers or a list of these", f"{key} is {value!r}")
        target.attrs.create(key, array)
        content.update(f"{target.name}\0{key}\0{array.dtype.str}\0{array.shape}\0".encode() + array.tobytes())


def _as_uuid(digest: bytes) -> str:
    octets = bytearray(digest[:16])
    octets[6] = octets[6] & 0x0F | 0x80  # RFC 9562, version 8: made by a rule of our own
    octets[8] = octets[8] & 0x3F | 0x80
    text = octets.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
