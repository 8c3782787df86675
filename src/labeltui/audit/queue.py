"""Which samples to look at, in which order."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labeltui.audit.decisions import KINDS
from labeltui.errors import InputError
from labeltui.io.names import Names
from labeltui.paths import OK
from labeltui.text import safe

if TYPE_CHECKING:
    from labeltui.audit.decisions import DecisionLog
    from labeltui.store import Store

Index = NDArray[np.int64]
Mask = NDArray[np.bool_]

ORDERS = ("score", "uncertainty", "drop", "random", "index")
DROP = "csg"
"""The detector whose score is low where another label would lower the classes' overlap most."""
_TEXT_BLOCK = 1 << 22
_SCAN_FROM = 4096  # samples from which one pass over all names is faster than looking each up


@dataclass(frozen=True)
class QueueSpec:
    """Which samples a queue holds, and their order. Filters that are None let everything pass.

    Attributes
    ----------
    given : int, optional
        Given label.
    suggested : int, optional
        First suggested label; together with `given` a class pair.
    decided : bool, optional
        Whether the sample was reviewed.
    flagged : bool, optional
        Whether another label is suggested first.
    order : str
        ``score`` (worst first), ``uncertainty`` (score nearest .5 first), ``drop`` (expected drop of the classes'
        overlap, largest first; needs the scores of the detector csg), ``random`` (by `seed`, the same relative
        order under any filter) or ``index``. Ties by index.
    split : int, optional
        Index into the audit's splits.
    text : str, optional
        Part of the sample's name, letters A-Z in either case.
    detector : str, optional
        Name of a detector whose score replaces the blend's in `order`, `score_below` and `score_from`.
    score_below, score_from : float, optional
        Only scores below this, and only those not below that.
    decision : str, optional
        Only this kind of decision; `decided` is then ignored.
    unusable : bool, optional
        Whether the scan could not use the sample: unreadable, not finite, or zero. These are never flagged.
    seed : int
        Of the order ``random``.
    disputed : bool
        Only samples on which reviewers disagree since a merge; they are decided, so `decided` must let them pass.
    assigned : bool
        Of an audit that was split among reviewers, only the samples of whoever reviews it.
    """

    given: int | None = None
    suggested: int | None = None
    decided: bool | None = False
    flagged: bool | None = True
    order: str = "score"
    split: int | None = None
    text: str | None = None
    detector: str | None = None
    score_below: float | None = None
    score_from: float | None = None
    decision: str | None = None
    unusable: bool | None = None
    seed: int = 0
    disputed: bool = False
    assigned: bool = True


class Queues:
    """Builds queues over one generation.

    Parameters
    ----------
    store : Store
        The current generation.
    decision_log : DecisionLog
        The decisions, read at each call.

    Attributes
    ----------
    flagged : (N,) bool
        Samples for which another label is suggested first; never those without a label or not ok.
    """

    def __init__(self, store: Store, decision_log: DecisionLog) -> None:
        self._store = store
        self._decision_log = decision_log
        self._top = store.array("suggest/label")[:, 0]
        given = store.given
        self.flagged: Mask = self._top != given
        self.flagged &= given >= 0
        self.flagged &= self._top >= 0
        self.flagged &= store.status == 0
        self._ranked: dict[bool, Index] = {}
        self._by_class: tuple[Index, NDArray[np.int64]] | None = None

    def scores(self, detector: str | None = None) -> NDArray[np.float32]:
        """(N,) scores of a detector, or of the blend; low = bad.

        Raises
        ------
        InputError
            No such detector.
        """
        name = f"scores/{detector or 'blend'}"
        if name not in self._store:
            raise InputError(
                "a queue is ordered by a detector of the audit",
                f"got {safe(str(detector))}",
                "use one of " + ", ".join(self._store.names_in("scores")),
            )
        return self._store.array(name)

    def select(self, spec: QueueSpec) -> Index:
        """The samples of a queue, in order: (m,) int64.

        Raises
        ------
        InputError
            Unknown order, kind of decision, or detector.
        """
        if spec.order not in ORDERS:
            raise InputError(f"a queue's order is one of {', '.join(ORDERS)}", f"got {safe(spec.order)}")
        scores = self.scores(spec.detector)
        if spec.order == "score" and spec.given is None and spec.detector is None:
            return self._filtered(self._by_score(spec.flagged), spec, scores)
        found = self._filtered(self._candidates(spec), spec, scores)
        if spec.order == "drop":
            return _ascending(self.scores(DROP)[found], found)
        return _ordered(found, spec, scores)

    def _candidates(self, spec: QueueSpec) -> Index:
        """The narrowest cheap superset, ascending."""
        if not spec.flagged:
            mask = np.ones(self._store.n, bool) if spec.flagged is None else ~self.flagged
            if spec.given is not None:
                mask &= self._store.given == spec.given
            return np.flatnonzero(mask)
        if spec.given is None:
            return np.flatnonzero(self.flagged)
        if self._by_class is None:
            flagged = np.flatnonzero(self.flagged)
            labels = self._store.given[flagged]
            order = np.argsort(labels, kind="stable")
            bounds = np.searchsorted(labels[order], np.arange(len(self._store.class_ids) + 1))
            self._by_class = flagged[order], bounds
        members, bounds = self._by_class
        if not 0 <= spec.given < len(bounds) - 1:
            return members[:0]
        return members[bounds[spec.given] : bounds[spec.given + 1]]

    def _by_score(self, flagged: bool | None) -> Index:
        """All samples, those flagged, or those not, by the blend's score; the first two are sorted once."""
        only = flagged is True
        if only not in self._ranked:
            members = np.flatnonzero(self.flagged) if only else np.arange(self._store.n)
            self._ranked[only] = _ascending(self.scores()[members], members)
        found = self._ranked[only]
        return found[~self.flagged[found]] if flagged is False else found

    def _filtered(self, found: Index, spec: QueueSpec, scores: NDArray[np.float32]) -> Index:
        kind = self._decision_log.kind
        if spec.decision is not None:
            if spec.decision not in KINDS[1:]:
                raise InputError(f"a decision is one of {', '.join(KINDS[1:])}", f"got {safe(spec.decision)}")
            found = found[kind[found] == KINDS.index(spec.decision)]
        elif spec.decided is not None:
            found = found[(kind[found] != 0) == spec.decided]
        if spec.unusable is not None:
            found = found[(self._store.status[found] != OK) == spec.unusable]
        if spec.suggested is not None:
            found = found[self._top[found] == spec.suggested]
        if spec.split is not None:
            found = found[self._store.split[found] == spec.split]
        if spec.score_below is not None:
            found = found[scores[found] < spec.score_below]
        if spec.score_from is not None:
            found = found[scores[found] >= spec.score_from]
        if spec.text:
            found = found[contains(self._store.ids, found, spec.text)]
        return found


