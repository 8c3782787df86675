/* The graph in three stages: sketch every row, search tiles of the symmetric product, rank and prove. */
#include "knn.h"

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- what is stored of each row ---- */

int knn_sketch_work(knn_filter *filter, knn_ticket *ticket) {
    int64_t groups = filter->slots / 16, step = 16;
    float *line = malloc(sizeof(float) * 2 * (size_t)(filter->padded + 8));
    float *buffer = aligned_alloc(64, sizeof(float) * 16 * (size_t)filter->padded);
    int result = line && buffer ? 0 : -1;
    for (int64_t g; !result && (g = knn_take(ticket, step)) < groups && !knn_stopped(&ticket->stop);) {
        int64_t end = least(g + step, groups);
        for (int64_t group = g; group < end; group++) {
            if (knn_is_int8(filter->path)) knn_sketch_int8(filter, group, line, buffer);
            else for (int r = 0; r < 16; r++) knn_sketch_float(filter, group * 16 + r, line);
        }
        __atomic_fetch_add(&ticket->done, end - g, __ATOMIC_RELAXED);
    }
    free(line), free(buffer);
    return result;
}

void knn_sketch_end(knn_filter *filter) {
    double lengths = 0.0, errors = 0.0;
    int int8 = knn_is_int8(filter->path);
    for (int64_t i = 0; i < filter->slots; i++) {
        if (filter->row[i] < 0) continue;
        lengths += (double)filter->length[i] * filter->length[i];
        errors += (double)filter->error[i] * filter->error[i];
    }
    /* |s - s'| <= Q_i E_j + E_i Q_j + E_i E_j, split into a part of i and a part of j by 2ab <= ratio a^2 + b^2 / ratio,
       tight when all rows have the same E / Q = ratio. Sums of float32 products add (d + 8) 2^-24 Q_i Q_j. */
    double ratio = sqrt(errors / (lengths > 0.0 ? lengths : 1.0));
    double product = int8 ? 0.0 : ((double)filter->padded + 8.0) * 0x1p-24;
    if (ratio < 1e-12) ratio = 1e-12;
    /* Rounding to float32 may not make equal what the bound tells apart, not even among subnormals. */
    double tiny = 0x1p-146 * filter->scale * (filter->data->metric == KNN_EUCLIDEAN ? 1.0 : filter->scale) + 1e-30;
    for (int64_t i = 0; i < filter->slots; i++) {
        double q = (double)filter->length[i] * filter->length[i], e = (double)filter->error[i] * filter->error[i];
        double slack = 0.5 * (ratio * q + e / ratio + e + product * q);
        /* Rounding of this number, of the tile's arithmetic and of the result. */
        slack = 1.0001 * slack + 0x1p-20 * (filter->extent[i] + q + e) + tiny;
        filter->slack[i] = filter->row[i] < 0 ? -INFINITY : (float)slack;
        filter->threshold[i] = filter->row[i] < 0 ? INFINITY : -FLT_MAX;
    }
}

/* ---- second stage: tiles ---- */

#define LOWS 2048 /* larger reservoirs go without the lower bounds, which only save time */

/* The reservoir of row i is full: raise its threshold and drop what cannot reach it.
   The k-th largest *lower* bound is surely reached by the k-th neighbour; when too many are left, the `kept` largest
   upper bounds stay and the proof is left to the last stage. */
static void compact(knn_filter *filter, int64_t i) {
    uint64_t *keys = filter->keys + i * filter->capacity, low[LOWS];
    int64_t size = filter->size[i], k = filter->k;
    float bar = filter->threshold[i];
    if (size <= LOWS) {
        for (int64_t c = 0; c < size; c++) {
            uint32_t j = knn_index(keys[c]);
            float value = knn_value(keys[c]) - 2.0f * (filter->slack[i] + filter->slack[j]);
            low[c] = (uint64_t)knn_ordered(value) << 32 | (uint32_t)c;
        }
        knn_select(low, size, k);
        uint64_t last = low[0];
        for (int64_t c = 1; c < k; c++) last = low[c] < last ? low[c] : last;
        if (knn_value(last) > bar) bar = knn_value(last);
        int64_t left = 0;
        for (int64_t c = 0; c < size; c++) {
            uint64_t key = keys[c];
            keys[left] = key;
            left += knn_value(key) >= bar;
        }
        size = left;
    }
    if (size > filter->kept) {
        knn_select(keys, size, filter->kept);
        size = filter->kept;
        uint64_t last = keys[0];
        for (int64_t c = 1; c < size; c++) last = keys[c] < last ? keys[c] : last;
        if (knn_value(last) > bar) bar = knn_value(last);
    }
    filter->size[i] = (int32_t)size;
    filter->threshold[i] = bar;
}

