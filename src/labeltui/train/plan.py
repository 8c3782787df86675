"""Turn a training request into the inputs of a job: labels, roles of the samples, weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labeltui import head, noise, parallel, paths, store
from labeltui.errors import JobError, UsageError
from labeltui.head import HeadSpec
from labeltui.options import build, option, options_of, part, split_names
from labeltui.sources import open_images
from labeltui.sources.images import NoImages
from labeltui.text import safe
from labeltui.train.columns import read_column, split_name
from labeltui.train.spec import HELD_OUT, OUT, PRESETS, TRAIN, BackboneSpec, TrainSpec, array_hash, label_hash

if TYPE_CHECKING:
    from labeltui.audit import Audit

MIN_INJECTED = 20  # samples that a class must have for label noise to be injected
# Sample weights by name, and their datasets.
WEIGHTS = {"score": "scores/blend", "cleannet": "detectors/cleannet/cosine"}


@dataclass(frozen=True)
class Request:
    """A training request.

    Attributes
    ----------
    backbone : BackboneSpec, optional
        None trains the head on the stored embedding.
    head : HeadSpec
        How heads on the embedding are trained.
    labels : str
        ``current`` is given with the decisions, without the excluded samples.
    weights : str
        Empty, ``score`` (the probability that the label is right), ``cleannet`` (the cosine of the sample and
        its class, at least 0), 1 for reviewed samples; or ``TABLE:COLUMN`` of numbers.
    held_out_seed : int
        Of a fraction. Independent of `seed`, so that runs with different seeds are measured on the same samples.
    """

    head: HeadSpec = field(default_factory=HeadSpec)
    labels: str = option("current", "current, given, or TABLE:COLUMN.", "Source")
    weights: str = option("", "Of samples: score, cleannet, or TABLE:COLUMN.", "Source", shown="equal")
    splits: tuple[str, ...] = option(
        (),
        "Train only on these splits, with commas.",
        "Source",
        shown="all that are scored",
        parse=split_names,
    )
    held_out: str = option(
        "", "A split or a fraction to measure on, or none.", "Source", shown="none with folds, 0.1 without"
    )
    held_out_seed: int = 0
    folds: int | None = option(
        None,
        "Out-of-fold probabilities renew the scores; 0 trains one model on all that is not held out.",
        "Scoring",
        shown="5, with a backbone 3",
    )
    seed: int = option(0, "Of folds, weights and batches.", "Training", shown="0")
    self_calibrate: float = option(
        0.0,
        "Corrupt this fraction of the labels, in this run only, to calibrate the dynamics score on known errors.",
        "Scoring",
        metavar="FRACTION",
    )
    device: str = option("auto", "auto, cpu, cuda or cuda:N.")
    threads: int | None = option(None, "CPU threads.", shown="all cores but one, left to the terminal UI")
    backbone: BackboneSpec | None = part(BackboneSpec, needs="model")

    @classmethod
    def of(cls, **options: Any) -> Request:
        """Make a request from keywords: the options of ``labeltui train``, and what the dataclasses have beside.

        Raises
        ------
        UsageError
            An option is unknown or out of range, or goes with a backbone and none is named.
        """
        model = options.pop("model", None)
        if model == "head":  # as runs of the classifier on the embeddings are listed
            raise UsageError(
                "--model takes a backbone",
                "got head",
                "leave --model out to train the head on the embeddings",
            )
        if model is not None:
            options = {**PRESETS.get(model, {}), **options, "model": model}
        elif extra := [each for each in options_of(BackboneSpec).values() if each.name in options]:
            raise UsageError(
                "these options go with --model",
                f"got {', '.join(each.flags[0] for each in extra)} without it",
            )
        return build(cls, options)


def prepare(audit: Audit, request: Request) -> tuple[TrainSpec, dict[str, NDArray[Any]]]:
    """Return the spec of a job and its arrays.

    Parameters
    ----------
    audit : Audit
    request : Request

    Returns
    -------
    spec : TrainSpec
    arrays : dict
        ``labels`` (N,) int32, -1 = none; ``roles`` (N,) uint8, see `labeltui.train.spec`; ``weights`` (N,)
        float32, only if requested; ``checked`` (N,) int8, only if samples were reviewed; ``injected`` (N,) int32,
        -1 = none, only for self-calibration.

    Raises
    ------
    JobError
        There is nothing to train on, or no images.
    UsageError, SourceError
        A split, fraction or column does not exist.
    """
    folds = request.folds if request.folds is not None else (5 if request.backbone is None else 3)
    if folds == 1 or folds < 0 or (request.backbone is None and folds == 0):
        raise UsageError("--folds must be 2 or more, or 0 with a backbone", f"got {folds}")
    with store.Store.open(audit.path, audit.generation) as opened:
        if request.backbone is not None:
            _require_images(opened, audit)
        labels = _labels(audit, opened, request.labels)
        usable = (opened.status == paths.OK) & (labels >= 0)
        scored = opened.array(f"graph/{opened.embedding_name}/indices")[:, 0] >= 0
        train = usable & scored
        if request.splits:
            train = usable & np.isin(opened.split, [_split(opened, name) for name in request.splits])
        held, source = _held_out(opened, request, usable, train, folds)
        roles = np.full(opened.n, OUT, dtype=np.uint8)
        roles[train] = TRAIN
        roles[held] = HELD_OUT
        arrays: dict[str, NDArray[Any]] = {"labels": labels, "roles": roles}
        if request.weights:
            arrays["weights"] = _weights(audit, opened, request.weights, labels)
        if request.self_calibrate:
            arrays["injected"] = _injected(opened, request, folds, np.where(roles == TRAIN, labels, -1))
    checked = audit.checked
    if (checked >= 0).any():
        arrays["checked"] = checked
    present = len(np.unique(labels[roles == TRAIN]))
    if present < 2:
        raise JobError(
            "training needs labelled samples of at least two classes",
            f"{int((roles == TRAIN).sum()):,} samples of {present} classes are left",
            "check the labels, the splits and the excluded samples",
        )
    spec = TrainSpec(
        kind="head" if request.backbone is None else "backbone",
        audit_uuid=audit.uuid,
        generation=audit.generation,
        label_sha256=label_hash(labels),
        journal_seq=audit.journal_seq,
        folds=folds,
        seed=request.seed,
        device=request.device,
        threads=request.threads or max(1, parallel.count_threads() - 1),
        labels=request.labels,
        held_out=source,
        roles_sha256=array_hash(roles, "u1"),
        weights_sha256=array_hash(arrays["weights"], "<f4") if "weights" in arrays else "",
        checked_sha256=array_hash(checked, "i1") if "checked" in arrays else "",
        injected_sha256=array_hash(arrays["injected"], "<i4") if "injected" in arrays else "",
        source_root="" if audit.images.root is None else str(audit.images.root),
        head=request.head,
        backbone=request.backbone,
    )
    return spec, arrays


def named_labels(audit: Audit, opened: store.Store, name: str) -> NDArray[np.int32]:
    """A label vector by its name.

    Parameters
    ----------
    audit : Audit
    opened : Store
        Of the same audit.
    name : str
        ``current``, ``given`` or ``TABLE:COLUMN``.

    Returns
    -------
    ndarray of int32, shape (N,)
        -1 = none.
    """
    return _labels(audit, opened, name)


def _labels(audit: Audit, opened: store.Store, name: str) -> NDArray[np.int32]:
    if name == "current":
        return audit.training_labels()
    if name == "given":
        return np.where(opened.status == paths.OK, opened.given, -1).astype(np.int32)
    table, column = split_name(name)
    values = read_column(table, column, opened.names("samples/id"))
    classes = {class_id: index for index, class_id in enumerate(opened.class_ids)}
    labels = np.full(opened.n, -1, dtype=np.int32)
    unknown: set[str] = set()
    for i, value in enumerate(values):
        if value is not None:
            label = classes.get(value.encode("utf-8", "surrogateescape"))
            if label is None:
                unknown.add(value)
            else:
                labels[i] = label
    if unknown:
        raise UsageError(
            f"the labels of {safe(name)} must be classes of the audit",
            f"got {safe(', '.join(sorted(unknown)[:5]))}",
            "scan with --classes to add classes",
        )
    labels[opened.status != paths.OK] = -1
    return labels


def _weights(audit: Audit, opened: store.Store, name: str, labels: NDArray[np.int32]) -> NDArray[np.float32]:
    if name in WEIGHTS:
        if WEIGHTS[name] not in opened:
            raise JobError(
                f"--weights {name} needs {WEIGHTS[name]}",
                "this audit has none",
                "train the head first: labeltui train",
            )
        # They rate the given label; any other label was confirmed by a person or a table.
        sure = audit.touched | (labels != opened.given)
        weight = np.maximum(opened.array(WEIGHTS[name]), 0.0)
        return np.where(sure, 1.0, weight).astype(np.float32)
    table, column = split_name(name)
    weights = np.ones(opened.n, dtype=np.float32)
    for i, value in enumerate(read_column(table, column, opened.names("samples/id"))):
        if value is None:
            continue
        try:
            weights[i] = float(value)
        except ValueError:
            weights[i] = np.nan
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        bad = int(np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))[0])
        raise UsageError(
            "sample weights must be numbers, not negative", f"that of {audit.sample_name(bad)} is not one"
        )
    return weights


def _injected(
    opened: store.Store, request: Request, folds: int, labels: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Wrong labels for a fraction of the training samples, by the audit's transition matrix; -1 = unchanged."""
    fraction = request.self_calibrate
    if not 0.01 <= fraction <= 0.2:
        raise UsageError("--self-calibrate must be a fraction from 0.01 to 0.2", f"got {fraction}")
    if not folds and not (request.backbone is not None and request.backbone.reembed):
        raise UsageError(
            "--self-calibrate needs a run that makes scores", "this one has no folds", "give --folds 3"
        )
    size = np.bincount(labels[labels >= 0], minlength=len(opened.class_ids))
    # A small class must not lose its only samples.
    before = np.where((labels >= 0) & (size[labels] >= MIN_INJECTED), labels, -1).astype(np.int32)
    transition = opened.array("noise/transition") if "noise/transition" in opened else np.eye(len(size))
    after, injected = noise.class_dependent(before, noise.scaled(transition, before, fraction), request.seed)
    return np.where(injected, after, -1).astype(np.int32)


