#include "grammar/dfa.h"

typedef struct pn_matcher matcher;

static size_t matcher_bytes(uint32_t undo) { return sizeof(matcher) + (size_t)undo * sizeof(pn_place); }

static void link_matcher(matcher *m)
{
    m->next = m->core->matchers;
    if (m->next) m->next->before = m;
    m->core->matchers = m;
}

static void unlink_matcher(matcher *m)
{
    if (m->next) m->next->before = m->before;
    if (m->before) m->before->next = m->next;
    else m->core->matchers = m->next;
}

static void stand(matcher *m, pn_place at)
{
    m->at = at;
    m->flags = at.frame == 0 ? m->core->states[at.state]->flags : 0;
}

ponder_status pn_matcher_new(pn_matcher **out, pn_grammar *g, pn_vocab_trie *t, uint32_t undo, size_t cache_bytes, const ponder_alloc *a, ponder_error *err)
{
    pn_core *core;
    *out = NULL;
    if (undo > 1 << 24) return pn_fail(err, PONDER_E_RANGE, "matcher: %u tokens to take back", (unsigned)undo);
    ponder_status st = pn_core_new(&core, g, t, cache_bytes, a, err);
    if (st) return st;
    matcher *m = pn_zalloc(core->a, matcher_bytes(undo));
    if (!m) {
        pn_core_free(core);
        return pn_nomem(err, matcher_bytes(undo));
    }
    m->core = core;
    m->undo_cap = undo;
    link_matcher(m);
    stand(m, (pn_place){0, core->start});
    *out = m;
    return PONDER_OK;
}

ponder_status pn_matcher_clone(pn_matcher **out, const pn_matcher *from, ponder_error *err)
{
    pn_core *core = from->core;
    *out = NULL;
    matcher *m = pn_alloc(core->a, matcher_bytes(from->undo_cap));
    if (!m) return pn_nomem(err, matcher_bytes(from->undo_cap));
    atomic_fetch_add_explicit(&core->refs, 1, memory_order_relaxed);
    pthread_mutex_lock(&core->mutex);
    memcpy(m, from, matcher_bytes(from->undo_cap));
    m->next = m->before = NULL;
    link_matcher(m);
    pthread_mutex_unlock(&core->mutex);
    *out = m;
    return PONDER_OK;
}

void pn_matcher_free(pn_matcher *m)
{
    if (!m) return;
    pn_core *core = m->core;
    pthread_mutex_lock(&core->mutex);
    unlink_matcher(m);
    pthread_mutex_unlock(&core->mutex);
    pn_free(core->a, m, matcher_bytes(m->undo_cap));
    pn_core_free(core);
}

ponder_status pn_matcher_assign(pn_matcher *to, const pn_matcher *from)
{
    if (to->core != from->core || to->undo_cap != from->undo_cap) return PONDER_E_ARGUMENT;
    if (to == from) return PONDER_OK;
    pthread_mutex_lock(&to->core->mutex);
    to->at = from->at;
    to->flags = from->flags;
    to->n_undo = from->n_undo;
    to->undo_at = from->undo_at;
    memcpy(to->undo, from->undo, (size_t)to->undo_cap * sizeof *to->undo);
    pthread_mutex_unlock(&to->core->mutex);
    return PONDER_OK;
}

void pn_matcher_reset(pn_matcher *m)
{
    pthread_mutex_lock(&m->core->mutex);
    m->n_undo = m->undo_at = 0;
    stand(m, (pn_place){0, m->core->start});
    pthread_mutex_unlock(&m->core->mutex);
}

static void remember(matcher *m)
{
    if (m->undo_cap == 0) return;
    m->undo[m->undo_at] = m->at;
    m->undo_at = (m->undo_at + 1) % m->undo_cap;
    if (m->n_undo < m->undo_cap) m->n_undo++;
}

/* Whether the bytes may come from here; *at is where they lead. */
static bool follow(pn_core *c, pn_place *at, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!pn_core_advance(c, at, p[i])) return false;
    return true;
}

