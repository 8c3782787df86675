"""What a training job does: everything that decides its result, as one JSON file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeltui.embed import parse_model_args
from labeltui.errors import JobError, UsageError
from labeltui.head import HeadSpec
from labeltui.io import files
from labeltui.options import option, split_names
from labeltui.text import safe

FORMAT = 1
# What a sample is to a run, in roles.npy.
OUT, TRAIN, HELD_OUT = 0, 1, 2
AUGMENTATIONS = ("shift", "flip", "crop", "rand", "erase")
PRESETS: Mapping[str, Mapping[str, Any]] = {
    # The two backbones of the published study, with the input sizes of their published weights.
    "densenet121": {"optimizer": "adamw", "learning_rate": 5e-4},
    "legacy_xception": {"optimizer": "adamw", "learning_rate": 5e-4},
}


def _augmentations(text: str) -> tuple[str, ...]:
    return () if text == "none" else split_names(text)


@dataclass(frozen=True)
class BackboneSpec:
    """How a backbone is fine-tuned.

    Attributes
    ----------
    warmup : float
        Fraction of the steps in which the learning rate rises.

    Raises
    ------
    UsageError
        A value is out of its range.
    """

    model: str = option(
        "",
        "Fine-tune this timm backbone on the images.",
        "Model",
        shown="the classifier on the stored embedding",
    )
    pretrained: bool = option(
        True, "Begin with published weights, or random ones.", "Model", shown="published"
    )
    checkpoint: str | None = option(
        None, "Begin with these weights.", "Model", parse=os.path.abspath, metavar="FILE"
    )
    model_args: Mapping[str, Any] = option(
        dict, "Keyword arguments of the model; repeatable.", "Model",
        flag="--model-arg", metavar="KEY=VALUE", parse=parse_model_args, multiple=True,
    )  # fmt: skip
    image_size: int | None = option(None, "Side in pixels.", "Model", shown="the model's")
    epochs: int = option(10, "Passes over the training samples.", "Training")
    batch_size: int = option(64, "Samples of one step.", "Training")
    micro_batch: int | None = option(
        None, "Samples of one pass, whose gradients are added up.", "Training", shown="as many as fit"
    )
    optimizer: str = option(
        "adamw", "SGD has Nesterov's momentum of 0.9.", "Training", choices=("adamw", "sgd")
    )
    learning_rate: float = option(1e-3, "Peak of the cosine schedule.", "Training")
    layer_decay: float = option(
        1.0, "Each group of layers learns this much slower than the one above it.", "Training"
    )
    freeze: int = option(
        0,
        "Groups of layers, from the input, that do not learn; -1: all but the classifier.",
        "Training",
        shown="0",
    )
    warmup: float = 0.1
    weight_decay: float = option(0.05, "Of the weights, not of biases and norms.", "Training")
    label_smoothing: float = option(0.1, "Probability spread over all classes.", "Training")
    drop_rate: float = option(0.0, "Dropout before the classifier.", "Training", shown="0")
    augment: tuple[str, ...] = option(
        ("shift", "flip"),
        "none, or of shift, flip, crop, rand, erase, with commas.",
        "Training",
        parse=_augmentations,
    )
    ema: float = option(
        0.0, "Decay of the moving average of the weights that predicts; 0: none.", "Training", shown="0"
    )
    patience: int = option(
        0,
        "Stop after so many epochs without a better loss on a tenth kept back, and return to the best; 0: never.",
        "Training",
        shown="0",
    )
    precision: str = option(
        "auto",
        "auto is mixed precision on CUDA, and float32 on a CPU.",
        "Training",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    clean_pass: bool = option(False, "Also record dynamics without augmentation after each epoch.", "Scoring")
    reembed: bool = option(
        False, "Make the tuned features the audit's embedding, with graph and scores.", "Scoring"
    )

    def __post_init__(self) -> None:
        checks = [
            (bool(self.model.strip()), "--model", "a timm name", self.model),
            (self.pretrained or self.checkpoint is None, "--checkpoint", "left out with --no-pretrained",
             self.checkpoint),
            (self.epochs >= 1, "--epochs", "at least 1", self.epochs),
            (self.batch_size >= 2, "--batch-size", "at least 2", self.batch_size),
            (self.micro_batch is None or self.micro_batch >= 1, "--micro-batch", "at least 1", self.micro_batch),
            (self.optimizer in ("adamw", "sgd"), "--optimizer", "adamw or sgd", self.optimizer),
            (self.learning_rate > 0, "--learning-rate", "above 0", self.learning_rate),
            (0 < self.layer_decay <= 1, "--layer-decay", "in (0, 1]", self.layer_decay),
            (self.freeze >= -1, "--freeze", "-1 or more", self.freeze),
            (0 <= self.warmup < 1, "--warmup", "in [0, 1)", self.warmup),
            (self.weight_decay >= 0, "--weight-decay", "0 or more", self.weight_decay),
            (0 <= self.label_smoothing < 1, "--label-smoothing", "in [0, 1)", self.label_smoothing),
            (0 <= self.drop_rate < 1, "--drop-rate", "in [0, 1)", self.drop_rate),
            (0 <= self.ema < 1, "--ema", "in [0, 1)", self.ema),
            (self.patience >= 0, "--patience", "0 or more", self.patience),
            (set(self.augment) <= set(AUGMENTATIONS), "--augment", "none, or of " + ", ".join(AUGMENTATIONS),
             ",".join(self.augment)),
            (self.precision in ("auto", "float32", "bfloat16", "float16"), "--precision",
             "auto, float32, bfloat16 or float16", self.precision),
        ]  # fmt: skip
        for holds, name, requirement, got in checks:
            if not holds:
                raise UsageError(f"{name} must be {requirement}", f"got {safe(str(got))}")


@dataclass(frozen=True)
class TrainSpec:
    """The description of one training job.

    Attributes
    ----------
    kind : str
        ``head``: a classifier head on the stored embeddings, out of fold. ``backbone``: a network on the images.
        ``study``: a study of label noise, see `labeltui.studies`.
    audit_uuid : str
        The audit it belongs to.
    generation : int
        The generation whose embedding and graph are used.
    label_sha256 : str
        Hash of the label vector beside the spec, so that a result names the labels it was trained on.
    journal_seq : int
        The last action of the journal that the labels contain.
    folds : int
        Folds of the out-of-fold prediction, grouped by duplicates. A backbone may have none: then one model
        is trained, and measured on the held-out samples.
    seed : int
        Seed of folds, weights and batches.
    device : str
        ``auto``, ``cpu`` or ``cuda[:n]``.
    threads : int
        CPU threads.
    labels : str
        Source of the labels: ``current``, ``given``, or a table and its column.
    held_out : str
        Samples held out for measuring: ``none``, ``split NAME``, or ``fraction 0.1 seed 0``.
    roles_sha256, weights_sha256, checked_sha256, injected_sha256 : str
        Hashes of roles.npy, weights.npy, checked.npy and injected.npy; empty where there is no such file.
    source_root : str
        Directory of the images; empty = as scanned.
    head : HeadSpec
        How heads on the embedding are trained.
    backbone : BackboneSpec, optional
        For the kind ``backbone``.
    study : mapping, optional
        For the kind ``study``: `labeltui.studies.plan.StudySpec` as JSON.
    """

    kind: str
    audit_uuid: str
    generation: int
    label_sha256: str
    journal_seq: int
    folds: int = 5
    seed: int = 0
    device: str = "auto"
    threads: int = 1
    labels: str = "current"
    held_out: str = "none"
    roles_sha256: str = ""
    weights_sha256: str = ""
    checked_sha256: str = ""
    injected_sha256: str = ""
    source_root: str = ""
    head: HeadSpec = field(default_factory=HeadSpec)
    backbone: BackboneSpec | None = None
    study: Mapping[str, Any] | None = None
    format: int = FORMAT

    @property
    def what(self) -> str:
        """What is trained, for people: ``head``, the backbone's name, or ``study dilution``."""
        if self.study is not None:
            return f"study {self.study.get('study')}"
        return self.kind if self.backbone is None else self.backbone.model

    def write(self, path: Path) -> None:
        """Write the spec as JSON, and flush it to the disk."""
        files.write_own(path, (json.dumps(asdict(self), indent=1) + "\n").encode())

    @classmethod
    def read(cls, path: Path) -> TrainSpec:
        """Read a spec.

        Raises
        ------
        JobError
            The file is missing, damaged, or was written by a newer labeltui.
        """
        try:
            data = files.read_json(path)
            if data["format"] > FORMAT:
                raise JobError(
                    f"this labeltui reads run format {FORMAT} and older",
                    f"{safe(str(path))} has format {data['format']}",
                    "use the labeltui that started the run",
                )
            values = {
                each.name: data[each.name]
                for each in fields(cls)
                if each.name in data or each.default is MISSING
            }
            kinds = {"str": str, "int": int}
            for each in fields(cls):
                kind = kinds.get(str(each.type))
                if each.name in values and kind is not None and type(values[each.name]) is not kind:
                    raise TypeError(f"{each.name} is no {each.type}")
            if "head" in values:
                values["head"] = HeadSpec(**values["head"])
            if not isinstance(values.get("study"), Mapping | None):
                raise TypeError("study is no object")
            if values.get("backbone") is not None:
                backbone = dict(values["backbone"])
                values["backbone"] = BackboneSpec(**{**backbone, "augment": tuple(backbone["augment"])})
            return cls(**values)
        except (OSError, ValueError, KeyError, TypeError) as error:
            what = safe(f"{type(error).__name__}: {error}", 120)
            raise JobError("a run needs a readable spec.json", f"{safe(str(path))}: {what}") from None


def label_hash(labels: NDArray[np.int32]) -> str:
    """SHA-256 of a label vector, as hex."""
    return array_hash(labels, "<i4")


def array_hash(values: NDArray[Any], dtype: str) -> str:
    """SHA-256 of an array in a fixed type.

    Parameters
    ----------
    values : ndarray
    dtype : str
        Type to convert to, with byte order, such as ``<i4``.

    Returns
    -------
    str
        Hexadecimal.
    """
    return hashlib.sha256(np.ascontiguousarray(values, dtype=dtype).tobytes()).hexdigest()
