#include "session/session.h"

static void *take(void *user, size_t bytes, size_t align)
{
    pn_meter *m = user;
    uint64_t below = m->below ? atomic_load(&m->below->used) : 0;
    uint64_t used = atomic_fetch_add(&m->used, bytes) + bytes;
    void *p = NULL;
    if (!m->cap || used + below <= m->cap) p = pn_alloc_aligned(m->inner.alloc ? &m->inner : NULL, bytes, align);
    if (!p) {
        atomic_fetch_sub(&m->used, bytes);
        return NULL;
    }
    uint64_t peak = atomic_load(&m->peak);
    while (used + below > peak && !atomic_compare_exchange_weak(&m->peak, &peak, used + below)) {}
    return p;
}

static void give_back(void *user, void *p, size_t bytes)
{
    pn_meter *m = user;
    atomic_fetch_sub(&m->used, bytes);
    pn_free(m->inner.free ? &m->inner : NULL, p, bytes);
}

void pn_meter_init(pn_meter *m, const ponder_alloc *inner, uint64_t cap, pn_meter *below)
{
    memset(m, 0, sizeof *m);
    m->alloc = (ponder_alloc){sizeof m->alloc, m, take, give_back};
    if (inner) m->inner = *inner;
    m->cap = cap;
    m->below = below;
}

ponder_status pn_name_cap(ponder_status st, uint64_t cap, ponder_error *err)
{
    if (st != PONDER_E_NOMEM || !cap) return st;
    return pn_fail(err, st, "the memory cap of %llu bytes would be passed", (unsigned long long)cap);
}

uint64_t pn_meter_used(const pn_meter *m) { return atomic_load(&m->used) + (m->below ? atomic_load(&m->below->used) : 0); }
uint64_t pn_meter_peak(const pn_meter *m) { return PN_MAX(atomic_load(&m->peak), m->below ? atomic_load(&m->below->peak) : 0); }
