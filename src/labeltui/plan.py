"""What a scan will take: time, memory and disk of every step, before anyone waits for it.

::

    a short calibration on this machine           the cost model
    two small graphs   --> seconds of tiles, of rows    (a d + b) N^2 + c N ln N   (`labeltui.graph.cost`)
    one small scoring  --> seconds of heads, of pools   linear in N                (`labeltui.detect.cost`)
    some images        --> seconds of an image          linear in N

The constants of the cost model tell how much longer one step takes than another; the calibration, how fast this machine
is. Seconds are processor seconds, which others at work on the machine hardly change, divided by the cores. What cannot
be measured here (a GPU that is not there) is assumed, and said to be.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from labeltui import embed, graph, parallel, pipeline, sources
from labeltui.detect import cost as scoring_cost
from labeltui.detect.corrected import spec_for
from labeltui.errors import UsageError
from labeltui.graph.cost import filter_seconds, square_seconds
from labeltui.parallel import Progress
from labeltui.progress import span
from labeltui.scanning import ScanOptions

GRAPH_ROWS = (4_000, 24_000)  # of the two graphs of the calibration
SCORED_ROWS = 2_000
IMAGES = 96
MEASURED, EXTRAPOLATED, ASSUMED = 1.3, 1.6, 3.0
"""Factors by which a time may be off: up to 30 times what was measured, beyond, and where nothing was measured."""
LONG_HOURS = 12.0
"""Beyond, a scan is better spread over machines."""
USABLE_MEMORY = 0.8  # of the machine's
# Assumed of one data-centre GPU: kNN products, images of a ResNet-50 at 224 pixels.
GPU_PRODUCTS, GPU_IMAGES = 2e14, 2_000
BASE_MEMORY = 850_000_000  # of Python with torch loaded, where it cannot be measured
FALLBACK_DIM, FALLBACK_CLASSES = 512, 10


@dataclass(frozen=True)
class Size:
    """What is to be scanned.

    Attributes
    ----------
    images, dim, classes : int
    ready : bool
        Whether the features are there, so that none are extracted.
    bytes_each : int
        Of a feature, 4 or 2.
    """

    images: int
    dim: int
    classes: int
    ready: bool
    bytes_each: int = 4


@dataclass(frozen=True)
class Rates:
    """What the calibration found: measured seconds as multiples of the cost model's.

    Attributes
    ----------
    quadratic, linear : float
        Of the graph's tiles, and of its other steps.
    head, score : float
        Of training classifiers, and of everything else in scoring.
    image : float or None
        Processor seconds of extracting the features of an image; None where that was not measured.
    base : int
        Bytes of a process in which all is loaded that a scan needs.
    seconds : float
        That the calibration took.
    """

    quadratic: float
    linear: float
    head: float
    score: float
    image: float | None
    base: int
    seconds: float


@dataclass(frozen=True)
class Step:
    """One step of a scan.

    Attributes
    ----------
    name : str
    seconds, low, high : float
        Expected, and the range it should lie in.
    memory, disk : int
        Largest number of bytes while it runs; of files that it adds.
    basis : str
        Where the time comes from.
    """

    name: str
    seconds: float
    low: float
    high: float
    memory: int
    disk: int
    basis: str


@dataclass(frozen=True)
class Plan:
    """Time, memory and disk of a scan.

    Attributes
    ----------
    size : Size
    cores, gpus : int
    steps : list of Step
    seconds, low, high : float
        Of all steps.
    memory, disk : int
        Largest of the steps; of all files, those that are deleted at the end included.
    engine : {"local", "ray"}
    backend : {"exact", "cuda", "approximate"}
    why : list of str
    rates : Rates
    """

    size: Size
    cores: int
    gpus: int
    steps: list[Step]
    seconds: float
    low: float
    high: float
    memory: int
    disk: int
    engine: str
    backend: str
    why: list[str]
    rates: Rates

    def as_json(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return asdict(self)


def plan(
    source: tuple[Path, ...] = (),
    options: ScanOptions | None = None,
    *,
    images: int | None = None,
    dim: int | None = None,
    classes: int | None = None,
    gpus: int = 0,
    cores: int | None = None,
    out: Path = Path(),
    progress: Progress | None = None,
) -> Plan:
    """Tell what a scan would take.

    Parameters
    ----------
    source : tuple of Path, optional
        The data, as for `labeltui.scanning.scan`; its size, and what an image takes, are measured.
    options : ScanOptions, optional
        Of the scan.
    images, dim, classes : int, optional
        Instead of the source's; the first two must be given where there is none.
    gpus : int
        GPUs that there will be.
    cores : int, optional
        Cores that there will be; by default those of this machine.
    out : Path
        Where the audit will be: its disk must hold it.
    progress : callable, optional
        Called with the fraction of the calibration that is done.

    Returns
    -------
    Plan

    Raises
    ------
    UsageError
        Sizes are missing or not positive.
    SourceError, ModelError
        As for a scan.
    """
    options = options or ScanOptions()
    report = progress or (lambda fraction: None)
    image_seconds = None
    if source:
        path, shards = sources.gather(source)
        options = replace(options, source=replace(options.source, shards=shards))
        opened = sources.open_source(path, options.source)
        embedder = embed.embedder_for(opened, options.embed)
        ready = opened.embeddings is not None
        dim = dim or embedder.dim
        images = images or len(opened.ids)
        known = {label for label in opened.labels if label is not None}
        classes = classes or len(known) or FALLBACK_CLASSES
        if not ready:
            image_seconds = _seconds_of_image(opened, embedder, options)
        each = 2 if opened.embeddings is not None and opened.embeddings.dtype == np.float16 else 4
        size = Size(images, dim, classes, ready, each)
    elif images is None:
        raise UsageError("a plan needs a data set or its size", "got neither", "--images N --dim D")
    else:
        size = Size(images, dim or FALLBACK_DIM, classes or FALLBACK_CLASSES, ready=False)
    if min(size.images, size.dim, size.classes) < 1 or gpus < 0 or (cores is not None and cores < 1):
        raise UsageError(
            "images, dimensions, classes and cores must be positive",
            f"got {size.images}, {size.dim}, {size.classes}, {cores}",
        )
    report(0.1)
    rates = calibrate(size, options, image_seconds, lambda done: report(0.1 + 0.9 * done))
    return estimate(size, options, rates, cores or parallel.count_threads(options.threads), gpus, out)


def _seconds_of_image(source: sources.Source, embedder: embed.Embedder, options: ScanOptions) -> float:
    """Measure the processor seconds of an image, decoding in this process included."""
    count = min(IMAGES, len(source.ids))
    ranges = embed.batch_ranges(count, min(32, embedder.batch_size))
    begun = time.process_time()
    for _ in embed.stream(source, embedder, ranges, 0, None, options.threads):
        pass
    return (time.process_time() - begun) / max(1, count)


@dataclass(kw_only=True)
class _Clock(pipeline.Stages):
    """Processor seconds of the stages."""

    spent: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        begun = time.process_time()
        with super().stage(name) as progress:
            yield progress
        self.spent[name] = time.process_time() - begun


def calibrate(size: Size, options: ScanOptions, image: float | None, progress: Progress) -> Rates:
    """Measure this machine on small random data of the same dimension.

    Parameters
    ----------
    size : Size
    options : ScanOptions
    image : float or None
        Seconds of an image, where that was measured.
    progress : callable

    Returns
    -------
    Rates
    """
    begun = time.monotonic()
    rng = np.random.default_rng(0)
    classes = min(size.classes, 100)

    def rows(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, classes, n).astype(np.int32)
        centres = rng.normal(size=(classes, size.dim))
        return labels, (centres[labels] + 1.5 * rng.normal(size=(n, size.dim))).astype(np.float32)

    graph.build(rows(600)[1], 10)  # what is done once a process
    measured, model = [], []
    for number, n in enumerate(GRAPH_ROWS):
        _, x = rows(n)
        measured.append(_processor_seconds(lambda x=x: graph.build(x, pipeline.STORED_NEIGHBOURS)))  # type: ignore[misc]
        model.append(_graph_parts(n, size.dim))
        progress(0.2 * (number + 1))
    quadratic, linear = _solve(model, measured)
    with np.errstate(all="ignore"):
        import torch  # noqa: F401  # importing it is no part of what is measured

    labels, x = rows(SCORED_ROWS)
    clock = _Clock()
    hashes = np.arange(SCORED_ROWS, dtype=np.int64)[:, None].view(np.uint8)
    scored = replace(options, metric="cosine")
    pipeline.score(labels, classes, x, np.ones(SCORED_ROWS, bool), hashes, scored, device="cpu", stages=clock)
    progress(1.0)
    head, second, rest = _scoring_parts(Size(SCORED_ROWS, size.dim, classes, ready=True), options)
    rate = clock.spent["head"] / head
    return Rates(
        quadratic=quadratic,
        linear=linear,
        head=rate,
        score=max(0.5, (clock.spent["score"] - rate * second) / rest),
        image=image,
        base=_resident(),
        seconds=round(time.monotonic() - begun, 1),
    )


def _resident() -> int:
    """Bytes of this process in memory."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):  # not on Linux
        return BASE_MEMORY


