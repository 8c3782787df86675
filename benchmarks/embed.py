"""Images per second from files to embeddings, against the bare model on tensors that lie in memory.

    python benchmarks/embed.py [DATA] [--model NAME] [--checkpoint FILE] [--model-arg KEY=VALUE] [--image-size N]

DATA is anything that `labeltui scan` takes; without it, small JPEG files are made (32 x 32, as CIFAR's). The
bare model is the plain one of timm on float32 tensors in batches of 64: no files, no decoding, no hashes. It
gets all cores in three ways, and the fastest counts: contiguous and channels-last on all threads, and
channels-last with one pass on each core side by side. The stream reads, hashes, decodes, resizes and embeds
every image. Contestants take turns, so what disturbs one disturbs all; beside a busy neighbour the CPU time
says more, because the stream's helpers get shares of their own.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from _common import Report, median, parser, version
from labeltui import parallel
from labeltui.embed import EmbedSpec, batch_ranges, load_embedder, parse_model_args, stream
from labeltui.embed.backbone import Backbone
from labeltui.sources import Source, open_source

BATCH = 64
TARGET = 0.8


def main() -> None:
    options = arguments()
    cores = parallel.count_threads()
    spec = EmbedSpec(
        options.model,
        pretrained=False,
        checkpoint=options.checkpoint,
        model_args=parse_model_args(options.model_arg),
        image_size=options.image_size,
        device="cpu",
    )
    report = Report("embed", options)
    with tempfile.TemporaryDirectory() as scratch:
        source = open_source(options.data or images(Path(scratch), 1024 if options.quick else 8192))
        embedder = load_embedder(spec)
        assert isinstance(embedder, Backbone)
        rounds = 1 if options.quick else 4 * options.rounds  # short ones: all meet the same weather
        rates, costs = measure(spec, embedder, source, cores, rounds, 4 if options.quick else 24)
    bare = {name: median(values) for name, values in rates.items() if name.startswith("bare")}
    best = max(bare, key=lambda name: bare[name])
    ratio = median([ours / theirs for ours, theirs in zip(rates["stream"], rates[best], strict=True)])
    detail = {
        "images": len(source.ids),
        "images_per_second": {name: [round(value, 1) for value in values] for name, values in rates.items()},
        "bare": best,
        "threads": cores,
        "model": dict(embedder.attrs),
        "cpu_ms_per_image": {name: [round(value, 3) for value in values] for name, values in costs.items()},
    }
    report.add(
        f"files to {embedder.name} embeddings against the bare model",
        ratio,
        "x",
        target=None if options.quick else TARGET,
        peer=version("timm"),
        detail=detail,
    )
    report.add("files to embeddings", median(rates["stream"]), "images/s", detail={"images": len(source.ids)})
    for name, value in bare.items():
        report.add(f"{name} model", value, "images/s", peer=version("torch"))
    cheapest = min(bare, key=lambda name: median(costs[name]))
    report.add(
        "CPU time of an image from file to embedding against the bare model's",
        median([ours / theirs for ours, theirs in zip(costs["stream"], costs[cheapest], strict=True)]),
        "x",
        better="lower",
        target=None if options.quick else 1 / TARGET,
        peer=version("timm"),
        detail={"bare": cheapest},
    )
    share = median([ours / theirs for ours, theirs in zip(rates["stream"], rates["engine"], strict=True)])
    report.add("share of its own model's rate left after reading, hashing and decoding", share, "x")
    report.finish()


def arguments() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("data", nargs="?", type=Path, help="an image tree or table; default: made here")
    options.add_argument("--model", default="mobilenetv2_035")
    options.add_argument("--checkpoint", type=Path)
    options.add_argument("--model-arg", action="append", default=[], metavar="KEY=VALUE")
    options.add_argument("--image-size", type=int, default=128)
    return options.parse_args()


def images(root: Path, n: int) -> Path:
    """Write a tree of `n` JPEG files with content of natural smoothness; they take about as long as CIFAR's."""
    rng = np.random.default_rng(0)
    for number in range(n):
        directory = root / f"class{number % 10}"
        directory.mkdir(exist_ok=True)
        rough = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        smooth = np.asarray(rough.resize((32, 32), Image.Resampling.BICUBIC)).astype(int)
        noisy = np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(directory / f"{number:05}.jpg", quality=90)
    return root


def measure(
    spec: EmbedSpec, embedder: Backbone, source: Source, cores: int, rounds: int, batches: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return images a second and CPU milliseconds an image, by contestant, one figure a round.

    The stream goes through the whole source once.
    """
    plain = plain_model(spec)
    size = embedder.transform.height, embedder.transform.width
    images = torch.randn(BATCH, 3, *size, generator=torch.Generator().manual_seed(0))
    last = images.contiguous(memory_format=torch.channels_last)
    pixels = np.random.default_rng(0).integers(0, 256, (embedder.unit, *size, 3), dtype=np.uint8)
    blocks = batch_ranges(len(source.ids), embedder.batch_size)
    parts = np.array_split(np.array(blocks), rounds)

    def on_all_threads(batch: torch.Tensor) -> None:
        with torch.inference_mode():
            plain(batch)

    def on_one_thread(batch: torch.Tensor) -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        on_all_threads(batch)
        torch.set_num_threads(before)

    torch.set_num_threads(cores)
    calls = embedder.batch_size // embedder.unit * batches // cores
    contestants: dict[str, Callable[[int], int]] = {
        "bare contiguous": lambda _: repeat(lambda: on_all_threads(images), batches, 1) * BATCH,
        "bare channels-last": lambda _: repeat(lambda: on_all_threads(last), batches, 1) * BATCH,
        "bare side by side": lambda _: repeat(lambda: on_one_thread(last), batches // cores, cores) * BATCH,
        "engine": lambda _: repeat(lambda: embedder.encode(pixels), calls, cores) * embedder.unit,
        "stream": lambda number: consume(source, embedder, [(int(a), int(b)) for a, b in parts[number]]),
    }
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    costs: dict[str, list[float]] = {name: [] for name in contestants}
    for warm in (images, last):
        on_all_threads(warm)
    embedder.encode(pixels)
    for number in range(rounds):
        for name, run in contestants.items():
            begin, spent = time.perf_counter(), cpu_seconds()
            done = run(number)
            rates[name].append(done / (time.perf_counter() - begin))
            costs[name].append((cpu_seconds() - spent) / done * 1e3)
            print(f"  round {number + 1} {name}: {rates[name][-1]:.1f} images/s", file=sys.stderr, flush=True)
    return rates, costs


def cpu_seconds() -> float:
    """Return the CPU time of this process and of the children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def plain_model(spec: EmbedSpec) -> torch.nn.Module:
    """Return the model as its library makes it; its speed does not depend on its weights."""
    import timm

    model: torch.nn.Module = timm.create_model(spec.model, num_classes=0, **spec.model_args)
    return model.eval().to(memory_format=torch.channels_last)


def repeat(call: Callable[[], object], times: int, side_by_side: int) -> int:
    """Call `times` times on each of `side_by_side` threads; return the number of calls."""

    def run() -> None:
        for _ in range(times):
            call()

    others = [threading.Thread(target=run) for _ in range(side_by_side)]
    for thread in others:
        thread.start()
    for thread in others:
        thread.join()
    return times * side_by_side


def consume(source: Source, embedder: Backbone, blocks: list[tuple[int, int]]) -> int:
    """Run the stream over `blocks`; return the number of images."""
    return sum(block.stop - block.start for block in stream(source, embedder, blocks))


if __name__ == "__main__":
    main()
