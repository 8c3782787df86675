"""``labeltui review``: the terminal UI on an audit."""

from __future__ import annotations

import gc
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from labeltui.cli._common import AUDIT, PATH
from labeltui.cli._options import OptionsCommand, given
from labeltui.errors import UsageError


@click.command(cls=OptionsCommand, options="labeltui.config:Review")
@click.argument("audit", type=AUDIT)
@click.option("--source", type=PATH, help="Where the data lies now, if it was moved since the scan.")
@click.option("--read-only", is_flag=True, help="Open for reading; works during someone's review.")
def review(audit: Path, source: Path | None, read_only: bool, **options: Any) -> None:
    """Open the terminal UI on AUDIT (also: labeltui AUDIT).

    What is not given here is as in the settings file.
    """
    open_review(audit, source, read_only, given(options))


def open_review(
    audit: Path, source: Path | None = None, read_only: bool = False, options: Mapping[str, Any] | None = None
) -> None:
    """Run the terminal UI on an audit.

    Parameters
    ----------
    audit : Path
    source : Path, optional
        Where the data lies now, if it was moved since the scan.
    read_only : bool
    options : mapping, optional
        Settings of `labeltui.config.Review` that replace those of the settings file.
    """
    # Modules, classes and styles made before the first screen live as long as the program: collecting garbage among
    # them takes a tenth of the start. The first screen switches it on again.
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
    settings = replace(settings, review=replace(settings.review, **(options or {})))
    lines = app.run(
        audit,
        reviewer=settings.reviewer,
        graphics=settings.review.graphics,
        tmux_layers=settings.review.tmux_layers,
        source=source,
        max_kbps=settings.review.max_kbps or None,
        scaling=settings.review.scaling,
        read_only=read_only,
        keys=settings.keys,
        theme=settings.review.theme,
        train_after=settings.train.after,
        launcher=settings.train.launcher,
    )
    click.echo("\n".join(lines))
