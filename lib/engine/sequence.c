/* Sequences: tokens, page tables, fork, rewind. */
#include "engine/internal.h"

/* Pages a sequence can hold at once. Sliding layers: the window, the columns of a step (or of a try, which is no longer), the
 * two ends, and the window before the mark. */
static uint64_t pages_needed(const pn_kv_layout *l, uint32_t columns, uint64_t tokens, int group)
{
    uint64_t all = (tokens + PN_KEYS - 1) / PN_KEYS;
    if (!l->window[group]) return all;
    uint64_t window = l->window[group] / PN_KEYS + 2;
    return PN_MIN(all, 2 * window + PN_MAX(columns, l->block) / PN_KEYS + 1);
}

uint64_t pn_kv_reserve_bytes(const pn_kv_layout *l, uint32_t columns, uint64_t tokens)
{
    uint64_t bytes = 0;
    for (int g = 0; g < PN_GROUPS; g++) bytes += l->page_bytes[g] ? pages_needed(l, columns, tokens, g) * l->page_bytes[g] : 0;
    return bytes;
}

uint32_t pn_engine_fit(const pn_engine *e, uint32_t tokens, uint64_t bytes)
{
    while (tokens > 1 && pn_kv_reserve_bytes(&e->layout, e->o.columns, tokens) > bytes) tokens /= 2;
    return PN_MAX(tokens, 1u);
}

uint64_t pn_sequence_own_bytes(const pn_description *d, uint64_t tokens)
{
    uint64_t slots = (tokens + PN_KEYS - 1) / PN_KEYS;
    return sizeof(pn_sequence) + tokens * sizeof(int32_t) + d->vocab * sizeof(float) + PN_GROUPS * slots * (2 * sizeof(void *) + sizeof(pn_page));
}

static bool has_group(const pn_engine *e, int g) { return e->layout.page_bytes[g] != 0; }
static bool has_window(const pn_engine *e, int g) { return has_group(e, g) && e->layout.window[g] != 0; }

static void lock(pn_engine *e) { pthread_mutex_lock(&e->mutex); }
static void unlock(pn_engine *e) { pthread_mutex_unlock(&e->mutex); }

/* ---- life -------------------------------------------------------------------------------- */

/* One piece for all groups: pages, then where their bytes are. */
static size_t tables_bytes(const pn_sequence *s) { return (size_t)2 * PN_GROUPS * s->slots * sizeof(void *); }

static void free_memory(pn_sequence *s)
{
    pn_engine *e = s->e;
    pn_free(e->a, s->table[0].page, tables_bytes(s));
    pn_sequence_cut_rows(s, 0);
    pn_free(e->a, s->spans, s->cap_spans * sizeof *s->spans);
    pn_free(e->a, s->row_at, s->limit * sizeof *s->row_at);
    pn_free(e->a, s->ids, s->limit * sizeof *s->ids);
    pn_free(e->a, s->logits, e->n->d.vocab * sizeof *s->logits);
    pn_free(e->a, s->spare, e->n->d.vocab * sizeof *s->spare);
    pn_drafts_free(s);
    pn_free(e->a, s, sizeof *s);
}

static pn_sequence *new_memory(pn_engine *e, uint32_t tokens)
{
    pn_sequence *s = pn_zalloc(e->a, sizeof *s);
    if (!s) return NULL;
    s->e = e;
    s->limit = tokens;
    s->slots = (tokens + PN_KEYS - 1) / PN_KEYS;
    s->ids = pn_zalloc_array(e->a, tokens, sizeof *s->ids);
    s->logits = pn_zalloc_array(e->a, e->n->d.vocab, sizeof *s->logits);
    s->last = s->logits;
    pn_lookup_init(&s->drafts.lookup);
    pn_luck_init(&s->drafts.luck);
    pn_page **pages = pn_zalloc(e->a, tables_bytes(s));
    for (int g = 0; g < PN_GROUPS && pages; g++) {
        s->table[g].page = pages + (size_t)g * s->slots;
        s->table[g].bytes = (uint8_t **)(void *)(pages + (size_t)(PN_GROUPS + g) * s->slots);
    }
    if (s->ids && s->logits && pages) return s;
    free_memory(s);
    return NULL;
}

static void link_sequence(pn_sequence *s)
{
    pn_engine *e = s->e;
    s->prev = e->last;
    s->next = NULL;
    if (e->last) e->last->next = s;
    else e->first = s;
    e->last = s;
}

