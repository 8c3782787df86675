"""WebDataset shards: tar files with ``key.jpg`` (or its own extension), ``key.cls`` and ``key.json`` of each sample.

The key is the sample's row, ``cls`` the index of its corrected label in ``classes.txt``, and ``json`` the columns of
the table. Samples without a label to train on (none, or excluded) are in ``labels.csv`` alone, which holds all.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from labeltui.errors import SourceError
from labeltui.export import table
from labeltui.export.corrections import Corrections
from labeltui.export.images import png, stored

SHARD = 10_000
"""Samples of a shard."""
DECODED = ("jpg", "jpeg", "png", "ppm", "pgm", "pbm")
"""Extensions that the library decodes by itself; other images are written as PNG."""


def write(corrections: Corrections, directory: Path) -> int:
    """Write the shards.

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
    labels = corrections.training_labels
    samples = corrections.labelled
    audit, lost = corrections.audit, 0
    for number, start in enumerate(range(0, len(samples), SHARD)):
        block = samples[start : start + SHARD]
        columns = corrections.columns(block)
        with tarfile.open(directory / f"shard-{number:06}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for i, *row in zip(block.tolist(), *columns.values(), strict=True):
                try:
                    data, extension = stored(audit, i)
                    if extension not in DECODED:
                        data, extension = png(audit.images.image(i)), "png"
                except SourceError:
                    lost += 1
                    continue
                values = dict(zip(columns, row, strict=True))
                _add(tar, f"{i:09}.{extension}", data)
                _add(tar, f"{i:09}.cls", b"%d" % labels[i])
                _add(tar, f"{i:09}.json", json.dumps(values).encode())
    (directory / "classes.txt").write_text(
        "".join(json.dumps(name)[1:-1] + "\n" for name in corrections.class_names), "utf-8"
    )
    with open(directory / "labels.csv", "wb") as file:
        table.write(corrections, file)
    return lost


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    tar.addfile(info, io.BytesIO(data))
