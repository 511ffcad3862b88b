#include "grammar/dfa.h"

bool pn_core_room(pn_core *c, void **p, size_t *cap, size_t n, size_t size)
{
    if (n < *cap) return true;
    const size_t more = PN_MAX(n + 1, *cap ? 2 * *cap : 64);
    void *q = pn_grow(c->a, *p, *cap * size, more * size);
    if (!q) {
        c->status = PONDER_E_NOMEM;
        return false;
    }
    *p = q;
    *cap = more;
    return true;
}

/* ---- sets of elements -------------------------------------------------------------------------------------------------------------------- */

static uint32_t counter(pn_element e, uint32_t which) { return (uint32_t)(e >> (which == COUNT_ITEMS ? 20 : 0)) & 0xfffff; }

static pn_element with_counter(pn_element e, uint32_t which, uint32_t v)
{
    const unsigned shift = which == COUNT_ITEMS ? 20 : 0;
    return (e & ~((pn_element)0xfffff << shift)) | (pn_element)v << shift;
}

static pn_element at_node(pn_element e, pn_nid node) { return (e & 0xffffffffffu) | (pn_element)node << 40; }

static bool grow_seen(pn_core *c)
{
    const size_t old_n = c->cap_seen, n = old_n ? old_n * 2 : 256;
    pn_seen *more = pn_zalloc_array(c->a, n, sizeof *more), *old = c->seen;
    if (!more) {
        c->status = PONDER_E_NOMEM;
        return false;
    }
    c->seen = more;
    c->cap_seen = n;
    for (size_t i = 0; i < old_n; i++) {
        if (old[i].stamp != c->stamp) continue;
        size_t k = (size_t)(old[i].e * 0x9e3779b97f4a7c15u >> 30) & (n - 1);
        while (c->seen[k].stamp == c->stamp) k = (k + 1) & (n - 1);
        c->seen[k] = old[i];
    }
    pn_free(c->a, old, old_n * sizeof *old);
    return true;
}

/* True the first time since the closure began. */
static bool first_time(pn_core *c, pn_element e)
{
    if (c->n_seen * 2 >= c->cap_seen && !grow_seen(c)) return false;
    size_t k = (size_t)(e * 0x9e3779b97f4a7c15u >> 30) & (c->cap_seen - 1);
    for (; c->seen[k].stamp == c->stamp; k = (k + 1) & (c->cap_seen - 1))
        if (c->seen[k].e == e) return false;
    c->seen[k].e = e;
    c->seen[k].stamp = c->stamp;
    c->n_seen++;
    return true;
}

static void begin_set(pn_core *c)
{
    c->n_set = c->n_todo = c->n_seen = 0;
    c->stamp++;
}

static void todo(pn_core *c, pn_element e)
{
    if (pn_core_room(c, (void **)&c->todo, &c->cap_todo, c->n_todo, sizeof *c->todo)) c->todo[c->n_todo++] = e;
}

static void keep(pn_core *c, pn_element e)
{
    if (c->n_set == SET_ELEMENTS_MOST) {
        c->status = PONDER_E_RANGE;
        c->problem = "grammar: too many ways at once";
    } else if (pn_core_room(c, (void **)&c->set, &c->cap_set, c->n_set, sizeof *c->set)) {
        c->set[c->n_set++] = e;
    }
}

static void count(pn_core *c, pn_element e, const pn_node *x)
{
    const uint32_t have = counter(e, x->lo), then = x->hi ? PN_MIN(have + 1, x->arg) : have + 1;
    if (then <= x->arg) todo(c, with_counter(at_node(e, x->next), x->lo, then));
}

