"""Training in the background: the head against scikit-learn, the loop against the bare model, and a free event loop.

The head gets Gaussian class blobs with a tenth of the labels wrong, in the shape of embeddings; scikit-learn gets the
same rows, labels and folds. The loop trains a ResNet-18 on resident random pictures: its cost does not depend on what
they show. The proof trains a small network on the handwritten digits that ship with scikit-learn, 40 % of their labels
made wrong at random, on three label sets: given, corrected by the suggestions of the audit (no person, no reference),
and clean; measured on held-out digits by their clean labels.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

import labeltui
from _common import Report, interleaved, median, parser, version
from labeltui import head, threads

SOURCE = Path(labeltui.__file__).parent
TRAINING = SOURCE / "train"
FOLDS = 5
BURN = "import torch\nx = torch.randn(16, 64, 56, 56)\nc = torch.nn.Conv2d(64, 64, 3, padding=1)\nwhile True: c(x)"


def blobs(n: int, d: int, n_classes: int) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
    """Rows, true labels, and labels of which a tenth are wrong."""
    rng = np.random.default_rng(0)
    truth = (rng.permutation(n) % n_classes).astype(np.int32)
    inner = 1.1 * rng.normal(size=(n_classes, 32))[truth] + 1.6 * rng.normal(size=(n, 32))
    rows = inner @ rng.normal(size=(32, d)) / 6 + 0.5 * rng.normal(size=(n, d))
    wrong = rng.random(n) < 0.1
    labels = np.where(wrong, (truth + rng.integers(1, n_classes, n)) % n_classes, truth).astype(np.int32)
    return np.maximum(rows, 0).astype(np.float32), truth, labels


def measure_head(n: int, d: int, n_classes: int) -> dict[str, Any]:
    """Seconds, log-loss and AP of self-confidence of both, on the same folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows, truth, labels = blobs(n, d, n_classes)
    fold = head.folds(labels, None, None, FOLDS, 0)
    begun = time.perf_counter()
    ours = head.out_of_fold(rows, labels, fold, n_classes, seed=0).p
    seconds = time.perf_counter() - begun
    # What cross_val_predict does with these folds, taken apart to see whether each fit has converged.
    theirs = np.zeros_like(ours)
    begun = time.perf_counter()
    iterations = []
    for k in range(FOLDS):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
        model.fit(rows[fold != k], labels[fold != k])
        theirs[fold == k] = model.predict_proba(rows[fold == k])
        iterations.append(int(model[-1].n_iter_.max()))
    peer_seconds = time.perf_counter() - begun

    def quality(p: NDArray[np.float32]) -> dict[str, float]:
        own = p[np.arange(n), labels].astype(np.float64)
        return {
            "log_loss": float(-np.log(np.maximum(own, 1e-15)).mean()),
            "ap": float(average_precision_score(labels != truth, -own)),
        }

    return {
        "seconds": seconds,
        "peer_seconds": peer_seconds,
        "ours": quality(ours),
        "theirs": quality(theirs),
        "peer_iterations": iterations,
    }


