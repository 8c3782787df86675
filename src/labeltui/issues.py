"""Label issues of arrays: `find_label_issues`, the part of the Python API that needs no audit."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labeltui import detect, pipeline, sources
from labeltui.embed import EmbedSpec
from labeltui.embed.stream import validate_rows
from labeltui.errors import InputError, UsageError
from labeltui.parallel import Cancel, StageProgress
from labeltui.paths import OK
from labeltui.pipeline import ScoringOptions
from labeltui.sources import SourceOptions

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LabelIssues:
    """What `find_label_issues` found; one entry a sample, in the order of the labels.

    Attributes
    ----------
    is_label_issue : ndarray of bool, shape (N,)
        Whether the given label is wrong with more than the chance at which the expected F1 is largest (at least 1/3).
    label_score : ndarray of float32, shape (N,)
        Estimated probability that the given label is correct; low = suspicious. One half where nothing is known.
    given_label, predicted_label : ndarray, shape (N,)
        Class names, integers or strings as the labels were; -1 or "" = none.
    classes : ndarray, shape (K,)
        All classes in the order of `pred_probs`.
    scores : dict of str to ndarray of float32, shape (N,)
        The score of each detector, low = suspicious.
    csg : float or None
        Cumulative Spectral Gradient of the given labels; None without embeddings.
    notes : list of str
        What was assumed or found worth knowing.
    """

    is_label_issue: NDArray[np.bool_]
    label_score: NDArray[np.float32]
    given_label: NDArray[Any]
    predicted_label: NDArray[Any]
    classes: NDArray[Any]
    scores: Mapping[str, NDArray[np.float32]] = field(repr=False)
    csg: float | None
    notes: list[str]

    def __len__(self) -> int:
        return len(self.is_label_issue)

    def ranked(self) -> NDArray[np.int64]:
        """Return the indices of the label issues, lowest label score first."""
        rows = np.flatnonzero(self.is_label_issue)
        return rows[np.argsort(self.label_score[rows], kind="stable")]

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Return the columns ``is_label_issue, label_score, given_label, predicted_label``, cleanlab's names."""
        names = ("is_label_issue", "label_score", "given_label", "predicted_label")
        return {name: getattr(self, name) for name in names}

    def to_frame(self) -> pd.DataFrame:
        """Return `to_dict` as a pandas DataFrame.

        Raises
        ------
        UsageError
            pandas is not installed.
        """
        return to_frame(self.to_dict())


