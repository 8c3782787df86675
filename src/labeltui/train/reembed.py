"""The features of a fine-tuned backbone as a new embedding, with its graph and the complexity of the classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from labeltui import paths
from labeltui.embed.stream import validate_rows
from labeltui.errors import JobError
from labeltui.pipeline import Scored, ScoringOptions, build_graph, measure_classes
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
    inside = (audit.status == paths.OK) & (audit.array(f"{old}/indices")[:, 0] >= 0)
    chosen = np.flatnonzero(inside)
    _, reasons = validate_rows(features[chosen])
    if reasons:
        raise JobError(
            "the tuned features must be finite and not zero",
            f"{len(reasons):,} samples: {reasons[0][1]}",
            "train with a smaller --learning-rate, or without --reembed",
        )
    options = ScoringOptions(k=int(audit.attrs(old)["csg_k"]), threads=task.spec.threads, seed=task.spec.seed)
    scored = Scored()
    scored.add(
        {f"embeddings/{name}": features},
        {
            "embeddings": {"default": name},
            f"embeddings/{name}": {"model": spec.model, "tuned": True, "labels": task.spec.label_sha256},
        },
    )

    def progress(done: float) -> None:
        job.event("graph", 0.95 + 0.02 * done)

    neighbours = build_graph(features, inside, options, name, scored, progress, job.cancelled)
    measure_classes(audit.given, len(audit.class_ids), inside, neighbours, options, name, scored)
    return scored.arrays, scored.attrs
