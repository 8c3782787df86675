"""Exact k-nearest-neighbour graph: the compiled tasks of `labeltui.graph`, which validates their arguments.

The C sources are in ``kernels/``; ``docs/kernels.md`` explains them. A task is an object whose ``work`` method runs in
any number of threads at once, without the interpreter lock; ``done`` counts finished rows and ``stop`` ends it early.
"""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t, uintptr_t


cdef extern from "kernels/knn.h" nogil:
    ctypedef struct knn_data:
        const char *x
        ptrdiff_t stride
        int half
        int metric
        int isa
        int64_t n
        const int64_t *rows
        int64_t d
        double *inverse

    ctypedef struct knn_ticket:
        int64_t next
        int64_t done
        int stop
        int pause

    int knn_best_isa()
    int knn_same(const knn_data *data, int64_t i, int64_t j)
    int knn_row_stats_work(const knn_data *data, knn_ticket *ticket, double *squared, uint64_t *hash, uint8_t *finite)
    int knn_brute_force_work(const knn_data *data, knn_ticket *ticket, const int64_t *targets, int64_t count, int64_t k,
                             int32_t *indices, float *similarity)
    int knn_rank_work(const knn_data *data, knn_ticket *ticket, const int32_t *candidates, int64_t m, int64_t k,
                      int32_t *indices, float *similarity)
    int knn_expand_duplicates_work(const knn_data *data, knn_ticket *ticket, int64_t n, const int64_t *of,
                                   const int64_t *start, const int64_t *members, const int32_t *near,
                                   const float *near_similarity, int64_t near_k, int64_t k, int32_t *indices,
                                   float *similarity)

    ctypedef struct knn_filter:
        int path
        int64_t blocks
        int64_t units
        int64_t slots
        int32_t *row
        int64_t capacity
        size_t bytes
        size_t each

    int knn_path_supported(int path)
    int knn_filter_open(knn_filter *filter, const knn_data *data, int path, int64_t k, double longest, int64_t block,
                        int dry)
    void knn_filter_close(knn_filter *filter)
    int knn_assign_work(knn_filter *filter, knn_ticket *ticket)
    int knn_assign_end(knn_filter *filter)
    int knn_sketch_work(knn_filter *filter, knn_ticket *ticket)
    void knn_sketch_end(knn_filter *filter)
    int knn_tiles_work(knn_filter *filter, knn_ticket *ticket)
    void knn_tiles_end(knn_filter *filter)
    int64_t knn_filter_pack(knn_filter *filter, int64_t begin, int64_t end, int32_t *size, float *threshold,
                            uint64_t *keys)
    int knn_filter_unpack(knn_filter *filter, int64_t begin, int64_t end, const int32_t *size, const float *threshold,
                          const uint64_t *keys, int64_t count)
    int knn_filter_merge(knn_filter *filter, int64_t begin, int64_t end, const int32_t *size, const float *threshold,
                         const uint64_t *keys, int64_t count)
    int knn_rerank_work(knn_filter *filter, knn_ticket *ticket, int32_t *indices, float *similarity, uint8_t *certified)


METRICS = ("cosine", "inner_product", "euclidean")

# How the filter multiplies, slowest first; the order of the C enumeration.
PATHS = ("c", "avx2", "avx512", "avxvnni", "vnni", "amx")


def paths():
    """Return the names of PATHS that this CPU runs."""
    return tuple(name for path, name in enumerate(PATHS) if knn_path_supported(path))


