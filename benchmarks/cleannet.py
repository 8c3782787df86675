"""Decisions about five classes, and the errors found in the five that nobody looked at.

    python benchmarks/cleannet.py --name CIFAR-10N --features emb.npy --clean clean.npy \\
        --labels random1.npy --labels aggre.npy --neighbours indices.npy similarity.npy --docs

Samples of half of the classes are verified, drawn at random or chosen (`_verify.CHOICES`): their right labels play
the person's part, all other right labels only measure. Each method says of each sample whether its label is right;
the error is the share of wrong sayings, averaged over the other classes. Everyone reads the same embeddings, and the
out-of-fold head and neighbours that a scan makes.

* Weakly supervised rows learn nothing from the decisions but a threshold, the one with the fewest errors on the
  verified samples: centroid, neighbours, and class filtering (is the label the head's most probable class?), which has
  none. "all right" calls every label right. The same head with a threshold is stronger than the published baselines and
  has a comparison of its own.
* "MLP" and "CleanNet, published" learn from the verified samples and are moved to the other classes.
* Rows named oracle know right labels that nobody has. They show what these features allow: with the head taught by
  all right labels, and with every sample's label verified, out of fold.

Cells are one draw of classes and samples; what was measured is kept, a run that was stopped goes on. ``--only
settings`` chooses the settings of our network on digits and on made worlds. ``--quick`` takes digits.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import _settings
import _verify
import _worlds
from _common import Report, markdown, median, parser, reached
from _verify import CHOICES, ORACLES, WEAK, Bench, Draw
from labeltui import parallel
from labeltui.detect.base import DetectorInputs
from labeltui.detect.cleannet import CleanNet
from peers import cleannet as peer

HERE = Path(__file__).parent
NUMBERS = (1000, 100, 500, 2500)
AT, TARGET = 1000, 41.5
DIGITS = 300  # verified of them
COLUMNS = ("error", "AUROC", "AP", "F1")
OURS = "labeltui cleannet"
SOURCES = (*_verify.OURS, *(Path(module.__file__) for module in (peer, _verify, _worlds)))

SETTINGS = "settings: "
MADE = 1  # draws of the worlds on which they are chosen

# (world, verified, how they were chosen) -> cells
Measured = dict[tuple[str, int, str], list[dict[str, Any]]]


def options() -> argparse.Namespace:
    found = parser(__doc__)
    _worlds.add_options(found)
    found.add_argument("--seeds", type=int, default=3, help="draws of classes and samples")
    found.add_argument("--numbers", type=int, nargs="+", default=list(NUMBERS), help="verified samples")
    found.add_argument("--choices", nargs="+", choices=CHOICES, default=list(CHOICES), help="of the samples")
    found.add_argument("--steps", type=int, default=peer.STEPS, help="of the published network")
    found.add_argument(
        "--published", type=int, default=1, metavar="N", help=f"draws of {AT:,} in which it is trained"
    )
    found.add_argument("--time", action="store_true", help="measure seconds only (on a quiet machine)")
    found.add_argument("--kept", action="store_true", help="show what was measured before, measure nothing")
    found.add_argument("--docs", action="store_true", help="write docs/cleannet.md")
    return found.parse_args()


def benches(chosen: argparse.Namespace, report: Report) -> Iterator[tuple[Bench, list[int]]]:
    """Worlds, and how many samples are verified in each."""
    if not chosen.quick:
        of = _worlds.given(chosen)
        for world in () if of is None else _worlds.worlds(of, 0, ()):
            yield Bench(world, report.arrays), chosen.numbers
    of = _worlds.digits()
    for kind, rate in (("class-dependent", 0.2), ("symmetric", 0.4))[: 1 if chosen.quick else 2]:
        world = _worlds.World(of, kind, rate, _worlds.plant(of, kind, rate, 0), 0)
        yield Bench(world, report.arrays), [DIGITS]


def measure(chosen: argparse.Namespace, report: Report) -> Measured:
    """All cells that are wanted."""
    measured: Measured = {}
    for bench, numbers in benches(chosen, report):
        for number in numbers:
            for choice, seed in itertools.product(chosen.choices, range(chosen.seeds)):
                world = bench.world
                title = f"{world.name}, {number} {choice}, draw {seed}"
                published = choice == CHOICES[0] and seed < chosen.published and number in (AT, DIGITS)
                steps = chosen.steps if published else 0
                known = {"world": world.digest, "steps": steps}
                if not report.wanted(title):
                    continue
                if chosen.kept and not report.measured(title, *SOURCES, **known):
                    continue

                draw = Draw(bench, number, seed, choice)
                cell = report.cell(title, partial(_verify.cell, draw, steps), *SOURCES, **known)
                measured.setdefault((world.name, number, choice), []).append(cell)
    return measured


# ------------------------------------------------------------------------------ reporting


def averaged(cells: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Means over the draws that have the row, least error first."""
    rows = {
        name: {
            column: float(np.mean([each["rows"][name][column] for each in cells if name in each["rows"]]))
            for column in COLUMNS
        }
        for name in cells[0]["rows"]
    }
    return dict(sorted(rows.items(), key=lambda each: each[1]["error"]))


def heading(world: str, number: int, choice: str, cells: list[dict[str, Any]]) -> str:
    return f"{world}, {number:,} {choice} in half of the classes, {len(cells)} draws; on the other half:"


def course(cells: list[dict[str, Any]]) -> str:
    """How the published network's error went."""
    of = [each["course"] for each in cells if each["course"]]
    if not of:
        return "CleanNet, published: not trained"
    means = {step: float(np.mean([each[step] for each in of])) for step in of[0]}
    steps = ", ".join(f"{s} {e:.4f}" for s, e in means.items())
    return f"CleanNet, published, {len(of)} of the draws, error by step: {steps}"


