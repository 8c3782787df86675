/* Selection and sorting of 64-bit keys, largest first. All keys of one list differ (they hold an index). */
#include "knn.h"

#define SWAP(a, b) do { uint64_t t_ = (a); (a) = (b); (b) = t_; } while (0)

static void insertion(uint64_t *keys, int64_t n) {
    for (int64_t i = 1; i < n; i++) {
        uint64_t key = keys[i];
        int64_t j = i;
        for (; j > 0 && keys[j - 1] < key; j--) keys[j] = keys[j - 1];
        keys[j] = key;
    }
}

static uint64_t median(uint64_t a, uint64_t b, uint64_t c) {
    if (a < b) SWAP(a, b);
    if (b < c) b = c;
    return a < b ? a : b;
}

/* Keys above the pivot to the front, without a branch on the data; returns how many. The pivot is one of the keys and
   ends just behind them. */
static int64_t partition(uint64_t *keys, int64_t n, uint64_t pivot) {
    int64_t above = 0;
    for (int64_t i = 0; i < n; i++) {
        uint64_t key = keys[i];
        keys[i] = keys[above];
        keys[above] = key;
        above += key > pivot;
    }
    for (int64_t i = above; i < n; i++)
        if (keys[i] == pivot) {
            SWAP(keys[i], keys[above]);
            break;
        }
    return above;
}

static uint64_t pick(const uint64_t *keys, int64_t n, uint64_t *state) {
    if (n < 64) return median(keys[0], keys[n / 2], keys[n - 1]);
    uint64_t v[9];
    for (int s = 0; s < 9; s++) { /* xorshift: no arrangement of the keys makes this quadratic */
        *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
        v[s] = keys[*state % (uint64_t)n];
    }
    return median(median(v[0], v[1], v[2]), median(v[3], v[4], v[5]), median(v[6], v[7], v[8]));
}

void knn_select(uint64_t *keys, int64_t n, int64_t m) {
    uint64_t state = 0x9e3779b97f4a7c15u;
    while (m > 0 && m < n) {
        if (n <= 12) {
            insertion(keys, n);
            return;
        }
        int64_t above = partition(keys, n, pick(keys, n, &state));
        if (m <= above) {
            n = above;
        } else { /* the pivot itself is at [above] */
            keys += above + 1, n -= above + 1, m -= above + 1;
        }
    }
}

void knn_sort(uint64_t *keys, int64_t n) {
    uint64_t state = 0x9e3779b97f4a7c15u;
    while (n > 24) {
        int64_t above = partition(keys, n, pick(keys, n, &state));
        int64_t below = n - above - 1;
        if (above < below) {
            knn_sort(keys, above);
            keys += above + 1, n = below;
        } else {
            knn_sort(keys + above + 1, below);
            n = above;
        }
    }
    insertion(keys, n);
}
