"""A finished study as lines for a terminal, as JSON, and as a plot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from labeltui.errors import JobError, UsageError
from labeltui.io import files
from labeltui.io.atomic import replacing
from labeltui.studies.plan import CONDITIONS, INFINITE
from labeltui.studies.summary import Figure, Fraction, figures, fraction_of_gap, mean_of, needed_samples
from labeltui.text import safe, safe_json

BAR = 30
REACHED = 0.9
"""Clean samples are counted that reach this fraction of the accuracy without noise."""
KEYS = {
    "dilution": ("network", "fraction", "alpha"),
    "structure": ("network", "alpha", "kind", "delta"),
    "batch": ("network", "alpha", "learning_rate", "batch"),
    "correction": ("noise", "network", "condition"),
}
"""Parameters of a line, by study; the last one varies fastest."""
MEASURES = ("accuracy", "precision", "recall", "macro_f1")
SVG_SALT = "labeltui"  # so that the same study gives the same bytes

Study = Mapping[str, Any]


def read(directory: Path) -> dict[str, Any]:
    """Read the study of a run.

    Parameters
    ----------
    directory : Path
        ``runs/<id>``.

    Raises
    ------
    JobError
        The run is no finished study.
    """
    try:
        found: dict[str, Any] = safe_json(files.read_json(directory / "study.json"))
        KEYS[found["study"]["study"]], found["cells"][0]["cell"]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise JobError(
            "a report needs a finished study", f"{directory.name}: {type(error).__name__}: {safe(str(error))}"
        ) from None
    return found


def summary(study: Study) -> dict[str, Any]:
    """Return the figures of a study, as JSON."""
    name = study["study"]["study"]
    found = figures(study["cells"], KEYS[name])
    made: dict[str, Any] = {"study": study["study"], "figures": [_figure_json(each) for each in found]}
    if name == "dilution":
        made["needed"] = {network: needed for network, needed in _needed(found).items() if needed["samples"]}
    if name == "correction":
        made["fractions"] = [
            {"noise": noise, "network": network, "condition": condition, **asdict(value)}
            for noise, network, condition, value in _fractions(study)
        ]
        made["labels"] = [_labels_json(study, noise) for noise in study["study"]["noises"]]
    return made


def lines(study: Study) -> list[str]:
    """Return a study for a terminal: a line a figure, with a bar."""
    name, keys = study["study"]["study"], KEYS[study["study"]["study"]]
    found = figures(study["cells"], keys)
    made = [
        f"{name}: {study['train']:,} samples to train on, {study['test']:,} to measure on, "
        f"{len(study['study']['seeds'])} seeds; labels taken for right: {study['labels']}",
        "accuracy with Student's 95 % interval over seeds",
        "",
    ]
    heads = [key.replace("_", " ") for key in keys]
    rows = [[_cell(key, each.key[key]) for key in keys] for each in found]
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(keys))]
    made.append("  ".join(h.ljust(w) for h, w in zip(heads, widths, strict=True)) + "  accuracy  interval")
    for row, each in zip(rows, found, strict=True):
        text = "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True))
        made.append(
            f"{text}  {each.mean:8.4f}  {each.low:.3f}..{each.high:.3f}  {'#' * round(BAR * each.mean)}"
            + _beside(each)
        )
    if name == "dilution":
        for network, needed in _needed(found).items():
            if needed["samples"]:
                listed = ", ".join(f"alpha {a}: {n:,.0f}" for a, n in needed["samples"])
                r2 = "" if needed["r2"] is None else f"; straight line R^2 {needed['r2']:.3f}"
                made.append(f"clean samples for accuracy {needed['target']:.3f}, {network}: {listed}{r2}")
    if name == "correction":
        made += ["", *_correction_lines(study)]
    skipped = {each["result"]["skipped"] for each in study["cells"] if "skipped" in each["result"]}
    return [*made, *(f"skipped: {why}" for why in sorted(skipped))]


def plot(study: Study, out: Path) -> None:
    """Draw a study with matplotlib.

    Parameters
    ----------
    study : mapping
        From `read`.
    out : Path
        Its suffix decides: .svg, .png, .pdf.

    Raises
    ------
    UsageError
        matplotlib is not installed, or the file cannot be written in this form.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure as Canvas
    except ImportError:
        raise UsageError(
            "plots are drawn by matplotlib", "it is not installed", "pip install 'labeltui[plots]'"
        ) from None
    name, keys = study["study"]["study"], KEYS[study["study"]["study"]]
    curves: dict[tuple[Any, ...], list[Figure]] = {}
    for each in figures(study["cells"], keys):
        curves.setdefault(tuple(each.key[key] for key in keys[:-1]), []).append(each)
    # Without a display, with text as text, and with the same bytes for the same study.
    with mpl.rc_context({"svg.hashsalt": SVG_SALT, "svg.fonttype": "none"}):
        canvas = Canvas(figsize=(7, 4.5), layout="constrained")
        axes = canvas.add_subplot()
        for values, curve in curves.items():
            shown = [_cell(keys[-1], each.key[keys[-1]]) for each in curve]
            x: list[Any] = (
                shown if name in ("correction", "batch") else [each.key[keys[-1]] for each in curve]
            )
            y = [each.mean for each in curve]
            spread = [[e.mean - e.low for e in curve], [e.high - e.mean for e in curve]]
            label = ", ".join(_cell(key, value) for key, value in zip(keys[:-1], values, strict=True))
            axes.errorbar(x, y, yerr=spread, marker="o", markersize=4, capsize=3, label=label)
        if name == "dilution":
            axes.set_xscale("symlog", linthresh=1)
        axes.set_xlabel(keys[-1].replace("_", " "))
        axes.set_ylabel("accuracy")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
        try:
            with replacing(out) as temporary:
                clean = {"Date": None} if out.suffix == ".svg" else None
                canvas.savefig(temporary, format=out.suffix.removeprefix(".") or "svg", metadata=clean)
        except (OSError, ValueError) as error:
            raise UsageError(
                "a plot must be writable, as .svg, .png or .pdf", f"{safe(str(out))}: {safe(str(error))}"
            ) from None


