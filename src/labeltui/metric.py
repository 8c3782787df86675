"""By which metric the neighbours of ready embeddings are found.

Backbones are trained so that the direction of their features separates classes; for other features this is unknown.
Two-dimensional points on a line through the origin, for example, are all alike to the cosine. So both metrics are tried
on a sample, and the one by which neighbours have the same label clearly more often is taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from labeltui import graph

# As the command line names them, and as the graph does.
METRICS = {"cosine": "cosine", "euclidean": "euclidean", "inner": "inner_product"}
TRIED = 3_000  # rows
MARGIN = 0.02  # of the agreement, below which the cosine stays
UNCENTRED = 0.9  # fraction of the mean squared length that is due to the common mean

Array = npt.NDArray[Any]


def choose_metric(
    features: Array, labels: npt.NDArray[np.int32], inside: npt.NDArray[np.bool_], k: int, threads: int | None
) -> tuple[str, str]:
    """Return the metric by which `k` neighbours have the same label more often, and a note about it.

    Parameters
    ----------
    features : (N, d) float32 or float16
    labels : (N,) int32
        -1 = none.
    inside : (N,) bool
        Samples that take part; their rows are finite and not zero.
    k : int
    threads : int, optional

    Returns
    -------
    metric : {"cosine", "euclidean"}
        The cosine unless the other is better by more than `MARGIN`.
    note : str
    """
    rows = _sample(np.flatnonzero(inside & (labels >= 0)))
    if len(rows) < 2:
        return "cosine", ""
    agreement = {}
    for metric in ("cosine", "euclidean"):
        made = graph.build(features, k, metric, threads=threads, rows=rows)
        agreement[metric] = float((labels[rows][made.indices] == labels[rows][:, None]).mean())
    best = "euclidean" if agreement["euclidean"] > agreement["cosine"] + MARGIN else "cosine"
    other = "cosine" if best == "euclidean" else "euclidean"
    proportions = np.bincount(labels[rows]) / len(rows)
    chance = float((proportions**2).sum())
    if len(rows) >= 50 and agreement[best] <= chance + 3 * np.sqrt(chance * (1 - chance) / len(rows)):
        return best, (
            f"WARNING: {agreement[best]:.0%} of the neighbours share a sample's label, as many as by chance "
            f"({chance:.0%}): are the embeddings in the order of the labels?"
        )
    return best, (
        f"neighbours are found by the {best} metric: {agreement[best]:.0%} of {made.k} neighbours share a sample's "
        f"label, by the {other} metric {agreement[other]:.0%} (--metric chooses)"
    )


def uncentred(features: Array, inside: npt.NDArray[np.bool_]) -> str:
    """Return a note if a large common mean hides differences from the cosine, otherwise an empty string.

    Parameters
    ----------
    features : ndarray of float, shape (N, d)
    inside : ndarray of bool, shape (N,)
        Samples to use.

    Returns
    -------
    str
    """
    some = features[_sample(np.flatnonzero(inside))].astype(np.float64)
    length = float((some**2).sum(axis=1).mean()) if len(some) else 0.0
    fraction = float((some.mean(axis=0) ** 2).sum()) / length if length else 0.0
    if fraction <= UNCENTRED:
        return ""
    return (
        f"the embeddings are not centred: their common mean makes up {fraction:.0%} of their squared length, which "
        "hides differences from the cosine; subtract it, or try --metric euclidean"
    )


def _sample(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Up to `TRIED` rows, evenly spaced."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(TRIED, len(rows))).astype(np.int64))]
