"""``labeltui status`` and ``explain``: the state of an audit, and of one sample, as text or JSON."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from labeltui.cli._common import AUDIT, CLASS_NAME, PATH, audit_status, json_option, print_json
from labeltui.errors import UsageError
from labeltui.text import safe


@click.command()
@click.argument("audit", type=AUDIT)
@click.option(
    "--class", "classes", type=CLASS_NAME, multiple=True, help="List only this class; may be repeated."
)
@json_option
def status(audit: Path, classes: tuple[str, ...], as_json: bool) -> None:
    """Show the state of AUDIT: classes by overlap, flags, decisions, runs."""
    from labeltui import report

    value = audit_status(audit)
    rows = _only(value["classes"], classes) if classes else value["classes"]
    if as_json:
        print_json({**value, "classes": rows})
    else:
        click.echo("\n".join(report.status_lines(value, only=rows)))


def _only(rows: list[dict[str, Any]], names: tuple[str, ...]) -> list[dict[str, Any]]:
    known = [row["name"] for row in rows]
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            raise UsageError(
                "a class must be one of the audit's",
                f"there is none called {safe(name)}",
                f"did you mean {close[0]}?" if close else "labeltui status lists them",
            )
    return [row for row in rows if row["name"] in names]


@click.command()
@click.argument("audit", type=AUDIT)
@click.argument("sample")
@json_option
def explain(audit: Path, sample: str, as_json: bool) -> None:
    """Show what every detector proposes for SAMPLE, and P(given label).

    SAMPLE is a path as in exports, a name as the review's queue shows it, or a row of exports, counted from 0.
    """
    from labeltui import report
    from labeltui.audit import Audit

    with Audit.open(audit, read_only=True) as opened:
        explanation = report.explanation(opened, sample)
    if as_json:
        print_json(explanation)
    else:
        click.echo("\n".join(report.explanation_lines(explanation)))


@click.command("report")
@click.argument("audit", type=AUDIT)
@click.option("-o", "--out", type=PATH, required=True, help="The page, for example report.html.")
@click.option("--source", type=PATH, help="Where the data lies now, if it was moved since the scan.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option(
    "--map",
    "layout",
    type=click.Choice(["pca", "umap"]),
    default="pca",
    show_default=True,
    help="How the map places samples; umap needs the extra of that name.",
)
@json_option
def report_(audit: Path, out: Path, source: Path | None, force: bool, layout: str, as_json: bool) -> None:
    """Write AUDIT's report as one HTML page that needs nothing else: to read, to send, to print."""
    from labeltui import page
    from labeltui.audit import Audit

    with Audit.open(audit, read_only=True, source_root=source) as opened:
        size = page.write(opened, out, force, layout)
    if as_json:
        print_json({"out": safe(str(out)), "bytes": size})
    else:
        click.echo(f"{safe(str(out))}: {size / 1e6:.1f} MB")
