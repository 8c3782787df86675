/* Tiles of int8 products: AVX-VNNI (256 bits), AVX512-VNNI, and AMX. All read the same panels. */
#include "knn.h"

#if KNN_X86

#include "scan512.h"

#include <cpuid.h>
#include <immintrin.h>
#include <math.h>
#include <string.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define AVXVNNI __attribute__((target("avx2,fma,avxvnni,popcnt")))
#define AVX512 "avx512f,avx512bw,avx512dq,avx512vl"
#define VNNI __attribute__((target(AVX512 ",avx512vnni")))
#define AMX __attribute__((target(AVX512 ",amx-tile,amx-int8")))

/* ---- VNNI: 8 rows (int8, broadcast) by 48 columns (the fixed block, uint8 = int8 + 128) ---- */

VNNI void knn_fix_vnni(const knn_filter *filter, const knn_block *block, char *out) {
    const int8_t *in = filter->panel + block->start * filter->padded;
    const __m512i flip = _mm512_set1_epi8((char)0x80);
    for (int64_t b = 0; b < block->count * filter->padded; b += 64)
        _mm512_store_si512(out + b, _mm512_xor_si512(_mm512_load_si512(in + b), flip));
}

/* Written out because some compilers copy every sum through memory around the intrinsic. */
#define DPBUSD(sum, u8, s8) __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u8), "v"(s8))

VNNI static inline void micro_vnni(const knn_tile *tile, knn_hits *hits, int64_t row, int64_t column) {
    const knn_filter *f = tile->filter;
    int64_t i = tile->rows + row, j = tile->columns + column, group = 16 * f->padded, steps = f->padded / 4;
    const int8_t *a = f->panel + i / 16 * group + i % 16 * 4;
    const char *b = tile->fixed + column / 16 * group;
    __m512i sum[8][3];
#pragma GCC unroll 8
    for (int r = 0; r < 8; r++) /* (b + 128) . a = b . a + 128 sum(a) */
        sum[r][0] = sum[r][1] = sum[r][2] = _mm512_set1_epi32(-f->sums[i + r]);
    for (int64_t t = 0; t < steps; t++, a += 64, b += 64) {
        __m512i b0 = _mm512_load_si512(b), b1 = _mm512_load_si512(b + group), b2 = _mm512_load_si512(b + 2 * group);
#pragma GCC unroll 8
        for (int r = 0; r < 8; r++) {
            int word;
            memcpy(&word, a + 4 * r, 4);
            __m512i x = _mm512_set1_epi32(word);
            DPBUSD(sum[r][0], b0, x);
            DPBUSD(sum[r][1], b1, x);
            DPBUSD(sum[r][2], b2, x);
        }
    }
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
#pragma GCC unroll 3
    for (int c = 0; c < 3; c++) {
        __m512 factor = _mm512_load_ps(f->factor + j + 16 * c), upper = _mm512_load_ps(tile->column_upper + column + 16 * c);
        __m512 bar = _mm512_load_ps(tile->column_bar + column + 16 * c);
#pragma GCC unroll 8
        for (int r = 0; r < 8; r++) {
            __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[r][c]), factor);
            v = _mm512_fmadd_ps(v, _mm512_set1_ps(f->factor[i + r]), upper);
            v = _mm512_add_ps(v, _mm512_set1_ps(tile->row_upper[row + r]));
            __m512i place = _mm512_add_epi32(lane, _mm512_set1_epi32((int)((row + r) << 16 | (column + 16 * c))));
            SCAN(v, _mm512_set1_ps(tile->row_bar[row + r]), bar, place, hits);
        }
    }
}

VNNI void knn_tile_vnni(knn_tile *tile) {
    for (int64_t column = 0; column < tile->column_end; column += 48)
        for (int64_t row = 0; row < tile->row_end; row += 8) {
            micro_vnni(tile, &tile->hits, row, column);
            if (tile->hits.count > tile->hits.limit) knn_flush(tile);
        }
}

/* ---- AVX-VNNI: 6 rows by 16 columns ---- */

