r"""The labels to write, and the columns that say how each came about.

====================  ========================================================================================
path                  the sample's path below the source's root, or its own key
status                ok; unreadable, non_finite or zero: the scan could not use it; not_scored: nothing is known of
                      its label, which lies in a split that was left out or is the only one of its class; where images
                      were verified, changed, missing or unreadable: no longer the image of the scan
given_label           class id, empty = none
corrected_label       class id now: another one after a relabel (or an automatic correction), else the given one
decision              keep, relabel, exclude, ambiguous, unsure, skip, auto, or empty
exclude               True for samples reviewed as belonging to no class
second_label          class id: the other possible label of an ambiguous sample
note                  free text
is_label_issue        True where the sample is flagged: its given label is probably wrong; empty = nothing is known
label_score           P(given label right), low = bad; empty = nothing is known
predicted_label       class id: the given label, the most probable other one where flagged; empty = nothing is known
reviewer, decided_at  who decided, and when (ISO 8601, UTC); ``auto`` for automatic corrections
====================  ========================================================================================

Names of files are bytes and need not be UTF-8. In `path` and in the label columns a name that is valid UTF-8
stands as it is; of any other the undecodable bytes are written ``\xHH``, and its own ``\x`` as ``\x5cx``
(`labeltui.text.escape`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeltui.audit import Audit
from labeltui.errors import UsageError
from labeltui.paths import OK, STATUS_NAMES
from labeltui.text import escape

COLUMNS = (
    "path",
    "status",
    "given_label",
    "corrected_label",
    "decision",
    "exclude",
    "second_label",
    "note",
    "is_label_issue",
    "label_score",
    "predicted_label",
    "reviewer",
    "decided_at",
)
AUTO = "auto"

BLOCK = 65_536
"""Samples whose columns are made at once."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes
    ----------
    rows : int
        Samples.
    corrected : int
        Rows whose corrected label differs from the given one.
    excluded : int
        Rows that are excluded.
    auto : int
        Automatic corrections among `corrected`.
    auto_wrong : float
        How many of these are expected to be wrong, by the suggestions' own probabilities.
    lost : int
        Rows whose image is no longer the one of the scan; 0 where no image was read.
    auto_from : float or None
        The probability from which on suggestions were applied; above 1 where no suggestion was sure enough.
    """

    rows: int
    corrected: int
    excluded: int
    auto: int
    auto_wrong: float
    auto_from: float | None
    lost: int = 0


@dataclass(frozen=True)
class Corrections:
    """The labels of an audit now, and which samples are to be written.

    Attributes
    ----------
    audit : Audit
    samples : (m,) int64
        The samples to write, ascending.
    labels : (N,) int32
        Corrected labels, -1 = none.
    auto : (N,) bool
        Samples that were corrected automatically.
    auto_from : float or None
        See `Exported`.
    raw_paths : bool
        Write undecodable bytes as they are.
    verify : bool
        Read every image, and mark in `status` those that are no longer the scan's.
    copy_images : bool
        Copy image files instead of linking to them.
    """

    audit: Audit
    samples: NDArray[np.int64]
    labels: NDArray[np.int32]
    auto: NDArray[np.bool_]
    auto_from: float | None = None
    raw_paths: bool = False
    verify: bool = False
    copy_images: bool = False
    class_names: list[str] = field(init=False)
    """Class ids as text."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_names", [text(name) for name in self.audit.class_ids])

    @property
    def training_labels(self) -> NDArray[np.int32]:
        """(N,) int32, the corrected labels; -1 for samples that are excluded or have none."""
        found: NDArray[np.int32] = np.where(self.audit.excluded, -1, self.labels).astype(np.int32)
        return found

    @property
    def labelled(self) -> NDArray[np.int64]:
        """Those of the samples that have a corrected label and are not excluded."""
        return self.samples[self.training_labels[self.samples] >= 0]

    def class_name(self, label: int) -> str | None:
        """The id of a class as text, None for -1."""
        return self.class_names[label] if label >= 0 else None

    def blocks(self) -> Iterator[NDArray[np.int64]]:
        """Yield the samples in pieces."""
        for start in range(0, len(self.samples), BLOCK):
            yield self.samples[start : start + BLOCK]

    def statuses(self, block: NDArray[np.int64], lost: Mapping[int, str] | None = None) -> list[str]:
        """Return the column status of a block of samples.

        Parameters
        ----------
        block : (m,) int64
        lost : mapping of int to str, optional
            As `AuditImages.lost` returns it.
        """
        audit, names = self.audit, (*STATUS_NAMES, "not_scored")
        found = audit.statuses[block].astype(np.int64)
        silent = (found == OK) & ~audit.scorable[block] & (audit.given[block] >= 0)
        codes = np.where(silent, len(names) - 1, found).tolist()
        if not lost:
            return [names[code] for code in codes]
        return [lost.get(i) or names[code] for i, code in zip(block.tolist(), codes, strict=True)]

    def known(self, block: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Say of a block of samples whether its given labels have a score, and what is predicted.

        Returns
        -------
        scored : (m,) bool
        predicted : (m,) int64
            Class index, -1 where nothing is known.
        """
        audit = self.audit
        scored: NDArray[np.bool_] = audit.scorable[block]
        # Of a sample without a label only the probabilities of classes are known, if it was used at all.
        known = scored | ((audit.given[block] < 0) & (audit.chances[block, 0] > 0))
        return scored, np.where(known, audit.suggested[block, 0], -1).astype(np.int64)

    def lost(self, block: NDArray[np.int64]) -> Mapping[int, str]:
        """Read the images of a block of samples, if that is asked for, and return those that are no longer the scan's.

        Parameters
        ----------
        block : (m,) int64

        Returns
        -------
        mapping of int to str
            See `AuditImages.lost`.
        """
        return self.audit.images.lost(block) if self.verify else {}

    def columns(
        self, block: NDArray[np.int64], lost: Mapping[int, str] | None = None
    ) -> dict[str, list[Any]]:
        """Return the columns of a block of samples as text, bool, float or None.

        Parameters
        ----------
        block : (m,) int64
        lost : mapping of int to str, optional
            What `lost` returned, if it was asked before.

        Returns
        -------
        dict of str to list
            By the names of `COLUMNS`.
        """
        audit, name = self.audit, self.class_name
        scored, predicted = self.known(block)
        auto = self.auto[block].tolist()
        rows: dict[str, list[Any]] = {
            "path": [text(each) for each in audit.sample_ids(block)],
            "status": self.statuses(block, self.lost(block) if lost is None else lost),
            "given_label": [name(label) for label in audit.given[block].tolist()],
            "corrected_label": [name(label) for label in self.labels[block].tolist()],
            "decision": [AUTO if each else None for each in auto],
            "exclude": audit.excluded[block].tolist(),
            "second_label": [None] * len(block),
            "note": [None] * len(block),
            "is_label_issue": [
                flag if seen else None
                for flag, seen in zip(audit.flags[block].tolist(), scored.tolist(), strict=True)
            ],
            "label_score": [
                float(score) if seen else None
                for score, seen in zip(audit.scores[block].tolist(), scored.tolist(), strict=True)
            ],
            "predicted_label": [name(label) for label in predicted.tolist()],
            "reviewer": [AUTO if each else None for each in auto],
            "decided_at": [None] * len(block),
        }
        for place in np.flatnonzero(audit.touched[block]).tolist():
            i = int(block[place])
            rows["note"][place] = plain(audit.note_of(i))
            decision = audit.decision(i)
            if decision is not None:
                rows["decision"][place] = decision.kind
                rows["second_label"][place] = name(decision.second)
                rows["reviewer"][place] = plain(decision.reviewer)
                rows["decided_at"][place] = decision.time
        return rows

    def exported(self, lost: int) -> Exported:
        """Return the summary of what was written.

        Parameters
        ----------
        lost : int
            Samples whose image is no longer the scan's.
        """
        chances = self.audit.chances[self.auto, 0]
        return Exported(
            rows=len(self.samples),
            corrected=int(np.count_nonzero(self.labels != self.audit.given)),
            excluded=int(np.count_nonzero(self.audit.excluded)),
            auto=int(np.count_nonzero(self.auto)),
            auto_wrong=float((1 - chances).sum()),
            auto_from=self.auto_from,
            lost=lost,
        )


def correct(
    audit: Audit,
    *,
    only_changed: bool = False,
    apply_suggestions: float | None = None,
    target_precision: float | None = None,
    raw_paths: bool = False,
    verify: bool = False,
    copy_images: bool = False,
) -> Corrections:
    """Return the labels that an export writes; the parameters are those of `labeltui.export.export`.

    Parameters
    ----------
    audit : Audit
    only_changed, apply_suggestions, target_precision, raw_paths, verify, copy_images
        See `labeltui.export.export`.

    Raises
    ------
    UsageError
        A probability is none.
    """
    check_probability(apply_suggestions, target_precision)
    labels, decision = audit.current.copy(), audit.kinds
    auto = np.zeros(audit.n, bool)
    if target_precision is not None:
        from labeltui.detect.calibrate import threshold_for

        apply_suggestions, _, _ = threshold_for(
            target_precision, audit.chances[audit.flags & (decision == 0), 0]
        )
    if apply_suggestions is not None:
        auto = audit.flags & (decision == 0) & (audit.chances[:, 0] >= apply_suggestions)
        labels[auto] = audit.suggested[auto, 0]
    different = labels != audit.given
    chosen = np.flatnonzero(different | audit.excluded) if only_changed else np.arange(audit.n)
    return Corrections(audit, chosen, labels, auto, apply_suggestions, raw_paths, verify, copy_images)


def check_probability(value: float | None, precision: float | None) -> None:
    """Require that at most one of a probability and a target precision is given, and that it is one.

    Parameters
    ----------
    value, precision : float or None

    Raises
    ------
    UsageError
    """
    if value is not None and precision is not None:
        raise UsageError(
            "automatic correction goes by a probability or by a target precision",
            "got both",
            "leave one out",
        )
    if precision is not None and not 0 < precision < 1:
        raise UsageError(
            "--target-precision must be a fraction above 0 and below 1", f"got {precision}", "try 0.9"
        )
    if value is not None and not 0 <= value <= 1:
        raise UsageError("--apply-suggestions takes a probability from 0 to 1", f"got {value}", "try 0.95")


def text(name: bytes) -> str:
    r"""Return a name as text, with undecodable bytes as ``\xHH``."""
    return escape(name).decode("utf-8")


def plain(value: str | None) -> str | None:
    """Return text that is valid in UTF-8: lone surrogates become escapes."""
    return None if value is None else value.encode("utf-8", "backslashreplace").decode("utf-8")
