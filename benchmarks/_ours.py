"""Rows of `detection.py` that are labeltui's own, and what all rows share: head, folds and findings."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import labeltui
from _measures import Row, best_threshold, calibration, reliability
from _worlds import Images, World
from labeltui import detect, duplicates, head
from labeltui.detect import calibrate

Floats = NDArray[np.floating]
Arrays = dict[str, Any]
SOURCE = Path(labeltui.__file__).parent
FOLDS = 5
CHECKS = 300
DRAWS = 5  # of the random checks; their figures are averaged
PRECISIONS = (0.5, 0.6, 0.7, 0.8, 0.9)
ORACLE = "oracle: head taught the right labels"
HEAD = (SOURCE / "head",)
DETECT = (
    SOURCE / "detect",
    SOURCE / "head",
    SOURCE / "noise",
    SOURCE / "csg",
    SOURCE / "_fast" / "votes.pyx",
)

Keep = Callable[..., Arrays]


class Stage:
    """What the rows of one world share, made when first asked for and kept on disk."""

    def __init__(self, world: World, keep: Keep) -> None:
        self.world = world
        self.keep = keep

    @cached_property
    def groups(self) -> NDArray[np.int32]:
        """Copies, by the embedding alone."""
        return groups(self.world.images)

    @cached_property
    def fold(self) -> NDArray[np.int8]:
        return head.folds(self.world.labels, self.groups, None, FOLDS, self.world.seed)

    @cached_property
    def head(self) -> Arrays:
        """Out-of-fold probabilities `p` and the training dynamics."""
        return self.kept("head", train, HEAD, self.world, self.fold)

    @cached_property
    def facts(self) -> detect.DetectorInputs:
        world, of = self.world, self.world.images
        return detect.DetectorInputs(
            world.labels,
            world.n_classes,
            np.ones(len(world.labels), dtype=bool),
            of.indices,
            np.asarray(of.similarity, dtype=np.float32),
            self.groups,
            self.head["p"],
            embeddings=of.X,
            fold=self.fold,
            seed=world.seed,
            dynamics=self.record,
        )

    @cached_property
    def record(self) -> head.Dynamics:
        """The course of the head's training."""
        return head.Dynamics(**{name: self.head[name] for name in DYNAMICS})

    @cached_property
    def findings(self) -> Arrays:
        """Scores by detector, blend, suggestions, transition, and the probabilities of the corrected head."""
        return self.kept("findings", find, DETECT, self.facts)

    def kept(
        self, name: str, make: Callable[..., Arrays], sources: tuple[Path, ...], *arguments: Any
    ) -> Arrays:
        return self.keep(
            f"{name} of {self.world.name}", make, *arguments, sources=sources, world=self.world.digest,
            folds=hashlib.sha256(self.fold.tobytes()).hexdigest(),
        )  # fmt: skip


def groups(of: Images) -> NDArray[np.int32]:
    exact = duplicates.duplicate_groups(of.X.view(np.uint8).reshape(len(of.X), -1))
    return duplicates.near_duplicates(of.indices, of.similarity, exact).groups


def train(world: World, fold: NDArray[np.int8]) -> Arrays:
    """The head that a scan trains, with its dynamics recorded."""
    made = head.out_of_fold(
        world.images.X, world.labels, fold, world.n_classes, seed=world.seed, dynamics=True
    )
    assert made.dynamics is not None
    return {"p": made.p, **{name: getattr(made.dynamics, name) for name in DYNAMICS}}


DYNAMICS = ("log_p", "margin", "top", "top_p", "sum_squares", "labels")


def find(facts: detect.DetectorInputs) -> Arrays:
    """Run all detectors and time each."""
    fitted: dict[str, detect.NoiseAwareDetector] = {}
    seconds: dict[str, float] = {}

    def fit_with_noise(self: detect.NoiseAwareDetector, *arguments: Any) -> None:
        begin = time.process_time()
        fits[type(self)](self, *arguments)
        fitted[self.name] = self
        seconds[self.name] = time.process_time() - begin

    aware = [cls for cls in detect.table().values() if issubclass(cls, detect.NoiseAwareDetector)]
    fits = {cls: cls.fit_with_noise for cls in aware}
    for cls in fits:
        cls.fit_with_noise = fit_with_noise
    try:
        begin = time.process_time()
        found = detect.run(facts)
        taken = time.process_time() - begin
    finally:
        for cls, before in fits.items():
            cls.fit_with_noise = before
    seconds |= {name: timed(detect.table()[name], facts) for name in found.scores if name not in seconds}
    corrected = fitted["corrected"]
    return {
        **{f"score {name}": score for name, score in found.scores.items()},
        **{f"seconds {name}": value for name, value in seconds.items()},
        "blend": found.blend,
        "suggest_label": found.suggest_label,
        "suggest_p": found.suggest_p,
        "transition": found.transition,
        "corrected": np.concatenate([corrected.probabilities(a, b) for a, b in facts.blocks()]),
        "attributes": json.dumps(found.attrs["blend"]),
        "run": taken,
    }


