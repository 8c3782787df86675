"""Zip and tar archives of images: one, several, or a directory of them (WebDataset's shards, or trees of classes)."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labeltui.errors import SourceError
from labeltui.paths import as_url
from labeltui.sources.archive_images import ArchiveImages, index_file, member_ids, save_index
from labeltui.sources.archives import is_archive, list_members
from labeltui.sources.base import Samples, SourceOptions, check_labels, faults, listed
from labeltui.sources.images import Images
from labeltui.sources.members import SideLabels, choose, is_image
from labeltui.sources.places import matching
from labeltui.sources.probabilities import read_probabilities
from labeltui.sources.splits import SPLIT
from labeltui.text import safe

PATTERN = re.compile(r"[*?\[]")
NUMBERED = re.compile(
    r"(?P<what>.+?)[-_.]?\d+(-of-\d+)?\.\w+"
)  # train-0001.tar, imagenet_val-00003-of-00064.tar


@dataclass(eq=False)
class Shards(Samples):
    """Members of archives; made by `open_shards`."""

    kind: str = "archive"
    description: dict[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, object]:
        return {**self.description, "levels": self.levels}

    def images(self) -> Images:
        return ArchiveImages.opened(self.describe(), self.root)


def archive_files(path: Path, names: tuple[str, ...] | None = None) -> list[Path]:
    """Return the archives of a path: itself, those named in the directory, or all in it if it holds little else.

    Parameters
    ----------
    path : Path
        A file or a directory.
    names : tuple of str, optional
        Of files in the directory.
    """
    if names is not None:
        return [path / name for name in names]
    if not path.is_dir():
        return [path] if is_archive(path) else []
    with os.scandir(path) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
        if any(entry.is_dir() for entry in visible):
            return []  # a tree, whatever archives lie in it
    return sorted(path / entry.name for entry in visible if is_archive(Path(entry.name)))


def open_shards(path: Path, options: SourceOptions) -> Shards:
    """Read the archives of a data set.

    Ids are the members' names, after the archive's name and a slash where there are several archives. Labels stand
    beside the images or are their directories, see `labeltui.sources.members`.

    Parameters
    ----------
    path : Path
        An archive, or a directory of archives.
    options : SourceOptions

    Returns
    -------
    Shards

    Raises
    ------
    SourceError
        An archive is damaged, or holds no labelled images.
    """
    archives = archive_files(path, options.shards)
    root = path if options.shards is not None or path.is_dir() else path.parent
    sides = SideLabels(options.label_column)
    listings, found, notes = [], [], []
    unclear: list[str] = []
    images: set[bytes] = set()
    left_out: Counter[str] = Counter()
    file = index_file(archives)  # as they are before they are read
    for number, archive in enumerate(archives):

        def look(name: bytes, read: Callable[[], bytes], number: int = number) -> None:
            if sides.holds(name):
                try:
                    sides.take(member_ids(archives, number, [name])[0], read())
                except SourceError as error:
                    unclear.append(error.got)

        try:
            listing = list_members(archive, look)
        except SourceError as error:
            found.append(f"{error.got} ({error.message})")
            continue
        listings.append(listing)
        ids = member_ids(archives, number, [name for name in listing.names if is_image(name)])
        left_out["members that a later one of the same name replaces"] += len(ids) - len(set(ids))
        left_out.update(listing.left_out)
        images.update(ids)
        if not listing.ended:
            notes.append(
                f"{safe(archive.name)} has no mark at its end: it may be cut off between two members"
            )
        if listing.behind:
            notes.append(f"{listing.behind:,} bytes behind the end of {safe(archive.name)} were left out")
    if found:
        raise faults(
            "archives must be whole and readable", found, "copy or make these again, or leave them out"
        )
    if unclear:
        raise faults(
            "a label is a text or a whole number",
            unclear,
            "correct them, or name another field: --label-column",
        )
    save_index(archives, listings, file)
    prefixes = {}
    if len(archives) > 1:
        prefixes = {os.fsencode(each.name) + b"/": _split(each.name) for each in archives}
    chosen = choose(sorted(images), sides, options.split_level, prefixes)
    notes += chosen.notes
    if +left_out:
        kinds = ", ".join(f"{kind} ({count:,})" for kind, count in (+left_out).most_common())
        notes.append(f"left out of the archives: {kinds}")
    notes += check_labels(chosen.labels, safe(path.name))
    description: dict[str, Any] = {
        "kind": "archive",
        "image_store": "archive",
        "files": [each.name for each in archives],
        "label_column": options.label_column,
        "split_level": options.split_level,
    }
    if root == path:
        description["shards"] = [each.name for each in archives]
    else:
        description["file"] = path.name
    source = Shards(
        root=root,
        ids=chosen.ids,
        labels=chosen.labels,
        splits=chosen.splits,
        notes=notes,
        description=description,
    )
    source.find_levels()
    if options.pred_probs is not None:
        probabilities = read_probabilities(options.pred_probs, options, chosen.ids, notes)
        source.pred_probs, source.pred_probs_classes = probabilities
    return source


def _split(name: str) -> str:
    """Return the split that an archive's name states, "" where it states none."""
    matched = NUMBERED.fullmatch(name)
    what = (matched["what"] if matched else name.rpartition(".")[0]).encode("utf-8", "surrogateescape")
    for part in (what, *re.split(rb"[-_.]", what)):
        if SPLIT.fullmatch(part):
            return part.decode()
    return ""


def gather(given: tuple[Path, ...]) -> tuple[Path, tuple[str, ...] | None]:
    """Return several archives as their directory and their names; a single path as it is.

    Parameters
    ----------
    given : tuple of Path
        What stands on the command line.

    Raises
    ------
    SourceError
        They are not archives of one directory, or one is named twice.
    """
    patterns = {each for each in given if as_url(each) is not None and PATTERN.search(str(each))}
    try:
        given = tuple(found for each in given for found in (matching(each) if each in patterns else [each]))
    except OSError as error:
        raise SourceError("the URLs must be reachable", safe(error.strerror or str(error), 300)) from None
    if not given:
        raise SourceError("the pattern must match files", f"{listed(map(str, patterns))} matches none")
    if len(given) == 1:
        return given[0], None
    directories = {(each if as_url(each) else Path(os.path.abspath(each))).parent for each in given}
    names = tuple(sorted(each.name for each in given))
    wrong = [str(each) for each in given if not is_archive(each)]
    if wrong or len(directories) != 1 or len(set(names)) != len(names):
        raise SourceError(
            "several sources are different .zip or .tar archives in one directory",
            f"got {listed(wrong)}" if wrong else f"they lie in {listed(map(str, sorted(directories)), 3)}",
            "scan each by itself, or move them together",
        )
    return directories.pop(), names
