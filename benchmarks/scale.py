"""How time and memory of a scan grow with the number of samples, and what the plan says of it beforehand.

Exact graphs of growing size, each in a process of its own: b N^2 + c N ln N is fitted on all but the largest, which it
has to predict. Whole scans of ready features: what each stage takes against N. Opening a large audit whose journal is
long. Seconds of graphs and scans are those of the processor, which others at work on the machine hardly change. The
largest sizes take minutes: choose them by --rows and --scan-rows.
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from _common import Report, parser
from labeltui.graph.cost import FIRST

HERE = Path(__file__)
SOURCE = HERE.parent.parent / "src" / "labeltui"
STATM = Path("/proc/self/statm")
PAGE = os.sysconf("SC_PAGE_SIZE")
STAGES = ("graph", "duplicates", "csg", "head", "score", "write")
LEAST_SECONDS = 0.3  # of a stage, below which its growth is noise


def features(n: int, d: int, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Clusters that overlap, with a tenth of the labels wrong."""
    rng = np.random.default_rng(0)
    labels = rng.integers(classes, size=n)
    rows = rng.normal(size=(n, d)).astype(np.float32)
    rows *= 1.5
    rows += rng.normal(size=(classes, d)).astype(np.float32)[labels]
    wrong = rng.random(n) < 0.1
    labels[wrong] = rng.integers(classes, size=int(wrong.sum()))
    return rows, labels


def resident() -> int:
    """Bytes of this process in memory."""
    return int(STATM.read_text().split()[1]) * PAGE


def graph_child(n: int, d: int, threads: int) -> dict[str, Any]:
    """Build one graph; its processor seconds, and its peak beside what was planned."""
    from labeltui import graph

    rows, _ = features(n, d)
    graph.build(rows[:600], 50, threads=threads)  # what is loaded once
    before, begun, clock = resident(), time.process_time(), time.perf_counter()
    peaks: list[int] = []
    with sampled(peaks.append):
        made = graph.build(rows, 50, threads=threads)
    return {
        "processor_seconds": time.process_time() - begun,
        "seconds": time.perf_counter() - clock,
        "peak": max(peaks),
        "planned": before + graph.exact.expected_memory(n, d, 50, threads),
        "uncertified": made.n_fallback,
    }


def own() -> int:
    """Bytes of this process in memory that are no pages of files, which the system can drop."""
    return resident() - int(STATM.read_text().split()[2]) * PAGE


class sampled:
    """Calls a function with the resident bytes a hundred times a second."""

    def __init__(self, take: Any) -> None:
        self.take = take
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self.ended.wait(0.01):
            self.take(resident())

    def __enter__(self) -> None:
        self.take(resident())
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()


def scan_child(n: int, d: int, threads: int) -> dict[str, Any]:
    """Scan features from a .npy file; processor seconds and peak memory of each stage."""
    from labeltui.scanning import ScanOptions, scan

    rows, labels = features(n, d)
    with tempfile.TemporaryDirectory() as here:
        np.save(Path(here) / "x.npy", rows)
        np.save(Path(here) / "y.npy", labels)
        size = rows.nbytes
        del rows, labels

        seconds: dict[str, float] = {}
        peaks: dict[str, int] = {}
        own_peaks: dict[str, int] = {}
        now = ["read", time.process_time()]

        def report(stage: str, done: int, total: int) -> None:
            at = time.process_time()
            seconds[now[0]] = seconds.get(now[0], 0.0) + at - now[1]
            now[:] = stage, at

        def take(memory: int) -> None:
            peaks[now[0]] = max(memory, peaks.get(now[0], 0))
            own_peaks[now[0]] = max(own(), own_peaks.get(now[0], 0))

        options = ScanOptions.of(threads=threads, metric="cosine", labels=Path(here) / "y.npy")
        clock = time.perf_counter()
        with sampled(take):
            scan(Path(here) / "x.npy", Path(here) / "a.audit", options, report)
        seconds[now[0]] += time.process_time() - now[1]
        disk = sum(each.stat().st_size for each in (Path(here) / "a.audit").iterdir())
    return {
        "seconds": time.perf_counter() - clock,
        "stages": seconds,
        "peaks": peaks,
        "own_peaks": own_peaks,
        "peak": max(peaks.values()),
        "input": size,
        "disk": disk,
    }


