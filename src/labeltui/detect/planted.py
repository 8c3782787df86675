"""A copy of the labels with errors planted on purpose, and what learns from labels learned anew from that copy.

The errors are matched to the estimated transition matrix, so which labels of the copy were made wrong is known
without any clean label. `stacked` learns from them what a wrong label looks like to the detectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from labeltui import head, noise
from labeltui.detect.base import Facts, Ints, Mask
from labeltui.errors import InputError
from labeltui.noise.laws import Floats as Matrix


@dataclass(frozen=True)
class Copy:
    """A planted copy.

    Attributes
    ----------
    labels, before : ndarray of int32, shape (N,)
        The copy that everything is fitted on, and what it was made from; -1 = takes no part.
    planted : ndarray of bool, shape (N,)
    facts : Facts
        For detectors: the copy's labels, folds, head and dynamics, and nothing that knows the labels before.
    """

    labels: Ints
    before: Ints
    planted: Mask
    facts: Facts


def scaled(transition: Matrix, labels: Ints, rate: float) -> Matrix:
    """Return the transition matrix with its errors scaled so that a share `rate` of `labels` becomes wrong.

    Parameters
    ----------
    transition : ndarray of float64, shape (K, K)
    labels : ndarray of int32
        -1 = none.
    rate : float
        Above 0, below 1. No row gives more than nine tenths of a class away.
    """
    if not 0.0 < rate < 1.0:
        raise InputError("the planted rate must lie between 0 and 1", f"{rate} came")
    k = len(transition)
    share = np.bincount(labels[labels >= 0], minlength=k) / max(int((labels >= 0).sum()), 1)
    errors = transition * (1.0 - np.eye(k))
    mean = float(share @ errors.sum(axis=1))
    if mean <= 0.0:
        errors = (1.0 - np.eye(k)) / max(k - 1, 1)
        mean = float(share @ errors.sum(axis=1))
    errors = errors * (rate / mean)
    away = errors.sum(axis=1, keepdims=True)
    errors = errors * np.minimum(1.0, 0.9 / np.maximum(away, 1e-300))
    return np.asarray(errors + np.diag(1.0 - errors.sum(axis=1)))


def copy(
    facts: Facts,
    transition: Matrix,
    rate: float,
    seed: int,
    *,
    most: int | None = None,
    dynamics: bool = True,
    progress: Callable[[float], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Copy:
    """Plant errors in a copy of the labels, and train the head anew from the copy.

    Parameters
    ----------
    facts : Facts
        With embeddings and folds. Probabilities that were learned from the real labels (the head's, the user's, a
        fine-tuned backbone's) do not reach the copy: they would know the labels that were there before.
    transition : ndarray of float64, shape (K, K)
        For example `Findings.transition`.
    rate : float
        Share of the labels to plant.
    seed : int
    most : int, optional
        Samples that the head learns from, at most, drawn at random; the folds of the others are -1. Errors are
        planted in all labels, since all of them vote.
    dynamics : bool
        Whether the head's training is recorded.
    progress, cancel : callable, optional

    Raises
    ------
    InputError
        There are no embeddings or folds to learn from.
    """
    if facts.embeddings is None or facts.fold is None:
        raise InputError("a planted copy needs embeddings and folds", "this audit has none", "scan it again")
    tell = progress or (lambda share: None)
    before = np.where(facts.judged & (facts.labels >= 0), facts.labels, -1).astype(np.int32)
    labels, planted = noise.class_dependent(before, scaled(transition, before, rate), seed)
    learned = facts.fold >= 0
    rows = np.flatnonzero(learned)
    if most is not None and len(rows) > most:
        learned = np.zeros(facts.n, dtype=bool)
        learned[np.random.default_rng(seed).choice(rows, most, replace=False)] = True
    fold = head.folds(labels, facts.groups, learned, max(2, int(facts.fold.max()) + 1), seed)
    result = head.out_of_fold(
        facts.embeddings,
        np.where(fold >= 0, labels, -1),
        fold,
        facts.n_classes,
        spec=facts.head,
        seed=seed,
        threads=facts.threads,
        device=facts.device,
        weights=facts.weights,
        progress=lambda epoch: tell(epoch.done / epoch.total),
        cancel=cancel,
        dynamics=dynamics,
    )
    fresh = replace(
        facts,
        labels=labels,
        given=None,
        fold=fold,
        p_head=result.p,
        p_tuned=None,
        pred_probs=None,
        dynamics=result.dynamics,
        planted=None,
        checked=None,
        kept={},
        seed=seed,
    )
    return Copy(labels, before, planted, fresh)
