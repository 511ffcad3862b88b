/* Inside the engine room: pages and the promises about them. All of it under the engine's lock.
 *
 * A sequence owns credits: pages set aside for it. Every page a pool has allocated is in use, or covered by a credit of a
 * sequence, or by a spare of a shared page. A spare pays for the copy or the replacement that sharing will cost one of
 * the holders; whoever pays takes it. So a running sequence always finds its page, whatever the others do. */
#ifndef PN_ENGINE_PAGES_H
#define PN_ENGINE_PAGES_H

#include "base/base.h"

typedef struct pn_page {
    struct pn_page *next;     /* in the free list */
    uint32_t refs, spare;
    uint8_t *bytes;
} pn_page;

typedef struct pn_pool {
    const ponder_alloc *a;
    size_t page_bytes;
    pn_page *free;
    uint64_t n_free, n_used;
} pn_pool;

void pn_pool_init(pn_pool *p, size_t page_bytes, const ponder_alloc *a);
bool pn_pool_reserve(pn_pool *p, uint64_t n);   /* n more free pages, or none */
void pn_pool_release(pn_pool *p, uint64_t n);   /* n free pages go back to the host */
pn_page *pn_pool_take(pn_pool *p);              /* refs 1; paid by the caller's credit or a spare */
/* One holder less. True when the holder may add a credit: the page became free, or a spare paid. */
bool pn_pool_drop(pn_pool *p, pn_page *page);

#endif
