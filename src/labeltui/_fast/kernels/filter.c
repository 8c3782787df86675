/* The graph in three stages: sketch every row, search tiles of the symmetric product, rank and prove. */
#include "knn.h"

#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- layout ---- */

static void *take(knn_filter *filter, int dry, size_t count, size_t size) {
    size_t bytes = (count * size + 127) / 64 * 64;
    filter->bytes += bytes;
    return dry ? NULL : aligned_alloc(64, bytes);
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }
static int is_int8(int path) { return path >= KNN_INT8_AVXVNNI; }

#ifndef HITS
#define HITS (1 << 14) /* handed over at once, or soon after */
#endif

static size_t block_bytes(const knn_filter *filter) {
    return (size_t)(filter->block * filter->padded) * (is_int8(filter->path) ? 1 : sizeof(float));
}

/* The rows' mean, from an even sample: any vector is valid, a good one makes the error small. */
static void find_mean(knn_filter *filter, double *sum, float *line) {
    const knn_data *data = filter->data;
    int64_t step = data->n / 4096 + 1, count = 0;
    for (int64_t i = 0; i < data->n; i += step, count++) {
        const float *x = knn_load(data, i, line);
        double f = data->metric == KNN_COSINE ? data->inverse[i] : filter->scale;
        for (int64_t t = 0; t < data->d; t++) sum[t] += f * x[t];
    }
    for (int64_t t = 0; t < data->d; t++) {
        filter->mean[t] = (float)(sum[t] / (double)count);
        filter->mean_squared += (double)filter->mean[t] * filter->mean[t];
    }
}

int knn_filter_open(knn_filter *filter, const knn_data *data, int path, int64_t k, double longest, int64_t block,
                    int dry) {
    memset(filter, 0, sizeof *filter);
    int64_t n = data->n, d = data->d;
    filter->data = data, filter->path = path, filter->k = k;
    filter->kept = least(n - 1, 2 * k + 44);
    filter->capacity = filter->kept + most(48, filter->kept / 2);
    filter->padded = (d + 63) / 64 * 64;
    int64_t budget = is_int8(path) ? 1 << 18 : 1 << 20, row = filter->padded * (is_int8(path) ? 1 : 4);
    filter->block = least(most(budget / row / 96, 1) * 96, least(768, (n + 95) / 96 * 96));
    if (block > 0) filter->block = (block + 95) / 96 * 96;
    filter->blocks = (n + filter->block - 1) / filter->block;
    filter->offsets = filter->blocks / 2 + 1;
    filter->run = most(1, least(8, filter->blocks / 16));
    filter->units = (filter->offsets + filter->run - 1) / filter->run * filter->blocks;
    int exponent = 0;
    frexp(longest, &exponent);
    filter->scale = data->metric == KNN_COSINE ? 1.0 : ldexp(1.0, -exponent);

    size_t rows = (size_t)(filter->blocks * filter->block);
    filter->factor = take(filter, dry, rows, sizeof(float));
    filter->upper = take(filter, dry, rows, sizeof(float));
    filter->slack = take(filter, dry, rows, sizeof(float));
    filter->threshold = take(filter, dry, rows, sizeof(float));
    filter->length = take(filter, dry, rows, sizeof(float));
    filter->error = take(filter, dry, rows, sizeof(float));
    filter->sums = take(filter, dry, rows, sizeof(int32_t));
    filter->mean = take(filter, dry, (size_t)filter->padded + 8, sizeof(float));
    filter->size = take(filter, dry, (size_t)n, sizeof(int32_t));
    filter->order = take(filter, dry, (size_t)n, sizeof(int32_t));
    filter->keys = take(filter, dry, (size_t)(n * filter->capacity), sizeof(uint64_t));
    filter->locks = take(filter, dry, (size_t)filter->blocks, sizeof(pthread_mutex_t));
    if (is_int8(path)) filter->panel = take(filter, dry, rows, (size_t)filter->padded);
    filter->each = 2 * block_bytes(filter) + 8 * (HITS + KNN_MICRO + 64) + 8 * (size_t)filter->block +
                   80 * (size_t)filter->padded + 8 * (size_t)(2 * filter->capacity) + 1024;
    if (dry) return 0;
    double *sum = calloc((size_t)filter->padded, sizeof(double));
    float *line = malloc(sizeof(float) * (size_t)(d + 8));
    int missing = !filter->factor || !filter->upper || !filter->slack || !filter->threshold || !filter->length ||
                  !filter->error || !filter->sums || !filter->mean || !filter->size || !filter->order || !filter->keys ||
                  !filter->locks || (is_int8(path) && !filter->panel) || !sum || !line;
    if (filter->locks)
        for (int64_t b = 0; b < filter->blocks; b++) pthread_mutex_init((pthread_mutex_t *)filter->locks + b, NULL);
    if (!missing) {
        memset(filter->size, 0, sizeof(int32_t) * (size_t)n);
        memset(filter->mean, 0, sizeof(float) * (size_t)(filter->padded + 8));
        if (is_int8(path) || data->metric == KNN_EUCLIDEAN) find_mean(filter, sum, line);
    }
    free(sum), free(line);
    return missing ? -1 : 0;
}

