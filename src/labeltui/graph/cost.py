"""Estimated times of an exact search, from which progress and plans are made.

The constants were measured on one core with AVX-512 and VNNI (`benchmarks/scale.py`), `DIRECT_NARROW` on one with AVX2.
On other machines the seconds are others; that one step takes so many times longer than another holds roughly
everywhere.
"""

from __future__ import annotations

import math

from labeltui._fast import knn

PRODUCT = {"c": 1e-10, "avx2": 3.6e-11, "avx512": 2.5e-11, "avxvnni": 1.4e-11, "vnni": 6.8e-12, "amx": 3e-12}
"""Seconds of multiplying two values in a tile, by path."""
PAIR = 3e-11  # of looking at the similarity of two rows
HIT = 1.3e-6  # of one that reaches a threshold, of which a row has about ln(n / FIRST): thresholds rise
FIRST = 100
RANKED_ROW, RANKED_VALUE = (
    3.3e-6,
    3.2e-8,
)  # of ranking a row's candidates: for the row, and for each dimension
SKETCHED_VALUE = 4e-9  # of clustering and rounding: for each value
DIRECT, DIRECT_NARROW = 1e-10, 4e-10  # of a product in float64: with AVX-512, and without


def filter_seconds(n: int, d: int, path: str) -> dict[str, float]:
    """Estimate the time of each step of a filter, on one core.

    Parameters
    ----------
    n, d : int
        Rows and dimensions.
    path : str
        One of `labeltui._fast.knn.PATHS`.

    Returns
    -------
    dict of str to float
        Seconds: assign, sketch and rerank grow with n, tiles with n squared and hits with n ln n.
    """
    assert path in knn.PATHS
    return {
        f"{path} assign": SKETCHED_VALUE * n * d,
        f"{path} sketch": SKETCHED_VALUE * n * d,
        f"{path} tiles": square_seconds(n, d, path) + HIT * n * math.log(max(2.0, n / FIRST)),
        f"{path} rerank": n * (RANKED_ROW + RANKED_VALUE * d),
    }


def square_seconds(n: int, d: int, path: str) -> float:
    """Estimate what of a filter's time grows with the square of the rows, on one core; see `filter_seconds`."""
    return 0.5 * n * n * (PRODUCT[path] * d + PAIR)


def direct_seconds(rows: int, n: int, d: int) -> float:
    """Estimate the time of comparing some rows with all in float64, on one core.

    Parameters
    ----------
    rows : int
        How many are searched for.
    n, d : int
        Rows and dimensions.
    """
    return (DIRECT if "avx512" in knn.paths() else DIRECT_NARROW) * rows * n * d
