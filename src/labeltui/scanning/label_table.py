"""The labels of a source as numbers: class table, splits, and which samples take part."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from labeltui.errors import UsageError
from labeltui.sources import Source, number_labels, order_classes, read_class_names, read_classes
from labeltui.sources.base import listed
from labeltui.text import is_utf8, safe


@dataclass(frozen=True)
class LabelTable:
    """Ids, labels and splits of the N samples of a source.

    Attributes
    ----------
    ids : list of bytes
    class_ids : list of bytes
        The classes that occur, then those of ``--classes``.
    class_names : list of str
        Display names.
    given : (N,) int32
        Class index, -1 = none.
    split_names : list of str
    split : (N,) int16
        Split index, -1 = none.
    inside : (N,) bool
        Whether the sample is in one of the chosen splits; True for all if none was chosen.
    notes : list of str
        What was assumed, one printable line each.
    """

    ids: list[bytes]
    class_ids: list[bytes]
    class_names: list[str]
    given: npt.NDArray[np.int32]
    split_names: list[str]
    split: npt.NDArray[np.int16]
    inside: npt.NDArray[np.bool_]
    notes: list[str]

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.ids)


def read_label_table(
    source: Source,
    splits: tuple[str, ...] | None,
    classes: Path | None,
    class_names: Path | None,
    also: Sequence[bytes] = (),
) -> LabelTable:
    """Number the classes and splits of a source.

    Parameters
    ----------
    source : Source
    splits : tuple of str, optional
        Those that take part; None = all.
    classes : Path, optional
        A list of further classes. It adds classes and forbids none.
    class_names : Path, optional
        A table of class ids and display names; classes that it does not name show their id.
    also : sequence of bytes
        Classes that there are as well, after those of `classes`.

    Raises
    ------
    UsageError
        A split was named that the source does not have.
    SourceError
        A file cannot be read.
    """
    notes = list(source.notes)
    more = read_classes(classes) if classes else []
    class_ids = order_classes(source.labels, [*more, *also])
    if more and not set(more) & set(source.labels):
        notes.append(
            f"WARNING: no label is one of the {len(more)} classes of --classes (labels such as {listed(class_ids, 3)}, "
            f"classes such as {listed(more, 3)}): --class-names gives class ids names"
        )
    given = number_labels(source.labels, class_ids)
    names = read_class_names(class_names) if class_names else {}
    if class_names and (unnamed := sum(name not in names for name in class_ids)):
        other = (
            f"; names of no class: {listed(strangers, 3)}"
            if (strangers := set(names) - set(class_ids))
            else ""
        )
        notes.append(f"{unnamed} of {len(class_ids)} classes have no display name and show their id{other}")
    shared = sorted(
        name for name, count in Counter(names.get(each) for each in class_ids).items() if name and count > 1
    )
    if shared:
        notes.append(
            f"display names that several classes share, shown with their ids: {', '.join(map(safe, shared[:20]))}"
            + (f" and {len(shared) - 20} more" if len(shared) > 20 else "")
        )
    n = len(source.ids)
    if strange := [name for name in source.ids if not name.isascii() and not is_utf8(name)]:
        notes.append(
            f"{len(strange):,} names are not UTF-8, perhaps in the encoding of an older system, such as "
            f"{safe(strange[0], 60)}; exports write their bytes as \\xHH (--paths raw: as they are)"
        )
    split = np.full(n, -1, np.int16)
    split_names: list[str] = []
    if source.splits is not None:
        split_names = sorted({name for name in source.splits if name})
        position = {name: index for index, name in enumerate(split_names)}
        split = np.fromiter((position.get(name, -1) for name in source.splits), np.int16)
        if len(split_names) > 1 and _same_partition(split, given):
            notes.append(
                "WARNING: each split holds a class of its own: is the column of splits that of the labels?"
            )
    inside = np.ones(n, bool)
    if splits is not None:
        unknown = [name for name in splits if name not in split_names]
        if unknown or not splits:
            raise UsageError(
                "--splits names splits of the data",
                f"got {', '.join(map(safe, unknown)) or 'nothing'}",
                f"the data has: {', '.join(map(safe, split_names)) or 'no splits'}",
            )
        inside = np.isin(split, [split_names.index(name) for name in splits])
        notes.append(f"{int((~inside).sum()):,} samples of other splits are kept but not scored")
    return LabelTable(
        list(source.ids),
        class_ids,
        [names.get(name, os.fsdecode(name)) for name in class_ids],
        given,
        split_names,
        split,
        inside,
        notes,
    )


def _same_partition(split: npt.NDArray[np.int16], given: npt.NDArray[np.int32]) -> bool:
    """Whether each split holds one class and each class lies in one split."""
    known = (split >= 0) & (given >= 0)
    pairs = np.unique(np.stack([split[known], given[known]]), axis=1)
    return pairs.shape[1] > 1 and all(len(np.unique(each)) == len(each) for each in pairs)


def packed(names: list[str]) -> list[bytes]:
    """Return text as the bytes that the store keeps."""
    return [name.encode("utf-8", "surrogateescape") for name in names]