/* Everything reached from the elements to do without reading a byte. */
static void close_set(pn_core *c)
{
    while (c->n_todo > 0 && !c->status) {
        const pn_element e = c->todo[--c->n_todo];
        const pn_node *x = &c->g->nodes[e >> 40];
        c->work--;
        if (x->need == NEED_NEVER) continue;
        if (x->kind == N_BYTE || x->kind == N_CALL || x->kind == N_FINAL) {
            keep(c, e);
            continue;
        }
        if (!first_time(c, e)) continue;
        if (x->kind == N_COUNT) {
            count(c, e, x);
        } else if (x->kind == N_CHECK) {
            if (counter(e, x->lo) >= x->arg) todo(c, with_counter(at_node(e, x->next), x->lo, 0));
        } else {
            if (x->kind == N_FREE) keep(c, e);
            if (x->kind == N_SPLIT) todo(c, at_node(e, x->arg));
            todo(c, at_node(e, x->next));
        }
    }
}

static void sift(pn_element *s, size_t n, size_t i)
{
    for (;;) {
        size_t most = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < n; child++)
            if (s[most] < s[child]) most = child;
        if (most == i) return;
        const pn_element t = s[i];
        s[i] = s[most];
        s[most] = t;
        i = most;
    }
}

static void sort(pn_element *s, size_t n)
{
    if (n > 32) {
        for (size_t i = n / 2; i-- > 0;) sift(s, n, i);
        for (size_t end = n; end > 1; end--) {
            const pn_element t = s[0];
            s[0] = s[end - 1];
            s[end - 1] = t;
            sift(s, end - 1, 0);
        }
        return;
    }
    for (size_t i = 1; i < n; i++)
        for (size_t j = i; j > 0 && s[j] < s[j - 1]; j--) {
            const pn_element t = s[j];
            s[j] = s[j - 1];
            s[j - 1] = t;
        }
}

/* ---- states ------------------------------------------------------------------------------------------------------------------------------- */

static bool grow_slots(pn_core *c)
{
    const size_t n = c->n_slots ? c->n_slots * 2 : 256;
    uint32_t *slots = pn_zalloc_array(c->a, n, sizeof *slots);
    if (!slots) {
        c->status = PONDER_E_NOMEM;
        return false;
    }
    pn_free(c->a, c->slots, c->n_slots * sizeof *c->slots);
    c->slots = slots;
    c->n_slots = n;
    for (size_t i = 1; i < c->n_states; i++) {
        if (!c->states[i]) continue;
        uint32_t *slot = &slots[c->states[i]->hash & (n - 1)];
        c->states[i]->chain = *slot;
        *slot = (uint32_t)i;
    }
    return true;
}

static void judge(const pn_core *c, pn_state *s)
{
    s->flags = STATE_DONE;
    for (uint32_t i = 0; i < s->n; i++) {
        const pn_node *x = &c->g->nodes[s->e[i] >> 40];
        s->need = PN_MAX(s->need, x->need);
        if (x->kind == N_FINAL && x->arg == 0) s->flags |= STATE_ENDS;
        else s->flags &= (uint8_t)~STATE_DONE;
    }
}

static uint32_t add_state(pn_core *c, const pn_element *e, size_t n, uint32_t hash)
{
    const size_t bytes = sizeof(pn_state) + n * sizeof *e;
    uint32_t id;
    if (c->n_states >= c->n_slots && !grow_slots(c)) return 0;
    if (c->n_free_states == 0 && !pn_core_room(c, (void **)&c->states, &c->cap_states, c->n_states, sizeof *c->states)) return 0;
    pn_state *s = pn_alloc(c->a, bytes);
    if (!s) {
        c->status = PONDER_E_NOMEM;
        return 0;
    }
    *s = (pn_state){.n = (uint32_t)n, .hash = hash};
    memcpy(s->e, e, n * sizeof *e);
    judge(c, s);
    id = c->n_free_states ? c->free_states[--c->n_free_states] : (uint32_t)c->n_states++;
    c->states[id] = s;
    s->chain = c->slots[hash & (c->n_slots - 1)];
    c->slots[hash & (c->n_slots - 1)] = id;
    c->state_bytes += bytes;
    return id;
}

