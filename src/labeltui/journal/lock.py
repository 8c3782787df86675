"""The writer's lock of an audit, and the kind of its file system."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labeltui.errors import AuditBusy, AuditError
from labeltui.io import files
from labeltui.locks import LocksUnsupported, try_lock
from labeltui.text import safe

# File systems that several hosts may mount at once, or with unreliable memory maps and locks.
_SHARED = {
    *("9p", "afs", "beegfs", "beegfs_nodev", "ceph", "cifs", "coda", "fuse", "fuseblk", "gfs2", "glusterfs"),
    *(
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "ocfs2",
        "orangefs",
        "panfs",
        "pvfs2",
        "smb3",
        "smbfs",
        "wekafs",
    ),
}


class OwnerLock:
    """The right to write an audit: an advisory lock, released when its process ends, and a record of who holds
    it.

    Parameters
    ----------
    path : Path
        ``journal.lock`` of the audit.
    reviewer : str
        Shown to others who find the audit busy.

    Raises
    ------
    AuditBusy
        Another process holds it. On a network file system the record of another host counts too, since locks
        of some of these reach one host only.
    AuditError
        The audit cannot be written here.
    """

    def __init__(self, path: Path, reviewer: str) -> None:
        try:
            self._descriptor = files.open_own(path, os.O_RDWR)
        except OSError as error:
            raise AuditError(
                "reviewing needs an audit that can be written",
                f"{safe(str(path))}: {error.strerror}",
                "copy the audit to a place where you can write, or open it with --read-only",
            ) from None
        self._path, self._reviewer = path, reviewer
        try:
            self._lock(path)
            self._write({**identity(), "reviewer": reviewer, "since": utc_now()})
        except OSError as error:
            os.close(self._descriptor)
            raise AuditError(
                "reviewing needs an audit that can be written",
                f"{safe(str(path))}: {error.strerror}",
                "free some space, or open it with --read-only",
            ) from None
        except BaseException:
            os.close(self._descriptor)
            raise

    def check(self) -> None:
        """Check that the lock file is still the locked one; lock again if it was deleted.

        Raises
        ------
        AuditBusy
            It was deleted or replaced, and another process has a lock of its own since.
        """
        held = os.fstat(self._descriptor)
        try:
            there = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (held.st_dev, held.st_ino):
            again = OwnerLock(self._path, self._reviewer)
            os.close(self._descriptor)
            self._descriptor = again._descriptor

    def release(self) -> None:
        """Clear the record and drop the lock."""
        with suppress(OSError):
            self._write({})
        os.close(self._descriptor)

    def _lock(self, path: Path) -> None:
        try:
            taken = try_lock(self._descriptor)
        except LocksUnsupported:  # only the record is available
            taken = not lives_here(self._read())
        if not taken:
            raise _busy(path, self._read())
        holder = self._read()
        if holder.get("host", socket.gethostname()) != socket.gethostname() and on_shared_file_system(path):
            raise _busy(path, holder, f"if that process is gone, delete {safe(str(path))}")

    def _read(self) -> dict[str, Any]:
        try:
            record = json.loads(os.pread(self._descriptor, 65536, 0) or b"{}")
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def _write(self, record: dict[str, Any]) -> None:
        os.ftruncate(self._descriptor, 0)
        if record:
            os.pwrite(self._descriptor, json.dumps(record).encode(), 0)


def identity(pid: int | None = None) -> dict[str, str | int]:
    """Identity of this process, or of `pid`: unique across hosts and reboots.

    Returns
    -------
    dict
        ``host``, ``boot_id``, ``pid`` and ``start``, which is empty where there is no such process.
    """
    pid = os.getpid() if pid is None else pid
    return {"host": socket.gethostname(), "boot_id": _boot_id(), "pid": pid, "start": _start_time(pid)}


def utc_now() -> str:
    """The time in UTC, ISO 8601 with milliseconds and ``Z``."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def on_shared_file_system(path: Path, mounts: str | None = None) -> bool:
    """Whether a path is on a network or FUSE file system, by ``/proc/self/mountinfo``.

    Parameters
    ----------
    path : Path
        A file or directory, existing or not.
    mounts : str, optional
        The text of a mountinfo file; by default this process's. Where there is none, file systems count as
        local.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
        except OSError:
            return False
    real = os.path.realpath(path)
    longest, kind = -1, ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:
            continue
        point = _unescape(fields[4])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        # A later mount on the same point hides the earlier one.
        if inside and len(point) >= longest:
            longest, kind = len(point), right.split(" ")[0]
    return kind in _SHARED or kind.startswith("fuse.")


def _unescape(field: str) -> str:
    """Undo mountinfo's octal escapes of space, tab, newline and backslash."""
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(escape, character)
    return field


def _busy(path: Path, holder: dict[str, Any], hint: str = "") -> AuditBusy:
    who = "another process"
    if holder:
        pid, host, reviewer, since = (
            safe(str(holder.get(key, "?"))) for key in ("pid", "host", "reviewer", "since")
        )
        who = f"process {pid} on {host}, reviewer {reviewer}, since {since}"
    return AuditBusy(
        "one process at a time writes an audit",
        f"{safe(str(path.parent))} is held by {who}",
        hint or "close it there, or open it here with --read-only",
    )


def lives_here(record: Mapping[str, object]) -> bool:
    """Whether the process of an `identity` is running on this host."""
    if not record or record.get("host") != socket.gethostname() or record.get("boot_id") != _boot_id():
        return False
    pid = record.get("pid")
    return isinstance(pid, int) and _start_time(pid) == record.get("start") != ""


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # no such file outside Linux
        return ""


def _start_time(pid: int) -> str:
    """Start of a live process in clock ticks since boot; empty when there is none (zombies count as none)."""
    try:
        # The command's name, in parentheses, may itself hold spaces and parentheses.
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return "" if Path("/proc/self").exists() else _start_time_by_ps(pid)
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _start_time_by_ps(pid: int) -> str:  # no /proc outside Linux
    command = ["ps", "-o", "lstart=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
