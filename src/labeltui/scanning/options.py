"""Options of a scan."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from labeltui.embed import EmbedSpec
from labeltui.pipeline import ScoringOptions
from labeltui.sources import SourceOptions

SMALL_IMAGE = 16
"""Side in pixels up to which 8 x 8 colours say something of an image."""


@dataclass(frozen=True, kw_only=True)
class ScanOptions(ScoringOptions):
    """Everything that decides a scan besides the data; how it is scored is inherited.

    Attributes
    ----------
    source : SourceOptions
        How to read the data.
    embed : EmbedSpec
        The backbone; ignored where the source brings its own embeddings.
    splits : tuple of str, optional
        Splits that take part in graph, duplicate groups, CSG, folds and flags; None = all samples.
    classes, class_names : Path, optional
        Files with more classes, and with display names.
    resume : bool, optional
        None resumes an unfinished scan if there is one; True requires one; False discards it.
    shared : bool
        Let the group of the audit's directory read and write the audit; by default nobody but its owner can.
    command : str
        The command line, for scan.json.
    model_named : bool
        Whether the model was chosen explicitly. If not, a scan of images above `SMALL_IMAGE` pixels is marked as a
        smoke test.
    """

    source: SourceOptions = field(default_factory=SourceOptions)
    embed: EmbedSpec = field(default_factory=lambda: EmbedSpec("pixels"))
    splits: tuple[str, ...] | None = None
    classes: Path | None = None
    class_names: Path | None = None
    resume: bool | None = None
    shared: bool = False
    command: str = ""
    model_named: bool = True
