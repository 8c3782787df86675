"""The files that torchvision's data sets download: CIFAR-10 and CIFAR-100 (pickles), and the MNIST family (idx).

A pickle can run any code when it is loaded. Here it is loaded with nothing but stand-ins: the four names that a pickled
NumPy array needs become inert objects that record its shape and bytes, every other name is refused.
"""

from __future__ import annotations

import gzip
import io
import math
import pickle
import pickletools
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labeltui.errors import MissingImage, SourceError, UnreadableImage
from labeltui.io.files import open_regular, read_regular
from labeltui.sources.base import Samples, SourceOptions, check_labels, listed
from labeltui.sources.images import Images, described_files
from labeltui.sources.probabilities import read_probabilities
from labeltui.text import safe

PLACES = (
    "", "raw", "cifar-10-batches-py", "cifar-100-python",
    "MNIST/raw", "FashionMNIST/raw", "KMNIST/raw", "QMNIST/raw",
)  # fmt: skip
IDX = re.compile(r"(?P<split>train|t10k|test)-images-idx3-ubyte(?P<packed>\.gz)?")
MAX_BYTES = 2 << 30
MEMO = 1 << 20  # entries of a pickle's memo
SIDE = 32  # of CIFAR's images
REFUSED = {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "NEXT_BUFFER"}


@dataclass(frozen=True)
class Part:
    """One file of images: its split, and the file of its labels where that is another one."""

    split: str
    images: Path
    labels: Path | None = None


@dataclass(eq=False)
class TorchvisionFiles(Samples):
    """Images of a downloaded data set; made by `open_torchvision`."""

    kind: str = "torchvision"
    description: dict[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, object]:
        return dict(self.description)

    def images(self) -> Images:
        return PixelFiles.opened(self.describe(), self.root)


@dataclass
class PixelFiles(Images):
    """Each sample is an image of 8-bit pixels in one of several files, which are read whole.

    Attributes
    ----------
    files : tuple of Path
    """

    files: tuple[Path, ...]
    encoded = False
    _loaded: list[npt.NDArray[np.uint8]] = field(default_factory=list, repr=False)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_loaded": []}

    @classmethod
    def opened(cls, description: Mapping[str, object], root: Path) -> PixelFiles:
        """See `Images.opened`."""
        return cls(described_files(description, root))

    def read(self, sample_id: bytes, index: int) -> npt.NDArray[np.uint8]:
        if not self._loaded:
            try:
                self._loaded = [read_pixels(each) for each in self.files]
            except FileNotFoundError as error:
                raise MissingImage(f"there is no {safe(str(error.filename))}") from None
            except SourceError as error:
                raise UnreadableImage(error.message, error.got) from None
        for pixels in self._loaded:
            if index < len(pixels):
                return np.ascontiguousarray(pixels[index])
            index -= len(pixels)
        raise MissingImage("there are fewer images now")


def torchvision_parts(path: Path) -> dict[str, list[Part]]:
    """Return the downloaded data sets below a directory: the place of each, and its parts.

    Parameters
    ----------
    path : Path
        The data set's own directory, or the `root` that was given to torchvision.
    """
    if not path.is_dir():
        return {}
    found = {place: _parts(path / place) for place in PLACES}
    return {place: parts for place, parts in found.items() if parts}


def _parts(home: Path) -> list[Part]:
    ten = [home / f"data_batch_{number}" for number in range(1, 6)]
    if (home / "batches.meta").is_file() and ten[0].is_file():
        parts = [Part("train", each) for each in ten if each.is_file()]
        return parts + [Part("test", home / "test_batch")] * (home / "test_batch").is_file()
    if (home / "meta").is_file() and (home / "train").is_file():
        return [Part(name, home / name) for name in ("train", "test") if (home / name).is_file()]
    chosen: dict[str, Part] = {}
    if home.is_dir():
        for each in sorted(home.glob("*-images-idx3-ubyte*")):
            matched = IDX.fullmatch(each.name)
            if matched is None or matched["split"] in chosen:
                continue  # the unpacked file comes first
            stem = f"{matched['split']}-labels-idx1-ubyte"
            labels = [home / name for name in (stem, f"{stem}.gz") if (home / name).is_file()]
            if labels:
                chosen[matched["split"]] = Part(
                    "train" if matched["split"] == "train" else "test", each, labels[0]
                )
    return [chosen[split] for split in ("train", "t10k", "test") if split in chosen]


def open_torchvision(path: Path, options: SourceOptions) -> TorchvisionFiles:
    """Read a data set that torchvision downloaded.

    Ids are ``SPLIT/ROW``, with the row that torchvision counts. CIFAR's classes have their names; of CIFAR-100 the fine
    ones, unless `options.label_column` is ``coarse_labels``.

    Parameters
    ----------
    path : Path
    options : SourceOptions

    Returns
    -------
    TorchvisionFiles

    Raises
    ------
    SourceError
        A file is damaged, or there are several data sets.
    """
    found = torchvision_parts(path)
    if len(found) != 1:
        raise SourceError(
            "a data set of torchvision is CIFAR-10, CIFAR-100 or one of the MNIST family",
            f"{safe(str(path))} holds {listed(found) or 'none'}",
            "give the directory of one of them",
        )
    ((place, parts),) = found.items()
    ids: list[bytes] = []
    labels: list[bytes | None] = []
    splits: list[str] = []
    rows: dict[str, int] = {}
    for part in parts:
        try:
            values = _labels(part, options.label_column)
            n = len(read_pixels(part.images))
        except OSError as error:
            raise _damaged(part.images, error.strerror or str(error)) from None
        if len(values) != n:
            raise _damaged(part.images, f"it has {n:,} images and {len(values):,} labels")
        start = rows.get(part.split, 0)
        ids += [b"%s/%d" % (part.split.encode(), start + row) for row in range(n)]
        labels += values
        splits += [part.split] * n
        rows[part.split] = start + n
    notes = check_labels(labels, safe(path.name))
    if place:
        notes.insert(0, f"the data set is {place}")
    source = TorchvisionFiles(
        root=path,
        ids=ids,
        labels=labels,
        splits=splits,
        notes=notes,
        description={
            "kind": "torchvision",
            "image_store": "torchvision",
            "files": [str(part.images.relative_to(path)) for part in parts],
            "label_column": options.label_column,
        },
    )
    if options.pred_probs is not None:
        probabilities = read_probabilities(options.pred_probs, options, ids, notes)
        source.pred_probs, source.pred_probs_classes = probabilities
    return source


