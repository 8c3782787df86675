"""Running all detectors, and the ensemble, on an audit's arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from labeltui.detect import calibrate
from labeltui.detect.base import (
    UNKNOWN,
    Attribute,
    Detector,
    DetectorInputs,
    Findings,
    Floats,
    Ints,
    NoiseAwareDetector,
    label_probability,
)
from labeltui.detect.cost import fit_seconds, pool_seconds, score_seconds
from labeltui.detect.ensemble import Ensemble, noise_posterior
from labeltui.detect.probabilities import Given
from labeltui.detect.registry import available, table
from labeltui.errors import Cancelled, InputError, UsageError
from labeltui.parallel import Portions, Progress

SUGGESTIONS = 5
LEAST_CHANCE = 1 / 3
"""P(given label wrong) of a flag, at least: of three that a person looks at, one is wrong."""
MASSIVE = 0.78
"""Estimated fraction of wrong labels above which detectors that learned from single labels only add noise."""


def run(
    inputs: DetectorInputs,
    progress: Progress | None = None,
    *,
    only: Sequence[str] | None = None,
    combined: bool = True,
    cancel: Callable[[], bool] | None = None,
) -> Findings:
    """Score all samples with every detector whose needs `inputs` meets, and with the ensemble.

    Parameters
    ----------
    inputs : DetectorInputs
    progress : callable, optional
        Called with the fraction done, 0..1.
    only : sequence of str, optional
        Names of the detectors to run.
    combined : bool
        False: each for itself, which saves the fit of the ensemble. There is no blend, and no suggestion; detectors
        that need to know the noise are left out.
    cancel : callable, optional
        Asked once a block; True raises `Cancelled`.

    Returns
    -------
    Findings
        Samples that are not ok: score one half, their label as the only suggestion, with probability 0.
        Samples without a label: score one half, suggestions as found. Samples whose label cannot be scored
        (no other sample has it): what the user's own probabilities say; without them score one half, their label first.

    Raises
    ------
    UsageError
        A name in `only` is no detector, its needs are not met, or `only` lacks detectors that it reads.
    Cancelled
    """
    report = progress or (lambda fraction: None)
    detectors = [cls(inputs) for cls in _chosen(inputs, only)]
    plain = [detector for detector in detectors if not isinstance(detector, NoiseAwareDetector)]
    noise_aware = [detector for detector in detectors if isinstance(detector, NoiseAwareDetector)]
    portions = _portions(report, inputs, noise_aware)
    fitted = portions.step("fit")
    for number, detector in enumerate(detectors):
        detector.fit()
        fitted((number + 1) / len(detectors))
    portions.step("pool")(0.0)
    voting = [detector for detector in plain if detector.gives_probabilities]
    if only is not None and combined and noise_aware and inputs.n and not voting:
        raise UsageError(
            f"detector {noise_aware[0].name} needs others that give class probabilities",
            f"got only {', '.join(only)}",
            "name head or neighbours too",
        )
    pooled = voting if combined else []
    ensemble = Ensemble(inputs, pooled)
    unwanted = [each for each in noise_aware if not each.wanted(ensemble.anchor_error_rate)]
    noise_aware = [each for each in noise_aware if each not in unwanted]
    for each in unwanted:
        portions.skip(each.name, 1.0)
    if pooled and noise_aware:
        detectors = [*plain, *noise_aware]
        aware_pooled: list[NoiseAwareDetector] = []
        transition = ensemble.train_transition
        for detector in sorted(noise_aware, key=lambda each: each.order):
            part = portions.step(detector.name)
            detector.fit_with_noise(transition, [*pooled, *aware_pooled], part, cancel)
            if detector.gives_probabilities:
                aware_pooled.append(detector)
        portions.step("pool again")(0.0)
        robust = [detector for detector in aware_pooled if detector.robust]
        if robust and ensemble.anchor_error_rate > MASSIVE:
            ensemble = Ensemble(inputs, [], robust)
        else:
            ensemble = Ensemble(inputs, pooled, aware_pooled)
    else:
        detectors = plain
        for name in ("pool again", *(each.name for each in noise_aware)):
            portions.skip(name, 1.0)
    n = inputs.n
    scores = {detector.name: np.full(n, UNKNOWN, dtype=np.float32) for detector in detectors}
    findings = Findings(
        scores,
        np.full(n, UNKNOWN, dtype=np.float32),
        np.full((n, SUGGESTIONS), -1, dtype=np.int32),
        np.zeros((n, SUGGESTIONS), dtype=np.float32),
        ensemble.transition,
        attrs={detector.name: {"title": detector.title, **detector.attributes()} for detector in detectors},
    )
    calibration = _calibration(inputs, ensemble)
    findings.attrs["blend"] = {
        **ensemble.attributes(),
        "calibration_shift": calibration.shift,
        "calibration_stretch": calibration.stretch,
        "calibration_checks": calibration.checks,
    }
    scored = portions.step("score")
    for start, stop in inputs.blocks():
        if cancel is not None and cancel():
            raise Cancelled("the detectors were stopped", f"after {start} of {n} samples")
        scorable = inputs.scorable[start:stop]
        parts: dict[str, Floats] = {}
        for detector in ensemble.detectors or voting:
            parts[detector.name] = _probabilities(detector, start, stop)
        for detector in detectors:
            if detector.name in parts and type(detector).score is Detector.score:
                score = label_probability(parts[detector.name], inputs.given_labels[start:stop])
            else:
                score = detector.score(start, stop)
            scores[detector.name][start:stop][scorable] = np.clip(score[scorable], 0.0, 1.0)
            proposal = detector.proposal(start, stop, parts.get(detector.name))
            if proposal is not None:
                whole = findings.proposals.setdefault(detector.name, np.full(n, -1, dtype=np.int32))
                whole[start:stop] = np.where(inputs.ok[start:stop], proposal, -1)
        if ensemble.detectors:
            p = ensemble.posterior(start, stop, list(parts.values()))
            _suggest(
                inputs, findings, start, stop, calibration.distribution(p, inputs.given_labels[start:stop])
            )
        scored(stop / n)
    if Given.name in scores:
        _judge_by_given_probs(inputs, findings, combined)
    if ensemble.detectors:
        findings.attrs["blend"]["flag_threshold"] = _flag(inputs, findings)
    findings.arrays.update({each.name: arrays for each in detectors if (arrays := each.arrays())})
    _mark(inputs, findings)
    report(1.0)
    return findings


def _flag(inputs: DetectorInputs, findings: Findings) -> float:
    """Put another label first where the given one is wrong with more than the chance that makes a flag."""
    judged = inputs.scorable | inputs.by_given_probs if Given.name in findings.scores else inputs.scorable
    wrong = 1.0 - findings.blend[judged].astype(np.float64)
    threshold = max(LEAST_CHANCE, calibrate.f1_threshold(wrong))
    first = findings.suggest_label[:, 0] == inputs.given_labels
    rows = np.flatnonzero(judged & first & (1.0 - findings.blend > threshold))
    if findings.suggest_label.shape[1] > 1:
        rows = rows[findings.suggest_label[rows, 1] >= 0]
        for array in (findings.suggest_label, findings.suggest_p):
            array[rows, :2] = array[rows, 1::-1]
    return threshold


def _judge_by_given_probs(inputs: DetectorInputs, findings: Findings, combined: bool) -> None:
    """Judge samples that are alone in their class by the user's probabilities and the estimated mistakes."""
    assert inputs.pred_probs is not None  # `told` has none otherwise
    rows = np.flatnonzero(inputs.by_given_probs)
    labels = inputs.given_labels[rows]
    q = np.asarray(inputs.pred_probs[rows], dtype=np.float32)
    findings.scores[Given.name][rows] = label_probability(q, labels)
    if not combined:
        return
    p = noise_posterior(q, labels, findings.transition)
    findings.blend[rows] = label_probability(p, labels)
    best = top_k(p, SUGGESTIONS)
    findings.suggest_label[rows, : best.shape[1]] = best
    findings.suggest_p[rows, : best.shape[1]] = np.take_along_axis(p, best, axis=1)


