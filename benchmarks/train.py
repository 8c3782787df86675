"""Training in the background: the head against scikit-learn, the loop against the bare model, and a free event loop.

The head gets Gaussian class blobs with a tenth of the labels wrong, in the shape of embeddings; scikit-learn gets the
same rows, labels and folds. The loop trains a ResNet-18 on resident random images: its cost does not depend on what
they show. It and the bare model take turns of a second, and what counts is the median of the ratios turn by turn.
Recording is measured where it weighs most, on a network of a millisecond an image: the processor time of its own calls
against that of all else. The event loop is that of the program in a pseudo terminal, keys pressed, beside a job that
trains on all cores.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import labeltui
import proof
import tui
from _common import Report, interleaved, median, parser, version
from labeltui import head, parallel

if TYPE_CHECKING:
    from labeltui.train.dynamics import Recorder
    from labeltui.train.loop import Trainer
    from labeltui.train.spec import BackboneSpec

SOURCE = Path(labeltui.__file__).parent
TRAINING = SOURCE / "train"
FOLDS = 5
# Runs the program and notes when its event loop was late: it asks to be woken each 10 ms.
WATCHED = """
import asyncio, json, sys, time
from pathlib import Path
from labeltui.tui.app import LabeltuiApp, run
lags = []
async def watch():
    while True:
        due = time.perf_counter() + 0.01
        await asyncio.sleep(0.01)
        lags.append((time.perf_counter() - due, time.perf_counter()))
mount = LabeltuiApp.on_mount
def on_mount(self):
    mount(self)
    self.watch_of_lag = asyncio.create_task(watch())
LabeltuiApp.on_mount = on_mount
try:
    run(Path(sys.argv[2]), graphics=sys.argv[4])
finally:
    Path(sys.argv[5]).write_text(json.dumps(lags))
