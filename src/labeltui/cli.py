"""The command line: each command parses its options, calls one function of one package, and prints.

Packages are imported inside the commands, so that ``labeltui status`` does not wait for torch.
"""

from __future__ import annotations

import gc
import json
import os
import shlex
import sys
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labeltui import __version__
from labeltui.errors import AuditBusy, LabeltuiError, SystemRefused, UsageError
from labeltui.progress import ProgressLine
from labeltui.text import safe

if TYPE_CHECKING:
    from labeltui.train.jobs import Job

PATH = click.Path(path_type=Path)


class Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers with commas between them."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """Split the text into numbers.

        Parameters
        ----------
        value : str
            Numbers with commas between them.
        param : click.Parameter or None
        ctx : click.Context or None

        Returns
        -------
        tuple of float
        """
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a number, nor numbers with commas between them", param, ctx)


class Commands(click.Group):
    """``labeltui my.audit`` means ``labeltui review my.audit``."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a path in the place of a command as ``review PATH``, and suggest corrections of unknown words.

        Parameters
        ----------
        ctx : click.Context
        args : list of str
            The arguments from the command on.

        Returns
        -------
        name : str or None
        command : click.Command or None
        args : list of str
            The remaining arguments.

        Raises
        ------
        UsageError
            The first word is neither an audit nor a command.
        """
        name = args[0]
        if name not in self.commands and (os.sep in name or os.path.exists(name)):
            args = ["review", *args]
        elif name not in self.commands and not name.startswith("-"):
            known = [*self.commands, *(entry.name for entry in Path().glob("*.audit"))]
            close = get_close_matches(name, known, n=1)
            raise UsageError(
                "the first word is an audit or a command",
                f"there is no audit or command {safe(name)}",
                f"did you mean {safe(close[0])}?" if close else "labeltui --help lists the commands",
            )
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of use, not of the alphabet


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="labeltui")
@click.pass_context
def cli(context: click.Context) -> None:
    """Trust an image data set's labels: find, review and correct wrong ones in the terminal.

    \b
    labeltui demo                      see it at work on bundled data
    labeltui scan DATA -o my.audit     embed, build the graph, flag suspicious labels
    labeltui my.audit                  review the flags in the terminal
    labeltui export my.audit -o labels.csv
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main() -> None:
    """Entry point: user errors are printed without a traceback, each with its own exit code."""
    try:
        code = cli.main(standalone_mode=False)
    except LabeltuiError as error:
        _complain(error)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        code = 130
    except BrokenPipeError:
        # The reader of our output (head, less) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        where = safe(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else ""
        said = safe(error.strerror or str(error))
        _complain(
            SystemRefused(
                "labeltui must be able to read and write its files",
                ": ".join(part for part in (where, said) if part),
                "check the disk, the space on it and the permissions",
            )
        )
        code = SystemRefused.exit_code
    sys.exit(code if isinstance(code, int) else 0)


def _complain(error: LabeltuiError) -> None:
    click.echo(f"labeltui: {error.message}", err=True)
    for part in (error.got, error.hint):
        for line in part.splitlines():
            click.echo(f"  {line}", err=True)


@cli.command()
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
        _print_json({**_status(made.audit), "injected": asdict(made.injected), "seconds": made.seconds})
    elif no_tui or not sys.stdout.isatty():
        click.echo("\n".join(report.demo_lines(made, _status(made.audit))))
    else:
        _review(made.audit)


@cli.command()
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

    given |= {name: _names(given[name]) for name in ("class_order", "splits")}
    given["model_args"] = parse_model_args(given["model_args"])
    options = api.scan_options(**given, command=shlex.join(sys.argv))
    progress = ProgressLine()
    try:
        audit = scanning.scan(source, out, options, progress)
    finally:
        progress.finish()
    if as_json:
        _print_json(_status(audit))
    else:
        click.echo(
            "\n".join([*report.scan_lines(scanning.summary(audit)), *report.status_lines(_status(audit))])
        )


@cli.command()
@click.argument("audit", type=PATH)
@click.option("--reviewer", help="Signs the decisions; default: the setting, else the login name.")
@click.option("--graphics", help="auto, kitty, sixel, blocks or ascii.")
@click.option("--max-kbps", type=int, help="Shrink previews to fit a slow line.")
@click.option("--source", type=PATH, help="Where the data lies now, if it was moved since the scan.")
@click.option("--read-only", is_flag=True, help="Open for reading; works during someone's review.")
def review(audit: Path, **given: Any) -> None:
    """Open the terminal UI on AUDIT (also: labeltui AUDIT)."""
    _review(audit, **given)


@cli.command()
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


@cli.command("jobs")
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
        _print_json({"jobs": [job.as_json() for job in known]})
    elif follow_id is None:
        click.echo("\n".join(jobs.list_lines(audit, known)))


@cli.command()
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
        _print_json(made.as_json())
    else:
        click.echo("\n".join(made.lines()))


