"""How long a command takes before it does anything: importing the package, --help, completion, status of a large audit.

The median of several starts in fresh processes, with what the bare interpreter takes beside it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from _common import CACHE, Report, parser
from tui import make_audit

SIZES = {False: (1_281_167, 1000), True: (50_000, 10)}  # samples, classes; by --quick


def measured(arguments: list[str], starts: int, **variables: str) -> tuple[float, float]:
    """Median wall-clock and least processor time of a process in milliseconds; the first start is not counted."""
    seconds, processor = [], []
    for _ in range(starts + 1):
        begun, used = time.perf_counter(), sum(os.times()[2:4])
        subprocess.run(
            [sys.executable, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, **variables},
        )
        seconds.append(time.perf_counter() - begun)
        processor.append(sum(os.times()[2:4]) - used)
    return 1000 * statistics.median(seconds[1:]), 1000 * min(processor[1:])


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--starts", type=int, default=11)
    asked = options.parse_args()
    report = Report("startup", asked)
    n, classes = SIZES[asked.quick]
    audit = str(make_audit(CACHE, n, classes))
    completing = {"_LABELTUI_COMPLETE": "bash_complete", "COMP_WORDS": "labeltui st", "COMP_CWORD": "1"}
    program = ["-c", "import sys; sys.argv[0] = 'labeltui'; from labeltui.cli import main; main()"]
    for what, arguments, target, variables in (
        ("python -c pass", ["-c", "pass"], None, {}),
        ("import labeltui", ["-c", "import labeltui"], 50, {}),
        ("labeltui --help", ["-m", "labeltui", "--help"], 200, {}),
        ("completing a command", program, 200, completing),
        (f"labeltui status, {n:,} samples", ["-m", "labeltui", "status", audit], 500, {}),
        (f"labeltui status --json, {n:,} samples", ["-m", "labeltui", "status", audit, "--json"], 500, {}),
    ):
        wall, processor = measured(arguments, asked.starts, **variables)
        report.add(what, wall, "ms", better="lower", target=target)
        report.add(f"{what}: processor", processor, "ms", better="lower")
    report.finish()


if __name__ == "__main__":
    main()
