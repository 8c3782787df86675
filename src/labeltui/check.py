"""Whether an audit is whole: every file read, every checksum compared, the decisions replayed.

Nothing is guessed: what is repaired is either restored byte for byte, or set aside in place. What cannot be
repaired is named, and stays as it is.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from labeltui import paths, store
from labeltui.audit.decisions import replay
from labeltui.errors import AuditBusy, AuditError, JobError, LabeltuiError, NotAnAudit
from labeltui.io import files
from labeltui.io.atomic import replacing, sha256, sync_directory
from labeltui.journal import GenerationRow, Journal
from labeltui.scanning.checkpoint import Checkpoint
from labeltui.text import safe
from labeltui.train.jobs import Job, list_jobs
from labeltui.train.predictions import Predictions
from labeltui.train.spec import TrainSpec, array_hash, label_hash

ABANDONED_SECONDS = (
    3600.0  # a directory that is filled under a hidden name for so long was left by a killed process
)
DAMAGED_SUFFIX = ".damaged"
# Arrays beside a run's spec, the field that holds their hash, and the type that is hashed.
RUN_ARRAYS = (
    ("labels", "label_sha256", "<i4"),
    ("roles", "roles_sha256", "u1"),
    ("weights", "weights_sha256", "<f4"),
    ("checked", "checked_sha256", "i1"),
    ("injected", "injected_sha256", "<i4"),
)

Repair = Callable[[Journal], str]
"""Repairs one fault while the audit is open for writing, and returns a description."""


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes
    ----------
    file : str
        Path inside the audit, for showing.
    kind : str
        ``damaged``: something is lost or wrong. ``leftover``: remains of a killed process, which harm nothing.
    fault : str
        What is wrong, in words.
    advice : str
        What can be done.
    """

    file: str
    kind: str
    fault: str
    advice: str
    repair: Repair | None = field(default=None, repr=False, compare=False)

    def as_json(self) -> dict[str, Any]:
        """For ``check --json``."""
        return {
            "file": self.file,
            "kind": self.kind,
            "fault": self.fault,
            "advice": self.advice,
            "repairable": self.repair is not None,
        }


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes
    ----------
    audit : Path
    findings : list of Finding
        What is wrong now.
    repaired : list of str
        What `check` mended, in words.
    checked : dict
        How many ``samples``, ``actions``, ``decisions``, ``generations`` and ``runs`` were looked at.
    """

    audit: Path
    findings: list[Finding]
    repaired: list[str]
    checked: dict[str, int]

    @property
    def whole(self) -> bool:
        """Whether nothing is damaged; leftovers do not count."""
        return all(finding.kind != "damaged" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """For ``check --json``."""
        return {
            "audit": safe(str(self.audit)),
            "whole": self.whole,
            "checked": self.checked,
            "findings": [finding.as_json() for finding in self.findings],
            "repaired": self.repaired,
        }

    def lines(self) -> list[str]:
        """For a terminal."""
        counts = ", ".join(f"{number:,} {what}" for what, number in self.checked.items())
        lines = [f"repaired: {what}" for what in self.repaired]
        for finding in self.findings:
            lines += [f"{finding.kind}: {finding.file}: {finding.fault}", f"  {finding.advice}"]
        number = sum(finding.kind == "damaged" for finding in self.findings)
        verdict = "whole" if not number else f"{number} {'thing is' if number == 1 else 'things are'} damaged"
        return [*lines, f"{safe(str(self.audit))}: {verdict} ({counts})"]


def check(path: Path, repair: bool = False) -> Report:
    """Read all of an audit and say what is wrong with it.

    Parameters
    ----------
    path : Path
        The audit directory. It may be open elsewhere.
    repair : bool
        Repair what can be repaired without guessing; no other process may have the audit open for writing.

    Raises
    ------
    NotAnAudit, NewerFormat
        There is no audit that this version reads.
    AuditBusy
        It is to be repaired, and another process writes it.
    """
    path = Path(path)
    repaired: list[str] = []
    report = _look(path)
    while repair and (repairs := [each.repair for each in report.findings if each.repair is not None]):
        with store.Store.open(path) as opened:
            journal = Journal.open(path, opened.uuid)
        with journal:
            done = [each(journal) for each in repairs]
        repaired += [what for what in done if what]
        before, report = report, _look(path)
        if report.findings == before.findings:
            break
    return Report(path, report.findings, repaired, report.checked)


def _look(path: Path) -> Report:
    findings: list[Finding] = []
    checked = dict.fromkeys(("samples", "actions", "decisions", "generations", "runs"), 0)
    try:
        opened = store.Store.open(path)
    except NotAnAudit:
        raise
    except AuditError as error:
        if not os.path.isfile(path / paths.AUDIT_FILE):  # or it may not be looked at
            raise
        fault = f"{error.message}; {error.got}"
        advice = "copy it again or restore it from a backup; the rest cannot be checked without it"
        return Report(path, [Finding(paths.AUDIT_FILE, "damaged", fault, advice)], [], checked)
    with opened:
        checked["samples"] = opened.n
        findings += _scan_findings(opened)
        rows: list[GenerationRow] | None = None
        try:
            with Journal.open(path, opened.uuid, read_only=True) as journal:
                columns = journal.columns()
                rows = columns.generations
                checked["actions"], checked["decisions"] = len(columns.actions), len(columns.decisions)
                faults = list(journal.faults())
                replay(opened, columns, *journal.read_sharing())
        except LabeltuiError as error:
            faults = ["; ".join(filter(None, (error.message, error.got)))]
        advice = "restore journal.db from a backup (with its journal.db-wal, if there is one)"
        findings += [Finding(paths.JOURNAL_FILE, "damaged", fault, advice) for fault in faults]
        # Without the journal the current generation is unknown, and nothing is repaired.
        findings += _generation_findings(opened, rows)
        checked["generations"] = len(opened.generations()) - 1
        jobs = list_jobs(path)
        checked["runs"] = len(jobs)
        for job in jobs:
            findings += _run_findings(opened, job)
        findings += _leftovers(path, jobs, may_repair=rows is not None and not faults)
    return Report(path, findings, [], checked)


def _scan_findings(opened: store.Store) -> Iterator[Finding]:
    where = opened.path / paths.SCAN_FILE
    if not os.path.lexists(where):
        yield Finding(
            paths.SCAN_FILE,
            "damaged",
            "it is missing: audit.h5 cannot be compared with its checksum, and images need --source",
            "copy it from where the audit came from",
        )
    advice = "copy it again or restore it from a backup"
    try:
        if where.exists() and "sha256" not in opened.scan:
            yield Finding(paths.SCAN_FILE, "damaged", "it holds no checksum of audit.h5", advice)
    except AuditError as error:
        yield Finding(paths.SCAN_FILE, "damaged", f"{error.message}; {error.got}", advice)
        return
    for fault in opened.faults():
        yield Finding(paths.AUDIT_FILE, "damaged", fault, advice)


def _generation_findings(opened: store.Store, rows: list[GenerationRow] | None) -> Iterator[Finding]:
    row_of = {row.n: row for row in rows or ()}
    there = opened.generations()[1:]
    faults = {
        n: list(opened.generation_faults(opened.generation_path(n), row_of[n].sha256 if n in row_of else ""))
        for n in there
    }
    current = next((row.n for row in reversed(rows or ()) if row.n == 0 or row.n in faults), 0)
    for n in there:
        if not faults[n]:
            continue
        name = f"{paths.DERIVED}/{n}.h5"
        source = _same_result(opened, row_of.get(n))
        if rows is None:
            advice, repair = "mend the journal first", None
        elif source is not None:
            advice = f"--repair restores it from {source.parent.name}, whose result has the right checksum"
            repair = _restoring(opened.generation_path(n), source, name)
        else:
            whole = [row for row in rows if row.n in faults and not faults[row.n]]
            instead = whole[-1] if whole else None
            advice = f"--repair sets it aside as {n}.h5{DAMAGED_SUFFIX}"
            if n == current:
                advice += f", and makes generation {instead.n if instead else 0} current"
            repair = _setting_aside(opened, n, instead if n == current else None, n == current)
        for fault in faults[n]:
            yield Finding(name, "damaged", fault, advice, repair)
            repair = None  # one repair mends them all


def _same_result(opened: store.Store, row: GenerationRow | None) -> Path | None:
    """got The result of the run that a generation from, if it still has the bytes that were adopted."""
    if row is None or not row.run or Path(row.run).name != row.run:
        return None
    result = opened.path / paths.RUNS / row.run / paths.RESULT_FILE
    try:
        return result if result.is_file() and sha256(result) == row.sha256 else None
    except OSError:
        return None


def _restoring(target: Path, source: Path, name: str) -> Repair:
    def repair(journal: Journal) -> str:
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
        return f"{name} was restored from the result of run {source.parent.name}"

    return repair


def _setting_aside(opened: store.Store, n: int, instead: GenerationRow | None, current: bool) -> Repair:
    path = opened.generation_path(n)

    def repair(journal: Journal) -> str:
        if current:
            # The journal first: a crash between the two leaves a file that the next repair sets aside.
            row = instead or GenerationRow(0, 0, sha256(opened.path / paths.AUDIT_FILE), "")
            journal.append("generation", generation=(row.n, row.sha256, row.run))
            if not journal.flush():
                raise journal.failed or AuditError("a repair must be saved", "it was not", "")
        os.replace(path, path.with_name(path.name + DAMAGED_SUFFIX))
        sync_directory(path.parent)
        shown = f"; generation {instead.n if instead else 0} is current" if current else ""
        return f"{paths.DERIVED}/{n}.h5 was set aside as {n}.h5{DAMAGED_SUFFIX}{shown}"

    return repair


def _run_findings(opened: store.Store, job: Job) -> Iterator[Finding]:
    where = f"{paths.RUNS}/{job.id}"
    advice = "start a new run; this one is left as it is"

    def damaged(file: str, fault: str) -> Finding:
        return Finding(f"{where}/{file}", "damaged", safe(fault), advice)

    try:
        spec = TrainSpec.read(job.directory / paths.SPEC_FILE)
    except LabeltuiError as error:
        yield damaged("spec.json", f"{error.message}; {error.got}")
        return
    if spec.audit_uuid != opened.uuid:
        yield damaged("spec.json", f"the run belongs to audit {spec.audit_uuid}, not to {opened.uuid}")
    for name, field_, dtype in RUN_ARRAYS:
        if digest := getattr(spec, field_):
            try:
                values = np.load(job.directory / f"{name}.npy", allow_pickle=False)
                found = label_hash(values) if name == "labels" else array_hash(values, dtype)
            except (OSError, ValueError, TypeError) as error:
                yield damaged(f"{name}.npy", f"it cannot be read: {error}")
                continue
            if found != digest:
                yield damaged(f"{name}.npy", "it is not what spec.json names: the hashes differ")
    for file in (paths.EXIT_FILE, paths.METRICS_FILE):
        try:
            files.read_json(job.directory / file)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            yield damaged(file, f"it cannot be read as JSON: {error}")
    if job.active:
        return  # what follows is being written
    if (job.directory / paths.PREDICTIONS_FILE).exists():
        try:
            Predictions.read(job.directory)
        except JobError as error:
            yield damaged(paths.PREDICTIONS_FILE, error.got)
    result = job.directory / paths.RESULT_FILE
    if result.exists():
        for fault in opened.generation_faults(result):
            if "which is not here" not in fault:  # what it built on may be gone since it was adopted
                yield damaged(paths.RESULT_FILE, fault)


def _leftovers(path: Path, jobs: list[Job], may_repair: bool) -> Iterator[Finding]:
    """What killed processes left behind."""
    folders = [path, path / paths.DERIVED]
    for job in jobs:
        if not job.active:
            folders += [job.directory, job.directory / paths.EPOCHS, job.directory / paths.CHECKPOINTS]
    found = [each for folder in folders for each in sorted(folder.glob(".*.tmp"))]
    now = time.time()
    runs = path / paths.RUNS
    found += [
        each
        for each in (sorted(runs.iterdir()) if runs.is_dir() else [])
        if each.name.startswith(".") and now - each.lstat().st_mtime > ABANDONED_SECONDS
    ]
    for each in found:
        yield Finding(
            safe(str(each.relative_to(path))),
            "leftover",
            "a killed process left it",
            "--repair deletes it",
            _deleting(each) if may_repair else None,
        )
    if (path / paths.PARTIAL).is_dir():
        yield Finding(
            paths.PARTIAL,
            "leftover",
            "its scan has finished",
            "--repair deletes it",
            _discarding(path) if may_repair else None,
        )


def _deleting(leftover: Path) -> Repair:
    def repair(journal: Journal) -> str:
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)
        return f"{safe(leftover.name)} was deleted"

    return repair


def _discarding(path: Path) -> Repair:
    def repair(journal: Journal) -> str:
        try:
            with Checkpoint(path) as partial:
                partial.discard()
        except AuditBusy:
            return ""  # its scan is just finishing
        return f"{paths.PARTIAL} was deleted"

    return repair
