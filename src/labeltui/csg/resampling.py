"""CSG for several k, its bootstrap interval, and the estimate of the published method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeltui.csg.counting import Floats, Integers, Matrix, checked, pooled_counts
from labeltui.csg.measures import csg_of
from labeltui.errors import InputError

SWEEP = (3, 5, 10, 20, 50)


def sweep(
    indices: NDArray[Any],
    labels: NDArray[Any],
    n_classes: int,
    ks: Sequence[int] = SWEEP,
    threads: int | None = None,
) -> tuple[Integers, Floats]:
    """CSG for several k from one neighbour list; each neighbour is counted once.

    Returns
    -------
    ks : (M,) int64
        Ascending; those that the lists are too short for are left out.
    csg : (M,) float64
    """
    usable = sorted({k for k in ks if 1 <= k <= indices.shape[1]})
    values = []
    T: Matrix = None
    done = 0
    for k in usable:
        more = pooled_counts(indices, labels, n_classes, k, threads, first=done)
        T = more if T is None else T + more
        values.append(csg_of(T, threads))
        done = k
    return np.array(usable, dtype=np.int64), np.array(values, dtype=np.float64)


def interval(
    indices: NDArray[Any],
    labels: NDArray[Any],
    n_classes: int,
    k: int,
    n_boot: int = 200,
    seed: int = 0,
    *,
    level: float = 0.95,
    threads: int | None = None,
) -> tuple[float, float]:
    """Bootstrap interval of the CSG: samples redrawn inside each class, their stored neighbours reused.

    Redrawing adds noise to S, and noise in S lowers W and CSG; so the interval is the percentile one moved up
    by the bias that the redraws show (their mean minus the value), and cut to the possible range 0..K-1.

    Parameters
    ----------
    n_boot : int
        Redraws.
    seed : int
        Same seed, same interval, whatever the number of threads.
    level : float
        Coverage aimed at.
    (others as for `pooled_counts`)

    Returns
    -------
    low, high : float
    """
    indices, labels = checked(indices, labels, n_classes, k)
    if n_boot < 2 or not 0 < level < 1:
        raise InputError(
            "an interval needs at least 2 redraws and a level between 0 and 1", f"{n_boot}, {level} came"
        )
    T = pooled_counts(indices, labels, n_classes, k, threads)
    value = csg_of(T, threads)
    members = np.flatnonzero((labels >= 0) & (indices[:, :1] >= 0).any(axis=1))
    members = members[np.argsort(labels[members], kind="stable")]
    sizes = np.bincount(labels[members], minlength=n_classes)
    low_end = np.repeat(np.cumsum(sizes) - sizes, sizes)
    spread = np.repeat(sizes, sizes)
    values = np.empty(n_boot)
    for redraw, child in enumerate(np.random.SeedSequence(seed).spawn(n_boot)):
        uniform = np.random.Generator(np.random.PCG64(child)).random(len(members))
        drawn = members[low_end + np.minimum((uniform * spread).astype(np.int64), spread - 1)]
        weights = np.bincount(drawn, minlength=len(labels)).astype(np.int32)
        values[redraw] = csg_of(
            pooled_counts(indices, labels, n_classes, k, threads, weights=weights), threads
        )
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail]) - (values.mean() - value)
    most = max(0, int((sizes > 0).sum()) - 1)
    return float(np.clip(low, 0, most)), float(np.clip(high, 0, most))
