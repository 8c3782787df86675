/* Exact k-nearest-neighbour graph: shared types. How it works: docs/kernels.md. */
#ifndef LABELTUI_KNN_H
#define LABELTUI_KNN_H

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define KNN_X86 1
#else
#define KNN_X86 0
#endif

#define KNN_INLINE static inline __attribute__((always_inline))
#define KNN_LANES 8 /* partial sums of the exact product: part of its definition, see exact_body.h */

enum { KNN_COSINE = 0, KNN_DOT = 1, KNN_EUCLIDEAN = 2 };
enum { KNN_ISA_C = 0, KNN_ISA_AVX2 = 1, KNN_ISA_AVX512 = 2 };

/* The rows that take part. Row i of n is at x + row(i) * stride and has d elements. */
typedef struct {
    const char *x;
    ptrdiff_t stride;      /* bytes between rows */
    int half;              /* 0: float32, 1: IEEE float16 */
    int metric;
    int isa;               /* which build of the exact kernels runs */
    int64_t n;
    const int64_t *rows;   /* position of each row in x, or NULL: row i is at i */
    int64_t d;
    double *inverse;       /* (n) 1 / length, cosine only */
} knn_data;

KNN_INLINE int64_t knn_row(const knn_data *data, int64_t i) { return data->rows ? data->rows[i] : i; }

/* ---- keys: one 64-bit integer orders by similarity, then by lower index ---- */

KNN_INLINE uint32_t knn_ordered(float value) {
    union { float f; uint32_t u; } bits = {value};
    return bits.u & 0x80000000u ? ~bits.u : bits.u | 0x80000000u;
}

KNN_INLINE float knn_value(uint64_t key) {
    uint32_t u = (uint32_t)(key >> 32);
    union { uint32_t u; float f; } bits = {u & 0x80000000u ? u & 0x7fffffffu : ~u};
    return bits.f;
}

KNN_INLINE uint64_t knn_key(float value, uint32_t index) {
    return (uint64_t)knn_ordered(value + 0.0f) << 32 | (uint32_t)~index; /* + 0: -0 and 0 are one value */
}

KNN_INLINE uint32_t knn_index(uint64_t key) { return ~(uint32_t)key; }

/* ---- select.c ---- */

/* Move the m largest of n keys to the front, in any order. */
void knn_select(uint64_t *keys, int64_t n, int64_t m);
/* Sort keys, largest first. */
void knn_sort(uint64_t *keys, int64_t n);

/* ---- exact.c ---- */

/* Best instruction set of this CPU for the exact kernels. */
int knn_best_isa(void);
/* Products (or squared distances) of x and four rows, with the instructions of `isa`. */
void knn_four(int isa, const float *x, const float *const y[4], int64_t d, int distance, double out[4]);
/* Row i as float32: in place, or converted into buffer (d). */
const float *knn_load(const knn_data *data, int64_t i, float *buffer);
/* Statistics of rows [begin, end): squared length, 64-bit hash of the bytes, and whether all values are finite. */
void knn_row_stats(const knn_data *data, int64_t begin, int64_t end, double *squared, uint64_t *hash, uint8_t *finite);
/* Whether two rows hold the same bytes. */
int knn_same(const knn_data *data, int64_t i, int64_t j);
/* Exact similarities of row i and m others; keys[c] gets similarity and candidate. scratch: 10 * (d + 8) floats. */
void knn_exact(const knn_data *data, int64_t i, const uint32_t *candidates, int64_t m, uint64_t *keys, float *scratch);
/* Exact k nearest of `count` (at most KNN_GROUP) rows among all. keys: count * capacity words, capacity >= 2 k;
   rows are 8 * (d + 8) doubles; scratch as above. On return the first k keys of each row are sorted. */
#define KNN_GROUP 8
void knn_brute_force(const knn_data *data, const int64_t *rows, int count, int64_t k, uint64_t *keys, int64_t capacity,
                double *wide, float *scratch, const int *stop);

/* ---- work.c: tasks that any number of threads run at once on the same arguments ---- */

/* State shared by the threads of one task. done only informs; setting stop ends the task early. After pause what was
   taken is finished, so that all before next is done, and the task can go on from there. */
typedef struct {
    int64_t next, done;
    int stop, pause;
} knn_ticket;

KNN_INLINE int64_t knn_take(knn_ticket *ticket, int64_t step) {
    return __atomic_fetch_add(&ticket->next, step, __ATOMIC_RELAXED);
}

KNN_INLINE int knn_stopped(const int *stop) { return __atomic_load_n(stop, __ATOMIC_RELAXED); }

