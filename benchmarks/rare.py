"""What the blend's ranking, its flags and its number of wrong labels are worth, from rare errors to massive noise.

    python benchmarks/rare.py --name CIFAR-10 --features emb.npy --clean clean.npy --labels people=people.npy
    python benchmarks/rare.py              # digits that ship with scikit-learn
    python benchmarks/rare.py --docs ...   # the rows of this data set in docs/detection.md

Rows are labels that people gave: of the first a seeded fraction of the errors put into clean labels, and all of them;
and planted noise. Average precision of the blend and of each detector that it pools, flags, the expected number of
wrong labels, the bound that is stated, and the real number. Clean labels inject the errors and measure; nothing learns
from them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
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

FRACTIONS = (0.005, 0.01, 0.03, 1.0)
PLANTED = (("symmetric", 0.02), ("symmetric", 0.1), ("symmetric", 0.8), ("pair-flip", 0.2))
PARTS = ("neighbours", "nearest", "head", "corrected", "propagation", "centroids")
DOCS = Path(__file__).parent.parent / "docs" / "detection.md"


def options() -> argparse.Namespace:
    found = parser(__doc__)
    _worlds.add_options(found)
    found.add_argument("--seeds", type=int, default=3)
    found.add_argument("--docs", action="store_true", help="write the rows into docs/detection.md")
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
        whole.human["made errors"] = noise.confusable(whole.clean, similarity, 0.12, 0).labels
    for seed in range(1 if chosen.quick else chosen.seeds):
        for number, (name, given) in enumerate(whole.human.items()):
            for fraction in FRACTIONS[1:3] if chosen.quick else FRACTIONS if number == 0 else FRACTIONS[-1:]:
                labels = errors(whole, given, fraction, seed)
                if fraction < 1 or seed == 0:
                    yield World(whole, name, 0.0 if fraction == 1 else fraction, labels, seed)
        for kind, rate in () if chosen.quick else PLANTED:
            yield World(whole, kind, rate, _worlds.plant(whole, kind, rate, seed), seed)


def measure(world: World, report: Report) -> dict[str, Any]:
    found = detect.run(_ours.Stage(world, report.arrays).facts, only=PARTS)
    p = 1.0 - found.blend
    structure = float(found.attrs["blend"]["noise_structure"])
    flags = found.suggest_label[:, 0] != world.labels
    return {
        "blend": ranking(found.blend, world.wrong)["AP"],
        "parts": {name: ranking(score, world.wrong)["AP"] for name, score in found.scores.items()},
        "expected": float(p.sum(dtype=np.float64)),
        "at most": at_most(p, structure).high,
        "flags": float(flags.sum()),
        "F1": f1(flags, world.wrong),
        "F1@k": ranking(found.blend, world.wrong)["F1@k"],
        "wrong": int(world.wrong.sum()),
        "samples": len(world.labels),
    }


def row(cells: list[dict[str, Any]]) -> list[str]:
    """The means over seeds as one row of the table, from the second column on."""

    def mean(of: Callable[[dict[str, Any]], float]) -> float:
        return float(np.mean([of(cell) for cell in cells]))

    names = cells[0]["parts"]
    best = max(names, key=lambda name: mean(lambda cell: cell["parts"][name]))
    return [
        f"{mean(lambda cell: cell['wrong'] / cell['samples']):.1%}",
        str(len(cells)),
        f"{mean(lambda cell: cell['blend']):.3f}",
        f"{mean(lambda cell: cell['parts'][best]):.3f} {best}",
        f"{mean(lambda cell: cell['parts']['head']):.3f}",
        f"{mean(lambda cell: cell['F1']):.2f}",
        f"{mean(lambda cell: cell['F1@k']):.2f}",
        f"{mean(lambda cell: cell['wrong']):,.0f}",
        f"{mean(lambda cell: cell['expected']):,.0f}",
        f"{mean(lambda cell: cell['at most']):,.0f}",
    ]


def write(rows: list[str], name: str) -> None:
    """Replace the rows of a data set in the page."""
    begin, end = "<!-- rows of rare.py -->", "<!-- end of rows -->"
    before, rest = DOCS.read_text(encoding="utf-8").split(begin)
    old, after = rest.split(end)
    kept = [line for line in old.splitlines() if line and not line.startswith(f"| {name} ")]
    DOCS.write_text("\n".join([before + begin, *kept, *rows, end + after]), encoding="utf-8")


def main() -> None:
    chosen = options()
    report = Report("rare", chosen)
    ahead: list[float] = []
    by_world: dict[str, list[dict[str, Any]]] = {}
    for world in worlds(chosen):
        name = (
            world.name if world.rate >= 0.01 or not world.rate else f"{world.images.name} {world.kind} 0.5%"
        )
        title = f"{name}, seed {world.seed}"
        if not report.wanted(title):
            continue
        cell = report.cell(
            title, lambda world=world: measure(world, report), *_ours.DETECT, world=world.digest
        )
        by_world.setdefault(name, []).append(cell)
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
    if chosen.docs:
        rows = ["| " + " | ".join([name, *row(cells)]) + " |" for name, cells in by_world.items()]
        write(rows, world.images.name)
    report.finish()


if __name__ == "__main__":
    main()
