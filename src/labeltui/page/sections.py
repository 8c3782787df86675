"""What the page tells of an audit, section by section; a section without anything to tell is left out."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import labeltui
from labeltui import graph
from labeltui.audit import Audit, QueueSpec
from labeltui.audit.agreement import agreements
from labeltui.audit.overview import status as describe
from labeltui.audit.sample_map import sample_map
from labeltui.errors import SourceError, UsageError
from labeltui.io.atomic import replacing
from labeltui.page import figures
from labeltui.page.html import esc, figure, page, paragraph, table
from labeltui.text import probability, safe
from labeltui.train.compare import before_and_after
from labeltui.train.jobs import Job, list_jobs

CLASSES = 40
PAIRS = 12
EIGENVALUES = 60
IMAGES = 24
SIDE = 128  # of an image in pixels


def write(audit: Audit, out: Path, force: bool = False, layout: str = "pca") -> int:
    """Write the page of an audit.

    Parameters
    ----------
    audit : Audit
    out : Path
        The file.
    force : bool
        Replace an existing file.
    layout : str
        How the map places samples: ``pca``, or ``umap`` (McInnes et al., 2018), which needs umap-learn.

    Returns
    -------
    int
        Its size in bytes.

    Raises
    ------
    UsageError
        The file exists or belongs to the audit or its source.
    """
    if out.exists() and (not force or not out.is_file() or audit.owns(out)):
        raise UsageError(
            "the output must not exist", f"{safe(str(out))} does", "choose another name, or use --force"
        )
    data = document(audit, layout).encode("utf-8", "backslashreplace")
    with replacing(out) as hidden:
        hidden.write_bytes(data)
    return len(data)


def document(audit: Audit, layout: str = "pca") -> str:
    """Return the page of an audit as HTML.

    Parameters
    ----------
    audit : Audit
    layout : str
        See `write`.
    """
    jobs = list_jobs(audit.path)
    status = describe(audit, [job.as_json() for job in jobs])
    made = [
        ("Classes", _classes(status)),
        ("Pairs of classes that overlap", _pairs(audit)),
        ("Spectrum", _spectrum(audit)),
        ("Map of the samples", _map(audit, layout)),
        ("Labels most likely wrong", _suspicious(audit)),
        ("Corrected labels", _corrected(audit)),
        ("Reviewers who disagree", _disputed(audit)),
        ("Are the probabilities right?", _reliability(status)),
        ("Decisions", _decisions(audit)),
        ("Training runs", _runs(status) + _before_and_after(audit, jobs)),
    ]
    foot = f"Made by labeltui {esc(labeltui.__version__)} from scan {esc(audit.uuid)}, generation {audit.generation}."
    sections = [(name, content) for name, content in made if content]
    return page(f"Label audit: {audit.path.name}", _summary(audit, status), sections, foot)


def _summary(audit: Audit, status: Mapping[str, Any]) -> str:
    summary, wrong = audit.summary(), status["calibration"]["wrong_labels"]
    first = f"{audit.n:,} samples in {audit.K:,} classes."
    bad = sum(status["not_ok"].values())
    if bad:
        first += f" {bad:,} of them could not be used."
    recall = status["graph"]["recall"]
    if recall is not None:
        first += f" Caution: {graph.recall_sentence(recall, audit.n - bad)}."
    if status["smoke_test"]:
        number = "The scan used no model of images, so it states no number of wrong labels."
    elif wrong["checks"]:
        number = (
            f"About {wrong['expected']:,.0f} given labels are wrong (95 % interval {wrong['low']:,.0f} to "
            f"{wrong['high']:,.0f}), by {wrong['checks']:,} random checks."
        )
    else:
        number = (
            f"At most about {wrong['high']:,.0f} given labels are wrong, as far as the features show; no random "
            "checks were reviewed, so there is no interval."
        )
    flags = f"{summary.flagged:,} labels are flagged: likely enough wrong to be looked at."
    done = f"{summary.reviewed:,} samples were reviewed and {summary.relabelled:,} of them got another label."
    csg = ""
    if status["csg"]["value"] is not None:
        csg = f"The classes' complexity (CSG) is {status['csg']['value']:.2f}"
        if summary.interval is not None:
            csg += f" (95 % interval {summary.interval[0]:.2f} to {summary.interval[1]:.2f})"
        csg += "; 0 is perfectly separate."
    synthetic = "The label noise of this data set is synthetic." if status["synthetic"] else ""
    return paragraph(esc(first), esc(number), esc(flags), esc(done), esc(csg), esc(synthetic))


def _classes(status: Mapping[str, Any]) -> str:
    rows = status["classes"][:CLASSES]
    most = max([1e-12, *(row["overlap"] or 0 for row in rows)])
    lines = []
    for row in rows:
        width = round(100 * (row["overlap"] or 0) / most)
        overlap = "–" if row["overlap"] is None else f"{row['overlap']:.2f}"
        lines.append(
            f'<tr><th scope="row">{esc(row["name"])}</th><td class="n">{row["samples"]:,}</td>'
            f'<td class="n">{row["flags"]:,}</td><td class="n">{row["reviewed"]:,}</td><td class="n">{overlap}</td>'
            f'<td class="bar-cell"><div style="width:{width}%"></div></td></tr>'
        )
    more = len(status["classes"]) - len(rows)
    heads = "".join(
        f'<th scope="col"{mark}>{head}</th>'
        for head, mark in (
            ("Class", ""),
            *((head, ' class="n"') for head in ("Samples", "Flags", "Reviewed", "Overlap")),
            ("", ""),
        )
    )
    end = paragraph(f"{more:,} classes with less overlap are left out.", faint=True) if more else ""
    return (
        '<div class="wide"><table><caption>Overlap: how much a class\'s neighbours are those of other classes, summed '
        f"over these; largest first.</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>{end}"
    )


def _pairs(audit: Audit) -> str:
    pairs = [pair for pair in audit.pairs(limit=PAIRS) if pair.W > 0]
    if not pairs:
        return ""
    counts = Counter(
        zip(audit.given[audit.flags].tolist(), audit.suggested[audit.flags, 0].tolist(), strict=True)
    )
    rows = [
        (
            f"{audit.names[pair.a]} and {audit.names[pair.b]}",
            f"{pair.W:.2f}",
            f"{pair.S_ab:.0%}",
            f"{pair.S_ba:.0%}",
            f"{counts[pair.a, pair.b] + counts[pair.b, pair.a]:,}",
        )
        for pair in pairs
    ]
    heads = (
        "Classes",
        "Overlap",
        "Neighbours of the first in the second",
        "and the reverse",
        "Flags between them",
    )
    return table("1 is complete overlap.", heads, rows, (1, 2, 3, 4))


def _spectrum(audit: Audit) -> str:
    values = audit.spectrum()
    if values is None or len(values) < 2:
        return ""
    shown = values[:EIGENVALUES]
    gaps = np.diff(shown)
    largest = np.argsort(-gaps, kind="stable")[:3]
    words = ", ".join(f"{gaps[at]:.2f} after number {at + 1}" for at in sorted(largest.tolist()))
    drawn = figures.bars(
        f"Eigenvalues of the Laplacian of class overlap, ascending; largest gaps: {words}",
        shown.tolist(),
        [f"eigenvalue {at + 1}" for at in range(len(shown))],
        "",
    )
    return figure(
        drawn,
        f"Eigenvalues of the Laplacian of class overlap by the scan's labels, ascending. Largest gaps: {words}. "
        "A small eigenvalue stands for a group of classes that is separate from the others; the later and the "
        "smaller the gaps, the more the classes overlap.",
    )


def _map(audit: Audit, layout: str) -> str:
    made = sample_map(audit, layout)
    if made is None:
        return ""
    chosen = made.samples
    names = audit.names
    texts = [
        f"{audit.sample_name(i)}: {names[audit.given[i]] if audit.given[i] >= 0 else 'no label'}"
        + (f" → {names[audit.suggested[i, 0]]}" if audit.flagged(i) else "")
        for i in chosen.tolist()
    ]
    label = f"Map of {len(chosen):,} samples by their features, coloured by class; flagged labels have a ring"
    drawn = figures.scatter(label, made.places, audit.given[chosen], audit.flags[chosen], texts)
    if len(figures.COLOURS) >= audit.K:
        drawn += figures.legend(names)
    return figure(
        drawn,
        f"{label}. {made.meaning} Hover over a point to see its name and label.",
    )


def _thumbnail(audit: Audit, i: int) -> str:
    """An image as a data address, empty where there is none."""
    try:
        image = audit.images.image(i)
    except SourceError:
        return ""
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    if max(image.size) <= 48:  # small ones would blur
        image.save(file, "png")
        kind = "png"
    else:
        image.save(file, "jpeg", quality=80)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _images(audit: Audit, samples: Iterable[tuple[int, str]]) -> str:
    """Images with a line of HTML each."""
    items = []
    for i, words in samples:
        source = _thumbnail(audit, i) if audit.images.present else ""
        name = esc(audit.sample_name(i))
        image = f'<img src="{source}" alt="{name}">' if source else ""
        items.append(f'<li>{image}{words}<br><span class="faint">{name}</span></li>')
    return f'<ul class="images">{"".join(items)}</ul>' if items else ""


def _name(audit: Audit, label: int) -> str:
    return esc(audit.names[label]) if label >= 0 else "none"


def _suspicious(audit: Audit) -> str:
    queue = audit.queue(QueueSpec(assigned=False))[:IMAGES].tolist()
    shown = _images(
        audit,
        (
            (
                i,
                f"{_name(audit, int(audit.given[i]))} → {_name(audit, int(audit.suggested[i, 0]))}<br>"
                f"P(label right) {esc(probability(audit.score(i)))}",
            )
            for i in queue
        ),
    )
    return (
        shown
        and paragraph("Flagged labels that nobody decided yet, least probable first: given → suggested.")
        + shown
    )


def _corrected(audit: Audit) -> str:
    changed = np.flatnonzero(audit.current != audit.given)
    order = changed[np.argsort(audit.scores[changed], kind="stable")][:IMAGES].tolist()
    shown = _images(
        audit,
        (
            (
                i,
                f"{_name(audit, int(audit.given[i]))} → <strong>{_name(audit, int(audit.current[i]))}</strong>",
            )
            for i in order
        ),
    )
    if not shown:
        return ""
    return (
        paragraph(
            f"{len(changed):,} labels were corrected by people; {len(order):,} of them: given → corrected."
        )
        + shown
    )


def _disputed(audit: Audit) -> str:
    found = audit.disagreements()

    def words(i: int) -> str:
        now = audit.decision(i)
        said = [(each.reviewer, each.kind, each.label) for each in found[i]]
        if now is not None:
            said.insert(0, (now.reviewer, now.kind, now.label))
        return "<br>".join(
            f"{esc(who)}: {_name(audit, label) if kind in ('keep', 'relabel') else esc(kind)}"
            for who, kind, label in said
        )

    return _images(audit, ((i, words(i)) for i in list(found)[:IMAGES]))


def _reliability(status: Mapping[str, Any]) -> str:
    bins = status["calibration"]["bins"]
    if not bins:
        return ""
    return figure(
        figures.reliability(bins),
        "Stated probability that a label is right, against the fraction that people found right, in groups of equal "
        "size. On the dashed line the two agree. People look at doubtful labels first, so it speaks of such labels.",
    )


def _decisions(audit: Audit) -> str:
    opinions = audit.opinions()
    if not opinions:
        return ""
    kinds = list(dict.fromkeys(each.kind for each in opinions))
    by: dict[str, Counter[str]] = {}
    for each in opinions:
        by.setdefault(each.reviewer, Counter())[each.kind] += 1
    rows = [
        (name, *(f"{counts[kind]:,}" for kind in kinds), f"{counts.total():,}")
        for name, counts in sorted(by.items(), key=lambda item: (-item[1].total(), item[0]))
    ]
    parts = [
        table("Latest decisions by reviewer.", ("Reviewer", *kinds, "all"), rows, range(1, len(kinds) + 2))
    ]
    days = Counter(each.time[:10] for each in opinions)
    if len(days) > 1:
        dates = (
            np.arange(np.datetime64(min(days), "D"), np.datetime64(max(days), "D") + 1).astype(str).tolist()
        )
        if len(dates) <= 1000:
            counts = [days[day] for day in dates]
            told = f"Decisions by day from {dates[0]} to {dates[-1]}"
            parts.append(figure(figures.bars(told, counts, dates, "decisions"), f"{told}."))
    found = agreements(opinions)
    if found:
        rows = [
            (
                ", ".join(each.reviewers),
                each.name,
                *((f"{each.kappa:.2f}", f"{each.low:.2f} to {each.high:.2f}") if each.known else ("–", "–")),
                f"{each.observed:.0%}",
                f"{each.samples:,}",
            )
            for each in found
        ]
        heads = ("Reviewers", "Measure", "Value", "95 % interval", "Same", "Samples")
        parts.append(table("Agreement: 1 is perfect, 0 is agreement by chance.", heads, rows, (2, 3, 4, 5)))
    return "".join(parts)


def _runs(status: Mapping[str, Any]) -> str:
    rows = []
    for job in status["jobs"]:
        metrics = job.get("metrics") or {}

        def shown(name: str, metrics: Mapping[str, Any] = metrics) -> str:
            return f"{metrics[name]:.4f}" if name in metrics else "–"

        rows.append(
            (
                job["number"],
                job["what"],
                job["labels"],
                job["state"],
                *map(shown, ("accuracy", "balanced_accuracy", "macro_f1", "ece")),
            )
        )
    heads = ("Run", "What", "Labels", "State", "Accuracy", "Balanced", "Macro F1", "Calibration error")
    caption = "Measured on samples that the run did not train on."
    return table(caption, heads, rows, (4, 5, 6, 7)) if rows else ""


def _before_and_after(audit: Audit, jobs: list[Job]) -> str:
    done = [job for job in jobs if job.state == "done"]
    rows = [
        (
            after.job.number,
            f"{before.metrics.n:,}",
            f"{before.metrics.accuracy:.4f}",
            f"{after.metrics.accuracy:.4f}",
            f"{gap.mean:+.4f}",
            f"{gap.low:+.4f} to {gap.high:+.4f}",
        )
        for before, after, gap in before_and_after(audit, done)
    ]
    if not rows:
        return ""
    heads = ("Run", "Samples", f"Run {done[0].number}", "This run", "Difference", "95 % interval")
    caption = (
        f"Accuracy of run {done[0].number} and of each later one by today's labels, on samples that neither of the two "
        "was trained on. The intervals are a bootstrap over the samples; how much runs differ by seed is not in them."
    )
    return table(caption, heads, rows, (1, 2, 3, 4, 5))
