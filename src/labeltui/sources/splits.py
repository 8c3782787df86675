"""Whether the top directories of an image tree are its classes, or splits that hold the classes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from labeltui.errors import SourceError
from labeltui.sources.base import listed

# train, train2017, training_set, test-images, val_1, ...
SPLIT = re.compile(
    rb"(train|training|val|valid|validation|dev|test|testing|eval)"
    rb"([ _.-]?(set|split|data|images|imgs))?([ _.-]?[0-9]{1,4})?",
    re.IGNORECASE,
)
NAMES_SHOWN = 5


def find_splits(below: Mapping[bytes, Sequence[bytes]], wanted: bool | None) -> tuple[list[bytes], list[str]]:
    """Return the top directories that are splits; none where the top directories are the classes.

    The names and the directories below decide. Where both readings make sense, nothing is guessed: a wrong
    guess would judge every sample by its split.

    Parameters
    ----------
    below : mapping of bytes to sequence of bytes
        The directories in each top directory, by name.
    wanted : bool, optional
        ``--split-level`` or ``--no-split-level``; None = decide.

    Returns
    -------
    splits : list of bytes
        Top directories without directories inside are no splits and, beside splits, no classes either.
    notes : list of str

    Raises
    ------
    SourceError
        `wanted` is True and no top directory holds directories; or it is None and the tree is ambiguous.
    """
    if wanted is False:
        return [], []
    deep = [top for top, inside in below.items() if inside]
    flat = [top for top in below if top not in deep]
    named = [top for top in below if SPLIT.fullmatch(top)]
    beside = [f"{listed(flat)}: without class directories, left out"] if flat else []
    if wanted:
        if not deep:
            raise SourceError(
                "with --split-level the top directories hold class directories",
                f"none in {listed(flat)}",
                "give --no-split-level if the top directories are the classes",
            )
        return deep, [f"splits: {listed(deep)}", *beside]
    if named and not deep:
        alike = len(named) == len(below)
        return [], [
            f"the classes are named like splits but hold no directories: {listed(named)}"
        ] if alike else []
    count = Counter(name for inside in below.values() for name in inside)
    shared = sorted(name for name, number in count.items() if number > 1)
    if len(named) == len(below) or (shared and set(deep) <= set(named)):
        taken = f"top directories taken as splits: {listed(deep)} (--no-split-level if they are classes)"
        return deep, [taken, *beside]
    if all(SPLIT.fullmatch(name) for name in shared) and not set(deep) & set(named):
        return [], []  # no common names, or the splits are below the classes
    held = [top for top in deep if set(below[top]) & set(shared)]
    if not shared:
        if not (set(deep) <= set(named) and len(count) > 1):
            return [], []
        held = deep
        got = (
            f"{listed(held)} is named like a split and alone holds directories: {listed(count, NAMES_SHOWN)}"
        )
    elif len(shared) == 1 and not set(held) & set(named):
        return [], []  # as splits they would hold a single class: class/images/1.jpg
    else:
        got = (
            f"the top directories {listed(held, NAMES_SHOWN)} hold directories of the same names: "
            f"{listed(shared, NAMES_SHOWN)}"
        )
    raise SourceError(
        "it must be clear whether the top directories of an image tree are classes or splits",
        got,
        f"--split-level if {listed(held, NAMES_SHOWN)} are splits and the classes are below them; "
        "--no-split-level if they are classes",
    )
