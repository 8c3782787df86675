"""What an audit has to say, as lines for a terminal or a log file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labeltui.demo import Demo
from labeltui.scan import ScanSummary

FAULTS_SHOWN = 10
BAR = 20


def status_lines(status: Mapping[str, Any], classes: int = 20) -> list[str]:
    """Show the status of an audit.

    Parameters
    ----------
    status : mapping
        As `labeltui.audit.Audit.status` returns it.
    classes : int
        How many classes to list, those with the largest overlap first.
    """
    csg = status["csg"]
    not_ok = {name: number for name, number in status["not_ok"].items() if number}
    decisions = {name: number for name, number in status["decisions"].items() if number}
    rows = status["classes"]
    lines = [
        f"{status['audit']}  format {status['format']}, generation {status['generation']}",
        f"{status['samples']:,} samples{_listed(not_ok)}, {len(rows):,} classes, "
        f"CSG {_number(csg['value'])} (k={csg['k']}, {csg['embedding']})",
        f"{status['flags']:,} flags; decisions{_listed(decisions) or ': none yet'}",
    ]
    for job in status["jobs"]:
        if job["state"] in ("starting", "running"):
            lines.append(f"run {job['id']} {job['state']} {job['progress']:.0%}")
    lines += ["", *_class_table(rows[:classes])]
    if len(rows) > classes:
        lines.append(f"... and {len(rows) - classes:,} classes with less overlap")
    return [*lines, "", f"next: {status['next']}"]


def _class_table(rows: list[Mapping[str, Any]]) -> list[str]:
    width = max([5, *(len(row["name"]) for row in rows)])
    width = min(width, 40)
    most = max([1e-12, *(row["overlap"] for row in rows)])
    lines = [f"{'class':<{width}}  overlap {'':<{BAR}} {'samples':>8} {'flags':>7} {'reviewed':>8}"]
    for row in rows:
        name = row["name"] if len(row["name"]) <= width else row["name"][: width - 1] + "…"
        bar = "#" * round(BAR * row["overlap"] / most)
        lines.append(
            f"{name:<{width}}  {row['overlap']:7.2f} {bar:<{BAR}} "
            f"{row['samples']:>8,} {row['flags']:>7,} {row['reviewed']:>8,}"
        )
    return lines


def scan_lines(summary: ScanSummary) -> list[str]:
    """Show what a finished scan assumed, and what it could not use."""
    lines = [f"note: {note}" for note in summary.notes]
    bad = sum(summary.not_ok.values())
    if bad:
        lines.append(f"{bad:,} samples cannot be used; they stay in the audit, marked:")
        lines += [f"  {fault.id}: {fault.status}, {fault.reason}" for fault in summary.faults[:FAULTS_SHOWN]]
        if bad > FAULTS_SHOWN:
            lines.append(f"  ... and {bad - FAULTS_SHOWN:,} more, listed in scan.json")
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in summary.stages.items())
    lines.append(f"scanned in {summary.seconds:.1f} s ({stages})")
    return lines


def demo_lines(demo: Demo, status: Mapping[str, Any]) -> list[str]:
    """Show the demo's audit and how its flags compare with the planted errors."""
    planted = demo.planted
    return [
        f"{planted.errors} labels are wrong on purpose; the flags find {planted.recall:.0%} of them "
        f"(recall), and {planted.precision:.0%} of the flags are planted errors (precision)",
        f"images {demo.images}, truth {demo.truth}; {demo.seconds:.1f} s",
        "",
        *status_lines(status),
    ]


def _listed(numbers: Mapping[str, int]) -> str:
    parts = ", ".join(f"{number:,} {name}" for name, number in numbers.items())
    return f" ({parts})" if parts else ""


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"
