"""Votes of the nearest neighbours in the embedding."""

from __future__ import annotations

from typing import ClassVar

from labeltui._fast import votes
from labeltui.detect.base import Attribute, Detector, Floats
from labeltui.detect.registry import register


class _Votes(Detector):
    needs: ClassVar[frozenset[str]] = frozenset({"indices", "similarity"})
    k: ClassVar[int]
    temperature: ClassVar[float | None]

    def probabilities(self, start: int, stop: int) -> Floats:
        facts = self.facts
        return votes.vote(
            facts.indices,  # type: ignore[arg-type]  # checked by `needs`
            facts.similarity,  # type: ignore[arg-type]
            facts.labels,
            facts.groups,
            facts.n_classes,
            self.k,
            self.temperature,
            start=start,
            stop=stop,
            threads=facts.threads,
        )

    def proposal(self, start: int, stop: int, p: Floats | None) -> None:
        """None: whoever shows the vote counts it anew, since labels change while people review."""

    def attributes(self) -> dict[str, Attribute]:
        return {"k": self.k, "temperature": self.temperature or 0.0}


@register
class Neighbours(_Votes):
    """Similarity-weighted vote of the 50 nearest: a vote weighs exp(similarity / 0.1).

    A duplicate group votes once and never on itself, unlabelled neighbours do not vote (`_fast.votes`).
    """

    name = "neighbours"
    title = "weighted vote of 50 neighbours"
    k = 50
    temperature = 0.1


@register
class Nearest(_Votes):
    """Plain vote of the 10 nearest: the share of them that has the label, with one pseudo-vote for all classes."""

    name = "nearest"
    title = "vote of 10 neighbours"
    k = 10
    temperature = None
