"""The doctor: run in terminals of several kinds, and on audits that are none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from labeltui.errors import UsageError
from labeltui.tui.doctor import Report, report
from tests.tui.pseudo import KITTY, PLAIN, XTERM, Terminal, child, line

SCRIPT = """
    from labeltui.tui.doctor import report
    print(json.dumps("ready"), file=OUT)
    while True:
        input()
        found = report(budget=0.4)
        print(json.dumps([found.as_dict()["findings"], found.lines(), "torch" in sys.modules]), file=OUT)
"""
CASES = [
    (XTERM, "sixel: the terminal lists sixel among its attributes (4); 256 colours", ""),
    (KITTY, "kitty: the terminal accepted an image by kitty's protocol", ""),
    (PLAIN, "blocks: the terminal lists no graphics among its attributes", "kitty, Ghostty"),
    (
        "\x1b[?63;1;4c",
        "blocks: the terminal draws sixel, but does not tell how large a cell is",
        "allowWindowOps",
    ),
    ("\x1bP>|XTerm(390)\x1b\\\x1b[6;20;10t\x1b[?1;2c", "blocks", "-ti vt340"),
    (None, "blocks: the terminal did not answer within 0.4 s", ""),
]


def test_says_what_the_terminal_shows_and_why(tmp_path: Path) -> None:
    terminal = Terminal()
    with child(SCRIPT, terminal, tmp_path) as process:
        assert line(process) == "ready"
        for answer, kind, advice in CASES:
            terminal.answer, terminal.delay = answer or "", 0.0 if answer else None
            terminal.type("\n")
            findings, lines, torch = line(process)
            topics = {finding["topic"]: finding for finding in findings}
            assert topics["images"]["value"].startswith(kind)
            assert advice in topics["images"]["advice"]
            assert topics["window"]["value"] == "80 x 24 cells"
            assert not torch  # looking loads nothing heavy
            assert all(len(text) < 250 and text.isprintable() for text in lines)
    terminal.close()
    assert (tmp_path / "labeltui" / "terminals.json").exists()


def by_topic(found: Report, topic: str) -> list[str]:
    return [
        f"{finding.state}: {finding.value} {finding.advice}"
        for finding in found.findings
        if finding.topic == topic
    ]


def test_environment_alone() -> None:
    found = report(environment={"LANG": "C", "TERM": "dumb", "SSH_CONNECTION": "1 2 3 4"})
    assert found.capabilities.kind == "ascii"
    assert by_topic(found, "locale")[0].startswith("change: LANG=C: not UTF-8")
    assert by_topic(found, "line") == ["good: over ssh "]
    assert found.lines()[-1].startswith("1 to fix")
    assert by_topic(report(environment={"TMUX": "x", "TERM": "dumb", "LANG": "C.UTF-8"}), "tmux")
    assert by_topic(report(environment={"TERM": "dumb", "NO_COLOR": "1"}), "colours") == [
        "good: none: NO_COLOR is set "
    ]
    assert report(graphics="sixel", environment={}).capabilities.why == "--graphics sixel"
    with pytest.raises(UsageError):
        report(graphics="png", environment={})


def test_an_audit_that_is_none(tmp_path: Path) -> None:
    missing = by_topic(report(tmp_path / "none.audit", environment={}), "audit")
    assert missing[0].startswith("change: ")
    assert "no such directory" in missing[0]
    broken = by_topic(report(tmp_path, environment={}), "audit")
    assert "local file system" in broken[0]
    assert broken[-1].startswith("change: ")


def test_threads_and_what_to_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"TERM": "dumb", "LANG": "C.UTF-8"}
    monkeypatch.setenv("LABELTUI_THREADS", "many")
    found = report(environment=environment)
    assert by_topic(found, "threads")[0].startswith("change: ")
    assert found.lines()[-1].startswith("1 to fix")
    assert json.loads(json.dumps(found.as_dict()))["capabilities"]["kind"] == "ascii"
    monkeypatch.setenv("LABELTUI_THREADS", "3")
    assert by_topic(report(environment={**environment, "LABELTUI_THREADS": "3"}), "threads") == [
        "good: 3 (LABELTUI_THREADS is set) "
    ]


@pytest.mark.parametrize(
    ("kills", "works", "said"),
    [
        (False, True, "good: training runs outlive it"),
        (True, True, "good: training runs outlive it, in a scope of their own (systemd-run --user)"),
        (True, False, "change: logging out ends training runs"),
    ],
)
def test_what_logging_out_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: bool, works: bool, said: str
) -> None:
    for name, text in (("busctl", f"echo b {str(kills).lower()}"), ("systemd-run", f"exit {int(not works)}")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert by_topic(report(environment={"TERM": "dumb"}), "logout")[0].startswith(said)
