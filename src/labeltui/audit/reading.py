"""Looking at an open audit: its samples, its classes, its queues."""

from __future__ import annotations

import itertools
import os
import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labeltui import parallel
from labeltui.audit import calibration, generations
from labeltui.audit import evidence as evidence_
from labeltui.audit.checks import CheckPlan
from labeltui.audit.decisions import ALONE, CHECK, EXCLUDE, KINDS, RELABEL, replay
from labeltui.audit.duplicates import DuplicateGroups
from labeltui.audit.live_csg import LiveComplexity
from labeltui.audit.queue import Queues, QueueSpec
from labeltui.audit.views import CLASS_ORDERS, ClassTable, Decision, Opinion, PairRow, Summary
from labeltui.errors import AuditError, ChangedImage, InputError, MissingImage, UnreadableImage
from labeltui.journal import Journal
from labeltui.noise.checked import NumberWrong
from labeltui.paths import OK, STATUS_NAMES
from labeltui.store import Store
from labeltui.text import safe, safe_json, tell_apart, unescape

if TYPE_CHECKING:
    import PIL.Image
    from scipy import sparse

    from labeltui.sources import Images

Index = NDArray[np.int64]


class Reading:
    """Everything about an open audit that changes nothing; `labeltui.audit.Audit` decides as well.

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
    generation : int
    embedding_name : str
    csg_k : int
        Neighbours counted by CSG and votes.
    read_only : bool
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
        self._images: Images | None = None
        self._check_plan: CheckPlan | None = None
        actions, rows, self._generations = journal.read()
        self._read_seq = actions[-1].seq if actions else 0
        self._decision_log = replay(store, actions, rows)
        self._current = store.given.copy()
        changed = self._decision_log.touched()
        self._current[changed] = self._labels_after(store, changed)
        self._show(generations.newest(store, self._generations))

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
        self.csg_k = self._complexity.k
        self._count()

    def _count(self) -> None:
        """Per class: samples, flags left, flags, reviewed. Kept up to date by `_follow`."""
        given, kind, flagged = self.given, self._decision_log.kind, self._queues.flagged
        self._flagged = np.bincount(given[flagged], minlength=self.K)
        decided = self._decision_log.decided
        labelled = decided[given[decided] >= 0]
        self._reviewed = np.bincount(given[labelled], minlength=self.K)
        self._left = self._flagged - np.bincount(given[decided[flagged[decided]]], minlength=self.K)
        self._samples = np.bincount(self._current + np.int32(1), minlength=self.K + 1)[1:]
        excluded = decided[kind[decided] == EXCLUDE]
        excluded = excluded[self._current[excluded] >= 0]
        self._samples -= np.bincount(self._current[excluded], minlength=self.K)
        self._kinds = np.bincount(kind[decided], minlength=len(KINDS))  # most have none: no pass over all
        self._kinds[0] = self.n - len(decided)

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
        """Names of many ascending samples, read in one piece where they lie together."""
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

        Others have no label, could not be used by the scan or lie in splits that it left out, or belong to a class
        that no sample but their own duplicates has.
        """
        if self._scorable is None:
            groups, given = self._store.array("groups/duplicate"), self.given
            known = (self._chances[:, 0] > 0) & (given >= 0)
            first = np.full(self.K, np.iinfo(np.int32).max, np.int32)
            last = np.full(self.K, -1, np.int32)
            np.minimum.at(first, given[known], groups[known])
            np.maximum.at(last, given[known], groups[known])
            self._scorable = known & (first < last)[given]
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
        """(N,) samples that somebody looked at and decided; a decision in bulk is no look."""
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
        trust = float(self._store.attrs("scores/blend").get("trust", 1.0))
        order = self.check_plan.order(np.arange(self.n)) if order is None else order
        return self.check_plan.number_wrong(order, self.checked, self.looked, self._scores, trust)

    def flagged(self, i: int) -> bool:
        """Whether the given label is not the blend's top class."""
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
        """The latest decision of each reviewer on each sample, by sample, then by time."""
        return [
            Opinion(sample, reviewer, KINDS[kind], label, second, note, time)
            for sample, reviewer, kind, label, second, note, time in self._decision_log.opinions()
        ]

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

    # images

    @property
    def source_root(self) -> Path | None:
        """Where the images are looked for."""
        if self._source_root is not None:
            return self._source_root
        root = self._store.scan.get("root")
        return Path(str(root)) if root else None

    @source_root.setter
    def source_root(self, root: Path) -> None:
        self._source_root = root
        self._images = None

    def image_bytes(self, i: int) -> bytes | NDArray[np.uint8]:
        """The sample's image as stored: an encoded file, or an array of pixels; any thread may call this.

        Raises
        ------
        MissingImage
            It is no longer where the scan saw it, or there never was one.
        UnreadableImage
            It cannot be decoded.
        ChangedImage
            It is another one than at the scan.
        """
        return self._open_images().read(self._store.ids[i], i)

    def image(self, i: int) -> PIL.Image.Image:
        """The sample's image, RGB; any thread may call this. Raises as `image_bytes`."""
        return self._open_images().image(self._store.ids[i], i)

    def lost_images(self, samples: Index) -> dict[int, str]:
        """Read the images of samples, in threads, and return those that are no longer the scan's.

        Returns
        -------
        dict of int to str
            ``changed``, ``missing`` or ``unreadable``; samples that the scan could not use are not looked at.
        """
        if not self.has_images:
            return {}
        kinds = {ChangedImage: "changed", MissingImage: "missing", UnreadableImage: "unreadable"}
        ids, images = self._store.ids, self._open_images()

        def look(i: int) -> str:
            try:
                images.read(ids[i], i)
            except (ChangedImage, MissingImage, UnreadableImage) as error:
                return kinds[type(error)]
            return ""

        usable: list[int] = samples[self._store.status[samples] == OK].tolist()
        with ThreadPoolExecutor(parallel.count_threads()) as pool:
            return {i: kind for i, kind in zip(usable, pool.map(look, usable), strict=True) if kind}

    def sha256(self, i: int) -> bytes:
        """SHA-256 of the sample's stored bytes at the scan: of its file, or of the row of an array."""
        found: bytes = self._store.array("samples/sha256")[i].tobytes()
        return found

    @property
    def source_kind(self) -> str:
        """What the audit was made from, a key of `labeltui.sources.KINDS`; empty where nobody knows."""
        description = self._store.scan.get("source")
        return str(description.get("kind", "")) if isinstance(description, dict) else ""

    @property
    def has_images(self) -> bool:
        """Whether the samples are images, be they there or not; False for a source of embeddings alone."""
        description = self._store.scan.get("source")
        return not isinstance(description, dict) or description.get("image_store") != "none"

    def _open_images(self) -> Images:
        if self._images is None:
            from labeltui.sources import Images, ScannedImages

            root, description = self.source_root, self._store.scan.get("source")
            if root is None or not isinstance(description, dict):
                raise MissingImage(
                    "an image is read from the source that the scan named",
                    "this audit names none",
                    "give its directory with --source DIR",
                )
            self._images = ScannedImages(
                Images.open(description, root),
                self._store.array("samples/sha256"),
                self._store.array("samples/pixels"),
            )
        return self._images

    def changed_files(self) -> list[str]:
        """Names of the tables, arrays and lists that were edited after the scan read them; any thread may call this."""
        from labeltui.sources.files import changed_files

        return changed_files(self._store.scan.get("files"), self.source_root)

    def owns(self, path: Path) -> bool:
        """Whether an existing file is a part of the audit or of its source, by whatever name or link."""
        real = Path(os.path.realpath(path))
        if real.is_relative_to(os.path.realpath(self.path)):
            return True
        root, description = self.source_root, self._store.scan.get("source")
        if root is None or not isinstance(description, dict):
            return False
        for key in ("file", "labels"):
            part = root / str(description.get(key) or "")
            if part.is_file() and os.path.samefile(part, path):
                return True
        try:
            return bool(self.index(os.fsencode(real.relative_to(os.path.realpath(root)))) >= 0)
        except ValueError:  # not below the root, or no sample's image
            return False

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
            reviewed=self.n - int(self._kinds[0]),
            relabelled=int(self._kinds[RELABEL]),
            flagged=int(self._flagged.sum()),
            flags=int(self._left.sum()),
            generation=self.generation,
            pending=self.pending,
            saved=not self.pending,
            failed=f"{failed.message}; {failed.got}" if failed else "",
        )

    def solve_csg(self) -> float:
        """Solve for CSG of the labels now, from any thread; `summary` shows it from then on."""
        return self._complexity.solve()

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
            "samples": self._samples.copy(),
            "flags": self._left.copy(),
            "flagged": self._flagged,
            "overlap": np.where(c.present(), c.overlap(), np.nan),
            "self_similarity": np.where(c.present(), c.self_similarity(), np.nan),
            "reviewed": self._reviewed.copy(),
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
        """The samples of a queue, in order: (m,) int64; see `QueueSpec`."""
        return self._queues.select(spec or QueueSpec())

    def conflicts(self) -> list[Index]:
        """Groups of (near-)identical samples whose current labels disagree; excluded samples do not count."""
        return self._duplicates.disagreeing(self._labels_in_s())

    def across_splits(self) -> list[Index]:
        """Groups of (near-)identical samples that lie in more than one split; excluded samples do not count."""
        return self._duplicates.disagreeing(np.where(self.excluded, -1, self._store.split))

    def decisions(self) -> dict[str, int]:
        """Number of samples by kind of decision."""
        return dict(zip(KINDS[1:], self._kinds[1:].tolist(), strict=True))

    def not_ok(self) -> dict[str, int]:
        """Number of samples that are out of the graph, by reason."""
        found = np.bincount(self._store.status, minlength=len(STATUS_NAMES)).tolist()
        return dict(zip(STATUS_NAMES[1:], found[1 : len(STATUS_NAMES)], strict=True))

    def status(self, jobs: Sequence[Mapping[str, object]] = ()) -> dict[str, Any]:
        """What ``labeltui status --json`` prints.

        Parameters
        ----------
        jobs : sequence of mappings
            The training jobs, as `labeltui.train` describes them.
        """
        summary = self.summary()
        csg = self.solve_csg() if summary.csg_stale else summary.csg
        return {
            "audit": safe(str(self.path)),
            "format": self._store.format,
            "samples": self.n,
            "not_ok": self.not_ok(),
            "classes": [
                {
                    "id": safe(row.id),
                    "name": row.name,
                    "samples": row.samples,
                    "flags": row.flagged,
                    "overlap": row.overlap,
                    "self_similarity": row.self_similarity,
                    "reviewed": row.reviewed,
                }
                for row in self.class_rows()
            ],
            "csg": {"value": csg, "k": self.csg_k, "embedding": self.embedding_name},
            "flags": summary.flagged,
            "decisions": self.decisions(),
            "calibration": calibration.report(self.scores, self.checked, self._store, self.number_wrong()),
            "smoke_test": self.generation == 0 and bool(self._store.scan.get("smoke_test")),
            "synthetic": safe_json(self._store.scan.get("synthetic")),
            "changed_files": self.changed_files(),
            "generation": self.generation,
            "jobs": [dict(job) for job in jobs],
            "next": self._next(summary),
        }

    def _next(self, summary: Summary) -> str:

        path = shlex.quote(safe(str(self.path)))
        if summary.flags:
            return f"labeltui review {path}"
        return f"labeltui export {path} -o labels.csv"

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


def _readonly(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view
