"""How good predictions are against labels: the measures of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15


@dataclass(frozen=True)
class Metrics:
    """Measures of one run on one set of samples.

    Attributes
    ----------
    n : int
        Samples measured.
    confusion : ndarray of int64, shape (K, K)
        Row: label, column: prediction.
    accuracy, balanced_accuracy, macro_f1, ece : float
        Balanced accuracy and macro F1 are means over the classes that have samples; ece is the expected
        calibration error over 15 bins of equal width.
    precision, recall, f1 : ndarray of float64, shape (K,)
        0 where nothing was predicted (precision) or there is no sample (recall).
    """

    n: int
    confusion: NDArray[np.int64]
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    ece: float
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]

    def summary(self) -> dict[str, float]:
        """The single numbers, as JSON."""
        names = ("accuracy", "balanced_accuracy", "macro_f1", "ece")
        return {"n": self.n, **{name: round(float(getattr(self, name)), 6) for name in names}}

    def as_json(self, names: list[str]) -> Mapping[str, Any]:
        """Everything, as JSON; `names` are the classes'."""
        rows = zip(names, self.precision, self.recall, self.f1, self.confusion.sum(axis=1), strict=True)
        return {
            **self.summary(),
            "classes": [
                {"class": name, "precision": float(p), "recall": float(r), "f1": float(f), "samples": int(n)}
                for name, p, r, f, n in rows
            ],
            "confusion": self.confusion.tolist(),
        }


def measure(
    labels: NDArray[np.integer],
    predicted: NDArray[np.integer],
    confidence: NDArray[np.floating],
    n_classes: int,
) -> Metrics:
    """Measure predictions.

    Parameters
    ----------
    labels, predicted : ndarray of int, shape (n,)
        0..K-1.
    confidence : ndarray of float, shape (n,)
        Probability of the predicted class.
    n_classes : int
        K.
    """
    n = len(labels)
    flat = labels.astype(np.int64) * n_classes + predicted
    confusion = np.bincount(flat, minlength=n_classes * n_classes).reshape(n_classes, n_classes)
    right = np.diagonal(confusion).astype(np.float64)
    actual, said = confusion.sum(axis=1), confusion.sum(axis=0)
    recall = right / np.maximum(actual, 1)
    precision = right / np.maximum(said, 1)
    f1 = 2 * right / np.maximum(actual + said, 1)
    present = actual > 0
    return Metrics(
        n=n,
        confusion=confusion,
        accuracy=float(right.sum() / max(n, 1)),
        balanced_accuracy=float(recall[present].mean()) if n else 0.0,
        macro_f1=float(f1[present].mean()) if n else 0.0,
        ece=calibration_error(labels == predicted, confidence),
        precision=precision,
        recall=recall,
        f1=f1,
    )


def calibration_error(right: NDArray[np.bool_], confidence: NDArray[np.floating], bins: int = BINS) -> float:
    """Expected calibration error (Naeini et al., AAAI 2015): the mean gap of confidence and accuracy over bins."""
    if not len(right):
        return 0.0
    place = np.minimum((confidence.astype(np.float64) * bins).astype(np.int64), bins - 1)
    gap = np.bincount(place, right, bins) - np.bincount(place, confidence, bins)
    return float(np.abs(gap).sum() / len(right))
