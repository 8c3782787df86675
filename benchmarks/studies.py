"""Published studies of label noise on digits, Fashion-MNIST and CIFAR-10; writes docs/studies.md.

    python benchmarks/studies.py                            # digits, and Fashion-MNIST where the package lies
    python benchmarks/studies.py --features mobile.npy --second lite.npy --clean clean.npy --labels random1=r.npy \
        --images images.npy                                 # CIFAR-10 too: rows of the features, (N, 32, 32, 3) images
    python benchmarks/studies.py --quick                    # digits, one seed, few steps; writes nothing

Each cell of each study is a file below benchmarks/.cache/studies and is computed once; an interrupted run goes on where
it stopped. With --only, what the page says of the other studies stays. Fashion-MNIST is the Debian package
dataset-fashion-mnist. Clean labels inject noise and measure; nothing learns from them but where a table says so
(oracle, simulated reviews).
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import _worlds
from _common import CACHE, Report, markdown, merged, parser
from labeltui import csg
from labeltui import studies as package
from labeltui.errors import Cancelled
from labeltui.io.atomic import replacing
from labeltui.studies import job, report
from labeltui.studies.data import StudyData
from labeltui.studies.injection import corrupt
from labeltui.studies.plan import StudySpec, noise_of
from labeltui.studies.summary import mean_of

FASHION = Path("/usr/share/datasets/fashion-mnist")
OUT = Path(__file__).parent.parent / "docs"
SOURCES = Path(package.__file__).parent
KINDS = ("symmetric", "pair-flip", "confusable", "feature-dependent", "cluster")
TEST = 360  # of the digits
SPLIT = 20  # seed of every division into training and test samples
LEAST = 4.0  # points of gap below which no fraction of it is stated

YES, NO, CANNOT = "reproduced", "**not reproduced**", "not testable here"


@dataclass
class Book:
    """What docs/studies.md will hold."""

    quick: bool
    claims: list[tuple[str, str, str, str]] = field(default_factory=list)  # claim, target, figure, verdict
    sections: list[str] = field(default_factory=list)

    def claim(self, text: str, target: str, figure: str, verdict: str) -> None:
        verdict = "too few steps to tell" if self.quick else verdict
        self.claims.append((text, target, figure, verdict))
        print(f"{verdict}: {text}: {figure}", file=sys.stderr, flush=True)


class OutOfTime(Exception):
    """The minutes of this run are over, and not even one seed of a study is finished."""


class Progress:
    """Prints finished cells; raises Cancelled at the end of the time."""

    def __init__(self, name: str, deadline: float) -> None:
        self.name = name
        self.begun = time.monotonic()
        self.deadline = deadline

    def check(self) -> None:
        if time.monotonic() > self.deadline:
            raise Cancelled("the minutes of this run are over")

    def report(self, done: int, total: int) -> None:
        print(
            f"  {self.name}: {done} of {total}, {time.monotonic() - self.begun:.0f} s",
            file=sys.stderr,
            flush=True,
        )


def options() -> argparse.Namespace:
    found = parser(__doc__)
    _worlds.add_options(found)
    found.add_argument(
        "--second", type=Path, help="another embedding, (n, d') .npy, of the first n rows of --features"
    )
    found.add_argument("--images", type=Path, help="(N, 32, 32, 3) uint8 .npy, for the convolutional net")
    found.add_argument("--test", type=int, default=10_000, help="last rows of --features to measure on")
    found.add_argument(
        "--train", type=int, default=5_000, help="training samples of correction studies but digits"
    )
    found.add_argument(
        "--minutes", type=float, default=1e6, help="write what is finished after so many minutes"
    )
    chosen = found.parse_args()
    chosen.deadline = time.monotonic() + 60 * chosen.minutes
    return chosen


# ------------------------------------------------------------------------------ data


def digits() -> StudyData:
    """The handwritten digits that ship with scikit-learn; pixels are the embedding."""
    from sklearn.datasets import load_digits

    bundle = load_digits()
    images = np.round(bundle.images * (255 / 16)).astype(np.uint8)[:, None]
    rows = np.random.default_rng(SPLIT).permutation(len(images))
    return StudyData(
        bundle.target.astype(np.int32), 10, np.sort(rows[TEST:]), np.sort(rows[:TEST]), _flat(images), lambda: images
    )  # fmt: skip


def fashion(train: int, test: int = 10_000) -> StudyData | None:
    """Fashion-MNIST: the first images of its training and of its test part; None where it is not installed."""
    try:
        parts = [(_idx(f"{name}-images-idx3-ubyte.gz", 16, n).reshape(-1, 1, 28, 28),
                  _idx(f"{name}-labels-idx1-ubyte.gz", 8, n))
                 for name, n in (("train", train), ("t10k", test))]  # fmt: skip
    except FileNotFoundError:
        return None
    images = np.concatenate([part[0][:n] for part, n in zip(parts, (train, test), strict=True)])
    labels = np.concatenate([part[1][:n] for part, n in zip(parts, (train, test), strict=True)]).astype(
        np.int32
    )
    return StudyData(
        labels, 10, np.arange(train), np.arange(train, train + test), _flat(images), lambda: images
    )


def _idx(name: str, skip: int, n: int) -> NDArray[np.uint8]:
    with gzip.open(FASHION / name) as file:
        return np.frombuffer(file.read(), np.uint8, offset=skip)


def _flat(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return (images.reshape(len(images), -1) / np.float32(255)).astype(np.float32)


def cifar(chosen: argparse.Namespace) -> StudyData | None:
    """The features that the options name: the last `--test` rows measure."""
    if not (chosen.features and chosen.clean):
        return None
    features = np.load(chosen.features).astype(np.float32)
    labels = np.load(chosen.clean).astype(np.int32)[: len(features)]
    n = len(features) - chosen.test
    second = None
    if chosen.second:
        some = np.load(chosen.second).astype(np.float32)
        second = np.zeros((len(features), some.shape[1]), np.float32)
        second[: min(n, len(some))] = some[:n]
    human = {name: np.load(path).astype(np.int32) for name, path in _worlds.named(chosen).items()}
    given = next(iter(human.values())) if human else None
    pixels = None if chosen.images is None else np.load(chosen.images, mmap_mode="r")
    images = (
        None if pixels is None else lambda: np.ascontiguousarray(pixels[: len(labels)].transpose(0, 3, 1, 2))
    )
    return StudyData(
        labels,
        int(labels.max()) + 1,
        np.arange(n),
        np.arange(n, len(labels)),
        features,
        images,
        second,
        given=given,
    )


# ------------------------------------------------------------------------------ studies


def study(name: str, data: StudyData, spec: StudySpec, chosen: argparse.Namespace) -> dict[str, Any]:
    """Compute a study, or take it from disk; its content as `labeltui.studies.job` writes it."""
    digest = hashlib.sha256(json.dumps(spec.as_json(), sort_keys=True).encode())
    for array in (data.features, data.labels, data.train, data.test):
        digest.update(np.ascontiguousarray(array).data)
    for source in ("cells", "correction", "networks"):
        digest.update((SOURCES / f"{source}.py").read_bytes())
    directory = CACHE / "studies" / f"{name.replace(' ', '-').replace(',', '')}-{digest.hexdigest()[:16]}"
    directory.mkdir(parents=True, exist_ok=True)
    if chosen.fresh:
        for file in (directory / "cells").glob("*"):
            file.unlink()
    try:
        cells = job.run_cells(spec, data, directory, Progress(name, chosen.deadline))
    except Cancelled:
        cells, seeds = finished_seeds(spec, directory)
        if not seeds:
            raise OutOfTime(f"{name}: the time was over before one seed was finished") from None
        spec = replace(spec, seeds=seeds)
    return {
        "study": spec.as_json(),
        "labels": "the data set's",
        "train": len(data.train),
        "test": len(data.test),
        "cells": cells,
    }


def finished_seeds(spec: StudySpec, directory: Path) -> tuple[list[dict[str, Any]], tuple[int, ...]]:
    """Return the cells of those seeds of which all are on disk, and these seeds."""
    by_seed: dict[int, list[Path]] = {}
    for i, cell in enumerate(spec.cells()):
        by_seed.setdefault(cell["seed"], []).append(directory / "cells" / f"{i:05}.json")
    whole = {seed: files for seed, files in by_seed.items() if all(file.exists() for file in files)}
    return [json.loads(file.read_text()) for files in whole.values() for file in files], tuple(whole)


def section(book: Book, title: str, made: dict[str, Any], chosen: argparse.Namespace) -> None:
    """Add a study's table and plot to the page."""
    stem = title.lower().replace(" ", "-").replace(",", "").replace(":", "")
    lines = [f"## {title}", ""]
    if not chosen.quick:
        (OUT / "studies").mkdir(exist_ok=True)
        report.plot(made, OUT / "studies" / f"{stem}.svg")
        lines += [f"![{title}](studies/{stem}.svg)", ""]
    spec = made["study"]
    lines += [f"Seeds {', '.join(map(str, spec['seeds']))}; {spec['steps']:,} steps of {spec['batch']}, "
              f"learning rate {spec['learning_rate']:g}.", "", "```", *report.lines(made), "```"]  # fmt: skip
    book.sections.append("\n".join(lines))