cdef class Rows:
    """The rows to search: a view of the caller's array, never a copy.

    Parameters
    ----------
    x : (n_x, d) float32 or float16, each row contiguous and aligned
    metric : int, position in METRICS
    rows : (n,) int64, contiguous, or None for all
    """

    cdef knn_data data
    cdef readonly object x, rows, squared, inverse
    cdef readonly int64_t n, d
    cdef readonly int metric

    def __init__(self, x, int metric, rows=None):
        cdef uintptr_t address = x.__array_interface__["data"][0]
        cdef const int64_t[::1] view
        cdef double[::1] lengths
        self.x, self.rows = x, rows
        self.n = self.data.n = len(x) if rows is None else len(rows)
        self.d = self.data.d = x.shape[1]
        self.data.x = <const char *>address
        self.data.stride = x.strides[0]
        self.data.half = x.dtype == np.float16
        self.data.metric = self.metric = metric
        self.data.isa = knn_best_isa()
        self.data.rows = NULL
        if rows is not None and self.n:
            view = rows
            self.data.rows = &view[0]
        self.squared = np.zeros(self.n)
        self.inverse = np.zeros(self.n)
        lengths = self.inverse
        self.data.inverse = &lengths[0] if self.n else NULL

    def set_lengths(self, squared):
        """Set the squared lengths (n,) float64 computed by `RowStats`."""
        self.squared[:] = squared
        with np.errstate(divide="ignore"):  # the caller refuses zero rows where lengths matter
            self.inverse[:] = 1.0 / np.sqrt(squared)

    def restrict(self, int path):
        """Rank with the instructions that filter path `path` needs, and no newer ones."""
        self.data.isa = min(knn_best_isa(), 0 if path == 0 else 1 if PATHS[path] in ("avx2", "avxvnni") else 2)

    def first_duplicates(self, const uint64_t[::1] hashes, const int64_t[::1] order):
        """Return for every row the first row that holds the same bytes, (n,) int64.

        `order` sorts `hashes` stably. Two different rows with one hash are distinguished; among three or more some
        duplicates may be missed, which costs only time.
        """
        cdef int64_t n = self.n, s, base = 0
        out = np.arange(n)
        cdef int64_t[::1] first = out
        with nogil:
            for s in range(1, n):
                if hashes[order[s]] != hashes[order[base]]:
                    base = s
                elif knn_same(&self.data, order[base], order[s]):
                    first[order[s]] = order[base]
        return out


cdef class Task:
    """Base of all tasks: progress and early stop."""

    cdef knn_ticket ticket
    cdef Rows rows
    cdef readonly int64_t total

    @property
    def done(self):
        return self.ticket.done

    def stop(self):
        self.ticket.stop = 1


cdef class Resumable(Task):
    """Base of the tasks that can pause and go on, in another process too: all pieces before `next` are done."""

    cdef readonly int64_t pieces

    def pause(self):
        """Let the threads end once what they have begun is done."""
        self.ticket.pause = 1

    @property
    def next(self):
        return min(self.ticket.next, self.pieces)

    def resume(self, int64_t next, int64_t done):
        """Go on at piece `next`, with what `done` counted until then."""
        self.ticket.next, self.ticket.done, self.ticket.pause = next, done, 0


cdef class RowStats(Task):
    """Squared length (float64), hash of the bytes (uint64) and finiteness (uint8) of every row."""

    cdef readonly object squared, hash, finite

    def __init__(self, Rows rows):
        self.rows, self.total = rows, rows.n
        self.squared = np.zeros(rows.n)
        self.hash = np.zeros(rows.n, np.uint64)
        self.finite = np.zeros(rows.n, np.uint8)

    def work(self):
        cdef double[::1] squared = self.squared
        cdef uint64_t[::1] hash = self.hash
        cdef uint8_t[::1] finite = self.finite
        with nogil:
            knn_row_stats_work(&self.rows.data, &self.ticket, &squared[0], &hash[0], &finite[0])


cdef class BruteForce(Resumable):
    """Nearest neighbours of the rows `targets` (int64), found by comparing each with every row in float64.

    Written to `indices` (len(targets), k) int32 and `similarity` (len(targets), k) float32.
    """

    cdef readonly object targets, indices, similarity

    def __init__(self, Rows rows, targets, indices, similarity):
        self.rows, self.total, self.pieces = rows, len(targets), len(targets)
        self.targets, self.indices, self.similarity = targets, indices, similarity

    def work(self):
        cdef const int64_t[::1] targets = self.targets
        cdef int32_t[:, ::1] indices = self.indices
        cdef float[:, ::1] similarity = self.similarity
        cdef int64_t count = self.total, k = indices.shape[1]
        cdef int result
        if count == 0 or k == 0:
            return
        with nogil:
            result = knn_brute_force_work(
                &self.rows.data, &self.ticket, &targets[0], count, k, &indices[0, 0], &similarity[0, 0]
            )
        if result:
            raise MemoryError


cdef class Rank(Task):
    """The k best of given candidates (n, m) int32, by their exact similarities; -1 stands for none."""

    cdef readonly object candidates, indices, similarity

    def __init__(self, Rows rows, candidates, indices, similarity):
        self.rows, self.total = rows, rows.n
        self.candidates, self.indices, self.similarity = candidates, indices, similarity

    def work(self):
        cdef const int32_t[:, ::1] candidates = self.candidates
        cdef int32_t[:, ::1] indices = self.indices
        cdef float[:, ::1] similarity = self.similarity
        cdef int64_t m = candidates.shape[1], k = indices.shape[1]
        cdef int result
        if m == 0 or k == 0:
            return
        with nogil:
            result = knn_rank_work(
                &self.rows.data, &self.ticket, &candidates[0, 0], m, k, &indices[0, 0], &similarity[0, 0]
            )
        if result:
            raise MemoryError


