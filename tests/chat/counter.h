/* An allocator that fails once, and knows what is still held. */
#ifndef CHAT_COUNTER_H
#define CHAT_COUNTER_H

#include <stdlib.h>

#include "base/base.h"

typedef struct counter {
    size_t calls, fail_at, live, peak;
} counter;

static inline void *counted_alloc(void *user, size_t bytes, size_t align)
{
    counter *c = user;
    if (++c->calls == c->fail_at) return NULL;
    c->live += bytes;
    c->peak = PN_MAX(c->peak, c->live);
    return malloc(bytes);
}

static inline void counted_free(void *user, void *p, size_t bytes)
{
    counter *c = user;
    c->live -= bytes;
    free(p);
}

static inline ponder_alloc counter_alloc(counter *c)
{
    return (ponder_alloc){sizeof(ponder_alloc), c, counted_alloc, counted_free};
}

#endif