/* The state of sorted elements, each once. */
uint32_t pn_core_intern(pn_core *c, const pn_element *e, size_t n)
{
    const uint32_t hash = (uint32_t)pn_hash64(e, n * sizeof *e, 3);
    c->work -= (int64_t)n;
    for (uint32_t i = c->n_slots ? c->slots[hash & (c->n_slots - 1)] : 0; i; i = c->states[i]->chain) {
        const pn_state *s = c->states[i];
        if (s->hash == hash && s->n == n && memcmp(s->e, e, n * sizeof *e) == 0) return i;
    }
    return add_state(c, e, n, hash);
}

static pn_closed *closed_slot(pn_closed *table, size_t cap, const pn_element *of)
{
    uint64_t h = 0;
    for (int i = 0; i < CLOSED_MOST; i++) h = (h ^ of[i]) * 0x9e3779b97f4a7c15u;
    size_t k = (size_t)(h >> 30) & (cap - 1);
    while (table[k].of[0] && memcmp(table[k].of, of, sizeof table[k].of) != 0) k = (k + 1) & (cap - 1);
    return &table[k];
}

static bool grow_closed(pn_core *c)
{
    const size_t old_n = c->cap_closed, n = old_n ? old_n * 2 : 256;
    pn_closed *more = pn_zalloc_array(c->a, n, sizeof *more), *old = c->closed;
    if (!more) {
        c->status = PONDER_E_NOMEM;
        return false;
    }
    for (size_t i = 0; i < old_n; i++)
        if (old[i].of[0]) *closed_slot(more, n, old[i].of) = old[i];
    pn_free(c->a, old, old_n * sizeof *old);
    c->closed = more;
    c->cap_closed = n;
    c->state_bytes += (n - old_n) * sizeof *more;
    return true;
}

/* The state of the elements to do and all they lead to; UINT32_MAX: there is none, 0: no memory. */
static uint32_t make_state(pn_core *c)
{
    size_t kept = 0;
    close_set(c);
    if (c->status) return 0;
    if (c->n_set == 0) return UINT32_MAX;
    sort(c->set, c->n_set);
    for (size_t i = 0; i < c->n_set; i++)
        if (i == 0 || c->set[i] != c->set[kept - 1]) c->set[kept++] = c->set[i];
    return pn_core_intern(c, c->set, kept);
}

static uint32_t set_state(pn_core *c)
{
    pn_element of[CLOSED_MOST] = {0};
    const size_t n = c->n_todo;
    if (n == 0 || n > CLOSED_MOST || c->status) return make_state(c);
    memcpy(of, c->todo, n * sizeof *of);
    if (c->n_closed * 2 >= c->cap_closed && !grow_closed(c)) return 0;
    pn_closed *slot = closed_slot(c->closed, c->cap_closed, of);
    if (slot->of[0]) return slot->state;
    const uint32_t state = make_state(c);
    if (state == 0) return 0;
    memcpy(slot->of, of, sizeof of);
    slot->state = state;
    c->n_closed++;
    return state;
}

uint32_t pn_core_limit(pn_core *c, uint32_t state, int32_t room)
{
    const pn_state *s = c->states[state];
    if ((int32_t)s->need <= room) return state;
    c->n_set = 0;
    for (uint32_t i = 0; i < s->n; i++)
        if ((int32_t)c->g->nodes[s->e[i] >> 40].need <= room) keep(c, s->e[i]);
    return c->n_set && !c->status ? pn_core_intern(c, c->set, c->n_set) : 0;
}

const uint32_t *pn_core_row(pn_core *c, uint32_t state)
{
    pn_state *s = c->states[state];
    if (s->row) return s->row;
    s->row = pn_zalloc_array(c->a, c->g->n_classes, sizeof *s->row);
    if (s->row) c->state_bytes += c->g->n_classes * sizeof *s->row;
    else c->status = PONDER_E_NOMEM;
    return s->row;
}

/* ---- transitions ---------------------------------------------------------------------------------------------------------------------------- */

static bool is_final(const pn_core *c, uint32_t state)
{
    const pn_state *s = c->states[state];
    const pn_node *x = &c->g->nodes[s->e[0] >> 40];
    return x->kind == N_FINAL && x->arg != 0;
}

