import numpy as np
from numpy.typing import NDArray

FIXED_ONE: int

def pooled_counts(
    indices: NDArray[np.int32],
    labels: NDArray[np.int32],
    weights: NDArray[np.int32],
    T: NDArray[np.int64],
    start: int,
    stop: int,
    first: int,
    last: int,
) -> int: ...
def class_sizes(indices: NDArray[np.int32], labels: NDArray[np.int32], sizes: NDArray[np.int64]) -> None: ...
def overlap(
    S: NDArray[np.float64],
    transposed: NDArray[np.float64],
    W: NDArray[np.float64],
    start: int,
    step: int,
    wide: int = -1,
) -> None: ...
def sparse_overlap(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    data: NDArray[np.float64],
    column_indptr: NDArray[np.int64],
    column_indices: NDArray[np.int32],
    column_data: NDArray[np.float64],
    start: int,
    stop: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]: ...

class LiveCounts:
    K: int
    k: int
    N: int
    overlap: NDArray[np.int64]
    fixed_W: NDArray[np.int32]
    fixed_U: NDArray[np.int32]
    total: NDArray[np.int64]
    def __init__(
        self,
        T: NDArray[np.int64],
        labels: NDArray[np.int32],
        sizes: NDArray[np.int64],
        indices: NDArray[np.int32],
        rev_indptr: NDArray[np.int64],
        rev_indices: NDArray[np.int32],
        k: int,
        matrices: bool = True,
        wide: int = -1,
    ) -> None: ...
    def relabel(self, sample: int, label: int) -> int: ...
