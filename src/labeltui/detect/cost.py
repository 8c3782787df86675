"""Estimated times of the ensemble and its detectors on one core; see `labeltui.graph.cost`."""

from __future__ import annotations


def fit_seconds(n: int, classes: int) -> float:
    """Estimate the time of fitting the detectors that learn the given labels."""
    return n * (1.3e-5 + 1e-7 * classes)


def record_seconds(n: int) -> float:
    """Estimate the time of scoring one record of training dynamics."""
    return 2e-5 * n


def pool_seconds(n: int, classes: int) -> float:
    """Estimate the time of fitting the ensemble once."""
    return 0.25 + n * (2.5e-5 + 4e-7 * classes)


def score_seconds(n: int, classes: int) -> float:
    """Estimate the time of scoring all samples."""
    return n * (1.5e-5 + 5e-7 * classes)
