"""CSG for several k, its bootstrap interval, and the published estimate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeltui.csg.counting import Floats, Integers, Matrix, checked, overlap, pooled_counts
from labeltui.csg.measures import csg_of, spectrum
from labeltui.errors import InputError

SWEEP = (3, 5, 10, 20, 50)
# The published estimate's smallest box around a sample's neighbours.
MIN_VOLUME = 1e-4


def sweep(
    indices: NDArray[Any],
    labels: NDArray[Any],
    n_classes: int,
    ks: Sequence[int] = SWEEP,
    threads: int | None = None,
) -> tuple[Integers, Floats]:
    """CSG for several k from one neighbour list; each neighbour is counted once.

    Parameters
    ----------
    indices : (N, k) int32
        Neighbour lists, nearest first, self excluded; -1 = none.
    labels : (N,) int32
        Class of each sample; -1 = none.
    n_classes : int
        K.
    ks : sequence of int
        Values of k, in any order.
    threads : int, optional
        Does not change the result.

    Returns
    -------
    ks : (M,) int64
        Ascending; without those beyond the length of the lists.
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

    Redrawing adds noise to S, which lowers W and CSG, as the draw of the samples themselves already did.
    So the interval is the basic one: the quantiles of the redraws reflected about the value, which moves it
    up by twice their bias; extended to include the value, and clipped to the possible range 0..K-1. On
    counts drawn from a known S it covered the limit in .90 to .93 of 60 trials, the plain quantiles in 0 to
    .98.

    Parameters
    ----------
    indices : (N, >= k) int32
        Neighbour lists, nearest first, self excluded; -1 = none.
    labels : (N,) int32
        Class of each sample; -1 = none.
    n_classes : int
        K.
    k : int
        Neighbours to count per sample.
    n_boot : int
        Redraws.
    seed : int
        Same seed, same interval, whatever the number of threads.
    level : float
        Nominal coverage.
    threads : int, optional
        Does not change the result.

    Returns
    -------
    low, high : float

    Raises
    ------
    InputError
        Shapes do not fit, or `n_boot` or `level` is out of range.
    """
    indices, labels = checked(indices, labels, n_classes, k)
    if n_boot < 2 or not 0 < level < 1:
        raise InputError(
            "an interval must have at least 2 redraws and a level between 0 and 1", f"got {n_boot}, {level}"
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
    high, low = 2 * value - np.quantile(values, [tail, 1 - tail])
    most = max(0, int((sizes > 0).sum()) - 1)
    return max(0.0, min(float(low), value)), min(float(most), max(float(high), value))


def compatible(
    X: NDArray[Any], y: NDArray[Any], M: int = 250, k: int = 3, seed: int = 0, volume: bool = True
) -> float:
    """CSG by the published estimate: M samples per class, Euclidean neighbours, boxes for density.

    Each sample's proportion of neighbours per class is divided by the volume of the axis-parallel box, centred on
    it, that holds its k neighbours; a class's row of S is the normalised sum over its samples. That makes the
    value depend on the scale of X and, from some ten dimensions on, on the few samples with the smallest
    boxes; it is here for comparison with published figures, and agrees with the `spectral-metric` package
    within that package's own spread over draws. Unlike there, a sample is not its own neighbour even if it
    has exact duplicates, class numbers may have gaps, the volumes cannot overflow, the draw is seeded and the
    global random state is not used.

    Parameters
    ----------
    X : (N, d)
        Finite.
    y : (N,) int
        Class of each sample; those below 0 are left out.
    M : int
        Samples per class; smaller classes are used whole.
    k : int
        Neighbours per sample.
    seed : int
        Of the draw.
    volume : bool
        False weighs all samples equally.

    Returns
    -------
    float
    """
    X = np.asarray(X, dtype=np.float64)
    y = np.asarray(y)
    if X.ndim != 2 or y.shape != (len(X),):
        raise InputError("points must have one row per label", f"got {X.shape} and {y.shape}")
    if not np.isfinite(X).all():
        bad = int((~np.isfinite(X).all(axis=1)).argmax())
        raise InputError("points must be finite", f"row {bad} is not", "leave such rows out")
    X, y = X[y >= 0], y[y >= 0]
    if M < 1 or not 1 <= k < max(2, len(X)):
        raise InputError("M must be at least 1 and k in 1..N - 1", f"got M={M}, k={k}, N={len(X)}")
    if len(X) < 2:
        return 0.0
    classes, y = np.unique(y, return_inverse=True)
    rng = np.random.default_rng(seed)
    draws = [rng.permutation(np.flatnonzero(y == c))[:M] for c in range(len(classes))]
    return spectrum(overlap(_boxed_similarity(X, y, draws, k, volume)))[1]


def _boxed_similarity(
    X: Floats, y: NDArray[Any], draws: Sequence[NDArray[Any]], k: int, volume: bool
) -> Floats:
    """S whose row c averages the neighbour proportions of the samples draws[c], by 1 / volume of their boxes."""
    from sklearn.neighbors import NearestNeighbors  # slow to import, for this estimate alone

    K = len(draws)
    S = np.zeros((K, K))
    search = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(X)
    for c, drawn in enumerate(draws):
        nearest = search.kneighbors(X[drawn], return_distance=False)
        # Drop the sample itself; where more than k duplicates crowd it out, drop the farthest.
        own = nearest == drawn[:, None]
        own[~own.any(axis=1), -1] = True
        nearest = nearest[~own].reshape(len(drawn), k)
        proportions = np.zeros((len(drawn), K))
        np.add.at(proportions, (np.arange(len(drawn))[:, None], y[nearest]), 1 / k)
        if volume:
            reach = np.stack(
                [np.abs(X[row] - X[s]).max(axis=0) for s, row in zip(drawn, nearest, strict=True)]
            )
            with np.errstate(divide="ignore"):
                logs = np.maximum(np.log(2 * reach).sum(axis=1), np.log(MIN_VOLUME))
            # Only ratios matter, so differences of logs keep 1 / volume in range.
            proportions *= np.exp(logs.min() - logs)[:, None]
        S[c] = proportions.sum(axis=0) / proportions.sum()
    return S
