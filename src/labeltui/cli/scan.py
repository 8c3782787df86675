"""``labeltui demo`` and ``labeltui scan``: make an audit."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from labeltui.cli._common import PATH, Numbers, audit_status, names, print_json
from labeltui.cli.review import open_review
from labeltui.progress import ProgressLine


@click.command()
@click.option("--out", type=PATH, help="Directory for images, truth and audit; default: the user's cache.")
@click.option("--no-tui", is_flag=True, help="Print the summary; do not open the terminal UI.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def demo(out: Path | None, no_tui: bool, as_json: bool) -> None:
    """See it at work, offline: handwritten digits, 8 % of their labels made wrong."""
    from labeltui import demo as demonstration
    from labeltui import report

    progress = ProgressLine()
    made = demonstration.demo(out, None if as_json else progress)
    progress.finish()
    if as_json:
        print_json({**audit_status(made.audit), "injected": asdict(made.injected), "seconds": made.seconds})
    elif no_tui or not sys.stdout.isatty():
        click.echo("\n".join(report.demo_lines(made, audit_status(made.audit))))
    else:
        open_review(made.audit)


@click.command()
@click.argument("source", type=PATH)
@click.option(
    "-o", "--out", type=PATH, required=True, help="Directory of the new audit, for example my.audit."
)
@click.option(
    "--model",
    help="A timm name such as resnet50, torchvision/NAME, or pixels (8 x 8, for digits).  [default: pixels]",
)
@click.option(
    "--pretrained/--no-pretrained", default=True, help="Published weights, or none.  [default: published]"
)
@click.option("--checkpoint", type=PATH, help="Weights: .safetensors, or a torch file of plain tensors.")
@click.option(
    "--model-arg", "model_args", multiple=True, metavar="KEY=VALUE", help="Passed to the model; repeatable."
)
@click.option("--image-size", type=int, help="Side in pixels; the whole image is resized to it.")
@click.option("--mean", type=Numbers(), help="Of pixels scaled to 0..1: one number, or three with commas.")
@click.option("--std", type=Numbers(), help="Like --mean.")
@click.option("--interpolation", help="bicubic, bilinear, ...; default: the model's own.")
@click.option("--crop-pct", type=float, help="Share of the shorter side that the centre crop keeps.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--precision", default="auto", show_default=True, help="auto, float32, float16 or bfloat16.")
@click.option("--batch-size", type=int, help="Default: 64 on a CPU, found by trial on a GPU.")
@click.option("--workers", type=int, help="Decoding processes; default: one a thread.")
@click.option("--threads", type=int, help="Default: all cores, or LABELTUI_THREADS.")
@click.option("--path-column", default="path", show_default=True, help="Of a table.")
@click.option("--label-column", default="label", show_default=True, help="Of a table.")
@click.option("--split-column", default="split", show_default=True, help="Of a table; need not exist.")
@click.option("--image-root", type=PATH, help="Where a table's relative paths start; default: its directory.")
@click.option("--split-level/--no-split-level", default=None, help="Whether the top directories are splits.")
@click.option("--labels", type=PATH, help="Labels of a .npy file: .npy, a table, or one a line.")
@click.option("--pred-probs", type=PATH, help="Your own out-of-fold probabilities: .npy, .npz or a table.")
@click.option("--class-order", help="Classes of the columns of --pred-probs, with commas.")
@click.option("--classes", type=PATH, help="File with more classes, one a line.")
@click.option("--class-names", type=PATH, help="File with display names: id,name a line.")
@click.option("--splits", help="Only these splits are scored, with commas; default: all.")
@click.option("-k", "--k", default=10, show_default=True, help="Neighbours that CSG and votes count.")
@click.option(
    "--metric",
    type=click.Choice(["cosine", "euclidean", "inner"]),
    help="Of neighbours.  [default: cosine; of ready embeddings, the better of cosine and euclidean]",
)
@click.option(
    "--backend", default="exact", show_default=True, help="Of the graph: exact, cuda or approximate."
)
@click.option(
    "--duplicate-threshold",
    type=float,
    help="Smallest cosine of near-duplicates; 1: identical images only.  [default: measured]",
)
@click.option("--folds", default=5, show_default=True, help="Folds of the out-of-fold head.")
@click.option("--seed", default=0, show_default=True, help="Seed of folds, head and intervals.")
@click.option(
    "--resume/--restart", default=None, help="Demand, or discard, an unfinished scan.  [default: resume]"
)
@click.option("--shared", is_flag=True, help="Let the group review it; default: only you can read the audit.")
@click.option("--json", "as_json", is_flag=True, help="Print the finished audit's status as one JSON object.")
def scan(source: Path, out: Path, as_json: bool, **given: Any) -> None:
    """Audit SOURCE: embed, build the graph, measure the classes, flag labels.

    SOURCE is a directory with one directory per class, a .csv/.tsv table with paths and labels, or a .npy/.npz file of
    images or embeddings. A scan that was interrupted resumes when the same command is given again.
    """
    from labeltui import api, report, scanning
    from labeltui.embed import parse_model_args

    given |= {name: names(given[name]) for name in ("class_order", "splits")}
    given["model_args"] = parse_model_args(given["model_args"])
    options = api.scan_options(**given, command=shlex.join(sys.argv))
    progress = ProgressLine()
    try:
        audit = scanning.scan(source, out, options, progress)
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
