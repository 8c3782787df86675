"""The time that a scan says is left, against the time that it took, in seconds of the processor."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from labeltui import graph
from labeltui.parallel import Portions
from labeltui.progress import ProgressLine
from labeltui.scanning import ScanOptions, scan

UNITS = {"h": 3600, "m": 60, "s": 1}


class Screen(io.StringIO):
    """A terminal that notes when it was written to."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[tuple[float, str]] = []

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.drawn.append((time.process_time(), text))
        return len(text)

    def seconds_of(self, stage: str) -> tuple[float, list[tuple[float, float]]]:
        """What a stage took; and what was left each time, beside what was said to be left."""
        lines = [(at, text) for at, text in self.drawn if text.startswith(f"\r\x1b[K{stage} ")]
        begun, ended = lines[0][0], lines[-1][0]
        said = []
        for at, text in lines:
            if eta := re.search(r"eta (\S+)", text):
                parts = re.findall(r"([\d.]+)([hms])", eta[1] if eta[1][-1] in UNITS else eta[1] + "m")
                said.append((ended - at, sum(float(number) * UNITS[unit] for number, unit in parts)))
        # Of the last tenth nobody plans anything, and tenths of seconds are rounded.
        return ended - begun, [pair for pair in said if pair[0] > max(0.3, 0.1 * (ended - begun))]


def check(said: list[tuple[float, float]]) -> None:
    assert len(said) >= 3
    for left, eta in said:
        assert left / 2 - 0.1 <= eta <= 2 * left + 0.1, said


def draw(place: Path) -> None:
    """Scan, and write down what the progress line showed."""
    pytest.importorskip("torch._dynamo")  # imported before, since that takes time and no progress
    screen = Screen()
    line = ProgressLine(screen, time.process_time)
    scan(place / "x.npz", place / "a", ScanOptions(threads=1, metric="cosine"), line)
    line.finish()
    (place / "drawn.json").write_text(json.dumps(screen.drawn))


def test_a_scan_says_what_is_left_within_a_factor_of_two(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 4000)
    embeddings = (rng.normal(size=(10, 64))[labels] + rng.normal(size=(4000, 64))).astype(np.float32)
    np.savez(tmp_path / "x.npz", embeddings=embeddings, labels=labels)
    # In a process of its own, whose time is spent on nothing else.
    command = f"import pathlib, tests.test_eta; tests.test_eta.draw(pathlib.Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", command], cwd=Path(__file__).parents[1], check=True)
    screen = Screen()
    screen.drawn = json.loads((tmp_path / "drawn.json").read_text())
    for stage in ("head", "score"):
        seconds, said = screen.seconds_of(stage)
        assert seconds > 1
        check(said)


@pytest.mark.parametrize("close", [False, True])
def test_a_graph_says_what_is_left(close: bool) -> None:
    """Where the filter does not tell rows apart, what the direct search takes is said as soon as that is known."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(13_000, 96) if close else (20_000, 128))
    x = (rng.normal(size=96) + 1e-5 * x if close else x).astype(np.float32)
    screen = Screen()
    line = ProgressLine(screen, time.process_time)
    path = "avx512" if close and "avx512" in graph.exact.paths() else "c"
    line("graph", 0, 1000)
    graph.build(x, 10, path=path, threads=1, progress=lambda done: line("graph", round(1000 * done), 1000))
    line.finish()
    seconds, said = screen.seconds_of("graph")
    if not close:
        check(said)
        return
    late = [pair for pair in said if pair[0] < 0.7 * seconds]
    check(late)


def test_portions_of_estimated_times() -> None:
    told: list[float] = []
    portions = Portions(told.append, {"a": 1.0, "b": 3.0})
    portions.step("a")(0.5)
    portions.step("b")(0.5)
    assert told == [0.125, 0.625]
    portions.add({"c": 6.0})
    portions.step("c")(0.0)
    portions.skip("c", 0.5)
    portions.step("c")
    assert told[-1] == 0.4
    Portions(None, {"a": 1.0}).step("a")(1.0)
