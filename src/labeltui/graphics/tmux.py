"""Asks the tmux servers between this program and the terminal what they pass on.

A tmux server forwards what it does not understand only where ``allow-passthrough`` is on, and takes one wrapping off.
With one tmux inside another an image by kitty's protocol must therefore be wrapped once for each. The server that
serves ``$TMUX`` knows the process of its client, and that process's environment names the next server, unless a
connection to another host lies between.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

WAIT = 1.0
"""Seconds that a server may take to answer."""
MOST = 4
"""tmux servers inside one another that are looked for."""
_FORMAT = "\t".join(
    f"#{{{name}}}"
    for name in (
        "version",
        "allow-passthrough",
        "client_termfeatures",
        "client_termtype",
        "client_termname",
        "client_pid",
    )
)
_PLACEHOLDERS = {"kitty": (0, 28), "ghostty": (1, 0)}
"""Terminals that know kitty's placeholders, and since which version."""


class Server(NamedTuple):
    """What one tmux server says of itself and of the terminal that it is shown in.

    Attributes
    ----------
    version : str
    passes : bool
        Whether it passes on what it does not understand (``allow-passthrough``).
    rgb : bool
        Whether it gives its terminal colours of 24 bits.
    terminal : str
        Name and version of its terminal, or the terminal's type.
    """

    version: str
    passes: bool
    rgb: bool
    terminal: str


def servers(environment: Mapping[str, str]) -> tuple[Server, ...]:
    """Return the tmux servers between a program and its terminal, as far as they can be asked; innermost first.

    Parameters
    ----------
    environment : mapping of str to str
        The program's.
    """
    place = environment.get("TMUX", ""), environment.get("TMUX_PANE", "")
    return _servers(*place) if place[0] else ()


def obstacle(found: tuple[Server, ...]) -> str:
    """Return why images by kitty's protocol do not reach the terminal, empty if they do.

    Parameters
    ----------
    found : tuple of Server
        From `servers`.
    """
    if not found:
        return "tmux does not say which terminal it is shown in"
    for number, server in enumerate(found, 1):
        where = "tmux" if len(found) == 1 else f"tmux number {number} from inside"
        if not server.passes:
            return f"{where} passes no images on: set -g allow-passthrough on"
        if not server.rgb:
            return f"{where} passes no colours of 24 bits on: set -as terminal-features ',*:RGB'"
    name, version = _name(found[-1].terminal)
    if name == "tmux":
        return "another tmux lies beyond this host: say how many there are with --tmux-layers"
    if name not in _PLACEHOLDERS:
        return f"the terminal around tmux is {found[-1].terminal or 'not known'}"
    if version < _PLACEHOLDERS[name]:
        return f"{found[-1].terminal} does not know placeholders for images"
    return ""


def wrap(sequence: str, layers: int) -> str:
    """Return an escape sequence as so many tmux servers must get it to pass it on.

    Parameters
    ----------
    sequence : str
    layers : int
        Number of servers; 0 leaves it as it is.
    """
    for _ in range(layers):
        sequence = "\x1bPtmux;" + sequence.replace("\x1b", "\x1b\x1b") + "\x1b\\"
    return sequence


@cache  # asked before the program takes the screen; the same question again must not wait
def _servers(tmux: str, pane: str) -> tuple[Server, ...]:
    found: list[Server] = []
    while tmux and len(found) < MOST:
        fields = _ask(tmux.split(",", maxsplit=1)[0], pane)
        if fields is None:
            break
        version, passes, features, kind, name, process = fields
        terminal = kind if kind and kind != "unknown" else name
        found.append(Server(version, passes in ("1", "on", "all"), "RGB" in features.split(","), terminal))
        environment = _environment(process)
        tmux, pane = environment.get("TMUX", ""), environment.get("TMUX_PANE", "")
    return tuple(found)


def _ask(socket: str, pane: str) -> list[str] | None:
    command = ["tmux", "-S", socket, "display-message", "-p", *(["-t", pane] if pane else []), _FORMAT]
    try:
        answer = subprocess.run(
            command, capture_output=True, timeout=WAIT, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    text = answer.stdout.decode("utf-8", "replace").rstrip("\n")
    fields = ["".join(c for c in field if c.isprintable())[:80] for field in text.split("\t")]
    return fields if len(fields) == _FORMAT.count("\t") + 1 else None


def _environment(process: str) -> dict[str, str]:
    """Return the environment of another process of this user; empty where it cannot be read."""
    if not process.isascii() or not process.isdigit():
        return {}
    try:
        entries = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    pairs = (entry.decode("utf-8", "replace").split("=", maxsplit=1) for entry in entries if b"=" in entry)
    return dict(pairs)


def _name(terminal: str) -> tuple[str, tuple[int, ...]]:
    """Split a terminal's own name, such as ``kitty(0.32.2)`` or ``tmux 3.4``, into name and version."""
    match = re.match(r"(?:xterm-)?(?P<name>[A-Za-z]+)\D*(?P<version>[0-9.]*)", terminal)
    if match is None:
        return "", ()
    version = tuple(int(part) for part in match["version"].split(".") if part)
    return match["name"].lower(), version
