"""The images of an audit: where they are now, and whether they are still those that were scanned."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labeltui import parallel
from labeltui.errors import ChangedImage, MissingImage, UnreadableImage
from labeltui.paths import OK, as_url
from labeltui.store import Store
from labeltui.text import safe

if TYPE_CHECKING:
    import PIL.Image

    from labeltui.sources import Images


class AuditImages:
    """Access to the images of an audit's samples; any thread may read them.

    Parameters
    ----------
    store : Store
        Open for as long as images are read.
    root : Path, optional
        Directory of the images now; by default the one that was scanned.

    Attributes
    ----------
    root : Path or None
        Where they are looked for; None where the scan named no place.
    present : bool
        Whether the samples are images, found or not; False for a source of embeddings alone.
    """

    def __init__(self, store: Store, root: Path | None) -> None:
        scanned = Path(str(store.scan["root"])) if store.scan.get("root") else None
        # Whoever made the audit would learn who looks at it, so a URL is followed when a person names it.
        self._url = None if root or scanned is None else as_url(scanned)
        self.root = root or (scanned if self._url is None else None)
        self._store = store
        source = store.scan.get("source")
        self._description = source if isinstance(source, dict) else None
        self._images: Images | None = None
        self.present = self._description is None or self._description.get("image_store") != "none"

    def read(self, i: int) -> bytes | NDArray[np.uint8]:
        """Return an image as it is stored: an encoded file, or an array of pixels.

        Raises
        ------
        MissingImage
            It is no longer where the scan saw it, or there never was one.
        UnreadableImage
            It cannot be decoded.
        ChangedImage
            It is not the image that was scanned.
        """
        return self._open().read(self._store.ids[i], i)

    def image(self, i: int) -> PIL.Image.Image:
        """Return an image, RGB. Raises as `read`."""
        return self._open().image(self._store.ids[i], i)

    def lost(self, samples: NDArray[np.int64]) -> dict[int, str]:
        """Read the images of samples, in threads, and return those that are no longer the scan's.

        Returns
        -------
        dict of int to str
            ``changed``, ``missing`` or ``unreadable``; samples that the scan could not use are not read.
        """
        if not self.present:
            return {}
        kinds = {ChangedImage: "changed", MissingImage: "missing", UnreadableImage: "unreadable"}
        ids, images = self._store.ids, self._open()

        def read(i: int) -> str:
            try:
                images.read(ids[i], i)
            except (ChangedImage, MissingImage, UnreadableImage) as error:
                return kinds[type(error)]
            return ""

        usable: list[int] = samples[self._store.status[samples] == OK].tolist()
        with ThreadPoolExecutor(parallel.count_threads()) as pool:
            return {i: kind for i, kind in zip(usable, pool.map(read, usable), strict=True) if kind}

    @property
    def are_files(self) -> bool:
        """Whether each sample's id is the path of a file below `root`."""
        return self._description is not None and self._description.get("image_store") == "files"

    def file(self, i: int) -> Path | None:
        """Return the file of a sample if it is there; None where images are rows or members of other files."""
        if self.root is None or not self.are_files:
            return None
        path = Path(os.path.realpath(self.root), os.fsdecode(self._store.ids[i]))
        return path if path.is_file() else None

    def changed_files(self) -> list[str]:
        """Return the names of the tables, arrays and lists that were edited after the scan read them."""
        from labeltui.sources.files import changed_files

        return changed_files(self._store.scan.get("files"), self.root)

    def owns(self, path: Path) -> bool:
        """Return whether an existing file is a part of the source, by whatever name or link."""
        if self.root is None or self._description is None:
            return False
        names = self._description.get("files")
        parts = [self._description.get(key) for key in ("file", "labels")]
        for each in [*parts, *(names if isinstance(names, list) else [])]:
            part = self.root / str(each or "")
            if part.is_file() and os.path.samefile(part, path):
                return True
        try:
            name = Path(os.path.realpath(path)).relative_to(os.path.realpath(self.root))
            return self._store.ids.index(os.fsencode(name)) >= 0
        except ValueError:  # not below the root, or no sample's image
            return False

    def _open(self) -> Images:
        if self._images is None:
            from labeltui.sources import ScannedImages, open_images

            if self._url is not None:
                raise MissingImage(
                    "images at a URL are fetched when you name it",
                    f"they lie at {safe(self._url)}",
                    f"--source {safe(self._url)}",
                )
            if self.root is None or self._description is None:
                raise MissingImage(
                    "an image is read from the source that the scan named",
                    "this audit names none",
                    "give its directory with --source DIR",
                )
            self._images = ScannedImages(
                open_images(self._description, self.root),
                self._store.array("samples/sha256"),
                self._store.array("samples/pixels"),
            )
        return self._images
