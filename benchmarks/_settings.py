"""Settings of our CleanNet, chosen on digits and on made classes, where right labels are known by construction.

The worlds: digits and Gaussian classes in families, with labels wrong as people err (on the samples that look like
another class) or symmetrically. Settings are tried one axis after the other, in the order of `AXES`; each axis goes on
from what the one before chose. A setting's figure is its error on the classes that nobody looked at, divided by the
mean error of its axis in that world, averaged over worlds and draws. The choice is the first setting, cheapest first,
whose figure is not above the best one's by more than a standard error of their difference. It is what the package
ships; where it is not, the benchmark says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import _worlds
from _common import Report
from _verify import OURS, Bench, Draw, fitted
from _worlds import Images, World
from labeltui import head, noise
from labeltui.detect.cleannet import CleanNet

# Cheapest first.
AXES: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("steps", (50, 100, 150, 300)),
    ("hidden", (64, 128, 256)),
    ("learning_rate", (1e-3, 3e-3, 1e-2)),
    ("spread", (0.1, 0.25, 0.5)),
)
VERIFIED = {"digits": 200, "made": 300}
RATES = (("people", 0.1), ("people", 0.2), ("symmetric", 0.3))
SOURCES = (*OURS, Path(__file__))


def benches(report: Report, seeds: int) -> Iterator[Bench]:
    """All made worlds."""
    for seed in range(seeds):
        for of in (_worlds.digits(), gaussians(seed)):
            p = report.arrays(f"right head of {of.name}", right_head, of, seed, of=of.digest, seed=seed)["p"]
            for kind, rate in RATES:
                k = p.shape[1]
                labels = (
                    as_people_err(of.clean, p, rate, seed)
                    if kind == "people"
                    else noise.symmetric(of.clean, rate, seed, k).labels
                )
                yield Bench(World(of, kind, rate, labels, seed), report.arrays)


def gaussians(seed: int) -> Images:
    """Ten classes in five families, three clusters each, samples of unequal difficulty, as after a last ReLU."""
    n, d, k = 2000, 64, 10
    rng = np.random.default_rng([seed, 6])
    family = rng.normal(size=(5, d))[np.arange(k) // 2]
    centre = family[:, None] + rng.normal(size=(k, 1, d)) + 0.7 * rng.normal(size=(k, 3, d))
    truth = rng.integers(0, k, n).astype(np.int32)
    difficulty = np.exp(rng.normal(scale=0.4, size=(n, 1)))
    x = centre[truth, rng.integers(0, 3, n)] + 0.3 * np.sqrt(d) * difficulty * rng.normal(size=(n, d))
    x = np.maximum(x @ rng.normal(size=(d, 2 * d)) / np.sqrt(d), 0.0)
    return _worlds.images("made", x.astype(np.float32), truth)


def right_head(of: Images, seed: int) -> dict[str, NDArray[np.float32]]:
    k = int(of.clean.max()) + 1
    fold = head.folds(of.clean, None, None, 5, seed + 50)
    return {"p": head.out_of_fold(of.X, of.clean, fold, k, seed=seed + 50).p}


def as_people_err(
    clean: NDArray[np.int32], p: NDArray[np.floating], rate: float, seed: int
) -> NDArray[np.int32]:
    """Labels wrong on the samples that look like another class."""
    p = np.sqrt(p.astype(np.float64)) + 1e-6
    p /= p.sum(axis=1, keepdims=True)
    alike = np.stack([p[clean == label].mean(axis=0) for label in range(p.shape[1])])
    return noise.matched(clean, noise.scaled(alike, clean, rate), p, seed).labels


def choose(report: Report, seeds: int) -> None:
    """Try all settings and print what is chosen."""
    made = list(benches(report, seeds))
    chosen: dict[str, Any] = {}
    for axis, values in AXES:
        errors = np.array(
            [[error(report, bench, {**chosen, axis: value}) for bench in made] for value in values]
        )
        share = errors / errors.mean(axis=0)
        mean = share.mean(axis=1)
        best = int(mean.argmin())
        gap = share - share[best]
        slack = gap.std(axis=1, ddof=1) / np.sqrt(gap.shape[1])
        first = int(np.flatnonzero(gap.mean(axis=1) <= slack)[0])
        chosen[axis] = values[first]
        shown = ", ".join(f"{v:g} {m:.4f} (+-{s:.4f})" for v, m, s in zip(values, mean, slack, strict=True))
        shipped = getattr(CleanNet.spec, axis)
        print(f"{axis}: {shown}; chosen {values[first]:g}, shipped {shipped:g}")
        errors_by = {str(value): round(float(each), 5) for value, each in zip(values, mean, strict=True)}
        report.add(
            f"settings: {axis}, what is chosen is shipped",
            float(values[first] == shipped),
            "",
            target=1,
            detail={"chosen": values[first], "errors, relative": errors_by},
        )


def error(report: Report, bench: Bench, settings: dict[str, Any]) -> float:
    """Error on the classes that nobody looked at, under these settings."""
    world = bench.world
    draw = Draw(bench, VERIFIED[world.images.name], world.seed)

    tried = replace(CleanNet.spec, **settings)

    def measure() -> dict[str, float]:
        class Tried(CleanNet):
            spec = tried

        score = fitted(draw.facts, bench.found, Tried).score(0, len(world.labels))
        return draw.measured(score, score >= 0.5)

    title = f"settings: {world.name}, draw {world.seed}, {tried}"
    return float(report.cell(title, measure, *SOURCES, world=world.digest)["error"])
