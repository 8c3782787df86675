"""Noise rates and the equivalent dilution."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from labeltui.noise._validation import Floats, Labels, require, transition_matrix


def dilution(rate: float, n_classes: int | None = None) -> float:
    """Return alpha, the number of noisy labels per clean one, equivalent to a noise rate.

    ``alpha = q / (1 - q)`` with ``q = rate m / (m - 1)``: a noisy label drawn from all m classes is correct
    once in m (Rolnick et al., arXiv 1705.10694). Without `n_classes` noisy labels are all wrong, q = rate.

    Parameters
    ----------
    rate : float
        Fraction of wrong labels, 0..1.
    n_classes : int, optional
        m, at least 2.

    Returns
    -------
    float

    Raises
    ------
    InputError
        The rate is not in 0..1, or no alpha reaches it (q >= 1).
    """
    require(0.0 <= rate <= 1.0, "rate must be between 0 and 1", rate)
    q = rate if n_classes is None else rate * n_classes / (n_classes - 1)
    require(q < 1.0, "the noise rate must be below (m - 1) / m to be reached by dilution", rate)
    return q / (1.0 - q)


def error_rate(alpha: float, n_classes: int | None = None) -> float:
    """Return the noise rate at dilution `alpha`; the inverse of `dilution`.

    Parameters
    ----------
    alpha : float
        Noisy labels per clean one, at least 0.
    n_classes : int, optional
        m, at least 2.

    Returns
    -------
    float
        Fraction of wrong labels.
    """
    require(alpha >= 0.0, "alpha must not be negative", alpha)
    q = alpha / (1.0 + alpha)
    return q if n_classes is None else q * (n_classes - 1) / n_classes


def plurality_gap(transition: npt.ArrayLike) -> float:
    """Return ``min_c (T_cc - max_j T_cj)``: the lead of the correct label in the worst class; negative if it loses."""
    matrix = transition_matrix(transition)
    if len(matrix) < 2:
        return 1.0
    others = matrix - 2.0 * np.eye(len(matrix))
    return float((np.diag(matrix) - others.max(axis=1)).min())


def scaled(transition: Floats, labels: Labels, rate: float) -> Floats:
    """Scale the errors of a transition matrix so that a fraction `rate` of `labels` becomes wrong.

    Parameters
    ----------
    transition : ndarray of float64, shape (K, K)
    labels : ndarray of int32
        -1 = none.
    rate : float
        Above 0, below 1. At most nine tenths of a class change.
    """
    require(0.0 < rate < 1.0, "the rate of injected noise must be between 0 and 1", rate)
    k = len(transition)
    fraction = np.bincount(labels[labels >= 0], minlength=k) / max(int((labels >= 0).sum()), 1)
    errors = transition * (1.0 - np.eye(k))
    mean = float(fraction @ errors.sum(axis=1))
    if mean <= 0.0:
        errors = (1.0 - np.eye(k)) / max(k - 1, 1)
        mean = float(fraction @ errors.sum(axis=1))
    errors = errors * (rate / mean)
    away = errors.sum(axis=1, keepdims=True)
    errors = errors * np.minimum(1.0, 0.9 / np.maximum(away, 1e-300))
    return np.asarray(errors + np.diag(1.0 - errors.sum(axis=1)))