void knn_fix_avxvnni(const knn_filter *filter, const knn_block *block, char *out) {
    const int8_t *in = filter->panel + block->start * filter->padded;
    for (int64_t b = 0; b < block->count * filter->padded; b++) out[b] = (char)(in[b] ^ 0x80);
}

#define DPBUSD256(sum, u8, s8) __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(u8), "x"(s8))

AVXVNNI static inline void micro_avxvnni(const knn_tile *tile, knn_hits *hits, int64_t row, int64_t column) {
    const knn_filter *f = tile->filter;
    int64_t i = tile->rows + row, j = tile->columns + column, group = 16 * f->padded, steps = f->padded / 4;
    const int8_t *a[6];
    const char *b = tile->fixed + column / 16 * group;
    __m256i sum[6][2];
#pragma GCC unroll 6
    for (int r = 0; r < 6; r++) {
        a[r] = f->panel + (i + r) / 16 * group + (i + r) % 16 * 4;
        sum[r][0] = sum[r][1] = _mm256_set1_epi32(-f->sums[i + r]);
    }
    for (int64_t t = 0; t < steps * 64; t += 64) {
        __m256i b0 = _mm256_load_si256((const __m256i *)(b + t));
        __m256i b1 = _mm256_load_si256((const __m256i *)(b + t + 32));
#pragma GCC unroll 6
        for (int r = 0; r < 6; r++) {
            int word;
            memcpy(&word, a[r] + t, 4);
            __m256i x = _mm256_set1_epi32(word);
            DPBUSD256(sum[r][0], b0, x);
            DPBUSD256(sum[r][1], b1, x);
        }
    }
#pragma GCC unroll 2
    for (int c = 0; c < 2; c++) {
        __m256 factor = _mm256_load_ps(f->factor + j + 8 * c), upper = _mm256_load_ps(tile->column_upper + column + 8 * c);
        __m256 bar = _mm256_load_ps(tile->column_bar + column + 8 * c);
#pragma GCC unroll 6
        for (int r = 0; r < 6; r++) {
            __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[r][c]), factor);
            v = _mm256_fmadd_ps(v, _mm256_set1_ps(f->factor[i + r]), upper);
            v = _mm256_add_ps(v, _mm256_set1_ps(tile->row_upper[row + r]));
            __m256 own = _mm256_cmp_ps(v, _mm256_set1_ps(tile->row_bar[row + r]), _CMP_GE_OQ);
            unsigned bits = (unsigned)_mm256_movemask_ps(_mm256_or_ps(own, _mm256_cmp_ps(v, bar, _CMP_GE_OQ)));
            if (!bits) continue;
            float value[8];
            _mm256_storeu_ps(value, v);
            for (; bits; bits &= bits - 1) {
                unsigned lane = (unsigned)__builtin_ctz(bits);
                hits->place[hits->count] = (uint32_t)((row + r) << 16 | (column + 8 * c + lane));
                hits->value[hits->count++] = value[lane];
            }
        }
    }
}

AVXVNNI void knn_tile_avxvnni(knn_tile *tile) {
    for (int64_t column = 0; column < tile->column_end; column += 16)
        for (int64_t row = 0; row < tile->row_end; row += 6) {
            micro_avxvnni(tile, &tile->hits, row, column);
            if (tile->hits.count > tile->hits.limit) knn_flush(tile);
        }
}

/* ---- AMX: 32 x 32 by four tiles ---- */

/* Rows of the fixed block as 16 x 64-byte tiles: the transpose of the panel's 4-byte words. */
AMX void knn_fix_amx(const knn_filter *filter, const knn_block *block, char *out) {
    const int8_t *in = filter->panel + block->start * filter->padded;
    const __m512i lines = _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                             _mm512_set1_epi32(16));
    for (int64_t b = 0; b < block->count * filter->padded; b += 1024)
        for (int r = 0; r < 16; r++)
            _mm512_store_si512(out + b + 64 * r, _mm512_i32gather_epi32(lines, in + b + 4 * r, 4));
}

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} tile_config;

