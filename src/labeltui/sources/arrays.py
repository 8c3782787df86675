"""NumPy files: images or ready embeddings, with their labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from labeltui.errors import SourceError
from labeltui.io import files
from labeltui.io.tables import read_text
from labeltui.paths import as_url
from labeltui.sources.base import Samples, SourceOptions, check_labels, faults, listed
from labeltui.sources.copies import named_copy
from labeltui.sources.images import ArrayImages, FileImages, Images, NoImages, load_array
from labeltui.sources.probabilities import check_probabilities, read_probabilities
from labeltui.sources.remote_images import RemoteFiles
from labeltui.sources.table import SUFFIXES as TABLES
from labeltui.sources.table import encode, read_columns
from labeltui.text import safe

SUFFIXES = (".npy", ".npz")
Array = npt.NDArray[np.generic]


@dataclass(eq=False)
class Arrays(Samples):
    """Rows of arrays; made by `open_arrays`."""

    kind: str = "arrays"
    description: dict[str, object] = field(default_factory=dict)
    opened: Images = field(default_factory=NoImages)

    def describe(self) -> dict[str, object]:
        return dict(self.description)

    def images(self) -> Images:
        return self.opened

    def read(self, index: int) -> bytes:
        if self.embeddings is not None:
            return bytes(self.embeddings[index].tobytes())
        return super().read(index)


def open_arrays(path: Path, options: SourceOptions) -> Arrays:
    """Read a ``.npy`` or ``.npz`` file.

    A ``.npy`` file holds uint8 images of shape (N, H, W) or (N, H, W, C), or float embeddings of shape (N,
    d); its labels come from `options.labels`. An ``.npz`` file holds arrays by name: ``images`` or
    ``embeddings`` or both, ``labels``, and perhaps ``ids`` or ``paths`` (of image files, for previews),
    ``splits``, ``pred_probs`` with ``classes``. Python objects are never unpickled. An integer label is a
    class id, -1 is none.

    Parameters
    ----------
    path : Path
    options : SourceOptions

    Returns
    -------
    Arrays

    Raises
    ------
    SourceError
        The file cannot be read, or its arrays do not fit together.
    """
    file = _File(path)
    if path.suffix.lower() == ".npy":
        data = file.load(None)
        images, embeddings = (None, data) if data.ndim == 2 else (data, None)
    else:
        images = file.load(options.images_key) if options.images_key in file.names else None
        embeddings = file.load(options.embeddings_key) if options.embeddings_key in file.names else None
        if images is None and embeddings is None:
            raise SourceError(
                "the file holds images or embeddings",
                f"{safe(path.name)} holds {listed(file.names)}",
                f"save one of them under the name {options.images_key} or {options.embeddings_key}",
            )
    n = len(embeddings if embeddings is not None else images)  # type: ignore[arg-type]
    if images is not None:
        check_images(images, n, file.name)
    if embeddings is not None:
        check_embeddings(embeddings, n, file.name)
    notes: list[str] = []
    ids, labels, splits = _columns(file, options, n, notes)
    notes += check_labels(labels, file.name)
    root = path.parent
    description: dict[str, object] = {
        "kind": "arrays",
        "file": path.name,
        "image_store": "none",
        "array_key": None,
        "embeddings": options.embeddings_key if embeddings is not None and file.names else None,
    }
    for name in ("images_key", "embeddings_key", "labels_key", "ids_key", "paths_key", "splits_key"):
        description[name] = getattr(options, name)
    description["labels"] = None if options.labels is None else relative(options.labels, root)
    opened: Images = NoImages()
    if images is not None:
        key = options.images_key if path.suffix.lower() == ".npz" else None
        description |= {"image_store": "array", "array_key": key}
        opened = ArrayImages(path, key, images, cast("str | None", description["embeddings"]))  # type: ignore[arg-type]
    elif options.paths_key in file.names:
        root = root if options.image_root is None else options.image_root
        description |= {"image_store": "files", "file": relative(path, root)}
        opened = FileImages(root, embedded=embeddings is not None)
        if as_url(root) is not None:
            description["image_store"] = "remote"
            opened = RemoteFiles(root, embedded=embeddings is not None)
    source = Arrays(
        root=root,
        ids=ids,
        labels=labels,
        splits=splits,
        notes=notes,
        embeddings=embeddings,  # type: ignore[arg-type]
        has_images=not isinstance(opened, NoImages),
        description=description,
        opened=opened,
    )
    probabilities = None
    if options.pred_probs is not None:
        probabilities = read_probabilities(options.pred_probs, options, ids, notes)
    elif "pred_probs" in file.names:
        classes = None
        if "classes" in file.names:
            classes = [name or b"" for name in to_bytes(file.load("classes"), "classes", file.name)]
        values = file.load("pred_probs")
        probabilities = check_probabilities(values, classes, options, ids, notes, "pred_probs", matched=True)
    if probabilities is not None:
        source.pred_probs, source.pred_probs_classes = probabilities
    return source


def relative(path: Path, root: Path) -> str:
    """Return how a file is found from a directory: below it or beside it, or by its whole path or URL.

    Parameters
    ----------
    path, root : Path
        Each local or at a URL.
    """
    if (as_url(path) is None) == (as_url(root) is None):
        return os.path.relpath(path, root)
    return os.path.abspath(path) if as_url(path) is None else str(path)


def check_images(images: Array, n: int, name: str) -> None:
    """Raise SourceError unless `images` are `n` uint8 images with 1, 3 or 4 channels last.

    Parameters
    ----------
    images : ndarray
    n : int
    name : str
        Of the array, for the message.

    Raises
    ------
    SourceError
    """
    hint = "save uint8 of shape (N, H, W) or (N, H, W, C) with 1, 3 or 4 channels; 2-D floats are embeddings"
    if images.ndim == 4 and images.shape[1] in (1, 3, 4) and images.shape[3] not in (1, 3, 4):
        hint = "the channels seem to come first: save images.transpose(0, 2, 3, 1)"
    elif images.dtype.kind == "f" and images.ndim in (3, 4):
        hint = "scale the values to 0..255 and save them as uint8"
    shape = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3, 4))
    if images.dtype != np.uint8 or not shape or 0 in images.shape or len(images) != n:
        raise SourceError(
            f"images are uint8 pixels with the channels last, one for each of {n:,} samples",
            f"{name} holds {images.dtype} of shape {images.shape}",
            hint,
        )


def check_embeddings(embeddings: Array, n: int, name: str) -> None:
    """Raise SourceError unless `embeddings` are floats of shape (n, d); rows may be non-finite.

    Parameters
    ----------
    embeddings : ndarray
    n : int
    name : str
        Of the array, for the message.

    Raises
    ------
    SourceError
    """
    if embeddings.dtype.kind != "f" or embeddings.ndim != 2 or 0 in embeddings.shape or len(embeddings) != n:
        raise SourceError(
            "embeddings are floats of shape (N, d), one row for each sample",
            f"{name} holds {embeddings.dtype} of shape {embeddings.shape}",
            "save float32 embeddings; images are 3-D or 4-D uint8",
        )


def to_bytes(values: Array, what: str, name: str) -> list[bytes | None]:
    """Return names from integers or strings; -1 and "" become None.

    Parameters
    ----------
    values : ndarray of int or str, shape (N,)
    what : str
        Their meaning, for the message.
    name : str
        Of the array, for the message.

    Returns
    -------
    list of bytes or None

    Raises
    ------
    SourceError
        The array has another type or shape.
    """
    if values.ndim != 1 or values.dtype.kind not in "iuUS":
        raise SourceError(
            f"{what} must be whole numbers or strings in one dimension",
            f"{name} holds {values.dtype} of shape {values.shape}",
            "save integers, or names with np.asarray(names, dtype=str)",
        )
    if values.dtype.kind in "iu":
        return [None if value == -1 else b"%d" % value for value in values.tolist()]
    return [(encode(value) if isinstance(value, str) else bytes(value)) or None for value in values.tolist()]


class _File:
    """A NumPy file, with errors that a person understands."""

    def __init__(self, path: Path) -> None:
        self._local = named_copy(path)
        self.name = safe(path.name)
        self.names: list[str] = []
        if path.suffix.lower() == ".npz":
            try:
                files.require_regular(self._local)
                with np.load(self._local, allow_pickle=False) as archive:
                    self.names = list(archive.files)
            except Exception as error:  # damaged archives raise BadZipFile, EOFError, OSError, ValueError ...
                raise self._unreadable(error) from None

    def load(self, key: str | None) -> Array:
        try:
            array = load_array(self._local, key)
        except KeyError:
            raise SourceError(
                f"{self.name} must hold an array {safe(str(key))}",
                f"it holds {listed(self.names)}",
                "name it so",
            ) from None
        except Exception as error:
            raise self._unreadable(error) from None
        if array.ndim == 0:
            raise SourceError(
                "each array has one row a sample", f"{safe(str(key or self.name))} is a single value"
            )
        return array

    def _unreadable(self, error: Exception) -> SourceError:
        if "pickle" in str(error):
            return SourceError(
                "NumPy files hold plain numbers and strings",
                f"{self.name} holds Python objects, which could run code when loaded",
                "save strings with np.asarray(names, dtype=str)",
            )
        return SourceError(
            "the NumPy file must be readable",
            f"{self.name}: {safe(str(error)) or type(error).__name__}",
            "save it again",
        )


def _columns(
    file: _File, options: SourceOptions, n: int, notes: list[str]
) -> tuple[list[bytes], Sequence[bytes | None], list[str] | None]:
    """Return the ids, labels and splits."""
    ids: list[bytes | None] | None = None
    splits: list[str] | None = None
    labels: list[bytes | None] | None = None
    key = next((key for key in (options.paths_key, options.ids_key) if key in file.names), None)
    if key is not None:
        ids = to_bytes(file.load(key), key, file.name)
    if options.splits_key in file.names:
        names = to_bytes(file.load(options.splits_key), options.splits_key, file.name)
        splits = [(name or b"").decode("utf-8", "surrogateescape") for name in names]
    if options.labels is not None:
        labels, more_ids, more_splits = _read_labels(options.labels, options)
        ids = ids if ids is not None else more_ids
        splits = splits if splits is not None else more_splits
    elif options.labels_key in file.names:
        labels = to_bytes(file.load(options.labels_key), options.labels_key, file.name)
    if labels is None:
        holds = f", which holds {listed(file.names)}" if file.names else ""
        raise SourceError(
            "the samples must have labels",
            f"got none with {file.name}{holds}",
            f"give --labels FILE, or save them as {options.labels_key} in an .npz file",
        )
    for what, column in (("labels", labels), ("ids", ids), ("splits", splits)):
        if column is not None and len(column) != n:
            raise SourceError(
                f"{what} have one entry for each sample",
                f"got {len(column):,} for {n:,} samples in {file.name}",
            )
    if ids is None:
        notes.append("the samples are named by their row, from 0")
        return [b"%d" % row for row in range(n)], labels, splits
    found, seen = [], dict[bytes | None, int]()
    for row, name in enumerate(ids):
        if name is None:
            found.append(f"row {row}: the id is empty")
        elif name in seen:
            found.append(f"row {row}: {safe(name)} is the id of row {seen[name]} already")
        seen.setdefault(name, row)
    if found:
        raise faults("sample ids must be unique", found, "save other ids, or none to use row numbers")
    return [name for name in ids if name is not None], labels, splits


def _read_labels(
    path: Path, options: SourceOptions
) -> tuple[list[bytes | None], list[bytes | None] | None, list[str] | None]:
    """Return the labels, ids and splits of the file given with --labels."""
    suffix, path = path.suffix.lower(), named_copy(path)
    if not path.exists():
        raise SourceError("the file of labels must exist", f"there is no {safe(str(path))}", "check the path")
    if suffix in SUFFIXES:
        file = _File(path)
        return (
            to_bytes(file.load(options.labels_key if suffix == ".npz" else None), "labels", file.name),
            None,
            None,
        )
    if suffix in TABLES and suffix != ".txt":
        table = read_columns(path, options, need_path=False)
        ids = None if table.paths is None else [encode(name) or None for name in table.paths]
        return [encode(label) or None for label in table.labels], ids, table.splits
    return [encode(line.strip()) or None for line in read_text(path).splitlines()], None, None
