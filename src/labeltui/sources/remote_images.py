"""Images that are files at URLs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from labeltui.errors import MissingImage, UnreadableImage
from labeltui.sources.decode import MAX_FILE_BYTES, Levels
from labeltui.sources.images import Images, described_levels
from labeltui.sources.places import exists, read_range
from labeltui.text import safe


@dataclass(frozen=True)
class RemoteFiles(Images):
    """Each sample is an image file below a URL; its id is the path from there, or the whole URL.

    `embedded` is as for `labeltui.sources.images.FileImages`.
    """

    root: Path
    embedded: bool = False
    levels: Levels | None = None

    @classmethod
    def opened(cls, description: Mapping[str, object], root: Path) -> RemoteFiles:
        """See `Images.opened`."""
        return cls(root, description.get("embeddings") is not None, described_levels(description))

    def read(self, sample_id: bytes, index: int) -> bytes:
        try:
            data = read_range(self._path(sample_id), 0, MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            raise MissingImage("there is no such file") from None
        except OSError as error:
            raise UnreadableImage(
                f"the file cannot be read: {safe(error.strerror or str(error), 200)}"
            ) from None
        if len(data) > MAX_FILE_BYTES:
            raise UnreadableImage(f"the file has more than {MAX_FILE_BYTES:,} bytes")
        return data

    def scanned(self, data: bytes | npt.NDArray[np.uint8], index: int) -> bytes | None:
        return None if self.embedded else super().scanned(data, index)

    def exists(self, sample_id: bytes) -> bool:
        """Return whether there is a file that can be reached.

        Parameters
        ----------
        sample_id : bytes

        Raises
        ------
        UsageError
            As `labeltui.sources.places.opened`.
        """
        try:
            return exists(self._path(sample_id))
        except (MissingImage, OSError):
            return False

    def _path(self, sample_id: bytes) -> Path:
        name = Path(sample_id.decode("utf-8", "surrogateescape"))
        if name.is_absolute() or ".." in name.parts:
            raise MissingImage("the name leads out of the data")
        return name if name.is_relative_to(self.root) else self.root / name
