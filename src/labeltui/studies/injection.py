"""Inject label noise into an audit's labels: a table with the truth beside it, or a synthetic audit."""

from __future__ import annotations

import csv
import io
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labeltui import csg, noise, paths, store
from labeltui.errors import InputError, UsageError
from labeltui.io import files
from labeltui.io.atomic import replacing, sync_directory, write_json
from labeltui.io.tables import read_table
from labeltui.options import option
from labeltui.parallel import StageProgress
from labeltui.text import safe
from labeltui.train.plan import named_labels

if TYPE_CHECKING:
    from labeltui.audit import Audit

MODELS = (
    "symmetric",
    "pair-flip",
    "confusable",
    "class-dependent",
    "feature-dependent",
    "cluster",
    "out-of-vocabulary",
)
COLUMNS = ("path", "label", "truth", "injected")
_RATELESS = "class-dependent"  # a matrix has a rate of its own
_OTHERS = 2003  # random stream of the out-of-vocabulary samples

Ints = NDArray[np.int32]


@dataclass(frozen=True)
class NoiseSpec:
    """Which noise.

    Attributes
    ----------
    rate : float, optional
        Of out-of-vocabulary samples their fraction of the whole. None, for a matrix alone: as the matrix says.
    strength : float
        Delta of `confusable`.

    Raises
    ------
    UsageError
        A value is out of range.
    """

    model: str = option("symmetric", "Of the noise.", "Model", choices=MODELS)
    rate: float | None = option(
        None, "Fraction of the labels that becomes wrong.", "Model", shown="none; of a matrix, as it says"
    )
    seed: int = option(0, "Of the noise.", "Model", shown="0")
    strength: float = option(1.0, "confusable: 0 draws uniformly, 1 by overlap.", "Model", flag="--delta")
    group: int = option(20, "cluster: samples that err together.", "Model")

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise UsageError(f"--model must be one of {', '.join(MODELS)}", f"got {safe(self.model)}")
        if self.rate is None and self.model != _RATELESS:
            raise UsageError(f"--model {self.model} needs a rate", "got none", "give --rate 0.2")
        if self.rate is not None and not 0.0 < self.rate < 1.0:
            raise UsageError("--rate must be above 0 and below 1", f"got {self.rate:g}")
        if not 0.0 <= self.strength <= 1.0:
            raise UsageError("--delta must be between 0 and 1", f"got {self.strength:g}")
        if self.group < 1:
            raise UsageError("--group must be at least 1", f"got {self.group}")


@dataclass(frozen=True)
class Injected:
    """Labels with injected noise.

    Attributes
    ----------
    ids : list of bytes, length M
        The audit's samples, then out-of-vocabulary ones by absolute path.
    class_ids : list of bytes
    labels : ndarray of int32, shape (M,)
        With noise; -1 = none.
    truth : ndarray of int32, shape (M,)
        -1 = none, also of every out-of-vocabulary sample.
    features : ndarray of float, shape (M, d)
        Embedding.
    root : Path
        Where the relative paths among `ids` start.
    images : bool
        Whether `ids` are image files.
    record : dict
        What was injected, as JSON.
    """

    ids: list[bytes]
    class_ids: list[bytes]
    labels: Ints
    truth: Ints
    features: NDArray[np.floating]
    root: Path
    images: bool
    record: dict[str, Any]

    @property
    def injected(self) -> NDArray[np.bool_]:
        """Samples whose label is not the truth, (M,)."""
        return np.asarray(self.labels != self.truth)


