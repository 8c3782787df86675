"""The protocol of sources, and helpers of all kinds."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from labeltui.errors import SourceError
from labeltui.options import option, split_names
from labeltui.sources.images import Images
from labeltui.sources.levels import find_levels
from labeltui.text import different, fold, safe

# int() refuses very long digit strings, and no one numbers classes so.
INTEGER = re.compile(rb"[+-]?[0-9]{1,18}")
LEADING_ZEROS = re.compile(r"(?<![0-9.])0+(?=[0-9])")
JOINTS = (b"|", b";", b",", b"+", b"/", b" ")
SHOWN = 20  # faults or names listed before "and 12 more"


@dataclass(frozen=True)
class SourceOptions:
    """How to read what was given; docs/sources.md explains each for users, and the options say the rest.

    Attributes
    ----------
    kind : str, optional
        Name of a kind (a key of `KINDS`); None looks at the path.
    split_column : str, optional
        The default ``"split"`` need not exist, any other name must. None uses no splits.
    delimiter : str, optional
        One character; None goes by the file's suffix and header.
    split_level : bool, optional
        None decides by the names of the directories.
    images_key, embeddings_key, labels_key, ids_key, paths_key, splits_key : str
        Names of the arrays in an ``.npz`` file.
    shards : tuple of str, optional
        Names of the archives in the directory; None takes all.
    """

    kind: str | None = None
    path_column: str = option("path", "Of a table.", "Source")
    label_column: str = option("label", "Of a table.", "Source")
    image_column: str | None = option(None, "Of Parquet and Arrow files.", "Source", shown="image")
    split_column: str | None = option("split", "Of a table; need not exist.", "Source")
    delimiter: str | None = None
    image_root: Path | None = option(
        None, "Where relative paths of a table start.", "Source", shown="its directory"
    )
    split_level: bool | None = option(
        None, "Whether the top directories are splits.", "Source", shown="by name"
    )
    labels: Path | None = option(None, "Labels of a .npy file: .npy, a table, or one a line.", "Source")
    images_key: str = "images"
    embeddings_key: str = "embeddings"
    labels_key: str = "labels"
    ids_key: str = "ids"
    paths_key: str = "paths"
    splits_key: str = "splits"
    shards: tuple[str, ...] | None = None
    pred_probs: Path | None = option(
        None, "Your own out-of-fold probabilities: .npy, .npz or a table.", "Source"
    )
    class_order: Sequence[str | bytes] | None = option(
        None, "Classes of the columns of --pred-probs, with commas.", "Source", parse=split_names
    )


class Source(Protocol):
    """A labelled data set of N samples in a fixed order.

    Attributes
    ----------
    kind : str
        Key of `KINDS`.
    root : Path
        Directory that `ids` are relative to, or that holds the array file.
    ids : sequence of bytes
        N names, no two alike.
    labels : sequence of bytes or None
        N class ids; None where a sample has no label.
    splits : sequence of str or None
        N split names ("" where a sample is in none), or None when the source has no splits.
    notes : list of str
        What was assumed or left out, one printable line each.
    embeddings : (N, d) float array or None
        Ready-made embeddings; may be memory-mapped, of any float type, and hold non-finite rows.
    pred_probs : (N, C) float32 array or None
        Probabilities whose columns are `pred_probs_classes`; bring them into a class order with
        `align_probabilities`.
    pred_probs_classes : list of bytes or None
    has_images : bool
        Whether `image` can work at all.
    """

    @property
    def kind(self) -> str: ...
    @property
    def root(self) -> Path: ...
    @property
    def ids(self) -> Sequence[bytes]: ...
    @property
    def labels(self) -> Sequence[bytes | None]: ...
    @property
    def splits(self) -> Sequence[str] | None: ...
    @property
    def notes(self) -> list[str]: ...
    @property
    def embeddings(self) -> npt.NDArray[np.floating] | None: ...
    @property
    def pred_probs(self) -> npt.NDArray[np.float32] | None: ...
    @property
    def pred_probs_classes(self) -> list[bytes] | None: ...
    @property
    def has_images(self) -> bool: ...

    def describe(self) -> dict[str, object]:
        """Return what `reopen_source` and `open_images` need besides the root, as JSON values."""

    def images(self) -> Images:
        """Return the light access to the same images; it can be pickled."""

    def read(self, index: int) -> bytes:
        """Return the bytes of sample `index` as stored: its file, or its array row.

        Raises
        ------
        MissingImage
            The file does not exist.
        UnreadableImage
            It cannot be read.
        """

    def image(self, index: int) -> Image.Image:
        """Return the image of sample `index`, RGB and upright.

        Raises
        ------
        MissingImage, UnreadableImage
        """


@dataclass(eq=False)
class Samples:
    """The part that all kinds have in common: lists of equal length and access by index."""

    root: Path
    ids: Sequence[bytes]
    labels: Sequence[bytes | None]
    splits: Sequence[str] | None
    notes: list[str]
    embeddings: npt.NDArray[np.floating] | None = None
    pred_probs: npt.NDArray[np.float32] | None = None
    pred_probs_classes: list[bytes] | None = None
    has_images: bool = True
    levels: tuple[int, int] | None = None  # see `labeltui.sources.levels`

    def find_levels(self) -> None:
        """Choose the 16-bit grey levels that are black and white, and note them."""
        self.levels, note = find_levels(self.read, len(self.ids))
        self.notes += [note] if note else []

    def images(self) -> Images:
        raise NotImplementedError

    def read(self, index: int) -> bytes:
        data = self.images().read(self.ids[index], index)
        return data if isinstance(data, bytes) else data.tobytes()

    def image(self, index: int) -> Image.Image:
        return self.images().image(self.ids[index], index)


def order_classes(labels: Iterable[bytes | None], extra: Iterable[bytes] = ()) -> list[bytes]:
    """Return the class table of a data set.

    Parameters
    ----------
    labels : iterable of bytes or None
        The given labels; None is no class.
    extra : iterable of bytes
        More classes, which no label need have.

    Returns
    -------
    list of bytes
        The classes that occur, by number if every one is a whole number, else by bytes; then those of `extra`
        that do not occur, in their own order.
    """
    present = {label for label in labels if label is not None}
    if all(INTEGER.fullmatch(label) for label in present):
        ordered = sorted(present, key=lambda label: (int(label), label))
    else:
        ordered = sorted(present)
    return ordered + [label for label in dict.fromkeys(extra) if label not in present]


def listed(names: Iterable[bytes | str], limit: int = SHOWN) -> str:
    """Join names for display, cut after `limit` of them.

    Parameters
    ----------
    names : iterable of bytes or str
    limit : int

    Returns
    -------
    str
    """
    shown = list(names)
    text = ", ".join(safe(name) for name in shown[:limit])
    return f"{text} and {len(shown) - limit} more" if len(shown) > limit else text


def faults(message: str, found: Sequence[str], hint: str) -> SourceError:
    """Return one error that lists several faults, each on its own line.

    Parameters
    ----------
    message : str
        The requirement.
    found : sequence of str
        The faults; the first ones are shown.
    hint : str

    Returns
    -------
    SourceError
    """
    lines = list(found[:SHOWN])
    if len(found) > SHOWN:
        lines.append(f"and {len(found) - SHOWN:,} more")
    return SourceError(message, "\n".join(lines), hint)


def number_labels(labels: Sequence[bytes | None], class_ids: Sequence[bytes]) -> npt.NDArray[np.int32]:
    """Return labels as positions in a list of classes.

    Parameters
    ----------
    labels : sequence of bytes or None
        None = no label.
    class_ids : sequence of bytes
        All classes that occur, see `order_classes`.

    Returns
    -------
    ndarray of int32, shape (N,)
        -1 = none.
    """
    number = {name: index for index, name in enumerate(class_ids)}
    return np.fromiter((-1 if name is None else number[name] for name in labels), np.int32, len(labels))


def check_labels(labels: Sequence[bytes | None], what: str) -> list[str]:
    """Return notes on a list of labels.

    Parameters
    ----------
    labels : sequence of bytes or None
    what : str
        Name of the source, for the message.

    Returns
    -------
    list of str

    Raises
    ------
    SourceError
        No sample has a label.
    """
    sizes = Counter(label for label in labels if label is not None)
    if not sizes:
        raise SourceError(
            "a labelled data set has at least one class",
            f"none of the {len(labels):,} samples of {what} has a label"
            if labels
            else f"{what} has no samples",
            "give labels: class folders, a label column, or --labels FILE",
        )
    notes = []
    if missing := len(labels) - sizes.total():
        notes.append(f"{missing:,} samples have no label: neighbours of others, never flagged themselves")
    if len(sizes) == 1:
        notes.append(
            f"there is only one class, {safe(next(iter(sizes)))}: no label can look wrong, and the "
            "complexity is 0; unreadable and duplicate samples are still found"
        )
    if single := sorted(label for label, size in sizes.items() if size == 1):
        word = "class has" if len(single) == 1 else "classes have"
        notes.append(
            f"{len(single)} {word} a single sample, which cannot be scored reliably: {listed(single)}"
        )
    if several := _combinations(sizes):
        count = sum(sizes[label] for label in several)
        notes.append(
            f"{count:,} labels look like several in one cell, such as {listed(several, 3)}: each combination is a "
            "class of its own; name one label for each sample to have it scored"
        )
    notes += [
        f"the classes {listed(different(alike))} differ only in case, white space, leading zeros, invisible "
        "characters or Unicode form; they are kept apart"
        for alike in _lookalikes(sizes)
    ]
    return notes


def _combinations(sizes: Iterable[bytes]) -> list[bytes]:
    """Labels that consist of other labels of the data set, joined by one of `JOINTS`."""
    classes = set(sizes)
    found = []
    for label in sorted(classes):
        for joint in JOINTS:
            parts = [part.strip(b" []'\"") for part in label.split(joint)]
            if len(parts) > 1 and classes.issuperset(parts):
                found.append(label)
                break
    return found


def _lookalikes(sizes: Iterable[bytes]) -> list[list[bytes]]:
    groups: dict[str, list[bytes]] = {}
    for label in sizes:
        folded = " ".join(fold(os.fsdecode(label)).split())
        groups.setdefault(LEADING_ZEROS.sub("", folded), []).append(label)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)
