"""Reading what the cells of a study work on, from the audits that it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labeltui import paths, store
from labeltui.errors import UsageError
from labeltui.sources import ScannedImages, open_images
from labeltui.studies.data import StudyData
from labeltui.studies.plan import StudySpec
from labeltui.text import safe
from labeltui.train.spec import HELD_OUT, TRAIN
from labeltui.train.task import Task

MOST_STRANGERS = 20_000  # images in memory
_LIMIT = 17


def study_data(task: Task, spec: StudySpec) -> StudyData:
    """Read what the cells work on.

    Parameters
    ----------
    task : Task
    spec : StudySpec

    Raises
    ------
    UsageError
        An audit that the study names does not fit.
    """
    audit, labels = task.audit, task.labels
    features = np.asarray(audit.embedding(), dtype=np.float32)
    usable = (audit.status == paths.OK) & (labels >= 0)
    train = np.flatnonzero((task.roles == TRAIN) & usable)
    test = np.flatnonzero((task.roles == HELD_OUT) & usable)
    given = None
    if spec.clean:
        given = np.asarray(audit.given)
        train = train[given[train] >= 0]
    if spec.limit and len(train) > spec.limit:
        train = np.sort(np.random.default_rng(_LIMIT).permutation(train)[: spec.limit])
    used = np.concatenate([train, test])
    root, threads = Path(task.spec.source_root or str(audit.scan.get("root", ""))), task.spec.threads
    strange = None
    if spec.other and "cnn" in spec.networks:
        strange = _strange_images(spec.other, spec.image_size, threads)
    return StudyData(
        labels=labels,
        n_classes=len(audit.class_ids),
        train=train,
        test=test,
        features=features,
        images=_images(audit, root, used, spec.image_size, threads),
        second=matched(spec.second, list(audit.names("samples/id"))),
        strangers=strangers(spec.other, audit.embedding_name),
        strange_images=strange,
        given=given,
    )


def _images(
    opened: store.Store, root: Path, rows: NDArray[np.int64], side: int, threads: int
) -> Callable[[], NDArray[np.uint8]] | None:
    """Return what reads the images of `rows`, (N, 3, side, side) with zeros elsewhere; None where there are none."""
    description = opened.scan.get("source")
    if not isinstance(description, Mapping) or description.get("image_store") in (None, "none"):
        return None

    def read() -> NDArray[np.uint8]:
        images = ScannedImages(
            open_images(description, root), opened.array("samples/sha256"), opened.array("samples/pixels")
        )
        ids = opened.names("samples/id")
        out = np.zeros((opened.n, 3, side, side), dtype=np.uint8)

        def one(i: int) -> None:
            image = images.image(ids[i], i).resize((side, side), Image.Resampling.BILINEAR)
            out[i] = np.asarray(image).transpose(2, 0, 1)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(one, rows.tolist()))
        return out

    return read


def _strange_images(path: str, side: int, threads: int) -> NDArray[np.uint8] | None:
    """Return images of an audit of other data, if it has any; at most `MOST_STRANGERS`."""
    with store.Store.open(Path(path)) as other:
        usable = np.flatnonzero(other.status == paths.OK)
        rows = usable[np.linspace(0, len(usable) - 1, min(len(usable), MOST_STRANGERS)).astype(np.int64)]
        read = _images(other, Path(str(other.scan.get("root", ""))), rows, side, threads)
        return None if read is None else read()[rows]


def matched(path: str, ids: list[bytes]) -> NDArray[np.float32] | None:
    """Return the embedding of another audit of the same samples, in the order of `ids`."""
    if not path:
        return None
    with store.Store.open(Path(path)) as other:
        place = {name: i for i, name in enumerate(other.names("samples/id"))}
        missing = [name for name in ids if name not in place]
        if missing:
            raise UsageError(
                "--second must be an audit of the same samples",
                f"{safe(path)} has no {safe(missing[0])}",
                "scan the same data with another --model",
            )
        rows = np.array([place[name] for name in ids])
        return np.asarray(other.embedding()[rows], dtype=np.float32)


def strangers(path: str, embedding: str) -> NDArray[np.float32] | None:
    """Return the embedding of the usable samples of an audit of other data."""
    if not path:
        return None
    with store.Store.open(Path(path)) as other:
        if other.embedding_name != embedding:
            raise UsageError(
                "--other must be an audit with the same embedding",
                f"it has {safe(other.embedding_name)}, not {safe(embedding)}",
                "scan the other data with the same --model",
            )
        return np.asarray(other.embedding()[np.flatnonzero(other.status == paths.OK)], dtype=np.float32)
