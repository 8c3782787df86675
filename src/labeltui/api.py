"""The Python API: what ``from labeltui import ...`` offers.

::

    find_label_issues(labels, embeddings)  --pipeline.score-->  LabelIssues (`labeltui.issues`)
    scan("data/", "my.audit", model=...)   --scanning.scan-->   Audit: look, relabel, train, export
    knn_graph(X)                           --graph.build-->     Graph
    CumulativeSpectralGradient().fit(X, y)                      scikit-learn estimator (`labeltui.estimator`)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labeltui import audit as audits
from labeltui import export as exporting
from labeltui import graph, scanning, sources
from labeltui.errors import InputError
from labeltui.issues import to_frame
from labeltui.options import keywords
from labeltui.parallel import Cancel, Progress, StageProgress
from labeltui.text import safe

if TYPE_CHECKING:
    import pandas as pd

    from labeltui.audit import Change, Step
    from labeltui.export import Exported

PathLike = str | os.PathLike[str]


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
        return to_frame(self.to_dict())

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
    source: PathLike | Sequence[PathLike],
    out: PathLike,
    *,
    progress: StageProgress | None = None,
    cancel: Cancel | None = None,
    **options: Any,
) -> Audit:
    """Turn a labelled data set into an audit and open it.

    Parameters
    ----------
    source : path-like or sequence of path-like
        A directory with one directory a class, a table with paths and labels, a ``.npy``/``.npz`` file, ``.zip`` or
        ``.tar`` archives, or Parquet files.
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
    given = [source] if isinstance(source, (str, os.PathLike)) else source
    scanning.scan(
        [Path(each) for each in given], Path(out), scanning.ScanOptions.of(**options), progress, cancel
    )
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
