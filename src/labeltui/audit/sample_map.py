"""A map of the samples: places in the plane by their embedding, for the report and the plots of the terminal UI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from labeltui.errors import UsageError

if TYPE_CHECKING:
    from labeltui.audit.session import Audit

POINTS = 3000
SEED = 0


@dataclass(frozen=True)
class SampleMap:
    """Some of an audit's usable samples in the plane.

    Attributes
    ----------
    samples : ndarray of int64, shape (m,)
        Ascending positions, drawn at random where there are more than `POINTS`.
    places : ndarray of float64, shape (m, 2)
    axes : (str, str)
        What the two axes are.
    meaning : str
        What nearness means here, as a sentence.
    """

    samples: NDArray[np.int64]
    places: NDArray[np.float64]
    axes: tuple[str, str]
    meaning: str


def sample_map(audit: Audit, layout: str = "pca") -> SampleMap | None:
    """Place samples by the current embedding; None where there are too few of them, or they all lie in
    one place.

    Parameters
    ----------
    audit : Audit
    layout : str
        ``pca``, or ``umap`` (McInnes et al., 2018), which needs umap-learn.

    Raises
    ------
    UsageError
        umap-learn is not installed.
    """
    usable = np.flatnonzero(audit.statuses == 0)
    if len(usable) < 3:
        return None
    rng = np.random.default_rng(SEED)
    chosen = np.sort(rng.choice(usable, min(POINTS, len(usable)), replace=False))
    rows = audit.embedding()[chosen].astype(np.float32)
    if rows.shape[1] < 2 or (rows == rows[0]).all():
        return None
    return SampleMap(chosen, *LAYOUTS[layout](rows))


def _principal(rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], tuple[str, str], str]:
    """Places of samples, the axes, and what they mean."""
    from sklearn.decomposition import PCA

    pca = PCA(2, random_state=SEED)
    places = pca.fit_transform(rows).astype(np.float64)
    first, second = pca.explained_variance_ratio_.tolist()
    return (
        places,
        (f"component 1 ({first:.0%} of the variance)", f"component 2 ({second:.0%})"),
        f"The first two principal components hold {first + second:.0%} of the variance: samples that lie together here "
        "may be apart in truth.",
    )


def _umap(rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], tuple[str, str], str]:
    """The same by UMAP."""
    try:
        from umap import UMAP
    except ImportError:
        raise UsageError(
            "a map by UMAP needs umap-learn",
            "it is not installed",
            "pip install 'labeltui[umap]', or --map pca",
        ) from None
    made = UMAP(metric="cosine", random_state=SEED, n_jobs=1, n_neighbors=min(15, len(rows) - 1))
    return (
        np.asarray(made.fit_transform(rows), np.float64),
        ("UMAP 1", "UMAP 2"),
        "Placed by UMAP: near samples are alike; the distances between groups and their sizes mean nothing.",
    )


LAYOUTS = {"pca": _principal, "umap": _umap}
