"""The stages of a scan before scoring: embeddings and labels; each adds its arrays to what becomes audit.h5."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import cast

import numpy as np
import numpy.typing as npt

from labeltui import embed, sources, store
from labeltui.cluster import Cluster
from labeltui.errors import Cancelled, SourceError
from labeltui.io.names import pack_names
from labeltui.pipeline import Scored, Stages
from labeltui.scanning.checkpoint import Checkpoint, Rows
from labeltui.scanning.label_table import LabelTable, packed
from labeltui.scanning.options import ScanOptions
from labeltui.scanning.record import commonest, list_faults
from labeltui.scanning.update import Earlier, EarlierRows

STAGES = ("read", "embed", "graph", "duplicates", "csg", "head", "score", "write")


@dataclass(kw_only=True)
class Run(Stages):
    """One run of `scan`: its options, and a clock for its stages."""

    options: ScanOptions
    begun: float = field(default_factory=time.monotonic)
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def stopped(self) -> Cancelled:
        """Return the error to raise when asked to stop."""
        return Cancelled(
            "the scan was stopped", "finished parts are kept", "run the same command again: it resumes"
        )


# --- embedding -------------------------------------------------------------------------------------------------------


def embed_rows(
    run: Run,
    source: sources.Source,
    table: LabelTable,
    checkpoint: Checkpoint,
    scored: Scored,
    earlier: Earlier | None = None,
) -> Rows:
    """Embed all samples, resuming from the checkpoint.

    Parameters
    ----------
    run : Run
    source : Source
    table : LabelTable
    checkpoint : Checkpoint
    scored : Scored
        Its attributes of the embedding are set.
    earlier : Earlier, optional
        An audit that rows are taken over from.

    Returns
    -------
    Rows
    """
    spec = run.options.embed
    recorded = checkpoint.recorded()
    if recorded and spec.batch_size is None and isinstance(size := recorded.get("batch_size"), int):
        # Found by trial on a GPU: the ranges of the first run hold.
        spec = replace(spec, batch_size=size)
    embedder = embed.embedder_for(source, spec)
    half = source.embeddings is not None and source.embeddings.dtype == np.float16
    dtype = "float16" if half else "float32"
    recipe = {
        "samples": table.n,
        "ids": hashlib.sha256(b"\0".join(table.ids)).hexdigest(),
        "embedding": embedder.name,
        "dim": embedder.dim,
        "dtype": dtype,
        "batch_size": embedder.batch_size,
        "attrs": dict(embedder.attrs),
    }
    batch_ranges = embed.batch_ranges(table.n, embedder.batch_size)
    checkpoint.prepare(recipe, table.n, embedder.dim, dtype, batch_ranges)
    scored.metadata["resumed_samples"] = checkpoint.done
    run.report("embed", checkpoint.done, table.n)
    waiting, workers, threads = checkpoint.waiting(), spec.workers, run.options.threads
    if earlier is None and isinstance(run.crew, Cluster) and source.embeddings is None:
        digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
        shards = checkpoint.path / f"shards-{digest[:12]}"
        blocks = run.crew.blocks(source, embedder, spec, waiting, shards, run.cancelled)
    elif earlier is None and len(spec.devices) > 1 and source.embeddings is None:
        blocks = embed.on_devices(source, embedder, spec, waiting, workers, run.cancelled, threads)
    elif earlier is None:
        blocks = embed.stream(source, embedder, waiting, workers, run.cancelled, threads)
    else:
        blocks = EarlierRows(earlier, source, embedder).blocks(waiting, workers, run.cancelled, threads)
    with closing(
        cast("Generator[embed.Block, None, None]", blocks)
    ):  # its processes end here, whatever happens
        for block in blocks:
            checkpoint.put(block)
            run.report("embed", checkpoint.done, table.n)
            run.check()
    if source.embeddings is not None:
        sources.release_pages(source.embeddings)  # every later stage reads the checkpoint's copy
    rows = checkpoint.rows()
    scored.arrays[f"embeddings/{embedder.name}"] = rows.features
    scored.attrs["embeddings"] = {"default": embedder.name}
    scored.attrs[f"embeddings/{embedder.name}"] = dict(embedder.attrs)
    return rows


def require_two(table: LabelTable, rows: Rows, inside: npt.NDArray[np.bool_]) -> None:
    """Require two usable samples.

    Parameters
    ----------
    table : LabelTable
    rows : Rows
    inside : ndarray of bool, shape (N,)
        Usable samples.

    Raises
    ------
    SourceError
    """
    if (usable := int(inside.sum())) < 2:
        faults = list_faults(table.ids, rows.status, rows.faults)
        why = commonest(faults) if faults else "the data has no more"
        raise SourceError(
            "an audit needs at least two usable samples",
            f"{usable} of {table.n:,} can be used: {why}",
            "check the data",
        )


def add_table(scored: Scored, table: LabelTable, rows: Rows) -> None:
    """Add ids, labels, splits and hashes of the samples.

    Parameters
    ----------
    scored : Scored
    table : LabelTable
    rows : Rows
    """
    scored.arrays |= {
        **pack_names("samples/id", table.ids),
        "samples/split": table.split,
        "samples/sha256": rows.sha256,
        "samples/pixels": rows.pixels,
        "samples/status": rows.status,
        "labels/given": table.given,
        **pack_names("classes/id", table.class_ids),
        **pack_names("classes/name", packed(table.class_names)),
        **pack_names("splits/name", packed(table.split_names)),
    }
    scored.attrs[""] = store.audit_attrs()
