"""Every command's --json is what docs/json.md says, and the exit codes are those listed there."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from labeltui import cli, errors
from labeltui.audit import Audit
from labeltui.train import launch
from tests.factories import make_audit
from tests.runs import finished, here

pytestmark = pytest.mark.usefixtures("brief_training")
DOCUMENT = Path(__file__).parents[1] / "docs" / "json.md"
WITHOUT = {"review", "completion"}
TYPES: dict[str, type | tuple[type, ...]] = {
    "text": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
    "object": dict,
    "list": list,
}

Schema = dict[str, str]
Print = Callable[..., dict[str, Any]]


def schemas() -> dict[str, Schema]:
    """The tables of the document, by command; sections that extend another hold its keys too."""
    found: dict[str, Schema] = {}
    for section in DOCUMENT.read_text().split("\n## labeltui ")[1:]:
        name, _, text = section.partition("\n")
        schema: Schema = {}
        if other := re.match(r"\s*As `labeltui ([^`]+)`", text):
            schema |= found[other[1]]
        rows = re.findall(r"^\| `([^`]+)` \| ([^|]+?) \|", text, re.M)
        assert len(rows) == len(dict(rows)), f"{name} has a key twice"
        schema |= dict(rows)
        found[name.strip()] = schema
    return found


def faults(value: Any, schema: Schema, key: str = "") -> Iterator[str]:
    """What of a value contradicts a schema, key by key."""
    if key:
        wanted = [word for word in schema[key].removesuffix(", optional").split(" or ") if word != "any"]
        fits = [isinstance(value, TYPES[word]) for word in wanted]
        if wanted and (not any(fits) or (isinstance(value, bool) and "boolean" not in wanted)):
            yield f"{key} must be {schema[key]}, it is {value!r}"
    inside = [other for other in schema if other.startswith((f"{key}." if key else "", f"{key}[]"))]
    if isinstance(value, list) and f"{key}[]" in schema:
        for each in value:
            yield from faults(each, schema, f"{key}[]")
    elif isinstance(value, dict) and inside:
        prefix = f"{key}." if key else ""
        own = {rest for other in inside if "." not in (rest := other[len(prefix) :]) and "[" not in rest}
        for name in own - {"*"}:
            if name not in value and "optional" not in schema[prefix + name]:
                yield f"{prefix}{name} is missing"
        for name, each in value.items():
            if name in own:
                yield from faults(each, schema, prefix + name)
            elif "*" in own:
                yield from faults(each, schema, f"{prefix}*")
            else:
                yield f"{prefix}{name} is not documented"


def commands(group: click.Group, prefix: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Print:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    def call(*words: object) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["labeltui", *map(str, words), "--json"])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        assert not ended.value.code, err
        assert out.endswith("\n")
        assert out.count("\n") == 1
        assert out.isascii()
        value = json.loads(out, parse_constant=refuse)
        name = " ".join(map(str, words[:2])) if words[0] == "noise" else str(words[0])
        assert not list(faults(value, schemas()[name]))
        return dict(value)

    return call


def test_each_command_that_prints_has_json_and_a_schema() -> None:
    known = dict(commands(cli.cli))
    with_json = set()
    for name, command in known.items():
        with command.make_context(name, [], resilient_parsing=True) as context:
            if any("--json" in param.opts for param in command.get_params(context)):
                with_json.add(name)
    assert with_json == set(known) - WITHOUT == set(schemas())


def test_a_schema_can_be_broken() -> None:
    schema = {"a": "integer", "b": "list", "b[]": "object", "b[].c": "text or null", "d": "number, optional"}
    assert not list(faults({"a": 1, "b": [{"c": None}]}, schema))
    assert len(list(faults({"a": True, "b": [{"c": 1}], "e": 0}, schema))) == 3
    assert list(faults({"a": 1}, schema)) == ["b is missing"]


def test_reading_commands(printed: Print, tmp_path: Path) -> None:
    audit = make_audit(tmp_path)
    with Audit.open(audit, reviewer="ada") as opened:
        opened.decide([3], "relabel", 1)
        opened.decide([4], "keep")
    for words in (["status", audit], ["explain", audit, 3], ["check", audit], ["noise", "estimate", audit]):
        printed(*words)
    assert printed("doctor", audit)["findings"]
    assert printed("config", audit)["settings"]
    assert (
        printed("export", audit, "-o", tmp_path / "l.csv", "--verify", "--apply-suggestions")["rows"] == 240
    )
    assert printed("diff", audit, "-o", tmp_path / "p.json")["changes"] == 1
    assert printed("apply", tmp_path / "p.json", tmp_path / "data", "--dry-run")["changed"] == 1
    assert printed("report", audit, "-o", tmp_path / "r.html")["bytes"]
    injected = printed("noise", "inject", audit, "-o", tmp_path / "noisy.csv", "--rate", 0.1)
    assert injected["injected"] == 24
    assert [row["name"] for row in printed("status", audit, "--class", "class2")["classes"]] == ["class2"]


def test_a_scan(printed: Print, tmp_path: Path) -> None:
    make_audit(tmp_path, images=False)
    made = printed("scan", tmp_path / "data.npz", "-o", tmp_path / "again.audit")
    assert made["update"] is None
    with np.load(tmp_path / "data.npz") as data:
        np.savez(tmp_path / "less.npz", **{name: data[name][:-2] for name in data})
    less = printed(
        "scan", tmp_path / "less.npz", "--update", tmp_path / "again.audit", "-o", tmp_path / "less.audit"
    )
    assert (less["update"]["gone"], less["update"]["added"]) == (2, 0)
    assert any("2 samples are gone" in note for note in less["notes"])


def test_several_reviewers(printed: Print, tmp_path: Path) -> None:
    audit = make_audit(tmp_path)
    assert set(printed("split", audit, "--reviewers", "ada,bob")["assigned"]) == {"ada", "bob"}
    other = tmp_path / "other.audit"
    assert printed("backup", audit, "-o", other)["left_out"] == []
    for path, reviewer, label in ((audit, "ada", 1), (other, "bob", 2)):
        with Audit.open(path, reviewer=reviewer) as opened:
            opened.decide([3, 5], "relabel", label)
            opened.decide([7], "relabel", 3)
    assert printed("merge", audit, other, "-o", tmp_path / "both.audit")["conflicts"] == 2
    found = printed("agreement", tmp_path / "both.audit")
    assert len(found["conflicts"]) == 2
    assert found["agreement"][0]["samples"] == 3
    printed("export", audit, "-o", tmp_path / "tasks.json", "--format", "label-studio", "--force")
    tasks = json.loads((tmp_path / "tasks.json").read_text())[:1]
    choice = {"type": "choices", "value": {"choices": ["class1"]}}
    tasks[0] |= {"annotations": [{"completed_by": 7, "result": [choice]}]}
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    assert printed("import", audit, tmp_path / "tasks.json")["taken"] == 1


def test_runs(printed: Print, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "launch", here)
    audit = make_audit(tmp_path)
    for labels, right in (("given", 0.6), ("current", 0.9)):
        finished(audit, labels, 0, right)
    assert len(printed("jobs", audit)["jobs"]) == 2
    assert printed("compare", audit, 1, 2)["differences"]
    trained = printed("train", audit)
    assert trained["run"]["state"] == "done"
    assert trained["adopted"]["generation"] == 1
    options = ("--networks", "linear", "--steps", 20, "--seeds", 0, "--limit", 150)
    studied = printed("noise", "study", "dilution", audit, "--alphas", "0,1", *options)
    assert not list(faults(studied["run"], _inside("jobs", "jobs[].")))
    assert not list(faults(studied["study"], schemas()["noise report"]))
    printed("noise", "report", audit, 4)


def _inside(name: str, prefix: str) -> Schema:
    return {key[len(prefix) :]: kind for key, kind in schemas()[name].items() if key.startswith(prefix)}


def test_the_exit_codes_are_documented() -> None:
    table = DOCUMENT.read_text().split("## Exit codes")[1].split("## ")[0]
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.M)}
    known = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type)
        and issubclass(kind, errors.LabeltuiError)
        and kind is not errors.LabeltuiError
    }
    assert listed == known | {0}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["status", "{}/small.audit", "--class", "clas2"], 2),
        (["status", "{}/smal.audit"], 5),
        (["export", "{}/small.audit", "-o", "-"], 2),
        (["jobs", "{}/small.audit", "--cancel", "9"], 7),
        (["scan", "{}/none", "-o", "{}/x.audit"], 3),
        (["scan", "{}/data", "-o", "{}/y.audit", "--model", "resnet19"], 4),
        (["check", "{}/damaged.audit"], 5),
    ],
)
def test_an_error_prints_nothing_on_standard_output(
    words: list[str],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    audit = make_audit(tmp_path)
    shutil.copytree(audit, tmp_path / "damaged.audit")
    damaged = np.fromfile(tmp_path / "damaged.audit" / "audit.h5", np.uint8)
    damaged[: len(damaged) // 2].tofile(tmp_path / "damaged.audit" / "audit.h5")
    monkeypatch.setattr(sys, "argv", ["labeltui", *(word.format(tmp_path) for word in words), "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capfd.readouterr()
    assert ended.value.code == code, err
    assert out == "" or json.loads(out)["whole"] is False
