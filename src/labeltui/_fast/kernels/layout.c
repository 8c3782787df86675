/* Clusters of the rows, their order by cluster, and the memory of the filter. */
#include "knn.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

#define SAMPLE 128 /* rows a cluster is found from */
#define ROUNDS 4

/* y of row i: centred, float32, followed by zeros up to a multiple of 8. */
static double centred(const knn_filter *filter, int64_t i, float *buffer, float *out) {
    return knn_residual(filter, i, filter->clusters, 1.0, buffer, out);
}

/* y's products with all centres and the mean; returns the cluster whose centre is nearest. */
static int64_t nearest(const knn_filter *filter, const float *y, double *product) {
    int64_t best = 0, clusters = filter->clusters;
    for (int64_t c = 0; c <= clusters; c += 4) {
        const float *four[4];
        double out[4];
        for (int64_t s = 0; s < 4; s++) four[s] = filter->centre + least(c + s, clusters) * filter->padded;
        knn_four(filter->data->isa, y, four, filter->data->d, 0, out);
        for (int64_t s = 0; s < 4 && c + s <= clusters; s++) product[c + s] = out[s];
    }
    for (int64_t c = 1; c < clusters; c++)
        if (product[c] - 0.5 * filter->between[c][c] > product[best] - 0.5 * filter->between[best][best]) best = c;
    return best;
}

static double dot(const float *x, const float *y, int64_t d) {
    double sum = 0.0;
    for (int64_t t = 0; t < d; t++) sum += (double)x[t] * y[t];
    return sum;
}

static void find_mean(knn_filter *filter, int64_t step, double *sum, float *line) {
    const knn_data *data = filter->data;
    int64_t count = 0, d = data->d;
    memset(sum, 0, sizeof(double) * (size_t)d);
    for (int64_t i = 0; i < data->n; i += step, count++) {
        const float *x = knn_load(data, i, line);
        double f = data->metric == KNN_COSINE ? data->inverse[i] : filter->scale;
        for (int64_t t = 0; t < d; t++) sum[t] += f * x[t];
    }
    double *middle = filter->middle + filter->clusters * filter->padded;
    for (int64_t t = 0; t < d; t++) {
        filter->mean[t] = (float)(sum[t] / (double)count);
        middle[t] = filter->mean[t];
    }
}

/* First centres: sampled rows, each drawn with the squared distance from those before it as its weight (k-means++). */
static void seed_centres(knn_filter *filter, const float *sample, int64_t size, double *distance) {
    int64_t padded = filter->padded, pick = 0;
    uint64_t state = 0x9e3779b97f4a7c15u;
    for (int64_t s = 0; s < size; s++) distance[s] = INFINITY;
    for (int64_t c = 0; c < filter->clusters; c++) {
        float *centre = filter->centre + c * padded;
        memcpy(centre, sample + pick * (padded + 8), sizeof(float) * (size_t)filter->data->d);
        double total = 0.0;
        for (int64_t s = 0; s < size; s += 4) {
            const float *four[4];
            double out[4];
            for (int64_t p = 0; p < 4; p++) four[p] = sample + least(s + p, size - 1) * (padded + 8);
            knn_four(filter->data->isa, centre, four, filter->data->d, 1, out);
            for (int64_t p = 0; p < 4 && s + p < size; p++) {
                if (out[p] < distance[s + p]) distance[s + p] = out[p];
                total += distance[s + p];
            }
        }
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        double left = (double)(state >> 11) * 0x1p-53 * total;
        for (pick = 0; pick < size - 1 && left >= distance[pick]; pick++) left -= distance[pick];
    }
}

