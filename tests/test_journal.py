"""The journal: order, crashes, full disks, locks, and media that cannot be written."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeltui import journal
from labeltui.errors import AuditBusy, AuditError, AuditExists, DamagedAudit, NewerFormat, NotAnAudit
from labeltui.journal import Action, History, Journal, columns

UUID = "0d5bb0d4-0000-8000-8000-000000000001"
ROW = (3, b"a/3.png", "relabel", b"cat", b"dog", None, None)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    journal.create(tmp_path, UUID)
    return tmp_path


def row(i: int, note: str | None = None) -> journal.Row:
    return (i, b"\xff/%d.png" % i, "relabel", b"cat", b"d\xfeg", None, note)


def child(code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Run Python code in a process of its own; it prints what the test waits for."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.005)


def test_actions_come_back_in_order_with_all_columns(directory: Path) -> None:
    with Journal.open(directory, UUID, reviewer="ada") as j:
        first = j.append("decide", [row(1, "a 'quoted'\nnote"), row(2)])
        second = j.append("undo", undoes=first.uuid)
        made = j.append("generation", generation=(1, "ab", "20261120T140000Z-k3fa"))
        assert j.flush(10)
        assert j.pending == 0
        assert j.saved_seq == 3
    with Journal.open(directory, UUID, read_only=True) as j:
        actions, rows, generations = j.read()
        assert [a.uuid for a in actions] == [first.uuid, second.uuid, made.uuid]
        assert actions == [first, second, made]
        assert actions[0].reviewer == "ada"
        assert actions[0].time.endswith("Z")
        assert rows == [
            (1, 1, "relabel", b"d\xfeg", None, "a 'quoted'\nnote", row(1)[1]),
            (1, 2, "relabel", b"d\xfeg", None, None, row(2)[1]),
        ]
        assert generations == [journal.GenerationRow(3, 1, "ab", "20261120T140000Z-k3fa")]
        assert j.read(after=2)[0] == [made]
        with pytest.raises(AuditError, match="read-only"):
            j.append("decide", [ROW])


texts = st.sampled_from(["", "ada", "a\nb", "\N{BLACK HEART SUIT}", "a b"])
labels = st.sampled_from([None, b"", b"cat", b"d\xfe,'g", b"X'00'"])
stored_rows = st.lists(
    st.tuples(
        st.integers(-3, 2**40),
        st.binary(max_size=5),
        st.sampled_from(["keep", "relabel"]),
        labels,
        labels,
        labels,
        st.none() | texts,
    ),
    max_size=4,
)
stored_actions = st.lists(
    st.tuples(texts, texts, st.sampled_from(["decide", "undo", "redo"]), st.integers(0, 20), stored_rows),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(stored_actions, st.integers(1, 5), st.sets(st.integers(1, 12), max_size=3), st.booleans())
def test_columns_are_what_the_rows_say(
    made: list[tuple[str, str, str, int, list[journal.Row]]], block: int, gaps: set[int], reverse: bool
) -> None:
    history = History()
    for number, (reviewer, host, kind, target, rows) in enumerate(made, 1):
        undoes = f"u{target}" if kind != "decide" else None
        history.add(Action(0, f"u{number}", "T", reviewer, host, kind, undoes), rows, [], [])
    if reverse:
        history.decisions.reverse()  # no writer does that
    with tempfile.TemporaryDirectory() as here, pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "BLOCK", block)
        path = journal.create(Path(here), UUID, history=history)
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            for gap in gaps:
                db.execute("DELETE FROM action WHERE seq = ?", (gap,))
                db.execute("DELETE FROM decision WHERE rowid = ?", (gap,))
        with Journal.open(Path(here), UUID, read_only=True) as j:
            actions, rows, _ = j.read()
            found = j.columns()
    stored, decisions = found.actions, found.decisions
    kinds = stored.kind.map(str, object)
    texts = [stored.texts(place) for place in range(len(stored))]
    assert list(zip(stored.seq.tolist(), texts, kinds, strict=True)) == [
        (a.seq, (a.uuid, a.time, a.reviewer, a.host), a.kind) for a in actions
    ]
    known = {a.uuid: a.seq for a in actions}
    assert stored.undos == [
        (a.seq, a.kind, a.uuid, known[a.undoes])
        for a in actions
        if a.undoes in known and known[a.undoes] < a.seq
    ]
    assert [(*row[:5], row[5] or None, row[6]) for row in rows] == [
        (action, sample, kind, label, decisions.second.get(place), decisions.notes.get(place), name)
        for place, (action, sample, kind, label, name) in enumerate(
            zip(
                decisions.action.tolist(),
                decisions.sample_index.tolist(),
                decisions.kind.map(str, object),
                [decisions.label.values[code] for code in decisions.label.codes],
                decisions.sample_id,
                strict=True,
            )
        )
    ]


@pytest.mark.parametrize(
    "change",
    [
        "action SET uuid = x'ff'",
        "decision SET action = 'one'",
        "decision SET action = 1.5",
        "decision SET sample_index = '1,2'",
        "decision SET sample_index = x'31'",
        "decision SET new_label = 'a,b' || char(10)",
        "decision SET second_label = 'cat'",
        "decision SET note = x'00'",
    ],
)
def test_values_of_other_types_are_refused(directory: Path, change: str) -> None:
    with Journal.open(directory, UUID) as j:
        j.append("decide", [row(1), row(2)])
    with closing(sqlite3.connect(directory / "journal.db", isolation_level=None)) as db:
        db.execute(f"UPDATE {change}")
    with Journal.open(directory, UUID, read_only=True) as j:
        for read in (j.columns, j.read, lambda: list(j.faults())):
            with pytest.raises(DamagedAudit, match=r"something else|Could not decode"):
                read()


def test_sequence_numbers_go_on_in_the_next_session(directory: Path) -> None:
    for expected in (1, 2, 3):
        with Journal.open(directory, UUID) as j:
            assert j.append("decide", [ROW]).seq == expected


def test_many_actions_are_committed_together_and_in_order(directory: Path) -> None:
    seen: list[int] = []
    with Journal.open(directory, UUID) as j:
        j.on_change = lambda: seen.append(j.saved_seq)
        for i in range(500):
            j.append("decide", [row(i)])
        assert j.flush(30)
        assert seen == sorted(seen)
        assert seen[-1] == 500
        assert len(seen) < 500
    with Journal.open(directory, UUID, read_only=True) as j:
        actions, rows, _ = j.read()
        assert [a.seq for a in actions] == list(range(1, 501))
        assert [r[1] for r in rows] == list(range(500))


def test_at_rest_it_is_one_plain_file(directory: Path) -> None:
    with Journal.open(directory, UUID) as j:
        j.append("decide", [ROW])
        j.flush()
        assert (directory / "journal.db-wal").exists()  # local: the write-ahead log is in use
    assert sorted(p.name for p in directory.iterdir()) == ["journal.db", "journal.lock"]
    header = (directory / "journal.db").read_bytes()[18:20]
    assert header == b"\x01\x01"
    assert (directory / "journal.lock").read_bytes() == b""


def test_create_refuses_to_replace(directory: Path) -> None:
    with pytest.raises(AuditExists):
        journal.create(directory, UUID)
    with pytest.raises(AuditError):
        journal.create(directory / "missing" / "journal.db", UUID)


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotAnAudit):
        Journal.open(tmp_path, UUID)
    (tmp_path / "journal.db").write_bytes(b"no database at all, but long enough" * 100)
    with pytest.raises(DamagedAudit):
        Journal.open(tmp_path, UUID)
    (tmp_path / "journal.db").unlink()
    path = journal.create(tmp_path, UUID)
    with pytest.raises(DamagedAudit, match="belongs to"):
        Journal.open(tmp_path, "another")
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value = '99' WHERE key = 'format'")
    db.close()
    with pytest.raises(NewerFormat, match="99"):
        Journal.open(tmp_path, UUID)
    # A refused opening leaves no lock behind.
    assert (tmp_path / "journal.lock").read_bytes() == b""


WRITER = """
    import os, sys
    from pathlib import Path
    from labeltui.journal import Journal
    def say(word, number):
        os.write(1, f"{word} {number}\n".encode())  # one call: two threads write whole lines
    j = Journal.open(Path(sys.argv[1]), sys.argv[2])
    j.on_change = lambda: say("saved", j.saved_seq)
    for i in range(100_000):
        a = j.append("decide", [(i, b"%d" % i, "keep", b"cat", b"cat", None, None)] * 3)
        say("painted", a.seq)
