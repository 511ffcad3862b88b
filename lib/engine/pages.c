#include "engine/pages.h"

enum { PAGE_ALIGN = 64 };

void pn_pool_init(pn_pool *p, size_t page_bytes, const ponder_alloc *a)
{
    *p = (pn_pool){.a = a, .page_bytes = page_bytes};
}

static pn_page *new_page(pn_pool *p)
{
    pn_page *page = pn_zalloc(p->a, sizeof *page);
    if (!page) return NULL;
    page->bytes = pn_alloc_aligned(p->a, p->page_bytes, PAGE_ALIGN);
    if (page->bytes) return page;
    pn_free(p->a, page, sizeof *page);
    return NULL;
}

bool pn_pool_reserve(pn_pool *p, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        pn_page *page = new_page(p);
        if (!page) {
            pn_pool_release(p, i);
            return false;
        }
        page->next = p->free;
        p->free = page;
        p->n_free++;
    }
    return true;
}

void pn_pool_release(pn_pool *p, uint64_t n)
{
    for (uint64_t i = 0; i < n && p->free; i++) {
        pn_page *page = p->free;
        p->free = page->next;
        p->n_free--;
        pn_free(p->a, page->bytes, p->page_bytes);
        pn_free(p->a, page, sizeof *page);
    }
}

pn_page *pn_pool_take(pn_pool *p)
{
    pn_page *page = p->free;
    p->free = page->next;
    p->n_free--;
    p->n_used++;
    page->next = NULL;
    page->refs = 1;
    page->spare = 0;
    return page;
}

bool pn_pool_drop(pn_pool *p, pn_page *page)
{
    if (--page->refs > 0) {
        if (page->spare == 0) return false;
        page->spare--;
        return true;
    }
    p->n_used--;
    p->n_free += 1;
    page->next = p->free;
    p->free = page;
    return true;
}
