"""The options of ``labeltui train`` as a request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labeltui.embed import parse_model_args
from labeltui.errors import UsageError
from labeltui.train.plan import Request
from labeltui.train.spec import PRESETS, BackboneSpec

# Options of the same name in BackboneSpec; None there means that the preset or the default holds.
BACKBONE_OPTIONS = (
    "image_size", "epochs", "batch_size", "micro_batch", "optimizer", "learning_rate", "layer_decay", "freeze",
    "weight_decay", "label_smoothing", "drop_rate", "ema", "patience", "precision", "clean_pass", "reembed",
)  # fmt: skip


DEFAULTS: Mapping[str, Any] = {
    "model": None,
    "checkpoint": None,
    "scratch": False,
    "model_args": (),
    "augment": None,
    "labels": "current",
    "weights": "",
    "splits": None,
    "held_out": "",
    "folds": None,
    "seed": 0,
    "self_calibrate": 0.0,
    "device": "auto",
    "n_threads": None,
    **dict.fromkeys(BACKBONE_OPTIONS),
}


def from_options(options: Mapping[str, Any]) -> Request:
    """Make a request.

    Parameters
    ----------
    options : mapping
        Values by the names of the command line's options; those left out have their defaults, see `DEFAULTS`.

    Raises
    ------
    UsageError
        An unknown option, options that do not go together, or a value out of range.
    """
    if unknown := sorted(set(options) - set(DEFAULTS)):
        raise UsageError(
            "an option of training must be known", f"got {', '.join(unknown)}", ", ".join(DEFAULTS)
        )
    given = {**DEFAULTS, **options}
    return Request(
        backbone=_backbone(given),
        labels=given["labels"],
        weights=given["weights"],
        splits=tuple(name.strip() for name in given["splits"].split(",")) if given["splits"] else (),
        held_out=given["held_out"],
        folds=given["folds"],
        seed=given["seed"],
        self_calibrate=given["self_calibrate"],
        device=given["device"],
        n_threads=given["n_threads"],
    )


def _backbone(given: Mapping[str, Any]) -> BackboneSpec | None:
    values = {name: given[name] for name in BACKBONE_OPTIONS if given[name] is not None}
    augment, model_args = given["augment"], given["model_args"]
    if given["model"] is None:
        extra = [
            *values,
            *(name for name in ("checkpoint", "scratch", "model_args", "augment") if given[name]),
        ]
        if extra:
            options = ", ".join("--" + name.replace("_", "-") for name in extra)
            raise UsageError("these options go with --model", f"got {options} without it")
        return None
    if given["checkpoint"] is not None and given["scratch"]:
        raise UsageError("weights are random or from a file", "got --checkpoint with --scratch")
    weights = "scratch" if given["scratch"] else "pretrained"
    if given["checkpoint"] is not None:
        weights = str(Path(given["checkpoint"]).absolute())
    if augment is not None:
        names = [] if augment == "none" else [part.strip() for part in augment.split(",")]
        values["augment"] = tuple(names)
    return BackboneSpec(
        given["model"],
        weights=weights,
        model_args=dict(model_args) if isinstance(model_args, Mapping) else parse_model_args(model_args),
        **{**PRESETS.get(given["model"], {}), **values},
    )
