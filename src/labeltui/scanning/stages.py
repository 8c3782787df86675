"""The long stages of a scan; each adds its arrays and attributes to what becomes audit.h5."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from labeltui import csg, duplicates, embed, graph, head, sources, store
from labeltui.errors import Cancelled, SourceError
from labeltui.scanning.checkpoint import Checkpoint, Rows
from labeltui.scanning.label_table import LabelTable, packed
from labeltui.scanning.options import STORED_NEIGHBOURS, ScanOptions
from labeltui.scanning.record import commonest, list_faults

STAGES = ("read", "embed", "graph", "duplicates", "csg", "head", "score", "write")
# A spectrum takes a time that grows with the cube of the classes: 0.2 s for 1,000, minutes for 10,000.
MOST_CLASSES = 10_000
MOST_REPEATED = 1_000  # above, no sweep and no interval, which take it again and again
HUNDREDTHS = 100  # total of the stages that only know their share

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
Attrs = dict[str, dict[str, store.Attribute]]
Progress = Callable[[str, int, int], None]
Cancel = Callable[[], bool]


@dataclass
class Run:
    """One run of `scan`: what it was told, and a clock for its stages."""

    options: ScanOptions
    report: Progress
    cancelled: Cancel
    begun: float = field(default_factory=time.monotonic)
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[float], None]]:
        """Time a stage; yields a callback for the share of it that is done."""
        begun = time.monotonic()
        self.check()
        self.report(name, 0, HUNDREDTHS)
        yield lambda share: self.report(name, min(HUNDREDTHS, int(share * HUNDREDTHS)), HUNDREDTHS)
        self.report(name, HUNDREDTHS, HUNDREDTHS)
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - begun, 3)

    def check(self) -> None:
        if self.cancelled():
            raise self.stopped()

    def stopped(self) -> Cancelled:
        return Cancelled(
            "the scan was stopped", "what is finished is kept", "run the same command again: it goes on"
        )


@dataclass
class Findings:
    """Arrays and attributes of audit.h5 as the stages add them."""

    arrays: Arrays = field(default_factory=dict)
    attrs: Attrs = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)  # for scan.json: what may differ between machines


# --- embedding -------------------------------------------------------------------------------------------------------


def embed_rows(
    run: Run, source: sources.Source, table: LabelTable, checkpoint: Checkpoint, found: Findings
) -> Rows:
    spec = run.options.embed
    recorded = checkpoint.recorded()
    if recorded and spec.batch_size is None:
        # Found by trial on a GPU: the first run's borders hold.
        spec = replace(spec, batch_size=recorded.get("batch_size"))
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
    borders = embed.borders(table.n, embedder.batch_size)
    checkpoint.prepare(recipe, table.n, embedder.dim, dtype, borders)
    found.metadata["resumed_samples"] = checkpoint.done
    run.report("embed", checkpoint.done, table.n)
    blocks = embed.stream(
        source, embedder, checkpoint.waiting(), spec.workers, run.cancelled, run.options.threads
    )
    with closing(
        cast("Generator[embed.Block, None, None]", blocks)
    ):  # its processes end here, whatever happens
        for block in blocks:
            checkpoint.put(block)
            run.report("embed", checkpoint.done, table.n)
            run.check()
    rows = checkpoint.rows()
    found.arrays[f"embeddings/{embedder.name}"] = rows.features
    found.attrs["embeddings"] = {"default": embedder.name}
    found.attrs[f"embeddings/{embedder.name}"] = dict(embedder.attrs)
    return rows


def require_two(table: LabelTable, rows: Rows, inside: npt.NDArray[np.bool_]) -> None:
    if (usable := int(inside.sum())) < 2:
        faults = list_faults(table.ids, rows.status, rows.faults)
        why = commonest(faults) if faults else "the data has no more"
        raise SourceError(
            "an audit needs at least two usable samples",
            f"{usable} of {table.n:,} can be used: {why}",
            "check the data",
        )


def add_table(found: Findings, table: LabelTable, rows: Rows) -> None:
    found.arrays |= {
        **store.pack_names("samples/id", table.ids),
        "samples/split": table.split,
        "samples/sha256": rows.sha256,
        "samples/pixels": rows.pixels,
        "samples/status": rows.status,
        "labels/given": table.given,
        **store.pack_names("classes/id", table.class_ids),
        **store.pack_names("classes/name", packed(table.class_names)),
        **store.pack_names("splits/name", packed(table.split_names)),
    }
    found.attrs[""] = store.audit_attrs()


# --- graph and CSG ---------------------------------------------------------------------------------------------------


def csg_k(run: Run, neighbours: graph.Graph) -> int:
    return min(run.options.k, neighbours.k)


def build_graph(
    run: Run,
    rows: Rows,
    inside: npt.NDArray[np.bool_],
    checkpoint: Checkpoint,
    share: Callable[[float], None],
    found: Findings,
    name: str,
    metric: str = "cosine",
) -> graph.Graph:
    chosen = np.flatnonzero(inside)
    k = min(STORED_NEIGHBOURS, len(chosen) - 1)

    def build() -> tuple[Arrays, dict[str, Any]]:
        made = graph.build(
            rows.features,
            k,
            metric,
            run.options.backend,
            run.options.threads,
            share,
            run.cancelled,
            rows=None if len(chosen) == len(inside) else chosen,
        )
        names = ("metric", "k", "backend", "exact", "proven", "recomputed", "recall")
        facts = {fact: getattr(made, fact) for fact in names}
        made = replace(made, similarity=graph.relative_similarity(made))
        if len(chosen) < len(inside):
            made = graph.expand(made, chosen, len(inside))
        return {"indices": made.indices, "similarity": made.similarity}, facts

    arrays, facts = checkpoint.step("graph", [inside, k, metric, run.options.backend], build)
    made = graph.Graph(arrays["indices"], arrays["similarity"], **facts)
    count = csg_k(run, made)
    indptr, reverse = made.reverse(count)
    path = f"graph/{name}"
    found.arrays |= {
        f"{path}/indices": made.indices,
        f"{path}/similarity": made.similarity,
        f"{path}/rev_indptr": indptr,
        f"{path}/rev_indices": reverse,
    }
    found.attrs[path] = {
        "metric": made.metric,
        "k": k,
        "csg_k": count,
        "backend": made.backend,
        "exact": made.exact,
        **({} if made.recall is None else {"recall": made.recall}),
    }
    # How many rows the bound proved depends on the CPU's path; the neighbours do not.
    found.metadata["graph"] = {"proven": made.proven, "recomputed": made.recomputed}
    return made


def find_duplicates(
    run: Run,
    source: sources.Source,
    rows: Rows,
    inside: npt.NDArray[np.bool_],
    neighbours: graph.Graph,
    checkpoint: Checkpoint,
    share: Callable[[float], None],
    found: Findings,
) -> npt.NDArray[np.int32]:
    """Group identical and near-identical samples: folds and votes treat a group as one."""
    options = run.options
    exact = duplicates.duplicate_groups(rows.pixels, inside)

    def find() -> tuple[Arrays, dict[str, Any]]:
        if options.duplicate_threshold == 1 or neighbours.metric != "cosine":
            return {"groups": exact}, {"threshold": 1.0}
        near = duplicates.near_duplicates(
            neighbours.indices,
            neighbours.similarity,
            exact,
            image=source.image if source.has_images else None,
            threshold=options.duplicate_threshold,
            seed=options.seed,
            threads=options.threads,
            progress=share,
            cancel=run.cancelled,
        )
        return {"groups": near.groups}, near.attrs()

    key = [
        inside,
        neighbours.k,
        options.backend,
        neighbours.metric,
        options.duplicate_threshold,
        options.seed,
        source.has_images,
    ]
    arrays, facts = checkpoint.step("duplicates", key, find)
    found.arrays["groups/duplicate"] = arrays["groups"]
    found.attrs["groups/duplicate"] = dict(facts)
    return arrays["groups"]


def complexity(
    run: Run,
    table: LabelTable,
    inside: npt.NDArray[np.bool_],
    neighbours: graph.Graph,
    found: Findings,
    name: str,
) -> float | None:
    """Add the class matrices and return the CSG; None where its spectrum would take too long."""
    classes, k, threads = len(table.class_ids), csg_k(run, neighbours), run.options.threads
    labels = np.where(inside, table.given, -1).astype(np.int32)
    indices = neighbours.indices
    counts = csg.pooled_counts(indices, labels, classes, k, threads)
    sizes = csg.class_sizes(indices, labels, classes)
    solve = csg.complexity if classes <= MOST_CLASSES else csg.overlaps
    measured = solve(counts, sizes, k, threads=threads)
    found.arrays |= {
        **store.pack_matrix("csg/T", counts),
        **store.pack_matrix("csg/S", measured.S),
        **store.pack_matrix("csg/W", measured.W),
        "csg/overlap": measured.overlap,
        "csg/self_similarity": measured.self_similarity,
        "csg/present": measured.present,
        "csg/reliable": measured.reliable,
        "csg/sizes": measured.sizes,
    }
    found.attrs["csg"] = {"trace": measured.trace, "k": k, "n": measured.n, "embedding": name}
    if not isinstance(measured, csg.Complexity):
        return None
    found.arrays |= {
        "csg/eigenvalues": measured.eigenvalues,
        "csg/spectral_contribution": measured.spectral_contribution,
    }
    found.attrs["csg"] |= {
        "csg": measured.csg,
        "csg_normalised": measured.csg_normalised,
        "l1": measured.l1,
    }
    run.check()
    if classes <= MOST_REPEATED:
        ks, values = csg.sweep(indices, labels, classes, threads=threads)
        redraws, seed = 200 if classes <= 200 else 50, run.options.seed
        interval = csg.interval(indices, labels, classes, k, redraws, seed, threads=threads)
        found.arrays |= {"csg/sweep_k": ks, "csg/sweep_csg": values, "csg/interval": np.array(interval)}
        found.attrs["csg"] |= {"redraws": redraws, "seed": seed}
    return measured.csg


# --- head ------------------------------------------------------------------------------------------------------------


def train_head(
    run: Run,
    table: LabelTable,
    rows: Rows,
    inside: npt.NDArray[np.bool_],
    groups: npt.NDArray[np.int32],
    checkpoint: Checkpoint,
    share: Callable[[float], None],
    found: Findings,
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32], head.Dynamics | None]:
    options = run.options
    fold = head.folds(table.given, groups, inside, options.folds, options.seed)

    def train() -> tuple[Arrays, dict[str, Any]]:
        result = head.out_of_fold(
            rows.features,
            table.given,
            fold,
            len(table.class_ids),
            spec=options.head,
            seed=options.seed,
            threads=options.threads,
            device=options.embed.device,
            progress=lambda epoch: share(epoch.done / epoch.total),
            cancel=run.cancelled,
            dynamics=True,
        )
        record = {} if result.dynamics is None else vars(result.dynamics)
        return {"p": result.p, **record}, result.attrs

    key = [table.given, len(table.class_ids), fold, asdict(options.head), options.seed, options.embed.device]
    arrays, facts = checkpoint.step("head", key, train)
    found.attrs["scores/head"] = dict(facts)
    p = arrays.pop("p")
    return fold, p, head.Dynamics(**arrays) if arrays else None
