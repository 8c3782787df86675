"""Settings of the person (a TOML file) and the directories labeltui uses.

The file is ``config.toml`` in `paths.config_dir()`; every setting has a default, so it need not exist::

    [review]
    reviewer = "ada"            # written into every decision; default: the login name
    graphics = "auto"           # auto, kitty, sixel, blocks or ascii
    theme = "labeltui-dark"
    tmux_layers = -1            # tmux servers around the program that pass images on; -1 = found out
    scaling = "pixels"          # pixels or smooth: how images smaller than their place are enlarged
    max_kbps = 0                # 0 = no limit; else previews shrink to fit a slow line

    [train]
    after = 20                  # relabels that start a background fine-tuning; 0 = only by key
    launcher = ""               # put before the child's command line, for example "srun --gres=gpu:1"

    [keys]                      # action id = key or list of keys; `labeltui` lists the ids in docs/keys.md
    keep = ["space", "y"]
"""

from __future__ import annotations

import getpass
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from labeltui import paths
from labeltui.errors import UsageError
from labeltui.io import files
from labeltui.options import Option, option, options_of
from labeltui.text import safe

FILE = "config.toml"
MOST_BYTES = 1 << 20
SCALINGS = ("pixels", "smooth")
GRAPHICS = ("auto", "kitty", "sixel", "blocks", "ascii")

Section = TypeVar("Section", "Review", "Train")


@dataclass(frozen=True)
class Review:
    """Settings of the terminal UI."""

    reviewer: str = option("", "Signs the decisions.", shown="the login name")
    graphics: str = option("auto", "How images are shown.", choices=GRAPHICS)
    tmux_layers: int = option(
        -1,
        "tmux servers around the program that pass images of kitty's protocol on; 0: this tmux draws them itself; "
        "-1: found out.",
        least=-1,
    )
    theme: str = option("labeltui-dark", "Colours; the palette of the terminal UI lists them.")
    scaling: str = option("pixels", "How images smaller than their place are enlarged.", choices=SCALINGS)
    max_kbps: int = option(0, "Shrink previews to fit a slow line; 0: no limit.", least=0)


@dataclass(frozen=True)
class Train:
    """Settings of background fine-tuning."""

    after: int = option(20, "Relabels that start a background training; 0: only by key.", least=0)
    launcher: str = option(
        "", "Put before the command line of a training process, such as srun --gres=gpu:1."
    )


@dataclass(frozen=True)
class Config:
    """All settings.

    Attributes
    ----------
    path : Path or None
        The file they were read from; None without one.
    given : frozenset of str
        The settings of ``review`` and ``train`` that the file holds, such as ``train.after``.
    """

    review: Review = field(default_factory=Review)
    train: Train = field(default_factory=Train)
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    path: Path | None = None
    given: frozenset[str] = frozenset()

    @property
    def reviewer(self) -> str:
        """The name that decisions are signed with: the setting, else the login name."""
        if self.review.reviewer:
            return self.review.reviewer
        try:
            return getpass.getuser()
        except (KeyError, OSError):  # a container's user without a name
            return f"uid{os.getuid()}"


VARIABLES = {
    "LABELTUI_THREADS": "CPU threads where no --threads is given; unset: all this process may use.",
    "LABELTUI_KNN": "Instruction set of the neighbour search; unset: the fastest of this CPU.",
    "LABELTUI_FRAMES": "textual: let Textual write the screen, with images as blocks.",
    "HF_HUB_OFFLINE": "1: never look for weights on the network.",
    "HF_HOME": "Where published weights are kept.",
    "TORCH_HOME": "Where torchvision's weights are kept.",
    "NO_COLOR": "Anything: no colours.",
    "XDG_CONFIG_HOME": "Where the directory of the settings file is.",
    "XDG_CACHE_HOME": "Where the demo and what terminals answered are kept.",
    "XDG_STATE_HOME": "Where the place in each audit's queue is kept.",
}
"""Variables of the environment that change what labeltui does, and how."""


@dataclass(frozen=True)
class Setting:
    """One setting with its origin.

    Attributes
    ----------
    section : str
        ``review``, ``train`` and ``keys`` of the settings file, ``environment``, or ``scan``.
    name : str
    value, default : object
        None = not set.
    source : str
        ``default``, ``file``, ``environment`` or ``audit``.
    help : str
    """

    section: str
    name: str
    value: Any
    default: Any
    source: str
    help: str

    @property
    def changed(self) -> bool:
        """Whether the value is not the default."""
        return bool(self.value != self.default)

    @property
    def text(self) -> str:
        """The value for people."""
        return _shown(self.value)

    @property
    def default_text(self) -> str:
        """The default for people."""
        return _shown(self.default)

    def as_json(self) -> dict[str, Any]:
        """The entry of ``labeltui config --json``."""
        return {
            "section": self.section,
            "name": self.name,
            "value": _plain(self.value),
            "default": _plain(self.default),
            "source": self.source,
            "help": self.help,
        }


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {safe(str(name)): _plain(each) for name, each in value.items()}
    if isinstance(value, str | os.PathLike):
        return safe(os.fspath(value))
    return value


def _shown(value: Any) -> str:
    value = _plain(value)
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None or value == "" or value == {} else str(value)


