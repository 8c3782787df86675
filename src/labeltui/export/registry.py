"""The exporters by name, and writing with one of them."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from labeltui.audit import Audit
from labeltui.errors import InputError, UsageError
from labeltui.export import (
    annotators,
    cleanlab,
    fiftyone,
    huggingface,
    image_folder,
    label_studio,
    parquet,
    table,
    webdataset,
)
from labeltui.export.corrections import Corrections, Exported, correct
from labeltui.io.atomic import replacing, sync_directory, sync_file
from labeltui.text import safe


@dataclass(frozen=True)
class Exporter:
    """One format.

    Attributes
    ----------
    what : str
        One line for the help.
    to_file : callable, optional
        ``to_file(corrections, file)`` writes one binary file.
    to_directory : callable, optional
        ``to_directory(corrections, directory)`` fills a new directory. Exactly one of the two is given; both return
        the number of samples whose image could not be had.
    images : bool
        Whether it needs the images.
    needs : str
        The module of a library that it needs, and the extra of labeltui that installs it.
    """

    what: str
    to_file: Callable[[Corrections, BinaryIO], int] | None = None
    to_directory: Callable[[Corrections, Path], int] | None = None
    images: bool = False
    needs: str = ""


EXPORTERS: dict[str, Exporter] = {
    "csv": Exporter("one row a sample", to_file=table.write),
    "excel-csv": Exporter(
        "the same for spreadsheets: no cell is a formula", to_file=partial(table.write, excel=True)
    ),
    "annotators": Exporter("CSV with one row for each sample and reviewer", to_file=annotators.write),
    "parquet": Exporter("the table of csv, typed, for pandas", to_file=parquet.write, needs="pyarrow"),
    "label-studio": Exporter(
        "JSON tasks with the suggestions as predictions", to_file=label_studio.write, images=True
    ),
    "huggingface": Exporter(
        "Parquet files with the images, for datasets.load_dataset",
        to_directory=huggingface.write,
        images=True,
        needs="pyarrow",
    ),
    "fiftyone": Exporter(
        "images and labels.json, for FiftyOne's FiftyOneImageClassificationDataset",
        to_directory=fiftyone.write,
        images=True,
    ),
    "webdataset": Exporter(
        "tar shards with the images that have a label", to_directory=webdataset.write, images=True
    ),
    "imagefolder": Exporter(
        "one directory a class, with links to the images that have a label",
        to_directory=image_folder.write,
        images=True,
    ),
    "cleanlab": Exporter("issues.csv and knn_graph.npz, for cleanlab's Datalab", to_directory=cleanlab.write),
}


def export(
    audit: Audit,
    out: Path,
    *,
    format: str = "csv",
    only_changed: bool = False,
    apply_suggestions: float | None = None,
    target_precision: float | None = None,
    raw_paths: bool = False,
    verify: bool = False,
    copy_images: bool = False,
    force: bool = False,
) -> Exported:
    """Write corrected labels to a file or a directory, complete or not at all.

    Parameters
    ----------
    audit : Audit
    out : Path
        The file, or the new directory.
    format : str
        A key of `EXPORTERS`.
    only_changed : bool
        Only samples whose corrected label differs from the given one, or that are excluded.
    apply_suggestions : float, optional
        Correct flagged samples that nobody decided, where the first suggestion has at least this probability; 0
        corrects all, since a flag's suggestion is more probable than its given label. The journal does not change.
    target_precision : float, optional
        The same, with the lowest probability at which this fraction of the corrections is expected to be right.
    raw_paths : bool
        Write undecodable bytes as they are; CSV only.
    verify : bool
        Read every image, and mark in `status` those that are no longer the scan's.
    copy_images : bool
        Copy image files where a format would link to them.
    force : bool
        Replace an existing file. A file that the audit or its source consists of is never replaced, nor is a
        directory.

    Raises
    ------
    UsageError
        The output exists, belongs to the source or the audit, or cannot be written; a probability is none; or the
        format is unknown or cannot be written here.
    """
    exporter = _find(format)
    out = Path(out)
    corrections = _corrections(
        audit,
        format,
        only_changed=only_changed,
        apply_suggestions=apply_suggestions,
        target_precision=target_precision,
        raw_paths=raw_paths,
        verify=verify,
        copy_images=copy_images,
    )
    if exporter.to_directory is None:
        _check_file(audit, out, force)
    else:
        _check_directory(audit, out)
    target = Path(os.path.realpath(out))  # behind a link, not in its place
    try:
        if exporter.to_directory is not None:
            with _appearing(target) as hidden:
                lost = exporter.to_directory(corrections, hidden)
        else:
            assert exporter.to_file is not None
            _sweep(target)
            with replacing(target) as hidden, open(hidden, "wb") as file:
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(file, fcntl.LOCK_EX)
                lost = exporter.to_file(corrections, file)
    except OSError as error:
        raise UsageError(
            "the output must be writable",
            f"{safe(str(out))}: {error.strerror}",
            "check the directory, its permissions and the space on its disk",
        ) from None
    return corrections.exported(lost)


def write(audit: Audit, file: BinaryIO, *, format: str = "csv", **options: Any) -> Exported:
    """Write to an open binary file.

    Parameters
    ----------
    audit : Audit
    file : BinaryIO
    format : str
        One whose output is a file.
    options
        As for `export`, without `force`.

    Returns
    -------
    Exported
    """
    exporter = _find(format)
    if exporter.to_file is None:
        raise UsageError(
            "only a format of one file goes to standard output",
            f"{format} is a directory",
            "name a new directory with -o",
        )
    corrections = _corrections(audit, format, **options)
    return corrections.exported(exporter.to_file(corrections, file))


def _find(name: str) -> Exporter:
    if name not in EXPORTERS:
        close = get_close_matches(name, EXPORTERS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(EXPORTERS)}"
        raise UsageError("the format must be known", f"got {safe(name)}", hint)
    return EXPORTERS[name]


def _corrections(audit: Audit, format: str, raw_paths: bool = False, **options: Any) -> Corrections:
    """Check what the format needs, and correct."""
    exporter = EXPORTERS[format]
    if raw_paths and exporter.to_file not in (table.write, EXPORTERS["excel-csv"].to_file):
        raise UsageError(
            "raw paths are for CSV", f"{format} holds text", "leave --paths out: names are escaped"
        )
    if exporter.images and not audit.images.present:
        raise UsageError(
            f"{format} holds images", "this audit was made from embeddings alone", "try --format parquet"
        )
    if exporter.needs and importlib.util.find_spec(exporter.needs) is None:
        raise UsageError(
            f"{format} needs the library {exporter.needs}",
            "it is not installed",
            "pip install 'labeltui[parquet]'",
        )
    corrections = correct(audit, raw_paths=raw_paths, **options)
    if len(set(corrections.class_names)) < audit.K:
        raise InputError("classes must have different names as text", "two look alike when they are escaped")
    return corrections


@contextlib.contextmanager
def _appearing(target: Path) -> Any:
    """Yield a hidden directory that becomes `target` when the block ends well."""
    hidden = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    _sweep(target)
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir()
    lock = os.open(hidden, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield hidden
        for directory, _, names in os.walk(hidden):
            for name in names:
                path = Path(directory, name)
                if not path.is_symlink():
                    sync_file(path)
            sync_directory(Path(directory))
        if target.exists():
            target.rmdir()  # empty, as was checked
        hidden.rename(target)
        sync_directory(target.parent)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    finally:
        os.close(lock)


def _sweep(target: Path) -> None:
    """Remove what killed exports to the same place left; one that is still written is locked."""
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        with contextlib.suppress(OSError):
            lock = os.open(leftover, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if leftover.is_dir():
                    shutil.rmtree(leftover)
                else:
                    leftover.unlink()
            finally:
                os.close(lock)


def _check_directory(audit: Audit, out: Path) -> None:
    shown = safe(str(out))
    if not os.path.lexists(out):
        return
    if audit.owns(out):
        raise UsageError(
            "an export never replaces its source or a part of the audit",
            f"{shown} is one",
            "choose another name",
        )
    if not out.is_dir() or any(out.iterdir()):
        raise UsageError("the output is a new directory", f"{shown} is there already", "choose another name")


def _check_file(audit: Audit, out: Path, force: bool) -> None:
    shown = safe(str(out))
    if out.is_dir():
        raise UsageError("the output is a file", f"{shown} is a directory", f"try {shown}/labels.csv")
    if not out.exists():
        return
    if audit.owns(out):
        raise UsageError(
            "an export never replaces its source or a part of the audit",
            f"{shown} is one",
            "choose another name",
        )
    if not out.is_file():
        raise UsageError(
            "the output is a file", f"{shown} is a device, a pipe or a socket", "-o - is standard output"
        )
    if not force:
        raise UsageError("the output must not exist", f"{shown} does", "choose another name, or use --force")
