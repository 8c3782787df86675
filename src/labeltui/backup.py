"""A consistent copy of an audit, even during a review."""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from labeltui import paths, store
from labeltui.check import check
from labeltui.errors import AuditError, DamagedAudit, UsageError
from labeltui.io.atomic import sync_directory, sync_file
from labeltui.journal import Journal
from labeltui.text import safe
from labeltui.train.jobs import list_jobs

ATTEMPTS = 5  # generations may be replaced while they are copied


@dataclass(frozen=True)
class Backup:
    """What was copied.

    Attributes
    ----------
    path : Path
    actions, generations, runs : int
    bytes : int
        Of all files.
    left_out : list of str
        Ids of runs that were active.
    """

    path: Path
    actions: int
    generations: int
    runs: int
    bytes: int
    left_out: list[str]


def backup(audit: Path, out: Path) -> Backup:
    """Copy an audit, and check the copy as `labeltui.check.check` does, before it appears under its name.

    Parameters
    ----------
    audit : Path
        The audit directory. It may be open for reviewing: the copy holds what was saved when its journal was read.
    out : Path
        The new directory; its parent exists.

    Raises
    ------
    NotAnAudit, DamagedAudit, NewerFormat
        There is no whole audit to be copied.
    UsageError
        Something stands at `out`, or inside the audit is no place for it.
    AuditError
        The copy cannot be written.
    """
    audit, out = Path(audit), Path(out)
    shown = safe(str(out))
    if os.path.lexists(out):
        raise UsageError("a backup goes into a new directory", f"{shown} exists", "choose another -o")
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(audit)):
        raise UsageError("a backup lies outside its audit", f"{shown} lies inside", "choose another -o")
    hidden = out.with_name(f".{out.name}.{secrets.token_hex(4)}.tmp")
    with store.Store.open(audit) as opened:
        try:
            hidden.mkdir(mode=0o700)
            try:
                made = _copy(opened, hidden)
                os.rename(hidden, out)
                sync_directory(out.parent)
            finally:
                shutil.rmtree(hidden, ignore_errors=True)
        except OSError as error:
            raise AuditError(
                "a backup must be writable in full",
                f"{shown}: {error.strerror}",
                "free some space, or choose another -o",
            ) from None
    return Backup(out, *made)


def _copy(opened: store.Store, target: Path) -> tuple[int, int, int, int, list[str]]:
    source = opened.path
    for name in (paths.AUDIT_FILE, paths.SCAN_FILE):
        if (source / name).exists():
            _copy_file(source / name, target / name)
    with Journal.open(source, opened.uuid, read_only=True) as journal:
        for _ in range(ATTEMPTS):
            (target / paths.JOURNAL_FILE).unlink(missing_ok=True)
            journal.copy(target / paths.JOURNAL_FILE)
            with Journal.open(target, opened.uuid, read_only=True) as copy:
                actions, _, rows = copy.read()
            (target / paths.DERIVED).mkdir(exist_ok=True)
            for n in opened.generations()[1:]:
                try:
                    _copy_file(opened.generation_path(n), target / paths.DERIVED / f"{n}.h5")
                except FileNotFoundError:
                    continue  # nothing needs it any more
            current = rows[-1].n if rows else 0
            if not current or (target / paths.DERIVED / f"{current}.h5").exists():
                break
            if not opened.generation_path(current).exists() and current not in opened.generations():
                break  # the audit goes without it, too
    jobs = list_jobs(source)
    active = [job.id for job in jobs if job.active]
    kept = [job.directory for job in jobs if not job.active]
    for run in kept:
        _copy_run(run, target / paths.RUNS / run.name)
    for folder in (target / paths.DERIVED, target / paths.RUNS, target):
        if folder.is_dir():
            sync_directory(folder)
    report = check(target)
    if not report.whole:
        damage = [f"{each.file}: {each.fault}" for each in report.findings if each.kind == "damaged"]
        raise DamagedAudit(
            "a backup is made of a whole audit",
            "\n".join(damage),
            "labeltui check says what can be repaired; cp -a copies it as it is",
        )
    size = sum(each.stat().st_size for each in target.rglob("*") if each.is_file())
    return len(actions), report.checked["generations"], len(kept), size, active


def _copy_run(run: Path, target: Path) -> None:
    for folder, directories, names in os.walk(run):
        inside = target / Path(folder).relative_to(run)
        inside.mkdir(parents=True, exist_ok=True)
        directories[:] = [name for name in directories if not name.startswith(".")]
        for name in names:
            each = Path(folder, name)
            # Regular files only: a link or a pipe in a foreign run leads elsewhere.
            if not name.startswith(".") and each.is_file() and not each.is_symlink():
                _copy_file(each, inside / name)
        sync_directory(inside)


def _copy_file(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    shutil.copystat(source, target)
    sync_file(target)
