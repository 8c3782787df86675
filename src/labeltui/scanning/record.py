"""scan.json: when, where and how a scan ran, and which samples it could not use."""

from __future__ import annotations

import importlib.metadata
import platform
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import labeltui
from labeltui import paths, store
from labeltui.text import safe

LISTED = 10_000  # faults with their reasons; audit.h5 has the status of every sample


@dataclass(frozen=True)
class Fault:
    """A sample that could not be used.

    Attributes
    ----------
    index : int
    id : str
        Printable.
    status : str
        One of `labeltui.paths.STATUS_NAMES`.
    reason : str
        Printable.
    """

    index: int
    id: str
    status: str
    reason: str


@dataclass(frozen=True)
class ScanSummary:
    """What a finished scan has to say, for printing.

    Attributes
    ----------
    samples, classes, unlabelled : int
    not_ok : dict
        Status -> number of samples, without "ok".
    faults : list of Fault
        The first 10,000 of them, in source order.
    flags : int
        Samples whose given label is not the suggested one.
    csg : float or None
        None above 5,000 classes.
    notes : list of str
        What was assumed.
    seconds : float
        Of the run that finished.
    stages : dict
        Stage -> seconds.
    """

    samples: int
    classes: int
    unlabelled: int
    not_ok: dict[str, int]
    faults: list[Fault]
    flags: int
    csg: float | None
    notes: list[str]
    seconds: float
    stages: dict[str, float]


def summary(audit: Path) -> ScanSummary:
    """Read what the scan of an audit had to say.

    Raises
    ------
    NotAnAudit, DamagedAudit
    """
    with store.Store.open(audit) as opened:
        recorded = dict(opened.scan.get("summary") or {})
    if not recorded:
        from labeltui.errors import DamagedAudit

        raise DamagedAudit("scan.json must hold the scan's summary", "it is lost", "scan again to have it")
    recorded["faults"] = [Fault(**fault) for fault in recorded["faults"]]
    return ScanSummary(**recorded)


def update_counts(audit: Path) -> dict[str, Any] | None:
    """Read what the scan of an audit added, changed and carried, if it updated an earlier one.

    Returns
    -------
    dict or None
        As `labeltui.scanning.update.Changes.as_json` returns it, with the earlier audit's ``path`` and ``uuid``.
    """
    with store.Store.open(audit) as opened:
        recorded: dict[str, Any] | None = opened.scan.get("update")
    return recorded


def count_not_ok(status: npt.NDArray[np.uint8]) -> dict[str, int]:
    """Return how many samples have each status but ok."""
    counts = np.bincount(status, minlength=len(paths.STATUS_NAMES)).tolist()
    return {name: counts[value] for value, name in enumerate(paths.STATUS_NAMES) if value != paths.OK}


def list_faults(
    ids: list[bytes], status: npt.NDArray[np.uint8], reasons: dict[int, str], limit: int = LISTED
) -> list[Fault]:
    """Return the samples that are not ok, with their reasons.

    Parameters
    ----------
    ids : list of bytes
    status : ndarray of uint8, shape (N,)
        See `labeltui.store.STATUS_NAMES`.
    reasons : dict of int to str
        By sample index.
    limit : int

    Returns
    -------
    list of Fault
    """
    return [
        Fault(index, safe(ids[index]), paths.STATUS_NAMES[status[index]], safe(reasons.get(index, "")))
        for index in np.flatnonzero(status != paths.OK)[:limit].tolist()
    ]


def remarks(ids: list[bytes], status: npt.NDArray[np.uint8], reasons: dict[int, str]) -> list[str]:
    """Return one note for each remark on samples that are ok, with their number and an example.

    Parameters
    ----------
    ids : list of bytes
    status : ndarray of uint8, shape (N,)
    reasons : dict of int to str
        By sample index.

    Returns
    -------
    list of str
    """
    of: dict[str, list[int]] = {}
    for index, text in reasons.items():
        if status[index] == paths.OK:
            of.setdefault(text, []).append(index)
    return [
        f"{len(found):,} x {safe(text)}, such as {safe(ids[found[0]])}" for text, found in sorted(of.items())
    ]


def commonest(faults: list[Fault], limit: int = 3) -> str:
    """Return the most frequent reasons, for an error.

    Parameters
    ----------
    faults : list of Fault
    limit : int
        Number of reasons.

    Returns
    -------
    str
    """
    counts = Counter(fault.reason or fault.status for fault in faults)
    return "; ".join(f"{count:,} x {reason}" for reason, count in counts.most_common(limit))


def record(summary: ScanSummary, **more: object) -> dict[str, Any]:
    """Return the content of scan.json."""
    versions = {"labeltui": labeltui.__version__, "python": platform.python_version()}
    for name in ("numpy", "h5py", "pillow", "scikit-learn", "torch", "timm"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "version": labeltui.__version__,
        "format": store.FORMAT,
        "host": platform.node(),
        **more,
        "versions": versions,
        "summary": asdict(summary),
    }