static void offer(knn_filter *filter, int64_t i, int64_t j, float value) {
    if (!(value >= filter->threshold[i])) return;
    filter->keys[i * filter->capacity + filter->size[i]++] = knn_key(value, (uint32_t)j);
    if (filter->size[i] == filter->capacity) compact(filter, i);
}

void knn_flush(knn_tile *tile) {
    knn_filter *filter = tile->filter;
    pthread_mutex_t *locks = filter->locks;
    const knn_hits *hits = &tile->hits;
    int64_t rows = tile->rows, columns = tile->columns;
    pthread_mutex_lock(locks + tile->row_block);
    for (int64_t h = 0; h < hits->count; h++) {
        int64_t r = hits->place[h] >> 16, c = hits->place[h] & 0xffff;
        if (!tile->diagonal || r != c) offer(filter, rows + r, columns + c, hits->value[h]);
    }
    memcpy(tile->row_bar, filter->threshold + rows, sizeof(float) * (size_t)filter->block[tile->row_block].count);
    pthread_mutex_unlock(locks + tile->row_block);
    if (tile->diagonal) {
        for (int64_t c = 0; c < tile->column_end; c++) tile->column_bar[c] = INFINITY;
    } else {
        pthread_mutex_lock(locks + tile->column_block);
        for (int64_t h = 0; h < hits->count; h++) {
            int64_t r = hits->place[h] >> 16, c = hits->place[h] & 0xffff;
            offer(filter, columns + c, rows + r, hits->value[h]);
        }
        memcpy(tile->column_bar, filter->threshold + columns, sizeof(float) * (size_t)tile->column_end);
        pthread_mutex_unlock(locks + tile->column_block);
    }
    tile->hits.count = 0;
}

/* What row i of cluster a adds to its bounds with rows of cluster b. */
static void upper(const knn_filter *filter, const knn_block *block, const knn_block *other, float *out) {
    const float *against = filter->against + other->cluster * filter->slots + block->start;
    const float *slack = filter->slack + block->start, half = (float)(0.5 * filter->between[block->cluster][other->cluster]);
    for (int64_t r = 0; r < block->count; r++) out[r] = against[r] - half + slack[r];
}

static void search(knn_tile *tile, int64_t row_block, int64_t column_block) {
    knn_filter *filter = tile->filter;
    const knn_block *rows = filter->block + row_block, *columns = filter->block + column_block;
    tile->row_block = row_block, tile->column_block = column_block;
    tile->rows = rows->start, tile->columns = columns->start;
    tile->row_end = rows->used, tile->column_end = columns->count;
    tile->diagonal = row_block == column_block;
    upper(filter, rows, columns, tile->row_upper);
    upper(filter, columns, rows, tile->column_upper);
    knn_flush(tile); /* no hits yet: reads the thresholds */
#if KNN_X86
    if (filter->path == KNN_INT8_AMX) knn_tile_amx(tile);
    else if (filter->path == KNN_INT8_VNNI) knn_tile_vnni(tile);
    else if (filter->path == KNN_INT8_AVXVNNI) knn_tile_avxvnni(tile);
    else
#endif
        knn_tile_float(tile);
    knn_flush(tile);
}

/* Fixed block f for a run of moving ones, in circulant order: thresholds rise early, and threads work apart. */
static void run_unit(knn_tile *tile, int64_t unit, knn_ticket *ticket) {
    knn_filter *filter = tile->filter;
    int64_t blocks = filter->blocks, f = unit % blocks, begin = unit / blocks * filter->run;
    int ready = 0;
    for (int64_t o = begin; o < least(begin + filter->run, filter->offsets); o++) {
        if (o && 2 * o == blocks && f >= blocks / 2) continue; /* the other half of this circle */
        if (knn_stopped(&ticket->stop)) return;
        int64_t m = (f + o) % blocks;
#if KNN_X86
        if (filter->path == KNN_INT8_AMX) {
            if (!ready) knn_fix_amx(filter, filter->block + f, tile->fixed);
            search(tile, f, m);
        } else if (knn_is_int8(filter->path)) {
            if (!ready && filter->path == KNN_INT8_VNNI) knn_fix_vnni(filter, filter->block + f, tile->fixed);
            else if (!ready) knn_fix_avxvnni(filter, filter->block + f, tile->fixed);
            search(tile, m, f);
        } else
#endif
        {
            if (!ready) knn_fix_float(filter, filter->block + f, tile->fixed, tile->line);
            knn_move_float(filter, filter->block + m, tile->moving, tile->line);
            search(tile, m, f);
        }
        ready = 1;
        __atomic_fetch_add(&ticket->done, 1, __ATOMIC_RELAXED);
    }
}

#ifndef HITS
#define HITS (1 << 14) /* handed over at once, or soon after */
#endif

