"""The documents: every command in them parses, those in `console` blocks run, the generated pages are current."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import click
import numpy as np
import pytest

from labeltui.cli import cli
from labeltui.cli._options import OptionsCommand
from tests.factories import BRIEF, make_audit

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in [*DOCS.rglob("*.md"), ROOT / "README.md"] if path.name != "settings.md")
KINDS = ("", "sh", "console")
"""Languages of blocks that hold commands; those in `console` blocks are run."""


def lines(page: Path, kinds: Sequence[str] = KINDS) -> Iterator[str]:
    """The lines of a page's blocks of commands."""
    inside: str | None = None
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            inside = line[3:].strip() if inside is None else None
        elif inside is not None and inside in kinds:
            yield line


def words_of(line: str) -> list[str]:
    """The words of a `labeltui` command in a line, without what a shell does with its output; empty without one."""
    line = re.split(r" {3,}", line.removeprefix("$ ").strip())[0]  # what it does may stand beside it
    if not re.match(r"([A-Z_]+=\S+ )*labeltui ", line):
        return []
    words = shlex.split(re.sub(r"\$\w+", "1", line), comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    ends = [words.index(mark) for mark in ("|", "&&", ">", ">>", "2>", ";") if mark in words]
    return words[1 : min(ends, default=len(words))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_parses(page: Path) -> None:
    """Options and arguments are those of today; placeholders such as DATA stand for paths."""
    for line in lines(page):
        words = words_of(line)
        if not words or "..." in words or words[0].startswith("-"):
            continue
        if words[0].endswith(".audit"):
            words = ["review", *words]
        command: click.Command = cli
        context = click.Context(cli)
        while isinstance(command, click.Group):
            _, found, words = command.resolve_command(context, words)
            assert found is not None, line
            command = found
        try:
            command.make_context("x", list(words)).close()
        except click.ClickException as error:
            pytest.fail(f"{page.name}: {line}: {error.format_message()}")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages take for granted: photos/, photos.csv, mine.npz, probabilities.npz, my.audit."""
    here = tmp_path_factory.mktemp("docs")
    make_audit(here, n=240, classes=3)
    (here / "data").rename(here / "photos")
    files = sorted((here / "photos").rglob("*.png"))
    rows = [f"photos/{file.parent.name}/{file.name},{file.parent.name}" for file in files]
    (here / "photos.csv").write_text("file,species\n" + "\n".join(rows) + "\n")
    rng = np.random.default_rng(0)
    labels = np.array([file.parent.name for file in files])
    classes = np.unique(labels)
    place = np.searchsorted(classes, labels)
    embeddings = (np.eye(3)[place] * 3 + rng.normal(size=(len(files), 3))).astype(np.float32)
    np.savez(
        here / "mine.npz", embeddings=embeddings, labels=labels, ids=np.array([file.name for file in files])
    )
    likely = np.exp(embeddings) / np.exp(embeddings).sum(1, keepdims=True)
    np.savez(here / "probabilities.npz", pred_probs=likely, classes=classes)
    (here / "small.audit").rename(here / "my.audit")
    return here


TASKS = [page for page in PAGES if any(lines(page, ["console"]))]


@pytest.mark.parametrize("page", TASKS, ids=lambda page: page.stem)
def test_the_commands_of_a_task_run(page: Path, prepared: Path, tmp_path: Path) -> None:
    """One after the other, in a copy of the same directory, by a shell."""
    here = tmp_path / "here"
    shutil.copytree(prepared, here)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "labeltui"
    python, brief = shlex.quote(sys.executable), tmp_path / "bin" / "brief.py"
    brief.write_text(f"{BRIEF}\nfrom labeltui.cli import main\nmain()\n")
    program.write_text(
        f'#!/bin/sh\n[ "$1" = scan ] && exec {python} {shlex.quote(str(brief))} "$@"\nexec {python} -m labeltui "$@"\n'
    )
    program.chmod(0o755)
    commands = [line.removeprefix("$ ") for line in lines(page, ["console"]) if line.startswith("$ ")]
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    script = "set -e\n" + "\n".join(commands)
    done = subprocess.run(
        ["bash", "-c", script], cwd=here, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_pages_with_commands_are_found() -> None:
    assert {page.stem for page in TASKS} >= {"photographs", "csv", "embeddings", "two_reviewers", "proof"}


def test_the_recording_is_one_of_todays_commands() -> None:
    header, *events = map(json.loads, (DOCS / "screenshots" / "quickstart.cast").read_text().splitlines())
    assert header["version"] == 2
    times = [at for at, kind, _ in events]
    assert times == sorted(times)
    assert {kind for _, kind, _ in events} == {"o"}
    text = "".join(text for _, _, text in events)
    typed = [words_of(line) for line in re.findall(r"\$ (labeltui [^\r]*)\r", text)]
    assert [words[0] for words in typed] == ["scan", "photographs.audit", "export"]
    for name, *words in typed:
        command = cli.commands.get(name, cli.commands["review"])
        command.make_context(name, words or [name]).close()
    assert text.endswith("$ ")


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_current(reference: ModuleType) -> None:
    assert (DOCS / "settings.md").read_text() == reference.page(), "run: python docs/make_reference.py"
    assert (DOCS / "labeltui.1").read_text() == reference.manual(), "run: python docs/make_reference.py"


def test_the_manual_page_holds_every_option(reference: ModuleType) -> None:
    text = (DOCS / "labeltui.1").read_text().replace("\\-", "-")
    for name, command in reference.commands(cli, "labeltui"):
        _, found, rest = text.partition(f'.SS "{name} ')
        assert found, name
        section = re.split(r"^\.S[SH] ", rest, flags=re.MULTILINE)[0]
        with command.make_context(name, [], resilient_parsing=True) as context:
            for param in command.get_params(context):
                if isinstance(param, click.Option) and "--help" not in param.opts:
                    assert param.opts[0] in section, (name, param.opts)
        for example in command.examples.values() if isinstance(command, OptionsCommand) else ():
            assert f"$ labeltui {example}\n" in section


@pytest.mark.skipif(shutil.which("man") is None, reason="man is not installed")
def test_man_shows_the_manual_page_without_a_complaint() -> None:
    done = subprocess.run(
        ["man", "--warnings", "-l", str(DOCS / "labeltui.1")],
        env={**os.environ, "MANWIDTH": "100", "MANPAGER": "cat"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert "$ labeltui scan photos/ -o my.audit --model resnet50 --image-size 224" in done.stdout
    assert "    labeltui export my.audit -o labels.csv\n" in done.stdout


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tasks" / "photographs" / "index.html").exists()


def test_the_version_stands_once() -> None:
    import labeltui

    for name in ("pyproject.toml", "CITATION.cff"):
        text = (ROOT / name).read_text()
        found = re.search(r'^version\s*[=:]\s*"?([^"\s]+)"?', text, re.M)
        assert found is not None, name
        assert found[1] == labeltui.__version__, name
