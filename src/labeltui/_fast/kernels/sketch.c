/* int8 copies of the rows with the numbers that bound their error. docs/kernels.md derives the bound. */
#include "knn.h"

#include <float.h>
#include <math.h>
#include <string.h>

typedef float v16f __attribute__((vector_size(64)));
typedef int32_t v16i __attribute__((vector_size(64)));
typedef float v8f __attribute__((vector_size(32)));
typedef double v8d __attribute__((vector_size(64)));
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

static void centre(const knn_data *data, const float *x, const float *mean, double f, float *out, double *squared,
                   double *against) {
#if KNN_X86
    if (data->isa == KNN_ISA_AVX512) { centre_avx512(x, mean, f, data->d, out, squared, against); return; }
    if (data->isa == KNN_ISA_AVX2) { centre_avx2(x, mean, f, data->d, out, squared, against); return; }
#endif
    centre_c(x, mean, f, data->d, out, squared, against);
}

/* line: 2 * (padded + 8) floats; buffer: 16 * padded floats, aligned to 64 bytes. */
void knn_sketch_int8(knn_filter *filter, int64_t group, float *line, float *buffer) {
    const knn_data *data = filter->data;
    int64_t padded = filter->padded, first = group * 16, power = 64;
    while (power * 2 <= padded) power *= 2;
    memset(buffer, 0, sizeof(float) * 16 * (size_t)padded);
    double squared[16] = {0}, against[16] = {0};
    for (int r = 0; r < 16 && first + r < data->n; r++) {
        const float *x = knn_load(data, first + r, line);
        float *y = line + padded + 8;
        centre(data, x, filter->mean, data->metric == KNN_COSINE ? data->inverse[first + r] : filter->scale, y,
               &squared[r], &against[r]);
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
        int64_t i = first + r;
        filter->factor[i] = scale[r];
        filter->sums[i] = 128 * sums[r];
        filter->length[i] = (float)(1.0001 * sqrt((double)length[r] * sum_error));
        filter->error[i] = (float)(1.0001 * (sqrt((double)error[r] * sum_error) + steps * UNIT * sqrt(squared[r])));
        if (data->metric == KNN_EUCLIDEAN) { /* -distance^2 / 2 */
            filter->upper[i] = (float)(-0.5 * squared[r]);
            filter->slack[i] = (float)squared[r];
        } else { /* f x = y + mean; (y_i + mean) . (y_j + mean) */
            filter->upper[i] = (float)(against[r] + 0.5 * filter->mean_squared);
            filter->slack[i] = (float)(squared[r] + 2.0 * fabs(against[r]) + filter->mean_squared);
        }
    }
}
