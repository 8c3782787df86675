"""Calibration of the blend's label scores, measured on the decisions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeltui.audit.decisions import AUTOMATIC, BULK, KINDS
from labeltui.noise.checked import NumberWrong
from labeltui.paths import OK
from labeltui.store import Store

PER_BIN = 30  # decisions; with fewer a fraction is too uncertain
MAX_BINS = 5


def checked(
    kinds: NDArray[np.int8], given: NDArray[np.int32], current: NDArray[np.int32], how: NDArray[np.int8]
) -> NDArray[np.int8]:
    """Verdicts on the given labels: 1 correct, 0 wrong, -1 not reviewed.

    A decision in bulk, or by a program, is no review: suggestions that were accepted unseen would confirm themselves.

    Parameters
    ----------
    kinds : ndarray of int8, shape (N,)
        Kind of each sample's decision, an index of `KINDS`.
    given, current : ndarray of int32, shape (N,)
        Labels before and after the decisions; -1 = none.
    how : ndarray of int8, shape (N,)
        How each decision came about, an index of `labeltui.audit.decisions.HOW`.

    Returns
    -------
    ndarray of int8, shape (N,)
    """
    found = np.full(len(kinds), -1, dtype=np.int8)
    decided = (kinds == KINDS.index("keep")) | (kinds == KINDS.index("relabel"))
    found[decided] = current[decided] == given[decided]
    found[kinds == KINDS.index("exclude")] = 0
    found[(how == BULK) | (how == AUTOMATIC)] = -1
    return found


def report(
    scores: NDArray[np.float32], verdict: NDArray[np.int8], store: Store, wrong: NumberWrong
) -> dict[str, Any]:
    """Return the calibration as ``labeltui status --json`` prints it.

    Parameters
    ----------
    scores : (N,) float32
        Label scores.
    verdict : (N,) int8
        From `checked`.
    store : Store
    wrong : NumberWrong
        Of all samples.

    Returns
    -------
    dict
        ``wrong_labels``: ``low`` and ``high``, a 95 % interval once random ``checks`` were reviewed, before that a
        bound (``low`` is 0); ``expected``; ``checks``, ``wrong_checks``; ``of`` so many samples. ``fitted_on``: the
        decisions that the probabilities shown were calibrated by. ``decided``: those that were looked at, now.
        ``bins``: of those, in up to five groups of equal size, least trusted first, ``stated`` mean P(label right),
        ``found`` fraction of correct labels and ``decided``; none below 30 decisions. People decide on the worst first:
        the groups speak of samples with such probabilities, not of all.
    """
    known = (store.status == OK) & (store.given >= 0)
    right = np.asarray(scores, dtype=np.float64)
    decided = np.flatnonzero((verdict >= 0) & known)
    order = decided[np.argsort(right[decided], kind="stable")]
    count = min(MAX_BINS, len(order) // PER_BIN)
    parts = np.array_split(order, count) if count else []
    fitted = store.attrs("scores/blend").get("calibration_checks", 0)
    return {
        "wrong_labels": {
            "of": wrong.samples,
            "expected": round(wrong.expected, 1),
            "low": round(wrong.low, 1),
            "high": round(wrong.high, 1),
            "checks": wrong.checks,
            "wrong_checks": wrong.wrong_checks,
        },
        "fitted_on": int(fitted),
        "decided": len(decided),
        "bins": [
            {
                "stated": round(float(right[part].mean()), 4),
                "found": round(float(verdict[part].mean()), 4),
                "decided": len(part),
            }
            for part in parts
        ],
    }
