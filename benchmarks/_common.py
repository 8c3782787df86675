"""What every benchmark shares: options, interleaved timing, finished cells on disk, the table and the JSON line.

A benchmark is a script::

    options = parser(__doc__).parse_args()
    report = Report("knn", options)
    faiss = peer("faiss", "faiss-cpu")                 # a clear error when it is not installed
    seconds = interleaved({"ours": f, "faiss": g}, rounds=3)
    report.add("exact kNN against faiss", ratio, "x", target=6, peer=version("faiss-cpu"), detail={...})
    report.finish()                                    # prints the table; the last line is one JSON object

Every target is one result. `met` is computed. Where this machine cannot measure it, `report.cannot` writes null and
why.
The exit status tells whether the measuring worked, not whether targets were met.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.metadata
import inspect
import itertools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

CACHE = Path(__file__).parent / ".cache"


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return an argument parser with the options that all benchmarks have."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--quick", action="store_true", help="small sizes, under a minute; targets do not apply"
    )
    options.add_argument("--only", metavar="TEXT", help="measure only what has TEXT in its name")
    options.add_argument(
        "--fresh", action="store_true", help="measure again what an earlier run has finished"
    )
    options.add_argument(
        "--rounds", type=int, default=3, help="interleaved repetitions; medians are reported"
    )
    return options


def peer(module: str, distribution: str | None = None) -> ModuleType:
    """Import a rival, or stop with its name and how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        name = distribution or module
        sys.exit(
            f"this benchmark compares with {name}, which is not installed ({missing}); pip install '.[bench]'"
        )


def version(distribution: str) -> str:
    """Return "name version" of an installed distribution."""
    return f"{distribution} {importlib.metadata.version(distribution)}"


def machine() -> dict[str, object]:
    """Describe what the figures were measured on."""
    model = platform.processor()
    flags: set[str] = set()
    memory = None
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                model = value.strip()
            elif name.strip() == "flags":
                flags = set(value.split())
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (OSError, ValueError):
        pass  # not Linux: the description is shorter
    known = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instructions": [flag for flag in known if flag in flags],
        "memory_gb": memory,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy": importlib.metadata.version("numpy"),
        "labeltui": importlib.metadata.version("labeltui"),
        "load_before": round(os.getloadavg()[0], 2),
    }


