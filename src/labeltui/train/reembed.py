"""The features of a fine-tuned backbone as a new embedding, with its graph and the complexity of the classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from labeltui import graph, store
from labeltui.embed.stream import validate_rows
from labeltui.errors import JobError
from labeltui.scanning import ScanOptions
from labeltui.scanning.label_table import LabelTable
from labeltui.scanning.options import STORED_NEIGHBOURS
from labeltui.scanning.stages import Findings, Run, complexity
from labeltui.train.spec import BackboneSpec
from labeltui.train.task import Task

Array = npt.NDArray[Any]


def reembed(
    task: Task, features: npt.NDArray[np.float32], name: str, spec: BackboneSpec
) -> tuple[dict[str, Array], dict[str, dict[str, Any]]]:
    """Return the arrays and attributes of a generation that shows another embedding.

    Parameters
    ----------
    task : Task
    features : ndarray of float32, shape (N, d)
        Rows of samples that are not ok are 0.
    name : str
        Of the embedding.
    spec : BackboneSpec

    Raises
    ------
    JobError
        A sample's features cannot be compared.
    """
    audit, job = task.audit, task.job
    old = f"graph/{audit.embedding_name}"
    inside = (audit.status == store.OK) & (audit.array(f"{old}/indices")[:, 0] >= 0)
    chosen = np.flatnonzero(inside)
    _, reasons = validate_rows(features[chosen])
    if reasons:
        raise JobError(
            "the tuned features must be finite and not zero",
            f"{len(reasons):,} samples: {reasons[0][1]}",
            "train with a smaller --learning-rate, or without --reembed",
        )
    options = ScanOptions(k=int(audit.attrs(old)["csg_k"]), threads=task.spec.threads, seed=task.spec.seed)
    made = graph.build(
        features,
        min(STORED_NEIGHBOURS, len(chosen) - 1),
        "cosine",
        options.backend,
        options.threads,
        lambda share: job.event("graph", 0.95 + 0.02 * share),
        job.cancelled,
        rows=None if len(chosen) == len(inside) else chosen,
    )
    if len(chosen) < len(inside):
        made = graph.expand(made, chosen, len(inside))
    count = min(options.k, made.k)
    indptr, reverse = made.reverse(count)
    path = f"graph/{name}"
    arrays: dict[str, Array] = {
        f"embeddings/{name}": features,
        f"{path}/indices": made.indices,
        f"{path}/similarity": made.similarity,
        f"{path}/rev_indptr": indptr,
        f"{path}/rev_indices": reverse,
    }
    attrs: dict[str, dict[str, Any]] = {
        "embeddings": {"default": name},
        f"embeddings/{name}": {"model": spec.model, "tuned": True, "labels": task.spec.label_sha256},
        path: {
            "metric": made.metric,
            "k": made.k,
            "csg_k": count,
            "backend": made.backend,
            "exact": made.exact,
        },
    }
    found = Findings()
    run = Run(options, lambda stage, done, total: None, job.cancelled)
    complexity(run, _sheet(audit, inside), inside, made, found, name)
    return arrays | found.arrays, attrs | found.attrs


def _sheet(audit: store.Store, inside: npt.NDArray[np.bool_]) -> LabelTable:
    return LabelTable(
        ids=[],
        class_ids=audit.class_ids,
        class_names=audit.class_names,
        given=audit.given,
        split_names=audit.split_names,
        split=audit.split,
        inside=inside,
        notes=[],
    )