def corrupt(
    spec: NoiseSpec,
    labels: Ints,
    n_classes: int,
    features: NDArray[np.floating],
    indices: NDArray[np.int32],
    transition: NDArray[np.float64] | None = None,
) -> Ints:
    """Return labels with noise; out-of-vocabulary samples are not labels and are refused.

    Parameters
    ----------
    spec : NoiseSpec
    labels : ndarray of int32, shape (N,)
        Taken for the truth; -1 = none.
    n_classes : int
    features : ndarray of float, shape (N, d)
    indices : ndarray of int32, shape (N, k)
        Neighbours, for class overlap; -1 = none.
    transition : ndarray of float64, shape (K, K), optional
        Of `class-dependent`.

    Returns
    -------
    ndarray of int32, shape (N,)
    """
    rate, seed = spec.rate, spec.seed
    if spec.model == "class-dependent":
        matrix = np.eye(n_classes) if transition is None else transition
        if rate is not None:
            matrix = noise.scaled(matrix, labels, rate)
        return noise.class_dependent(labels, matrix, seed).labels
    assert rate is not None
    if spec.model == "symmetric":
        return noise.symmetric(labels, rate, seed, n_classes).labels
    if spec.model == "pair-flip":
        return noise.pair_flip(labels, rate, seed, n_classes).labels
    if spec.model == "confusable":
        overlap = class_overlap(labels, n_classes, indices)
        return noise.confusable(labels, overlap, rate, seed, spec.strength).labels
    if spec.model == "feature-dependent":
        return noise.feature_dependent(labels, features, rate, seed, n_classes).labels
    if spec.model == "cluster":
        return noise.cluster_based(labels, features, rate, seed, n_classes, spec.group).labels
    raise UsageError("out-of-vocabulary noise adds samples", "there are only labels here", "use `inject`")


def class_overlap(
    labels: Ints, n_classes: int, indices: NDArray[np.int32], k: int = 10
) -> NDArray[np.float64]:
    """Return W of the CSG, (K, K): how much two classes share their neighbours.

    Parameters
    ----------
    labels : ndarray of int32, shape (N,)
    n_classes : int
    indices : ndarray of int32, shape (N, >= k)
    k : int
    """
    near = np.ascontiguousarray(indices[:, :k])
    W = csg.measure(near, labels, n_classes, near.shape[1]).W
    return np.asarray(W.toarray() if hasattr(W, "toarray") else W, dtype=np.float64)


def inject(
    audit: Audit,
    spec: NoiseSpec,
    *,
    labels: str = "current",
    matrix: Path | None = None,
    matrix_from: Audit | None = None,
    other: Audit | None = None,
) -> Injected:
    """Inject noise into an audit's labels. The audit itself is only read.

    Parameters
    ----------
    audit : Audit
    spec : NoiseSpec
    labels : str
        What is taken for the truth: ``current``, ``given`` or ``TABLE:COLUMN``.
    matrix : Path, optional
        Of `class-dependent`: see `read_matrix`.
    matrix_from : Audit, optional
        Of `class-dependent`: the matrix estimated from the given labels of an audit with the same classes. By default
        that of `audit`.
    other : Audit, optional
        Of `out-of-vocabulary`: where the strange samples come from, embedded in the same way.

    Raises
    ------
    UsageError
        The options do not go together.
    """
    if (other is not None) != (spec.model == "out-of-vocabulary"):
        raise UsageError(
            "--other goes with --model out-of-vocabulary, and that needs it", f"got --model {spec.model}"
        )
    if spec.model != "class-dependent" and (matrix is not None or matrix_from is not None):
        raise UsageError("a matrix goes with --model class-dependent", f"got --model {spec.model}")
    with store.Store.open(audit.path, audit.generation) as opened:
        truth = named_labels(audit, opened, labels)
        features = np.array(opened.embedding())
        class_ids = list(opened.class_ids)
        ids = list(opened.names("samples/id"))
        indices = np.array(opened.array(f"graph/{opened.embedding_name}/indices"))
        record = {
            **asdict(spec),
            "labels": labels,
            "audit": safe(str(audit.path)),
            "uuid": audit.uuid,
        }
        if other is not None:
            return _with_strangers(audit, opened, other, spec, truth, features, class_ids, ids, record)
    transition = None
    if spec.model == "class-dependent":
        if matrix is not None:
            transition = read_matrix(matrix, class_ids)
        else:
            transition = estimated_transition(audit if matrix_from is None else matrix_from, class_ids)
        record["transition"] = np.round(transition, 6).tolist()
    noisy = corrupt(spec, truth, len(class_ids), features, indices, transition)
    root, images = audit.images.root, audit.images.are_files
    return Injected(ids, class_ids, noisy, truth, features, root or audit.path.parent, images, record)


