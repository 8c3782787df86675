"""Several reviewers: one audit each, decisions brought together, samples dealt out.

::

    labeltui split my.audit --reviewers ada,bob --overlap .1     who reviews what; queues keep to it
    labeltui backup my.audit -o bob.audit                        a copy for each
    labeltui merge --into my.audit bob.audit                     union of the decisions, with authors and times
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from labeltui.audit import KINDS, Audit, Foreign, QueueSpec
from labeltui.audit.agreement import Agreement, agreements
from labeltui.audit.decisions import ALONE
from labeltui.backup import backup
from labeltui.errors import SourceError, UsageError
from labeltui.io.files import JSON_BYTES, read_regular
from labeltui.sources.base import faults, listed
from labeltui.text import safe, unescape

UNKNOWN_TIME = "1970-01-01T00:00:00.000Z"


@dataclass
class Merged:
    """What a merge did.

    Attributes
    ----------
    taken : int
        Samples that took over a decision or a note.
    known : int
        Decisions that were there already.
    conflicts : int
        Samples on which reviewers contradict each other, now.
    elsewhere : int
        Decisions on samples that are not in the audit, or are other images there.
    agreement : list of Agreement
    """

    taken: int = 0
    known: int = 0
    conflicts: int = 0
    elsewhere: int = 0
    agreement: list[Agreement] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return what ``labeltui merge --json`` prints."""
        return {
            "taken": self.taken,
            "known": self.known,
            "conflicts": self.conflicts,
            "elsewhere": self.elsewhere,
            "agreement": [agreement_json(each) for each in self.agreement],
        }


def agreement_json(each: Agreement) -> dict[str, Any]:
    """Return an agreement as JSON values."""

    def number(value: float) -> float | None:
        return None if np.isnan(value) else round(value, 4)

    return {
        "reviewers": [safe(name) for name in each.reviewers],
        "samples": each.samples,
        "observed": number(each.observed),
        "kappa": number(each.kappa),
        "interval": [number(each.low), number(each.high)],
    }


def merge(audits: Sequence[Path], out: Path | None = None, reviewer: str | None = None) -> Merged:
    """Bring the decisions of audits of the same data together.

    Parameters
    ----------
    audits : sequence of Path
        The first takes the decisions of the others, itself or, with `out`, a copy of it.
    out : Path, optional
        The new audit.
    reviewer : str, optional
        Who merges.

    Returns
    -------
    Merged

    Raises
    ------
    UsageError
        Fewer than two audits; or one has no sample in common with the first.
    AuditError
        One cannot be read, or the first cannot be written.
    """
    if len(audits) < 2:
        raise UsageError("a merge takes two audits or more", f"got {len(audits)}", "labeltui merge A B -o C")
    if len({os.path.realpath(path) for path in audits}) < len(audits):
        raise UsageError("the audits of a merge are different ones", "one is there twice")
    for path in audits[1:]:  # before anything is written
        with Audit.open(path, read_only=True):
            pass
    target = audits[0] if out is None else backup(audits[0], out).path
    done = Merged()
    with Audit.open(target, reviewer=reviewer) as audit:
        for path in audits[1:]:
            with Audit.open(path, read_only=True) as other:
                decisions, elsewhere = translated(audit, other)
            take(audit, decisions, done)
            done.elsewhere += elsewhere
        done.conflicts = len(audit.disagreements())
        done.agreement = agreements(audit.opinions())
    return done


def take(audit: Audit, decisions: list[Foreign], done: Merged) -> None:
    """Merge decisions into an audit and count them.

    Parameters
    ----------
    audit : Audit
    decisions : list of Foreign
    done : Merged
        Its counts are increased.
    """
    before = len(audit.opinions())
    step = audit.merge(decisions)
    done.taken += 0 if step is None else len(step.samples)
    done.known += sum(bool(each.kind) for each in decisions) - max(0, len(audit.opinions()) - before)