/* One round of k-means: each centre becomes the mean of the sampled rows nearest to it. */
static void move_centres(knn_filter *filter, const float *sample, int64_t size, double *sum) {
    int64_t d = filter->data->d, padded = filter->padded, clusters = filter->clusters, members[KNN_CLUSTERS] = {0};
    double product[KNN_CLUSTERS + 1];
    memset(sum, 0, sizeof(double) * (size_t)(clusters * padded));
    for (int64_t c = 0; c < clusters; c++) {
        const float *centre = filter->centre + c * padded;
        filter->between[c][c] = dot(centre, centre, d);
    }
    for (int64_t s = 0; s < size; s++) {
        const float *y = sample + s * (padded + 8);
        int64_t c = nearest(filter, y, product);
        members[c]++;
        for (int64_t t = 0; t < d; t++) sum[c * padded + t] += y[t];
    }
    for (int64_t c = 0; c < clusters; c++)
        for (int64_t t = 0; members[c] && t < d; t++)
            filter->centre[c * padded + t] = (float)(sum[c * padded + t] / (double)members[c]);
}

/* Mean and centres of an even sample. Any vectors are valid; good ones make residuals short and bounds tight. */
static int find_centres(knn_filter *filter) {
    int64_t n = filter->data->n, d = filter->data->d, padded = filter->padded, clusters = filter->clusters;
    int64_t step = most(1, n / (SAMPLE * clusters)), size = clusters > 1 ? (n + step - 1) / step : 0;
    float *line = malloc(sizeof(float) * (size_t)(d + 8));
    float *sample = calloc((size_t)(size * (padded + 8) + 1), sizeof(float));
    double *sum = calloc((size_t)(clusters * padded), sizeof(double));
    double *distance = malloc(sizeof(double) * (size_t)(size + 1));
    int missing = !line || !sample || !sum || !distance;
    if (!missing) {
        find_mean(filter, step, sum, line);
        if (filter->data->metric != KNN_EUCLIDEAN) filter->offset = dot(filter->mean, filter->mean, d);
        /* Of one cluster the centre is the mean: zero, as y is centred. */
        for (int64_t s = 0; s < size; s++) centred(filter, s * step, line, sample + s * (padded + 8));
        if (size) seed_centres(filter, sample, size, distance);
        for (int round = 0; size && round < ROUNDS; round++) move_centres(filter, sample, size, sum);
        for (int64_t a = 0; a < clusters; a++) {
            const float *centre = filter->centre + a * padded;
            for (int64_t b = 0; b < clusters; b++) filter->between[a][b] = dot(centre, filter->centre + b * padded, d);
            if (filter->between[a][a] > filter->centre_most) filter->centre_most = filter->between[a][a];
            for (int64_t t = 0; t < d; t++) filter->middle[a * padded + t] = (double)filter->mean[t] + centre[t];
        }
    }
    free(line), free(sample), free(sum), free(distance);
    return missing ? -1 : 0;
}

static void *take(knn_filter *filter, int dry, int64_t count, size_t size, int *missing) {
    size_t bytes = ((size_t)count * size + 127) / 64 * 64;
    filter->bytes += bytes;
    if (dry) return NULL;
    void *memory = aligned_alloc(64, bytes);
    if (!memory) *missing = 1;
    return memory;
}

