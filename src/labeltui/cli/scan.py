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
    help="Take embeddings, neighbours, scores and decisions of an earlier audit over; its options hold.",
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
    status, summary = audit_status(audit), scanning.summary(audit)
    if as_json:
        print_json({**status, "notes": summary.notes, "update": scanning.update_counts(audit)})
    else:
        click.echo("\n".join([*report.scan_lines(summary), *report.status_lines(status)]))


@click.command(
    cls=OptionsCommand,
    options="labeltui.scanning:ScanOptions",
    examples={"Run": "plan --images 1281167 --dim 768 --classes 1000 --cores 64"},
)
@click.argument("source", type=PATH, nargs=-1)
@click.option("--images", type=click.IntRange(1), help="How many, instead of those of SOURCE.")
@click.option(
    "--dim", type=click.IntRange(1), help="Dimensions of the features.  [default: the model's, or 512]"
)
@click.option(
    "--classes-count", "count", type=click.IntRange(1), help="Classes.  [default: the data's, or 10]"
)
@click.option("--gpus", type=click.IntRange(0), default=0, help="GPUs that there will be.")
@click.option("--cores", type=click.IntRange(1), help="Cores that there will be.  [default: this machine's]")
@json_option
def plan(
    source: tuple[Path, ...],
    images: int | None,
    dim: int | None,
    count: int | None,
    gpus: int,
    cores: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Say what a scan will take: time, memory and disk of every step.

    The options of scan count. Half a minute of calibration measures this machine on small data; the cost model does
    the rest. Without SOURCE the sizes are those given.
    """
    from labeltui import plan as planning
    from labeltui import scanning

    progress = ProgressLine()
    try:
        made = planning.plan(
            source,
            scanning.ScanOptions.of(**given(options)),
            images=images,
            dim=dim,
            classes=count,
            gpus=gpus,
            cores=cores,
            progress=lambda done: progress("plan", int(100 * done), 100),
        )
    finally:
        progress.finish()
    if as_json:
        print_json(made.as_json())
    else:
        click.echo("\n".join(planning.lines(made)))
