"""Options of a scan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labeltui.embed import EmbedSpec
from labeltui.options import build, option, part, split_names
from labeltui.pipeline import ScoringOptions
from labeltui.sources import SourceOptions

ENGINES = ("local", "ray")
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
    resume : bool, optional
        None resumes an unfinished scan if there is one; True requires one; False discards it.
    engine : {"local", "ray"}
        Never changes the result; neither do `address` and `worker_cores`.
    command : str
        The command line, for scan.json.
    model_named : bool
        Whether the model was chosen explicitly. If not, a scan of images above `SMALL_IMAGE` pixels is marked as a
        smoke test.
    """

    source: SourceOptions = part(SourceOptions)
    embed: EmbedSpec = part(EmbedSpec)
    splits: tuple[str, ...] | None = option(
        None, "Only these splits are scored, with commas.", "Source", shown="all", parse=split_names
    )
    classes: Path | None = option(None, "File with more classes, one a line.", "Source")
    class_names: Path | None = option(None, "File with display names: id,name a line.", "Source")
    issues: Path | None = option(
        None, "Label issues of cleanlab's Datalab: its table, or the directory that it saved.", "Source"
    )
    resume: bool | None = option(
        None,
        "Demand, or discard, an unfinished scan.",
        flag="--resume/--restart",
        shown="resume if there is one",
    )
    rescore: bool = option(
        False, "With --update: train classifier and detectors on all samples, however few changed."
    )
    engine: str = option("local", "Where images are embedded and the graph is searched.", choices=ENGINES)
    address: str | None = option(
        None, "Ray cluster, or auto, for --engine ray.", shown="one on this machine", metavar="ADDRESS"
    )
    worker_cores: int | None = option(
        None, "Cores of one worker of --engine ray.", shown="all of a machine", least=1
    )
    shared: bool = option(False, "Let the group of the directory review it; otherwise only you can read it.")
    command: str = ""
    model_named: bool = True

    @classmethod
    def of(cls, **options: Any) -> ScanOptions:
        """Make the options of a scan from keywords: those of ``labeltui scan``, and what the dataclasses have beside.

        Raises
        ------
        UsageError
            An option is unknown or out of range.
        """
        if options.get("model") is None:  # as if it were not given
            options = {"model_named": False, **{name: options[name] for name in options if name != "model"}}
        return build(cls, options)
