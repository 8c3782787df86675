"""Which kind of source a path is."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from labeltui.errors import SourceError, UsageError
from labeltui.paths import as_url
from labeltui.sources import arrays, folder, parquet, shards, table, torchvision_files
from labeltui.sources.base import Source, SourceOptions
from labeltui.sources.remote import open_remote
from labeltui.text import safe


@dataclass(frozen=True)
class Kind:
    """How one kind of source is recognised and opened.

    Attributes
    ----------
    what : str
        For messages.
    recognises : callable
        Whether an existing path is of this kind, by a look at most.
    open : callable
        Reads it, or raises SourceError.
    directory : bool or None
        Whether it is a directory; None = a file or a directory.
    """

    what: str
    recognises: Callable[[Path], bool]
    open: Callable[[Path, SourceOptions], Source]
    directory: bool | None = False


KINDS: dict[str, Kind] = {
    "parquet": Kind(
        "a .parquet file, or a directory of such, with images as Hugging Face stores them",
        lambda path: bool(parquet.parquet_files(path)),
        parquet.open_parquet,
        directory=None,
    ),
    "huggingface": Kind(
        "a directory that Hugging Face's library made with save_to_disk",
        lambda path: bool(parquet.saved_files(path)),
        parquet.open_saved,
        directory=True,
    ),
    "torchvision": Kind(
        "a directory with CIFAR-10, CIFAR-100 or MNIST as torchvision stores them",
        lambda path: bool(torchvision_files.torchvision_parts(path)),
        torchvision_files.open_torchvision,
        directory=True,
    ),
    "archive": Kind(
        "a .zip or .tar archive of images, or a directory of such",
        lambda path: bool(shards.archive_files(path)),
        shards.open_shards,
        directory=None,
    ),
    "folder": Kind(
        "a directory with one directory for each class", Path.is_dir, folder.open_folder, directory=True
    ),
    "table": Kind(
        "a .csv or .tsv table with the columns path and label",
        lambda path: path.suffix.lower() in table.SUFFIXES,
        table.open_table,
    ),
    "arrays": Kind(
        "a .npy or .npz file of images or embeddings",
        lambda path: path.suffix.lower() in arrays.SUFFIXES,
        arrays.open_arrays,
    ),
}


def open_source(path: Path, options: SourceOptions | None = None) -> Source:
    """Open a labelled data set.

    Parameters
    ----------
    path : Path
        A directory or a file.
    options : SourceOptions, optional

    Returns
    -------
    Source

    Raises
    ------
    SourceError
        There is nothing, nothing that any kind recognises, or something invalid for its kind.
    UsageError
        `options` contradict themselves.
    """
    options = options or SourceOptions()
    if options.kind is not None and options.kind not in KINDS:
        raise UsageError(
            "the kind of source must be known", f"got {safe(options.kind)}", f"known: {', '.join(KINDS)}"
        )
    if as_url(Path(path)) is not None and not os.path.lexists(path):
        return open_remote(Path(path), options)
    try:
        path = Path(os.path.abspath(path))
        exists = path.exists()
    except ValueError:  # a NUL character
        exists = False
    except OSError as error:
        raise SourceError("the data set must be readable", f"{safe(str(path))}: {error.strerror}") from None
    if not exists:
        raise SourceError("the data set must exist", f"there is no {safe(str(path))}", "check the path")
    if not (path.is_dir() or path.is_file()):
        raise SourceError(
            "a data set is a directory or a file",
            f"{safe(str(path))} is a pipe, a device or a socket",
            "save the data as a file",
        )
    for name, kind in KINDS.items():
        if name == options.kind or (options.kind is None and kind.recognises(path)):
            misfit = not kind.recognises(path) if kind.directory is None else kind.directory != path.is_dir()
            if misfit:
                what = "a directory" if path.is_dir() else "a file"
                raise SourceError(f"a source of kind {name} is {kind.what}", f"{safe(str(path))} is {what}")
            return kind.open(path, options)
    raise SourceError(
        "a data set is one of: " + "; ".join(kind.what for kind in KINDS.values()),
        f"{safe(str(path))} is none of them",
        "rename the file or convert it",
    )


def reopen_source(description: Mapping[str, object], root: Path) -> Source:
    """Reopen a source from what `Source.describe` returned, at a possibly new root.

    Parameters
    ----------
    description : mapping of str to object
    root : Path

    Returns
    -------
    Source

    Raises
    ------
    SourceError
        It is gone, or no longer a data set of that kind.
    """
    known = {item.name for item in fields(SourceOptions)}
    values = {name: value for name, value in description.items() if name in known}
    for name in ("image_root", "labels"):
        if values.get(name) is not None:
            values[name] = _found(str(values[name]), root)
    if isinstance(values.get("shards"), list):
        values["shards"] = tuple(values["shards"])  # type: ignore[arg-type]
    path = _found(str(description["file"]), root) if "file" in description else root
    if as_url(path) is not None:
        path = Path(os.path.normpath(path))  # stores of objects know no ".."
    if description.get("kind") == "table":
        values["image_root"] = root
    return open_source(path, SourceOptions(**values))  # type: ignore[arg-type]


def _found(name: str, root: Path) -> Path:
    """Return the file of a name that is relative to the root, or a whole path or URL."""
    return Path(name) if as_url(Path(name)) is not None else root / name