def _portions(
    report: Progress, inputs: DetectorInputs, noise_aware: Sequence[NoiseAwareDetector]
) -> Portions:
    """The steps of `run` with the seconds that they took on one core of a few data sets."""
    n, classes = inputs.n, inputs.n_classes
    return Portions(
        report,
        {
            "fit": fit_seconds(n, classes),
            "pool": pool_seconds(n, classes),
            **{detector.name: detector.seconds() for detector in noise_aware},
            "pool again": 1.2 * pool_seconds(n, classes) if noise_aware else 0.0,  # of more detectors
            "score": score_seconds(n, classes),
        },
    )


def datasets(findings: Findings) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays to store, by their path in an audit's file."""
    return {
        **{f"scores/{name}": score for name, score in findings.scores.items()},
        "scores/blend": findings.blend,
        "suggest/label": findings.suggest_label,
        "suggest/p": findings.suggest_p,
        **{f"proposals/{name}": label for name, label in findings.proposals.items()},
        "noise/transition": findings.transition.astype(np.float32),
        **{
            f"detectors/{name}/{key}": value
            for name, more in findings.arrays.items()
            for key, value in more.items()
        },
    }


def attributes(findings: Findings) -> dict[str, dict[str, Attribute]]:
    """Return the attributes to store beside `datasets`, by path."""
    return {f"scores/{name}": dict(values) for name, values in findings.attrs.items()}


