"""The dynamics detector on data it never saw, beside what else is read off the same record.

    python benchmarks/dynamics.py                                    # digits and Gaussian classes alone
    python benchmarks/dynamics.py --name CIFAR-10 --features emb.npy --clean clean.npy \\
        --labels aggre=aggre.npy --labels random1=random1.npy --sample 10000 [--docs]

Ours reads three records, as the detector does in a scan, at a scan's settings but two folds: that of the head and those
of both noise-corrected heads. All others read that of the head, and so does the published recipe; but "AUM, same
records" is the mean of the AUM over the three, which shows how much of ours is the records and how much the network.
Clean labels measure; nothing is chosen by them. --docs keeps the page's rows of other data sets.

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
import dataclasses
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
from _common import Report, markdown, merged, parser
from _worlds import Images, World
from labeltui import detect, head
from labeltui.detect.corrected import Corrected
from labeltui.detect.dynamics import network as ours
from labeltui.detect.dynamics.curves import Curves
from labeltui.detect.dynamics.statistics import STATISTICS, aum
from labeltui.detect.ensemble import Ensemble
from peers import lstm

HERE = Path(__file__).parent
RECIPE = HERE.parent / "data" / "noise_detector"
sys.path.append(str(RECIPE))
import make  # noqa: E402

SOURCE = Path(labeltui.__file__).parent
HEAD = (SOURCE / "head", SOURCE / "noise")
CORRECTED = (
    *HEAD,
    *(SOURCE / "detect" / f"{name}.py" for name in ("base", "corrected", "ensemble", "neighbours")),
)
VOTERS = ("neighbours", "nearest", "head")  # what the pool of a scan has before the noise is known
READERS = (SOURCE / "detect" / "dynamics", Path(lstm.__file__))
FOLDS = 2
CURVES = 50_000  # that the published recipe learns from
TAUGHT = ("symmetric", 0.2)
KINDS = (("symmetric", 0.4), ("pair-flip", 0.4), ("feature-dependent", 0.4), ("class-dependent", 0.4))
LESSONS = (TAUGHT, ("pair-flip", 0.3), ("feature-dependent", 0.3), ("class-dependent", 0.3))
FIELDS = tuple(field.name for field in dataclasses.fields(head.Dynamics))
APART = 1000  # from the seeds of what is measured to those of what is taught
OURS, PUBLISHED = "labeltui dynamics", "published recipe"
RIVALS = (PUBLISHED, "AUM", "wrong events")  # those of the target
SAME = "AUM, same records"
ROWS = (PUBLISHED, "AUM", SAME, "wrong events", "forgetting events", "EL2N")
LEAST_MEAN = 0.01  # by which ours is to be above the AUM, on average
Answers = NDArray[np.bool_]


@dataclass(frozen=True)
class Stage:
    """A world and the records of heads that learned its labels, made when first asked for and kept."""

    world: World
    report: Report

    @cached_property
    def _head(self) -> dict[str, Any]:
        return self.report.arrays(
            f"head of {self.world.name}", train, self.world, sources=HEAD, world=self.world.digest
        )

    @cached_property
    def record(self) -> head.Dynamics:
        """Of the head."""
        return head.Dynamics(**{name: self._head[name] for name in FIELDS})

    @cached_property
    def records(self) -> list[head.Dynamics]:
        """Of the head and of the noise-corrected heads."""
        kept = self.report.arrays(
            f"noise-corrected heads of {self.world.name}", correct, self.world, self._head["p"], self.record,
            sources=CORRECTED, world=self.world.digest,
        )  # fmt: skip
        members = sorted({name.split()[0] for name in kept if " " in name})
        more = [head.Dynamics(**{name: kept[f"{member} {name}"] for name in FIELDS}) for member in members]
        return [self.record, *more]


def train(world: World) -> dict[str, Any]:
    """Probabilities and record of a head."""
    made = head.out_of_fold(
        world.images.X, world.labels, folds(world), world.n_classes, seed=world.seed, dynamics=True
    )
    assert made.dynamics is not None
    return {"p": made.p, **vars(made.dynamics)}


def correct(world: World, p: NDArray[np.float32], record: head.Dynamics) -> dict[str, Any]:
    """Records of the noise-corrected heads, trained as `detect.run` does."""
    of = world.images
    inputs = detect.DetectorInputs(
        world.labels, world.n_classes, np.ones(len(p), dtype=bool), of.indices,
        np.asarray(of.similarity, dtype=np.float32), p_head=p, embeddings=of.X, fold=folds(world),
        dynamics=record, seed=world.seed,
    )  # fmt: skip
    voters = [detect.table()[name](inputs) for name in VOTERS]
    for voter in voters:
        voter.fit()
    corrected = Corrected(inputs)
    corrected.fit_with_noise(Ensemble(inputs, voters).train_transition, voters, lambda fraction: None, None)
    return {
        f"{member} {name}": values
        for member, each in enumerate(corrected.records)
        for name, values in vars(each).items()
    }


def folds(world: World) -> NDArray[np.int8]:
    return head.folds(world.labels, None, None, FOLDS, world.seed)


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
    """Average precision, AUROC and processor seconds of each reading of one world's records."""
    record, records, wrong = stage.record, stage.records, stage.world.wrong
    taught, published = school.ours, school.published  # before the clock runs

    def read() -> NDArray[np.float32]:
        usable, z = ours.mean_log_odds(taught, records, stage.world.n_classes)
        assert usable.all()
        return z

    readings: dict[str, Callable[[], NDArray[np.float32]]] = {
        OURS: read,
        PUBLISHED: lambda: lstm.judged(published, record),
        SAME: lambda: np.mean([aum(each) for each in records], axis=0),
        **{name: lambda name=name: STATISTICS[name](record) for name in ROWS if name in STATISTICS},
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
    gaps = [mean(seeds, OURS, "AP") - mean(seeds, "AUM", "AP") for seeds in measured.values()]
    if gaps:
        target = None if report.options.quick else LEAST_MEAN
        report.add("AP less that of AUM, mean over the rows", numbers.mean(gaps), "", target=target)
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
    """Write docs/dynamics.md; rows of other data sets stay, where the columns are the same."""
    page = HERE.parent / "docs" / "dynamics.md"
    before = page.read_text().splitlines()
    lines = [
        "# Training dynamics, measured",
        "",
        "Written by `python benchmarks/dynamics.py --docs`; [detectors.md](detectors.md) says what the detector is, "
        "and the script what the rows are. An arrow leads from what a reader was taught on to what it reads, "
        "without retraining. Ours reads the records of the head and of both noise-corrected heads, as in a scan; "
        f"the others that of the head, but “{SAME}” the three.",
        "",
        "Average precision, means over seeds; * is the best of a line.",
    ]
    for rows in (table(measured), seconds(measured)):
        first, rule, *body = markdown(rows[0], rows[1:])
        lines += [
            "",
            first,
            rule,
            *merged(body, before[before.index(first) + 2 :] if first in before else []),
        ]
    page.write_text("\n".join(lines) + "\n")


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
            *CORRECTED, *READERS, RECIPE / "make.py",
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
