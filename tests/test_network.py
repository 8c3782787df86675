"""No command opens a connection that was not asked for: without any network all of them work, and none tries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.factories import BRIEF, make_audit

# Python imports it at its start, in training processes too.
WATCHER = """
    import os, sys

    def watch(event, arguments):
        if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect", "socket.sendto"):
            if event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], (str, bytes)):
                return  # a socket of this machine's, not of the network
            with open(os.environ["ATTEMPTS"], "a") as file:
                file.write(f"{sys.argv} {event} {arguments[1:]}\\n")

    sys.addaudithook(watch)
"""
# One process for all commands: importing takes longer than most of them.
RUNNER = f"""{BRIEF}
import json, sys
from labeltui.cli import main

for command in json.loads(sys.argv[1]):
    sys.argv[1:] = command
    try:
        main()
    except SystemExit as end:
        print("ended", end.code or 0, *command, flush=True)
"""


@pytest.fixture(scope="module")
def isolated() -> list[str]:
    """What to put before a command, so that it has no network."""
    prefix = ["unshare", "--map-root-user", "--net"]
    try:
        works = subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        works = False
    return prefix if works else []  # attempts are noticed all the same


def run(prefix: list[str], tmp_path: Path, *arguments: str) -> tuple[str, str]:
    """Run Python without network; return what it printed, and its attempts to reach something."""
    (tmp_path / "watch").mkdir(exist_ok=True)
    (tmp_path / "watch" / "sitecustomize.py").write_text(textwrap.dedent(WATCHER))
    attempts = tmp_path / "attempts"
    attempts.write_text("")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "watch"), *filter(None, sys.path)]),
        "ATTEMPTS": str(attempts),
        "HOME": str(tmp_path),
        "HF_HUB_OFFLINE": "0",
    }
    done = subprocess.run(
        [*prefix, sys.executable, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=110,
        check=False,
    )
    return done.stdout + done.stderr, attempts.read_text()


def test_an_attempt_would_be_noticed(isolated: list[str], tmp_path: Path) -> None:
    program = "import socket; socket.create_connection(('192.0.2.1', 80), 0.1)"
    output, attempts = run(isolated, tmp_path, "-c", program)
    assert "192.0.2.1" in attempts
    assert not isolated or "unreachable" in output


def test_commands_need_no_network_and_do_not_look_for_one(isolated: list[str], tmp_path: Path) -> None:
    audit = str(make_audit(tmp_path, n=60))
    commands = [
        ["scan", "data", "-o", "new.audit", "--model", "pixels", "--folds", "2"],
        ["status", audit],
        ["explain", audit, "0"],
        [
            "train",
            audit,
            "--model",
            "test_resnet",
            "--no-pretrained",
            "--folds",
            "0",
            "--epochs",
            "1",
            "--image-size",
            "32",
        ],
        ["jobs", audit],
        ["export", audit, "-o", "labels.csv", "--verify"],
        ["diff", audit, "-o", "changes.patch"],
        ["check", audit],
        ["backup", audit, "-o", "copy.audit"],
        ["doctor"],
    ]
    output, attempts = run(isolated, tmp_path, "-c", RUNNER, json.dumps(commands))
    assert attempts == ""
    assert [line for line in output.splitlines() if line.startswith("ended")] == [
        f"ended 0 {' '.join(command)}" for command in commands
    ], output
