/* Encoded media by content: the same picture again costs nothing while its rows are here. The least recently used go first. */
#include "session/session.h"

pn_rows *pn_cache_find(pn_media_cache *c, uint64_t key)
{
    for (uint32_t i = 0; i < c->n; i++)
        if (c->entry[i].key == key) {
            c->entry[i].used = ++c->clock;
            return pn_rows_hold(c->entry[i].rows);
        }
    return NULL;
}

static void drop(pn_media_cache *c, uint32_t i)
{
    c->bytes -= pn_rows_bytes(c->entry[i].rows);
    pn_rows_release(c->entry[i].rows);
    c->entry[i] = c->entry[--c->n];
}

static void drop_oldest(pn_media_cache *c)
{
    uint32_t oldest = 0;
    for (uint32_t i = 1; i < c->n; i++)
        if (c->entry[i].used < c->entry[oldest].used) oldest = i;
    drop(c, oldest);
}

void pn_cache_put(pn_media_cache *c, const ponder_alloc *a, uint64_t key, pn_rows *r)
{
    const uint64_t bytes = pn_rows_bytes(r);
    pn_rows *there = pn_cache_find(c, key);
    pn_rows_release(there);
    if (there || bytes > c->cap) return;
    while (c->n && c->bytes + bytes > c->cap) drop_oldest(c);
    if (c->n == c->room) {
        uint32_t room = c->room ? 2 * c->room : 16;
        pn_cached *p = pn_grow(a, c->entry, c->room * sizeof *p, room * sizeof *p);
        if (!p) return;
        c->entry = p;
        c->room = room;
    }
    c->entry[c->n++] = (pn_cached){key, ++c->clock, pn_rows_hold(r)};
    c->bytes += bytes;
}

uint64_t pn_core_media_bytes(pn_core *c)
{
    pthread_mutex_lock(&c->mutex);
    uint64_t bytes = c->cache.bytes;
    pthread_mutex_unlock(&c->mutex);
    return bytes;
}

void pn_cache_free(pn_media_cache *c, const ponder_alloc *a)
{
    while (c->n) drop(c, c->n - 1);
    pn_free(a, c->entry, c->room * sizeof *c->entry);
    *c = (pn_media_cache){0};
}
