"""How many labels are wrong, and how far mistakes follow the anchors: by the likelihood of labels that were held out.

A matrix copied from the anchors explains the anchors' own labels best, whatever they show. So the samples are split in
two: the anchors of one half propose transition matrices (`labeltui.noise.shrinkage`), over a grid of levels and
structures, with directed mistakes and without. The labels of the other half say how probable they are,
``prod_i sum_t q_t T_ty`` (as in forward correction, Patrini et al., CVPR 2017), with the pool's sharpness fitted anew
for each. A pool that knows which classes look alike explains their confusion by itself, and a level above that of the
mistakes makes the many right labels improbable.

The matrix returned is the mean over the grid by posterior probability (Bayesian model averaging; Hoeting et al.,
Statistical Science 1999), so that a few labels more or less do not turn the result over: on a hundred samples over many
structures and levels, on large data over the levels near the best.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from labeltui.noise._validation import Floats, Labels
from labeltui.noise.shrinkage import Disagreements

LEVELS = tuple(float(odds / (1 + odds)) for odds in np.geomspace(0.0005, 10.0, 18).round(5))
STRUCTURES = (1 / 3, 2 / 3, 1.0)
"""Not 0: people mistake classes that look alike more often than others. The third that is not for the labels to prove
counts as far as the anchors' disagreements are mistakes, level / rate, and not confusion."""
DIRECTIONS = (0.0, 1.0)
COST = 0.0003
"""Nats per sample and class that it costs to follow the anchors' structure, or directions, by 1 more, where all of the
anchors' disagreements are confusion and not mistakes. Pool and anchors err alike between classes that look alike, on
many samples as on few: so much likelihood is no proof of mistakes. With a third of it 1 % of people's errors were
ranked worse where the draw was unlucky (average precision .227 and not .291)."""
LEAST_CONFUSION = 1 / 3
"""Fraction of the disagreements that counts as confusion though the level takes all of them for mistakes."""
DOUBT = 3.0
"""Nats that each factor e costs by which the odds of the level depart from those of an anchor's having another label,
and that structure and directions cost beside. They decide where the labels do not: on few, or where most are wrong."""
EVIDENCE = 1000
"""Samples whose likelihood counts at most for the level. The model is never quite right, so ten thousand samples must
not make the level ten times as sure as a thousand do."""
SHARPNESS = tuple(float(power) for power in np.geomspace(0.5, 8.0, 12).round(4))
FINER = 8
"""Steps between two of them, about the best. A tenth less sharp, and the level that fits best is half as high."""
_LEAST = np.float32(1e-12)
_MOST_OF_CHANCE = 0.95  # beyond (K - 1) / K wrong, another label would be the usual one


class NoiseFit(NamedTuple):
    """Which mistakes the labels show.

    Attributes
    ----------
    transition : ndarray of float64, shape (K, K)
        T_ty = P(given y | correct t).
    level : float
        Fraction of labels that are wrong by undirected mistakes, posterior mean.
    structure : float
        0 = these strike every class alike, 1 = as the anchors' counts say; posterior mean.
    """

    transition: Floats
    level: float
    structure: float


def fit_noise(
    pooled: npt.NDArray[np.float32],
    labels: Labels,
    half: npt.NDArray[np.int8],
    counts: Sequence[Floats],
) -> NoiseFit:
    """Fit level and structure of the mistakes.

    Parameters
    ----------
    pooled : ndarray of float32, shape (n, K)
        The pool's distributions q, formed without the samples' own labels.
    labels : ndarray of int32, shape (n,)
        0..K-1.
    half : ndarray of int8, shape (n,)
        0 or 1.
    counts : sequence of two ndarray, shape (K, K)
        Labels among the anchors of each class, by half (`labeltui.noise.estimate.Anchors`).

    Returns
    -------
    NoiseFit
        Without samples, that of the prior.
    """
    k = len(counts[0])
    levels = np.array([level for level in LEVELS if level < _MOST_OF_CHANCE * (1 - 1 / max(k, 2))])
    logs = np.log(np.maximum(pooled, np.float32(1e-6)))
    shapes = list(product(DIRECTIONS, STRUCTURES))
    sides = []
    for side, own in enumerate(counts):
        among = np.flatnonzero(half != side)
        seen = Disagreements([own])
        sides.append((logs[among], labels[among], [_linear(seen, *shape) for shape in shapes]))

    def losses(sharpness: float) -> Floats:
        total = np.zeros((len(shapes), len(levels)))
        for of, y, matrices in sides:
            q = _power(of, sharpness)
            for place, (base, slope) in enumerate(matrices):
                at_none, more = (np.einsum("ij,ij->i", q, matrix[y]) for matrix in (base, slope))
                for at, level in enumerate(levels):
                    p = at_none + np.float32(level) * more
                    total[place, at] -= float(np.log(np.maximum(p, _LEAST)).sum(dtype=np.float64))
        return total.ravel()

    coarse = np.array([losses(sharpness) for sharpness in SHARPNESS])
    best = SHARPNESS[int(coarse.min(axis=1).round(3).argmin())]
    step = SHARPNESS[1] / SHARPNESS[0]
    finer = [best * step ** (part / FINER) for part in range(1 - FINER, FINER) if part]
    fitted = np.min([*coarse, *(losses(sharpness) for sharpness in finer)], axis=0)
    found = Disagreements(counts)
    grid = [(*shape, level) for shape, level in product(shapes, levels)]
    directions, structure, level = np.array(grid).T
    # Structure and directions are chosen at the level that fits best; then their levels are weighed.
    by_shape = fitted.reshape(len(shapes), len(levels)).min(axis=1)
    best_level = levels[fitted.reshape(len(shapes), len(levels)).argmin(axis=1)]
    confusion = np.repeat(np.maximum(1.0 - best_level / found.rate, LEAST_CONFUSION), len(levels))
    cost = (COST * k * len(labels) * confusion + DOUBT) * (structure - STRUCTURES[0] + directions)
    loss = np.repeat(by_shape - by_shape.min(), len(levels)) + cost
    loss += (fitted - np.repeat(by_shape, len(levels))) * min(1.0, EVIDENCE / max(len(labels), 1))
    loss += DOUBT * np.abs(_log_odds(level) - _log_odds(found.rate))
    weight = np.exp(loss.min() - loss)
    weight = np.round(weight / weight.sum(), 6)  # a machine's last bits decide nothing
    weight /= weight.sum()
    followed = structure - STRUCTURES[0] * (1.0 - np.minimum(level / found.rate, 1.0))
    transition = np.zeros((k, k))
    for place in np.flatnonzero(weight).tolist():
        transition += weight[place] * found.transition(level[place], followed[place], directions[place])
    return NoiseFit(transition, float((weight * level).sum()), float((weight * followed).sum()))


def _linear(
    found: Disagreements, directions: float, structure: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return A and B, transposed, of T = A + level B, which holds until nearly all labels of a class are wrong."""
    base = found.transition(0.0, structure, directions).T
    slope = (found.transition(LEVELS[0], structure, directions).T - base) / LEVELS[0]
    return base.astype(np.float32), slope.astype(np.float32)


def _log_odds(p: npt.ArrayLike) -> Floats:
    return np.asarray(np.log(p) - np.log1p(-np.asarray(p, dtype=np.float64)))


def _power(logs: npt.NDArray[np.float32], exponent: float) -> npt.NDArray[np.float32]:
    z = logs * np.float32(exponent)
    z -= z.max(axis=1, keepdims=True)
    np.exp(z, out=z)
    z /= z.sum(axis=1, keepdims=True)
    return z