def _cell(key: str, value: Any) -> str:
    if key == "batch" and value == INFINITE:
        return "infinite"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _beside(each: Figure) -> str:
    gap, weights = each.more.get("plurality_gap"), each.more.get("weights")
    return (f"  plurality gap {gap:+.3f}" if gap is not None else "") + (
        f"  {safe(weights)}" if weights is not None else ""
    )


def _figure_json(each: Figure) -> dict[str, Any]:
    more = {
        key: value for key, value in each.more.items() if key in ("plurality_gap", "clean_samples", "weights")
    }
    return {**each.key, "mean": each.mean, "low": each.low, "high": each.high, "seeds": each.n, **more}


def _needed(found: list[Figure]) -> dict[str, dict[str, Any]]:
    made = {}
    for network in dict.fromkeys(each.key["network"] for each in found):
        own = [each for each in found if each.key["network"] == network]
        clean = [each.mean for each in own if each.key["alpha"] == 0]
        target = REACHED * max(clean, default=0.0)
        needed, r2 = needed_samples(own, target) if clean else ([], None)
        made[network] = {"target": target, "samples": needed, "r2": r2}
    return made


def _accuracies(study: Study, noise: str, network: str) -> dict[str, list[float]]:
    by: dict[str, dict[int, float]] = {}
    for each in study["cells"]:
        cell = each["cell"]
        if cell["noise"] == noise and cell.get("network") == network:
            by.setdefault(cell["condition"], {})[cell["seed"]] = each["result"]["accuracy"]
    seeds = study["study"]["seeds"]
    return {condition: [values[seed] for seed in seeds] for condition, values in by.items()}


def _fractions(study: Study) -> list[tuple[str, str, str, Fraction]]:
    made = []
    for noise in study["study"]["noises"]:
        for network in study["study"]["networks"]:
            values = _accuracies(study, noise, network)
            for condition in ("blind", "reviewed"):
                found = fraction_of_gap(values["noisy"], values[condition], values["oracle"])
                made.append((noise, network, condition, found))
    return made


def _labels_json(study: Study, noise: str) -> dict[str, Any]:
    own = [
        each["result"]
        for each in study["cells"]
        if each["cell"]["noise"] == noise and "condition" not in each["cell"]
    ]
    made: dict[str, Any] = {"noise": noise, "reviews": own[0]["reviews"]}
    made["wrong"] = {name: mean_of([each["wrong"][name] for each in own]) for name in own[0]["wrong"]}
    for which in ("csg", "csg_second"):
        if which in own[0]:
            made[which] = {name: mean_of([each[which][name][0] for each in own]) for name in own[0][which]}
    return made


def _correction_lines(study: Study) -> list[str]:
    made = []
    for name in MEASURES[1:]:
        found = {
            tuple(each.key.values()): each.mean for each in figures(study["cells"], KEYS["correction"], name)
        }
        for noise in study["study"]["noises"]:
            for network in study["study"]["networks"]:
                values = ", ".join(f"{c} {found[noise, network, c]:.4f}" for c in CONDITIONS)
                made.append(f"{name.replace('_', ' ')}, {noise}, {network}: {values}")
    made.append("")
    for noise, network, condition, value in _fractions(study):
        if value.value is None:
            said = f"no fraction: the oracle's gap is {100 * value.gap:.1f} points"
        else:
            interval = "" if value.low is None else f" ({value.low:.0%} to {value.high:.0%}, 95 %)"
            said = f"{value.value:.0%}{interval} of the oracle's gap of {100 * value.gap:.1f} points"
        made.append(f"{noise}, {network}: {condition} closes {said}")
    for noise in study["study"]["noises"]:
        labels = _labels_json(study, noise)
        wrong = ", ".join(f"{name} {value[0]:.1%}" for name, value in labels["wrong"].items())
        made += ["", f"{noise}: wrong labels: {wrong} ({labels['reviews']:,} reviews)"]
        for which, title in (("csg", "correcting embedding"), ("csg_second", "second embedding")):
            if which in labels:
                values = ", ".join(
                    f"{name} {mean:.3f} ({low:.3f}..{high:.3f})"
                    for name, (mean, low, high) in labels[which].items()
                )
                made.append(f"{noise}: CSG in the {title}: {values}")
    made.append(
        "CSG in the correcting embedding proves nothing: it falls when labels agree with that embedding"
    )
    return made
