"""Starting a process that outlives the terminal, the shell and, where it can, the login."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from labeltui import paths
from labeltui.errors import JobError, UsageError
from labeltui.io import files
from labeltui.io.atomic import write_json
from labeltui.journal import identity
from labeltui.text import safe

ASK_SECONDS = 5.0
CHILDREN = {"study": "labeltui.studies.child"}
"""Modules that run the jobs of a kind, where it is not `labeltui.train.child`."""
LIBRARIES = ("labeltui", "numpy", "torch", "timm", "torchvision", "scikit-learn")
LAUNCHER = (
    "launcher.json"  # the process that was started: the child itself, or a launcher that starts it later
)
_BUS = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")


def logout_kills() -> bool:
    """Whether systemd ends all processes of a login when it ends (KillUserProcesses)."""
    return _answer("busctl", "get-property", *_BUS, "KillUserProcesses") == "b true"


def scope() -> tuple[list[str], str]:
    """What must precede a command so that it survives the logout, and a warning where nothing helps.

    Returns
    -------
    prefix : list of str
        Empty where nothing is needed, or nothing works.
    warning : str
        Empty when the process will survive.
    """
    if not logout_kills():
        return [], ""
    prefix = ["systemd-run", "--user", "--scope", "--quiet", "--collect", "--"]
    if _answer(*prefix, "true") is None:
        return [], (
            "logging out kills this run: systemd has KillUserProcesses=yes and systemd-run --user does not work "
            "here; keep the login, or set train.launcher"
        )
    return prefix, ""


def launch(directory: Path, launcher: str = "", **options: Any) -> str:
    """Start the child of a job's directory, detached.

    Parameters
    ----------
    directory : Path
        ``runs/<id>``.
    launcher : str
        Words put before the child's command line, split as a shell does; instead of systemd's scope.
    **options
        Kept in launch.json: what the child shall do beside its spec (``minutes``, ``queue``), and the ``progress``
        that it begins with.

    Returns
    -------
    str
        A warning for the person, or nothing.

    Raises
    ------
    UsageError
        The launcher cannot be split.
    JobError
        The process could not be started.
    """
    prefix, warning = launcher_words(launcher), ""
    if not prefix:
        prefix, warning = scope()
    command = [*prefix, sys.executable, "-P", "-m", _child(directory), str(directory)]
    try:
        write_json(
            directory / paths.LAUNCH_FILE,
            {
                "time": time.time(),
                "command": shlex.join(sys.argv),
                "child": command,
                "versions": {name: _version(name) for name in LIBRARIES},
                **options,
            },
        )
        with open(files.open_own(directory / paths.LOG_FILE, os.O_WRONLY | os.O_APPEND), "ab") as log:
            # A new session, so that closing the terminal does not reach it. All three streams are given, for inside
            # a full-screen program the inherited ones are not usable.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
    except OSError as error:
        raise JobError(
            "the training process must be startable",
            f"{shlex.join(command)}: {safe(str(error))}",
            "check train.launcher, and the space on the disk",
        ) from None
    # A separate file, written without a temporary one: by now the child may read launch.json, and sweeps the
    # directory when it begins. A reader takes half a file for none.
    with contextlib.suppress(OSError):  # it runs anyway, and its heartbeat shows it
        files.write_own(directory / LAUNCHER, json.dumps(identity(process.pid)).encode())
    return warning


def _child(directory: Path) -> str:
    try:
        kind = str(files.read_json(directory / paths.SPEC_FILE).get("kind"))
    except (OSError, ValueError):  # the child says what is wrong with it
        kind = ""
    return CHILDREN.get(kind, "labeltui.train.child")


def launcher_words(launcher: str) -> list[str]:
    """The setting ``train.launcher`` as words."""
    try:
        return shlex.split(launcher)
    except ValueError as error:
        raise UsageError(
            "train.launcher must be words as a shell reads them", f"{launcher!r}: {error}"
        ) from None


def _answer(*command: str) -> str | None:
    """Standard output of a command; None when it fails, hangs, or is not there."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ASK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(name: str) -> str:
    import importlib.metadata  # slow to import, and the terminal UI starts with this module

    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
