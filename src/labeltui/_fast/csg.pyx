"""Counting class neighbours, class overlaps, and following both through single relabels.

`pooled_counts` and `overlap` build T and W once; `LiveCounts` keeps them true while labels change, touching
only the rows and columns that a relabel moves.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc

import numpy as np


cdef extern from "minsum.h" nogil:
    int lt_wide()
    void lt_minsum_double(int wide, double *acc, const double *base, int64_t stride, int64_t n,
                          const double *level, const int32_t *column, int64_t rows)
    void lt_minsum_fixed(int wide, int32_t *acc, const int32_t *base, int64_t stride, int64_t n,
                         const int32_t *level, const int32_t *column, int64_t rows)


# Up to this many classes rows are counted into four interleaved small tables: neighbours are mostly of one class,
# and adding to one and the same cell again and again waits for the store before it. Labels are then read as bytes,
# and "no label" is one class more, so that the loop does not branch on it.
cdef enum:
    SMALL = 128
    TABLES = 4

# One in the fixed-point matrices of LiveCounts: 2^30 leaves room for the rounding of a full row in int32.
cdef enum:
    ONE = 1 << 30

FIXED_ONE = ONE

# Up to this many classes W fits the near caches: writing a whole column is cheaper than guessing which entries move.
cdef enum:
    NEAR = 256


cdef Py_ssize_t count_small(
    const int32_t[:, ::1] indices, const uint8_t *labels, Py_ssize_t n, uint32_t *table, Py_ssize_t side,
    Py_ssize_t start, Py_ssize_t stop, Py_ssize_t first, Py_ssize_t last,
) noexcept nogil:
    """As `pooled_counts`, into TABLES tables of side x side; side - 1 is the class of samples without label."""
    cdef Py_ssize_t row, c, size = side * side
    cdef const int32_t *m
    cdef uint32_t *target
    cdef uint32_t limit = <uint32_t> n
    for row in range(start, stop):
        m = &indices[row, 0]
        target = table + labels[row] * side
        c = first
        while c + 4 <= last and <uint32_t> m[c] < limit and <uint32_t> m[c + 1] < limit \
                and <uint32_t> m[c + 2] < limit and <uint32_t> m[c + 3] < limit:
            target[labels[m[c]]] += 1
            target[size + labels[m[c + 1]]] += 1
            target[2 * size + labels[m[c + 2]]] += 1
            target[3 * size + labels[m[c + 3]]] += 1
            c += 4
        while c < last:
            if <uint32_t> m[c] < limit:
                target[(c & 3) * size + labels[m[c]]] += 1
            elif m[c] >= 0:
                return row
            c += 1
    return -1


def pooled_counts(
    const int32_t[:, ::1] indices,
    const int32_t[::1] labels,
    const int32_t[::1] weights,
    int64_t[:, ::1] T,
    Py_ssize_t start,
    Py_ssize_t stop,
    Py_ssize_t first,
    Py_ssize_t last,
):
    """Add to T[i, j] the neighbours of label j that the samples start..stop of label i have in columns first..last.

    Parameters
    ----------
    indices : (N, >= last) int32, C-contiguous
        Neighbour lists; negative entries count nothing.
    labels : (N,) int32
        Class per sample; negative ones neither count nor are counted.
    weights : (N,) int32 or (0,)
        How often each sample counts as a source; empty means once.
    T : (K, K) int64, changed in place.
    start, stop, first, last : int
        Rows and columns of `indices` to read.

    Returns
    -------
    int
        -1, or the first row that names a neighbour outside 0..N-1 (T is then incomplete).
    """
    cdef Py_ssize_t n = labels.shape[0], K = T.shape[0], side = K + 1, row, c
    cdef Py_ssize_t bad = -1
    cdef int32_t y, m
    cdef int64_t w
    cdef bint weighted = weights.shape[0] > 0
    cdef uint32_t *table
    cdef uint8_t *small
    # uint32 cells: a table holds at most a quarter of the counts and one more per row.
    if K <= SMALL and not weighted and (stop - start) * (last - first) < 1 << 32:
        table = <uint32_t *> calloc(TABLES * side * side, sizeof(uint32_t))
        small = <uint8_t *> malloc(n + 1)
        if table == NULL or small == NULL:
            free(table)
            free(small)
            raise MemoryError()
        with nogil:
            for row in range(n):
                small[row] = <uint8_t> (labels[row] if labels[row] >= 0 else K)
            bad = count_small(indices, small, n, table, side, start, stop, first, last)
            for row in range(K):
                for c in range(K):
                    for m in range(TABLES):
                        T[row, c] += table[(m * side + row) * side + c]
            free(table)
            free(small)
        return bad
    with nogil:
        for row in range(start, stop):
            y = labels[row]
            w = weights[row] if weighted else 1
            if y < 0 or w == 0:
                continue
            for c in range(first, last):
                m = indices[row, c]
                if m < 0:
                    continue
                if m >= n:
                    bad = row
                    break
                if labels[m] >= 0:
                    T[y, labels[m]] += w
            if bad >= 0:
                break
    return bad


def class_sizes(const int32_t[:, ::1] indices, const int32_t[::1] labels, int64_t[::1] sizes):
    """Add to sizes[y] the samples of label y whose first neighbour is there; (N, k > 0), (N,) and (K,)."""
    cdef Py_ssize_t row
    with nogil:
        for row in range(labels.shape[0]):
            if labels[row] >= 0 and indices[row, 0] >= 0:
                sizes[labels[row]] += 1


def overlap(
    const double[:, ::1] S,
    const double[:, ::1] transposed,
    double[:, ::1] W,
    Py_ssize_t start,
    Py_ssize_t step,
    int wide=-1,
):
    """Fill rows start, start + step, ... of W, from the diagonal on: W[i, j] = sum over c of min(S[i, c], S[j, c]).

    Parameters
    ----------
    S, transposed : (K, K) float64, C-contiguous
        Class similarity and its transpose.
    W : (K, K) float64
        Only entries j >= i are written; the caller mirrors them.
    start, step : int
        Which rows; threads take interleaved rows, as rows get shorter downwards.
    wide : int
        1 = AVX2, 0 = plain C, -1 = what the CPU has. The bits are the same.
    """
    cdef Py_ssize_t K = S.shape[0], i, c, rows
    levels_array = np.empty(K, dtype=np.float64)
    columns_array = np.empty(K, dtype=np.int32)
    cdef double[::1] levels = levels_array
    cdef int32_t[::1] columns = columns_array
    if wide < 0:
        wide = lt_wide()
    with nogil:
        i = start
        while i < K:
            rows = 0
            for c in range(K):
                if S[i, c] > 0.0:
                    levels[rows] = S[i, c]
                    columns[rows] = c
                    rows += 1
            for c in range(i, K):
                W[i, c] = 0.0
            if rows:
                lt_minsum_double(wide, &W[i, i], &transposed[0, i], K, K - i, &levels[0], &columns[0], rows)
            i += step


def sparse_overlap(
    const int64_t[::1] indptr,
    const int32_t[::1] indices,
    const double[::1] data,
    const int64_t[::1] column_indptr,
    const int32_t[::1] column_indices,
    const double[::1] column_data,
    Py_ssize_t start,
    Py_ssize_t stop,
):
    """Rows start..stop of W for a sparse S, given by rows (CSR) and by columns (CSC), both sorted.

    Returns
    -------
    indptr : (stop - start + 1,) int64
    indices : (nnz,) int32, ascending within a row
    data : (nnz,) float64
    """
    cdef Py_ssize_t K = indptr.shape[0] - 1, i, a, b, at = 0, total = 0, found
    cdef int32_t c, j
    cdef double level, other
    acc_array = np.zeros(K, dtype=np.float64)
    pointer_array = np.zeros(stop - start + 1, dtype=np.int64)
    seen_array = np.full(K, -1, dtype=np.int64)
    cdef double[::1] acc = acc_array
    cdef int64_t[::1] pointer = pointer_array
    cdef int64_t[::1] seen = seen_array
    cdef int32_t[::1] out
    cdef double[::1] value
    with nogil:
        for i in range(start, stop):
            for a in range(indptr[i], indptr[i + 1]):
                c = indices[a]
                for b in range(column_indptr[c], column_indptr[c + 1]):
                    j = column_indices[b]
                    if seen[j] != i:
                        seen[j] = i
                        total += 1
            pointer[i - start + 1] = total
    out_array = np.empty(total, dtype=np.int32)
    value_array = np.empty(total, dtype=np.float64)
    out = out_array
    value = value_array
    with nogil:
        for i in range(start, stop):
            for a in range(indptr[i], indptr[i + 1]):
                c = indices[a]
                level = data[a]
                for b in range(column_indptr[c], column_indptr[c + 1]):
                    other = column_data[b]
                    acc[column_indices[b]] += level if level < other else other
            found = pointer[i - start + 1] - pointer[i - start]
            # Every stored S is positive, so an entry of W is zero only where the rows share no column.
            for j in range(K):
                if found == 0:
                    break
                if acc[j] > 0.0:
                    out[at] = j
                    value[at] = acc[j]
                    acc[j] = 0.0
                    at += 1
                    found -= 1
    return pointer_array, out_array, value_array


cdef class LiveCounts:
    """T, and if wanted S and W in fixed point, kept equal to a rebuild while labels change one at a time.

    With C[s, l] the number of neighbours of s that are labelled l, moving s from class i to class j does

        T[i] -= C[s];  T[j] += C[s];  T[y_t, i] -= 1, T[y_t, j] += 1 for every t that has s among its neighbours.

    Rows i and j change throughout (their sums change), every other row in two columns only; W follows in the rows
    and columns of the classes that moved. S is held transposed as int32 multiples of 2^-30, so that W is an exact
    sum, independent of the order of relabels.

    Parameters
    ----------
    T : (K, K) int64, owned and changed
    labels : (N,) int32, owned and changed
    sizes : (K,) int64, owned and changed: samples with a neighbour list, per class
    indices : (N, >= k) int32
    rev_indptr : (N + 1,) int64
    rev_indices : (M,) int32
        Samples that have sample s among their first k neighbours: rev_indices[rev_indptr[s]:rev_indptr[s + 1]].
    k : int
    matrices : bool
        Whether S and W are kept too.
    """

    cdef readonly Py_ssize_t K, k, N
    cdef int64_t[:, ::1] T
    cdef int32_t[::1] labels
    cdef int64_t[::1] sizes
    cdef const int32_t[:, ::1] indices
    cdef const int64_t[::1] rev_indptr
    cdef const int32_t[::1] rev_indices
    cdef int64_t[::1] totals
    cdef int32_t[:, ::1] U              # transposed S: U[c, x] = S[x, c]
    cdef int32_t[:, ::1] W
    cdef int64_t[::1] overlaps          # sum of W[x, j] over j != x
    cdef int32_t[::1] levels, columns, acc
    cdef int64_t[::1] stamp
    cdef int32_t[::1] touched
    cdef int64_t clock
    cdef bint matrices
    cdef int wide
    cdef readonly object overlap, fixed_W, fixed_U, total

    def __init__(self, T, labels, sizes, indices, rev_indptr, rev_indices, Py_ssize_t k, bint matrices=True,
                 int wide=-1):
        cdef Py_ssize_t x, K = T.shape[0]
        self.K, self.k, self.N = K, k, labels.shape[0]
        self.T, self.labels, self.sizes = T, labels, sizes
        self.indices, self.rev_indptr, self.rev_indices = indices, rev_indptr, rev_indices
        self.total = T.sum(axis=1)
        self.totals = self.total
        self.matrices = matrices
        self.wide = lt_wide() if wide < 0 else wide
        self.stamp = np.zeros(K, dtype=np.int64)
        self.touched = np.empty(K, dtype=np.int32)
        self.clock = 0
        if not matrices:
            return
        self.levels = np.empty(K, dtype=np.int32)
        self.columns = np.empty(K, dtype=np.int32)
        self.acc = np.empty(K, dtype=np.int32)
        self.fixed_U = np.zeros((K, K), dtype=np.int32)
        self.fixed_W = np.zeros((K, K), dtype=np.int32)
        self.overlap = np.zeros(K, dtype=np.int64)
        self.U, self.W, self.overlaps = self.fixed_U, self.fixed_W, self.overlap
        with nogil:
            for x in range(K):
                self._write_similarity(x)
            for x in range(K):
                self._sum_row(x, 0)

    def relabel(self, Py_ssize_t sample, Py_ssize_t label):
        """Give `sample` the label `label` (-1: it leaves S) and return the one it had; neither is checked."""
        cdef int32_t old
        with nogil:
            old = self._relabel(sample, <int32_t> label)
        return old

    cdef int32_t _relabel(self, Py_ssize_t s, int32_t new) noexcept nogil:
        cdef int32_t old = self.labels[s], l, r, m
        cdef Py_ssize_t c, p, count = 0, a
        cdef bint leaves = old < 0 or new < 0      # then sums of other rows change as well
        if old == new:
            return old
        self.labels[s] = new
        self.clock += 1
        for c in range(self.k):
            m = self.indices[s, c]
            if m < 0:
                continue
            l = self.labels[m]
            if l < 0:
                continue
            if old >= 0:
                self.T[old, l] -= 1
                self.totals[old] -= 1
            if new >= 0:
                self.T[new, l] += 1
                self.totals[new] += 1
        if self.k and self.indices[s, 0] >= 0:
            if old >= 0:
                self.sizes[old] -= 1
            if new >= 0:
                self.sizes[new] += 1
        if old >= 0:
            self.stamp[old] = self.clock
        if new >= 0:
            self.stamp[new] = self.clock
        for p in range(self.rev_indptr[s], self.rev_indptr[s + 1]):
            r = self.labels[self.rev_indices[p]]
            if r < 0:
                continue
            if old >= 0:
                self.T[r, old] -= 1
                self.totals[r] -= 1
            if new >= 0:
                self.T[r, new] += 1
                self.totals[r] += 1
            if self.stamp[r] != self.clock:
                self.stamp[r] = self.clock
                self.touched[count] = r
                count += 1
        if not self.matrices:
            return old
        if leaves:
            for a in range(count):
                self._write_similarity(self.touched[a])
        else:
            for a in range(count):
                self._move(self.touched[a], old)
                self._move(self.touched[a], new)
        if old >= 0:
            self._write_similarity(old)
        if new >= 0:
            self._write_similarity(new)
        # Rows are summed only after every S is in place, each against all others.
        if leaves:
            for a in range(count):
                self._sum_row(self.touched[a], 1)
        if old >= 0:
            self._sum_row(old, 1)
        if new >= 0:
            self._sum_row(new, 1)
        return old

    cdef inline int32_t _fixed(self, Py_ssize_t row, Py_ssize_t column) noexcept nogil:
        # A product with the reciprocal instead of a division: a tenth of the time, as reproducible, 2^-31 at most off.
        if self.totals[row] == 0:
            return 0
        return <int32_t> (self.T[row, column] * (<double> ONE / self.totals[row]) + 0.5)

    cdef void _write_similarity(self, Py_ssize_t row) noexcept nogil:
        cdef Py_ssize_t c
        cdef int64_t *counts = &self.T[row, 0]
        cdef double scale = <double> ONE / self.totals[row] if self.totals[row] else 0.0
        for c in range(self.K):
            self.U[c, row] = <int32_t> (counts[c] * scale + 0.5) if counts[c] else 0

    cdef void _sum_row(self, Py_ssize_t row, bint mirror) noexcept nogil:
        """Recompute W[row] from U, and what it changes in the overlaps of all classes."""
        cdef Py_ssize_t c, x, rows = 0
        cdef int64_t own = 0
        cdef int32_t change
        for c in range(self.K):
            if self.T[row, c]:
                self.levels[rows] = self.U[c, row]
                self.columns[rows] = <int32_t> c
                rows += 1
            self.acc[c] = 0
        if rows:
            lt_minsum_fixed(self.wide, &self.acc[0], &self.U[0, 0], self.K, self.K, &self.levels[0],
                            &self.columns[0], rows)
        for x in range(self.K):
            change = self.acc[x] - self.W[row, x]
            if change == 0:
                continue
            self.W[row, x] = self.acc[x]
            if x == row:
                continue
            own += change
            if mirror:
                self.W[x, row] = self.acc[x]
                self.overlaps[x] += change
        self.overlaps[row] += own

    cdef void _move(self, Py_ssize_t row, Py_ssize_t column) noexcept nogil:
        """One entry of S changed: S[row, column]. W moves where that column's smaller entry does."""
        cdef int32_t before = self.U[column, row], after = self._fixed(row, column), other, change
        cdef int32_t *levels = &self.U[column, 0]
        cdef int32_t *own_row = &self.W[row, 0]
        cdef int32_t *own_column = &self.W[0, row]
        cdef bint always = self.K <= NEAR
        cdef int64_t own = 0
        cdef Py_ssize_t x
        if before == after:
            return
        for x in range(self.K):
            other = levels[x]
            change = (after if after < other else other) - (before if before < other else other)
            if always or change != 0:
                own_row[x] += change
                own_column[x * self.K] += change
                self.overlaps[x] += change
                own += change
        # At x = row the loop met the row's own old entry and changed the diagonal, which is the row's sum, twice.
        change = (after if after < before else before) - before
        own_row[row] += (after - before) - 2 * change
        self.overlaps[row] += own - 2 * change
        levels[row] = after