def interleaved(
    calls: Mapping[str, Callable[[], object]], rounds: int = 3, warm: bool = False
) -> dict[str, list[float]]:
    """Time the calls in turn, `rounds` times: what disturbs one disturbs all. Returns seconds by name."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    if warm:
        for call in calls.values():
            call()
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def median(values: list[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def markdown(head: Iterable[str], body: Iterable[Iterable[str]]) -> list[str]:
    """Lines of a Markdown table."""
    first = list(head)
    lines = ["| " + " | ".join(row) + " |" for row in (first, *body)]
    return [lines[0], "|---" * len(first) + "|", *lines[1:]]


def merged(body: Iterable[str], before: Iterable[str]) -> list[str]:
    """Rows of a Markdown table: those of `before`, up to its end, with `body` in their place or after them."""
    rows = itertools.takewhile(lambda line: line.startswith("|"), before)
    return list({line.split("|")[1]: line for line in (*rows, *body)}.values())


def reached(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """Lines of a Markdown table of figures, what they should be, and whether they are."""
    body = []
    for each in results:
        bound = "at least" if each["better"] == "higher" else "at most"
        target = "" if each["target"] is None else f"{bound} {each['target']:g}"
        met = {None: "", True: "yes", False: "**no**"}[each["met"]]
        body.append([each["what"], f"{each['value']:g} {each['unit']}".strip(), target, met, each["peer"]])
    return markdown(("", "figure", "target", "met", "beside"), body)


class Report:
    """Collects results, prints them, and keeps finished cells for the next run."""

    def __init__(
        self,
        benchmark: str,
        options: argparse.Namespace | None = None,
        sources: Iterable[Path] = (Path(sys.argv[0]),),
    ) -> None:
        self.benchmark = benchmark
        self.sources = tuple(sources)  # whose change makes every cell stale
        self.options = options
        self.machine = machine()
        self.results: list[dict[str, Any]] = []

    def wanted(self, name: str) -> bool:
        """Return whether ``--only`` lets `name` through."""
        only = getattr(self.options, "only", None)
        return only is None or only.lower() in name.lower()

    def cell(
        self, name: str, measure: Callable[[], dict[str, Any]], *sources: Path, **parameters: object
    ) -> dict[str, Any]:
        """Return what `measure` returns (JSON-able), from disk if this very cell was measured here before.

        A cell is known by its name, parameters, the machine, the benchmark's own source and the bytes of `sources`
        (files or directories whose change makes the figure stale).
        """
        stored = self._stored(name, ".json", (*self.sources, *sources), parameters)
        if stored.exists() and not getattr(self.options, "fresh", False):
            print(f"  {name}: measured before", file=sys.stderr)
            found: dict[str, Any] = json.loads(stored.read_text())
            return found
        print(f"  {name} ...", file=sys.stderr, flush=True)
        value = measure()
        with _replacing(stored) as file:
            file.write(json.dumps(value).encode())
        return value

    def measured(self, name: str, *sources: Path, **parameters: object) -> bool:
        """Return whether `cell` would come from disk."""
        return self._stored(name, ".json", (*self.sources, *sources), parameters).exists()

    def arrays(
        self, name: str, make: Callable[..., dict[str, Any]], *arguments: Any, sources: Iterable[Path] = (),
        **parameters: object,
    ) -> dict[str, Any]:  # fmt: skip
        """Return the arrays that ``make(*arguments)`` makes for several cells, kept on disk, and the `seconds`
        of all processors that it took.

        They are known by name, parameters, machine, `sources` and the source of `make`; `arguments` must follow from
        the parameters.
        """
        stored = self._stored(name, ".npz", sources, {**parameters, "recipe": inspect.getsource(make)})
        if not stored.exists() or getattr(self.options, "fresh", False):
            begin = time.process_time()
            made = make(*arguments)
            with _replacing(stored) as file:
                np.savez(file, **made, seconds=time.process_time() - begin)
        with np.load(stored) as found:
            return {key: found[key] for key in found.files}

    def _stored(
        self, name: str, suffix: str, sources: Iterable[Path], parameters: Mapping[str, object]
    ) -> Path:
        digest = hashlib.sha256()
        identity = {"name": name, "parameters": parameters, "cpu": self.machine["cpu"], "python": sys.version}
        digest.update(json.dumps(identity, sort_keys=True, default=str).encode())
        for source in sources:
            for file in sorted(source.rglob("*")) if source.is_dir() else [source]:
                if file.is_file() and file.suffix in {
                    ".py",
                    ".pyx",
                    ".c",
                    ".h",
                    ".npy",
                    ".csv",
                    ".safetensors",
                }:
                    digest.update(file.read_bytes() if file.stat().st_size < 1 << 24 else _stamp(file))
        return CACHE / self.benchmark / f"{digest.hexdigest()[:32]}{suffix}"

    def add(
        self,
        what: str,
        value: float | None,
        unit: str,
        *,
        better: str = "higher",
        target: float | None = None,
        peer: str = "",
        detail: dict[str, Any] | None = None,
    ) -> None:
        """Add one result; `met` follows from value, target and which way is better."""
        met = None
        if value is not None and target is not None:
            met = value >= target if better == "higher" else value <= target
        self.results.append(
            {
                "what": what,
                "value": None if value is None else float(f"{value:.4g}"),
                "unit": unit,
                "better": better,
                "target": target,
                "met": met,
                "peer": peer,
                "detail": detail or {},
            }
        )

    def cannot(
        self, what: str, why: str, unit: str, *, better: str = "higher", target: float | None = None
    ) -> None:
        """Add a target that this machine or this run cannot measure."""
        self.add(what, None, unit, better=better, target=target, detail={"why": why})

    def finish(self) -> None:
        """Print the table, then the JSON line."""
        rows = [("what", "value", "target", "met", "peer")]
        for result in self.results:
            value = "-" if result["value"] is None else f"{result['value']:g} {result['unit']}"
            bound = ">=" if result["better"] == "higher" else "<="
            target = "-" if result["target"] is None else f"{bound} {result['target']:g}"
            met = {None: "-", True: "yes", False: "NO"}[result["met"]]
            rows.append(
                (result["what"], value, target, met, result["peer"] or result["detail"].get("why", ""))
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for number, row in enumerate(rows):
            print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
            if number == 0:
                print("  ".join("-" * width for width in widths))
        print(json.dumps({"benchmark": self.benchmark, "machine": self.machine, "results": self.results}))


@contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    """Write a file complete or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(f".{os.getpid()}")
    with open(temporary, "wb") as file:
        yield file
    temporary.replace(target)


def _stamp(file: Path) -> bytes:
    """Stand for the content of a large file."""
    facts = file.stat()
    return f"{file.name} {facts.st_size} {facts.st_mtime_ns}".encode()
