/* The matrix product alone: rows x values of a large model's shapes, packed, by 1 to 512 columns, on one thread and on all; prints one line of
 * JSON for each format and shape, operations (two a multiply-add) in 1e9 a second for each number of columns. Wall time, best of the rounds.
 *   gcc -O3 -std=gnu11 -D_GNU_SOURCE -Iinclude -Ilib tests/bench/products.c build/gcc/lib/libponder-core.a -o products -lpng -ljpeg -lspeexdsp -lpcre2-8 -lm -pthread
 *   ./products [threads = 2] [rounds = 5] */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tensor/tensor.h"

enum { MOST_COLUMNS = 512, MOST_THREADS = 64, TILE_PANELS = 16 };
static const uint32_t columns[] = {1, 8, 16, 32, 512};
static const struct { uint32_t rows; size_t k; } shapes[] = {{6656, 6656}, {19968, 6656}, {6656, 19968}};
static const pn_type types[] = {PN_Q8_0, PN_Q4_0, PN_Q4_1, PN_Q4_K};
#define COUNT(a) (sizeof(a) / sizeof *(a))

static struct {
    pn_kernels k;
    pn_matrix m;
    pn_acts x;
    float *y;
    uint32_t n_columns, next; /* the panel that nobody has taken yet */
    pthread_barrier_t start, end;
    void *scratch[MOST_THREADS];
} all;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void compute(uint32_t worker)
{
    const uint32_t panels = all.m.rows / PN_PANEL;
    for (uint32_t p; (p = __atomic_fetch_add(&all.next, TILE_PANELS, __ATOMIC_RELAXED)) < panels;)
        all.k.matmul(&all.m, p, PN_MIN(p + TILE_PANELS, panels), &all.x, 0, all.n_columns, all.y, all.m.rows, all.scratch[worker]);
}

static void *work(void *arg)
{
    for (;;) {
        pthread_barrier_wait(&all.start);
        if (!all.n_columns) return NULL;
        compute((uint32_t)(size_t)arg);
        pthread_barrier_wait(&all.end);
    }
}

static double best_time(int rounds)
{
    double best = 1e9;
    for (int i = 0; i < rounds; i++) {
        all.next = 0;
        double t = now();
        pthread_barrier_wait(&all.start);
        compute(0);
        pthread_barrier_wait(&all.end);
        t = now() - t;
        best = t < best ? t : best;
    }
    return best;
}

static void *need(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!p) exit(fputs("products: no memory\n", stderr));
    return p;
}

/* One panel's bytes are made and packed, then stand for all: the values do not matter to the time, their places do. */
static void *fill(pn_type type, uint32_t rows, size_t k)
{
    size_t row_bytes, panel = pn_panel_bytes(type, k);
    if (!pn_row_bytes(type, k, &row_bytes)) exit(1);
    uint8_t *row = need(row_bytes), *packed = need(panel * (rows / PN_PANEL));
    for (size_t i = 0; i < row_bytes; i++) row[i] = (uint8_t)(i * 37 % 61);
    pn_pack_panel(type, row, 0, PN_PANEL, k, packed);
    for (uint32_t p = 1; p < rows / PN_PANEL; p++) memcpy(packed + p * panel, packed, panel);
    free(row);
    return packed;
}

static void measure(pn_type type, uint32_t rows, size_t k, uint32_t threads, int rounds)
{
    float *x = need(k * sizeof *x);
    void *acts = need(pn_acts_bytes(k, MOST_COLUMNS, true)), *packed = fill(type, rows, k);
    for (size_t i = 0; i < k; i++) x[i] = (float)(i % 17) / 17 - 0.5f;
    all.m = (pn_matrix){.type = type, .rows = rows, .k = k, .packed = packed};
    printf("{\"type\": \"%s\", \"rows\": %u, \"k\": %zu, \"threads\": %u, \"gop_s\": {", pn_type_name(type), rows, k, threads);
    for (size_t c = 0; c < COUNT(columns); c++) {
        all.n_columns = columns[c];
        pn_acts_bind(&all.x, k, columns[c], true, acts);
        for (uint32_t i = 0; i < columns[c]; i++) all.k.acts_put(&all.x, i, x);
        printf("%s\"%u\": %.1f", c ? ", " : "", columns[c], 2e-9 * rows * (double)k * columns[c] / best_time(rounds));
    }
    puts("}}");
    fflush(stdout);
    free(packed);
    free(acts);
    free(x);
}

int main(int argc, char **argv)
{
    uint32_t threads = argc > 1 ? (uint32_t)atoi(argv[1]) : 2;
    int rounds = argc > 2 ? atoi(argv[2]) : 5;
    pthread_t id[MOST_THREADS];
    if (threads < 1 || threads > MOST_THREADS || rounds < 1) return fputs("products: see its first lines\n", stderr), 1;
    pn_kernels_init(&all.k, pn_cpu_flags());
    pthread_barrier_init(&all.start, NULL, threads);
    pthread_barrier_init(&all.end, NULL, threads);
    all.y = need((size_t)MOST_COLUMNS * 19968 * sizeof(float));
    for (uint32_t i = 0; i < threads; i++) all.scratch[i] = need(pn_scratch_bytes(256));
    for (uint32_t i = 1; i < threads; i++) pthread_create(&id[i], NULL, work, (void *)(size_t)i);
    for (size_t t = 0; t < COUNT(types); t++)
        for (size_t s = 0; s < COUNT(shapes); s++) measure(types[t], shapes[s].rows, shapes[s].k, threads, rounds);
    all.n_columns = 0;
    pthread_barrier_wait(&all.start);
    for (uint32_t i = 1; i < threads; i++) pthread_join(id[i], NULL);
    return 0;
}
