"""``labeltui demo`` and ``labeltui scan``: make an audit."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from labeltui.cli._common import AUDIT, PATH, audit_status, json_option, print_json, resumable
from labeltui.cli._options import OptionsCommand, given
from labeltui.cli.review import open_review
from labeltui.progress import ProgressLine


@click.command()
@click.option("--out", type=PATH, help="Directory for images, truth and audit; default: the user's cache.")
@click.option("--no-tui", is_flag=True, help="Print the summary; do not open the terminal UI.")
@json_option
def demo(out: Path | None, no_tui: bool, as_json: bool) -> None:
    """See it at work, offline: handwritten digits, 8 % of their labels made wrong."""
    from labeltui import demo as demonstration
    from labeltui import report

    progress = ProgressLine()
    try:
        with resumable("the demo was stopped", "labeltui demo"):
            made = demonstration.demo(out, None if as_json else progress)
    finally:
        progress.finish()
    if as_json:
        print_json({**audit_status(made.audit), "injected": asdict(made.injected), "seconds": made.seconds})
    elif no_tui or not sys.stdout.isatty():
        click.echo("\n".join(report.demo_lines(made, audit_status(made.audit))))
    else:
        open_review(made.audit)


@click.command(
    cls=OptionsCommand,
    options="labeltui.scanning:ScanOptions",
    examples={
        "Source": "scan photos.csv -o my.audit --path-column file --label-column species",
        "Model": "scan photos/ -o my.audit --model resnet50 --image-size 224",
        "Scoring": "scan embeddings.npz -o my.audit --metric euclidean -k 20",
        "Run": "scan photos/ -o my.audit --threads 4 --restart",
    },
)
@click.argument("source", type=PATH, nargs=-1, required=True)
@click.option(
    "-o", "--out", type=PATH, required=True, help="Directory of the new audit, for example my.audit."
)
@click.option(
    "--update",
    type=AUDIT,
    metavar="AUDIT",
    help="Take embeddings, neighbours and decisions of an earlier audit over; its options hold.",
)
@json_option
def scan(source: tuple[Path, ...], out: Path, update: Path | None, as_json: bool, **options: Any) -> None:
    """Audit SOURCE: embed, build the graph, measure the classes, flag labels.

    SOURCE is a directory with one directory per class, a .csv/.tsv table with paths and labels, a .npy/.npz file of
    images or embeddings, .zip or .tar archives of images (several may be named), or Parquet files. A scan that was
    interrupted resumes when the same command is given again.
    """
    from labeltui import report, scanning

    command = shlex.join(["labeltui", *sys.argv[1:]])
    if update is None:
        asked = scanning.ScanOptions.of(**given(options), command=command)
    else:
        asked = scanning.recorded_options(update, **given(options), command=command)
    progress = ProgressLine()
    try:
        with resumable("the scan was stopped; finished parts are kept", command):
            audit = scanning.scan(source, out, asked, progress, update=update)
    finally:
        progress.finish()
    if as_json:
        print_json(audit_status(audit))
    else:
        click.echo(
            "\n".join(
                [*report.scan_lines(scanning.summary(audit)), *report.status_lines(audit_status(audit))]
            )
        )
