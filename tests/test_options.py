"""Options are declared once, and the command line, the Python API and the settings file agree on them."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import labeltui
from labeltui import api, config
from labeltui.cli import cli
from labeltui.cli._options import OptionsCommand, given
from labeltui.embed import EmbedSpec
from labeltui.errors import UsageError
from labeltui.options import GROUPS, build, options_of
from labeltui.scanning import ScanOptions
from labeltui.train.plan import Request
from labeltui.train.spec import PRESETS, BackboneSpec

OWN = {
    "scan": {"source", "out", "as_json"},
    "train": {"audit", "background", "queue", "minutes", "resume_id", "source", "as_json"},
}


def parse(name: str, *arguments: str) -> dict[str, Any]:
    """What a command passes on of these arguments."""
    command = cli.commands[name]
    with command.make_context(name, list(arguments)) as context:
        return given({key: value for key, value in context.params.items() if key not in OWN[name]})


def test_a_command_without_options_has_the_defaults_of_its_dataclass() -> None:
    assert parse("scan", "data", "-o", "x.audit") == {}
    assert ScanOptions.of() == ScanOptions(model_named=False)
    assert parse("train", "my.audit") == {}
    assert Request.of() == Request()


def test_what_the_command_line_parses_is_what_the_api_takes() -> None:
    line = (
        "--no-pretrained --model resnet18 --model-arg a=1 --model-arg b=x --mean .5,.4,.3 --label-column species "
        "--splits train,val --class-order dog,cat -k 7 --metric inner --no-split-level --restart --shared"
        " --labels l.csv"
    )
    asked = ScanOptions.of(**parse("scan", "data", "-o", "x.audit", *line.split()))
    assert asked == ScanOptions.of(
        pretrained=False, model="resnet18", model_args={"a": 1, "b": "x"}, mean=(0.5, 0.4, 0.3),
        label_column="species", splits=("train", "val"), class_order=("dog", "cat"), k=7, metric="inner",
        split_level=False, resume=False, shared=True, labels="l.csv",
    )  # fmt: skip
    assert asked.source.labels == Path("l.csv")
    assert asked.embed == EmbedSpec("resnet18", False, model_args={"a": 1, "b": "x"}, mean=(0.5, 0.4, 0.3))
    assert (asked.model_named, asked.resume, asked.k) == (True, False, 7)

    line = "--model densenet121 --augment none --epochs 3 --folds 0 --splits a,b --reembed --threads 2 --held-out .2"
    request = Request.of(**parse("train", "my.audit", *line.split()))
    assert request.backbone == BackboneSpec(
        "densenet121", epochs=3, augment=(), reembed=True, **PRESETS["densenet121"]
    )
    assert (request.folds, request.splits, request.threads, request.held_out) == (0, ("a", "b"), 2, ".2")


def test_an_option_overrides_the_preset_of_a_backbone() -> None:
    backbone = Request.of(model="densenet121", learning_rate=0.1).backbone
    assert backbone is not None
    assert backbone.learning_rate == 0.1
    assert backbone.optimizer == PRESETS["densenet121"]["optimizer"]


def test_head_is_no_model_and_the_error_says_how_to_train_it() -> None:
    with pytest.raises(UsageError, match="--model takes a backbone") as caught:
        Request.of(model="head")
    assert "leave --model out" in str(caught.value)


def test_unknown_options_and_values_are_refused() -> None:
    with pytest.raises(UsageError) as caught:
        ScanOptions.of(imagesize=3)
    assert "did you mean image_size?" in str(caught.value.hint)
    with pytest.raises(UsageError, match="known"):
        Request.of(teapot=1)
    with pytest.raises(UsageError, match="go with --model") as caught:
        Request.of(learning_rate=0.1, model_args=["a=1"])
    assert "--model-arg" in caught.value.got
    assert "--learning-rate" in caught.value.got
    result = CliRunner().invoke(cli, ["scan", "data", "-o", "x", "--mean", "a,b"])
    assert result.exit_code == 2
    assert "is not a number" in result.output


@pytest.mark.parametrize(
    ("name", "kind"), [("scan", ScanOptions), ("train", Request), ("review", config.Review)]
)
def test_help_shows_every_option_in_its_group_with_its_default(name: str, kind: type) -> None:
    command = cli.commands[name]
    assert isinstance(command, OptionsCommand)
    help_text = CliRunner().invoke(cli, [name, "--help"], env={"COLUMNS": "200"}, terminal_width=200).output
    position = 0
    for group in GROUPS:
        declared = [each for each in options_of(kind).values() if each.help and each.group == group]
        if not declared:
            continue
        start = help_text.index(f"\n{group}:\n", position)
        block = help_text[start : help_text.find("\n\n", help_text.find("\n\n", start) + 2)]
        if name != "review":
            assert f"$ labeltui {name} " in block
        for each in declared:
            assert each.flags[-1].split("/")[0] in help_text[start:]
            if each.shown:
                assert f"[default: {each.shown}]" in " ".join(help_text[start:].split())
        position = start


def test_the_api_shows_its_keywords() -> None:
    parameters = inspect.signature(api.scan).parameters
    for each in options_of(ScanOptions).values():
        assert parameters[each.name].default == each.default
        assert not each.help or f"``{each.name}=" in (api.scan.__doc__ or "")
    issues = inspect.signature(labeltui.find_label_issues).parameters
    for name in {"k", "folds", "seed", "backend", "metric", "threads", "duplicate_threshold"}:
        assert issues[name].default == options_of(ScanOptions)[name].default


def test_settings_are_the_fields_of_their_dataclasses(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    for section, kind in (("review", config.Review), ("train", config.Train)):
        values = {
            each.name: (each.choices or ["blocks"])[-1] if each.kind is str else 7
            for each in options_of(kind).values()
        }
        text = "".join(f"{name} = {value!r}\n" for name, value in values.items())
        file.write_text(f"[{section}]\n{text}")
        assert getattr(config.load(file), section) == build(kind, values)
        assert len(values) == len(fields(kind))