def find_label_issues(
    labels: ArrayLike,
    embeddings: ArrayLike | None = None,
    pred_probs: ArrayLike | None = None,
    *,
    classes: Sequence[str | int] | None = None,
    k: int = ScoringOptions.k,
    folds: int = ScoringOptions.folds,
    duplicate_threshold: float | None = ScoringOptions.duplicate_threshold,
    seed: int = ScoringOptions.seed,
    backend: str = ScoringOptions.backend,
    metric: str | None = ScoringOptions.metric,
    device: str = EmbedSpec.device,
    threads: int | None = ScoringOptions.threads,
    progress: StageProgress | None = None,
    cancel: Cancel | None = None,
) -> LabelIssues:
    """Find the samples whose labels look wrong.

    The same arrays give the same flags and scores as ``labeltui scan`` on the same ``.npy`` file.

    Parameters
    ----------
    labels : array_like of int or str, shape (N,)
        Given labels; -1 or "" = none.
    embeddings : array_like of float, shape (N, d), optional
        One row a sample, from any model. Rows that are zero or not finite are left out and noted.
    pred_probs : array_like of float, shape (N, K), optional
        Out-of-fold class probabilities; rows sum to 1. Columns in the order of `classes`.
    classes : sequence of str or int, optional
        Classes in the order of the columns of `pred_probs`. By default the labels that occur, sorted (integers by
        value), as scikit-learn's ``classes_``.
    k : int
        Neighbours that CSG and votes count.
    folds : int
        Folds of the classifier on embeddings.
    duplicate_threshold : float, optional
        Least cosine of near-duplicates, which count as one sample; 1 = only identical rows.
    seed : int
        Of folds and classifiers.
    backend : {"exact", "cuda", "approximate"}
        Of the neighbour graph.
    metric : {"cosine", "euclidean", "inner"}, optional
        Of neighbours; None = the better of cosine and euclidean on a sample of rows.
    device : str
        Where classifiers are trained: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    threads : int, optional
        By default all cores; never changes the result.
    progress : callable, optional
        ``progress(stage, done, total)``.
    cancel : callable, optional
        Asked often; when it returns True, `Cancelled` is raised.

    Returns
    -------
    LabelIssues

    Raises
    ------
    InputError
        Shapes do not fit, or neither embeddings nor probabilities are given.
    SourceError
        No sample has a label, or the probabilities are none.
    UsageError
        An option is out of range.
    Cancelled
    """
    options = ScoringOptions(
        k=k,
        duplicate_threshold=duplicate_threshold,
        folds=folds,
        seed=seed,
        backend=backend,
        metric=metric,
        threads=threads,
    )
    if embeddings is None and pred_probs is None:
        raise InputError(
            "label issues are found from embeddings or from pred_probs", "got neither", "pass one or both"
        )
    stored = np.asarray(labels)
    names = sources.to_bytes(stored, "labels", "the array")
    extra = [] if classes is None else [sources.encode(str(name)) for name in classes]
    class_ids = sources.order_classes(names, extra)
    notes = sources.check_labels(names, "the array")
    given = sources.number_labels(names, class_ids)
    probabilities = None
    if pred_probs is not None:
        columns = extra or class_ids
        values = sources.check_probabilities(
            np.asarray(pred_probs),
            columns,
            SourceOptions(),
            [b"%d" % i for i in range(len(names))],
            notes,
            "pred_probs",
            matched=True,
        )[0]
        probabilities = sources.align_probabilities(values, columns, names, class_ids)
        notes += sources.check_agreement(probabilities, given, class_ids)
    scored = pipeline.Scored()
    stages = pipeline.Stages(progress or (lambda stage, done, total: None), cancel or (lambda: False))
    if embeddings is not None:
        rows = np.asarray(embeddings)
        if rows.ndim != 2 or len(rows) != len(names):
            raise InputError(
                "embeddings must have one row for each label", f"got {rows.shape} for {len(names):,} labels"
            )
        if rows.dtype.kind not in "fiu":
            raise InputError("embeddings must be numbers", f"got dtype {rows.dtype}")
        with np.errstate(over="ignore"):
            features = rows.astype(np.float32)
        status, reasons = validate_rows(features)
        notes += (
            [f"{len(reasons):,} rows are left out: row {reasons[0][0]}, {reasons[0][1]}"] if reasons else []
        )
        ok = status == OK
        if ok.sum() < 2:
            raise InputError("embeddings need at least two usable rows", f"got {int(ok.sum())}")
        pipeline.score(
            given,
            len(class_ids),
            features.astype(np.float16) if rows.dtype == np.float16 else features,
            ok,
            rows,
            options,
            scored,
            pred_probs=probabilities,
            ready=True,
            device=device,
            stages=stages,
        )
    else:
        inputs = detect.DetectorInputs(
            labels=given,
            n_classes=len(class_ids),
            ok=np.ones(len(names), bool),
            pred_probs=probabilities,
            seed=seed,
            threads=threads,
        )
        with stages.stage("score") as report:
            pipeline.flag(inputs, scored, report, stages.cancelled)
    found = scored.arrays
    table = _class_values(class_ids, integers=stored.dtype.kind in "iu")
    return LabelIssues(
        is_label_issue=scored.flagged,
        label_score=found["scores/blend"],
        given_label=_named(table, given),
        predicted_label=_named(table, found["suggest/label"][:, 0]),
        classes=table,
        scores={
            name.removeprefix("scores/"): values
            for name, values in found.items()
            if name.startswith("scores/") and name != "scores/blend"
        },
        csg=scored.csg,
        notes=[*notes, *scored.notes],
    )


def to_frame(columns: dict[str, NDArray[Any]]) -> pd.DataFrame:
    """Return columns as a pandas DataFrame.

    Raises
    ------
    UsageError
        pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise UsageError(
            "to_frame needs pandas", "it is not installed", "pip install pandas, or use to_dict()"
        ) from None
    return pd.DataFrame(columns)


def _class_values(class_ids: Sequence[bytes], integers: bool) -> NDArray[Any]:
    if integers and all(sources.INTEGER.fullmatch(name) for name in class_ids):
        return np.array([int(name) for name in class_ids], dtype=np.int64)
    return np.array([os.fsdecode(name) for name in class_ids])


def _named(classes: NDArray[Any], labels: NDArray[np.int32]) -> NDArray[Any]:
    """Return the classes of label indices; -1 or "" where there is none."""
    none: Any = -1 if classes.dtype.kind == "i" else ""
    return np.append(classes, np.array([none], dtype=classes.dtype))[labels]
