"""``labeltui train``, ``jobs`` and ``compare``: training runs."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labeltui.cli._common import AUDIT, PATH, RUN, json_option, print_json, resumable
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
@click.argument("audit", type=AUDIT)
@click.option("--background", is_flag=True, help="Start it and return; it survives this terminal.")
@click.option("--queue", is_flag=True, help="Wait for runs that are active, instead of refusing.")
@click.option("--minutes", type=float, default=0.0, help="Pause after so many minutes, to be resumed.")
@click.option(
    "--resume",
    "resume_id",
    type=RUN,
    metavar="RUN",
    help="Resume a run by its number or id; its spec holds, other options do not.",
)
@click.option("--source", type=PATH, help="Where the data lies now, if it was moved since the scan.")
@json_option
def train(
    audit: Path,
    background: bool,
    queue: bool,
    minutes: float,
    resume_id: str | None,
    source: Path | None,
    as_json: bool,
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
    if background:
        announce(job)
        click.echo(f"follow it: labeltui jobs {shlex.quote(str(audit))} --follow {job.number}", err=True)
        if as_json:
            print_json({"run": job.as_json(), "adopted": None})
        return
    job = follow(job, audit)
    lines = jobs.result_lines(job)
    adopted = None
    try:
        with Audit.open(audit, reviewer=settings.reviewer) as opened:
            adopted = opened.refresh()
    except AuditBusy:
        lines.append("the review that is open shows the new scores by itself")
    if as_json:
        print_json({"run": job.as_json(), "adopted": None if adopted is None else adopted._asdict()})
        return
    if adopted is not None:
        lines.append(
            f"{adopted.new_flags:,} new flags, {adopted.cleared_flags:,} cleared; generation {adopted.generation}"
        )
        lines += [adopted.reason] if adopted.reason else []
    click.echo("\n".join(lines))


@click.command("jobs")
@click.argument("audit", type=AUDIT)
@click.option(
    "--follow", "follow_id", type=RUN, metavar="RUN", help="Show the progress of a run until it ends."
)
@click.option("--cancel", "cancel_id", type=RUN, metavar="RUN", help="Ask a run to stop; it can be resumed.")
@json_option
def jobs_(audit: Path, follow_id: str | None, cancel_id: str | None, as_json: bool) -> None:
    """List, follow or cancel AUDIT's training runs."""
    from labeltui.store import Store
    from labeltui.train import jobs

    Store.open(audit).close()  # an audit, or a clear error
    if cancel_id is not None:
        jobs.cancel(jobs.find(audit, cancel_id))
    if follow_id is not None:
        job = jobs.find(audit, follow_id)
        shown = f"labeltui jobs {shlex.quote(str(audit))} --follow {job.number}"
        with resumable(f"no longer following run {job.number}, which is not stopped by this", shown) as check:
            _follow(job, check)
    known = jobs.list_jobs(audit)
    if as_json:
        print_json({"jobs": [job.as_json() for job in known]})
    elif follow_id is None:
        click.echo("\n".join(jobs.list_lines(audit, known)))


@click.command()
@click.argument("audit", type=AUDIT)
@click.argument("runs", nargs=-1, required=True, type=RUN)
@click.option(
    "--against",
    default="current",
    show_default=True,
    help="Labels to measure by: current, given, TABLE:COLUMN.",
)
@json_option
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


def announce(job: Job) -> None:
    """Print the id of a run that was started, and what may end it early."""
    click.echo(f"run {job.id}", err=True)
    if job.warning:
        click.echo(f"warning: {job.warning}", err=True)


def follow(job: Job, audit: Path) -> Job:
    """Announce a run and show the progress of a run until it ends; Ctrl-C stops the run, and says how to resume it.

    Parameters
    ----------
    job : Job
    audit : Path

    Returns
    -------
    Job
        As it ended.

    Raises
    ------
    Cancelled
    """
    from labeltui.train import jobs

    command = f"labeltui train {shlex.quote(str(audit))} --resume {job.number}"
    with resumable(f"run {job.number} was asked to stop; what it finished is kept", command) as check:
        try:
            announce(job)
            return _follow(job, check)
        except KeyboardInterrupt:
            jobs.cancel(job)
            raise


def _follow(job: Job, check: Callable[[], None]) -> Job:
    from labeltui.train import jobs

    progress = ProgressLine()

    def shown(stage: str, done: int, total: int) -> None:
        check()
        progress(stage, done, total)

    try:
        return jobs.wait(job, shown)
    finally:
        progress.finish()
