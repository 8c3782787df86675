"""``labeltui noise``: label noise injected, estimated and studied."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from labeltui.cli._common import AUDIT, PATH, RUN, json_option, print_json
from labeltui.cli._options import OptionsCommand, given
from labeltui.cli.training import announce, follow
from labeltui.options import build, split_names
from labeltui.progress import ProgressLine
from labeltui.text import safe


@click.group()
def noise() -> None:
    """Inject label noise, estimate it, and repeat published studies of it on your data."""


@noise.command(
    cls=OptionsCommand,
    options="labeltui.studies.injection:NoiseSpec",
    examples={"Model": "noise inject my.audit --model cluster --rate 0.3 -o noisy.csv"},
)
@click.argument("audit", type=AUDIT)
@click.option(
    "-o", "--out", type=PATH, required=True, help="labels.csv, or a new directory for a synthetic audit."
)
@click.option("--matrix", type=PATH, help="Of class-dependent: a table, true classes by given ones.")
@click.option("--matrix-from", type=AUDIT, help="Of class-dependent: an audit whose estimate to use.")
@click.option("--other", type=AUDIT, help="Of out-of-vocabulary: an audit of other data, same backbone.")
@click.option(
    "--labels", default="current", show_default=True, help="The truth: current, given, TABLE:COLUMN."
)
@click.option("--threads", type=int, help="Default: all cores, or LABELTUI_THREADS.")
@click.option("--force", is_flag=True, help="Replace an existing table.")
@json_option
def inject(
    audit: Path,
    out: Path,
    labels: str,
    matrix: Path | None,
    matrix_from: Path | None,
    other: Path | None,
    threads: int | None,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Write AUDIT's labels with noise, the truth beside them. AUDIT itself is only read.

    A name that ends in .csv becomes a table (path, label, truth, injected), any other a synthetic audit with NAME.npz
    and NAME.truth.csv beside it.
    """
    from labeltui.audit import Audit
    from labeltui.studies import injection

    spec = build(injection.NoiseSpec, given(options))
    as_table = out.suffix.lower() == ".csv"
    injection.require_new(out, force and as_table)
    with ExitStack() as stack:
        opened, source, strange = (
            None if path is None else stack.enter_context(Audit.open(path, read_only=True))
            for path in (audit, matrix_from, other)
        )
        assert opened is not None
        made = injection.inject(opened, spec, labels=labels, matrix=matrix, matrix_from=source, other=strange)
    if as_table:
        injection.write_table(made, out, force=force)
    else:
        progress = ProgressLine()
        try:
            injection.write_audit(made, out, threads=threads, progress=progress)
        finally:
            progress.finish()
    wrong = int(made.injected.sum())
    if as_json:
        print_json({"out": safe(str(out)), "samples": len(made.ids), "injected": wrong})
        return
    click.echo(
        f"{len(made.ids):,} samples, {wrong:,} labels made wrong ({wrong / max(1, len(made.ids)):.1%})",
        err=True,
    )


@noise.command()
@click.argument("audit", type=AUDIT)
@click.option(
    "--epsilon", default=0.1, show_default=True, help="A review is worth it from this many corrections on."
)
@click.option(
    "--batch-size", "batch", default=64, show_default=True, help="Of your training on clean labels."
)
@click.option("--learning-rate", default=1e-3, show_default=True, help="Of your training on clean labels.")
@click.option("--label-smoothing", default=0.1, show_default=True, help="Of your training on clean labels.")
@json_option
def estimate(audit: Path, as_json: bool, **training: Any) -> None:
    """Say how noisy AUDIT's labels are, what training should make of it, and when to stop reviewing."""
    from labeltui.audit import Audit
    from labeltui.studies import estimation

    with Audit.open(audit, read_only=True) as opened:
        made = estimation.estimate(opened, **training)
    if as_json:
        print_json(made.as_json())
    else:
        click.echo("\n".join(made.lines()))


@noise.command(
    cls=OptionsCommand,
    options="labeltui.studies.plan:StudySpec",
    examples={
        "Model": "noise study dilution my.audit --networks linear,mlp,cnn",
        "Scoring": "noise study correction my.audit --noises cluster:0.3,symmetric:0.4",
    },
)
@click.argument("study", type=click.Choice(["dilution", "structure", "batch", "correction"]))
@click.argument("audit", type=AUDIT)
@click.option(
    "--labels", default="current", show_default=True, help="Taken for right: current, given, TABLE:COLUMN."
)
@click.option("--held-out", default="0.2", show_default=True, help="A split or a fraction, to measure on.")
@click.option("--splits", help="Train only on these splits, with commas.")
@click.option("--background", is_flag=True, help="Start it and return; it survives this terminal.")
@click.option("--queue", is_flag=True, help="Wait for runs that are active, instead of refusing.")
@click.option("--minutes", type=float, default=0.0, help="Pause after so many minutes, to be resumed.")
@json_option
def study(
    study: str,
    audit: Path,
    labels: str,
    held_out: str,
    splits: str | None,
    background: bool,
    queue: bool,
    minutes: float,
    as_json: bool,
    **options: Any,
) -> None:
    """Repeat a published study of label noise on AUDIT, in the background; its labels are taken for right.

    \b
    dilution    accuracy against noisy labels per clean one
    structure   accuracy against how far noise leans toward overlapping classes; strange and random images
    batch       batch size and learning rate against noise, and the infinite batch
    correction  original, noisy, and corrected labels: by an oracle, blindly, with reviews; CSG of each

    A study that was interrupted is resumed by `labeltui train AUDIT --resume RUN`; finished cells are not repeated.
    """
    from labeltui import config
    from labeltui.audit import Audit
    from labeltui.studies import job as studies
    from labeltui.studies import report
    from labeltui.studies.plan import StudySpec
    from labeltui.train import jobs

    spec = build(StudySpec, {"study": study, **given(options)})
    with Audit.open(audit, read_only=True) as opened:
        run = studies.start(
            opened,
            spec,
            labels=labels,
            held_out=held_out,
            splits=split_names(splits) if splits else (),
            launcher=config.load().train.launcher,
            minutes=minutes,
            queue=queue,
        )
    if background:
        announce(run)
        shown = shlex.quote(str(audit))
        click.echo(
            f"follow it: labeltui jobs {shown} --follow {run.number}; then labeltui noise report {shown} {run.number}",
            err=True,
        )
        if as_json:
            print_json({"run": run.as_json(), "study": None})
        return
    run = follow(run, audit)
    if run.state == "paused" and as_json:
        print_json({"run": run.as_json(), "study": None})
        return
    if run.state == "paused":
        click.echo("\n".join(jobs.result_lines(run)))
        return
    found = report.read(run.directory)
    if as_json:
        print_json({"run": run.as_json(), "study": report.summary(found)})
    else:
        click.echo("\n".join([*jobs.result_lines(run), *report.lines(found)]))


@noise.command("report")
@click.argument("audit", type=AUDIT)
@click.argument("run", type=RUN)
@click.option("--plot", type=PATH, help="Draw it: .svg, .png or .pdf.")
@json_option
def report_(audit: Path, run: str, plot: Path | None, as_json: bool) -> None:
    """Show the finished study RUN of AUDIT again, or draw it."""
    from labeltui.store import Store
    from labeltui.studies import report
    from labeltui.train import jobs

    Store.open(audit).close()  # an audit, or a clear error
    found = report.read(jobs.find(audit, run).directory)
    if plot is not None:
        report.plot(found, plot)
    if as_json:
        print_json(report.summary(found))
    else:
        click.echo("\n".join(report.lines(found)))
