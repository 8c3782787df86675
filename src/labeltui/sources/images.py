"""Light access to single images, for previews and for the processes that decode.

Opening one costs a look at a few bytes at most: no tree is walked and no table parsed.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from labeltui.errors import ChangedImage, MissingImage, SourceError, UnreadableImage
from labeltui.io import files
from labeltui.sources.copies import local_copy
from labeltui.sources.decode import Levels, decode, from_array, pixel_hash, read_file
from labeltui.text import safe

_Value = TypeVar("_Value", bound=np.generic)


class Images(ABC):
    """The images of a source; objects of this class can be pickled and cost little to open.

    Attributes
    ----------
    encoded : bool
        Whether `read` gives encoded files, which can crash a decoder, and not pixels.
    levels : (int, int), optional
        The 16-bit grey levels of encoded files that become black and white, see `labeltui.sources.levels`.
    """

    encoded = True
    levels: Levels | None = None

    @classmethod
    def opened(cls, description: Mapping[str, object], root: Path) -> Images:
        """Return the images of a source that `Source.describe` described.

        Parameters
        ----------
        description : mapping
        root : Path
            The source's root.

        Raises
        ------
        SourceError
            The description is not one of such images below `root`.
        """
        raise NotImplementedError

    @abstractmethod
    def read(self, sample_id: bytes, index: int) -> bytes | npt.NDArray[np.uint8]:
        """Return one image as stored: an encoded file's bytes, or an array of (H, W) or (H, W, C) pixels.

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
        """Return one image, RGB and upright.

        Parameters
        ----------
        sample_id : bytes
        index : int
            Position of the sample.

        Returns
        -------
        PIL.Image.Image

        Raises
        ------
        MissingImage, UnreadableImage
        """
        return self.decode(self.read(sample_id, index))

    def decode(self, data: bytes | npt.NDArray[np.uint8]) -> Image.Image:
        """Return what `read` returned as an image, RGB and upright.

        Raises
        ------
        UnreadableImage
        """
        return decode(data, self.levels) if isinstance(data, bytes) else from_array(data)

    def scanned(self, data: bytes | npt.NDArray[np.uint8], index: int) -> bytes | None:
        """Return the bytes that the scan recorded the SHA-256 of; None where it recorded none.

        Parameters
        ----------
        data : bytes or array
            What `read` returned.
        index : int
            Position of the sample in the source.
        """
        return data if isinstance(data, bytes) else data.tobytes()


@dataclass(frozen=True)
class FileImages(Images):
    """Each sample is an image file below (or, with an absolute path, outside) a directory.

    With ready embeddings the scan never read the files, and nothing is known of what they held. `levels` are the
    16-bit grey levels that become black and white, see `labeltui.sources.levels`.
    """

    root: Path
    embedded: bool = False
    levels: Levels | None = None

    @classmethod
    def opened(cls, description: Mapping[str, object], root: Path) -> FileImages:
        """See `Images.opened`."""
        return cls(root, description.get("embeddings") is not None, described_levels(description))

    def read(self, sample_id: bytes, index: int) -> bytes:
        return read_file(os.path.join(os.fsencode(self.root), sample_id))

    def exists(self, sample_id: bytes) -> bool:
        """Return whether there is a file, readable or not.

        Parameters
        ----------
        sample_id : bytes
        """
        return os.path.lexists(os.path.join(os.fsencode(self.root), sample_id))

    def scanned(self, data: bytes | npt.NDArray[np.uint8], index: int) -> bytes | None:
        return None if self.embedded else super().scanned(data, index)


@dataclass
class ArrayImages(Images):
    """Each sample is a row of one array of images in a ``.npy`` or ``.npz`` file.

    Where the file brings ready embeddings under the name `embeddings`, the scan recorded the SHA-256 of their rows.
    """

    file: Path
    key: str | None
    array: npt.NDArray[np.uint8] | None = field(default=None, repr=False)
    embeddings: str | None = None
    rows: npt.NDArray[np.generic] | None = field(default=None, repr=False)
    encoded = False

    @classmethod
    def opened(cls, description: Mapping[str, object], root: Path) -> ArrayImages:
        """See `Images.opened`."""
        file, key = description.get("file"), description.get("array_key")
        if not isinstance(file, str):
            raise SourceError(
                "a description of arrays names their file", "it names none", "scan the data again"
            )
        embeddings = description.get("embeddings")
        return cls(
            root / file,
            None if key is None else str(key),
            embeddings=None if embeddings is None else str(embeddings),
        )

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "array": None, "rows": None}  # the other process maps the file itself

    def read(self, sample_id: bytes, index: int) -> npt.NDArray[np.uint8]:
        if self.array is None:
            self.array = cast("npt.NDArray[np.uint8]", self._load(self.key))
        return np.ascontiguousarray(self._row(self.array, index))

    def scanned(self, data: bytes | npt.NDArray[np.uint8], index: int) -> bytes | None:
        if self.embeddings is None:
            return super().scanned(data, index)
        if self.rows is None:
            self.rows = self._load(self.embeddings)
        return self._row(self.rows, index).tobytes()

    def _load(self, key: str | None) -> npt.NDArray[np.generic]:
        try:
            return load_array(local_copy(self.file), key)
        except FileNotFoundError:
            raise MissingImage(f"there is no {safe(str(self.file))}") from None
        except (OSError, ValueError, KeyError) as error:
            raise UnreadableImage(f"{safe(str(self.file))} cannot be read: {safe(str(error))}") from None

    def _row(self, array: npt.NDArray[_Value], index: int) -> npt.NDArray[_Value]:
        if index >= len(array):
            raise MissingImage(f"{safe(str(self.file))} has only {len(array):,} rows now")
        row: npt.NDArray[_Value] = array[index]
        return row


