/* What the tests of the float kernels share: seeded numbers, guarded unaligned arrays, levels, comparison of bits. */
#ifndef PN_TEST_FLOATS_H
#define PN_TEST_FLOATS_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tensor/tensor.h"

static const struct { const char *name; uint32_t flags; } levels[] = {
    {"c", 0},
    {"avx2", PN_CPU_AVX2},
    {"avx512", PN_CPU_AVX2 | PN_CPU_AVX512},
};

static inline bool level_here(size_t l) { return (pn_cpu_flags() & levels[l].flags) == levels[l].flags; }

static inline uint64_t next64(uint64_t *s)
{
    uint64_t z = *s += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline float uniform(uint64_t *s, float lo, float hi)
{
    return lo + (hi - lo) * (float)((double)(next64(s) >> 11) * 0x1p-53);
}

static inline void fill(float *p, size_t n, uint64_t *s, float lo, float hi)
{
    for (size_t i = 0; i < n; i++) p[i] = uniform(s, lo, hi);
}

/* n floats one float past a 64-byte boundary, with a fence on both sides. */
enum { FENCE = 32 };
typedef struct guarded { float *p, *base; size_t n; } guarded;

static inline guarded guarded_new(size_t n)
{
    guarded g = {.n = n, .base = aligned_alloc(64, (n + 2 * FENCE + 1 + 15) / 16 * 64)};
    assert_non_null(g.base);
    for (size_t i = 0; i < n + 2 * FENCE + 1; i++) g.base[i] = 12345.0f;
    g.p = g.base + FENCE + 1;
    return g;
}

static inline bool guarded_whole(const guarded *g)
{
    for (size_t i = 0; i < FENCE; i++)
        if (g->base[i] != 12345.0f || g->p[g->n + i] != 12345.0f) return false;
    return g->base[FENCE] == 12345.0f;
}

/* Index of the first difference in bits, or n; any NaN equals any NaN. */
static inline size_t differs(const float *a, const float *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, sizeof *a) && !(isnan(a[i]) && isnan(b[i]))) return i;
    return n;
}

/* --bench: the least seconds of a call over many short rounds, so that a busy machine disturbs few of them. */
typedef void bench_fn(void *ctx);

static inline double bench_seconds(bench_fn *fn, void *ctx)
{
    double best = 1e9;
    for (int round = 0; round < 200; round++) {
        uint64_t start = pn_now_us(), spent = 0, calls = 0;
        for (; spent < 300; calls++) {
            fn(ctx);
            spent = pn_now_us() - start;
        }
        best = fmin(best, (double)spent * 1e-6 / (double)calls);
    }
    return best;
}

#endif
