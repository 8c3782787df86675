"""Kills, power cuts, and disks that fail: decisions shown as saved and lost.

* **kills**: a process that decides is killed at a random moment; what it had shown as saved must be there.
* **power cuts**: a short session runs once while everything that it changes on the disk is written down (a shim before
  the C library). For a cut after each of these steps the disk is rebuilt twice over: with all that reached the system,
  and with only what was flushed before, torn in the step itself. The audit must open and hold what was shown as saved.
* **failing disk**: each write, flush, rename, unlink and truncation of a session fails, or tears and fails; the session
  must end, and what it showed as saved must be there.
* **full, read-only, forbidden**: opening, deciding and exporting on a full tmpfs, on a read-only one, and as a user
  without rights: only errors of labeltui's own.

Write-ahead log (local disks) and rollback journal (network file systems) are both tried; for the latter only the
look-up of the file system is replaced. Needs a C compiler; root for the last part.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from _common import Report, parser

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests import shims  # noqa: E402 - from the tree that this script lies in

from labeltui import journal  # noqa: E402
from labeltui.errors import LabeltuiError  # noqa: E402
from labeltui.journal import Journal  # noqa: E402

UUID = "0d5bb0d4-0000-8000-8000-000000000001"
ACTIONS = 6
KILLS = 300
MODES = ("wal", "rollback")
MARK = "saved"  # a file outside the audit; each byte of it is one more action shown as saved


def use(mode: str) -> None:
    """Let journals count as local, or as lying on a network file system."""
    shared = mode == "rollback"
    journal.database.on_shared_file_system = lambda path: shared
    journal.lock.on_shared_file_system = lambda path: shared


def rows(number: int) -> list[journal.Row]:
    """Three decisions of an action."""
    return [
        (i, b"%d.png" % i, "relabel", b"cat", b"dog", None, "n" * 200)
        for i in range(3 * number, 3 * number + 3)
    ]


def session(directory: Path, mark: int, actions: int = ACTIONS, wait: float = 5.0) -> None:
    """Decide, and write a byte into `mark` for each action that is shown as saved."""
    shown = 0
    journal.database._RETRY_SECONDS = 0.02  # a second each would take hours
    with Journal.open(directory, UUID) as opened:

        def saved() -> None:
            nonlocal shown
            if opened.saved_seq > shown:
                os.write(mark, b"." * (opened.saved_seq - shown))
                shown = opened.saved_seq

        opened.on_change = saved
        for number in range(actions):
            opened.append("decide", rows(number))
            opened.flush(wait)


def found(directory: Path) -> int:
    """How many whole actions the journal in a directory holds; raises what opening it raises."""
    with Journal.open(directory, UUID) as opened:
        actions, decisions, _ = opened.read()
    assert [action.seq for action in actions] == list(range(1, len(actions) + 1)), "an action is missing"
    assert [row[1] for row in decisions] == list(range(3 * len(actions))), "an action is not whole"
    return len(actions)


class Tally(NamedTuple):
    """Trials, actions shown as saved in all of them, those of them that were lost, and what else went wrong."""

    trials: int
    saved: int
    lost: int
    faults: list[str]


def tally(outcomes: Iterator[tuple[int, int | str]]) -> Tally:
    """Add up (actions shown as saved, actions found or what went wrong)."""
    trials = saved = lost = 0
    faults: list[str] = []
    for shown, there in outcomes:
        trials, saved = trials + 1, saved + shown
        if isinstance(there, str):
            faults.append(there)
            lost += shown
        else:
            lost += max(0, shown - there)
    return Tally(trials, saved, lost, faults)


def looked(directory: Path) -> int | str:
    """`found`, or what went wrong."""
    try:
        return found(directory)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


# kills


def kills(place: Path, mode: str, trials: int) -> Iterator[tuple[int, int | str]]:
    """Kill a session at a random moment, and look."""
    use(mode)
    rng = random.Random(0)
    for _ in range(trials):
        directory = place / f"kill-{mode}"
        directory.mkdir()
        journal.create(directory, UUID)
        ours, theirs = os.pipe()
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                session(directory, theirs, actions=10_000)
            os._exit(1)
        os.close(theirs)
        shown = len(os.read(ours, 1))  # it works now
        time.sleep(rng.random() * 0.05)
        os.kill(child, signal.SIGKILL)
        while data := os.read(ours, 65536):
            shown += len(data)
        os.close(ours)
        os.waitpid(child, 0)
        yield shown, looked(directory)
        shutil.rmtree(directory)


# power cuts


class Step(NamedTuple):
    """One record of the shim's log."""

    kind: int
    path: str
    other: str
    offset: int
    data: bytes


