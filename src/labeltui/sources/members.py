"""Which members of archives are samples, and of which class.

Two layouts are known. In WebDataset's, a sample is the members of one archive that have a key in common (all before the
first dot of the file's name): an image, and its label in ``KEY.cls`` (text) or in a field of ``KEY.json``. Otherwise
the archives hold a tree of images, whose directories are the classes, as of `labeltui.sources.folder`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from labeltui.errors import SourceError
from labeltui.sources.base import listed
from labeltui.sources.folder import EXTENSIONS, FOREIGN
from labeltui.sources.splits import find_splits
from labeltui.text import safe, unescape

LABEL = "cls"
LABEL_BYTES = 1 << 16
JSON_BYTES = 1 << 20
OUTSIDE = (b"", b".", b"..")


@dataclass
class Chosen:
    """The samples among the members.

    Attributes
    ----------
    ids : list of bytes
        n ids, sorted.
    labels : list of bytes or None
    splits : list of str, optional
    notes : list of str
    """

    ids: list[bytes]
    labels: list[bytes | None]
    splits: list[str] | None = None
    notes: list[str] = field(default_factory=list)


def split_key(name: bytes) -> tuple[bytes, bytes]:
    """Return key and extension of a member: the path up to the first dot of the file's name, and what follows.

    >>> split_key(b"train/0001.seg.png")
    (b'train/0001', b'seg.png')
    """
    directory, slash, file = name.rpartition(b"/")
    stem, _, extension = file.partition(b".")
    return directory + slash + stem, extension.lower()


def is_image(name: bytes) -> bool:
    """Return whether a member has an image's extension, and no name that is always left out."""
    parts = [part for part in name.split(b"/") if part not in OUTSIDE]
    if not parts or any(part.startswith(b".") or part.lower() in FOREIGN for part in parts):
        return False
    return parts[-1].rpartition(b".")[2].lower() in EXTENSIONS and b"." in parts[-1]


class SideLabels:
    """Labels in members beside the images.

    Parameters
    ----------
    column : str
        ``--label-column``: an extension that labels have beside ``cls``, and the field of JSON.
    """

    def __init__(self, column: str) -> None:
        self.column = column
        self.by_key: dict[bytes, bytes | None] = {}
        self.without: list[str] = []  # fields of the first JSON without the label's

    def holds(self, name: bytes) -> bool:
        """Return whether a member may hold a label."""
        extension = split_key(name)[1]
        return extension in (LABEL.encode(), b"json", self.column.lower().encode("utf-8", "surrogateescape"))

    def take(self, sample_id: bytes, data: bytes) -> None:
        """Read the label in a member.

        Parameters
        ----------
        sample_id : bytes
            The member's id.
        data : bytes

        Raises
        ------
        SourceError
            It is no label.
        """
        key, extension = split_key(sample_id)
        if extension != b"json":
            if len(data) > LABEL_BYTES:
                raise _unclear(sample_id, f"{len(data):,} bytes")
            self.by_key[key] = data.strip() or None
            return
        if self.by_key.get(key) is not None:
            return
        try:
            value = json.loads(data[: JSON_BYTES + 1])
        except (ValueError, RecursionError):
            raise _unclear(sample_id, "no JSON, or too much of it") from None
        label = value.get(self.column) if isinstance(value, dict) else None
        if label is None:
            self.without = self.without or [str(each) for each in value] if isinstance(value, dict) else []
            self.by_key.setdefault(key, None)
        elif isinstance(label, str | int) and not isinstance(label, bool):
            self.by_key[key] = unescape(str(label)) or None
        else:
            raise _unclear(sample_id, f"{safe(str(label), 60)} in its field {safe(self.column)}")


def _unclear(sample_id: bytes, got: str) -> SourceError:
    return SourceError("a label is a text or a whole number", f"{safe(sample_id)} has {got}")