def _ordered(found: Index, spec: QueueSpec, scores: NDArray[np.float32]) -> Index:
    """Sort ascending samples by the order of a spec; equal keys stay ascending."""
    if spec.order == "index":
        return np.sort(found)
    if spec.order == "score":
        return _ascending(scores[found], found)
    if spec.order == "uncertainty":
        return _ascending(np.abs(scores[found] - np.float32(0.5)), found)
    return _ascending(mixed(found, spec.seed), found)


def _ascending(keys: NDArray[np.float32], samples: Index) -> Index:
    """Sort samples by float32 keys >= 0, ties by sample.

    The bits of such floats ascend as they do, so key and sample fit one integer, which sorts ten times as
    fast as a stable argsort of the keys.
    """
    bits = (keys + np.float32(0)).view(np.uint32).astype(np.uint64)  # + 0: no negative zeros
    joined = np.sort(bits << np.uint64(32) | samples.astype(np.uint64))
    return (joined & np.uint64(0xFFFFFFFF)).astype(np.int64)


def mixed(samples: Index, seed: int) -> NDArray[np.float32]:
    """A number in [0, 1) for each sample that looks random and depends on nothing but it and the seed (splitmix64)."""
    state = samples.astype(np.uint64) + np.uint64(seed * 0x9E3779B97F4A7C15 % (1 << 64))
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return (state >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)


def contains(names: Names, samples: Index, text: str) -> Mask:
    """Whether each sample's name holds `text`, letters A-Z in either case, in any Unicode form: (m,) bool.

    Parameters
    ----------
    names : Names
        All samples' names.
    samples : (m,) int64
    text : str
        As typed; may contain undecodable bytes as `os.fsdecode` represents them.
    """
    forms = {text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFD"))}
    hits = np.zeros(len(samples), bool)
    for form in forms:
        hits |= _holds(names, samples, form.encode("utf-8", "surrogateescape").lower())
    return hits


def _holds(names: Names, samples: Index, wanted: bytes) -> Mask:
    if len(samples) < _SCAN_FROM:
        return np.fromiter((wanted in names[i].lower() for i in samples.tolist()), bool, len(samples))
    hits = np.zeros(len(names), bool)
    blob, offsets = names.blob, names.offsets
    first = 0
    while first < len(names):
        # Whole names only, so that none is cut; at least one.
        last = max(first + 1, int(np.searchsorted(offsets, offsets[first] + _TEXT_BLOCK, side="right")) - 1)
        origin = int(offsets[first])
        block = blob[origin : offsets[last]].tobytes().lower()
        place = block.find(wanted)
        while place >= 0:
            name = int(np.searchsorted(offsets, origin + place, side="right")) - 1
            stop = int(offsets[name + 1]) - origin
            if place + len(wanted) <= stop:
                hits[name] = True
                place = block.find(wanted, stop)
            else:
                place = block.find(wanted, place + 1)
        first = last
    return hits[samples]
