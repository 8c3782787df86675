"""A copy of the labels with errors planted on purpose, and what learns from labels learned anew from that copy.

The errors are matched to the estimated transition matrix, so which labels of the copy were made wrong is known
without any clean label. `stacked` learns from them what a wrong label looks like to the detectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from labeltui import head, noise
from labeltui.detect import pool
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
    labels, planted = noise.class_dependent(before, noise.scaled(transition, before, rate), seed)
    learned = facts.fold >= 0
    if most is not None:
        chosen = pool.some(learned, most, seed)
        learned = np.zeros(facts.n, dtype=bool)
        learned[chosen] = True
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