def translated(audit: Audit, other: Audit) -> tuple[list[Foreign], int]:
    """Return the decisions and notes of another audit in the numbers of this one, and how many fit nowhere.

    Samples are the same where their id and the SHA-256 of their content are.

    Parameters
    ----------
    audit, other : Audit

    Raises
    ------
    UsageError
        The audits have no sample in common, or the other one decided for a class that this one does not have.
    """
    place = np.arange(audit.n) if audit.uuid == other.uuid else _places(audit, other)
    classes = {name: index for index, name in enumerate(audit.class_ids)}
    final = {i: other.decision(i) for i in np.flatnonzero(other.kinds).tolist()}
    found: list[Foreign] = []
    elsewhere, unknown = 0, set[bytes]()
    for each in other.opinions():
        if place[each.sample] < 0:
            elsewhere += 1
            continue
        names = [other.class_ids[label] if label >= 0 else None for label in (each.label, each.second)]
        unknown.update(name for name in names if name is not None and name not in classes)
        label, second = (-1 if name is None else classes.get(name, -1) for name in names)
        sample, kind = int(place[each.sample]), each.kind
        if kind in ("keep", "relabel"):  # the other one may have been given another label
            kind = "keep" if label == audit.given[sample] else "relabel"
        else:
            label = int(audit.given[sample])
        own = final.get(each.sample)
        now = own is not None and (own.reviewer, own.time) == (each.reviewer, each.time)
        found.append(
            Foreign(
                sample=sample,
                kind=KINDS.index(kind),
                label=label,
                second=second,
                note=other.note_of(each.sample) if now else each.note,
                reviewer=each.reviewer,
                time=each.time,
                how=other.how(each.sample) if now else ALONE,
                final=now,
            )
        )
    for i in np.flatnonzero(other.touched & (other.kinds == 0)).tolist():  # notes alone
        if place[i] >= 0 and other.note_of(i):
            note = other.note_of(i)
            label = int(audit.given[place[i]])
            found.append(Foreign(int(place[i]), 0, label, -1, note, "", UNKNOWN_TIME, 0, True))
    if unknown:
        raise UsageError(
            "the classes of merged decisions are classes of the audit",
            f"{safe(str(audit.path))} lacks {listed(sorted(unknown), 5)}",
            "scan it with --classes FILE that names them",
        )
    return found, elsewhere


def _places(audit: Audit, other: Audit) -> NDArray[np.int64]:
    """Where the samples of another audit are in this one, -1 = nowhere."""
    place = audit.find(other.sample_ids(np.arange(other.n)))
    same = np.flatnonzero(place >= 0)
    equal = (audit.hashes[place[same]] == other.hashes[same]).all(1)
    place[same[~equal]] = -1
    if not equal.any():
        raise UsageError(
            "merged audits are of the same data",
            f"{safe(str(other.path))} has no sample in common with {safe(str(audit.path))}",
            "samples are the same where path and content are",
        )
    return place


def split(
    audit: Audit, reviewers: Sequence[str], overlap: float = 0.0, seed: int = 0, everything: bool = False
) -> dict[str, int]:
    """Deal out the undecided flags among reviewers: by turns in the order of the queue, some of them to all.

    Parameters
    ----------
    audit : Audit
    reviewers : sequence of str
        At least two names.
    overlap : float
        Fraction of the samples that everybody gets, for measuring agreement; they are spread over the queue.
    seed : int
        Of which samples are shared.
    everything : bool
        Deal out all undecided samples, not only flags.

    Returns
    -------
    dict of str to int
        Number of samples by reviewer.

    Raises
    ------
    UsageError
        Fewer than two reviewers, a name twice, an overlap that is no fraction, or nothing to deal out.
    """
    if len(set(reviewers)) < max(2, len(reviewers)) or not all(reviewers):
        raise UsageError(
            "a split names two reviewers or more, each once", f"got {listed(reviewers) or 'none'}", "ada,bob"
        )
    if not 0 <= overlap <= 1:
        raise UsageError("the overlap is a fraction", f"got {overlap}", "try 0.1")
    queue = audit.queue(QueueSpec(flagged=None if everything else True, assigned=False))
    if not len(queue):
        raise UsageError("a split deals out samples that are not decided", "every one is")
    shared = np.zeros(len(queue), bool)
    # One of each piece of the queue, so that easy and hard ones are shared alike.
    pieces = np.array_split(np.arange(len(queue)), round(overlap * len(queue))) if overlap else []
    rng = np.random.default_rng(seed)
    shared[[rng.choice(piece) for piece in pieces if len(piece)]] = True
    alone = queue[~shared]
    dealt = {
        name: np.concatenate([queue[shared], alone[turn :: len(reviewers)]])
        for turn, name in enumerate(reviewers)
    }
    dealt = {name: samples for name, samples in dealt.items() if len(samples)}
    audit.assign(dealt)
    return {name: len(samples) for name, samples in dealt.items()}


