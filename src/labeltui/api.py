"""The Python API: what ``from labeltui import ...`` offers.

::

    find_label_issues(labels, embeddings)  --pipeline.score-->  LabelIssues
    scan("data/", "my.audit", model=...)   --scanning.scan-->   Audit: look, relabel, train, export
    knn_graph(X)                           --graph.build-->     Graph
    CumulativeSpectralGradient().fit(X, y)                      scikit-learn estimator (`labeltui.estimator`)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labeltui import audit as audits
from labeltui import detect, graph, pipeline, scanning, sources
from labeltui import export as exporting
from labeltui.embed import EmbedSpec
from labeltui.embed.stream import validate_rows
from labeltui.errors import InputError, UsageError
from labeltui.options import keywords
from labeltui.parallel import Cancel, Progress, StageProgress
from labeltui.paths import OK
from labeltui.pipeline import ScoringOptions
from labeltui.sources import SourceOptions
from labeltui.text import safe

if TYPE_CHECKING:
    import pandas as pd

    from labeltui.audit import Change, Step
    from labeltui.export import Exported

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class LabelIssues:
    """What `find_label_issues` found; one entry a sample, in the order of the labels.

    Attributes
    ----------
    is_label_issue : ndarray of bool, shape (N,)
        Whether the given label is not the most probable one.
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
        return _frame(self.to_dict())


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


class Audit(audits.Audit):
    """An open audit, as `scan` and `open_audit` return it; a context manager.

    Samples are named by index or by id (a path as in exports), classes by name. Beside what is listed here it has all
    of `labeltui.audit.Audit`.
    """

    def relabel(self, samples: int | str | Sequence[int | str], label: str | int) -> Step:
        """Give samples another label, as one decision that `undo` takes back.

        Parameters
        ----------
        samples : int, str or sequence of them
            Index or id.
        label : str or int
            Name of the class.

        Raises
        ------
        InputError
            There is no such sample or class.
        """
        return self.decide(self._indices(samples), "relabel", self._class(label))

    def keep(self, samples: int | str | Sequence[int | str]) -> Step:
        """Decide that the given labels of samples are correct."""
        return self.decide(self._indices(samples), "keep")

    def exclude(self, samples: int | str | Sequence[int | str]) -> Step:
        """Decide that samples belong to no class."""
        return self.decide(self._indices(samples), "exclude")

    def to_dict(self) -> dict[str, NDArray[Any]]:
        """Return one array a column, one entry a sample in the order of the source.

        Returns
        -------
        dict
            ``path, given_label, corrected_label`` (str), ``decision`` (str, "" = none), ``exclude`` (bool),
            ``is_label_issue`` (bool), ``label_score`` (float32, probability that the given label is correct),
            ``predicted_label`` (str).
        """
        classes = np.array([*(os.fsdecode(name) for name in self.class_ids), ""])
        kinds = np.array(["", *audits.KINDS[1:]])
        return {
            "path": np.array([os.fsdecode(name) for name in self.sample_ids(np.arange(self.n))]),
            "given_label": classes[self.given],
            "corrected_label": classes[self.current],
            "decision": kinds[self.kinds],
            "exclude": self.excluded.copy(),
            "is_label_issue": np.array(self.flags),
            "label_score": np.array(self.scores, dtype=np.float32),
            "predicted_label": classes[self.suggested[:, 0]],
        }

    def to_frame(self) -> pd.DataFrame:
        """Return `to_dict` as a pandas DataFrame.

        Raises
        ------
        UsageError
            pandas is not installed.
        """
        return _frame(self.to_dict())

    def train(
        self, *, model: str | None = None, progress: StageProgress | None = None, **options: Any
    ) -> Change | None:
        """Train on the current labels, wait for the end, and take in the new scores.

        Parameters
        ----------
        model : str, optional
            A timm backbone to fine-tune; by default the classifier on the stored embedding.
        progress : callable, optional
            ``progress(stage, done, total)``.
        **options
            Options of ``labeltui train`` by their names with underscores, such as ``folds=5``, ``epochs=10``,
            ``seed=0``, ``labels="current"``.

        Returns
        -------
        Change or None
            What the new scores changed; None where the run made none (``folds=0``).

        Raises
        ------
        UsageError
            An option is unknown or out of range.
        JobError
            The run failed.
        """
        from labeltui.train import jobs
        from labeltui.train.plan import Request

        self.flush()
        job = jobs.JobManager(self).start(Request.of(model=model, **options))
        job = jobs.wait(job, progress)
        return self.refresh()

    def export(self, path: PathLike, **options: Any) -> Exported:
        """Write the corrected labels as CSV.

        Parameters
        ----------
        path : path-like
        **options
            See `labeltui.export.export`: ``only_changed``, ``apply_suggestions``, ``target_precision``,
            ``raw_paths``, ``force``.

        Raises
        ------
        UsageError
            The file exists or cannot be written.
        """
        return exporting.export(self, Path(path), **options)

    def _indices(self, samples: int | str | Sequence[int | str]) -> list[int]:
        each = [samples] if isinstance(samples, (int, np.integer, str)) else list(samples)
        found = []
        for sample in each:
            index = -1
            with suppress(ValueError):
                index = self.index_of(sample) if isinstance(sample, str) else int(sample)
            if not 0 <= index < self.n:
                raise InputError(
                    f"a sample is an index 0..{self.n - 1} or an id of the audit", f"got {safe(str(sample))}"
                )
            found.append(index)
        return found

    def _class(self, label: str | int) -> int:
        name = sources.encode(str(label))
        if name not in self.class_ids:
            shown = ", ".join(safe(other) for other in self.class_ids[:10])
            raise InputError(
                "a label must be a class of the audit", f"got {safe(str(label))}", f"it has {shown}"
            )
        return self.class_ids.index(name)


