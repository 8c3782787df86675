"""What `cleannet.py` measures: decisions about samples of some classes, and methods that carry them over to the others.

Right labels play the person's part on the verified samples. Everywhere else they measure; the rows that know more are
named oracles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from _ours import FOLDS, HEAD, SOURCE, Arrays, Stage
from _worlds import Images
from labeltui import detect, head, parallel
from labeltui.detect import calibrate
from labeltui.detect.base import DetectorInputs, label_probability
from labeltui.detect.cleannet import CleanNet, fit_pool_weights
from labeltui.detect.corrected import Corrected
from labeltui.detect.ensemble import Ensemble
from labeltui.detect.neighbours import Nearest, Neighbours
from labeltui.detect.probabilities import Head
from labeltui.head.components import components, project
from peers import cleannet as peer
from peers import scores

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

LEARNED = (
    SOURCE / "head",
    SOURCE / "noise",
    *(SOURCE / "detect" / f"{name}.py" for name in ("corrected", "ensemble", "neighbours", "probabilities")),
)
OURS = (*LEARNED, *(SOURCE / "detect" / f"{name}.py" for name in ("calibrate", "cleannet", "cleannet_model")))


class Bench(Stage):
    """A world with head and folds, and what all draws of verified samples share."""

    @cached_property
    def found(self) -> Arrays:
        """What a scan learns before anybody decides: see `first_look`."""
        return self.kept("first look", first_look, LEARNED, self.facts)

    @cached_property
    def p_clean(self) -> Floats:
        """Out-of-fold probabilities of the same head, trained on the right labels of all samples: an oracle."""
        of = self.world.images
        made = self.keep(
            f"head of {of.name} on right labels", learn_right, of, self.groups, sources=LEARNED, of=of.digest
        )
        return np.asarray(made["p"])

    @cached_property
    def centroid(self) -> Floats:
        """Cosine to the centroid of the label, less the largest other one."""
        score = scores.centroid(self)[0]["centroid"].score
        assert score is not None
        return score

    @cached_property
    def coordinates(self) -> Floats:
        """Principal coordinates, rows of length 1."""
        of = self.world.images
        return np.asarray(
            self.keep(f"coordinates of {of.name}", coordinates, of, sources=HEAD, of=of.digest)["z"]
        )

    @cached_property
    def undecided(self) -> Arrays:
        """What our detector says before any decision."""
        return self.kept("undecided", judged, OURS, self.facts, self.found)


def first_look(facts: DetectorInputs) -> Arrays:
    """The transition matrix, the corrected head, and P(right) by the blend of the detectors that cost little."""
    voters: list[detect.Detector] = [Neighbours(facts), Nearest(facts), Head(facts)]
    transition = Ensemble(facts, voters).train_transition
    corrected = Corrected(facts)
    corrected.fit_with_noise(transition, voters, lambda share: None, None)
    blend = Ensemble(facts, voters, [corrected])
    right = [label_probability(blend.posterior(a, b), facts.given_labels[a:b]) for a, b in facts.blocks()]
    votes = [
        label_probability(each.probabilities(0, facts.n), facts.given_labels) for each in (*voters, corrected)
    ]
    return {
        "transition": transition,
        "p": corrected.probabilities(0, facts.n),
        "blend": np.concatenate(right),
        "dispute": np.std(votes, axis=0),
    }


def coordinates(of: Images) -> Arrays:
    everyone = np.ones(len(of.X), dtype=bool)
    basis = components(of.X, everyone, 256, parallel.count_threads())
    z = project(of.X, everyone, basis, torch.float32, parallel.count_threads()).numpy()
    return {"z": z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)}


def learn_right(of: Images, groups: NDArray[np.int32]) -> Arrays:
    fold = head.folds(of.clean, groups, None, FOLDS, 0)
    return {"p": head.out_of_fold(of.X, of.clean, fold, int(of.clean.max()) + 1).p}


# ------------------------------------------------------------------------------ draws

CHOICES = ("drawn", "uncertain", "disputed")
"""At random; P(right) of the blend nearest to one half; detectors that differ most about the label. Nobody has decided
anything when they are chosen."""


@dataclass(frozen=True)
class Draw:
    """Samples of half of the classes that somebody verified.

    Attributes
    ----------
    bench : Bench
    number : int
        Of samples.
    seed : int
        Of the classes and samples, and of methods that draw.
    choice : str
        How they are chosen among the samples of those classes: one of `CHOICES`.
    """

    bench: Bench
    number: int
    seed: int
    choice: str = "drawn"

    @cached_property
    def looked_at(self) -> Ints:
        """Classes of which samples were verified, by given label."""
        return np.sort(self._rng().permutation(self.bench.world.n_classes)[: self.bench.world.n_classes // 2])

    @cached_property
    def others(self) -> Ints:
        """Classes that nobody looked at."""
        return np.setdiff1d(np.arange(self.bench.world.n_classes), self.looked_at)

    @cached_property
    def rows(self) -> Ints:
        """Verified samples."""
        rng = self._rng()
        rng.permutation(self.bench.world.n_classes)
        among = np.flatnonzero(np.isin(self.bench.world.labels, self.looked_at))
        if self.choice == "drawn":
            return np.sort(rng.choice(among, self.number, replace=False))
        found = self.bench.found
        rank = {"uncertain": np.abs(found["blend"] - 0.5), "disputed": -found["dispute"]}[self.choice][among]
        return np.sort(among[np.argsort(rank, kind="stable")[: self.number]])

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.number])

    @property
    def checked(self) -> NDArray[np.int8]:
        """1 = verified and right, 0 = verified and wrong, -1 = not verified."""
        world = self.bench.world
        checked = np.full(len(world.labels), calibrate.UNCHECKED, dtype=np.int8)
        checked[self.rows] = ~world.wrong[self.rows]
        return checked

    @property
    def facts(self) -> DetectorInputs:
        """What the audit holds after the decisions: wrong labels are replaced."""
        world = self.bench.world
        current = world.labels.copy()
        current[self.rows] = world.images.clean[self.rows]
        return replace(self.bench.facts, labels=current, given=world.labels, checked=self.checked)

    def kept(
        self, name: str, make: Callable[..., Arrays], sources: tuple[Path, ...], *arguments: Any, **more: Any
    ) -> Arrays:
        """Arrays of this draw, from disk if they were made before."""
        world, title = self.bench.world, f"{name}, {self.number} {self.choice}, draw {self.seed}"
        return self.bench.keep(
            f"{title}, of {world.name}", make, *arguments, sources=sources, world=world.digest, **more
        )

    def measured(self, score: Floats, says_right: Mask) -> dict[str, float]:
        """The figures of one method on the classes that nobody looked at."""
        labels, wrong = self.bench.world.labels, self.bench.world.wrong
        by_class = [(says_right[labels == label] == wrong[labels == label]).mean() for label in self.others]
        rows = np.isin(labels, self.others)
        return {
            "error": float(np.mean(by_class)),
            "AUROC": float(roc_auc_score(wrong[rows], -score[rows])),
            "AP": float(average_precision_score(wrong[rows], -score[rows])),
            "F1": float(f1_score(wrong[rows], ~says_right[rows], zero_division=0.0)),
        }


def threshold(score: Floats, wrong: Mask) -> float:
    """The threshold with the fewest errors: labels of samples below it are called wrong."""
    order = np.argsort(score, kind="stable")
    errors = wrong.sum() + np.concatenate([[0], np.cumsum(np.where(wrong[order], -1, 1))])
    best = int(errors.argmin())
    if best in (0, len(order)):
        return -np.inf if best == 0 else np.inf
    return float((score[order[best - 1]] + score[order[best]]) / 2)


# ------------------------------------------------------------------------------ methods


def cell(draw: Draw, steps: int) -> dict[str, Any]:
    """All methods for one draw: the figures of each, the published one's error by step, and our seconds.

    Without `steps` the published network, which costs most, is left out.
    """
    bench, world = draw.bench, draw.bench.world
    labels, n = world.labels, len(world.labels)
    facts = bench.facts
    p_head = np.asarray(facts.p_head)
    found: dict[str, dict[str, float]] = {}

    def by_threshold(name: str, score: Floats, rows: Ints = draw.rows) -> None:
        found[name] = draw.measured(score, score >= threshold(score[rows], world.wrong[rows]))

    found["all right"] = draw.measured(np.ones(n), np.ones(n, dtype=bool))
    by_threshold("centroid", bench.centroid)
    by_threshold("kNN, vote of 10", label_probability(Nearest(facts).probabilities(0, n), labels))
    by_threshold("kNN, weighted vote of 50", label_probability(Neighbours(facts).probabilities(0, n), labels))
    found["class filtering"] = draw.measured(
        label_probability(p_head, labels), p_head.argmax(axis=1) == labels
    )
    by_threshold("head, threshold", label_probability(p_head, labels))
    by_threshold("MLP on sample and centroid", draw.kept("MLP", mlp, HEAD, draw)["score"])
    course = published_rows(draw, steps, found) if steps else {}
    before = bench.undecided
    found["labeltui cleannet, nothing decided"] = draw.measured(before["score"], before["label"] == labels)
    mine = draw.kept("ours", judged, OURS, draw.facts, bench.found)
    found["labeltui cleannet"] = draw.measured(mine["score"], mine["score"] >= 0.5)
    blend = calibrate.fit(bench.found["blend"], draw.checked).apply(bench.found["blend"])
    found["labeltui blend, calibrated"] = draw.measured(blend, blend >= 0.5)
    by_threshold(ORACLES[0], mine["score"], np.flatnonzero(np.isin(labels, draw.others)))
    limit = bench.keep(
        f"everything verified of {world.name}",
        everything_verified,
        bench,
        sources=OURS,
        world=world.digest,
    )
    found[ORACLES[1]] = draw.measured(
        label_probability(bench.p_clean, labels), bench.p_clean.argmax(axis=1) == labels
    )
    found[ORACLES[2]] = draw.measured(limit["weighed"], limit["weighed"] >= 0.5)
    found[ORACLES[3]] = draw.measured(limit["trees"], limit["trees"] >= 0.5)
    return {"rows": found, "course": course, "seconds": round(float(mine["seconds"]), 1)}


WEAK = ("all right", "centroid", "kNN, vote of 10", "kNN, weighted vote of 50", "class filtering")
ORACLES = (
    "oracle: labeltui cleannet, threshold of those classes",
    "oracle: head on all right labels, class filtering",
    "oracle: head on all right labels, weighed by all",
    "oracle: trees on every score, taught by all right labels",
)


def published_rows(draw: Draw, steps: int, found: dict[str, dict[str, float]]) -> dict[int, float]:
    """Add the published network's rows, at the best of its own thresholds and at ours; return its error by step."""
    wrong, rows = draw.bench.world.wrong, draw.rows
    theirs = draw.kept("published", published, (Path(peer.__file__),), draw, steps, steps=steps)
    score = theirs["score"]
    accept = min(peer.ACCEPT, key=lambda t: int(((score >= t) == wrong)[rows].sum()))
    found["CleanNet, published"] = draw.measured(score, score >= accept)
    found["CleanNet, published, threshold"] = draw.measured(
        score, score >= threshold(score[rows], wrong[rows])
    )
    return {
        int(step): round(draw.measured(cosine, cosine >= accept)["error"], 4)
        for step, cosine in zip(theirs["steps"], theirs["course"], strict=True)
    }