static size_t block_bytes(const knn_filter *filter) {
    return (size_t)(filter->most * filter->padded) * (knn_is_int8(filter->path) ? 1 : sizeof(float));
}

size_t knn_tile_bytes(const knn_filter *filter) {
    return 2 * block_bytes(filter) + 8 * (HITS + KNN_MICRO + 64) + 16 * (size_t)filter->most + 8 * (size_t)filter->padded;
}

int knn_tiles_work(knn_filter *filter, knn_ticket *ticket) {
    size_t bytes = block_bytes(filter), hits = HITS + KNN_MICRO + 64, bar = sizeof(float) * (size_t)filter->most;
    int moving = !knn_is_int8(filter->path);
    knn_tile tile = {.filter = filter, .hits = {.limit = HITS}};
    tile.fixed = aligned_alloc(64, bytes);
    tile.moving = moving ? aligned_alloc(64, bytes) : NULL;
    tile.line = malloc(sizeof(float) * 2 * (size_t)(filter->padded + 8));
    float *bars = aligned_alloc(64, 4 * bar);
    tile.hits.place = malloc(sizeof(uint32_t) * hits);
    tile.hits.value = malloc(sizeof(float) * hits);
    int result = tile.fixed && (tile.moving || !moving) && tile.line && bars && tile.hits.place && tile.hits.value ? 0 : -1;
    tile.row_bar = bars, tile.column_bar = bars + filter->most;
    tile.row_upper = bars + 2 * filter->most, tile.column_upper = bars + 3 * filter->most;
    for (int64_t unit; !result && !knn_stopped(&ticket->pause) && (unit = knn_take(ticket, 1)) < filter->units &&
                       !knn_stopped(&ticket->stop);)
        run_unit(&tile, unit, ticket);
    free(tile.fixed), free(tile.moving), free(tile.line), free(bars), free(tile.hits.place), free(tile.hits.value);
    return result;
}

int64_t knn_filter_pack(knn_filter *filter, int64_t begin, int64_t end, int32_t *size, float *threshold, uint64_t *keys) {
    int64_t count = 0;
    for (int64_t s = begin; s < end; s++) {
        if (filter->size[s] > filter->k) compact(filter, s);
        size[s - begin] = filter->size[s];
        threshold[s - begin] = filter->threshold[s];
        memcpy(keys + count, filter->keys + s * filter->capacity, sizeof(uint64_t) * (size_t)filter->size[s]);
        count += filter->size[s];
    }
    return count;
}

/* Whether slot s can have these candidates. */
static int fits(const knn_filter *filter, int64_t s, const uint64_t *keys, int64_t own) {
    if (own < 0 || own >= filter->capacity || (own && filter->row[s] < 0)) return 0;
    for (int64_t c = 0; c < own; c++) {
        uint32_t other = knn_index(keys[c]);
        if (other >= filter->slots || other == s || filter->row[other] < 0) return 0;
    }
    return 1;
}

/* What either filter dropped is at most its threshold, so the higher one holds for both, and none below it may stay:
   the last stage takes the smallest candidate that is left as the bound of all that were dropped. */
int knn_filter_merge(knn_filter *filter, int64_t begin, int64_t end, const int32_t *size, const float *threshold,
                     const uint64_t *keys, int64_t count) {
    int64_t at = 0;
    for (int64_t s = begin; s < end; s++) {
        int64_t own = size[s - begin], left = 0;
        if (own > count - at || !fits(filter, s, keys + at, own)) return -1;
        uint64_t *mine = filter->keys + s * filter->capacity;
        float bar = threshold[s - begin];
        if (bar > filter->threshold[s]) filter->threshold[s] = bar;
        for (int64_t c = 0; c < filter->size[s]; c++) {
            uint64_t key = mine[c];
            mine[left] = key;
            left += knn_value(key) >= filter->threshold[s];
        }
        filter->size[s] = (int32_t)left;
        for (int64_t c = at; c < at + own; c++) offer(filter, s, knn_index(keys[c]), knn_value(keys[c]));
        at += own;
    }
    return at == count ? 0 : -1;
}

int knn_filter_unpack(knn_filter *filter, int64_t begin, int64_t end, const int32_t *size, const float *threshold,
                      const uint64_t *keys, int64_t count) {
    int64_t at = 0;
    for (int64_t s = begin; s < end; s++) {
        int64_t own = size[s - begin];
        if (own > count - at || !fits(filter, s, keys + at, own)) return -1;
        memcpy(filter->keys + s * filter->capacity, keys + at, sizeof(uint64_t) * (size_t)own);
        filter->size[s] = (int32_t)own, filter->threshold[s] = threshold[s - begin];
        at += own;
    }
    return at == count ? 0 : -1;
}

