"""Wrong labels found: labeltui's detectors and blend beside what others do, on the same embeddings.

    python benchmarks/detection.py                                     # digits: ships with scikit-learn
    python benchmarks/detection.py --name CIFAR-10 --features emb.npy --clean clean.npy \\
        --labels aggre=aggre.npy --labels random1=random1.npy --neighbours indices.npy similarity.npy
    python benchmarks/detection.py --audit my.audit --truth truth.csv  # path,given,clean

Labels are those that people gave (`--labels`, or the audit's) and those of six noise models, seeded. Right labels plant
noise and measure; nothing is chosen by them. A wrong label is a positive; scores are low = bad. cleanlab gets the very
out-of-fold probabilities of the head, those of our best head, and those of a logistic regression as its guide has it.
The row "oracle" knows the right labels: it is what the features themselves allow, and no peer. The published LSTM needs
more curves than one data set gives: `dynamics.py` teaches it.

Columns: F1@k flags as many samples as labels are wrong; "F1 own" is at a row's own threshold; precision and recall of
the worst 1 to 20 %; ECE, Brier skill ("skill") and the error among the 10 % lowest ("lowest") of rows that claim to
know P(label right); "labels" is the share of right labels after automatic correction; "CPU s" are seconds of
all processors together, beyond what graph and head take but for rows that train their own: a busy machine changes them
little.

Cells are one world and one seed and one group of rows; what was measured is kept, a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import _measures
import _ours
import _worlds
from _common import Report, parser
from _tables import add_targets, print_tables
from _worlds import NOISE, TARGETED, Images, World
from labeltui import detect, parallel
from labeltui.paths import OK
from labeltui.store import Store
from peers import published, scores

SHARED = tuple(Path(module.__file__) for module in (_measures, _ours, _worlds))
PEERS = (*SHARED, Path(scores.__file__))
PUBLISHED = (*PEERS, Path(published.__file__), *published.RECIPES)

Group = tuple[str, Callable[[_ours.Stage], scores.Found], tuple[Path, ...]]
GROUPS: tuple[Group, ...] = (
    ("ours", _ours.ours, (*SHARED, *_ours.DETECT)),
    ("votes", scores.votes, PEERS),
    ("centroid", scores.centroid, PEERS),
    ("dynamics", scores.dynamics, (*PEERS, *_ours.HEAD)),
    ("cleanlab", scores.cleanlab, (*PEERS, *_ours.DETECT)),
    ("limit", _ours.limit, (*SHARED, *_ours.HEAD)),
    ("CleanNet", published.cleannet, PUBLISHED),
    ("Datalab", scores.datalab, PEERS),
    ("logistic", scores.logistic, PEERS),
)


def options() -> argparse.Namespace:
    found = parser(__doc__)
    _worlds.add_options(found)
    found.add_argument("--audit", type=Path, help="an audit whose embedding and labels are measured too")
    found.add_argument("--truth", type=Path, help="its right labels, a table with the columns path and clean")
    found.add_argument("--seeds", type=int, default=3)
    found.add_argument(
        "--sample",
        type=int,
        metavar="N",
        help="measure further seeds and noise without a target on N of the images (seeded), to save time",
    )
    found.add_argument("--rows", nargs="+", choices=[name for name, *_ in GROUPS], help="groups of rows")
    found.add_argument("--kept", action="store_true", help="show what was measured before, measure nothing")
    return found.parse_args()


def truth_of(audit: Path, truth: Path) -> Images:
    """The audit's embedding and labels where the table knows the right one, matched by path."""
    with Store.open(audit, 0) as opened:
        number = {name: index for index, name in enumerate(opened.class_ids)}
        with open(truth, newline="", encoding="utf-8", errors="surrogateescape") as file:
            known = {os.fsencode(row["path"]): os.fsencode(row["clean"]) for row in csv.DictReader(file)}
        clean = np.array([number.get(known.get(name, b""), -1) for name in opened.ids], dtype=np.int32)
        rows = np.flatnonzero((opened.status == OK) & (clean >= 0) & (opened.given >= 0))
        if not len(rows):
            sys.exit(f"{truth} names no sample of {audit}: its paths must be those of the audit")
        X = np.ascontiguousarray(opened.embedding()[rows], dtype=np.float32)
        return _worlds.images(audit.stem, X, clean[rows], {"labels": opened.given[rows]})


