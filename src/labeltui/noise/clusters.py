"""Label noise in tight groups of the embedding, as people's errors are.

People mislabel whole kinds of images: every red fox of a certain pose becomes a cat. Such errors are neighbours of
each other and agree, so no vote of neighbours contradicts them, and training suffers more than under symmetric noise of
the same rate (arXiv 2412.00244). Here a group is a random sample with the
nearest samples of its class that are still right, and all of it gets one label: the class whose centre is nearest.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from labeltui.noise._validation import Floats, require, validate_labels
from labeltui.noise.models import InjectedNoise, noise_stream


def cluster_based(
    labels: npt.ArrayLike, features: npt.ArrayLike, rate: float, seed: int, n_classes: int, size: int = 20
) -> InjectedNoise:
    """Relabel groups of neighbouring samples, each group with one class that is near to it.

    Parameters
    ----------
    labels : array-like of int, shape (N,)
        -1 = none.
    features : array-like of float, shape (N, d)
        Embedding; compared by cosine. Samples whose row is zero or not finite are never changed.
    rate : float
        Fraction of the samples with label and features that becomes wrong.
    seed : int
    n_classes : int
    size : int
        Samples of a group; the last group, and one of a class that is used up, is smaller.

    Raises
    ------
    InputError
        Labels, features, rate or size are invalid.
    """
    given, known = validate_labels(labels, n_classes)
    x = np.asarray(features, dtype=np.float32)
    require(x.ndim == 2 and len(x) == len(given), "features must have one row for each label", x.shape)
    require(0.0 <= rate <= 1.0, "rate must be between 0 and 1", rate)
    require(size >= 1, "a group must have at least 1 sample", size)
    length = np.linalg.norm(np.where(np.isfinite(x), x, np.inf), axis=1)
    known = known & np.isfinite(length) & (length > 0)
    rows = np.flatnonzero(known)
    n_wanted = round(rate * len(rows))
    new = given.copy()
    if n_wanted == 0:
        return InjectedNoise(new, np.zeros(len(given), dtype=bool))
    require(len(np.unique(given[rows])) >= 2, "cluster noise needs samples of at least 2 classes", n_classes)
    unit = np.zeros_like(x)
    unit[rows] = x[rows] / length[rows, None]
    centres = _centres(unit, given, rows, n_classes)
    right = known.copy()
    # Seeds in one random order: a sample that an earlier group took is passed over.
    for first in noise_stream(seed).permutation(rows):
        if n_wanted == 0:
            break
        if not right[first]:
            continue
        mates = np.flatnonzero(right & (given == given[first]))
        near = np.argsort(-(unit[mates] @ unit[first]), kind="stable")[: min(size, n_wanted)]
        group = mates[near]
        similarity = np.nan_to_num(centres @ unit[group].mean(axis=0), nan=-np.inf)
        similarity[given[first]] = -np.inf
        new[group] = int(similarity.argmax())
        right[group] = False
        n_wanted -= len(group)
    return InjectedNoise(new, new != given)


def _centres(
    unit: npt.NDArray[np.float32], given: npt.NDArray[np.int32], rows: npt.NDArray[np.int64], n_classes: int
) -> Floats:
    """Return the mean direction of each class, (K, d); NaN for classes without samples."""
    centres = np.full((n_classes, unit.shape[1]), np.nan)
    for label in np.unique(given[rows]):
        centre = unit[rows[given[rows] == label]].mean(axis=0, dtype=np.float64)
        centres[label] = centre / max(float(np.linalg.norm(centre)), 1e-12)
    return centres
