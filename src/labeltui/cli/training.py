"""``labeltui train``, ``jobs`` and ``compare``: training runs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labeltui.cli._common import PATH, print_json
from labeltui.errors import AuditBusy
from labeltui.progress import ProgressLine

if TYPE_CHECKING:
    from labeltui.train.jobs import Job


@click.command()
@click.argument("audit", type=PATH)
@click.option("--background", is_flag=True, help="Start it and return; it survives this terminal.")
@click.option("--queue", is_flag=True, help="Wait for runs that are active, instead of refusing.")
@click.option("--minutes", type=float, default=0.0, help="Pause after so many minutes, to be resumed.")
@click.option(
    "--resume",
    "resume_id",
    metavar="RUN",
    help="Resume a run by its number or id; its spec holds, other options do not.",
)
@click.option(
    "--model", help="Fine-tune this timm backbone on the images; default: the head on the embedding."
)
@click.option("--checkpoint", type=PATH, help="Begin with these weights.")
@click.option("--scratch", is_flag=True, help="Begin with random weights.")
@click.option("--model-arg", "model_args", multiple=True, metavar="KEY=VALUE", help="Passed to the model.")
@click.option("--labels", default="current", show_default=True, help="current, given, or TABLE:COLUMN.")
@click.option("--weights", default="", help="Of samples: score, cleannet, or TABLE:COLUMN.")
@click.option("--splits", help="Train only on these splits, with commas.")
@click.option(
    "--held-out", default="", help="A split or a fraction, to measure on.  [default: 0.1 without folds]"
)
@click.option("--folds", type=int, help="Out-of-fold probabilities re-rank the queue; 0 trains one model.")
@click.option(
    "--self-calibrate",
    type=float,
    default=0.0,
    metavar="SHARE",
    help="Corrupt this fraction of the labels, in this run only, to calibrate the dynamics score.",
)
@click.option("--seed", default=0, show_default=True, help="Of folds, weights and batches.")
@click.option("--threads", "n_threads", type=int, help="Default: all cores but one.")
@click.option("--image-size", type=int, help="Side in pixels.")
@click.option("--epochs", type=int)
@click.option("--batch-size", type=int, help="Samples of one step.")
@click.option("--micro-batch", type=int, help="Samples of one pass, as memory allows.")
@click.option("--optimizer", type=click.Choice(["adamw", "sgd"]))
@click.option("--learning-rate", type=float)
@click.option("--layer-decay", type=float, help="Each stage below learns this much slower.")
@click.option("--freeze", type=int, help="Stages that do not learn; -1: all but the classifier.")
@click.option("--weight-decay", type=float)
@click.option("--label-smoothing", type=float)
@click.option("--drop-rate", type=float)
@click.option("--augment", help="none, or of shift, flip, crop, rand, erase, with commas.")
@click.option("--ema", type=float, help="Decay of the moving average of the weights.")
@click.option("--patience", type=int, help="Stop after so many epochs without a better loss.")
@click.option("--precision", type=click.Choice(["auto", "float32", "bfloat16", "float16"]))
@click.option("--clean-pass", is_flag=True, default=None, help="Also record dynamics without augmentation.")
@click.option("--reembed", is_flag=True, default=None, help="Make the tuned features the audit's embedding.")
@click.option("--source", type=PATH, help="Where the data lies now, if it was moved since the scan.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
def train(
    audit: Path,
    background: bool,
    queue: bool,
    minutes: float,
    resume_id: str | None,
    source: Path | None,
    **given: Any,
) -> None:
    """Train on AUDIT's labels in the background, measure, and re-rank the flags.

    Without --model the head on the stored embedding, in seconds; with it a backbone on the images (presets:
    densenet121, legacy_xception; any timm name). The run survives this terminal.
    """
    from labeltui import config
    from labeltui.audit import Audit
    from labeltui.train import jobs, request

    settings = config.load()
    options: dict[str, Any] = {"minutes": minutes, "queue": queue}
    if resume_id is not None:
        job = jobs.resume(audit, resume_id, launcher=settings.train.launcher, **options)
    else:
        # Somebody may be reviewing it: the job needs the labels as they are, and writes nothing of the audit's own.
        with Audit.open(audit, read_only=True, source_root=source) as opened:
            asked = request.from_options(given)
            job = jobs.JobManager(opened, launcher=settings.train.launcher).start(asked, **options)
    click.echo(f"run {job.id}", err=True)
    if job.warning:
        click.echo(f"warning: {job.warning}", err=True)
    if background:
        click.echo(f"follow it: labeltui jobs {shlex.quote(str(audit))} --follow {job.number}", err=True)
        return
    try:
        job = _follow(job)
    except KeyboardInterrupt:
        jobs.cancel(job)
        raise
    click.echo("\n".join([*jobs.result_lines(job), *_adopt(audit, settings.reviewer)]))


def _adopt(audit: Path, reviewer: str) -> list[str]:
    from labeltui.audit import Audit

    try:
        with Audit.open(audit, reviewer=reviewer) as opened:
            change = opened.refresh()
    except AuditBusy:
        return ["the review that is open shows the new scores by itself"]
    if change is None:
        return []
    return [
        f"{change.new_flags:,} new flags, {change.cleared_flags:,} cleared; generation {change.generation}"
    ]


@click.command("jobs")
@click.argument("audit", type=PATH)
@click.option("--follow", "follow_id", metavar="RUN", help="Show the progress of a run until it ends.")
@click.option("--cancel", "cancel_id", metavar="RUN", help="Ask a run to stop; it can be resumed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def jobs_(audit: Path, follow_id: str | None, cancel_id: str | None, as_json: bool) -> None:
    """List, follow or cancel AUDIT's training runs."""
    from labeltui.store import Store
    from labeltui.train import jobs

    Store.open(audit).close()  # an audit, or a clear error
    if cancel_id is not None:
        jobs.cancel(jobs.find(audit, cancel_id))
    if follow_id is not None:
        _follow(jobs.find(audit, follow_id))
    known = jobs.list_jobs(audit)
    if as_json:
        print_json({"jobs": [job.as_json() for job in known]})
    elif follow_id is None:
        click.echo("\n".join(jobs.list_lines(audit, known)))


@click.command()
@click.argument("audit", type=PATH)
@click.argument("runs", nargs=-1, required=True)
@click.option(
    "--against",
    default="current",
    show_default=True,
    help="Labels to measure by: current, given, TABLE:COLUMN.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def compare(audit: Path, runs: tuple[str, ...], against: str, as_json: bool) -> None:
    """Put training RUNS of AUDIT side by side, paired over seeds, with intervals.

    The first run's kind is what the others are compared with. RUNS are numbers or ids as `labeltui jobs` lists them.
    """
    from labeltui.audit import Audit
    from labeltui.train import compare as comparison

    with Audit.open(audit, read_only=True) as opened:
        made = comparison.compare(opened, runs, against)
    if as_json:
        print_json(made.as_json())
    else:
        click.echo("\n".join(made.lines()))


def _follow(job: Job) -> Job:
    from labeltui.train import jobs

    progress = ProgressLine()
    try:
        return jobs.wait(job, progress)
    finally:
        progress.finish()
