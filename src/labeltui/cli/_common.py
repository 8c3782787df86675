"""Helpers of several commands: the type of paths, JSON output, the status of an audit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

PATH = click.Path(path_type=Path)


def audit_status(audit: Path) -> dict[str, Any]:
    """Return the status of an audit, its training runs included, as ``labeltui status --json`` prints it."""
    from labeltui import audit as audits
    from labeltui.train import jobs

    with audits.Audit.open(audit, read_only=True) as opened:
        return audits.status(opened, [job.as_json() for job in jobs.list_jobs(opened.path)])


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on one line, in ASCII."""
    click.echo(json.dumps(value, ensure_ascii=True))
