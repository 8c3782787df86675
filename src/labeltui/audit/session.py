"""The open audit: its samples, classes and queues; deciding, undoing, and taking in the results of training runs."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labeltui.audit import calibration, generations, merging, moved
from labeltui.audit import evidence as evidence_
from labeltui.audit.checks import CheckPlan
from labeltui.audit.counts import Counter
from labeltui.audit.deciding import DecisionRows, Index, check_decision, what_if
from labeltui.audit.decisions import (
    ALONE,
    AUTOMATIC,
    BULK,
    CHECK,
    EXCLUDE,
    HOW,
    KEEP,
    KINDS,
    RELABEL,
    Foreign,
    replay,
)
from labeltui.audit.duplicates import DuplicateGroups
from labeltui.audit.images import AuditImages
from labeltui.audit.live_csg import LiveComplexity
from labeltui.audit.queue import Queues, QueueSpec
from labeltui.audit.views import (
    CLASS_ORDERS,
    Change,
    ClassTable,
    Decision,
    Opinion,
    PairRow,
    Step,
    Summary,
    WhatIf,
)
from labeltui.errors import AuditError, InputError
from labeltui.journal import Action, GenerationRow, Journal
from labeltui.noise.checked import NumberWrong, at_most
from labeltui.paths import STATUS_NAMES
from labeltui.store import Store
from labeltui.text import safe, safe_json, tell_apart, unescape

if TYPE_CHECKING:
    from scipy import sparse

ATTEMPTS = 5


class Audit:
    """An audit directory, open for reviewing or for reading. Use `open`, and close it or use ``with``.

    Attributes
    ----------
    path : Path
    n, K : int
        Numbers of samples and classes.
    class_ids : list of bytes
    names, split_names : list of str
        For showing; control characters are escaped, and names that several classes share get the class's id.
    given, current : (N,) int32
        Labels, -1 = none; read-only views. `current` is `given` with the relabels.
    images : AuditImages
    generation : int
    embedding_name : str
    csg_k : int
        Neighbours counted by CSG and votes.
    read_only : bool
    on_saved : callable or None
        Called from the journal's thread after each attempt to save.
    """

    def __init__(self, store: Store, journal: Journal, source_root: Path | None) -> None:
        self.path = store.path
        self.n = store.n
        self.class_ids = store.class_ids
        self.K = len(self.class_ids)
        self.names = tell_apart(store.class_names, store.class_ids)
        self.split_names = [safe(name) for name in store.split_names]
        self.read_only = journal.read_only
        self._journal = journal
        self._source_root = source_root
        self._check_plan: CheckPlan | None = None
        columns = journal.columns()
        self._generations, self._read_seq = columns.generations, journal.last_seq
        self._decision_log = replay(store, columns, *journal.read_sharing())
        self._current = store.given.copy()
        changed = self._decision_log.touched()
        self._current[changed] = self._labels_after(store, changed)
        self._show(generations.newest(store, self._generations))
        self.on_saved: Callable[[], None] | None = None
        self._prepared: list[GenerationRow] = []
        self._refused: set[str] = set()
        journal.on_change = self._saved

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        reviewer: str | None = None,
        read_only: bool = False,
        source_root: Path | None = None,
    ) -> Audit:
        """Open an audit.

        Parameters
        ----------
        path : Path
            The audit directory.
        reviewer : str, optional
            Name put on decisions; by default the user's login name.
        read_only : bool
            Open for reading; works during someone's review and on read-only media.
        source_root : Path, optional
            Where the data lies now, if it was moved since the scan.

        Raises
        ------
        NotAnAudit, NewerFormat, DamagedAudit
            There is no readable audit.
        AuditBusy
            Another process reviews it.
        """
        path = Path(path)
        for _ in range(ATTEMPTS):
            before = generations.listing(path)
            try:
                return cls._open(path, reviewer, read_only, source_root)
            except AuditError:
                # Whoever reviews it may have replaced the generation that was just to be read.
                if not read_only or generations.listing(path) == before:
                    raise
        return cls._open(path, reviewer, read_only, source_root)

    @classmethod
    def _open(cls, path: Path, reviewer: str | None, read_only: bool, source_root: Path | None) -> Audit:
        store = Store.open(path)
        try:
            journal = Journal.open(store.path, store.uuid, reviewer=reviewer, read_only=read_only)
            try:
                return cls(store, journal, source_root)
            except BaseException:
                journal.close()
                raise
        except BaseException:
            store.close()
            raise

    def __enter__(self) -> Audit:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Save what is pending and let the audit go.

        Raises
        ------
        AuditError
            Something could not be saved.
        """
        try:
            self._journal.close()
        finally:
            self._store.close()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything is on disk; False when it failed or took longer than `timeout` seconds."""
        return self._journal.flush(timeout)

    def write_unsaved(self, path: Path) -> int:
        """Write the decisions that are not on disk yet into a new file; see `Journal.write_pending`."""
        return self._journal.write_pending(path)

    def warm(self) -> None:
        """Prepare the first moves and relabels in the background; call it once the first screen is shown."""
        self._complexity.warm()
        store, duplicates = self._store, self._duplicates

        def fetch() -> None:
            store.read_ahead()
            duplicates.index()

        threading.Thread(target=fetch, name="warm", daemon=True).start()

    def _saved(self) -> None:
        if self.on_saved is not None:
            self.on_saved()

    def _show(self, store: Store) -> None:
        """Make `store` the current generation."""
        store.validate()
        self._store = store
        self.generation = store.generation
        self.embedding_name = store.embedding_name
        self.given: NDArray[np.int32] = store.given
        self._scores: NDArray[np.float32] = store.array("scores/blend")
        self._suggested: NDArray[np.int32] = store.array("suggest/label")
        self._chances: NDArray[np.float32] = store.array("suggest/p")
        self._queues = Queues(store, self._decision_log)
        self._complexity = LiveComplexity(store, self._labels_in_s())
        self._duplicates = DuplicateGroups(store.array("groups/duplicate"))
        self._scorable: NDArray[np.bool_] | None = None
        self.images = AuditImages(store, self._source_root)
        self.csg_k = self._complexity.k
        self._counts = Counter(self.given, self._current, self._queues.flagged, self._decision_log, self.K)

    def _labels_after(self, store: Store, samples: Index) -> NDArray[np.int32]:
        """Current labels of samples by their present rows."""
        labels = store.given[samples].copy()
        moved = self._decision_log.kind[samples] == RELABEL
        labels[moved] = self._decision_log.label(samples[moved])
        return labels

    def _labels_in_s(self) -> NDArray[np.int32]:
        labels = self._current
        excluded = np.flatnonzero(self._decision_log.kind == EXCLUDE)
        if len(excluded):
            labels = labels.copy()
            labels[excluded] = -1
        return labels

    # one sample

    @property
    def current(self) -> NDArray[np.int32]:
        """(N,) int32, labels now; a read-only view."""
        return _readonly(self._current)

    def sample_name(self, i: int) -> str:
        """The sample's path or key, for showing."""
        return safe(self._store.ids[i])

    def sample_id(self, i: int) -> bytes:
        """The sample's path or key, as it is."""
        return self._store.ids[i]

    def sample_ids(self, samples: Index) -> list[bytes]:
        """Names of many ascending samples; consecutive ones are read at once."""
        ids = self._store.ids
        if not len(samples) or samples[-1] - samples[0] != len(samples) - 1:
            return [ids[i] for i in samples.tolist()]
        bounds = ids.offsets[samples[0] : samples[-1] + 2].tolist()
        piece = ids.blob[bounds[0] : bounds[-1]].tobytes()
        return [piece[a - bounds[0] : b - bounds[0]] for a, b in itertools.pairwise(bounds)]

    def index(self, name: bytes) -> int:
        """Position of a sample by its name; raises ValueError when there is none."""
        return self._store.ids.index(name)

    def index_of(self, text: str) -> int:
        """Position of a sample by its id as text or as exports write it; raises ValueError when there is none."""
        for name in (text.encode("utf-8", "surrogateescape"), unescape(text)):
            with suppress(ValueError):
                return self.index(name)
        raise ValueError(text)

    def split_of(self, i: int) -> str:
        """The sample's split for showing, empty when it has none."""
        split = int(self._store.split[i])
        return self.split_names[split] if split >= 0 else ""

    @property
    def splits(self) -> NDArray[np.int16]:
        """(N,) positions in `split_names`, -1 = none."""
        return self._store.split

    @property
    def hashes(self) -> NDArray[np.uint8]:
        """(N, 32) SHA-256 of the samples' stored bytes at the scan."""
        return self._store.array("samples/sha256")

    def find(self, names: Sequence[bytes]) -> NDArray[np.int64]:
        """Return the positions of samples by their ids, -1 = there is none: (m,) int64."""
        return self._store.ids.indices(names)

    def how(self, i: int) -> int:
        """How a sample's decision came about: its position in `labeltui.audit.decisions.HOW`."""
        return self._decision_log.how_of(i)

    def sha256(self, i: int) -> bytes:
        """SHA-256 of the sample's stored bytes at the scan: of its file, or of the row of an array."""
        found: bytes = self._store.array("samples/sha256")[i].tobytes()
        return found

    @property
    def source_kind(self) -> str:
        """What the audit was made from, a key of `labeltui.sources.KINDS`; empty if unknown."""
        description = self._store.scan.get("source")
        return str(description.get("kind", "")) if isinstance(description, dict) else ""

    def fault(self, i: int) -> str:
        """Why the sample is out of the graph (``unreadable``, ``non_finite``, ``zero``), or empty."""
        status = int(self._store.status[i])
        return STATUS_NAMES[status] if status else ""

    @property
    def statuses(self) -> NDArray[np.uint8]:
        """(N,) positions in `labeltui.paths.STATUS_NAMES`: whether the scan could use the samples."""
        return self._store.status

    def score(self, i: int) -> float:
        """The blend's P(given label right), low = bad."""
        return float(self._scores[i])

    @property
    def scores(self) -> NDArray[np.float32]:
        """(N,) `score` of all samples."""
        return self._scores

    @property
    def scorable(self) -> NDArray[np.bool_]:
        """(N,) samples whose given label can be scored; the `scores` of others carry no information.

        Others have no label, were unusable or in splits that the scan left out, or belong to a class that no sample
        but their own duplicates has and of which the user's own model said nothing.
        """
        if self._scorable is None:
            groups, given = self._store.array("groups/duplicate"), self.given
            known = (self._chances[:, 0] > 0) & (given >= 0)
            first = np.full(self.K, np.iinfo(np.int32).max, np.int32)
            last = np.full(self.K, -1, np.int32)
            np.minimum.at(first, given[known], groups[known])
            np.maximum.at(last, given[known], groups[known])
            with_probabilities = "given_probs" in self.detectors()
            self._scorable = known if with_probabilities else known & (first < last)[given]
        return self._scorable

    def suggestions(self, i: int) -> list[tuple[int, float]]:
        """Up to five labels with their probabilities, the most probable first; none where nothing is known."""
        if not self._chances[i, 0]:
            return []
        pairs = zip(self._suggested[i].tolist(), self._chances[i].tolist(), strict=True)
        return [(label, p) for label, p in pairs if label >= 0]

    @property
    def suggested(self) -> NDArray[np.int32]:
        """(N, 5) int32, suggested labels, -1 = none."""
        return self._suggested

    @property
    def chances(self) -> NDArray[np.float32]:
        """(N, 5) float32, probabilities of `suggested`."""
        return self._chances

    @property
    def checked(self) -> NDArray[np.int8]:
        """(N,) what people found of the given labels: 1 right, 0 wrong, -1 not looked at (or not decidable)."""
        return calibration.checked(self.kinds, self.given, self._current, self._decision_log.how())

    @property
    def looked(self) -> NDArray[np.bool_]:
        """(N,) samples that a person looked at and decided; bulk decisions do not count."""
        how = self._decision_log.how()
        found: NDArray[np.bool_] = (how == ALONE) | (how == CHECK)
        return found

    def looked_at(self, i: int) -> bool:
        """`looked` of one sample."""
        return self._decision_log.how_of(i) in (ALONE, CHECK)

    @property
    def check_plan(self) -> CheckPlan:
        """Which samples to check at random, by the scan's own scores."""
        if self._check_plan is None:
            scores = self._scores
            if self.generation:
                with self._store.at(0) as scanned:
                    scores = scanned.array("scores/blend").copy()
            self._check_plan = CheckPlan.of(scores, self.scorable)
        return self._check_plan

    def number_wrong(self, order: Index | None = None) -> NumberWrong:
        """How many given labels are wrong: a bound, and with random checks a 95 % interval.

        Parameters
        ----------
        order : (m,) int64, optional
            The samples that are meant, in the order of `check_plan`; by default all.
        """
        structure = float(_fitted(self._store).get("noise_structure", 0.0))
        if order is None and not self.looked.any():  # the plan sorts all samples: seconds of a million
            return at_most(1.0 - self._scores[self.scorable], structure)
        order = self.check_plan.order(np.arange(self.n)) if order is None else order
        return self.check_plan.number_wrong(order, self.checked, self.looked, self._scores, structure)

    def flagged(self, i: int) -> bool:
        """Whether the given label is wrong with more than the chance that makes a flag."""
        return bool(self._queues.flagged[i])

    @property
    def flags(self) -> NDArray[np.bool_]:
        """(N,) `flagged` of all samples."""
        return self._queues.flagged

    def decision(self, i: int) -> Decision | None:
        """The decision on a sample, None while there is none."""
        kind = int(self._decision_log.kind[i])
        if not kind:
            return None
        action = self._decision_log.action(i)
        assert action is not None
        return Decision(
            KINDS[kind],
            int(self._current[i]),
            self._decision_log.second(i),
            self._decision_log.note(i),
            action.reviewer,
            action.time,
        )

    def opinions(self) -> list[Opinion]:
        """The latest decision of each reviewer on each sample, by sample, then in order."""
        return [merging.opinion(each) for each in self._decision_log.opinions()]

    def disagreements(self) -> dict[int, list[Opinion]]:
        """Decisions that merges brought and that contradict the ones in effect, by sample."""
        found = self._decision_log.disagreements()
        return {sample: [merging.opinion(each) for each in found[sample]] for sample in sorted(found)}

    def assigned(self) -> dict[str, Index]:
        """Samples by reviewer as `labeltui split` dealt them; empty where it did not."""
        return self._decision_log.assigned()

    def note_of(self, i: int) -> str | None:
        """The note on a sample, decided or not."""
        return self._decision_log.note(i)

    @property
    def kinds(self) -> NDArray[np.int8]:
        """(N,) int8, positions in `labeltui.audit.KINDS`, 0 = undecided; a read-only view."""
        return _readonly(self._decision_log.kind)

    @property
    def excluded(self) -> NDArray[np.bool_]:
        """(N,) bool."""
        found: NDArray[np.bool_] = self._decision_log.kind == EXCLUDE
        return found

    @property
    def touched(self) -> NDArray[np.bool_]:
        """(N,) bool, samples that have a decision or a note."""
        found: NDArray[np.bool_] = self._decision_log.row >= 0
        return found

    def evidence(self, i: int, k: int | None = None) -> evidence_.Evidence:
        """Gather the evidence about a sample: votes, neighbours, overlap.

        Parameters
        ----------
        i : int
            Sample index.
        k : int, optional
            Number of neighbours; by default those counted by the CSG.

        Returns
        -------
        Evidence
        """
        return evidence_.gather(
            self._store, self._current, self.names, self._complexity, self._duplicates, i, k or self.csg_k
        )

    def detectors(self) -> dict[str, str]:
        """Names of the detectors whose scores the audit holds, with a title for showing; the blend last."""
        names = [name for name in self._store.names_in("scores") if name != "blend"]
        titles = {name: str(self._store.attrs(f"scores/{name}").get("title", name)) for name in names}
        return {name: safe(title) for name, title in titles.items()} | {"blend": "all detectors combined"}

    def embedding(self) -> NDArray[Any]:
        """The current embedding: (N, d) float32 or float16, memory-mapped."""
        return self._store.embedding()

    def spectrum(self) -> NDArray[np.float64] | None:
        """Eigenvalues of the Laplacian of class overlap by the labels of the scan or run, ascending; None above 10,000
        classes."""
        return self._store.array("csg/eigenvalues") if "csg/eigenvalues" in self._store else None

    def graph_facts(self) -> dict[str, Any]:
        """Return how the neighbours were found: metric, k, backend, exact, and recall (None where exact)."""
        attrs = self._store.attrs(f"graph/{self.embedding_name}")
        recall = attrs.get("recall")
        return {
            "metric": safe(str(attrs.get("metric", "cosine"))),
            "k": self._store.array(f"graph/{self.embedding_name}/indices").shape[1],
            "backend": safe(str(attrs.get("backend", ""))),
            "exact": recall is None,
            "recall": None if recall is None else float(recall),
        }

    def distance_graph(self) -> sparse.csr_matrix:
        """The stored neighbours as distances: (N, N) float32, each row nearest first; rows without any are empty.

        Of the cosine metric the distance is 1 - cosine, of the euclidean one the euclidean distance, of the inner
        product the largest one minus it.
        """
        from scipy import sparse

        graph = f"graph/{self.embedding_name}"
        indices, metric = self._store.array(f"{graph}/indices"), self._store.attrs(graph)["metric"]
        distances = 1 - self._store.array(f"{graph}/similarity")
        if metric != "cosine":
            rows = self._store.embedding()
            distances = np.zeros(indices.shape, np.float32)
            for i in range(self.n):
                there = rows[indices[i]].astype(np.float64)
                own = rows[i].astype(np.float64)
                near = np.linalg.norm(there - own, axis=1) if metric == "euclidean" else -(there @ own)
                distances[i] = near
            distances -= min(0, distances[indices >= 0].min(initial=0))
        known = indices >= 0
        indptr = np.concatenate([[0], np.cumsum(known.sum(1))])
        values = np.maximum(distances[known], 0).astype(np.float32)
        return sparse.csr_matrix((values, indices[known], indptr), (self.n, self.n))

    # the whole

    def summary(self) -> Summary:
        """The audit at a glance; cheap enough for every key press."""
        c = self._complexity
        value, interval = c.value(), c.interval
        if interval is not None and value is not None and c.scan_value is not None:
            shift = value - c.scan_value
            interval = interval[0] + shift, interval[1] + shift
        failed = self._journal.failed
        return Summary(
            samples=self.n,
            classes=self.K,
            csg=value,
            csg_stale=c.stale,
            csg_scan=c.scan_value,
            interval=interval,
            reviewed=self.n - int(self._counts.kinds[0]),
            relabelled=int(self._counts.kinds[RELABEL]),
            flagged=int(self._counts.flagged.sum()),
            flags=int(self._counts.left.sum()),
            generation=self.generation,
            pending=self.pending,
            saved=not self.pending,
            failed=f"{failed.message}; {failed.got}" if failed else "",
        )

    def solve_csg(self) -> float | None:
        """Solve for CSG of the labels now, from any thread; `summary` shows it from then on.

        None above 5,000 classes.
        """
        return self._complexity.solve()

    def mean_overlap(self) -> float:
        """tr(L) / K of the labels now: the mean overlap of a class with the others."""
        return self._complexity.trace()

    def spectrum_ends(self) -> tuple[list[float], list[float]] | None:
        """Lowest and highest eigenvalues at the scan, where there are too many classes to solve for CSG."""
        return self._complexity.ends()

    def class_rows(self, order: str = "overlap") -> ClassTable:
        """All classes by a column of `CLASS_ORDERS`: names and index ascending, numbers descending; ties by
        index.

        Raises
        ------
        InputError
            Unknown order.
        """
        if order not in CLASS_ORDERS:
            raise InputError(f"classes are ordered by {', '.join(CLASS_ORDERS)}", f"got {safe(order)}")
        c = self._complexity
        columns: dict[str, NDArray[Any]] = {
            "samples": self._counts.samples.copy(),
            "flags": self._counts.left.copy(),
            "flagged": self._counts.flagged,
            "overlap": np.where(c.present(), c.overlap(), np.nan),
            "self_similarity": np.where(c.present(), c.self_similarity(), np.nan),
            "reviewed": self._counts.reviewed.copy(),
        }
        if (spectral := c.spectral_contribution()) is not None:
            columns["spectral_contribution"] = spectral
        if order == "name":
            places = np.array(sorted(range(self.K), key=lambda i: (self.names[i].casefold(), i)), np.int64)
        elif order == "index" or order not in columns:
            places = np.arange(self.K)
        else:
            places = np.argsort(-columns[order], kind="stable")
        return ClassTable(places, columns, self.class_ids, self.names, self.csg_k)

    def pairs(self, by: str = "overlap", limit: int | None = None) -> list[PairRow]:
        """Pairs of classes that overlap, the most overlapping first, ties by class.

        Parameters
        ----------
        by : {"overlap", "directed"}
            By W of each unordered pair; or by S of each ordered pair (a, b), where b is the class that
            the neighbours of a have.
        limit : int, optional
            At most this many; half a million pairs of 1,000 classes take a second to list.
        """
        return self._complexity.pairs(by, limit)

    def matrix(self, by: str = "overlap") -> Any:
        """(K, K) float64 W, or with "directed" S; a csr_array above 2,000 classes."""
        return self._complexity.W() if by == "overlap" else self._complexity.S()

    def queue(self, spec: QueueSpec | None = None) -> Index:
        """The samples of a queue, in order: (m,) int64; see `QueueSpec`.

        Of an audit that was split, only the samples assigned to whoever reviews it.
        """
        spec = spec or QueueSpec()
        found = self._queues.select(spec)
        if spec.disputed:
            found = merging.only(found, self._decision_log.disagreements())
        mine = self._decision_log.assigned().get(self.reviewer) if spec.assigned else None
        return found if mine is None else merging.only(found, mine)

    def conflicts(self) -> list[Index]:
        """Groups of (near-)identical samples whose current labels disagree; excluded samples do not count."""
        return self._duplicates.disagreeing(self._labels_in_s())

    def across_splits(self) -> list[Index]:
        """Groups of (near-)identical samples that are in more than one split; excluded samples do not count."""
        return self._duplicates.disagreeing(np.where(self.excluded, -1, self._store.split))

    def decisions(self) -> dict[str, int]:
        """Number of samples by kind of decision."""
        return dict(zip(KINDS[1:], self._counts.kinds[1:].tolist(), strict=True))

    def not_ok(self) -> dict[str, int]:
        """Number of samples that are out of the graph, by reason."""
        found = np.bincount(self._store.status, minlength=len(STATUS_NAMES)).tolist()
        return dict(zip(STATUS_NAMES[1:], found[1 : len(STATUS_NAMES)], strict=True))

    def calibration(self) -> dict[str, Any]:
        """How well label scores match the decisions, and how many labels are wrong."""
        return calibration.report(self.scores, self.checked, self._store, self.number_wrong())

    @property
    def smoke_test(self) -> bool:
        """Whether no model of images stands behind the scores: none was named at the scan, and none was trained since.

        Training the classifier on such features does not make them see more.
        """
        no_backbone = "trained/p" not in self._store and self.embedding_name.startswith("pixels")
        return no_backbone and bool(self._store.scan.get("smoke_test"))

    @property
    def synthetic(self) -> object:
        """How the labels were made, if the audit is synthetic; a JSON value."""
        return safe_json(self._store.scan.get("synthetic"))

    @property
    def format(self) -> int:
        """Version of the audit's format."""
        return self._store.format

    def move_source(self, root: Path) -> None:
        """Look for the images in another directory from now on."""
        self._source_root = root
        self.images = AuditImages(self._store, root)

    def owns(self, path: Path) -> bool:
        """Return whether an existing file is a part of the audit or of its source, by whatever name or link."""
        inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.path))
        return inside or self.images.owns(path)

    @property
    def saved_seq(self) -> int:
        """The newest action on disk."""
        return self._journal.saved_seq

    @property
    def pending(self) -> int:
        """Actions that are not on disk yet."""
        return self._journal.pending

    @property
    def failed(self) -> AuditError | None:
        """Why the last attempt to save failed, None when it did not."""
        return self._journal.failed

    @property
    def journal_seq(self) -> int:
        """The newest action, saved or not."""
        return self._journal.last_seq

    @property
    def uuid(self) -> str:
        """Identity of the scan."""
        return self._store.uuid

    @property
    def reviewer(self) -> str:
        """Name put on decisions."""
        return self._journal.reviewer

    # deciding

    def decide(
        self,
        indices: ArrayLike,
        kind: str,
        label: int | ArrayLike | None = None,
        second: int | None = None,
        note: str | None = None,
        how: str = "alone",
    ) -> Step:
        """Decide on one sample or many, as one action with one undo.

        Parameters
        ----------
        indices : (m,) int
            Samples; repeated ones count once.
        kind : str
            keep, relabel, exclude, ambiguous, unsure or skip. A relabel with the given label is a keep.
        label : int or (m,) int, optional
            The new label or labels; for relabel only.
        second : int, optional
            For ambiguous: the other label that is right.
        note : str, optional
            Replaces the samples' notes; None leaves them.
        how : str
            ``alone`` (the sample was looked at), ``check`` (as a random check), ``bulk``, or ``automatic`` (no person
            decided); several samples are bulk if they are not automatic. Decisions in bulk or automatic ones change
            labels and prove nothing.

        Raises
        ------
        InputError
            An index, kind or label is not allowed; nothing has changed then.
        AuditError
            The audit is open for reading only.
        """
        samples, new = self._check(indices, kind, label)
        if second is not None and (kind != "ambiguous" or not 0 <= second < self.K):
            raise InputError("a second label is a class and goes with ambiguous", f"got {second} with {kind}")
        kinds = np.full(len(samples), KINDS.index(kind), np.int8)
        if kind == "relabel":
            kinds[new == self.given[samples]] = KEEP
        seconds = np.full(len(samples), -1 if second is None else second, np.int32)
        notes = [self._decision_log.note(i) if note is None else note or None for i in samples.tolist()]
        if how not in HOW[1:]:
            raise InputError(
                f"a decision comes about in one of the ways {', '.join(HOW[1:])}", f"got {safe(how)}"
            )
        commands = {"alone": "decide", "check": "check", "bulk": "bulk", "automatic": "automatic"}
        command = "bulk" if len(samples) > 1 and how != "automatic" else commands[how]
        return self._act(command, kind, samples, kinds, new, seconds, notes)

    def note(self, i: int, text: str) -> Step:
        """Set the note of a sample, decided or not; empty text removes it.

        Parameters
        ----------
        i : int
            Sample index.
        text : str

        Returns
        -------
        Step
        """
        samples, _ = self._check([i], "keep", None)
        return self._act(
            "note",
            "note",
            samples,
            self._decision_log.kind[samples],
            self._current[samples],
            np.array([self._decision_log.second(int(samples[0]))], np.int32),
            [text or None],
        )

    def _check(
        self, indices: ArrayLike, kind: str, label: int | ArrayLike | None
    ) -> tuple[Index, NDArray[np.int32]]:
        return check_decision(indices, kind, label, self.given, self.K)

    def _act(
        self,
        command: str,
        kind: str,
        samples: Index,
        kinds: NDArray[np.int8],
        labels: NDArray[np.int32],
        seconds: NDArray[np.int32],
        notes: list[str | None],
    ) -> Step:
        old = self._current[samples]
        rows = DecisionRows(self._store, self.class_ids, samples, kinds, old, labels, seconds, notes)
        action = self._journal.append(command, rows)
        before = self._decision_log.kind[samples].copy()
        self._decision_log.push(action, samples, kinds, labels, seconds, notes)
        self._follow(samples, before)
        return Step(action.seq, action.uuid, command, kind, samples)

    def merge(self, decisions: Sequence[Foreign]) -> Step | None:
        """Take over decisions of other reviewers, as one action with one undo; authors and times stay.

        A sample that nobody decided here, or of which nobody was sure, takes the decision. On others both stay known:
        `disagreements` lists those that contradict each other. What is known already is left out.

        Parameters
        ----------
        decisions : sequence of Foreign
            At most one is final for each sample.

        Returns
        -------
        Step or None
            None when nothing is new.

        Raises
        ------
        AuditError
            The audit is open for reading only.
        """
        log = self._decision_log
        new = merging.plan(log, decisions)
        if new is None:
            return None
        rows = new.rows(self._store, self.class_ids, self._current)
        action = self._journal.append("merge", rows, opinions=new.opinions(self._store, self.class_ids))
        before = log.kind[new.samples].copy()
        log.push(action, new.samples, new.kinds, new.labels, new.seconds, new.notes, new.brought)
        self._follow(new.samples, before)
        return Step(action.seq, action.uuid, "merge", "merge", new.samples)

    def assign(self, samples: Mapping[str, ArrayLike]) -> Step:
        """Say who reviews which sample; it replaces what was said before, as one action with one undo.

        Parameters
        ----------
        samples : mapping of str to (m,) int
            By reviewer. Queues then hold only the samples of whoever reviews; others see all.

        Raises
        ------
        InputError
            A sample is not there.
        AuditError
            The audit is open for reading only.
        """
        checked = {name: self._check(given, "keep", None)[0] for name, given in samples.items()}
        ids = self._store.ids
        action = self._journal.append(
            "assign",
            assignments=[(i, ids[i], name) for name, found in checked.items() for i in found.tolist()],
        )
        none = np.zeros(0, np.int64)
        empty = none.astype(np.int32)
        self._decision_log.push(action, none, none.astype(np.int8), empty, empty, [], assigned=checked)
        return Step(action.seq, action.uuid, "assign", "assign", none)

    def undo(self) -> Step | None:
        """Undo the latest action in effect, whoever made it; None if there is none."""
        target = self._decision_log.to_undo()
        return None if target is None else self._move("undo", target, target.uuid)

    def redo(self) -> Step | None:
        """Repeat what was undone last; None when nothing was, or something was decided since."""
        found = self._decision_log.to_redo()
        return None if found is None else self._move("redo", *found)

    def _move(self, command: str, target: Action, undoes: str) -> Step:
        samples, kind = self._decision_log.scope(target)
        before = self._decision_log.kind[samples].copy()
        action = self._journal.append(command, undoes=undoes)
        if command == "undo":
            self._decision_log.undo(action.uuid)
        else:
            self._decision_log.redo()
        self._follow(samples, before)
        return Step(action.seq, action.uuid, command, kind, samples)

    def _follow(self, samples: Index, before: NDArray[np.int8]) -> None:
        """Bring labels, counts and overlaps up to date after the rows of distinct `samples` changed."""
        after, old = self._decision_log.kind[samples], self._current[samples]
        new = self._labels_after(self._store, samples)
        self._current[samples] = new
        was, now = np.where(before == EXCLUDE, -1, old), np.where(after == EXCLUDE, -1, new)
        self._counts.follow(samples, (before, after), (was, now))
        moved = was != now
        if moved.any():
            self._complexity.follow(samples[moved], now[moved].astype(np.int32))

    def what_if(
        self, indices: ArrayLike, kind: str = "relabel", label: int | ArrayLike | None = None
    ) -> WhatIf:
        """Compute what a decision would change, without making it; see `what_if_later`.

        Parameters
        ----------
        indices : array-like of int, shape (n,)
        kind : str
            One of `KINDS`.
        label : int or array-like of int, optional
            For "relabel": one label, or one per sample.

        Returns
        -------
        WhatIf
        """
        return self.what_if_later(indices, kind, label)()

    def what_if_later(
        self, indices: ArrayLike, kind: str = "relabel", label: int | ArrayLike | None = None
    ) -> Callable[[], WhatIf]:
        """What a decision would change, to be computed on any thread.

        Parameters
        ----------
        indices, kind, label
            As for `decide`.

        Returns
        -------
        callable
            Copies the counts and solves for CSG twice when it is called (0.3 s at 1,000 classes).

        Raises
        ------
        InputError
            As `decide`.
        """
        samples, new = self._check(indices, kind, label)
        target = np.full(len(samples), -1, np.int32) if kind == "exclude" else new
        given, suggested = self.given[samples], self._suggested[samples, 0]
        return what_if(self._complexity, samples, target, given, suggested)

    # generations

    def training_labels(self) -> NDArray[np.int32]:
        """(N,) int32, the current labels; -1 for samples to leave out: excluded, unlabelled, not ok."""
        labels = self._labels_in_s().copy()
        labels[self._store.status != 0] = -1
        return labels

    def newest_run_seq(self) -> int:
        """Return the last action that the labels of the newest training run contain; 0 without any run.

        The files of runs are read: on a network file system that may take seconds.
        """
        return generations.newest_run_seq(self.path)

    def relabels_after(self, seq: int) -> int:
        """Return the number of relabelled samples whose decision is younger than action `seq`."""
        return self._decision_log.relabels_after(seq)

    def prepare(self) -> int:
        """Copy the results of finished runs into the audit; returns how many are ready for `refresh`.

        One other thread at a time may call this; it takes seconds for large results on a slow disk, and
        changes nothing that is shown.
        """
        if not self.read_only and not self._prepared:
            self._prepared = generations.prepare(self._store, self._generations, self._refused)
        return len(self._prepared)

    def refresh(self) -> Change | None:
        """Show the results of runs that finished since, and of other writers when open for reading only.

        Copies them first where `prepare` was not called, and raises as it does. Decisions stay as they are.

        Returns
        -------
        Change or None
            None when there is nothing new.
        """
        if self.read_only:
            before = generations.listing(self.path)
            try:
                self._reread()
                wanted = generations.newest(self._store, self._generations)
            except AuditError:
                if generations.listing(self.path) == before:
                    raise
                return None  # a newer one has replaced it: the next call shows that
            if wanted.generation == self.generation:
                return None
            run = next((row.run for row in self._generations if row.n == wanted.generation), "")
        else:
            self.prepare()
            made, self._prepared = self._prepared, []
            for row in made:
                action = self._journal.append("generation", generation=(row.n, row.sha256, row.run))
                self._generations.append(generations.numbered(row, action.seq))
            if not made:
                return None
            run = made[-1].run
            wanted = self._store.at(made[-1].n)
        old_flags, old_store = self._queues.flagged, self._store
        old = _fitted(old_store)
        self._show(wanted)
        old_store.close()
        undecided = self._decision_log.kind == 0
        why = moved.reason(
            int(np.count_nonzero(old_flags & undecided)),
            int(np.count_nonzero(self._queues.flagged & undecided)),
            old,
            _fitted(self._store),
            int(
                np.count_nonzero(
                    np.isin(self._decision_log.how(), (BULK, AUTOMATIC)) & (self.kinds == RELABEL)
                )
            ),
        )
        new = int(np.count_nonzero(self._queues.flagged & ~old_flags & undecided))
        cleared = int(np.count_nonzero(old_flags & ~self._queues.flagged & undecided))
        return Change(new, cleared, self.generation, run, why)

    def _reread(self) -> None:
        """Follow what another process wrote since."""
        if self._journal.newest() == self._read_seq:
            return
        columns = self._journal.columns()
        self._generations, self._read_seq = columns.generations, self._journal.last_seq
        old = self._decision_log
        self._decision_log = replay(self._store, columns, *self._journal.read_sharing())
        changed = np.union1d(old.touched(), self._decision_log.touched())
        self._current[changed] = self._labels_after(self._store, changed)
        self._show(self._store)


def _readonly(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def _fitted(store: Store) -> dict[str, Any]:
    """Return what was fitted with the blend's scores; nothing where a store has none."""
    return store.attrs("scores/blend") if "scores/blend" in store else {}
