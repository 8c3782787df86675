"""A trial on the audit itself: how well would planted errors be found?

Errors are planted in a *copy* of the labels, matched to the estimated transition matrix, and everything that
learns from labels learns anew from that copy: folds, heads, votes and the blend. What it finds of the planted
errors is known, without any clean label. The trial tells what to expect of noise that is blind to the
picture; people err on the hard pictures, which are harder to find, so on human noise its figures are an upper
bound.

It measures and is not fed back: planted errors sit on clear pictures, where people make few, and models stacked on
them did not rank what people got wrong better throughout (rows "stacked on planted labels" of
`benchmarks/detection.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from labeltui import head, noise
from labeltui.detect.base import Facts, Findings, Ints, Mask
from labeltui.detect.run import run
from labeltui.errors import InputError
from labeltui.noise.laws import Floats as Matrix

_HEAD_SHARE = 0.5


@dataclass(frozen=True)
class Trial:
    """A planted copy and what was found in it.

    Attributes
    ----------
    labels, before : ndarray of int32, shape (N,)
        The copy that everything was fitted on, and what it was made from; -1 = took no part.
    planted : ndarray of bool, shape (N,)
    facts : Facts
        What the detectors were given.
    findings : Findings
    """

    labels: Ints
    before: Ints
    planted: Mask
    facts: Facts
    findings: Findings

    @property
    def recall(self) -> float:
        """Share of the planted errors that were flagged."""
        flagged = self.findings.suggest_label[:, 0] != self.labels
        return float(flagged[self.planted].mean()) if self.planted.any() else 0.0

    @property
    def restored(self) -> float:
        """Share of the planted errors whose former label is the first suggestion."""
        found = self.findings.suggest_label[:, 0] == self.before
        return float(found[self.planted].mean()) if self.planted.any() else 0.0


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


def trial(
    facts: Facts,
    transition: Matrix,
    rate: float = 0.08,
    seed: int = 0,
    *,
    progress: Callable[[float], None] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Trial:
    """Plant errors in a copy of the labels, learn everything anew from the copy, and look for them.

    Parameters
    ----------
    facts : Facts
        With embeddings and folds. Probabilities that were learned from the real labels (the head's, the
        user's, a fine-tuned backbone's) are not used: they would know the labels that were there before.
    transition : ndarray of float64, shape (K, K)
        For example `Findings.transition`.
    rate : float
        Share of the labels to plant.
    seed : int
    progress, cancel : callable, optional

    Raises
    ------
    InputError
        There are no embeddings or folds to learn from.
    """
    if facts.embeddings is None or facts.fold is None:
        raise InputError("a trial needs embeddings and folds", "this audit has none", "scan it again")
    tell = progress or (lambda share: None)
    before = np.where(facts.judged & (facts.labels >= 0), facts.labels, -1).astype(np.int32)
    copy, planted = noise.class_dependent(before, scaled(transition, before, rate), seed)
    n_folds = max(2, int(facts.fold.max()) + 1)
    fold = head.folds(copy, facts.groups, facts.fold >= 0, n_folds, seed + 1)
    result = head.out_of_fold(
        facts.embeddings,
        np.where(fold >= 0, copy, -1),
        fold,
        facts.n_classes,
        spec=facts.head,
        seed=seed + 1,
        threads=facts.threads,
        device=facts.device,
        weights=facts.weights,
        progress=lambda epoch: tell(_HEAD_SHARE * epoch.done / epoch.total),
        cancel=cancel,
        dynamics=True,
    )
    fresh = replace(
        facts,
        labels=copy,
        given=None,
        fold=fold,
        p_head=result.p,
        p_tuned=None,
        pred_probs=None,
        dynamics=result.dynamics,
        planted=None,
        checked=None,
        kept={},
        seed=seed + 1,
    )
    found = run(fresh, lambda share: tell(_HEAD_SHARE + (1.0 - _HEAD_SHARE) * share), cancel=cancel)
    return Trial(copy, before, planted, fresh, found)
