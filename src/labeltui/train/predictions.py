"""What a run predicted for samples its model had not seen: predictions.npz and metrics.json of its directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labeltui.errors import JobError
from labeltui.store import replacing, write_json
from labeltui.text import safe
from labeltui.train.metrics import Metrics, measure

FILE = "predictions.npz"


@dataclass(frozen=True)
class Predictions:
    """Predictions for n samples.

    Attributes
    ----------
    rows : ndarray of int64, shape (n,)
        Samples, ascending.
    predicted : ndarray of int32, shape (n,)
    confidence : ndarray of float32, shape (n,)
        Probability of the predicted class.
    """

    rows: NDArray[np.int64]
    predicted: NDArray[np.int32]
    confidence: NDArray[np.float32]

    @classmethod
    def of(cls, rows: NDArray[np.integer], p: NDArray[np.float32]) -> Predictions:
        """From probabilities (n, K) of the samples `rows`."""
        order = np.argsort(rows, kind="stable")
        p = p[order]
        best = p.argmax(axis=1).astype(np.int32)
        return cls(rows[order].astype(np.int64), best, p[np.arange(len(p)), best])

    def write(self, directory: Path, labels: NDArray[np.int32], names: list[str], on: str) -> Metrics:
        """Write both files; `labels` (N,) are those of the run, `on` says which samples these are."""
        with replacing(directory / FILE) as temporary, open(temporary, "wb") as file:
            np.savez(file, rows=self.rows, predicted=self.predicted, confidence=self.confidence)
        metrics = self.against(labels, len(names))
        write_json(directory / "metrics.json", {"on": on, **metrics.as_json(names)})
        return metrics

    def against(self, labels: NDArray[np.int32], n_classes: int) -> Metrics:
        """Measure against a label vector (N,), on the samples that have a label there."""
        known = labels[self.rows] >= 0
        return measure(labels[self.rows[known]], self.predicted[known], self.confidence[known], n_classes)

    @classmethod
    def read(cls, directory: Path) -> Predictions:
        """Read a run's predictions.

        Raises
        ------
        JobError
            The run left none.
        """
        try:
            with np.load(directory / FILE, allow_pickle=False) as data:
                return cls(data["rows"], data["predicted"], data["confidence"])
        except (OSError, ValueError, KeyError) as error:
            raise JobError(
                "a run is compared by its predictions", f"run {directory.name} left none: {safe(str(error))}"
            ) from None
