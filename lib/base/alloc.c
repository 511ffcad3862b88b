#include "base/base.h"

#include <stdlib.h>

enum { DEFAULT_ALIGN = 16 };

bool pn_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

bool pn_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

void *pn_alloc_aligned(const ponder_alloc *a, size_t bytes, size_t align)
{
    if (bytes == 0) bytes = 1;
    if (align < DEFAULT_ALIGN) align = DEFAULT_ALIGN;
    if (a && a->alloc) return a->alloc(a->user, bytes, align);
    if (align == DEFAULT_ALIGN) return malloc(bytes);
    void *p = NULL;
    return posix_memalign(&p, align, bytes) == 0 ? p : NULL;
}

void *pn_alloc(const ponder_alloc *a, size_t bytes)
{
    return pn_alloc_aligned(a, bytes, DEFAULT_ALIGN);
}

void *pn_zalloc(const ponder_alloc *a, size_t bytes)
{
    void *p = pn_alloc(a, bytes);
    if (p) memset(p, 0, bytes);
    return p;
}

void *pn_zalloc_array(const ponder_alloc *a, size_t n, size_t size)
{
    size_t bytes;
    return pn_mul(n, size, &bytes) ? pn_zalloc(a, bytes) : NULL;
}

void pn_free(const ponder_alloc *a, void *p, size_t bytes)
{
    if (!p) return;
    if (a && a->free) a->free(a->user, p, bytes ? bytes : 1);
    else free(p);
}

void *pn_grow(const ponder_alloc *a, void *p, size_t old_bytes, size_t new_bytes)
{
    void *q = pn_alloc(a, new_bytes);
    if (!q) return NULL;
    if (p) memcpy(q, p, PN_MIN(old_bytes, new_bytes));
    pn_free(a, p, old_bytes);
    return q;
}
