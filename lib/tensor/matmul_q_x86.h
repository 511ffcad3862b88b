/* The packed layout's numbers as compile-time constants, so that one always-inlined kernel body becomes a straight loop
 * for each type. They repeat the table of types.c; the products' tests compare every type bit for bit. */
#ifndef PN_MATMUL_Q_X86_H
#define PN_MATMUL_Q_X86_H

#include <immintrin.h>

#include "tensor/matmul_q.h"

#define INLINE static inline __attribute__((always_inline))

INLINE bool is_iq4(int t) { return t == PN_IQ4_NL || t == PN_IQ4_XS; }
INLINE int base_of(int t) { return t == PN_Q8_0 ? 8 : t == PN_Q2_K || t == PN_Q3_K ? 2 : 4; }
INLINE int extra_of(int t)
{
    return t == PN_Q6_K ? 2 : t == PN_Q5_0 || t == PN_Q5_1 || t == PN_Q5_K || t == PN_Q3_K ? 1 : 0;
}
INLINE bool has_m(int t) { return t == PN_Q4_1 || t == PN_Q5_1 || t == PN_Q2_K || t == PN_Q4_K || t == PN_Q5_K; }
INLINE int sub_rows_of(int t)
{
    return t == PN_IQ4_XS ? 1 : t == PN_Q2_K || t == PN_Q3_K || t == PN_Q4_K || t == PN_Q5_K || t == PN_Q6_K ? 2 : 0;
}
INLINE int per_of(int t) { return sub_rows_of(t) ? 8 : 1; } /* 32-blocks a block */
INLINE size_t code_bytes_of(int t) { return 64u * (size_t)(base_of(t) + extra_of(t)); }
INLINE size_t scale_bytes_of(int t)
{
    return 32u + (has_m(t) ? 32u : 0) + 16u * (size_t)(per_of(t) * sub_rows_of(t));
}
INLINE pn_q_class class_of(int t)
{
    return t == PN_Q2_K ? PN_Q_2K : t == PN_Q3_K ? PN_Q_3K : t == PN_Q6_K ? PN_Q_HALF : has_m(t) ? PN_Q_MIN : PN_Q_PLAIN;
}

/* Lines of 64 bytes into L2; returns where to go on. */
INLINE const uint8_t *fetch_lines(const uint8_t *from, uint32_t lines)
{
    for (uint32_t i = 0; i < lines; i++, from += 64) _mm_prefetch((const char *)from, _MM_HINT_T1);
    return from;
}

/* Few columns leave little time a byte of weights: codes are fetched at this distance. Into L2: measured 15 % faster than into L1,
 * and two panels at once faster than one. */
enum { FETCH_BYTES = 4096 };
INLINE void fetch_ahead(int t, const uint8_t *codes) { fetch_lines(codes + FETCH_BYTES, (uint32_t)code_bytes_of(t) / 64); }

/* What is fetched as the panels are read: the blocks that come a distance after the current one, their scales too (a stream of its own,
 * whose misses cost as much), and where the panels end, the next two's. So memory is read without a pause. */
typedef struct distance {
    ptrdiff_t codes, scales;  /* from the current place to what is fetched */
} distance;

/* Into L1, unlike the above: it is used at once. */
INLINE void fetch(const uint8_t *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64)
        _mm_prefetch((const char *)from + i, _MM_HINT_T0);
}

INLINE distance ahead_of(const int t, const pn_q_tile *k, size_t b)
{
    const size_t blocks = FETCH_BYTES / code_bytes_of(t) / (size_t)per_of(t) * (size_t)per_of(t);
    distance a = {(ptrdiff_t)(blocks * code_bytes_of(t)), (ptrdiff_t)(blocks / (size_t)per_of(t) * scale_bytes_of(t))};
    if (b + blocks >= k->n_blocks && k->n_panels == 2) {
        const ptrdiff_t next = 2 * (k->codes[1] - k->codes[0]);
        a.codes += next - (ptrdiff_t)(k->n_blocks * code_bytes_of(t));
        a.scales += next - (ptrdiff_t)(k->n_blocks / (size_t)per_of(t) * scale_bytes_of(t));
    }
    return a;
}

#define FOR_Q_TYPES(X) \
    X(PN_Q4_0) X(PN_Q4_1) X(PN_Q5_0) X(PN_Q5_1) X(PN_Q8_0) X(PN_Q2_K) \
    X(PN_Q3_K) X(PN_Q4_K) X(PN_Q5_K) X(PN_Q6_K) X(PN_IQ4_NL) X(PN_IQ4_XS)

#endif
