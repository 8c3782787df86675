"""What a scan may be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from labeltui.embed import EmbedSpec
from labeltui.errors import UsageError
from labeltui.graph.build import BACKENDS
from labeltui.head import HeadSpec
from labeltui.scanning.metric import METRICS
from labeltui.sources import SourceOptions

STORED_NEIGHBOURS = 50


SMALL_IMAGE = 16
"""Side in pixels up to which 8 x 8 colours say something of an image."""


@dataclass(frozen=True)
class ScanOptions:
    """Everything that decides a scan besides the data.

    Attributes
    ----------
    source : SourceOptions
        How to read the data.
    embed : EmbedSpec
        The backbone; ignored where the source brings its own embeddings.
    k : int
        Neighbours that CSG, votes and evidence count; more are stored.
    splits : tuple of str, optional
        Splits that take part in graph, duplicate groups, CSG, folds and flags; None = all samples.
    classes, class_names : Path, optional
        Files with more classes, and with display names.
    duplicate_threshold : float, optional
        Least cosine of near-duplicates, which count as one sample in folds and votes; None = the defaults of
        `labeltui.duplicates.near_duplicates`, 1 = only identical samples are duplicates.
    folds : int
        Folds of the out-of-fold head.
    head : HeadSpec
        What is trained on the embeddings.
    seed : int
        Of folds, head and intervals.
    backend : str
        Of the neighbour graph, see `labeltui.graph.build`.
    metric : str, optional
        By which neighbours are found, a key of `labeltui.scanning.metric.METRICS`; None is the cosine for the features
        of a backbone, and tried out for ready embeddings.
    threads : int, optional
        See `labeltui.parallel.count_threads`; never changes the result.
    resume : bool, optional
        None goes on with an unfinished scan where there is one; True demands one; False discards it.
    shared : bool
        Let the group of the audit's directory read and write the audit; by default nobody but its owner can.
    command : str
        The command line, for scan.json.
    model_named : bool
        Whether somebody chose the model. Where nobody did, a scan of images above `SMALL_IMAGE` pixels is marked as a
        smoke test.
    """

    source: SourceOptions = field(default_factory=SourceOptions)
    embed: EmbedSpec = field(default_factory=lambda: EmbedSpec("pixels"))
    k: int = 10
    splits: tuple[str, ...] | None = None
    classes: Path | None = None
    class_names: Path | None = None
    duplicate_threshold: float | None = None
    folds: int = 5
    head: HeadSpec = field(default_factory=HeadSpec)
    seed: int = 0
    backend: str = "exact"
    metric: str | None = None
    threads: int | None = None
    resume: bool | None = None
    shared: bool = False
    command: str = ""
    model_named: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.k <= STORED_NEIGHBOURS:
            raise UsageError(f"k must be 1..{STORED_NEIGHBOURS}", f"got {self.k}", "10 serves most data")
        if self.duplicate_threshold is not None and not 0 < self.duplicate_threshold <= 1:
            raise UsageError(
                "the duplicate threshold must be above 0, at most 1", f"got {self.duplicate_threshold}"
            )
        if not 2 <= self.folds <= 100:
            raise UsageError("the number of folds must be 2..100", f"got {self.folds}", "5 serves most data")
        if self.seed < 0:
            raise UsageError("the seed must not be negative", f"got {self.seed}")
        if self.metric is not None and self.metric not in METRICS:
            raise UsageError(f"the metric must be one of {', '.join(METRICS)}", f"got {self.metric!r}")
        if self.backend not in BACKENDS:
            raise UsageError(f"the backend must be one of {', '.join(BACKENDS)}", f"got {self.backend!r}")
