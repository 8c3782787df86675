"""What an audit has to say, as lines for a terminal or a log file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labeltui.audit import Audit, QueueSpec
from labeltui.errors import UsageError
from labeltui.text import NO_EVIDENCE, probability, safe, short_name, unescape

if TYPE_CHECKING:
    from labeltui.demo import Demo
    from labeltui.scanning import ScanSummary

FAULTS_SHOWN = 10
NAMES_SHOWN = 4
BAR = 20


def status_lines(
    status: Mapping[str, Any], classes: int = 20, only: Sequence[Mapping[str, Any]] | None = None
) -> list[str]:
    """Show the status of an audit.

    Parameters
    ----------
    status : mapping
        As `labeltui.audit.Audit.status` returns it.
    classes : int
        How many classes to list, those with the largest overlap first.
    only : sequence of mapping, optional
        The entries of ``status["classes"]`` to list; by default all.
    """
    csg = status["csg"]
    not_ok = {name: number for name, number in status["not_ok"].items() if number}
    decisions = {name: number for name, number in status["decisions"].items() if number}
    rows = status["classes"] if only is None else only
    lines = [
        f"{status['audit']}  format {status['format']}, generation {status['generation']}",
        f"{status['samples']:,} samples{_listed(not_ok)}, {len(status['classes']):,} classes, "
        f"CSG {_number(csg['value'])} (k={csg['k']}, {csg['embedding']})",
        f"{status['flags']:,} flags; decisions{_listed(decisions) or ': none yet'}",
        *(
            ["SMOKE TEST: no --model was named, so no number of wrong labels is stated"]
            if status["smoke_test"]
            else _calibration_lines(status["calibration"])
        ),
    ]
    if csg["partial"] is not None:
        low, high = ([f"{value:.3g}" for value in csg["partial"][end]] for end in ("low", "high"))
        lines.append(
            f"CSG is not solved for so many classes; mean overlap tr(L)/K {csg['trace']:.3g}, partial spectrum "
            f"{', '.join(low[:4])} ... {', '.join(high[-3:])}"
        )
    recall = status["graph"]["recall"]
    if recall is not None:
        from labeltui.graph import recall_sentence  # which imports scipy: only where it is needed

        lines.append(recall_sentence(recall, status["samples"] - sum(not_ok.values())))
    if status["synthetic"]:
        lines.append("SYNTHETIC: noise was injected into these labels on purpose (labeltui noise inject)")
    lines += changed_lines(status["changed_files"])
    for job in status["jobs"]:
        if job["state"] in ("starting", "running"):
            lines.append(f"run {job['id']} {job['state']} {job['progress']:.0%}")
    lines += ["", *_class_table(rows[:classes])]
    if len(rows) > classes:
        lines.append(f"... and {len(rows) - classes:,} classes with less overlap")
    return [*lines, "", f"next: {status['next']}"]


def _calibration_lines(calibration: Mapping[str, Any]) -> list[str]:
    wrong = calibration["wrong_labels"]
    lines = [number_wrong_line(wrong["expected"], wrong["low"], wrong["high"], wrong["checks"])]
    if not wrong["checks"]:
        lines.append("for an interval review random checks (m in the review)")
    if calibration["bins"]:
        bins = ", ".join(f"{each['stated']:.2f} ({each['found']:.2f})" for each in calibration["bins"])
        lines.append(
            f"P(label right) where you decided, and in brackets the fraction you found right: {bins}"
        )
    return lines


def number_wrong_line(expected: float, low: float, high: float, checks: int) -> str:
    """Say how many given labels are wrong, as `labeltui.noise.checked.NumberWrong` holds it.

    Parameters
    ----------
    expected, low, high : float
        Samples; `high` alone counts where there are no checks.
    checks : int
        Random checks behind them.
    """
    # Rounded first as in JSON: the same number everywhere.
    expected, low, high = (round(value, 1) for value in (expected, low, high))
    if checks:
        return f"about {expected:,.0f} labels are wrong ({low:,.0f}..{high:,.0f}, 95 %), by {checks:,} random checks"
    return f"at most about {high:,.0f} labels are wrong, as far as features show"


def _class_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    width = max([5, *(len(row["name"]) for row in rows)])
    width = min(width, 40)
    most = max([1e-12, *(row["overlap"] or 0.0 for row in rows)])
    lines = [f"{'class':<{width}}  overlap {'':<{BAR}} {'samples':>8} {'flags':>7} {'reviewed':>8}"]
    for row in rows:
        name = row["name"] if len(row["name"]) <= width else row["name"][: width - 1] + "…"
        bar = "#" * round(BAR * (row["overlap"] or 0.0) / most)
        overlap = "–" if row["overlap"] is None else f"{row['overlap']:.2f}"
        lines.append(
            f"{name:<{width}}  {overlap:>7} {bar:<{BAR}} "
            f"{row['samples']:>8,} {row['flags']:>7,} {row['reviewed']:>8,}"
        )
    return lines


def changed_lines(names: Sequence[str]) -> list[str]:
    """Say that files were edited after the scan."""
    return [
        f"CHANGED since the scan: {name}; this audit speaks of it as it was then: scan again"
        for name in names
    ]


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
    """Format the demo's audit and how its flags compare with the injected errors.

    Parameters
    ----------
    demo : Demo
    status : mapping
        As ``status --json`` shows it.

    Returns
    -------
    list of str
    """
    injected = demo.injected
    return [
        f"{injected.errors} labels are wrong on purpose; the flags find {injected.recall:.0%} of them "
        f"(recall), and {injected.precision:.0%} of the flags are injected errors (precision)",
        f"images {demo.images}, truth {demo.truth}; {demo.seconds:.1f} s",
        "",
        *status_lines(status),
    ]


def explanation(audit: Audit, sample: str) -> dict[str, Any]:
    """Return the evidence of every detector on one sample.

    Parameters
    ----------
    audit : Audit
    sample : str
        Its path or key as exports write it, its name as the queue shows it, or its row in exports, counted from 0.

    Raises
    ------
    UsageError
        No sample is called so, or several are.
    """
    i = find_sample(audit, sample)
    found = audit.evidence(i)
    titles = audit.detectors()
    decision = audit.decision(i)

    def name(label: int | None) -> str | None:
        return audit.names[label] if label is not None and label >= 0 else None

    return {
        "sample": audit.sample_name(i),
        "index": i,
        "given": name(int(audit.given[i])),
        "current": name(int(audit.current[i])),
        "flagged": audit.flagged(i),
        "fault": audit.fault(i) or None,
        "decision": decision.kind if decision else None,
        "suggestions": [{"label": name(label), "p": round(p, 4)} for label, p in audit.suggestions(i)],
        "detectors": [
            {
                "name": vote.detector,
                "title": titles.get(vote.detector, vote.detector),
                "score": None if vote.score is None else round(vote.score, 4),
                "proposes": name(vote.proposes),
            }
            for vote in found.votes
        ],
        "lines": found.lines,
        "duplicates": [audit.sample_name(other) for other in found.group],
    }


def explanation_lines(said: Mapping[str, Any]) -> list[str]:
    """Show an `explanation`."""
    given = said["given"] or "no label"
    head = f"{said['sample']}  given {given}"
    if said["current"] != said["given"]:
        head += f", now {said['current'] or 'none'}"
    if said["fault"]:
        return [f"{head}; {said['fault']}: out of the graph, nothing is known"]
    lines = [
        head + (", flagged" if said["flagged"] else "") + (f", {said['decision']}" * bool(said["decision"])),
        "",
    ]
    rows = [
        (row["title"], row["proposes"] or NO_EVIDENCE, probability(row["score"])) for row in said["detectors"]
    ]
    rows.insert(0, ("detector", "proposes", "P(given)"))
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    lines += [f"{detector:<{first}}  {label:<{second}}  {p:>8}" for detector, label, p in rows]
    best = ", ".join(f"{each['label']} {probability(each['p'])}" for each in said["suggestions"])
    return [*lines, "", f"suggestions: {best or 'none'}", *said["lines"]]


def find_sample(audit: Audit, sample: str) -> int:
    """Return the index of a sample by its path or key, its name in the queue, or its row in exports.

    Parameters
    ----------
    audit : Audit
    sample : str
        Path, name in the queue, or row.

    Returns
    -------
    int

    Raises
    ------
    UsageError
        No sample is called so, or several are.
    """
    with contextlib.suppress(ValueError):
        return audit.index_of(sample)
    path = unescape(sample)
    everything = QueueSpec(text=os.fsdecode(path), flagged=None, decided=None, order="index")
    found = [i for i in audit.queue(everything).tolist() if short_name(audit.sample_name(i)) == safe(path)]
    if len(found) == 1:
        return int(found[0])
    if found:
        some = ", ".join(audit.sample_name(i) for i in found[:NAMES_SHOWN])
        raise UsageError(
            "a name must mean one sample", f"{safe(path)} means {len(found):,}: {some}", "give the whole path"
        )
    if sample.isdecimal() and int(sample) < audit.n:
        return int(sample)
    raise UsageError(
        "a sample is given by its path, its name in the queue, or its row in exports, counted from 0",
        f"{safe(sample)} is none of them; rows end at {audit.n - 1:,}",
        "copy the path from an export or from `labeltui review`",
    )


def _listed(numbers: Mapping[str, int]) -> str:
    parts = ", ".join(f"{number:,} {name}" for name, number in numbers.items())
    return f" ({parts})" if parts else ""


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"