def measure_loop(rounds: int, side: int, batch: int, steps: int) -> dict[str, Any]:
    """Images a second of the loop, of the loop without dynamics, and of the model alone."""
    import timm
    import torch

    from labeltui.embed import Transform
    from labeltui.sources.pictures import ArrayPictures
    from labeltui.store import Names
    from labeltui.train.dynamics import Recorder
    from labeltui.train.loop import Course, Fit
    from labeltui.train.pictures import Images
    from labeltui.train.spec import BackboneSpec

    n, n_classes = batch * steps, 10
    torch.set_num_threads(threads.count())
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8)
    names = Names(np.zeros(0, np.uint8), np.zeros(n + 1, np.int64))
    images = Images(ArrayPictures(Path("-"), None, array), names, Transform(side, side), np.arange(n), 2)
    images.read(lambda share: None, lambda: False)
    spec = BackboneSpec("resnet18", weights="scratch", epochs=1, batch_size=batch, augment=("shift", "flip"))

    def model() -> torch.nn.Module:
        torch.manual_seed(0)
        return timm.create_model("resnet18", num_classes=n_classes)

    def loop(recorded: bool) -> None:
        course = Course(
            spec=spec,
            images=images,
            labels=(np.arange(n) % n_classes).astype(np.int32),
            weights=None,
            rows=np.arange(n),
            watch=np.zeros(0, np.int64),
            seen=np.ones(n_classes, bool),
            key=(0, 0),
            device=torch.device("cpu"),
            mean=(0.5,) * 3,
            std=(0.25,) * 3,
            record=Recorder(np.ones(n, bool), torch.device("cpu")) if recorded else None,
            clean=None,
            report=lambda share, **more: None,
            keep=lambda fit: None,
            stop=lambda fit: None,
            check=lambda fit: None,
            finish_epoch=lambda epoch: None,
            note=lambda text: None,
        )
        Fit(model().to(memory_format=torch.channels_last), course).run()

    def bare(layout: torch.memory_format) -> None:
        net = model().to(memory_format=layout).train()
        optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)
        batch_of = torch.randn(batch, 3, side, side).contiguous(memory_format=layout)
        labels = torch.arange(batch) % n_classes
        for _ in range(steps):
            optimiser.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(net(batch_of), labels).backward()
            optimiser.step()

    calls = {
        "loop": lambda: loop(True),
        "without": lambda: loop(False),
        "contiguous": lambda: bare(torch.contiguous_format),
        "channels_last": lambda: bare(torch.channels_last),
    }
    seconds = interleaved(calls, rounds, warm=True)
    return {"rates": {name: n / median(values) for name, values in seconds.items()}, "raw": seconds}


def measure_lag(seconds: float) -> dict[str, float]:
    """Lag of an event loop (p95, milliseconds) while a niced process works on all cores, and while none does."""

    async def watch() -> list[float]:
        lags = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            due = time.perf_counter() + 0.01
            await asyncio.sleep(0.01)
            lags.append(1000 * (time.perf_counter() - due))
        return lags

    idle = asyncio.run(watch())
    # As a training child: detached, at the lowest but one priority, on all cores.
    child = subprocess.Popen(
        [sys.executable, "-c", BURN],
        start_new_session=True,
        preexec_fn=lambda: os.nice(10) and None,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        time.sleep(8)
        busy = asyncio.run(watch())
    finally:
        child.kill()
        child.wait()
    return {"p95": float(np.percentile(busy, 95)), "idle_p95": float(np.percentile(idle, 95))}


def measure_proof(seeds: int, epochs: int, rate: float, limit: int) -> dict[str, Any]:
    """Accuracy on held-out digits by their clean labels, for each label set and seed."""
    from PIL import Image
    from sklearn.datasets import load_digits

    from labeltui import noise
    from labeltui.audit import Audit
    from labeltui.embed import EmbedSpec
    from labeltui.scan import ScanOptions, scan
    from labeltui.train import child, jobs
    from labeltui.train.compare import compare
    from labeltui.train.plan import Request, prepare
    from labeltui.train.spec import BackboneSpec

    bundle = load_digits()
    chosen = np.random.default_rng(0).permutation(len(bundle.target))[:limit]
    truth = bundle.target[chosen].astype(np.int32)
    labels = noise.symmetric(truth, rate, 0, 10).labels
    pixels = (bundle.images[chosen] * 15.9).astype(np.uint8)
    backbone = BackboneSpec(
        "test_resnet", weights="scratch", image_size=32, epochs=epochs, batch_size=32, learning_rate=3e-3,
        augment=("shift",),
    )  # fmt: skip
    with TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "images").mkdir()
        for i, picture in enumerate(pixels):
            Image.fromarray(picture).save(root / "images" / f"{i:05}.png")
        lines = ["path,label", *(f"images/{i:05}.png,{label}" for i, label in enumerate(labels))]
        (root / "data.csv").write_text("\n".join(lines) + "\n")
        audit = scan(root / "data.csv", root / "audit", ScanOptions(embed=EmbedSpec("pixels", image_size=8)))
        with Audit.open(audit) as opened:
            # By hand of nobody: what the audit suggests where it is surer than not.
            suggested = np.where(
                opened.flags & (opened.chances[:, 0] > 0.5), opened.suggested[:, 0], opened.given
            )
            ids = [opened.sample_id(i).decode() for i in range(opened.n)]
            clean = [int(truth[int(Path(name).stem)]) for name in ids]
            rows = [f"{name},{s},{c}" for name, s, c in zip(ids, suggested, clean, strict=True)]
            (root / "t.csv").write_text("\n".join(["path,corrected,clean", *rows]) + "\n")
            names = {
                "given": "given",
                "corrected": f"{root / 't.csv'}:corrected",
                "clean": f"{root / 't.csv'}:clean",
            }
            runs = []
            for source in names.values():
                for seed in range(seeds):
                    request = Request(backbone=backbone, labels=source, held_out="0.2", folds=0, seed=seed)
                    spec, arrays = prepare(opened, replace(request, n_threads=threads.count()))
                    directory = jobs._new_directory(audit, spec, arrays)
                    if child.run(directory) != "done":
                        raise RuntimeError(jobs.read(directory).message)
                    runs.append(directory.name)
            made = compare(opened, runs, names["clean"])
    accuracy = {name: [] for name in names}
    by_source = {source: name for name, source in names.items()}
    for row in made.rows:
        accuracy[by_source[row.labels]].append(row.metrics.accuracy)
    gaps = {
        by_source[each.labels]: [each.mean, each.low, each.high]
        for each in made.differences
        if each.measure == "accuracy"
    }
    return {
        "accuracy": accuracy,
        "minus_given": gaps,
        "samples": made.n,
        "label_accuracy": {
            "given": float((labels == truth).mean()),
            "corrected": float((suggested == clean).mean()),
        },
    }


