"""Long sessions: many keys in a large audit, and readers beside a writer while generations switch.

* **keys**: 10,000 keys (decisions, moves, undo and redo) go to the program in a pseudo terminal, on an audit of
  1,281,167 samples, after 4,000 to warm up: so many fill the 48 MB in which encoded images are kept. Its anonymous
  memory, and its processor time a key, are those of the end within 5 % of those of the beginning. (The time from a key
  to its paint is not compared: it depends on what else the machine does.)
* **readers**: one process decides and takes in a new generation every few seconds, five read the same audit meanwhile,
  for 10 minutes. Each reader must see every decision that was saved before it looked, whole actions, and a generation
  that is whole; nothing but errors of labeltui's own may come of it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from _common import CACHE, Report, parser

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from labeltui import store  # noqa: E402
from labeltui.audit import Audit  # noqa: E402
from labeltui.check import check  # noqa: E402
from labeltui.errors import LabeltuiError  # noqa: E402
from labeltui.io.h5_writer import write_h5  # noqa: E402
from tui import Program, make_audit  # noqa: E402 - the benchmark of the terminal UI, beside this one

LARGE = (1_281_167, 1000)
KEYS = 10_000
WARM_UP = 4_000
READERS = 5
SECONDS = 600.0
SWITCH_SECONDS = 3.0
ROUND = "    jk  x ju\x12"
"""Keys of one round: keep, move, skip, undo, redo."""


class Plain(Program):
    """The program without the timing of its jobs, whose record grows with every key."""

    runner = "import sys; sys.argv.pop(); from labeltui.cli import main; main()"


def keys(audit: Path, count: int, warm_up: int) -> dict[str, Any]:
    """Send keys, and return memory and processor time by tenths of those after the warm-up."""
    with tempfile.TemporaryDirectory() as home:
        program = Plain(audit, "blocks", Path(home))
        program.arrive(0.8)
        tenth = count // 10
        memory, seconds = [], []
        for number in range(warm_up + count):
            if number >= warm_up and (number - warm_up) % tenth == 0:
                program.settle(1.0)
                memory.append(program.memory())
                seconds.append(program.processor_time())
            tap(program, ROUND[number % len(ROUND)])
        program.settle(1.0)
        memory.append(program.memory())
        seconds.append(program.processor_time())
        program.close()
    spent = np.diff(seconds) / tenth * 1e3
    return {
        "keys": count,
        "warm_up": warm_up,
        "first_ms": float(spent[:3].mean()),
        "last_ms": float(spent[-3:].mean()),
        "first_mb": memory[0],
        "last_mb": memory[-1],
        "mb": [round(each, 1) for each in memory],
        "ms": [round(each, 2) for each in spent.tolist()],
    }


def tap(program: Program, key: str) -> float:
    """Return seconds from a key to the first paint that it caused, without waiting for the rest."""
    before, begin = len(program.chunks), time.perf_counter()
    os.write(program.fd, key.encode())
    while len(program.chunks) == before and time.perf_counter() - begin < 1:
        time.sleep(0.0005)
    return time.perf_counter() - begin


def write(path: Path, end: float, said: Any) -> None:
    """Decide, and take in a new generation every few seconds; `said` is shared: actions saved, generations."""
    rng = np.random.default_rng(0)
    switch = time.monotonic()
    with Audit.open(path, reviewer="writer") as audit:
        while time.monotonic() < end:
            audit.decide(rng.integers(audit.n, size=3), str(rng.choice(["keep", "exclude", "unsure"])))
            if rng.random() < 0.2:
                audit.undo()
            if audit.flush(30):
                said[0] = audit.saved_seq
            if time.monotonic() > switch:
                switch += SWITCH_SECONDS
                said[1] += 1
                run = path / "runs" / f"20261120T{int(said[1]):06d}Z-aaaa"
                run.mkdir(parents=True)
                score = np.full(audit.n, (said[1] % 100) / 100, np.float32)
                write_h5(
                    run / "result.h5",
                    {"scores/blend": score},
                    {"": store.generation_attrs(audit.uuid, run=run.name)},
                )
                audit.refresh()
                shutil.rmtree(run)  # only its result was made
            time.sleep(0.01)


def read(path: Path, end: float, said: Any, faults: Any, looks: Any) -> None:
    """Open the audit for reading again and again, and follow the writer a while each time."""
    rng = np.random.default_rng(os.getpid())
    while time.monotonic() < end:
        try:
            saved = int(said[0])
            with Audit.open(path, read_only=True) as audit:
                if audit.journal_seq < saved:
                    raise AssertionError(f"action {saved} was saved, and {audit.journal_seq} are there")
                for _ in range(int(rng.integers(1, 10))):
                    audit.refresh()
                    scores = audit.scores
                    if audit.generation and not (scores == scores[0]).all():
                        raise AssertionError("a generation is not whole")
                    audit.summary()
                    audit.evidence(int(rng.integers(audit.n)))
                    looks.value += 1
                    time.sleep(0.02)
        except LabeltuiError as error:
            faults.put(("ours", str(error)[:300]))
        except Exception:
            faults.put(("other", traceback.format_exc(limit=-4)[-1000:]))


def readers(path: Path, seconds: float) -> dict[str, Any]:
    """Run the writer and the readers."""
    fork = multiprocessing.get_context("fork")
    said, faults, looks = fork.Array("q", 2), fork.Queue(), fork.Value("q", 0)
    end = time.monotonic() + seconds
    writer = fork.Process(target=write, args=(path, end, said))
    others = [fork.Process(target=read, args=(path, end, said, faults, looks)) for _ in range(READERS)]
    for process in (writer, *others):
        process.start()
    found: list[tuple[str, str]] = []
    while any(process.is_alive() for process in (writer, *others)):
        while not faults.empty():
            found.append(faults.get())
        time.sleep(0.1)
    for process in (writer, *others):
        process.join()
    with Audit.open(path, read_only=True) as audit:
        there = audit.journal_seq
    return {
        "actions": int(said[0]),
        "lost": max(0, int(said[0]) - there),
        "generations": int(said[1]),
        "looks": int(looks.value),
        "refusals": [text for kind, text in found if kind == "ours"],
        "faults": [text for kind, text in found if kind == "other"],
        "exit": [process.exitcode for process in (writer, *others)],
        "damaged": [f"{each.file}: {each.fault}" for each in check(path).findings if each.kind == "damaged"],
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--keys", type=int, help=f"default: {KEYS:,}")
    options.add_argument("--seconds", type=float, help=f"of the readers; default: {SECONDS:.0f}")
    given = options.parse_args()
    report = Report("soak", given)
    full = not given.quick
    if report.wanted("keys"):
        n, classes = LARGE if full else (5_000, 10)
        audit = make_audit(CACHE / "soak", n, classes, WARM_UP + KEYS)
        found = keys(audit, given.keys or (KEYS if full else 200), WARM_UP if full else 100)
        print(json.dumps(found))
        for what, first, last in (
            ("memory", found["first_mb"], found["last_mb"]),
            ("processor time a key", found["first_ms"], found["last_ms"]),
        ):
            report.add(
                f"{what} at the end of {found['keys']:,} keys against the beginning, {n:,} samples",
                last / first,
                "x",
                better="lower",
                target=1.05 if full and found["keys"] >= KEYS else None,
                detail=found,
            )
    if report.wanted("readers"):
        with tempfile.TemporaryDirectory(prefix="labeltui-soak-") as place:
            seconds = given.seconds or (SECONDS if full else 10.0)
            found = readers(make_audit(Path(place), 5_000, 10), seconds)
        print(json.dumps(found, indent=1))
        short = full and seconds >= SECONDS
        report.add("seconds of five readers beside a writer", seconds, "s", target=SECONDS if full else None)
        report.add("actions saved and lost", found["lost"], "actions", better="lower", target=0, detail=found)
        report.add(
            "anything but an error of labeltui's own",
            len(found["faults"]),
            "faults",
            better="lower",
            target=0,
        )
        report.add(
            "errors of labeltui's own that readers met",
            len(found["refusals"]),
            "errors",
            better="lower",
            target=0 if short else None,
        )
        report.add("what is damaged in the end", len(found["damaged"]), "findings", better="lower", target=0)
        report.add("generations that were switched to", found["generations"], "generations")
    report.finish()


if __name__ == "__main__":
    main()
