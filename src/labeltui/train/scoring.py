"""New scores, suggestions and flags from new probabilities: what becomes a generation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from labeltui import detect, head, paths, store
from labeltui.errors import Cancelled
from labeltui.io.h5_writer import write_h5
from labeltui.io.part import Part
from labeltui.parallel import Progress
from labeltui.pipeline import Scored, flag
from labeltui.train.dynamics import read_dynamics, write_dynamics
from labeltui.train.predictions import Predictions
from labeltui.train.spec import HELD_OUT, TRAIN
from labeltui.train.task import Task

Array = npt.NDArray[Any]
HEAD_FRACTION = 0.5  # of the time; the detectors train a second head
TUNED = "trained/p"  # out-of-fold probabilities of a fine-tuned backbone, kept for the runs after it


class View:
    """The embedding and graph that samples are scored on: the audit's own, or a new one."""

    def __init__(self, audit: store.Store, arrays: dict[str, Array] | None = None, name: str = "") -> None:
        self.name = name or audit.embedding_name
        graph = f"graph/{self.name}"
        find = audit.array if arrays is None else arrays.__getitem__
        self.embedding = find(f"embeddings/{self.name}")
        self.count = int(audit.attrs(f"graph/{audit.embedding_name}")["csg_k"])
        self.indices = find(f"{graph}/indices")
        self.similarity = find(f"{graph}/similarity")
        self.count = min(self.count, self.indices.shape[1])
        self.built_on = (
            {audit.origin(f"{graph}/indices"), audit.origin(f"embeddings/{self.name}")}
            if arrays is None
            else set()
        )


def rescore(
    task: Task,
    view: View,
    fraction: Progress,
    *,
    tuned: npt.NDArray[np.float32] | None = None,
    extra: dict[str, Array] | None = None,
    extra_attrs: dict[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Train the head out of fold, run all detectors, and write result.h5.

    Parameters
    ----------
    task : Task
    view : View
    fraction : callable
        Called with the finished fraction, 0..1.
    tuned : ndarray of float32, shape (N, K), optional
        Out-of-fold probabilities of a fine-tuned backbone. By default those of an earlier run, where the
        audit has them.
    extra, extra_attrs : optional
        Further arrays and attributes of the result.

    Returns
    -------
    dict
        ``flags``, and of a head job ``metrics``; for exit.json.
    """
    job, spec, audit, labels = task.job, task.spec, task.audit, task.labels
    inside = (audit.status == paths.OK) & (view.indices[:, 0] >= 0)
    groups = audit.array("groups/duplicate")
    classes = len(audit.class_ids)
    fold = head.folds(labels, groups, inside & (task.roles == TRAIN), spec.folds or 5, spec.seed)

    unfinished = [Part(job.directory / f"{name}.part") for name in ("head", "score")]

    def followed(epoch: head.Epoch) -> None:
        done = HEAD_FRACTION * epoch.done / epoch.total
        fraction(done)
        if spec.kind == "head":  # else the curve is the backbone's
            job.event(
                "head",
                done,
                model=epoch.fold,
                epoch=epoch.epoch + 1,
                epochs=epoch.epochs,
                loss=epoch.loss,
                accuracy=epoch.held_accuracy,
            )

    # Injected labels are used for the recorded dynamics only.
    learned = task.train_labels if spec.kind == "head" else labels
    result = head.out_of_fold(
        view.embedding,
        np.where(fold >= 0, learned, -1),
        fold,
        classes,
        spec=spec.head,
        seed=spec.seed,
        threads=spec.threads,
        device=spec.device,
        weights=task.weights,
        dynamics=spec.kind == "head",
        progress=followed,
        cancel=job.cancelled,
        keeper=unfinished[0],
    )
    recorded = result.dynamics
    if spec.kind == "backbone" and (job.directory / paths.DYNAMICS_FILE).exists():
        recorded = read_dynamics(job.directory)
    built_on = set(view.built_on)
    if tuned is None and TUNED in audit:
        tuned = audit.array(TUNED)
        built_on.add(audit.origin(TUNED))
    inputs = detect.DetectorInputs(
        labels=labels,
        n_classes=classes,
        ok=inside,
        indices=view.indices,
        similarity=view.similarity,
        groups=groups,
        p_head=result.p,
        p_tuned=tuned,
        pred_probs=audit.array("pred_probs") if "pred_probs" in audit else None,
        embeddings=view.embedding,
        fold=fold,
        given=audit.given,
        checked=task.checked,
        weights=task.weights,
        head=spec.head,
        dynamics=recorded,
        head_dynamics=recorded is result.dynamics,
        injected=None if task.injected is None else task.injected >= 0,
        device=spec.device,
        seed=spec.seed,
        threads=spec.threads,
        kept=kept(audit),
        keeper=unfinished[1],
    )
    scored = Scored(attrs={"scores/head": dict(result.attrs)})
    flag(inputs, scored, lambda done: fraction(HEAD_FRACTION + (1 - HEAD_FRACTION) * done), job.cancelled)
    scored.add(extra or {}, extra_attrs or {})
    scored.attrs[""] = store.generation_attrs(audit.uuid, built_on, run=job.directory.name)
    if job.cancelled():
        raise Cancelled("the run was stopped", "before its result was written")
    more: dict[str, Any] = {"flags": int(scored.flagged.sum())}
    if spec.kind == "head":
        held = task.roles == HELD_OUT
        rows = np.flatnonzero(held if held.any() else fold >= 0)
        on = spec.held_out if held.any() else "out of fold"
        names = [name.decode("utf-8", "backslashreplace") for name in audit.class_ids]
        metrics = Predictions.of(rows, result.p[rows]).write(job.directory, labels, names, on)
        more["metrics"] = metrics.summary()
        if result.dynamics is not None:
            write_dynamics(job.directory, result.dynamics, fold)
    write_h5(job.directory / paths.RESULT_FILE, scored.arrays, scored.attrs)
    for each in unfinished:
        each.discard()
    return more


def kept(audit: store.Store) -> dict[str, dict[str, Array]]:
    """What detectors stored at the run behind the generation shown, by detector; see `detect.Detector.arrays`."""
    groups = {name: f"detectors/{name}" for name in audit.names_in("detectors")}
    return {
        name: {key: audit.array(f"{group}/{key}") for key in audit.names_in(group)}
        for name, group in groups.items()
    }
