"""The unfinished work of the graph: kept, gone on with, and refused where it does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from labeltui import graph
from labeltui._fast import knn
from labeltui.errors import Cancelled
from labeltui.io import part
from labeltui.io.part import Part
from tests.keeping import Memory

SLOW = "c"  # the filter that every CPU takes, slow enough to be interrupted
FLOAT = next(path for path in ("avx512", "avx2", "c") if path in knn.paths())


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(7000, 96)).astype(np.float32)
    rows[50:60] = rows[40:50]  # repeated rows are searched once
    return rows


@pytest.fixture(scope="module")
def want(x: np.ndarray) -> graph.Graph:
    return graph.build(x, 20)


def same(one: graph.Graph, other: graph.Graph) -> bool:
    return one.indices.tobytes() == other.indices.tobytes() and (
        one.similarity.tobytes() == other.similarity.tobytes()
    )


@pytest.mark.parametrize("path", [SLOW, "direct"])
def test_a_search_goes_on_where_it_was_stopped(x: np.ndarray, want: graph.Graph, path: str) -> None:
    keeper = Memory()
    with pytest.raises(Cancelled):
        graph.build(x, 20, path=path, threads=1, keeper=keeper, cancel=lambda: len(keeper.saved) >= 2)
    (_, first), *_, (_, last) = keeper.saved
    done = [int(np.frombuffer(content, np.int64, 1)[0]) for content in (first, last)]
    assert 0 < done[0] < done[1]
    again = Memory()
    again.saved = keeper.saved[-1:]
    told: list[float] = []
    got = graph.build(x, 20, path=path, threads=2, keeper=again, progress=told.append)
    assert again.used
    assert told == sorted(told)
    assert told[0] < 0.6  # of the work that was left; each of two threads does a piece before the first word
    assert same(got, want)
    assert all(np.frombuffer(content, np.int64, 1)[0] >= done[1] for _, content in again.saved[1:])


def test_the_second_filter_does_not_repeat_the_first() -> None:
    """Where int8 does not tell rows apart, float32 does: after a kill within it, int8 has had its turn."""
    if knn.paths()[-1] == FLOAT:
        pytest.skip("this CPU has no int8 filter")
    rng = np.random.default_rng(0)
    close = (rng.normal(size=96) + 1e-7 * rng.normal(size=(3000, 96))).astype(np.float32)
    keeper = Memory()
    want = graph.build(close, 5, keeper=keeper)
    kept = [(key, content) for key, content in keeper.saved if f" {FLOAT} " in key][-1:]
    assert kept
    keeper.saved = list(kept)
    assert same(graph.build(close, 5, keeper=keeper), want)
    assert not [key for key, _ in keeper.saved if f" {knn.paths()[-1]} " in key]


def test_other_rows_or_neighbours_start_anew(x: np.ndarray, want: graph.Graph) -> None:
    keeper = Memory()
    graph.build(x, 20, path=SLOW, threads=1, keeper=keeper)
    assert keeper.saved
    kept = keeper.saved[-1:]
    changed = x.copy()
    changed[3, 3] += 1
    for rows, k, path in ((changed, 20, SLOW), (x, 19, SLOW), (x, 20, FLOAT)):
        keeper.saved = list(kept)
        assert same(graph.build(rows, k, path=path, keeper=keeper), graph.build(rows, k))


@pytest.mark.parametrize("path", [SLOW, "direct"])
def test_work_that_no_search_keeps_is_not_followed(x: np.ndarray, want: graph.Graph, path: str) -> None:
    keeper = Memory()
    with pytest.raises(Cancelled):
        graph.build(x, 20, path=path, threads=1, keeper=keeper, cancel=lambda: bool(keeper.saved))
    key, content = keeper.saved[-1]
    numbers = np.random.default_rng(0)
    for trial in range(6 if path == SLOW else 3):
        other = bytearray(content)
        if trial == 5:
            del other[-200:]
        else:
            at = [0, 8, 3000, len(other) // 2, len(other) - 64][trial]
            other[at : at + 64] = numbers.bytes(64)
        keeper.saved = [(key, bytes(other))]
        got = graph.build(x, 20, path=path, keeper=keeper)
        assert got.indices.min() >= 0
        assert got.indices.max() < len(x)
    keeper.saved = [(key, b"")]
    assert same(graph.build(x, 20, path=path, keeper=keeper), want)


class TestPart:
    def test_what_was_saved_is_loaded_under_its_key(self, tmp_path: Path) -> None:
        kept = Part(tmp_path / "x.part")
        assert kept.load("a") is None
        kept.save("a", iter([b"one", memoryview(np.arange(3)).cast("B")]))
        assert bytes(kept.load("a") or b"") == b"one" + np.arange(3).tobytes()
        assert kept.load("b") is None
        assert kept.load("a" * 70) is None

    @pytest.mark.parametrize("at", [0, 70, -1])
    def test_a_damaged_file_is_not_used(self, tmp_path: Path, at: int) -> None:
        kept = Part(tmp_path / "x.part")
        kept.save("a", iter([bytes(100)]))
        content = bytearray(kept.path.read_bytes())
        content[at] ^= 1
        kept.path.write_bytes(content)
        assert kept.load("a") is None
        kept.path.write_bytes(content[:40])
        assert kept.load("a") is None
        kept.path.write_bytes(b"")
        assert kept.load("a") is None

    def test_where_nothing_can_be_written_the_step_goes_on(self, tmp_path: Path) -> None:
        kept = Part(tmp_path / "missing" / "x.part")
        kept.save("a", iter([b"one"]))
        assert kept.load("a") is None

    def test_saving_costs_little(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = [100.0]
        monkeypatch.setattr(part.time, "monotonic", lambda: clock[0])
        kept = Part(tmp_path / "x.part")

        def slow() -> Iterator[bytes]:
            clock[0] += 3
            yield b"one"

        assert not kept.due()
        clock[0] += part.LEAST_SECONDS
        assert kept.due()
        kept.save("a", slow())
        clock[0] += 3 / part.SHARE - 1
        assert not kept.due()
        clock[0] += 2
        assert kept.due()