cdef class ExpandDuplicates(Task):
    """The graph of all rows from that of the distinct ones; the arguments are those of knn_expand_duplicates_work."""

    cdef readonly object of, start, members, near, near_similarity, indices, similarity

    def __init__(self, Rows rows, of, start, members, near, near_similarity, indices, similarity):
        self.rows, self.total = rows, len(of)
        self.of, self.start, self.members = of, start, members
        self.near, self.near_similarity = near, near_similarity
        self.indices, self.similarity = indices, similarity

    def work(self):
        cdef const int64_t[::1] of = self.of
        cdef const int64_t[::1] start = self.start
        cdef const int64_t[::1] members = self.members
        cdef const int32_t[:, ::1] near = self.near
        cdef const float[:, ::1] near_similarity = self.near_similarity
        cdef int32_t[:, ::1] indices = self.indices
        cdef float[:, ::1] similarity = self.similarity
        cdef int64_t n = self.total, near_k = near.shape[1], k = indices.shape[1]
        cdef const int32_t *lists = &near[0, 0] if near_k else NULL
        cdef const float *values = &near_similarity[0, 0] if near_k else NULL
        cdef int result
        with nogil:
            result = knn_expand_duplicates_work(
                &self.rows.data, &self.ticket, n, &of[0], &start[0], &members[0], lists, values, near_k, k,
                &indices[0, 0], &similarity[0, 0]
            )
        if result:
            raise MemoryError


cdef class Filter:
    """State shared by the stages of the filter. Close it to free its memory at once.

    Parameters
    ----------
    rows : Rows with lengths set
    path : int, position in PATHS, supported by this CPU
    k : int, 1 .. n - 1
    block : int, rows of a tile; 0 for what suits the caches
    """

    cdef knn_filter filter
    cdef readonly Rows rows
    cdef bint opened

    def __init__(self, Rows rows, int path, int64_t k, int64_t block=0):
        cdef double longest = np.sqrt(rows.squared.max())
        cdef int result
        if not knn_path_supported(path):  # asking also gets the permission that AMX needs
            raise ValueError(f"this CPU cannot take the path {PATHS[path]}")
        self.rows, self.opened = rows, True
        with nogil:
            result = knn_filter_open(&self.filter, &rows.data, path, k, longest, block, 0)
        if result:
            raise MemoryError

    def close(self):
        if self.opened:
            knn_filter_close(&self.filter)
            self.opened = False

    def __dealloc__(self):
        if self.opened:
            knn_filter_close(&self.filter)

    @property
    def tiles(self):
        return self.filter.blocks * (self.filter.blocks + 1) // 2

    @property
    def slots(self):
        return self.filter.slots

    @property
    def blocks(self):
        return self.filter.blocks

    @property
    def layout(self):
        """The row in every slot, -1 = none: (slots,) int32."""
        return np.asarray(<int32_t[:self.filter.slots]>self.filter.row).copy()

    def pack(self, int64_t begin, int64_t end):
        """Return the candidates of slots begin..end: sizes (int32), thresholds (float32), keys (uint64)."""
        cdef int64_t room = (end - begin) * self.filter.capacity, count
        size, threshold = np.empty(end - begin, np.int32), np.empty(end - begin, np.float32)
        keys = np.empty(room, np.uint64)
        cdef int32_t[::1] sizes = size
        cdef float[::1] thresholds = threshold
        cdef uint64_t[::1] out = keys
        with nogil:
            count = knn_filter_pack(&self.filter, begin, end, &sizes[0], &thresholds[0], &out[0])
        return size, threshold, keys[:count]

    def unpack(self, int64_t begin, const int32_t[::1] size, const float[::1] threshold, const uint64_t[::1] keys):
        """Take what `pack` returned; raises ValueError where it cannot have."""
        cdef int64_t end = begin + size.shape[0], count = keys.shape[0]
        cdef const uint64_t *first = &keys[0] if count else NULL
        cdef int result
        if not 0 <= begin < end <= self.filter.slots or threshold.shape[0] != size.shape[0]:
            raise ValueError("these are no slots of this filter")
        with nogil:
            result = knn_filter_unpack(&self.filter, begin, end, &size[0], &threshold[0], first, count)
        if result:
            raise ValueError("these are no candidates of this filter")

    def merge(self, int64_t begin, const int32_t[::1] size, const float[::1] threshold, const uint64_t[::1] keys):
        """Add what `pack` returned of a filter of the same layout that searched other tiles; raises as `unpack`."""
        cdef int64_t end = begin + size.shape[0], count = keys.shape[0]
        cdef const uint64_t *first = &keys[0] if count else NULL
        cdef int result
        if not 0 <= begin < end <= self.filter.slots or threshold.shape[0] != size.shape[0]:
            raise ValueError("these are no slots of this filter")
        with nogil:
            result = knn_filter_merge(&self.filter, begin, end, &size[0], &threshold[0], first, count)
        if result:
            raise ValueError("these are no candidates of this filter")


