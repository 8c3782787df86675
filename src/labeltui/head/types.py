"""Specification and results of training heads."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

# Of training, measured on one core that multiplies bfloat16: a sample, a product (forwards and backwards), a step.
SAMPLE_SECONDS, PRODUCT_SECONDS, STEP_SECONDS = 4e-6, 4e-11, 5e-4

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int32]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class HeadSpec:
    """Architecture and training of a head.

    Attributes
    ----------
    hidden : int
        Width of the hidden layer.
    dropout : float
        Fraction of hidden units dropped in training, in steps of 1/256.
    label_smoothing : float
    epochs : int
        Passes over the data; small data gets more, so that there are at least `least_steps` steps.
    batch : int
        Largest batch; small data gets smaller ones.
    learning_rate : float
        Peak of the one-cycle schedule.
    weight_decay : float
    components : int
        Largest number of principal components.
    members : int
        Heads per fold, whose probabilities are averaged.
    least_steps : int
    precision : {"auto", "float32", "bfloat16"}
        "auto" multiplies in bfloat16 where the hardware does (AMX, AVX512-BF16, CUDA), with float32 weights.
    """

    hidden: int = 512
    dropout: float = 0.5
    label_smoothing: float = 0.1
    epochs: int = 8
    batch: int = 512
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    components: int = 256
    members: int = 1
    least_steps: int = 200
    precision: str = "auto"

    def schedule(self, used: int) -> tuple[int, int, int]:
        """Return batch, steps an epoch, and epochs of a head that trains on `used` samples.

        Small data: batches of about 1/32 of it, and enough epochs for `least_steps`.
        """
        batch = min(self.batch, max(16, 2 ** round(math.log2(max(1.0, used / 16)))))
        steps = max(1, used // batch)
        return batch, steps, min(max(self.epochs, math.ceil(self.least_steps / steps)), 10 * self.epochs)

    def seconds(self, n: int, d: int, classes: int, folds: int) -> float:
        """Estimate the time of training all heads of `n` samples on one core; see `labeltui.graph.cost`.

        Parameters
        ----------
        n, d : int
            Samples in folds, dimensions.
        classes, folds : int
        """
        used = max(1, n * (folds - 1) // max(1, folds))
        _, steps, epochs = self.schedule(used)
        sample = SAMPLE_SECONDS + PRODUCT_SECONDS * self.hidden * (min(d, self.components) + classes)
        return folds * self.members * epochs * (used * sample + steps * STEP_SECONDS)


@dataclass(frozen=True)
class Epoch:
    """One finished epoch of one head, as reported to `progress`.

    Attributes
    ----------
    done, total : int
        Epochs finished and to do in this call, over all folds and members.
    fold, member, epoch : int
        Which head, and which of its epochs (from 0).
    epochs : int
        Of every head.
    loss : float
        Mean training loss (label smoothing and dropout included).
    held_loss, held_accuracy : float
        Log-loss and accuracy against the given labels on (a sample of) the held-out fold.
    """

    done: int
    total: int
    fold: int
    member: int
    epoch: int
    epochs: int
    loss: float
    held_loss: float
    held_accuracy: float


@dataclass(frozen=True)
class Dynamics:
    """Training dynamics, recorded in the training step itself: 10 bytes a sample and epoch.

    Each sample is recorded in the head of the next fold, which trains on it. Samples that no head trains on are NaN,
    with class -1. With a transition matrix T the probabilities are those of the correct label, given the sample and
    its label y: ``P(correct label t | x, y) ~ p_t T_ty``.

    Attributes
    ----------
    log_p : ndarray of float16, shape (E, N)
        Logarithm of the probability of the given label.
    margin : ndarray of float16, shape (E, N)
        Logit of the given label minus the largest other one.
    top : ndarray of int16, shape (E, N)
        Class with the largest logit.
    top_p, sum_squares : ndarray of float16, shape (E, N)
        Its probability; sum of the squared probabilities.
    labels : ndarray of int32, shape (N,)
        Labels used in training.
    """

    log_p: npt.NDArray[np.float16]
    margin: npt.NDArray[np.float16]
    top: npt.NDArray[np.int16]
    top_p: npt.NDArray[np.float16]
    sum_squares: npt.NDArray[np.float16]
    labels: Labels


@dataclass(frozen=True)
class HeadResult:
    """Out-of-fold probabilities.

    Attributes
    ----------
    p : ndarray of float32, shape (N, K)
        Rows sum to 1. Samples in no fold get the mean over the folds' heads; rows that are not finite get
        1/K.
    seen : ndarray of bool, shape (F, K)
        Whether the head of a fold had training samples of a class; otherwise its probability is 0.
    history : list of Epoch
        In order of fold, member, epoch.
    records : tuple of Dynamics
        One for each member, where they were asked for.
    attrs : dict
        Spec, seed, precision and device.
    """

    p: Floats
    seen: Mask
    history: list[Epoch]
    records: tuple[Dynamics, ...] = ()
    attrs: dict[str, str | int | float] = field(default_factory=dict)

    @property
    def dynamics(self) -> Dynamics | None:
        """The first record, if any."""
        return self.records[0] if self.records else None
