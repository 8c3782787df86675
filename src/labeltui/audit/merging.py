"""Taking over decisions of other reviewers: which of them are new, and which take effect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labeltui.audit.deciding import DecisionRows, Index
from labeltui.audit.decisions import BULK, HOW, KINDS, UNSURE, DecisionLog, Foreign
from labeltui.audit.views import Opinion
from labeltui.journal import OpinionRow
from labeltui.store import Store


@dataclass(frozen=True)
class Merge:
    """What a merge writes.

    Attributes
    ----------
    samples : (m,) int64
        Those whose decision or note changes, ascending.
    kinds : (m,) int8
    labels, seconds : (m,) int32
    notes : list of str or None
    brought : list of Foreign
        All decisions that are new, whether or not they take effect.
    """

    samples: Index
    kinds: NDArray[np.int8]
    labels: NDArray[np.int32]
    seconds: NDArray[np.int32]
    notes: list[str | None]
    brought: list[Foreign]

    def rows(self, store: Store, class_ids: list[bytes], current: NDArray[np.int32]) -> DecisionRows:
        """Return the rows of the journal's decisions.

        Parameters
        ----------
        store : Store
        class_ids : list of bytes
        current : (N,) int32
            Labels before.
        """
        return DecisionRows(
            store,
            class_ids,
            self.samples,
            self.kinds,
            current[self.samples],
            self.labels,
            self.seconds,
            self.notes,
        )

    def opinions(self, store: Store, class_ids: list[bytes]) -> list[OpinionRow]:
        """Return the rows of the journal's opinions.

        Parameters
        ----------
        store : Store
        class_ids : list of bytes
        """
        classes: list[bytes | None] = [*class_ids, None]  # -1 = the last
        return [
            (
                each.sample,
                store.ids[each.sample],
                KINDS[each.kind],
                classes[each.label],
                classes[each.second],
                each.note,
                each.reviewer,
                each.time,
                HOW[each.how or BULK],
                int(each.final),
            )
            for each in self.brought
        ]


def plan(log: DecisionLog, decisions: Sequence[Foreign]) -> Merge | None:
    """Choose what a merge changes.

    A sample that nobody decided takes the decision, and one of which somebody was unsure takes a definite one; a note
    alone goes to samples that have neither decision nor note.

    Parameters
    ----------
    log : DecisionLog
    decisions : sequence of Foreign

    Returns
    -------
    Merge or None
        None when nothing is new.
    """
    known = {_content(each) for each in log.opinions()}
    new = [each for each in decisions if _content(each) not in known]
    taken = [each for each in new if each.final and _takes_effect(log, each)]
    brought = [each for each in new if each.kind]
    if not brought and not taken:
        return None
    taken.sort(key=lambda each: each.sample)
    return Merge(
        np.array([each.sample for each in taken], np.int64),
        np.array([each.kind for each in taken], np.int8),
        np.array([each.label for each in taken], np.int32),
        np.array([each.second for each in taken], np.int32),
        [each.note or log.note(each.sample) for each in taken],
        brought,
    )


def _takes_effect(log: DecisionLog, each: Foreign) -> bool:
    kind = log.kind[each.sample]
    if not each.kind:
        return not kind and bool(each.note) and not log.note(each.sample)
    return not kind or (each.definite and bool(kind >= UNSURE))


def _content(each: Foreign) -> Foreign:
    """A decision without how it came about and whether it was the last: two journals may differ in that."""
    return each._replace(how=0, final=True)


def opinion(each: Foreign) -> Opinion:
    """Return a decision as an open audit hands it out."""
    return Opinion(
        each.sample, each.reviewer, KINDS[each.kind], each.label, each.second, each.note, each.time
    )


def only(found: Index, members: Iterable[int] | NDArray[np.int64]) -> Index:
    """Return those of `found` that are among `members`, in their order."""
    return found[np.isin(found, np.fromiter(members, np.int64))]
