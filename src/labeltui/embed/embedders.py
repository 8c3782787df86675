"""The embedder protocol, and the two embedders that need no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from labeltui.embed.spec import CPU_BATCH
from labeltui.embed.transform import Transform

Value = str | int | float | Sequence[float] | Sequence[str]
GRID = 8  # default side of the pixels embedder's grid


class Embedder(Protocol):
    """Turns prepared pixels into rows of numbers.

    Attributes
    ----------
    name : str
        Slug of model and input size, for example ``mobilenetv2_035-128``; names the embedding in an audit.
    dim : int
        Length d of a row.
    attrs : mapping
        Everything the rows depend on: model, weights hash, transform, precision, batch size.
    transform : Transform or None
        Preprocessing in the decoding processes; None if the source provides the rows.
    batch_size : int
        Samples in a block, for `batch_ranges`.
    unit : int
        Samples per call of `encode`, exactly.
    parallel : int or None
        Number of concurrent calls of `encode`; None means one per thread.
    """

    @property
    def name(self) -> str: ...
    @property
    def dim(self) -> int: ...
    @property
    def attrs(self) -> Mapping[str, Value]: ...
    @property
    def transform(self) -> Transform | None: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def unit(self) -> int: ...
    @property
    def parallel(self) -> int | None: ...

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return (n, d) float32 rows for (n, H, W, 3) uint8 pixels; thread-safe."""


@dataclass(frozen=True)
class PixelEmbedder:
    """The image itself, downsampled to a small grid: for digits, icons and a smoke test without a model.

    A row holds each grid cell's colour minus the image's mean colour, then the mean colour and a constant,
    weighted so that shape counts first under the cosine and no image, however plain, has length zero.
    """

    grid: int = GRID
    batch_size: int = CPU_BATCH
    unit: int = 64
    parallel: int | None = None

    @property
    def name(self) -> str:
        return f"pixels-{self.grid}"

    @property
    def dim(self) -> int:
        return 3 * self.grid * self.grid + 4

    @property
    def attrs(self) -> dict[str, Value]:
        return {"model": "pixels", "transform": str(self.transform), "batch_size": self.batch_size}

    @property
    def transform(self) -> Transform:
        return Transform(self.grid, self.grid)

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        values = pixels.astype(np.float64) / 255
        mean = values.mean((1, 2))  # (n, 3)
        shape = (values - mean[:, None, None]).reshape(len(values), -1)
        colour = (mean - 0.5) * (0.5 * self.grid)
        constant = np.full((len(values), 1), 0.1 * self.grid)
        return np.concatenate([shape, colour, constant], 1).astype(np.float32)


@dataclass(frozen=True)
class GivenEmbedder:
    """Placeholder for embeddings that the source provides."""

    dim: int
    name: str = "given"
    batch_size: int = 4096
    unit: int = 4096
    parallel: int | None = 1
    transform: None = None
    attrs: Mapping[str, Value] = field(default_factory=lambda: {"model": "given"})

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        raise NotImplementedError("the source provides the rows")
