/* Tiles of float32 products, R rows by 3 vectors of W columns; included once for each instruction set by float.c, which
   defines NAME(x), TARGET, W, R, MADD(x, y, z) = x y + z and BITS(mask vector). */

typedef float NAME(vf) __attribute__((vector_size(4 * W)));
typedef int32_t NAME(vi) __attribute__((vector_size(4 * W)));

TARGET KNN_INLINE NAME(vf) NAME(load)(const float *at) {
    NAME(vf) v;
    __builtin_memcpy(&v, at, sizeof v);
    return v;
}

/* The fixed block as columns: groups of W rows, element by element. */
TARGET static void NAME(fix)(const knn_filter *filter, const knn_block *block, float *out, float *line) {
    int64_t d = filter->data->d, padded = filter->padded;
    for (int64_t c = 0; c < block->count; c++) {
        float *y = line + padded + 8, *column = out + c / W * W * padded + c % W;
        residual(filter, block->start + c, line, y);
        for (int64_t t = 0; t < d; t++) column[t * W] = y[t];
    }
}

TARGET KNN_INLINE void NAME(micro)(const knn_tile *tile, knn_hits *hits, int64_t row, int64_t column) {
    const knn_filter *f = tile->filter;
    int64_t i = tile->rows + row, j = tile->columns + column, padded = f->padded, d = f->data->d;
    const float *a = (const float *)tile->moving + row * padded;
    const float *b = (const float *)tile->fixed + column * padded;
    NAME(vf) sum[R][3];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) sum[r][0] = sum[r][1] = sum[r][2] = (NAME(vf)){0};
#pragma GCC unroll 4
    for (int64_t t = 0; t < d; t++, a++, b += W) {
        NAME(vf) b0 = NAME(load)(b), b1 = NAME(load)(b + W * padded), b2 = NAME(load)(b + 2 * W * padded);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            NAME(vf) x = a[r * padded] - (NAME(vf)){0}; /* broadcast */
            sum[r][0] = MADD(x, b0, sum[r][0]);
            sum[r][1] = MADD(x, b1, sum[r][1]);
            sum[r][2] = MADD(x, b2, sum[r][2]);
        }
    }
#pragma GCC unroll 3
    for (int c = 0; c < 3; c++) {
        NAME(vf) factor = NAME(load)(f->factor + j + W * c), upper = NAME(load)(tile->column_upper + column + W * c);
        NAME(vf) bar = NAME(load)(tile->column_bar + column + W * c);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            NAME(vf) v = sum[r][c] * factor * f->factor[i + r] + upper + tile->row_upper[row + r];
            unsigned place = (unsigned)((row + r) << 16 | (column + W * c));
            EMIT(NAME, v, tile->row_bar[row + r], bar, place, hits);
        }
    }
}

TARGET static void NAME(tile)(knn_tile *tile) {
    for (int64_t column = 0; column < tile->column_end; column += 3 * W)
        for (int64_t row = 0; row < tile->row_end; row += R) {
            NAME(micro)(tile, &tile->hits, row, column);
            if (tile->hits.count > tile->hits.limit) knn_flush(tile);
        }
}

#undef NAME
#undef TARGET
#undef W
#undef R
#undef MADD
#undef EMIT
