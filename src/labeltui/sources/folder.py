"""An ImageFolder tree: one directory a class, optionally below one directory a split."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from labeltui.errors import SourceError
from labeltui.sources.base import SHOWN, Samples, SourceOptions, check_labels, listed
from labeltui.sources.images import FileImages, Images
from labeltui.sources.probabilities import read_probabilities
from labeltui.sources.splits import find_splits
from labeltui.text import safe

EXTENSIONS = frozenset(
    b"jpg jpeg jpe jfif png bmp dib gif webp tif tiff ppm pgm pbm pnm avif jp2 j2k tga".split()
)
# What operating systems and file servers put beside images: resource forks, thumbnails, wastebaskets.
FOREIGN = frozenset(
    b"__macosx|@eadir|#recycle|@recycle|@tmp|#snapshot|$recycle.bin|lost+found|system volume information".split(
        b"|"
    )
)


@dataclass(eq=False)
class Folder(Samples):
    """A tree of image files; made by `open_folder`."""

    kind: str = "folder"
    split_level: bool = False

    def describe(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            "image_store": "files",
            "split_level": self.split_level,
            "levels": self.levels,
        }

    def images(self) -> Images:
        return FileImages(self.root, levels=self.levels)


def open_folder(path: Path, options: SourceOptions) -> Folder:
    """Read an ImageFolder tree.

    Samples are the files with an extension in `EXTENSIONS`, at any depth below a class's directory, in the
    order of their paths' bytes. Names that start with a dot and directories in `FOREIGN` are ignored. Symbolic
    links are followed; a directory that is met again below the same class, as in a loop, is not.

    Parameters
    ----------
    path : Path
        Root of the tree.
    options : SourceOptions

    Returns
    -------
    Folder

    Raises
    ------
    SourceError
        The tree holds no class directory or no image, or does not match `options.split_level`.
    """
    root = os.fsencode(path)
    walk = _Walk(root)
    tops, files = walk.entries(b"")
    if not tops:
        images = sum(_extension(name) in EXTENSIONS for name in files)
        raise SourceError(
            "an image tree holds one directory for each class",
            f"{safe(root)} holds {images:,} images and no directory" if images else f"{safe(root)} is empty",
            "sort the images into class directories, or list them with their labels in a table",
        )
    splits, notes = find_splits({top: walk.entries(top)[0] for top in tops}, options.split_level)
    walk.beside(files)
    if splits:
        classes = []
        for top in splits:
            below, files = walk.entries(top)
            walk.beside(files)
            classes += [(os.fsdecode(top), name, os.path.join(top, name)) for name in below]
    else:
        classes = [("", name, name) for name in tops]

    samples: list[tuple[bytes, bytes, str]] = []
    empty: list[bytes] = []
    for split, name, directory in classes:
        found = walk.images(directory)
        samples += [(sample, name, split) for sample in found]
        if not found:
            empty.append(directory)
    if not samples:
        raise SourceError(
            "an image tree holds images",
            f"{safe(root)} has {len(classes)} class directories and no file with an image's extension",
            f"known extensions: {', '.join(sorted(name.decode() for name in EXTENSIONS))}",
        )
    samples.sort()
    if empty:
        notes.append(f"directories without an image, which make no class: {listed(empty)}")
    notes += walk.notes
    ids = [sample for sample, _, _ in samples]
    labels = [name for _, name, _ in samples]
    notes += check_labels(labels, safe(root))
    if len(classes) == 1 and len(below := walk.entries(classes[0][2])[0]) > 1:
        notes.append(
            f"the only class directory holds {len(below)} directories ({listed(below, 5)}); "
            f"if those are the classes, give {safe(os.path.join(root, classes[0][2]))}"
        )
    source = Folder(
        root=path,
        ids=ids,
        labels=labels,
        splits=[split for _, _, split in samples] if splits else None,
        notes=notes,
        split_level=bool(splits),
    )
    source.find_levels()
    if options.pred_probs is not None:
        probabilities = read_probabilities(options.pred_probs, options, ids, notes)
        source.pred_probs, source.pred_probs_classes = probabilities
    return source


@dataclass
class _Walk:
    """Listing directories, and keeping account of what is left out."""

    root: bytes
    others: Counter[str] = field(default_factory=Counter)
    foreign: Counter[str] = field(default_factory=Counter)
    outside: int = 0
    again: list[bytes] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    known: dict[bytes, tuple[list[bytes], list[bytes]]] = field(default_factory=dict)

    def entries(self, relative: bytes) -> tuple[list[bytes], list[bytes]]:
        """Return the names of the directories and of the other entries in a directory, each sorted."""
        if relative in self.known:
            return self.known[relative]
        directories: list[bytes] = []
        files: list[bytes] = []
        try:
            with os.scandir(os.path.join(self.root, relative)) as entries:
                for entry in entries:
                    if entry.name.lower() in FOREIGN:
                        self.foreign[safe(entry.name)] += 1
                    elif not entry.name.startswith(b"."):
                        (directories if _is_directory(entry) else files).append(entry.name)
        except OSError as error:
            if not relative:
                raise SourceError(
                    "the directory must be readable",
                    f"{safe(self.root)}: {error.strerror}",
                    "check its permissions",
                ) from None
            self.closed.append(f"{safe(relative)} ({error.strerror})")
        listing = sorted(directories), sorted(files)
        if relative.count(b"/") <= 1:  # the upper levels are asked for again
            self.known[relative] = listing
        return listing

    def images(self, directory: bytes) -> list[bytes]:
        """Return the image files at any depth below a class's directory."""
        found: list[bytes] = []
        seen: set[tuple[int, int]] = set()
        stack = [directory]
        while stack:
            relative = stack.pop()
            try:
                status = os.stat(os.path.join(self.root, relative))
            except OSError as error:
                self.closed.append(f"{safe(relative)} ({error.strerror})")
                continue
            if (status.st_dev, status.st_ino) in seen:
                self.again.append(relative)
                continue
            seen.add((status.st_dev, status.st_ino))
            directories, files = self.entries(relative)
            for name in files:
                if _extension(name) in EXTENSIONS:
                    found.append(os.path.join(relative, name))
                else:
                    self.others["." + safe(_extension(name)) if b"." in name else "no extension"] += 1
            stack += [os.path.join(relative, name) for name in reversed(directories)]
        return found

    def beside(self, files: list[bytes]) -> None:
        """Count files beside the class directories."""
        self.outside += len(files)

    @property
    def notes(self) -> list[str]:
        notes = []
        if self.outside:
            notes.append(f"{self.outside:,} files beside the class directories were left out")
        if self.others:
            kinds = ", ".join(f"{kind} ({count:,})" for kind, count in self.others.most_common(SHOWN))
            notes.append(f"{self.others.total():,} files without an image's extension were left out: {kinds}")
        if self.foreign:
            kinds = ", ".join(f"{name} ({count:,})" for name, count in self.foreign.most_common(SHOWN))
            notes.append(f"directories of the operating system or file server were left out: {kinds}")
        if self.again:
            notes.append(f"directories met twice below one class (links) were left out: {listed(self.again)}")
        if self.closed:
            notes.append(f"directories that cannot be opened were left out: {', '.join(self.closed[:SHOWN])}")
        return notes


def _extension(name: bytes) -> bytes:
    return name.rpartition(b".")[2].lower()


def _is_directory(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that points at itself
        return False
