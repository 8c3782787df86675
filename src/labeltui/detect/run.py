"""Running all detectors on an audit's facts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from labeltui.detect import calibrate, stacked
from labeltui.detect.base import (
    UNKNOWN,
    Attribute,
    Detector,
    Facts,
    Findings,
    Floats,
    Ints,
    SecondLook,
    own,
)
from labeltui.detect.blend import Blend
from labeltui.detect.registry import available, table
from labeltui.errors import Cancelled, InputError, UsageError

SUGGESTIONS = 5
_TRAINING_SHARE = 0.9  # of the time, where detectors take a second look or learn from planted labels


def run(
    facts: Facts,
    progress: Callable[[float], None] | None = None,
    *,
    only: Sequence[str] | None = None,
    cancel: Callable[[], bool] | None = None,
) -> Findings:
    """Score all samples with every detector that `facts` can feed, and blend.

    Parameters
    ----------
    facts : Facts
    progress : callable, optional
        Called with the share done, 0..1.
    only : sequence of str, optional
        Names of the detectors to run.
    cancel : callable, optional
        Asked once a block; True raises `Cancelled`.

    Returns
    -------
    Findings
        Samples that are not ok: score one half, their label as the only suggestion, with probability 0.
        Samples without a label: score one half, suggestions as found. Samples whose label cannot be judged
        (no other sample has it): score one half, their label first.

    Raises
    ------
    UsageError
        A name in `only` is no detector, or its needs are not met.
    Cancelled
    """
    detectors = [cls(facts) for cls in _chosen(facts, only)]
    tell = progress or (lambda share: None)
    first = [detector for detector in detectors if not isinstance(detector, SecondLook)]
    second = sorted((each for each in detectors if isinstance(each, SecondLook)), key=lambda each: each.last)
    for detector in detectors:
        detector.fit()
    blend = Blend(facts, [detector for detector in first if detector.votes])
    before = 0.0
    if blend.voters:
        trainings = len(second) + bool(stacked.usable(facts, first, blend.wrong))
        voters = blend.voters
        later: list[Detector] = []
        for number, detector in enumerate(second):
            share = partial(_tell_part, tell, number, trainings)
            detector.look(blend.learned, [*voters, *later], share, cancel)
            if detector.votes:
                later.append(detector)
        if second:
            blend = Blend(facts, voters, later)
        if teachable := stacked.usable(facts, first, blend.wrong):  # the second look knows better
            share = partial(_tell_part, tell, trainings - 1, trainings)
            learned = stacked.learn(teachable, blend.learned, share, cancel)
            if learned is not None:
                blend.join(learned)
        before = _TRAINING_SHARE if trainings else 0.0
    else:
        detectors = first
    n = facts.n
    scores = {detector.name: np.full(n, UNKNOWN, dtype=np.float32) for detector in detectors}
    findings = Findings(
        scores,
        np.full(n, UNKNOWN, dtype=np.float32),
        np.full((n, SUGGESTIONS), -1, dtype=np.int32),
        np.zeros((n, SUGGESTIONS), dtype=np.float32),
        blend.channel.transition,
        attrs={detector.name: {"title": detector.title, **detector.attributes()} for detector in detectors},
    )
    calibration = _calibration(facts, blend)
    findings.attrs["blend"] = {
        **blend.attributes(),
        "calibration_shift": calibration.shift,
        "calibration_stretch": calibration.stretch,
        "calibration_checks": calibration.checks,
    }
    for start, stop in facts.blocks():
        if cancel is not None and cancel():
            raise Cancelled("the detectors were stopped", f"after {start} of {n} samples")
        judged = facts.judged[start:stop]
        parts: dict[str, Floats] = {}
        for detector in blend.voters:
            parts[detector.name] = _probabilities(detector, start, stop)
        for detector in detectors:
            if detector.name in parts and type(detector).score is Detector.score:
                score = own(parts[detector.name], facts.doubted[start:stop])
            else:
                score = detector.score(start, stop)
            scores[detector.name][start:stop][judged] = np.clip(score[judged], 0.0, 1.0)
            proposal = detector.proposal(start, stop, parts.get(detector.name))
            if proposal is not None:
                whole = findings.proposals.setdefault(detector.name, np.full(n, -1, dtype=np.int32))
                whole[start:stop] = np.where(facts.ok[start:stop], proposal, -1)
        if parts:
            p = blend.posterior(start, stop, list(parts.values()))
            _suggest(facts, findings, start, stop, calibration.distribution(p, facts.doubted[start:stop]))
        tell(before + (1.0 - before) * stop / n)
    findings.arrays.update({each.name: arrays for each in detectors if (arrays := each.arrays())})
    _mark(facts, findings)
    return findings


def _tell_part(tell: Callable[[float], None], number: int, count: int, share: float) -> None:
    tell(_TRAINING_SHARE * (number + share) / count)


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


def _chosen(facts: Facts, only: Sequence[str] | None) -> list[type[Detector]]:
    ready = available(facts)
    if only is None:
        return ready
    names = {detector.name for detector in ready}
    for name in only:
        if name not in table():
            raise UsageError("a detector must be one of the table", f"{name!r} came", ", ".join(table()))
        if name not in names:
            raise UsageError(
                f"detector {name} needs {', '.join(sorted(table()[name].needs))}", "this audit has not"
            )
    return [detector for detector in ready if detector.name in only]


def _calibration(facts: Facts, blend: Blend) -> calibrate.Calibration:
    if facts.checked is None or not blend.voters:
        return calibrate.Calibration()
    right = np.full(facts.n, UNKNOWN, dtype=np.float32)
    for start, stop in facts.blocks():
        if (facts.checked[start:stop] != calibrate.UNCHECKED).any():
            right[start:stop] = own(blend.posterior(start, stop), facts.doubted[start:stop])
    return calibrate.fit(right, np.where(facts.judged, facts.checked, calibrate.UNCHECKED))


def _probabilities(detector: Detector, start: int, stop: int) -> Floats:
    p = detector.probabilities(start, stop)
    if p is None:
        raise InputError(
            f"detector {detector.name} must give probabilities for all samples or for none", "both came"
        )
    return p


def _suggest(facts: Facts, findings: Findings, start: int, stop: int, p: Floats) -> None:
    """Write blend and suggestions of one block."""
    judged = facts.judged[start:stop]
    labels = facts.doubted[start:stop]
    findings.blend[start:stop][judged] = own(p, labels)[judged]
    best = top(p, SUGGESTIONS)
    columns = best.shape[1]
    findings.suggest_label[start:stop, :columns] = best
    findings.suggest_p[start:stop, :columns] = np.take_along_axis(p, best, axis=1)


def top(p: Floats, count: int) -> Ints:
    """Return the classes of the `count` largest probabilities of each row, largest first, ties by class."""
    count = min(count, p.shape[1])
    if p.shape[1] <= 64:
        return np.argsort(-p, axis=1, kind="stable")[:, :count].astype(np.int32)
    # Of equal probabilities at the edge of the partition any may come: take them by value, then order by
    # class.
    edge = -np.partition(-p, count - 1, axis=1)[:, count - 1 : count]
    above = p > edge
    at_edge = p == edge
    room = count - above.sum(axis=1, keepdims=True)
    keep = above | (at_edge & (np.cumsum(at_edge, axis=1) <= room))
    columns = np.nonzero(keep)[1].reshape(len(p), count)
    order = np.argsort(-np.take_along_axis(p, columns, axis=1), axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1).astype(np.int32)


def _mark(facts: Facts, findings: Findings) -> None:
    """Give the samples that cannot be judged what the law of scores says."""
    broken = ~facts.ok
    findings.suggest_label[broken] = -1
    findings.suggest_p[broken] = 0.0
    findings.suggest_label[broken, 0] = facts.doubted[broken]
    alone = facts.ok & (facts.doubted >= 0) & ~facts.judged
    for row in np.flatnonzero(alone):
        label = facts.doubted[row]
        others = findings.suggest_label[row] != label
        rest = findings.suggest_label[row][others][: SUGGESTIONS - 1]
        p = findings.suggest_p[row][others][: SUGGESTIONS - 1]
        findings.suggest_label[row] = -1
        findings.suggest_p[row] = 0.0
        findings.suggest_label[row, 0] = label
        findings.suggest_p[row, 0] = UNKNOWN
        findings.suggest_label[row, 1 : 1 + len(rest)] = rest
        findings.suggest_p[row, 1 : 1 + len(rest)] = p * np.float32(0.5)