void knn_filter_close(knn_filter *filter) {
    if (filter->locks)
        for (int64_t b = 0; b < filter->blocks; b++) pthread_mutex_destroy((pthread_mutex_t *)filter->locks + b);
    void *all[] = {filter->factor, filter->upper, filter->slack, filter->threshold, filter->length, filter->error,
                   filter->sums, filter->mean, filter->size, filter->order, filter->keys, filter->locks, filter->panel};
    for (size_t p = 0; p < sizeof all / sizeof *all; p++) free(all[p]);
    memset(filter, 0, sizeof *filter);
}

/* ---- first stage: what is stored of each row ---- */

/* The float paths read the rows themselves, scaled by a power of two to a length near 1. */
static void sketch_float(knn_filter *filter, int64_t i, float *line) {
    const knn_data *data = filter->data;
    if (i >= data->n) {
        filter->factor[i] = filter->length[i] = filter->error[i] = filter->upper[i] = filter->slack[i] = 0.0f;
        return;
    }
    double squared = 0.0, scale = filter->scale;
    const float *x = knn_load(data, i, line);
    if (data->metric == KNN_EUCLIDEAN) {
        double lanes[8] = {0};
        for (int64_t t = 0; t < data->d; t++) {
            double y = x[t] - filter->mean[t] / scale;
            lanes[t % 8] += y * y;
        }
        for (int l = 0; l < 8; l++) squared += lanes[l];
    } else if (data->metric == KNN_DOT) {
        for (int64_t t = 0; t < data->d; t++) squared += (double)x[t] * x[t];
    } else {
        squared = 1.0 / (data->inverse[i] * data->inverse[i]);
    }
    int exponent = 0;
    frexp(sqrt(squared), &exponent);
    double power = ldexp(1.0, (int)least(126, most(-126, -exponent)));
    filter->length[i] = (float)power;
    filter->factor[i] = (float)((data->metric == KNN_COSINE ? data->inverse[i] : scale) / power);
    double size = data->metric == KNN_COSINE ? 1.0 : squared * scale * scale;
    filter->upper[i] = data->metric == KNN_EUCLIDEAN ? (float)(-0.5 * size) : 0.0f;
    filter->slack[i] = (float)size;
    filter->error[i] = 0.0f;
}

int knn_sketch_work(knn_filter *filter, knn_ticket *ticket) {
    int64_t groups = filter->blocks * filter->block / 16, step = 16;
    float *line = malloc(sizeof(float) * 2 * (size_t)(filter->padded + 8));
    float *buffer = aligned_alloc(64, sizeof(float) * 16 * (size_t)filter->padded);
    int result = line && buffer ? 0 : -1;
    for (int64_t g; !result && (g = knn_take(ticket, step)) < groups && !knn_stopped(&ticket->stop);) {
        int64_t end = least(g + step, groups);
        for (int64_t group = g; group < end; group++) {
            if (is_int8(filter->path)) knn_sketch_int8(filter, group, line, buffer);
            else for (int r = 0; r < 16; r++) sketch_float(filter, group * 16 + r, line);
        }
        __atomic_fetch_add(&ticket->done, end - g, __ATOMIC_RELAXED);
    }
    free(line), free(buffer);
    return result;
}

