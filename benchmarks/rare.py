"""Rare errors: clean labels with a seeded fraction of people's errors put in; the blend beside its parts.

    python benchmarks/rare.py --name CIFAR-10 --features emb.npy --clean clean.npy --labels random1=random1.npy
    python benchmarks/rare.py --quick      # digits, errors toward classes that look alike

Average precision of the blend and of each detector that it pools, the expected number of wrong labels, the bound that
is stated, and the real number. Clean labels inject the errors and measure; nothing learns from them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import _ours
import _worlds
from _common import Report, parser
from _measures import f1, ranking
from _worlds import Images, World
from labeltui import csg, detect, noise
from labeltui.noise.checked import at_most

FRACTIONS = (0.005, 0.01, 0.03, 0.09, 1.0)
PARTS = ("neighbours", "nearest", "head", "corrected")


def options() -> argparse.Namespace:
    found = parser(__doc__)
    _worlds.add_options(found)
    found.add_argument("--seeds", type=int, default=3)
    return found.parse_args()


def errors(of: Images, given: NDArray[np.int32], fraction: float, seed: int) -> NDArray[np.int32]:
    """Clean labels with a fraction (of all samples) of the errors of `given`; all of them where it has fewer."""
    wrong = np.flatnonzero(given != of.clean)
    count = min(len(wrong), round(fraction * len(given)))
    chosen = np.random.default_rng(seed).choice(wrong, count, replace=False)
    labels = of.clean.copy()
    labels[chosen] = given[chosen]
    return labels


def worlds(chosen: argparse.Namespace) -> Iterator[World]:
    whole = None if chosen.quick else _worlds.given(chosen)
    if whole is None:
        whole = _worlds.digits()
        k = int(whole.clean.max()) + 1
        similarity = csg.similarity(csg.pooled_counts(whole.indices, whole.clean, 10, k))
        whole.human["confusable"] = noise.confusable(whole.clean, similarity, 0.12, 0).labels
    for name, given in whole.human.items():
        for fraction in FRACTIONS[1:3] if chosen.quick else FRACTIONS:
            for seed in range(1 if chosen.quick else chosen.seeds):
                yield World(whole, f"errors of {name}", fraction, errors(whole, given, fraction, seed), seed)


def measure(world: World, report: Report) -> dict[str, Any]:
    found = detect.run(_ours.Stage(world, report.arrays).facts, only=PARTS)
    p = 1.0 - found.blend
    flags = found.suggest_label[:, 0] != world.labels
    return {
        "blend": ranking(found.blend, world.wrong)["AP"],
        "parts": {name: ranking(score, world.wrong)["AP"] for name, score in found.scores.items()},
        "expected": float(p.sum(dtype=np.float64)),
        "at most": at_most(p, float(found.attrs["blend"]["noise_structure"])).high,
        "flags": float(flags.sum()),
        "F1": f1(flags, world.wrong),
        "F1@k": ranking(found.blend, world.wrong)["F1@k"],
        "wrong": int(world.wrong.sum()),
    }


def main() -> None:
    chosen = options()
    report = Report("rare", chosen)
    ahead = []
    for world in worlds(chosen):
        title = f"{world.name}, seed {world.seed}"
        if not report.wanted(title):
            continue
        cell = report.cell(
            title, lambda world=world: measure(world, report), *_ours.DETECT, world=world.digest
        )
        best = max(cell["parts"], key=cell["parts"].get)
        ahead.append(cell["blend"] - cell["parts"][best])
        report.add(
            f"{title}: AP of the blend minus its best part", ahead[-1], "", target=-0.003,
            peer=f"{best} {cell['parts'][best]:.3f}, blend {cell['blend']:.3f}", detail=cell,
        )  # fmt: skip
        report.add(
            f"{title}: bound over the real number wrong", cell["at most"] / max(cell["wrong"], 1), "x",
            better="lower", target=3.0, peer=f"expected {cell['expected']:.0f}, real {cell['wrong']:,}",
        )  # fmt: skip
    if ahead:
        report.add("mean AP of the blend minus its best part", float(np.mean(ahead)), "", target=0.01)
    report.finish()


if __name__ == "__main__":
    main()
