"""Votes of the nearest neighbours in the embedding."""

from __future__ import annotations

from typing import ClassVar

from labeltui._fast import votes
from labeltui.detect.base import Attribute, Detector, DetectorInputs, Floats
from labeltui.detect.registry import register

_MAX_VALUES = 64_000_000  # votes stored at most: 256 MB


class _Votes(Detector):
    needs: ClassVar[frozenset[str]] = frozenset({"indices", "similarity"})
    k: ClassVar[int]
    temperature: ClassVar[float | None]

    def __init__(self, inputs: DetectorInputs) -> None:
        super().__init__(inputs)
        self._counted: Floats | None = None  # all votes, if they fit in memory

    def fit(self) -> None:
        """Count all votes once if they fit in memory; otherwise each block on access."""
        if self.inputs.n * self.inputs.n_classes <= _MAX_VALUES:
            self._counted = self._count(0, self.inputs.n)

    def probabilities(self, start: int, stop: int) -> Floats:
        return self._count(start, stop) if self._counted is None else self._counted[start:stop]

    def _count(self, start: int, stop: int) -> Floats:
        inputs = self.inputs
        return votes.vote(
            inputs.indices,  # type: ignore[arg-type]  # checked by `needs`
            inputs.similarity,  # type: ignore[arg-type]
            inputs.labels,
            inputs.groups,
            inputs.n_classes,
            self.k,
            self.temperature,
            start=start,
            stop=stop,
            threads=inputs.threads,
        )

    def proposal(self, start: int, stop: int, p: Floats | None) -> None:
        """None: the vote is recounted where it is shown, since labels change during the review."""

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
    """Plain vote of the 10 nearest: the proportion with the label, with one pseudo-vote for all classes."""

    name = "nearest"
    title = "vote of 10 neighbours"
    k = 10
    temperature = None
