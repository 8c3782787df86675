"""What cleanlab's Datalab works with: its frame of label issues, and the graph that it would compute itself.

``issues.csv`` has one row for each sample that the graph holds, with ``path`` and Datalab's columns ``is_label_issue,
label_score, given_label, predicted_label``; ``knn_graph.npz`` has the same rows: a sparse matrix of distances, nearest
first, for ``Datalab.find_issues(knn_graph=...)``; ``labels.csv`` is the whole table, of all samples.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from labeltui.export import table
from labeltui.export.corrections import BLOCK, Corrections

ISSUES = ("path", "is_label_issue", "label_score", "given_label", "predicted_label")


def write(corrections: Corrections, directory: Path) -> int:
    """Write the frame, the graph and the table.

    Parameters
    ----------
    corrections : Corrections
    directory : Path
        New.

    Returns
    -------
    int
        0: no image is read.
    """
    from scipy import sparse  # takes a while to import, and other exports do without

    graph = corrections.audit.distance_graph()
    chosen = corrections.samples[np.diff(graph.indptr)[corrections.samples] > 0]
    number = np.full(corrections.audit.n, -1)
    number[chosen] = np.arange(len(chosen))
    rows = graph[chosen]
    keep = number[rows.indices] >= 0  # all, unless only some samples are written
    counts = np.add.reduceat(keep, rows.indptr[:-1]) if len(chosen) else np.zeros(0, np.int64)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    small = sparse.csr_matrix(
        (rows.data[keep], number[rows.indices[keep]].astype(np.int32), indptr), (len(chosen), len(chosen))
    )
    with open(directory / "knn_graph.npz", "wb") as file:
        sparse.save_npz(file, small)
    with open(directory / "issues.csv", "w", encoding="utf-8", newline="") as frame:
        writer = csv.writer(frame, lineterminator="\n")
        writer.writerow(ISSUES)
        for start in range(0, len(chosen), BLOCK):
            columns = corrections.columns(chosen[start : start + BLOCK])
            writer.writerows(zip(*(columns[name] for name in ISSUES), strict=True))
    with open(directory / "labels.csv", "wb") as whole:
        table.write(corrections, whole)
    return 0
