"""Overlaps and CSG of the current labels: those of the scan until a label changes, then updated live."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labeltui.audit.views import PairRow
from labeltui.errors import DamagedAudit, InputError
from labeltui.store import Store
from labeltui.text import safe

if TYPE_CHECKING:
    from labeltui.csg import LiveCsg, Overlaps, Snapshot

# Up to this many classes an eigen-solve takes about a millisecond and runs on access.
SOLVE_AT_ONCE = 200
# A single relabel takes up to 0.2 ms at 1,000 classes, a rebuild 0.1 s.
REBUILD_ABOVE = 500


class LiveComplexity:
    """Complexity of classes and data set under the current labels.

    As long as all labels are those of the scan, the stored arrays are used. The first change builds the live
    state; above `SOLVE_AT_ONCE` classes on a separate thread, since it takes 0.1 s at 1,000 classes.

    Parameters
    ----------
    store : Store
        The current generation.
    labels : (N,) int32
        Current labels in S, -1 = left out.
    """

    def __init__(self, store: Store, labels: NDArray[np.int32]) -> None:
        self.K = len(store.class_ids)
        graph = f"graph/{store.embedding_name}"
        attrs = store.attrs(graph)
        self._store = store
        self._graph = graph
        self.k = int(attrs.get("csg_k", attrs.get("k", 10)))
        csg = store.attrs("csg")
        self._value: float | None = float(csg["csg"]) if "csg" in csg else None
        self.scan_value = self._value
        self._unsolved = self._value is None and self.K > SOLVE_AT_ONCE  # too many classes, see `ends`
        self._spectral: NDArray[np.float64] | None = self._stored("spectral_contribution")
        self.interval = self._interval(csg)
        self._version = 0
        self._solved = 0 if self._value is not None else -1
        self._lock = threading.RLock()
        self._live: LiveCsg | None = None
        self._backlog: list[tuple[NDArray[np.int64], NDArray[np.int32]]] = []
        self._builder: threading.Thread | None = None
        self._error: BaseException | None = None
        moved = np.flatnonzero(labels != store.given)
        if len(moved):
            self.follow(moved, labels[moved])

    def _stored(self, name: str) -> NDArray[Any] | None:
        name = f"csg/{name}"
        return self._store.array(name) if name in self._store else None

    def _matrix(self, name: str) -> Any:
        try:
            return self._store.matrix(f"csg/{name}")
        except KeyError:
            return None

    def _interval(self, attrs: dict[str, Any]) -> tuple[float, float] | None:
        found = self._stored("interval")
        if found is None or found.size != 2 or not np.isfinite(found).all():
            return None
        return float(found[0]), float(found[1])

    # changing

    def follow(self, samples: NDArray[np.int64], labels: NDArray[np.int32]) -> None:
        """Update the labels of samples.

        Parameters
        ----------
        samples : ndarray of int64, shape (n,)
        labels : ndarray of int32, shape (n,)
            New labels; -1 = out of S.
        """
        with self._lock:
            self._version += 1
            self._backlog.append((samples, labels))
            if self._live is not None:
                self._catch_up()
            elif self.K > SOLVE_AT_ONCE:
                self.warm()

    def warm(self) -> None:
        """Begin to build the live state, so that the first relabel need not wait for it."""
        with self._lock:
            if self._live is None and self._builder is None:
                self._builder = threading.Thread(target=self._build_aside, name="csg", daemon=True)
                self._builder.start()

    def _build_aside(self) -> None:
        try:
            live = self._build()
            if self.K <= SOLVE_AT_ONCE:
                live.snapshot().complexity()  # the first solve looks through all loaded libraries: 15 ms
            self._live = live
        except BaseException as error:  # raised again in the thread that needs the result
            self._error = error

    def _build(self) -> LiveCsg:
        from labeltui.csg import LiveCsg

        store, graph = self._store, self._graph
        try:
            return LiveCsg(
                store.matrix("csg/T"),
                store.array(f"{graph}/indices"),
                store.given,
                store.array(f"{graph}/rev_indptr"),
                store.array(f"{graph}/rev_indices"),
                self.K,
                self.k,
            )
        except InputError as error:
            raise DamagedAudit(
                f"{graph} of the audit must fit its samples",
                str(error),
                "copy the audit again, or scan again",
            ) from None

    def _catch_up(self) -> LiveCsg:
        """The live state with all updates from `follow`."""
        with self._lock:
            if self._builder is not None:
                self._builder.join()
                self._builder = None
                if self._error is not None:
                    raise self._error
            live = self._live or self._build()
            for samples, labels in self._backlog:
                if len(samples) > REBUILD_ABOVE and self.K > SOLVE_AT_ONCE:
                    live = self._rebuilt(live, samples, labels)
                    continue
                for sample, label in zip(samples.tolist(), labels.tolist(), strict=True):
                    live.relabel(sample, label)
            self._backlog.clear()
            self._live = live
            return live

    def _rebuilt(self, live: LiveCsg, samples: NDArray[np.int64], labels: NDArray[np.int32]) -> LiveCsg:
        from labeltui.csg import LiveCsg

        store, graph = self._store, self._graph
        new = live.labels.copy()
        new[samples] = labels
        return LiveCsg(
            live.after(samples.tolist(), labels.tolist()).T,
            store.array(f"{graph}/indices"),
            new,
            store.array(f"{graph}/rev_indptr"),
            store.array(f"{graph}/rev_indices"),
            self.K,
            self.k,
        )

    # reading

    @property
    def moved(self) -> bool:
        """Whether a label ever moved since this was made."""
        return self._version > 0

    @property
    def T(self) -> Any:
        """(K, K) int64 (or csr_array above 2,000 classes): pooled counts now."""
        return self._catch_up().T if self.moved else self._store.matrix("csg/T")

    def overlap(self) -> NDArray[np.float64]:
        """(K,) summed overlap of each class with the others."""
        stored = self._stored("overlap")
        if self.moved or stored is None:
            return self._catch_up().overlap
        return stored

    def present(self) -> NDArray[np.bool_]:
        """(K,) bool, classes with a sample that counts; of others nothing is known."""
        stored = self._stored("present")
        if self.moved or stored is None:
            return self._catch_up().sizes > 0
        return stored.astype(np.bool_)

    def self_similarity(self) -> NDArray[np.float64]:
        """(K,) fraction of each class's neighbours that are of the class itself."""
        stored = self._stored("self_similarity")
        if self.moved or stored is None:
            return self._catch_up().self_similarity
        return stored

    def spectral_contribution(self) -> NDArray[np.float64] | None:
        """(K,) of the last eigen-solve; None before there was any."""
        return self._spectral

    def W(self) -> Any:
        """(K, K) overlap of each pair of classes; a csr_array above 2,000 classes."""
        stored = self._matrix("W")
        return self._catch_up().W if self.moved or stored is None else stored

    def S(self) -> Any:
        """(K, K) proportion of class j among the neighbours of class i; a csr_array above 2,000 classes."""
        stored = self._matrix("S")
        if self.moved or stored is None:
            from labeltui.csg import similarity

            return similarity(self.T)
        return stored

    def S_row(self, label: int) -> NDArray[np.float64]:
        """(K,) row of S."""
        T = self.T
        row = T[[label]].toarray()[0] if hasattr(T, "toarray") else T[label]
        total = row.sum()
        return row / total if total else np.zeros(self.K)

    def W_entry(self, a: int, b: int) -> float:
        """Overlap of two classes.

        Parameters
        ----------
        a, b : int
            Class indices.

        Returns
        -------
        float
        """
        stored = self._matrix("W")
        if not self.moved and stored is not None:
            return float(stored[a, b])
        return float(np.minimum(self.S_row(a), self.S_row(b)).sum())

    def pairs(self, by: str, limit: int | None) -> list[PairRow]:
        """Pairs of classes by overlap; see `labeltui.audit.Audit.pairs`.

        Parameters
        ----------
        by : {"overlap", "directed"}
        limit : int or None
            Number of pairs; None = all.

        Returns
        -------
        list of PairRow
            In descending order of overlap.
        """
        if by not in ("overlap", "directed"):
            raise InputError("pairs are ranked by 'overlap' or 'directed'", f"got {safe(by)}")
        W, S = self.W(), self.S()
        i, j, value = _entries(W if by == "overlap" else S)
        kept = i < j if by == "overlap" else i != j
        i, j, value = i[kept], j[kept], value[kept]
        if limit is not None and limit < len(value):
            least = np.partition(value, len(value) - limit)[len(value) - limit] if limit else np.inf
            kept = value >= least
            i, j, value = i[kept], j[kept], value[kept]
        order = np.lexsort((j, i, -value))[:limit]
        return [
            PairRow(a, b, float(W[a, b]), float(S[a, b]), float(S[b, a]))
            for a, b in zip(i[order].tolist(), j[order].tolist(), strict=True)
        ]

    @property
    def stale(self) -> bool:
        """Whether labels moved since `value` was solved."""
        return not self._unsolved and self._solved != self._version

    def trace(self) -> float:
        """tr(L) / K: the mean overlap of the present classes now."""
        present = self.present()
        return float(self.overlap()[present].sum() / present.sum()) if present.any() else 0.0

    def ends(self) -> tuple[list[float], list[float]] | None:
        """Lowest and highest eigenvalues of the scan's labels, where there are too many classes to solve for all."""
        low, high = self._stored("low_eigenvalues"), self._stored("high_eigenvalues")
        if low is None or high is None:
            return None
        return low.astype(float).tolist(), high.astype(float).tolist()

    def value(self) -> float | None:
        """CSG: of the labels now up to `SOLVE_AT_ONCE` classes, else the last that was solved."""
        if self.stale and self.K <= SOLVE_AT_ONCE:
            self.solve()
        return self._value

    def solve(self) -> float | None:
        """Solve for CSG and the spectral contributions of the labels now; any thread may call this.

        None where the scan found too many classes to solve for.
        """
        if self._unsolved:
            return None
        version, snapshot = self.snapshot()
        found = snapshot.complexity()
        with self._lock:
            if version > self._solved:
                self._solved, self._value, self._spectral = version, found.csg, found.spectral_contribution
        return found.csg

    def snapshot(self) -> tuple[int, Snapshot]:
        """The counts now, as copies, and the number of changes that they contain."""
        with self._lock:
            return self._version, self._catch_up().snapshot()

    def what_if(
        self, samples: NDArray[np.int64], labels: NDArray[np.int32]
    ) -> Callable[[], tuple[Overlaps, Overlaps]]:
        """Prepare to compare the complexity before and after hypothetical relabels.

        The counts are copied and the relabels tried there too: of ten thousand samples that takes 50 ms.

        Parameters
        ----------
        samples : ndarray of int64, shape (n,)
        labels : ndarray of int32, shape (n,)
            -1 = out of S.

        Returns
        -------
        callable
            Returns the complexities before and after, or the overlaps alone where the scan found too many classes to
            solve for; thread-safe.
        """

        def solve() -> tuple[Overlaps, Overlaps]:
            with self._lock:
                live = self._catch_up()
                before, after = live.snapshot(), live.after(samples.tolist(), labels.tolist())
            if self._unsolved:
                return before.overlaps(), after.overlaps()
            return before.complexity(), after.complexity()

        return solve


def _entries(matrix: Any) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Rows, columns and values of all entries that are not 0."""
    if hasattr(matrix, "tocoo"):
        found = matrix.tocoo()
        return found.row.astype(np.int64), found.col.astype(np.int64), found.data
    i, j = np.nonzero(matrix)
    return i, j, matrix[i, j]