static void unlink_sequence(pn_sequence *s)
{
    pn_engine *e = s->e;
    if (s->prev) s->prev->next = s->next;
    else e->first = s->next;
    if (s->next) s->next->prev = s->prev;
    else e->last = s->prev;
}

void pn_engine_to_back(pn_sequence *s)
{
    unlink_sequence(s);
    link_sequence(s);
}

static bool reserve(pn_engine *e, const uint64_t n[PN_GROUPS])
{
    for (int g = 0; g < PN_GROUPS; g++) {
        if (!n[g] || pn_pool_reserve(&e->pool[g], n[g])) continue;
        while (g-- > 0) pn_pool_release(&e->pool[g], n[g]);
        return false;
    }
    return true;
}

static ponder_status no_pages(pn_engine *e, uint32_t tokens, ponder_error *err)
{
    uint64_t bytes = pn_kv_reserve_bytes(&e->layout, e->o.columns, tokens);
    return pn_fail(err, PONDER_E_NOMEM, "no memory for the pages of %u tokens (%llu bytes)", tokens, (unsigned long long)bytes);
}

ponder_status pn_sequence_new(pn_sequence **out, pn_engine *e, uint32_t tokens, ponder_error *err)
{
    *out = NULL;
    pn_sequence *s = new_memory(e, tokens);
    if (!s) return no_pages(e, tokens, err);
    uint64_t need[PN_GROUPS] = {0};
    for (int g = 0; g < PN_GROUPS; g++) {
        if (has_group(e, g)) need[g] = pages_needed(&e->layout, e->o.columns, tokens, g);
        s->table[g].credits = need[g];
    }
    lock(e);
    bool ok = reserve(e, need);
    if (ok) link_sequence(s);
    unlock(e);
    if (!ok) {
        free_memory(s);
        return no_pages(e, tokens, err);
    }
    *out = s;
    return PONDER_OK;
}

static void drop_page(pn_sequence *s, int g, uint32_t slot)
{
    pn_table *t = &s->table[g];
    if (!t->page[slot]) return;
    if (pn_pool_drop(&s->e->pool[g], t->page[slot])) t->credits++;
    t->page[slot] = NULL;
    t->bytes[slot] = NULL;
}

/* Pages that a step was given and then gave up go back: a fork or a saved state must not see them. */
static void drop_unwritten(pn_sequence *s)
{
    for (int g = 0; g < PN_GROUPS; g++)
        for (uint32_t i = (s->past + PN_KEYS - 1) / PN_KEYS; i < s->slots && s->table[g].page[i]; i++) drop_page(s, g, i);
}

void pn_sequence_withdraw(pn_sequence *s)
{
    pn_engine *e = s->e;
    if (s->in_step) {
        pn_engine_pause(e);
        if (s->in_step) pn_engine_drop_run(e, s);
        pn_engine_resume(e);
    }
    if (s->waiting && !s->done) e->n_waiting--;
    if (s->hot) e->n_hot--;
    s->waiting = s->hot = s->done = false;
    pn_drafts_forget(s);
    drop_unwritten(s);
}

void pn_sequence_free(pn_sequence *s)
{
    if (!s) return;
    pn_engine *e = s->e;
    lock(e);
    pn_sequence_withdraw(s);
    for (int g = 0; g < PN_GROUPS; g++) {
        for (uint32_t i = 0; i < s->slots; i++) drop_page(s, g, i);
        pn_pool_release(&e->pool[g], s->table[g].credits);
    }
    unlink_sequence(s);
    unlock(e);
    free_memory(s);
}

/* ---- fork ---------------------------------------------------------------------------------- */

/* What the child must reserve: pages it will fill, and a spare for each shared page that one of the two will have to
 * replace: the one being written, and every page of a window. */
static void fork_needs(const pn_sequence *s, uint32_t tokens, uint64_t credits[PN_GROUPS], uint64_t spares[PN_GROUPS])
{
    const pn_engine *e = s->e;
    for (int g = 0; g < PN_GROUPS; g++) {
        credits[g] = spares[g] = 0;
        if (!has_group(e, g)) continue;
        uint64_t held = 0;
        for (uint32_t i = 0; i < s->slots; i++) held += s->table[g].page[i] != NULL;
        uint64_t need = pages_needed(&e->layout, e->o.columns, tokens, g);
        credits[g] = need > held ? need - held : 0;
        bool partial = s->past % PN_KEYS != 0;
        spares[g] = has_window(e, g) ? held : partial ? 1 : 0;
    }
}

