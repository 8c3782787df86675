"""Detectors of wrong labels, and the blend of their opinions.

::

    Facts (labels, neighbours, head, ...)
      -> every detector whose needs are met: class probabilities and a score in [0, 1], LOW = bad
      -> pool: one distribution over the classes for each sample, read through the noise channel
      -> beside it a model that learned from labels planted in a copy what wrong ones look like to the detectors
      -> blend = its probability of the label; suggestions = its five most probable classes
    A sample is flagged when its label is not the first suggestion.

`base.Detector` says how to add one. All of it works on blocks of rows, so N x K never has to fit in memory
beyond what the head itself gave.
"""

from __future__ import annotations

from labeltui.detect import (
    cleannet,
    confident,
    copies,
    corrected,
    csgfall,
    dynamics,
    neighbours,
    probabilities,
)
from labeltui.detect.base import Detector, Facts, Findings, SecondLook
from labeltui.detect.registry import available, register, table
from labeltui.detect.run import SUGGESTIONS, attributes, datasets, run

__all__ = [
    "SUGGESTIONS",
    "Detector",
    "Facts",
    "Findings",
    "SecondLook",
    "attributes",
    "available",
    "cleannet",
    "confident",
    "copies",
    "corrected",
    "csgfall",
    "datasets",
    "dynamics",
    "neighbours",
    "probabilities",
    "register",
    "run",
    "table",
]
