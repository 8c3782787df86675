"""The images of samples as files: their bytes as stored, names that are unique, and links to them."""

from __future__ import annotations

import io
import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from labeltui.audit import Audit
from labeltui.errors import SourceError, UnreadableImage
from labeltui.export.corrections import Corrections, text

if TYPE_CHECKING:
    from PIL import Image

LONGEST = 200  # bytes of a name: most file systems take 255
_FORBIDDEN = {"/": "%2F", "%": "%25", "\0": "%00"}


def stored(audit: Audit, i: int) -> tuple[bytes, str]:
    """Return an image's file and its extension; of an array's row a PNG.

    Parameters
    ----------
    audit : Audit
    i : int
        Sample.

    Returns
    -------
    data : bytes
    extension : str
        In lower case, without a dot.

    Raises
    ------
    SourceError
        The image is gone, changed or unreadable.
    """
    data = audit.images.read(i)
    if isinstance(data, bytes):
        return data, extension_of(audit.sample_id(i))
    from labeltui.sources.decode import from_array  # imports Pillow, which most exports do without

    return png(from_array(data)), "png"


def png(image: Image.Image) -> bytes:
    """Return an image as a PNG file."""
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def extension_of(name: bytes) -> str:
    """Return the extension of a file name, in lower case without a dot; "png" where it has none."""
    return text(os.path.splitext(name)[1][1:]).lower() or "png"


def component(name: str) -> str:
    """Return a name as one component of a path: slashes, percent signs and leading dots are percent-encoded."""
    name = "".join(_FORBIDDEN.get(character, character) for character in name)
    return "%2E" + name[1:] if name.startswith(".") else name


def unique_stem(corrections: Corrections, i: int, taken: Collection[str]) -> str:
    """Return a file name without extension that says which sample it is, and that is not taken.

    Parameters
    ----------
    corrections : Corrections
    i : int
        Sample.
    taken : collection of str

    Returns
    -------
    str
    """
    stem = component(os.path.splitext(os.path.basename(text(corrections.audit.sample_id(i))))[0])
    while len(stem.encode()) > LONGEST:
        stem = stem[1:]
    stem = stem or str(i)
    return f"{stem}-{i}" if stem in taken else stem


def place(corrections: Corrections, i: int, target: Path) -> bool:
    """Put the image of a sample where `target` says, with its extension added: a link, or a copy.

    Parameters
    ----------
    corrections : Corrections
    i : int
        Sample.
    target : Path
        Without extension.

    Returns
    -------
    bool
        False when the image is no longer there.
    """
    audit = corrections.audit
    path = audit.images.file(i)
    try:
        if path is None or corrections.copy_images:
            data, extension = stored(audit, i)
            target.with_name(f"{target.name}.{extension}").write_bytes(data)
        else:
            target.with_name(f"{target.name}.{extension_of(audit.sample_id(i))}").symlink_to(path)
    except (SourceError, UnreadableImage):
        return False
    return True
