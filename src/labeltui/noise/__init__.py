"""Label noise that is planted on purpose, so that the truth is known, and the arithmetic of noise rates.

Every function takes labels, plants seeded noise in a copy and returns the copy with the mask of the samples
whose label was changed. ``rate`` is always the share of the *labelled* samples that ends up wrong: a planted
label is never the sample's own, and the number of changes is exact, not a draw. Labels of -1 stay -1.

=====================  ===================================================================================
`symmetric`            any other class, all alike
`pair_flip`            the next class, around the circle
`class_dependent`      by a transition matrix
`confusable`           toward the classes that look alike, by a class-similarity matrix
`feature_dependent`    by the sample's own features (random projections)
`matched`              by a transition matrix between classes, inside a class by each sample's own doubt
=====================  ===================================================================================
"""

from __future__ import annotations

from labeltui.noise.estimate import anchors, confident_joint
from labeltui.noise.models import (
    Planted,
    class_dependent,
    confusable,
    feature_dependent,
    matched,
    pair_flip,
    symmetric,
)
from labeltui.noise.rates import dilution, error_rate, plurality_gap, scaled

__all__ = [
    "Planted",
    "anchors",
    "class_dependent",
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