def accuracy(made: dict[str, Any], **wanted: Any) -> tuple[float, float, float, int]:
    """Mean, interval and number of seeds of the cells that match."""
    found = [
        each["result"]["accuracy"]
        for each in made["cells"]
        if "accuracy" in each["result"]
        and all(each["cell"].get(key) == value for key, value in wanted.items())
    ]
    return (*mean_of(found), len(found))


def said(values: tuple[float, float, float, int]) -> str:
    mean, low, high, n = values
    return f"{mean:.1%}" + (f" ({low:.1%} to {high:.1%}, {n} seeds)" if n > 1 else " (1 seed)")


def dilution(book: Book, chosen: argparse.Namespace) -> None:
    quick = chosen.quick
    data = digits()
    alphas = (0, 10) if quick else (0, 1, 2, 5, 10, 20, 50, 100)
    seeds = (0,) if quick else (0, 1, 2)
    spec = StudySpec("dilution", ("linear", "mlp", "cnn"), seeds, steps=100 if quick else 800, alphas=alphas)
    made = study("dilution digits", data, spec, chosen)
    section(book, "Dilution, digits", made, chosen)
    found = accuracy(made, network="cnn", alpha=10)
    book.claim("digits: a convolutional net stays above 90 % at alpha = 10, labels sampled", "> 90 %", said(found),
               YES if found[0] > 0.9 else NO)  # fmt: skip
    if not quick:
        found = accuracy(made, network="cnn", alpha=100)
        book.claim("above 90 % at alpha = 100 (MNIST, 60,000 images; here 1,437)", "> 90 %", said(found),
                   YES if found[0] > 0.9 else NO)  # fmt: skip
    spec = replace(
        spec, networks=("mlp",), steps=100 if quick else 800, alphas=(0, 1) if quick else (0, 1, 2, 5, 10),
        fractions=(0.3, 1.0) if quick else (0.03, 0.06, 0.12, 0.25, 0.5, 1.0),
    )  # fmt: skip
    made = study("clean samples digits", data, spec, chosen)
    section(book, "Clean samples needed, digits", made, chosen)
    needed = report.summary(made).get("needed", {}).get("mlp", {"samples": [], "r2": None})
    listed = ", ".join(f"alpha {a}: {n:,.0f}" for a, n in needed["samples"])
    r2 = needed["r2"]
    verdict = CANNOT if r2 is None else YES if r2 > 0.95 else NO
    book.claim("clean samples needed grow linearly with alpha (nine tenths of the accuracy without noise)", "R^2",
               f"{listed or 'none reached'}" + ("" if r2 is None else f"; R^2 {r2:.3f}"), verdict)  # fmt: skip


