"""What the terminal can show, as far as it is known."""

from __future__ import annotations

import locale
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from labeltui.errors import UsageError

KINDS = ("kitty", "sixel", "blocks", "ascii")
FOUND = -1
"""tmux servers: as many as are found."""
COLOURS = ("truecolor", "256", "16", "none")


@dataclass(frozen=True)
class Cell:
    """Size of one character cell in pixels.

    Attributes
    ----------
    width, height : int
        Both at least 1. Where a terminal does not tell, 10 by 20: only their ratio matters to text.
    """

    width: int = 10
    height: int = 20


@dataclass(frozen=True)
class Capabilities:
    """What a terminal can show, and how that is known.

    Attributes
    ----------
    kind : str
        How images are drawn: ``kitty``, ``sixel``, ``blocks`` or ``ascii``.
    why : str
        One phrase that says why this kind was chosen.
    cell : Cell
        Size of a character cell in pixels.
    cell_known : bool
        Whether the terminal told that size.
    registers : int
        Colours that one sixel image may use.
    set_registers : bool
        Whether the terminal starts with fewer registers and lets a program ask for `registers`.
    geometry : tuple of int, optional
        Largest sixel image in pixels, (width, height).
    colours : str
        Colours of text: ``truecolor``, ``256``, ``16`` or ``none``.
    unicode : bool
        Whether the locale's encoding is UTF-8.
    tmux, ssh : bool
        Whether tmux or ssh stand between this program and the terminal.
    layers : int
        tmux servers through which images by kitty's protocol must pass; 0 where none is, or where tmux draws them.
    synchronised : bool
        Whether the terminal can hold back a frame until it is complete (mode 2026).
    terminal : str
        The terminal's own name and version, or what the environment says.
    source : str
        Where this comes from: ``environment`` (nobody was asked), ``terminal``, or ``cache`` (asked earlier).
    answered : bool
        Whether the terminal answered any question at all.
    forced : bool
        Whether a person chose the kind.
    typed : str
        Keys that arrived while the terminal was asked.
    """

    kind: str = "blocks"
    why: str = "the terminal was not asked"
    cell: Cell = Cell()
    cell_known: bool = False
    registers: int = 256
    set_registers: bool = False
    geometry: tuple[int, int] | None = None
    colours: str = "truecolor"
    unicode: bool = True
    tmux: bool = False
    ssh: bool = False
    layers: int = 0
    synchronised: bool = False
    terminal: str = ""
    source: str = "environment"
    answered: bool = False
    forced: bool = False
    typed: str = ""


def from_environment(environment: Mapping[str, str] | None = None) -> Capabilities:
    """Return what environment variables alone tell; no terminal is asked.

    Parameters
    ----------
    environment : mapping, optional
        Instead of ``os.environ``.

    Returns
    -------
    Capabilities
        Of kind ``blocks`` or ``ascii``: graphics are never assumed.
    """
    env = os.environ if environment is None else environment
    tmux = bool(env.get("TMUX")) or env.get("TERM", "").startswith("tmux")
    caps = Capabilities(
        colours=_colours(env),
        unicode=_unicode(env),
        tmux=tmux,
        layers=int(tmux),
        ssh=bool(env.get("SSH_CONNECTION") or env.get("SSH_CLIENT") or env.get("SSH_TTY")),
        terminal=_name(env),
    )
    return text_only(caps)


def choose(caps: Capabilities, kind: str, layers: int = FOUND) -> Capabilities:
    """Return `caps` with the kind that a person asked for.

    Parameters
    ----------
    caps : Capabilities
    kind : str
        ``auto`` keeps what was found.
    layers : int
        tmux servers that pass on images by kitty's protocol, which is then the kind unless another is asked for; 0:
        tmux draws them itself; `FOUND`: as many as were found.

    Raises
    ------
    UsageError
        The kind does not exist.
    """
    if layers != FOUND:
        caps = replace(caps, layers=layers)
        if layers and kind == "auto":
            return replace(caps, kind="kitty", why=f"--tmux-layers {layers}", forced=True)
    if kind == "auto":
        return caps
    if kind not in KINDS:
        raise UsageError(
            "--graphics must be auto, kitty, sixel, blocks or ascii",
            f"it is {kind!r}",
            "leave it out for auto",
        )
    return replace(caps, kind=kind, why=f"--graphics {kind}", forced=True)


def text_only(caps: Capabilities) -> Capabilities:
    """Return `caps` with the best kind that needs no graphics."""
    if caps.colours == "none":
        return replace(caps, kind="ascii", why="NO_COLOR is set or the terminal has no colours")
    if not caps.unicode:
        return replace(caps, kind="ascii", why="the locale's encoding is not UTF-8")
    return replace(caps, kind="blocks", why="the terminal did not offer graphics")


def _colours(env: Mapping[str, str]) -> str:
    term = env.get("TERM", "")
    if env.get("NO_COLOR"):  # https://no-color.org: any value but the empty one
        return "none"
    if env.get("COLORTERM", "").lower() in ("truecolor", "24bit") or term.endswith("-direct"):
        return "truecolor"
    if term in ("dumb", "", "unknown") or term.endswith("-m") or term.startswith(("vt1", "vt2", "vt3")):
        return "none"
    if env.get("TERM_PROGRAM") == "Apple_Terminal" or "256color" in term:
        return "256"
    if term.startswith(("xterm-kitty", "xterm-ghostty", "foot", "alacritty", "wezterm", "contour")):
        return "truecolor"
    return "16"


def _unicode(env: Mapping[str, str]) -> bool:
    for variable in ("LC_ALL", "LC_CTYPE", "LANG"):
        if value := env.get(variable):
            return "utf8" in value.lower().replace("-", "")
    # Python itself turns the C locale into UTF-8 (PEP 538); the terminal need not follow, but today's do.
    return env is os.environ and locale.getpreferredencoding(False).lower().replace("-", "") == "utf8"


def _name(env: Mapping[str, str]) -> str:
    program = env.get("TERM_PROGRAM") or env.get("LC_TERMINAL")
    if program:
        return " ".join(
            filter(None, (program, env.get("TERM_PROGRAM_VERSION") or env.get("LC_TERMINAL_VERSION")))
        )
    return env.get("XTERM_VERSION") or env.get("TERM", "")
