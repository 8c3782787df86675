"""Mutations of everything that labeltui reads: audits, unfinished scans, journals, runs, data, weights and settings.

Each trial changes one file, in its bytes or by its structure, and uses it as the product does. Nothing but an error of
labeltui's own may come of it, whose message can be shown on a terminal; no trial may hang, and memory stays bounded.
The mutations and the uses are those of the test suite (`tests/fuzzing.py`), which tries 1,000 of them.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from _common import Report, parser

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests import factories, fuzzing  # noqa: E402 - from the tree that this script lies in

TRIALS = 20_000
QUICK = 1_000


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--trials", type=int, help=f"default: {TRIALS:,}")
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    report = Report("fuzz", given)
    trials = given.trials or (QUICK if given.quick else TRIALS)
    with tempfile.TemporaryDirectory(prefix="labeltui-fuzz-") as place:
        os.environ[factories.SHARED] = place  # where audits are made, to be copied
        path = Path(place, "trials")
        path.mkdir()
        fuzzing.prepare(path)
        begin = time.perf_counter()
        outcome = fuzzing.fuzz(path, trials, given.seed, given.only or "")
        seconds = time.perf_counter() - begin
    print(f"{'target':<18} {'trials':>7} {'refused':>8}")
    for name in sorted(outcome.trials):
        print(f"{name:<18} {outcome.trials[name]:>7,} {outcome.refused[name]:>8,}")
    for fault in outcome.faults[:20]:
        print(f"\n{fault}")
    done = sum(outcome.trials.values())
    report.add(
        "mutations tried",
        done,
        "trials",
        target=None if given.quick or given.trials else TRIALS,
        detail={"seed": given.seed, "seconds": round(seconds, 1), "by_target": dict(outcome.trials)},
    )
    report.add(
        "anything but an error of labeltui's own (tracebacks, crashes, hangs, messages that cannot be shown)",
        len(outcome.faults),
        "faults",
        better="lower",
        target=0,
        detail={"refused": sum(outcome.refused.values()), "first": outcome.faults[:5]},
    )
    report.add("slowest trial", round(outcome.slowest, 2), "s", better="lower", target=5)
    report.add(
        "memory beside what a process begins with", outcome.memory >> 20, "MiB", better="lower", target=1024
    )
    report.finish()


if __name__ == "__main__":
    main()
