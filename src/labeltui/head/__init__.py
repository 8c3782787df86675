"""The classifier head on frozen embeddings, and its out-of-fold probabilities.

A label can only be doubted by a model that has not learned it. The samples are dealt into folds; each fold is
predicted by a head that was trained on the others. The head is one hidden layer with dropout, label smoothing
and a one-cycle learning rate, on principal components that keep the geometry of the embedding (no whitening:
the small directions of a frozen embedding are mostly noise, and equal scales make the head fit wrong labels).

::

    X (N, d) --principal components, once, label-free--> Z (N, m)  compact copy, bfloat16 where the CPU
    multiplies it for each fold and member, each on one thread:  Z -> relu(Z W1 + b1) -> dropout -> W2 ->
    softmax p[n] = mean over members of the head that has not seen n's fold

Every head runs on exactly one thread with its own random stream, so the result does not depend on the number
of threads; more threads train more heads at once. torch is imported when a head is trained and not before.
"""

from __future__ import annotations

from labeltui.head.folds import folds
from labeltui.head.training import out_of_fold
from labeltui.head.types import Dynamics, Epoch, HeadResult, HeadSpec

__all__ = ["Dynamics", "Epoch", "HeadResult", "HeadSpec", "folds", "out_of_fold"]
