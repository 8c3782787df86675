"""What `gpu.py` measures, once the package is there."""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from _common import Report, median, parser, version
from embed import cpu_seconds
from labeltui import graph, parallel
from labeltui.embed import EmbedSpec, batch_ranges, load_embedder, stream
from labeltui.embed.backbone import Backbone
from labeltui.sources import open_source

K = 50
LARGE = (1_281_167, 768)  # the rows that the target speaks of
TOLERANCE = {"float16": 0.02, "bfloat16": 0.05}


def main(description: str | None, begin: float) -> None:
    """Measure; `begin` is when the script began, by the monotonic clock."""
    options = arguments(description)
    device = torch.device(options.device)
    report = Report("gpu", options)
    why = ""
    if device.type == "cuda" and not torch.cuda.is_available():
        why = f"torch {torch.__version__} sees no CUDA device"
    elif device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        report.machine["gpu"] = f"{facts.name}, {facts.total_memory / 1e9:.0f} GB"
    steps: list[tuple[Callable[[Report, argparse.Namespace, torch.device, str], None], float]] = [
        (same_graph, 0.5),
        (precision, 0.5),
        (extraction, 2.0),
        (large_graph, 2.0),
    ]
    for step, minutes in steps:
        left = options.minutes - (time.monotonic() - begin) / 60
        late = "" if left >= minutes else f"{left:.1f} of {options.minutes:g} minutes were left"
        print(f"  {step.__name__} ...", file=sys.stderr, flush=True)
        step(report, options, device, why or late)
    report.finish()


def arguments(description: str | None) -> argparse.Namespace:
    options = parser(description)
    options.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu to rehearse")
    options.add_argument("--minutes", type=float, default=7.0, help="begin nothing that would end later")
    options.add_argument("--check", type=int, default=20_000, help="rows compared with the CPU's graph")
    options.add_argument("--rows", type=int, default=200_000, help="rows of the timed graph")
    options.add_argument("--dim", type=int, default=768)
    options.add_argument("--images", type=int, default=8192)
    options.add_argument("--model", default="resnet50")
    options.add_argument("--image-size", type=int, default=224)
    found = options.parse_args()
    if found.quick:
        found.check, found.rows, found.dim = 2000, 4000, 64
        found.images, found.model, found.image_size = 128, "resnet18", 64
    return found