"""


@pytest.mark.parametrize("after", [1, 40])
def test_kill_loses_nothing_that_was_shown_as_saved(directory: Path, after: int) -> None:
    process = child(WRITER, directory, UUID)
    assert process.stdout is not None
    saved = painted = 0
    for line in process.stdout:
        word, number = line.split()
        saved, painted = (int(number), painted) if word == "saved" else (saved, int(number))
        if saved >= after:
            break
    process.send_signal(signal.SIGKILL)
    for line in process.stdout:  # what it still said before it died
        if line.endswith("\n"):
            word, number = line.split()
            saved, painted = (int(number), painted) if word == "saved" else (saved, int(number))
    process.wait()
    process.stdout.close()
    # Its lock died with it: the next session needs no help.
    with Journal.open(directory, UUID) as j:
        actions, rows, _ = j.read()
        assert saved <= len(actions) <= painted + 1
        assert [a.seq for a in actions] == list(range(1, len(actions) + 1))
        assert [r[1] for r in rows] == [
            i for i in range(len(actions)) for _ in range(3)
        ]  # whole actions only
        assert j.append("decide", [ROW]).seq == len(actions) + 1


HOLDER = """
    import sys
    from pathlib import Path
    from labeltui.journal import Journal
    with Journal.open(Path(sys.argv[1]), sys.argv[2], reviewer="grace") as j:
        j.append("decide", [(1, b"x", "keep", None, None, None, None)])
        j.flush()
        print("open", flush=True)
        sys.stdin.readline()
