"""Options, each declared once: as a field of a dataclass, with its type, default and help.

The command line makes its options from these fields, the Python API its keywords, and the settings file its keys::

    @dataclass(frozen=True)
    class ScanOptions:
        source: SourceOptions = part(SourceOptions)  # its options are options of the scan, by the same names
        k: int = option(10, "Neighbours that CSG and votes count.", "Scoring")

    build(ScanOptions, {"k": 20, "path_column": "file"})
"""

from __future__ import annotations

import inspect
import os
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from labeltui.errors import UsageError
from labeltui.text import safe

GROUPS = ("Source", "Model", "Training", "Scoring", "Run")  # in the order of --help
_DECLARED, _PART, _NEEDS = "labeltui.option", "labeltui.part", "labeltui.needs"

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Option:
    """An option of a dataclass or of its parts.

    Attributes
    ----------
    name : str
        Of the field, and of the keyword.
    kind : type
        Of the value, without None.
    optional : bool
        Whether the value may be None.
    default : object
        `dataclasses.MISSING` where a value is required.
    help : str
        Empty for fields that are keywords of the API only.
    group : str
        One of `GROUPS`.
    shown : str
        The default in words; empty where the help says it.
    flag : str or None
        Name on the command line, if not the field's; a letter such as ``-k`` is added to it.
    metavar : str or None
    choices : tuple of str
    parse : callable or None
        Makes the value from text.
    multiple : bool
        Whether the option may be repeated; `parse` then gets all its texts.
    least : int or None
        The smallest value.
    """

    name: str
    kind: type
    optional: bool
    default: Any
    help: str = ""
    group: str = "Run"
    shown: str = ""
    flag: str | None = None
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    parse: Callable[[Any], Any] | None = None
    multiple: bool = False
    least: int | None = None

    @property
    def flags(self) -> list[str]:
        """Names on the command line."""
        if self.flag is not None:
            return [self.flag, f"--{self.name}"] if len(self.flag) == 2 else [self.flag]
        name = self.name.replace("_", "-")
        return [f"--{name}/--no-{name}" if self.kind is bool and self.default is not False else f"--{name}"]

    def convert(self, value: Any) -> Any:
        """Convert text, lists and paths to the type of the field; other values are returned as they are."""
        if self.parse is not None:
            as_text = isinstance(value, (str, os.PathLike))
            return (
                self.parse(value) if as_text or (self.multiple and not isinstance(value, Mapping)) else value
            )
        if self.kind is Path and isinstance(value, (str, os.PathLike)):
            return Path(value)
        return value


def option(
    default: Any,
    help: str,
    group: str = "Run",
    *,
    shown: str | None = None,
    flag: str | None = None,
    metavar: str | None = None,
    choices: Sequence[str] = (),
    parse: Callable[[Any], Any] | None = None,
    multiple: bool = False,
    least: int | None = None,
) -> Any:
    """Declare a field of a dataclass as an option of the command line.

    Parameters
    ----------
    default : object
        A class such as ``dict`` makes a new value for each instance.
    help, group, shown, flag, metavar, choices, parse, multiple, least
        See `Option`.

    Returns
    -------
    dataclasses.Field
    """
    declared = {
        "help": help, "group": group, "shown": shown, "flag": flag, "metavar": metavar, "choices": tuple(choices),
        "parse": parse, "multiple": multiple, "least": least,
    }  # fmt: skip
    metadata = {_DECLARED: declared}
    if isinstance(default, type):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def part(kind: type, needs: str = "") -> Any:
    """Declare a field that holds another dataclass of options.

    Parameters
    ----------
    kind : type
        That dataclass.
    needs : str
        An option of it without which there is no such part: the field is None then.

    Returns
    -------
    dataclasses.Field
    """
    metadata = {_PART: kind, _NEEDS: needs}
    if needs:
        return field(default=None, metadata=metadata)
    return field(default_factory=kind, metadata=metadata)


def options_of(kind: type) -> dict[str, Option]:
    """Return all options of a dataclass and its parts, by name.

    Parameters
    ----------
    kind : type

    Returns
    -------
    dict of str to Option
        In the order of the fields.
    """
    found: dict[str, Option] = {}
    for each in _options(kind):
        assert each.name not in found, f"two options are called {each.name}"
        found[each.name] = each
    return found


def _options(kind: type) -> Iterator[Option]:
    hints = typing.get_type_hints(kind)
    for each in fields(kind):
        if _PART in each.metadata:
            yield from _options(each.metadata[_PART])
            continue
        hint = hints[each.name]
        union = typing.get_origin(hint) in (typing.Union, types.UnionType)
        kinds = typing.get_args(hint) if union else (hint,)
        plain = next(one for one in kinds if one is not types.NoneType)
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        declared = dict(each.metadata.get(_DECLARED, {}))
        if declared.get("shown") is None:
            declared["shown"] = "" if default is MISSING or not default else _text(default)
        yield Option(
            each.name, typing.get_origin(plain) or plain, types.NoneType in kinds, default, **declared
        )


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def build(kind: type[T], values: Mapping[str, Any]) -> T:
    """Make an instance of a dataclass of options and of its parts.

    Parameters
    ----------
    kind : type
    values : mapping
        Values by the names of options; the others have their defaults.

    Returns
    -------
    instance of `kind`

    Raises
    ------
    UsageError
        There is no such option, or a value is wrong.
    """
    known = options_of(kind)
    for name in values:
        if name not in known:
            close = get_close_matches(name, known, n=1)
            raise UsageError(
                "an option must be known",
                f"got {safe(name)}",
                f"did you mean {close[0]}?" if close else ", ".join(known),
            )
    return _build(kind, {name: known[name].convert(value) for name, value in values.items()})


def _build(kind: type[T], values: Mapping[str, Any]) -> T:
    arguments: dict[str, Any] = {}
    for each in fields(kind):  # type: ignore[arg-type]  # every caller passes a dataclass
        if _PART in each.metadata:
            if not each.metadata[_NEEDS] or each.metadata[_NEEDS] in values:
                arguments[each.name] = _build(each.metadata[_PART], values)
        elif each.name in values:
            arguments[each.name] = values[each.name]
    return kind(**arguments)


def keywords(kind: type) -> Callable[[F], F]:
    """Make a decorator that shows the options behind a function's ``**options`` in its signature and its docstring.

    Parameters
    ----------
    kind : type
        The dataclass of the options.

    Returns
    -------
    callable
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        listed = [each for each in options_of(kind).values() if each.name not in signature.parameters]
        added = [
            inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=each.default)
            for each in listed
        ]
        lines = [f"        * ``{each.name}={each.default!r}``: {each.help}" for each in listed if each.help]
        before, heading, after = inspect.cleandoc(function.__doc__ or "").partition("**options\n")
        text, blank, rest = after.partition("\n\n")
        shown = "\n".join([text, "", *(line[4:] for line in lines)])
        function.__doc__ = before + heading + shown + blank + rest
        function.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
        return function

    return decorate


def split_names(text: str) -> tuple[str, ...]:
    """Split names with commas between them."""
    return tuple(name.strip() for name in text.split(","))


def split_numbers(text: str) -> tuple[float, ...]:
    """Split numbers with commas between them.

    Raises
    ------
    ValueError
        A part is not a number.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is not a number, nor numbers with commas between them") from None
