"""The terminal UI: time to the first image of the screen, key to painted, and bytes on the wire.

The program runs in a pseudo terminal that answers its questions at once, on synthetic audits of 50,000 and of 1,281,167
samples with 32 px images. Times are from the key being written to the last byte of what it caused. What the UI's
thread does is timed inside the program, job by job.

``--only keys``: bursts of 2 to 200 random keys, clicks and wheel steps, each written at once and then one by one, must
lead to the same decisions (`tests/tui/bursts.py`; the test suite tries 200).
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import pty
import random
import select
import shutil
import signal
import struct
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from _common import CACHE, Report, median, parser
from labeltui import frames, paths, store
from labeltui.io.atomic import write_json
from labeltui.io.h5_writer import write_h5
from labeltui.io.names import pack_names
from labeltui.journal import create

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.factories import SHARED
from tests.factories import make_audit as make_small_audit
from tests.tui import bursts

SOURCE = Path(__file__).parent.parent / "src" / "labeltui"
SIZES = {"50k": (50_000, 10), "1.28M": (1_281_167, 1000)}
QUICK = {"50k": (5_000, 10)}
XTERM = (
    "\x1bP>|XTerm(390)\x1b\\\x1b[6;20;10t\x1b[4;800;1200t\x1b[8;40;120t"
    "\x1b[?1;0;256S\x1b[?1;0;1024S\x1b[?2;0;1200;800S\x1b[?2026;2$y\x1b[?63;1;2;4;22c"
)
KITTY = "\x1b_Gi=4207;OK\x1b\\\x1bP>|kitty(0.36.4)\x1b\\\x1b[6;20;10t\x1b[?2026;2$y\x1b[?62;52;c"
PLAIN = "\x1b[6;20;10t\x1b[?2026;2$y\x1b[?1;2c"
ANSWERS = {"sixel": XTERM, "kitty": KITTY, "blocks": PLAIN}
IMAGES = {"sixel": b"\x1bP", "kitty": b"\x1b_Ga=t", "blocks": "▀".encode()}
"""What stands in the output where an image is painted."""
QUIET = 0.25
"""Seconds without output after which a key's effect is complete; longer than the rest before neighbours are shown."""

BURSTS, QUICK_BURSTS, PIECE = 10_000, 50, 500
"""Bursts of keys that are tried, and how many of them in one run of the program."""

RUNNER = """
import asyncio, json, sys, time
from pathlib import Path
jobs = []
run = asyncio.events.Handle._run
def timed(self):
    begin, cpu = time.perf_counter(), time.thread_time()
    run(self)
    cpu = time.thread_time() - cpu
    task = getattr(self._callback, "__self__", None)
    name = task.get_name() if isinstance(task, asyncio.Task) else repr(self._callback)
    jobs.append((time.perf_counter() - begin, begin, name[:80], cpu))
asyncio.events.Handle._run = timed
from labeltui.cli import main
log = Path(sys.argv.pop())
try:
    main()
finally:
    log.write_text(json.dumps(jobs))
"""

BARE = """
import h5py, numpy
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("QUEUE" + " \u2192" * 10)
Bare().run()
"""
"""A program that does nothing but import what ours needs and paint a line: what no start can be faster than."""