def timed(cls: type[detect.Detector], facts: detect.DetectorInputs) -> float:
    """Seconds of one detector alone."""
    begin = time.process_time()
    made = cls(facts)
    made.fit()
    for start, stop in facts.blocks():
        made.score(start, stop)
    return time.process_time() - begin


# ------------------------------------------------------------------------------ rows


def ours(stage: Stage) -> tuple[dict[str, Row], dict[str, Any]]:
    """The blend and each detector; calibration and automatic correction in detail."""
    world, found = stage.world, stage.findings
    labels, clean = world.labels, world.images.clean
    best = found["suggest_label"][:, 0]
    rows = {
        "labeltui blend": Row(found["blend"], best != labels, best, found["blend"], float(found["run"])),
        "labeltui head (tuned MLP)": Row(found["score head"], seconds=float(stage.head["seconds"])),
    }
    for key in found:
        name = key.removeprefix("score ")
        if name not in (key, "head"):
            rows[f"labeltui {name}"] = Row(found[key], seconds=float(found[f"seconds {name}"]))
    detail: dict[str, Any] = {
        "without checks": correction(found["suggest_label"][:, 0], found["suggest_p"][:, 0], labels, clean)
        | calibration(found["blend"], labels == clean),
        "reliability without checks": reliability(found["blend"], labels == clean),
        "after checks": [],
        "transition": np.asarray(found["transition"]).round(4).tolist(),
        "blend": json.loads(str(found["attributes"])),
    }
    for draw in range(DRAWS if len(labels) >= 10 * CHECKS else 0):
        checked = np.full(len(labels), calibrate.UNCHECKED, dtype=np.int8)
        some = np.random.default_rng([world.seed, draw]).choice(len(labels), CHECKS, replace=False)
        checked[some] = labels[some] == clean[some]
        right, suggested, chance = recalibrated(found, labels, checked)
        rest = checked == calibrate.UNCHECKED  # what was checked is known
        detail["after checks"].append(
            correction(suggested[rest], chance[rest], labels[rest], clean[rest])
            | calibration(right[rest], (labels == clean)[rest])
        )
        if not draw:
            detail["reliability after checks"] = reliability(right[rest], (labels == clean)[rest])
    return rows, detail


def recalibrated(
    found: Arrays, labels: NDArray[np.int32], checked: NDArray[np.int8]
) -> tuple[Floats, NDArray[np.int32], Floats]:
    """What `detect.run` gives when it is told the checks: P(label right), the first suggestion, its probability."""
    blend = found["blend"]
    curve = calibrate.fit(blend, checked)
    right = curve.apply(blend)
    rows = np.arange(len(labels))
    rival = (found["suggest_label"][:, 0] == labels).astype(int)  # the most probable other label's column
    other = found["suggest_p"][rows, rival] * (1 - right) / np.maximum(1 - blend, 1e-12)
    change = other > right
    suggested = np.where(change, found["suggest_label"][rows, rival], labels).astype(np.int32)
    return right, suggested, np.where(change, other, right)


def correction(
    suggested: NDArray[np.int32], chance: Floats, labels: NDArray[np.int32], clean: NDArray[np.int32]
) -> dict[str, Any]:
    """Automatic correction by target precisions (`labeltui export --target-precision`), and the oracle's threshold."""
    flagged = suggested != labels
    points = []
    for precision in PRECISIONS:
        limit, changes, expected = calibrate.threshold_for(precision, chance[flagged])
        change = flagged & (chance >= limit)
        after = np.where(change, suggested, labels)
        points.append(
            {
                "target": precision,
                "changes": int(change.sum()),
                "expected wrong": round(expected, 1),
                "wrong": int((suggested != clean)[change].sum()),
                "accuracy": float((after == clean).mean()),
            }
        )
        assert changes == change.sum()
    return {
        "before": float((labels == clean).mean()),
        "every flag": float((suggested == clean).mean()),
        "oracle": best_threshold(chance, suggested, labels, clean),
        "points": points,
    }


def limit(stage: Stage) -> tuple[dict[str, Row], dict[str, Any]]:
    """What these features hold: the head, out of fold, taught the right labels. An oracle, which measures only."""
    of, seed = stage.world.images, stage.world.seed
    name = f"head taught the right labels of {of.name}"
    kept = stage.keep(name, teach, of, stage.groups, seed, sources=HEAD, images=of.digest, seed=seed)
    p, labels = kept["p"], stage.world.labels
    best = p.argmax(axis=1).astype(np.int32)
    row = Row(detect.base.label_probability(p, labels), best != labels, best, seconds=float(kept["seconds"]))
    return {ORACLE: row}, {}


def teach(of: Images, copies: NDArray[np.int32], seed: int) -> Arrays:
    fold = head.folds(of.clean, copies, None, FOLDS, seed)
    return {"p": head.out_of_fold(of.X, of.clean, fold, int(of.clean.max()) + 1, seed=seed).p}
