"""Helpers of several commands: the types of their arguments with completion, ``--json``, the status of an audit."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from labeltui import paths
from labeltui.errors import Cancelled, LabeltuiError
from labeltui.text import safe

F = TypeVar("F", bound=Callable[..., Any])


class _AuditPath(click.Path):
    """The path of an audit; the shell completes audits, and directories on the way to them."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        found = [CompletionItem(name) for name in complete_audits(incomplete)]
        return found or [CompletionItem(incomplete, type="dir")]


def _typed_audit(ctx: click.Context) -> Path | None:
    """The audit of a line that is not finished; click leaves arguments before an option without value unparsed."""
    typed = ctx.params.get("audit") or next(iter(ctx.args), None)
    return None if typed is None else Path(typed).expanduser()


class _Run(click.ParamType[str]):
    """A training run of the audit, by number or id."""

    name = "run"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from labeltui.train import jobs

        audit = _typed_audit(ctx)
        if audit is None:
            return []
        try:
            known = jobs.list_jobs(audit)
        except LabeltuiError:
            return []
        return [
            CompletionItem(str(job.number), help=f"{job.what}, {job.labels}, {job.state}")
            for job in known
            if str(job.number).startswith(incomplete)
        ]


class _ClassName(click.ParamType[str]):
    """The display name of a class of the audit."""

    name = "class"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from labeltui.store import Store

        audit = _typed_audit(ctx)
        if audit is None:
            return []
        try:
            with Store.open(audit, 0) as opened:
                names = [safe(name) for name in opened.class_names]
        except LabeltuiError:
            return []
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class _Format(click.ParamType[str]):
    """The format of an export; the registry refuses others."""

    name = "text"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from labeltui.export import EXPORTERS

        return [
            CompletionItem(name, help=exporter.what)
            for name, exporter in EXPORTERS.items()
            if name.startswith(incomplete)
        ]


PATH = click.Path(path_type=Path)
AUDIT = _AuditPath(path_type=Path)
RUN = _Run()
CLASS_NAME = _ClassName()
FORMAT = _Format()


def complete_audits(incomplete: str) -> list[str]:
    """Return the paths of audits that begin with a text.

    Parameters
    ----------
    incomplete : str
        What was typed of a path.

    Returns
    -------
    list of str
        Sorted, each beginning with `incomplete`.
    """
    folder, beginning = os.path.split(incomplete)
    searched = os.path.expanduser(folder) or "."
    try:
        names = sorted(os.listdir(searched))
    except OSError:
        return []
    return [
        os.path.join(folder, name)
        for name in names
        if name.startswith(beginning) and os.path.isfile(os.path.join(searched, name, paths.AUDIT_FILE))
    ]


def json_option(function: F) -> F:
    """Add ``--json``; docs/json.md lists what each command prints then."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")(
        function
    )


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on one line, in ASCII."""
    click.echo(json.dumps(value, ensure_ascii=True))


@contextmanager
def resumable(done: str, command: str) -> Iterator[Callable[[], None]]:
    """Say on Ctrl-C what is kept and how to resume.

    Python ignores a KeyboardInterrupt that it raises in a destructor or in the callback of a weak reference: what is
    yielded raises it again.

    Parameters
    ----------
    done : str
        What was interrupted, and what of it is kept.
    command : str
        The command line that resumes it.

    Yields
    ------
    callable
        Raises KeyboardInterrupt if there was a Ctrl-C.

    Raises
    ------
    Cancelled
    """
    asked = False

    def note(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield check
    except KeyboardInterrupt:
        raise Cancelled(done, hint=f"resume it: {command}") from None
    finally:
        signal.signal(signal.SIGINT, before)


def audit_status(audit: Path) -> dict[str, Any]:
    """Return the status of an audit, its training runs included, as ``labeltui status --json`` prints it."""
    from labeltui import audit as audits
    from labeltui.train import jobs

    with audits.Audit.open(audit, read_only=True) as opened:
        return audits.status(opened, [job.as_json() for job in jobs.list_jobs(opened.path)])