static uint32_t compute_step(pn_core *c, uint32_t state, uint8_t byte)
{
    const pn_state *s = c->states[state];
    bool calls = false, reads = false;
    begin_set(c);
    c->work -= s->n;
    for (uint32_t i = 0; i < s->n; i++) {
        const pn_node *x = &c->g->nodes[s->e[i] >> 40];
        if (x->kind == N_BYTE && byte >= x->lo && byte <= x->hi) {
            reads = true;
            todo(c, at_node(s->e[i], x->next));
        } else if (x->kind == N_CALL && c->g->rules[x->arg].opener == byte) {
            calls = true;
            todo(c, at_node(0, c->g->rules[x->arg].start));
        }
    }
    if (calls && reads) { /* the compiler sees to it that this cannot be */
        c->status = PONDER_E_INTERNAL;
        c->problem = "grammar: a bracket that both opens a level and does not";
        return 0;
    }
    const uint32_t to = set_state(c);
    if (to == 0) return 0;
    if (to == UINT32_MAX) return STEP_DEAD;
    return to << 2 | (calls ? KIND_PUSH : is_final(c, to) ? KIND_POP : KIND_NEXT);
}

uint32_t pn_core_step(pn_core *c, uint32_t state, uint32_t byte_class)
{
    const uint32_t *row = pn_core_row(c, state);
    if (!row) return 0;
    if (row[byte_class]) return row[byte_class];
    const uint32_t v = compute_step(c, state, c->g->byte_of[byte_class]);
    if (v) c->states[state]->row[byte_class] = v;
    return v;
}

const pn_run *pn_core_run(pn_core *c, uint32_t state)
{
    uint32_t most = STEP_DEAD, votes = 0, v[128];
    if (c->states[state]->run) return c->states[state]->run;
    for (uint32_t byte = 0; byte < 128; byte++) {
        v[byte] = pn_core_step(c, state, c->g->class_of[byte]);
        if (!v[byte]) return NULL;
        if (v[byte] == STEP_DEAD || (v[byte] & 3) != KIND_NEXT) continue;
        if (votes == 0) most = v[byte];
        votes += v[byte] == most ? 1 : -1u;
    }
    pn_run *run = pn_zalloc(c->a, sizeof *run);
    if (!run) {
        c->status = PONDER_E_NOMEM;
        return NULL;
    }
    run->to = most >> 2;
    for (uint32_t byte = 0; byte < 128; byte++)
        if (v[byte] == most && most != STEP_DEAD) run->bytes[byte / 32] |= 1u << byte % 32;
    c->states[state]->run = run;
    c->state_bytes += sizeof *run;
    return run;
}

static bool grow_returns(pn_core *c)
{
    const size_t old_n = c->cap_returns, n = old_n ? old_n * 2 : 64;
    pn_return *more = pn_zalloc_array(c->a, n, sizeof *more), *old = c->returns;
    if (!more) {
        c->status = PONDER_E_NOMEM;
        return false;
    }
    c->returns = more;
    c->cap_returns = n;
    for (size_t i = 0; i < old_n; i++) {
        if (!old[i].key) continue;
        size_t k = (size_t)(old[i].key * 0x9e3779b97f4a7c15u >> 30) & (n - 1);
        while (c->returns[k].key) k = (k + 1) & (n - 1);
        c->returns[k] = old[i];
    }
    pn_free(c->a, old, old_n * sizeof *old);
    return true;
}

/* The saved state's calls of the finished rules are behind them now. */
static uint32_t compute_return(pn_core *c, uint32_t saved, uint32_t finished)
{
    const pn_state *s = c->states[saved], *f = c->states[finished];
    begin_set(c);
    c->work -= s->n;
    for (uint32_t i = 0; i < s->n; i++) {
        const pn_node *x = &c->g->nodes[s->e[i] >> 40];
        for (uint32_t k = 0; x->kind == N_CALL && k < f->n; k++)
            if (c->g->nodes[f->e[k] >> 40].arg == x->arg) todo(c, at_node(s->e[i], x->next));
    }
    const uint32_t to = set_state(c);
    return to == UINT32_MAX ? 0 : to;
}

