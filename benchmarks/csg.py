"""CSG against the published implementation (spectral-metric), and what one relabel costs.

Data: Gaussian class blobs in a 32-dimensional subspace of 512 dimensions plus a little noise everywhere,
l2-normalised, seeded. spectral-metric draws M=250 samples per class; labeltui takes every sample. Both get the same
points and labels, in turn, in one run.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import labeltui
from _common import Report, interleaved, median, parser, peer, version
from labeltui import csg, graph

K_NEAREST = 10
SOURCE = Path(labeltui.__file__).parent
OURS = (SOURCE / "csg", SOURCE / "graph", SOURCE / "_fast")


def blobs(n: int, d: int, n_classes: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Points and labels: classes of equal size whose centres and spread live in 32 dimensions."""
    rng = np.random.default_rng(seed)
    labels = (rng.permutation(n) % n_classes).astype(np.int32)
    inner = rng.normal(size=(n_classes, 32))[labels] + 1.5 * rng.normal(size=(n, 32))
    basis = np.linalg.qr(rng.normal(size=(d, 32)))[0]
    X = (inner @ basis.T + 0.05 * rng.normal(size=(n, d))).astype(np.float32)
    return X / np.linalg.norm(X, axis=1, keepdims=True), labels


def against_peer(n: int, n_classes: int, samples: int, rounds: int) -> dict[str, Any]:
    """Seconds of the peer, of graph + CSG, and of CSG given the graph."""
    estimator = peer("spectral_metric.estimator", "spectral-metric").CumulativeGradientEstimator
    X, labels = blobs(n, 512, n_classes)
    values: dict[str, list[float]] = {"theirs": [], "ours": []}
    graphs: list[graph.Graph] = []

    def theirs() -> None:
        fitted = estimator(M_sample=samples, k_nearest=K_NEAREST).fit(X, labels)
        values["theirs"].append(float(np.ravel(fitted.csg)[0]))

    def with_graph() -> None:
        graphs[:] = [graph.build(X, k=K_NEAREST)]
        values["ours"].append(csg.measure(graphs[0].indices, labels, n_classes, K_NEAREST).csg)

    seconds = interleaved({"theirs": theirs, "with graph": with_graph}, rounds)
    indices = graphs[0].indices
    given = interleaved(
        {"given": lambda: csg.measure(indices, labels, n_classes, K_NEAREST)}, max(20, rounds), warm=True
    )
    return {
        "seconds": {name: median(times) for name, times in (seconds | given).items()},
        "csg": {name: median(found) for name, found in values.items()},
    }


def parts(n: int, n_classes: int) -> dict[str, Any]:
    """One relabel, and the single steps, on one graph."""
    X, labels = blobs(n, 512, n_classes)
    found = graph.build(X, k=K_NEAREST)
    indices = found.indices
    T = csg.pooled_counts(indices, labels, n_classes, K_NEAREST)
    live = csg.LiveCsg(T, indices, labels, *found.reverse(K_NEAREST), n_classes, K_NEAREST)
    rng = np.random.default_rng(1)
    moves = list(
        zip(rng.integers(0, n, 5000).tolist(), rng.integers(0, n_classes, 5000).tolist(), strict=True)
    )
    for sample, label in moves[:500]:
        live.relabel(sample, label)
    single = []
    for sample, label in moves[500:]:
        begin = time.perf_counter()
        live.relabel(sample, label)
        single.append(time.perf_counter() - begin)
    if not np.array_equal(live.T, csg.pooled_counts(indices, live.labels, n_classes, K_NEAREST)):
        raise AssertionError("live counts differ from a rebuild")
    S = csg.similarity(T)
    W = csg.overlap(S)
    steps = interleaved(
        {
            "counts": lambda: csg.pooled_counts(indices, labels, n_classes, K_NEAREST),
            "S and W": lambda: csg.overlap(csg.similarity(T)),
            "eigenvalues": lambda: csg.spectrum(W),
            "all with eigenvectors": live.complexity,
        },
        5,
        warm=True,
    )
    return {
        "relabel_us": 1e6 * median(single),
        "relabel_us_p99": 1e6 * float(np.quantile(single, 0.99)),
        "steps_ms": {name: 1e3 * median(times) for name, times in steps.items()},
        "filled_share_of_S": float((S > 0).mean()),
    }


def main() -> None:
    options = parser(__doc__).parse_args()
    report = Report("csg", options)
    n = 5_000 if options.quick else 50_000
    samples, rounds = (10, 1) if options.quick else (250, options.rounds)
    name = version("spectral-metric")
    for n_classes, with_graph in ((10, 3), (100, 30)):
        title = f"{n // 1000}k x 512, {n_classes} classes, k={K_NEAREST}, against spectral-metric M={samples}"
        if not report.wanted(title):
            continue
        cell = report.cell(
            title,
            lambda c=n_classes: against_peer(n, c, samples, rounds),
            *OURS,
            n=n,
            samples=samples,
            rounds=rounds,
        )
        seconds = cell["seconds"]
        goal = {} if options.quick else {"target": with_graph}
        report.add(
            f"graph included, {title}",
            seconds["theirs"] / seconds["with graph"],
            "x",
            peer=name,
            detail=cell,
            **goal,
        )
        goal = {} if options.quick else {"target": 1e4}
        report.add(
            f"given the graph, {title}",
            seconds["theirs"] / seconds["given"],
            "x",
            peer=name,
            detail=cell,
            **goal,
        )
    for n_classes, limit in ((10, 5), (100, 8), (1000, 200)):
        title = f"one relabel (counts, S, W), {n // 1000}k samples, {n_classes} classes"
        if not report.wanted(title):
            continue
        cell = report.cell(title, lambda c=n_classes: parts(n, c), *OURS, n=n)
        goal = {} if options.quick else {"target": limit}
        report.add(title, cell["relabel_us"], "us", better="lower", detail=cell, **goal)
        for step, milliseconds in cell["steps_ms"].items():
            report.add(f"{step}, {n_classes} classes", milliseconds, "ms", better="lower")
    report.finish()


if __name__ == "__main__":
    main()
