"""Specification of an embedding: the model, its weights, its input and its device."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from labeltui.embed.transform import INTERPOLATIONS
from labeltui.errors import UsageError
from labeltui.options import option, split_numbers
from labeltui.text import safe

SCALE = "of pixels scaled to 0..1 (divide constants of pixels up to 255 by 255)"
PRECISIONS = ("auto", "float32", "float16", "bfloat16")
CPU_BATCH = 64  # samples in a block on a CPU


@dataclass(frozen=True)
class EmbedSpec:
    """A backbone and how to run it.

    Raises
    ------
    UsageError
        A value is out of its range.
    """

    model: str = option(
        "pixels",
        "A timm name such as resnet50, torchvision/NAME, or pixels (8 x 8 colours, for digits).",
        "Model",
    )
    pretrained: bool = option(
        True, "Published weights, from the cache or the network, or random ones.", "Model", shown="published"
    )
    checkpoint: Path | None = option(
        None, "Weights from a file: .safetensors, or a torch file of plain tensors.", "Model"
    )
    model_args: Mapping[str, object] = option(
        dict, "Keyword arguments of the model; repeatable.", "Model",
        flag="--model-arg", metavar="KEY=VALUE", parse=lambda items: parse_model_args(items), multiple=True,
    )  # fmt: skip
    image_size: int | None = option(
        None,
        "Side in pixels; without --crop-pct the whole image is resized to it.",
        "Model",
        shown="the model's",
    )
    mean: tuple[float, ...] | None = option(
        None, "Of pixels scaled to 0..1: one number, or three with commas.", "Model",
        shown="the model's", parse=split_numbers, metavar="NUMBERS",
    )  # fmt: skip
    std: tuple[float, ...] | None = option(
        None, "Like --mean.", "Model", shown="the model's", parse=split_numbers, metavar="NUMBERS"
    )
    interpolation: str | None = option(None, "bicubic, bilinear, ...", "Model", shown="the model's")
    crop_pct: float | None = option(
        None, "Fraction of the shorter side that the centre crop keeps.", "Model", shown="the model's"
    )
    device: str = option(
        "auto", "auto, cpu, cuda or cuda:N; several with commas get a process each.", "Model"
    )
    batch_size: int | None = option(
        None, "Images in a block.", "Model", shown=f"{CPU_BATCH} on a CPU, found by trial on a GPU"
    )
    precision: str = option(
        "auto",
        "auto, float32, float16 or bfloat16; auto is float32 on a CPU, and mixed where it is safe on a GPU.",
        "Model",
    )
    compile: bool = option(
        False, "Compile the model with torch.compile; the last digits may differ.", "Model", shown="no"
    )
    workers: int | None = option(
        None, "Decoding processes; 0 decodes in this process.", "Model", shown="one a thread"
    )

    def __post_init__(self) -> None:
        checks = [
            (not self.model.strip(), "--model", "a name", self.model),
            (
                self.image_size is not None and not 1 <= self.image_size <= 4096,
                "--image-size",
                "1 to 4096",
                self.image_size,
            ),
            (self.mean is not None and len(self.mean) not in (1, 3), "--mean", "one number or three", self.mean),
            (self.std is not None and len(self.std) not in (1, 3), "--std", "one number or three", self.std),
            (
                self.mean is not None and not all(0 <= value <= 1 for value in self.mean),
                "--mean",
                f"0 to 1, {SCALE}",
                self.mean,
            ),
            (
                self.std is not None and not all(0 < value <= 1 for value in self.std),
                "--std",
                f"above 0, at most 1, {SCALE}",
                self.std,
            ),
            (
                self.crop_pct is not None and not 0 < self.crop_pct <= 1,
                "--crop-pct",
                "above 0, at most 1",
                self.crop_pct,
            ),
            (self.batch_size is not None and self.batch_size < 1, "--batch-size", "1 or more", self.batch_size),
            (self.workers is not None and self.workers < 0, "--workers", "0 or more", self.workers),
            (self.precision not in PRECISIONS, "--precision", "one of " + ", ".join(PRECISIONS), self.precision),
            (
                self.interpolation is not None and self.interpolation not in INTERPOLATIONS,
                "--interpolation",
                "one of " + ", ".join(INTERPOLATIONS),
                self.interpolation,
            ),
            (
                re.fullmatch(r"auto|(cpu|cuda(:\d+)?)(,(cpu|cuda(:\d+)?))*", self.device) is None,
                "--device",
                "auto, cpu, cuda or cuda:N, or several of the last three with commas",
                self.device,
            ),
        ]  # fmt: skip
        for wrong, name, requirement, got in checks:
            if wrong:
                raise UsageError(f"{name} must be {requirement}", f"got {safe(str(got))}")

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices, one by one."""
        return tuple(self.device.split(","))


def parse_model_args(items: Iterable[str]) -> dict[str, object]:
    """Return keyword arguments from ``KEY=VALUE`` texts; a value is a Python literal, else a string.

    >>> parse_model_args(["pad_type=same", "bn_eps=1e-3", "features_only=False"])
    {'pad_type': 'same', 'bn_eps': 0.001, 'features_only': False}

    Raises
    ------
    UsageError
        An item is not ``KEY=VALUE``, or a key is repeated.
    """
    values: dict[str, object] = {}
    for item in items:
        key, equals, text = item.partition("=")
        key = key.strip()
        if not equals or not key.isidentifier():
            raise UsageError(
                "--model-arg must be KEY=VALUE", f"got {safe(item)}", "for example --model-arg img_size=256"
            )
        if key in values:
            raise UsageError("--model-arg must give each key once", f"got {safe(key)} twice")
        try:
            values[key] = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            values[key] = text
    return values


def slug(model: str, size: int) -> str:
    """Return the name of an embedding: the model and its input size in the characters ``[a-z0-9._-]``.

    Parameters
    ----------
    model : str
    size : int
        Side of the input in pixels.

    Returns
    -------
    str
    """
    return f"{re.sub(r'[^a-z0-9._-]+', '-', model.lower()).strip('-.')}-{size}"
