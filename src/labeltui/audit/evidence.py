"""Why a sample is in the queue: each detector's vote, its neighbours, the overlap of the two classes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labeltui.errors import DamagedAudit

if TYPE_CHECKING:
    from labeltui.audit.complexities import Complexities
    from labeltui.audit.copies import Copies
    from labeltui.store import Store


@dataclass(frozen=True)
class Neighbour:
    """One of the nearest samples: its current label and its given one, -1 = none."""

    index: int
    similarity: float
    label: int
    given: int


@dataclass(frozen=True)
class Evidence:
    """What speaks for and against a sample's given label.

    Attributes
    ----------
    votes : list of (detector, score, proposal)
        Score in [0, 1], low = bad; the label the detector would give, or None where it proposes none. The
        blend comes last.
    neighbours : list of Neighbour
        The nearest, nearest first.
    same_label_share : float or None
        Share of the labelled neighbours whose current label is the sample's given one.
    pair_overlap : float or None
        Overlap W of the given and the suggested class.
    pair_share : float or None
        Share S of the suggested class among all neighbours of the given class.
    group : list of int
        The other samples that are (nearly) the same image.
    lines : list of str
        The same in words, most telling first; each is short and stands for itself.
    """

    votes: list[tuple[str, float, int | None]]
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
    complexities: Complexities,
    copies: Copies,
    i: int,
    k: int,
) -> Evidence:
    """Collect the evidence on sample `i` from its `k` nearest neighbours and what the audit holds.

    Parameters
    ----------
    store : Store
        The generation shown.
    current : (N,) int32
        Labels now.
    names : list of str
        Display names of the classes.
    complexities : Complexities
        Overlaps now.
    copies : Copies
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
    similarity = store.array(f"{graph}/similarity")[i][: len(near)]
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
    overlap = float(complexities.W_entry(given, top)) if pair else None
    share = float(complexities.S_row(given)[top]) if pair else None
    votes = _votes(store, current, i)
    group = [other for other in copies.of(i).tolist() if other != i]
    lines = []
    told = [f"{count}/{len(labelled)} neighbours {names[label]}" for label, count in counted[:2]]
    if pair:
        told.append(f"blend {chance(float(store.array('suggest/p')[i, 0]))} {names[top]}")
    lines.append(", ".join(told))
    if given >= 0:
        told = [f"{detector} {chance(score)}" for detector, score, _ in votes]
        lines.append(f"P({names[given]}): {', '.join(told)}")
    if overlap is not None and share is not None:
        a, b = names[given], names[top]
        lines.append(
            f"{a}-{b} overlap {chance(overlap)}, {100 * share:.0f} % of the neighbours of {a} are {b}"
        )
    if group:
        other = sorted({names[label] for label in current[group].tolist() if label >= 0 and label != given})
        alike_text = f"{len(group)} more {'copy' if len(group) == 1 else 'copies'} of this image"
        lines.append(alike_text + (f", labelled {', '.join(other)}" if other else ""))
    return Evidence(votes, neighbours, same, overlap, share, group, [line for line in lines if line])


def _votes(store: Store, current: NDArray[np.int32], i: int) -> list[tuple[str, float, int | None]]:
    found: list[tuple[str, float, int | None]] = []
    for name in store.names_in("scores"):
        if name != "blend":
            found.append((name, float(store.array(f"scores/{name}")[i]), _proposal(store, current, i, name)))
    top = int(store.array("suggest/label")[i, 0])
    return [*found, ("blend", float(store.array("scores/blend")[i]), top if top >= 0 else None)]


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


def chance(p: float) -> str:
    """A probability in two digits without its zero: .94; certainty is written 1.0."""
    text = f"{p:.2f}"
    return text[1:] if text.startswith("0") else "1.0"
