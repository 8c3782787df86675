"""What `detection.py` prints: tables and targets."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from _common import Report
from _measures import COLUMNS
from _ours import ORACLE
from _worlds import NOISE, TARGETED

# world -> seed -> cell
Measured = Mapping[str, Mapping[int, Mapping[str, Any]]]

NO_PEERS = ("labeltui", "oracle")
BLEND = "labeltui blend"
HUMAN = {"aggre": (0.56, 0.55), "random1": (0.76, 0.69)}  # least AP and F1@k

REPAIRED = {"aggre": 25.0, "random1": 45.0}
"""Percent of people's wrong labels that automatic correction is to repair, on strong features."""


def rows_of(seeds: Mapping[int, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """The figures of a world, by row and column; means over the seeds."""
    found: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(name for cell in seeds.values() for name in cell["rows"]):
        cells = [cell["rows"][name] for cell in seeds.values() if name in cell["rows"]]
        found[name] = {
            column: statistics.fmean(cell[column] for cell in cells)
            for column in COLUMNS
            if all(column in cell for cell in cells)
        }
    return found


def best_first(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Names of the rows: rankings by AP, then those that only flag, by F1."""
    return sorted(rows, key=lambda name: (-rows[name].get("AP", -1.0), -rows[name].get("F1", -1.0)))


def heading(name: str, seeds: Mapping[int, Mapping[str, Any]]) -> str:
    first = next(iter(seeds.values()))
    share = statistics.fmean(cell["wrong"] for cell in seeds.values())
    which = ", ".join(map(str, seeds))
    return f"{name}: {first['samples']:,} samples, {share:.2%} of the labels wrong, seed {which}"


def print_tables(measured: Measured) -> None:
    """One table a world."""
    for name, seeds in measured.items():
        rows = rows_of(seeds)
        width = max(len(row) for row in rows)
        print(
            f"{heading(name, seeds)}\n{'':<{width}}  " + " ".join(f"{title:>7}" for title in COLUMNS.values())
        )
        for row in best_first(rows):
            print(f"{row:<{width}}  " + " ".join(shown(rows[row].get(column), column) for column in COLUMNS))
        print()


def shown(value: float | None, column: str, width: int = 7) -> str:
    if value is None:
        return " " * width
    return f"{value:{width}.1f}" if column == "seconds" else f"{value:{width}.4f}"


# ------------------------------------------------------------------------------ targets


def is_peer(row: str) -> bool:
    return not row.startswith(NO_PEERS)


def add_targets(report: Report, measured: Measured, name: str) -> None:
    """Compute what was to be reached, where it was measured."""
    for world, seeds in measured.items():
        rows = rows_of(seeds)
        spread = {seed: cell["rows"] for seed, cell in seeds.items()}
        if BLEND not in rows:
            continue
        peers = {row: figures["AP"] for row, figures in rows.items() if is_peer(row) and "AP" in figures}
        rival = max(peers, key=lambda row: peers[row]) if peers else ""
        human = HUMAN.get(world.removeprefix(f"{name} ")) if world.startswith(f"{name} ") else None
        if human:
            report.add(f"{world}: AP", rows[BLEND]["AP"], "", target=human[0], detail=spread)
            report.add(f"{world}: F1 at the number of errors", rows[BLEND]["F1@k"], "", target=human[1])
        if rival:
            targeted = any(world.endswith(f"{kind} {rate:.0%}") for kind, rate in NOISE[:TARGETED])
            report.add(
                f"{world}: AP less that of the best peer",
                rows[BLEND]["AP"] - peers[rival],
                "",
                target=0.0 if human or targeted else None,
                peer=f"{rival} {peers[rival]:.3f}",
                detail={} if human else spread,
            )
        if ORACLE in rows:
            for column, what, unit in (("AP", "AP", ""), ("accuracy", "labels right by its predictions", "")):
                title = f"{world}: limit of the features, {what} of a head taught the right labels"
                report.add(title, rows[ORACLE][column], unit, detail={"blend": rows[BLEND].get(column)})
        _add_calibration(report, world, seeds, human is not None)


def _add_calibration(report: Report, world: str, seeds: Mapping[int, Mapping[str, Any]], human: bool) -> None:
    details = [cell["detail"] for cell in seeds.values() if cell["detail"].get("after checks")]
    if not details:
        return
    checks = [draw for detail in details for draw in detail["after checks"]]
    plain = [detail["without checks"] for detail in details]
    aimed = human and world.endswith("random1")
    for key, what, better, target in (
        ("ECE", "ECE", "lower", 0.03),
        ("skill", "Brier skill", "higher", 0.25),
        ("lowest", "error among the 10 % lowest", "lower", 0.07),
    ):
        for title, found in (("after 300 random checks", checks), ("without checks", plain)):
            report.add(
                f"{world}: {what} {title}",
                _mean(each[key] for each in found),
                "",
                better=better,
                target=target if aimed and found is checks else None,
                detail={"draws": [round(each[key], 4) for each in found]},
            )
    if not human:
        return
    for title, found in (("after 300 random checks", checks), ("without checks", plain)):
        after, oracle = _mean(each["every flag"] for each in found), _mean(each["oracle"] for each in found)
        before = _mean(each["before"] for each in found)
        name, gap = f"{world}: label accuracy after automatic correction, {title}", 100 * (oracle - after)
        target = 86.0 if aimed else float(f"{100 * before:.4g}")
        detail = {"before": before, "oracle": oracle, "points": found[0]["points"]}
        report.add(name, 100 * after, "%", target=target, detail=detail)
        repaired = f"{world}: wrong labels repaired automatically, less right ones spoilt, {title}"
        report.add(repaired, 100 * (after - before) / (1 - before), "%", target=REPAIRED.get(world.split()[-1]),
                   detail={"at the oracle's threshold": 100 * (oracle - before) / (1 - before)})  # fmt: skip
        name = f"{world}: below the oracle threshold, {title}"
        report.add(name, gap, "points", better="lower", target=0.5)


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)
