"""``labeltui train``, ``jobs`` and ``compare``: training runs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labeltui.cli._common import PATH, print_json
from labeltui.cli._options import OptionsCommand, given
from labeltui.errors import AuditBusy
from labeltui.progress import ProgressLine

if TYPE_CHECKING:
    from labeltui.train.jobs import Job


@click.command(
    cls=OptionsCommand,
    options="labeltui.train.plan:Request",
    examples={
        "Source": "train my.audit --labels corrected.csv:label --held-out 0.1",
        "Model": "train my.audit --model densenet121 --image-size 224",
        "Training": "train my.audit --model resnet18 --epochs 20 --augment shift,flip,crop",
        "Scoring": "train my.audit --model resnet18 --folds 3 --self-calibrate 0.05",
        "Run": "train my.audit --background --device cuda",
    },
)
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
@click.option("--source", type=PATH, help="Where the data lies now, if it was moved since the scan.")
def train(
    audit: Path,
    background: bool,
    queue: bool,
    minutes: float,
    resume_id: str | None,
    source: Path | None,
    **options: Any,
) -> None:
    """Train on AUDIT's labels in the background, measure, and re-rank the flags.

    Without --model the head on the stored embedding, in seconds; with it a backbone on the images (presets:
    densenet121, legacy_xception; any timm name). The run survives this terminal.
    """
    from labeltui import config
    from labeltui.audit import Audit
    from labeltui.train import jobs
    from labeltui.train.plan import Request

    settings = config.load()
    when: dict[str, Any] = {"minutes": minutes, "queue": queue}
    if resume_id is not None:
        job = jobs.resume(audit, resume_id, launcher=settings.train.launcher, **when)
    else:
        # Somebody may be reviewing it: the job needs the labels as they are, and writes nothing of the audit's own.
        with Audit.open(audit, read_only=True, source_root=source) as opened:
            asked = Request.of(**given(options))
            job = jobs.JobManager(opened, launcher=settings.train.launcher).start(asked, **when)
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
