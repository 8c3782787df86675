"""Copies of one image, exact or nearly so, and where their labels contradict each other.

Groups are numbers per sample: equal numbers are copies, and a sample without copies has a number of its own.
Folds keep a group together and a neighbour vote counts it once, since a copy of a wrong label is no evidence
for it.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from labeltui.errors import InputError

Groups: TypeAlias = NDArray[np.int32]


def duplicate_groups(rows: NDArray[Any], ok: NDArray[np.bool_] | None = None) -> Groups:
    """Number samples so that exactly those with identical rows share a number.

    Parameters
    ----------
    rows : (N, b)
        Of any fixed-size type, compared byte by byte: hashes of decoded pixels, (N, 32) uint8, or embedding
        rows.
    ok : (N,) bool, optional
        Samples that were read; the others get a number of their own whatever their row holds.

    Returns
    -------
    (N,) int32
        0, 1, ... in the order in which groups first appear.
    """
    rows = np.ascontiguousarray(rows)
    if rows.ndim != 2 or rows.dtype.hasobject:
        raise InputError("copies are found among the rows of a 2-D array", f"{rows.ndim}-D {rows.dtype} came")
    n = len(rows)
    if ok is not None and np.shape(ok) != (n,):
        raise InputError(f"there are {n} rows, so {n} flags", f"{np.shape(ok)} came")
    raw = rows.view(np.uint8).reshape(n, rows.shape[1] * rows.itemsize)
    # Sort by a 64-bit fingerprint, then compare whole rows inside runs of equal fingerprints.
    keys = _fingerprint(raw)
    order = np.argsort(keys, kind="stable")
    leader = np.arange(n, dtype=np.int64)
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1]) + 1
    for run in np.split(same, np.flatnonzero(np.diff(same) > 1) + 1) if len(same) else []:
        first_of: dict[bytes, int] = {}
        for sample in np.sort(order[run[0] - 1 : run[-1] + 1]):
            if ok is None or ok[sample]:
                leader[sample] = first_of.setdefault(raw[sample].tobytes(), int(sample))
    return number_groups(leader)


def number_groups(leader: NDArray[Any]) -> Groups:
    """Renumber arbitrary group marks 0, 1, ... in the order in which groups first appear: (N,) int32."""
    _, first, inverse = np.unique(leader, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int32)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first), dtype=np.int32)
    return rank[inverse.reshape(-1)]


def _fingerprint(raw: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """A 64-bit mix of each row's bytes; equal rows have equal ones."""
    n, width = raw.shape
    padded = -(-width // 8) * 8
    mixed = np.zeros(n, dtype=np.uint64)
    block = max(1, (64 << 20) // max(8, padded))
    for start in range(0, n, block):
        part = raw[start : start + block]
        if padded != width:
            part = np.pad(part, ((0, 0), (0, padded - width)))
        words = np.ascontiguousarray(part).view(np.uint64)
        key = np.zeros(len(part), dtype=np.uint64)
        for column in range(words.shape[1]):
            key = (key ^ words[:, column]) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(29)
        mixed[start : start + len(part)] = key
    return mixed
