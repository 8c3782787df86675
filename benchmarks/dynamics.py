"""The dynamics detector, as shipped, on data it never saw, beside what else is read off the same record.

    python benchmarks/dynamics.py [--features DIR] [--seeds 3] [--quick]

DIR holds emb.npy (N, d), clean.npy, random1.npy and aggre.npy (N,): features of CIFAR-10 in training order, its
labels, and two sets of human labels of CIFAR-10N. Without it those rows are left out. The clean labels measure;
nothing is chosen by them. The shipped weights were made from digits and Gaussian classes (data/noise_detector).

Every row reads the same record of a head in training, at a scan's settings, two folds. The published recipe is
trained on the record of the digits' head with 20 % of the labels replaced, all classes alike: its curves are those of
a head, 12 epochs, where the paper has 200 epochs of a ResNet-32.
"""

from __future__ import annotations

import functools
import hashlib
import statistics as numbers
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits, make_blobs
from sklearn.metrics import average_precision_score, roc_auc_score

import labeltui
from _common import CACHE, Report, parser
from _lstm import published
from labeltui import head, noise
from labeltui.detect import Facts
from labeltui.detect.dynamics import DynamicsDetector
from labeltui.detect.dynamics.statistics import STATISTICS

SOURCE = Path(labeltui.__file__).parent
FOLDS = 2
OUT_OF_FOLD = "(out-of-fold self-confidence)"
PEERS = ("published recipe", "AUM", "wrong events")  # those of the target
Labels = NDArray[np.int32]
Case = tuple[NDArray[np.float32], Labels, Labels, int]  # features, given labels, right labels, classes


def planted(truth: Labels, x: NDArray[np.float32], kind: str, rate: float, seed: int) -> Labels:
    """Labels with planted errors."""
    k = int(truth.max()) + 1
    if kind == "symmetric":
        return noise.symmetric(truth, rate, seed, k).labels
    if kind == "pair-flip":
        return noise.pair_flip(truth, rate, seed, k).labels
    return noise.feature_dependent(truth, x, rate, seed, k).labels


def digits(kind: str, rate: float, seed: int) -> Case:
    """scikit-learn's digits; the seeds are not those of the recipe."""
    data = load_digits()
    x, truth = (data.data / 16).astype(np.float32), data.target.astype(np.int32)
    return x, planted(truth, x, kind, rate, 1000 + seed), truth, 10


def blobs(kind: str, rate: float, seed: int) -> Case:
    """Twenty Gaussian classes that overlap."""
    x, truth = make_blobs(4000, 32, centers=20, cluster_std=4.5, center_box=(-4, 4), random_state=1000 + seed)
    x, truth = x.astype(np.float32), truth.astype(np.int32)
    return x, planted(truth, x, kind, rate, 1000 + seed), truth, 20


def pictures(directory: Path, labels: str, seed: int) -> Case:
    """CIFAR-10's features with human labels, or with planted ones."""
    x = np.load(directory / "emb.npy", mmap_mode="r")
    truth = np.load(directory / "clean.npy").astype(np.int32)
    if labels in ("random1", "aggre"):
        given = np.load(directory / f"{labels}.npy").astype(np.int32)
    else:
        kind, _, rate = labels.partition(" ")
        given = planted(truth, x, kind, int(rate) / 100, 1000 + seed)
    return x, given, truth, 10


def trained(x: NDArray[np.float32], given: Labels, k: int, seed: int) -> head.HeadResult:
    """The head of a scan, with its record."""
    fold = head.folds(given, None, None, FOLDS, seed)
    return head.out_of_fold(x, given, fold, k, seed=seed, dynamics=True)


