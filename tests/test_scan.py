"""Scanning: what an audit holds, the same bytes however it was interrupted, and degenerate data."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labeltui import csg, graph, paths, pipeline, report, store
from labeltui.audit import live_csg
from labeltui.audit.live_csg import LiveComplexity
from labeltui.cli._common import audit_status
from labeltui.embed import Block, EmbedSpec
from labeltui.errors import (
    AuditBusy,
    AuditError,
    AuditExists,
    Cancelled,
    DamagedAudit,
    NotAnAudit,
    SourceError,
    UsageError,
)
from labeltui.head import HeadSpec
from labeltui.io.atomic import sha256, write_json
from labeltui.pipeline import Expected
from labeltui.scanning import STAGES, ScanOptions, scan, summary
from labeltui.scanning.checkpoint import Checkpoint
from labeltui.store import Store

HEAD = HeadSpec(hidden=16, components=16, epochs=2, least_steps=10)
PIXELS = EmbedSpec("pixels", image_size=4, batch_size=16, workers=0)


def options(**changes: Any) -> ScanOptions:
    return ScanOptions(**{"embed": PIXELS, "head": HEAD, "folds": 3, **changes})


def write_tree(root: Path, n: int = 60, classes: int = 3, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    for index in range(n):
        label = index % classes
        pixels = np.clip(80 * label + rng.normal(0, 30, (4, 4, 3)), 0, 255).astype(np.uint8)
        pixels[label] = 255
        path = root / f"c{label}" / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((8, 8), Image.Resampling.NEAREST).save(path)
    return root


def write_npz(path: Path, n: int = 60, k: int = 3, **more: Any) -> Path:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % k
    embeddings = (3 * np.eye(8)[labels] + rng.normal(size=(n, 8))).astype(np.float32)
    np.savez(path, **{"embeddings": embeddings, "labels": labels, **more})
    return path


class TestWhatAnAuditHolds:
    @pytest.fixture(scope="class")
    @classmethod
    def scanned(cls, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[str, int, int]]]:
        directory = tmp_path_factory.mktemp("scan")
        tree = write_tree(directory / "data")
        shutil.copy(tree / "c0" / "000.png", tree / "c1" / "copy.png")
        (tree / "c2" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        calls: list[tuple[str, int, int]] = []
        audit = scan(tree, directory / "x.audit", options(k=5), lambda *call: calls.append(call))
        return audit, calls

    def test_the_files(self, scanned: tuple[Path, object]) -> None:
        audit = scanned[0]
        assert {path.name for path in audit.iterdir()} == {"audit.h5", "journal.db", "scan.json"}
        with Store.open(audit) as opened:
            assert list(opened.faults()) == []
            assert opened.scan["sha256"] == sha256(audit / paths.AUDIT_FILE)
            assert opened.scan["source"]["kind"] == "folder"
            assert opened.scan["root"] == str(audit.parent / "data")

    def test_samples_and_classes(self, scanned: tuple[Path, object]) -> None:
        with Store.open(scanned[0]) as opened:
            assert opened.n == 62
            assert opened.class_ids == [b"c0", b"c1", b"c2"]
            assert opened.ids[0] == b"c0/000.png"
            for index in range(opened.n):
                assert opened.ids[index].startswith(opened.class_ids[opened.given[index]] + b"/")
            broken = opened.ids.index(b"c2/broken.png")
            assert np.flatnonzero(opened.status).tolist() == [broken]
            content = (scanned[0].parent / "data" / "c0" / "000.png").read_bytes()
            assert opened.array("samples/sha256")[0].tobytes() == hashlib.sha256(content).digest()

    def test_graph_and_csg_follow_from_the_embedding(self, scanned: tuple[Path, object]) -> None:
        with Store.open(scanned[0]) as opened:
            ok = np.flatnonzero(opened.status == paths.OK)
            name = opened.embedding_name
            made = graph.expand(graph.build(opened.embedding()[ok], 50), ok, opened.n)
            indices = opened.array(f"graph/{name}/indices")
            assert np.array_equal(indices, made.indices)
            attrs = opened.attrs(f"graph/{name}")
            assert (attrs["k"], attrs["csg_k"], attrs["exact"]) == (50, 5, True)
            indptr, reverse = made.reverse(5)
            assert np.array_equal(opened.array(f"graph/{name}/rev_indptr"), indptr)
            assert np.array_equal(opened.array(f"graph/{name}/rev_indices"), reverse)
            counts = csg.pooled_counts(indices, opened.given, 3, 5)
            assert np.array_equal(opened.matrix("csg/T"), counts)
            measured = csg.complexity(counts, csg.class_sizes(indices, opened.given, 3), 5)
            assert opened.attrs("csg")["csg"] == measured.csg
            low, high = opened.array("csg/interval")
            assert low <= high
            assert opened.array("csg/sweep_k").tolist() == [3, 5, 10, 20, 50]

    def test_a_broken_sample_stays_and_is_not_judged(self, scanned: tuple[Path, object]) -> None:
        with Store.open(scanned[0]) as opened:
            broken = opened.ids.index(b"c2/broken.png")
            name = opened.embedding_name
            assert (opened.array(f"graph/{name}/indices")[broken] == -1).all()
            assert not (opened.array(f"graph/{name}/indices") == broken).any()
            assert (opened.embedding()[broken] == 0).all()
            assert opened.array("scores/blend")[broken] == 0.5
            assert opened.array("suggest/label")[broken].tolist() == [2, -1, -1, -1, -1]
            assert opened.array("suggest/p")[broken].tolist() == [0] * 5
        told = summary(scanned[0])
        assert told.not_ok == {"unreadable": 1, "non_finite": 0, "zero": 0}
        assert [(fault.index, fault.id, fault.status) for fault in told.faults] == [
            (broken, "c2/broken.png", "unreadable")
        ]
        assert told.faults[0].reason

    def test_copies_share_a_group_and_a_fold(self, scanned: tuple[Path, object]) -> None:
        with Store.open(scanned[0]) as opened:
            groups = opened.array("groups/duplicate")
            one, two = opened.ids.index(b"c0/000.png"), opened.ids.index(b"c1/copy.png")
            assert groups[one] == groups[two]
            assert len(np.unique(groups)) == opened.n - 1

    def test_scores_and_suggestions_obey_their_law(self, scanned: tuple[Path, object]) -> None:
        with Store.open(scanned[0]) as opened:
            for name in opened.names_in("scores"):
                score = opened.array(f"scores/{name}")
                assert score.dtype == np.float32
                assert score.shape == (62,)
                assert ((score >= 0) & (score <= 1)).all()
            labels, p = opened.array("suggest/label"), opened.array("suggest/p")
            ok = opened.status == paths.OK
            assert (np.sort(labels[ok, :3], axis=1) == [0, 1, 2]).all()
            assert (np.diff(p[ok], axis=1) <= 0).all()
            copy = opened.ids.index(b"c1/copy.png")  # looks like c0
            assert labels[copy, 0] != 1
            flags = int((ok & (labels[:, 0] != opened.given)).sum())
        assert summary(scanned[0]).flags == flags

    def test_progress_goes_through_all_stages(self, scanned: tuple[Path, list[tuple[str, int, int]]]) -> None:
        calls = scanned[1]
        assert tuple(dict.fromkeys(stage for stage, _, _ in calls)) == STAGES
        assert all(0 <= done <= total for _, done, total in calls)
        embedded = [done for stage, done, total in calls if stage == "embed" and total == 62]
        assert embedded == sorted(embedded)
        assert embedded[0] == 0
        assert embedded[-1] == 62


class TestSameBytes:
    def test_equal_scans_are_equal_whatever_the_threads(self, tmp_path: Path) -> None:
        tree = write_tree(tmp_path / "data")
        digests, uuids = set(), set()
        for threads in (1, 3):
            audit = scan(tree, tmp_path / f"{threads}.audit", options(threads=threads))
            digests.add(sha256(audit / paths.AUDIT_FILE))
            with Store.open(audit) as opened:
                uuids.add(opened.uuid)
        other = scan(tree, tmp_path / "other.audit", options(seed=1))
        assert len(digests) == len(uuids) == 1
        assert sha256(other / paths.AUDIT_FILE) not in digests

    def test_a_model_that_is_not_needed_is_told(self, tmp_path: Path) -> None:
        audit = scan(write_npz(tmp_path / "x.npz"), tmp_path / "a", options(embed=EmbedSpec("resnet18")))
        assert "resnet18 was not used" in " ".join(summary(audit).notes)

    def test_float16_embeddings_stay_so(self, tmp_path: Path) -> None:
        embeddings = np.random.default_rng(1).normal(size=(60, 8)).astype(np.float16)
        path = write_npz(tmp_path / "x.npz", embeddings=embeddings)
        with Store.open(scan(path, tmp_path / "x.audit", options())) as opened:
            assert opened.embedding().dtype == np.float16
            assert np.array_equal(opened.embedding(), embeddings)


# Imports once, then one forked child a request: it may kill itself where it is told.
SERVER = """
    import gc, json, os, signal, sys, time, traceback
    from pathlib import Path
    import torch  # slow to import, and imported by the head
    sys.path.insert(0, sys.argv[1])
    from labeltui import head
    from labeltui.head import training
    from labeltui.io import part
    from labeltui.scanning import checkpoint, scan
    from tests.test_scan import options

    checkpoint.FLUSH_SHARE = float("inf")  # a batch here takes less time than its flush: never wait for more

    def run(request):
        kill, calls = request["kill"], []

        def die():
            os.kill(os.getpid(), signal.SIGKILL)

        if kill and "call" in kill:
            original, left = getattr(os, kill["call"]), [kill["nth"]]

            def counted(*arguments, **named):
                left[0] -= 1
                if left[0] == 0:
                    die()
                return original(*arguments, **named)

            setattr(os, kill["call"], counted)

        if kill and "saved" in kill:
            # Every look at the clock keeps the unfinished work; a filter that takes long enough to be looked at.
            part.LEAST_SECONDS, part.SHARE = 0.0, float("inf")
            os.environ["LABELTUI_KNN"] = "c"
            rate = training.one_cycle

            def slow(done):
                time.sleep(0.02)  # each step of a head, so that heads do not run ahead of what is saved
                return rate(done)

            training.one_cycle = slow
            save, remaining = part.Part.save, [kill["saved"]]

            def saved(self, key, pieces):
                save(self, key, pieces)
                remaining[0] -= self.path.name == kill.get("file", self.path.name)
                if remaining[0] == 0:
                    die()

            part.Part.save = saved

        def note(what):
            with open(request["report"], "a") as file:
                file.write(f"{what}\\n")

        train = head.out_of_fold

        def train_noting_epochs(*arguments, progress, **named):
            def followed(epoch):
                note(f"epoch {epoch.fold} {epoch.member} {epoch.epoch}")
                progress(epoch)

            return train(*arguments, progress=followed, **named)

        head.out_of_fold = train_noting_epochs

        def progress(stage, done, total):
            note(f"{stage} {done}")
            if kill and kill.get("stage") == stage and done >= kill.get("done", 0):
                die()

        source = Path(request["source"])
        ready = {"threads": 1, "metric": "cosine"} if source.suffix == ".npz" else {}
        scan(source, Path(request["out"]), options(**ready), progress)

    gc.freeze()  # a search for garbage among torch's objects would take longer than a scan
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                run(json.loads(line))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Server:
    def __init__(self) -> None:
        root = str(Path(__file__).parent.parent)
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SERVER), root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def scan(self, source: Path, out: Path, report: Path, kill: dict[str, Any] | None = None) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        request = {"source": str(source), "out": str(out), "report": str(report), "kill": kill}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    assert server.process.stdin is not None
    server.process.stdin.close()
    server.process.wait(timeout=10)


