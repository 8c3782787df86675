/* The int8 sketch of 16 rows, all arithmetic lane by lane (lane = row); included once for each instruction set by
   sketch.c, which defines NAME(x) and TARGET. */

/* (f * x - middle) * times in float64, rounded to float32 into `out`, with zeros up to a multiple of 8; the sum of its
   squares, in eight lanes. Whole groups of eight come first: only so does the compiler keep them in registers. */
TARGET static double NAME(residual)(const float *x, const double *middle, double f, double times, int64_t d, float *out) {
    double squared[8] = {0}, sum = 0.0;
    int64_t whole = d / 8 * 8;
    for (int64_t t = 0; t < whole; t += 8)
        for (int l = 0; l < 8; l++) {
            double y = ((double)x[t + l] * f - middle[t + l]) * times;
            squared[l] += y * y;
            out[t + l] = (float)y;
        }
    for (int64_t t = whole; t < d; t++) {
        double y = ((double)x[t] * f - middle[t]) * times;
        squared[t - whole] += y * y;
        out[t] = (float)y;
    }
    for (int64_t t = d; t % 8; t++) out[t] = 0.0f;
    for (int l = 0; l < 8; l++) sum += squared[l];
    return sum;
}

/* Orthogonal: signs, then a Walsh-Hadamard transform of `length` (a power of two) vectors, in place. */
TARGET KNN_INLINE void NAME(mix)(v16f *v, int64_t length, int64_t seed) {
    const float unit = (float)(1.0 / __builtin_sqrt((double)length));
    for (int64_t t = 0; t < length; t++) v[t] *= knn_coin((uint64_t)(seed + t)) ? unit : -unit;
    int64_t h = 1;
    for (; h * 2 < length; h *= 4) /* two stages in one pass */
        for (int64_t a = 0; a < length; a += 4 * h)
            for (int64_t t = a; t < a + h; t++) {
                v16f p = v[t] + v[t + h], q = v[t] - v[t + h];
                v16f r = v[t + 2 * h] + v[t + 3 * h], s = v[t + 2 * h] - v[t + 3 * h];
                v[t] = p + r, v[t + h] = q + s, v[t + 2 * h] = p - r, v[t + 3 * h] = q - s;
            }
    for (; h < length; h *= 2)
        for (int64_t a = 0; a < length; a += 2 * h)
            for (int64_t t = a; t < a + h; t++) {
                v16f p = v[t] + v[t + h], q = v[t] - v[t + h];
                v[t] = p, v[t + h] = q;
            }
}

TARGET static void NAME(sketch)(v16f *v, int64_t padded, int64_t power, int8_t *out, float *scale, float *error,
                                float *length, int32_t *sums) {
    NAME(mix)(v, power, 0);
    if (power < padded) NAME(mix)(v + padded - power, power, padded);
    v16f most = {0};
    for (int64_t t = 0; t < padded; t++) {
        v16f size = (v16f)((v16i)v[t] & 0x7fffffff);
        most = PICK(size > most, size, most);
    }
    /* Rows too tiny to divide by are stored as zero, and their error says so. */
    v16f zero = {0}, one = zero + 1.0f, most_ = PICK(most > 1e-35f, most, one);
    v16f inverse = PICK(most > 1e-35f, 127.0f / most_, zero), step = PICK(most > 1e-35f, most / 127.0f, zero);
    v16f wrong = {0}, long_ = {0};
    v16i sum = {0};
    const float round = 12582912.0f; /* 1.5 * 2^23: adding and subtracting it rounds to the nearest integer */
    for (int64_t t = 0; t < padded; t += 4) {
        v16i word = {0};
        for (int b = 0; b < 4; b++) {
            v16f q = (v[t + b] * inverse + round) - round;
            v16f kept = q * step, left = v[t + b] - kept;
            wrong += left * left, long_ += kept * kept;
            v16i i = __builtin_convertvector(q, v16i);
            sum += i;
            word |= (i & 255) << (8 * b);
        }
        __builtin_memcpy(out + t * 16, &word, sizeof word);
    }
    __builtin_memcpy(scale, &step, sizeof step);
    __builtin_memcpy(error, &wrong, sizeof wrong);
    __builtin_memcpy(length, &long_, sizeof long_);
    __builtin_memcpy(sums, &sum, sizeof sum);
}

#undef NAME
#undef TARGET
