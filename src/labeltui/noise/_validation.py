"""Validation of labels and matrices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from labeltui.errors import InputError

Labels = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def require(holds: bool, message: str, got: object, hint: str = "") -> None:
    """Raise InputError unless a condition holds.

    Parameters
    ----------
    holds : bool
    message : str
        The requirement.
    got : object
        The value; empty = not shown.
    hint : str

    Raises
    ------
    InputError
    """
    if not holds:
        raise InputError(message, f"got {got}" if got != "" else "", hint)


def validate_labels(labels: npt.ArrayLike, n_classes: int) -> tuple[Labels, Mask]:
    """Validate labels and return them as int32, with the mask of the labelled samples.

    Parameters
    ----------
    labels : array-like of int, shape (N,)
        -1 = none.
    n_classes : int

    Returns
    -------
    labels : ndarray of int32, shape (N,)
    known : ndarray of bool, shape (N,)

    Raises
    ------
    InputError
        They are not one-dimensional integers in -1..n_classes-1.
    """
    given = np.asarray(labels)
    require(given.ndim == 1, "labels must be one-dimensional", given.shape)
    require(given.dtype.kind in "iu", "labels must be whole numbers", given.dtype)
    if len(given):
        low, high = int(given.min()), int(given.max())
        require(
            low >= -1 and high < n_classes, f"labels must be -1 or in 0..{n_classes - 1}", f"{low}..{high}"
        )
    return given.astype(np.int32), given >= 0


def transition_matrix(transition: npt.ArrayLike) -> Floats:
    matrix = np.asarray(transition, dtype=np.float64)
    require(
        matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1],
        "a transition matrix must be square",
        matrix.shape,
    )
    require(
        bool(np.isfinite(matrix).all() and (matrix >= 0).all()),
        "a transition matrix must be finite and >= 0",
        "",
    )
    worst = float(np.abs(matrix.sum(axis=1) - 1.0).max()) if len(matrix) else 0.0
    require(worst < 1e-6, "rows of a transition matrix must sum to 1", f"a deviation of {worst:.2g}")
    return matrix
