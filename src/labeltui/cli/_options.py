"""Commands whose options are the fields of a dataclass, see `labeltui.options`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import click

from labeltui.cli._common import PATH
from labeltui.options import GROUPS, Option, options_of

TYPES = {"int": click.INT, "float": click.FLOAT, "bool": click.BOOL, "Path": PATH}


class _Parsed(click.ParamType[Any]):
    """Text that the option itself parses."""

    name = "text"

    def __init__(self, option: Option) -> None:
        self.option = option

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self.option.convert(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class GroupedOption(click.Option):
    """An option made from a field; its value is None where it is not given, so that the field's default holds.

    Parameters
    ----------
    option : Option
    """

    def __init__(self, option: Option) -> None:
        kind: Any = TYPES.get(option.kind.__name__, click.STRING)
        if option.choices:
            kind = click.Choice(option.choices)
        elif option.parse is not None and not option.multiple:
            kind = _Parsed(option)
        shown = f"  [default: {option.shown}]" if option.shown else ""
        super().__init__(
            [*option.flags, option.name],
            type=kind,
            default=None,
            is_flag=option.kind is bool,
            multiple=option.multiple,
            callback=(lambda context, parameter, texts: texts or None) if option.multiple else None,
            metavar=option.metavar,
            help=option.help + shown,
        )
        self.group = option.group


class OptionsCommand(click.Command):
    """A command that has the options of a dataclass beside its own, in groups.

    The module of the dataclass is imported when the options are needed, since that may take a while.

    Parameters
    ----------
    options : str
        Module and name of the dataclass, such as ``labeltui.config:Review``.
    only : sequence of str, optional
        Names of the options to take; by default all that have a help text.
    examples : mapping of str to str, optional
        A command line for each group.
    """

    def __init__(
        self,
        *args: Any,
        options: str,
        only: Sequence[str] | None = None,
        examples: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._source: str | None = options
        self._only = only
        self.examples = examples or {}

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        if self._source is not None:
            module, _, name = self._source.partition(":")
            self._source = None
            known = options_of(getattr(importlib.import_module(module), name))
            self.params += [
                GroupedOption(each)
                for each in known.values()
                if (each.help if self._only is None else each.name in self._only)
            ]
        return super().get_params(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        grouped: dict[str, list[tuple[str, str]]] = {name: [] for name in GROUPS}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                grouped[getattr(param, "group", "Run")].append(record)
        for name, records in grouped.items():
            if records:
                with formatter.section(name):
                    if name in self.examples:
                        formatter.write(
                            f"{'':{formatter.current_indent}}$ labeltui {self.examples[name]}\n\n"
                        )
                    formatter.write_dl(records)


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given on the command line."""
    return {name: value for name, value in values.items() if value is not None}
