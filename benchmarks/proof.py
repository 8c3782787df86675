"""The proof that correcting helps: a small network, from scratch, on given, corrected and clean labels.

    python benchmarks/proof.py                     on the handwritten digits that ship with scikit-learn
    python benchmarks/proof.py --images DIR --labels TABLE.csv --features ROWS.npy         and on images

TABLE.csv has the columns path (below DIR), clean, and any number of others: each is a set of noisy labels. ROWS.npy
holds an embedding of each of its rows. Symmetric noise of 40 % is planted in the clean labels besides. Some samples
are drawn to train on, others to measure on.

An audit judges the samples to train on by their noisy labels and embeddings. Whatever it flags, because it holds
another class for likelier than the given one, gets that class (``labeltui export --apply-suggestions 0.01``); nobody
decides anything, and no clean label is read. Then training jobs run on the three label sets, one a seed. Accuracy is
measured on the other samples by their clean labels. Differences are paired over seeds; intervals are Student's t.

A run that was cut goes on with the next job, and ``--only "seed 0"`` does these jobs alone. A job on images
takes about a minute on one core.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import labeltui
from _common import CACHE, Report, parser
from labeltui import noise, parallel
from labeltui.audit import Audit
from labeltui.export import export
from labeltui.scanning import ScanOptions, scan
from labeltui.sources import SourceOptions
from labeltui.train import child, jobs
from labeltui.train.compare import compare
from labeltui.train.plan import Request, prepare
from labeltui.train.spec import BackboneSpec

SOURCE = Path(labeltui.__file__).parent
JUDGING = [SOURCE / name for name in ("scan", "graph", "detect", "head", "duplicates.py", "export.py")]
TRAINING = [SOURCE / "train" / name for name in ("loop.py", "images.py", "tuning.py")]
FOLDER = CACHE / "proof"
RATE = 0.4
ALL_FLAGS = 0.01  # no suggestion of a flag is less likely than that: the audit's own threshold is the flag
LABELS = {"given": "given", "corrected": "corrected.csv:corrected_label", "clean": "clean.csv:clean"}
CLEAR = (
    3.0  # half widths of its interval that the gap from given to clean must have for shares of it to be told
)


@dataclass(frozen=True)
class Data:
    """Samples to train on and to measure on.

    Attributes
    ----------
    name : str
    images : Path
    paths, classes : ndarray of str, shape (N,) and (K,)
    features : ndarray of float32, shape (N, d)
    clean : ndarray of int, shape (N,)
    test : ndarray of bool, shape (N,)
        Measured on; the others are trained on.
    noisy : dict of str to ndarray of int, shape (N,)
        Label sets with errors.
    backbone : BackboneSpec
    seeds : int
    """

    name: str
    images: Path
    paths: NDArray[np.str_]
    classes: NDArray[np.str_]
    features: NDArray[np.float32]
    clean: NDArray[np.int64]
    test: NDArray[np.bool_]
    noisy: Mapping[str, NDArray[np.int64]]
    backbone: BackboneSpec
    seeds: int


def with_symmetric(
    clean: NDArray[np.int64], noisy: Mapping[str, NDArray[np.int64]], n_classes: int
) -> dict[str, NDArray[np.int64]]:
    """Put symmetric noise before the given label sets."""
    injected = noise.symmetric(clean, RATE, 0, n_classes).labels.astype(np.int64)
    return {f"{RATE:.0%} symmetric noise".replace("%", " %"): injected, **noisy}


def digits(quick: bool) -> Data:
    """The 1,797 digits of 8x8 pixels, whose pixels are the embedding too."""
    from PIL import Image
    from sklearn.datasets import load_digits

    bundle = load_digits()
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(bundle.target))[: 600 if quick else None]
    clean = bundle.target[chosen].astype(np.int64)
    images = FOLDER / "digits"
    images.mkdir(parents=True, exist_ok=True)
    paths = [f"{sample:04}.png" for sample in chosen]
    for path, image in zip(paths, bundle.images[chosen], strict=True):
        Image.fromarray((image * 15.9).astype(np.uint8)).save(images / path)
    return Data(
        name="digits",
        images=images,
        paths=np.array(paths),
        classes=np.array([str(c) for c in range(10)]),
        features=bundle.data[chosen].astype(np.float32),
        clean=clean,
        test=rng.permutation(len(chosen)) < len(chosen) // 4,
        noisy=with_symmetric(clean, {}, 10),
        backbone=BackboneSpec(
            "test_resnet", pretrained=False, image_size=32, epochs=2 if quick else 8, batch_size=32,
            learning_rate=3e-3, augment=("shift",),
        ),
        seeds=2 if quick else 3,
    )  # fmt: skip


def images(images: Path, table: Path, features: Path, train: int, test: int, seeds: int) -> Data:
    """A drawn part of somebody's images."""
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    drawn = np.random.default_rng(0).permutation(len(rows))[: train + test]
    sets = [name for name in rows[0] if name not in ("path", "clean")]
    classes = np.unique([row[name] for row in rows for name in ("clean", *sets)])
    column = {name: np.searchsorted(classes, [rows[row][name] for row in drawn]) for name in ("clean", *sets)}
    clean = column.pop("clean")
    return Data(
        name=table.stem,
        images=images,
        paths=np.array([rows[row]["path"] for row in drawn]),
        classes=classes,
        features=np.load(features, mmap_mode="r")[drawn].astype(np.float32),
        clean=clean,
        test=np.arange(len(drawn)) >= train,
        noisy=with_symmetric(clean, column, len(classes)),
        backbone=BackboneSpec(
            "test_resnet", pretrained=False, image_size=32, epochs=10, batch_size=64, learning_rate=3e-3
        ),
        seeds=seeds,
    )