"""


@pytest.fixture
def holder(directory: Path) -> Iterator[subprocess.Popen[str]]:
    process = child(HOLDER, directory, UUID)
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "open\n"
    yield process
    if process.poll() is None:
        process.kill()
    process.wait()
    process.stdout.close()
    process.stdin.close()


def test_a_second_writer_is_told_who_holds_it(directory: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(AuditBusy) as caught:
        Journal.open(directory, UUID)
    assert f"process {holder.pid} on {socket.gethostname()}" in caught.value.got
    assert "grace" in caught.value.got
    assert "--read-only" in caught.value.hint
    # Reading beside the writer works, and sees what it saved.
    with Journal.open(directory, UUID, read_only=True) as j:
        assert [a.reviewer for a in j.read()[0]] == ["grace"]
    assert holder.stdin is not None
    holder.stdin.write("\n")
    holder.stdin.flush()
    assert holder.wait(10) == 0
    with Journal.open(directory, UUID) as j:
        assert j.append("decide", [ROW]).seq == 2


def test_the_lock_of_a_dead_process_is_taken_over(directory: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    record = json.loads((directory / "journal.lock").read_text())
    assert record["pid"] == holder.pid
    with Journal.open(directory, UUID) as j:
        assert json.loads((directory / "journal.lock").read_text())["pid"] == os.getpid()
        assert len(j.read()[0]) == 1


def test_one_process_is_refused_a_second_opening(directory: Path) -> None:
    with Journal.open(directory, UUID), pytest.raises(AuditBusy, match=str(os.getpid())):
        Journal.open(directory, UUID)


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Limits the size of files: to the process a disk that is full."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_keeps_decisions_pending_until_there_is_room(
    directory: Path, small_files: Callable[[int], None]
) -> None:
    with Journal.open(directory, UUID) as j:
        j.append("decide", [row(1)])
        assert j.flush(10)
        small_files(0)
        j.append("decide", [row(2)])
        until(lambda: j.failed is not None)
        assert j.failed is not None
        assert "journal.db" in j.failed.got
        j.append("decide", [row(3)])  # work goes on
        assert not j.flush(10)
        assert j.pending == 2
        assert j.saved_seq == 1
        small_files(resource.RLIM_INFINITY)
        until(lambda: j.pending == 0)  # tried again without being asked
        assert j.failed is None
    with Journal.open(directory, UUID, read_only=True) as j:
        assert [r[1] for r in j.read()[1]] == [1, 2, 3]


def test_closing_on_a_full_disk_says_what_is_lost(
    directory: Path, small_files: Callable[[int], None]
) -> None:
    j = Journal.open(directory, UUID)
    j.append("decide", [row(1)])
    assert j.flush(10)
    small_files(0)
    j.append("decide", [row(2)])
    with pytest.raises(AuditError, match="1 actions could not be saved"):
        j.close()
    small_files(resource.RLIM_INFINITY)
    with Journal.open(directory, UUID) as j:  # the lock was given back
        assert len(j.read()[0]) == 1


def test_a_fault_in_the_rows_is_reported_not_swallowed(directory: Path) -> None:
    faulty = True

    class Rows:
        def __iter__(self) -> Iterator[journal.Row]:
            if faulty:
                raise ValueError("a name could not be read")
            return iter([row(1)])

    with Journal.open(directory, UUID) as j:
        j.append("decide", Rows())
        until(lambda: j.failed is not None)
        assert "a name could not be read" in str(j.failed)
        faulty = False
        assert j.flush(10)


def test_a_fault_of_the_listener_does_not_stop_the_saving(directory: Path) -> None:
    with Journal.open(directory, UUID, on_change=lambda: 1 / 0) as j:
        for i in range(3):
            j.append("decide", [row(i)])
            assert j.flush(10)


def test_a_commit_that_is_on_disk_already_is_not_written_twice(directory: Path) -> None:
    with Journal.open(directory, UUID) as j:
        a = j.append("decide", [row(1)])
        assert j.flush(10)
        with j._wake:  # as if its commit had failed after reaching the disk
            j._queue.append(journal.database._Pending(a, [row(1)], None))
        j.append("decide", [row(2)])
        assert j.flush(10)
        actions, rows, _ = j.read()
        assert [action.seq for action in actions] == [1, 2]
        assert [r[1] for r in rows] == [1, 2]


AS_ANOTHER_USER = """
    import os, sys
    from pathlib import Path
    from labeltui.journal import Journal
    from labeltui.errors import AuditError
    if os.getuid() == 0:
        os.setuid(65534)
    path = Path(sys.argv[1])
    with Journal.open(path, sys.argv[2], read_only=True) as j:
        print([r[1] for r in j.read()[1]])
    try:
        Journal.open(path, sys.argv[2])
    except AuditError as error:
        print(type(error).__name__, error.hint)
    print(sorted(p.name for p in path.iterdir()))
