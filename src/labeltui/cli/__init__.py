"""The command line: each command parses its options, calls one function of one package, and prints.

One module a group of commands; :data:`COMMANDS` lists them in the order of ``--help``. Commands import packages inside
their functions, so that ``labeltui status`` does not wait for torch.
"""

from __future__ import annotations

import os
import sys
from difflib import get_close_matches
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from labeltui import __version__
from labeltui.cli import (
    exchange,
    export,
    inspection,
    noise,
    review,
    scan,
    settings,
    sharing,
    training,
    upkeep,
)
from labeltui.cli._common import complete_audits
from labeltui.errors import LabeltuiError, SystemRefused, UsageError
from labeltui.text import safe

COMMANDS = (
    scan.demo,
    scan.scan,
    scan.plan,
    review.review,
    training.train,
    training.jobs_,
    training.compare,
    noise.noise,
    export.export,
    exchange.diff,
    exchange.apply,
    sharing.split,
    sharing.merge,
    sharing.agreement,
    sharing.import_,
    inspection.status,
    inspection.explain,
    inspection.report_,
    upkeep.check,
    upkeep.backup,
    upkeep.doctor,
    settings.config,
    settings.completion,
)


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
        elif name not in self.commands and not name.startswith("-") and not ctx.resilient_parsing:
            known = [*self.commands, *(entry.name for entry in Path().glob("*.audit"))]
            close = get_close_matches(name, known, n=1)
            raise UsageError(
                "the first word is an audit or a command",
                f"there is no audit or command {safe(name)}",
                f"did you mean {safe(close[0])}?" if close else "labeltui --help lists the commands",
            )
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete commands, and audits in the place of one."""
        audits = [CompletionItem(name, help="review it") for name in complete_audits(incomplete)]
        return [*super().shell_complete(ctx, incomplete), *audits]

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


for _command in COMMANDS:
    cli.add_command(_command)


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
