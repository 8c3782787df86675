"""Batches of images: decoded once where they fit into memory, augmented, one batch ahead of the model."""

from __future__ import annotations

import queue
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision.transforms.v2 import functional

from labeltui.embed import Transform
from labeltui.errors import Cancelled, ChangedImage, MissingImage, UnreadableImage
from labeltui.io.names import Names
from labeltui.parallel import Progress
from labeltui.sources import Images

RESIDENT_BYTES = 4 << 30  # decoded images that may stay in memory
AHEAD = 2
CHUNK = 256
RAND_AUGMENT = "rand-m9-mstd0.5"

Pixels = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


class TrainingImages:
    """The images of some samples, at the size of the model.

    Parameters
    ----------
    images : Images
    ids : Names
        Of all N samples.
    transform : Transform
    rows : ndarray of int64
        The samples that will be asked for.
    threads : int
        Decoding threads.
    resident_bytes : int
        Keep all in memory when they take no more.

    Attributes
    ----------
    lost : dict of int to str
        Samples whose image is gone, broken or another one since the scan, and why; theirs are black.
    """

    def __init__(
        self,
        images: Images,
        ids: Names,
        transform: Transform,
        rows: Rows,
        threads: int,
        resident_bytes: int = RESIDENT_BYTES,
    ) -> None:
        self._images = images
        self._ids = ids
        self.transform = transform
        self.rows = rows
        self.lost: dict[int, str] = {}
        self._pool = ThreadPoolExecutor(threads, "labeltui-images")
        self._place = np.full(len(ids), -1, dtype=np.int64)
        self._place[rows] = np.arange(len(rows))
        size = transform.height * transform.width * 3
        self._kept: Pixels | None = None
        if len(rows) * size <= resident_bytes:
            self._kept = np.empty((len(rows), transform.height, transform.width, 3), dtype=np.uint8)

    def read(self, fraction: Progress, cancelled: Callable[[], bool]) -> None:
        """Decode all images into memory if they fit, otherwise check a sample of them.

        Parameters
        ----------
        fraction : callable
            Called with the finished fraction, 0..1.
        cancelled : callable
            Whether to stop.

        Raises
        ------
        Cancelled
        """
        rows = self.rows
        if self._kept is None:
            rows = rows[:: max(1, len(rows) // CHUNK)]
        for start in range(0, len(rows), CHUNK):
            if cancelled():
                raise Cancelled("the run was stopped", "while images were read")
            pixels = self._decode(rows[start : start + CHUNK])
            if self._kept is not None:
                self._kept[start : start + CHUNK] = pixels
            fraction((start + CHUNK) / len(rows))

    def pixels(self, index: Rows) -> Pixels:
        """Return (b, H, W, 3) uint8; a copy."""
        if self._kept is not None:
            return self._kept[self._place[index]]
        return self._decode(index)

    def close(self) -> None:
        """End the decoding threads."""
        self._pool.shutdown(cancel_futures=True)

    def _decode(self, index: Rows) -> Pixels:
        out = np.zeros((len(index), self.transform.height, self.transform.width, 3), dtype=np.uint8)

        def one(at: int) -> None:
            sample = int(index[at])
            try:
                out[at] = self.transform(self._images.image(self._ids[sample], sample))
            except (ChangedImage, MissingImage, UnreadableImage) as error:
                self.lost[sample] = str(error)

        list(self._pool.map(one, range(len(index))))
        return out


def batches(
    images: TrainingImages, parts: Sequence[Rows], augment: Callable[[Pixels, int], torch.Tensor]
) -> Iterator[tuple[Rows, torch.Tensor]]:
    """Yield (samples, uint8 images (b, 3, H, W)) for each part, prefetched in a separate thread.

    Parameters
    ----------
    images : TrainingImages
    parts : sequence of ndarray
        Samples of each batch.
    augment : callable
        Gets the pixels and the number of the batch; see `Augmenter`.
    """
    made: queue.Queue[tuple[Rows, torch.Tensor] | BaseException | None] = queue.Queue(AHEAD)
    stopped = threading.Event()

    def put(item: tuple[Rows, torch.Tensor] | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                made.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for number, part in enumerate(parts):
                if stopped.is_set():
                    return
                put((part, augment(images.pixels(part), number)))
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="labeltui-batches", daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()


def plain(pixels: Pixels, number: int = 0) -> torch.Tensor:
    """Images without augmentation.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (b, H, W, 3)
    number : int
        Unused; see `Augmenter`.

    Returns
    -------
    Tensor of uint8, shape (b, 3, H, W)
        A view, channels last in memory.
    """
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


class Augmenter:
    """Changes images at random: the same for the same key and number of the batch.

    Its parts are torchvision's and timm's. Those of timm draw from the global generators of ``random`` and numpy,
    which nothing else in a training process uses; torch's is left alone, because the model draws from it at the
    same time.

    Parameters
    ----------
    parts : sequence of str
        Of `labeltui.train.spec.AUGMENTATIONS`: ``shift`` by up to an eighth of the side, ``flip`` left and
        right, ``crop`` (a random part, resized), ``rand`` (RandAugment), ``erase`` (a random rectangle).
    key : sequence of int
        Seed, model and epoch.
    first : int
        Number of the first batch.
    """

    def __init__(self, parts: Sequence[str], key: Sequence[int], first: int = 0) -> None:
        self._parts = frozenset(parts)
        self._key = list(key)
        self._first = first
        self._rand = rand_augment_transform(RAND_AUGMENT, {}) if "rand" in parts else None
        self._erase = (
            RandomErasing(probability=0.25, mode="const", device="cpu") if "erase" in parts else None
        )

    def __call__(self, pixels: Pixels, number: int) -> torch.Tensor:
        rng = np.random.default_rng([*self._key, self._first + number])
        if self._parts & {"crop", "rand", "erase"}:
            random.seed(int(rng.integers(2**63)))
            np.random.seed(int(rng.integers(2**32)))  # noqa: NPY002 - timm draws from it
        if self._rand is not None:
            pixels = np.stack([np.asarray(self._rand(Image.fromarray(each))) for each in pixels])
        images = plain(pixels)
        height, width = images.shape[2:]
        if "crop" in self._parts:
            images = torch.stack([self._crop(image, height, width) for image in images])
        if "shift" in self._parts:
            images = _shift(images, rng)
        if "flip" in self._parts:
            chosen = torch.from_numpy(rng.random(len(images)) < 0.5)
            images = torch.where(chosen[:, None, None, None], functional.horizontal_flip(images), images)
        if self._erase is not None:
            images = self._erase(images.contiguous())
        return images.contiguous(memory_format=torch.channels_last)

    def _crop(self, image: torch.Tensor, height: int, width: int) -> torch.Tensor:
        box = RandomResizedCropAndInterpolation.get_params(image, (0.35, 1.0), (3 / 4, 4 / 3))
        cut: torch.Tensor = functional.resized_crop(image, *box, [height, width], antialias=True)
        return cut


def _shift(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    height, width = images.shape[2:]
    by = max(1, height // 8)
    padded: Any = functional.pad(images, [by])
    at = rng.integers(2 * by + 1, size=(len(images), 2)).tolist()
    return torch.stack(
        [image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, at, strict=True)]
    )