def dilution_fashion(book: Book, chosen: argparse.Namespace) -> None:
    whole = fashion(60_000)
    if whole is None:
        book.claim("Fashion-MNIST: above 75 % at alpha = 20", "> 75 %", "not installed", CANNOT)
        return
    made = study(
        "dilution fashion", whole, StudySpec("dilution", ("cnn",), (0, 1), alphas=(0, 20, 100)), chosen
    )
    section(book, "Dilution, Fashion-MNIST", made, chosen)
    plain = accuracy(made, alpha=20)
    # Batch, learning rate and steps chosen on the last 10,000 training images, whose accuracy was 75.9 %.
    spec = StudySpec("dilution", ("cnn",), (0, 1), 1200, batch=256, learning_rate=3e-3, alphas=(20,))
    made = study("dilution fashion longer", whole, spec, chosen)
    section(book, "Dilution, Fashion-MNIST, larger batches", made, chosen)
    found = accuracy(made, network="cnn", alpha=20)
    book.claim("Fashion-MNIST: a convolutional net stays above 75 % at alpha = 20, labels sampled", "> 75 %",
               f"{said(found)}; with 800 steps of 128: {said(plain)}", YES if found[0] > 0.75 else NO)  # fmt: skip


def structure(book: Book, chosen: argparse.Namespace) -> None:
    quick = chosen.quick
    data = digits()
    strange = fashion(6_000, 1)
    if strange is not None:  # 28 x 28 to 8 x 8
        images = strange.inputs("cnn")[:6_000, 0, 2:26, 2:26].reshape(-1, 8, 3, 8, 3).mean(axis=(2, 4))
        data = replace(data, strangers=_flat(images.astype(np.uint8)))
    spec = StudySpec(
        "structure", ("mlp",), (0,) if quick else (0, 1, 2), steps=100 if quick else 800, alphas=(5,)
    )
    made = study("structure digits", data, spec, chosen)
    section(book, "Structure, digits", made, chosen)
    if quick:
        return
    by = {delta: accuracy(made, kind="confusable", delta=delta) for delta in (0.0, 0.6, 1.0, 1.2)}
    book.claim("structured noise is borne to about delta 0.6, then accuracy drops",
               "at most 5 points lost at .6",
               ", ".join(f"delta {d:g}: {v[0]:.1%}" for d, v in by.items()),
               YES if by[0.0][0] - by[0.6][0] <= 0.05 else NO)  # fmt: skip
    white, uniform = accuracy(made, kind="white noise"), by[0.0]
    book.claim("white-noise images hardly hurt", "less than 2 points below no noise",
               f"{said(white)}; without noise {said(reference(data, chosen))}; uniform label noise {said(uniform)}",
               YES if reference(data, chosen)[0] - white[0] < 0.02 else NO)  # fmt: skip
    if strange is None:
        book.claim(
            "out-of-vocabulary noise hurts about half as much", "", "Fashion-MNIST not installed", CANNOT
        )
        return
    other = accuracy(made, kind="out-of-vocabulary")
    lost = (reference(data, chosen)[0] - other[0]) / max(reference(data, chosen)[0] - uniform[0], 1e-9)
    book.claim("out-of-vocabulary images hurt about half as much as uniform label noise", "at most 50 %",
               f"{said(other)}: {lost:.0%} of the loss of uniform noise", YES if lost <= 0.5 else NO)  # fmt: skip


