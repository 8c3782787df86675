"""What the heads of one call of `labeltui.head.out_of_fold` share while they are trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from labeltui.head.types import Dynamics, Epoch, Floats, HeadSpec, Mask, Rows

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class HeadState:
    """A head between two epochs.

    Attributes
    ----------
    rng : mapping
        State of its `numpy.random.PCG64`.
    values : ndarray of float32, shape (v,)
        All its tensors, see `labeltui.head.unfinished.flatten`.
    history : list of Epoch
        Those it has finished.
    """

    rng: Mapping[str, Any]
    values: Floats
    history: list[Epoch]


class Plan:
    """What the heads of a call share; in training each writes its own `states`, and its rows of `records`."""

    def __init__(
        self,
        spec: HeadSpec,
        z: torch.Tensor,
        finite: Mask,
        labels: torch.Tensor,
        weight: Floats,
        fold: npt.NDArray[np.integer],
        seen: Mask,
        seed: int,
        kind: torch.dtype,
        dynamics: bool,
    ) -> None:
        self.spec = spec
        self.z = z
        self.finite = finite
        self.labels = labels.to(z.device)
        self.fold = fold
        self.weight = weight
        self.weighted = bool((weight[fold >= 0] != 1.0).any())
        self.seen = seen
        self.seed = seed
        self.kind = kind
        self.n_folds, self.n_classes = map(int, seen.shape)
        used = max(1, int((fold >= 0).sum()) * (self.n_folds - 1) // self.n_folds)
        self.batch, self.steps, self.epochs = spec.schedule(used)
        # Small batches take larger steps, since there are few.
        self.rate = spec.learning_rate * (2.0 if self.batch < 128 else 1.0)
        self.transition: torch.Tensor | None = None
        self.records = [self._empty_record() for _ in range(spec.members if dynamics else 0)]
        # By fold and member, one member after the other, so that a fold's sum over members has a fixed order.
        self.states: dict[tuple[int, int], HeadState | None] = {
            (k, member): None for member in range(spec.members) for k in range(self.n_folds)
        }

    @property
    def values(self) -> int:
        """How many numbers a head and its optimiser hold: parameters, two moments of each, and four counts."""
        hidden, classes = self.spec.hidden, self.n_classes
        return 3 * (hidden * (self.z.shape[1] + classes) + hidden + classes) + 4

    def watched(self, k: int) -> Rows:
        """Return the samples that are recorded in the head of fold k."""
        return np.flatnonzero(self.fold == (k - 1) % self.n_folds)

    def _empty_record(self) -> Dynamics:
        shape = (self.epochs, len(self.fold))
        log_p, margin, top_p, squares = (np.full(shape, np.nan, dtype=np.float16) for _ in range(4))
        top = np.full(shape, -1, dtype=np.int16)
        return Dynamics(log_p, margin, top, top_p, squares, self.labels.cpu().numpy().astype(np.int32))
