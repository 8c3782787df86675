"""Rates of wrong labels and the dilution that equals them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from labeltui.noise._validation import Floats, Labels, require, transition_matrix


def dilution(rate: float, n_classes: int | None = None) -> float:
    """Return alpha, the number of noisy labels added per clean one, that equals a share `rate` of wrong
    labels.

    ``alpha = q / (1 - q)`` with ``q = rate m / (m - 1)``: a noisy label drawn from all m classes hits the
    right one
    once in m (Rolnick et al., arXiv 1705.10694). Without `n_classes` noisy labels are all wrong, q = rate.

    Raises
    ------
    InputError
        The rate is not in 0..1, or no alpha reaches it (q >= 1).
    """
    require(0.0 <= rate <= 1.0, "rate must be between 0 and 1", rate)
    q = rate if n_classes is None else rate * n_classes / (n_classes - 1)
    require(q < 1.0, "a share of wrong labels that dilution can reach must be below (m - 1) / m", rate)
    return q / (1.0 - q)


def error_rate(alpha: float, n_classes: int | None = None) -> float:
    """Return the share of wrong labels at dilution `alpha`; the inverse of `dilution`."""
    require(alpha >= 0.0, "alpha must not be negative", alpha)
    q = alpha / (1.0 + alpha)
    return q if n_classes is None else q * (n_classes - 1) / n_classes


def plurality_gap(transition: npt.ArrayLike) -> float:
    """Return ``min_c (T_cc - max_j T_cj)``: how far the right label leads in the worst class; below 0 it
    does not."""
    matrix = transition_matrix(transition)
    if len(matrix) < 2:
        return 1.0
    others = matrix - 2.0 * np.eye(len(matrix))
    return float((np.diag(matrix) - others.max(axis=1)).min())


def scaled(transition: Floats, labels: Labels, rate: float) -> Floats:
    """Return the transition matrix with its errors scaled so that a share `rate` of `labels` becomes wrong.

    Parameters
    ----------
    transition : ndarray of float64, shape (K, K)
    labels : ndarray of int32
        -1 = none.
    rate : float
        Above 0, below 1. No row gives more than nine tenths of a class away.
    """
    require(0.0 < rate < 1.0, "the planted rate must lie between 0 and 1", rate)
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
