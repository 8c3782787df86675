"""SimiFeat's two rules: flags from neighbours' labels alone (Zhu et al., ICML 2022, arXiv 2110.06283).

Both take the votes of the k nearest neighbours (`_fast.votes`, self excluded, a duplicate group votes once).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from labeltui.detect.base import Floats, Ints, Mask


def by_vote(votes: Floats, labels: Ints) -> Mask:
    """SimiFeat-V: wrong where the majority of the neighbours has another label.

    Parameters
    ----------
    votes : ndarray, shape (N, K)
        Shares or probabilities.
    labels : ndarray of int32, shape (N,)
        -1 = none, never flagged.
    """
    return np.asarray((votes.argmax(axis=1) != labels) & (labels >= 0))


def by_rank(
    votes: Floats, labels: Ints, transition: npt.NDArray[np.float64], shares: npt.NDArray[np.float64]
) -> Mask:
    """SimiFeat-R: of each class, the share that the transition matrix calls wrong, worst agreement first.

    The agreement is the cosine of the label's one-hot vector and the votes. By Bayes, a share
    ``1 - T_jj s_j / sum_i T_ij s_i`` of the samples labelled j is wrong.

    Parameters
    ----------
    votes : ndarray, shape (N, K)
    labels : ndarray of int32, shape (N,)
    transition : ndarray of float64, shape (K, K)
        T_ij = P(given j | right i), for example from `peers.consensus`.
    shares : ndarray of float64, shape (K,)
        Shares of the right classes.
    """
    wrong = np.zeros(len(labels), dtype=bool)
    given = transition.T @ shares
    for label in range(votes.shape[1]):
        members = np.flatnonzero(labels == label)
        if not len(members) or given[label] <= 0:
            continue
        rate = 1.0 - transition[label, label] * shares[label] / given[label]
        length = np.sqrt((votes[members].astype(np.float64) ** 2).sum(axis=1))
        agreement = votes[members, label] / np.maximum(length, 1e-12)
        wrong[members[np.argsort(agreement, kind="stable")[: round(float(rate) * len(members))]]] = True
    return wrong