static void share_pages(pn_sequence *child, pn_sequence *s)
{
    for (int g = 0; g < PN_GROUPS; g++)
        for (uint32_t i = 0; i < PN_MIN(s->slots, child->slots); i++) {
            pn_page *p = s->table[g].page[i];
            if (!p) continue;
            p->refs++;
            if (has_window(s->e, g) || (i == s->past / PN_KEYS && s->past % PN_KEYS)) p->spare++;
            child->table[g].page[i] = p;
            child->table[g].bytes[i] = p->bytes;
        }
}

ponder_status pn_sequence_fork(pn_sequence **out, pn_sequence *s, uint32_t tokens, ponder_error *err)
{
    *out = NULL;
    pn_engine *e = s->e;
    if (tokens < s->n) return pn_fail(err, PONDER_E_CONTEXT, "%u tokens do not fit a context of %u", s->n, tokens);
    pn_sequence *c = new_memory(e, tokens);
    if (!c) return no_pages(e, tokens, err);
    ponder_status st = pn_sequence_copy_rows(c, s, err);
    if (st != PONDER_OK) {
        free_memory(c);
        return st;
    }
    uint64_t credits[PN_GROUPS], spares[PN_GROUPS], need[PN_GROUPS];
    lock(e);
    pn_sequence_withdraw(s);
    fork_needs(s, tokens, credits, spares);
    for (int g = 0; g < PN_GROUPS; g++) {
        need[g] = credits[g] + spares[g];
        c->table[g].credits = credits[g];
    }
    bool ok = reserve(e, need);
    if (ok) {
        share_pages(c, s);
        link_sequence(c);
    }
    unlock(e);
    if (!ok) {
        free_memory(c);
        return no_pages(e, tokens, err);
    }
    memcpy(c->ids, s->ids, s->n * sizeof *s->ids);
    c->n = s->n;
    c->past = s->past;
    c->mark = s->mark;
    for (int g = 0; g < PN_GROUPS; g++) c->table[g].first_kept = s->table[g].first_kept;
    c->context_from = s->context_from;
    c->logits_valid = s->logits_valid;
    if (s->logits_valid) memcpy(c->logits, s->last, e->n->d.vocab * sizeof *s->logits);
    c->drafts = (pn_drafts){.most = s->drafts.most, .propose = s->drafts.propose, .user = s->drafts.user, .lookup = s->drafts.lookup,
                            .ask = s->drafts.ask, .luck = s->drafts.luck};
    c->drafts.luck.n = 0;
    *out = c;
    return PONDER_OK;
}

/* ---- pages of a step --------------------------------------------------------------------------- */

static void own_page(pn_sequence *s, int g, uint32_t slot)
{
    pn_table *t = &s->table[g];
    pn_pool *pool = &s->e->pool[g];
    pn_page *old = t->page[slot];
    if (old && old->refs == 1) return;
    pn_page *page = pn_pool_take(pool);
    if (old) { /* copy on write, paid by the page's spare */
        memcpy(page->bytes, old->bytes, pool->page_bytes);
        old->refs--;
        if (old->spare) old->spare--;
        else t->credits--;
    } else {
        t->credits--;
    }
    t->page[slot] = page;
    t->bytes[slot] = page->bytes;
}

static bool prepare(pn_sequence *s, int g, uint32_t n)
{
    pn_page *const *page = s->table[g].page;
    for (uint32_t slot = s->past / PN_KEYS; slot <= (s->past + n - 1) / PN_KEYS; slot++) {
        if (!s->e->pool[g].free && !(page[slot] && page[slot]->refs == 1)) return false;
        if (g == PN_DRAFTER && !page[slot] && slot * PN_KEYS < s->past) s->context_from = s->past; /* it was given up, or never there */
        own_page(s, g, slot);
    }
    return true;
}

bool pn_sequence_prepare(pn_sequence *s, uint32_t n)
{
    for (int g = 0; g < PN_GROUPS; g++)
        if (has_group(s->e, g) && !prepare(s, g, n)) return false;
    return true;
}

bool pn_sequence_prepare_block(pn_sequence *s, uint32_t n) { return prepare(s, PN_DRAFTER, n); }

static uint32_t window_slot(const pn_sequence *s, int g, uint32_t pos)
{
    uint32_t window = s->e->layout.window[g];
    return pos > window ? (pos - window) / PN_KEYS : 0; /* one position more than it sees: the last can be done again */
}

