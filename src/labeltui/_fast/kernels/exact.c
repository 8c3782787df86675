/* Exact similarities: the definition every path of the graph agrees with, and the direct search built on it. */
#include "knn.h"

#include <math.h>
#include <string.h>
#if KNN_X86
#include <immintrin.h>
#endif

typedef float v8f __attribute__((vector_size(32)));
typedef double v8d __attribute__((vector_size(64)));

/* Vectors never cross a call that is not inlined, so their calling convention does not matter. */
#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

KNN_INLINE v8d widen8(const float *x) {
    v8f narrow;
    memcpy(&narrow, x, sizeof narrow);
    return __builtin_convertvector(narrow, v8d);
}

#define NAME(x) x##_c
#define TARGET
#define WIDEN(x) widen8(x)
#define MADD(x, y, z) ((x) * (y) + (z))
#include "exact_body.h"

#if KNN_X86
#define NAME(x) x##_avx2
#define TARGET __attribute__((target("avx2")))
#define WIDEN(x) widen8(x)
#define MADD(x, y, z) ((x) * (y) + (z))
#include "exact_body.h"
#define NAME(x) x##_avx512
#define TARGET __attribute__((target("avx512f")))
#define WIDEN(x) ((v8d)_mm512_cvtps_pd(_mm256_loadu_ps(x)))
#define MADD(x, y, z) ((v8d)_mm512_fmadd_pd((__m512d)(x), (__m512d)(y), (__m512d)(z)))
#include "exact_body.h"
#endif

int knn_best_isa(void) {
#if KNN_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
        return KNN_ISA_AVX512;
    if (__builtin_cpu_supports("avx2")) return KNN_ISA_AVX2;
#endif
    return KNN_ISA_C;
}

void knn_four(int isa, const float *x, const float *const y[4], int64_t d, int distance, double out[4]) {
#if KNN_X86
    if (isa == KNN_ISA_AVX512) { four_avx512(x, y, d, distance, out); return; }
    if (isa == KNN_ISA_AVX2) { four_avx2(x, y, d, distance, out); return; }
#endif
    (void)isa;
    four_c(x, y, d, distance, out);
}

static void eight(int isa, const double *wide, const float *y, int64_t padded, int distance, double out[8]) {
#if KNN_X86
    if (isa == KNN_ISA_AVX512) { eight_avx512(wide, y, padded, distance, out); return; }
    if (isa == KNN_ISA_AVX2) { eight_avx2(wide, y, padded, distance, out); return; }
#endif
    (void)isa;
    eight_c(wide, y, padded, distance, out);
}

/* IEEE half to float, any value: subnormals by one exact multiplication, no branch on the data. */
KNN_INLINE float half_to_float(uint16_t h) {
    union { uint32_t u; float f; } magic = {113u << 23}, value = {(uint32_t)(h & 0x7fff) << 13};
    uint32_t exponent = value.u & 0x0f800000u;
    value.u += (uint32_t)(127 - 15) << 23;
    if (exponent == 0x0f800000u) value.u += (uint32_t)(128 - 16) << 23;
    else if (exponent == 0) { value.u += 1u << 23; value.f -= magic.f; }
    value.u |= (uint32_t)(h & 0x8000) << 16;
    return value.f;
}

const float *knn_load(const knn_data *data, int64_t i, float *buffer) {
    const char *row = data->x + knn_row(data, i) * data->stride;
    if (!data->half) return (const float *)row;
    const uint16_t *h = (const uint16_t *)row;
    for (int64_t t = 0; t < data->d; t++) buffer[t] = half_to_float(h[t]);
    return buffer;
}

/* Similarity from a product or a squared distance. */
KNN_INLINE float finish(const knn_data *data, double value, int64_t i, int64_t j) {
    if (data->metric == KNN_COSINE) return (float)(value * (data->inverse[i] * data->inverse[j]));
    if (data->metric == KNN_EUCLIDEAN) return (float)-sqrt(value);
    return (float)value;
}

static uint64_t mix(uint64_t h) {
    h ^= h >> 32, h *= 0xd6e8feb86659fd93u;
    h ^= h >> 32, h *= 0xd6e8feb86659fd93u;
    return h ^ h >> 32;
}