uint32_t pn_core_return(pn_core *c, uint32_t saved, uint32_t finished)
{
    const uint64_t key = (uint64_t)saved << 32 | finished;
    if (c->n_returns * 2 >= c->cap_returns && !grow_returns(c)) return 0;
    size_t k = (size_t)(key * 0x9e3779b97f4a7c15u >> 30) & (c->cap_returns - 1);
    for (; c->returns[k].key; k = (k + 1) & (c->cap_returns - 1))
        if (c->returns[k].key == key) return c->returns[k].state;
    const uint32_t to = compute_return(c, saved, finished);
    if (!to) return 0;
    c->returns[k].key = key;
    c->returns[k].state = to;
    c->n_returns++;
    return to;
}

/* ---- frames ------------------------------------------------------------------------------------------------------------------------------------ */

size_t pn_core_frame_hash(uint32_t parent, uint32_t state)
{
    return (size_t)(((uint64_t)parent << 32 | state) * 0x9e3779b97f4a7c15u >> 32);
}

static bool grow_frames(pn_core *c)
{
    const size_t n = c->n_frame_slots ? c->n_frame_slots * 2 : 64;
    uint32_t *slots = pn_zalloc_array(c->a, n, sizeof *slots);
    if (!slots) {
        c->status = PONDER_E_NOMEM;
        return false;
    }
    pn_free(c->a, c->frame_slots, c->n_frame_slots * sizeof *c->frame_slots);
    c->frame_slots = slots;
    c->n_frame_slots = n;
    for (size_t i = 1; i < c->n_frames; i++) {
        if (c->frames[i].depth == UINT32_MAX) continue;
        uint32_t *slot = &slots[pn_core_frame_hash(c->frames[i].parent, c->frames[i].state) & (n - 1)];
        c->frames[i].chain = *slot;
        *slot = (uint32_t)i;
    }
    return true;
}

uint32_t pn_core_frame(pn_core *c, uint32_t parent, uint32_t state)
{
    if (c->live_frames >= c->n_frame_slots && !grow_frames(c)) return UINT32_MAX;
    uint32_t *slot = &c->frame_slots[pn_core_frame_hash(parent, state) & (c->n_frame_slots - 1)], id = c->free_frame;
    for (uint32_t i = *slot; i; i = c->frames[i].chain)
        if (c->frames[i].parent == parent && c->frames[i].state == state) return i;
    if (id) c->free_frame = c->frames[id].parent;
    else if (!pn_core_room(c, (void **)&c->frames, &c->cap_frames, c->n_frames, sizeof *c->frames)) return UINT32_MAX;
    else id = (uint32_t)c->n_frames++;
    c->frames[id] = (pn_frame){.parent = parent, .state = state, .depth = c->frames[parent].depth + 1, .chain = *slot};
    *slot = id;
    c->live_frames++;
    return id;
}

bool pn_core_advance(pn_core *c, pn_place *at, uint8_t byte)
{
    pn_place to = *at;
    const uint32_t v = pn_core_step(c, at->state, c->g->class_of[byte]);
    if (v < 4) return false;
    to.state = v >> 2;
    if ((v & 3) == KIND_PUSH) {
        to.frame = pn_core_frame(c, at->frame, at->state);
        if (to.frame == UINT32_MAX) return false;
    } else if ((v & 3) == KIND_POP) {
        const pn_frame f = c->frames[at->frame];
        to = (pn_place){f.parent, pn_core_return(c, f.state, v >> 2)};
        if (!to.state) return false;
    }
    to.state = pn_core_limit(c, to.state, PN_GRAMMAR_DEPTH - (int32_t)c->frames[to.frame].depth);
    if (!to.state) return false;
    *at = to;
    return true;
}