@cli.command()
@click.argument("audit", type=PATH)
@click.option("-o", "--out", type=PATH, required=True, help="The CSV file; - is standard output.")
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
    help="Undecodable bytes in names as \\xHH, or as they are.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["csv", "excel-csv"]),
    default="csv",
    show_default=True,
    help="excel-csv: no cell is a formula to a spreadsheet.",
)
@click.option("--verify", is_flag=True, help="Read every image; mark those that changed since the scan.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def export(
    audit: Path,
    out: Path,
    only: str | None,
    apply_suggestions: float | None,
    target_precision: float | None,
    paths: str,
    format_: str,
    verify: bool,
    force: bool,
) -> None:
    """Write AUDIT's corrected labels as CSV."""
    from labeltui import export as exporting
    from labeltui import report
    from labeltui.audit import Audit

    with Audit.open(audit, read_only=True) as opened:
        wanted: dict[str, Any] = {
            "only_changed": only == "changed",
            "apply_suggestions": apply_suggestions,
            "target_precision": target_precision,
            "raw_paths": paths == "raw",
            "excel": format_ == "excel-csv",
            "verify": verify,
        }
        if str(out) == "-":
            done = exporting.write(opened, sys.stdout.buffer, **wanted)
            sys.stdout.buffer.flush()
        else:
            done = exporting.export(opened, out, force=force, **wanted)
        changed = opened.changed_files()
    words = f"{done.rows:,} rows, {done.corrected:,} corrected, {done.excluded:,} excluded"
    if verify:
        words += f", {done.lost:,} images are no longer the scan's"
    if done.auto_from is not None:
        words += f"; {done.auto:,} corrected automatically, {done.auto_wrong:,.0f} of them expected wrong"
        if target_precision is not None and done.auto:
            words += f" (probability {done.auto_from:.3f} and above)"
    click.echo("\n".join([words, *report.changed_lines(changed)]), err=True)


@cli.command()
@click.argument("audit", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def status(audit: Path, as_json: bool) -> None:
    """Say where AUDIT stands: classes by overlap, flags, decisions, runs."""
    from labeltui import report

    value = _status(audit)
    if as_json:
        _print_json(value)
    else:
        click.echo("\n".join(report.status_lines(value)))


@cli.command()
@click.argument("audit", type=PATH)
@click.argument("sample")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def explain(audit: Path, sample: str, as_json: bool) -> None:
    """Say what every detector proposes for SAMPLE, and P(given label).

    SAMPLE is a path as in exports, a name as the review's queue shows it, or a row of exports, counted from 0.
    """
    from labeltui import report
    from labeltui.audit import Audit

    with Audit.open(audit, read_only=True) as opened:
        said = report.explanation(opened, sample)
    if as_json:
        _print_json(said)
    else:
        click.echo("\n".join(report.explanation_lines(said)))


@cli.command()
@click.argument("audit", type=PATH)
@click.option("--repair", is_flag=True, help="Mend what can be mended without guessing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def check(audit: Path, repair: bool, as_json: bool) -> int:
    """Read all of AUDIT, and name what is damaged.

    Exit status 0 when nothing is, else 5.
    """
    from labeltui import check as checking
    from labeltui.errors import DamagedAudit

    report = checking.check(audit, repair)
    if as_json:
        _print_json(report.as_json())
    else:
        click.echo("\n".join(report.lines()))
    return 0 if report.whole else DamagedAudit.exit_code


@cli.command()
@click.argument("audit", type=PATH)
@click.option("-o", "--out", type=PATH, required=True, help="The new directory.")
def backup(audit: Path, out: Path) -> None:
    """Copy AUDIT, also while it is reviewed, and check the copy."""
    from labeltui import backup as backing_up

    made = backing_up.backup(audit, out)
    click.echo(
        f"{made.actions:,} actions, {made.generations:,} generations, {made.runs:,} runs, {made.bytes:,} bytes; checked"
    )
    for run in made.left_out:
        click.echo(f"left out: run {run}, which is active")


@cli.command()
@click.argument("audit", type=PATH, required=False)
@click.option("--torch", is_flag=True, help="Import torch too, and ask it for its devices (seconds).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
def doctor(audit: Path | None, torch: bool, as_json: bool) -> None:
    """Say what this terminal and machine can do, and what to change."""
    from labeltui import config
    from labeltui.tui import doctor as diagnosis

    found = diagnosis.report(audit, graphics=config.load().review.graphics, torch=torch)
    if as_json:
        _print_json(found.as_dict())
    else:
        click.echo("\n".join(found.lines()))


def _review(audit: Path, **given: Any) -> None:
    # What is made until the first screen stands (modules, classes, styles) lives as long as the program: looking
    # through it for garbage takes a tenth of the start. The first screen switches it on again.
    gc.disable()
    from labeltui import config
    from labeltui.tui import app

    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "the terminal UI needs a terminal",
            "input or output is not one",
            f"labeltui status {shlex.quote(str(audit))} works without",
        )
    settings = config.load()
    lines = app.run(
        audit,
        reviewer=given.get("reviewer") or settings.reviewer,
        graphics=given.get("graphics") or settings.review.graphics,
        source=given.get("source"),
        max_kbps=given.get("max_kbps") or settings.review.max_kbps or None,
        read_only=bool(given.get("read_only")),
        keys=settings.keys,
        theme=settings.review.theme,
        train_after=settings.train.after,
        launcher=settings.train.launcher,
    )
    click.echo("\n".join(lines))


def _status(audit: Path) -> dict[str, Any]:
    from labeltui.audit import Audit
    from labeltui.train import jobs

    with Audit.open(audit, read_only=True) as opened:
        return opened.status([job.as_json() for job in jobs.list_jobs(opened.path)])


def _follow(job: Job) -> Job:
    from labeltui.train import jobs

    progress = ProgressLine()
    try:
        return jobs.wait(job, progress)
    finally:
        progress.finish()


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",")]


def _print_json(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value, ensure_ascii=True))