def _processor_seconds(call: Callable[[], object]) -> float:
    begun = time.process_time()
    call()
    return time.process_time() - begun


def _graph_parts(n: int, d: int) -> tuple[float, float]:
    """The model's seconds that grow with the square of the rows, and the others."""
    chosen = graph.exact.choose(None, n, d)
    path = "c" if chosen == "direct" else chosen
    square = square_seconds(n, d, path)
    return square, sum(filter_seconds(n, d, path).values()) - square


def _scoring_parts(size: Size, options: ScanOptions) -> tuple[float, float, float]:
    """The model's seconds of the classifier, of the second one, and of everything else in scoring."""
    n, classes = size.images, size.classes
    first = options.head.seconds(n, size.dim, classes, options.folds)
    corrected = spec_for(options.head)
    second = corrected.seconds(n, size.dim, classes, options.folds)
    rest = scoring_cost.fit_seconds(n, classes) + scoring_cost.score_seconds(n, classes)
    rest += (1 + corrected.members) * scoring_cost.record_seconds(n)
    return first, second, rest + 2.2 * scoring_cost.pool_seconds(n, classes)


def _solve(model: list[tuple[float, float]], measured: list[float]) -> tuple[float, float]:
    """Factors of the two parts under which the model gives what was measured; where noise forbids, one for both."""
    (a, b), (c, d) = model
    determinant = a * d - b * c
    if determinant:
        first = (measured[0] * d - b * measured[1]) / determinant
        second = (a * measured[1] - c * measured[0]) / determinant
        # On any machine the two are off by much the same factor: more than twice apart, it is noise that is fitted.
        if first > 0 and second > 0 and 0.5 < first / second < 2:
            return first, second
    both = measured[1] / (c + d)
    return both, both


