/* The one pass over finished similarities, AVX-512; shared by the int8 and the float tiles. */
#ifndef LABELTUI_SCAN512_H
#define LABELTUI_SCAN512_H

/* Hits among 16 similarities of one row: those that reach the bar of their row or of their column. */
#define SCAN(v, row_bar, column_bar, where, hits)                                                                  \
    do {                                                                                                           \
        __mmask16 hit_ = _mm512_cmp_ps_mask(v, row_bar, _CMP_GE_OQ) | _mm512_cmp_ps_mask(v, column_bar, _CMP_GE_OQ); \
        if (hit_) {                                                                                                \
            /* Compressed in a register: storing compressed is slow on some CPUs. */                               \
            _mm512_storeu_ps((hits)->value + (hits)->count, _mm512_maskz_compress_ps(hit_, v));                    \
            _mm512_storeu_si512((hits)->place + (hits)->count, _mm512_maskz_compress_epi32(hit_, where));          \
            (hits)->count += _mm_popcnt_u32(hit_);                                                                 \
        }                                                                                                          \
    } while (0)

#endif