def print_tables(measured: Measured) -> None:
    for (world, number, choice), cells in measured.items():
        rows = averaged(cells)
        width = max(len(name) for name in rows)
        print(
            f"\n{heading(world, number, choice, cells)}\n{'':<{width}}  "
            + "  ".join(f"{c:>7}" for c in COLUMNS)
        )
        for name, row in rows.items():
            print(f"{name:<{width}}  " + "  ".join(f"{row[column]:7.4f}" for column in COLUMNS))
        print(course(cells))
    print()


def add_targets(chosen: argparse.Namespace, report: Report, measured: Measured) -> None:
    """How far below the others our error is, and how far below it could be."""
    people = [f"{chosen.name} {name}" for name in _worlds.named(chosen)]
    for (world, number, choice), cells in measured.items():
        rows = averaged(cells)
        weak = next(name for name in rows if name in WEAK)
        any_other = next(name for name in rows if not name.startswith(("labeltui", "oracle")))
        best = next(name for name in rows if name in ORACLES[1:])
        aimed = number == AT and world in people
        report.add(
            f"{world}, {number:,} {choice}: error on the other classes, below the best weakly supervised",
            below(rows, OURS, weak),
            "%",
            target=TARGET if aimed else None,
            peer=f"{weak} {rows[weak]['error']:.4f}",
            detail={
                "rows": rows,
                "each draw": [round(below(each["rows"], OURS, weak), 2) for each in cells],
                "seconds": [each["seconds"] for each in cells],
            },
        )
        report.add(
            f"{world}, {number:,} {choice}: the limit of these features, below the same",
            below(rows, best, weak),
            "%",
            peer=best,
        )
        report.add(
            f"{world}, {number:,} {choice}: below the best of all others, that with a threshold on the head included",
            below(rows, OURS, any_other),
            "%",
            target=0 if aimed else None,
            peer=f"{any_other} {rows[any_other]['error']:.4f}",
        )


def below(rows: dict[str, dict[str, float]], name: str, rival: str) -> float:
    """By how many percent the error of `name` is below that of `rival`."""
    return 100 * (1 - rows[name]["error"] / rows[rival]["error"])


def add_times(chosen: argparse.Namespace, report: Report) -> None:
    """Seconds of a first fit and of a refit from what it kept, scoring included."""
    bench, _ = next(benches(chosen, report))
    draw = Draw(bench, AT if bench.facts.n > 10 * AT else DIGITS, 0)
    seconds: dict[str, list[float]] = {}

    def timed(name: str, facts: DetectorInputs) -> CleanNet:
        begin, processors = time.perf_counter(), time.process_time()
        detector = _verify.fitted(facts, bench.found)
        detector.score(0, facts.n)
        seconds.setdefault(name, []).append(time.perf_counter() - begin)
        seconds.setdefault(f"{name}, of all processors", []).append(time.process_time() - processors)
        return detector

    for _ in range(chosen.rounds):
        kept = timed("first fit", draw.facts).arrays()
        timed("refit", replace(draw.facts, kept={CleanNet.name: kept}))
    size = f"{bench.facts.n:,} x {bench.world.images.X.shape[1]:,}, {parallel.count_threads()} threads"
    aimed = not chosen.quick and chosen.features is not None
    for name, target in (("first fit", 60), ("refit", 5)):
        report.add(
            f"time: {name}, {size}",
            median(seconds[name]),
            "s",
            better="lower",
            target=target if aimed else None,
            detail=seconds,
        )


def write_page(measured: Measured, report: Report, docs: Path) -> None:
    """Write docs/cleannet.md."""
    lines = [
        "# CleanNet, measured",
        "",
        "Written by `python benchmarks/cleannet.py --docs`, whose first lines say what is measured and what the rows "
        "are; [detectors.md](detectors.md) says what the detector does.",
        "",
    ]
    lines += reached(each for each in report.results if not each["what"].startswith(SETTINGS))
    lines += [
        "",
        "The limit is the best oracle, for which every label is verified: where even it misses the target, these "
        "features limit the figure, as far as this head and these trees can read them.",
    ]
    for (world, number, choice), cells in measured.items():
        lines += ["", f"## {heading(world, number, choice, cells)[:-1]}", ""]
        lines += markdown(
            ("", *COLUMNS),
            ([name, *(f"{row[each]:.4f}" for each in COLUMNS)] for name, row in averaged(cells).items()),
        )
        lines += ["", course(cells) + "."]
    settings = [each for each in report.results if each["what"].startswith(SETTINGS)]
    if settings:
        title = "## Settings, chosen on digits and made classes"
        lines += ["", title, "", "Errors relative to the mean of the line.", ""]
    for each in settings:
        errors = each["detail"]["errors, relative"]
        found = ", ".join(f"{value}: {error:.4f}" for value, error in errors.items())
        axis = each["what"].removeprefix(SETTINGS).split(",")[0]
        lines.append(f"* `{axis}`: {found}; chosen {each['detail']['chosen']}")
    (docs / "cleannet.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    chosen = options()
    if chosen.quick:
        chosen.seeds, chosen.steps, chosen.rounds = 1, 400, 1
    report = Report("cleannet", chosen, sources=())
    if chosen.only == "settings":
        _settings.choose(report, MADE)
    elif chosen.time:
        add_times(chosen, report)
    else:
        measured = measure(chosen, report)
        print_tables(measured)
        add_targets(chosen, report, measured)
        if chosen.docs:
            if not chosen.kept:
                _settings.choose(report, MADE)
            write_page(measured, report, HERE.parent / "docs")
    report.finish()


if __name__ == "__main__":
    main()
