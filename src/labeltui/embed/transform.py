"""From an image of any size to the pixels a model expects; normalisation happens later, on whole batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Transform:
    """Resize and crop.

    Attributes
    ----------
    height, width : int
        Of the result, in pixels.
    interpolation : str
        Key of `INTERPOLATIONS`; all of them average over the source when they shrink.
    crop : float or None
        None resizes the whole image to the result, changing its aspect. A fraction resizes the image,
        keeping its aspect, until the result covers that fraction of its shorter side, and crops the centre.
    squash : bool
        With `crop`: resize the whole image to a rectangle of the result's aspect first, then cut the
        centre.
    """

    height: int
    width: int
    interpolation: str = "bicubic"
    crop: float | None = None
    squash: bool = False

    def __call__(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Return an RGB image as (height, width, 3) uint8."""
        method = INTERPOLATIONS[self.interpolation]
        if self.crop is None:
            return np.asarray(image.resize((self.width, self.height), method))
        tall, wide = int(self.height / self.crop), int(self.width / self.crop)
        if not self.squash:
            # Whole numbers of pixels, cut off as timm's and torchvision's transforms do: the same grid as
            # theirs.
            if tall * image.width >= wide * image.height:
                wide = max(wide, image.width * tall // image.height)
            else:
                tall = max(tall, image.height * wide // image.width)
        left, top = round((wide - self.width) / 2), round((tall - self.height) / 2)
        across, down = image.width / wide, image.height / tall  # source pixels in one result pixel
        box = (left * across, top * down, (left + self.width) * across, (top + self.height) * down)
        box = (box[0], box[1], min(box[2], image.width), min(box[3], image.height))
        return np.asarray(image.resize((self.width, self.height), method, box=box))

    def __str__(self) -> str:
        size = f"{self.width}x{self.height} {self.interpolation}"
        if self.crop is None:
            return f"whole image to {size}"
        return f"centre crop {self.crop:g}{' of the squashed image' if self.squash else ''} to {size}"
