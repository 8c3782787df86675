"""An ImageFolder tree by corrected label, of links to the source's files: torchvision, timm and Keras read it.

``[split/]class/name.ext``; samples without a label to train on (none, or excluded) are in ``labels.csv`` alone, which
holds all. Characters that no directory's name can hold are percent-encoded.
"""

from __future__ import annotations

from pathlib import Path

from labeltui.export import table
from labeltui.export.corrections import Corrections
from labeltui.export.images import component, place, unique_stem


def write(corrections: Corrections, directory: Path) -> int:
    """Write the tree.

    Parameters
    ----------
    corrections : Corrections
    directory : Path
        New.

    Returns
    -------
    int
        Samples whose image could not be read; they are left out.
    """
    audit, labels = corrections.audit, corrections.training_labels
    taken: dict[Path, set[str]] = {}
    lost = 0
    for i in corrections.labelled.tolist():
        split = audit.split_of(i)
        above = directory / component(split) if split else directory
        home = above / component(corrections.class_names[labels[i]])
        if home not in taken:
            home.mkdir(parents=True)
            taken[home] = set()
        stem = unique_stem(corrections, i, taken[home])
        taken[home].add(stem)
        lost += not place(corrections, i, home / stem)
    with open(directory / "labels.csv", "wb") as file:
        table.write(corrections, file)
    return lost
