"""The commands, as a person types them."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from labeltui import cli
from labeltui.audit import Audit
from labeltui.cli._common import resumable
from labeltui.errors import Cancelled
from labeltui.train import launch
from tests.factories import made_demo, make_audit
from tests.runs import finished, here
from tests.test_json import faults, schemas

pytestmark = pytest.mark.usefixtures("brief_training")


class Result(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def call(*words: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["labeltui", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return Result(int(ended.value.code or 0), out, err)

    return call


def test_photographs_without_a_model_are_a_smoke_test(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "launch", here)
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{i}.png")
    scanned = run("scan", tmp_path / "data", "-o", tmp_path / "my.audit")
    assert scanned.code == 0, scanned.err
    assert "SMOKE TEST" in scanned.out
    assert "--model resnet50" in scanned.out
    assert "labels are wrong" not in scanned.out
    assert run("train", tmp_path / "my.audit").code == 0
    status = run("status", tmp_path / "my.audit").out
    assert "generation 1" in status
    assert "SMOKE TEST" in status  # the classifier learned from the same poor features
    assert (
        "labels are wrong" not in status + run("export", tmp_path / "my.audit", "-o", tmp_path / "l.csv").err
    )
    small = ["--model", "test_resnet", "--no-pretrained", "--image-size", 16, "--folds", 2, "--epochs", 1]
    trained = run("train", tmp_path / "my.audit", *small)
    assert trained.code == 0, trained.err
    assert "SMOKE TEST" not in run("status", tmp_path / "my.audit").out
    named = run("scan", tmp_path / "data", "-o", tmp_path / "named.audit", "--model", "pixels")
    assert "SMOKE TEST" not in named.out
    assert "at most about" in named.out


def test_from_a_folder_to_a_corrected_table(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "launch", here)  # as a process: the interrupted run, below
    make_audit(tmp_path)
    truth = np.load(tmp_path / "truth.npy")
    audit = tmp_path / "my.audit"
    scanned = run("scan", tmp_path / "data", "-o", audit)
    assert scanned.code == 0, scanned.err
    assert "next: labeltui review" in scanned.out
    assert "240 samples, 4 classes" in scanned.out

    status = json.loads(run("status", audit, "--json").out)
    assert status["samples"] == 240
    assert status["flags"] > 0
    overlaps = [row["overlap"] for row in status["classes"]]
    assert overlaps == sorted(overlaps, reverse=True)

    with Audit.open(audit, reviewer="ada") as opened:
        wrong = np.flatnonzero(opened.given != truth)
        for sample in wrong[:5]:
            opened.decide([int(sample)], "relabel", int(truth[sample]))
    trained = run("train", audit)
    assert trained.code == 0, trained.err
    assert "generation 1" in trained.out
    listed = run("jobs", audit)
    assert "done" in listed.out
    assert json.loads(run("jobs", audit, "--json").out)["jobs"][0]["state"] == "done"
    assert json.loads(run("status", audit, "--json").out)["jobs"][0]["number"] == 1

    exported = run("export", audit, "-o", tmp_path / "labels.csv", "--only", "changed")
    assert exported.code == 0, exported.err
    assert (
        run("status", audit).out.split("labels are wrong")[0].splitlines()[-1] in exported.err
    )  # same number
    with open(tmp_path / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    assert {row["reviewer"] for row in rows} == {"ada"}
    corrected = run("export", audit, "-o", tmp_path / "auto.csv", "--apply-suggestions", "--only", "changed")
    assert "expected wrong" in corrected.err
    assert corrected.code == 0
    assert run("export", audit, "-o", "-").out.count("\n") == 241
    assert run("export", audit, "-o", tmp_path / "labels.csv").code == 2  # never overwrites
    assert run("export", audit, "-o", tmp_path / "labels.csv", "--force").code == 0


def object_of(result: Result) -> dict[str, Any]:
    """What `demo --json` printed."""
    assert result.code == 0, result.err
    assert result.out.count("\n") == 1
    value = json.loads(result.out)
    assert not list(faults(value, schemas()["demo"]))
    assert value["seconds"] > 0
    return dict(value)


@pytest.mark.usefixtures("few_digits")
def test_demo_prints_one_object(run: Run, tmp_path: Path) -> None:
    assert object_of(run("demo", "--json", "--out", tmp_path / "demo"))["samples"] == 400
    for name in ("digits", "digits.truth.csv", "digits.audit"):
        assert (tmp_path / "demo" / name).exists()
    again = run("demo", "--no-tui", "--out", tmp_path / "demo")
    assert again.code == 0
    assert "precision" in again.out
    assert "next: labeltui review" in again.out


def test_demo_says_how_well_its_errors_are_found(run: Run, tmp_path: Path) -> None:
    shutil.copytree(made_demo().audit.parent, tmp_path / "demo")
    value = object_of(run("demo", "--json", "--out", tmp_path / "demo"))
    assert value["injected"]["errors"] == round(0.08 * 1797)
    assert value["injected"]["recall"] > 0.9
    assert value["injected"]["precision"] > 0.9
    assert value["samples"] == 1797


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["scan", "{}/none", "-o", "{}/a.audit"], 3, "must exist"),
        (["scan", "{}/empty", "-o", "{}/a.audit"], 3, "empty"),
        (["status", "{}/empty"], 5, "audit"),
        (["review", "{}/none"], 2, "terminal"),
        (["export", "{}/none", "-o", "{}/x.csv"], 5, "audit"),
        (["jobs", "{}/none"], 5, "audit"),
        (["train", "{}/none"], 5, "audit"),
        (["scan", "{}/empty", "-o", "{}/a.audit", "--mean", "a,b"], 2, "numbers with commas"),
        (["scan", "{}/empty", "-o", "{}/a.audit", "--model-arg", "x"], 2, "KEY=VALUE"),
        (["scan", "{}/empty", "-o", "{}/a.audit", "-k", "0"], 2, "k must be"),
        (["nonsense"], 2, "there is no audit or command nonsense"),
        (["scan"], 2, "Missing argument"),
    ],
)
def test_user_errors_have_a_code_and_no_traceback(
    run: Run, tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    (tmp_path / "empty").mkdir()
    result = run(*[word.format(tmp_path) for word in words])
    assert result.code == code, result
    assert said in result.err
    assert "Traceback" not in result.err
    assert result.out == ""


def test_hostile_names_reach_no_terminal(run: Run, tmp_path: Path) -> None:
    result = run("status", tmp_path / "a\x1b[31mb")
    assert result.code == 5
    assert "\x1b" not in result.err
    assert "\\x1b" in result.err


def test_settings_with_faults_stop_the_review(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config" / "labeltui").mkdir(parents=True)
    (tmp_path / "config" / "labeltui" / "config.toml").write_text("[review]\ngraphics = 'oil'\n")
    make_audit(tmp_path)
    result = run("train", tmp_path / "small.audit")
    assert result.code == 2
    assert "line 2" in result.err


def test_doctor_says_what_it_found(run: Run) -> None:
    text = run("doctor").out
    assert "images" in text
    assert "threads" in text
    found = json.loads(run("doctor", "--json").out)
    assert {finding["state"] for finding in found["findings"]} <= {"good", "note", "change"}


def test_help_lists_the_verbs_in_the_order_of_use(run: Run) -> None:
    text = run("--help").out
    places = [
        text.index(f"\n  {command} ") for command in ("demo", "scan", "review", "train", "jobs", "export")
    ]
    assert places == sorted(places)


def test_a_reader_that_leaves_early(tmp_path: Path) -> None:
    audit = make_audit(tmp_path)
    command = f"{sys.executable} -m labeltui export {audit} -o - | head -1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert result.stdout.startswith("path,status,given_label")
    assert "Traceback" not in result.stderr


def test_the_path_of_an_audit_opens_it(tmp_path: Path) -> None:
    """`labeltui my.audit` in a terminal draws the review, greets, and `q` leaves it."""
    audit = make_audit(tmp_path)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.environ |= {
            "TERM": "xterm-256color",
            **{f"XDG_{name}_HOME": str(tmp_path / name) for name in ("CACHE", "CONFIG", "STATE")},
            "COLUMNS": "100",
            "LINES": "30",
        }
        os.execv(sys.executable, [sys.executable, "-m", "labeltui", audit.name])
    seen = b""
    while b"QUEUE" not in seen:
        seen += os.read(terminal, 65536)
    os.write(terminal, b"qq")  # the first one closes the welcome, also when it comes before that is painted
    try:
        while chunk := os.read(terminal, 65536):
            seen += chunk
    except OSError:  # the other end is closed
        pass
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert b"samples reviewed" in seen


def test_explain_prints_each_detectors_vote(run: Run, tmp_path: Path) -> None:
    audit = make_audit(tmp_path)
    with Audit.open(audit, read_only=True) as opened:
        wrong = int(np.flatnonzero(np.load(tmp_path / "truth.npy") != opened.given)[0])
        path, top = opened.sample_name(wrong), opened.names[opened.suggestions(wrong)[0][0]]
        blend = opened.score(wrong)
    said = json.loads(run("explain", audit, path, "--json").out)
    assert said == json.loads(run("explain", audit, wrong, "--json").out)
    assert said["index"] == wrong
    assert said["suggestions"][0]["label"] == top
    votes = {row["name"]: row for row in said["detectors"]}
    assert {"head", "neighbours", "nearest", "blend"} <= votes.keys()
    assert votes["blend"]["score"] == pytest.approx(blend, abs=1e-4)
    assert votes["head"]["proposes"] in said["lines"][0] + top
    shown = run("explain", audit, path).out
    assert path in shown
    assert all(row["title"] in shown for row in said["detectors"])
    missing = run("explain", audit, "no/such.png")
    assert missing.code == 2
    assert "no/such.png" in missing.err


def test_explain_takes_names_of_the_queue_and_rows(run: Run, tmp_path: Path) -> None:
    audit = make_audit(tmp_path)
    with Audit.open(audit, read_only=True) as opened:
        name = opened.sample_name(7)
    stem = name.rpartition("/")[2].removesuffix(".png")
    whole = run("explain", audit, name).out
    assert run("explain", audit, stem).out == whole
    assert run("explain", audit, 7).out == whole
    heading, *rows = whole.splitlines()[2:5]
    assert heading.split() == ["detector", "proposes", "P(given)"]
    assert all(re.search(r"(–|<\.01|\.\d\d|>\.99)$", row) for row in rows)
    assert re.search(r"labels of its duplicates +– +–$", whole, re.M)  # no evidence is no number


def test_a_name_that_several_samples_have_is_refused_with_their_paths(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for label in ("a", "b"):
        for number in range(12):
            file = data / label / f"{number:02}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 20 * number + (5 if label == "b" else 0)).save(file)
    audit = tmp_path / "twins.audit"
    assert run("scan", data, "-o", audit).code == 0
    said = run("explain", audit, "03")
    assert said.code == 2
    assert "a/03.png, b/03.png" in said.err


def test_the_program_alone_prints_its_help(run: Run) -> None:
    said = run()
    assert said.code == 0
    assert "labeltui scan DATA" in said.out
    assert not said.err


@pytest.mark.parametrize("word", ["my.audti", "reveiw"])
def test_a_mistyped_audit_is_no_command(
    run: Run, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.audit").mkdir()
    said = run(word)
    assert said.code == 2
    assert f"there is no audit or command {word}" in said.err
    assert "did you mean my.audit?" in said.err or "did you mean review?" in said.err


def test_runs_are_given_by_number_or_id(run: Run, tmp_path: Path) -> None:
    audit = make_audit(tmp_path)
    ids = [finished(audit, labels, 0, right) for labels, right in (("given", 0.6), ("current", 0.9))]
    assert run("compare", audit, 1, 2).out == run("compare", audit, *ids).out
    assert run("jobs", audit, "--cancel", 2).code == 0  # it is done: nothing to stop
    refused = run("train", audit, "--resume", 1)
    assert f"run {ids[0]} is done" in refused.err
    unknown = run("compare", audit, 3)
    assert f"1 {ids[0]}, 2 {ids[1]}" in unknown.err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["stauts", "{}/small.audit"], "status"),
        (["status", "{}/smal.audit"], "small.audit"),
        (["scan", "{}/data", "-o", "{}/x.audit", "--modle", "pixels"], "--model"),
        (["noise", "injct", "{}/small.audit"], "inject"),
        (["status", "{}/small.audit", "--class", "clas2"], "class2"),
        (["export", "{}/small.audit", "-o", "{}/x", "--format", "parket"], "parquet"),
    ],
)
def test_what_was_mistyped_is_guessed(run: Run, tmp_path: Path, words: list[str], meant: str) -> None:
    make_audit(tmp_path)
    said = run(*[word.format(tmp_path) for word in words])
    assert said.code in (2, 5)
    assert re.search(rf"[Dd]id you mean.*{meant}", said.err), said.err


def complete(directory: Path, line: str) -> list[str]:
    """What bash is offered for the last word of a line."""
    words = line.split(" ")
    environment = {
        **os.environ, "_LABELTUI_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)
    }  # fmt: skip
    script = "import sys; sys.argv[0] = 'labeltui'; from labeltui.cli import main; main()"
    made = subprocess.run(
        [sys.executable, "-c", script],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.stderr == ""
    return [found.partition(",")[2] for found in made.stdout.splitlines()]


def test_the_shell_completes_commands_audits_runs_and_classes(tmp_path: Path) -> None:
    audit = make_audit(tmp_path)
    finished(audit, "given", 0, 0.6)
    assert complete(tmp_path, "labeltui st") == ["status"]
    assert complete(tmp_path, "labeltui sm") == ["small.audit"]
    assert complete(tmp_path, "labeltui status sm") == ["small.audit"]
    assert complete(tmp_path, "labeltui scan data --update ") == ["small.audit"]
    assert complete(tmp_path, "labeltui small.audit --read") == ["--read-only"]
    assert complete(tmp_path, "labeltui train small.audit --resume ") == ["1"]
    assert complete(tmp_path, "labeltui compare small.audit ") == ["1"]
    assert complete(tmp_path, "labeltui status small.audit --class ") == [f"class{i}" for i in range(4)]
    assert complete(tmp_path, "labeltui noise ") == ["estimate", "inject", "report", "study"]
    complete(tmp_path, "labeltui nonsense x ")  # no error on the screen
    assert complete(tmp_path, "labeltui train none.audit --resume ") == [""]


def bash_offers(directory: Path, words: list[str]) -> list[str]:
    """What bash puts into the line for the last word, as typed, with the script that the program prints."""
    code = "import sys; sys.argv[0] = 'labeltui'; from labeltui.cli import main; main()"
    caller = directory / "labeltui"
    caller.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(code)} "$@"\n')
    caller.chmod(0o755)
    script = f"""