/* Each returns 0, or -1 when memory ran out. Rows of the outputs that were not reached are left as they were. */

/* Squared lengths, hashes and finiteness of all rows, see knn_row_stats. */
int knn_row_stats_work(const knn_data *data, knn_ticket *ticket, double *squared, uint64_t *hash, uint8_t *finite);
/* Exact k nearest of rows targets[0..count) among all, by comparing with every row: (count, k) each. */
int knn_brute_force_work(const knn_data *data, knn_ticket *ticket, const int64_t *targets, int64_t count, int64_t k,
                    int32_t *indices, float *similarity);
/* The k best of m given candidates a row (n, m; -1 and the row itself are skipped, repetitions count once);
   where fewer remain the outputs end with -1 and 0. */
int knn_rank_work(const knn_data *data, knn_ticket *ticket, const int32_t *candidates, int64_t m, int64_t k,
                  int32_t *indices, float *similarity);
/* A graph of distinct rows as one of all n: data and the (distinct, near) lists are those of the distinct rows,
   of[i] is row i's distinct row, and members[start[u]..start[u + 1]) are the rows equal to u, ascending. */
int knn_expand_duplicates_work(const knn_data *data, knn_ticket *ticket, int64_t n, const int64_t *of, const int64_t *start,
                    const int64_t *members, const int32_t *near, const float *near_similarity, int64_t near_k,
                    int64_t k, int32_t *indices, float *similarity);

/* ---- layout.c, filter.c: the graph by a cheap similarity with an error bound, ranked exactly; docs/kernels.md ---- */

enum { KNN_FLOAT_C = 0, KNN_FLOAT_AVX2, KNN_FLOAT_AVX512, KNN_INT8_AVXVNNI, KNN_INT8_VNNI, KNN_INT8_AMX, KNN_PATHS };

/* Whether a path runs on this CPU. For AMX this asks the kernel for permission, once. */
int knn_path_supported(int path);

#define KNN_CLUSTERS 16
#define KNN_UNIT 96 /* blocks are multiples of this: all micro-kernels divide it */

/* Slots [start, start + count) hold rows of one cluster, the first `used` of them; the rest is padding. */
typedef struct {
    int64_t start, count, used, cluster;
} knn_block;

typedef struct {
    const knn_data *data;
    int path;
    int64_t k;        /* neighbours wanted, 1 .. n - 1 */
    int64_t kept;     /* candidates ranked at most */
    int64_t capacity; /* of a row's reservoir; more than kept */
    int64_t padded;   /* d rounded up to a multiple of 64 */
    int64_t slots;    /* rows by cluster, each cluster padded to a multiple of KNN_UNIT */
    int64_t most;     /* slots of a block at most */
    int64_t blocks, run, offsets, units;
    knn_block *block;
    double scale;     /* power of two that brings the longest row to length 1 or less (cosine: 1) */

    /* y = f x - mean (f: scale or 1 / length); a row's residual is y minus the centre of its cluster. */
    int64_t clusters;
    float *centre, *mean;     /* (clusters + 1, padded), of which the last is the mean */
    double *middle;           /* (clusters + 1, padded): mean + centre; the last is the mean alone */
    double offset;            /* of all similarities: without it rows far from the origin keep their digits */
    double centre_most, between[KNN_CLUSTERS][KNN_CLUSTERS]; /* largest squared length; products of the centres */
    uint8_t *cluster;         /* (n) */
    int32_t *row;             /* (slots) the row in a slot, -1 for padding */
    float *against;           /* (clusters, slots): y . centre + the row's part of the similarity; by row, then by slot */

    /* Per slot: the similarity of i and j, of clusters a and b, less the offset, is at most
       factor[i] factor[j] C + upper_i + upper_j   with   upper_i = against[b][i] - between[a][b] / 2 + slack[i]
       and less than that by at most 2 (slack[i] + slack[j]); C is the product of the stored residuals.
       threshold: what cannot reach it is no neighbour of i. */
    float *factor, *slack, *threshold;
    float *length, *error, *extent; /* of the stored residual, of what it misses, of y and the mean (squared) */
    int8_t *panel;                  /* int8 paths: (slots / 16, padded / 4, 16, 4) */
    int32_t *sums;                  /* VNNI: 128 * sum of the stored row */

    uint64_t *keys;        /* (slots, capacity): upper bound and slot */
    int32_t *size;         /* (slots) */
    int32_t *order;        /* (n) slots as the last stage takes them */
    void *locks;           /* one a block */
    int laid;              /* whether knn_assign_end made them */
    size_t bytes, each;    /* allocated in all, and at most by every thread of a stage */
} knn_filter;

