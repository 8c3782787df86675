"""``labeltui config`` and ``completion``: what holds where nothing is given, and the shell's help in typing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.shell_completion import BashComplete, get_completion_class

from labeltui.cli._common import AUDIT, json_option, print_json
from labeltui.text import safe

# click's script puts names into the line as they are: those with spaces or `$` fell apart, and `*` became files.
# A word that was begun with a quote is closed by bash itself, and `~` stays what the shell expands.
_BASH = r"""%(complete_func)s() {
    local word="${COMP_WORDS[COMP_CWORD]}" words line value
    words=$(IFS=$'\n'; printf %%s "${COMP_WORDS[*]}")
    while IFS= read -r line; do
        value="${line#*,}"
        case "${line%%%%,*}" in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain)
                if [[ "$word" != [\"\']* ]]; then
                    printf -v value %%q "$value"
                    value="${value/#\\~/"~"}"
                fi
                COMPREPLY+=("$value") ;;
        esac
    done < <(env COMP_WORDS="$words" COMP_CWORD="$COMP_CWORD" %(complete_var)s=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class _Bash(BashComplete):
    """Completion in bash of names as they may be."""

    source_template = _BASH


@click.command()
@click.argument("audit", type=AUDIT, required=False)
@json_option
def config(audit: Path | None, as_json: bool) -> None:
    """Show every setting, its value and where that comes from; with AUDIT also the options of its scan.

    \b
    default       built in
    file          the settings file
    environment   a variable
    audit         the scan that made AUDIT, or the one it was begun with
    """
    from labeltui import config as configuration
    from labeltui import paths
    from labeltui.tui.actions import ACTIONS

    found = configuration.settings({action.id: (action.keys, action.description) for action in ACTIONS})
    if audit is not None:
        found += _of_scan(audit)
    file = paths.config_dir() / configuration.FILE
    if as_json:
        print_json(
            {
                "file": safe(str(file)),
                "exists": file.is_file(),
                "cache": safe(str(paths.cache_dir())),
                "state": safe(str(paths.state_dir())),
                "settings": [setting.as_json() for setting in found],
            }
        )
        return
    lines = [f"{safe(str(file))}{'' if file.is_file() else ' (not there: defaults hold)'}"]
    width = max(len(setting.name) for setting in found)
    section = ""
    for setting in found:
        if setting.section != section:
            section = setting.section
            lines += ["", f"[{section}]"]
        shown = setting.text + (f"  (default {setting.default_text})" if setting.changed else "")
        lines.append(f"  {setting.name:<{width}}  {setting.source:<11}  {shown}")
    click.echo("\n".join(lines))


def _of_scan(audit: Path) -> list[Any]:
    """Return the options of an audit's scan as settings."""
    from dataclasses import fields, is_dataclass

    from labeltui import scanning
    from labeltui.config import Setting
    from labeltui.options import options_of

    recorded = scanning.recorded_options(audit)
    values: dict[str, Any] = {}
    waiting: list[Any] = [recorded]
    while waiting:
        part = waiting.pop()
        for each in fields(part):
            value = getattr(part, each.name)
            if is_dataclass(value):
                waiting.append(value)
            values[each.name] = value
    return [
        Setting("scan", option.name, values[option.name], option.default, "audit", option.help)
        for option in options_of(scanning.ScanOptions).values()
        if option.help and option.name in values and option.name not in ("threads", "resume", "shared")
    ]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of SHELL: commands, options, audits, runs and classes.

    \b
    bash   echo 'eval "$(labeltui completion bash)"' >> ~/.bashrc
    zsh    echo 'eval "$(labeltui completion zsh)"' >> ~/.zshrc
    fish   labeltui completion fish > ~/.config/fish/completions/labeltui.fish
    """
    made = _Bash if shell == "bash" else get_completion_class(shell)
    assert made is not None, shell
    click.echo(made(context.find_root().command, {}, "labeltui", "_LABELTUI_COMPLETE").source())