ponder_status pn_matcher_accept_bytes(pn_matcher *m, const void *p, size_t n, ponder_error *err)
{
    pn_core *c = m->core;
    pn_core_begin(c);
    pn_place at = m->at;
    const bool ok = follow(c, &at, p, n) && !c->status;
    if (ok) {
        remember(m);
        stand(m, at);
    }
    const ponder_status st = pn_core_end(c, err);
    if (st || ok) return st;
    return pn_fail(err, PONDER_E_ARGUMENT, "grammar: these bytes are not allowed here");
}

ponder_status pn_matcher_accept(pn_matcher *m, int32_t token, ponder_error *err)
{
    const pn_vocab_trie *t = m->core->t;
    size_t n = 0;
    const char *p = token >= 0 && (uint32_t)token < t->n_tokens ? pn_trie_bytes(t, (uint32_t)token, &n) : NULL;
    if (n == 0) return pn_fail(err, PONDER_E_ARGUMENT, "grammar: token %d is none that can be written", (int)token);
    return pn_matcher_accept_bytes(m, p, n, err);
}

bool pn_matcher_allows(pn_matcher *m, int32_t token)
{
    pn_core *c = m->core;
    size_t n = 0;
    const char *p = token >= 0 && (uint32_t)token < c->t->n_tokens ? pn_trie_bytes(c->t, (uint32_t)token, &n) : NULL;
    if (n == 0) return false;
    pn_core_begin(c);
    pn_place at = m->at;
    const bool ok = follow(c, &at, (const uint8_t *)p, n);
    return !pn_core_end(c, NULL) && ok;
}

ponder_status pn_matcher_rollback(pn_matcher *m, uint32_t n)
{
    if (n > m->n_undo) return PONDER_E_RANGE;
    if (n == 0) return PONDER_OK;
    pthread_mutex_lock(&m->core->mutex);
    m->undo_at = (m->undo_at + m->undo_cap - n) % m->undo_cap;
    m->n_undo -= n;
    stand(m, m->undo[m->undo_at]);
    pthread_mutex_unlock(&m->core->mutex);
    return PONDER_OK;
}

uint32_t pn_matcher_undoable(const pn_matcher *m) { return m->n_undo; }

ponder_status pn_matcher_mask(pn_matcher *m, uint32_t *words, ponder_error *err)
{
    pn_core_begin(m->core);
    pn_core_mask(m->core, m->at, words);
    return pn_core_end(m->core, err);
}

bool pn_matcher_can_end(const pn_matcher *m) { return m->flags & STATE_ENDS; }
bool pn_matcher_is_done(const pn_matcher *m) { return m->flags & STATE_DONE; }

/* The only byte that may come, -1: there are several, or the text may end, or memory is out. */
static int only_byte(pn_core *c, pn_place at, pn_place *to)
{
    int only = -1;
    const bool ends = at.frame == 0 && (c->states[at.state]->flags & STATE_ENDS);
    for (uint32_t byte = 0; byte < 256 && !ends && !c->status; byte++) {
        pn_place next = at;
        if (!pn_core_advance(c, &next, (uint8_t)byte)) continue;
        if (only >= 0) return -1;
        only = (int)byte;
        *to = next;
    }
    return c->status ? -1 : only;
}

ponder_status pn_matcher_forced(pn_matcher *m, pn_buf *out, ponder_error *err)
{
    enum { MOST = 1024 };
    pn_core *c = m->core;
    const size_t n = out->n;
    pn_core_begin(c);
    pn_place at = m->at, to = at;
    for (int i = 0, byte; i < MOST && (byte = only_byte(c, at, &to)) >= 0; i++) {
        const char b = (char)byte;
        pn_buf_put(out, &b, 1);
        at = to;
    }
    if (out->failed) c->status = PONDER_E_NOMEM;
    if (c->status) out->n = n;
    return pn_core_end(c, err);
}

void pn_matcher_get_stats(const pn_matcher *m, pn_matcher_stats *out)
{
    pn_core *c = m->core;
    pthread_mutex_lock(&c->mutex);
    *out = (pn_matcher_stats){.states = c->n_states - 1 - c->n_free_states, .masks_computed = c->masks_computed,
        .masks_cached = c->masks_cached, .sweeps = c->sweeps, .cut_short = c->cut_short, .bytes = c->state_bytes + c->mask_bytes};
    pthread_mutex_unlock(&c->mutex);
}