"""


@pytest.mark.parametrize("crashed", [False, True])
def test_read_only_media(tmp_path_factory: pytest.TempPathFactory, crashed: bool) -> None:
    import shutil
    import tempfile

    # Below /tmp itself: pytest's own directories cannot be entered by another user.
    directory = Path(tempfile.mkdtemp(prefix="labeltui-test-"))
    try:
        journal.create(directory, UUID)
        if crashed:
            # Killed after a commit: what it saved lies in the log only.
            process = child(HOLDER, directory, UUID)
            assert process.stdout is not None
            process.stdout.readline()
            process.kill()
            process.wait()
            (directory / "journal.db-shm").unlink()
            assert (directory / "journal.db-wal").stat().st_size > 0
        else:
            with Journal.open(directory, UUID) as j:
                j.append("decide", [row(1)])
        (directory / "journal.lock").unlink(missing_ok=True)
        before = sorted(p.name for p in directory.iterdir())
        for path in directory.iterdir():
            path.chmod(0o444)
        directory.chmod(0o555)
        out = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(AS_ANOTHER_USER), directory, UUID],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        assert out[0] == "[1]"
        assert out[1].startswith("AuditError")
        assert "--read-only" in out[1]
        assert out[2] == str(before)
    finally:
        directory.chmod(0o755)
        shutil.rmtree(directory)


MOUNTS = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:40 / /home rw shared:5 - nfs4 server:/home rw
31 27 0:41 / /scratch rw - lustre mds@tcp:/scratch rw
32 30 0:42 / /home/ada/local\040disk rw - xfs /dev/sdb rw
33 27 0:43 / /mnt/ssh rw - fuse.sshfs host: rw
34 27 0:44 / /over rw - nfs server:/x rw
35 27 0:45 / /over rw - ext4 /dev/sdc rw
"""


