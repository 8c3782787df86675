"""Decisions about five classes, and the errors found in the five that nobody looked at.

    python benchmarks/cleannet.py --features emb.npy --clean clean.npy --labels random1.npy --labels aggre.npy

Random samples of five drawn classes are verified: their clean labels play the person's part, all other clean labels
only measure. Each method says of each sample whether its label is right; the error is that share of wrong sayings,
averaged over the five other classes. Thresholds are chosen on the verified samples; class filtering (is the label the
head's most probable class?) has none. Everyone reads the same embeddings, and the out-of-fold head and neighbours that
the scan makes. Two rows show the limits: *oracle threshold* chooses ours with the clean labels of the very classes that
it is measured on, *everything verified* trains the head and weighs its evidence on the clean labels of all samples, out
of fold. ``--quick`` takes digits.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

import labeltui
from _cleannet import ACCEPT, STEPS, published
from _common import CACHE, Report, median, parser
from labeltui import detect, graph, head, noise
from labeltui.detect.base import Facts, own
from labeltui.detect.cleannet import CleanNet, exponents
from labeltui.detect.neighbours import Nearest, Neighbours

SOURCE = Path(labeltui.__file__).parent
NUMBERS = (100, 500, 1000, 2500)
AT = 1000
WEAK = ("all clean", "centroid", "kNN k=10", "kNN 50 weighted", "class filtering")
COLUMNS = ("error", "AUROC", "AP", "F1")
Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class World:
    """Samples with noisy labels, what a scan makes of them, and the truth."""

    name: str
    facts: Facts
    clean: NDArray[np.int32]
    p_clean: NDArray[np.float32]
    transition: NDArray[np.float64]

    @property
    def labels(self) -> NDArray[np.int32]:
        return self.facts.labels

    @property
    def wrong(self) -> Mask:
        return self.labels != self.clean

    @cached_property
    def undecided(self) -> CleanNet:
        """Our detector before any decision: coordinates and centroids."""
        detector = CleanNet(self.facts)
        detector.look(self.transition, lambda share: None, None)
        return detector


def kept(make: Callable[[], dict[str, NDArray[Any]]], *inputs: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """What `make` returns, from disk if it was made from these very inputs before."""
    digest = hashlib.sha256()
    for array in inputs:
        digest.update(np.ascontiguousarray(array).tobytes())
    stored = CACHE / "cleannet" / f"{digest.hexdigest()[:32]}.npz"
    if not stored.exists():
        found = make()
        stored.parent.mkdir(parents=True, exist_ok=True)
        temporary = stored.with_suffix(f".{os.getpid()}.npz")
        np.savez(temporary, **found)
        temporary.replace(stored)
    with np.load(stored) as file:
        return dict(file)


def world(name: str, X: NDArray[np.floating], labels: NDArray[np.int32], clean: NDArray[np.int32]) -> World:
    """Graph, folds and heads, as a scan makes them; kept on disk, since they take longer than anything here."""
    k = int(clean.max()) + 1

    def neighbours() -> dict[str, NDArray[Any]]:
        near = graph.build(X, min(50, len(X) - 1), "cosine")
        return {"indices": near.indices, "similarity": near.similarity}

    def probabilities(learned: NDArray[np.int32]) -> dict[str, NDArray[Any]]:
        fold = head.folds(learned, None, None, 5, 0)
        return {"p": head.out_of_fold(X, learned, fold, k).p, "fold": fold}

    near = kept(neighbours, X)
    own_head = kept(lambda: probabilities(labels), X, labels)
    clean_head = kept(lambda: probabilities(clean), X, clean)
    everyone = np.ones(len(X), dtype=bool)
    facts = Facts(
        labels,
        k,
        everyone,
        near["indices"],
        near["similarity"],
        None,
        own_head["p"],
        embeddings=X,
        fold=own_head["fold"],
    )
    found = detect.run(facts, only=["neighbours", "nearest", "head"])
    return World(name, facts, clean, clean_head["p"], found.transition)


# ------------------------------------------------------------------------------------- measuring


def error(says_right: Mask, here: World, classes: NDArray[np.int64]) -> float:
    """Share of wrong sayings, averaged over the given classes."""
    return float(
        np.mean(
            [
                (says_right[here.labels == label] == here.wrong[here.labels == label]).mean()
                for label in classes
            ]
        )
    )


def chosen(score: Floats, wrong: Mask) -> float:
    """The threshold with the fewest errors: labels of samples below it are called wrong."""
    order = np.argsort(score, kind="stable")
    errors = wrong.sum() + np.concatenate([[0], np.cumsum(np.where(wrong[order], -1, 1))])
    best = int(errors.argmin())
    if best in (0, len(order)):
        return -np.inf if best == 0 else np.inf
    return float((score[order[best - 1]] + score[order[best]]) / 2)


def measured(score: Floats, says_right: Mask, here: World, classes: NDArray[np.int64]) -> dict[str, float]:
    """The figures of one method on the classes that nobody looked at."""
    rows = np.isin(here.labels, classes)
    wrong = here.wrong[rows]
    return {
        "error": error(says_right, here, classes),
        "AUROC": float(roc_auc_score(wrong, -score[rows])),
        "AP": float(average_precision_score(wrong, -score[rows])),
        "F1": float(f1_score(wrong, ~says_right[rows])),
    }


# ------------------------------------------------------------------------------------- methods


def plain(here: World) -> dict[str, Floats]:
    """Scores that need no decisions."""
    facts, labels = here.facts, here.labels
    n = facts.n
    nearest, weighted = Nearest(facts), Neighbours(facts)
    return {
        "all clean": np.ones(n),
        "centroid": here.undecided.cosines(0, n),
        "kNN k=10": own(nearest.probabilities(0, n), labels),
        "kNN 50 weighted": own(weighted.probabilities(0, n), labels),
        "head self-confidence": own(np.asarray(facts.p_head), labels),
    }


def mlp(here: World, rows: NDArray[np.int64], seed: int) -> Floats:
    """A small network from [sample, centroid of its label] to right or wrong, trained on the verified samples."""
    from sklearn.neural_network import MLPClassifier

    codes = here.undecided.coordinates
    centre = np.stack([codes[here.labels == label].mean(axis=0) for label in range(here.facts.n_classes)])
    x = np.concatenate([codes, centre[here.labels]], axis=1)
    fitted = MLPClassifier((128,), alpha=1e-3, max_iter=300, random_state=seed).fit(
        x[rows], ~here.wrong[rows]
    )
    return np.asarray(fitted.predict_proba(x)[:, list(fitted.classes_).index(True)])


def reviewed(here: World, rows: NDArray[np.int64], kept: dict[str, Any] | None = None) -> Facts:
    """The facts after the decisions: kept or relabelled."""
    checked = np.full(here.facts.n, -1, dtype=np.int8)
    checked[rows] = ~here.wrong[rows]
    current = here.labels.copy()
    current[rows] = here.clean[rows]
    return replace(here.facts, labels=current, given=here.labels, checked=checked, kept=kept or {})


def ours(here: World, rows: NDArray[np.int64], kept: dict[str, Any] | None = None) -> tuple[CleanNet, float]:
    """Our detector after the decisions, and the seconds that fitting and scoring took."""
    begun = time.perf_counter()
    detector = CleanNet(reviewed(here, rows, kept))
    detector.look(here.transition, lambda share: None, None)
    detector.score(0, here.facts.n)
    return detector, time.perf_counter() - begun


def everything_verified(here: World) -> Floats:
    """P(right) by a head trained on clean labels and weighed with everything else on clean labels."""
    facts, labels = here.facts, here.labels
    k, n = facts.n_classes, facts.n
    counts = np.zeros((k, k))
    np.add.at(counts, (here.clean, labels), 1)
    transition = np.log(np.maximum(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), 1e-5))
    given = np.zeros((n, k))
    given[np.arange(n), labels] = 1.0
    parts = [here.p_clean, np.asarray(facts.p_head), Neighbours(facts).probabilities(0, n)]
    planes = np.stack([*(np.log(np.maximum(p, 1e-6)) for p in parts), transition.T[labels], given])
    z = np.zeros((n, k))
    fold = np.arange(n) % 2
    for out in (0, 1):
        known = np.flatnonzero(fold != out)[:20_000]
        weight = exponents(
            planes[:, known],
            here.clean[known],
            np.ones(len(known), dtype=bool),
            np.array([0.3] * 3 + [1.0, 0.0]),
        )
        z[fold == out] = np.einsum("m,mnk->nk", weight, planes[:, fold == out])
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(p[np.arange(n), labels] / p.sum(axis=1))


def cell(here: World, number: int, seed: int, steps: int) -> dict[str, Any]:
    """All methods for one draw of classes and samples."""
    rng = np.random.default_rng([seed, number])
    k = here.facts.n_classes
    looked_at = rng.permutation(k)[: k // 2]
    others = np.setdiff1d(np.arange(k), looked_at)
    rows = np.sort(rng.choice(np.flatnonzero(np.isin(here.labels, looked_at)), number, replace=False))
    found: dict[str, dict[str, float]] = {}

    def by_threshold(name: str, score: Floats) -> None:
        found[name] = measured(score, score >= chosen(score[rows], here.wrong[rows]), here, others)

    scores = plain(here)
    for name, score in scores.items():
        by_threshold(name, score)
    everyone = np.ones(here.facts.n, dtype=bool)
    found["all clean"] = measured(scores["all clean"], everyone, here, others)
    p_head = np.asarray(here.facts.p_head)
    found["class filtering"] = measured(
        own(p_head, here.labels), p_head.argmax(axis=1) == here.labels, here, others
    )
    by_threshold("MLP on [sample, centroid]", mlp(here, rows, seed))
    course: dict[int, float] = {}

    def accepted(cosine: Floats) -> float:
        return min(ACCEPT, key=lambda t: float(((cosine[rows] >= t) == here.wrong[rows]).mean()))

    def watch(step: int, cosine: Floats) -> None:
        course[step] = round(error(cosine >= accepted(cosine), here, others), 4)

    cosine = published(
        np.asarray(here.facts.embeddings),
        here.labels,
        k,
        rows,
        ~here.wrong[rows],
        seed,
        steps,
        watch,
        steps // 4,
    )
    found["CleanNet, published"] = measured(cosine, cosine >= accepted(cosine), here, others)
    by_threshold("CleanNet, published, threshold chosen", cosine)
    detector, seconds = ours(here, rows)
    score = detector.score(0, here.facts.n)
    found["labeltui cleannet"] = measured(score, score >= 0.5, here, others)
    best = chosen(score[np.isin(here.labels, others)], here.wrong[np.isin(here.labels, others)])
    found["labeltui, oracle threshold"] = measured(score, score >= best, here, others)
    limit = everything_verified(here)
    found["everything verified"] = measured(limit, limit >= 0.5, here, others)
    return {"rows": found, "seconds": seconds, "course": course}


# ------------------------------------------------------------------------------------- reporting


def averaged(cells: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean over the seeds."""
    names = cells[0]["rows"]
    return {
        name: {column: float(np.mean([each["rows"][name][column] for each in cells])) for column in COLUMNS}
        for name in names
    }


