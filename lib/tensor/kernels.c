/* The table: float and block-format kernels of the widest level that the flags allow. */
#include "tensor/kernels_float.h"
#include "tensor/matmul_q.h"

/* One product and one acts_put a level, which part by the weights' kind. */
#define LEVEL(name, f, q, put) \
    static void matmul_##name(const pn_matrix *m, uint32_t panel0, uint32_t panel1, const pn_acts *x, uint32_t col0, \
                              uint32_t col1, float *y, size_t y_stride, void *scratch) \
    { \
        (pn_type_is_float(m->type) ? pn_matmul_float_##f : pn_matmul_q_##q)(m, panel0, panel1, x, col0, col1, y, y_stride, \
                                                                            scratch); \
    } \
    static void acts_put_##name(pn_acts *a, uint32_t col, const float *x) \
    { \
        if (a->x) memcpy(a->x + col * a->k_stride, x, a->k * sizeof *x); \
        else pn_acts_put_q_##put(a, col, x); \
    }

LEVEL(c, c, c, c)
#if defined(__x86_64__)
LEVEL(avx2, avx2, avx2, avx2)
LEVEL(avx512, avx512, avx2, avx512)
LEVEL(avx512vnni, avx512, avx512vnni, avx512)
#endif

static size_t groups_of(uint32_t hd) { return ((size_t)hd + 31) / 32; }

size_t pn_scratch_bytes(uint32_t hd)
{
    const size_t padded = ((size_t)hd + 15) / 16 * 16;
    /* A block as floats, scales of its keys and values, and weights. */
    const size_t attention = (size_t)PN_KEYS * (padded + groups_of(hd)) * 2 * sizeof(float) + 4096;
    return PN_MAX(attention, (size_t)PN_SCRATCH_PACK);
}

static size_t block_bytes(pn_kv_type t, uint32_t hd, size_t codes)
{
    const size_t values = (size_t)PN_KEYS * hd, scales = PN_KEYS * groups_of(hd);
    const size_t n = t == PN_KV_F32 ? values * 4 : t == PN_KV_F16 ? values * 2 : t == PN_KV_Q8_0 ? values + scales * sizeof(float)
                                                                                                 : codes + scales * sizeof(uint16_t);
    return (n + 63) / 64 * 64;
}

/* Q4: a byte has two values of a position, of keys neighbours, of values 16 apart. */
size_t pn_kv_key_bytes(pn_kv_type t, uint32_t hd) { return block_bytes(t, hd, ((size_t)hd + 1) / 2 * PN_KEYS); }
size_t pn_kv_value_bytes(pn_kv_type t, uint32_t hd) { return block_bytes(t, hd, groups_of(hd) * 16 * PN_KEYS); }

void pn_kernels_init(pn_kernels *k, uint32_t cpu)
{
    k->cpu = 0;
    pn_kernels_float_c(k); /* the meaning; stays */
    k->matmul = matmul_c;
    k->acts_put = acts_put_c;
    k->pack = pn_pack_panel;
#if defined(__x86_64__)
    if (!(cpu & PN_CPU_AVX2)) return;
    k->cpu = PN_CPU_AVX2;
    pn_kernels_float_avx2(k);
    k->matmul = matmul_avx2;
    k->acts_put = acts_put_avx2;
    k->pack = pn_pack_panel_avx2;
    if (!(cpu & PN_CPU_AVX512)) return;
    k->cpu |= PN_CPU_AVX512;
    pn_kernels_float_avx512(k);
    k->matmul = matmul_avx512;
    k->acts_put = acts_put_avx512;
    if (!(cpu & PN_CPU_AVX512VNNI)) return;
    k->cpu |= PN_CPU_AVX512VNNI;
    k->matmul = matmul_avx512vnni;
    k->acts_put = acts_put_avx512vnni;
#endif
}
