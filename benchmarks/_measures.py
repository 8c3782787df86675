"""What `detection.py` measures of a ranking, a set of flags, a probability and corrected labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from labeltui.detect import calibrate

Floats = NDArray[np.floating]
Ints = NDArray[np.int32]
Mask = NDArray[np.bool_]

BINS = 15
# key in a cell: title in the table
COLUMNS = {
    "AUROC": "AUROC",
    "AP": "AP",
    "F1@k": "F1@k",
    "F1": "F1 own",
    "P@1": "P@1%",
    "P@5": "P@5%",
    "P@10": "P@10%",
    "R@5": "R@5%",
    "R@10": "R@10%",
    "R@20": "R@20%",
    "ECE": "ECE",
    "skill": "skill",
    "lowest": "lowest",
    "accuracy": "labels",
    "seconds": "CPU s",
}


@dataclass
class Row:
    """One line of the table.

    Attributes
    ----------
    score : ndarray, shape (N,), optional
        Low = looks wrong.
    flags : ndarray of bool, shape (N,), optional
        At its own threshold.
    corrected : ndarray of int32, shape (N,), optional
        Labels after automatic correction.
    right : ndarray, shape (N,), optional
        P(label right), of those that claim to know it.
    seconds : float
        Of all processors, beyond graph and head, which have rows of their own.
    """

    score: Floats | None = None
    flags: Mask | None = None
    corrected: Ints | None = None
    right: Floats | None = None
    seconds: float = float("nan")

    def measured(self, labels: Ints, clean: Ints) -> dict[str, float]:
        """Return the figures by column."""
        wrong = labels != clean
        found: dict[str, float] = {} if self.score is None else ranking(self.score, wrong)
        if self.flags is not None:
            found["F1"] = f1(self.flags, wrong)
        if self.corrected is not None:
            found["accuracy"] = float((self.corrected == clean).mean())
        if self.right is not None:
            found |= calibration(self.right, ~wrong)
        if np.isfinite(self.seconds):
            found["seconds"] = self.seconds
        return found


def ranking(score: Floats, wrong: Mask) -> dict[str, float]:
    """What a ranking finds; low scores come first."""
    order = np.argsort(score, kind="stable")
    hits = wrong[order]
    total = max(int(wrong.sum()), 1)
    found = {
        "AUROC": float(roc_auc_score(wrong, -score)),
        "AP": float(average_precision_score(wrong, -score)),
        "F1@k": float(hits[:total].mean()),  # as many flags as errors: precision = recall = F1
    }
    for percent in (1, 5, 10):
        found[f"P@{percent}"] = float(hits[: max(1, len(hits) * percent // 100)].mean())
    for percent in (5, 10, 20):
        found[f"R@{percent}"] = float(hits[: len(hits) * percent // 100].sum() / total)
    return found


def f1(flagged: Mask, wrong: Mask) -> float:
    """F1 of a set of flags."""
    both = float((flagged & wrong).sum())
    return 2 * both / max(float(flagged.sum() + wrong.sum()), 1.0)


def calibration(right: Floats, truth: Mask) -> dict[str, float]:
    """ECE over bins of equal mass, Brier skill over the base rate, and the error among the 10 % lowest."""
    lowest = np.argsort(right, kind="stable")[: max(1, len(right) // 10)]
    return {
        "ECE": calibrate.calibration_error(right, truth, BINS),
        "skill": calibrate.brier_skill(right, truth),
        "lowest": abs(float(right[lowest].mean(dtype=np.float64)) - float(truth[lowest].mean())),
    }


def reliability(right: Floats, truth: Mask) -> list[list[float]]:
    """Mean P(label right) and the share that is right, by bins of equal mass."""
    parts = np.array_split(np.argsort(right, kind="stable"), BINS)
    return [[float(right[p].mean(dtype=np.float64)), float(truth[p].mean())] for p in parts if len(p)]


def best_threshold(chance: Floats, suggested: Ints, labels: Ints, clean: Ints) -> float:
    """Label accuracy at the threshold on `chance` that the right labels choose: the oracle of automatic correction."""
    changed = np.flatnonzero(suggested != labels)
    order = changed[np.argsort(-chance[changed], kind="stable")]
    gain = (suggested[order] == clean[order]).astype(np.int64) - (labels[order] == clean[order])
    best = max(0, int(np.cumsum(gain).max(initial=0)))
    return float(((labels == clean).sum() + best) / len(labels))
