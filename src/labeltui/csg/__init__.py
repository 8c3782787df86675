"""Cumulative Spectral Gradient: how much the classes of a labelled data set overlap in its neighbour graph.

::

    neighbour lists + labels --pooled_counts--> T --similarity--> S --overlap--> W --spectrum--> CSG
                                                |                       |
                                    LiveCsg: one relabel moves T        +--> overlap of a class, of a pair
                                    exactly, S and W where it must

T[i, j] counts the neighbours of label j among the k nearest of the samples of class i; S is T with rows
divided by their sums; W_ij = 1 - BrayCurtis(S_i, S_j) = sum_c min(S_ic, S_jc); L = D - W; with the
eigenvalues 0 = l_0 <= ... <= l_{K-1} of L, g_i = (l_{i+1} - l_i) / (K - i) and CSG = sum_i max(g_0..g_i)
(Branchaud-Charron et al., "Spectral Metric for Dataset Complexity Assessment", CVPR 2019, arXiv:1905.07299).
Where the paper samples each class and weighs by a bounding-box volume, this package takes every sample with
equal weight, so a result is an exact function of graph and labels; `compatible` computes the paper's
estimate.

Samples without a label, and not-ok samples (neighbour indices -1), are outside S. Classes without any counted
neighbour leave the spectrum. CSG is comparable only within one embedding, k and N. Above `SPARSE_ABOVE`
classes T, S and W are `scipy.sparse.csr_array`.
"""

from __future__ import annotations

from labeltui.csg.counting import SPARSE_ABOVE, class_sizes, overlap, pooled_counts, similarity
from labeltui.csg.live import LiveCsg, Snapshot
from labeltui.csg.measures import Complexity, Overlaps, complexity, measure, overlaps, spectrum, spectrum_ends
from labeltui.csg.resampling import SWEEP, compatible, interval, sweep

__all__ = [
    "SPARSE_ABOVE",
    "SWEEP",
    "Complexity",
    "LiveCsg",
    "Overlaps",
    "Snapshot",
    "class_sizes",
    "compatible",
    "complexity",
    "interval",
    "measure",
    "overlap",
    "overlaps",
    "pooled_counts",
    "similarity",
    "spectrum",
    "spectrum_ends",
    "sweep",
]
