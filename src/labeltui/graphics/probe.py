"""Asks the terminal what it can show: one question, before the program takes the screen.

The queries go out together and the last is one that every terminal answers (primary device attributes), so
the wait ends after one round trip, however long the line; 1.2 s at most. The answers are kept for this
terminal and this host, and the next start does not wait. A program that starts from kept answers, or that got
none in time, asks once more behind its first frame (see `labeltui.frames.listening`): whatever comes is taken out of
the keys and corrects the image kind.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import platform
import select
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from labeltui import paths
from labeltui.graphics import tmux
from labeltui.graphics.answers import Answers, Reader, question, without_mode
from labeltui.graphics.capabilities import FOUND, Capabilities, Cell, choose, from_environment
from labeltui.io import files

BUDGET = 1.2
"""Longest wait for the terminal, in seconds."""
IDENTITY = (
    "TERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "COLORTERM", "LC_TERMINAL", "LC_TERMINAL_VERSION", "TMUX",
    "XTERM_VERSION", "VTE_VERSION", "KITTY_WINDOW_ID", "WT_SESSION", "KONSOLE_VERSION", "STY",
)  # fmt: skip
PRESENCE = ("TMUX", "KITTY_WINDOW_ID", "WT_SESSION", "STY")  # their values differ from window to window
REMEMBERED = 50
COMPLETE = ("kitty", "ghostty")
"""Terminals whose kitty protocol is preferred to their sixel."""
MOST_REGISTERS = 256  # one byte a pixel; more is not seen


def detect(
    kind: str = "auto",
    environment: Mapping[str, str] | None = None,
    *,
    layers: int = FOUND,
    fresh: bool = False,
    budget: float = BUDGET,
    cache: Path | None = None,
) -> Capabilities:
    """Find out what the terminal can show. To be called before the program takes the screen.

    Parameters
    ----------
    kind : str
        ``auto``, or the kind that a person asked for; the terminal is still asked for its sizes.
    environment : mapping, optional
        Instead of ``os.environ``.
    layers : int
        tmux servers that pass on images, as in `labeltui.graphics.capabilities.choose`.
    fresh : bool
        Whether to ask even if the answers are remembered.
    budget : float
        Longest wait in seconds.
    cache : pathlib.Path, optional
        File of remembered answers, instead of the one in the user's cache directory.

    Returns
    -------
    Capabilities

    Raises
    ------
    UsageError
        The kind does not exist.
    """
    env = os.environ if environment is None else environment
    choose(Capabilities(), kind, layers)
    name = identity(env)
    file = cache or cache_file()
    answers = None if fresh else recall(name, file)
    source = "cache"
    if answers is None:
        answers = ask(env, budget)
        source = "terminal"
        if answers is not None:
            remember(name, answers, file)
    if answers is None:
        return choose(from_environment(env), kind, layers)
    return choose(replace(decide(env, answers, window_size()), source=source), kind, layers)


def decide(
    environment: Mapping[str, str], answers: Answers, size: tuple[int, int, int, int] | None = None
) -> Capabilities:
    """Choose how to draw, from what the terminal answered.

    Parameters
    ----------
    environment : mapping
    answers : Answers
    size : tuple of int, optional
        Columns, rows, width and height of the window as the kernel knows them.

    Returns
    -------
    Capabilities
    """
    caps = from_environment(environment)
    cell = _cell(answers, size)
    geometry = answers.geometry
    if (
        geometry
        and size
        and cell
        and geometry[0] >= size[0] * cell.width
        and geometry[1] >= size[1] * cell.height
    ):
        geometry = None  # as large as the window: xterm says so, and changes it with the window
    caps = replace(
        caps,
        cell=cell or Cell(),
        cell_known=cell is not None,
        geometry=geometry,
        synchronised=answers.synchronised,
        terminal=answers.version or caps.terminal,
        source="terminal",
        answered=answers.da1 is not None,
        typed=answers.typed,
    )
    now, most = answers.registers or 0, answers.most_registers or 0
    if now or most:
        registers = min(MOST_REGISTERS, max(now, most))
        caps = replace(caps, registers=max(2, registers), set_registers=now < registers)
    if answers.da1 is None:
        return replace(caps, why=f"the terminal did not answer within {answers.seconds:.1f} s")
    if caps.colours == "none" and environment.get("NO_COLOR"):
        return caps
    sixel = 4 in answers.da1
    if caps.tmux:
        if sixel and cell is not None:
            return replace(caps, kind="sixel", why="tmux itself says that it draws sixel (attribute 4)")
        found = tmux.servers(environment)
        caps = replace(caps, layers=max(1, len(found)))
        if reason := tmux.obstacle(found):
            return replace(caps, why=f"tmux does not say that it draws sixel (attribute 4), and {reason}")
        where = f"{len(found)} tmux servers pass" if len(found) > 1 else "tmux passes"
        return replace(caps, kind="kitty", why=f"{where} images on to {found[-1].terminal}")
    # Terminals that offer both took up kitty's protocol later, and some only in part (xterm.js knows no placements).
    complete = answers.version.lower().startswith(COMPLETE)
    if answers.kitty and (complete or not sixel or cell is None):
        return replace(caps, kind="kitty", why="the terminal accepted an image by kitty's protocol")
    if sixel and cell is not None:
        return replace(caps, kind="sixel", why="the terminal lists sixel among its attributes (4)")
    if sixel:
        return replace(caps, why="the terminal draws sixel, but does not tell how large a cell is")
    return replace(caps, why="the terminal lists no graphics among its attributes")


def _cell(answers: Answers, size: tuple[int, int, int, int] | None) -> Cell | None:
    if answers.cell:
        return Cell(*answers.cell)
    guesses: list[tuple[int, int]] = []
    if answers.window and answers.grid:
        guesses.append((answers.window[0] // answers.grid[0], answers.window[1] // answers.grid[1]))
    if size and size[0] and size[1]:
        guesses.append((size[2] // size[0], size[3] // size[1]))
        if answers.window:
            guesses.append((answers.window[0] // size[0], answers.window[1] // size[1]))
        if answers.geometry:  # xterm without window operations: the largest sixel image is the window
            guesses.append((answers.geometry[0] // size[0], answers.geometry[1] // size[1]))
    for width, height in guesses:
        if 3 <= width <= 100 and width <= height <= 4 * width:
            return Cell(width, height)
    return None


def window_size() -> tuple[int, int, int, int] | None:
    """Return columns, rows, width and height of the terminal as the kernel knows them; pixels are often 0."""
    import fcntl

    for stream in (sys.__stdin__, sys.__stderr__, sys.__stdout__):
        try:
            descriptor = stream.fileno() if stream is not None else -1
            packed = fcntl.ioctl(descriptor, termios.TIOCGWINSZ, bytes(8))
        except (OSError, ValueError):
            continue
        rows, columns, width, height = struct.unpack("HHHH", packed)
        return columns, rows, width, height
    return None


def ask(environment: Mapping[str, str], budget: float = BUDGET) -> Answers | None:
    """Ask the controlling terminal and wait for its answer.

    Parameters
    ----------
    environment : mapping of str to str
    budget : float
        Seconds to wait for an answer.

    Returns
    -------
    Answers or None
        None where there is no terminal to ask, or this process may not read from it.
    """
    if environment.get("TERM", "") in ("", "dumb"):
        return None
    try:
        tty = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if os.tcgetpgrp(tty) != os.getpgrp():
            return None  # in the background: reading would stop us
        return _converse(tty, question(environment), budget)
    except (OSError, termios.error):
        return None
    finally:
        os.close(tty)


def _converse(tty: int, query: str, budget: float) -> Answers:
    before = termios.tcgetattr(tty)
    raw = termios.tcgetattr(tty)
    raw[3] &= ~(termios.ICANON | termios.ECHO)  # Ctrl+C still interrupts
    raw[6][termios.VMIN], raw[6][termios.VTIME] = 0, 0
    reader, rest = Reader(), ""
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    start = time.monotonic()
    try:
        termios.tcsetattr(tty, termios.TCSANOW, raw)
        os.write(tty, query.encode())
        while not reader.done and (left := start + budget - time.monotonic()) > 0:
            if select.select([tty], [], [], left)[0]:
                data = os.read(tty, 4096)
                if not data:
                    break  # the line was cut
                rest += reader.feed(decode(data))
    finally:
        termios.tcsetattr(tty, termios.TCSANOW, before)
    reader.answers.seconds = time.monotonic() - start
    reader.answers.typed = without_mode(rest + reader.release())
    return reader.answers


# Remembered answers


def identity(environment: Mapping[str, str]) -> str:
    """Return what tells this terminal on this host from others, as far as it can be known without asking."""
    parts = [platform.node()]
    for variable in IDENTITY:
        value = environment.get(variable, "")
        parts.append(f"{variable}={bool(value) if variable in PRESENCE else value}")
    client = environment.get("SSH_CONNECTION") or environment.get("SSH_CLIENT") or ""
    parts.append(f"ssh={client.split(' ')[0]}")
    return "|".join(parts)


def cache_file() -> Path:
    """Return the file of remembered answers in the user's cache directory."""
    return paths.cache_dir() / "terminals.json"


def recall(name: str, file: Path) -> Answers | None:
    """Return the remembered answers of a terminal; a damaged file counts as empty.

    Parameters
    ----------
    name : str
        Of the terminal.
    file : Path

    Returns
    -------
    Answers or None
    """
    try:
        entry = files.read_json(file)["terminals"][name]
        answers = Answers()
        for field in fields(Answers):
            value = entry.get(field.name, getattr(answers, field.name))
            setattr(answers, field.name, tuple(map(int, value)) if isinstance(value, list) else value)
        return answers
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def remember(name: str, answers: Answers, file: Path) -> None:
    """Store a terminal's answers; errors are ignored.

    Parameters
    ----------
    name : str
        Of the terminal.
    answers : Answers
    file : Path
    """
    terminals: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):  # none yet, or damaged: begin anew
        terminals = dict(files.read_json(file)["terminals"])
    terminals.pop(name, None)
    terminals[name] = asdict(replace(answers, typed=""))
    text = json.dumps({"terminals": dict(list(terminals.items())[-REMEMBERED:])}, indent=1)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=file.name, delete=False) as out:
            out.write(text)
        os.replace(out.name, file)
    except OSError:
        return
