"""Out-of-fold class probabilities that come with the data, matched to the classes by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from labeltui.errors import SourceError
from labeltui.io.tables import read_table
from labeltui.sources.base import SourceOptions, faults, listed
from labeltui.sources.copies import named_copy
from labeltui.sources.images import load_array
from labeltui.text import safe

LEAST_LABELS = 50  # fewer say nothing of an order
MARGIN = 0.1  # of agreement that another order of the columns must gain to be named
TOLERANCE = 1e-3  # of a row's sum: float16 probabilities of 1,000 classes stay within it
Probabilities = tuple[npt.NDArray[np.float32], list[bytes]]


def read_probabilities(
    path: Path, options: SourceOptions, ids: Sequence[bytes], notes: list[str]
) -> Probabilities:
    """Read ``--pred-probs``.

    Parameters
    ----------
    path : Path
        ``.npy`` (N, C); ``.npz`` with ``pred_probs`` and, as a rule, ``classes``; or a table whose header
        names the classes, with an optional path column by which rows are matched to samples.
    options : SourceOptions
        `class_order` and `path_column` are used.
    ids : sequence of bytes
        The N samples.
    notes : list of str
        A line is added when rows are taken in the samples' order.

    Returns
    -------
    probabilities : (N, C) float32
    classes : list of C bytes

    Raises
    ------
    SourceError
        The file cannot be read, its shape or its rows are invalid, or the classes of its columns are unknown
        class.
    """
    name, path = safe(path.name), named_copy(path)
    if path.suffix.lower() in (".npy", ".npz"):
        try:
            key = "pred_probs" if path.suffix.lower() == ".npz" else None
            values = load_array(path, key)
            classes = _classes_of(path) if key else None
        except FileNotFoundError:
            raise SourceError(
                "the file must exist", f"there is no {safe(str(path))}", "check the path"
            ) from None
        except (OSError, ValueError, KeyError) as error:
            raise SourceError(
                "pred_probs must be readable", f"{name}: {safe(str(error))}", "save a plain numeric array"
            ) from None
        matched = False
    else:
        values, classes, matched = _read_table(path, options, ids)
    return check_probabilities(values, classes, options, ids, notes, name, matched)


def check_probabilities(
    values: npt.NDArray[np.generic],
    classes: list[bytes] | None,
    options: SourceOptions,
    ids: Sequence[bytes],
    notes: list[str],
    name: str,
    matched: bool = False,
) -> Probabilities:
    """Validate probabilities and match their columns to classes.

    Parameters
    ----------
    values : ndarray of float, shape (N, K)
    classes : list of bytes or None
        Classes of the columns, if the file has them.
    options : SourceOptions
    ids : sequence of bytes
        Sample ids, for messages.
    notes : list of str
        Notes are appended.
    name : str
        Of the file, for messages.
    matched : bool
        Rows were matched by id.

    Returns
    -------
    Probabilities

    Raises
    ------
    SourceError
        As `read_probabilities`.
    """
    order = None if options.class_order is None else [_bytes(item) for item in options.class_order]
    if classes is not None and order is not None and classes != order:
        raise SourceError(
            "the class order given must be the one in the file",
            f"{name} has {listed(classes)}; --class-order has {listed(order)}",
            "leave --class-order out",
        )
    columns = classes if classes is not None else order
    if columns is None:
        raise SourceError(
            "pred_probs must say which column is which class",
            f"{name} has columns without names",
            "give --class-order A,B,C, or an .npz with pred_probs and classes",
        )
    if len(set(columns)) < len(columns):
        twice = sorted({item for item in columns if columns.count(item) > 1})
        raise SourceError("pred_probs must have one column a class", f"{name} names twice: {listed(twice)}")
    if values.dtype.kind != "f" or values.shape != (len(ids), len(columns)):
        raise SourceError(
            "pred_probs must have one row a sample and one column a class, as floats",
            f"{name} has shape {values.shape} of {values.dtype}; there are {len(ids):,} samples and "
            f"{len(columns):,} classes in the order given",
            "give one row for every sample, in the order of the samples",
        )
    rows = values.astype(np.float64)
    with np.errstate(invalid="ignore"):
        bad = ~((rows >= 0).all(1) & (np.abs(rows.sum(1) - 1) <= TOLERANCE))
    if bad.any():
        raise faults(
            "each row of pred_probs must be probabilities that sum to 1",
            [f"row {row} ({safe(ids[row])}) sums to {rows[row].sum():.6g}, least {rows[row].min():.6g}"
             for row in np.flatnonzero(bad)[:1000]],
            "give softmax outputs, not logits",
        )  # fmt: skip
    if not matched:
        notes.append(f"the rows of {name} are taken in the order of the samples")
    return (rows / rows.sum(1, keepdims=True)).astype(np.float32), columns


def align_probabilities(
    values: npt.NDArray[np.float32],
    columns: Sequence[bytes],
    labels: Sequence[bytes | None],
    classes: Sequence[bytes],
) -> npt.NDArray[np.float32]:
    """Return probabilities with their columns in the order of a class table.

    Parameters
    ----------
    values : ndarray of float32, shape (N, C)
    columns : sequence of C bytes
        The class of each column.
    labels : sequence of N bytes or None
        The given labels.
    classes : sequence of K bytes
        The class table, as `order_classes` made it.

    Returns
    -------
    ndarray of float32, shape (N, K)
        A class that no label has may lack a column; its probability is 0.

    Raises
    ------
    SourceError
        A column names a class outside the table, or a class with labels has no column.
    """
    place = {name: position for position, name in enumerate(classes)}
    used = {label for label in labels if label is not None}
    found = []
    if other := [name for name in columns if name not in place]:
        found.append(f"columns of no class: {listed(other)}")
    if missing := [name for name in classes if name in used and name not in set(columns)]:
        found.append(f"classes without a column: {listed(missing)}")
    if found:
        raise faults(
            "pred_probs must be about the classes of the labels",
            found,
            "correct --class-order; classes that no label has yet are named with --classes FILE",
        )
    aligned = np.zeros((len(values), len(classes)), np.float32)
    aligned[:, [place[name] for name in columns]] = values
    return aligned


def check_agreement(
    p: npt.NDArray[np.float32], given: npt.NDArray[np.int32], classes: Sequence[bytes]
) -> list[str]:
    """Compare probabilities with the given labels; return the notes that they deserve.

    Parameters
    ----------
    p : (N, K) float32
    given : (N,) int32
        Class index, -1 = none.
    classes : sequence of bytes
        The K classes.

    Raises
    ------
    SourceError
        They agree no better than chance, and would agree with the columns in another order.
    """
    from scipy import sparse
    from scipy.optimize import linear_sum_assignment

    known = given >= 0
    n, k = int(known.sum()), len(classes)
    if n < LEAST_LABELS or k < 2:
        return []
    predicted, labels = p[known].argmax(axis=1), given[known]
    counts = sparse.coo_array((np.ones(n), (labels, predicted)), shape=(k, k)).toarray()
    agreement = float(counts.trace()) / n
    chance = float((counts.sum(axis=1) / n) @ (counts.sum(axis=0) / n))
    by_chance = agreement <= chance + 3 * np.sqrt(chance * (1 - chance) / n)
    row, column = linear_sum_assignment(counts, maximize=True)
    best = float(counts[row, column].sum()) / n
    moved = [(classes[a], classes[b]) for a, b in zip(row, column, strict=True) if a != b and counts[a, b]]
    summary = f"the likeliest class of pred_probs is the given label in {agreement:.0%} of the samples"
    if best > max(2 * agreement, 0.5) and by_chance:
        raise SourceError(
            "pred_probs must agree with the labels more often than by chance",
            f"{summary} (by chance {chance:.0%}), and in {best:.0%} if the columns were in another order",
            f"check --class-order: {listed([b' is '.join(pair[::-1]) for pair in moved], 5)}",
        )
    if by_chance:
        return [
            f"WARNING: {summary}, as often as by chance ({chance:.0%}): are its rows in the order of the samples?"
        ]
    if best > agreement + MARGIN:
        pairs = listed([b" as ".join(pair) for pair in moved], 5)
        return [
            f"WARNING: {summary}, but in {best:.0%} with the columns in another order ({pairs}): check --class-order"
        ]
    return []


def _classes_of(path: Path) -> list[bytes] | None:
    try:
        values = load_array(path, "classes")
    except KeyError:
        return None
    if values.ndim != 1:
        raise ValueError(f"classes has shape {values.shape}, not one axis")
    return [_bytes(item) for item in values.tolist()]


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")


def _read_table(
    path: Path, options: SourceOptions, ids: Sequence[bytes]
) -> tuple[npt.NDArray[np.float64], list[bytes], bool]:
    """Return (values, classes, whether the rows were matched by path)."""
    table = read_table(path, {options.path_column}, options.delimiter)
    header = table.header
    column = header.index(options.path_column) if options.path_column in header else None
    classes = [_bytes(name) for position, name in enumerate(header) if position != column]
    values = np.full((len(ids), len(classes)), np.nan)
    where = {name: row for row, name in enumerate(ids)}
    seen: dict[int, int] = {}
    found = list(table.faults)
    for number, (line, fields) in enumerate(table.rows):
        row = number if column is None else where.get(_bytes(fields[column]), -1)
        if not 0 <= row < len(ids):
            of = "more rows than samples" if column is None else f"no sample {safe(fields[column])}"
            found.append(f"line {line}: {of}")
        elif row in seen:
            found.append(f"line {line}: {safe(ids[row])} is already in line {seen[row]}")
        else:
            seen[row] = line
            try:
                values[row] = [float(field) for position, field in enumerate(fields) if position != column]
            except ValueError as error:
                found.append(f"line {line}: {safe(str(error))}")
    for row, name in enumerate(ids):
        # A file that the table of samples lists again, with another label, has the same probabilities.
        if row not in seen and (first := where.get(os.path.normpath(name), -1)) in seen:
            seen[row], values[row] = seen[first], values[first]
    if not found and len(seen) < len(ids):
        found = [f"no row for {safe(ids[row])}" for row in range(len(ids)) if row not in seen]
    if found:
        raise faults(
            f"{safe(path.name)} must give each sample one row of numbers", found, "correct these lines"
        )
    return values, classes, column is not None