void knn_sketch_end(knn_filter *filter) {
    int64_t n = filter->data->n, rows = filter->blocks * filter->block;
    double lengths = 0.0, errors = 0.0;
    for (int64_t i = 0; i < n; i++) {
        lengths += (double)filter->length[i] * filter->length[i];
        errors += (double)filter->error[i] * filter->error[i];
    }
    /* |s - s'| <= Q_i E_j + E_i Q_j + E_i E_j, split into a part of i and a part of j by 2ab <= ratio a^2 + b^2 / ratio,
       tight when all rows have the same E / Q = ratio. The float paths: |s - s'| <= (d + 8) 2^-24 |x_i| |x_j|. */
    double ratio = sqrt(errors / (lengths > 0.0 ? lengths : 1.0)), product = ((double)filter->padded + 8.0) * 0x1p-24;
    if (ratio < 1e-12) ratio = 1e-12;
    /* Rounding to float32 may not make equal what the bound tells apart, not even among subnormals. */
    double tiny = 0x1p-146 * filter->scale * (filter->data->metric == KNN_EUCLIDEAN ? 1.0 : filter->scale) + 1e-30;
    for (int64_t i = 0; i < rows; i++) {
        double q = (double)filter->length[i] * filter->length[i], e = (double)filter->error[i] * filter->error[i];
        double size = filter->slack[i], base = filter->upper[i];
        double slack = is_int8(filter->path) ? 0.5 * (ratio * q + e / ratio + e) : 0.5 * product * size;
        /* Rounding of this number, of the tile's arithmetic and of the result. */
        slack = 1.0001 * slack + 0x1p-19 * (size + e + (is_int8(filter->path) ? q : 0.0) + fabs(base)) + tiny;
        filter->slack[i] = (float)slack;
        filter->upper[i] = i < n ? (float)(base + slack) : -INFINITY;
        filter->threshold[i] = i < n ? -FLT_MAX : INFINITY;
        if (i >= n) filter->factor[i] = 0.0f;
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
    size_t bytes = sizeof(float) * (size_t)filter->block;
    pthread_mutex_lock(locks + tile->row_block);
    for (int64_t h = 0; h < hits->count; h++) {
        int64_t r = hits->place[h] >> 16, c = hits->place[h] & 0xffff;
        if (!tile->diagonal || r != c) offer(filter, rows + r, columns + c, hits->value[h]);
    }
    memcpy(tile->row_bar, filter->threshold + rows, bytes);
    pthread_mutex_unlock(locks + tile->row_block);
    if (tile->diagonal) {
        for (int64_t c = 0; c < filter->block; c++) tile->column_bar[c] = INFINITY;
    } else {
        pthread_mutex_lock(locks + tile->column_block);
        for (int64_t h = 0; h < hits->count; h++) {
            int64_t r = hits->place[h] >> 16, c = hits->place[h] & 0xffff;
            offer(filter, columns + c, rows + r, hits->value[h]);
        }
        memcpy(tile->column_bar, filter->threshold + columns, bytes);
        pthread_mutex_unlock(locks + tile->column_block);
    }
    tile->hits.count = 0;
}

static void search(knn_tile *tile, int64_t row_block, int64_t column_block) {
    knn_filter *filter = tile->filter;
    tile->row_block = row_block, tile->column_block = column_block;
    tile->rows = row_block * filter->block, tile->columns = column_block * filter->block;
    tile->row_end = least(filter->block, filter->data->n - tile->rows);
    tile->diagonal = row_block == column_block;
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
            if (!ready) knn_fix_amx(filter, f, tile->fixed);
            search(tile, f, m);
        } else if (is_int8(filter->path)) {
            if (!ready && filter->path == KNN_INT8_VNNI) knn_fix_vnni(filter, f, tile->fixed);
            else if (!ready) knn_fix_avxvnni(filter, f, tile->fixed);
            search(tile, m, f);
        } else
#endif
        {
            if (!ready) knn_fix_float(filter, f, tile->fixed, tile->line);
            knn_move_float(filter, m, tile->moving, tile->line);
            search(tile, m, f);
        }
        ready = 1;
        __atomic_fetch_add(&ticket->done, 1, __ATOMIC_RELAXED);
    }
}

