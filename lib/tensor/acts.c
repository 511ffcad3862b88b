/* Activations: memory, and the quantised form's definition. */
#include <float.h>
#include <math.h>

#include "tensor/matmul_q.h"

static size_t round64(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

/* SIZE_MAX on overflow, so that the allocation fails. */
size_t pn_acts_bytes(size_t k, uint32_t cap, bool quantised)
{
    size_t n;
    if (k > SIZE_MAX - 64 || !pn_mul(round64(k), cap, &n) || n > SIZE_MAX / 8)
        return SIZE_MAX;
    if (!quantised)
        return ((k + 15) & ~(size_t)15) * cap * sizeof(float);
    size_t blocks = (k + 31) / 32 * cap;
    return round64(blocks * 32) + round64(blocks * 2 * sizeof(float)) + round64(blocks * 2 * sizeof(int32_t));
}

void pn_acts_bind(pn_acts *a, size_t k, uint32_t cap, bool quantised, void *memory)
{
    *a = (pn_acts){.k = k, .cap = cap};
    if (!quantised) {
        a->x = memory;
        a->k_stride = (k + 15) & ~(size_t)15;
        return;
    }
    size_t blocks = (k + 31) / 32 * cap;
    uint8_t *p = memory;
    a->q = (int8_t *)p;
    a->d = (float *)(void *)(p + round64(blocks * 32));
    a->s = (int32_t *)(void *)(p + round64(blocks * 32) + round64(blocks * 2 * sizeof(float)));
}

static void put_half(const float *x, int8_t *q, float *d, int32_t *s)
{
    float amax = 0;
    for (int i = 0; i < 16; i++)
        amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
    float id = 127.0f / amax;
    bool ok = id <= FLT_MAX;
    *d = ok ? amax / 127.0f : 0;
    id = ok ? id : 0;
    *s = 0;
    for (int i = 0; i < 16; i++) {
        float v = x[i] * id;
        v = v > -127.0f ? v : -127.0f; /* NaN too: any fixed value will do, but the same everywhere */
        v = v < 127.0f ? v : 127.0f;
        q[i] = (int8_t)lrintf(v);
        *s += q[i];
    }
}

void pn_acts_put_q_c(pn_acts *a, uint32_t col, const float *x)
{
    for (size_t h = 0; h < a->k / 16; h++) {
        size_t i = (h / 2 * a->cap + col) * 2 + h % 2;
        put_half(x + 16 * h, a->q + 16 * i, a->d + i, a->s + i);
    }
}