int knn_filter_open(knn_filter *filter, const knn_data *data, int path, int64_t k, double longest, int64_t most_rows,
                    int dry) {
    memset(filter, 0, sizeof *filter);
    int64_t n = data->n, d = data->d, padded = (d + 63) / 64 * 64;
    int int8 = knn_is_int8(path), missing = 0;
    filter->data = data, filter->path = path, filter->k = k, filter->padded = padded;
    /* Similarities of longer rows lie closer together, while the bounds of int8 stay as wide: more have to be ranked. */
    int64_t base = 2 * k + 44, more = int8 ? most(0, least(d, 1024) - 128) / 4 : 0;
    filter->kept = least(n - 1, base + more);
    filter->capacity = filter->kept + most(48, least(n - 1, base) / 2);
    filter->clusters = most(1, least(KNN_CLUSTERS, n / 1200));
    int64_t budget = int8 ? 1 << 18 : 1 << 20, row = padded * (int8 ? 1 : 4);
    filter->most = most_rows ? most_rows : most(1, least(8, budget / row / KNN_UNIT)) * KNN_UNIT;
    filter->most = least(filter->most, (n + KNN_UNIT - 1) / KNN_UNIT * KNN_UNIT);
    filter->slots = (n + KNN_UNIT - 1) / KNN_UNIT * KNN_UNIT + filter->clusters * KNN_UNIT;
    filter->blocks = filter->slots / filter->most + filter->clusters + 1; /* at most, until knn_assign_end counts */
    int exponent = 0;
    frexp(longest, &exponent);
    filter->scale = data->metric == KNN_COSINE ? 1.0 : ldexp(1.0, -exponent);

    int64_t slots = filter->slots, clusters = filter->clusters;
    filter->centre = take(filter, dry, (clusters + 1) * padded + 8, sizeof(float), &missing);
    filter->middle = take(filter, dry, (clusters + 1) * padded + 8, sizeof(double), &missing);
    filter->cluster = take(filter, dry, n, sizeof(uint8_t), &missing);
    filter->row = take(filter, dry, slots, sizeof(int32_t), &missing);
    filter->against = take(filter, dry, clusters * slots, sizeof(float), &missing);
    filter->factor = take(filter, dry, slots, sizeof(float), &missing);
    filter->slack = take(filter, dry, slots, sizeof(float), &missing);
    filter->threshold = take(filter, dry, slots, sizeof(float), &missing);
    filter->length = take(filter, dry, slots, sizeof(float), &missing);
    filter->error = take(filter, dry, slots, sizeof(float), &missing);
    filter->extent = take(filter, dry, slots, sizeof(float), &missing);
    filter->sums = take(filter, dry, slots, sizeof(int32_t), &missing);
    filter->size = take(filter, dry, slots, sizeof(int32_t), &missing);
    filter->order = take(filter, dry, n, sizeof(int32_t), &missing);
    filter->keys = take(filter, dry, slots * filter->capacity, sizeof(uint64_t), &missing);
    filter->block = take(filter, dry, filter->blocks, sizeof(knn_block), &missing);
    filter->locks = take(filter, dry, filter->blocks, sizeof(pthread_mutex_t), &missing);
    if (int8) filter->panel = take(filter, dry, slots, (size_t)padded, &missing);
    if (clusters > 1) filter->bytes += sizeof(float) * (size_t)(2 * SAMPLE * clusters * (padded + 8)); /* find_centres */
    filter->each = knn_tile_bytes(filter) + 80 * (size_t)padded + 8 * (size_t)(2 * filter->capacity) + 1024;
    if (dry) return 0;
    if (missing) return -1;
    memset(filter->size, 0, sizeof(int32_t) * (size_t)slots);
    memset(filter->centre, 0, sizeof(float) * (size_t)((clusters + 1) * padded + 8));
    memset(filter->middle, 0, sizeof(double) * (size_t)((clusters + 1) * padded + 8));
    filter->mean = filter->centre + clusters * padded;
    return find_centres(filter);
}

void knn_filter_close(knn_filter *filter) {
    for (int64_t b = 0; filter->laid && b < filter->blocks; b++)
        pthread_mutex_destroy((pthread_mutex_t *)filter->locks + b);
    void *all[] = {filter->centre, filter->middle, filter->cluster, filter->row, filter->against, filter->factor,
                   filter->slack, filter->threshold, filter->length, filter->error, filter->extent, filter->sums,
                   filter->size, filter->order, filter->keys, filter->block, filter->locks, filter->panel};
    for (size_t p = 0; p < sizeof all / sizeof *all; p++) free(all[p]);
    memset(filter, 0, sizeof *filter);
}

/* The cluster of every row, and what its similarities with each cluster's rows have in common:
   y_i . y_j = r_i . r_j + y_i . c_b + y_j . c_a - c_a . c_b for clusters a of i and b of j; to that the metric adds
   for products (y + mean) . (y' + mean), of which |mean|^2 is the offset, for -distance^2 / 2 the squared lengths of
   both. Where rows lie close together far from the origin y . mean is tiny beside the mean, so it comes from the row
   itself, in float64. The result is rounded relative to the whole length, the rest relative to what is stored. */
