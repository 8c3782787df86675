"""FiftyOne's layout for image classification: ``data/`` with the images, and ``labels.json``.

The keys of ``labels`` are the stems of the files, which are unique. A label is an object with the class's index in
``classes``, the probability that it is right as ``confidence`` where it is the given one, and the columns of the table
as ``attributes``; it is null for samples without a label. ``labels.csv`` is the whole table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from labeltui.export import table
from labeltui.export.corrections import Corrections
from labeltui.export.images import place, unique_stem


def write(corrections: Corrections, directory: Path) -> int:
    """Write the layout.

    Parameters
    ----------
    corrections : Corrections
    directory : Path
        New.

    Returns
    -------
    int
        Samples whose image could not be read; they are not in ``data/``, and in ``labels.json``.
    """
    (directory / "data").mkdir()
    labels: dict[str, Any] = {}
    lost = 0
    for block in corrections.blocks():
        columns = corrections.columns(block)
        rows = zip(*columns.values(), strict=True)
        for i, row in zip(block.tolist(), rows, strict=True):
            stem = unique_stem(corrections, i, labels)
            attributes = dict(zip(columns, row, strict=True))
            label = int(corrections.labels[i])
            labels[stem] = (
                None
                if label < 0
                else {
                    "label": label,
                    # The score speaks of the given label.
                    "confidence": attributes["label_score"] if label == corrections.audit.given[i] else None,
                    "attributes": {name: value for name, value in attributes.items() if value is not None},
                }
            )
            lost += not place(corrections, i, directory / "data" / stem)
    content = {"classes": corrections.class_names, "labels": labels}
    (directory / "labels.json").write_text(json.dumps(content, ensure_ascii=False, indent=1), "utf-8")
    with open(directory / "labels.csv", "wb") as file:
        table.write(corrections, file)
    return lost