def choose(
    images: Sequence[bytes], sides: SideLabels, wanted: bool | None, archives: Mapping[bytes, str]
) -> Chosen:
    """Return the samples among the images of archives.

    Parameters
    ----------
    images : sequence of bytes
        Ids.
    sides : SideLabels
    wanted : bool, optional
        ``--split-level``, for trees.
    archives : mapping of bytes to str
        What ids start with, to the split that the archive's name states ("" = none).

    Raises
    ------
    SourceError
        There is no sample, or what is a class is not clear.
    """
    if not images:
        raise SourceError("archives hold images", "these hold none with a known extension")
    chosen = _keyed(images, sides) if sides.by_key else _tree(images, wanted, archives)
    if chosen.splits is None and archives and all(archives.values()):
        chosen.splits = [archives[_archive(name)] for name in chosen.ids]
        chosen.notes.insert(0, f"splits from the names of archives: {listed(sorted(set(chosen.splits)))}")
    return chosen


def _archive(sample_id: bytes) -> bytes:
    return sample_id[: sample_id.index(b"/") + 1]


def _keyed(images: Sequence[bytes], sides: SideLabels) -> Chosen:
    groups: dict[bytes, list[bytes]] = {}
    for name in images:
        groups.setdefault(split_key(name)[0], []).append(name)
    of = {
        min(names, key=lambda name: (split_key(name)[1].count(b"."), name)): key
        for key, names in groups.items()
    }
    ids = sorted(of)
    labels = [sides.by_key.get(of[name]) for name in ids]
    if sides.without and not any(labels):
        raise SourceError(
            f"the label is the field {safe(sides.column)} of a sample's JSON",
            f"its fields are {listed(sides.without)}",
            "name the field with --label-column",
        )
    notes = []
    if more := sum(len(names) > 1 for names in groups.values()):
        notes.append(
            f"{more:,} samples have several images: the one with the shortest extension, then by name, counts"
        )
    if alone := len(sides.by_key.keys() - groups.keys()):
        notes.append(f"{alone:,} labels without an image were left out")
    return Chosen(ids, labels, None, notes)


def _tree(images: Sequence[bytes], wanted: bool | None, archives: Mapping[bytes, str]) -> Chosen:
    cut = 1 if archives else 0
    parts = {
        name: [part for part in name.split(b"/")[cut:] if part not in OUTSIDE] for name in sorted(images)
    }
    notes = []
    top, depth = {each[0] for each in parts.values()}, 0
    while len(top) == 1 and len({each[depth + 1] for each in parts.values() if len(each) > depth + 2}) > 1:
        if any(len(each) == depth + 2 for each in parts.values()):
            break  # it holds images itself: a class
        depth += 1
        top = {each[depth] for each in parts.values()}
    if depth:
        notes.append(f"{listed([next(iter(parts.values()))[depth - 1]])} is taken as the root of the tree")
    inside = {name: each[depth:] for name, each in parts.items() if len(each) > depth + 1}
    if not inside:
        raise SourceError(
            "images in an archive lie in directories that are their classes, or have labels beside them",
            f"{len(images):,} images lie in none, and there are no .cls or .json members",
            "sort the images into class directories, or put KEY.cls beside KEY.jpg",
        )
    if outside := len(parts) - len(inside):
        notes.append(f"{outside:,} images beside the class directories were left out")
    below: dict[bytes, list[bytes]] = {}
    for each in inside.values():
        directories = below.setdefault(each[0], [])
        if len(each) > 2 and each[1] not in directories:
            directories.append(each[1])
    splits, more = find_splits(below, wanted)
    level = 1 if splits else 0
    kept = {
        name: each for name, each in inside.items() if not splits or (each[0] in splits and len(each) > 2)
    }
    ids = list(kept)
    return Chosen(
        ids,
        [kept[name][level] for name in ids],
        [kept[name][0].decode("utf-8", "surrogateescape") for name in ids] if splits else None,
        notes + more,
    )
