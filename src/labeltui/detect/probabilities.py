"""Class probabilities that were computed before: by the head, a fine-tuned backbone, or the user's own model."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from labeltui.detect.base import Detector, Floats
from labeltui.detect.registry import register


class _Stored(Detector):
    source: ClassVar[str]

    def probabilities(self, start: int, stop: int) -> Floats:
        stored = getattr(self.inputs, self.source)
        return np.asarray(stored[start:stop], dtype=np.float32)


@register
class Head(_Stored):
    """Self-confidence of the out-of-fold classifier (`labeltui.head`): its probability of the label."""

    name = "head"
    title = "out-of-fold classifier"
    needs = frozenset({"p_head"})
    source = "p_head"


@register
class Tuned(_Stored):
    """Self-confidence of a backbone that was fine-tuned in the background, out of fold."""

    name = "tuned"
    title = "fine-tuned backbone"
    needs = frozenset({"p_tuned"})
    source = "p_tuned"


@register
class Given(_Stored):
    """Self-confidence of the probabilities that the user gave with the data; they must be out-of-fold."""

    name = "given_probs"
    title = "your model's probabilities"
    needs = frozenset({"pred_probs"})
    source = "pred_probs"
