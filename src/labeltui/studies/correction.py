"""The label cells of a correction study: noise, corrections of it, and the CSG of each.

Corrections, of the training samples alone:

``oracle``     every wrong label gets the true one
``blind``      every flagged label gets the suggestion; nothing but noisy labels and the embedding is used
``reviewed``   blind, and a simulated person says the truth of the samples whose suggestion is least sure
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeltui import csg, pipeline
from labeltui.studies.data import StudyData
from labeltui.studies.injection import corrupt
from labeltui.studies.plan import Cell, StudySpec, noise_of

_HALF = 132
REDRAWS = 100
CSG_LABELS = ("original", "noisy", "half corrected", "oracle", "blind", "reviewed")


def label_cell(
    spec: StudySpec, cell: Cell, data: StudyData
) -> tuple[dict[str, Any], Mapping[str, NDArray[np.int32]]]:
    """Return the labels of each condition, and what they look like.

    Parameters
    ----------
    spec : StudySpec
    cell : dict
        With ``noise`` and ``seed``.
    data : StudyData

    Returns
    -------
    result : dict
        Fractions of wrong labels and CSG, by condition.
    labels : mapping of str to ndarray of int32
        Of the training samples.
    """
    seed, truth, rows = cell["seed"], data.labels[data.train], data.train
    features = np.ascontiguousarray(data.features[rows])
    noise = noise_of(cell["noise"], seed)
    if noise is None:
        assert data.given is not None
        noisy = data.given[rows]
    else:
        noisy = corrupt(noise, truth, data.n_classes, features, data.neighbours)
    blind, sureness = correct(noisy, data.n_classes, features, seed)
    labels = {"original": truth, "noisy": noisy, "oracle": truth, "blind": blind}
    n_reviews = min(spec.reviews, len(rows) // 10)
    doubtful = np.argsort(sureness, kind="stable")[:n_reviews]
    labels["reviewed"] = blind.copy()
    labels["reviewed"][doubtful] = truth[doubtful]
    wrong = np.random.default_rng([_HALF, seed]).permutation(np.flatnonzero(noisy != truth))
    half = noisy.copy()
    half[wrong[: len(wrong) // 2]] = truth[wrong[: len(wrong) // 2]]
    result: dict[str, Any] = {
        "samples": len(rows),
        "reviews": n_reviews,
        "wrong": {name: round(float((each != truth).mean()), 6) for name, each in labels.items()},
        "csg": _csg({**labels, "half corrected": half}, data.neighbours, data.n_classes, seed),
    }
    if data.second_neighbours is not None:
        result["csg_second"] = _csg(
            {**labels, "half corrected": half}, data.second_neighbours, data.n_classes, seed
        )
    return result, labels


def correct(
    noisy: NDArray[np.int32], n_classes: int, features: NDArray[np.float32], seed: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Correct labels blindly, as ``export --apply-suggestions`` does after a scan.

    Parameters
    ----------
    noisy : ndarray of int32, shape (n,)
    n_classes : int
    features : ndarray of float32, shape (n, d)
    seed : int

    Returns
    -------
    labels : ndarray of int32, shape (n,)
    sureness : ndarray of float64, shape (n,)
        Probability of the label that each sample has now.
    """
    options = pipeline.ScoringOptions(seed=seed, threads=1)
    ok = np.ones(len(noisy), dtype=bool)
    scored = pipeline.score(noisy, n_classes, features, ok, features, options, device="cpu")
    suggested = scored.arrays["suggest/label"][:, 0].astype(np.int32)
    labels = np.where(scored.flagged, suggested, noisy).astype(np.int32)
    return labels, np.asarray(scored.arrays["suggest/p"][:, 0], dtype=np.float64)


def _csg(
    labels: Mapping[str, NDArray[np.int32]], indices: NDArray[np.int32], n_classes: int, seed: int
) -> dict[str, list[float]]:
    """CSG with a bootstrap interval, [value, low, high], of each labelling in one graph."""
    found = {}
    for name in CSG_LABELS:
        k = indices.shape[1]
        value = csg.measure(indices, labels[name], n_classes, k, threads=1).csg
        low, high = csg.interval(indices, labels[name], n_classes, k, REDRAWS, seed, threads=1)
        found[name] = [round(value, 6), round(low, 6), round(high, 6)]
    return found