/* Find the clusters and allocate everything; 0, or -1 when memory ran out. longest: length of the longest row. most: rows
   of a tile, 0 for the usual. With dry = 1 only the sizes are computed. */
int knn_filter_open(knn_filter *filter, const knn_data *data, int path, int64_t k, double longest, int64_t most,
                    int dry);
void knn_filter_close(knn_filter *filter);
/* The stages, run one after the other, each by any number of threads; the `end` of a stage by one. */
int knn_assign_work(knn_filter *filter, knn_ticket *ticket);
int knn_assign_end(knn_filter *filter);
int knn_sketch_work(knn_filter *filter, knn_ticket *ticket);
void knn_sketch_end(knn_filter *filter);
int knn_tiles_work(knn_filter *filter, knn_ticket *ticket);
void knn_tiles_end(knn_filter *filter);
/* The candidates of slots [begin, end) between two runs of the tiles, the weakest dropped first: how many of each slot,
   its threshold, and all keys one after the other (room: capacity each). Returns how many keys. */
int64_t knn_filter_pack(knn_filter *filter, int64_t begin, int64_t end, int32_t *size, float *threshold, uint64_t *keys);
/* The reverse; -1 where a filter of this layout cannot have packed them. */
int knn_filter_unpack(knn_filter *filter, int64_t begin, int64_t end, const int32_t *size, const float *threshold,
                      const uint64_t *keys, int64_t count);
/* Adds what another filter of the same layout packed, after it searched other tiles. */
int knn_filter_merge(knn_filter *filter, int64_t begin, int64_t end, const int32_t *size, const float *threshold,
                     const uint64_t *keys, int64_t count);
/* Writes the neighbours of every row, and certified[i] = 0 where the bound does not prove them. */
int knn_rerank_work(knn_filter *filter, knn_ticket *ticket, int32_t *indices, float *similarity, uint8_t *certified);

/* ---- between the files of the filter ---- */

/* What a tile found: row and column within their blocks, and the upper bound of their similarity. */
typedef struct {
    int64_t count, limit;
    uint32_t *place; /* row << 16 | column */
    float *value;
} knn_hits;

#define KNN_MICRO 1024 /* most hits that come between two looks at the limit */

/* One thread's view of a tile. */
typedef struct {
    knn_filter *filter;
    int64_t rows, columns;               /* first slot of each block */
    int64_t row_end, column_end;         /* rows in use of the row block; slots of the column block */
    int diagonal;
    float *row_upper, *column_upper;     /* what bounds the similarities of this pair of clusters */
    float *row_bar, *column_bar;         /* copies of the thresholds; +infinity for columns on the diagonal */
    char *fixed;                         /* the block that stays for a whole run, as the path wants it */
    char *moving;                        /* float paths: the other block */
    float *line;                         /* float paths: one row */
    knn_hits hits;
    int64_t row_block, column_block;
} knn_tile;

KNN_INLINE int knn_is_int8(int path) { return path >= KNN_INT8_AVXVNNI; }

size_t knn_tile_bytes(const knn_filter *filter); /* what a thread of the second stage allocates */
void knn_flush(knn_tile *tile); /* hand the hits over and re-read the thresholds */

/* ---- sketch.c ---- */

/* Residual of row i against middle[at], times `times`, rounded to float32 into out (padded to 8); its squared length. */
double knn_residual(const knn_filter *filter, int64_t i, int64_t at, double times, float *buffer, float *out);
/* 16 slots at once; line: 2 * (padded + 8) floats, buffer: 16 * padded floats, aligned to 64 bytes. */
void knn_sketch_int8(knn_filter *filter, int64_t group, float *line, float *buffer);
void knn_sketch_float(knn_filter *filter, int64_t slot, float *line);

/* ---- per path: prepare a block as the fixed or the moving one, and search one tile ---- */

void knn_fix_avxvnni(const knn_filter *filter, const knn_block *block, char *out);
void knn_tile_avxvnni(knn_tile *tile);
void knn_fix_vnni(const knn_filter *filter, const knn_block *block, char *out);
void knn_tile_vnni(knn_tile *tile);
void knn_fix_amx(const knn_filter *filter, const knn_block *block, char *out);
void knn_tile_amx(knn_tile *tile);
void knn_fix_float(const knn_filter *filter, const knn_block *block, char *out, float *line);
void knn_move_float(const knn_filter *filter, const knn_block *block, char *out, float *line);
void knn_tile_float(knn_tile *tile);
int knn_int8_supported(int path);

#endif
