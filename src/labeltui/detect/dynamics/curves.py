"""Training dynamics as curves: channels over a fixed number of steps.

=========  ==================================================================================================
channel    of the given label at a step, chance level 0, about -3..3
=========  ==================================================================================================
odds       log-odds of its probability, plus log(K - 1)
margin     its margin, as a multiple of the deviation of all samples' AUM
agrees     1 where it is the top class, -1 where not
top        log-odds of the top class, plus log(K - 1)
spread     normalised sum of squares: 0 all classes alike, 1 certain
rival      1 where the sample's rival (`run_features`) is the top class
all_agree  the mean of `agrees` over the samples of the run
all_odds   the mean of `odds` over the samples of the run
=========  ==================================================================================================

Epochs are interpolated at `STEPS` points from 0 to 1, so that their number does not matter; log-odds are relative to
the chance level of K classes; margins, whose scale depends on the network, are standardised within the run (their
mean is the AUM). The last two channels are equal for all samples of a run: they show its progress.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from labeltui.detect.base import Floats, Mask
from labeltui.detect.dynamics.run_features import RunFeatures
from labeltui.detect.dynamics.statistics import recorded
from labeltui.head import Dynamics

STEPS = 32
CHANNELS = ("odds", "margin", "agrees", "top", "spread", "rival", "all_agree", "all_odds")
_REFERENCE = 20_000  # largest number of samples for means and deviations


class Curves:
    """Curves of a record, computed in blocks.

    Parameters
    ----------
    record : Dynamics
    n_classes : int
        K, at least 2.

    Attributes
    ----------
    usable : ndarray of bool, shape (N,)
        Samples with at least one recorded epoch.
    company : Company
        Run-level features of each sample.
    """

    def __init__(self, record: Dynamics, n_classes: int) -> None:
        self._record = record
        self._chance = math.log(max(n_classes - 1, 1))
        self._floor = 1.0 / n_classes
        known = recorded(record)
        self.usable: Mask = np.asarray(known.any(axis=0))
        self._known = known
        self.run_features = RunFeatures(record, n_classes, known)
        inside = np.flatnonzero(self.usable)
        if len(inside) > _REFERENCE:
            inside = inside[np.linspace(0, len(inside) - 1, _REFERENCE).astype(np.int64)]
        self._spread = 1.0
        self._all: Floats = np.zeros((STEPS, 2), dtype=np.float32)
        if len(inside):
            deviation = self._resampled("margin", inside).mean(axis=1).std(dtype=np.float64)
            self._spread = max(float(deviation), 1e-3)
            self._all = np.stack(
                [self._resampled("agrees", inside).mean(axis=0), self._odds(inside).mean(axis=0)], axis=1
            )

    def read(self, rows: npt.NDArray[np.int64]) -> Floats:
        """Return the channels of the usable samples `rows`, float32 (n, STEPS, 8)."""
        out = np.empty((len(rows), STEPS, len(CHANNELS)), dtype=np.float32)
        out[:, :, 0] = self._odds(rows)
        out[:, :, 1] = np.clip(self._resampled("margin", rows) / self._spread, -8.0, 8.0)
        out[:, :, 2] = self._resampled("agrees", rows)
        top = np.log(np.clip(self._resampled("top_p", rows), 1e-6, 1.0))
        out[:, :, 3] = np.clip((_log_odds(top) + self._chance) / 3.0, -4.0, 4.0)
        squares = self._resampled("sum_squares", rows)
        out[:, :, 4] = np.clip((squares - self._floor) / (1.0 - self._floor), 0.0, 1.0)
        out[:, :, 5] = self._resampled("rival", rows)
        out[:, :, 6:] = self._all
        return out

    def _odds(self, rows: npt.NDArray[np.int64]) -> Floats:
        """The first channel of the samples `rows`, (n, STEPS)."""
        log_odds = _log_odds(self._resampled("log_p", rows))
        return np.asarray(np.clip((log_odds + self._chance) / 3.0, -4.0, 4.0))

    def _resampled(self, field: str, rows: npt.NDArray[np.int64]) -> Floats:
        """One field of the samples `rows` at the fixed steps, (n, STEPS), from each sample's recorded epochs."""
        out = np.empty((len(rows), STEPS), dtype=np.float32)
        if field == "agrees":
            values = np.where(self._record.top[:, rows] == self._record.labels[rows], 1.0, -1.0)
        elif field == "rival":
            values = (self._record.top[:, rows] == self.run_features.rival[rows]) & self._known[:, rows]
        else:
            values = getattr(self._record, field)[:, rows]
        for places, epochs in _same_epochs(self._known[:, rows]):
            weights = _interpolation(len(epochs))  # (STEPS, e)
            out[places] = values[np.ix_(epochs, places)].astype(np.float32).T @ weights.T
        return out


def _same_epochs(known: Mask) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Groups of samples recorded in the same epochs, with these epochs: nearly always a single group."""
    if known.all():
        yield np.arange(known.shape[1]), np.arange(len(known))
        return
    patterns, group = np.unique(np.packbits(known, axis=0), axis=1, return_inverse=True)
    for number in range(patterns.shape[1]):
        places = np.flatnonzero(group.ravel() == number)
        yield places, np.flatnonzero(known[:, places[0]])


def _interpolation(epochs: int) -> Floats:
    """Linear interpolation weights (STEPS, epochs) of `epochs` values at STEPS points."""
    at = np.linspace(0.0, epochs - 1.0, STEPS)
    low = np.minimum(at.astype(np.int64), max(epochs - 2, 0))
    weights = np.zeros((STEPS, epochs), dtype=np.float32)
    steps = np.arange(STEPS)
    weights[steps, low] += 1.0 - (at - low)
    if epochs > 1:
        weights[steps, low + 1] += at - low
    return weights


def _log_odds(log_p: Floats) -> Floats:
    """log(p / (1 - p)) of log p, finite even where float16 rounds p to 1."""
    kept = np.minimum(log_p, np.float32(-1e-4))
    return np.asarray(kept - np.log(-np.expm1(kept)))
