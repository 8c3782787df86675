"""``labeltui status`` and ``explain``: the state of an audit, and of one sample, as text or JSON."""

from __future__ import annotations

from pathlib import Path

import click

from labeltui.cli._common import PATH, audit_status, print_json
from labeltui.text import safe


@click.command()
@click.argument("audit", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def status(audit: Path, as_json: bool) -> None:
    """Show the state of AUDIT: classes by overlap, flags, decisions, runs."""
    from labeltui import report

    value = audit_status(audit)
    if as_json:
        print_json(value)
    else:
        click.echo("\n".join(report.status_lines(value)))


@click.command()
@click.argument("audit", type=PATH)
@click.argument("sample")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
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
@click.argument("audit", type=PATH)
@click.option("-o", "--out", type=PATH, required=True, help="The page, for example report.html.")
@click.option("--source", type=PATH, help="Where the data lies now, if it was moved since the scan.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def report_(audit: Path, out: Path, source: Path | None, force: bool, as_json: bool) -> None:
    """Write AUDIT's report as one HTML page that needs nothing else: to read, to send, to print."""
    from labeltui import page
    from labeltui.audit import Audit

    with Audit.open(audit, read_only=True, source_root=source) as opened:
        size = page.write(opened, out, force)
    if as_json:
        print_json({"out": safe(str(out)), "bytes": size})
    else:
        click.echo(f"{safe(str(out))}: {size / 1e6:.1f} MB")