int knn_tiles_work(knn_filter *filter, knn_ticket *ticket) {
    size_t bytes = block_bytes(filter), hits = HITS + KNN_MICRO + 64;
    knn_tile tile = {.filter = filter, .hits = {.limit = HITS}};
    tile.fixed = aligned_alloc(64, bytes);
    tile.moving = is_int8(filter->path) ? NULL : aligned_alloc(64, bytes);
    tile.line = malloc(sizeof(float) * (size_t)(filter->data->d + 8));
    tile.row_bar = aligned_alloc(64, sizeof(float) * (size_t)filter->block);
    tile.column_bar = aligned_alloc(64, sizeof(float) * (size_t)filter->block);
    tile.hits.place = malloc(sizeof(uint32_t) * hits);
    tile.hits.value = malloc(sizeof(float) * hits);
    int result = tile.fixed && (tile.moving || is_int8(filter->path)) && tile.line && tile.row_bar && tile.column_bar &&
                 tile.hits.place && tile.hits.value ? 0 : -1;
    for (int64_t unit; !result && (unit = knn_take(ticket, 1)) < filter->units && !knn_stopped(&ticket->stop);)
        run_unit(&tile, unit, ticket);
    free(tile.fixed), free(tile.moving), free(tile.line), free(tile.row_bar), free(tile.column_bar);
    free(tile.hits.place), free(tile.hits.value);
    return result;
}

/* ---- third stage: exact ranking and proof ---- */

/* A walk from each row to the best of some candidates not yet met: rows that follow one another share candidates, so
   most of what ranking reads is in the cache already. */
void knn_tiles_end(knn_filter *filter) {
    int64_t n = filter->data->n, next = 0;
    int32_t *met = (int32_t *)filter->length; /* no longer used */
    memset(met, 0, sizeof(int32_t) * (size_t)n);
    for (int64_t at = 0, taken = 0; taken < n; taken++) {
        filter->order[taken] = (int32_t)at;
        met[at] = 1;
        const uint64_t *keys = filter->keys + at * filter->capacity;
        uint64_t best = 0;
        for (int64_t c = 0; c < least(filter->size[at], 64); c++)
            if (keys[c] > best && !met[knn_index(keys[c])]) best = keys[c];
        if (best) at = knn_index(best);
        else {
            while (next < n && met[next]) next++;
            at = next;
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
    return s * scale;
}

/* Rank row i into best[0..k); 1 if proven. Candidates come by falling upper bound, so once that is below the k-th
   exact similarity nothing further can matter, kept or not. */
static int finish(const knn_filter *filter, int64_t i, uint64_t *best, uint64_t *fresh, uint32_t *list, float *scratch) {
    uint64_t *keys = filter->keys + i * filter->capacity;
    int64_t size = filter->size[i], k = filter->k, c = k;
    int all = size < filter->kept || filter->kept == filter->data->n - 1; /* all that could reach the k-th are here */
    if (size > filter->kept) {
        knn_select(keys, size, filter->kept);
        size = filter->kept;
    }
    knn_sort(keys, size);
    for (int64_t p = 0; p < size; p++) list[p] = knn_index(keys[p]);
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

int knn_finish_work(knn_filter *filter, knn_ticket *ticket, int32_t *indices, float *similarity, uint8_t *proven) {
    const int64_t step = 64, n = filter->data->n, k = filter->k;
    uint64_t *best = malloc(sizeof(uint64_t) * (size_t)(k + 8));
    uint32_t *list = malloc(sizeof(uint32_t) * (size_t)(filter->capacity + 8));
    float *scratch = malloc(sizeof(float) * 10 * (size_t)(filter->data->d + 8));
    uint64_t fresh[8];
    int result = best && list && scratch ? 0 : -1;
    for (int64_t t; !result && (t = knn_take(ticket, step)) < n && !knn_stopped(&ticket->stop);) {
        int64_t end = least(t + step, n);
        for (int64_t p = t; p < end; p++) {
            int64_t i = filter->order[p];
            proven[i] = (uint8_t)finish(filter, i, best, fresh, list, scratch);
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
