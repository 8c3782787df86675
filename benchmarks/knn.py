"""The exact neighbour graph against the libraries a person would use instead.

Data: Gaussian class blobs in a 32-dimensional subspace plus noise, l2-normalised, seeded; with --features FILE also
real embeddings (an .npy matrix), such as the 1,280-d MobileNetV2 features of the 50,000 CIFAR-10 training images. All
run with the same number of threads, in turn, and medians are compared. Peers return k + 1 neighbours, because they
count a row as its own. The approximate libraries run at the least effort that reaches the asked recall, which is found
first and not timed.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from _common import Report, interleaved, median, parser, peer, version
from labeltui import graph
from labeltui.graph import exact

KERNELS = Path(__file__).parents[1] / "src" / "labeltui" / "_fast" / "kernels"
RECALL = 0.97


def blobs(n: int, d: int, classes: int = 10, seed: int = 0) -> np.ndarray:
    """Class centres and spread of equal size in 32 dimensions, noise of a tenth in all."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(d, 32)))[0].T.astype(np.float32)
    centres = rng.normal(size=(classes, 32)).astype(np.float32)
    inner = centres[rng.integers(classes, size=n)] + rng.standard_normal((n, 32), np.float32)
    x = inner @ basis + 0.1 * rng.standard_normal((n, d), np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def ours(x: np.ndarray, k: int, threads: int, path: str | None = None) -> Callable[[], graph.Graph]:
    return lambda: graph.build(x, k, threads=threads, path=path)


def flat(x: np.ndarray, k: int, threads: int) -> Callable[[], object]:
    """faiss' exact index."""
    faiss = peer("faiss", "faiss-cpu")

    def call() -> object:
        faiss.omp_set_num_threads(threads)
        index = faiss.IndexFlatIP(x.shape[1])
        index.add(x)
        return index.search(x, k + 1)

    return call


def sgemm(x: np.ndarray, threads: int) -> Callable[[], object]:
    """One full product X X^T in float32, in slabs, nothing kept."""

    def call() -> None:
        with threadpool_limits(threads):
            out = np.empty((2048, len(x)), np.float32)
            for begin in range(0, len(x), 2048):
                slab = x[begin : begin + 2048]
                np.matmul(slab, x.T, out=out[: len(slab)])

    return call


def brute(x: np.ndarray, k: int, threads: int) -> Callable[[], object]:
    """scikit-learn's brute force; on unit vectors the euclidean order is the cosine order."""
    from sklearn.neighbors import NearestNeighbors

    def call() -> object:
        with threadpool_limits(threads):
            return (
                NearestNeighbors(n_neighbors=k + 1, algorithm="brute", metric="euclidean")
                .fit(x)
                .kneighbors(x)
            )

    return call


def efforts(name: str, x: np.ndarray, k: int, threads: int) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """Settings of an approximate library from cheap to thorough, each with a call that returns indices."""
    n, d = x.shape
    if name == "pynndescent":
        pynndescent = peer("pynndescent")
        for neighbours in (k + 1, 15, 20, 30, 45, 60):
            if neighbours > k:

                def descent(neighbours: int = neighbours) -> np.ndarray:
                    made = pynndescent.NNDescent(
                        x, metric="cosine", n_neighbors=neighbours, n_jobs=threads, random_state=0
                    )
                    found: np.ndarray = made.neighbor_graph[0]
                    return found

                yield f"n_neighbors={neighbours}", descent
    elif name == "hnswlib":
        hnswlib = peer("hnswlib")
        for links, effort in ((8, 40), (12, 40), (16, 40), (16, 80), (16, 160), (24, 200), (32, 400)):

            def hnsw(links: int = links, effort: int = effort) -> np.ndarray:
                index = hnswlib.Index(space="ip", dim=d)
                index.init_index(max_elements=n, M=links, ef_construction=effort, random_seed=0)
                index.set_num_threads(threads)
                index.add_items(x)
                index.set_ef(max(effort, k + 1))
                found: np.ndarray = index.knn_query(x, k + 1)[0]
                return found

            yield f"M={links}, ef={effort}", hnsw
    elif name == "faiss IVF":
        faiss = peer("faiss", "faiss-cpu")
        for lists, probes in ((1024, 4), (1024, 8), (1024, 16), (256, 8), (256, 16), (256, 32)):

            def ivf(lists: int = lists, probes: int = probes) -> np.ndarray:
                faiss.omp_set_num_threads(threads)
                quantiser = faiss.IndexFlatIP(d)
                index = faiss.IndexIVFFlat(quantiser, d, min(lists, n // 40), faiss.METRIC_INNER_PRODUCT)
                index.train(x)
                index.add(x)
                index.nprobe = probes
                found: np.ndarray = index.search(x, k + 1)[1]
                return found

            yield f"nlist={lists}, nprobe={probes}", ivf
    else:
        faiss = peer("faiss", "faiss-cpu")
        for links, effort in ((8, 40), (12, 40), (16, 40), (16, 80), (16, 160), (24, 200), (32, 400)):

            def faiss_hnsw(links: int = links, effort: int = effort) -> np.ndarray:
                faiss.omp_set_num_threads(threads)
                index = faiss.IndexHNSWFlat(d, links, faiss.METRIC_INNER_PRODUCT)
                index.hnsw.efConstruction = effort
                index.add(x)
                index.hnsw.efSearch = max(effort, k + 1)
                found: np.ndarray = index.search(x, k + 1)[1]
                return found

            yield f"M={links}, ef={effort}", faiss_hnsw


def recall_of(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of the true neighbours that were found, on 1,000 rows."""
    rows = np.random.default_rng(0).choice(len(truth), min(1000, len(truth)), replace=False)
    hits = sum(len(np.intersect1d(found[row], truth[row])) for row in rows)
    return hits / (len(rows) * truth.shape[1])


def memory_child(n: int, d: int, k: int, threads: int) -> int:
    """Bytes that the graph step adds to a process that holds only its input; run in a process of its own."""
    code = (
        "import resource, sys; sys.path.insert(0, sys.argv[1]); import knn; from labeltui import graph;"
        "n, d, k, threads = map(int, sys.argv[2:]); graph.build(knn.blobs(600, d), 5, threads=threads);"
        "x = knn.blobs(2000, d); x = knn.np.resize(x, (n, d));"  # filled without a peak above its size ...
        "rng = knn.np.random.default_rng(1);"
        "[x.__setitem__(slice(b, b + 5000), x[b:b + 5000] + 0.05 * rng.standard_normal((len(x[b:b + 5000]), d), 'f4'))"
        " for b in range(0, n, 5000)];"
        "open('/proc/self/clear_refs', 'w').write('5');"  # ... and the high-water mark reset
        "before = knn.resident(); graph.build(x, k, threads=threads); print(knn.high_water() - before)"
    )
    arguments = [sys.executable, "-c", code, str(Path(__file__).parent), *map(str, (n, d, k, threads))]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1])


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident() -> int:
    """Bytes of memory in use now."""
    return _status("VmRSS:")


def high_water() -> int:
    """Most bytes of memory in use since the mark was reset."""
    return _status("VmHWM:")


def against(
    report: Report, name: str, x: np.ndarray, k: int, threads: int, rounds: int, rivals: tuple[str, ...]
) -> dict[str, Any]:
    """One cell: our paths and the exact rivals in turn."""

    def measure() -> dict[str, Any]:
        calls: dict[str, Callable[[], object]] = {}
        made: dict[str, graph.Graph] = {}
        for path in (*(p for p in exact.paths() if p in ("avx2", "avx512", "avxvnni", "vnni", "amx")),):
            if path in rivals or path == exact.paths()[-1]:
                calls[path] = lambda path=path: made.__setitem__(path, ours(x, k, threads, path)())
        if "faiss" in rivals:
            calls["faiss"] = flat(x, k, threads)
        if "sgemm" in rivals:
            calls["sgemm"] = sgemm(x, threads)
        if "sklearn" in rivals:
            calls["sklearn"] = brute(x, k, threads)
        ours(x[:3000], k, threads)()  # threads, pages and permission are not part of the figure
        seconds = interleaved(calls, rounds)
        facts = {path: {"n_certified": g.n_certified, "n_fallback": g.n_fallback} for path, g in made.items()}
        same = len({g.indices.tobytes() + g.similarity.tobytes() for g in made.values()}) == 1
        return {"seconds": seconds, "rows": facts, "same_bytes": same, "load": os.getloadavg()[0]}

    return report.cell(
        name,
        measure,
        KERNELS,
        n=x.shape[0],
        d=x.shape[1],
        k=k,
        threads=threads,
        rounds=rounds,
        rivals=rivals,
        paths=exact.paths(),
    )


def ratio(cell: dict[str, Any], rival: str, path: str) -> float:
    return median(cell["seconds"][rival]) / median(cell["seconds"][path])


def detail(cell: dict[str, Any], path: str) -> dict[str, Any]:
    return {
        "path": path,
        "seconds": {name: [round(s, 3) for s in values] for name, values in cell["seconds"].items()},
        "load": round(cell["load"], 1),
        "same_bytes_on_all_paths": cell["same_bytes"],
        **cell["rows"].get(path, {}),
    }


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--features", type=Path, help=".npy matrix of real embeddings")
    arguments.add_argument("--threads", type=int, default=2)
    options = arguments.parse_args()
    report = Report("knn", options)
    threads, rounds = options.threads, 1 if options.quick else options.rounds
    n, d, large = (6000, 256, 12000) if options.quick else (50_000, 512, 200_000)
    size = f"{n // 1000}k x {d}"
    peers = {"faiss": version("faiss-cpu")} if peer("faiss", "faiss-cpu") else {}

    fastest = exact.paths()[-1]
    int8 = [path for path in exact.paths() if path in ("avxvnni", "vnni", "amx")]
    floats = [path for path in exact.paths() if path in ("c", "avx2", "avx512")][-1]

    def goal(value: float) -> float | None:
        return None if options.quick else value

    def compare(
        what: str, x: np.ndarray, k: int, target: float, times: int, extra: tuple[str, ...] = ()
    ) -> None:
        """The fastest path, and AVX512-VNNI beside it where that is another, against faiss."""
        if not report.wanted(what):
            return
        if not int8:
            report.cannot(what, "this CPU has no VNNI", "x", target=goal(target))
            return
        cell = against(report, what, x, k, threads, times, ("faiss", "vnni", *extra))
        for path in dict.fromkeys((fastest, *(p for p in int8 if p in cell["seconds"]))):
            suffix = "" if path == fastest else f" ({path} path)"
            report.add(
                what + suffix,
                ratio(cell, "faiss", path),
                "x",
                target=goal(target),
                peer=peers["faiss"],
                detail=detail(cell, path),
            )

    x = blobs(n, d)
    compare(f"exact kNN {size} k=10 against faiss IndexFlatIP", x, 10, 6.0, rounds)
    compare(f"exact kNN {size} k=50 against faiss IndexFlatIP", x, 50, 4.0, rounds)

    what = f"float32 path {size} k=10"
    if report.wanted(what):
        cell = against(report, what, x, 10, threads, rounds, ("faiss", "sgemm", floats))
        report.add(
            f"{what} against faiss IndexFlatIP",
            ratio(cell, "faiss", floats),
            "x",
            target=goal(2.0),
            peer=peers["faiss"],
            detail=detail(cell, floats),
        )
        report.add(
            f"{what} in full sgemms",
            1 / ratio(cell, "sgemm", floats),
            "x",
            better="lower",
            target=goal(0.55),
            peer=version("numpy"),
            detail=detail(cell, floats),
        )

    what = f"exact kNN {size} k=10 against scikit-learn brute force"
    if report.wanted(what):
        cell = against(report, what, x, 10, threads, rounds, ("sklearn",))
        report.add(
            what,
            ratio(cell, "sklearn", fastest),
            "x",
            target=goal(10.0),
            peer=version("scikit-learn"),
            detail=detail(cell, fastest),
        )

    for name, distribution in (
        ("pynndescent", "pynndescent"),
        ("hnswlib", "hnswlib"),
        ("faiss IVF", "faiss-cpu"),
        ("faiss HNSW", "faiss-cpu"),
    ):
        what = f"exact kNN {size} k=10 against {name} at recall >= {RECALL}"
        if not report.wanted(what):
            continue

        def measure(name: str = name) -> dict[str, Any]:
            truth = ours(x, 10, threads)().indices
            tried: list[dict[str, Any]] = []
            for setting, call in efforts(name, x, 10, threads):
                begin = time.perf_counter()
                recall = recall_of(call(), truth)
                tried.append(
                    {"setting": setting, "recall": round(recall, 4), "seconds": time.perf_counter() - begin}
                )
                if recall >= RECALL:
                    return {
                        "seconds": interleaved({name: call, fastest: ours(x, 10, threads)}, rounds),
                        "tried": tried,
                    }
            return {"seconds": None, "tried": tried}

        cell = report.cell(
            what, measure, KERNELS, n=n, d=d, threads=threads, rounds=rounds, recall=RECALL, fastest=fastest
        )
        if cell["seconds"] is None:
            report.cannot(
                what,
                f"no setting tried reached the recall; best {max(t['recall'] for t in cell['tried'])}",
                "x",
                target=goal(1.0),
            )
            continue
        report.add(
            what,
            ratio(cell, name, fastest),
            "x",
            target=goal(1.0),
            peer=version(distribution),
            detail={"tried": cell["tried"], "seconds": cell["seconds"]},
        )

    what = "exact kNN of real features k=10 against faiss IndexFlatIP"
    if report.wanted(what):
        if options.features is None or options.quick:
            report.cannot(
                what, "no --features given" if not options.quick else "not in a quick run", "x", target=5.0
            )
        else:
            real = np.load(options.features).astype(np.float32, copy=False)
            real = real / np.linalg.norm(real, axis=1, keepdims=True)  # faiss has no cosine of its own
            compare(what, real, 10, 5.0, rounds)
            del real

    what = f"exact kNN {large // 1000}k x {d} k=10 against faiss IndexFlatIP"
    if report.wanted(what):
        compare(what, blobs(large, d), 10, 7.0, 1)

    what = f"memory of the graph step beside its input, {large // 1000}k x {d} k=10"
    if report.wanted(what):
        if not Path("/proc/self/clear_refs").exists():
            report.cannot(what, "peak memory is read from /proc", "GB", better="lower", target=goal(0.5))
        else:
            for k in (10, 50):
                cell = report.cell(
                    f"{what} k={k}",
                    lambda k=k: {"bytes": memory_child(large, d, k, threads)},
                    KERNELS,
                    n=large,
                    d=d,
                    k=k,
                    threads=threads,
                )
                report.add(
                    what.replace("k=10", f"k={k}"),
                    cell["bytes"] / 1e9,
                    "GB",
                    better="lower",
                    target=goal(0.5) if k == 10 else None,
                    detail={"promised": graph.memory(large, d, k, threads) / 1e9},
                )
    report.finish()


if __name__ == "__main__":
    main()
