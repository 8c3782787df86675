"""Common statistics of training dynamics, each a few lines over the same record.

All take a `labeltui.head.Dynamics` of E epochs and N samples and return float32 (N,), HIGH = the label looks
correct; samples without a record get NaN. The detector does not use them, except the AUM and the mean confidence.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from labeltui.detect.base import Floats, Mask
from labeltui.head import Dynamics


def recorded(record: Dynamics) -> Mask:
    """Return which epochs of which samples were recorded, bool (E, N)."""
    finite = np.isfinite(record.log_p) & np.isfinite(record.margin) & np.isfinite(record.top_p)
    return np.asarray(finite & np.isfinite(record.sum_squares) & (record.top >= 0) & (record.labels >= 0))


def aum(record: Dynamics) -> Floats:
    """Area under the margin: the mean margin over the epochs (Pleiss et al., NeurIPS 2020, eq. 2)."""
    return _mean(record.margin, recorded(record))


def mean_confidence(record: Dynamics) -> Floats:
    """The mean probability of the given label (Swayamdipta et al., EMNLP 2020, eq. 1)."""
    return _mean(np.exp(record.log_p.astype(np.float32)), recorded(record))


def last_loss(record: Dynamics) -> Floats:
    """Minus the loss in the last recorded epoch."""
    known = recorded(record)
    last = len(known) - 1 - np.argmax(known[::-1], axis=0)
    value = record.log_p[last, np.arange(known.shape[1])].astype(np.float32)
    return np.where(known.any(axis=0), value, np.float32(np.nan))


def wrong_events(record: Dynamics) -> Floats:
    """Minus the number of epochs in which another class was on top."""
    known = recorded(record)
    return _count((record.top != record.labels) & known, known)


def forgetting_events(record: Dynamics) -> Floats:
    """Minus the number of times that the label was on top and then was not (Toneva et al., ICLR 2019).

    A sample whose label was never on top counts as forgotten in every epoch, as in the paper's order.
    """
    known = recorded(record)
    right = (record.top == record.labels) & known
    lost = right[:-1] & ~right[1:] & known[1:]
    forgotten = np.concatenate([np.zeros((1, known.shape[1]), dtype=bool), lost])
    forgotten[:, ~right.any(axis=0)] = True
    return _count(forgotten, known)


def el2n(record: Dynamics, fraction: float = 0.2) -> Floats:
    """Minus the length of the error vector, the mean over the first epochs (Paul et al., NeurIPS 2021, def. 2.2).

    Uses ``|p - y|^2 = sum p^2 - 2 p_y + 1``.

    Parameters
    ----------
    record : Dynamics
    fraction : float
        Fraction of the epochs, at least one epoch. The paper measures early in training (20 of 200 epochs) and
        averages over ten runs; a record has one run.
    """
    early = slice(0, max(1, round(fraction * len(record.log_p))))
    own = np.exp(record.log_p[early].astype(np.float32))
    square = record.sum_squares[early].astype(np.float32) - 2.0 * own + 1.0
    return -_mean(np.sqrt(np.maximum(square, 0.0)), recorded(record)[early])


STATISTICS: dict[str, Callable[[Dynamics], Floats]] = {
    "AUM": aum,
    "mean confidence": mean_confidence,
    "wrong events": wrong_events,
    "forgetting events": forgetting_events,
    "EL2N": el2n,
    "last loss": last_loss,
}


def _mean(values: npt.NDArray[np.floating], known: Mask) -> Floats:
    total = np.where(known, values, 0.0).sum(axis=0, dtype=np.float32)
    times = known.sum(axis=0)
    return np.where(times > 0, total / np.maximum(times, 1), np.nan).astype(np.float32)


def _count(events: Mask, known: Mask) -> Floats:
    return np.where(known.any(axis=0), -events.sum(axis=0), np.nan).astype(np.float32)