@dataclass(frozen=True)
class NoImages(Images):
    """The source holds ready embeddings only."""

    def read(self, sample_id: bytes, index: int) -> bytes:
        raise MissingImage("this data set holds embeddings and no images")


@dataclass(frozen=True)
class ScannedImages(Images):
    """The images of a source as long as they are those of the scan.

    A file that holds the same pixels in other bytes (stripped of its metadata, for example) is the same image.

    Parameters
    ----------
    source : Images
    sha256 : (N, 32) uint8
        Of the stored bytes at the scan.
    pixels : (N, 32) uint8
        `labeltui.sources.decode.pixel_hash` at the scan.
    """

    source: Images
    sha256: npt.NDArray[np.uint8] = field(repr=False)
    pixels: npt.NDArray[np.uint8] = field(repr=False)

    def read(self, sample_id: bytes, index: int) -> bytes | npt.NDArray[np.uint8]:
        return self._checked(sample_id, index)[0]

    def image(self, sample_id: bytes, index: int) -> Image.Image:
        """Return one image, RGB and upright.

        Parameters
        ----------
        sample_id : bytes
        index : int
            Position of the sample.

        Returns
        -------
        PIL.Image.Image

        Raises
        ------
        MissingImage, UnreadableImage
        ChangedImage
            It is another one than at the scan.
        """
        data, image = self._checked(sample_id, index)
        return self.source.decode(data) if image is None else image

    def decode(self, data: bytes | npt.NDArray[np.uint8]) -> Image.Image:
        return self.source.decode(data)

    def _checked(
        self, sample_id: bytes, index: int
    ) -> tuple[bytes | npt.NDArray[np.uint8], Image.Image | None]:
        """Return the stored image, and the decoded one where it had to be decoded to know it."""
        data = self.source.read(sample_id, index)
        stored = self.source.scanned(data, index)
        if stored is None or hashlib.sha256(stored).digest() == self.sha256[index].tobytes():
            return data, None
        image = self.source.decode(data)
        if pixel_hash(image) == self.pixels[index].tobytes():
            return data, image
        raise ChangedImage("the image has changed since the scan", safe(sample_id), "scan the data again")


def described_levels(description: Mapping[str, object]) -> Levels | None:
    """Return the grey levels of a description.

    Parameters
    ----------
    description : mapping

    Raises
    ------
    SourceError
        They are not two numbers.
    """
    levels = description.get("levels")
    if levels is None:
        return None
    if isinstance(levels, Sequence) and len(levels) == 2:
        black, white = levels
        if isinstance(black, int) and isinstance(white, int) and 0 <= black < white:
            return black, white
    raise SourceError("grey levels are two numbers", f"got {safe(str(levels))}", "scan the data again")


def is_below(name: str) -> bool:
    """Return whether a name from a file leads to a place below a directory, and can be one of a file.

    Parameters
    ----------
    name : str
    """
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return False
    return "\0" not in name and not Path(name).is_absolute() and ".." not in Path(name).parts


def described_files(description: Mapping[str, object], root: Path) -> tuple[Path, ...]:
    """Return the files that a description names, all below the root.

    Parameters
    ----------
    description : mapping
    root : Path

    Raises
    ------
    SourceError
        It names none, or one elsewhere.
    """
    names = description.get("files")
    good = (
        isinstance(names, list | tuple)
        and names
        and all(isinstance(each, str) and is_below(each) for each in names)
    )
    if not good:
        raise SourceError(
            "a description names the files of the data, below its root", "this one does not", "scan again"
        )
    assert isinstance(names, list | tuple)
    return tuple(root / name for name in names)


def load_array(file: Path, key: str | None) -> npt.NDArray[np.generic]:
    """Return an array of a ``.npy`` or ``.npz`` file, memory-mapped unless it is compressed.

    Parameters
    ----------
    file : Path
    key : str or None
        Name of the array in an ``.npz`` file; None for a ``.npy`` file.

    Returns
    -------
    ndarray

    Raises
    ------
    OSError, ValueError, KeyError
        The file cannot be read, holds Python objects or damaged data, or has no such array.
    """
    files.require_regular(file)
    if key is None:
        loaded: npt.NDArray[np.generic] = np.load(file, mmap_mode="r", allow_pickle=False)
        return loaded
    mapped = _map_member(file, f"{key}.npy")
    if mapped is not None:
        return mapped
    with np.load(file, allow_pickle=False) as archive:
        member: npt.NDArray[np.generic] = archive[key]
        return member


def release_pages(array: npt.NDArray[np.generic]) -> None:
    """Give the memory of a mapped array back to the system; what is read again comes from the file.

    Parameters
    ----------
    array : ndarray
        Nothing happens to one that is not memory-mapped, or can be written.
    """
    owner: object = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap) and not array.flags.writeable and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


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
