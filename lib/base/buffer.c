#include "base/base.h"

#include <stdio.h>

void pn_buf_init(pn_buf *b, const ponder_alloc *a)
{
    *b = (pn_buf){.a = a};
}

void pn_buf_free(pn_buf *b)
{
    pn_free(b->a, b->p, b->cap);
    pn_buf_init(b, b->a);
}

bool pn_buf_reserve(pn_buf *b, size_t more)
{
    size_t need;
    if (b->failed || !pn_add(b->n, more, &need)) {
        b->failed = true;
        return false;
    }
    if (need <= b->cap) return true;
    size_t cap = b->cap < 64 ? 64 : b->cap;
    while (cap < need && cap <= SIZE_MAX / 2) cap *= 2;
    if (cap < need) cap = need;
    char *p = pn_grow(b->a, b->p, b->cap, cap);
    if (!p) {
        b->failed = true;
        return false;
    }
    b->p = p;
    b->cap = cap;
    return true;
}

bool pn_buf_put(pn_buf *b, const void *p, size_t n)
{
    if (!pn_buf_reserve(b, n)) return false;
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
    return true;
}

bool pn_buf_puts(pn_buf *b, const char *s)
{
    return pn_buf_put(b, s, strlen(s));
}

bool pn_buf_printf(pn_buf *b, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0) {
        b->failed = true;
        return false;
    }
    if ((size_t)n < sizeof text) return pn_buf_put(b, text, (size_t)n);
    if (!pn_buf_reserve(b, (size_t)n + 1)) return false;
    va_start(ap, fmt);
    vsnprintf(b->p + b->n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->n += (size_t)n;
    return true;
}
