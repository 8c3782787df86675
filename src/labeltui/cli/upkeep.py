"""``labeltui check``, ``backup`` and ``doctor``: the health of an audit and of the machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from labeltui.cli._common import AUDIT, PATH, json_option, print_json
from labeltui.text import safe


@click.command()
@click.argument("audit", type=AUDIT)
@click.option("--repair", is_flag=True, help="Mend what can be mended without guessing.")
@json_option
def check(audit: Path, repair: bool, as_json: bool) -> int:
    """Read all of AUDIT, and name what is damaged.

    Exit status 0 when nothing is, else 5.
    """
    from labeltui import check as checking
    from labeltui.errors import DamagedAudit

    report = checking.check(audit, repair)
    if as_json:
        print_json(report.as_json())
    else:
        click.echo("\n".join(report.lines()))
    return 0 if report.whole else DamagedAudit.exit_code


@click.command()
@click.argument("audit", type=AUDIT)
@click.option("-o", "--out", type=PATH, required=True, help="The new directory.")
@json_option
def backup(audit: Path, out: Path, as_json: bool) -> None:
    """Copy AUDIT, also while it is reviewed, and check the copy."""
    from labeltui import backup as backing_up

    made = backing_up.backup(audit, out)
    if as_json:
        print_json({**asdict(made), "path": safe(str(made.path))})
        return
    click.echo(
        f"{made.actions:,} actions, {made.generations:,} generations, {made.runs:,} runs, {made.bytes:,} bytes; checked"
    )
    for run in made.left_out:
        click.echo(f"left out: run {run}, which is active")


@click.command()
@click.argument("audit", type=AUDIT, required=False)
@click.option("--torch", is_flag=True, help="Import torch too, and ask it for its devices (seconds).")
@json_option
def doctor(audit: Path | None, torch: bool, as_json: bool) -> None:
    """Say what this terminal and machine can do, and what to change."""
    from labeltui import config
    from labeltui.tui import doctor as diagnosis

    settings = config.load().review
    found = diagnosis.report(audit, graphics=settings.graphics, tmux_layers=settings.tmux_layers, torch=torch)
    if as_json:
        print_json(found.as_dict())
    else:
        click.echo("\n".join(found.lines()))