def embedded(report: Path) -> list[int]:
    """How many samples were done, each time that was told."""
    lines = [line.split() for line in report.read_text().splitlines()]
    return [int(line[1]) for line in lines if line[0] == "embed"]


def epochs_of(report: Path, stage: str) -> list[str]:
    """Epochs of heads that were trained in a stage."""
    now, found = "", []
    for line in report.read_text().splitlines():
        kind, _, rest = line.partition(" ")
        if kind != "epoch":
            now = kind
        elif now == stage:
            found.append(rest)
    return found


class TestKilled:
    @pytest.fixture(scope="class")
    @classmethod
    def whole(cls, tmp_path_factory: pytest.TempPathFactory, server: Server) -> tuple[Path, str]:
        directory = tmp_path_factory.mktemp("whole")
        tree = write_tree(directory / "data", n=90)
        assert server.scan(tree, directory / "a", directory / "report") == 0
        return tree, sha256(directory / "a" / paths.AUDIT_FILE)

    @pytest.mark.parametrize("done", [0, 48, 80])
    def test_no_finished_batch_is_embedded_again(
        self, whole: tuple[Path, str], server: Server, tmp_path: Path, done: int
    ) -> None:
        tree, digest = whole
        out, first, second = tmp_path / "a", tmp_path / "first", tmp_path / "second"
        kill = {"stage": "embed", "done": done}
        assert server.scan(tree, out, first, kill) == -signal.SIGKILL
        assert not (out / paths.AUDIT_FILE).exists()
        log = out / paths.PARTIAL / "log.jsonl"
        logged = (
            sum(json.loads(line)["stop"] - json.loads(line)["start"] for line in log.open()) if done else 0
        )
        assert logged == done
        assert server.scan(tree, out, second) == 0
        counts = [count for count in embedded(second) if count != 100][
            1:
        ]  # the first tells the stage's start
        assert counts[0] == logged
        assert len(counts) - 1 == -(-(90 - logged) // 16)  # one call for each batch that was left
        assert sha256(out / paths.AUDIT_FILE) == digest

    @pytest.mark.parametrize(
        "kill",
        [
            {"stage": "graph"},
            {"stage": "head"},
            {"stage": "score"},
            {"stage": "write"},
            {"stage": "write", "done": 100},
            *({"call": "replace", "nth": nth} for nth in (2, 4, 5, 6)),
            *({"call": "fsync", "nth": nth} for nth in (4, 14, 17)),
            {"call": "unlink", "nth": 1},
        ],
        ids=lambda kill: "-".join(map(str, kill.values())),
    )
    def test_the_same_bytes_after_a_kill_anywhere(
        self, whole: tuple[Path, str], server: Server, tmp_path: Path, kill: dict[str, Any]
    ) -> None:
        tree, digest = whole
        out = tmp_path / "a"
        assert server.scan(tree, out, tmp_path / "first", kill) == -signal.SIGKILL
        assert server.scan(tree, out, tmp_path / "second") == 0
        assert sha256(out / paths.AUDIT_FILE) == digest
        assert {path.name for path in out.iterdir()} == {"audit.h5", "journal.db", "scan.json"}
        from labeltui.audit import Audit

        with Audit.open(out) as audit:
            assert audit.n == 90

    def test_a_finished_step_is_not_done_again(
        self, whole: tuple[Path, str], server: Server, tmp_path: Path
    ) -> None:
        tree, digest = whole
        out = tmp_path / "a"
        assert server.scan(tree, out, tmp_path / "first", {"stage": "score"}) == -signal.SIGKILL
        made = {name: (out / paths.PARTIAL / name).stat().st_mtime_ns for name in ("graph.h5", "head.h5")}
        assert server.scan(tree, out, tmp_path / "second", {"stage": "write"}) == -signal.SIGKILL
        assert made == {name: (out / paths.PARTIAL / name).stat().st_mtime_ns for name in made}
        assert server.scan(tree, out, tmp_path / "third") == 0
        assert sha256(out / paths.AUDIT_FILE) == digest


def test_a_scan_killed_within_the_graph_goes_on_from_its_tiles(server: Server, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(5000) % 3
    embeddings = (2 * np.eye(96)[labels] + rng.normal(size=(5000, 96))).astype(np.float32)
    source = write_npz(tmp_path / "x.npz", embeddings=embeddings, labels=labels)
    assert server.scan(source, tmp_path / "whole", tmp_path / "report") == 0
    out = tmp_path / "a"
    for kill_at in (2, 1, 0):  # killed once more while it goes on, then left alone
        killed = server.scan(source, out, tmp_path / "report", {"saved": kill_at})
        assert killed == (-signal.SIGKILL if kill_at else 0)
        if kill_at:
            assert (out / paths.PARTIAL / "graph.part").stat().st_size < 60 * 16 * len(labels)
    assert any("went on from the work of the interrupted scan" in note for note in summary(out).notes)
    assert sha256(out / paths.AUDIT_FILE) == sha256(tmp_path / "whole" / paths.AUDIT_FILE)
    assert not (out / paths.PARTIAL).exists()


@pytest.mark.parametrize("stage", ["head", "score"])
def test_a_scan_killed_within_a_classifier_goes_on_from_its_epochs(
    server: Server, tmp_path: Path, stage: str
) -> None:
    source = write_npz(tmp_path / "x.npz", 90)
    assert server.scan(source, tmp_path / "whole", tmp_path / "report") == 0
    every = epochs_of(tmp_path / "report", stage)
    out, trained = tmp_path / "a", []
    for number, kill_at in enumerate((4, 2, 0)):
        report = tmp_path / f"report{number}"
        kill = {"saved": kill_at, "file": f"{stage}.part"}
        assert server.scan(source, out, report, kill) == (-signal.SIGKILL if kill_at else 0)
        trained += epochs_of(report, stage)
    assert (
        len(set(trained)) == len(trained) <= len(every) - 2
    )  # the last before a kill were kept, but not told
    assert set(trained) < set(every)
    assert any("classifier went on from the work" in note for note in summary(out).notes)
    assert sha256(out / paths.AUDIT_FILE) == sha256(tmp_path / "whole" / paths.AUDIT_FILE)
    assert not (out / paths.PARTIAL).exists()


@pytest.mark.parametrize("change", ["damaged", "other labels"])
def test_classifiers_start_anew_where_what_is_kept_is_not_theirs(
    server: Server, tmp_path: Path, change: str
) -> None:
    source, out = write_npz(tmp_path / "x.npz", 90), tmp_path / "a"
    assert server.scan(source, out, tmp_path / "0", {"saved": 7, "file": "score.part"}) == -signal.SIGKILL
    if change == "damaged":
        kept = out / paths.PARTIAL / "score.part"
        content = bytearray(kept.read_bytes())
        content[len(content) // 2] ^= 1
        kept.write_bytes(content)
    else:
        write_npz(source, 90, labels=np.arange(90) // 30)
    assert server.scan(source, out, tmp_path / "1") == 0
    assert server.scan(source, tmp_path / "whole", tmp_path / "2") == 0
    assert epochs_of(tmp_path / "1", "score") == epochs_of(tmp_path / "2", "score") != []
    assert sha256(out / paths.AUDIT_FILE) == sha256(tmp_path / "whole" / paths.AUDIT_FILE)


class TestResuming:
    @pytest.fixture
    def stopped(self, tmp_path: Path) -> tuple[Path, Path]:
        """A scan that was cancelled half-way."""
        tree, out = write_tree(tmp_path / "data"), tmp_path / "x.audit"
        asked = []

        def cancel() -> bool:
            asked.append(1)
            return (out / paths.PARTIAL / "log.jsonl").exists() and len(asked) > 4

        with pytest.raises(Cancelled, match="resumes"):
            scan(tree, out, options(), cancel=cancel)
        assert (out / paths.PARTIAL / "log.jsonl").stat().st_size
        return tree, out

    def test_a_cancelled_scan_goes_on(self, stopped: tuple[Path, Path], tmp_path: Path) -> None:
        tree, out = stopped
        scan(tree, out, options(resume=True))
        with Store.open(out) as opened:
            assert 0 < opened.scan["resumed_samples"] < 60
        fresh = scan(tree, tmp_path / "fresh.audit", options())
        assert sha256(out / paths.AUDIT_FILE) == sha256(fresh / paths.AUDIT_FILE)

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"embed": EmbedSpec("pixels", image_size=8, batch_size=16, workers=0)}, "embedding was"),
            (
                {"embed": EmbedSpec("pixels", image_size=4, batch_size=8, workers=0)},
                "batch_size was 16, and is 8",
            ),
        ],
    )
    def test_other_options_are_refused(
        self, stopped: tuple[Path, Path], changes: dict[str, Any], told: str
    ) -> None:
        tree, out = stopped
        with pytest.raises(UsageError, match=told) as caught:
            scan(tree, out, options(**changes))
        assert "--restart" in caught.value.hint
        assert (out / paths.PARTIAL / "log.jsonl").exists()
        scan(tree, out, options(resume=False, **changes))
        assert (out / paths.AUDIT_FILE).exists()

    def test_other_data_is_refused(self, stopped: tuple[Path, Path]) -> None:
        tree, out = stopped
        shutil.copy(tree / "c0" / "000.png", tree / "c0" / "new.png")
        with pytest.raises(UsageError, match="samples was 60, and is 61 now"):
            scan(tree, out, options())

    def test_options_of_later_stages_may_change(self, stopped: tuple[Path, Path], tmp_path: Path) -> None:
        tree, out = stopped
        scan(tree, out, options(k=3, seed=5))
        fresh = scan(tree, tmp_path / "fresh.audit", options(k=3, seed=5))
        assert sha256(out / paths.AUDIT_FILE) == sha256(fresh / paths.AUDIT_FILE)

    def test_a_torn_log_line_does_not_count(self, stopped: tuple[Path, Path]) -> None:
        tree, out = stopped
        log = out / paths.PARTIAL / "log.jsonl"
        whole = log.read_bytes()
        log.write_bytes(whole + b'{"start": 32, "st')
        scan(tree, out, options())
        assert (out / paths.AUDIT_FILE).exists()

    @pytest.mark.parametrize("name", ["log.jsonl", "recipe.json"])
    def test_a_damaged_record_is_named(self, stopped: tuple[Path, Path], name: str) -> None:
        tree, out = stopped
        (out / paths.PARTIAL / name).write_text("nonsense\n")
        with pytest.raises(DamagedAudit, match="delete"):
            scan(tree, out, options())

    def test_one_scan_at_a_time(self, stopped: tuple[Path, Path]) -> None:
        tree, out = stopped
        code = (
            "import sys, time; from pathlib import Path; from labeltui.scanning.checkpoint import Checkpoint\n"
            "checkpoint = Checkpoint(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()\n"
        )
        holder = subprocess.Popen(
            [sys.executable, "-c", code, out], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(AuditBusy, match="another process"):
            scan(tree, out, options())
        holder.kill()
        holder.communicate()
        scan(tree, out, options())

    def test_resume_demands_an_unfinished_scan(self, tmp_path: Path) -> None:
        tree = write_tree(tmp_path / "data")
        with pytest.raises(UsageError, match="there is none"):
            scan(tree, tmp_path / "x.audit", options(resume=True))

    def test_an_unfinished_scan_is_no_audit(self, stopped: tuple[Path, Path]) -> None:
        with pytest.raises(NotAnAudit, match="has not finished"):
            Store.open(stopped[1])

    def test_a_full_disk_is_told_and_can_be_resumed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tree, out = write_tree(tmp_path / "data"), tmp_path / "x.audit"

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", full)
            with pytest.raises(AuditError, match="the disk must hold"):
                scan(tree, out, options())
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            with pytest.raises(AuditError, match="No space left"):
                scan(tree, out, options())
        scan(tree, out, options())
        assert (out / paths.AUDIT_FILE).exists()

    def test_rows_that_were_never_put_are_noticed(self, tmp_path: Path) -> None:
        with Checkpoint(tmp_path) as checkpoint:
            checkpoint.prepare({"a": 1}, 4, 2, "float32", [(0, 2), (2, 4)])
            with pytest.raises(RuntimeError, match="2 batches"):
                checkpoint.rows()


class TestDamagedCheckpoint:
    """What an unfinished scan left is used only where it is still what was written."""

    EXPECTED = {"indices": Expected("int32", (4, "k"), -1, 3), "p": Expected("float32", (4, "k"), 0, 1)}

    @staticmethod
    def step(path: Path, arrays: dict[str, np.ndarray], expected: dict[str, Expected]) -> list[str]:
        made: list[str] = []

        def compute() -> tuple[dict[str, np.ndarray], dict[str, object]]:
            made.append("computed")
            return arrays, {"k": 2}

        with Checkpoint(path) as checkpoint:
            found, facts = checkpoint.step("graph", ["a key"], compute, expected)
        assert facts == {"k": 2}
        for name in expected:
            np.testing.assert_array_equal(found[name], arrays[name])
        return made

    def test_a_step_is_kept_while_it_is_what_was_written(self, tmp_path: Path) -> None:
        good = {"indices": np.zeros((4, 2), np.int32), "p": np.ones((4, 2), np.float32)}
        assert self.step(tmp_path, good, self.EXPECTED) == ["computed"]
        assert self.step(tmp_path, good, self.EXPECTED) == []
        file = tmp_path / paths.PARTIAL / "graph.h5"
        data = bytearray(file.read_bytes())
        data[data.index(good["p"].tobytes())] ^= 1  # a disk's error, within the range of the values
        file.write_bytes(data)
        assert self.step(tmp_path, good, self.EXPECTED) == ["computed"]

    @pytest.mark.parametrize(
        ("name", "array"),
        [
            ("indices", np.full((4, 2), 4, np.int32)),
            ("indices", np.full((4, 2), -2, np.int32)),
            ("indices", np.zeros((4, 2), np.int64)),
            ("indices", np.zeros((4, 3), np.int32)),
            ("indices", np.zeros(8, np.int32)),
            ("p", np.full((4, 2), np.nan, np.float32)),
        ],
    )
    def test_a_forged_step_is_computed_anew(self, tmp_path: Path, name: str, array: np.ndarray) -> None:
        good = {"indices": np.zeros((4, 2), np.int32), "p": np.ones((4, 2), np.float32)}
        forged = {**good, name: array}
        shapes = {each: Expected(str(value.dtype), value.shape) for each, value in forged.items()}
        assert self.step(tmp_path, forged, shapes) == ["computed"]  # its checksum fits
        assert self.step(tmp_path, forged, shapes) == []
        assert self.step(tmp_path, good, self.EXPECTED) == ["computed"]

    @pytest.mark.parametrize("fault", ["features.raw", "facts.raw", "status", "nan", "log"])
    def test_damaged_rows_are_embedded_again(self, tmp_path: Path, fault: str) -> None:
        def block(start: int, value: float = 1.0, status: int = 0) -> Any:
            rows = np.full((2, 3), value, np.float32), *(np.full((2, 32), start, np.uint8) for _ in range(2))
            return Block(start, start + 2, *rows, np.full(2, status, np.uint8), [])

        def prepared(checkpoint: Checkpoint) -> Checkpoint:
            checkpoint.prepare({"a": 1}, 4, 3, "float32", [(0, 2), (2, 4)])
            return checkpoint

        with Checkpoint(tmp_path) as checkpoint:
            prepared(checkpoint).put(block(0))
            # Of the last two only the values are wrong: somebody else wrote them.
            checkpoint.put(block(2, np.nan if fault == "nan" else 1.0, 9 if fault == "status" else 0))
        if fault.endswith(".raw"):
            with open(tmp_path / paths.PARTIAL / fault, "r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(b"\x77")
        if fault == "log":
            log = tmp_path / paths.PARTIAL / "log.jsonl"
            log.write_text(log.read_text().replace('"faults": []', '"faults": [[7, "x"]]'))
            with Checkpoint(tmp_path) as checkpoint, pytest.raises(DamagedAudit, match="its work is lost"):
                prepared(checkpoint)
            return
        with Checkpoint(tmp_path) as checkpoint:
            assert prepared(checkpoint).waiting() == [(2, 4)]
            checkpoint.put(block(2, 5.0))
        with Checkpoint(tmp_path) as checkpoint:  # the line of the damaged rows still stands in the log
            assert prepared(checkpoint).waiting() == []
            rows = checkpoint.rows()
        assert rows.features.tolist() == [[1.0] * 3] * 2 + [[5.0] * 3] * 2
        assert rows.status.tolist() == [0, 0, 0, 0]

    def test_names_in_a_foreign_recipe_can_be_shown(self, tmp_path: Path) -> None:
        (tmp_path / paths.PARTIAL).mkdir()
        write_json(tmp_path / paths.PARTIAL / "recipe.json", {"\x1b[2J": 1, "batch_size": "x"})
        with pytest.raises(UsageError, match="was 1") as caught:
            scan(write_npz(tmp_path / "x.npz"), tmp_path, options())
        assert caught.value.got.replace("\n", "").isprintable()


class TestTargets:
    def test_a_finished_audit_is_never_overwritten(self, tmp_path: Path) -> None:
        source = write_npz(tmp_path / "x.npz")
        audit = scan(source, tmp_path / "x.audit", options())
        before = sha256(audit / paths.AUDIT_FILE)
        for resume in (None, False):
            with pytest.raises(AuditExists, match="another -o"):
                scan(source, audit, options(resume=resume))
        assert sha256(audit / paths.AUDIT_FILE) == before

    def test_the_remains_of_a_killed_scan_vouch_for_no_other_data(self, tmp_path: Path) -> None:
        tree, other = write_tree(tmp_path / "data"), write_tree(tmp_path / "other")
        (other / "c0" / "000.png").rename(other / "c0" / "moved.png")
        audit = scan(tree, tmp_path / "x.audit", options())
        (audit / paths.PARTIAL).mkdir()  # killed between renaming and clearing away
        with pytest.raises(AuditExists, match="made from other data"):
            scan(other, audit, options())
        assert scan(tree, audit, options()) == audit
        assert not (audit / paths.PARTIAL).exists()

    def test_other_directories_and_files_are_left_alone(self, tmp_path: Path) -> None:
        source = write_npz(tmp_path / "x.npz")
        with pytest.raises(UsageError, match="holds other files"):
            scan(source, tmp_path, options())
        with pytest.raises(UsageError, match="is a file"):
            scan(source, source, options())
        (tmp_path / "empty").mkdir()
        scan(source, tmp_path / "empty", options())
        scan(source, tmp_path / "deep" / "er", options())
        assert (tmp_path / "deep" / "er" / paths.AUDIT_FILE).exists()

    def test_a_place_that_cannot_be_written_is_told(self, tmp_path: Path) -> None:
        source = write_npz(tmp_path / "x.npz")
        with pytest.raises(AuditError, match="to write its audit"):
            scan(source, Path("/dev/null/x.audit"), options())


class TestSplits:
    @pytest.fixture
    def table(self, tmp_path: Path) -> Path:
        tree = write_tree(tmp_path / "data")
        lines = ["path,label,split"]
        for index, path in enumerate(sorted(tree.rglob("*.png"))):
            split = "test" if index % 3 == 0 else "train"
            lines.append(f"{path.relative_to(tree)},{path.parent.name},{split}")
        lines[-1] = lines[-1].rpartition(",")[0] + ","
        (tree / "labels.csv").write_text("\n".join(lines) + "\n")
        return tree / "labels.csv"

    def test_all_splits_take_part_by_default(self, table: Path, tmp_path: Path) -> None:
        with Store.open(scan(table, tmp_path / "a", options())) as opened:
            assert opened.split_names == ["test", "train"]
            assert np.bincount(opened.split + 1).tolist() == [1, 20, 39]
            assert (opened.array(f"graph/{opened.embedding_name}/indices")[:, 0] >= 0).all()

    def test_labels_outside_named_splits_count_nowhere(self, table: Path, tmp_path: Path) -> None:
        with Store.open(scan(table, tmp_path / "a", options(splits=("train",)))) as one:
            inside = one.split == 1
            indices = one.array(f"graph/{one.embedding_name}/indices")
            assert (indices[~inside] == -1).all()
            assert inside[indices[inside]].all()
            assert one.attrs(f"graph/{one.embedding_name}")["k"] == 38
            assert one.matrix("csg/T").sum() == 39 * 10
            assert one.array("scores/blend")[~inside].tolist() == [0.5] * 21
            assert np.array_equal(one.array("suggest/label")[~inside, 0], one.given[~inside])
            # Wrong labels outside must not change anything inside.
            text = table.read_text().replace("c0,test", "c1,test")
            table.write_text(text)
            with Store.open(scan(table, tmp_path / "b", options(splits=("train",)))) as two:
                assert (one.given != two.given).sum() > 3
                for name in ("csg/T", "scores/blend", "scores/head", "groups/duplicate"):
                    assert np.array_equal(one.array(name), two.array(name)), name

    def test_an_unknown_split_is_named(self, table: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"got valid.*test, train"):
            scan(table, tmp_path / "a", options(splits=("train", "valid")))


class TestClasses:
    def test_more_classes_and_display_names(self, tmp_path: Path) -> None:
        source = write_npz(tmp_path / "x.npz")
        (tmp_path / "classes").write_text("9\n1\n7\n")
        (tmp_path / "names").write_text("0,zero\n9,nine\n")
        audit = scan(
            source, tmp_path / "a", options(classes=tmp_path / "classes", class_names=tmp_path / "names")
        )
        with Store.open(audit) as opened:
            assert opened.class_ids == [b"0", b"1", b"2", b"9", b"7"]
            assert opened.class_names == ["zero", "1", "2", "nine", "7"]
            assert opened.array("csg/present").tolist() == [1, 1, 1, 0, 0]
            assert opened.given.max() == 2
            finite = [opened.array(f"csg/{name}") for name in opened.names_in("csg")]
            assert all(np.isfinite(array).all() for array in finite)
        assert any("3 of 5 classes have no display name" in note for note in summary(audit).notes)

    def test_unlabelled_samples_are_neighbours_and_never_flagged(self, tmp_path: Path) -> None:
        labels = np.arange(60) % 3
        labels[:6] = -1
        audit = scan(write_npz(tmp_path / "x.npz", labels=labels), tmp_path / "a", options())
        with Store.open(audit) as opened:
            assert (opened.given[:6] == -1).all()
            indices = opened.array(f"graph/{opened.embedding_name}/indices")
            assert (indices[:6, 0] >= 0).all()
            assert np.isin(indices, range(6)).any()
            assert opened.matrix("csg/T").sum() < 60 * 10
            assert (opened.array("scores/blend")[:6] == 0.5).all()
        assert summary(audit).unlabelled == 6

    def test_given_probabilities_are_matched_by_name(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        p = rng.dirichlet(np.ones(3), 60).astype(np.float32)
        one = write_npz(tmp_path / "1.npz", pred_probs=p, classes=np.array(["0", "1", "2"]))
        two = write_npz(tmp_path / "2.npz", pred_probs=p[:, [2, 0, 1]], classes=np.array(["2", "0", "1"]))
        first, second = scan(one, tmp_path / "1", options()), scan(two, tmp_path / "2", options())
        assert sha256(first / paths.AUDIT_FILE) == sha256(second / paths.AUDIT_FILE)
        plain = scan(write_npz(tmp_path / "3.npz"), tmp_path / "3", options())
        with Store.open(first) as opened, Store.open(plain) as other:
            assert set(opened.names_in("scores")) > set(other.names_in("scores"))


class TestSmall:
    @pytest.mark.parametrize("n", [2, 3, 5])
    def test_fewer_samples_than_neighbours(self, tmp_path: Path, n: int) -> None:
        audit = scan(write_npz(tmp_path / "x.npz", n=n, k=2), tmp_path / "a", options())
        with Store.open(audit) as opened:
            assert opened.array("graph/given/indices").shape == (n, n - 1)
            assert opened.attrs("graph/given")["csg_k"] == n - 1
            for name in opened.names_in("scores"):
                assert np.isfinite(opened.array(f"scores/{name}")).all()

    def test_one_usable_sample_is_too_few(self, tmp_path: Path) -> None:
        embeddings = np.ones((3, 4), np.float32)
        embeddings[1] = np.nan
        embeddings[2] = 0
        source = write_npz(tmp_path / "x.npz", n=3, embeddings=embeddings)
        with pytest.raises(SourceError, match=r"1 of 3 can be used: 1 x .*NaN"):
            scan(source, tmp_path / "a", options())

    def test_one_class(self, tmp_path: Path) -> None:
        audit = scan(write_npz(tmp_path / "x.npz", k=1), tmp_path / "a", options())
        assert summary(audit).flags == 0
        assert summary(audit).csg == 0
        assert any("only one class" in note for note in summary(audit).notes)

    def test_many_classes_are_kept_sparse(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source = write_npz(tmp_path / "x.npz", k=4)
        dense = scan(source, tmp_path / "a", options())
        monkeypatch.setattr(csg.counting, "SPARSE_ABOVE", 3)
        monkeypatch.setattr(pipeline, "MOST_REPEATED", 3)
        sparse = scan(source, tmp_path / "b", options())
        monkeypatch.setattr(pipeline, "MOST_CLASSES", 3)
        unsolved = scan(source, tmp_path / "c", options())
        with Store.open(dense) as one, Store.open(sparse) as two, Store.open(unsolved) as three:
            assert "csg/T" not in two
            for name in ("csg/T", "csg/S", "csg/W"):
                assert np.allclose(two.matrix(name).toarray(), one.matrix(name), rtol=1e-12)
            shown = LiveComplexity(two, two.given)
            assert np.allclose(shown.W().toarray(), one.matrix("csg/W"), rtol=1e-12)
            assert shown._live is None  # read from the file, not counted again
            assert two.attrs("csg")["csg"] == pytest.approx(one.attrs("csg")["csg"])
            assert "csg/interval" not in two
            assert "csg" not in three.attrs("csg")
            monkeypatch.setattr(live_csg, "SOLVE_AT_ONCE", 3)
            unknown = LiveComplexity(three, three.given)
            assert (unknown.stale, unknown.solve(), unknown.value()) == (False, None, None)
            before, after = unknown.what_if(np.array([0]), np.array([1], np.int32))()
            assert not hasattr(before, "csg")
            assert after.trace != before.trace
            assert unknown.trace() == pytest.approx(one.attrs("csg")["trace"])
            for end in ("low", "high"):  # so few classes have no middle
                assert np.allclose(
                    three.array(f"csg/{end}_eigenvalues"), one.array("csg/eigenvalues"), atol=1e-12
                )
            assert np.array_equal(three.array("csg/overlap"), two.array("csg/overlap"))
        assert summary(unsolved).csg is None

    def test_k_is_checked(self) -> None:
        for wrong in ({"k": 0}, {"k": 51}, {"folds": 1}, {"seed": -1}, {"backend": "guess"}):
            with pytest.raises(UsageError):
                options(**wrong)


def test_the_documented_way_to_read_an_audit_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = (Path(__file__).parent.parent / "docs" / "formats.md").read_text()
    code = document.partition("```python\n")[2].partition("```")[0]
    audit = scan(write_npz(tmp_path / "x.npz"), tmp_path / "my.audit", options())
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(code, found)
    with Store.open(audit) as opened:
        assert found["ids"] == list(opened.ids)
        assert np.array_equal(found["neighbours"], opened.array(f"graph/{opened.embedding_name}/indices"))
        assert len(found["worst"]) == 20
        # Everything that an audit holds is documented.
        for group in ("samples", "labels", "classes", "splits", "groups", "csg", "suggest"):
            for name in opened.names_in(group):
                assert name in document, f"{group}/{name}"


def test_torch_is_not_imported_with_the_pipeline() -> None:
    code = "import sys, labeltui.scanning, labeltui.demo; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.usefixtures("brief_training")
class TestCopies:
    """Near-identical images share a group, whatever their format and label."""

    def scanned(self, tmp_path: Path, **options: object) -> tuple[store.Store, np.ndarray]:
        from sklearn.datasets import load_sample_images

        rng = np.random.default_rng(0)
        images = [Image.fromarray(image) for image in load_sample_images().images]
        for number in range(40):
            left, top = (int(v) for v in rng.integers(0, [500, 280]))
            tile = images[number % 2].crop((left, top, left + 128, top + 128))
            path = tmp_path / "data" / "ab"[number % 2] / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            tile.save(path)
            if number < 3:  # again as JPEG, under the other label
                copy = tmp_path / "data" / "ab"[1 - number % 2] / f"{number:03}.jpg"
                copy.parent.mkdir(parents=True, exist_ok=True)
                tile.save(copy, quality=85)
        path = scan(tmp_path / "data", tmp_path / "a.audit", ScanOptions(**options))  # type: ignore[arg-type]
        opened = store.Store.open(path)
        numbers = np.array([int(name.split(b"/")[1][:3]) for name in opened.ids])
        return opened, numbers

    def test_a_image_saved_again_joins_its_original(self, tmp_path: Path) -> None:
        opened, numbers = self.scanned(tmp_path)
        groups = opened.array("groups/duplicate")
        for number in range(3):
            assert len(set(groups[numbers == number])) == 1
        assert len(set(groups)) == 40
        attrs = opened.attrs("groups/duplicate")
        assert attrs["pairs"] >= 3
        assert 0 < attrs["threshold"] < 1

    def test_only_identical_ones_when_told_so(self, tmp_path: Path) -> None:
        opened, _ = self.scanned(tmp_path, duplicate_threshold=1.0)
        assert len(set(opened.array("groups/duplicate"))) == 43
        assert opened.attrs("groups/duplicate")["threshold"] == 1.0


def test_detectors_train_the_head_that_was_asked_for(tmp_path: Path) -> None:
    scan(write_tree(tmp_path / "tree"), tmp_path / "a.audit", options())
    with Store.open(tmp_path / "a.audit") as audit:
        assert audit.attrs("scores/corrected")["hidden"] == HEAD.hidden
        assert audit.attrs("scores/dynamics")["records"] == 3


@pytest.mark.timeout(600)  # the peer is compiled when it is first called
def test_an_approximate_graph_is_never_silent(tmp_path: Path) -> None:
    pytest.importorskip("pynndescent", reason="labeltui[approximate] is not installed")
    labels = np.arange(1500) % 3
    embeddings = np.random.default_rng(0).normal(size=(1500, 24)).astype(np.float32)
    source = write_npz(tmp_path / "x.npz", embeddings=embeddings, labels=labels)
    audit = scan(source, tmp_path / "a", options(backend="approximate", metric="cosine"))
    with Store.open(audit) as opened:
        recall = opened.attrs(f"graph/{opened.embedding_name}")["recall"]
        assert not opened.attrs(f"graph/{opened.embedding_name}")["exact"]
    assert 0.5 < recall <= 1
    said = f"approximate: {recall:.1%} of the true ones were found, measured on 1,000 rows"
    assert any(said in line for line in report.scan_lines(summary(audit)))
    status = audit_status(audit)
    assert status["graph"] | {"recall": recall, "exact": False, "backend": "approximate"} == status["graph"]
    assert any(said in line for line in report.status_lines(status))


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux")
def test_the_source_takes_no_memory_once_its_rows_are_copied(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.normal(size=(400, 1024)).astype(np.float32))  # 1.6 MB
    np.save(tmp_path / "y.npy", rng.integers(0, 3, 400).astype(np.int32))
    resident: dict[str, int] = {}

    def progress(stage: str, done: int, total: int) -> None:
        mappings = Path("/proc/self/smaps").read_text().split(str(tmp_path / "x.npy"))[1:]
        kilobytes = sum(int(each.split("Rss:")[1].split()[0]) for each in mappings)
        resident[stage] = max(kilobytes, resident.get(stage, 0))

    chosen = ScanOptions.of(head=HEAD, folds=3, labels=tmp_path / "y.npy")
    scan(tmp_path / "x.npy", tmp_path / "a.audit", chosen, progress)
    assert resident["embed"] > 1_000
    assert max(resident[stage] for stage in ("graph", "head", "score")) == 0
