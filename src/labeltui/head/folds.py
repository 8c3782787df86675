"""Divide samples into folds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from labeltui.errors import InputError


def folds(
    labels: npt.ArrayLike,
    groups: npt.ArrayLike | None,
    ok: npt.ArrayLike | None,
    n_folds: int = 5,
    seed: int = 0,
) -> npt.NDArray[np.int8]:
    """Divide samples into folds, stratified by class, duplicates together.

    Parameters
    ----------
    labels : array-like of int, shape (N,)
        -1 = none.
    groups : array-like of int, shape (N,), optional
        Samples with the same number go into the same fold; -1 = in no group.
    ok : array-like of bool, shape (N,), optional
        False = left out.
    n_folds : int
        At least 2, at most 100. With fewer groups than folds there are as many folds as groups.
    seed : int

    Returns
    -------
    ndarray of int8, shape (N,)
        Fold, or -1 for samples that are not ok or have no label. The sizes of a class differ by at most
        one sample between folds where duplicates allow it; a class with fewer samples than folds is missing from some.

    Raises
    ------
    InputError
        Shapes differ or `n_folds` is out of range.
    """
    given = np.asarray(labels)
    n = len(given)
    if not 2 <= n_folds <= 100:
        raise InputError("the number of folds must be in 2..100", f"got {n_folds}")
    usable = given >= 0
    if ok is not None:
        usable = usable & same_length(np.asarray(ok, dtype=bool), n, "ok")
    fold = np.full(n, -1, dtype=np.int8)
    rows = np.flatnonzero(usable)
    rng = np.random.default_rng(seed)
    rows = rows[rng.permutation(len(rows))]
    if groups is None:
        alone = np.ones(len(rows), dtype=bool)
        bundles: list[npt.NDArray[np.int64]] = []
    else:
        group = same_length(np.asarray(groups), n, "groups")[rows]
        _, inverse, size = np.unique(group, return_inverse=True, return_counts=True)
        alone = (size[inverse] == 1) | (group < 0)
        shared = np.flatnonzero(~alone)
        shared = shared[np.argsort(inverse[shared], kind="stable")]
        cuts = np.flatnonzero(np.diff(inverse[shared])) + 1
        bundles = sorted((rows[part] for part in np.split(shared, cuts) if len(part)), key=len, reverse=True)
    n_folds = min(n_folds, int(alone.sum()) + len(bundles))
    if n_folds < 2:
        return fold
    n_classes = int(given[rows].max()) + 1
    count = np.zeros((n_classes, n_folds), dtype=np.int64)
    total = np.zeros(n_folds, dtype=np.int64)
    for members in bundles:  # largest first, each to the fold with the fewest samples of its classes
        classes, amount = np.unique(given[members], return_counts=True)
        target = int(np.lexsort((total, amount @ count[classes]))[0])
        fold[members] = target
        count[classes, target] += amount
        total[target] += len(members)
    singles = rows[alone]
    singles = singles[np.argsort(given[singles], kind="stable")]
    edges = np.searchsorted(given[singles], np.arange(n_classes + 1))
    for label in range(n_classes):
        members = singles[edges[label] : edges[label + 1]]
        if not len(members):
            continue
        addition = _fill(count[label], len(members), total)
        fold[members] = np.repeat(np.arange(n_folds), addition)
        total += addition
    return fold


def _fill(have: npt.NDArray[np.int64], amount: int, total: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Distribute `amount` so that the totals are as even as possible; ties go to the emptier fold."""
    order = np.lexsort((total, have))
    level = have[order]
    for used in range(len(order), 0, -1):  # the highest folds get nothing
        gap = int((level[used - 1] - level[:used]).sum())
        if gap <= amount:
            break
    each, rest = divmod(amount - gap, used)
    addition = np.zeros(len(have), dtype=np.int64)
    addition[order[:used]] = level[used - 1] - level[:used] + each
    first = order[:used][np.argsort(total[order[:used]] + addition[order[:used]], kind="stable")]
    addition[first[:rest]] += 1
    return addition


def same_length(array: npt.NDArray[Any], n: int, name: str) -> npt.NDArray[Any]:
    """Return `array` if it has `n` entries.

    Parameters
    ----------
    array : ndarray
    n : int
    name : str
        Of the array, for the message.

    Returns
    -------
    ndarray, shape (n,)

    Raises
    ------
    InputError
        It has another shape.
    """
    if array.shape != (n,):
        raise InputError(
            f"{name} must have one entry for each label", f"got shape {array.shape} for {n} labels"
        )
    return array
