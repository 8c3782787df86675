"""What several commands share: the type of paths, JSON output, the status of an audit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

PATH = click.Path(path_type=Path)


def audit_status(audit: Path) -> dict[str, Any]:
    """Return the status of an audit, its training runs included, as ``labeltui status --json`` prints it."""
    from labeltui.audit import Audit
    from labeltui.train import jobs

    with Audit.open(audit, read_only=True) as opened:
        return opened.status([job.as_json() for job in jobs.list_jobs(opened.path)])


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on one line, in ASCII."""
    click.echo(json.dumps(value, ensure_ascii=True))
