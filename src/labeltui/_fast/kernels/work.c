/* Loops that several threads run at once: each takes the next piece of work until none is left. */
#include "knn.h"

#include <stdlib.h>

int knn_row_stats_work(const knn_data *data, knn_ticket *ticket, double *squared, uint64_t *hash, uint8_t *finite) {
    const int64_t step = 256;
    for (int64_t begin; (begin = knn_take(ticket, step)) < data->n && !knn_stopped(&ticket->stop);) {
        int64_t end = begin + step < data->n ? begin + step : data->n;
        knn_row_stats(data, begin, end, squared, hash, finite);
        __atomic_fetch_add(&ticket->done, end - begin, __ATOMIC_RELAXED);
    }
    return 0;
}

static void store(const uint64_t *keys, int64_t m, int64_t k, int32_t *indices, float *similarity) {
    for (int64_t c = 0; c < k; c++) {
        indices[c] = c < m ? (int32_t)knn_index(keys[c]) : -1;
        similarity[c] = c < m ? knn_value(keys[c]) : 0.0f;
    }
}

int knn_brute_force_work(const knn_data *data, knn_ticket *ticket, const int64_t *targets, int64_t count, int64_t k,
                    int32_t *indices, float *similarity) {
    int64_t capacity = 2 * k > k + 64 ? 2 * k : k + 64;
    uint64_t *keys = malloc(sizeof(uint64_t) * KNN_GROUP * (size_t)capacity);
    double *wide = malloc(sizeof(double) * KNN_GROUP * (size_t)(data->d + 8));
    float *scratch = malloc(sizeof(float) * 10 * (size_t)(data->d + 8));
    int result = keys && wide && scratch ? 0 : -1;
    for (int64_t t; !result && !knn_stopped(&ticket->pause) && (t = knn_take(ticket, KNN_GROUP)) < count;) {
        int group = count - t < KNN_GROUP ? (int)(count - t) : KNN_GROUP;
        knn_brute_force(data, targets + t, group, k, keys, capacity, wide, scratch, &ticket->stop);
        if (knn_stopped(&ticket->stop)) break;
        for (int r = 0; r < group; r++)
            store(keys + r * capacity, k, k, indices + (t + r) * k, similarity + (t + r) * k);
        __atomic_fetch_add(&ticket->done, group, __ATOMIC_RELAXED);
    }
    free(keys), free(wide), free(scratch);
    return result;
}

int knn_rank_work(const knn_data *data, knn_ticket *ticket, const int32_t *candidates, int64_t m, int64_t k,
                  int32_t *indices, float *similarity) {
    const int64_t step = 64;
    uint64_t *keys = malloc(sizeof(uint64_t) * (size_t)(m + 1));
    uint32_t *list = malloc(sizeof(uint32_t) * (size_t)(m + 1));
    float *scratch = malloc(sizeof(float) * 10 * (size_t)(data->d + 8));
    int result = keys && list && scratch ? 0 : -1;
    for (int64_t t; !result && (t = knn_take(ticket, step)) < data->n && !knn_stopped(&ticket->stop);) {
        int64_t end = t + step < data->n ? t + step : data->n;
        for (int64_t i = t; i < end; i++) {
            int64_t kept = 0, unique = 0;
            for (int64_t c = 0; c < m; c++)
                if (candidates[i * m + c] >= 0 && candidates[i * m + c] != i) list[kept++] = (uint32_t)candidates[i * m + c];
            knn_exact(data, i, list, kept, keys, scratch);
            knn_sort(keys, kept);
            for (int64_t c = 0; c < kept; c++)
                if (!c || keys[c] != keys[unique - 1]) keys[unique++] = keys[c];
            store(keys, unique, k, indices + i * k, similarity + i * k);
        }
        __atomic_fetch_add(&ticket->done, end - t, __ATOMIC_RELAXED);
    }
    free(keys), free(list), free(scratch);
    return result;
}

/* Keys of the other rows that may be among the k best of row i, a member of group u; returns how many. */
static int64_t gather(uint64_t *keys, int64_t i, int64_t u, float self, const int64_t *start, const int64_t *members,
                      const int32_t *near, const float *near_similarity, int64_t near_k, int64_t k) {
    int64_t count = 0, entry = 0;
    int own = 0;
    float last = 0.0f;
    while (entry < near_k || !own) { /* the groups by falling similarity, the own one among them */
        int take_own = !own && (entry == near_k || self >= near_similarity[entry]);
        float value = take_own ? self : near_similarity[entry];
        int64_t group = take_own ? u : near[entry];
        if (take_own) own = 1;
        else entry++;
        if (count >= k && value < last) break;
        for (int64_t m = start[group], taken = 0; m < start[group + 1] && taken < k; m++)
            if (members[m] != i) keys[count++] = knn_key(value, (uint32_t)members[m]), taken++;
        last = value;
    }
    return count;
}

int knn_expand_duplicates_work(const knn_data *data, knn_ticket *ticket, int64_t n, const int64_t *of, const int64_t *start,
                    const int64_t *members, const int32_t *near, const float *near_similarity, int64_t near_k,
                    int64_t k, int32_t *indices, float *similarity) {
    const int64_t step = 64;
    int64_t room = n; /* k each of near_k + 1 groups, but never more than there are rows */
    if (near_k + 1 < n / k + 1) room = (near_k + 1) * k;
    uint64_t *keys = malloc(sizeof(uint64_t) * (size_t)(room + 1)), self;
    float *scratch = malloc(sizeof(float) * 10 * (size_t)(data->d + 8));
    int result = keys && scratch ? 0 : -1;
    for (int64_t t; !result && (t = knn_take(ticket, step)) < n && !knn_stopped(&ticket->stop);) {
        int64_t end = t + step < n ? t + step : n;
        for (int64_t i = t; i < end; i++) {
            int64_t u = of[i];
            uint32_t same = (uint32_t)u;
            knn_exact(data, u, &same, 1, &self, scratch);
            int64_t count = gather(keys, i, u, knn_value(self), start, members, near + u * near_k,
                                   near_similarity + u * near_k, near_k, k);
            knn_select(keys, count, k);
            knn_sort(keys, count < k ? count : k);
            store(keys, count < k ? count : k, k, indices + i * k, similarity + i * k);
        }
        __atomic_fetch_add(&ticket->done, end - t, __ATOMIC_RELAXED);
    }
    free(keys), free(scratch);
    return result;
}
