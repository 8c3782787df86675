"""Settings of the person (a TOML file) and the directories labeltui uses.

The file is ``config.toml`` in `paths.config_dir()`; every setting has a default, so it need not exist::

    [review]
    reviewer = "ada"            # written into every decision; default: the login name
    graphics = "auto"           # auto, kitty, sixel, blocks or ascii
    theme = "labeltui-dark"
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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from labeltui import files, paths
from labeltui.errors import UsageError
from labeltui.text import safe

MOST_BYTES = 1 << 20
GRAPHICS = ("auto", "kitty", "sixel", "blocks", "ascii")


@dataclass(frozen=True)
class Review:
    """Settings of the terminal UI."""

    reviewer: str = ""
    graphics: str = "auto"
    theme: str = "labeltui-dark"
    max_kbps: int = 0


@dataclass(frozen=True)
class Train:
    """Settings of background fine-tuning."""

    after: int = 20
    launcher: str = ""


@dataclass(frozen=True)
class Config:
    """All settings.

    Attributes
    ----------
    path : Path or None
        The file they were read from; None without one.
    """

    review: Review = field(default_factory=Review)
    train: Train = field(default_factory=Train)
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    path: Path | None = None

    @property
    def reviewer(self) -> str:
        """The name that decisions are signed with: the setting, else the login name."""
        if self.review.reviewer:
            return self.review.reviewer
        try:
            return getpass.getuser()
        except (KeyError, OSError):  # a container's user without a name
            return f"uid{os.getuid()}"


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
    file = path or paths.config_dir() / "config.toml"
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
        review=Review(
            reviewer=checker.take(data, "review", "reviewer", str, Review.reviewer),
            graphics=checker.take(data, "review", "graphics", str, Review.graphics, _one_of(GRAPHICS)),
            theme=checker.take(data, "review", "theme", str, Review.theme),
            max_kbps=checker.take(data, "review", "max_kbps", int, Review.max_kbps, _at_least(0)),
        ),
        train=Train(
            after=checker.take(data, "train", "after", int, Train.after, _at_least(0)),
            launcher=checker.take(data, "train", "launcher", str, Train.launcher),
        ),
        keys=checker.take_keys(data),
        path=file,
    )
    checker.refuse_unknown(data, {"review": Review, "train": Train})
    if checker.faults:
        raise UsageError(
            f"{safe(str(file))} has {len(checker.faults)} fault(s)",
            "\n".join(f"  line {line}: {what}" for line, what in sorted(checker.faults)),
            "mend these lines, or remove them to get the defaults",
        )
    return config


def _one_of(choices: tuple[str, ...]) -> Callable[[Any], str | None]:
    return lambda value: None if value in choices else f"must be one of {', '.join(choices)}"


def _at_least(least: int) -> Callable[[Any], str | None]:
    return lambda value: None if value >= least else f"must be {least} or more"


class _Checker:
    """Collects faults with the line each stands on."""

    def __init__(self, content: str) -> None:
        self.lines = content.splitlines()
        self.faults: list[tuple[int, str]] = []

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

    def take(
        self,
        data: dict[str, Any],
        section: str,
        key: str,
        kind: type,
        default: Any,
        require: Callable[[Any], str | None] | None = None,
    ) -> Any:
        table = data.get(section, {})
        if not isinstance(table, dict) or key not in table:
            return default
        value = table[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            name = {str: "text in quotes", int: "a whole number"}[kind]
            self.faults.append((self.line(section, key), f"{section}.{key} must be {name}, it is {value!r}"))
            return default
        if require and (broken := require(value)):
            self.faults.append((self.line(section, key), f"{section}.{key} {broken}, it is {value!r}"))
            return default
        return value

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


def _guess(word: str, known: list[str]) -> str:
    close = get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"