def main() -> None:
    options = parser(__doc__).parse_args()
    report = Report("train", options)
    quick = options.quick
    n, d = (4_000, 128) if quick else (50_000, 1_280)
    if report.wanted("head"):
        cell = report.cell("head", lambda: measure_head(n, d, 10), SOURCE / "head", n=n, d=d)
        name = f"out-of-fold head {n:,} x {d:,} against logistic regression, same folds"
        peer = version("scikit-learn")
        ratio = cell["peer_seconds"] / cell["seconds"]
        report.add(f"{name}: speed", ratio, "x", target=None if quick else 5, peer=peer, detail=cell)
        gap = cell["theirs"]["log_loss"] - cell["ours"]["log_loss"]
        report.add(f"{name}: log-loss saved", gap, "nats", target=None if quick else 0, peer=peer)
        gap = cell["ours"]["ap"] - cell["theirs"]["ap"]
        report.add(f"{name}: AP gained", gap, "", target=None if quick else 0, peer=peer)
    if report.wanted("loop"):
        side, batch, steps = (64, 16, 4) if quick else (160, 16, 8)
        rounds = options.rounds
        cell = report.cell(
            "loop",
            lambda: measure_loop(rounds, side, batch, steps),
            TRAINING,
            side=side,
            batch=batch,
            rounds=rounds,
        )
        rates = cell["rates"]
        best = max(rates["contiguous"], rates["channels_last"])
        share, cost = rates["loop"] / best, 1000 / best
        report.add(
            f"loop: images/s of the bare ResNet-18 at {side} px ({cost:.1f} ms an image)", share, "x",
            target=0.9 if cost >= 10 else None, detail=cell,
        )  # fmt: skip
        slower = 100 * (rates["without"] / rates["loop"] - 1)
        report.add(
            "loop: cost of recording the dynamics", slower, "%", better="lower", target=None if quick else 3
        )
    if report.wanted("lag"):
        cell = report.cell("lag", lambda: measure_lag(2 if quick else 10), TRAINING, quick=quick)
        report.add(
            "lag of an event loop beside training on all cores, p95", cell["p95"], "ms", better="lower", target=20,
            detail=cell,
        )  # fmt: skip
    if report.wanted("proof"):
        seeds, epochs, limit = (1, 2, 600) if quick else (3, 12, 1797)
        cell = report.cell(
            "proof",
            lambda: measure_proof(seeds, epochs, 0.4, limit),
            SOURCE,
            seeds=seeds,
            epochs=epochs,
            limit=limit,
        )
        for name in ("corrected", "clean"):
            mean, low, high = cell["minus_given"][name]
            report.add(
                f"proof: accuracy with {name} labels minus given, 40 % symmetric noise on digits", 100 * mean,
                "points", target=None if quick or name == "clean" else 0,
                detail={**cell, "interval": [100 * low, 100 * high]},
            )  # fmt: skip
    report.finish()


if __name__ == "__main__":
    main()
