"""Leave-one-out votes of the nearest neighbours on every sample's label."""

from libc.math cimport exp
from libc.stdint cimport int32_t

import numpy as np

from labeltui import parallel
from labeltui.errors import InputError

# Rows below which starting another thread costs more than it saves.
LEAST_ROWS = 4096


cdef Py_ssize_t ballot(
    const int32_t *neighbours,
    Py_ssize_t stored,
    const int32_t *labels,
    const int32_t *groups,
    Py_ssize_t n,
    Py_ssize_t K,
    Py_ssize_t row,
    Py_ssize_t k,
    int32_t *places,
    int32_t *seen,
) noexcept nogil:
    """Columns of the first k neighbours that may vote, into places; their number, or -1 for something out of range.

    One without a label does not count. One of the row's own duplicate group would only confirm what was copied, and
    of another group only the nearest labelled member counts, since the others carry no evidence of their own.
    """
    cdef Py_ssize_t c, v, found = 0
    cdef int32_t m, own = groups[row]
    for c in range(stored):
        if found == k:
            break
        m = neighbours[c]
        if m < 0:
            continue
        if m >= n or labels[m] >= K:
            return -1
        if labels[m] < 0 or groups[m] == own:
            continue
        for v in range(found):
            if seen[v] == groups[m]:
                break
        else:
            seen[found] = groups[m]
            places[found] = <int32_t> c
            found += 1
    return found


def fill(
    const int32_t[:, ::1] indices,
    const float[:, ::1] similarity,
    const int32_t[::1] labels,
    const int32_t[::1] groups,
    Py_ssize_t k,
    double sharpness,
    double smoothing,
    Py_ssize_t first,
    float[:, ::1] out,
    Py_ssize_t start,
    Py_ssize_t stop,
):
    """Write the votes on the rows start..stop to out[start - first : stop - first].

    Parameters
    ----------
    indices : (N, stored) int32, similarity : (N, stored) float32
        Neighbour lists, nearest first; negative entries are none.
    labels, groups : (N,) int32
    k : int
        Votes counted at most.
    sharpness : float
        0 weighs all votes 1, else a vote weighs exp(sharpness * (similarity - similarity of the first vote)).
    smoothing : float
        Pseudo-votes spread evenly over all classes.
    first : int
        Row of the sample that out[0] speaks of.
    out : (rows, K) float32

    Returns
    -------
    int
        -1, or the first row with a neighbour index or label out of range.
    """
    cdef Py_ssize_t n = labels.shape[0], K = out.shape[1], stored = indices.shape[1], row, found, v, j, bad = -1
    cdef double total, base, top
    cdef float rest
    cdef int32_t label
    weights_array = np.zeros(K, dtype=np.float64)
    places_array = np.empty(k + 1, dtype=np.int32)
    seen_array = np.empty(k + 1, dtype=np.int32)
    cdef double[::1] weights = weights_array
    cdef int32_t[::1] places = places_array
    cdef int32_t[::1] seen = seen_array
    with nogil:
        for row in range(start, stop):
            found = ballot(&indices[row, 0], stored, &labels[0], &groups[0], n, K, row, k, &places[0], &seen[0])
            if found < 0:
                bad = row
                break
            total = smoothing
            top = similarity[row, places[0]] if found else 0.0
            for v in range(found):
                # p_j = (sum of j's weights + smoothing / K) / (sum of all weights + smoothing)
                base = exp(sharpness * (similarity[row, places[v]] - top)) if sharpness > 0.0 else 1.0
                weights[labels[indices[row, places[v]]]] += base
                total += base
            if total <= 0.0:
                rest = <float> (1.0 / K)
            else:
                rest = <float> (smoothing / K / total)
            for j in range(K):
                out[row - first, j] = rest
            for v in range(found):
                label = labels[indices[row, places[v]]]
                if weights[label] > 0.0:
                    out[row - first, label] = <float> ((weights[label] + smoothing / K) / total)
                    weights[label] = 0.0
    return bad


def count(
    const int32_t[:, ::1] indices,
    const int32_t[::1] labels,
    const int32_t[::1] groups,
    Py_ssize_t k,
    Py_ssize_t first,
    int32_t[:, ::1] out,
    Py_ssize_t start,
    Py_ssize_t stop,
):
    """Add the number of votes per class of the rows start..stop to out[start - first : stop - first]; as `fill`."""
    cdef Py_ssize_t n = labels.shape[0], K = out.shape[1], stored = indices.shape[1], row, found, v, bad = -1
    places_array = np.empty(k + 1, dtype=np.int32)
    seen_array = np.empty(k + 1, dtype=np.int32)
    cdef int32_t[::1] places = places_array
    cdef int32_t[::1] seen = seen_array
    with nogil:
        for row in range(start, stop):
            found = ballot(&indices[row, 0], stored, &labels[0], &groups[0], n, K, row, k, &places[0], &seen[0])
            if found < 0:
                bad = row
                break
            for v in range(found):
                out[row - first, labels[indices[row, places[v]]]] += 1
    return bad


