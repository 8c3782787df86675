"""What `detection.py` prints and writes: tables, targets, the page and the plot in docs/."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from _common import Report, markdown, reached
from _measures import COLUMNS
from _ours import ORACLE
from _worlds import NOISE, TARGETED

# world -> seed -> cell
Measured = Mapping[str, Mapping[int, Mapping[str, Any]]]

NO_PEERS = ("labeltui", "oracle")
BLEND = "labeltui blend"
HUMAN = {"aggre": (0.56, 0.55), "random1": (0.76, 0.69)}  # least AP and F1@k
AP_COLUMNS = {
    BLEND: "blend",
    "labeltui corrected": "corrected head",
    "labeltui head (tuned MLP)": "MLP head",
    "cleanlab normalized_margin, head": "cleanlab margin",
    "cleanlab self_confidence, logistic regression": "cleanlab, logistic",
    "Datalab from features": "Datalab",
    "kNN margin": "kNN",
    "AUM": "AUM",
    "wrong events": "wrong events",
    "labeltui dynamics": "dynamics",
    "published CleanNet (300 verified)": "published CleanNet",
    "centroid": "centroid",
    ORACLE: "oracle",
}


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
        name = f"{world}: below the oracle threshold, {title}"
        report.add(name, gap, "points", better="lower", target=0.5)


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


# ------------------------------------------------------------------------------ docs


def write_page(measured: Measured, report: Report, docs: Path) -> None:
    """Write docs/detection.md."""
    lines = [
        "# Detection, measured",
        "",
        "Written by `python benchmarks/detection.py --docs`; [detectors.md](detectors.md) says what the rows are.",
        "",
        "![average precision and calibration](screenshots/detection.svg)",
        "",
        "## Average precision",
        "",
        "Means over seeds; the best of a line is bold. In brackets stands the number of seeds of a row that was "
        "measured on fewer than the line; empty is not measured. A number in the name of the data is that of a seeded "
        "sample of it. The oracle is the head taught the right labels, out of fold: what these features allow, and no "
        "peer.",
        "",
    ]
    titles = {
        row: title for row, title in AP_COLUMNS.items() if any(row in rows_of(s) for s in measured.values())
    }
    table = []
    for world, seeds in measured.items():
        rows = rows_of(seeds)
        values = {row: rows.get(row, {}).get("AP") for row in titles}
        top = max((v for row, v in values.items() if v is not None and row != ORACLE), default=None)
        cells = [
            "" if v is None else _marked(v, v == top, _count(seeds, row), len(seeds))
            for row, v in values.items()
        ]
        share = _mean(cell["wrong"] for cell in seeds.values())
        table.append([world, f"{share:.1%}", str(len(seeds)), *cells])
    lines += markdown(("labels", "wrong", "seeds", *titles.values()), table)
    people = {w: s for w, s in measured.items() if not any(w.endswith(f"{k} {r:.0%}") for k, r in NOISE)}
    for world, seeds in people.items():
        rows = rows_of(seeds)
        lines += ["", f"## {heading(world, seeds)}", ""]
        lines += markdown(
            ("", *COLUMNS.values()),
            (
                [row, *(shown(rows[row].get(column), column, 0).strip() for column in COLUMNS)]
                for row in best_first(rows)
            ),
        )
        lines += _corrections(seeds)
    aims = [each for each in report.results if each["target"] is not None and each["value"] is not None]
    lines += ["", "## What was to be reached", "", *reached(aims)]
    (docs / "detection.md").write_text("\n".join(lines) + "\n")


def _count(seeds: Mapping[int, Mapping[str, Any]], row: str) -> int:
    return sum(row in cell["rows"] for cell in seeds.values())


def _marked(value: float, best: bool, seeds: int, of: int) -> str:
    text = f"**{value:.3f}**" if best else f"{value:.3f}"
    return text if seeds == of else f"{text} ({seeds})"


def _corrections(seeds: Mapping[int, Mapping[str, Any]]) -> list[str]:
    details = [cell["detail"] for cell in seeds.values() if "without checks" in cell["detail"]]
    if not details:
        return []
    rows = []
    found = [("without checks", details[0]["without checks"])]
    found += [("after 300 random checks", draw) for draw in details[0].get("after checks", ())[:1]]
    for title, each in found:
        rows.append([title, "none: before", "0", "", "", f"{each['before']:.2%}"])
        for p in each["points"]:
            counts = f"{p['changes']:,}", f"{p['expected wrong']:,.0f}", f"{p['wrong']:,}"
            rows.append([title, f"{p['target']}", *counts, f"{p['accuracy']:.2%}"])
        rows.append([title, "every flag", "", "", "", f"{each['every flag']:.2%}"])
        rows.append([title, "oracle threshold", "", "", "", f"{each['oracle']:.2%}"])
    columns = "", "target precision", "changes", "expected wrong", "wrong", "labels right"
    return ["", "Automatic correction:", "", *markdown(columns, rows)]


def draw(measured: Measured, docs: Path) -> None:
    """Draw docs/screenshots/detection.svg: average precision by world, and how far the blend is to be believed."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "labeltui"
    worlds = list(measured)
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(12, 1.5 + 0.26 * len(worlds)), width_ratios=(3, 2), layout="constrained"
    )
    marks = "oDs^v<>XP*dphH"
    for (row, title), mark in zip(AP_COLUMNS.items(), marks, strict=True):
        points = [
            (found[row]["AP"], y) for y, w in enumerate(worlds) if row in (found := rows_of(measured[w]))
        ]
        if points:
            size = 60 if row == BLEND else 22
            left.scatter(
                *zip(*points, strict=True), s=size, marker=mark, label=title, zorder=3 if row == BLEND else 2
            )
    left.set_yticks(range(len(worlds)), worlds, fontsize=8)
    left.invert_yaxis()
    left.set_xlabel("average precision")
    left.grid(alpha=0.3)
    left.legend(fontsize=7)
    right.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    for world, seeds in measured.items():
        detail = next(iter(seeds.values()))["detail"]
        if not detail.get("reliability after checks") or any(
            world.endswith(f"{k} {r:.0%}") for k, r in NOISE
        ):
            continue
        for key in ("reliability without checks", "reliability after checks"):
            right.plot(*zip(*detail[key], strict=True), marker=".", label=f"{world}, {key.split(' ', 1)[1]}")
    right.set_xlabel("stated P(label right), 15 bins of equal mass")
    right.set_ylabel("share that is right")
    right.grid(alpha=0.3)
    if right.get_legend_handles_labels()[0]:
        right.legend(fontsize=7)
    figure.savefig(docs / "screenshots" / "detection.svg", metadata={"Date": None})
    plt.close(figure)
