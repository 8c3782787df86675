"""Data at URLs: archives, Parquet files, tables, arrays, or a tree of images, as in a directory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from labeltui.errors import SourceError
from labeltui.sources import arrays, parquet, shards, table
from labeltui.sources.archives import is_archive
from labeltui.sources.base import Samples, Source, SourceOptions, check_labels
from labeltui.sources.images import Images
from labeltui.sources.members import SideLabels, choose, is_image
from labeltui.sources.places import files_below, is_directory, shown, unreachable
from labeltui.sources.probabilities import read_probabilities
from labeltui.sources.remote_images import RemoteFiles


@dataclass(eq=False)
class RemoteTree(Samples):
    """A tree of image files at a URL; made by `open_remote`."""

    kind: str = "folder"
    description: dict[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, object]:
        return {**self.description, "levels": self.levels}

    def images(self) -> Images:
        return RemoteFiles.opened(self.describe(), self.root)


def open_remote(path: Path, options: SourceOptions) -> Source:
    """Open a labelled data set at a URL.

    Parameters
    ----------
    path : Path
        See `labeltui.paths.as_url`.
    options : SourceOptions

    Returns
    -------
    Source

    Raises
    ------
    SourceError
        There is nothing, or nothing that is read from URLs.
    UsageError
        A library is not installed.
    """
    try:
        return _open(path, options)
    except OSError as error:
        raise unreachable(path, error) from None


def _open(path: Path, options: SourceOptions) -> Source:
    if options.shards is not None or is_archive(path):
        return shards.open_shards(path, options)
    if path.suffix.lower() == parquet.SUFFIX:
        return parquet.open_parquet(path, options, [path])
    if path.suffix.lower() in table.SUFFIXES and not is_directory(path):
        return table.open_table(path, options)
    if path.suffix.lower() in arrays.SUFFIXES and not is_directory(path):
        return arrays.open_arrays(path, options)
    if not is_directory(path):
        raise SourceError(
            "data at a URL is an archive, Parquet, a table, a .npy or .npz file, or a directory of archives, of "
            "Parquet or of class directories",
            f"{shown(path)} is none of them",
        )
    names = files_below(path)
    top = [name for name in names if b"/" not in name]
    archives = [name.decode("utf-8", "surrogateescape") for name in top if is_archive(_file(name))]
    if archives and len(top) == len(names):
        return shards.open_shards(path, replace(options, shards=tuple(archives)))
    tables = [name for name in names if _file(name).suffix.lower() == parquet.SUFFIX]
    for found in (
        [name for name in tables if b"/" not in name],
        [name for name in tables if name.startswith(b"data/")],
    ):
        if found:
            return parquet.open_parquet(path, options, [path / _file(name) for name in found])
    chosen = choose([name for name in names if is_image(name)], SideLabels(""), options.split_level, {})
    notes = chosen.notes + check_labels(chosen.labels, shown(path))
    if others := len(names) - len(chosen.ids):
        notes.append(f"{others:,} other files were left out")
    source = RemoteTree(
        root=path,
        ids=chosen.ids,
        labels=chosen.labels,
        splits=chosen.splits,
        notes=notes,
        description={"kind": "folder", "image_store": "remote", "split_level": options.split_level},
    )
    source.find_levels()
    if options.pred_probs is not None:
        probabilities = read_probabilities(options.pred_probs, options, chosen.ids, notes)
        source.pred_probs, source.pred_probs_classes = probabilities
    return source


def _file(name: bytes) -> Path:
    return Path(name.decode("utf-8", "surrogateescape"))