def filter_bytes(int64_t n, int64_t d, int64_t k, int path):
    """Return the bytes that a Filter allocates, and those that each thread of its stages does."""
    cdef knn_data data
    cdef knn_filter filter
    data.n, data.d, data.metric = n, d, 0
    knn_filter_open(&filter, &data, path, k, 1.0, 0, 1)
    return filter.bytes, filter.each


cdef class Assign(Task):
    """First stage: the cluster of every row; call `end` when all threads are through."""

    cdef Filter filter

    def __init__(self, Filter filter):
        self.filter, self.total = filter, filter.rows.n

    def work(self):
        cdef int result
        with nogil:
            result = knn_assign_work(&self.filter.filter, &self.ticket)
        if result:
            raise MemoryError

    def end(self):
        cdef int result
        with nogil:
            result = knn_assign_end(&self.filter.filter)
        if result:
            raise MemoryError


cdef class Sketch(Task):
    """Second stage: what is multiplied of every row; call `end` when all threads are through."""

    cdef Filter filter

    def __init__(self, Filter filter):
        self.filter, self.total = filter, filter.rows.n // 16 + 1

    def work(self):
        cdef int result
        with nogil:
            result = knn_sketch_work(&self.filter.filter, &self.ticket)
        if result:
            raise MemoryError

    def end(self):
        with nogil:
            knn_sketch_end(&self.filter.filter)


cdef class Tiles(Resumable):
    """Third stage: the candidates of every row; call `end` when all threads are through."""

    cdef Filter filter

    def __init__(self, Filter filter):
        self.filter, self.total, self.pieces = filter, filter.tiles, filter.filter.units

    def limit(self, int64_t end):
        """Leave out all pieces from `end` on."""
        self.pieces = self.filter.filter.units = end

    def work(self):
        cdef int result
        with nogil:
            result = knn_tiles_work(&self.filter.filter, &self.ticket)
        if result:
            raise MemoryError

    def end(self):
        with nogil:
            knn_tiles_end(&self.filter.filter)


cdef class Rerank(Task):
    """Last stage: exact ranking; `certified` (n,) uint8 is 0 for rows to search again with `BruteForce`."""

    cdef Filter filter
    cdef readonly object indices, similarity, certified

    def __init__(self, Filter filter, indices, similarity):
        self.filter, self.total = filter, filter.rows.n
        self.indices, self.similarity = indices, similarity
        self.certified = np.zeros(filter.rows.n, np.uint8)

    def work(self):
        cdef int32_t[:, ::1] indices = self.indices
        cdef float[:, ::1] similarity = self.similarity
        cdef uint8_t[::1] certified = self.certified
        cdef int result
        with nogil:
            result = knn_rerank_work(
                &self.filter.filter, &self.ticket, &indices[0, 0], &similarity[0, 0], &certified[0]
            )
        if result:
            raise MemoryError


def reverse(const int32_t[:, :] indices, int64_t k):
    """Return who has each row among its first k neighbours: offsets (n + 1,) int64 and members int32, ascending."""
    cdef int64_t n = indices.shape[0], i, c
    cdef int32_t j
    offsets = np.zeros(n + 1, np.int64)
    cdef int64_t[::1] start = offsets
    with nogil:
        for i in range(n):
            for c in range(k):
                j = indices[i, c]
                if j >= 0 and j + 2 <= n:
                    start[j + 2] += 1
        for i in range(1, n):
            start[i + 1] += start[i]
    # start[j + 1] is where the members of j begin; filling moves it to their end, which is where j + 1 begins.
    cdef int64_t last = 0
    with nogil:
        for i in range(n):
            for c in range(k):
                last += indices[i, c] >= 0
    members = np.empty(last, np.int32)
    cdef int32_t[::1] out = members
    with nogil:
        for i in range(n):
            for c in range(k):
                j = indices[i, c]
                if j >= 0:
                    out[start[j + 1]] = <int32_t>i
                    start[j + 1] += 1
    return offsets, members
