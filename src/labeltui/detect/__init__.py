"""Detectors of wrong labels, and the ensemble of their probabilities.

::

    DetectorInputs (labels, neighbours, out-of-fold probabilities, ...)
      -> every detector whose needs are met: class probabilities and a score in [0, 1], low = the label looks wrong
      -> ensemble: one distribution over the correct label of each sample (`ensemble`)
      -> label score = its probability of the given label; suggestions = its five most probable classes
    A sample is flagged when its given label is not the first suggestion.

`base.Detector` says how to add one. All of it works on blocks of rows, so N x K never has to fit in memory
beyond what the classifier itself gave.
"""

from __future__ import annotations

from labeltui.detect import (
    cleannet,
    confident,
    corrected,
    duplicates,
    dynamics,
    neighbours,
    overlap_reduction,
    probabilities,
    propagation,
)
from labeltui.detect.base import Detector, DetectorInputs, Findings, NoiseAwareDetector
from labeltui.detect.registry import available, register, table
from labeltui.detect.run import SUGGESTIONS, attributes, datasets, run

__all__ = [
    "SUGGESTIONS",
    "Detector",
    "DetectorInputs",
    "Findings",
    "NoiseAwareDetector",
    "attributes",
    "available",
    "cleannet",
    "confident",
    "corrected",
    "datasets",
    "duplicates",
    "dynamics",
    "neighbours",
    "overlap_reduction",
    "probabilities",
    "propagation",
    "register",
    "run",
    "table",
]