@pytest.mark.parametrize(
    ("path", "shared"),
    [
        ("/data/my.audit", False),
        ("/home/ada/my.audit", True),
        ("/homework/my.audit", False),
        ("/home/ada/local disk/my.audit", False),
        ("/scratch/my.audit/journal.db", True),
        ("/mnt/ssh", True),
        ("/over/my.audit", False),
    ],
)
def test_the_file_system_is_looked_up(path: str, shared: bool) -> None:
    assert journal.on_shared_file_system(Path(path), MOUNTS) is shared


def test_this_file_system_is_local(tmp_path: Path) -> None:
    assert not journal.on_shared_file_system(tmp_path)


def test_on_a_network_file_system_a_rollback_journal_is_used(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # There is no such file system here: only the look-up is replaced, the rest is real.
    for module in (journal.database, journal.lock):
        monkeypatch.setattr(module, "on_shared_file_system", lambda path: True)
    with Journal.open(directory, UUID) as j:
        j.append("decide", [row(1)])
        assert j.flush(10)
        assert not (directory / "journal.db-wal").exists()
        with Journal.open(directory, UUID, read_only=True) as other:
            assert len(other.read()[0]) == 1
    record = {"host": "elsewhere", "boot_id": "x", "pid": 7, "start": "1", "reviewer": "eve", "since": "noon"}
    (directory / "journal.lock").write_text(json.dumps(record))
    with pytest.raises(AuditBusy, match="process 7 on elsewhere") as caught:
        Journal.open(directory, UUID)
    assert "delete" in caught.value.hint
    (directory / "journal.lock").unlink()
    with Journal.open(directory, UUID) as j:
        assert j.append("decide", [row(2)]).seq == 2


def test_a_crashed_local_journal_copied_to_a_network_file_system_is_continued(
    directory: Path, monkeypatch: pytest.MonkeyPatch, holder: subprocess.Popen[str]
) -> None:
    holder.kill()
    holder.wait()
    (directory / "journal.db-shm").unlink()
    for module in (journal.database, journal.lock):
        monkeypatch.setattr(module, "on_shared_file_system", lambda path: True)
    with Journal.open(directory, UUID, read_only=True) as j:
        assert len(j.read()[0]) == 1
    with Journal.open(directory, UUID) as j:
        assert len(j.read()[0]) == 1
        j.append("decide", [row(5)])
        assert j.flush(10)
    with Journal.open(directory, UUID, read_only=True) as j:
        assert [r[1] for r in j.read()[1]] == [1, 5]


def test_a_busy_reader_only_delays(directory: Path) -> None:
    """Somebody holds a read transaction while decisions are written and the journal is closed."""
    with Journal.open(directory, UUID) as j:
        j.append("decide", [row(1)])
        assert j.flush(10)
        other = sqlite3.connect(directory / "journal.db")
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM action").fetchone()
        j.append("decide", [row(2)])
        assert j.flush(10)
        assert other.execute("SELECT count(*) FROM action").fetchone() == (1,)
    other.close()
    with Journal.open(directory, UUID, read_only=True) as j:
        assert len(j.read()[0]) == 2


def test_no_thread_is_left(directory: Path) -> None:
    with Journal.open(directory, UUID) as j:
        j.append("decide", [ROW])
    assert not [t for t in threading.enumerate() if t.name == "journal"]


def test_a_late_failure_is_flushed_before_it_counts_as_saved(directory: Path, tmp_path: Path) -> None:
    """Every fsync fails for a while: the rows are in the page cache, and an empty transaction would "succeed"."""
    shim = tmp_path / "shim.so"
    source = tmp_path / "shim.c"
    source.write_text(FAILING_FSYNC)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    switch = tmp_path / "fail"
    code = """
        import sys, time
        from pathlib import Path
        from labeltui.journal import Journal
        switch = Path(sys.argv[3])
        with Journal.open(Path(sys.argv[1]), sys.argv[2]) as j:
            j.append("decide", [(1, b"1", "keep", b"a", b"a", None, None)])
            assert j.flush(10)
            switch.touch()
            j.append("decide", [(2, b"2", "keep", b"a", b"a", None, None)])
            for _ in range(4):
                assert not j.flush(10), "shown as saved while no flush succeeds"
                assert j.failed is not None
            switch.unlink()
            assert j.flush(10), j.failed
        print("well")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), directory, UUID, switch],
        env={**os.environ, "LD_PRELOAD": str(shim), "FAIL_FSYNC": str(switch)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "well\n", done.stderr
    with Journal.open(directory, UUID, read_only=True) as j:
        assert [r[1] for r in j.read()[1]] == [1, 2]


FAILING_FSYNC = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int fails(void) { const char *path = getenv("FAIL_FSYNC"); return path && access(path, F_OK) == 0; }
int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    if (fails()) { errno = EIO; return -1; }
    return real(fd);
}
int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    if (fails()) { errno = EIO; return -1; }
    return real(fd);
}
"""


def test_rollback_mode_flushes_the_directory_too(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal.open(directory, UUID) as j:
        j.append("decide", [row(1)])
        assert j.flush(10)
    for module in (journal.database, journal.lock):
        monkeypatch.setattr(module, "on_shared_file_system", lambda path: True)
    with Journal.open(directory, UUID) as j:
        db = j._open_for_writing()
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert db.execute("PRAGMA synchronous").fetchone() == (3,)  # EXTRA
        j._disconnect()


def test_a_deleted_lock_does_not_let_two_write(directory: Path) -> None:
    with Journal.open(directory, UUID) as first:
        first.append("decide", [row(1)])
        assert first.flush(10)
        (directory / "journal.lock").unlink()
        with Journal.open(directory, UUID) as second:
            second.append("decide", [row(2)])
            assert second.flush(10)
            first.append("decide", [row(3)])
            assert not first.flush(10)
            assert isinstance(first.failed, AuditError)
            with pytest.raises(AuditError, match="could not be saved"):
                first.close()
    with Journal.open(directory, UUID, read_only=True) as j:
        assert [r[1] for r in j.read()[1]] == [1, 2]


def test_a_lock_deleted_in_vain_is_taken_again(directory: Path) -> None:
    with Journal.open(directory, UUID) as j:
        (directory / "journal.lock").unlink()
        j.append("decide", [row(1)])
        assert j.flush(10)
        with pytest.raises(AuditBusy):
            Journal.open(directory, UUID)


def test_the_lock_is_never_written_through_a_link(directory: Path, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("mine")
    (directory / "journal.lock").unlink(missing_ok=True)
    (directory / "journal.lock").symlink_to(target)
    with pytest.raises(AuditError):
        Journal.open(directory, UUID)
    assert target.read_text() == "mine"


@pytest.mark.parametrize(
    "program",
    [
        "CREATE TRIGGER t AFTER INSERT ON action BEGIN DELETE FROM decision; END",
        "CREATE VIEW v AS SELECT * FROM action",
        "DROP TABLE decision",
    ],
)
def test_a_journal_with_a_schema_of_its_own_is_refused(directory: Path, program: str) -> None:
    with sqlite3.connect(directory / "journal.db") as db:
        db.execute(program)
    db.close()
    for read_only in (True, False):
        with pytest.raises(DamagedAudit):
            Journal.open(directory, UUID, read_only=read_only)
