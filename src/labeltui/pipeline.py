"""Scoring: labels and embeddings become a neighbour graph, duplicate groups, class complexity and flags.

::

    labels, embeddings --build_graph--> neighbours --find_duplicates--> groups
                                            |                             |
                                            +--measure_classes--> CSG     +--train_classifier--> out-of-fold p
                                            |                                                        |
                                            +-----------------------+-----------------------------------+
                                                                    +--flag--> scores, suggestions, flags

`score` runs all of it. A scan, re-scoring after training, re-embedding and `labeltui.find_label_issues` call these
functions and no others, so that the same arrays give the same bytes everywhere. Results carry the paths of an audit's
file (`Scored.arrays`, `Scored.attrs`).
"""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from labeltui import csg, detect, duplicates, graph, head
from labeltui.errors import Cancelled, UsageError
from labeltui.graph.build import BACKENDS
from labeltui.head import HeadSpec
from labeltui.io.h5_writer import Attribute, pack_matrix
from labeltui.metric import METRICS, choose_metric, uncentred
from labeltui.options import option
from labeltui.parallel import Cancel, Progress, StageProgress
from labeltui.unfinished import Keeper

STORED_NEIGHBOURS = 50
# A spectrum takes a time that grows with the cube of the classes: 0.2 s for 1,000, a minute for 5,000.
MOST_CLASSES = 5_000
MOST_REPEATED = 1_000  # classes above which sweep and interval, which repeat the spectrum, are left out
WITHOUT_TORCH = (
    "torch is not installed: no classifier was trained, labels are scored by their neighbours, duplicates and your "
    "--pred-probs alone"
)
MANY_CLOSE = 0.1  # of the samples, searched for without the filter's help, above which that is told
HUNDREDTHS = 100  # total of the stages that only know the fraction done

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
Attrs = dict[str, dict[str, Attribute]]
Mask = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int32]
Compute = Callable[[], tuple[Mapping[str, Array], Mapping[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class ScoringOptions:
    """How labels and embeddings are scored.

    Attributes
    ----------
    duplicate_threshold : float, optional
        Near-duplicates count as one sample in folds and votes; None = the defaults of
        `labeltui.duplicates.near_duplicates`.
    head : HeadSpec
        The classifier on embeddings.
    metric : str, optional
        A key of `labeltui.metric.METRICS`; None is the cosine for the features of a backbone, and tried out for ready
        embeddings.
    threads : int, optional
        See `labeltui.parallel.count_threads`; never changes the result.

    Raises
    ------
    UsageError
        A value is out of range.
    """

    k: int = option(10, "Neighbours that CSG and votes count; more are stored.", "Scoring", flag="-k")
    duplicate_threshold: float | None = option(
        None, "Smallest cosine of near-duplicates; 1: identical images only.", "Scoring", shown="measured"
    )
    folds: int = option(5, "Folds of the out-of-fold classifier on embeddings.", "Scoring")
    head: HeadSpec = field(default_factory=HeadSpec)
    seed: int = option(0, "Seed of folds, classifier and intervals.", "Scoring", shown="0")
    backend: str = option("exact", "Of the neighbour graph.", "Scoring", choices=BACKENDS)
    metric: str | None = option(
        None, "By which neighbours are found.", "Scoring", choices=tuple(METRICS),
        shown="cosine; of ready embeddings, the better of cosine and euclidean",
    )  # fmt: skip
    threads: int | None = option(
        None, "CPU threads; never changes the result.", shown="all cores, or LABELTUI_THREADS"
    )

    def __post_init__(self) -> None:
        if not 1 <= self.k <= STORED_NEIGHBOURS:
            raise UsageError(f"k must be 1..{STORED_NEIGHBOURS}", f"got {self.k}", "10 serves most data")
        if self.duplicate_threshold is not None and not 0 < self.duplicate_threshold <= 1:
            raise UsageError(
                "the duplicate threshold must be above 0, at most 1", f"got {self.duplicate_threshold}"
            )
        if not 2 <= self.folds <= 100:
            raise UsageError("the number of folds must be 2..100", f"got {self.folds}", "5 serves most data")
        if self.seed < 0:
            raise UsageError("the seed must not be negative", f"got {self.seed}")
        if self.metric is not None and self.metric not in METRICS:
            raise UsageError(f"the metric must be one of {', '.join(METRICS)}", f"got {self.metric!r}")
        if self.backend not in BACKENDS:
            raise UsageError(f"the backend must be one of {', '.join(BACKENDS)}", f"got {self.backend!r}")


class Expected(NamedTuple):
    """What an array of a step must be, so that kernels can follow its values wherever it came from.

    Attributes
    ----------
    dtype : str
    shape : tuple of int or str
        A name stands for any length, the same wherever it occurs.
    low, high : float, optional
        Least and largest value; where they are given, values are finite as well.
    """

    dtype: str
    shape: tuple[int | str, ...]
    low: float | None = None
    high: float | None = None


def as_expected(arrays: Mapping[str, Array], expected: Mapping[str, Expected]) -> bool:
    """Whether arrays have the names, types, shapes and values that are expected."""
    if arrays.keys() != expected.keys():
        return False
    lengths: dict[str, int] = {}
    for name, (dtype, shape, low, high) in expected.items():
        array = arrays[name]
        if array.dtype != dtype or array.ndim != len(shape):
            return False
        for axis, length in zip(shape, array.shape, strict=True):
            if length != (lengths.setdefault(axis, length) if isinstance(axis, str) else axis):
                return False
        bounded = low is not None and high is not None and array.size
        if bounded and not (array.min() >= low and array.max() <= high):  # not a number is neither
            return False
    return True


class Cache(Protocol):
    """Keeps the results of long steps, so that an interrupted run does not repeat them."""

    def step(
        self, name: str, key: Iterable[object], compute: Compute, expected: Mapping[str, Expected]
    ) -> tuple[Arrays, dict[str, Any]]:
        """Compute a step, or return its stored result for the same key.

        Parameters
        ----------
        name : str
            Of the step.
        key : iterable
            Inputs that decide the result; see `labeltui.scanning.checkpoint`.
        compute : callable
            Returns the arrays of the step, and text and numbers.
        expected : mapping of str to Expected
            What the arrays are; a stored result that is anything else is recomputed.

        Returns
        -------
        arrays : dict of str to ndarray
        values : dict
        """

    def unfinished(self, name: str) -> Keeper | None:
        """Return the place for the unfinished work of a step, or None if it is not kept.

        Parameters
        ----------
        name : str
            Of the step.
        """


class NoCache:
    """Computes every step."""

    def unfinished(self, name: str) -> Keeper | None:
        """See `Cache.unfinished`."""
        return None

    def step(
        self, name: str, key: Iterable[object], compute: Compute, expected: Mapping[str, Expected]
    ) -> tuple[Arrays, dict[str, Any]]:
        """See `Cache.step`."""
        arrays, values = compute()
        return dict(arrays), dict(values)


@dataclass
class Stages:
    """StageProgress, cancellation and a clock for the stages of one run.

    Attributes
    ----------
    report : callable
        ``report(stage, done, total)``.
    cancelled : callable
        Whether to stop; asked often.
    seconds : dict
        Seconds taken, by stage.
    crew : Crew, optional
        Other processes that help with the graph.
    """

    report: StageProgress = lambda stage, done, total: None
    cancelled: Cancel = lambda: False
    seconds: dict[str, float] = field(default_factory=dict)
    crew: graph.Crew | None = None

    @contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """Time a stage; yields a callback for the fraction of it that is done."""
        begun = time.monotonic()
        self.check()
        self.report(name, 0, HUNDREDTHS)
        yield lambda done: self.report(name, min(HUNDREDTHS, int(done * HUNDREDTHS)), HUNDREDTHS)
        self.report(name, HUNDREDTHS, HUNDREDTHS)
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - begun, 3)

    def check(self) -> None:
        """Raise `Cancelled` when asked to stop."""
        if self.cancelled():
            raise self.stopped()

    def stopped(self) -> Cancelled:
        """Return the error to raise when asked to stop."""
        return Cancelled("scoring was stopped")


@dataclass
class Scored:
    """Everything that scoring found.

    Attributes
    ----------
    arrays, attrs : dict
        By path in an audit's file.
    metadata : dict
        What may differ between machines, for scan.json.
    flagged : ndarray of bool, shape (N,)
        Samples whose given label is not the first suggestion.
    csg : float, optional
        None above `MOST_CLASSES` classes.
    notes : list of str
        What was assumed, one printable line each.
    """

    arrays: Arrays = field(default_factory=dict)
    attrs: Attrs = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    flagged: Mask = field(default_factory=lambda: np.zeros(0, bool))
    csg: float | None = None
    notes: list[str] = field(default_factory=list)

    def add(self, arrays: Mapping[str, Array], attrs: Mapping[str, Mapping[str, Attribute]]) -> None:
        """Add arrays and attributes; attributes of a path are merged.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            By dataset name.
        attrs : mapping of str to mapping
            By path.
        """
        self.arrays |= arrays
        for path, values in attrs.items():
            self.attrs[path] = {**self.attrs.get(path, {}), **values}


def score(
    labels: Ints,
    n_classes: int,
    embeddings: Array,
    ok: Mask,
    hashes: Array,
    options: ScoringOptions,
    scored: Scored | None = None,
    *,
    pred_probs: Array | None = None,
    image: Callable[[int], Image.Image] | None = None,
    name: str = "embeddings",
    ready: bool = False,
    device: str = "auto",
    stages: Stages | None = None,
    cache: Cache | None = None,
) -> Scored:
    """Build the graph, group duplicates, measure the classes, train the classifier and run the detectors.

    Parameters
    ----------
    labels : ndarray of int32, shape (N,)
        Class indices, -1 = none.
    n_classes : int
        K.
    embeddings : ndarray of float32 or float16, shape (N, d)
    ok : ndarray of bool, shape (N,)
        Samples that take part; the others keep neighbours -1 and are never flagged.
    hashes : ndarray of uint8, shape (N, b)
        Rows that are equal exactly where samples are identical.
    options : ScoringOptions
    scored : Scored, optional
        Where to add what is found; by default a new one.
    pred_probs : ndarray of float32, shape (N, K), optional
        Out-of-fold probabilities that the user brought.
    image : callable, optional
        ``image(i)`` returns image i; must be thread-safe. Without it near-duplicates are found by cosine alone.
    name : str
        Of the embedding.
    ready : bool
        Whether the embeddings were given, from a model of which nothing is known; then their metric is tried out.
    device : str
        Where classifiers are trained.
    stages : Stages, optional
    cache : Cache, optional

    Returns
    -------
    Scored

    Raises
    ------
    Cancelled
    """
    stages = stages or Stages()
    cache = cache or NoCache()
    scored = Scored() if scored is None else scored
    torch_import = threading.Thread(target=_import_torch, name="import-torch")
    with_torch = importlib.util.find_spec("torch") is not None
    if with_torch and n_classes > 1:  # else there is nothing to learn
        torch_import.start()
    neighbours, groups = measure(
        labels, n_classes, embeddings, ok, hashes, options, scored, image=image, name=name, ready=ready,
        stages=stages, cache=cache,
    )  # fmt: skip
    if torch_import.ident is not None:
        torch_import.join()
    judge(
        labels, n_classes, embeddings, ok, neighbours, groups, options, scored, pred_probs=pred_probs, device=device,
        stages=stages, cache=cache,
    )  # fmt: skip
    return scored


def measure(
    labels: Ints,
    n_classes: int,
    embeddings: Array,
    ok: Mask,
    hashes: Array,
    options: ScoringOptions,
    scored: Scored,
    *,
    image: Callable[[int], Image.Image] | None = None,
    name: str = "embeddings",
    ready: bool = False,
    stages: Stages | None = None,
    cache: Cache | None = None,
) -> tuple[graph.Graph, Ints]:
    """Do the part of `score` that needs no classifier: graph, duplicate groups, CSG.

    Parameters
    ----------
    labels, n_classes, embeddings, ok, hashes, options, scored, image, name, ready, stages, cache
        As for `score`.

    Returns
    -------
    neighbours : Graph
    groups : (N,) int32
        Duplicates share a number.

    Raises
    ------
    Cancelled
    """
    stages = stages or Stages()
    cache = cache or NoCache()
    with stages.stage("graph") as progress:
        metric = METRICS[options.metric or "cosine"]
        if ready and options.metric is None:
            metric, note = choose_metric(embeddings, labels, ok, options.k, options.threads)
            scored.notes += [note] if note else []
        if ready and metric == "cosine" and (note := uncentred(embeddings, ok)):
            scored.notes.append(note)
        neighbours = build_graph(
            embeddings,
            ok,
            options,
            name,
            scored,
            progress,
            stages.cancelled,
            cache,
            metric=metric,
            crew=stages.crew,
        )
    with stages.stage("duplicates") as progress:
        groups = _find_duplicates(
            neighbours, hashes, ok, options, image, scored, progress, stages.cancelled, cache
        )
    with stages.stage("csg"):
        measure_classes(labels, n_classes, ok, neighbours, options, name, scored, stages.check)
    return neighbours, groups


def judge(
    labels: Ints,
    n_classes: int,
    embeddings: Array,
    ok: Mask,
    neighbours: graph.Graph,
    groups: Ints,
    options: ScoringOptions,
    scored: Scored,
    *,
    pred_probs: Array | None = None,
    device: str = "auto",
    stages: Stages | None = None,
    cache: Cache | None = None,
) -> None:
    """Do the rest of `score` once graph and duplicates are known: the classifier, then the detectors.

    Parameters
    ----------
    labels, n_classes, embeddings, ok, options, scored, pred_probs, device, stages, cache
        As for `score`.
    neighbours : Graph
    groups : ndarray of int32, shape (N,)
        Duplicates share a number.

    Raises
    ------
    Cancelled
    """
    stages = stages or Stages()
    cache = cache or NoCache()
    fold, p, dynamics = None, None, None
    if importlib.util.find_spec("torch") is None:
        scored.notes.append(WITHOUT_TORCH)
    else:
        with stages.stage("head") as progress:
            fold, p, dynamics = _train_classifier(
                labels,
                n_classes,
                embeddings,
                ok,
                groups,
                options,
                device,
                scored,
                progress,
                stages.cancelled,
                cache,
            )
    keeper = cache.unfinished("score")
    with stages.stage("score") as progress:
        flag(
            detect.DetectorInputs(
                labels=labels,
                n_classes=n_classes,
                ok=ok,
                indices=neighbours.indices,
                similarity=neighbours.similarity,
                groups=groups,
                p_head=p,
                pred_probs=pred_probs,
                embeddings=embeddings,
                fold=fold,
                head=options.head,
                dynamics=dynamics,
                seed=options.seed,
                threads=options.threads,
                keeper=keeper,
            ),
            scored,
            progress,
            stages.cancelled,
        )
    _note_used(keeper, "the noise-corrected classifier", scored)


def _note_used(keeper: Keeper | None, what: str, scored: Scored) -> None:
    if keeper is not None and keeper.used:
        scored.notes.append(f"{what} went on from the work of the interrupted scan")


def _import_torch() -> None:
    # Importing torch takes seconds, partly waiting for the disk: meanwhile other stages can work.
    with suppress(ImportError):
        import torch  # noqa: F401


def build_graph(
    embeddings: Array,
    ok: Mask,
    options: ScoringOptions,
    name: str,
    scored: Scored,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
    cache: Cache | None = None,
    *,
    metric: str = "cosine",
    crew: graph.Crew | None = None,
) -> graph.Graph:
    """Find the nearest neighbours of the samples that take part, and add them to `scored`.

    Parameters
    ----------
    embeddings : ndarray of float32 or float16, shape (N, d)
    ok : ndarray of bool, shape (N,)
    options : ScoringOptions
    name : str
        Of the embedding; the arrays go below ``graph/<name>``.
    scored : Scored
    progress : callable, optional
        Called with the fraction done.
    cancel : callable, optional
    cache : Cache, optional
    metric : str
        As `labeltui.graph.build` names it.
    crew : Crew, optional
        As for `labeltui.graph.build`.

    Returns
    -------
    Graph
        Of all N samples; of those that take no part the neighbours are -1.

    Raises
    ------
    Cancelled
    """
    chosen = np.flatnonzero(ok)
    k = min(STORED_NEIGHBOURS, len(chosen) - 1)
    cache = cache or NoCache()
    keeper = cache.unfinished("graph")

    def build() -> tuple[Arrays, dict[str, Any]]:
        made = graph.build(
            embeddings,
            k,
            metric,
            options.backend,
            options.threads,
            progress,
            cancel,
            rows=None if len(chosen) == len(ok) else chosen,
            keeper=keeper,
            crew=crew,
        )
        names = ("metric", "k", "backend", "exact", "n_certified", "n_fallback", "recall")
        values = {name: getattr(made, name) for name in names}
        made = replace(made, similarity=graph.relative_similarity(made))
        if len(chosen) < len(ok):
            made = graph.expand(made, chosen, len(ok))
        return {"indices": made.indices, "similarity": made.similarity}, values

    n = len(ok)
    expected = {
        "indices": Expected("int32", (n, k), -1, n - 1),
        "similarity": Expected("float32", (n, k), -1.01, 1.01),
    }
    arrays, values = cache.step("graph", [ok, k, metric, options.backend], build, expected)
    made = graph.Graph(arrays["indices"], arrays["similarity"], **values)
    count = min(options.k, made.k)
    indptr, reverse = made.reverse(count)
    path = f"graph/{name}"
    scored.add(
        {
            f"{path}/indices": made.indices,
            f"{path}/similarity": made.similarity,
            f"{path}/rev_indptr": indptr,
            f"{path}/rev_indices": reverse,
        },
        {
            path: {
                "metric": made.metric,
                "k": k,
                "csg_k": count,
                "backend": made.backend,
                "exact": made.exact,
                **({} if made.recall is None else {"recall": made.recall}),
            }
        },
    )
    _note_used(keeper, "the neighbour graph", scored)
    if made.recall is not None:
        scored.notes.append(graph.recall_sentence(made.recall, len(chosen)))
    if made.n_fallback > MANY_CLOSE * len(chosen):
        scored.notes.append(
            f"{made.n_fallback:,} samples lie so close to their neighbours that these were searched for in float64, "
            "which takes long"
        )
    # How many rows the bound proved depends on the CPU's path; the neighbours do not.
    scored.metadata["graph"] = {"n_certified": made.n_certified, "n_fallback": made.n_fallback}
    return made


def _find_duplicates(
    neighbours: graph.Graph,
    hashes: Array,
    ok: Mask,
    options: ScoringOptions,
    image: Callable[[int], Image.Image] | None,
    scored: Scored,
    progress: Progress,
    cancel: Cancel,
    cache: Cache,
) -> Ints:
    """Group identical and near-identical samples: folds and votes treat a group as one."""
    exact = duplicates.duplicate_groups(hashes, ok)

    def find() -> tuple[Arrays, dict[str, Any]]:
        if options.duplicate_threshold == 1 or neighbours.metric != "cosine":
            return {"groups": exact}, {"threshold": 1.0}
        near = duplicates.near_duplicates(
            neighbours.indices,
            neighbours.similarity,
            exact,
            image=image,
            threshold=options.duplicate_threshold,
            seed=options.seed,
            threads=options.threads,
            progress=progress,
            cancel=cancel,
        )
        return {"groups": near.groups}, near.attrs()

    key = [
        ok,
        neighbours.k,
        options.backend,
        neighbours.metric,
        options.duplicate_threshold,
        options.seed,
        image is not None,
    ]
    expected = {"groups": Expected("int32", (len(ok),), 0, len(ok) - 1)}
    arrays, values = cache.step("duplicates", key, find, expected)
    scored.add({"groups/duplicate": arrays["groups"]}, {"groups/duplicate": values})
    return arrays["groups"]


def measure_classes(
    labels: Ints,
    n_classes: int,
    ok: Mask,
    neighbours: graph.Graph,
    options: ScoringOptions,
    name: str,
    scored: Scored,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Add class similarity, overlap, spectrum and CSG to `scored`.

    Parameters
    ----------
    labels : ndarray of int32, shape (N,)
        Class indices, -1 = none.
    n_classes : int
    ok : ndarray of bool, shape (N,)
    neighbours : Graph
    options : ScoringOptions
    name : str
        Of the embedding.
    scored : Scored
    check : callable, optional
        Raises `Cancelled` when asked to stop.
    """
    k, threads, seed = min(options.k, neighbours.k), options.threads, options.seed
    labels = np.where(ok, labels, -1).astype(np.int32)
    indices = neighbours.indices
    counts = csg.pooled_counts(indices, labels, n_classes, k, threads)
    sizes = csg.class_sizes(indices, labels, n_classes)
    solve = csg.complexity if n_classes <= MOST_CLASSES else csg.overlaps
    measured = solve(counts, sizes, k, threads=threads)
    scored.add(
        {
            **pack_matrix("csg/T", counts),
            **pack_matrix("csg/S", measured.S),
            **pack_matrix("csg/W", measured.W),
            "csg/overlap": measured.overlap,
            "csg/self_similarity": measured.self_similarity,
            "csg/present": measured.present,
            "csg/reliable": measured.reliable,
            "csg/sizes": measured.sizes,
        },
        {"csg": {"trace": measured.trace, "k": k, "n": measured.n, "embedding": name}},
    )
    if not isinstance(measured, csg.Complexity):
        present = np.flatnonzero(measured.present)
        low, high = csg.spectrum_ends(measured.W[present][:, present])
        scored.add({"csg/low_eigenvalues": low, "csg/high_eigenvalues": high}, {})
        scored.notes.append(
            f"CSG is not solved above {MOST_CLASSES:,} classes: the mean overlap tr(L)/K and both ends of the spectrum "
            "stand for it"
        )
        return
    scored.csg = measured.csg
    scored.add(
        {
            "csg/eigenvalues": measured.eigenvalues,
            "csg/spectral_contribution": measured.spectral_contribution,
        },
        {"csg": {"csg": measured.csg, "csg_normalised": measured.csg_normalised, "l1": measured.l1}},
    )
    check()
    if n_classes <= MOST_REPEATED:
        ks, values = csg.sweep(indices, labels, n_classes, threads=threads)
        redraws = 200 if n_classes <= 200 else 50
        interval = csg.interval(indices, labels, n_classes, k, redraws, seed, threads=threads)
        scored.add(
            {"csg/sweep_k": ks, "csg/sweep_csg": values, "csg/interval": np.array(interval)},
            {"csg": {"redraws": redraws, "seed": seed}},
        )


def _train_classifier(
    labels: Ints,
    n_classes: int,
    embeddings: Array,
    ok: Mask,
    groups: Ints,
    options: ScoringOptions,
    device: str,
    scored: Scored,
    progress: Progress,
    cancel: Cancel,
    cache: Cache,
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32], head.Dynamics | None]:
    fold = head.folds(labels, groups, ok, options.folds, options.seed)
    keeper = cache.unfinished("head")

    def train() -> tuple[Arrays, dict[str, Any]]:
        result = head.out_of_fold(
            embeddings,
            labels,
            fold,
            n_classes,
            spec=options.head,
            seed=options.seed,
            threads=options.threads,
            device=device,
            progress=lambda epoch: progress(epoch.done / epoch.total),
            cancel=cancel,
            dynamics=True,
            keeper=keeper,
        )
        record = {} if result.dynamics is None else vars(result.dynamics)
        return {"p": result.p, **record}, result.attrs

    key = [labels, n_classes, fold, asdict(options.head), options.seed, device]
    n = len(labels)
    expected = {"p": Expected("float32", (n, n_classes), 0, 1.001)}
    if n_classes > 1 and fold.max(initial=-1) > 0:
        expected |= {
            name: Expected("float16", ("epochs", n)) for name in ("log_p", "margin", "top_p", "sum_squares")
        }
        expected |= {
            "top": Expected("int16", ("epochs", n), -1, n_classes - 1),
            "labels": Expected("int32", (n,), -1, n_classes - 1),
        }
    arrays, values = cache.step("head", key, train, expected)
    scored.add({}, {"scores/head": values})
    _note_used(keeper, "the classifier", scored)
    p = arrays.pop("p")
    return fold, p, head.Dynamics(**arrays) if arrays else None


def flag(
    inputs: detect.DetectorInputs,
    scored: Scored,
    progress: Progress | None = None,
    cancel: Cancel | None = None,
) -> None:
    """Run the detectors and the ensemble; add scores, suggestions and flags to `scored`.

    Parameters
    ----------
    inputs : DetectorInputs
    scored : Scored
    progress : callable, optional
        Called with the fraction done.
    cancel : callable, optional

    Raises
    ------
    Cancelled
    """
    findings = detect.run(inputs, progress, cancel=cancel)
    scored.add(detect.datasets(findings), detect.attributes(findings))
    given = inputs.given_labels
    scored.flagged = inputs.ok & (given >= 0) & (findings.suggest_label[:, 0] != given)
