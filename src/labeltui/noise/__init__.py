"""Label noise injection, noise rates, and estimation of the transition matrix.

Every noise model takes labels and returns a copy with seeded noise and the mask of changed samples. ``rate`` is
always the fraction of the *labelled* samples that becomes wrong: an injected label always differs from the sample's
own, and the number of changes is exact, not random. Labels of -1 stay -1.

=====================  ===================================================================================
`symmetric`            any other class, uniformly
`pair_flip`            the next class, cyclically
`class_dependent`      by a transition matrix
`confusable`           toward similar classes, by a class-similarity matrix
`feature_dependent`    by the sample's own features (random projections)
`matched`              by a transition matrix between classes, and within a class by each sample's probabilities
`cluster_based`        in tight groups of the embedding, a whole group with one label
=====================  ===================================================================================
"""

from __future__ import annotations

from labeltui.noise.clusters import cluster_based
from labeltui.noise.estimate import anchors, confident_joint
from labeltui.noise.models import (
    InjectedNoise,
    class_dependent,
    confusable,
    feature_dependent,
    matched,
    pair_flip,
    symmetric,
)
from labeltui.noise.rates import dilution, error_rate, plurality_gap, scaled

__all__ = [
    "InjectedNoise",
    "anchors",
    "class_dependent",
    "cluster_based",
    "confident_joint",
    "confusable",
    "dilution",
    "error_rate",
    "feature_dependent",
    "matched",
    "pair_flip",
    "plurality_gap",
    "scaled",
    "symmetric",
]