def judge(data: Data, given: NDArray[np.int64], folder: Path) -> dict[str, Any]:
    """Audit the noisy labels, and export what the audit corrects by itself."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    np.savez(
        folder / "data.npz",
        embeddings=data.features,
        labels=data.classes[np.where(data.test, data.clean, given)],
        paths=data.paths,
        splits=np.where(data.test, "test", "train"),
    )
    source = SourceOptions(image_root=data.images)
    audit = scan(folder / "data.npz", folder / "audit", ScanOptions(source=source, splits=("train",)))
    names = data.classes[data.clean]
    with open(folder / "clean.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "clean"), *zip(data.paths, names, strict=True)])
    with Audit.open(audit) as opened:
        done = export(opened, folder / "corrected.csv", apply_suggestions=ALL_FLAGS)
    with open(folder / "corrected.csv", newline="", encoding="utf-8") as file:
        corrected = {row["path"]: row["corrected_label"] for row in csv.DictReader(file)}
    train = ~data.test
    after = np.array([corrected[path] for path in data.paths])
    return {
        "applied": done.auto,
        "expected_wrong": done.auto_wrong,
        "right": {
            "given": float((given == data.clean)[train].mean()),
            "corrected": float((after == names)[train].mean()),
            "clean": 1.0,
        },
    }


def train(audit: Path, directory: Path, clean: str) -> dict[str, Any]:
    """Do the job that stands in `directory`; returns its accuracy on the samples to measure on."""
    if child.run(directory) != "done":
        raise RuntimeError(jobs.read(directory).message)
    with Audit.open(audit, read_only=True) as opened:
        row = compare(opened, [directory.name], clean).rows[0]
    return {"accuracy": row.metrics.accuracy, "samples": row.metrics.n, "seconds": row.job.seconds}


def cells(report: Report, data: Data, name: str) -> dict[str, Any] | None:
    """Judge and train what is wanted and not done yet; None where not all of it is wanted."""
    names = {
        (labels, seed): f"{data.name}, {name}, {labels} labels, seed {seed}"
        for seed in range(data.seeds)
        for labels in LABELS
    }
    wanted = {key: job for key, job in names.items() if report.wanted(job)}
    if not wanted:
        return None
    n_test = int(data.test.sum())
    folder = FOLDER / f"{data.name}-{len(data.test) - n_test}-{n_test}-{name}".replace(" ", "").replace(
        "%", ""
    )
    facts = {"data": data.name, "n": len(data.clean), "test": n_test}
    judged = report.cell(
        f"audit of {data.name}, {name}",
        lambda: judge(data, data.noisy[name], folder),
        *JUDGING,
        noise=name,
        **facts,
    )
    accuracy: dict[str, list[float]] = {labels: [] for labels in LABELS}
    for (labels, seed), job in wanted.items():
        request = Request(
            backbone=data.backbone,
            labels="given" if labels == "given" else str(folder / LABELS[labels]),
            splits=("train",),
            held_out="test",
            folds=0,
            seed=seed,
            device="cpu",
            threads=parallel.count_threads(),
        )
        with Audit.open(folder / "audit") as opened:
            spec, arrays = prepare(opened, request)

        def run(folder: Path = folder, spec: Any = spec, arrays: Any = arrays) -> dict[str, Any]:
            directory = jobs.create(folder / "audit", spec, arrays)
            return train(folder / "audit", directory, str(folder / LABELS["clean"]))

        # Known by the labels themselves: training on clean labels is the same whatever the noise was.
        found = report.cell(
            job.replace(f", {name}", "") if labels == "clean" else job,
            run,
            *TRAINING,
            labels_trained=spec.label_sha256,
            backbone=asdict(data.backbone),
            seed=seed,
            threads=spec.threads,
            **facts,
        )
        accuracy[labels].append(found["accuracy"])
    if len(wanted) < len(names):
        return None
    return {**judged, "accuracy": accuracy, "samples": facts}


def interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean, and the 95 % interval of Student's t."""
    from scipy.stats import ttest_1samp

    if np.ptp(values) == 0:
        return float(values[0]), float(values[0]), float(values[0])
    low, high = ttest_1samp(values, 0.0).confidence_interval(0.95)
    return float(values.mean()), float(low), float(high)