def _with_strangers(
    audit: Audit,
    opened: store.Store,
    other: Audit,
    spec: NoiseSpec,
    truth: Ints,
    features: NDArray[np.floating],
    class_ids: list[bytes],
    ids: list[bytes],
    record: dict[str, Any],
) -> Injected:
    """Add samples of another audit, with random labels, until they are the wanted fraction of all."""
    with store.Store.open(other.path, other.generation) as strange:
        mine, theirs = opened.embedding_name, strange.embedding_name
        if mine != theirs or strange.embedding().shape[1] != features.shape[1]:
            raise UsageError(
                "out-of-vocabulary samples must be embedded as the audit's own are",
                f"the audit has {safe(mine)}, the other one {safe(theirs)}",
                "scan the other data with the same --model",
            )
        usable = np.flatnonzero(strange.status == paths.OK)
        assert spec.rate is not None
        n_wanted = round(spec.rate / (1.0 - spec.rate) * int((truth >= 0).sum()))
        if n_wanted > len(usable):
            raise UsageError(
                f"a fraction of {spec.rate:g} needs {n_wanted:,} other samples",
                f"{safe(str(other.path))} has {len(usable):,}",
            )
        rng = np.random.default_rng([_OTHERS, spec.seed])
        chosen = np.sort(rng.choice(usable, n_wanted, replace=False))
        more = np.array(strange.embedding()[chosen])
        names = strange.names("samples/id")
        there = os.fsencode(other.images.root or other.path)
        strangers = [os.path.join(there, names[int(i)]) for i in chosen]
    return Injected(
        [*ids, *strangers],
        class_ids,
        np.concatenate([truth, rng.integers(len(class_ids), size=n_wanted).astype(np.int32)]),
        np.concatenate([truth, np.full(n_wanted, -1, np.int32)]),
        np.concatenate([features, more.astype(features.dtype)]),
        audit.images.root or audit.path.parent,
        audit.images.are_files and other.images.are_files,
        {**record, "other": safe(str(other.path))},
    )


def estimated_transition(audit: Audit, class_ids: list[bytes]) -> NDArray[np.float64]:
    """Return the transition matrix that an audit's scores rest on, (K, K); rows sum to 1.

    Parameters
    ----------
    audit : Audit
    class_ids : list of bytes
        Classes that it must have.

    Raises
    ------
    InputError
        Its classes are others, or it has no matrix.
    """
    with store.Store.open(audit.path, audit.generation) as opened:
        shown = safe(str(audit.path))
        if list(opened.class_ids) != class_ids:
            raise InputError(
                "a transition matrix must come from an audit with the same classes", f"{shown} has others"
            )
        if "noise/transition" not in opened:
            raise InputError("a transition matrix must come from a scored audit", f"{shown} has none")
        matrix = np.asarray(opened.array("noise/transition"), dtype=np.float64)
        return np.asarray(matrix / matrix.sum(axis=1, keepdims=True))


def read_matrix(path: Path, class_ids: list[bytes]) -> NDArray[np.float64]:
    """Read a transition matrix: a table whose header names the given classes and whose first column the true ones.

    Parameters
    ----------
    path : Path
        CSV or TSV; the first cell of the header is free. Classes may stand in any order.
    class_ids : list of bytes

    Returns
    -------
    ndarray of float64, shape (K, K)
        Rows and columns in the order of `class_ids`, rows divided by their sums.

    Raises
    ------
    UsageError
        It has other classes, or what is not a number, or a row of zeros.
    """
    shown = safe(str(path))
    table = read_table(path, ())
    faults = [safe(fault) for fault in table.faults]
    number = {name: index for index, name in enumerate(class_ids)}
    matrix = np.full((len(class_ids), len(class_ids)), np.nan)
    columns = [number.get(cell.encode("utf-8", "surrogateescape")) for cell in table.header[1:]]
    for line, cells in table.rows:
        at = number.get(cells[0].encode("utf-8", "surrogateescape"))
        if at is None:
            faults.append(f"line {line}: {safe(cells[0])} is no class")
            continue
        for column, cell in zip(columns, cells[1:], strict=True):
            if column is not None:
                try:
                    matrix[at, column] = float(cell)
                except ValueError:
                    faults.append(f"line {line}: {safe(cell)} is no number")
    if not faults and not (np.isfinite(matrix).all() and (matrix >= 0).all() and matrix.sum(axis=1).all()):
        faults.append("a class or a number is missing, negative or not finite, or a row is all zeros")
    if faults:
        known = ", ".join(safe(name) for name in class_ids[:10])
        raise UsageError(
            f"{shown} must hold one row and one column for each class",
            "; ".join(faults[:3]),
            f"the classes are {known}",
        )
    return np.asarray(matrix / matrix.sum(axis=1, keepdims=True))