def settings(keys: Mapping[str, tuple[tuple[str, ...], str]]) -> list[Setting]:
    """Return every setting of the file and of the environment, with its value and origin.

    Parameters
    ----------
    keys : mapping of str to (tuple of str, str)
        The default keys of each action, and what it does.

    Returns
    -------
    list of Setting

    Raises
    ------
    UsageError
        The settings file has faults.
    """
    config = load()
    found = []
    for section, kind in (("review", Review), ("train", Train)):
        for name, each in options_of(kind).items():
            source = "file" if f"{section}.{name}" in config.given else "default"
            value = getattr(getattr(config, section), name)
            default = each.default
            if name == "reviewer":
                value, default = config.reviewer, Config().reviewer
            found.append(Setting(section, name, value, default, source, each.help))
    for action, (default_keys, text) in keys.items():
        own = config.keys.get(action)
        source = "default" if own is None else "file"
        found.append(
            Setting("keys", action, default_keys if own is None else own, default_keys, source, text)
        )
    for variable, text in VARIABLES.items():
        set_to = os.environ.get(variable)
        source = "default" if set_to is None else "environment"
        found.append(Setting("environment", variable, set_to, None, source, text))
    return found


def load(path: Path | None = None) -> Config:
    """Read the settings.

    Parameters
    ----------
    path : Path, optional
        A file that must exist; by default ``config.toml`` in `paths.config_dir()`, which need not.

    Raises
    ------
    UsageError
        Listing every fault of the file with its line.
    """
    file = path or paths.config_dir() / FILE
    try:
        content = files.read_regular(file, MOST_BYTES).decode()
    except FileNotFoundError:
        if path is None:
            return Config()
        raise UsageError("the settings file must exist", f"there is no {safe(str(path))}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("the settings file must be readable UTF-8", f"{safe(str(file))}: {error}") from None
    try:
        data = tomllib.loads(content)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        what = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise UsageError("the settings file must be TOML", f"{safe(str(file))}: {safe(what)}") from None
    checker = _Checker(content)
    config = Config(
        review=checker.take(data, "review", Review),
        train=checker.take(data, "train", Train),
        keys=checker.take_keys(data),
        path=file,
        given=frozenset(checker.taken),
    )
    checker.refuse_unknown(data, {"review": Review, "train": Train})
    if checker.faults:
        raise UsageError(
            f"{safe(str(file))} has {len(checker.faults)} fault(s)",
            "\n".join(f"  line {line}: {what}" for line, what in sorted(checker.faults)),
            "mend these lines, or remove them to get the defaults",
        )
    return config


class _Checker:
    """Collects faults with the line each stands on."""

    def __init__(self, content: str) -> None:
        self.lines = content.splitlines()
        self.faults: list[tuple[int, str]] = []
        self.taken: set[str] = set()

    def line(self, section: str, key: str | None = None) -> int:
        # tomllib keeps no positions. A setting stands as `key =` below its `[section]`; inline tables and
        # dotted keys fall back to the section's line, then to line 1.
        current, section_line = "", 1
        for number, text in enumerate(self.lines, start=1):
            if header := re.match(r"\s*\[\s*\"?([^\]\"]+?)\"?\s*\]", text):
                current = header[1]
                if current == section:
                    section_line = number
            elif (
                key is not None
                and current == section
                and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", text)
            ):
                return number
            elif not current and re.match(rf"\s*{re.escape(section)}\s*[.=]", text):
                section_line = number
        return section_line

    def take(self, data: dict[str, Any], section: str, kind: type[Section]) -> Section:
        table = data.get(section, {})
        values: dict[str, Any] = {}
        for name, setting in options_of(kind).items():
            if isinstance(table, dict) and name in table:
                if fault := _fault(table[name], setting):
                    what = f"{section}.{name} {fault}, it is {table[name]!r}"
                    self.faults.append((self.line(section, name), what))
                else:
                    values[name] = table[name]
                    self.taken.add(f"{section}.{name}")
        return kind(**values)

    def take_keys(self, data: dict[str, Any]) -> dict[str, tuple[str, ...]]:
        table = data.get("keys", {})
        if not isinstance(table, dict):
            return {}
        keys: dict[str, tuple[str, ...]] = {}
        for action, value in table.items():
            wanted = [value] if isinstance(value, str) else value
            if not isinstance(wanted, list) or not all(isinstance(key, str) and key for key in wanted):
                self.faults.append(
                    (self.line("keys", action), f"keys.{action} must be a key or a list of keys")
                )
                continue
            keys[action] = tuple(wanted)
        return keys

    def refuse_unknown(self, data: dict[str, Any], sections: dict[str, type[Review] | type[Train]]) -> None:
        known = [*sections, "keys"]
        for section, table in data.items():
            if section not in known:
                self.faults.append(
                    (self.line(section), f"there is no section [{section}]{_guess(section, known)}")
                )
            elif not isinstance(table, dict):
                self.faults.append((self.line(section), f"{section} must be a section: [{section}]"))
            elif section in sections:
                names = [setting.name for setting in fields(sections[section])]
                for key in table:
                    if key not in names:
                        what = f"there is no setting {section}.{key}{_guess(key, names)}"
                        self.faults.append((self.line(section, key), what))


def _fault(value: Any, setting: Option) -> str:
    """Say what a value of the file must be, if it is not that."""
    if not issubclass(type(value), setting.kind) or isinstance(value, bool):
        return {str: "must be text in quotes", int: "must be a whole number"}[setting.kind]
    if setting.choices and value not in setting.choices:
        return f"must be one of {', '.join(setting.choices)}"
    if setting.least is not None and value < setting.least:
        return f"must be {setting.least} or more"
    return ""


def _guess(word: str, known: list[str]) -> str:
    close = get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"