def lines(data: Data, name: str, found: Mapping[str, Any]) -> Iterator[str]:
    """The table of one set of noisy labels."""
    spec, n_test = data.backbone, int(data.test.sum())
    yield (
        f"{data.name}, {name}: {spec.model} from scratch, {spec.image_size} px, {spec.epochs} epochs of "
        f"{len(data.test) - n_test:,} samples; measured on {n_test:,} others"
    )
    yield f"{'labels':<10} {'right':>7}  accuracy, mean and each seed"
    for labels, values in found["accuracy"].items():
        each = " ".join(f"{100 * value:.1f}" for value in values)
        yield f"{labels:<10} {100 * found['right'][labels]:>5.1f} %  {100 * np.mean(values):.1f} %   {each}"
    for labels, (mean, low, high) in found["minus_given"].items():
        yield f"{labels} minus given: {mean:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}"
    if found["closed"] is not None:
        mean, low, high = found["closed"]
        yield f"share of the gap that is closed: {mean:.0%}, 95 % interval {low:.0%} to {high:.0%}"
    yield ""


def tell(report: Report, data: Data, name: str, found: dict[str, Any], quick: bool) -> None:
    """Work out the differences, print the table, and add the results."""
    points = {labels: 100 * np.array(values) for labels, values in found["accuracy"].items()}
    gain, gap = (points[labels] - points["given"] for labels in ("corrected", "clean"))
    found["minus_given"] = {"corrected": interval(gain), "clean": interval(gap)}
    mean, low, _ = found["minus_given"]["clean"]
    found["closed"] = interval(gain / gap) if mean > CLEAR * (mean - low) else None
    print("\n".join(lines(data, name, found)))
    title = f"{data.name}, {name}: accuracy on corrected labels minus that on given"
    mean, low, _ = found["minus_given"]["corrected"]
    report.add(title, mean, "points", detail=found)
    report.add(f"{title}, low end of the interval", low, "points", target=None if quick else 0)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--images", type=Path, metavar="DIR", help="images to measure with")
    options.add_argument("--labels", type=Path, metavar="TABLE", help="their labels: path, clean, others")
    options.add_argument("--features", type=Path, metavar="NPY", help="their embeddings, row by row")
    options.add_argument("--train", type=int, default=5_000, help="images to train on")
    options.add_argument("--test", type=int, default=10_000, help="images to measure on")
    options.add_argument("--seeds", type=int, default=5, help="jobs on each set of labels of the images")
    arguments: argparse.Namespace = options.parse_args()
    report = Report("proof", arguments)
    asked = [arguments.images, arguments.labels, arguments.features]
    sets = [digits(arguments.quick)]
    if all(asked) and not arguments.quick:
        sets.append(images(*asked, arguments.train, arguments.test, arguments.seeds))
    for data in sets:
        for name in data.noisy:
            found = cells(report, data, name)
            if found is not None:
                tell(report, data, name, found, arguments.quick)
    if len(sets) == 1:
        report.cannot(
            "images: accuracy on corrected labels minus that on given, low end of the interval",
            "not asked for, or --quick" if all(asked) else "give --images, --labels and --features",
            "points",
            target=0,
        )
    report.finish()


if __name__ == "__main__":
    main()
