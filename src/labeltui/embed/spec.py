"""Specification of an embedding: the model, its weights, its input and its device."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from labeltui.embed.transform import INTERPOLATIONS
from labeltui.errors import UsageError
from labeltui.text import safe

SCALE = "of pixels scaled to 0..1 (divide constants of pixels up to 255 by 255)"
PRECISIONS = ("auto", "float32", "float16", "bfloat16")
CPU_BATCH = 64  # samples in a block on a CPU


@dataclass(frozen=True)
class EmbedSpec:
    """A backbone and how to run it.

    Attributes
    ----------
    model : str
        A timm name, ``torchvision/NAME``, or ``pixels``.
    pretrained : bool
        Load the published weights, from the cache or the network.
    checkpoint : Path, optional
        Load weights from this file instead; safetensors, or a torch file of plain tensors.
    model_args : mapping
        Keyword arguments of the model's constructor.
    image_size : int, optional
        Side of the square input in pixels. Without `crop_pct` the whole image is resized to it.
    mean, std : tuple of float, optional
        Per channel, or one for all; of pixels scaled to 0..1.
    interpolation : str, optional
        One of `labeltui.embed.transform.INTERPOLATIONS`.
    crop_pct : float, optional
        Fraction of the shorter side that the centre crop keeps.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    batch_size : int, optional
        Samples in a block; by default 64 on a CPU, the largest that fits on a GPU.
    precision : str
        ``auto`` is float32 on a CPU and float16 where it is safe (mixed precision) on a GPU.
    workers : int, optional
        Decoding processes; 0 decodes in this process, None is one per thread.

    Raises
    ------
    UsageError
        A value is out of its range.
    """

    model: str
    pretrained: bool = True
    checkpoint: Path | None = None
    model_args: Mapping[str, object] = field(default_factory=dict)
    image_size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str | None = None
    crop_pct: float | None = None
    device: str = "auto"
    batch_size: int | None = None
    precision: str = "auto"
    workers: int | None = None

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
                re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device) is None,
                "--device",
                "auto, cpu, cuda or cuda:N",
                self.device,
            ),
        ]  # fmt: skip
        for wrong, option, requirement, got in checks:
            if wrong:
                raise UsageError(f"{option} must be {requirement}", f"got {safe(str(got))}")


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