static void trim(pn_sequence *s, int g)
{
    pn_table *t = &s->table[g];
    uint32_t keep = window_slot(s, g, s->hold ? PN_MIN(s->past, s->hold) : s->past), mark_from = window_slot(s, g, s->mark), mark_to = s->mark / PN_KEYS;
    for (uint32_t i = t->first_kept; i < keep; i++)
        if (i < mark_from || i > mark_to) drop_page(s, g, i);
    t->first_kept = PN_MIN(keep, mark_from);
}

void pn_sequence_trim(pn_sequence *s)
{
    for (int g = 0; g < PN_GROUPS; g++)
        if (has_window(s->e, g)) trim(s, g);
}

void pn_sequence_commit(pn_sequence *s, uint32_t n)
{
    s->past += n;
    pn_sequence_trim(s);
}

/* ---- tokens --------------------------------------------------------------------------------------- */

uint32_t pn_sequence_limit(const pn_sequence *s) { return s->limit; }
uint32_t pn_sequence_count(const pn_sequence *s) { return s->n; }
uint32_t pn_sequence_computed(const pn_sequence *s) { return s->past; }
const int32_t *pn_sequence_ids(const pn_sequence *s) { return s->ids; }
const float *pn_sequence_logits(const pn_sequence *s) { return s->logits_valid && s->past == s->n ? s->last : NULL; }

uint64_t pn_sequence_bytes(const pn_sequence *s)
{
    pn_engine *e = s->e;
    uint64_t bytes = sizeof *s + s->limit * sizeof *s->ids + e->n->d.vocab * sizeof *s->logits;
    if (s->drafts.rows) bytes += (s->drafts.cap + 1) * e->n->d.vocab * sizeof *s->drafts.rows;
    lock(e);
    for (int g = 0; g < PN_GROUPS; g++) {
        uint64_t held = s->table[g].credits;
        for (uint32_t i = 0; i < s->slots; i++) held += s->table[g].page[i] != NULL;
        bytes += held * e->pool[g].page_bytes + 2 * s->slots * sizeof(void *);
    }
    unlock(e);
    return bytes;
}

uint64_t pn_sequence_kv_bytes(const pn_sequence *s, bool own)
{
    uint64_t bytes = 0;
    lock(s->e);
    for (int g = 0; g < PN_GROUPS; g++)
        for (uint32_t i = 0; i < s->slots; i++) {
            const pn_page *p = s->table[g].page[i];
            if (p && (!own || p->refs == 1)) bytes += s->e->pool[g].page_bytes;
        }
    unlock(s->e);
    return bytes;
}

ponder_status pn_sequence_append(pn_sequence *s, const int32_t *ids, size_t n, ponder_error *err)
{
    if (n > s->limit - s->n)
        return pn_fail(err, PONDER_E_CONTEXT, "%zu tokens after %u do not fit the context of %u", n, s->n, s->limit);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= s->e->n->d.vocab)
            return pn_fail(err, PONDER_E_RANGE, "token %d is outside the vocabulary of %u", ids[i], s->e->n->d.vocab);
    lock(s->e);
    if (s->waiting) pn_sequence_withdraw(s); /* a step that was left half done */
    unlock(s->e);
    if (n) memcpy(s->ids + s->n, ids, n * sizeof *ids);
    s->n += (uint32_t)n;
    return PONDER_OK;
}

void pn_sequence_mark(pn_sequence *s)
{
    lock(s->e);
    s->mark = s->past;
    if (!s->in_step) pn_sequence_trim(s);
    unlock(s->e);
}

/* Whether the sliding layers still have what a query at `pos` sees. */
static bool can_resume(const pn_sequence *s, uint32_t pos)
{
    if (!has_group(s->e, PN_SLIDING) || pos == 0) return true;
    uint32_t window = s->e->n->d.window, low = pos + 1 > window ? pos + 1 - window : 0;
    for (uint32_t i = low / PN_KEYS; i <= (pos - 1) / PN_KEYS; i++)
        if (!s->table[PN_SLIDING].page[i]) return false;
    return true;
}

/* Going back gives up pages; those that others still hold give no credit, and the page that will be written again may be
 * shared. Both are paid for now or the rewind fails. */