def synthetic_audit(path: Path, n: int, classes: int = 1000) -> None:
    """Write an audit of n samples without a scan: random neighbours, labels and scores, names of 28 bytes."""
    from labeltui import paths, store
    from labeltui.io.h5_writer import write_h5
    from labeltui.io.names import pack_names

    k = 10
    rng = np.random.default_rng(0)
    ids = [b"%04d/%023d" % (i % classes, i) for i in range(n)]
    indices = rng.integers(n, size=(n, k), dtype=np.int32)
    given = np.arange(n, dtype=np.int32) % classes
    receivers = indices.ravel()
    order = np.argsort(receivers, kind="stable")
    T = np.zeros((classes, classes), np.int64)
    np.add.at(T, (np.repeat(given, k), given[receivers]), 1)
    names = [b"%04d" % c for c in range(classes)]
    arrays = {
        **pack_names("samples/id", ids),
        **pack_names("classes/id", names),
        **pack_names("classes/name", names),
        **pack_names("splits/name", [b"train"]),
        "samples/split": np.zeros(n, np.int16),
        "samples/sha256": np.zeros((n, 32), np.uint8),
        "samples/status": np.zeros(n, np.uint8),
        "labels/given": given,
        "embeddings/e": np.ones((n, 8), np.float16),
        "graph/e/indices": indices,
        "graph/e/similarity": np.ones((n, k), np.float32),
        "graph/e/rev_indptr": np.r_[0, np.cumsum(np.bincount(receivers, minlength=n))],
        "graph/e/rev_indices": (order // k).astype(np.int32),
        "groups/duplicate": np.arange(n, dtype=np.int32),
        "csg/T": T,
        "scores/blend": rng.random(n, dtype=np.float32),
        "suggest/label": rng.integers(classes, size=(n, 5), dtype=np.int32),
        "suggest/p": np.full((n, 5), 0.2, np.float32),
    }
    path.mkdir()
    write_h5(path / paths.AUDIT_FILE, arrays, {"": store.audit_attrs(), "embeddings": {"default": "e"}})


def write_journal(audit: Path, decisions: int, each: int) -> None:
    """Write a journal of decisions on random samples, `each` of them in one action."""
    from labeltui import store
    from labeltui.journal import Action, History, create
    from labeltui.paths import JOURNAL_FILE

    rng = np.random.default_rng(0)
    history = History()
    kinds = ("relabel", "keep", "relabel", "exclude", "keep")
    with store.Store.open(audit) as opened:
        samples = rng.permutation(opened.n)[:decisions].tolist()
        names, classes, given = list(opened.ids), opened.class_ids, opened.given.tolist()
        for start in range(0, decisions, each):
            rows = []
            for i in samples[start : start + each]:
                old, kind = classes[given[i]], kinds[i % 5]
                new = classes[(given[i] + 1) % len(classes)] if kind == "relabel" else old
                rows.append((i, names[i], kind, old, new, None, None))
            uuid = f"{rng.bytes(16).hex()}0000"
            name = "bulk" if each > 1 else "decide"
            history.add(Action(0, uuid, "2026-11-29T12:00:00.000Z", "ada", "here", name), rows, [], [])
        (audit / JOURNAL_FILE).unlink(missing_ok=True)
        create(audit, opened.uuid, history=history)


def open_child(audit: str) -> dict[str, Any]:
    """Open an audit for reading until its first summary."""
    from labeltui.audit import Audit

    before, begun, clock = resident(), time.process_time(), time.perf_counter()
    with Audit.open(Path(audit), read_only=True) as opened:
        found = {
            "processor_seconds": time.process_time() - begun,
            "seconds": time.perf_counter() - clock,
            "memory": resident() - before,
        }
        found["decisions"] = sum(opened.decisions().values())
    return found


def openings(report: Report, n: int, decisions: int) -> None:
    """Open a large audit whose journal is long: in bulk actions of a thousand, and one decision at a time."""
    with tempfile.TemporaryDirectory() as here:
        audit = Path(here) / "a.audit"
        synthetic_audit(audit, n)
        for each, name in ((1000, "in actions of 1,000"), (1, "one by one")):
            write_journal(audit, decisions, each)
            took = min((child("open", str(audit)) for _ in range(3)), key=lambda run: run["seconds"])
            report.add(
                f"opening {n:,} samples with {decisions:,} decisions {name}",
                took["seconds"],
                "s",
                better="lower",
                target=bound(report, 2.0),
                detail=took,
            )


def child(kind: str, *arguments: object) -> dict[str, Any]:
    """Measure in a process of its own, so that nothing of another size is in memory."""
    command = [sys.executable, str(HERE), "--child", kind, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def fitted(rows: list[int], seconds: list[float]) -> tuple[float, float]:
    """b and c of b N^2 + c N ln(N / 100), neither negative, that fit best relative to each figure."""
    from scipy.optimize import nnls

    n, t = np.array(rows, float), np.array(seconds)
    (b, c), _ = nnls(np.stack([n**2, n * np.log(n / FIRST)], 1) / t[:, None], np.ones(len(n)))
    return float(b), float(c)


def bound(report: Report, target: float) -> float | None:
    """The target, which small sizes have not."""
    return None if getattr(report.options, "quick", False) else target


def graphs(report: Report, sizes: list[int], d: int, threads: int) -> None:
    """The exact graph against N, and what the smaller ones say of the largest."""
    found = [
        report.cell(
            f"graph of {n:,} x {d}",
            lambda n=n: child("graph", n, d, threads),  # type: ignore[misc]
            SOURCE / "graph",
            SOURCE / "_fast",
            n=n,
            d=d,
            threads=threads,
        )
        for n in sizes
    ]
    took = [each["processor_seconds"] for each in found]
    for n, each in zip(sizes, found, strict=True):
        report.add(
            f"exact graph {n:,} x {d}", each["processor_seconds"], "CPU s", better="lower", detail=each
        )
        report.add(
            f"peak memory beside the plan, {n:,} x {d}",
            abs(each["peak"] / each["planned"] - 1),
            "relative",
            better="lower",
            target=bound(report, 0.1),
            detail=each,
        )
    if len(sizes) < 3:
        report.cannot("prediction of the largest graph", "three sizes are needed", "relative", better="lower")
        return
    b, c = fitted(sizes[:-1], took[:-1])
    predicted = b * sizes[-1] ** 2 + c * sizes[-1] * math.log(sizes[-1] / FIRST)
    report.add(
        f"b N^2 + c N ln N of the smaller graphs beside {sizes[-1]:,} x {d}",
        abs(predicted / took[-1] - 1),
        "relative",
        better="lower",
        target=bound(report, 0.2),
        detail={"b": b, "c": c, "predicted": predicted, "measured": took[-1]},
    )


def scans(report: Report, sizes: list[int], d: int, threads: int) -> None:
    """Every stage against N; none grows faster than the graph."""
    found = [
        report.cell(
            f"scan of {n:,} x {d}",
            lambda n=n: child("scan", n, d, threads),  # type: ignore[misc]
            SOURCE,
            n=n,
            d=d,
            threads=threads,
        )
        for n in sizes
    ]
    for n, each in zip(sizes, found, strict=True):
        for stage in STAGES:
            report.add(
                f"{stage} of a scan, {n:,} x {d}",
                each["stages"].get(stage, 0.0),
                "CPU s",
                better="lower",
                detail={"peak_gb": each["peaks"].get(stage, 0) / 1e9},
            )
        report.add(
            f"memory of a scan above its input, {n:,} x {d}",
            (each["peak"] - each["input"]) / 1e9,
            "GB",
            better="lower",
            target=bound(report, 1.5),
            detail=each,
        )
    if len(sizes) > 1:
        growth = np.log(sizes[-1] / sizes[-2])
        powers = {
            stage: float(np.log(found[-1]["stages"][stage] / found[-2]["stages"][stage]) / growth)
            for stage in STAGES
            if min(each["stages"].get(stage, 0.0) for each in found[-2:]) >= LEAST_SECONDS
        }
        rest = {stage: power for stage, power in powers.items() if stage != "graph"}
        if "graph" in powers and rest:
            report.add(
                "power of N of the stage that grows fastest, less the graph's",
                max(rest.values()) - powers["graph"],
                "",
                better="lower",
                target=0.0,
                detail=powers,
            )
        else:
            report.cannot(
                "power of N of the stage that grows fastest, less the graph's",
                f"stages of {LEAST_SECONDS:g} s are needed",
                "",
                better="lower",
                target=0.0,
            )


def main() -> None:
    """Measure, print the table and the JSON line."""
    if sys.argv[1:2] == ["--child"]:
        kind, arguments = sys.argv[2], sys.argv[3:]
        if kind == "open":
            print(json.dumps(open_child(*arguments)))
        else:
            print(json.dumps({"graph": graph_child, "scan": scan_child}[kind](*map(int, arguments))))
        return
    options = parser(__doc__)
    options.add_argument("--rows", type=int, nargs="*", help="of the graphs; the last is predicted")
    options.add_argument("--dimensions", type=int, default=128, help="of the graphs")
    options.add_argument("--million", action="store_true", help="a graph of 1,000,000 rows as well")
    options.add_argument("--scan-rows", type=int, nargs="*", help="of the whole scans")
    options.add_argument("--scan-dimensions", type=int, default=512)
    options.add_argument("--decisions", type=int, default=1_000_000, help="in the journal of a large audit")
    options.add_argument("--threads", type=int, default=2)
    chosen = options.parse_args()
    report = Report("scale", chosen)
    rows = chosen.rows if chosen.rows is not None else [10_000, 50_000, 200_000]
    scan_rows = chosen.scan_rows if chosen.scan_rows is not None else [50_000, 200_000]
    if chosen.quick:
        rows, scan_rows, chosen.decisions = [4_000, 8_000, 16_000], [2_000], 20_000
    if chosen.million:
        rows = [*rows, 1_000_000]
    if not STATM.exists():
        report.cannot("memory and time of a scan", "memory is read from /proc, which this system has not", "")
    else:
        if rows and report.wanted("graph"):
            graphs(report, sorted(rows), chosen.dimensions, chosen.threads)
        if scan_rows and report.wanted("scan"):
            scans(report, sorted(scan_rows), chosen.scan_dimensions, chosen.threads)
        if chosen.decisions and report.wanted("opening"):
            openings(report, round(1.281167 * chosen.decisions), chosen.decisions)
    report.add(
        "largest peak memory of a process",
        resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6,
        "GB",
        better="lower",
    )
    report.finish()


if __name__ == "__main__":
    main()
