/* Runs the neighbour kernels without Python, for the sanitizers: every path on small, odd and repeated inputs, in two
   threads, with arrays of exactly the promised size, against the direct search. Exit status 0 when all agree. */
#include "knn.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state = 88172645463325252u;

static double uniform(void) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (double)(state >> 11) * 0x1p-53;
}

static void *fresh(size_t bytes) {
    void *memory = malloc(bytes);
    if (!memory) exit(2);
    return memory;
}

enum { FACTS, ASSIGN, SKETCH, TILES, FINISH, DIRECT, RANK, SPREAD };

typedef struct {
    int stage, result;
    knn_data *data;
    knn_filter *filter;
    knn_ticket *ticket;
    double *squared;
    uint64_t *hash;
    uint8_t *finite, *certified;
    int64_t *all, k;
    int32_t *indices, *other;
    float *similarity;
} job;

static void *work(void *argument) {
    job *j = argument;
    if (j->stage == FACTS) j->result = knn_row_stats_work(j->data, j->ticket, j->squared, j->hash, j->finite);
    if (j->stage == ASSIGN) j->result = knn_assign_work(j->filter, j->ticket);
    if (j->stage == SKETCH) j->result = knn_sketch_work(j->filter, j->ticket);
    if (j->stage == TILES) j->result = knn_tiles_work(j->filter, j->ticket);
    if (j->stage == FINISH) j->result = knn_rerank_work(j->filter, j->ticket, j->indices, j->similarity, j->certified);
    if (j->stage == DIRECT)
        j->result = knn_brute_force_work(j->data, j->ticket, j->all, j->data->n, j->k, j->indices, j->similarity);
    if (j->stage == RANK)
        j->result = knn_rank_work(j->data, j->ticket, j->other, j->k, j->k, j->indices, j->similarity);
    if (j->stage == SPREAD) /* every row its own group: the same graph again */
        j->result = knn_expand_duplicates_work(j->data, j->ticket, j->data->n, j->all, j->all, j->all, j->other, j->similarity,
                                    j->k, j->k, j->indices, j->similarity);
    return NULL;
}

static void run(job j, int stage) {
    knn_ticket ticket = {0};
    j.stage = stage, j.ticket = &ticket;
    job team[2] = {j, j};
    pthread_t threads[2];
    for (int t = 0; t < 2; t++)
        if (pthread_create(threads + t, NULL, work, team + t)) exit(2);
    for (int t = 0; t < 2; t++) pthread_join(threads[t], NULL);
    if (team[0].result || team[1].result) exit(2);
}

/* A matrix of n of n_x rows; kind 0 random, 1 few distinct rows, 2 sparse, 3 nearly equal rows. */
static int check(int64_t n, int64_t d, int64_t k, int metric, int half, int kind, int64_t block) {
    int64_t n_x = n + 3, faults = 0;
    size_t width = half ? 2 : 4;
    char *x = fresh((size_t)(n_x * d) * width);
    for (int64_t e = 0; e < n_x * d; e++) {
        int64_t r = e / d;
        if (kind == 1) state = (uint64_t)(e % d + 1 + r % 5 * 7919) * 0x9e3779b97f4a7c15u;
        double value = uniform() * 2 - 1;
        if (kind == 2 && uniform() < 0.6) value = 0;
        if (kind == 3) value = 1 + 1e-3 * value;
        if (e % d == 0) value += 0.5; /* no zero row */
        if (half) ((uint16_t *)(void *)x)[e] = (uint16_t)((uint64_t)(fabs(value) * 20000) & 0x7bff);
        else ((float *)(void *)x)[e] = (float)value;
    }
    int64_t *rows = fresh(sizeof(int64_t) * (size_t)n), *all = fresh(sizeof(int64_t) * (size_t)(n + 1));
    for (int64_t i = 0; i < n; i++) rows[i] = n_x - 1 - i;
    for (int64_t i = 0; i <= n; i++) all[i] = i;
    knn_data data = {.x = x, .stride = (ptrdiff_t)((size_t)d * width), .half = half, .metric = metric,
                     .isa = knn_best_isa(), .n = n, .rows = rows, .d = d,
                     .inverse = fresh(sizeof(double) * (size_t)n)};
    size_t cells = (size_t)(n * k);
    job j = {.data = &data, .k = k, .all = all, .squared = fresh(sizeof(double) * (size_t)n),
             .hash = fresh(sizeof(uint64_t) * (size_t)n), .finite = fresh((size_t)n), .certified = fresh((size_t)n),
             .indices = fresh(sizeof(int32_t) * cells), .other = fresh(sizeof(int32_t) * cells),
             .similarity = fresh(sizeof(float) * cells)};
    run(j, FACTS);
    double longest = 0;
    for (int64_t i = 0; i < n; i++) {
        data.inverse[i] = 1 / sqrt(j.squared[i]);
        longest = fmax(longest, sqrt(j.squared[i]));
    }
    run(j, DIRECT);
    int32_t *truth = fresh(sizeof(int32_t) * cells);
    memcpy(truth, j.indices, sizeof(int32_t) * cells);
    memcpy(j.other, truth, sizeof(int32_t) * cells);
    run(j, RANK);
    faults += memcmp(truth, j.indices, sizeof(int32_t) * cells) != 0;
    for (int path = 0; path < KNN_PATHS; path++) {
        if (!knn_path_supported(path)) continue;
        knn_filter filter;
        if (knn_filter_open(&filter, &data, path, k, longest, block, 0)) exit(2);
        j.filter = &filter;
        run(j, ASSIGN);
        if (knn_assign_end(&filter)) exit(2);
        run(j, SKETCH);
        knn_sketch_end(&filter);
        run(j, TILES);
        knn_tiles_end(&filter);
        run(j, FINISH);
        for (int64_t i = 0; i < n; i++)
            if (j.certified[i] && memcmp(truth + i * k, j.indices + i * k, sizeof(int32_t) * (size_t)k)) {
                fprintf(stderr, "path %d metric %d n %d d %d k %d: row %d\n", path, metric, (int)n, (int)d, (int)k, (int)i);
                faults++;
            }
        knn_filter_close(&filter);
    }
    if (kind != 1) { /* groups of one row are only right where rows differ */
        job s = j;
        s.indices = fresh(sizeof(int32_t) * cells);
        float *copy = fresh(sizeof(float) * cells);
        run(j, DIRECT);
        memcpy(copy, j.similarity, sizeof(float) * cells);
        run(s, SPREAD);
        faults += memcmp(truth, s.indices, sizeof(int32_t) * cells) != 0;
        faults += memcmp(copy, s.similarity, sizeof(float) * cells) != 0;
        free(s.indices), free(copy);
    }
    free(x), free(rows), free(all), free(data.inverse), free(j.squared), free(j.hash), free(j.finite), free(j.certified);
    free(j.indices), free(j.other), free(j.similarity), free(truth);
    return (int)faults;
}

int main(void) {
    int faults = 0;
    for (int metric = 0; metric < 3; metric++) {
        faults += check(2, 1, 1, metric, 0, 0, 0);
        faults += check(3, 5, 2, metric, 1, 0, 0);
        faults += check(97, 64, 96, metric, 0, 0, 96);
        faults += check(250, 67, 10, metric, 0, 2, 96);
        faults += check(400, 130, 3, metric, 1, 1, 96);
        faults += check(300, 33, 5, metric, 0, 3, 192);
    }
    return faults != 0;
}