def clustered(n: int, d: int) -> np.ndarray:
    """Return (n, d) float32 rows in 1,000 clusters, about as close together as features of a network."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((1000, d), dtype=np.float32)
    rows = rng.standard_normal((n, d), dtype=np.float32)
    rows *= 0.7
    rows += centres[rng.integers(1000, size=n)]
    return rows


def target(options: argparse.Namespace, device: torch.device, value: float) -> float | None:
    """Return `value` where targets apply."""
    return value if device.type == "cuda" and not options.quick else None


def same_graph(report: Report, options: argparse.Namespace, device: torch.device, why: str) -> None:
    what = f"rows with the CPU's bytes, kNN {options.check:,} x {options.dim}, k = {K}"
    if why:
        report.cannot(what, why, "", target=1.0)
        return
    x = clustered(options.check, options.dim)
    ours, theirs = (
        graph.build(x, K, backend=backend, device=device if backend == "cuda" else None)
        for backend in ("cuda", "exact")
    )
    same = (ours.indices == theirs.indices).all(axis=1) & (
        ours.similarity.view(np.int32) == theirs.similarity.view(np.int32)
    ).all(axis=1)
    report.add(what, float(same.mean()), "", target=1.0, detail={"certified": ours.n_certified / len(x)})


def large_graph(report: Report, options: argparse.Namespace, device: torch.device, why: str) -> None:
    n, d = options.rows, options.dim
    large = (n, d) == LARGE
    what = f"exact kNN on {device.type}, {n:,} x {d}, k = {K}"
    limit = target(options, device, 60.0)
    if why:
        report.cannot(what, why, "s", better="lower", target=limit)
    else:
        x = clustered(n, d)
        begin = time.perf_counter()
        found = graph.build(x, K, backend="cuda", device=device)
        seconds = time.perf_counter() - begin
        detail = {"certified": found.n_certified / n, "torch": version("torch")}
        report.add(what, seconds, "s", better="lower", target=limit, detail=detail)
    if not large:
        report.cannot(
            f"exact kNN on {device.type}, {LARGE[0]:,} x {LARGE[1]}, k = {K}",
            why or f"--rows {n} --dim {d} were asked for",
            "s",
            better="lower",
            target=60.0,
        )


def spec(options: argparse.Namespace, device: torch.device, precision: str) -> EmbedSpec:
    return EmbedSpec(
        options.model,
        pretrained=False,
        image_size=options.image_size,
        device=str(device),
        precision=precision,
    )


def precision(report: Report, options: argparse.Namespace, device: torch.device, why: str) -> None:
    for name, most in TOLERANCE.items():
        what = f"largest error of {options.model} features in {name}, of the largest feature in float32"
        if why:
            report.cannot(what, why, "", better="lower", target=most)
            continue
        size = options.image_size
        pixels = np.random.default_rng(0).integers(0, 256, (64, size, size, 3), dtype=np.uint8)
        half, full = (encoded(options, device, each, pixels) for each in (name, "float32"))
        error = float(np.abs(half - full).max() / np.abs(full).max())
        report.add(what, error, "", better="lower", target=most)


def encoded(
    options: argparse.Namespace, device: torch.device, precision: str, pixels: np.ndarray
) -> np.ndarray:
    """Return the features (n, d) of `pixels`, unit by unit."""
    embedder = load_embedder(spec(options, device, precision))
    step = embedder.unit
    return np.concatenate([embedder.encode(pixels[i : i + step]) for i in range(0, len(pixels), step)])


def extraction(report: Report, options: argparse.Namespace, device: torch.device, why: str) -> None:
    name, size = options.model, options.image_size
    engine = f"{name} {size} px bfloat16: engine on decoded pixels against the bare model"
    files = f"{name} {size} px bfloat16: JPEG files to features against the bare model"
    if why:
        report.cannot(engine, why, "x", target=0.9)
        report.cannot(files, why, "x", target=0.9)
        return
    embedder = load_embedder(spec(options, device, "bfloat16"))
    assert isinstance(embedder, Backbone)
    pixels = np.random.default_rng(0).integers(0, 256, (embedder.unit, size, size, 3), dtype=np.uint8)
    images = torch.randn(embedder.unit, 3, size, size, device=device).to(memory_format=torch.channels_last)
    plain = plain_model(options).to(device)
    passes = 2 if options.quick else max(4, 4096 // embedder.unit)

    def bare() -> None:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
            for _ in range(passes):
                plain(images)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def ours() -> None:
        for _ in range(passes):
            embedder.encode(pixels)

    rates: dict[str, list[float]] = {"bare": [], "engine": [], "files": []}
    for call in (bare, ours):
        call()
    with tempfile.TemporaryDirectory() as scratch:
        source = open_source(jpegs(Path(scratch), options.images))
        blocks = batch_ranges(len(source.ids), embedder.batch_size)
        for _ in range(1 if options.quick else options.rounds):
            for key, call in (("bare", bare), ("engine", ours)):
                begin = time.perf_counter()
                call()
                rates[key].append(passes * embedder.unit / (time.perf_counter() - begin))
            begin, spent = time.perf_counter(), cpu_seconds()
            done = sum(block.stop - block.start for block in stream(source, embedder, blocks))
            wall = time.perf_counter() - begin
            rates["files"].append(done / wall)
            busy = (cpu_seconds() - spent) / wall / parallel.count_threads()
    detail = {
        "images_per_second": {key: [round(value, 1) for value in values] for key, values in rates.items()},
        "batch_size": embedder.batch_size,
        "cores": parallel.count_threads(),
        "cores_busy": round(busy, 2),  # decoding processes count when the stream has ended them
    }
    limit = target(options, device, 0.9)
    for what, key in ((engine, "engine"), (files, "files")):
        ratio = median(rates[key]) / median(rates["bare"])
        report.add(what, ratio, "x", target=limit, peer=version("timm"), detail=detail)


def plain_model(options: argparse.Namespace) -> torch.nn.Module:
    """Return the model as timm makes it."""
    import timm

    model: torch.nn.Module = timm.create_model(options.model, num_classes=0)
    return model.eval().to(memory_format=torch.channels_last)


def jpegs(root: Path, n: int) -> Path:
    """Write a tree of `n` JPEG files of 256 x 256 pixels; 64 different ones, which cost the same to decode."""
    rng = np.random.default_rng(0)
    contents = []
    for _ in range(64):
        rough = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        rough.resize((256, 256), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        contents.append(buffer.getvalue())
    for number in range(n):
        directory = root / f"class{number % 10}"
        directory.mkdir(exist_ok=True)
        (directory / f"{number:06}.jpg").write_bytes(contents[number % 64])
    return root
