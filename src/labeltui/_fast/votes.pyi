from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_ROWS: int

def vote(
    indices: NDArray[Any],
    similarity: NDArray[Any],
    labels: NDArray[Any],
    groups: NDArray[Any] | None,
    n_classes: int,
    k: int,
    temperature: float | None = None,
    *,
    smoothing: float = 1.0,
    start: int = 0,
    stop: int | None = None,
    threads: int | None = None,
) -> NDArray[np.float32]: ...
def vote_counts(
    indices: NDArray[Any],
    labels: NDArray[Any],
    groups: NDArray[Any] | None,
    n_classes: int,
    k: int,
    *,
    start: int = 0,
    stop: int | None = None,
    threads: int | None = None,
) -> NDArray[np.int32]: ...
