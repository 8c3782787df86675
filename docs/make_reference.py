"""Write docs/settings.md from what the program itself knows, and with --man the manual pages.

python docs/make_reference.py                 docs/settings.md
python docs/make_reference.py --man man/      man/labeltui-scan.1 and so on (needs click-man, extra `docs`)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from labeltui import __version__, config
from labeltui.cli import cli
from labeltui.cli._options import GroupedOption
from labeltui.options import GROUPS, options_of

SETTINGS = Path(__file__).parent / "settings.md"
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


def options(name: str, command: click.Command) -> list[str]:
    """Lines of a command: its usage, what it does, and its options in groups."""
    with command.make_context(name, [], resilient_parsing=True) as context:
        params = command.get_params(context)
        usage = " ".join(command.collect_usage_pieces(context))
        known = [param for param in params if isinstance(param, click.Option) and "--help" not in param.opts]
        records = [(param, param.get_help_record(context)) for param in known]
    summary = (command.help or "").replace("\b", "").strip().partition("\n\n")[0].replace("\n", " ")
    lines = [f"### {name}", "", f"`{name} {usage}`", "", summary, ""]
    for wanted in GROUPS:
        rows = [
            (f"`{record[0]}`", record[1])
            for param, record in records
            if record is not None and (param.group if isinstance(param, GroupedOption) else "Run") == wanted
        ]
        if rows:
            lines += table((wanted if len(records) > len(rows) else "Option", ""), rows)
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


def main() -> None:
    if sys.argv[1:2] == ["--man"]:
        from click_man.core import write_man_pages

        target = Path(sys.argv[2])
        target.mkdir(parents=True, exist_ok=True)
        write_man_pages("labeltui", cli, version=__version__, target_dir=str(target))
    else:
        SETTINGS.write_text(page())


if __name__ == "__main__":
    main()
