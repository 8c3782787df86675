"""The images of a source, from what its description says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from labeltui.errors import SourceError
from labeltui.sources.archive_images import ArchiveImages
from labeltui.sources.images import ArrayImages, FileImages, Images, NoImages
from labeltui.sources.remote_images import RemoteFiles
from labeltui.sources.rows import ArrowImages, ParquetImages
from labeltui.sources.torchvision_files import PixelFiles
from labeltui.text import safe

_OPENERS: dict[str, Callable[[Mapping[str, object], Path], Images]] = {
    "files": FileImages.opened,
    "array": ArrayImages.opened,
    "archive": ArchiveImages.opened,
    "parquet": ParquetImages.opened,
    "arrow": ArrowImages.opened,
    "torchvision": PixelFiles.opened,
    "remote": RemoteFiles.opened,
    "none": lambda description, root: NoImages(),
}


def open_images(description: Mapping[str, object], root: Path) -> Images:
    """Return access to the images of a source.

    Parameters
    ----------
    description : mapping
        What `Source.describe` returned.
    root : Path
        The source's root, which may have moved since.

    Raises
    ------
    SourceError
        The description is of a kind that this version does not know.
    """
    kind = str(description.get("image_store", "?"))
    if kind not in _OPENERS:
        raise SourceError(
            "the audit must name a kind of images that this version reads",
            f"it names {safe(kind)}; known are {', '.join(_OPENERS)}",
            "update labeltui",
        )
    return _OPENERS[kind](description, root)