def reference(data: StudyData, chosen: argparse.Namespace) -> tuple[float, float, float, int]:
    """Accuracy of the MLP without noise."""
    spec = StudySpec("dilution", ("mlp",), (0, 1, 2), steps=800, alphas=(0,))
    return accuracy(study("no noise digits", data, spec, chosen))


def batch(book: Book, chosen: argparse.Namespace) -> None:
    quick = chosen.quick
    spec = StudySpec("batch", ("mlp",), (0,) if quick else (0, 1, 2), steps=100 if quick else 800,
                     alphas=(5,) if quick else (0, 20),
                     learning_rates=(1e-3,) if quick else (3e-4, 1e-3, 3e-3))  # fmt: skip
    made = study("batch digits", digits(), spec, chosen)
    section(book, "Batch size and learning rate, digits", made, chosen)
    if quick:
        return
    rate = 3e-3  # where small batches are noisiest
    small, large = (accuracy(made, alpha=20, batch=size, learning_rate=rate) for size in (32, 256))
    book.claim("larger batches help under noise (alpha 20, learning rate .003, as many labels)", "256 better than 32",
               f"32: {said(small)}; 256: {said(large)}", _better(large, small))  # fmt: skip
    slow, fast = (accuracy(made, alpha=20, batch=32, learning_rate=each) for each in (3e-4, 3e-3))
    book.claim("lower learning rates help under noise (alpha 20, batch 32)", ".0003 better than .003",
               f".0003: {said(slow)}; .003: {said(fast)}", _better(slow, fast))  # fmt: skip


def _better(better: tuple[float, float, float, int], worse: tuple[float, float, float, int]) -> str:
    """Say whether the first is better; of one seed nothing."""
    if better[3] < 2:
        return CANNOT
    return YES if better[0] > worse[0] else NO


def correction(book: Book, chosen: argparse.Namespace) -> None:
    quick = chosen.quick
    rates = (0.6,) if quick else (0.6, 0.75)  # alpha 2 and 5 with the own class among the 10 drawn from
    networks = ("mlp",)
    spec = StudySpec("correction", networks, (0,) if quick else (0, 1, 2), steps=100 if quick else 800,
                     noises=tuple(f"symmetric:{rate}" for rate in rates))  # fmt: skip
    made = study("correction digits", digits(), spec, chosen)
    section(book, "Correction, digits", made, chosen)
    for rate, alpha in zip(rates, (2, 5), strict=False):
        for network in networks:
            noise = f"symmetric:{rate}"
            gains = _paired(made, noise, network, "blind")
            mean, low, high = mean_of(gains)
            book.claim(f"detect-and-correct beats plain training, digits, {network}, labels replaced at q of alpha "
                       f"{alpha} ({rate:.0%} wrong)", "better, each seed",
                       f"{100 * mean:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}, {len(gains)} seeds, paired)",
                       YES if min(gains) > 0 else NO)  # fmt: skip


