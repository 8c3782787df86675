"""The blend: all detectors' probabilities pooled and read against the given label, beside a model learned from planted
labels (`stacked`).

Fitting looks at everything block by block; after that a block's blend depends on that block alone.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from labeltui.detect import calibrate, pool
from labeltui.detect.base import Attribute, Detector, Facts, Floats, Ints, own
from labeltui.detect.channel import Channel, learn_sharpness
from labeltui.noise.estimate import Anchors
from labeltui.noise.laws import Floats as Matrix


class Opinion(Protocol):
    """Log-odds that labels are right, formed beside the pool (`stacked.Stack`)."""

    @property
    def attributes(self) -> dict[str, Attribute]:
        """What was learned, for the record."""

    def log_odds(self, start: int, stop: int) -> npt.NDArray[np.float64]:
        """Return those of the samples start..stop."""


class Blend:
    """Fits pool and channel on the facts.

    Parameters
    ----------
    facts : Facts
    voters : list of Detector
        Fitted detectors that give probabilities; without any there is no blend.
    second : list of Detector, optional
        More of them, which learned behind a noise channel and speak of right labels rather than of given ones.

    Attributes
    ----------
    voters : list of Detector
    weights : ndarray of float64, shape (M,)
        Exponents of the voters in the pool.
    channel : Channel
    learned : ndarray of float64, shape (K, K)
        The transition matrix of the labels that the voters learned from; that of the channel, unless a person
        has changed some.
    wrong : float
        Estimated share of wrong labels.
    beside : Opinion or None
        What has joined the pool.
    """

    def __init__(self, facts: Facts, voters: list[Detector], second: list[Detector] | None = None) -> None:
        self.facts = facts
        self.voters = [*voters, *(second or [])]
        self.weights = np.zeros(0)
        self.channel = Channel(np.eye(facts.n_classes))
        self.learned = self.channel.transition
        self.wrong = 0.0
        self.beside: Opinion | None = None
        self._together = calibrate.Calibration()
        self._rows: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)  # those that the blend is learned on
        if self.voters:
            self._fit(len(voters))

    def attributes(self) -> dict[str, Attribute]:
        """Return what was learned, for the record."""
        named = zip(self.voters, self.weights, strict=True)
        found: dict[str, Attribute] = {
            "method": "weighted geometric mean of class probabilities, then the noise channel",
            **{f"weight_{voter.name}": float(weight) for voter, weight in named},
        }
        if self.beside is not None:
            found["method"] = f"{found['method']}, with a model learned from planted labels"
            found |= {"shift": self._together.shift, "stretch": self._together.stretch}
            found |= self.beside.attributes
        return found

    def posterior(self, start: int, stop: int, parts: list[Floats] | None = None) -> Floats:
        """Return the distribution over right labels of the samples start..stop, one block of `Facts.blocks`.

        `parts` are the voters' probabilities, where the caller has them.
        """
        labels = self.facts.doubted[start:stop]
        p = self.pooled(start, stop, parts)
        if self.beside is None:
            return p
        z = calibrate.log_odds(own(p, labels)) + self.beside.log_odds(start, stop)
        return calibrate.replaced(p, labels, self._together.of(z))

    def pooled(self, start: int, stop: int, parts: list[Floats] | None = None) -> Floats:
        """Return the posterior by pool and channel alone."""
        parts = self._parts(start, stop) if parts is None else parts
        mixed = pool.mix(pool.log_parts(parts), self.weights)
        return self.channel.posterior(mixed, self.facts.doubted[start:stop])

    def join(self, beside: Opinion) -> None:
        """Add another opinion: the log-odds are summed, and brought back to the pool's by a shift and a stretch.

        Those are the ones under which the pool's own P(label right) are most probable, so the blend expects as many
        wrong labels as the pool does.
        """
        z, right = np.empty(len(self._rows)), np.empty(len(self._rows))
        for start, stop, place, inside in self.facts.blocks_of(self._rows):
            p = own(self.pooled(start, stop), self.facts.doubted[start:stop])[inside]
            z[place] = calibrate.log_odds(p) + beside.log_odds(start, stop)[inside]
            right[place] = p
        self.beside, self._together = beside, calibrate.curve(z, right)

    def _parts(self, start: int, stop: int) -> list[Floats]:
        found = [voter.probabilities(start, stop) for voter in self.voters]
        return [p for p in found if p is not None]

    def _fit(self, first: int) -> None:
        facts = self.facts
        learned_from = facts.judged & (facts.labels >= 0)
        self._rows = pool.sample_rows(learned_from, facts.n_classes, len(self.voters), facts.seed)
        logs = np.empty((len(self.voters), len(self._rows), facts.n_classes), dtype=np.float32)
        for start, stop, place, inside in facts.blocks_of(self._rows):
            logs[:, place] = pool.log_parts([p[inside] for p in self._parts(start, stop)])
        doubted = facts.doubted[self._rows]
        starts = [pool.learn(logs, facts.labels[self._rows])]
        second = 0 < first < len(self.voters)
        if second:
            # Where classes are given for each other almost as often as for themselves, those that speak of given labels
            # lead the exponents astray. The other start leaves them out.
            starts.append(
                np.where(np.arange(len(self.voters)) >= first, 1.0 / (len(self.voters) - first), 0.0)
            )
        in_doubt = np.where(facts.judged, facts.doubted, -1).astype(np.int32)
        found = []
        for weights, transition in zip(starts, self._transitions(starts, in_doubt), strict=True):
            sharp = weights * learn_sharpness(pool.mix(logs, weights), doubted, transition)
            weights = pool.learn(logs, doubted, transition, sharp)
            found.append((round(pool.surprise(logs, weights, doubted, transition), 5), weights, transition))
        _, weights, transition = min(found, key=lambda each: each[0])
        if second:  # the better pool has the better anchors
            (transition,) = self._transitions([weights], in_doubt)
            weights = pool.learn(logs, doubted, transition, weights)
        self.weights, self.channel = weights, Channel(transition)
        self.learned = transition
        if facts.given is not None:
            labels = np.where(learned_from, facts.labels, -1).astype(np.int32)
            (self.learned,) = self._transitions([self.weights], labels)
        if len(doubted):
            p = own(self.channel.posterior(pool.mix(logs, self.weights), doubted), doubted)
            self.wrong = float((1.0 - p).mean(dtype=np.float64))

    def _transitions(self, weights: list[pool.Weights], labels: Ints) -> list[Matrix]:
        """Estimate the transition matrix of `labels` by the anchors of each pool."""
        anchors = [Anchors(labels, self.facts.n_classes) for _ in weights]
        for start, stop in self.facts.blocks():
            logs = pool.log_parts(self._parts(start, stop))
            for each, exponents in zip(anchors, weights, strict=True):
                each.add(start, pool.mix(logs, exponents))
        return [each.matrix() for each in anchors]
