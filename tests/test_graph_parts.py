"""The exact graph with its tiles searched in parts: the same bytes, whoever searches what and however often."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from labeltui import graph
from labeltui._fast import knn
from labeltui.errors import Cancelled, LabeltuiError
from labeltui.graph import exact
from labeltui.graph.parts import Found, Part, search_part

PATHS = [name for name in exact.paths() if name != "direct"]


@dataclass
class InProcess:
    """Searches the parts one after the other, last one first."""

    size: int
    asked: list[Part] = field(default_factory=list)

    def search(self, rows: knn.Rows, thresholds: np.ndarray, parts: Sequence[Part]) -> Iterator[Found | None]:
        for part in reversed(parts):
            self.asked.append(part)
            yield None
            yield search_part(rows.x, rows.rows, rows.metric, rows.squared, thresholds, part, 1)


def rows(kind: str, n: int = 3000, d: int = 24) -> np.ndarray:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d)).astype(np.float32)
    if kind == "clusters":
        X += 6 * rng.normal(size=(20, d)).astype(np.float32)[rng.integers(20, size=n)]
    elif kind == "copies":
        X[n // 2 :] = X[rng.integers(n // 2, size=n - n // 2)]
    elif kind == "close":  # int8 cannot tell them apart
        X = (1 + 1e-4 * X).astype(np.float32)
    return X


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("kind", ["normal", "clusters", "copies", "close"])
def test_the_bytes_are_those_of_one_process(kind: str, metric: str) -> None:
    X = rows(kind)
    wanted = graph.build(X, 20, metric, threads=1)
    for path in PATHS:
        crew = InProcess(3)
        found = graph.build(X, 20, metric, threads=2, path=path, crew=crew)
        assert np.array_equal(found.indices, wanted.indices)
        assert np.array_equal(found.similarity, wanted.similarity)
        assert len(crew.asked) >= 2


@pytest.mark.parametrize("size", [1, 2, 7, 500])
def test_any_number_of_parts(size: int) -> None:
    X = rows("clusters")
    wanted = graph.build(X, 50, threads=1)
    found = graph.build(X, 50, threads=1, crew=InProcess(size))
    assert np.array_equal(found.indices, wanted.indices)
    assert found.n_certified > 0.9 * len(X)


def test_some_rows_of_an_array() -> None:
    X, chosen = rows("clusters").astype(np.float16), np.arange(0, 3000, 2)
    wanted = graph.build(X, 20, rows=chosen, threads=1)
    found = graph.build(X, 20, rows=chosen, threads=1, crew=InProcess(4))
    assert np.array_equal(found.indices, wanted.indices)


@dataclass
class Faulty(InProcess):
    """Does with one part's candidates what `fault` says."""

    fault: str = ""

    def search(self, rows: knn.Rows, thresholds: np.ndarray, parts: Sequence[Part]) -> Iterator[Found | None]:
        for number, found in enumerate(super().search(rows, thresholds, parts)):
            if number == 1 and found is not None:
                if self.fault == "lost":
                    continue
                layout = found.layout[::-1] if self.fault == "layout" else found.layout
                keys = found.keys.copy()
                if self.fault == "keys":
                    keys[0] = 0  # no slot has this number
                yield Found(layout, found.size, found.threshold, keys)
            else:
                yield found


@pytest.mark.parametrize(
    ("fault", "told"), [("lost", "come back"), ("layout", "lay the rows out"), ("keys", "no candidates")]
)
def test_parts_that_are_lost_or_wrong(fault: str, told: str) -> None:
    with pytest.raises((LabeltuiError, ValueError), match=told):
        graph.build(rows("normal"), 20, threads=1, crew=Faulty(3, fault=fault))


def test_stopping_between_parts() -> None:
    crew = InProcess(4)
    with pytest.raises(Cancelled):
        graph.build(rows("normal"), 20, threads=1, crew=crew, cancel=lambda: bool(crew.asked))
    assert len(crew.asked) == 1
