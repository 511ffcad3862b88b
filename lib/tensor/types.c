/* Element types: names, block shapes, and the packed layout's numbers. */
#include "tensor/matmul_q.h"

static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

enum { N_TYPES = PN_BF16 + 1 };

static const struct { const char *name; uint16_t block, bytes; } types[N_TYPES] = {
    [PN_F32] = {"F32", 1, 4},       [PN_F16] = {"F16", 1, 2},       [PN_BF16] = {"BF16", 1, 2},
    [PN_Q4_0] = {"Q4_0", 32, 18},   [PN_Q4_1] = {"Q4_1", 32, 20},   [PN_Q5_0] = {"Q5_0", 32, 22},
    [PN_Q5_1] = {"Q5_1", 32, 24},   [PN_Q8_0] = {"Q8_0", 32, 34},   [PN_Q2_K] = {"Q2_K", 256, 84},
    [PN_Q3_K] = {"Q3_K", 256, 110}, [PN_Q4_K] = {"Q4_K", 256, 144}, [PN_Q5_K] = {"Q5_K", 256, 176},
    [PN_Q6_K] = {"Q6_K", 256, 210}, [PN_IQ4_NL] = {"IQ4_NL", 32, 18}, [PN_IQ4_XS] = {"IQ4_XS", 256, 136},
};

/* block, file bytes, code bytes, scale bytes, base, extra, sub rows, has m, offset, class, table */
static const pn_q_layout layouts[N_TYPES] = {
    [PN_Q4_0] = {32, 18, 256, 32, 4, 0, 0, 0, 8, PN_Q_PLAIN, NULL},
    [PN_Q4_1] = {32, 20, 256, 64, 4, 0, 0, 1, 0, PN_Q_MIN, NULL},
    [PN_Q5_0] = {32, 22, 320, 32, 4, 1, 0, 0, 16, PN_Q_PLAIN, NULL},
    [PN_Q5_1] = {32, 24, 320, 64, 4, 1, 0, 1, 0, PN_Q_MIN, NULL},
    [PN_Q8_0] = {32, 34, 512, 32, 8, 0, 0, 0, 128, PN_Q_PLAIN, NULL},
    [PN_Q2_K] = {256, 84, 128, 320, 2, 0, 2, 1, 0, PN_Q_2K, NULL},
    [PN_Q3_K] = {256, 110, 192, 288, 2, 1, 2, 0, 4, PN_Q_3K, NULL},
    [PN_Q4_K] = {256, 144, 256, 320, 4, 0, 2, 1, 0, PN_Q_MIN, NULL},
    [PN_Q5_K] = {256, 176, 320, 320, 4, 1, 2, 1, 0, PN_Q_MIN, NULL},
    [PN_Q6_K] = {256, 210, 384, 288, 4, 2, 2, 0, 32, PN_Q_HALF, NULL},
    [PN_IQ4_NL] = {32, 18, 256, 32, 4, 0, 0, 0, 0, PN_Q_PLAIN, iq4_values},
    [PN_IQ4_XS] = {256, 136, 256, 160, 4, 0, 1, 0, 0, PN_Q_PLAIN, iq4_values},
};

bool pn_type_known(uint32_t type)
{
    return type < N_TYPES && types[type].name;
}

const char *pn_type_name(uint32_t type)
{
    return pn_type_known(type) ? types[type].name : "?";
}

uint32_t pn_type_block(pn_type t)
{
    return types[t].block;
}

size_t pn_type_block_bytes(pn_type t)
{
    return types[t].bytes;
}

bool pn_row_bytes(pn_type t, uint64_t k, size_t *bytes)
{
    *bytes = 0;
    if (!pn_type_known(t) || k % types[t].block || k > SIZE_MAX)
        return false;
    return pn_mul((size_t)k / types[t].block, types[t].bytes, bytes);
}

bool pn_type_is_float(pn_type t)
{
    return t == PN_F32 || t == PN_F16 || t == PN_BF16;
}

const pn_q_layout *pn_q_layout_of(pn_type t)
{
    return pn_type_known(t) && layouts[t].block ? &layouts[t] : NULL;
}
