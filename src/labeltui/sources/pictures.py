"""Light access to single pictures, for previews and for the processes that decode.

Opening one costs a look at a few bytes at most: no tree is walked and no table parsed.
"""

from __future__ import annotations

import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from labeltui.errors import MissingImage, SourceError, UnreadableImage
from labeltui.sources.decode import decode, from_array, read_file
from labeltui.text import safe


class Pictures(ABC):
    """The pictures of a source; objects of this class can be pickled and cost little to open."""

    @staticmethod
    def open(description: Mapping[str, object], root: Path) -> Pictures:
        """Return access to the pictures of a source.

        Parameters
        ----------
        description : mapping
            What `Source.describe` returned.
        root : Path
            The source's root, which may have moved since.

        Raises
        ------
        SourceError
            The description is of a kind that this version does not know.
        """
        kind = str(description.get("pictures", "?"))
        if kind not in _OPENERS:
            raise SourceError(
                "the audit must name a kind of pictures that this version reads",
                f"it names {safe(kind)}; known are {', '.join(_OPENERS)}",
                "update labeltui",
            )
        return _OPENERS[kind](description, root)

    @abstractmethod
    def read(self, sample_id: bytes, index: int) -> bytes | npt.NDArray[np.uint8]:
        """Return one picture as stored: an encoded file's bytes, or an array of (H, W) or (H, W, C) pixels.

        Parameters
        ----------
        sample_id : bytes
            The sample's id.
        index : int
            Its position in the source.

        Raises
        ------
        MissingImage
            It is not there (any more).
        UnreadableImage
            It is there and cannot be read.
        """

    def image(self, sample_id: bytes, index: int) -> Image.Image:
        """Return one picture, RGB and upright.

        Raises
        ------
        MissingImage, UnreadableImage
        """
        data = self.read(sample_id, index)
        return decode(data) if isinstance(data, bytes) else from_array(data)


@dataclass(frozen=True)
class FilePictures(Pictures):
    """Each sample is an image file below (or, with an absolute path, outside) a directory."""

    root: Path

    def read(self, sample_id: bytes, index: int) -> bytes:
        return read_file(os.path.join(os.fsencode(self.root), sample_id))


@dataclass
class ArrayPictures(Pictures):
    """Each sample is a row of one array of images in a ``.npy`` or ``.npz`` file."""

    file: Path
    key: str | None
    array: npt.NDArray[np.uint8] | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, object]:
        return {"file": self.file, "key": self.key, "array": None}  # the other process maps the file itself

    def read(self, sample_id: bytes, index: int) -> npt.NDArray[np.uint8]:
        if self.array is None:
            try:
                self.array = cast("npt.NDArray[np.uint8]", load_array(self.file, self.key))
            except FileNotFoundError:
                raise MissingImage(f"there is no {safe(str(self.file))}") from None
            except (OSError, ValueError, KeyError) as error:
                raise UnreadableImage(f"{safe(str(self.file))} cannot be read: {safe(str(error))}") from None
        if index >= len(self.array):
            raise MissingImage(f"{safe(str(self.file))} has only {len(self.array):,} rows now")
        return np.ascontiguousarray(self.array[index])


@dataclass(frozen=True)
class NoPictures(Pictures):
    """The source holds ready embeddings only."""

    def read(self, sample_id: bytes, index: int) -> bytes:
        raise MissingImage("this data set holds embeddings and no pictures")


def load_array(file: Path, key: str | None) -> npt.NDArray[np.generic]:
    """Return an array of a ``.npy`` file, or one by name of an ``.npz`` file; memory-mapped unless it is
    compressed.

    Raises
    ------
    OSError, ValueError, KeyError
        The file cannot be read, holds Python objects or damaged data, or has no such array.
    """
    if key is None:
        loaded: npt.NDArray[np.generic] = np.load(file, mmap_mode="r", allow_pickle=False)
        return loaded
    mapped = _map_member(file, f"{key}.npy")
    if mapped is not None:
        return mapped
    with np.load(file, allow_pickle=False) as archive:
        member: npt.NDArray[np.generic] = archive[key]
        return member


def _map_member(file: Path, name: str) -> npt.NDArray[np.generic] | None:
    """Return an uncompressed member of a zip archive as a memory map, None when that cannot be done."""
    try:
        with zipfile.ZipFile(file) as archive:
            info = archive.getinfo(name)
            if info.compress_type != zipfile.ZIP_STORED:
                return None
            with archive.open(info) as member:
                version = np.lib.format.read_magic(member)
                reader = _HEADERS.get(version)
                if reader is None:
                    return None
                shape, fortran, dtype = reader(member)
                header = member.tell()
        if dtype.hasobject or 0 in shape:
            return None
        with open(file, "rb") as raw:
            # The local file header is 30 bytes, then the name and the extra field, whose length may differ
            # from the one in the central directory.
            raw.seek(info.header_offset + 26)
            lengths = raw.read(4)
        start = info.header_offset + 30 + int.from_bytes(lengths[:2], "little")
        start += int.from_bytes(lengths[2:], "little") + header
        if start + int(np.prod(shape)) * dtype.itemsize > os.path.getsize(file):
            raise ValueError("the file is truncated")
        return np.memmap(file, dtype, "r", start, shape, "F" if fortran else "C")
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from None


_HEADERS: dict[tuple[int, int], Callable[..., tuple[tuple[int, ...], bool, np.dtype[np.generic]]]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def _open_array(description: Mapping[str, object], root: Path) -> Pictures:
    file, key = description.get("file"), description.get("images")
    if not isinstance(file, str):
        raise SourceError("a description of arrays names their file", "it names none", "scan the data again")
    return ArrayPictures(root / file, None if key is None else str(key))


_OPENERS: dict[str, Callable[[Mapping[str, object], Path], Pictures]] = {
    "files": lambda description, root: FilePictures(root),
    "array": _open_array,
    "none": lambda description, root: NoPictures(),
}
