/* Shared by the tests of block formats: random numbers, random valid blocks. */
#ifndef TEST_QUANTS_H
#define TEST_QUANTS_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tensor/matmul_q.h"

static const pn_type block_types[] = {PN_Q4_0, PN_Q4_1, PN_Q5_0, PN_Q5_1, PN_Q8_0, PN_Q2_K,
                                      PN_Q3_K, PN_Q4_K, PN_Q5_K, PN_Q6_K, PN_IQ4_NL, PN_IQ4_XS};

static inline uint64_t rnd(uint64_t *s)
{
    uint64_t z = *s += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline float rnd_float(uint64_t *s) /* -1..1 */
{
    return (float)((double)(rnd(s) >> 11) * 0x1p-52 - 1);
}

/* Random bytes are valid codes; the halves d (and m) get a sane value. */
static inline void rnd_blocks(pn_type t, uint8_t *p, size_t blocks, uint64_t *s)
{
    size_t size = pn_type_block_bytes(t), at = 0, at_m = 0;
    switch (t) {
    case PN_Q4_1: case PN_Q5_1: case PN_Q4_K: case PN_Q5_K: at_m = 2; break;
    case PN_Q2_K: at = 80; at_m = 82; break;
    case PN_Q3_K: at = 108; break;
    case PN_Q6_K: at = 208; break;
    default: break;
    }
    for (size_t b = 0; b < blocks; b++, p += size) {
        for (size_t i = 0; i < size; i++)
            p[i] = (uint8_t)rnd(s);
        uint16_t d = pn_f32_to_f16(rnd_float(s) * 0.02f), m = pn_f32_to_f16(rnd_float(s) * 0.1f);
        memcpy(p + at, &d, 2);
        if (at_m)
            memcpy(p + at_m, &m, 2);
    }
}

#endif
