"""Write docs/settings.md and the manual page docs/labeltui.1 from what the program itself knows.

python docs/make_reference.py
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click

from labeltui import __version__, config
from labeltui.cli import cli
from labeltui.cli._options import GroupedOption, OptionsCommand
from labeltui.options import GROUPS, options_of

DOCS = Path(__file__).parent
SETTINGS, MANUAL = DOCS / "settings.md", DOCS / "labeltui.1"
HEAD = """# Settings and options

<!-- Written by `python docs/make_reference.py` from the program itself; a test compares them. -->

`labeltui config` shows the value of every setting on this machine, and where it comes from; `labeltui config my.audit`
shows the options of its scan too. What is given on the command line comes first, then the environment, then the
settings file, then the default.

"""
FILE = """## The settings file

`config.toml` in the directory that `labeltui config` names (Linux: `~/.config/labeltui/`). It need not exist; a fault
in it is named with its line.

```toml
[review]
reviewer = "ada"

[train]
launcher = "srun --gres=gpu:1"

[keys]
keep = ["space", "y"]      # action = key or keys: docs/keys.md lists them
```

"""


def cell(text: str) -> str:
    """Text that a cell of a table may hold."""
    return text.replace("|", "\\|").replace("\n", " ")


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Lines of a table, and an empty one."""
    lines = [head, tuple("---" for _ in head), *rows]
    return [f"| {' | '.join(map(cell, row))} |".replace("|  |", "| |") for row in lines] + [""]


def commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    """Yield all commands with their full names."""
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


def grouped(name: str, command: click.Command) -> tuple[str, dict[str, list[tuple[str, str]]]]:
    """Return a command's usage, and its options with their help by group, in the order of --help."""
    with command.make_context(name, [], resilient_parsing=True) as context:
        usage = " ".join(command.collect_usage_pieces(context))
        found: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        for param in command.get_params(context):
            record = param.get_help_record(context)
            if record is not None and isinstance(param, click.Option) and "--help" not in param.opts:
                found[param.group if isinstance(param, GroupedOption) else "Run"].append(record)
    return usage, {group: records for group, records in found.items() if records}


def options(name: str, command: click.Command) -> list[str]:
    """Lines of a command: its usage, what it does, and its options in groups."""
    usage, groups = grouped(name, command)
    summary = (command.help or "").replace("\b", "").strip().partition("\n\n")[0].replace("\n", " ")
    lines = [f"### {name}", "", f"`{name} {usage}`", "", summary, ""]
    for group, records in groups.items():
        rows = [(f"`{option}`", text) for option, text in records]
        lines += table((group if len(groups) > 1 else "Option", ""), rows)
    return lines


def page() -> str:
    """The page."""
    lines = []
    for section, kind in (("review", config.Review), ("train", config.Train)):
        rows = [
            (f"`{section}.{each.name}`", each.shown or str(each.default) or "none", each.help)
            for each in options_of(kind).values()
        ]
        lines += table(("setting", "default", ""), rows)
    lines += ["## The environment", ""]
    lines += table(("variable", ""), [(f"`{name}`", text) for name, text in config.VARIABLES.items()])
    lines += ["## Options of the commands", ""]
    for name, command in commands(cli, "labeltui"):
        lines += options(name, command)
    return HEAD + FILE + "\n".join(lines).rstrip() + "\n"


def roff(text: str) -> str:
    """Text as it is to be seen on a manual page."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", r"\\&", text, flags=re.MULTILINE)


def prose(text: str) -> list[str]:
    """Lines of a manual page for a help text; its paragraphs after a \\b keep their lines."""
    lines = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        kept = paragraph.startswith("\b")
        content = roff(paragraph.removeprefix("\b").strip("\n"))
        lines += [".PP", ".nf", content, ".fi"] if kept else [".PP", content]
    return lines


def entries(rows: list[tuple[str, str]]) -> list[str]:
    """Lines of a manual page for terms and what they mean."""
    return [line for term, text in rows for line in (".TP", f"\\fB{roff(term)}\\fR", roff(text))]


def manual() -> str:
    """The manual page: all commands with their options and examples, the environment, and the exit codes."""
    summary, _, more = inspect.cleandoc(cli.help or "").partition("\n\n")
    summary = summary.replace("\n", " ").rstrip(".")
    lines = [
        '.\\" Written by python docs/make_reference.py from the program itself; a test compares them.',
        f'.TH LABELTUI 1 "" "labeltui {__version__}" "User Commands"',
        *(".SH NAME", f"labeltui \\- {roff(summary)}"),
        *(".SH SYNOPSIS", ".B labeltui", "COMMAND [OPTIONS] ...", ".br", ".B labeltui", "AUDIT"),
        *(".SH DESCRIPTION", *prose(more)),
        ".SH COMMANDS",
    ]
    for name, command in commands(cli, "labeltui"):
        usage, groups = grouped(name, command)
        lines += [f'.SS "{roff(f"{name} {usage}")}"', *prose(command.help or "")]
        for group, records in groups.items():
            if len(groups) > 1:
                lines += [".PP", f"\\fI{group}\\fR"]
            if isinstance(command, OptionsCommand) and group in command.examples:
                lines += [".PP", ".nf", roff(f"    $ labeltui {command.examples[group]}"), ".fi"]
            lines += entries(records)
    codes = re.findall(r"^\| (\d+) \| (.*) \|$", (DOCS / "json.md").read_text(), re.MULTILINE)
    lines += [".SH ENVIRONMENT", *entries(list(config.VARIABLES.items()))]
    lines += [".SH EXIT STATUS", *entries([(code, text.replace("`", "")) for code, text in codes])]
    return "\n".join(lines) + "\n"


def main() -> None:
    SETTINGS.write_text(page())
    MANUAL.write_text(manual())


if __name__ == "__main__":
    main()