def _arrays(indices, labels, groups, n_classes, k, start, stop):
    indices = np.ascontiguousarray(indices, dtype=np.int32)
    labels = np.ascontiguousarray(labels, dtype=np.int32)
    if indices.ndim != 2 or indices.shape[0] != labels.shape[0] or labels.ndim != 1:
        raise InputError("neighbour lists need one row per label", f"got {indices.shape} with {labels.shape} labels")
    if groups is None:
        groups = np.arange(labels.shape[0], dtype=np.int32)
    groups = np.ascontiguousarray(groups, dtype=np.int32)
    if groups.shape != labels.shape:
        raise InputError("duplicate groups need one number per sample", f"got {groups.shape}, {labels.shape} needed")
    if n_classes < 1 or k < 1:
        raise InputError("votes need at least one class and one neighbour", f"got {n_classes} classes and k={k}")
    stop = labels.shape[0] if stop is None else stop
    if not 0 <= start <= stop <= labels.shape[0]:
        raise InputError(f"rows lie in 0..{labels.shape[0]}", f"got {start}..{stop}")
    return indices, labels, groups, min(k, indices.shape[1]), stop


def _refuse(bad):
    for row in bad:
        if row >= 0:
            raise InputError(
                "neighbours are sample indices and labels class indices, both in range",
                f"the neighbours of sample {row} break this",
            )


def vote(indices, similarity, labels, groups, n_classes, k, temperature=None, *, smoothing=1.0, start=0, stop=None,
         threads=None):
    """Probability of each class for each sample, voted by its nearest neighbours.

    A sample never votes on itself (it is not in its own list), nor does its own duplicate group; of any other group
    only the nearest labelled member votes. Neighbours without a label are passed over, and the next ones of the
    stored list step in until `k` have voted.

    Parameters
    ----------
    indices : (N, stored) int32
        Neighbour lists, nearest first, self excluded; -1 = none.
    similarity : (N, stored) float32
        Their similarities; read only with a `temperature`.
    labels : (N,) int32
        Class of each sample, -1 = none.
    groups : (N,) int32 or None
        Samples with equal numbers are (near-)duplicates; None = no duplicates.
    n_classes : int
        K.
    k : int
        Votes per sample.
    temperature : float, optional
        Weigh a vote by exp((similarity - similarity of the nearest vote) / temperature); without it all weigh 1.
    smoothing : float
        Pseudo-votes, spread evenly over the K classes: p_j = (w_j + smoothing / K) / (sum of w + smoothing). With 0, a
        sample without any vote still gets 1 / K throughout.
    start, stop : int
        Rows to compute, so that large N x K arrays need never exist at once.
    threads : int, optional
        The result does not depend on it.

    Returns
    -------
    (stop - start, K) float32
        Rows sum to 1.

    Raises
    ------
    InputError
        Shapes do not fit, or an index or label is out of range.
    """
    indices, labels, groups, k, stop = _arrays(indices, labels, groups, n_classes, k, start, stop)
    similarity = np.ascontiguousarray(similarity, dtype=np.float32)
    if similarity.shape != indices.shape:
        raise InputError("each neighbour has one similarity", f"got {similarity.shape} with {indices.shape} indices")
    if temperature is not None and not temperature > 0:
        raise InputError("the temperature of a vote is positive", f"got {temperature}", "leave it out for equal votes")
    if not smoothing >= 0:
        raise InputError("the smoothing of a vote is 0 or more pseudo-votes", f"got {smoothing}")
    out = np.empty((stop - start, n_classes), dtype=np.float32)
    sharpness = 0.0 if temperature is None else 1.0 / temperature
    _refuse(parallel.map_ranges(
        lambda a, b: fill(indices, similarity, labels, groups, k, sharpness, smoothing, start, out, a, b),
        start, stop, threads, LEAST_ROWS,
    ))
    return out


def vote_counts(indices, labels, groups, n_classes, k, *, start=0, stop=None, threads=None):
    """How many of the neighbours that vote (see `vote`) have each class: (stop - start, K) int32."""
    indices, labels, groups, k, stop = _arrays(indices, labels, groups, n_classes, k, start, stop)
    out = np.zeros((stop - start, n_classes), dtype=np.int32)
    _refuse(parallel.map_ranges(
        lambda a, b: count(indices, labels, groups, k, start, out, a, b), start, stop, threads, LEAST_ROWS
    ))
    return out
