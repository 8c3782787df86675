"""``labeltui review``: the terminal UI on an audit."""

from __future__ import annotations

import gc
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from labeltui.cli._common import PATH
from labeltui.errors import UsageError


@click.command()
@click.argument("audit", type=PATH)
@click.option("--reviewer", help="Signs the decisions; default: the setting, else the login name.")
@click.option("--graphics", help="auto, kitty, sixel, blocks or ascii.")
@click.option("--max-kbps", type=int, help="Shrink previews to fit a slow line.")
@click.option("--source", type=PATH, help="Where the data lies now, if it was moved since the scan.")
@click.option("--read-only", is_flag=True, help="Open for reading; works during someone's review.")
def review(audit: Path, **given: Any) -> None:
    """Open the terminal UI on AUDIT (also: labeltui AUDIT)."""
    open_review(audit, **given)


def open_review(audit: Path, **given: Any) -> None:
    """Run the terminal UI on an audit with these options of ``labeltui review``."""
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
