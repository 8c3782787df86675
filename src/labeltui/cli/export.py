"""``labeltui export``: the corrected labels as a file."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from labeltui.cli._common import AUDIT, FORMAT, PATH, json_option, print_json
from labeltui.errors import UsageError
from labeltui.text import safe


@click.command()
@click.argument("audit", type=AUDIT)
@click.option(
    "-o", "--out", type=PATH, required=True, help="The file, or the new directory; - is standard output."
)
@click.option("--only", type=click.Choice(["changed"]), help="changed: only corrected or excluded samples.")
@click.option(
    "--apply-suggestions",
    type=float,
    is_flag=False,
    flag_value=0.0,
    metavar="[MIN_P]",
    help="Correct undecided flags: all, or those whose suggestion has at least this probability.",
)
@click.option(
    "--target-precision",
    type=float,
    metavar="SHARE",
    help="Correct as many undecided flags as keep this fraction of the corrections right, by estimate.",
)
@click.option(
    "--paths",
    type=click.Choice(["escaped", "raw"]),
    default="escaped",
    show_default=True,
    help="Undecodable bytes in names as \\xHH, or as they are (CSV only).",
)
@click.option(
    "--format",
    "format_",
    type=FORMAT,
    default="csv",
    show_default=True,
    help="One of those above; docs/interchange.md.",
)
@click.option("--copy-images", is_flag=True, help="Copy image files where a format would link to them.")
@click.option("--verify", is_flag=True, help="Read every image; mark those that changed since the scan.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@json_option
def export(
    audit: Path,
    out: Path,
    only: str | None,
    apply_suggestions: float | None,
    target_precision: float | None,
    paths: str,
    format_: str,
    copy_images: bool,
    verify: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write AUDIT's corrected labels: as a table, or as another program's data set.

    \b
    csv, excel-csv, annotators, parquet              tables
    label-studio                                     tasks with predictions
    huggingface, fiftyone, webdataset, imagefolder   data sets with their images
    cleanlab                                         Datalab's issues and its graph
    """
    from labeltui import export as exporting
    from labeltui import report
    from labeltui.audit import Audit

    if as_json and str(out) == "-":
        raise UsageError(
            "standard output holds one thing", "--json and -o - both go there", "name a file with -o"
        )
    with Audit.open(audit, read_only=True) as opened:
        wanted: dict[str, Any] = {
            "format": format_,
            "only_changed": only == "changed",
            "apply_suggestions": apply_suggestions,
            "target_precision": target_precision,
            "raw_paths": paths == "raw",
            "copy_images": copy_images,
            "verify": verify,
        }
        if str(out) == "-":
            done = exporting.write(opened, sys.stdout.buffer, **wanted)
            sys.stdout.buffer.flush()
        else:
            done = exporting.export(opened, out, force=force, **wanted)
        changed = opened.images.changed_files()
        wrong = None if opened.smoke_test else opened.number_wrong()
    words = f"{done.rows:,} rows, {done.corrected:,} corrected, {done.excluded:,} excluded"
    if as_json:
        print_json({"out": safe(str(out)), "format": format_, **asdict(done), "changed_files": changed})
        return
    if verify or done.lost:
        words += f", {done.lost:,} images are no longer the scan's"
    if done.auto_from is not None:
        words += f"; {done.auto:,} corrected automatically, {done.auto_wrong:,.0f} of them expected wrong"
        if target_precision is not None and done.auto:
            words += f" (probability {done.auto_from:.3f} and above)"
    lines = [words, *report.changed_lines(changed)]
    if wrong is not None and wrong.samples:
        line = report.number_wrong_line(wrong.expected, wrong.low, wrong.high, wrong.checks)
        lines.append(f"of the labels as they were given {line}")
    click.echo("\n".join(lines), err=True)
