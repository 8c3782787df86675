"""The transition matrix from the agreement of neighbours' labels (Zhu et al., ICML 2021, arXiv 2102.05291).

Neighbours of another class count as noise: an upper bound, on weak embeddings a loose one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

MOST_CLASSES = 100  # K^3 frequencies are fitted

Floats = npt.NDArray[np.float64]


def consensus(labels: npt.ArrayLike, indices: npt.ArrayLike, n_classes: int) -> tuple[Floats, Floats]:
    """Estimate the transition matrix and class shares from the labels of each sample and its two nearest neighbours.

    If the three are of one class, the frequencies of single labels, pairs and triples are ``p_a = sum_i s_i
    T_ia``, ``p_ab = sum_i s_i T_ia T_ib`` and ``p_abc = sum_i s_i T_ia T_ib T_ic``; T and the shares s that
    meet them best in least squares are returned.

    Parameters
    ----------
    labels : array-like of int, shape (N,)
    indices : array-like of int, shape (N, at least 2)
        Nearest neighbours, nearest first, -1 = none.
    n_classes : int
        At most 100.

    Returns
    -------
    transition : ndarray of float64, shape (K, K)
    shares : ndarray of float64, shape (K,)

    """
    given = np.asarray(labels)
    near = np.asarray(indices)
    first, second = near[:, 0], near[:, 1]
    use = (given >= 0) & (first >= 0) & (second >= 0)
    use[use] = (given[first[use]] >= 0) & (given[second[use]] >= 0)
    k = n_classes
    code = (given[use].astype(np.int64) * k + given[first[use]]) * k + given[second[use]]
    triples = np.bincount(code, minlength=k**3).reshape(k, k, k) / use.sum()
    # Neighbours have no order that matters: the mean over the orders is steadier.
    triples = np.mean([np.transpose(triples, order) for order in _ORDERS], axis=0)
    pairs = triples.sum(axis=2)
    singles = pairs.sum(axis=1)

    def parts(z: Floats) -> tuple[Floats, Floats]:
        rows = _softmax(z[: k * k].reshape(k, k))
        return rows, _softmax(z[k * k :][None, :])[0]

    def loss(z: Floats) -> tuple[float, Floats]:
        t, s = parts(z)
        st = s[:, None] * t  # (i, a)
        e1 = st.sum(axis=0) - singles
        e2 = st.T @ t - pairs
        tt = (t[:, :, None] * t[:, None, :]).reshape(k, k * k)  # (i, bc)
        e3 = (st.T @ tt).reshape(k, k, k) - triples
        value = float((e1**2).sum() + (e2**2).sum() + (e3**2).sum())
        # d/dT_ia: the label may stand in any of the places, which are alike; d/ds_i likewise.
        g3 = (e3.reshape(k, k * k) @ tt.T).T  # (i, a) = sum_bc e3_abc T_ib T_ic
        g2 = t @ e2
        slope_t = 2 * s[:, None] * (e1[None, :] + 2 * g2 + 3 * g3)
        slope_s = 2 * (t * (e1[None, :] + g2 + g3)).sum(axis=1)
        slope_rows = t * (slope_t - (slope_t * t).sum(axis=1, keepdims=True))
        slope_shares = s * (slope_s - (slope_s * s).sum())
        return value, np.concatenate([slope_rows.ravel(), slope_shares])

    start = np.concatenate([(4.0 * np.eye(k)).ravel(), np.log(np.maximum(singles, 1e-6))])
    best = minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000, "ftol": 1e-14, "gtol": 1e-9}
    )
    return parts(np.asarray(best.x))


_ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


def _softmax(z: Floats) -> Floats:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))