def read_pixels(file: Path) -> npt.NDArray[np.uint8]:
    """Return the images of a file.

    Parameters
    ----------
    file : Path
        A batch of CIFAR, or idx with three dimensions.

    Returns
    -------
    ndarray of uint8, shape (n, 32, 32, 3) or (n, H, W)

    Raises
    ------
    SourceError
        It is damaged.
    OSError
        It cannot be read.
    """
    if "idx3-ubyte" in file.name:
        return _read_idx(file, 3)
    data = _read_batch(file).get(b"data")
    if not isinstance(data, np.ndarray) or data.shape[1:] != (3 * SIDE * SIDE,):
        raise _damaged(file, "it holds no rows of 3 x 32 x 32 pixels")
    return data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)


def _labels(part: Part, column: str) -> list[bytes | None]:
    if part.labels is not None:
        return [b"%d" % value for value in _read_idx(part.labels, 1).tolist()]
    batch, home = _read_batch(part.images), part.images.parent
    ten = (home / "batches.meta").is_file()
    meta = _read_batch(home / ("batches.meta" if ten else "meta"))
    key = "labels" if ten else column if column == "coarse_labels" else "fine_labels"
    names = meta.get(b"label_names" if ten else key.replace("labels", "label_names").encode())
    values = batch.get(key.encode())
    if not isinstance(names, list) or not all(isinstance(name, bytes) for name in names):
        raise _damaged(home / ("batches.meta" if ten else "meta"), "it names no classes")
    if not isinstance(values, list) or not all(type(v) is int and 0 <= v < len(names) for v in values):
        raise _damaged(part.images, f"its {key} are not numbers of its {len(names)} classes")
    return [names[value] for value in values]


def _damaged(file: Path, reason: str) -> SourceError:
    return SourceError(
        "the files of a data set of torchvision must be whole",
        f"{safe(file.name)}: {safe(reason, 200)}",
        "download it again",
    )


def _read_idx(file: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    with open(open_regular(file), "rb") as raw:
        opened = gzip.GzipFile(fileobj=raw) if file.suffix == ".gz" else raw
        try:
            head = opened.read(4 + 4 * dimensions)
            if len(head) != 4 + 4 * dimensions or head[:4] != bytes((0, 0, 8, dimensions)):
                raise _damaged(file, f"it is no idx file of bytes in {dimensions} dimensions")
            shape = struct.unpack(f">{dimensions}I", head[4:])
            if math.prod(shape) > MAX_BYTES:
                raise _damaged(file, f"it states {math.prod(shape):,} pixels")
            data = opened.read(math.prod(shape) + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise _damaged(file, str(error)) from None
    if len(data) != math.prod(shape):
        raise _damaged(file, "it is cut off, or longer than it states")
    return np.frombuffer(data, np.uint8).reshape(shape)


# --- pickles ----------------------------------------------------------------------------------------------------------


class _Type:
    """Stands for numpy.dtype: remembers its code."""

    def __init__(self, code: object = None, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        pass


class _Array:
    """Stands for numpy.ndarray: remembers shape and bytes of a contiguous array of uint8."""

    value: npt.NDArray[np.uint8] | None = None

    def __setstate__(self, state: object) -> None:
        match state:
            case (int(), tuple() as shape, _Type() as kind, False | 0, bytes() as data):
                good = all(type(side) is int and side >= 0 for side in shape)
                if kind.code in ("u1", "|u1", b"u1", b"|u1") and good and math.prod(shape) == len(data):
                    self.value = np.frombuffer(data, np.uint8).reshape(shape)


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _encode(text: object, codec: object = "latin1") -> bytes:
    if not isinstance(text, str) or codec not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError("bytes in an unknown form")
    return text.encode("latin1")


_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not needed for images")
        return _STAND_INS[module, name]


def _read_batch(file: Path) -> dict[bytes, Any]:
    """Return what a pickle of CIFAR holds; arrays of uint8 are arrays, every other object is nothing."""
    data = read_regular(file, MAX_BYTES)
    try:
        for opcode, argument, _ in pickletools.genops(data):
            large = opcode.name.endswith("PUT") and isinstance(argument, int) and argument > MEMO
            if opcode.name in REFUSED or large:
                raise pickle.UnpicklingError(f"it uses {opcode.name}, which images do without")
        value = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    # A made-up pickle raises whatever its steps run into.
    except Exception as error:
        raise _damaged(file, str(error) or type(error).__name__) from None
    if not isinstance(value, dict):
        raise _damaged(file, "it holds no dictionary")
    return {
        key.encode() if isinstance(key, str) else key: item.value
        if isinstance(item, _Array)
        else _plain(item)
        for key, item in value.items()
    }


def _plain(item: object) -> object:
    """Return a list with names as bytes, as Python 2 wrote them."""
    if isinstance(item, list):
        return [each.encode("utf-8", "surrogateescape") if isinstance(each, str) else each for each in item]
    return item
