#include "base/base.h"

/* A 64-bit mixing hash for checksums and cache keys (multiply and rotate over 8-byte words, then a final avalanche).
 * Not for adversaries: it finds damage and tells models apart. Little-endian words on every machine. */
static uint64_t load64(const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = 0; i < n; i++) v |= (uint64_t)p[i] << (8 * i);
    return v;
}

static uint64_t rotate(uint64_t v, int by)
{
    return v << by | v >> (64 - by);
}

uint64_t pn_hash64(const void *p, size_t n, uint64_t seed)
{
    const uint64_t m1 = 0x9e3779b97f4a7c15u, m2 = 0xbf58476d1ce4e5b9u, m3 = 0x94d049bb133111ebu;
    const uint8_t *b = p;
    uint64_t h = seed ^ (m1 * (uint64_t)(n + 1));
    size_t i = 0;
    for (; i + 8 <= n; i += 8) h = rotate(h ^ (load64(b + i, 8) * m1), 29) * m2 + m3;
    if (i < n) h = rotate(h ^ (load64(b + i, n - i) * m1), 29) * m2 + m3;
    h = (h ^ h >> 30) * m2;
    h = (h ^ h >> 27) * m3;
    return h ^ h >> 31;
}
