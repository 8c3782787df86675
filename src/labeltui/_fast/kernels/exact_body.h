/* The exact product, in one order for every CPU; included once for each instruction set by exact.c, which defines
   NAME(x), TARGET, WIDEN(pointer to 8 floats) and MADD(x, y, z) = x y + z.

   Element t goes to lane t % 8; each lane adds its products one after the other in float64; then
   a = lane[0..3] + lane[4..7], b = a[0..1] + a[2..3], result = b[0] + b[1].
   Products of two float32 are exact in float64, so a fused multiply-add would give the same bits; squared differences
   are not, and setup.py turns contraction off. */

#define STEP(acc, x, y, distance)                                    \
    do {                                                             \
        if (distance) {                                              \
            v8d diff_ = (x) - (y);                                   \
            acc += diff_ * diff_;                                    \
        } else {                                                     \
            acc = MADD(x, y, acc);                                   \
        }                                                            \
    } while (0)

TARGET KNN_INLINE v8d NAME(widen)(const float *x) { return WIDEN(x); }

TARGET KNN_INLINE v8d NAME(wide)(const double *x) {
    v8d value;
    __builtin_memcpy(&value, x, sizeof value);
    return value;
}

TARGET KNN_INLINE double NAME(fold)(const v8d *v) {
    double s[8], a[4];
    __builtin_memcpy(s, v, sizeof s);
    for (int l = 0; l < 4; l++) a[l] = s[l] + s[l + 4];
    return (a[0] + a[2]) + (a[1] + a[3]);
}

/* x against four rows y; all have d elements. */
TARGET KNN_INLINE void NAME(four_)(const float *x, const float *const y[4], int64_t d, int distance, double out[4]) {
    v8d a0 = {0}, a1 = {0}, a2 = {0}, a3 = {0};
    int64_t t = 0;
    for (; t + 8 <= d; t += 8) {
        v8d v = NAME(widen)(x + t);
        STEP(a0, v, NAME(widen)(y[0] + t), distance);
        STEP(a1, v, NAME(widen)(y[1] + t), distance);
        STEP(a2, v, NAME(widen)(y[2] + t), distance);
        STEP(a3, v, NAME(widen)(y[3] + t), distance);
    }
    if (t < d) {
        float tail[5][8] = {{0}};
        for (int64_t l = 0; t + l < d; l++) {
            tail[4][l] = x[t + l];
            for (int c = 0; c < 4; c++) tail[c][l] = y[c][t + l];
        }
        v8d v = NAME(widen)(tail[4]);
        STEP(a0, v, NAME(widen)(tail[0]), distance);
        STEP(a1, v, NAME(widen)(tail[1]), distance);
        STEP(a2, v, NAME(widen)(tail[2]), distance);
        STEP(a3, v, NAME(widen)(tail[3]), distance);
    }
    out[0] = NAME(fold)(&a0), out[1] = NAME(fold)(&a1), out[2] = NAME(fold)(&a2), out[3] = NAME(fold)(&a3);
}

TARGET static void NAME(four)(const float *x, const float *const y[4], int64_t d, int distance, double out[4]) {
    if (distance) NAME(four_)(x, y, d, 1, out);
    else NAME(four_)(x, y, d, 0, out);
}

/* y (padded with zeros to a multiple of 8) against eight rows held as float64, each `padded` long. */
TARGET KNN_INLINE void NAME(eight_)(const double *wide, const float *y, int64_t padded, int distance, double out[8]) {
    v8d a[8] = {{0}};
    for (int64_t t = 0; t < padded; t += 8) {
        v8d v = NAME(widen)(y + t);
        for (int r = 0; r < 8; r++) STEP(a[r], v, NAME(wide)(wide + r * padded + t), distance);
    }
    for (int r = 0; r < 8; r++) out[r] = NAME(fold)(&a[r]);
}

TARGET static void NAME(eight)(const double *wide, const float *y, int64_t padded, int distance, double out[8]) {
    if (distance) NAME(eight_)(wide, y, padded, 1, out);
    else NAME(eight_)(wide, y, padded, 0, out);
}

#undef STEP
#undef NAME
#undef TARGET
#undef WIDEN
#undef MADD