def estimate(size: Size, options: ScanOptions, rates: Rates, cores: int, gpus: int, out: Path) -> Plan:
    """Apply the cost model.

    Parameters
    ----------
    size : Size
    options : ScanOptions
    rates : Rates
    cores, gpus : int
    out : Path
        Where the audit will be.

    Returns
    -------
    Plan
    """
    n, d, classes = size.images, size.dim, size.classes
    k = min(pipeline.STORED_NEIGHBOURS, max(n - 1, 1))
    features = n * d * size.bytes_each
    steps = []

    def add(name: str, seconds: float, memory: int, disk: int, basis: str, factor: float) -> None:
        steps.append(Step(name, seconds, seconds / factor, seconds * factor, memory, disk, basis))

    def factor_of(measured: int) -> float:
        return MEASURED if n <= 30 * measured else EXTRAPOLATED

    if not size.ready:
        if gpus:
            add("features", n / (GPU_IMAGES * gpus), 3_000_000_000, features + 65 * n, "assumed", ASSUMED)
        else:
            seconds = rates.image if rates.image is not None else 0.05
            basis, factor = ("measured", MEASURED) if rates.image is not None else ("assumed", ASSUMED)
            add("features", n * seconds / cores, 1_500_000_000, features + 65 * n, basis, factor)
    else:
        add("features", 2e-9 * features + 2e-6 * n, rates.base, features + 65 * n, "assumed", ASSUMED)
    tiles, others = _graph_parts(n, d)
    exact_seconds = (rates.quadratic * tiles + rates.linear * others) / cores
    graph_memory = rates.base + features + graph.exact.expected_memory(n, d, k, cores)
    parts = 2 * 8 * 60 * n  # candidates kept against a kill, once more while they are written
    backend = "exact"
    if gpus and exact_seconds > 600:
        backend = "cuda"
        add(
            "graph", n * n * d / (GPU_PRODUCTS * gpus) + 2e-5 * n, graph_memory, 8 * k * n, "assumed", ASSUMED
        )
    else:
        if options.backend == "approximate" or exact_seconds > 3600 * LONG_HOURS:
            backend = options.backend if options.backend != "exact" else "approximate"
        add("graph", exact_seconds, graph_memory, 8 * k * n + parts, "measured", factor_of(GRAPH_ROWS[1]))
    thumbnails = 0.0 if size.ready else 0.02 * (rates.image or 0.01) * n / cores
    add("duplicates", 2e-6 * n + thumbnails, rates.base + 500 * n, 4 * n, "assumed", ASSUMED)
    solves = 206 if classes <= 200 else 56 if classes <= pipeline.MOST_REPEATED else 1  # with the interval's
    spectrum = 4e-10 * classes**3 * solves if classes <= pipeline.MOST_CLASSES else 10.0
    add("csg", 1.5e-5 * n + spectrum, rates.base + 500 * n + 24 * classes**2, 100 * n, "assumed", ASSUMED)
    first, second, rest = _scoring_parts(size, options)
    workers = min(cores, options.folds)
    used = max(1, n * (options.folds - 1) // options.folds)
    epochs = options.head.schedule(used)[2]
    corrected = spec_for(options.head)
    recorded = 10 * corrected.members * corrected.schedule(used)[2]  # bytes a sample
    head_memory = (
        rates.base + features + n * (500 + 2 * min(d, options.head.components) + 4 * classes + 10 * epochs)
    )
    score_memory = head_memory + n * (150 + 12 * classes + recorded) + 300_000_000
    scored_factor = factor_of(SCORED_ROWS)
    add(
        "classifier",
        rates.head * first / workers,
        head_memory,
        n * (4 * classes + 10 * epochs),
        "measured",
        scored_factor,
    )
    scores = rates.head * second / workers + rates.score * rest
    add("scores", scores, score_memory, 90 * n, "measured", scored_factor)
    whole = features + n * (65 + 8 * k + 160 + 40)
    add("write", 2e-9 * whole, score_memory, whole, "assumed", ASSUMED)
    add("review opens in", 1.0 + 6e-7 * n, 150_000_000 + 100 * n, 0, "assumed", ASSUMED)

    scan = steps[:-1]
    total = sum(step.seconds for step in scan)
    memory, disk = max(step.memory for step in scan), sum(step.disk for step in scan)
    engine, why = _engine(size, backend, total, exact_seconds, memory, disk, cores, gpus, out)
    return Plan(
        size,
        cores,
        gpus,
        steps,
        total,
        sum(step.low for step in scan),
        sum(step.high for step in scan),
        memory,
        disk,
        engine,
        backend,
        why,
        rates,
    )


def _engine(
    size: Size,
    backend: str,
    seconds: float,
    exact_seconds: float,
    memory: int,
    disk: int,
    cores: int,
    gpus: int,
    out: Path,
) -> tuple[str, list[str]]:
    """Where to run it, and why."""
    why = []
    engine = "local"
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if memory > USABLE_MEMORY * there:
        engine = "ray"
        why.append(f"{memory / 1e9:.1f} GB of memory are needed, this machine has {there / 1e9:.1f} GB")
    if seconds > 3600 * LONG_HOURS:
        engine = "ray"
        why.append(f"{cores} cores take {span(seconds, tenths=False)}: more machines share images and tiles")
    if backend == "approximate":
        why.append(
            f"an exact graph takes {span(exact_seconds, tenths=False)} on {cores} cores; --backend approximate takes "
            "less and states the recall that it measured"
        )
    if backend == "cuda":
        why.append(f"{gpus} GPUs search the graph in minutes; --backend cuda")
    if not why:
        why.append("one machine does it in good time")
    try:
        free = shutil.disk_usage(out if out.exists() else out.parent).free
    except OSError:
        free = None
    if free is not None and free < disk:
        why.append(f"{disk / 1e9:.1f} GB of disk are needed, {free / 1e9:.1f} GB are free")
    if size.images > 30 * GRAPH_ROWS[1]:
        why.append("the sizes lie far beyond what was measured: expect the range, not the figure")
    return engine, why


def lines(made: Plan) -> list[str]:
    """Return a plan as a table for people.

    Parameters
    ----------
    made : Plan

    Returns
    -------
    list of str
    """
    size = made.size
    head = f"{size.images:,} images x {size.dim:,} dimensions, {size.classes:,} classes, {made.cores} cores"
    table = [
        head + (f", {made.gpus} GPUs" if made.gpus else ""),
        f"calibrated in {made.rates.seconds:.0f} s",
        "",
        f"{'step':<16} {'time':>8} {'range':>17} {'memory':>9} {'disk':>9}  time is",
    ]
    rows = [
        *made.steps[:-1],
        Step("all", made.seconds, made.low, made.high, made.memory, made.disk, ""),
        made.steps[-1],
    ]
    for step in rows:
        between = f"{span(step.low)} .. {span(step.high)}"
        table.append(
            f"{step.name:<16} {span(step.seconds):>8} {between:>17} {step.memory / 1e9:>6.2f} GB "
            f"{step.disk / 1e9:>6.2f} GB  {step.basis}"
        )
    return [
        *table,
        "",
        f"--engine {made.engine} --backend {made.backend}",
        *(f"  {each}" for each in made.why),
    ]
