"""The dynamics detector on data it never saw, beside what else is read off the same record.

    python benchmarks/dynamics.py                                    # digits and Gaussian classes alone
    python benchmarks/dynamics.py --name CIFAR-10 --features emb.npy --clean clean.npy \\
        --labels aggre=aggre.npy --labels random1=random1.npy --sample 10000 [--docs]

Every row reads the same record of a head in training, at a scan's settings, two folds. Clean labels measure; nothing is
chosen by them.

Moved to the features: the shipped network, which was made from digits and Gaussian classes (data/noise_detector),
and the published recipe, taught as its authors say (errors injected at 20 %, all classes alike, as many curves as
theirs) on records of the digits' head: its curves are those of a head, 15 epochs, where the paper has 200 epochs of a
ResNet-32. Moved the other way, to digits: both taught on sampled features with injected errors, ours by the training of
its recipe on several kinds of noise. "at home" is the published recipe on digits that it was not taught on.

Seed 0 of people's labels has all samples; with --sample the seeds are measured on as many, drawn by the seed.
Cells are one world and one seed; what was measured is kept, a run that was stopped goes on. "CPU s" are seconds of all
processors for reading the record, without training.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics as numbers
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import make_blobs
from sklearn.metrics import average_precision_score, roc_auc_score

import _worlds
import labeltui
from _common import Report, markdown, parser
from _worlds import Images, World
from labeltui import head
from labeltui.detect.dynamics import network as ours
from labeltui.detect.dynamics.curves import Curves
from labeltui.detect.dynamics.statistics import STATISTICS
from peers import lstm

HERE = Path(__file__).parent
RECIPE = HERE.parent / "data" / "noise_detector"
sys.path.append(str(RECIPE))
import make  # noqa: E402

SOURCE = Path(labeltui.__file__).parent
HEAD = (SOURCE / "head", SOURCE / "noise")
READERS = (SOURCE / "detect" / "dynamics", Path(lstm.__file__))
FOLDS = 2
CURVES = 50_000  # that the published recipe learns from
TAUGHT = ("symmetric", 0.2)
KINDS = (("symmetric", 0.4), ("pair-flip", 0.4), ("feature-dependent", 0.4), ("class-dependent", 0.4))
LESSONS = (TAUGHT, ("pair-flip", 0.3), ("feature-dependent", 0.3), ("class-dependent", 0.3))
APART = 1000  # from the seeds of what is measured to those of what is taught
OURS, PUBLISHED = "labeltui dynamics", "published recipe"
RIVALS = (PUBLISHED, "AUM", "wrong events")  # those of the target
ROWS = (*RIVALS, "forgetting events", "EL2N")
Answers = NDArray[np.bool_]


@dataclass(frozen=True)
class Stage:
    """A world and the record of the head that learned its labels, made when first asked for and kept."""

    world: World
    report: Report

    @cached_property
    def record(self) -> head.Dynamics:
        kept = self.report.arrays(
            f"record of {self.world.name}", train, self.world, sources=HEAD, world=self.world.digest
        )
        kept.pop("seconds")
        return head.Dynamics(**kept)


def train(world: World) -> dict[str, Any]:
    """The record of a head in training."""
    fold = head.folds(world.labels, None, None, FOLDS, world.seed)
    made = head.out_of_fold(
        world.images.X, world.labels, fold, world.n_classes, seed=world.seed, dynamics=True
    )
    assert made.dynamics is not None
    return dict(vars(made.dynamics))


# ------------------------------------------------------------------------------ what is moved


class School:
    """Both readers, taught on some worlds and on no other."""

    def __init__(self, name: str, published: list[World], ours: list[World], report: Report) -> None:
        self.name = name
        self._published = published
        self._ours = ours
        self._report = report

    @cached_property
    def digest(self) -> str:
        """Stands for what is taught."""
        digests = [world.digest for world in (*self._published, *self._ours)]
        return hashlib.sha256(" ".join(digests).encode()).hexdigest()

    @cached_property
    def published(self) -> lstm.Published:
        """The published recipe."""

        def teach(worlds: list[World]) -> dict[str, Any]:
            records = [Stage(world, self._report).record for world in worlds]
            network = lstm.taught(records, [world.wrong for world in worlds])
            return {name: values.numpy() for name, values in network.state_dict().items()}

        kept = self._report.arrays(
            f"published recipe, {self.name}", teach, self._published,
            sources=(*HEAD, Path(lstm.__file__)), school=self.digest,
        )  # fmt: skip
        network = lstm.Published()
        network.load_state_dict({n: torch.from_numpy(kept[n]) for n in network.state_dict()})
        return network

    @cached_property
    def ours(self) -> ours.Network:
        """The shipped network; where worlds were given, one that has seen those alone."""
        if not self._ours:
            return ours.shipped()

        def teach(worlds: list[World]) -> dict[str, Any]:
            rng = np.random.default_rng(0)
            sheets = [
                make.sheet(Curves(Stage(world, self._report).record, world.n_classes), world.wrong, rng)
                for world in worlds
            ]
            return {name: values.numpy() for name, values in make.train(sheets).state_dict().items()}

        kept = self._report.arrays(
            f"labeltui dynamics, {self.name}", teach, self._ours,
            sources=(*HEAD, *READERS, RECIPE / "make.py"), school=self.digest,
        )  # fmt: skip
        network = ours.loaded({n: torch.from_numpy(v) for n, v in kept.items() if n != "seconds"})
        network.share.copy_(ours.shipped().share)  # as the recipe chose it
        return network


def lessons(of: Images, kinds: tuple[tuple[str, float], ...], seeds: range) -> list[World]:
    """Worlds with injected errors, on seeds that nothing is measured with."""
    return [
        World(of, kind, rate, _worlds.plant(of, kind, rate, APART + seed), APART + seed)
        for seed in seeds
        for kind, rate in kinds
    ]


# ------------------------------------------------------------------------------ measuring


def measure(stage: Stage, school: School) -> dict[str, Any]:
    """Average precision, AUROC and processor seconds of each reading of one record."""
    record, wrong = stage.record, stage.world.wrong
    taught, published = school.ours, school.published  # before the clock runs

    def read() -> NDArray[np.float32]:
        curves = Curves(record, stage.world.n_classes)
        return ours.read(taught, curves, np.arange(len(wrong)))

    readings: dict[str, Callable[[], NDArray[np.float32]]] = {
        OURS: read,
        PUBLISHED: lambda: lstm.judged(published, record),
        **{name: lambda name=name: STATISTICS[name](record) for name in ROWS[1:]},
    }
    rows = {}
    for name, reading in readings.items():
        begun = time.process_time()
        score = reading()
        seconds = time.process_time() - begun
        rows[name] = {
            "AP": float(average_precision_score(wrong, -score)),
            "AUROC": float(roc_auc_score(wrong, -score)),
            "seconds": seconds,
        }
    return {"rows": rows, "samples": len(wrong), "wrong": float(wrong.mean()), "epochs": len(record.log_p)}


def blobs(seed: int) -> Images:
    """Twenty Gaussian classes that overlap."""
    x, truth = make_blobs(4000, 32, centers=20, cluster_std=4.5, center_box=(-4, 4), random_state=seed)
    return _worlds.images("Gaussian classes", x.astype(np.float32), truth.astype(np.int32))


def cells(chosen: argparse.Namespace, report: Report) -> Iterator[tuple[str, World, School]]:
    """Title, world and school of all cells, in the order in which they are wanted."""
    digits = _worlds.digits()
    runs = 2 if chosen.quick else -(-CURVES // len(digits.clean))
    kinds = KINDS[:1] if chosen.quick else KINDS
    shipped = School("digits", lessons(digits, (TAUGHT,), range(runs)), [], report)
    seeds = range(1 if chosen.quick else chosen.seeds)
    whole = None if chosen.quick else _worlds.given(chosen)
    if whole is not None:
        for world in _worlds.worlds(whole, 0, ()):
            yield f"digits -> {world.name}", world, shipped
        for seed in seeds:
            of = whole if chosen.sample is None else _worlds.part(whole, chosen.sample, seed)
            for world in _worlds.worlds(of, seed, KINDS):
                if chosen.sample is not None or seed or world.rate:
                    yield f"digits -> {world.name}", world, shipped
        teacher = whole if chosen.sample is None else _worlds.part(whole, chosen.sample, APART)
        back = School(
            chosen.name,
            lessons(teacher, (TAUGHT,), range(-(-CURVES // len(teacher.clean)))),
            lessons(teacher, LESSONS, range(1)),
            report,
        )
        for seed in seeds:
            for world in _worlds.worlds(digits, seed, KINDS):
                yield f"{chosen.name} -> {world.name}", world, back
    for seed in seeds:
        for world in _worlds.worlds(digits, seed, (TAUGHT, *kinds)):
            yield f"at home: {world.name}", world, shipped
        for world in _worlds.worlds(blobs(APART + seed), seed, kinds):
            yield f"digits -> {world.name}", world, shipped


# ------------------------------------------------------------------------------ what is said


Measured = dict[str, dict[int, dict[str, Any]]]  # title -> seed -> cell


def table(measured: Measured) -> list[list[str]]:
    """Rows of text: titles, then one for each world."""
    found = [["", "samples", "wrong", "seeds", OURS, *ROWS]]
    for title, seeds in measured.items():
        each = list(seeds.values())
        values = [mean(seeds, row, "AP") for row in (OURS, *ROWS)]
        best = max(values)
        found.append(
            [
                title,
                f"{each[0]['samples']:,}",
                f"{numbers.mean(cell['wrong'] for cell in each):.1%}",
                str(len(each)),
                *(f"{value:.4f}" + ("*" if value == best else "") for value in values),
            ]
        )
    return found


def mean(seeds: dict[int, dict[str, Any]], row: str, column: str) -> float:
    """The mean of a column over the seeds."""
    return numbers.mean(cell["rows"][row][column] for cell in seeds.values())


def seconds(measured: Measured) -> list[list[str]]:
    """AUROC of the published recipe and the processor seconds of each reading, for each world."""
    found = [["", "AUROC " + OURS, "AUROC " + PUBLISHED, *(f"CPU s {row}" for row in (OURS, *ROWS))]]
    for title, seeds in measured.items():
        found.append(
            [
                title,
                *(f"{mean(seeds, row, 'AUROC'):.3f}" for row in (OURS, PUBLISHED)),
                *(f"{mean(seeds, row, 'seconds'):.2f}" for row in (OURS, *ROWS)),
            ]
        )
    return found


def show(rows: list[list[str]]) -> None:
    """Print a table in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print(row[0].ljust(widths[0]), *(text.rjust(w) for text, w in zip(row[1:], widths[1:], strict=True)))
    print()


