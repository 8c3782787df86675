"""Scores that an update takes over, so that a small change of the data does not train everything anew.

::

    graph, duplicate groups, CSG, votes    of all samples, by the data as it is now: what a scan of everything gives
    classifier, blend, suggestions         of a sample that stayed: as the earlier audit has them
                                           of a new, changed or relabelled one ("due"): by a classifier and detectors
                                           trained on these, their neighbours, and a sample of every class

It is an approximation that saves most of the time. Where more than `MOST_CHANGED` of the samples changed since the
last training, where options, classes or the embedding are other ones, or where little would be saved, everything is
trained anew.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from labeltui import __version__, detect, graph, pipeline
from labeltui.detect.base import UNKNOWN
from labeltui.duplicates import number_groups
from labeltui.pipeline import Scored, ScoringOptions, Stages
from labeltui.scanning.update import Earlier
from labeltui.text import safe

MOST_CHANGED = 0.05
LEAST_CONTEXT = 2_000  # samples beside those due, on which the classifier is trained
CONTEXT_PER_DUE, CONTEXT_PER_CLASS, NEAREST = 4, 20, 10
MOST_FOLDS = 3  # of the part: most of its time is classifiers, one for each fold
MOST_TRAINED = 0.5  # fraction of all samples; above, training on all costs little more

Array = npt.NDArray[Any]
Index = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Inputs:
    """What scores are made from, of all N samples.

    Attributes
    ----------
    labels : (N,) int32
        Given labels, -1 = none.
    n_classes : int
    embeddings : (N, d) array
    inside : (N,) bool
        Samples that take part.
    pred_probs : (N, K) float32, optional
    name : str
        Of the embedding.
    device : str
    """

    labels: npt.NDArray[np.int32]
    n_classes: int
    embeddings: Array
    inside: Mask
    pred_probs: Array | None
    name: str
    device: str


def changed_since(earlier: Earlier) -> int:
    """Return how many samples of an audit were not part of its last training."""
    recorded = earlier.store.scan.get("carried")
    value = recorded.get("since") if isinstance(recorded, Mapping) else 0
    return value if isinstance(value, int) and value > 0 else 0


def why_not(earlier: Earlier, inputs: Inputs, class_ids: list[bytes], same_options: bool) -> str:
    """Say in a few words why no scores can be taken over; empty if they can.

    Parameters
    ----------
    earlier : Earlier
        Matched.
    inputs : Inputs
    class_ids : list of bytes
    same_options : bool
        Whether everything that decides scores is as it was.
    """
    opened, stayed = earlier.store, np.flatnonzero(earlier.place >= 0)
    place = earlier.place[stayed]
    path = f"embeddings/{inputs.name}"
    if opened.scan.get("version") != __version__:
        return "it was scored by another version of labeltui"
    if "scores/head" not in opened and importlib.util.find_spec("torch") is not None:
        return "it was scored without a classifier"
    if opened.class_ids != class_ids:
        return "there are other classes"
    if not same_options:
        return "it is scored by other options"
    if (
        path not in opened
        or opened.embedding_name != inputs.name
        or not _same_rows(opened.array(path), place, inputs.embeddings, stayed)
    ):
        return "the embedding is another one"
    due = int(np.count_nonzero(_due(earlier, inputs, None)))
    if due + len(earlier.changes.gone) + changed_since(earlier) > MOST_CHANGED * len(inputs.labels):
        return f"more than {MOST_CHANGED:.0%} of the samples changed since the last training"
    if _trained(due, inputs.n_classes) > MOST_TRAINED * len(inputs.labels):
        return "there are few samples"
    return ""


def _same_rows(before: Array, place: Index, now: Array, stayed: Index, block: int = 16_384) -> bool:
    """Whether the rows of samples that stayed are the same numbers."""
    if before.dtype != now.dtype or before.shape[1] != now.shape[1]:
        return False
    return all(
        np.array_equal(before[place[at : at + block]], now[stayed[at : at + block]])
        for at in range(0, len(stayed), block)
    )


def _trained(due: int, n_classes: int) -> int:
    return due + max(LEAST_CONTEXT, CONTEXT_PER_DUE * due, CONTEXT_PER_CLASS * n_classes)


def _due(earlier: Earlier, inputs: Inputs, scorable: Mask | None) -> Mask:
    """Which samples need a score of their own: new, changed, relabelled, or scored for the first or last time."""
    opened, place = earlier.store, earlier.place
    due: Mask = place < 0
    stayed = np.flatnonzero(~due)
    before = place[stayed]
    took_part = opened.array(f"graph/{inputs.name}/indices")[before, 0] >= 0
    due[stayed] = (opened.given[before] != inputs.labels[stayed]) | (took_part != inputs.inside[stayed])
    if scorable is not None:
        known = opened.array("scores/blend")[before] != UNKNOWN
        labelled = inputs.inside[stayed] & (inputs.labels[stayed] >= 0)
        due[stayed] |= labelled & (known != scorable[stayed])
    return due


def add_scores(
    earlier: Earlier,
    inputs: Inputs,
    options: ScoringOptions,
    scored: Scored,
    neighbours: graph.Graph,
    groups: npt.NDArray[np.int32],
    stages: Stages,
) -> None:
    """Add scores, suggestions and flags to `scored`: those of the earlier audit, and of the samples due new ones.

    Parameters
    ----------
    earlier : Earlier
        Of which `why_not` says nothing.
    inputs : Inputs
    options : ScoringOptions
    scored : Scored
        Graph, groups and CSG are in it.
    neighbours : Graph
    groups : (N,) int32
        Duplicates share a number.
    stages : Stages

    Raises
    ------
    Cancelled
    """
    votes = detect.DetectorInputs(
        labels=inputs.labels, n_classes=inputs.n_classes, ok=inputs.inside, indices=neighbours.indices,
        similarity=neighbours.similarity, groups=groups, pred_probs=inputs.pred_probs,
    )  # fmt: skip
    due = _due(earlier, inputs, votes.scorable)
    rows = np.flatnonzero(due)
    part, chosen = Scored(), np.zeros(0, np.int64)
    with stages.stage("head"):
        if len(rows):
            chosen = _context(inputs, neighbours, rows, options.seed)
            part = _score_part(inputs, options, chosen, neighbours.metric, groups, stages)
    with stages.stage("score") as progress:
        found = detect.run(votes, progress, combined=False, cancel=stages.cancelled)
        arrays, attrs = detect.datasets(found), detect.attributes(found)
        exact = {
            f"{kind}/{name}" for kind in ("scores", "proposals") for name in found.scores
        } & arrays.keys()
        scored.add(
            {name: arrays[name] for name in exact}, {name: attrs[name] for name in exact & attrs.keys()}
        )
        _merge(earlier, scored, part, chosen, rows)
    suggested = scored.arrays["suggest/label"][:, 0]
    scored.flagged = inputs.inside & (inputs.labels >= 0) & (suggested != inputs.labels)
    scored.metadata["carried"] = {
        "samples": int(len(due) - len(rows)), "scored": len(rows), "trained_on": len(chosen),
        "since": changed_since(earlier) + len(rows) + len(earlier.changes.gone),
    }  # fmt: skip
    scored.notes.append(
        f"classifier scores of {len(due) - len(rows):,} samples are those of {safe(earlier.path.name)}; "
        f"{len(rows):,} were scored by a classifier trained on {len(chosen):,} samples; --rescore trains on all"
    )


def _context(inputs: Inputs, neighbours: graph.Graph, rows: Index, seed: int) -> Index:
    """The samples to train on, ascending: those due, their nearest, and others evenly from the classes."""
    chosen = np.zeros(len(inputs.labels), bool)
    chosen[rows] = True
    near = neighbours.indices[rows, :NEAREST]
    chosen[near[near >= 0]] = True
    wanted = _trained(len(rows), inputs.n_classes)
    rng = np.random.default_rng([seed, len(rows)])
    left = np.flatnonzero(~chosen & inputs.inside & (inputs.labels >= 0))
    left = left[rng.permutation(len(left))]
    left = left[np.argsort(inputs.labels[left], kind="stable")]
    # The n-th sample of each class comes before the n+1st of any, as far as a class has its share of the whole.
    size = np.bincount(inputs.labels[left], minlength=inputs.n_classes)
    rank = np.arange(len(left)) - np.repeat(np.cumsum(size) - size, size)
    floor = min(CONTEXT_PER_CLASS, int(size.max(initial=0)))
    order = np.where(rank < floor, rank / max(floor, 1) - 1, rank / size[inputs.labels[left]])
    more = left[np.argsort(order, kind="stable")][: max(0, wanted - int(chosen.sum()))]
    chosen[more] = True
    return np.flatnonzero(chosen)


def _score_part(
    inputs: Inputs,
    options: ScoringOptions,
    chosen: Index,
    metric: str,
    groups: npt.NDArray[np.int32],
    stages: Stages,
) -> Scored:
    """Score some samples among themselves; which of them are duplicates is known."""
    labels, inside, scored = inputs.labels[chosen], inputs.inside[chosen], Scored()
    embeddings = np.ascontiguousarray(inputs.embeddings[chosen])
    options = replace(options, backend="exact", folds=min(options.folds, MOST_FOLDS))
    neighbours = pipeline.build_graph(
        embeddings, inside, options, inputs.name, scored, cancel=stages.cancelled, metric=metric
    )
    pipeline.judge(
        labels, inputs.n_classes, embeddings, inside, neighbours, number_groups(groups[chosen]), options, scored,
        pred_probs=None if inputs.pred_probs is None else inputs.pred_probs[chosen], device=inputs.device,
        stages=Stages(cancelled=stages.cancelled),  # reports nothing: it is one stage of the scan
    )  # fmt: skip
    return scored


def _merge(earlier: Earlier, scored: Scored, part: Scored, chosen: Index, rows: Index) -> None:
    """Add what the detectors found earlier, with the rows due replaced by those of the part."""
    opened, place = earlier.store, earlier.place
    stayed = np.flatnonzero(place >= 0)
    at = np.searchsorted(chosen, rows)
    names = [
        f"{group}/{name}" for group in ("scores", "proposals", "suggest") for name in opened.names_in(group)
    ]
    if "detectors/cleannet/cosine" in opened:
        names.append("detectors/cleannet/cosine")
    for name in names:
        if name in scored.arrays:
            continue
        before = opened.array(name)
        empty = UNKNOWN if name.startswith("scores/") else (0 if before.dtype.kind == "f" else -1)
        now = np.full((len(place), *before.shape[1:]), empty, before.dtype)
        now[stayed] = before[place[stayed]]
        now[rows] = part.arrays[name][at] if name in part.arrays else empty
        scored.add({name: now}, {name: opened.attrs(name)} if name.startswith("scores/") else {})
    scored.add({"noise/transition": np.array(opened.array("noise/transition"))}, {})