def read_log(path: Path) -> list[Step]:
    """Read what `faults_trace` wrote."""
    log, at, steps = path.read_bytes(), 0, []

    def take(count: int) -> bytes:
        nonlocal at
        at += count
        return log[at - count : at]

    def number(size: int) -> int:
        return int.from_bytes(take(size), "little", signed=True)

    while at < len(log):
        kind = number(1)
        name, other = os.fsdecode(take(number(4))), os.fsdecode(take(number(4)))
        offset, size = number(8), number(8)
        steps.append(Step(kind, name, other, offset, take(size) if kind == shims.WRITE else b""))
    return steps


class Disk:
    """Files as the system has them, and as they would be after a power cut."""

    def __init__(self, directory: Path) -> None:
        self.now: dict[str, bytearray] = {
            str(each): bytearray(each.read_bytes()) for each in directory.iterdir() if each.is_file()
        }
        self.flushed = {id(content): bytes(content) for content in self.now.values()}  # by file, not by name
        self.names = dict(self.now)  # the directory's entries as they were flushed last

    def copy(self) -> Disk:
        """A disk that can go on by itself."""
        other = Disk.__new__(Disk)
        contents = {id(content): content for content in (*self.now.values(), *self.names.values())}
        copies = {key: bytearray(content) for key, content in contents.items()}
        other.now = {name: copies[id(content)] for name, content in self.now.items()}
        other.names = {name: copies[id(content)] for name, content in self.names.items()}
        other.flushed = {id(copies[key]): data for key, data in self.flushed.items() if key in copies}
        return other

    def do(self, step: Step, torn: bool = False) -> None:
        """Take one step; half of it where it is torn."""
        path = step.path.removesuffix(" (deleted)")
        if step.kind == shims.OPEN:
            content = self.now.setdefault(path, bytearray())
            if step.offset == 0:
                content.clear()
        elif step.kind == shims.WRITE and path in self.now:
            content = self.now[path]
            data = step.data[: len(step.data) // 2] if torn else step.data
            offset = len(content) if step.offset < 0 else step.offset
            content.extend(bytes(max(0, offset - len(content))))
            content[offset : offset + len(data)] = data
        elif step.kind == shims.TRUNCATE and path in self.now and not torn:
            content = self.now[path]
            del content[step.offset :]
            content.extend(bytes(step.offset - len(content)))
        elif step.kind == shims.SYNC and not torn:
            if path in self.now:
                self.flushed[id(self.now[path])] = bytes(self.now[path])
            else:
                self.names = dict(self.now)
        elif step.kind == shims.RENAME and not torn and path in self.now:
            self.now[step.other] = self.now.pop(path)
        elif step.kind == shims.UNLINK and not torn:
            self.now.pop(path, None)

    def write(self, source: Path, target: Path, only_flushed: bool) -> None:
        """Put the files down as they are after the cut."""
        target.mkdir()
        entries = self.names if only_flushed else self.now
        for name, content in entries.items():
            if name.endswith("-shm"):
                continue  # memory that processes share: of no use after a reboot, and made anew
            data = self.flushed.get(id(content), b"") if only_flushed else bytes(content)
            (target / os.path.relpath(name, source)).write_bytes(data)


def traced(place: Path, mode: str) -> None:
    """Run a session in this process, under the shim, and write down what it does."""
    use(mode)
    directory = place / "session"
    faults = shims.Faults()
    faults.trace(str(place / "session"), str(place / "log"))
    # Marks are written inside, so that they stand in the log at their place.
    mark = os.open(directory / MARK, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    session(directory, mark)
    faults.trace("", "")


def cuts(place: Path, mode: str) -> Iterator[tuple[int, int | str]]:
    """Replay a power cut after, and within, each step of a session."""
    use(mode)
    directory = place / f"cut-{mode}" / "session"
    directory.mkdir(parents=True)
    journal.create(directory, UUID)
    disk = Disk(directory)
    under_shim(place, "--traced", str(directory.parent), mode)
    shown = 0
    for number, step in enumerate(read_log(directory.parent / "log")):
        if step.path.endswith(f"/{MARK}"):
            shown += len(step.data) if step.kind == shims.WRITE else 0
            continue
        variants: list[tuple[bool, bool]] = [(True, False), (False, False)]
        if step.kind == shims.WRITE:
            variants.append((False, True))
        for only_flushed, torn in variants:
            after = disk.copy()
            after.do(step, torn)
            target = directory.parent / f"cut{number}"
            after.write(directory, target, only_flushed)
            there = looked(target)
            if isinstance(there, str):
                there = f"{mode}, step {number} ({step.kind} {os.path.basename(step.path)}): {there}"
            yield shown, there
            shutil.rmtree(target)
        disk.do(step)


# a disk that fails


def under_shim(place: Path, *words: str) -> str:
    """Run this script again with the shim loaded, and return what it printed last."""
    shim = place / "faults.so"
    if not shim.exists():
        shims.build(place)
    done = subprocess.run(
        [sys.executable, __file__, *words],
        env=shims.environment(shim),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"a session under the shim failed: {done.stderr[-2000:]}")
    return done.stdout


KINDS = {
    "write fails (EIO)": (shims.WRITE, errno.EIO),
    "write fails (ENOSPC)": (shims.WRITE, errno.ENOSPC),
    "write tears": (shims.TORN, errno.EIO),
    "fsync fails": (shims.SYNC, errno.EIO),
    "rename fails": (shims.RENAME, errno.EIO),
    "unlink fails": (shims.UNLINK, errno.EIO),
    "ftruncate fails": (shims.TRUNCATE, errno.EIO),
}


def failing(place: Path, mode: str, most: int) -> None:
    """In this process, under the shim: let each call of each kind fail in a session, and print the outcomes."""
    use(mode)
    faults = shims.Faults()
    outcomes: dict[str, list[tuple[int, int | str]]] = {}
    for name, (kinds, error) in KINDS.items():
        listed = outcomes[name] = []
        number, counted = -1, 0
        while number < min(counted, most):
            number += 1  # nothing fails at number 0: it counts the calls
            directory = place / f"fail-{mode}"
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            journal.create(directory, UUID)
            mark = os.open(place / f"marks-{mode}", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            faults.arm(kinds, str(directory), number, error)
            fault = ""
            try:
                session(directory, mark, actions=4)
            except LabeltuiError:
                pass
            except Exception as other:
                fault = f"{mode}, {name}, call {number}: {type(other).__name__}: {other}"
            counted = max(counted, faults.disarm())
            shown = os.fstat(mark).st_size
            os.close(mark)
            listed.append((shown, fault or looked(directory)))
    print(json.dumps(outcomes))


# full, read-only, forbidden


@contextlib.contextmanager
def mounted(place: Path, options: bytes = b"size=2m") -> Iterator[Path]:
    """A small file system in memory."""
    point = place / "disk"
    point.mkdir(exist_ok=True)
    library = ctypes.CDLL(None, use_errno=True)
    if library.mount(b"none", os.fsencode(point), b"tmpfs", 0, options):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
        yield point
    finally:
        library.umount2(os.fsencode(point), 2)


def answers(action: Callable[[], object]) -> str:
    """Run something; return what came of it if that is neither a result nor an error of ours."""
    try:
        action()
    except LabeltuiError:
        return ""
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return ""


def refused(place: Path) -> Iterator[tuple[str, str]]:
    """Yield (what was tried, what else than a result or an error of ours came of it)."""
    from tests.factories import SHARED, make_audit

    os.environ[SHARED] = str(place)  # where audits are made, to be copied
    from labeltui.audit import Audit
    from labeltui.audit import status as status_of
    from labeltui.backup import backup
    from labeltui.check import check
    from labeltui.export import export
    from labeltui.train import jobs

    audit = make_audit(place / "made", n=60, images=False)

    def tries(path: Path, out: Path) -> dict[str, Callable[[], object]]:
        def read(then: Callable[[Audit], object]) -> object:
            with Audit.open(path, read_only=True) as opened:
                return then(opened)

        def decide() -> None:
            with Audit.open(path) as opened:
                for i in range(opened.n):
                    opened.decide([i], "keep", note="n" * 500)
                opened.flush(5)

        return {
            "open": lambda: read(lambda opened: status_of(opened)),
            "decide": decide,
            "export": lambda: read(lambda opened: export(opened, out / "labels.csv", force=True)),
            "train": lambda: read(lambda opened: jobs.JobManager(opened).start()),
            "check": lambda: check(path),
            "repair": lambda: check(path, repair=True),
            "backup": lambda: backup(path, out / "copy.audit"),
        }

    with mounted(place) as disk:
        path = Path(shutil.copytree(audit, disk / "my.audit"))
        with open(disk / "filler", "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        for name, action in tries(path, disk).items():
            yield f"full: {name}", answers(action)
        (disk / "filler").unlink()
        library = ctypes.CDLL(None, use_errno=True)
        if not library.mount(b"none", os.fsencode(disk), b"tmpfs", 32 | 1, None):  # remount, read-only
            for name, action in tries(path, disk).items():
                yield f"read-only: {name}", answers(action)
    path = Path(shutil.copytree(audit, place / "forbidden.audit"))
    place.chmod(0o755)
    for mode in (0o000, 0o500):
        path.chmod(mode)
        for name, action in tries(path, place).items():
            ours, theirs = os.pipe()
            child = os.fork()
            if not child:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                os.write(theirs, answers(action).encode()[:4000])
                os._exit(0)
            os.close(theirs)
            said = os.read(ours, 4096).decode()
            os.close(ours)
            os.waitpid(child, 0)
            yield f"no rights ({mode:03o}): {name}", said


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--traced", nargs=2, metavar=("DIR", "MODE"), help="used by the script itself")
    options.add_argument(
        "--failing", nargs=3, metavar=("DIR", "MODE", "MOST"), help="used by the script itself"
    )
    given = options.parse_args()
    if given.traced:
        traced(Path(given.traced[0]), given.traced[1])
        return
    if given.failing:
        failing(Path(given.failing[0]), given.failing[1], int(given.failing[2]))
        return
    if shutil.which("cc") is None:
        sys.exit("this benchmark needs a C compiler (cc)")
    report = Report("crash", given)
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory(prefix="labeltui-crash-") as name:
        place = Path(name)
        for mode in MODES:
            if report.wanted(f"kills {mode}"):
                tallies[f"kills, {mode}"] = tally(
                    kills(place, mode, 10 if given.quick else KILLS // len(MODES))
                )
            if report.wanted(f"power cuts {mode}"):
                tallies[f"power cuts, {mode}"] = tally(cuts(place, mode))
            if report.wanted(f"failing {mode}"):
                printed = under_shim(place, "--failing", str(place), mode, "3" if given.quick else "500")
                for what, outcomes in json.loads(printed.splitlines()[-1]).items():
                    tallies[f"{what}, {mode}"] = tally((shown, there) for shown, there in outcomes)
        tried: list[tuple[str, str]] = []
        if report.wanted("refused") and os.getuid() == 0:
            tried = list(refused(place))
    print(f"{'':<28} {'trials':>7} {'shown as saved':>15} {'lost':>5} {'faults':>7}")
    for what, each in tallies.items():
        print(f"{what:<28} {each.trials:>7,} {each.saved:>15,} {each.lost:>5,} {len(each.faults):>7,}")
    for fault in [fault for each in tallies.values() for fault in each.faults][:20]:
        print(fault)
    for what, said in tried:
        if said:
            print(f"{what}: {said}")
    for kind in ("kills", "power cuts", "fail"):
        chosen = {
            what: each
            for what, each in tallies.items()
            if kind in what or (kind == "fail" and "tears" in what)
        }
        if chosen:
            report.add(
                f"{kind if kind != 'fail' else 'failing disk'}: decisions shown as saved and lost",
                sum(each.lost for each in chosen.values()),
                "actions",
                better="lower",
                target=0,
                detail={what: each._asdict() | {"faults": each.faults[:3]} for what, each in chosen.items()},
            )
            report.add(
                f"{kind if kind != 'fail' else 'failing disk'}: trials after which the journal could not be used",
                sum(len(each.faults) for each in chosen.values()),
                "trials",
                better="lower",
                target=0,
            )
    if any("kills" in what for what in tallies) and not given.quick:
        report.add("kills", sum(e.trials for w, e in tallies.items() if "kills" in w), "trials", target=KILLS)
    what = "full, read-only and forbidden disks: anything but a result or an error of labeltui's own"
    if tried:
        report.add(
            what,
            sum(bool(said) for _, said in tried),
            "faults",
            better="lower",
            target=0,
            detail={"tried": len(tried)},
        )
    else:
        report.cannot(what, "needs root", "faults", better="lower", target=0)
    report.finish()


if __name__ == "__main__":
    main()