def correction_cifar(book: Book, chosen: argparse.Namespace) -> None:
    data = cifar(chosen)
    if data is None:
        book.claim("CIFAR-10: blind correction", "", "no features were named", CANNOT)
        return
    spec = StudySpec("correction", ("mlp",), (0, 1, 2, 3, 4), steps=400, noises=("symmetric:0.4",))
    shares(book, "CIFAR-10", study("correction cifar", first(data, chosen.train), spec, chosen), chosen)


def correction_fashion(book: Book, chosen: argparse.Namespace) -> None:
    some = fashion(chosen.train)
    if some is None:
        book.claim("Fashion-MNIST, cluster noise 30 %: blind correction", "", "not installed", CANNOT)
        return
    spec = StudySpec("correction", ("cnn",), (0, 1, 2, 3, 4), steps=400, noises=("cluster:0.3",))
    shares(book, "Fashion-MNIST", study("correction fashion", some, spec, chosen), chosen)


def correction_random1(book: Book, chosen: argparse.Namespace) -> None:
    data = cifar(chosen)
    if data is None or data.images is None or data.given is None:
        book.claim("CIFAR-10N random1, a network trained end to end", "", "no --images", CANNOT)
        return
    spec = StudySpec("correction", ("cnn",), (0, 1, 2), steps=1000, noises=("none",), clean=True)
    made = study("correction random1", first(data, chosen.train), spec, chosen)
    shares(book, "CIFAR-10N random1", made, chosen)


def first(data: StudyData, count: int) -> StudyData:
    """The same data with its first training samples alone."""
    return replace(data, train=data.train[:count])


def _paired(made: dict[str, Any], noise: str, network: str, condition: str) -> list[float]:
    by = {
        (each["cell"]["condition"], each["cell"]["seed"]): each["result"]["accuracy"]
        for each in made["cells"]
        if each["cell"].get("network") == network and each["cell"]["noise"] == noise
    }
    return [by[condition, seed] - by["noisy", seed] for seed in made["study"]["seeds"]]


def shares(book: Book, name: str, made: dict[str, Any], chosen: argparse.Namespace) -> None:
    """Claims on the fraction of the oracle's gap; runs of other sizes are other claims, which stand beside these."""
    name = f"{name}, {made['train']:,} samples"
    section(book, f"Correction, {name}", made, chosen)
    made_of = report.summary(made)
    labels = {each["noise"]: each for each in made_of["labels"]}
    for each in made_of["fractions"]:
        target = 0.5 if each["condition"] == "blind" else 0.75
        own = labels[each["noise"]]
        what = "no clean label" if each["condition"] == "blind" else f"{own['reviews']:,} simulated reviews"
        wrong = f"; wrong labels {own['wrong']['noisy'][0]:.1%} before, {own['wrong'][each['condition']][0]:.1%} after"
        text = f"{name}, {each['noise']}, {each['network']}: correction with {what} closes the oracle's gap"
        if each["value"] is None:
            book.claim(
                text,
                f">= {target:.0%}",
                f"the gap is {100 * each['gap']:.1f} points, below {LEAST:g}",
                CANNOT,
            )
            continue
        interval = (
            "" if each["low"] is None else f" ({each['low']:.0%} to {each['high']:.0%}, {each['n']} seeds)"
        )
        book.claim(text, f">= {target:.0%}", f"{each['value']:.0%}{interval} of {100 * each['gap']:.1f} points{wrong}",
                   YES if each["value"] >= target else NO)  # fmt: skip