def _chosen(inputs: DetectorInputs, only: Sequence[str] | None) -> list[type[Detector]]:
    ready = available(inputs)
    if only is None:
        return ready
    names = {detector.name for detector in ready}
    for name in only:
        if name not in table():
            raise UsageError("a detector must be one of the table", f"got {name!r}", ", ".join(table()))
        if name not in names:
            raise UsageError(
                f"detector {name} needs {', '.join(sorted(table()[name].needs))}", "this audit has not"
            )
    chosen = [detector for detector in ready if detector.name in only]
    for detector in chosen:
        read = detector.reads(inputs) if issubclass(detector, NoiseAwareDetector) else frozenset()
        if missing := sorted((read & names).difference(only)):
            raise UsageError(
                f"detector {detector.name} needs {', '.join(missing)}",
                f"got only {', '.join(only)}",
                f"name {', '.join(missing)} too",
            )
    return chosen


def _calibration(inputs: DetectorInputs, ensemble: Ensemble) -> calibrate.Calibration:
    if inputs.checked is None or not ensemble.detectors:
        return calibrate.Calibration()
    right = np.full(inputs.n, UNKNOWN, dtype=np.float32)
    for start, stop in inputs.blocks():
        if (inputs.checked[start:stop] != calibrate.UNCHECKED).any():
            right[start:stop] = label_probability(
                ensemble.posterior(start, stop), inputs.given_labels[start:stop]
            )
    return calibrate.fit(right, np.where(inputs.scorable, inputs.checked, calibrate.UNCHECKED))


def _probabilities(detector: Detector, start: int, stop: int) -> Floats:
    p = detector.probabilities(start, stop)
    if p is None:
        raise InputError(
            f"detector {detector.name} must give probabilities for all samples or for none", "got both"
        )
    return p


def _suggest(inputs: DetectorInputs, findings: Findings, start: int, stop: int, p: Floats) -> None:
    """Write blend and suggestions of one block."""
    scorable = inputs.scorable[start:stop]
    labels = inputs.given_labels[start:stop]
    findings.blend[start:stop][scorable] = label_probability(p, labels)[scorable]
    best = top_k(p, SUGGESTIONS)
    columns = best.shape[1]
    findings.suggest_label[start:stop, :columns] = best
    findings.suggest_p[start:stop, :columns] = np.take_along_axis(p, best, axis=1)


def top_k(p: Floats, count: int) -> Ints:
    """Return the classes of the `count` largest probabilities of each row, largest first, ties by class.

    Parameters
    ----------
    p : ndarray of float32, shape (n, K)
    count : int
        k; at most K are returned.

    Returns
    -------
    ndarray of int32, shape (n, k)
    """
    count = min(count, p.shape[1])
    if p.shape[1] <= 64:
        return np.argsort(-p, axis=1, kind="stable")[:, :count].astype(np.int32)
    # Of equal probabilities at the edge of the partition any may come: take them by value, then order by
    # class.
    edge = -np.partition(-p, count - 1, axis=1)[:, count - 1 : count]
    above = p > edge
    at_edge = p == edge
    places = count - above.sum(axis=1, keepdims=True)
    keep = above | (at_edge & (np.cumsum(at_edge, axis=1) <= places))
    columns = np.nonzero(keep)[1].reshape(len(p), count)
    order = np.argsort(-np.take_along_axis(p, columns, axis=1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1).astype(np.int32)


def _mark(inputs: DetectorInputs, findings: Findings) -> None:
    """Give the samples that cannot be scored what `run` promises for them."""
    broken = ~inputs.ok
    findings.suggest_label[broken] = -1
    findings.suggest_p[broken] = 0.0
    findings.suggest_label[broken, 0] = inputs.given_labels[broken]
    alone = inputs.ok & (inputs.given_labels >= 0) & ~inputs.scorable
    if Given.name in findings.scores:
        alone &= ~inputs.by_given_probs
    for row in np.flatnonzero(alone):
        label = inputs.given_labels[row]
        others = findings.suggest_label[row] != label
        rest = findings.suggest_label[row][others][: SUGGESTIONS - 1]
        p = findings.suggest_p[row][others][: SUGGESTIONS - 1]
        findings.suggest_label[row] = -1
        findings.suggest_p[row] = 0.0
        findings.suggest_label[row, 0] = label
        findings.suggest_p[row, 0] = UNKNOWN
        findings.suggest_label[row, 1 : 1 + len(rest)] = rest
        findings.suggest_p[row, 1 : 1 + len(rest)] = p * np.float32(0.5)