compopt() {{ :; }}
eval "$({shlex.quote(str(caller))} completion bash)"
COMP_WORDS=({shlex.join(["labeltui", *words])})
COMP_CWORD={len(words)}
_labeltui_completion {shlex.quote(str(caller))}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=directory,
        env={**os.environ, "HOME": str(directory)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_what_bash_completes_can_be_run_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "his own").mkdir()
    make_audit(tmp_path).rename(tmp_path / "his own" / "$my *.audit")
    typed, quoted = r"his\ own/", '"his own/'
    assert bash_offers(tmp_path, ["review", typed]) == [r"his\ own/\$my\ \*.audit"]
    assert bash_offers(tmp_path, ["review", quoted]) == ["his own/$my *.audit"]  # bash closes the quote
    assert bash_offers(tmp_path, ["status", r"~/his\ own/"]) == [r"~/his\ own/\$my\ \*.audit"]
    assert bash_offers(tmp_path, ["status", r"his\ own/\$my\ \*.audit", "--class", "class1"]) == ["class1"]
    assert bash_offers(tmp_path, ["export", "x.audit", "--format", "h"]) == ["huggingface"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_the_program(run: Run, shell: str) -> None:
    said = run("completion", shell)
    assert said.code == 0
    assert f"_LABELTUI_COMPLETE={shell}_complete" in said.out


def interrupt(directory: Path, words: list[str], seen: str) -> Result:
    """Start a command, press Ctrl-C once it printed a text (and again if nothing follows), and return how it ended."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-m", "labeltui", *words]
    process = subprocess.Popen(command, cwd=directory, text=True, **pipes)
    assert process.stderr is not None
    assert process.stdout is not None
    before = ""
    while seen not in before:
        line = process.stderr.readline()
        assert line, before
        before += line
    for _ in range(2):  # one that arrives in the middle of a destructor is lost
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            out, err = process.communicate(timeout=5)
            break
    else:
        out, err = process.communicate()
    return Result(process.returncode, out, before + err)


def test_an_interrupted_run_says_how_it_is_resumed(tmp_path: Path) -> None:
    make_audit(tmp_path)
    said = interrupt(tmp_path, ["train", "small.audit", "--folds", "100"], "run ")
    assert said.code == 130
    assert said.out == ""
    assert "resume it: labeltui train small.audit --resume 1" in said.err
    assert "Traceback" not in said.err


def test_an_interrupt_that_python_loses_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda ignored: None)

    class Dying:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def work() -> None:
        with resumable("it stopped", "again") as check:
            check()
            Dying()
            check()

    with pytest.raises(Cancelled, match="stopped"):
        work()


def test_an_interrupted_scan_says_how_it_is_resumed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from labeltui import scanning

    make_audit(tmp_path)

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scanning, "scan", stopped)
    said = run("scan", tmp_path / "data", "-o", tmp_path / "new.audit", "--model", "pixels")
    assert said.code == 130
    assert "finished parts are kept" in said.err
    assert f"resume it: labeltui scan {tmp_path}/data -o {tmp_path}/new.audit --model pixels" in said.err


def test_config_says_where_each_value_comes_from(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config" / "labeltui" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text("[review]\nreviewer = 'ada'\n[train]\nafter = 20\n[keys]\nkeep = 'y'\n")
    monkeypatch.setenv("LABELTUI_THREADS", "3")
    audit = make_audit(tmp_path)
    said = json.loads(run("config", audit, "--json").out)
    assert (said["file"], said["exists"]) == (str(file), True)
    found = {f"{row['section']}.{row['name']}": (row["value"], row["source"]) for row in said["settings"]}
    assert found["review.reviewer"] == ("ada", "file")
    assert found["review.graphics"] == ("auto", "default")
    assert found["train.after"] == (20, "file")  # as the default, but given
    assert found["keys.keep"] == (["y"], "file")
    assert found["keys.exclude"] == (["d"], "default")
    assert found["environment.LABELTUI_THREADS"] == ("3", "environment")
    assert found["scan.image_size"] == (4, "audit")
    shown = run("config").out
    assert re.search(r"^  reviewer +file +ada  \(default", shown, re.M)
    assert "[scan]" not in shown