def write_table(injected: Injected, out: Path, *, force: bool = False) -> None:
    """Write a label table with the columns of `COLUMNS`, complete or not at all; names as their bytes are.

    Parameters
    ----------
    injected : Injected
    out : Path
    force : bool
        Replace an existing file.

    Raises
    ------
    UsageError
        The file exists or cannot be written.
    """
    require_new(out, force)
    names = [os.fsdecode(name) for name in (*injected.class_ids, b"")]
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(COLUMNS)
    columns = zip(
        injected.ids,
        injected.labels.tolist(),
        injected.truth.tolist(),
        injected.injected.tolist(),
        strict=True,
    )
    for name, label, truth, wrong in columns:
        writer.writerow([os.fsdecode(name), names[label], names[truth], wrong])
    content = rows.getvalue().encode("utf-8", "surrogateescape")
    try:
        with replacing(Path(os.path.realpath(out))) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise UsageError("the output must be writable", f"{safe(str(out))}: {error.strerror}") from None


def write_audit(
    injected: Injected, out: Path, *, threads: int | None = None, progress: StageProgress | None = None
) -> None:
    """Scan the noisy labels into a new audit that is marked synthetic.

    Beside it lie ``NAME.npz``, which it was scanned from (the stored embedding, so no image is embedded again), and
    ``NAME.truth.csv``, as `write_table` writes it.

    Parameters
    ----------
    injected : Injected
    out : Path
        Directory of the new audit.
    threads : int, optional
        Never changes the result.
    progress : callable, optional
        ``progress(stage, done, total)``.

    Raises
    ------
    UsageError
        There is something in one of the three places already.
    """
    from labeltui.embed import EmbedSpec
    from labeltui.scanning import ScanOptions, scan
    from labeltui.sources import SourceOptions

    arrays, table = out.with_suffix(".npz"), out.with_suffix(".truth.csv")
    for each in (out, arrays, table):
        require_new(each)
    classes = [os.fsdecode(name) for name in (*injected.class_ids, b"")]
    hidden = out.with_name(f".{out.name}.unfinished")  # of a run that was killed: begun again
    shutil.rmtree(hidden, ignore_errors=True)
    content: dict[str, Any] = {
        "embeddings": injected.features,
        "labels": np.array([classes[label].encode("utf-8", "surrogateescape") for label in injected.labels]),
        "paths" if injected.images else "ids": np.array(injected.ids),
    }
    with replacing(arrays) as temporary, open(temporary, "wb") as file:
        np.savez(file, **content)
    write_table(injected, table)
    options = ScanOptions(
        source=SourceOptions(image_root=injected.root if injected.images else None),
        embed=EmbedSpec("pixels", device="cpu", workers=0),
        threads=threads,
        command="labeltui noise inject",
        model_named=True,
    )
    scan(arrays, hidden, options, progress)
    recorded = files.read_json(hidden / paths.SCAN_FILE)
    write_json(hidden / paths.SCAN_FILE, {**recorded, "synthetic": injected.record})
    os.rename(hidden, out)
    sync_directory(out.parent)


def require_new(out: Path, force: bool = False) -> None:
    """Raise UsageError where something is in the place of an output, unless it is a file and `force` is given."""
    if os.path.lexists(out) and not (force and out.is_file()):
        raise UsageError(
            "an output must be new", f"{safe(str(out))} exists", "choose another name, or give --force"
        )