# --- Label Studio ----------------------------------------------------------------------------------------------------


def read_annotations(audit: Audit, file: Path, reviewers: Mapping[str, str] | None = None) -> list[Foreign]:
    """Read the annotations of a Label Studio export (JSON) as decisions of those who completed them.

    A task is matched to a sample by ``data.path`` (as ``labeltui export --format label-studio`` writes it), else by the
    path at the end of ``data.image``. Of several annotations by one person the latest counts; cancelled (skipped) ones
    are skips.

    Parameters
    ----------
    audit : Audit
    file : Path
    reviewers : mapping of str to str, optional
        Names of annotators by their id or address; others are called by it.

    Returns
    -------
    list of Foreign
        The latest of each sample is final.

    Raises
    ------
    SourceError
        The file is no export of such tasks, or names samples or classes that the audit does not have.
    """
    try:
        tasks = json.loads(read_regular(file, JSON_BYTES).decode("utf-8"))
        if not isinstance(tasks, list):
            raise ValueError("it is no list of tasks")
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(
            "annotations are Label Studio's JSON export", f"{safe(str(file))}: {safe(str(error))}"
        ) from None
    classes = {name: index for index, name in enumerate(audit.class_ids)}
    found: list[Foreign] = []
    wrong: list[str] = []
    for number, task in enumerate(tasks):
        try:
            i = _sample_of(audit, task["data"])
            given = int(audit.given[i])
            mine = [
                _annotation(each, i, given, classes, reviewers or {}) for each in task.get("annotations", ())
            ]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            wrong.append(f"task {number + 1}: {safe(str(error), 120)}")
            continue
        latest: dict[str, Foreign] = {}
        for each in sorted(mine, key=lambda each: each.time):
            latest.pop(each.reviewer, None)
            latest[each.reviewer] = each
        ordered = list(latest.values())
        found += [each._replace(final=each is ordered[-1]) for each in ordered]
    if wrong:
        raise faults(
            "each task is about a sample of the audit, and each annotation chooses one of its classes",
            wrong,
            "scan with --classes FILE where classes were added; remove other tasks",
        )
    return found


def _sample_of(audit: Audit, data: dict[str, Any]) -> int:
    if "path" in data:
        return audit.index_of(str(data["path"]))
    url = str(data["image"])
    parts = urlsplit(url)
    path = unquote(parse_qs(parts.query)["d"][0] if "d=" in parts.query else parts.path).lstrip("/")
    while True:  # Label Studio's document root may lie above the data
        try:
            return audit.index_of(path)
        except ValueError:
            _, slash, path = path.partition("/")
            if not slash:
                raise ValueError(f"no sample is called {url}") from None


def _annotation(
    value: dict[str, Any], i: int, given: int, classes: Mapping[bytes, int], names: Mapping[str, str]
) -> Foreign:
    author = value.get("completed_by", "")
    if isinstance(author, dict):
        author = author.get("email") or author.get("id") or ""
    reviewer = names.get(str(author)) or str(author) or "label-studio"
    time = str(value.get("updated_at") or value.get("created_at") or UNKNOWN_TIME)
    note = None
    chosen: list[str] = []
    for result in value.get("result") or ():
        if result.get("type") == "choices":
            chosen += result["value"]["choices"]
        elif result.get("type") == "textarea":
            note = "\n".join(map(str, result["value"]["text"]))
    if value.get("was_cancelled") or not chosen:
        return Foreign(i, KINDS.index("skip"), given, -1, note, reviewer, time, 1, True)
    labels = []
    for name in chosen:
        label = next((classes[n] for n in (name.encode(), unescape(name)) if n in classes), None)
        if label is None:
            raise ValueError(f"there is no class {name}")
        labels.append(label)
    if len(labels) > 1:
        second = next((label for label in labels if label != given), -1)
        return Foreign(i, KINDS.index("ambiguous"), given, second, note, reviewer, time, 1, True)
    kind = "keep" if labels[0] == given else "relabel"
    return Foreign(i, KINDS.index(kind), labels[0], -1, note, reviewer, time, 1, True)
