"""Inject noise into labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from labeltui.noise._validation import Floats, Labels, Mask, require, transition_matrix, validate_labels

_NOISE = 1609


class InjectedNoise(NamedTuple):
    """Labels with injected noise.

    Attributes
    ----------
    labels : ndarray of int32, shape (N,)
        The labels with noise.
    injected : ndarray of bool, shape (N,)
        True where the label was changed.
    """

    labels: Labels
    injected: Mask


# ---------------------------------------------------------------------- noise models


def symmetric(labels: npt.ArrayLike, rate: float, seed: int, n_classes: int) -> InjectedNoise:
    """Relabel a fraction `rate` of the labelled samples with another class, uniformly.

    Parameters
    ----------
    labels : array-like of int, shape (N,)
        Class indices, -1 = none.
    rate : float
        Fraction of the labelled samples that becomes wrong, 0..1.
    seed : int
    n_classes : int
        At least 2, unless `rate` is 0.

    Raises
    ------
    InputError
        Labels, rate or number of classes are invalid.
    """
    given, known = validate_labels(labels, n_classes)
    chosen, rng = _choose(known, rate, seed, n_classes)
    shift = rng.integers(1, n_classes, size=len(chosen)) if len(chosen) else np.zeros(0, dtype=np.int64)
    return _injected(given, chosen, (given[chosen] + shift) % max(n_classes, 1))


def pair_flip(labels: npt.ArrayLike, rate: float, seed: int, n_classes: int) -> InjectedNoise:
    """Relabel a fraction `rate` of the labelled samples with the next class: c becomes (c + 1) mod K.

    Parameters
    ----------
    labels : array-like of int, shape (N,)
        Class indices, -1 = none.
    rate : float
        Fraction of the labelled samples that becomes wrong, 0..1.
    seed : int
    n_classes : int
        At least 2, unless `rate` is 0.

    Raises
    ------
    InputError
        Labels, rate or number of classes are invalid.
    """
    given, known = validate_labels(labels, n_classes)
    chosen, _ = _choose(known, rate, seed, n_classes)
    return _injected(given, chosen, (given[chosen] + 1) % max(n_classes, 1))


def class_dependent(labels: npt.ArrayLike, transition: npt.ArrayLike, seed: int) -> InjectedNoise:
    """Change labels by a transition matrix.

    Parameters
    ----------
    labels : array-like of int, shape (N,)
    transition : array-like, shape (K, K)
        Row i: the fraction of class i that gets label j; rows sum to 1, the diagonal is the fraction that keeps
        its label. Each count is met to within one sample.
    seed : int

    Raises
    ------
    InputError
        The matrix is not square, not finite, negative, or its rows do not sum to 1.
    """
    matrix = transition_matrix(transition)
    given, known = validate_labels(labels, len(matrix))
    rng = noise_stream(seed)
    new = given.copy()
    for label, members in _by_class(given, known, len(matrix)):
        shuffled = rng.permutation(members)
        # Systematic sampling of the row: every cell's count is its expectation, randomly rounded.
        edges = np.floor(np.cumsum(matrix[label]) * len(members) + rng.random()).astype(np.int64)
        edges = np.minimum(np.concatenate([[0], edges]), len(members))
        for other in range(len(matrix)):
            new[shuffled[edges[other] : edges[other + 1]]] = other
    return InjectedNoise(new, new != given)


def confusable(
    labels: npt.ArrayLike, similarity: npt.ArrayLike, rate: float, seed: int, strength: float = 1.0
) -> InjectedNoise:
    """Relabel a fraction `rate` of the labelled samples with a class similar to their own.

    Parameters
    ----------
    labels : array-like of int, shape (N,)
    similarity : array-like, shape (K, K)
        Class similarity, not negative, such as S or W of the CSG; the diagonal is ignored.
    rate : float
        Fraction of the labelled samples that becomes wrong.
    seed : int
    strength : float, default 1.0
        0 draws other classes uniformly, 1 in proportion to the similarity, values between from the mixture.
        A class without similar ones draws uniformly.

    Raises
    ------
    InputError
        The matrix is not square, not finite or negative; `rate` or `strength` outside 0..1.
    """
    matrix = np.array(similarity, dtype=np.float64)
    require(
        matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1],
        "class similarity must be a square matrix",
        matrix.shape,
    )
    require(
        bool(np.isfinite(matrix).all() and (matrix >= 0).all()),
        "class similarity must be finite and >= 0",
        "",
    )
    require(0.0 <= strength <= 1.0, "strength must be between 0 and 1", strength)
    n_classes = len(matrix)
    given, known = validate_labels(labels, n_classes)
    chosen, rng = _choose(known, rate, seed, n_classes)
    if not len(chosen):
        return _injected(given, chosen, given[chosen])
    np.fill_diagonal(matrix, 0.0)
    uniform = (1.0 - np.eye(n_classes)) / (n_classes - 1)
    total = matrix.sum(axis=1, keepdims=True)
    toward = np.where(total > 0, matrix / np.where(total > 0, total, 1.0), uniform)
    mixture = strength * toward + (1.0 - strength) * uniform
    return _injected(given, chosen, _draw(mixture[given[chosen]], rng))


def feature_dependent(
    labels: npt.ArrayLike,
    features: npt.ArrayLike,
    rate: float,
    seed: int,
    n_classes: int,
    spread: float = 0.1,
) -> InjectedNoise:
    """Inject noise that depends on each sample's own features.

    Each sample has its own probability of being changed, drawn from a normal distribution around `rate`
    truncated to 0..1, and its own distribution over the other classes: the softmax of a random projection of its
    features, one projection for each class (Xia et al., NeurIPS 2020, arXiv 2006.07836, algorithm 2).

    Parameters
    ----------
    labels : array-like of int, shape (N,)
    features : array-like, shape (N, d)
        Rows that are not finite are never changed.
    rate : float
    seed : int
    n_classes : int
    spread : float, default 0.1
        Standard deviation of the samples' rates.
    """
    given, known = validate_labels(labels, n_classes)
    x = np.asarray(features)
    require(x.ndim == 2 and len(x) == len(given), "features must have one row for each label", x.shape)
    known = known & np.isfinite(x).all(axis=1)
    require(0.0 <= rate <= 1.0, "rate must be between 0 and 1", rate)
    rows = np.flatnonzero(known)
    if rate == 0.0 or not len(rows):
        return InjectedNoise(given, np.zeros(len(given), dtype=bool))
    require(n_classes >= 2, "noise needs at least 2 classes", n_classes)
    rng = noise_stream(seed)
    own = np.clip(rng.normal(rate, spread, size=len(rows)), 0.0, 1.0)
    chosen = rows[_systematic(own, round(rate * len(rows)), rng)]
    mean = x[rows].mean(axis=0, dtype=np.float64)
    scale = np.sqrt(np.maximum(x[rows].var(axis=0, dtype=np.float64), 1e-12))
    target = np.zeros(len(chosen), dtype=np.int64)
    for label in range(n_classes):
        projection = rng.standard_normal((x.shape[1], n_classes))
        mine = np.flatnonzero(given[chosen] == label)
        # The published recipe assumes features of unit norm; here logits get about unit variance.
        logits = ((x[chosen[mine]] - mean) / scale) @ projection / np.sqrt(x.shape[1])
        logits[:, label] = -np.inf
        weight = np.exp(logits - logits.max(axis=1, keepdims=True))
        target[mine] = _draw(weight / weight.sum(axis=1, keepdims=True), rng)
    return _injected(given, chosen, target)


def matched(
    labels: npt.ArrayLike, transition: npt.ArrayLike, probabilities: npt.ArrayLike, seed: int
) -> InjectedNoise:
    """Inject noise by a transition matrix between classes and by probabilities within a class.

    Of class i, the fraction ``transition[i, j]`` becomes j; those samples are drawn with weights
    ``probabilities[n, j]``, so that samples resembling j become j. Human errors are of this kind: they occur on hard
    images.

    Parameters
    ----------
    labels : array-like of int, shape (N,)
    transition : array-like, shape (K, K)
        As in `class_dependent`.
    probabilities : array-like, shape (N, K)
        Out-of-fold class probabilities.
    seed : int
    """
    matrix = transition_matrix(transition)
    given, known = validate_labels(labels, len(matrix))
    p = np.asarray(probabilities)
    require(
        p.shape == (len(given), len(matrix)),
        "probabilities must have one row a sample, one column a class",
        p.shape,
    )
    rng = noise_stream(seed)
    new = given.copy()
    for label, members in _by_class(given, known, len(matrix)):
        expected = matrix[label] * len(members)
        expected[label] = 0.0
        count = np.floor(expected + rng.random(len(matrix))).astype(np.int64)
        free = members
        for other in rng.permutation(len(matrix)):
            n_wanted = min(int(count[other]), len(free) - 1)
            if n_wanted < 1:
                continue
            weight = np.maximum(p[free, other].astype(np.float64), 1e-9)
            taken = _systematic(weight[(order := rng.permutation(len(free)))], n_wanted, rng)
            new[free[order[taken]]] = other
            free = np.delete(free, order[taken])
    return InjectedNoise(new, new != given)


def noise_stream(seed: int) -> np.random.Generator:
    """Random stream of the noise, independent of folds with the same seed."""
    return np.random.default_rng([_NOISE, seed])


def _choose(
    known: Mask, rate: float, seed: int, n_classes: int
) -> tuple[npt.NDArray[np.int64], np.random.Generator]:
    require(0.0 <= rate <= 1.0, "rate must be between 0 and 1", rate)
    rows = np.flatnonzero(known)
    n_wanted = round(rate * len(rows))
    require(n_wanted == 0 or n_classes >= 2, "noise needs at least 2 classes", n_classes)
    rng = noise_stream(seed)
    return np.sort(rng.permutation(rows)[:n_wanted]), rng


def _injected(given: Labels, chosen: npt.NDArray[np.int64], target: npt.NDArray[np.integer]) -> InjectedNoise:
    new = given.copy()
    new[chosen] = target
    injected = np.zeros(len(given), dtype=bool)
    injected[chosen] = True
    return InjectedNoise(new, injected)


def _by_class(given: Labels, known: Mask, n_classes: int) -> list[tuple[int, npt.NDArray[np.int64]]]:
    order = np.argsort(given, kind="stable")
    order = order[known[order]]
    edges = np.searchsorted(given[order], np.arange(n_classes + 1))
    return [(c, order[edges[c] : edges[c + 1]]) for c in range(n_classes) if edges[c + 1] > edges[c]]


def _draw(p: Floats, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw one class from each row of `p`; never a class of probability 0."""
    edges = np.cumsum(p, axis=1)
    point = rng.random(len(p)) * edges[:, -1]
    return np.asarray((edges <= point[:, None]).sum(axis=1), dtype=np.int64)


def _systematic(weight: Floats, n_wanted: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw exactly `n_wanted` distinct rows with probabilities proportional to their weights, at most 1."""
    if n_wanted >= len(weight):
        return np.arange(len(weight))
    if n_wanted == 0:
        return np.zeros(0, dtype=np.int64)
    fraction = weight.astype(np.float64)
    fraction = fraction / fraction.sum() * n_wanted
    certain = np.zeros(len(fraction), dtype=bool)
    while (over := (fraction > 1.0) & ~certain).any():
        certain |= over
        rest = ~certain
        left = n_wanted - int(certain.sum())
        total = fraction[rest].sum()
        fraction[rest] = fraction[rest] / total * left if total > 0 else left / max(int(rest.sum()), 1)
        fraction[certain] = 1.0
    edges = np.cumsum(fraction)
    edges *= n_wanted / edges[-1]  # guards the last row against rounding
    points = np.arange(n_wanted) + rng.random()
    return np.unique(np.minimum(np.searchsorted(edges, points, side="right"), len(weight) - 1))
