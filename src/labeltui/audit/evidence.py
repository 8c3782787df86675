"""Why a sample is in the queue: each detector's vote, its neighbours, the overlap of the two classes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labeltui.errors import DamagedAudit
from labeltui.text import fraction

if TYPE_CHECKING:
    from labeltui.audit.duplicates import DuplicateGroups
    from labeltui.audit.live_csg import LiveComplexity
    from labeltui.store import Store


@dataclass(frozen=True)
class Neighbour:
    """One of the nearest samples: its current label and its given one, -1 = none."""

    index: int
    similarity: float
    label: int
    given: int


UNKNOWN = 0.5
"""Stored score of a detector that has no evidence on a sample."""


class Vote(NamedTuple):
    """The verdict of one detector on a sample.

    Attributes
    ----------
    detector : str
        Its name; `Audit.detectors` has titles.
    proposes : int or None
        The label that it would give, None where it proposes none.
    score : float or None
        P(given label is correct), 0 to 1; None where it has no evidence.
    """

    detector: str
    proposes: int | None
    score: float | None


class Evidence(NamedTuple):
    """What speaks for and against a sample's given label.

    Attributes
    ----------
    votes : list of Vote
        The blend comes last.
    neighbours : list of Neighbour
        The nearest, nearest first.
    same_label_share : float or None
        Proportion of the labelled neighbours whose current label is the sample's given one.
    pair_overlap : float or None
        Overlap W of the given and the suggested class.
    pair_share : float or None
        Proportion S of the suggested class among all neighbours of the given class.
    group : list of int
        The other samples that are (nearly) the same image.
    lines : list of str
        The same as short, independent sentences, strongest evidence first.
    """

    votes: list[Vote]
    neighbours: list[Neighbour]
    same_label_share: float | None
    pair_overlap: float | None
    pair_share: float | None
    group: list[int]
    lines: list[str]


def gather(
    store: Store,
    current: NDArray[np.int32],
    names: list[str],
    complexity: LiveComplexity,
    duplicates: DuplicateGroups,
    i: int,
    k: int,
) -> Evidence:
    """Collect the evidence on sample `i` from its `k` nearest neighbours and what the audit holds.

    Parameters
    ----------
    store : Store
        The current generation.
    current : (N,) int32
        Labels now.
    names : list of str
        Display names of the classes.
    complexity : LiveComplexity
        Overlaps now.
    duplicates : DuplicateGroups
    i, k : int
    """
    graph = f"graph/{store.embedding_name}"
    rows = store.array(f"{graph}/indices")[i][:k]
    near = rows[rows >= 0]
    if len(near) and near.max() >= store.n:
        raise DamagedAudit(
            f"{graph}/indices must name samples of the audit",
            f"row {i} names others",
            "copy the audit again, or scan again",
        )
    similarity = store.array(f"{graph}/similarity")[i]
    if not np.isfinite(similarity).all():
        raise DamagedAudit(
            f"{graph}/similarity must hold numbers",
            f"row {i} does not",
            "copy the audit again, or scan again",
        )
    similarity = similarity[: len(near)]
    labels, given = current[near], int(store.given[i])
    neighbours = [
        Neighbour(int(index), float(s), int(label), int(first))
        for index, s, label, first in zip(near, similarity, labels, store.given[near], strict=True)
    ]
    labelled = labels[labels >= 0].tolist()
    counted = Counter(labelled).most_common()
    same = labelled.count(given) / len(labelled) if labelled and given >= 0 else None
    top = int(store.array("suggest/label")[i, 0])
    pair = given >= 0 and top >= 0 and top != given
    overlap = float(complexity.W_entry(given, top)) if pair else None
    share = float(complexity.S_row(given)[top]) if pair else None
    votes = _votes(store, current, i)
    group = [other for other in duplicates.of(i).tolist() if other != i]
    lines = []
    if counted:
        (first, count), *others = counted[:2]
        more = "".join(f", {number} {names[label]}" for label, number in others)
        lines.append(f"{count} of {len(labelled)} nearest neighbours are {names[first]}{more}")
    if overlap is not None and share is not None:
        a, b = names[given], names[top]
        lines.append(f"overlap W of {a} and {b} {fraction(overlap)}; {share:.0%} of {a}'s neighbours are {b}")
    if group:
        other = sorted({names[label] for label in current[group].tolist() if label >= 0 and label != given})
        alike_text = f"{len(group)} more {'duplicate' if len(group) == 1 else 'duplicates'} of this image"
        lines.append(alike_text + (f", labelled {', '.join(other)}" if other else ""))
    return Evidence(votes, neighbours, same, overlap, share, group, lines)


def _votes(store: Store, current: NDArray[np.int32], i: int) -> list[Vote]:
    found = []
    for name in store.names_in("scores"):
        if name != "blend":
            found.append(
                _vote(name, _proposal(store, current, i, name), float(store.array(f"scores/{name}")[i]))
            )
    top = int(store.array("suggest/label")[i, 0])
    return [*found, _vote("blend", top if top >= 0 else None, float(store.array("scores/blend")[i]))]


def _vote(detector: str, proposes: int | None, score: float) -> Vote:
    """Return a vote; a detector without evidence stores one half and proposes nothing."""
    return Vote(detector, proposes, None if proposes is None and score == UNKNOWN else score)


def _proposal(store: Store, current: NDArray[np.int32], i: int, detector: str) -> int | None:
    """The label that a detector would give: a stored one, or for a neighbour vote that of the labels now."""
    if f"proposals/{detector}" in store:
        label = int(store.array(f"proposals/{detector}")[i])
        return label if label >= 0 else None
    attrs = store.attrs(f"scores/{detector}")
    if not {"k", "temperature"} <= attrs.keys():
        return None
    graph = f"graph/{store.embedding_name}"
    near = store.array(f"{graph}/indices")[i][: int(attrs["k"])]
    kept = np.flatnonzero(near >= 0)
    kept = kept[current[near[kept]] >= 0]
    if not len(kept):
        return None
    weights = np.ones(len(kept))
    if attrs["temperature"] > 0:
        similarity = store.array(f"{graph}/similarity")[i][kept].astype(np.float64)
        weights = np.exp((similarity - similarity.max()) / attrs["temperature"])
    return int(np.bincount(current[near[kept]], weights).argmax())