def worlds(chosen: argparse.Namespace) -> Iterator[World]:
    """All worlds, in the order in which they are wanted."""
    digits = _worlds.digits()
    if chosen.quick:
        yield from _worlds.worlds(digits, 0, NOISE[:1])
        return
    whole: list[Images] = []
    if (given := _worlds.given(chosen)) is not None:
        whole.append(given)
    if chosen.audit and chosen.truth:
        whole.append(truth_of(chosen.audit, chosen.truth))
    for of in whole:
        smaller = chosen.sample is not None and chosen.sample < len(of.clean)
        yield from _worlds.worlds(of, 0, NOISE[:TARGETED] if smaller else NOISE)
        for seed in range(0 if smaller else 1, chosen.seeds):
            yield from _worlds.worlds(_worlds.part(of, chosen.sample, seed) if smaller else of, seed)
    for seed in range(chosen.seeds):
        yield from _worlds.worlds(digits, seed)


def measure(world: World, group: Group, report: Report) -> dict[str, Any]:
    """One cell."""
    _, rows_of, _ = group
    rows, detail = rows_of(_ours.Stage(world, report.arrays))
    found = {name: row.measured(world.labels, world.images.clean) for name, row in rows.items()}
    return {"rows": found, "detail": detail, "samples": len(world.labels), "wrong": float(world.wrong.mean())}


def add_time(report: Report, world: World, kept: bool) -> None:
    """Seconds on all cores, graph and head at hand, and those of Datalab from features in the same run."""
    identity = {"world": world.digest, "cores": parallel.count_threads()}
    if kept and not report.measured("time", *_ours.DETECT, **identity):
        return
    facts = _ours.Stage(world, report.arrays).facts

    def measured() -> dict[str, Any]:
        quick = {"neighbours", "nearest", "confident", "csg", "duplicates"}
        calls = {
            "detectors": lambda: detect.run(facts, only=sorted(quick)),
            "blend": lambda: detect.run(facts),
        }
        if scores.datalab_installed():
            calls["Datalab"] = lambda: scores.audit(world)
        found: dict[str, float] = {}
        for name, call in calls.items():
            begin, processors = time.perf_counter(), time.process_time()
            call()
            found[name] = time.perf_counter() - begin
            found[f"{name}, CPU"] = time.process_time() - processors
        return found

    cell = report.cell("time", measured, *_ours.DETECT, **identity)
    against = f"Datalab from features {cell['Datalab']:.0f} s" if "Datalab" in cell else ""
    size = f"{facts.n:,} x {world.images.X.shape[1]:,}, {parallel.count_threads()} threads"
    report.add(
        f"time: neighbours, confident, csg and duplicates, {size}", cell["detectors"], "s", better="lower", target=10,
        peer=against, detail=cell,
    )  # fmt: skip
    report.add(
        f"time: blend with its refits, {size}", cell["blend"], "s", better="lower", target=120, peer=against
    )


def main() -> None:
    chosen = options()
    report = Report("detection", chosen, sources=())
    measured: dict[str, dict[int, dict[str, Any]]] = {}
    for world in worlds(chosen):
        for group in GROUPS:
            name, _, sources = group
            title = f"{world.name}, seed {world.seed}: {name}"
            if not report.wanted(title) or (chosen.rows and name not in chosen.rows):
                continue
            if name == "Datalab" and not scores.datalab_installed():
                report.cannot(title, "Datalab needs the package datasets, which is not installed", "")
                continue
            if chosen.kept and not report.measured(title, *sources, world=world.digest):
                continue
            cell = report.cell(
                title,
                lambda world=world, group=group: measure(world, group, report),
                *sources,
                world=world.digest,
            )
            seeds = measured.setdefault(world.name, {})
            into = seeds.setdefault(world.seed, {**cell, "rows": {}, "detail": {}})
            into["rows"] |= cell["rows"]
            into["detail"] |= cell["detail"]
    print_tables(measured)
    add_targets(report, measured, chosen.name)
    if report.wanted("time") and chosen.features and chosen.clean and not chosen.quick:
        add_time(
            report, next(each for each in worlds(chosen) if each.images.name == chosen.name), chosen.kept
        )
    report.finish()


if __name__ == "__main__":
    main()