def mlp(draw: Draw) -> Arrays:
    """A small network from how sample and centroid of its label relate to right or wrong, taught by the verified
    samples: products and distances of their coordinates, which mean the same in every class.
    """
    from sklearn.neural_network import MLPClassifier

    labels, wrong = draw.bench.world.labels, draw.bench.world.wrong
    codes = draw.bench.coordinates
    centre = np.stack([codes[labels == label].mean(axis=0) for label in range(draw.bench.world.n_classes)])
    x = np.concatenate([codes * centre[labels], np.abs(codes - centre[labels])], axis=1)
    network = MLPClassifier((128,), alpha=1e-3, max_iter=300, random_state=draw.seed)
    network.fit(x[draw.rows], ~wrong[draw.rows])
    return {"score": network.predict_proba(x)[:, list(network.classes_).index(True)]}


def published(draw: Draw, steps: int) -> Arrays:
    """The published network, and what it said at each quarter of its steps."""
    world = draw.bench.world
    seen: dict[int, Floats] = {}
    score = peer.published(
        world.images.X,
        world.labels,
        world.n_classes,
        draw.rows,
        ~world.wrong[draw.rows],
        draw.seed,
        steps,
        seen.__setitem__,
        steps // 4,
    )
    return {"score": score, "steps": list(seen), "course": np.stack(list(seen.values()))}