/* ---- the core ----------------------------------------------------------------------------------------------------------------------------------- */

static bool prepare(pn_core *c)
{
    c->words = pn_alloc(c->a, c->t->n_words * sizeof *c->words);
    if (!c->words || !pn_core_room(c, (void **)&c->states, &c->cap_states, 0, sizeof *c->states) ||
        !pn_core_room(c, (void **)&c->frames, &c->cap_frames, 0, sizeof *c->frames)) return false;
    c->n_states = c->n_frames = 1;
    c->frames[0] = (pn_frame){0};
    begin_set(c);
    todo(c, at_node(0, c->g->rules[0].start));
    c->start = set_state(c);
    return c->start != 0;
}

ponder_status pn_core_new(pn_core **out, pn_grammar *g, pn_vocab_trie *t, size_t cache_bytes, const ponder_alloc *a, ponder_error *err)
{
    pn_core *c = pn_zalloc(a, sizeof *c);
    *out = NULL;
    if (!c) return pn_nomem(err, sizeof *c);
    if (a) {
        c->copy = *a;
        c->a = &c->copy;
    }
    atomic_init(&c->refs, 1);
    pthread_mutex_init(&c->mutex, NULL);
    c->g = pn_grammar_ref(g);
    c->t = pn_vocab_trie_ref(t);
    c->cache_bytes = cache_bytes;
    c->sweep_at = cache_bytes / 2;
    if (prepare(c)) {
        *out = c;
        return PONDER_OK;
    }
    const ponder_status st = c->status ? c->status : PONDER_E_NOMEM;
    const char *problem = c->problem ? c->problem : "grammar: no memory for a matcher";
    pn_core_free(c);
    return pn_fail(err, st, "%s", problem);
}

void pn_core_free(pn_core *c)
{
    if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1) return;
    const ponder_alloc copy = c->copy, *a = c->a ? &copy : NULL;
    for (size_t i = 1; i < c->n_states; i++) {
        pn_state *s = c->states[i];
        if (!s) continue;
        pn_core_drop_mask(c, s);
        if (s->row) pn_free(a, s->row, c->g->n_classes * sizeof *s->row);
        pn_free(a, s->run, sizeof *s->run);
        pn_free(a, s, sizeof *s + s->n * sizeof *s->e);
    }
    pn_free(a, c->states, c->cap_states * sizeof *c->states);
    pn_free(a, c->free_states, c->cap_free_states * sizeof *c->free_states);
    pn_free(a, c->slots, c->n_slots * sizeof *c->slots);
    pn_free(a, c->frames, c->cap_frames * sizeof *c->frames);
    pn_free(a, c->frame_slots, c->n_frame_slots * sizeof *c->frame_slots);
    pn_free(a, c->returns, c->cap_returns * sizeof *c->returns);
    pn_free(a, c->closed, c->cap_closed * sizeof *c->closed);
    pn_free(a, c->set, c->cap_set * sizeof *c->set);
    pn_free(a, c->todo, c->cap_todo * sizeof *c->todo);
    pn_free(a, c->seen, c->cap_seen * sizeof *c->seen);
    pn_free(a, c->words, c->t->n_words * sizeof *c->words);
    pn_free(a, c->conts, c->cap_conts * sizeof *c->conts);
    pthread_mutex_destroy(&c->mutex);
    pn_grammar_free(c->g);
    pn_vocab_trie_free(c->t);
    pn_free(a, c, sizeof *c);
}

void pn_core_begin(pn_core *c)
{
    pthread_mutex_lock(&c->mutex);
    c->status = PONDER_OK;
    c->problem = NULL;
    c->work = WORK_MASK;
    if (c->state_bytes > c->sweep_at) pn_core_sweep(c);
}

ponder_status pn_core_end(pn_core *c, ponder_error *err)
{
    const ponder_status st = c->status;
    const char *problem = c->problem;
    pthread_mutex_unlock(&c->mutex);
    if (!st) return st;
    return pn_fail(err, st, "%s", problem ? problem : "grammar: no memory");
}
