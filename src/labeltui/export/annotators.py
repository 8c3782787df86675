"""A long table for crowd-sourcing libraries: one row for each sample and each person who decided it.

Columns: ``sample, annotator, label, decision, second_label, note, decided_at``. The given label stands first, by the
annotator ``given``. A decision that names no label (exclude, unsure, skip) leaves the label empty, so that
``table.dropna(subset="label").pivot(index="sample", columns="annotator", values="label")`` is what cleanlab's
multi-annotator functions take.
"""

from __future__ import annotations

import csv
import io
from typing import BinaryIO

from labeltui.export.corrections import Corrections, plain, text

COLUMNS = ("sample", "annotator", "label", "decision", "second_label", "note", "decided_at")
GIVEN = "given"
LABELLED = ("keep", "relabel", "ambiguous")
"""Decisions that name a label."""


def write(corrections: Corrections, file: BinaryIO) -> int:
    """Write the table.

    Parameters
    ----------
    corrections : Corrections
    file : BinaryIO

    Returns
    -------
    int
        0: no image is read.
    """
    audit, name = corrections.audit, corrections.class_name
    opinions: dict[int, list[tuple[str | None, ...]]] = {}
    for each in audit.opinions():
        label = name(each.label) if each.kind in LABELLED else None
        reviewer = plain(each.reviewer)
        if reviewer == GIVEN:
            reviewer = f"{GIVEN} (reviewer)"
        row = (reviewer, label, each.kind, name(each.second), plain(each.note), each.time)
        opinions.setdefault(each.sample, []).append(row)
    for block in corrections.blocks():
        lines = io.StringIO()
        writer = csv.writer(lines, lineterminator="\n")
        if block[0] == corrections.samples[0]:
            writer.writerow(COLUMNS)
        for i, sample in zip(block.tolist(), audit.sample_ids(block), strict=True):
            writer.writerow([text(sample), GIVEN, name(int(audit.given[i])), None, None, None, None])
            writer.writerows([text(sample), *row] for row in opinions.get(i, ()))
        file.write(lines.getvalue().encode())
    return 0
