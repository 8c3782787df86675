"""The neighbour graph: for every sample the k most similar others.

Everything downstream (class similarity, votes, evidence, duplicates) reads this one graph, so it has one meaning:

* The similarity of two rows is their product accumulated in float64 in one fixed order (`_fast/kernels/exact_body.h`)
  and rounded to float32: divided by both lengths for ``cosine``, as it is for ``inner_product``; for ``euclidean`` it
  is minus the distance.
* A row's neighbours are the k others of largest similarity; of equal ones the lower index comes first. A row is never
  its own neighbour.

Backends::

    build(backend=...)
      "exact"        _fast.knn: a cheap filter with an error bound, then exact ranking; a row that the bound
                     does not certify is searched again in float64. Same bytes on every CPU and thread count.
      "cuda"         torch on one GPU: half-precision filter with the same kind of bound; same bytes again.
      "approximate"  pynndescent (optional extra): recall measured on sampled rows and stored in the graph.

``build`` never switches backends silently; `recommend_backend` tells when another would be faster.
"""

from __future__ import annotations

from labeltui.graph.affinity import affinity, knn_distances, relative_similarity
from labeltui.graph.approximate import recall_sentence
from labeltui.graph.build import Graph, Recommendation, build, expand, memory, recommend_backend
from labeltui.graph.extend import extend
from labeltui.graph.parts import Crew

__all__ = [
    "Crew",
    "Graph",
    "Recommendation",
    "affinity",
    "build",
    "expand",
    "extend",
    "knn_distances",
    "memory",
    "recall_sentence",
    "recommend_backend",
    "relative_similarity",
]
