"""What a run predicted for samples its model was not trained on, and how good that is.

These are ``predictions.npz`` and ``metrics.json`` of its directory.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeltui import paths
from labeltui.errors import JobError
from labeltui.io import files
from labeltui.io.atomic import replacing, write_json
from labeltui.text import safe

MOST_BYTES = 1 << 30


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
        Balanced accuracy and macro F1 are means over the classes that have samples; ece is the calibration error
        of the predictions, see `labeltui.detect.calibrate.calibration_error`.
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
    """Measure predictions, by scikit-learn's definitions.

    Parameters
    ----------
    labels, predicted : ndarray of int, shape (n,)
        0..K-1.
    confidence : ndarray of float, shape (n,)
        Probability of the predicted class.
    n_classes : int
        K.

    Returns
    -------
    Metrics
        All 0 when there are no samples.
    """
    if not len(labels):
        nothing = np.zeros(n_classes)
        return Metrics(0, np.zeros((n_classes, n_classes), np.int64), 0, 0, 0, 0, nothing, nothing, nothing)
    # Slow to import, and the terminal UI starts with this module.
    from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

    from labeltui.detect.calibrate import calibration_error

    known = np.arange(n_classes)
    precision, recall, f1, samples = precision_recall_fscore_support(
        labels, predicted, labels=known, zero_division=0.0
    )
    present = samples > 0
    return Metrics(
        n=len(labels),
        confusion=confusion_matrix(labels, predicted, labels=known).astype(np.int64),
        accuracy=float(accuracy_score(labels, predicted)),
        balanced_accuracy=float(recall[present].mean()),
        macro_f1=float(f1[present].mean()),
        ece=calibration_error(confidence, labels == predicted),
        precision=precision,
        recall=recall,
        f1=f1,
    )


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
        """Predictions from probabilities.

        Parameters
        ----------
        rows : ndarray of int, shape (n,)
            Samples.
        p : ndarray of float32, shape (n, K)

        Returns
        -------
        Predictions
        """
        order = np.argsort(rows, kind="stable")
        p = p[order]
        best = p.argmax(axis=1).astype(np.int32)
        return cls(rows[order].astype(np.int64), best, p[np.arange(len(p)), best])

    def write(self, directory: Path, labels: NDArray[np.int32], names: list[str], on: str) -> Metrics:
        """Write predictions and metrics of a run.

        Parameters
        ----------
        directory : Path
            Of the run.
        labels : ndarray of int32, shape (N,)
            Labels of the run.
        names : list of str
            Of the K classes.
        on : str
            Which samples these are.

        Returns
        -------
        Metrics
        """
        with replacing(directory / paths.PREDICTIONS_FILE) as temporary, open(temporary, "wb") as file:
            np.savez(file, rows=self.rows, predicted=self.predicted, confidence=self.confidence)
        metrics = self.against(labels, len(names))
        write_json(directory / paths.METRICS_FILE, {"on": on, **metrics.as_json(names)})
        return metrics

    def against(self, labels: NDArray[np.int32], n_classes: int) -> Metrics:
        """Measure against labels, on the samples that have one.

        Parameters
        ----------
        labels : ndarray of int32, shape (N,)
            -1 = none.
        n_classes : int

        Returns
        -------
        Metrics
        """
        known = labels[self.rows] >= 0
        return measure(labels[self.rows[known]], self.predicted[known], self.confidence[known], n_classes)

    def _require_sound(self) -> None:
        """Raise ValueError unless the three arrays are as documented."""
        kinds = (self.rows.dtype.kind, self.predicted.dtype.kind, self.confidence.dtype.kind)
        shapes = {self.rows.shape, self.predicted.shape, self.confidence.shape}
        if kinds != ("i", "i", "f") or len(shapes) > 1 or self.rows.ndim != 1:
            raise ValueError("its arrays have other types or shapes than a run writes")
        if len(self.rows) and (
            self.rows[0] < 0 or (np.diff(self.rows) <= 0).any() or self.predicted.min() < 0
        ):
            raise ValueError("its rows do not ascend, or a prediction is no class")
        if not np.isfinite(self.confidence).all():
            raise ValueError("a confidence is not finite")

    @classmethod
    def read(cls, directory: Path) -> Predictions:
        """Read a run's predictions.

        Raises
        ------
        JobError
            The run left none, or they are damaged.
        """
        try:
            files.require_regular(directory / paths.PREDICTIONS_FILE)
            with zipfile.ZipFile(directory / paths.PREDICTIONS_FILE) as archive:
                if sum(member.file_size for member in archive.infolist()) > MOST_BYTES:
                    raise ValueError("it unpacks to far more than a run writes")
            with np.load(directory / paths.PREDICTIONS_FILE, allow_pickle=False) as data:
                found = cls(data["rows"], data["predicted"], data["confidence"])
            found._require_sound()
            return found
        except Exception as error:  # damaged archives raise BadZipFile, EOFError, zlib.error, MemoryError ...
            raise JobError(
                "a run is compared by its predictions", f"run {directory.name} left none: {safe(str(error))}"
            ) from None