def open_audit(
    path: PathLike,
    *,
    reviewer: str | None = None,
    read_only: bool = False,
    source_root: PathLike | None = None,
) -> Audit:
    """Open a finished audit.

    Parameters
    ----------
    path : path-like
        The audit's directory.
    reviewer : str, optional
        Signs the decisions; by default the login name.
    read_only : bool
        Open for reading; works during someone's review.
    source_root : path-like, optional
        Where the data lies now, if it was moved since the scan.

    Raises
    ------
    NotAnAudit, NewerFormat, DamagedAudit
        There is no readable audit.
    AuditBusy
        Another process reviews it.
    """
    opened = Audit.open(
        Path(path),
        reviewer=reviewer,
        read_only=read_only,
        source_root=None if source_root is None else Path(source_root),
    )
    assert isinstance(opened, Audit)
    return opened


@keywords(scanning.ScanOptions)
def scan(
    source: PathLike,
    out: PathLike,
    *,
    progress: StageProgress | None = None,
    cancel: Cancel | None = None,
    **options: Any,
) -> Audit:
    """Turn a labelled data set into an audit and open it.

    Parameters
    ----------
    source : path-like
        A directory with one directory a class, a table with paths and labels, or a ``.npy``/``.npz`` file.
    out : path-like
        The audit's directory: new, empty, or holding an unfinished scan, which is resumed.
    progress : callable, optional
        ``progress(stage, done, total)``.
    cancel : callable, optional
        Asked often; when it returns True, `Cancelled` is raised; finished parts are kept.
    **options
        Options of ``labeltui scan`` by their names with underscores; files as path-like, several names as a sequence.

    Returns
    -------
    Audit

    Raises
    ------
    AuditExists
        An audit stands there already.
    SourceError, ModelError, UsageError, AuditError
        The data, the backbone, an option or the place of the audit cannot be used.
    Cancelled
    """
    scanning.scan(Path(source), Path(out), scanning.ScanOptions.of(**options), progress, cancel)
    return open_audit(out)


def knn_graph(
    X: ArrayLike,
    k: int = 50,
    *,
    metric: str = "cosine",
    backend: str = "exact",
    threads: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> graph.Graph:
    """Find the k nearest neighbours of every row, exactly unless asked otherwise.

    Parameters
    ----------
    X : array_like of float, shape (N, d)
        float32 and float16 arrays are not copied.
    k : int
        min(k, N - 1) neighbours are returned.
    metric : {"cosine", "inner_product", "euclidean"}
    backend : {"exact", "cuda", "approximate"}
    threads : int, optional
        Never changes the result.
    seed : int
        Of the approximate backend.
    progress : callable, optional
        Called with the fraction done.
    cancel : callable, optional

    Returns
    -------
    Graph
        ``indices`` (N, k) int32 and ``similarity`` (N, k) float32, most similar first, ties by index, a row never its
        own neighbour.

    Raises
    ------
    InputError, UsageError, Cancelled
        See `labeltui.graph.build`.
    """
    return graph.build(np.asarray(X), k, metric, backend, threads, progress, cancel, seed=seed)


def _class_values(class_ids: Sequence[bytes], integers: bool) -> NDArray[Any]:
    if integers and all(sources.INTEGER.fullmatch(name) for name in class_ids):
        return np.array([int(name) for name in class_ids], dtype=np.int64)
    return np.array([os.fsdecode(name) for name in class_ids])


def _named(classes: NDArray[Any], labels: NDArray[np.int32]) -> NDArray[Any]:
    """Return the classes of label indices; -1 or "" where there is none."""
    none: Any = -1 if classes.dtype.kind == "i" else ""
    return np.append(classes, np.array([none], dtype=classes.dtype))[labels]


def _frame(columns: dict[str, NDArray[Any]]) -> pd.DataFrame:
    try:
        import pandas as pd
    except ImportError:
        raise UsageError(
            "to_frame needs pandas", "it is not installed", "pip install pandas, or use to_dict()"
        ) from None
    return pd.DataFrame(columns)
