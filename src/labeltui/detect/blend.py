"""The blend: all detectors' probabilities pooled, then read against the label that was given.

Fitting looks at everything once, block by block; after that a block's blend depends on that block alone.
"""

from __future__ import annotations

import numpy as np

from labeltui.detect import pool
from labeltui.detect.base import Attribute, Detector, Facts, Floats
from labeltui.detect.channel import Channel, learn_sharpness
from labeltui.noise.estimate import Anchors


class Blend:
    """Fits pool and channel on the facts.

    Parameters
    ----------
    facts : Facts
    voters : list of Detector
        Fitted detectors that give probabilities; without any there is no blend.

    Attributes
    ----------
    voters : list of Detector
    weights : ndarray of float64, shape (M,)
        Exponents of the voters in the pool.
    channel : Channel
    learned : ndarray of float64, shape (K, K)
        The transition matrix of the labels that the voters learned from; that of the channel, unless a person
        has changed some.
    """

    def __init__(self, facts: Facts, voters: list[Detector]) -> None:
        self.facts = facts
        self.voters = voters
        self.weights = np.zeros(0)
        self.channel = Channel(np.eye(facts.n_classes))
        self.learned = self.channel.transition
        if voters:
            self._fit()

    def attributes(self) -> dict[str, Attribute]:
        """Return what was learned, for the record."""
        named = zip(self.voters, self.weights, strict=True)
        return {
            "method": "weighted geometric mean of class probabilities, then the noise channel",
            **{f"weight_{voter.name}": float(weight) for voter, weight in named},
        }

    def posterior(self, start: int, stop: int, parts: list[Floats] | None = None) -> Floats:
        """Return the distribution over right labels of the samples start..stop, one block of `Facts.blocks`."""
        return self.channel.posterior(self._pooled(start, stop, parts), self.facts.doubted[start:stop])

    def _pooled(self, start: int, stop: int, parts: list[Floats] | None = None) -> Floats:
        parts = self._parts(start, stop) if parts is None else parts
        return pool.mix(pool.log_parts(parts), self.weights)

    def _parts(self, start: int, stop: int) -> list[Floats]:
        found = [voter.probabilities(start, stop) for voter in self.voters]
        return [p for p in found if p is not None]

    def _fit(self) -> None:
        facts = self.facts
        learned_from = facts.judged & (facts.labels >= 0)
        rows = pool.sample_rows(learned_from, facts.n_classes, len(self.voters), facts.seed)
        logs = np.empty((len(self.voters), len(rows), facts.n_classes), dtype=np.float32)
        for start, stop in facts.blocks():
            first, last = np.searchsorted(rows, [start, stop])
            if first < last:
                inside = rows[first:last] - start
                logs[:, first:last] = pool.log_parts([p[inside] for p in self._parts(start, stop)])
        doubted = facts.doubted[rows]
        self.weights = pool.learn(logs, facts.labels[rows])
        anchors = Anchors(np.where(facts.judged, facts.doubted, -1).astype(np.int32), facts.n_classes)
        learned = Anchors(np.where(learned_from, facts.labels, -1).astype(np.int32), facts.n_classes)
        for start, stop in facts.blocks():
            pooled = self._pooled(start, stop)
            anchors.add(start, pooled)
            if facts.given is not None:
                learned.add(start, pooled)
        self.channel = Channel(anchors.matrix())
        self.learned = self.channel.transition if facts.given is None else learned.matrix()
        sharpness = learn_sharpness(pool.mix(logs, self.weights), doubted, self.channel.transition)
        self.weights = pool.learn(logs, doubted, self.channel.transition, self.weights * sharpness)
