"""The exact graph by Ray with two one-core workers on this machine, against two threads of one process.

The overlapping clusters of `scale.py`, ready in memory; the cluster is started and has searched once before it is
timed. ``--samples`` and ``--dimensions`` set the size; both run in turn, and the bytes are compared.
"""

from __future__ import annotations

import numpy as np

from _common import Report, interleaved, median, parser, peer, version
from labeltui import graph
from labeltui.cluster import connect
from scale import features

TARGET = 1.35


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--samples", type=int, default=50_000)
    options.add_argument("--dimensions", type=int, default=512)
    asked = options.parse_args()
    peer("ray")
    report = Report("cluster", asked)
    n, d = (8000, 64) if asked.quick else (asked.samples, asked.dimensions)
    X, _ = features(n, d)
    graphs: dict[str, graph.Graph] = {}
    with connect(None, 1, 2) as cluster:
        graph.build(X[:4000], 50, threads=1, crew=cluster)

        def by_ray() -> None:
            graphs["ray"] = graph.build(X, 50, threads=2, crew=cluster)

        def by_threads() -> None:
            graphs["threads"] = graph.build(X, 50, threads=2)

        seconds = interleaved({"threads": by_threads, "ray": by_ray}, asked.rounds)
    ratio = median([ray / threads for ray, threads in zip(seconds["ray"], seconds["threads"], strict=True)])
    detail = {"samples": n, "dimensions": d, "workers": cluster.size, "seconds": seconds}
    report.add(
        f"graph {n:,} x {d} by Ray, 2 one-core workers, against 2 threads", ratio, "x",
        better="lower", target=TARGET, peer=version("ray"), detail=detail,
    )  # fmt: skip
    same = all(
        np.array_equal(getattr(graphs["ray"], name), getattr(graphs["threads"], name))
        for name in ("indices", "similarity")
    )
    report.add("the same bytes", float(same), "", target=1)
    report.finish()


if __name__ == "__main__":
    main()