def make_audit(directory: Path, n: int, classes: int, shown: int = 5_000) -> Path:
    """Write an audit of made-up samples: uniform classes, a tenth flagged, images of smooth noise where one looks."""
    audit = directory / f"{n}x{classes}.audit"
    # A copied cache names images that are not there: then the program shows a message instead, and that is cheap.
    complete = (audit / "journal.db").exists() and (directory / f"{n}.npy").exists()
    if complete and json.loads((audit / paths.SCAN_FILE).read_text())["root"] == str(directory):
        return audit
    shutil.rmtree(audit, ignore_errors=True)
    audit.mkdir(parents=True)
    rng = np.random.default_rng(0)
    given = np.sort(rng.integers(classes, size=n)).astype(np.int32)
    k = 10
    indices = rng.integers(n, size=(n, k), dtype=np.int32)
    near = np.clip(np.arange(n)[:, None] + rng.integers(-400, 400, size=(n, k)), 0, n - 1).astype(np.int32)
    indices = np.where(rng.random((n, k)) < 0.7, near, indices)  # most neighbours are of the own class
    order = np.argsort(indices.ravel(), kind="stable")
    pointers = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(indices.ravel(), minlength=n), out=pointers[1:])
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (np.repeat(given, k), given[indices.ravel()]), 1)
    share = counts / np.maximum(1, counts.sum(1, keepdims=True))
    overlap = np.zeros((classes, classes))
    for row in range(classes):
        overlap[row] = np.minimum(share[row], share).sum(1)
    flagged = rng.random(n) < 0.1
    top = np.where(flagged, (given + 1 + rng.integers(classes - 1, size=n)) % classes, given)
    labels = (top[:, None] + np.arange(5)[None, :] * 3) % classes
    score = np.where(flagged, rng.random(n) * 0.5, 0.5 + rng.random(n) * 0.5).astype(np.float32)
    worst = np.flatnonzero(flagged)
    hashes = _images(directory, n, worst[np.argsort(score[worst], kind="stable")][:shown], rng)
    ids = [b"class%04d/%07d.png" % (label, i) for i, label in enumerate(given.tolist())]
    names = [b"class%04d" % label for label in range(classes)]
    arrays: dict[str, Any] = {
        **pack_names("samples/id", ids),
        **pack_names("classes/id", names),
        **pack_names("classes/name", names),
        **pack_names("splits/name", []),
        "samples/split": np.full(n, -1, np.int16),
        "samples/sha256": hashes,
        "samples/pixels": np.zeros((n, 32), np.uint8),
        "samples/status": np.zeros(n, np.uint8),
        "labels/given": given,
        "embeddings/made-up": rng.random((n, 8), dtype=np.float32),
        "graph/made-up/indices": indices,
        "graph/made-up/similarity": np.sort(rng.random((n, k), dtype=np.float32))[:, ::-1].copy(),
        "graph/made-up/rev_indptr": pointers,
        "graph/made-up/rev_indices": (order // k).astype(np.int32),
        "groups/duplicate": np.arange(n, dtype=np.int32),
        "csg/T": counts,
        "csg/S": share,
        "csg/W": overlap,
        "csg/eigenvalues": np.zeros(classes),
        "csg/overlap": overlap.sum(1) - np.diag(overlap),
        "csg/self_similarity": np.diag(share).copy(),
        "csg/spectral_contribution": np.zeros(classes),
        "csg/present": np.ones(classes, bool),
        "csg/reliable": np.ones(classes, bool),
        "csg/sizes": np.bincount(given, minlength=classes),
        "csg/interval": np.array([1.9, 2.1]),
        "scores/neighbours": score,
        "scores/head": score,
        "scores/blend": score,
        "suggest/label": labels.astype(np.int32),
        "suggest/p": np.tile(np.array([0.8, 0.1, 0.05, 0.03, 0.02], np.float32), (n, 1)),
    }
    attrs: dict[str, dict[str, Any]] = {
        "": store.audit_attrs(),
        "embeddings": {"default": "made-up"},
        "embeddings/made-up": {"model": "made-up"},
        "graph/made-up": {"metric": "cosine", "k": k, "csg_k": k, "backend": "made-up", "exact": True},
        "csg": {"csg": 2.0, "k": k, "embedding": "made-up"},
    }
    digest = write_h5(audit / paths.AUDIT_FILE, arrays, attrs)
    source = {"kind": "arrays", "file": f"{n}.npy", "image_store": "array", "array_key": None}
    write_json(
        audit / paths.SCAN_FILE,
        {"version": "made-up", "sha256": digest, "root": str(directory), "source": source},
    )
    opened = store.Store.open(audit)
    uuid = opened.uuid
    opened.close()
    create(audit, uuid)
    return audit


def _images(directory: Path, n: int, shown: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Write one array with a row a sample; only those that can come into sight take room on the disk.

    Returns
    -------
    ndarray of uint8, shape (n, 32)
        SHA-256 of the images that can come into sight, else 0.
    """
    file = directory / f"{n}.npy"
    images = np.lib.format.open_memmap(file, "w+", np.uint8, (n, 32, 32, 3))
    hashes = np.zeros((n, 32), np.uint8)
    y, x = np.mgrid[0:32, 0:32] / 32
    for sample in shown.tolist():
        waves = rng.normal(size=(3, 4))
        smooth = [np.sin(6 * (w[0] * x + w[1] * y + w[2])) + w[3] * x for w in waves]
        image = np.stack(smooth, -1) * 60 + 128 + rng.normal(0, 6, (32, 32, 3))
        images[sample] = np.clip(image, 0, 255).astype(np.uint8)
        hashes[sample] = np.frombuffer(hashlib.sha256(images[sample].tobytes()).digest(), np.uint8)
    images.flush()
    return hashes


class Program:
    """The program in a pseudo terminal of 120x40 that answers at once."""

    runner = RUNNER

    def __init__(self, audit: Path | None, graphics: str, home: Path) -> None:
        self.log = home / "jobs.json"
        command = (
            [self.runner, "review", str(audit), "--graphics", graphics, str(self.log)] if audit else [BARE]
        )
        (home / ".local" / "state" / "labeltui" / "audits").mkdir(
            parents=True
        )  # not the first start: no greeting
        settings = home / ".config" / "labeltui" / "config.toml"
        settings.parent.mkdir(parents=True)
        settings.write_text("[train]\nafter = 0\n")  # no training beside what is measured
        environment = {
            **os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8", "HOME": str(home),
        }  # fmt: skip
        for name in (
            "XDG_CONFIG_HOME",
            "XDG_STATE_HOME",
            "XDG_CACHE_HOME",
            "NO_COLOR",
            "TMUX",
            "SSH_CONNECTION",
            "PYTHONDONTWRITEBYTECODE",  # an installed program is compiled
        ):
            environment.pop(name, None)
        self.answer = ANSWERS[graphics].encode()
        self.image = IMAGES[graphics]
        self.images = 0
        self.started = time.perf_counter()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execvpe(sys.executable, [sys.executable, "-c", *command], environment)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 800, 1200))
        self.chunks: list[tuple[float, int]] = []
        self.tail = b""
        self.first: float | None = None
        self.processor = 0.0
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self.fd, 1 << 16)
            except OSError:
                data = b""
            if not data:
                self.ended.set()
                return
            now = time.perf_counter()
            for _ in range(data.count(b"\x1b[c")):
                os.write(self.fd, self.answer)
            self.chunks.append((now, len(data)))
            self.images += data.count(self.image)
            if self.first is None:
                self.tail = (self.tail + data)[-100_000:]
                # The title of the queue, and its rows with given and suggested class.
                if b"QUEUE" in self.tail and self.tail.count("→".encode()) > 5:
                    self.first = now
                    self.processor = self.processor_time()

    def processor_time(self) -> float:
        """Return the seconds of processor time spent so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def arrive(self, quiet: float, limit: float = 60.0) -> None:
        """Wait for the first screen, and until nothing more comes for a while."""
        end = time.perf_counter() + limit
        while self.first is None:
            assert not self.ended.is_set(), "the program ended"
            assert time.perf_counter() < end, "the first screen did not come"
            time.sleep(0.005)
        self.settle(quiet)

    def settle(self, quiet: float = QUIET, limit: float = 30.0) -> None:
        end = time.perf_counter() + limit
        while time.perf_counter() < end:
            if self.chunks and time.perf_counter() - self.chunks[-1][0] > quiet:
                return
            time.sleep(0.005)

    def press(self, key: str, paints: bool = False) -> tuple[float, int]:
        """Return seconds from the key to the last byte that it caused, and the number of bytes.

        With `paints` the key must lead to another image, which a busy machine may take long to encode; a number of
        bytes without it would mean nothing.
        """
        before, images, begin = len(self.chunks), self.images, time.perf_counter()
        os.write(self.fd, key.encode())
        while paints and self.images == images:
            assert time.perf_counter() - begin < 10, "no image was painted: are the images there?"
            time.sleep(0.005)
        time.sleep(QUIET)
        self.settle()
        new = self.chunks[before:]
        return (new[-1][0] - begin if new else 0.0), sum(size for _, size in new)

    def echo(self, key: str) -> float:
        """Return seconds from the key to the first paint that it caused."""
        before, begin = len(self.chunks), time.perf_counter()
        os.write(self.fd, key.encode())
        while len(self.chunks) == before and time.perf_counter() - begin < 5:
            select.select([], [], [], 0.0005)
        seconds = self.chunks[before][0] - begin
        self.settle(0.06)
        return seconds

    def memory(self) -> float:
        """Return the anonymous memory in MB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) / 1024
        return float("nan")

    def close(self) -> list[tuple[float, float, str, float]]:
        """Leave and return the jobs of the UI's thread: seconds, when, what, seconds of its own work."""
        os.write(self.fd, b"q\x11")  # the bare program leaves by ctrl+q
        if not self.ended.wait(10):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)
        return [tuple(job) for job in json.loads(self.log.read_text())] if self.log.exists() else []


def measure(audit: Path, graphics: str, starts: int, moves: int) -> dict[str, Any]:
    """Start, move, decide, and count."""
    first: dict[str, list[float]] = {"ours": [], "bare": [], "ours, processor": [], "bare, processor": []}
    anonymous = []
    for _ in range(starts):
        for name, shown in (("bare", None), ("ours", audit)):
            with tempfile.TemporaryDirectory() as home:
                program = Program(shown, graphics, Path(home))
                program.arrive(0.8)
                assert program.first is not None
                first[name].append(program.first - program.started)
                first[f"{name}, processor"].append(program.processor)
                if shown:
                    anonymous.append(program.memory())
                program.close()
    with tempfile.TemporaryDirectory() as home:
        program = Program(audit, graphics, Path(home))
        program.arrive(1.5)
        ready = time.perf_counter()
        lines = [program.echo("j") for _ in range(moves)]
        between = time.perf_counter()
        decisions = [program.echo("1") for _ in range(moves)]
        decided = time.perf_counter()
        program.press("h")
        cursor = [program.press("j")[1] for _ in range(8)]
        program.press("l")
        queue_moves = [program.press("j")[1] for _ in range(8)]
        relabels = [program.press("1", paints=True)[1] for _ in range(8)]
        modals = [program.press(key)[1] for key in ("?", "\x1b", "/", "\x1b", ":", "\x1b")]
        for _ in range(len(decisions) + len(relabels)):  # leave the audit as it was found
            program.echo("u")
        left = time.perf_counter()
        jobs = program.close()
    # Giving the terminal back waits 0.2 s for the thread that reads it; nobody waits for a frame then.
    after = [job for job in jobs if ready - 0.001 < job[1] < left]
    slowest = sorted(after, reverse=True)[:5]
    return {
        "first_paint": first,
        "anonymous_mb": anonymous,
        "move_p99": float(np.quantile(lines, 0.99)),
        "move_median": median(lines),
        "move_processor_ms": sum(job[3] for job in after if job[1] < between) / moves * 1000,
        "relabel_processor_ms": sum(job[3] for job in after if between <= job[1] < decided) / moves * 1000,
        "relabel_p99": float(np.quantile(decisions, 0.99)),
        "relabel_median": median(decisions),
        "cursor_bytes": median([float(b) for b in cursor]),
        "queue_move_bytes": median([float(b) for b in queue_moves]),
        "relabel_bytes": median([float(b) for b in relabels]),
        "relabel_bytes_most": max(relabels),
        "modal_bytes": max(modals),
        "slow_jobs": sum(job[0] > 0.016 for job in after),
        "jobs": len(after),
        "slow_jobs_cpu": sum(job[3] > 0.016 for job in after),
        "slowest_ms": [[round(job[0] * 1000, 1), job[2], round(job[3] * 1000, 1)] for job in slowest],
    }


def type_bursts(seed: int, number: int) -> dict[str, Any]:
    """Type bursts at once and one by one, and return those that decide differently."""
    rng = random.Random(seed)
    typed = [bursts.random_burst(rng) for _ in range(number)]
    with tempfile.TemporaryDirectory() as place:
        os.environ[SHARED] = place  # where audits are made, to be copied
        Path(place, "keys").mkdir()
        fresh = make_small_audit(Path(place, "keys"), n=200, classes=5, flips=0.15)
        different, deciding = bursts.differences(fresh, Path(place), typed)
    return {"bursts": number, "keys": sum(map(len, typed)), "deciding": sum(deciding), "different": different}


def main() -> None:
    """Measure and report."""
    options = parser(__doc__).parse_args()
    report = Report("tui", options)
    sizes = QUICK if options.quick else SIZES
    starts, moves = (1, 10) if options.quick else (max(3, options.rounds), 60)
    directory = CACHE / "tui" / "hashed-audits"
    directory.mkdir(parents=True, exist_ok=True)
    limits = {"50k": (0.5, None), "1.28M": (0.6, 350.0)}
    wire = {"sixel": 22_000, "blocks": 32_000, "kitty": 8_000}
    for size, (n, classes) in sizes.items():
        if not report.wanted(size):
            continue
        audit = make_audit(directory, n, classes)
        # Without our own frames there are no images but blocks.
        ours = frames.usable()
        kinds = ("blocks", "sixel", "kitty") if size == "50k" and ours else ("blocks",)
        for kind in kinds:
            found = report.cell(
                f"{size} {kind}" if ours else f"{size} {kind}, Textual's frames",
                lambda kind=kind, audit=audit: measure(audit, kind, starts, moves),  # type: ignore[misc]
                SOURCE / "tui",
                SOURCE / "audit",
                n=n,
                kind=kind,
                starts=starts,
                moves=moves,
            )
            apply = not options.quick
            if kind == "blocks":
                paint, memory = limits[size]
                report.add(
                    f"first paint, {n:,} samples, {classes:,} classes", median(found["first_paint"]["ours"]), "s",
                    better="lower", target=paint if apply else None, detail={"runs": found["first_paint"]},
                )  # fmt: skip
                report.add(
                    f"first paint of a bare Textual + numpy + h5py program, beside {size}",
                    median(found["first_paint"]["bare"]), "s", better="lower",
                )  # fmt: skip
                report.add(
                    f"first paint as a ratio to the bare program's, {size}",
                    median(found["first_paint"]["ours"]) / median(found["first_paint"]["bare"]), "x",
                    better="lower", target=1.4 if apply else None,
                )  # fmt: skip
                report.add(
                    f"anonymous memory, {n:,} samples", median(found["anonymous_mb"]), "MB",
                    better="lower", target=memory,
                )  # fmt: skip
                for what, name, target in (
                    ("cursor move", "move", 30.0),
                    ("relabel and next", "relabel", 50.0),
                ):
                    report.add(
                        f"{what}, key to painted, p99, {size}", found[f"{name}_p99"] * 1000, "ms",
                        better="lower", target=target if apply else None,
                        detail={
                            "median": found[f"{name}_median"] * 1000,
                            "the UI thread's processor time, ms": found[f"{name}_processor_ms"],
                        },
                    )  # fmt: skip
                report.add(
                    f"jobs of the UI thread over 16 ms, {size}", found["slow_jobs"], "jobs",
                    better="lower", target=0 if apply else None,
                    detail={
                        "jobs": found["jobs"],
                        "over 16 ms of processor time": found["slow_jobs_cpu"],
                        "slowest: ms, task, ms of processor": found["slowest_ms"],
                    },
                )  # fmt: skip
                report.add(
                    f"bytes of a cursor move in the classes, {size}", found["cursor_bytes"], "B",
                    better="lower", target=1000,
                )  # fmt: skip
                report.add(
                    f"bytes of the largest modal, {size}",
                    found["modal_bytes"],
                    "B",
                    better="lower",
                    target=30_000,
                )
            report.add(
                f"bytes of relabel and next, {kind}, {size}", found["relabel_bytes"], "B",
                better="lower", target=wire[kind],
                detail={"most": found["relabel_bytes_most"], "cursor move in the queue": found["queue_move_bytes"]},
            )  # fmt: skip
    if report.wanted("keys"):
        number = QUICK_BURSTS if options.quick else PIECE
        pieces = [
            report.cell(
                f"keys, bursts from {seed}",
                lambda seed=seed: type_bursts(seed, number),  # type: ignore[misc]
                SOURCE / "tui",
                SOURCE / "audit",
                SOURCE / "graphics",
                Path(bursts.__file__),
                seed=seed,
                number=number,
            )
            for seed in range(1 if options.quick else BURSTS // PIECE)
        ]
        for burst in itertools.chain.from_iterable(piece["different"] for piece in pieces):
            print(burst)
        tried = sum(piece["bursts"] for piece in pieces)
        report.add(
            f"bursts of keys that decide differently when they arrive together, of {tried:,}",
            sum(len(piece["different"]) for piece in pieces),
            "bursts",
            better="lower",
            target=0,
            detail={name: sum(piece[name] for piece in pieces) for name in ("keys", "deciding")},
        )
    report.finish()


if __name__ == "__main__":
    main()
