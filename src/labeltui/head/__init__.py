"""A classifier on frozen embeddings, and its out-of-fold probabilities.

Only a model that was not trained on a label can contradict it. The samples are divided into folds; each fold is
predicted by a head trained on the others. The head is one hidden layer with dropout, label smoothing
and a one-cycle learning rate, on principal components without whitening, since the small directions of a
frozen embedding are mostly noise, and equal scales make the head fit wrong labels.

::

    X (N, d) --principal components, once, label-free--> Z (N, m)  compact copy, bfloat16 where the CPU
    multiplies it for each fold and member, each on one thread:  Z -> relu(Z W1 + b1) -> dropout -> W2 ->
    softmax p[n] = mean over the members of the head not trained on n's fold

Every head runs on exactly one thread with its own random stream, so the result does not depend on the number
of threads; more threads train more heads at once. torch is imported only when a head is trained.
"""

from __future__ import annotations

from labeltui.head.folds import folds
from labeltui.head.training import out_of_fold
from labeltui.head.types import Dynamics, Epoch, HeadResult, HeadSpec

__all__ = ["Dynamics", "Epoch", "HeadResult", "HeadSpec", "folds", "out_of_fold"]