"""


def blobs(n: int, d: int, n_classes: int) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
    """Rows, true labels, and labels of which a tenth are wrong."""
    rng = np.random.default_rng(0)
    truth = (rng.permutation(n) % n_classes).astype(np.int32)
    inner = 1.1 * rng.normal(size=(n_classes, 32))[truth] + 1.6 * rng.normal(size=(n, 32))
    rows = inner @ rng.normal(size=(32, d)) / 6 + 0.5 * rng.normal(size=(n, d))
    wrong = rng.random(n) < 0.1
    labels = np.where(wrong, (truth + rng.integers(1, n_classes, n)) % n_classes, truth).astype(np.int32)
    return np.maximum(rows, 0).astype(np.float32), truth, labels


def measure_head(n: int, d: int, n_classes: int, rounds: int) -> dict[str, Any]:
    """Seconds, log-loss and AP of self-confidence of both, on the same folds."""
    import torch  # here, so that its import is not timed
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score
    from sklearn.model_selection import PredefinedSplit, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows, truth, labels = blobs(n, d, n_classes)
    fold = head.folds(labels, None, None, FOLDS, 0)
    found: dict[str, NDArray[np.floating]] = {}
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))

    def ours() -> None:
        found["ours"] = head.out_of_fold(rows, labels, fold, n_classes, seed=0).p

    def theirs() -> None:
        found["theirs"] = cross_val_predict(
            model, rows, labels, cv=PredefinedSplit(fold), method="predict_proba"
        )

    with warnings.catch_warnings(record=True) as reported:
        warnings.simplefilter("always", ConvergenceWarning)
        seconds = interleaved({"ours": ours, "theirs": theirs}, rounds)
    unfinished = sum(issubclass(each.category, ConvergenceWarning) for each in reported) // rounds

    def quality(p: NDArray[np.floating]) -> dict[str, float]:
        own = p[np.arange(n), labels].astype(np.float64)
        return {
            "log_loss": float(-np.log(np.maximum(own, 1e-15)).mean()),
            "ap": float(average_precision_score(labels != truth, -own)),
        }

    return {
        "seconds": seconds,
        "threads": [parallel.count_threads(), torch.get_num_threads()],
        "ours": quality(found["ours"]),
        "theirs": quality(found["theirs"]),
        "fits of the peer that did not converge": unfinished,
    }


class Workshop:
    """Resident random images, and the parts to train on them.

    Parameters
    ----------
    spec : BackboneSpec
    n : int
        Images.
    side : int
        Of an image, in pixels.
    folder : Path
        Where a job's files go.
    """

    def __init__(self, spec: BackboneSpec, n: int, side: int, folder: Path) -> None:
        from labeltui.embed import Transform
        from labeltui.sources.images import ArrayImages
        from labeltui.store import Names
        from labeltui.train.images import Images
        from labeltui.train.task import Run

        array = np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)
        names = Names(np.zeros(0, np.uint8), np.zeros(n + 1, np.int64))
        self.spec, self.n = spec, n
        self.images = Images(
            ArrayImages(Path("-"), None, array), names, Transform(side, side), np.arange(n), 2
        )
        self.images.read(lambda fraction: None, lambda: False)
        self.job = Run(folder)

    def model(self) -> Any:
        """A new model, the same each time."""
        import timm
        import torch

        torch.manual_seed(0)
        return timm.create_model(self.spec.model, num_classes=10, **self.spec.model_args)

    def trainer(self, record: Recorder) -> Trainer:
        """The real loop, with what a job does at each step."""
        import torch

        from labeltui.train.loop import Trainer, TrainingContext

        context = TrainingContext(
            spec=self.spec,
            images=self.images,
            labels=(np.arange(self.n) % 10).astype(np.int32),
            weights=None,
            rows=np.arange(self.n),
            watch=np.zeros(0, np.int64),
            seen=np.ones(10, bool),
            key=(0, 0),
            device=torch.device("cpu"),
            mean=(0.5,) * 3,
            std=(0.25,) * 3,
            record=record,
            clean=None,
            report=lambda fraction, **more: self.job.event("all", fraction, **more),
            keep=lambda trainer: None,
            stop=lambda trainer: self.job.cancelled() and None,
            check=lambda trainer: None,
            finish_epoch=lambda epoch: record.finish(self.job.directory, epoch),
            note=self.job.note,
        )
        return Trainer(self.model().to(memory_format=torch.channels_last), context)


def once_more(trainer: Trainer) -> None:
    """Train the epochs of the spec, from the current weights of the trainer."""
    trainer.train_state = replace(trainer.train_state, epoch=0, step=0, history=[])
    trainer.run()


def measure_loop(rounds: int, side: int, batch: int, steps: int, n_threads: int) -> dict[str, Any]:
    """The loop and the bare model in turn: images a second, and the ratios turn by turn."""
    import torch

    from labeltui.train.dynamics import Recorder
    from labeltui.train.spec import BackboneSpec
    from labeltui.train.tuning import optimiser_for

    torch.set_num_threads(n_threads)
    spec = BackboneSpec("resnet18", pretrained=False, epochs=1, batch_size=batch, augment=("shift", "flip"))
    with TemporaryDirectory() as folder:
        shop = Workshop(spec, batch * steps, side, Path(folder))
        trainer = shop.trainer(Recorder(np.ones(shop.n, bool), torch.device("cpu")))

        def bare(layout: torch.memory_format) -> Callable[[], None]:
            net = shop.model().to(memory_format=layout).train()
            optimiser = optimiser_for(net, spec)
            pixels = torch.randn(batch, 3, side, side).contiguous(memory_format=layout)
            labels = torch.arange(batch) % 10

            def run() -> None:
                for _ in range(steps):
                    optimiser.zero_grad(set_to_none=True)
                    torch.nn.functional.cross_entropy(net(pixels), labels).backward()
                    optimiser.step()

            return run

        calls = {
            "loop": lambda: once_more(trainer),
            "contiguous": bare(torch.contiguous_format),
            "channels_last": bare(torch.channels_last),
        }
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
        for number in range(rounds + 1):
            for name, call in calls.items():
                begin, worked_before = time.perf_counter(), time.process_time()
                call()
                if number:  # the first turn warms up
                    took[name].append((time.perf_counter() - begin, time.process_time() - worked_before))
    seconds = {name: np.array(values).T for name, values in took.items()}  # (2, rounds): wall, processor
    best = min(("contiguous", "channels_last"), key=lambda name: float(np.median(seconds[name][1])))
    ratios = seconds[best] / seconds["loop"]
    return {
        "share": dict(zip(("wall", "processor"), np.median(ratios, axis=1).tolist(), strict=True)),
        "quartiles": np.quantile(ratios, [0.25, 0.75], axis=1).T.tolist(),
        "faster format": best,
        "rates": {name: batch * steps / float(np.median(values[0])) for name, values in seconds.items()},
        "threads": n_threads,
    }


def measure_recording(rounds: int, steps: int) -> dict[str, Any]:
    """Processor time of the recorder's own calls, against all else that the loop does, on one thread."""
    import torch

    from labeltui.train import dynamics
    from labeltui.train.spec import BackboneSpec

    class Timed(dynamics.Recorder):
        """Adds up the processor time of its calls."""

        seconds = 0.0

        def note(self, *arguments: Any) -> None:
            begin = time.thread_time()
            super().note(*arguments)
            self.seconds += time.thread_time() - begin

        def finish(self, *arguments: Any) -> None:
            begin = time.thread_time()
            super().finish(*arguments)
            self.seconds += time.thread_time() - begin

    torch.set_num_threads(1)
    spec = BackboneSpec("test_resnet", pretrained=False, epochs=1, batch_size=64)
    shares, costs = [], []
    with TemporaryDirectory() as folder:
        shop = Workshop(spec, 64 * steps, 32, Path(folder))
        record = Timed(np.ones(shop.n, bool), torch.device("cpu"))
        trainer = shop.trainer(record)
        for number in range(rounds + 1):
            record.seconds, begin = 0.0, time.process_time()
            once_more(trainer)
            rest = time.process_time() - begin - record.seconds
            if number:  # the first turn warms up
                shares.append(100 * record.seconds / rest)
                costs.append(1000 * rest / shop.n)
    return {
        "percent": median(shares),
        "range": [min(shares), max(shares)],
        "ms an image": median(costs),
        "turns": shares,
    }