def csg_order(book: Book, chosen: argparse.Namespace) -> None:
    """CSG of noisy, half corrected and clean labels in the second embedding; no detector takes part."""
    data = cifar(chosen)
    if data is None or data.second is None:
        book.claim("CSG: noisy > half corrected > clean in a second embedding", "each noise kind at 20 %",
                   "no --second", CANNOT)  # fmt: skip
        return
    n = int((data.second[data.train] != 0).any(axis=1).sum())
    data = replace(data, train=data.train[:n])
    near, truth = data.second_neighbours, data.labels[data.train]
    assert near is not None
    body, holds = [], []
    for kind in KINDS:
        for seed in range(3):
            noisy = corrupt(noise_of(f"{kind}:0.2", seed), truth, data.n_classes, data.features[data.train],
                            data.neighbours)  # fmt: skip
            wrong = np.random.default_rng(seed).permutation(np.flatnonzero(noisy != truth))
            half = noisy.copy()
            half[wrong[: len(wrong) // 2]] = truth[wrong[: len(wrong) // 2]]
            row = []
            for labels in (noisy, half, truth):
                value = csg.measure(near, labels, data.n_classes, 10).csg
                row.append((value, *csg.interval(near, labels, data.n_classes, 10, 100, seed)))
            holds.append(row[0][0] > row[1][0] > row[2][0])
            clear = row[0][1] > row[1][2] and row[1][1] > row[2][2]
            body.append([kind, str(seed), *(f"{v:.3f} ({a:.3f} to {b:.3f})" for v, a, b in row),
                         "yes, intervals apart" if clear else "yes" if holds[-1] else "**no**"])  # fmt: skip
    book.sections.append("\n".join([
        "## CSG in a second embedding, CIFAR-10", "",
        f"{n:,} images, k = 10, noise injected by the first embedding (where it needs one) at 20 %, half of the wrong "
        "labels corrected by an oracle; 95 % bootstrap intervals.", "",
        *markdown(("noise", "seed", "noisy", "half corrected", "clean", "in order"), body)]))  # fmt: skip
    book.claim("CSG: noisy > half corrected by the oracle > clean, in the second embedding", "each noise kind at 20 %",
               f"{sum(holds)} of {len(holds)} (5 kinds, 3 seeds)", YES if all(holds) else NO)  # fmt: skip


STUDIES: dict[str, Callable[[Book, argparse.Namespace], None]] = {
    "dilution": dilution,
    "dilution of Fashion-MNIST": dilution_fashion,
    "structure": structure,
    "batch": batch,
    "csg": csg_order,
    "correction": correction,
    "correction of CIFAR-10": correction_cifar,
    "correction of Fashion-MNIST": correction_fashion,
    "correction of random1": correction_random1,
}
QUICK = ("dilution", "structure", "batch", "correction")


def write_page(book: Book, chosen: argparse.Namespace) -> None:
    """Write docs/studies.md; with --only, claims and sections that this run did not make stay."""
    page = OUT / "studies.md"
    before = page.read_text(encoding="utf-8") if chosen.only else ""
    old, *old_sections = re.split(r"^(?=## )", before, flags=re.MULTILINE)
    columns, rule, *claims = markdown(("claim", "target", "here", "verdict"), book.claims)
    old_claims = old[old.index(columns) :].splitlines()[2:] if columns in old else []
    sections = {each.splitlines()[0]: each.strip() for each in [*old_sections, *book.sections]}
    head = [
        "# What the studies found",
        "",
        "Written by `python benchmarks/studies.py`; [noise.md](noise.md) says what each study does and how to "
        "repeat it on other data. Intervals are Student's 95 % over seeds where not said otherwise, with noise, "
        "weights and batches drawn anew by each seed and one division into training and test samples. Reproduced "
        "means that the mean meets the target; the interval says how sure that is. The nets on digits got their "
        "number of steps on another division. Correction on CIFAR-10 (MobileNetV2 features) and Fashion-MNIST "
        "trains on the first samples alone, as many as its section says.",
        "",
        columns,
        rule,
        *merged(claims, old_claims),
        "",
    ]
    with replacing(page) as temporary:
        temporary.write_text("\n".join(head) + "\n" + "\n\n".join(sections.values()) + "\n", encoding="utf-8")


def main() -> None:
    chosen = options()
    figures = Report("studies", chosen)
    book = Book(chosen.quick)
    for name, run in STUDIES.items():
        if figures.wanted(name) and (not chosen.quick or name in QUICK):
            try:
                run(book, chosen)
            except OutOfTime as error:
                book.claim(f"{name}", "", str(error), CANNOT)
    for claim, target, figure, verdict in book.claims:
        figures.add(
            claim, None, "", detail={"target": target, "figure": figure, "verdict": verdict, "why": verdict}
        )
    if not chosen.quick:
        write_page(book, chosen)
    figures.finish()


if __name__ == "__main__":
    main()