def print_rows(title: str, rows: dict[str, dict[str, float]], cells: list[dict[str, Any]]) -> None:
    """One table, least error first."""
    print(f"\n{title}")
    width = max(len(name) for name in rows)
    print(f"{'':<{width}}  " + "  ".join(f"{column:>7}" for column in COLUMNS))
    for name, row in sorted(rows.items(), key=lambda each: each[1]["error"]):
        print(f"{name:<{width}}  " + "  ".join(f"{row[column]:7.4f}" for column in COLUMNS))
    print(f"published, error by step, of each seed: {[each['course'] for each in cells]}")


def digits() -> tuple[NDArray[np.float32], NDArray[np.int32], dict[str, NDArray[np.int32]]]:
    """Digits with labels wrong toward what looks alike."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x, clean = (data.data / 16).astype(np.float32), data.target.astype(np.int32)
    near = graph.build(x, 10)
    alike = np.zeros((10, 10))
    np.add.at(alike, (np.repeat(clean, 10), clean[near.indices].ravel()), 1)
    return x, clean, {"digits, 20 % confused": noise.confusable(clean, alike + 1, 0.2, 0)[0]}


def timed(here: World, number: int, seed: int) -> dict[str, float]:
    """Seconds of a first fit and of a refit from what it kept."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(here.facts.n, number + 20, replace=False))
    first, again = [], []
    for _ in range(2):
        detector, seconds = ours(here, rows[:number])
        first.append(seconds)
        _, seconds = ours(here, rows, {"cleannet": detector.arrays()})
        again.append(seconds)
    return {"first": median(first), "refit": median(again)}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--features", type=Path, help="(N, d) embeddings, .npy")
    options.add_argument("--clean", type=Path, help="(N,) right labels, .npy")
    options.add_argument(
        "--labels", type=Path, action="append", default=[], help="(N,) noisy labels, .npy; may be repeated"
    )
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--numbers", type=int, nargs="+", default=list(NUMBERS), help="verified samples")
    options.add_argument("--steps", type=int, default=STEPS, help="of the published network")
    options.add_argument("--time", action="store_true", help="measure seconds only (on a quiet machine)")
    arguments: argparse.Namespace = options.parse_args()
    report = Report("cleannet", arguments)
    target = "error on classes nobody looked at, below the best weakly supervised method"
    files = [arguments.features, arguments.clean, *arguments.labels]
    if arguments.quick:
        x, clean, noisy = digits()
        arguments.seeds, arguments.numbers, arguments.steps = 1, [300], 400
    elif not arguments.labels or not all(file is not None and file.exists() for file in files):
        print("skipped: --features, --clean and --labels must name .npy files", file=sys.stderr)
        report.cannot(target, "no embeddings and labels were given", "%", target=41.5)
        report.finish()
        return
    else:
        x, clean = np.load(arguments.features), np.load(arguments.clean).astype(np.int32)
        noisy = {file.stem: np.load(file).astype(np.int32) for file in arguments.labels}
    sources = (
        SOURCE / "detect" / "cleannet.py",
        SOURCE / "detect" / "cleannet_model.py",
        Path(__file__).parent / "_cleannet.py",
    )
    for name, labels in noisy.items():
        if not report.wanted(name):
            continue
        made: list[World] = []

        def here(name: str = name, labels: NDArray[np.int32] = labels, made: list[World] = made) -> World:
            if not made:
                made.append(world(name, x, labels, clean))
            return made[0]

        if arguments.time:
            report_times(report, name, timed(here(), AT, 0))
            continue
        for number in arguments.numbers:
            cells = []
            for seed in range(arguments.seeds):
                measure: Callable[[], dict[str, Any]] = lambda number=number, seed=seed, here=here: cell(  # noqa: E731
                    here(), number, seed, arguments.steps
                )
                what = f"{name}, {number} verified, seed {seed}"
                cells.append(
                    report.cell(what, measure, *sources, *(f for f in files if f), steps=arguments.steps)
                )
            add(report, name, number, averaged(cells), cells)
    report.finish()


def add(
    report: Report, name: str, number: int, rows: dict[str, dict[str, float]], cells: list[dict[str, Any]]
) -> None:
    """Print one table and add its results."""
    print_rows(f"{name}, {number} verified in half of the classes; the other half:", rows, cells)
    rival = min(WEAK, key=lambda each: rows[each]["error"])
    least = rows[rival]["error"]
    report.add(
        f"{name}, {number} verified: error on the other classes, below the best weakly supervised",
        100 * (1 - rows["labeltui cleannet"]["error"] / least),
        "%",
        target=41.5 if number == AT and not report.options.quick else None,  # type: ignore[union-attr]
        peer=rival,
        detail={
            "rows": rows,
            "limit_percent": round(100 * (1 - rows["everything verified"]["error"] / least), 1),
            "limit": "everything verified: head and weighing learned from all clean labels",
            "seconds_each": [round(each["seconds"], 1) for each in cells],
        },
    )


def report_times(report: Report, name: str, seconds: dict[str, float]) -> None:
    """Add the seconds of fits."""
    report.add(f"{name}: first fit", seconds["first"], "s", better="lower", target=60)
    report.add(f"{name}: refit", seconds["refit"], "s", better="lower", target=5)


if __name__ == "__main__":
    main()
