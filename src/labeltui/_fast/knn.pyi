from typing import Any

import numpy as np
import numpy.typing as npt

METRICS: tuple[str, ...]
PATHS: tuple[str, ...]

def paths() -> tuple[str, ...]: ...
def filter_bytes(n: int, d: int, k: int, path: int) -> tuple[int, int]: ...

class Rows:
    x: npt.NDArray[Any]
    rows: npt.NDArray[np.int64] | None
    squared: npt.NDArray[np.float64]
    inverse: npt.NDArray[np.float64]
    n: int
    d: int
    metric: int
    def __init__(
        self, x: npt.NDArray[Any], metric: int, rows: npt.NDArray[np.int64] | None = None
    ) -> None: ...
    def set_lengths(self, squared: npt.NDArray[np.float64]) -> None: ...
    def restrict(self, path: int) -> None: ...
    def first_duplicates(
        self, hashes: npt.NDArray[np.uint64], order: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]: ...

class Task:
    total: int
    @property
    def done(self) -> int: ...
    def stop(self) -> None: ...
    def work(self) -> None: ...

class RowStats(Task):
    squared: npt.NDArray[np.float64]
    hash: npt.NDArray[np.uint64]
    finite: npt.NDArray[np.uint8]
    def __init__(self, rows: Rows) -> None: ...

class Resumable(Task):
    pieces: int
    @property
    def next(self) -> int: ...
    def pause(self) -> None: ...
    def resume(self, next: int, done: int) -> None: ...

class BruteForce(Resumable):
    targets: npt.NDArray[np.int64]
    def __init__(
        self,
        rows: Rows,
        targets: npt.NDArray[np.int64],
        indices: npt.NDArray[np.int32],
        similarity: npt.NDArray[np.float32],
    ) -> None: ...

class Rank(Task):
    def __init__(
        self,
        rows: Rows,
        candidates: npt.NDArray[np.int32],
        indices: npt.NDArray[np.int32],
        similarity: npt.NDArray[np.float32],
    ) -> None: ...

class ExpandDuplicates(Task):
    def __init__(
        self,
        rows: Rows,
        of: npt.NDArray[np.int64],
        start: npt.NDArray[np.int64],
        members: npt.NDArray[np.int64],
        near: npt.NDArray[np.int32],
        near_similarity: npt.NDArray[np.float32],
        indices: npt.NDArray[np.int32],
        similarity: npt.NDArray[np.float32],
    ) -> None: ...

class Filter:
    rows: Rows
    tiles: int
    slots: int
    blocks: int
    layout: npt.NDArray[np.int32]
    def __init__(self, rows: Rows, path: int, k: int, block: int = 0) -> None: ...
    def close(self) -> None: ...
    def pack(
        self, begin: int, end: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], npt.NDArray[np.uint64]]: ...
    def unpack(
        self,
        begin: int,
        size: npt.NDArray[np.int32],
        threshold: npt.NDArray[np.float32],
        keys: npt.NDArray[np.uint64],
    ) -> None: ...
    def merge(
        self,
        begin: int,
        size: npt.NDArray[np.int32],
        threshold: npt.NDArray[np.float32],
        keys: npt.NDArray[np.uint64],
    ) -> None: ...

class Assign(Task):
    def __init__(self, filter: Filter) -> None: ...
    def end(self) -> None: ...

class Sketch(Task):
    def __init__(self, filter: Filter) -> None: ...
    def end(self) -> None: ...

class Tiles(Resumable):
    def __init__(self, filter: Filter) -> None: ...
    def limit(self, end: int) -> None: ...
    def end(self) -> None: ...

class Rerank(Task):
    certified: npt.NDArray[np.uint8]
    def __init__(
        self, filter: Filter, indices: npt.NDArray[np.int32], similarity: npt.NDArray[np.float32]
    ) -> None: ...

def reverse(
    indices: npt.NDArray[np.int32], k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]: ...
