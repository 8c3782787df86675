/* acc[x] += sum over the given rows r of min(level[r], row_r[x]): the inner loop of every class overlap.
 *
 * W_ij = sum_c min(S_ic, S_jc), so one row of W is a sum over the columns c that class i has, each read as one
 * contiguous row of the transposed S. Two number types: double for the matrices that are stored, and int32 fixed
 * point for the live ones, where sums are exact in any order and an undo therefore restores every bit.
 *
 * The order of additions is fixed by the source (four rows at a time), not by the vector width, and there is no
 * fused multiply-add, so every path gives the same bits.
 */
#ifndef LABELTUI_MINSUM_H
#define LABELTUI_MINSUM_H

#include <stdint.h>

#define LT_MIN(a, b) ((a) < (b) ? (a) : (b))

#define LT_MINSUM_BODY(T)                                                                                    \
    {                                                                                                        \
        int64_t r = 0, x;                                                                                    \
        for (; r + 4 <= rows; r += 4) {                                                                      \
            const T a = level[r], b = level[r + 1], c = level[r + 2], d = level[r + 3];                      \
            const T *restrict p = base + (int64_t)column[r] * stride;                                        \
            const T *restrict q = base + (int64_t)column[r + 1] * stride;                                    \
            const T *restrict s = base + (int64_t)column[r + 2] * stride;                                    \
            const T *restrict t = base + (int64_t)column[r + 3] * stride;                                    \
            for (x = 0; x < n; x++)                                                                          \
                acc[x] += (LT_MIN(a, p[x]) + LT_MIN(b, q[x])) + (LT_MIN(c, s[x]) + LT_MIN(d, t[x]));         \
        }                                                                                                    \
        for (; r < rows; r++) {                                                                              \
            const T a = level[r];                                                                            \
            const T *restrict p = base + (int64_t)column[r] * stride;                                        \
            for (x = 0; x < n; x++) acc[x] += LT_MIN(a, p[x]);                                               \
        }                                                                                                    \
    }

#define LT_MINSUM(NAME, T, ATTRIBUTE)                                                                        \
    ATTRIBUTE static void NAME(T *restrict acc, const T *base, int64_t stride, int64_t n, const T *level,    \
                               const int32_t *column, int64_t rows) LT_MINSUM_BODY(T)

LT_MINSUM(lt_minsum_double_any, double, )
LT_MINSUM(lt_minsum_fixed_any, int32_t, )

#if defined(__x86_64__) && defined(__GNUC__)
LT_MINSUM(lt_minsum_double_avx2, double, __attribute__((target("avx2"))))
LT_MINSUM(lt_minsum_fixed_avx2, int32_t, __attribute__((target("avx2"))))
#define LT_HAS_AVX2() __builtin_cpu_supports("avx2")
#else
#define lt_minsum_double_avx2 lt_minsum_double_any
#define lt_minsum_fixed_avx2 lt_minsum_fixed_any
#define LT_HAS_AVX2() 0
#endif

/* wide: 1 = AVX2, 0 = plain C; the caller asks lt_wide() once. */
static int lt_wide(void) { return LT_HAS_AVX2() ? 1 : 0; }

static void lt_minsum_double(int wide, double *acc, const double *base, int64_t stride, int64_t n,
                             const double *level, const int32_t *column, int64_t rows)
{
    (wide ? lt_minsum_double_avx2 : lt_minsum_double_any)(acc, base, stride, n, level, column, rows);
}

static void lt_minsum_fixed(int wide, int32_t *acc, const int32_t *base, int64_t stride, int64_t n,
                            const int32_t *level, const int32_t *column, int64_t rows)
{
    (wide ? lt_minsum_fixed_avx2 : lt_minsum_fixed_any)(acc, base, stride, n, level, column, rows);
}

#endif
