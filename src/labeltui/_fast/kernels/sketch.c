/* int8 copies of the rows with the numbers that bound their error. docs/kernels.md derives the bound. */
#include "knn.h"

#include <float.h>
#include <math.h>
#include <string.h>

typedef float v16f __attribute__((vector_size(64)));
typedef int32_t v16i __attribute__((vector_size(64)));
#define PICK(mask, a, b) ((v16f)(((mask) & (v16i)(a)) | (~(mask) & (v16i)(b))))

#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

/* A fair coin for each position: the same rotation everywhere. */
KNN_INLINE int knn_coin(uint64_t t) {
    t = (t + 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
    t = (t ^ t >> 27) * 0x94d049bb133111ebu;
    return (int)(t >> 63);
}

#define NAME(x) x##_c
#define TARGET
#include "sketch_body.h"

#if KNN_X86
#define NAME(x) x##_avx2
#define TARGET __attribute__((target("avx2")))
#include "sketch_body.h"
#define NAME(x) x##_avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq")))
#include "sketch_body.h"
#endif

static const double UNIT = 0x1p-24; /* half a unit in the last place of float32 */

double knn_residual(const knn_filter *filter, int64_t i, int64_t at, double times, float *buffer, float *out) {
    const knn_data *data = filter->data;
    const float *x = knn_load(data, i, buffer);
    const double *middle = filter->middle + at * filter->padded;
    double f = data->metric == KNN_COSINE ? data->inverse[i] : filter->scale;
#if KNN_X86
    if (data->isa == KNN_ISA_AVX512) return residual_avx512(x, middle, f, times, data->d, out);
    if (data->isa == KNN_ISA_AVX2) return residual_avx2(x, middle, f, times, data->d, out);
#endif
    return residual_c(x, middle, f, times, data->d, out);
}

void knn_sketch_int8(knn_filter *filter, int64_t group, float *line, float *buffer) {
    const knn_data *data = filter->data;
    int64_t padded = filter->padded, first = group * 16, power = 64;
    while (power * 2 <= padded) power *= 2;
    memset(buffer, 0, sizeof(float) * 16 * (size_t)padded);
    double squared[16] = {0};
    float *y = line + padded + 8;
    for (int r = 0; r < 16; r++) {
        int64_t i = filter->row[first + r];
        if (i < 0) continue;
        squared[r] = knn_residual(filter, i, filter->cluster[i], 1.0, line, y);
        for (int64_t t = 0; t < data->d; t++) buffer[t * 16 + r] = y[t];
    }
    float scale[16], error[16], length[16];
    int32_t sums[16];
    int8_t *out = filter->panel + first * padded;
#if KNN_X86
    if (data->isa == KNN_ISA_AVX512)
        sketch_avx512((v16f *)buffer, padded, power, out, scale, error, length, sums);
    else if (data->isa == KNN_ISA_AVX2)
        sketch_avx2((v16f *)buffer, padded, power, out, scale, error, length, sums);
    else
#endif
        sketch_c((v16f *)buffer, padded, power, out, scale, error, length, sums);

    /* Rounding steps of a value: into float32, log2(power) + 2 in each of two transforms, two in the quantiser. */
    double steps = 2.0 * log2((double)power) + 8.0, sum_error = 1.0 + 2.0 * (double)padded * UNIT;
    for (int r = 0; r < 16; r++) {
        int64_t slot = first + r;
        filter->factor[slot] = scale[r];
        filter->sums[slot] = 128 * sums[r];
        filter->length[slot] = (float)(1.0001 * sqrt((double)length[r] * sum_error));
        filter->error[slot] = (float)(1.0001 * (sqrt((double)error[r] * sum_error) + steps * UNIT * sqrt(squared[r])));
    }
}

/* The float paths recompute a residual for every tile; a power of two brings its length near 1. */
void knn_sketch_float(knn_filter *filter, int64_t slot, float *line) {
    int64_t i = filter->row[slot];
    filter->factor[slot] = 1.0f, filter->length[slot] = filter->error[slot] = 0.0f;
    if (i < 0) return;
    double length = sqrt(knn_residual(filter, i, filter->cluster[i], 1.0, line, line + filter->padded + 8));
    int exponent = 0;
    frexp(length, &exponent);
    if (exponent < -120) exponent = -120; /* the power and its inverse are float32 numbers */
    filter->factor[slot] = (float)ldexp(1.0, exponent);
    filter->length[slot] = (float)(1.0001 * length);
    filter->error[slot] = (float)(2.0 * UNIT * length);
}