void knn_row_stats(const knn_data *data, int64_t begin, int64_t end, double *squared, uint64_t *hash, uint8_t *finite) {
    size_t bytes = (size_t)data->d * (data->half ? 2 : 4);
    for (int64_t i = begin; i < end; i++) {
        const char *row = data->x + knn_row(data, i) * data->stride;
        uint64_t h[4] = {1, 2, 3, 4};
        size_t b = 0;
        for (; b + 32 <= bytes; b += 32)
            for (int l = 0; l < 4; l++) {
                uint64_t word;
                memcpy(&word, row + b + 8 * l, 8);
                h[l] = (h[l] ^ word) * 0x9e3779b97f4a7c15u;
                h[l] ^= h[l] >> 29;
            }
        for (; b < bytes; b += 2) {
            uint16_t word;
            memcpy(&word, row + b, 2);
            h[0] = mix(h[0] ^ word);
        }
        hash[i] = mix(h[0] ^ mix(h[1] ^ mix(h[2] ^ mix(h[3]))));
        double sum[KNN_LANES] = {0};
        if (data->half) {
            const uint16_t *x = (const uint16_t *)row;
            for (int64_t t = 0; t < data->d; t++) {
                double value = half_to_float(x[t]);
                sum[t % KNN_LANES] += value * value;
            }
        } else {
            const float *x = (const float *)row;
            int64_t t = 0;
            for (; t + KNN_LANES <= data->d; t += KNN_LANES)
                for (int l = 0; l < KNN_LANES; l++) sum[l] += (double)x[t + l] * x[t + l];
            for (int l = 0; t + l < data->d; l++) sum[l] += (double)x[t + l] * x[t + l];
        }
        for (int l = 0; l < 4; l++) sum[l] += sum[l + 4];
        double total = (sum[0] + sum[2]) + (sum[1] + sum[3]);
        squared[i] = total;
        /* Finite float32 cannot overflow this sum, and infinity or NaN cannot leave it. */
        finite[i] = isfinite(total) ? 1 : 0;
    }
}

int knn_same(const knn_data *data, int64_t i, int64_t j) {
    return !memcmp(data->x + knn_row(data, i) * data->stride, data->x + knn_row(data, j) * data->stride,
                   (size_t)data->d * (data->half ? 2 : 4));
}

/* Ask for the start of a row; the hardware fetches the rest once the loop runs along it. */
KNN_INLINE void prefetch(const knn_data *data, int64_t i) {
    const char *row = data->x + knn_row(data, i) * data->stride;
    for (int b = 0; b < 512; b += 64) __builtin_prefetch(row + b);
}

void knn_exact(const knn_data *data, int64_t i, const uint32_t *candidates, int64_t m, uint64_t *keys, float *scratch) {
    int64_t step = data->d + 8;
    const float *x = knn_load(data, i, scratch), *y[4];
    double out[4];
    for (int64_t c = 0; c < m; c += 4) {
        for (int64_t p = c + 4; p < c + 8 && p < m; p++) prefetch(data, candidates[p]);
        for (int s = 0; s < 4; s++) {
            int64_t p = c + s < m ? c + s : m - 1;
            y[s] = knn_load(data, candidates[p], scratch + (s + 1) * step);
        }
        knn_four(data->isa, x, y, data->d, data->metric == KNN_EUCLIDEAN, out);
        for (int s = 0; s < 4 && c + s < m; s++)
            keys[c + s] = knn_key(finish(data, out[s], i, candidates[c + s]), candidates[c + s]);
    }
}

void knn_brute_force(const knn_data *data, const int64_t *rows, int count, int64_t k, uint64_t *keys, int64_t capacity,
                double *wide, float *scratch, const int *stop) {
    int64_t padded = (data->d + 7) / 8 * 8, size[KNN_GROUP] = {0};
    uint64_t bar[KNN_GROUP] = {0}; /* the k-th largest key met so far is at least this */
    double out[KNN_GROUP];
    memset(wide, 0, sizeof(double) * KNN_GROUP * (size_t)padded);
    for (int r = 0; r < count; r++) {
        const float *x = knn_load(data, rows[r], scratch);
        for (int64_t t = 0; t < data->d; t++) wide[r * padded + t] = x[t];
    }
    float *line = scratch;
    memset(line, 0, sizeof(float) * (size_t)padded);
    for (int64_t j = 0; j < data->n; j++) {
        if (j % 4096 == 0 && knn_stopped(stop)) return;
        const float *y = knn_load(data, j, line);
        if (padded != data->d && y != line) {
            memcpy(line, y, sizeof(float) * (size_t)data->d);
            y = line;
        }
        eight(data->isa, wide, y, padded, data->metric == KNN_EUCLIDEAN, out);
        for (int r = 0; r < count; r++) {
            uint64_t key = knn_key(finish(data, out[r], rows[r], j), (uint32_t)j);
            if (key <= bar[r] || j == rows[r]) continue;
            uint64_t *list = keys + r * capacity;
            list[size[r]++] = key;
            if (size[r] == capacity) {
                knn_select(list, capacity, k);
                bar[r] = list[0];
                for (int64_t c = 1; c < k; c++)
                    if (list[c] < bar[r]) bar[r] = list[c];
                size[r] = k;
            }
        }
    }
    for (int r = 0; r < count; r++) {
        knn_select(keys + r * capacity, size[r], k);
        knn_sort(keys + r * capacity, k);
    }
}
