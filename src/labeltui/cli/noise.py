"""``labeltui noise``: label noise injected, estimated and studied."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from labeltui.cli._common import PATH, Numbers, names, print_json
from labeltui.progress import ProgressLine


@click.group()
def noise() -> None:
    """Inject label noise, estimate it, and repeat published studies of it on your data."""


@noise.command()
@click.argument("audit", type=PATH)
@click.option("--model", required=True, help="symmetric, pair-flip, confusable, class-dependent, feature-dependent, "
              "cluster or out-of-vocabulary.")  # fmt: skip
@click.option("--rate", type=float, help="Fraction of the labels that becomes wrong.")
@click.option(
    "-o", "--out", type=PATH, required=True, help="labels.csv, or a new directory for a synthetic audit."
)
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--delta", "strength", default=1.0, show_default=True, help="Of confusable: 0 uniform, 1 by overlap."
)
@click.option("--group", default=20, show_default=True, help="Of cluster: samples that err together.")
@click.option("--matrix", type=PATH, help="Of class-dependent: a table, true classes by given ones.")
@click.option("--matrix-from", type=PATH, help="Of class-dependent: an audit whose estimate to use.")
@click.option("--other", type=PATH, help="Of out-of-vocabulary: an audit of other data, same backbone.")
@click.option(
    "--labels", default="current", show_default=True, help="The truth: current, given, TABLE:COLUMN."
)
@click.option("--threads", type=int, help="Default: all cores, or LABELTUI_THREADS.")
@click.option("--force", is_flag=True, help="Replace an existing table.")
def inject(
    audit: Path,
    out: Path,
    labels: str,
    matrix: Path | None,
    matrix_from: Path | None,
    other: Path | None,
    threads: int | None,
    force: bool,
    **given: Any,
) -> None:
    """Write AUDIT's labels with noise, the truth beside them. AUDIT itself is only read.

    A name that ends in .csv becomes a table (path, label, truth, injected), any other a synthetic audit with NAME.npz
    and NAME.truth.csv beside it.
    """
    from labeltui.audit import Audit
    from labeltui.studies import injection

    spec = injection.NoiseSpec(**given)
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
    click.echo(
        f"{len(made.ids):,} samples, {wrong:,} labels made wrong ({wrong / max(1, len(made.ids)):.1%})",
        err=True,
    )


@noise.command()
@click.argument("audit", type=PATH)
@click.option(
    "--epsilon", default=0.1, show_default=True, help="A review is worth it from this many corrections on."
)
@click.option(
    "--batch-size", "batch", default=64, show_default=True, help="Of your training on clean labels."
)
@click.option("--learning-rate", default=1e-3, show_default=True, help="Of your training on clean labels.")
@click.option("--label-smoothing", default=0.1, show_default=True, help="Of your training on clean labels.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def estimate(audit: Path, as_json: bool, **given: Any) -> None:
    """Say how noisy AUDIT's labels are, what training should make of it, and when to stop reviewing."""
    from labeltui.audit import Audit
    from labeltui.studies import estimation

    with Audit.open(audit, read_only=True) as opened:
        made = estimation.estimate(opened, **given)
    if as_json:
        print_json(made.as_json())
    else:
        click.echo("\n".join(made.lines()))


@noise.command()
@click.argument("study", type=click.Choice(["dilution", "structure", "batch", "correction"]))
@click.argument("audit", type=PATH)
@click.option(
    "--networks", help="Of linear, mlp, cnn, with commas; correction: timm names too.  [default: linear,mlp]"
)
@click.option("--seeds", type=Numbers(), help="With commas.  [default: 0,1,2]")
@click.option("--steps", type=int, help="Of each training.  [default: 800]")
@click.option("--batch-size", "batch", type=int, help="Samples of a step.  [default: 128]")
@click.option("--learning-rate", type=float, help="Peak.  [default: 0.001]")
@click.option(
    "--alphas", type=Numbers(), help="Noisy labels per clean one, with commas.  [default: by study]"
)
@click.option(
    "--fractions", type=Numbers(), help="dilution: fractions of the samples, with commas.  [default: 1]"
)
@click.option("--deltas", type=Numbers(), help="structure: strengths of the skew, with commas.")
@click.option("--batches", type=Numbers(), help="batch: sizes, with commas; 0 is the infinite batch.")
@click.option("--learning-rates", type=Numbers(), help="batch: with commas.")
@click.option("--noises", help="correction: none or MODEL:RATE, with commas.  [default: symmetric:0.2]")
@click.option("--reviews", type=int, help="correction: simulated reviews.  [default: 1000]")
@click.option(
    "--clean", is_flag=True, default=None, help="correction: --labels are clean, the given ones noisy."
)
@click.option(
    "--second", type=PATH, help="correction: an audit of the same samples, another embedding, for CSG."
)
@click.option("--other", type=PATH, help="structure: an audit of other data, for out-of-vocabulary samples.")
@click.option("--checkpoint", type=PATH, help="correction: initial weights of timm networks.")
@click.option("--epochs", type=int, help="correction: of timm networks.  [default: 5]")
@click.option("--image-size", type=int, help="Of networks on images.  [default: 32]")
@click.option("--limit", type=int, help="Most training samples.")
@click.option(
    "--labels", default="current", show_default=True, help="Taken for right: current, given, TABLE:COLUMN."
)
@click.option("--held-out", default="0.2", show_default=True, help="A split or a fraction, to measure on.")
@click.option("--splits", help="Train only on these splits, with commas.")
@click.option("--background", is_flag=True, help="Start it and return; it survives this terminal.")
@click.option("--queue", is_flag=True, help="Wait for runs that are active, instead of refusing.")
@click.option("--minutes", type=float, default=0.0, help="Pause after so many minutes, to be resumed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
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
    **given: Any,
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

    values = {name: value for name, value in given.items() if value is not None}
    for name in ("networks", "noises"):
        if name in values:
            values[name] = tuple(names(values[name]) or ())
    for name in ("seeds", "alphas", "batches"):
        if name in values:
            values[name] = tuple(int(value) for value in values[name])
    for name in ("second", "other", "checkpoint"):
        if name in values:
            values[name] = str(values[name].absolute())
    spec = StudySpec(study, **values)
    with Audit.open(audit, read_only=True) as opened:
        run = studies.start(
            opened,
            spec,
            labels=labels,
            held_out=held_out,
            splits=tuple(names(splits) or ()),
            launcher=config.load().train.launcher,
            minutes=minutes,
            queue=queue,
        )
    click.echo(f"run {run.id}", err=True)
    if run.warning:
        click.echo(f"warning: {run.warning}", err=True)
    if background:
        shown = shlex.quote(str(audit))
        click.echo(
            f"follow it: labeltui jobs {shown} --follow {run.number}; then labeltui noise report {shown} {run.number}",
            err=True,
        )
        return
    progress = ProgressLine()
    try:
        run = jobs.wait(run, progress)
    except KeyboardInterrupt:
        jobs.cancel(run)
        raise
    finally:
        progress.finish()
    if run.state == "paused":
        click.echo("\n".join(jobs.result_lines(run)))
        return
    found = report.read(run.directory)
    if as_json:
        print_json(report.summary(found))
    else:
        click.echo("\n".join([*jobs.result_lines(run), *report.lines(found)]))


@noise.command("report")
@click.argument("audit", type=PATH)
@click.argument("run")
@click.option("--plot", type=PATH, help="Draw it: .svg, .png or .pdf.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
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