/* ---- third stage: exact ranking and proof ---- */

/* A walk from each row to the best of some candidates not yet met: rows that follow one another share candidates, so
   most of what ranking reads is in the cache already. */
void knn_tiles_end(knn_filter *filter) {
    int64_t n = filter->data->n, next = 0;
    int32_t *met = (int32_t *)filter->length; /* no longer used */
    for (int64_t s = 0; s < filter->slots; s++) met[s] = filter->row[s] < 0;
    for (int64_t taken = 0; taken < n;) {
        while (met[next]) next++;
        for (int64_t at = next, best; at >= 0; at = best) {
            const uint64_t *keys = filter->keys + at * filter->capacity;
            uint64_t highest = 0;
            filter->order[taken++] = (int32_t)at;
            met[at] = 1, best = -1;
            for (int64_t c = 0; c < least(filter->size[at], 64); c++)
                if (keys[c] > highest && !met[knn_index(keys[c])]) highest = keys[c], best = knn_index(highest);
        }
    }
}

/* The smallest key to the root. */
static void sift(uint64_t *heap, int64_t size, int64_t at) {
    uint64_t key = heap[at];
    for (int64_t child; (child = 2 * at + 1) < size; at = child) {
        if (child + 1 < size && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= key) break;
        heap[at] = heap[child];
    }
    heap[at] = key;
}

/* A similarity in the units of the upper bounds; infinity proves nothing. */
static double bar_of(const knn_filter *filter, uint64_t key) {
    double s = knn_value(key), scale = filter->scale * filter->scale;
    if (isinf(s)) return -INFINITY;
    if (filter->data->metric == KNN_EUCLIDEAN) return -0.5 * s * s * scale;
    return s * scale - filter->offset;
}

/* Rank the row in slot s into best[0..k); 1 if certified. Candidates come by falling upper bound, so once that is below the k-th
   exact similarity nothing further can matter, kept or not. */
static int rerank(const knn_filter *filter, int64_t s, uint64_t *best, uint64_t *fresh, uint32_t *list, float *scratch) {
    uint64_t *keys = filter->keys + s * filter->capacity;
    int64_t size = filter->size[s], k = filter->k, c = k, i = filter->row[s];
    int all = size < filter->kept || filter->kept == filter->data->n - 1; /* all that could reach the k-th are here */
    if (size < k) return 0; /* only from an unpacked file that says otherwise */
    if (size > filter->kept) {
        knn_select(keys, size, filter->kept);
        size = filter->kept;
    }
    knn_sort(keys, size);
    for (int64_t p = 0; p < size; p++) list[p] = (uint32_t)filter->row[knn_index(keys[p])];
    knn_exact(filter->data, i, list, k, best, scratch);
    for (int64_t at = k / 2 - 1; at >= 0; at--) sift(best, k, at);
    for (; c < size && !((double)knn_value(keys[c]) < bar_of(filter, best[0])); c += 8) {
        int64_t count = least(8, size - c);
        knn_exact(filter->data, i, list + c, count, fresh, scratch);
        for (int64_t p = 0; p < count; p++)
            if (fresh[p] > best[0]) {
                best[0] = fresh[p];
                sift(best, k, 0);
            }
    }
    knn_sort(best, k);
    double bar = bar_of(filter, best[k - 1]);
    return (all && bar > -INFINITY) || (double)knn_value(keys[size - 1]) < bar;
}

int knn_rerank_work(knn_filter *filter, knn_ticket *ticket, int32_t *indices, float *similarity, uint8_t *certified) {
    const int64_t step = 64, n = filter->data->n, k = filter->k;
    uint64_t *best = malloc(sizeof(uint64_t) * (size_t)(k + 8));
    uint32_t *list = malloc(sizeof(uint32_t) * (size_t)(filter->capacity + 8));
    float *scratch = malloc(sizeof(float) * 10 * (size_t)(filter->data->d + 8));
    uint64_t fresh[8];
    int result = best && list && scratch ? 0 : -1;
    for (int64_t t; !result && (t = knn_take(ticket, step)) < n && !knn_stopped(&ticket->stop);) {
        int64_t end = least(t + step, n);
        for (int64_t p = t; p < end; p++) {
            int64_t s = filter->order[p], i = filter->row[s];
            certified[i] = (uint8_t)rerank(filter, s, best, fresh, list, scratch);
            for (int64_t c = 0; c < k; c++) {
                indices[i * k + c] = (int32_t)knn_index(best[c]);
                similarity[i * k + c] = knn_value(best[c]);
            }
        }
        __atomic_fetch_add(&ticket->done, end - t, __ATOMIC_RELAXED);
    }
    free(best), free(list), free(scratch);
    return result;
}