def add_targets(report: Report, measured: Measured) -> None:
    """Ours, moved, beside each rival."""
    for title, seeds in measured.items():
        moved = "->" in title
        for rival in RIVALS:
            gap = [cell["rows"][OURS]["AP"] - cell["rows"][rival]["AP"] for cell in seeds.values()]
            report.add(
                f"{title}: AP less that of {rival}",
                numbers.mean(gap),
                "",
                target=0.0 if moved and not report.options.quick else None,
                peer=f"{mean(seeds, rival, 'AP'):.4f}",
                detail={"by seed": gap, "ours": mean(seeds, OURS, "AP")},
            )


def write_page(measured: Measured) -> None:
    """Write docs/dynamics.md."""
    lines = [
        "# Training dynamics, measured",
        "",
        "Written by `python benchmarks/dynamics.py --docs`; [detectors.md](detectors.md) says what the detector is, "
        "and the script what the rows are. An arrow leads from what a reader was taught on to what it reads, "
        "without retraining.",
        "",
        "Average precision, means over seeds; * is the best of a line.",
    ]
    for rows in (table(measured), seconds(measured)):
        lines += ["", *markdown(rows[0], rows[1:])]
    (HERE.parent / "docs" / "dynamics.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Measure every cell, print the tables, and hold ours against each rival."""
    options = parser(__doc__)
    _worlds.add_options(options)
    options.add_argument("--sample", type=int, metavar="N", help="measure seeds on N samples, to save time")
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--docs", action="store_true", help="write docs/dynamics.md")
    chosen = options.parse_args()
    report = Report("dynamics", chosen)
    measured: Measured = {}
    weights = hashlib.sha256((READERS[0] / ours.WEIGHTS).read_bytes()).hexdigest()
    for title, world, school in cells(chosen, report):
        if not report.wanted(title):
            continue
        measured.setdefault(title, {})[world.seed] = report.cell(
            f"{title}, seed {world.seed}",
            lambda world=world, school=school: measure(Stage(world, report), school),
            *HEAD, *READERS, RECIPE / "make.py",
            world=world.digest, school=school.digest, weights=weights,
        )  # fmt: skip
    show(table(measured))
    show(seconds(measured))
    add_targets(report, measured)
    if chosen.docs:
        write_page(measured)
    report.finish()


if __name__ == "__main__":
    main()