def judged(facts: DetectorInputs, found: Arrays) -> Arrays:
    """What our detector says."""
    detector = fitted(facts, found)
    return {"score": detector.score(0, facts.n), "label": detector.proposal(0, facts.n, None)}


def fitted(facts: DetectorInputs, found: Arrays, cls: type[CleanNet] = CleanNet) -> CleanNet:
    """Our detector after the decisions, with the votes that a scan has for it."""
    detector = cls(facts)
    voters = [Neighbours(facts), Nearest(facts), Head(facts), Learned(facts, found["p"])]
    detector.fit_with_noise(found["transition"], voters, lambda share: None, None)
    return detector


class Learned(detect.Detector):
    """The corrected head, trained before."""

    name = "corrected"
    title = Corrected.title

    def __init__(self, facts: DetectorInputs, p: Floats) -> None:
        super().__init__(facts)
        self.p = p

    def probabilities(self, start: int, stop: int) -> Floats:
        return self.p[start:stop]


def everything_verified(bench: Bench) -> Arrays:
    """P(label right) when all samples are verified, out of fold: what these features and scores can tell at most.

    `weighed`: the evidence that our detector weighs, with a head and a noise channel that know the right labels.
    `trees`: gradient boosting from every score to right or wrong.
    """
    world, facts, labels = bench.world, bench.facts, bench.world.labels
    k, n = world.n_classes, len(labels)
    clean = world.images.clean
    counts = np.zeros((k, k))
    np.add.at(counts, (clean, labels), 1)
    channel = np.log(np.maximum(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), 1e-5)).T[labels]
    parts = [bench.p_clean, bench.found["p"], np.asarray(facts.p_head), Neighbours(facts).probabilities(0, n)]
    planes = np.stack([*(np.log(np.maximum(p, 1e-6)) for p in parts), channel, np.eye(k)[labels]])
    scores = [calibrate.log_odds(label_probability(p.astype(np.float32), labels)) for p in parts]
    rivals = [np.where(np.eye(k, dtype=bool)[labels], -np.inf, plane).max(axis=1) for plane in planes[:4]]
    seen = np.stack(
        [*scores, *rivals, calibrate.log_odds(bench.found["blend"]), bench.centroid, *channel.T, labels],
        axis=1,
    )
    weighed, trees = np.zeros(n), np.zeros(n)
    for out in range(2):
        inside = np.arange(n) % 2 == out
        known = np.flatnonzero(~inside)[:20_000]
        weight = fit_pool_weights(
            planes[:, known], clean[known], np.full(len(known), True), np.array([0.25] * 4 + [1.0, 0.0]), 0.5
        )
        z = np.einsum("m,mnk->nk", weight, planes[:, inside])
        weighed[inside] = softmax(z, axis=1)[np.arange(len(z)), labels[inside]]
        model = HistGradientBoostingClassifier(max_iter=150, learning_rate=0.05, random_state=0)
        model.fit(seen[~inside], ~world.wrong[~inside])
        trees[inside] = model.predict_proba(seen[inside])[:, 1]
    return {"weighed": weighed, "trees": trees}
