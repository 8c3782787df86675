"""What several commands share: parameter types, JSON output, the status of an audit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

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


def audit_status(audit: Path) -> dict[str, Any]:
    """Return the status of an audit, its training runs included, as ``labeltui status --json`` prints it."""
    from labeltui.audit import Audit
    from labeltui.train import jobs

    with Audit.open(audit, read_only=True) as opened:
        return opened.status([job.as_json() for job in jobs.list_jobs(opened.path)])


def names(text: str | None) -> list[str] | None:
    """Split names with commas between them."""
    return None if text is None else [name.strip() for name in text.split(",")]


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on one line, in ASCII."""
    click.echo(json.dumps(value, ensure_ascii=True))
