"""Images inside zip and tar archives, read by random access.

Where the members lie is looked up in an index: arrays in one file of the user's cache directory, made by whoever needs
them first and memory-mapped by every other process (the review, the processes that decode). It is named after the
archives' paths, sizes and times of change, so that changed archives get another one; nothing is lost when it is
deleted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from labeltui import paths
from labeltui.errors import MissingImage, SourceError, UnreadableImage
from labeltui.io.atomic import replacing
from labeltui.io.names import Names, pack_names
from labeltui.sources.archives import Listing, list_members, read_member
from labeltui.sources.decode import Levels
from labeltui.sources.images import Images, described_files, described_levels, load_array
from labeltui.sources.places import stamp
from labeltui.text import safe

INDEXES = 64  # files kept in the cache
VERSION = 1  # of the index
COLUMNS = ("archive", "start", "packed", "size", "method", "crc")


@dataclass(frozen=True)
class Index:
    """Where the members of several archives lie.

    Attributes
    ----------
    names : Names
        n ids: names of members, after the archive's name and a slash where there are several archives; sorted.
    places : (n, 6) int64
        `COLUMNS`: position of the archive, and as in `labeltui.sources.archives.Listing`.
    """

    names: Names
    places: npt.NDArray[np.int64]

    def find(self, sample_id: bytes, index: int) -> list[int] | None:
        """Return the place of a member.

        Parameters
        ----------
        sample_id : bytes
        index : int
            Where its name likely is.

        Returns
        -------
        list of int or None
            `COLUMNS`; None where there is no such member.
        """
        if not (index < len(self.names) and self.names[index] == sample_id):
            try:
                index = self.names.index(sample_id)
            except ValueError:
                return None
        place: list[int] = self.places[index].tolist()
        return place


@dataclass
class ArchiveImages(Images):
    """Each sample is a member of an archive.

    Attributes
    ----------
    files : tuple of Path
        The archives.
    levels : (int, int), optional
        See `labeltui.sources.levels`.
    """

    files: tuple[Path, ...]
    levels: Levels | None = None
    _index: Index | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_index": None}  # the other process maps it itself

    @classmethod
    def opened(cls, description: Mapping[str, object], root: Path) -> ArchiveImages:
        """See `Images.opened`."""
        return cls(described_files(description, root), described_levels(description))

    def read(self, sample_id: bytes, index: int) -> bytes:
        if self._index is None:
            self._index = self._open()
        place = self._index.find(sample_id, index)
        if place is None:
            raise MissingImage("the archive has no such member")
        archive, *member = place
        try:
            return read_member(self.files[archive], *member)
        except FileNotFoundError:
            raise _missing(self.files[archive]) from None

    def _open(self) -> Index:
        try:
            return open_index(self.files)
        except FileNotFoundError as error:
            raise _missing(error.filename) from None
        except SourceError as error:
            raise UnreadableImage(error.message, error.got, error.hint) from None
        except OSError as error:
            raise UnreadableImage(f"the archives cannot be read: {error.strerror or error}") from None


def _missing(path: object) -> MissingImage:
    return MissingImage(f"there is no {safe(str(path))}")


def member_ids(archives: Sequence[Path], number: int, names: Sequence[bytes]) -> list[bytes]:
    """Return the ids of the members of one of several archives.

    Parameters
    ----------
    archives : sequence of Path
    number : int
        Position of the archive.
    names : sequence of bytes
        Of its members.
    """
    if len(archives) == 1:
        return list(names)
    prefix = os.fsencode(archives[number].name) + b"/"
    return [prefix + name for name in names]


def open_index(archives: Sequence[Path]) -> Index:
    """Return the index of archives, from the cache or made anew.

    Parameters
    ----------
    archives : sequence of Path

    Raises
    ------
    SourceError
        An archive is damaged.
    OSError
        It cannot be opened.
    """
    file = index_file(archives)
    with suppress(Exception):  # a damaged index makes the parsers raise anything, and is made again
        index = _load(file, len(archives))
        os.utime(file)  # used: the others are deleted first
        return index
    return save_index(archives, [list_members(each) for each in archives], file)


def save_index(archives: Sequence[Path], listings: Sequence[Listing], file: Path) -> Index:
    """Keep the index of archives for all processes, as far as the cache can be written.

    Of members with one name the last counts, as when unpacking.

    Parameters
    ----------
    archives : sequence of Path
    listings : sequence of Listing
    file : Path
        From `index_file`, asked for before the archives were listed.

    Returns
    -------
    Index
    """
    last: dict[bytes, tuple[int, int]] = {}
    for number, listing in enumerate(listings):
        ids = member_ids(archives, number, listing.names)
        last |= {name: (number, row) for row, name in enumerate(ids)}
    names = sorted(last)
    columns = [
        np.stack([np.frombuffer(getattr(each, name), np.int64) for name in COLUMNS[1:]], axis=1)
        for each in listings
    ]
    places = np.empty((len(names), len(COLUMNS)), np.int64)
    for row, name in enumerate(names):
        number, member = last[name]
        places[row, 0] = number
        places[row, 1:] = columns[number][member]
    arrays: dict[str, Any] = {**pack_names("names", names), "places": places}
    with suppress(OSError):
        file.parent.mkdir(0o700, parents=True, exist_ok=True)
        with replacing(file) as hidden, open(hidden, "wb") as opened:
            np.savez(opened, **arrays)
        _clean(file.parent)
        return _load(file, len(archives))
    return Index(Names(arrays["names"], arrays["names_offsets"]), places)


def index_file(archives: Sequence[Path]) -> Path:
    """Return where the index of archives is kept, as they are now.

    Raises
    ------
    OSError
        One is missing or cannot be reached.
    """
    digest = hashlib.sha256(b"%d" % VERSION)
    for path in archives:
        digest.update(b"\0" + stamp(path))
    return paths.cache_dir() / "archives" / f"{digest.hexdigest()}.npz"


def _load(file: Path, archives: int) -> Index:
    places = load_array(file, "places")
    if places.dtype != np.int64 or places.ndim != 2 or places.shape[1] != len(COLUMNS):
        raise ValueError("no index")
    names = Names(load_array(file, "names"), load_array(file, "names_offsets"))
    if len(names) != len(places) or (np.diff(names.offsets) < 0).any():
        raise ValueError("no index")
    if len(places) and not 0 <= places[:, 0].min() <= places[:, 0].max() < archives:
        raise ValueError("no index")
    return Index(names, cast("npt.NDArray[np.int64]", places))


def _clean(directory: Path) -> None:
    """Delete what was not used for longest."""
    found = sorted(directory.glob("*.npz"), key=lambda each: each.stat().st_mtime, reverse=True)
    for each in found[INDEXES:]:
        each.unlink(missing_ok=True)
