/* Tiles of float32 products for every CPU: plain C, AVX2 with FMA, AVX-512. */
#include "knn.h"

#include <string.h>
#if KNN_X86
#include "scan512.h"

#include <immintrin.h>
#endif

#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

/* The residual in a slot as the float paths multiply it; zeros in padding. out: d rounded up to a multiple of 8. */
static void residual(const knn_filter *filter, int64_t slot, float *line, float *out) {
    int64_t i = filter->row[slot];
    if (i < 0) memset(out, 0, sizeof(float) * (size_t)filter->data->d);
    else knn_residual(filter, i, filter->cluster[i], 1.0 / filter->factor[slot], line, out);
}

/* Bits of a comparison; most are empty, so the lanes are looked at only when there is something to see. */
#define EMIT_BITS(NAME, v, row_bar, column_bar, place, hits, BITS)                      \
    do {                                                                                \
        NAME(vf) value_ = v;                                                            \
        unsigned bits_ = BITS((value_ >= (row_bar)) | (value_ >= (column_bar)));        \
        while (bits_) {                                                                 \
            unsigned lane_ = (unsigned)__builtin_ctz(bits_);                            \
            (hits)->place[(hits)->count] = (place) + lane_;                             \
            (hits)->value[(hits)->count++] = value_[lane_];                             \
            bits_ &= bits_ - 1;                                                         \
        }                                                                               \
    } while (0)

#if defined(__SSE2__)
#define BITS_C(mask) (unsigned)_mm_movemask_ps((__m128)(mask))
#else
typedef int32_t mask4 __attribute__((vector_size(16)));
static inline unsigned bits4(mask4 mask) {
    uint64_t half[2];
    memcpy(half, &mask, sizeof half);
    if (!(half[0] | half[1])) return 0;
    return (mask[0] & 1) | (mask[1] & 2) | (mask[2] & 4) | (mask[3] & 8);
}
#define BITS_C(mask) bits4(mask)
#endif

#define NAME(x) x##_c
#define TARGET
#define W 4
#if defined(__aarch64__)
#include <arm_neon.h>
#define R 8 /* 32 registers */
#define MADD(x, y, z) ((vf_c)vfmaq_f32((float32x4_t)(z), (float32x4_t)(x), (float32x4_t)(y)))
#else
#define R 4
#define MADD(x, y, z) ((x) * (y) + (z))
#endif
#define EMIT(NAME, v, row_bar, column_bar, place, hits) EMIT_BITS(NAME, v, row_bar, column_bar, place, hits, BITS_C)
#include "float_body.h"

#if KNN_X86
#define NAME(x) x##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define W 8
#define R 4
#define MADD(x, y, z) ((vf_avx2)_mm256_fmadd_ps((__m256)(x), (__m256)(y), (__m256)(z)))
#define BITS_AVX2(mask) (unsigned)_mm256_movemask_ps((__m256)(mask))
#define EMIT(NAME, v, row_bar, column_bar, place, hits) EMIT_BITS(NAME, v, row_bar, column_bar, place, hits, BITS_AVX2)
#include "float_body.h"

#define NAME(x) x##_avx512
#define TARGET __attribute__((target("avx512f,avx512dq,popcnt")))
#define W 16
#define R 8
#define MADD(x, y, z) ((vf_avx512)_mm512_fmadd_ps((__m512)(x), (__m512)(y), (__m512)(z)))
#define EMIT(NAME, v, row_bar, column_bar, at, hits)                                                                \
    do {                                                                                                            \
        const __m512i lane_ = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);               \
        __m512 value_ = (__m512)(v);                                                                                \
        __m512i place_ = _mm512_add_epi32(lane_, _mm512_set1_epi32((int)(at)));                                     \
        SCAN(value_, _mm512_set1_ps(row_bar), (__m512)(column_bar), place_, hits);                                  \
    } while (0)
#include "float_body.h"
#endif

void knn_fix_float(const knn_filter *filter, const knn_block *block, char *out, float *line) {
#if KNN_X86
    if (filter->path == KNN_FLOAT_AVX512) { fix_avx512(filter, block, (float *)out, line); return; }
    if (filter->path == KNN_FLOAT_AVX2) { fix_avx2(filter, block, (float *)out, line); return; }
#endif
    fix_c(filter, block, (float *)out, line);
}

void knn_move_float(const knn_filter *filter, const knn_block *block, char *out, float *line) {
    for (int64_t r = 0; r < block->count; r++)
        residual(filter, block->start + r, line, (float *)out + r * filter->padded);
}

void knn_tile_float(knn_tile *tile) {
#if KNN_X86
    if (tile->filter->path == KNN_FLOAT_AVX512) { tile_avx512(tile); return; }
    if (tile->filter->path == KNN_FLOAT_AVX2) { tile_avx2(tile); return; }
#endif
    tile_c(tile);
}

int knn_path_supported(int path) {
    if (path == KNN_FLOAT_C) return 1;
#if KNN_X86
    __builtin_cpu_init();
    if (path == KNN_FLOAT_AVX2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (path == KNN_FLOAT_AVX512) return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq");
    if (path < KNN_PATHS) return knn_int8_supported(path);
#endif
    return 0;
}
