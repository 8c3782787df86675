"""Scans on a Ray cluster of two one-core workers: the same bytes as on one machine."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labeltui import graph
from labeltui._fast import knn
from labeltui.cluster import Cluster, connect, read_shard, write_shard
from labeltui.embed import Block, EmbedSpec, batch_ranges, embedder_for
from labeltui.errors import UsageError
from labeltui.graph.parts import Found, Part
from labeltui.scanning import ScanOptions, scan
from labeltui.sources import open_source
from tests.factories import HEAD

N = 90
OPTIONS = ScanOptions(
    embed=EmbedSpec("pixels", image_size=4, batch_size=8, workers=1), head=HEAD, worker_cores=1, threads=2
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(N):
        (tmp_path / "data" / f"c{i % 3}").mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / f"c{i % 3}" / f"{i:03}.png")
    (tmp_path / "data" / "c0" / "broken.png").write_bytes(b"no image")
    return tmp_path / "data"


def digest(audit: Path) -> str:
    return hashlib.sha256((audit / "audit.h5").read_bytes()).hexdigest()


# --- without Ray ------------------------------------------------------------------------------------------------------


def block(start: int = 8, n: int = 4) -> Block:
    rng = np.random.default_rng(start)
    return Block(
        start,
        start + n,
        rng.normal(size=(n, 3)).astype(np.float32),
        rng.integers(0, 256, (n, 32), dtype=np.uint8),
        rng.integers(0, 256, (n, 32), dtype=np.uint8),
        np.array([0, 1, 0, 0], np.uint8),
        [(start + 1, "no \x1b image")],
    )


def test_a_shard_is_whole_or_not_there(tmp_path: Path) -> None:
    wanted = block()
    write_shard(tmp_path, wanted)
    found = read_shard(tmp_path, 8, 12, 3)
    assert found is not None
    assert found.faults == wanted.faults
    assert all(
        np.array_equal(getattr(found, name), getattr(wanted, name))
        for name in ("features", "sha256", "pixels", "status")
    )
    assert read_shard(tmp_path, 8, 13, 3) is None
    assert read_shard(tmp_path, 8, 12, 4) is None
    assert read_shard(tmp_path, 0, 4, 3) is None
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    for cut in range(0, len(content), 97):
        file.write_bytes(content[:cut])
        assert read_shard(tmp_path, 8, 12, 3) is None


def test_ray_is_asked_for_by_name(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install"):
        scan(tree, tmp_path / "x.audit", replace(OPTIONS, engine="ray"))


# --- with Ray ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    pytest.importorskip("ray")
    with connect(None, 1, 2) as connected:
        yield connected


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_the_graph_is_that_of_one_machine_also_when_a_worker_is_killed(cluster: Cluster) -> None:
    assert (cluster.size, cluster.cores) == (2, 1)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30_000, 64)).astype(np.float32)
    X += 4 * rng.normal(size=(40, 64)).astype(np.float32)[rng.integers(40, size=len(X))]
    wanted = graph.build(X, 20, threads=2)
    killed: list[int] = []

    class Killing(Cluster):
        def search(
            self, rows: knn.Rows, thresholds: np.ndarray, parts: Sequence[Part]
        ) -> Iterator[Found | None]:
            def kill() -> None:
                for _ in range(500):
                    found = searching()
                    if found:
                        os.kill(found[0], signal.SIGKILL)
                        killed.append(found[0])
                        return
                    time.sleep(0.02)

            thread = threading.Thread(target=kill)
            thread.start()
            yield from super().search(rows, thresholds, parts)
            thread.join()

    for crew in (cluster, Killing(cluster.size, cluster.cores)):
        found = graph.build(X, 20, threads=1, crew=crew)
        assert np.array_equal(found.indices, wanted.indices)
        assert np.array_equal(found.similarity, wanted.similarity)
    assert killed


def searching() -> list[int]:
    """Return the processes of Ray that are at work on a part; Ray names them so."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cmdline").read_bytes().startswith(b"ray::search_part"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_blocks_are_those_of_one_machine_and_finished_shards_stay(
    cluster: Cluster, tree: Path, tmp_path: Path
) -> None:
    source = open_source(tree)
    embedder = embedder_for(source, OPTIONS.embed)
    ranges = batch_ranges(len(source.ids), embedder.batch_size)
    mark = Block(
        0,
        8,
        np.full((8, embedder.dim), 7, np.float32),
        np.zeros((8, 32), np.uint8),
        np.zeros((8, 32), np.uint8),
        np.zeros(8, np.uint8),
    )
    shards = tmp_path / "shards"
    shards.mkdir()
    write_shard(shards, mark)
    found = {
        each.start: each
        for each in cluster.blocks(source, embedder, OPTIONS.embed, ranges, shards, lambda: False)
    }
    assert sorted(found) == [start for start, _ in ranges]
    assert found[0].features[0, 0] == 7  # it was there, and was not made again
    assert not shards.exists()


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_scan_has_the_bytes_of_a_local_one(tree: Path, tmp_path: Path) -> None:
    scan(tree, tmp_path / "local.audit", OPTIONS)
    pytest.importorskip("ray")
    import ray

    if ray.is_initialized():
        ray.shutdown()
    scan(tree, tmp_path / "ray.audit", replace(OPTIONS, engine="ray"))
    assert digest(tmp_path / "ray.audit") == digest(tmp_path / "local.audit")
    assert not ray.is_initialized()
    assert sorted(each.name for each in (tmp_path / "ray.audit").iterdir()) == sorted(
        each.name for each in (tmp_path / "local.audit").iterdir()
    )
