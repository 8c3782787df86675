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
    def measured(self, squared: npt.NDArray[np.float64]) -> None: ...
    def restrict(self, path: int) -> None: ...
    def first_copies(
        self, hashes: npt.NDArray[np.uint64], order: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]: ...

class Loop:
    total: int
    @property
    def done(self) -> int: ...
    def stop(self) -> None: ...
    def work(self) -> None: ...

class Facts(Loop):
    squared: npt.NDArray[np.float64]
    hash: npt.NDArray[np.uint64]
    finite: npt.NDArray[np.uint8]
    def __init__(self, rows: Rows) -> None: ...

class Direct(Loop):
    def __init__(
        self,
        rows: Rows,
        targets: npt.NDArray[np.int64],
        indices: npt.NDArray[np.int32],
        similarity: npt.NDArray[np.float32],
    ) -> None: ...

class Rank(Loop):
    def __init__(
        self,
        rows: Rows,
        candidates: npt.NDArray[np.int32],
        indices: npt.NDArray[np.int32],
        similarity: npt.NDArray[np.float32],
    ) -> None: ...

class Spread(Loop):
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
    def __init__(self, rows: Rows, path: int, k: int, block: int = 0) -> None: ...
    def close(self) -> None: ...

class Assign(Loop):
    def __init__(self, filter: Filter) -> None: ...
    def end(self) -> None: ...

class Sketch(Loop):
    def __init__(self, filter: Filter) -> None: ...
    def end(self) -> None: ...

class Tiles(Loop):
    def __init__(self, filter: Filter) -> None: ...
    def end(self) -> None: ...

class Finish(Loop):
    proven: npt.NDArray[np.uint8]
    def __init__(
        self, filter: Filter, indices: npt.NDArray[np.int32], similarity: npt.NDArray[np.float32]
    ) -> None: ...

def reverse(
    indices: npt.NDArray[np.int32], k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]: ...