def _split(opened: store.Store, name: str) -> int:
    names = opened.split_names
    if name not in names:
        known = ", ".join(safe(each) for each in names) or "it has none"
        raise UsageError("a split must be one of the audit", f"got {safe(name)}", f"known: {known}")
    return names.index(name)


def _held_out(
    opened: store.Store,
    request: Request,
    usable: NDArray[np.bool_],
    train: NDArray[np.bool_],
    folds: int,
) -> tuple[NDArray[np.bool_], str]:
    """The held-out samples, and how they were chosen."""
    wanted = request.held_out or ("" if folds else "0.1")
    if not wanted or wanted == "none":
        return np.zeros(opened.n, dtype=bool), "none"
    try:
        fraction = float(wanted)
    except ValueError:
        return usable & (opened.split == _split(opened, wanted)), f"split {wanted}"
    if not 0.01 <= fraction <= 0.5:
        raise UsageError("--held-out must be a split, or a fraction from 0.01 to 0.5", f"got {wanted}")
    # Dealt by the given labels, not by those of this run: every run of the audit is measured on the same samples.
    known = train & (opened.given >= 0)
    dealt = head.folds(
        opened.given,
        opened.array("groups/duplicate"),
        known,
        max(2, round(1 / fraction)),
        request.held_out_seed,
    )
    return dealt == 0, f"fraction {fraction:g} seed {request.held_out_seed}"


def _require_images(opened: store.Store, audit: Audit) -> None:
    description = opened.scan.get("source")
    root = audit.images.root
    if not isinstance(description, Mapping) or root is None:
        raise JobError(
            "a backbone is trained on the images that the scan named",
            "this audit names none",
            "give --source",
        )
    if isinstance(open_images(description, root), NoImages):
        raise JobError(
            "a backbone is trained on images",
            "this audit holds embeddings only",
            "train the head: leave out --model",
        )