def kept(name: str, case: Callable[[], Case], seed: int, fresh: bool) -> tuple[dict[str, Any], Labels, int]:
    """The record of a head on a case, with its out-of-fold self-confidence, right labels and number of classes.

    Training takes the time, so records stay on disk; what reads them is measured anew.
    """
    x, given, truth, k = case()
    digest = hashlib.sha256(f"{x.shape} {k} {seed} {FOLDS}".encode())
    for content in (given, truth, x[:: max(1, len(x) // 100)]):
        digest.update(np.ascontiguousarray(content).data)
    for source in sorted((SOURCE / "head").glob("*.py")):
        digest.update(source.read_bytes())
    path = CACHE / "dynamics" / f"{digest.hexdigest()[:32]}.npz"
    if fresh or not path.exists():
        print(f"  {name}, seed {seed} ...", file=sys.stderr, flush=True)
        begun = time.perf_counter()
        result = trained(x, given, k, seed)
        assert result.dynamics is not None
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(
            path, confidence=result.p[np.arange(len(given)), given],
            seconds=time.perf_counter() - begun, **vars(result.dynamics),
        )  # fmt: skip
    with np.load(path) as data:
        return dict(data), truth, k


@functools.cache
def school() -> tuple[head.Dynamics, NDArray[np.bool_]]:
    """What the published recipe learns from."""
    x, given, truth, k = digits("symmetric", 0.2, 0)
    record = trained(x, given, k, 0).dynamics
    assert record is not None
    return record, given != truth


def measure(name: str, case: Callable[[], Case], seed: int, fresh: bool) -> dict[str, Any]:
    """Average precision (and AUROC) of each reading of one record, and the seconds of ours."""
    arrays, truth, k = kept(name, case, seed, fresh)
    confidence, seconds = arrays.pop("confidence"), float(arrays.pop("seconds"))
    record = head.Dynamics(**arrays)
    wrong = record.labels != truth
    detector = DynamicsDetector(Facts(record.labels, k, np.ones(len(truth), dtype=bool), dynamics=record))
    begun = time.perf_counter()
    detector.fit()
    spent = time.perf_counter() - begun
    lesson, answers = school()
    scores = {
        "ours": detector.score(0, len(truth)),
        "published recipe": published([lesson], [answers], record, seed),
        **{name: statistic(record) for name, statistic in STATISTICS.items()},
        OUT_OF_FOLD: confidence,
    }
    return {
        "wrong": float(wrong.mean()),
        "epochs": len(record.log_p),
        "training_seconds": seconds,
        "seconds": spent,
        "AP": {name: float(average_precision_score(wrong, -score)) for name, score in scores.items()},
        "AUROC": {name: float(roc_auc_score(wrong, -score)) for name, score in scores.items()},
    }


def cases(features: Path | None) -> dict[str, Callable[[int], Case]]:
    """Name of a cell to what makes it for a seed."""
    made: dict[str, Callable[[int], Case]] = {}
    for make in (digits, blobs):
        for kind, rate in (
            ("symmetric", 0.4),
            ("pair-flip", 0.4),
            ("feature-dependent", 0.4),
            ("symmetric", 0.1),
        ):
            made[f"{make.__name__} {kind} {rate:.0%}"] = functools.partial(make, kind, rate)
    if features is not None:
        for labels in ("random1", "aggre", "symmetric 40", "pair-flip 40", "feature-dependent 40"):
            name = f"CIFAR-10N {labels}" if labels in ("random1", "aggre") else f"CIFAR-10 {labels}%"
            made[name] = functools.partial(pictures, features, labels)
    return made


def main() -> None:
    """Measure every cell, print every row, and hold ours against each peer."""
    options = parser(__doc__)
    options.add_argument("--features", type=Path, help="directory with emb.npy and the label files")
    options.add_argument("--seeds", type=int, default=3)
    given = options.parse_args()
    report = Report("dynamics", given)
    features = None if given.quick else given.features
    if features is None:
        print("without --features there are no rows of CIFAR-10", file=sys.stderr)
    seeds = 1 if given.quick else given.seeds
    for name, make in cases(features).items():
        if not report.wanted(name):
            continue
        found = [measure(name, functools.partial(make, seed), seed, given.fresh) for seed in range(seeds)]
        mean = {row: numbers.mean(each["AP"][row] for each in found) for row in found[0]["AP"]}
        print(f"\n{name}: {found[0]['wrong']:.1%} wrong, {found[0]['epochs']} epochs, {len(found)} seeds; AP")
        for row, value in sorted(mean.items(), key=lambda entry: -entry[1]):
            print(f"  {row:<28} {value:.4f}")
        best = max(PEERS, key=lambda row: mean[row])
        report.add(
            f"{name}: AP of ours, moved, less the best of {', '.join(PEERS)}",
            mean["ours"] - mean[best],
            "AP",
            target=None if given.quick else 0.0,
            peer=best,
            detail={"AP": mean, "seeds": [each["AP"] for each in found]},
        )
    print()
    report.finish()


if __name__ == "__main__":
    main()
