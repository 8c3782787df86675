"""Runs side by side: the same samples, the same labels to measure against, paired over seeds, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labeltui import paths, store
from labeltui.errors import JobError
from labeltui.text import safe
from labeltui.train.jobs import Job, find
from labeltui.train.plan import named_labels
from labeltui.train.predictions import Metrics, Predictions
from labeltui.train.spec import TrainSpec

if TYPE_CHECKING:
    from labeltui.audit import Audit

MEASURES = ("accuracy", "balanced_accuracy", "macro_f1", "ece")
REDRAWS = 1000
BY_SAMPLES = "bootstrap over samples"

Run = tuple[Job, TrainSpec, Predictions]


@dataclass(frozen=True)
class Row:
    """One run of a comparison.

    Attributes
    ----------
    job : Job
    labels, what : str
        What it was trained on, and which model.
    seed : int
    metrics : Metrics
        On the common samples.
    """

    job: Job
    labels: str
    what: str
    seed: int
    metrics: Metrics


@dataclass(frozen=True)
class Difference:
    """One kind of run against the first kind, paired over seeds.

    Attributes
    ----------
    labels, what, against : str
    measure : str
    mean, low, high : float
        Of the difference, with a 95 % interval: Student's t over the seeds when there are two or more pairs, else a
        bootstrap over the samples of the one pair (which leaves out how much runs differ by seed).
    pairs : int
    method : str
        ``t over seeds`` or ``bootstrap over samples``.
    """

    labels: str
    what: str
    against: str
    measure: str
    mean: float
    low: float
    high: float
    pairs: int
    method: str


@dataclass(frozen=True)
class Comparison:
    """Runs compared.

    Attributes
    ----------
    measured_against : str
        The labels; see `compare`.
    n : int
        Samples that all runs predicted unseen.
    rows : list of Row
        By labels, model and seed.
    differences : list of Difference
        Each kind of run against the first named.
    """

    measured_against: str
    n: int
    rows: list[Row]
    differences: list[Difference]

    def as_json(self) -> dict[str, Any]:
        """For ``compare --json``."""
        return {
            "measured_against": self.measured_against,
            "samples": self.n,
            "runs": [
                {
                    "id": row.job.id,
                    "labels": row.labels,
                    "model": row.what,
                    "seed": row.seed,
                    **row.metrics.summary(),
                }
                for row in self.rows
            ],
            "differences": [difference.__dict__ for difference in self.differences],
        }

    def lines(self) -> list[str]:
        """For a terminal."""
        width = max(len(_kind(row)) for row in self.rows)
        lines = [
            f"measured on {self.n:,} samples that no run was trained on, against the {self.measured_against} labels",
            "",
            f"{'run':<24} {'labels, model':<{width}} {'seed':>4}  accuracy  balanced  macro F1    ECE",
        ]
        for row in self.rows:
            m = row.metrics
            lines.append(
                f"{row.job.number:>3} {row.job.id:<20} {_kind(row):<{width}} {row.seed:>4}  {m.accuracy:8.4f}  "
                f"{m.balanced_accuracy:8.4f}  {m.macro_f1:8.4f} {m.ece:6.4f}"
            )
        for each in self.differences:
            if each.measure == "accuracy":
                clear = "" if each.low <= 0 <= each.high else "  (clear of zero)"
                lines += [
                    "",
                    f"{each.labels}, {each.what} minus {each.against}: accuracy {each.mean:+.4f}, 95 % interval "
                    f"{each.low:+.4f} to {each.high:+.4f} ({each.method}, {each.pairs} "
                    f"{'pair' if each.pairs == 1 else 'pairs'}){clear}",
                ]
        return lines


def compare(audit: Audit, run_ids: Sequence[str], against: str = "current") -> Comparison:
    """Put runs side by side.

    Parameters
    ----------
    audit : Audit
    run_ids : sequence of str
        As `labeltui.train.jobs.find` takes them.
    against : str
        Labels to measure against: ``current``, ``given``, or ``TABLE:COLUMN`` (a reference).

    Raises
    ------
    JobError
        A run is unknown or left no predictions, or the runs have no sample in common.
    UsageError, SourceError
        The labels cannot be read.
    """
    jobs = list({job.id: job for job in (find(audit.path, run_id) for run_id in run_ids)}.values())
    rows, right = _measured(audit, [_read(audit, job) for job in jobs], _labels(audit, against))
    return Comparison(safe(against), len(right[0]), rows, _differences(rows, right))


def before_and_after(audit: Audit, jobs: Sequence[Job]) -> list[tuple[Row, Row, Difference]]:
    """Put the first of several runs beside each later one, whatever they were trained on, by the current labels.

    Parameters
    ----------
    audit : Audit
    jobs : sequence of Job
        In the order of their starts.

    Returns
    -------
    list of (Row, Row, Difference)
        The first run, a later one, and the difference of their accuracies on the samples that both predicted unseen;
        without runs that left no predictions, or none in common with the first.
    """
    runs, found = [], []
    for job in jobs:
        try:
            runs.append(_read(audit, job))
        except JobError:
            if not runs:
                return []
    labels = _labels(audit, "current")
    for run in runs[1:]:
        try:
            (before, after), (was, now) = _measured(audit, [runs[0], run], labels)
        except JobError:
            continue
        gaps = now.astype(np.float64) - was
        low, high = _bootstrap(gaps)
        gap = Difference(
            after.labels, after.what, _kind(before), "accuracy", float(gaps.mean()), low, high, 1, BY_SAMPLES
        )
        found.append((before, after, gap))
    return found


def _labels(audit: Audit, against: str) -> NDArray[np.int32]:
    with store.Store.open(audit.path, audit.generation) as opened:
        return named_labels(audit, opened, against)


def _read(audit: Audit, job: Job) -> Run:
    spec, predictions = TrainSpec.read(job.directory / paths.SPEC_FILE), Predictions.read(job.directory)
    at, classes = predictions.rows, predictions.predicted
    if len(at) and (at[-1] >= audit.n or classes.max() >= audit.K):
        raise JobError(
            "a run's predictions are of samples and classes of its audit", f"those of run {job.id} are not"
        )
    return job, spec, predictions


def _measured(
    audit: Audit, runs: Sequence[Run], labels: NDArray[np.int32]
) -> tuple[list[Row], list[NDArray[np.bool_]]]:
    """Measure runs on the samples that all of them predicted unseen; and which of these each has right."""
    common = runs[0][2].rows
    for _, _, predictions in runs[1:]:
        common = np.intersect1d(common, predictions.rows, assume_unique=True)
    common = common[labels[common] >= 0]
    if not len(common):
        raise JobError(
            "runs are compared on samples that all of them left out of training",
            "these have none with a label in common",
            "give them the same --held-out",
        )
    parts = [_on(predictions, common) for _, _, predictions in runs]
    rows = [
        Row(job, _said(spec), safe(spec.what, 200), spec.seed, part.against(labels, audit.K))
        for (job, spec, _), part in zip(runs, parts, strict=True)
    ]
    return rows, [part.predicted == labels[common] for part in parts]


def _said(spec: TrainSpec) -> str:
    return safe(spec.labels, 200)


def _kind(row: Row) -> str:
    return f"{row.labels}, {row.what}"


def _on(predictions: Predictions, common: NDArray[np.int64]) -> Predictions:
    at = np.searchsorted(predictions.rows, common)
    return Predictions(common, predictions.predicted[at], predictions.confidence[at])


def _differences(rows: list[Row], right: list[NDArray[np.bool_]]) -> list[Difference]:
    kinds: dict[tuple[str, str], dict[int, int]] = {}
    for number, row in enumerate(rows):
        kinds.setdefault((row.labels, row.what), {})[row.seed] = number
    (first, base), *others = kinds.items()
    made = []
    for (labels, what), runs in others:
        seeds = sorted(runs.keys() & base.keys())
        if not seeds:
            continue
        for measure in MEASURES:
            gaps = np.array(
                [
                    getattr(rows[runs[seed]].metrics, measure) - getattr(rows[base[seed]].metrics, measure)
                    for seed in seeds
                ]
            )
            if len(seeds) > 1:
                low, high = t_interval(gaps)
                method = "t over seeds"
            elif measure == "accuracy":
                correct, baseline = right[runs[seeds[0]]], right[base[seeds[0]]]
                low, high = _bootstrap(correct.astype(np.float64) - baseline)
                method = BY_SAMPLES
            else:
                continue
            made.append(
                Difference(
                    labels, what, ", ".join(first), measure, float(gaps.mean()), low, high, len(seeds), method
                )
            )
    return made


def t_interval(gaps: NDArray[np.float64]) -> tuple[float, float]:
    """Return Student's 95 % interval of the mean of two or more values.

    Parameters
    ----------
    gaps : ndarray of float64, shape (n,)
    """
    from scipy.special import stdtrit  # slow to import

    half = float(stdtrit(len(gaps) - 1, 0.975)) * float(gaps.std(ddof=1)) / math.sqrt(len(gaps))
    return float(gaps.mean()) - half, float(gaps.mean()) + half


def _bootstrap(gaps: NDArray[np.float64]) -> tuple[float, float]:
    """Percentile bootstrap of the mean of differences that are -1, 0 or 1: by their counts alone."""
    n = len(gaps)
    proportions = np.array([(gaps == value).sum() for value in (-1, 0, 1)]) / n
    drawn = np.random.default_rng(0).multinomial(n, proportions, size=REDRAWS)
    low, high = np.percentile((drawn[:, 2] - drawn[:, 0]) / n, [2.5, 97.5])
    return float(low), float(high)