static bool pay_for_rewind(pn_sequence *s, uint32_t past)
{
    uint64_t need[PN_GROUPS] = {0};
    uint32_t keep = (past + PN_KEYS - 1) / PN_KEYS;
    for (int g = 0; g < PN_GROUPS; g++) {
        for (uint32_t i = keep; i < s->slots; i++) {
            const pn_page *p = s->table[g].page[i];
            if (p && p->refs > 1 && p->spare == 0) need[g]++;
        }
        const pn_page *last = past % PN_KEYS ? s->table[g].page[past / PN_KEYS] : NULL;
        if (last && last->refs > 1 && last->spare == 0) need[g]++;
    }
    if (!reserve(s->e, need)) return false;
    for (int g = 0; g < PN_GROUPS; g++) {
        pn_page *last = past % PN_KEYS ? s->table[g].page[past / PN_KEYS] : NULL;
        if (last && last->refs > 1 && last->spare == 0) {
            last->spare++;
            need[g]--;
        }
        s->table[g].credits += need[g];
    }
    return true;
}

ponder_status pn_sequence_rewind(pn_sequence *s, uint32_t tokens, uint32_t *recompute, ponder_error *err)
{
    if (tokens > s->n) return pn_fail(err, PONDER_E_RANGE, "position %u is beyond the %u tokens there are", tokens, s->n);
    uint32_t past = PN_MIN(tokens, s->past);
    lock(s->e);
    pn_sequence_withdraw(s);
    if (past < s->past && !can_resume(s, past)) past = s->mark < past && can_resume(s, s->mark) ? s->mark : 0;
    bool ok = past == s->past || pay_for_rewind(s, past);
    if (ok && past < s->past) {
        for (int g = 0; g < PN_GROUPS; g++)
            for (uint32_t i = (past + PN_KEYS - 1) / PN_KEYS; i < s->slots; i++) drop_page(s, g, i);
        s->past = past;
        s->logits_valid = false;
        for (int g = 0; g < PN_GROUPS; g++) s->table[g].first_kept = 0;
        s->context_from = PN_MIN(s->context_from, past);
        s->mark = PN_MIN(s->mark, past);
    }
    unlock(s->e);
    if (!ok) return no_pages(s->e, s->limit, err);
    if (tokens < s->n) s->drafts.lookup.seen = s->drafts.luck.n = 0;
    s->n = tokens;
    pn_sequence_cut_rows(s, tokens);
    if (recompute) *recompute = tokens - PN_MIN(past, tokens);
    return PONDER_OK;
}

/* ---- tries ---------------------------------------------------------------------------------------- */

uint32_t pn_engine_try_most(const pn_engine *e) { return e->o.columns; }
uint32_t pn_sequence_held(const pn_sequence *s) { return s->hold ? s->hold : s->n; }

static void swap_logits(pn_sequence *s)
{
    float *logits = s->logits;
    s->logits = s->spare;
    s->spare = logits;
    s->last = s->logits;
}

ponder_status pn_sequence_hold(pn_sequence *s, ponder_error *err)
{
    if (!pn_sequence_logits(s)) return pn_fail(err, PONDER_E_INTERNAL, "a try without logits to come back to");
    const size_t bytes = s->e->n->d.vocab * sizeof *s->spare;
    if (!s->spare && !(s->spare = pn_alloc(s->e->a, bytes))) return pn_nomem(err, bytes);
    pn_drafts_forget(s);
    if (s->last != s->logits) memcpy(s->logits, s->last, bytes);
    s->hold = s->n;
    swap_logits(s);
    s->logits_valid = false;
    return PONDER_OK;
}

/* Pages of the try are the sequence's own: going back cannot fail. */
void pn_sequence_return(pn_sequence *s)
{
    if (!s->hold) return;
    const uint32_t at = s->hold;
    if (s->n > at) pn_sequence_rewind(s, at, NULL, NULL);
    s->hold = 0;
    swap_logits(s);
    s->logits_valid = true;
}

bool pn_sequence_submitted(const pn_sequence *s) { return s->waiting; }

void pn_sequence_cancel(pn_sequence *s)
{
    atomic_store(&s->cancel, true);
    atomic_store(&s->e->rest, true);
}

const _Atomic bool *pn_sequence_cancelled(const pn_sequence *s) { return &s->cancel; }
bool pn_sequence_take_cancel(pn_sequence *s) { return atomic_exchange(&s->cancel, false); }

void pn_sequence_rest(pn_sequence *s)
{
    lock(s->e);
    if (s->hot) s->e->n_hot--;
    s->hot = false;
    if (s->e->gatherer && !pn_gather_more(s->e)) pn_caller_wake(s->e->gatherer);
    unlock(s->e);
}
