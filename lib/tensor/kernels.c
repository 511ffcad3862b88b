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

size_t pn_scratch_bytes(uint32_t hd)
{
    const size_t padded = ((size_t)hd + 15) / 16 * 16;
    const size_t attention = (size_t)PN_KEYS * padded * 2 * sizeof(float) + 4096; /* a block as floats, and weights */
    return PN_MAX(attention, (size_t)PN_SCRATCH_PACK);
}

size_t pn_kv_key_bytes(pn_kv_type t, uint32_t hd)
{
    const size_t values = (size_t)PN_KEYS * hd, groups = ((size_t)hd + 31) / 32;
    const size_t n = t == PN_KV_F32 ? values * 4 : t == PN_KV_F16 ? values * 2 : values + groups * PN_KEYS * sizeof(float);
    return (n + 63) / 64 * 64;
}

size_t pn_kv_value_bytes(pn_kv_type t, uint32_t hd) { return pn_kv_key_bytes(t, hd); }

void pn_kernels_init(pn_kernels *k, uint32_t cpu)
{
    k->cpu = 0;
    pn_kernels_float_c(k); /* the meaning; stays */
    k->matmul = matmul_c;
    k->acts_put = acts_put_c;
#if defined(__x86_64__)
    if (!(cpu & PN_CPU_AVX2)) return;
    k->cpu = PN_CPU_AVX2;
    pn_kernels_float_avx2(k);
    k->matmul = matmul_avx2;
    k->acts_put = acts_put_avx2;
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