class Watched(tui.Program):
    """The program, its event loop watched."""

    runner = WATCHED


def measure_lag(seconds: float) -> dict[str, Any]:
    """Lag of the program's event loop (milliseconds) without a job, and beside one that trains on all cores."""
    from labeltui.audit import Audit
    from labeltui.train import jobs
    from labeltui.train.plan import Request, prepare
    from labeltui.train.spec import BackboneSpec

    data = proof.digits(quick=True)
    with TemporaryDirectory() as folder:
        root = Path(folder)
        proof.judge(data, next(iter(data.noisy.values())), root / "work")
        audit = root / "work" / "audit"

        def watch(home: Path) -> list[float]:
            home.mkdir()
            program = Watched(audit, "sixel", home)
            program.settle(0.8)
            begin = time.perf_counter()
            while time.perf_counter() - begin < seconds:
                for key in "jjk1ju":  # look, decide, take it back
                    program.press(key)
            end = time.perf_counter()
            return [1000 * lag for lag, at in program.close() if begin < at < end]

        idle = watch(root / "idle")
        backbone = BackboneSpec("resnet18", pretrained=False, image_size=96, epochs=1000, batch_size=32)
        request = Request(backbone=backbone, labels="given", folds=0, threads=parallel.count_threads())
        with Audit.open(audit) as opened:
            spec, arrays = prepare(opened, request)
        job = jobs.start(audit, spec, arrays)
        try:
            while job.active and not job.progress:
                time.sleep(0.2)
                job = jobs.read(job.directory)
            child = json.loads((job.directory / "heartbeat.json").read_text())["pid"]
            begin, before = time.perf_counter(), worked(child)
            busy = watch(root / "busy")
            cores = (worked(child) - before) / (time.perf_counter() - begin)
            state = jobs.read(job.directory).state
        finally:
            jobs.cancel(job)
            list(jobs.follow(job))
    return {
        "p95": float(np.percentile(busy, 95)),
        "p50": float(np.percentile(busy, 50)),
        "p99": float(np.percentile(busy, 99)),
        "idle_p95": float(np.percentile(idle, 95)),
        "wakings": len(busy),
        "cores that the job had": cores,
        "state of the job": state,
    }


def worked(pid: int) -> float:
    """Processor seconds that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    options = parser(__doc__).parse_args()
    report = Report("train", options)
    quick = options.quick
    n, d = (2_000, 64) if quick else (50_000, 1_280)
    if report.wanted("head"):
        rounds = 1 if quick else min(options.rounds, 2)
        cell = report.cell("head", lambda: measure_head(n, d, 10, rounds), SOURCE / "head", n=n, d=d)
        name = f"out-of-fold head {n:,} x {d:,} against logistic regression, same folds"
        peer = version("scikit-learn")
        ratio = median(cell["seconds"]["theirs"]) / median(cell["seconds"]["ours"])
        report.add(f"{name}: speed", ratio, "x", target=None if quick else 5, peer=peer, detail=cell)
        gap = cell["theirs"]["log_loss"] - cell["ours"]["log_loss"]
        report.add(f"{name}: log-loss saved", gap, "nats", target=None if quick else 0, peer=peer)
        gap = cell["ours"]["ap"] - cell["theirs"]["ap"]
        report.add(f"{name}: AP gained", gap, "", target=None if quick else 0, peer=peer)
    if report.wanted("loop"):
        side, batch, steps, rounds = (64, 16, 2, 2) if quick else (96, 16, 2, 12)
        for n_threads, clock in ((parallel.count_threads(), "wall"), (1, "processor")):
            cell = report.cell(
                f"loop, {n_threads} threads",
                lambda n_threads=n_threads: measure_loop(rounds, side, batch, steps, n_threads),
                TRAINING,
                size=(side, batch, steps, rounds, n_threads),
            )
            cost = 1000 / cell["rates"][cell["faster format"]]
            what = "images/s" if clock == "wall" else "images a processor second"
            report.add(
                f"loop: {what} of the bare ResNet-18 at {side} px, {n_threads} threads ({cost:.0f} ms an image)",
                cell["share"][clock], "x", target=None if quick or cost < 10 else 0.9, detail=cell,
            )  # fmt: skip
    if report.wanted("recording"):
        rounds, steps = (2, 4) if quick else (6, 40)
        cell = report.cell(
            "recording", lambda: measure_recording(rounds, steps), TRAINING, rounds=rounds, steps=steps
        )
        report.add(
            f"recording the dynamics: more time a step, where an image costs {cell['ms an image']:.1f} ms",
            cell["percent"], "%", better="lower", target=None if quick else 3, detail=cell,
        )  # fmt: skip
    if report.wanted("lag"):
        cell = report.cell(
            "lag", lambda: measure_lag(2 if quick else 20), TRAINING, SOURCE / "tui", quick=quick
        )
        report.add(
            f"lag of the program's event loop beside a job on {parallel.count_threads()} cores, p95", cell["p95"], "ms",
            better="lower", target=None if quick else 20, detail=cell,
        )  # fmt: skip
    report.finish()


if __name__ == "__main__":
    main()