#define FENCE() __asm__ volatile("" ::: "memory") /* the tile intrinsics do not tell the compiler what they touch */

AMX static inline void product_amx(const char *a, const int8_t *b, int64_t group, int32_t *out) {
    FENCE();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t t = 0; t < group; t += 1024) {
        _tile_loadd(4, a + t, 64);
        _tile_loadd(6, b + t, 64);
        _tile_dpbssd(0, 4, 6);
        _tile_loadd(7, b + group + t, 64);
        _tile_dpbssd(1, 4, 7);
        _tile_loadd(5, a + group + t, 64);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    _tile_stored(0, out, 128);
    _tile_stored(1, out + 16, 128);
    _tile_stored(2, out + 512, 128);
    _tile_stored(3, out + 528, 128);
    FENCE();
}

AMX static inline void scan_amx(const knn_tile *tile, knn_hits *hits, const int32_t *in, int64_t row, int64_t column) {
    const knn_filter *f = tile->filter;
    int64_t i = tile->rows + row, j = tile->columns + column;
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512 factor[2], upper[2], bar[2];
    for (int c = 0; c < 2; c++) {
        factor[c] = _mm512_load_ps(f->factor + j + 16 * c), upper[c] = _mm512_load_ps(tile->column_upper + column + 16 * c);
        bar[c] = _mm512_load_ps(tile->column_bar + column + 16 * c);
    }
#pragma GCC unroll 4
    for (int r = 0; r < 32; r++) {
        __m512 own = _mm512_set1_ps(f->factor[i + r]), plus = _mm512_set1_ps(tile->row_upper[row + r]);
        __m512 row_bar = _mm512_set1_ps(tile->row_bar[row + r]);
        for (int c = 0; c < 2; c++) {
            __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(in + 32 * r + 16 * c)), factor[c]);
            v = _mm512_add_ps(_mm512_fmadd_ps(v, own, upper[c]), plus);
            __m512i place = _mm512_add_epi32(lane, _mm512_set1_epi32((int)((row + r) << 16 | (column + 16 * c))));
            SCAN(v, row_bar, bar[c], place, hits);
        }
    }
}

AMX void knn_tile_amx(knn_tile *tile) {
    const knn_filter *f = tile->filter;
    int64_t group = 16 * f->padded;
    int32_t buffer[2][1024] __attribute__((aligned(64)));
    tile_config config = {.palette = 1};
    for (int t = 0; t < 8; t++) config.bytes[t] = 64, config.rows[t] = 16;
    _tile_loadconfig(&config);
    int64_t last_row = -1, last_column = 0;
    int turn = 0;
    /* The products of one square run in the tile unit while the vector units scan the square before it. */
    for (int64_t column = 0; column < tile->column_end; column += 32)
        for (int64_t row = 0; row < tile->row_end; row += 32) {
            product_amx(tile->fixed + row / 16 * group, f->panel + (tile->columns + column) * f->padded, group,
                        buffer[turn]);
            turn ^= 1;
            if (last_row >= 0) {
                scan_amx(tile, &tile->hits, buffer[turn], last_row, last_column);
                if (tile->hits.count > tile->hits.limit) knn_flush(tile);
            }
            last_row = row, last_column = column;
        }
    scan_amx(tile, &tile->hits, buffer[turn ^ 1], last_row, last_column);
    _tile_release();
}

/* ---- what this CPU can do ---- */

static int amx_allowed(void) {
#if defined(__linux__)
    /* The kernel grants the 8 kB of tile state a process wants to use: ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA. */
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 24 & 1) || !(d >> 25 & 1)) return 0;
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
    return 0;
#endif
}

static int avxvnni(void) {
    unsigned a, b, c, d; /* __builtin_cpu_supports knows this name only in newer compilers */
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

int knn_int8_supported(int path) {
    __builtin_cpu_init();
    int avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (path == KNN_INT8_AVXVNNI) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && avxvnni();
    if (path == KNN_INT8_VNNI) return avx512 && __builtin_cpu_supports("avx512vnni");
    return avx512 && amx_allowed();
}

#endif