int knn_assign_work(knn_filter *filter, knn_ticket *ticket) {
    const knn_data *data = filter->data;
    const int64_t step = 256, n = data->n, clusters = filter->clusters;
    float *line = malloc(sizeof(float) * 2 * (size_t)(filter->padded + 8));
    double product[KNN_CLUSTERS + 1], mean_squared = dot(filter->mean, filter->mean, data->d);
    for (int64_t begin; line && (begin = knn_take(ticket, step)) < n && !knn_stopped(&ticket->stop);) {
        int64_t end = least(begin + step, n);
        for (int64_t i = begin; i < end; i++) {
            float *y = line + filter->padded + 8;
            double squared = centred(filter, i, line, y), extent = squared + filter->centre_most, base = -0.5 * squared;
            filter->cluster[i] = (uint8_t)nearest(filter, y, product);
            if (data->metric != KNN_EUCLIDEAN) {
                double f = data->metric == KNN_COSINE ? data->inverse[i] : filter->scale;
                base = f * dot(knn_load(data, i, line), filter->mean, data->d) - mean_squared;
                extent += squared + 2.0 * fabs(base) + (squared + 2.0 * fabs(base) + mean_squared) / 31.0;
            }
            filter->extent[i] = (float)extent;
            for (int64_t c = 0; c < clusters; c++) filter->against[c * filter->slots + i] = (float)(product[c] + base);
        }
        __atomic_fetch_add(&ticket->done, end - begin, __ATOMIC_RELAXED);
    }
    int result = line ? 0 : -1;
    free(line);
    return result;
}

static void by_slot(const knn_filter *filter, float *values, float *copy) {
    memcpy(copy, values, sizeof(float) * (size_t)filter->data->n);
    for (int64_t s = 0; s < filter->slots; s++) values[s] = filter->row[s] < 0 ? 0.0f : copy[filter->row[s]];
}

/* Give every row a slot, clusters one after the other, and cut them into blocks of nearly equal size. */
int knn_assign_end(knn_filter *filter) {
    int64_t n = filter->data->n, count[KNN_CLUSTERS] = {0}, next[KNN_CLUSTERS], slots = 0, blocks = 0;
    float *copy = malloc(sizeof(float) * (size_t)n);
    if (!copy) return -1;
    for (int64_t i = 0; i < n; i++) count[filter->cluster[i]]++;
    for (int64_t c = 0; c < filter->clusters; c++) {
        int64_t units = (count[c] + KNN_UNIT - 1) / KNN_UNIT, unit = filter->most / KNN_UNIT;
        int64_t parts = (units + unit - 1) / unit, end = slots + count[c];
        next[c] = slots;
        for (int64_t part = 0; part < parts; part++) {
            int64_t size = (units * (part + 1) / parts - units * part / parts) * KNN_UNIT;
            filter->block[blocks++] = (knn_block){slots, size, least(size, end - slots), c};
            slots += size;
        }
    }
    for (int64_t s = 0; s < filter->slots; s++) filter->row[s] = -1;
    for (int64_t i = 0; i < n; i++) filter->row[next[filter->cluster[i]]++] = (int32_t)i;
    by_slot(filter, filter->extent, copy);
    for (int64_t c = 0; c < filter->clusters; c++) by_slot(filter, filter->against + c * filter->slots, copy);
    free(copy);
    filter->blocks = blocks;
    filter->offsets = blocks / 2 + 1;
    filter->run = most(1, least(8, blocks / 16));
    filter->units = (filter->offsets + filter->run - 1) / filter->run * blocks;
    for (int64_t b = 0; b < blocks; b++) pthread_mutex_init((pthread_mutex_t *)filter->locks + b, NULL);
    filter->laid = 1;
    return 0;
}
