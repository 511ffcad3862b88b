/* Masks: the vocabulary's trie and the automaton, walked together.
 *
 * For a state the walk is done once without looking below its level; what leaves the level is noted and walked on from at
 * every use, from the states that lie below then. Inside strings and free text the safe tokens are not walked at all. */
#include "grammar/dfa.h"

enum { NO_BASE = UINT32_MAX, NO_LIMIT = 1000 };

typedef struct walk {
    pn_core *c;
    uint32_t *words;
    bool record; /* ways out of the level are noted in c->conts, else followed */
    bool cut;    /* work has run out: what is set is right, but not all that could be */
    uint32_t deep;
    uint32_t asked, promised; /* what best_promise said of the last state it was asked about */
    const pn_free_mark *promise;
} walk;

static bool failed(const walk *w) { return w->c->status || w->cut; }

static void note(walk *w, uint32_t node, uint32_t finished)
{
    pn_core *c = w->c;
    if (!pn_core_room(c, (void **)&c->conts, &c->cap_conts, 2 * c->n_conts + 1, sizeof *c->conts)) return;
    c->conts[2 * c->n_conts] = node;
    c->conts[2 * c->n_conts + 1] = finished;
    c->n_conts++;
}

/* Into the configuration; false: the way ends here (or fails). */
static bool enter(walk *w, pn_config *q, bool more)
{
    pn_core *c = w->c;
    const uint32_t need = c->states[q->state]->need;
    if (w->record) {
        w->deep = PN_MAX(w->deep, (uint32_t)(NO_LIMIT - q->room) + need);
    } else if ((int32_t)need > q->room) {
        q->state = pn_core_limit(c, q->state, q->room);
        if (!q->state) return false;
    }
    q->row = c->states[q->state]->row;
    if (more && !q->row) q->row = pn_core_row(c, q->state);
    return !more || q->row;
}

static bool leave_level(walk *w, const pn_config *p, pn_config *q, uint32_t finished)
{
    pn_core *c = w->c;
    uint32_t saved;
    if (p->local) {
        saved = c->local[p->local].state;
        q->local = c->local[p->local].parent;
    } else {
        saved = c->frames[p->base].state;
        q->base = c->frames[p->base].parent;
    }
    q->room = p->room + 1;
    q->state = pn_core_return(c, saved, finished);
    return q->state != 0;
}

/* One byte on from the configuration of the node before: false when the node and what is below it cannot be reached. */
static bool step(walk *w, uint32_t i, const pn_trie_node *node)
{
    pn_core *c = w->c;
    const pn_config *p = &c->config[node->depth - 1];
    pn_config *q = &c->config[node->depth];
    const uint32_t byte_class = c->g->class_of[node->byte];
    uint32_t v = p->row[byte_class];
    if (PN_UNLIKELY(v == STEP_UNKNOWN)) v = pn_core_step(c, p->state, byte_class);
    if (v < 4) return false;
    if (v == (p->state << 2 | KIND_NEXT)) {
        *q = *p;
        return true;
    }
    *q = (pn_config){.state = v >> 2, .local = p->local, .base = p->base, .room = p->room};
    if (PN_UNLIKELY((v & 3) == KIND_PUSH)) {
        c->local[node->depth] = (pn_local){p->state, p->local};
        q->local = node->depth;
        q->room--;
    } else if (PN_UNLIKELY((v & 3) == KIND_POP)) {
        if (w->record && !p->local) {
            note(w, i, v >> 2);
            return false;
        }
        if (!leave_level(w, p, q, v >> 2)) return false;
    }
    return enter(w, q, node->skip > 1);
}

static const pn_free_mark *best_promise(const pn_core *c, const pn_state *s, uint32_t *most);

/* Whether the bytes all lead to the same state: looked at one by one, because most of the time the first ones say no. */
static bool run_begins(pn_core *c, uint32_t state, const uint32_t *bytes)
{
    uint32_t first = 0;
    if (c->states[state]->run) return true;
    for (int k = 0; k < 4; k++)
        for (uint32_t left = bytes[k]; left; left &= left - 1) {
            const uint32_t v = pn_core_step(c, state, c->g->class_of[k * 32 + __builtin_ctz(left)]);
            if (v < 4 || (v & 3) != KIND_NEXT || (first && v != first)) return false;
            first = v;
        }
    return true;
}

enum { RUN_WORTH = 16 }; /* tokens that making a run must serve: it costs about as much as walking through them */

/* Every text of these bytes, as long as the longest below, leads on from the state. */
static bool runs(walk *w, const pn_config *q, const pn_trie_big *big)
{
    pn_core *c = w->c;
    uint32_t state = q->state;
    const bool worth = big->to - big->from >= RUN_WORTH * big->deepest;
    if (big->wide || !run_begins(c, state, big->below)) return false;
    for (uint32_t n = 0; n < big->deepest; n++) {
        if (!worth && !c->states[state]->run) return false;
        const pn_run *run = pn_core_run(c, state);
        if (!run) return false;
        for (int k = 0; k < 4; k++)
            if (big->below[k] & ~run->bytes[k]) return false;
        if (run->to == state) return true;
        state = run->to;
        if (w->record) w->deep = PN_MAX(w->deep, (uint32_t)(NO_LIMIT - q->room) + c->states[state]->need);
        else if ((int32_t)c->states[state]->need > q->room) return false;
    }
    return true;
}

/* Free text begins in the state, and what is below is as free. */
static bool is_free_below(walk *w, uint32_t state, const pn_trie_big *big)
{
    if (!big->safe) return false;
    if (state != w->asked) {
        w->asked = state;
        w->promise = best_promise(w->c, w->c->states[state], &w->promised);
    }
    const pn_free_mark *f = w->promise;
    if (!f || w->promised < big->deepest) return false;
    for (int k = 0; k < 8; k++)
        if (f->except[k] & (k < 4 ? big->below[k] : big->wide ? UINT32_MAX : 0)) return false;
    return true;
}

/* Whether everything from the node on is taken at once. */
static bool take_below(walk *w, const pn_trie_big *big)
{
    pn_core *c = w->c;
    const pn_vocab_trie *t = c->t;
    const pn_config *q = &c->config[t->nodes[big->node].depth];
    const uint32_t v = q->row[c->g->class_of[t->nodes[big->node + 1].byte]];
    if (v == STEP_DEAD || (v & 3) != KIND_NEXT) return false;
    if (!is_free_below(w, q->state, big) && !runs(w, q, big)) return false;
    for (uint32_t k = big->from; k < big->to; k++) w->words[t->in_order[k] / 32] |= 1u << t->in_order[k] % 32;
    return true;
}

/* The nodes from i to before end; the configuration above the first one is set. */
static void walk_nodes(walk *w, uint32_t i, uint32_t end)
{
    const pn_vocab_trie *t = w->c->t;
    const pn_trie_big *big = &t->big[pn_trie_find_big(t, i)]; /* the next one on the way */
    while (i < end) {
        const pn_trie_node *node = &t->nodes[i];
        const bool is_big = node->skip >= BIG_LEAST, alive = step(w, i, node);
        if (!alive || (is_big && take_below(w, big))) {
            i += node->skip;
            if (is_big) big = &t->big[big->after];
            if (PN_UNLIKELY(w->c->status != PONDER_OK || w->c->work < 0)) {
                w->cut = true;
                return;
            }
            continue;
        }
        big += is_big;
        if (node->token) pn_trie_set(t, w->words, node->token - 1);
        i++;
    }
}

/* When work has run out: at least the tokens of one byte, so that the text can go on. */
static void walk_first_bytes(walk *w)
{
    const pn_vocab_trie *t = w->c->t;
    w->c->work = WORK_MASK;
    for (uint32_t i = 0; i < t->n_nodes && !w->c->status; i += t->nodes[i].skip)
        if (step(w, i, &t->nodes[i]) && t->nodes[i].token) pn_trie_set(t, w->words, t->nodes[i].token - 1);
}

static void clear_below(const pn_vocab_trie *t, uint32_t *words, uint32_t i)
{
    for (const uint32_t end = i + t->nodes[i].skip; i < end; i++)
        for (uint32_t token = t->nodes[i].token; token; token = t->twin ? t->twin[token - 1] : 0)
            words[(token - 1) / 32] &= ~(1u << (token - 1) % 32);
}

/* ---- free text ---------------------------------------------------------------------------------------------------------------------------- */

static bool is_except(const pn_free_mark *f, uint8_t byte) { return f->except[byte / 32] >> byte % 32 & 1; }

/* Whether everything in the state belongs to the loop or cannot begin a safe token. */
static bool is_pure(const pn_core *c, const pn_state *s, const pn_free_mark *f)
{
    for (uint32_t i = 0; i < s->n; i++) {
        const pn_nid id = (pn_nid)(s->e[i] >> 40);
        const pn_node *x = &c->g->nodes[id];
        if ((id >= f->first && id < f->last) || x->kind == N_FREE || x->kind == N_FINAL) continue;
        if (x->kind == N_BYTE && x->lo == x->hi && (x->lo < 0x20 || x->lo == '"' || x->lo == '\\' || x->lo == '<')) continue;
        return false;
    }
    return true;
}

static void set_safe(const pn_core *c, uint32_t *words, uint32_t most)
{
    const pn_vocab_trie *t = c->t;
    const uint32_t from = most >= TOKEN_BYTES_MOST ? t->n_safe : t->length_from[most + 1];
    if (from < t->n_safe / 2) {
        for (uint32_t i = 0; i < from; i++) pn_trie_set(t, words, t->by_length[i]);
        return;
    }
    memcpy(words, t->safe, t->n_words * sizeof *words);
    for (uint32_t i = from; i < t->n_safe; i++) words[t->by_length[i] / 32] &= ~(1u << t->by_length[i] % 32);
}

static uint32_t except_count(const pn_free_mark *f)
{
    uint32_t n = 0;
    for (int i = 0; i < 8; i++) n += (uint32_t)__builtin_popcount(f->except[i]);
    return n;
}

/* The promise that spares the most; NULL: none that can be used. *most: characters it holds for. */
static const pn_free_mark *best_promise(const pn_core *c, const pn_state *s, uint32_t *most)
{
    const pn_free_mark *best = NULL;
    for (uint32_t i = 0; i < s->n; i++) {
        const pn_node *x = &c->g->nodes[s->e[i] >> 40];
        if (x->kind != N_FREE) continue;
        const pn_free_mark *f = &c->g->frees[x->arg];
        const uint32_t left = f->most == UINT32_MAX ? UINT32_MAX : f->most - ((uint32_t)s->e[i] & 0xfffff);
        if (left < c->t->longest_safe && !is_pure(c, s, f)) continue;
        if (best && (left < *most || (left == *most && except_count(f) >= except_count(best)))) continue;
        best = f;
        *most = left;
    }
    return best;
}

static void walk_state(walk *w, const pn_state *s)
{
    const pn_core *c = w->c;
    const pn_vocab_trie *t = c->t;
    uint32_t most = 0;
    const pn_free_mark *f = best_promise(c, s, &most);
    if (!f) {
        walk_nodes(w, 0, t->n_nodes);
        return;
    }
    set_safe(c, w->words, most);
    walk_nodes(w, 0, t->n_rest);
    for (uint32_t i = t->n_rest; i < t->n_nodes && !failed(w); i += t->nodes[i].skip) {
        if (!is_except(f, t->nodes[i].byte)) continue;
        clear_below(t, w->words, i);
        walk_nodes(w, i, i + t->nodes[i].skip);
    }
}

/* ---- masks that are kept -------------------------------------------------------------------------------------------------------------------- */

void pn_core_drop_mask(pn_core *c, pn_state *s)
{
    if (!s->mask) return;
    c->mask_bytes -= s->mask->bytes;
    pn_free(c->a, s->mask, s->mask->bytes);
    s->mask = NULL;
}

static void drop_oldest(pn_core *c)
{
    pn_state *oldest = NULL;
    for (size_t i = 1; i < c->n_states; i++) {
        pn_state *s = c->states[i];
        if (s && s->mask && (!oldest || s->mask->used < oldest->mask->used)) oldest = s;
    }
    if (oldest) pn_core_drop_mask(c, oldest);
}

static void copy_mask(const pn_core *c, pn_mask *m, uint32_t n_words)
{
    uint32_t *to = m->data;
    if (m->n_tokens == UINT32_MAX) {
        memcpy(to, c->words, n_words * sizeof *to);
        to += n_words;
    } else {
        for (uint32_t i = 0; i < n_words; i++)
            for (uint32_t left = c->words[i]; left; left &= left - 1) *to++ = i * 32 + (uint32_t)__builtin_ctz(left);
    }
    if (c->n_conts) memcpy(to, c->conts, 2 * c->n_conts * sizeof *to);
}

/* Bits that are set; in a form that compilers make vectors of (they have no instruction for it at the lowest level of CPU). */
static uint32_t count_bits(const uint32_t *words, uint32_t n)
{
    uint32_t bits = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t x = words[i];
        x -= x >> 1 & 0x55555555u;
        x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
        x = (x + (x >> 4)) & 0x0f0f0f0fu;
        bits += x * 0x01010101u >> 24;
    }
    return bits;
}

/* What is in the scratch, as a mask of its own. Few tokens are kept as a list. */
static pn_mask *keep_mask(pn_core *c, pn_state *s, uint32_t deep)
{
    const uint32_t n_words = c->t->n_words, tokens = count_bits(c->words, n_words);
    const bool dense = tokens > n_words / 2;
    const size_t bytes = sizeof(pn_mask) + ((dense ? n_words : tokens) + 2 * c->n_conts) * sizeof(uint32_t);
    while (c->mask_bytes > 0 && c->mask_bytes + bytes > c->cache_bytes / 2) drop_oldest(c);
    pn_mask *m = pn_alloc(c->a, bytes);
    if (!m) {
        c->status = PONDER_E_NOMEM;
        return NULL;
    }
    *m = (pn_mask){.bytes = bytes, .n_tokens = dense ? UINT32_MAX : tokens, .n_conts = (uint32_t)c->n_conts, .deep = deep};
    copy_mask(c, m, n_words);
    c->mask_bytes += bytes;
    s->mask = m;
    return m;
}

static pn_mask *compute_mask(pn_core *c, uint32_t state)
{
    walk w = {.c = c, .words = c->words, .record = true};
    c->n_conts = 0;
    memset(c->words, 0, c->t->n_words * sizeof *c->words);
    c->config[0] = (pn_config){.row = pn_core_row(c, state), .state = state, .base = NO_BASE, .room = NO_LIMIT};
    if (!c->config[0].row) return NULL;
    w.deep = c->states[state]->need;
    walk_state(&w, c->states[state]);
    if (w.cut && !c->status) {
        c->cut_short++;
        walk_first_bytes(&w);
    }
    c->masks_computed++;
    return c->status ? NULL : keep_mask(c, c->states[state], w.deep);
}

/* Near the depth limit the levels that are left decide, so nothing is kept. */
static void walk_place(pn_core *c, pn_place at, int32_t room, uint32_t *words)
{
    walk w = {.c = c, .words = words};
    memset(words, 0, c->t->n_words * sizeof *words);
    c->config[0] = (pn_config){.row = pn_core_row(c, at.state), .state = at.state, .base = at.frame, .room = room};
    if (!c->config[0].row) return;
    walk_nodes(&w, 0, c->t->n_nodes);
    if (!w.cut || c->status) return;
    c->cut_short++;
    walk_first_bytes(&w);
}

/* The ways out of the level, from what lies below it now. */
static void walk_conts(pn_core *c, const pn_mask *m, pn_place at, int32_t room, uint32_t *words)
{
    walk w = {.c = c, .words = words};
    const pn_vocab_trie *t = c->t;
    const uint32_t *cont = m->data + (m->n_tokens == UINT32_MAX ? t->n_words : m->n_tokens);
    const pn_config below = {.state = at.state, .base = at.frame, .room = room};
    for (uint32_t k = 0; k < m->n_conts && !failed(&w); k++, cont += 2) {
        const pn_trie_node *node = &t->nodes[cont[0]];
        pn_config *q = &c->config[node->depth];
        *q = below;
        if (!leave_level(&w, &below, q, cont[1]) || !enter(&w, q, node->skip > 1)) continue;
        if (node->token) pn_trie_set(t, words, node->token - 1);
        walk_nodes(&w, cont[0] + 1, cont[0] + node->skip);
    }
}

static void apply_mask(const pn_core *c, const pn_mask *m, uint32_t *words)
{
    const uint32_t n_words = c->t->n_words;
    if (m->n_tokens == UINT32_MAX) {
        memcpy(words, m->data, n_words * sizeof *words);
        return;
    }
    memset(words, 0, n_words * sizeof *words);
    for (uint32_t i = 0; i < m->n_tokens; i++) words[m->data[i] / 32] |= 1u << m->data[i] % 32;
}

/* Where a string's length is further from its limits than any token is long, the count does not matter: of all these states
 * one has the mask. Which count it stands for: UINT32_MAX: the state's own. */
static uint32_t standing_count(const pn_core *c, const pn_free_mark *f, uint32_t count)
{
    const uint32_t left = f->most == UINT32_MAX ? UINT32_MAX : f->most - count;
    if (left < c->t->longest) return UINT32_MAX;
    if (count < f->least) return f->least - count > c->t->longest ? 0 : UINT32_MAX;
    return f->most == UINT32_MAX ? UINT32_MAX : f->most - c->t->longest;
}

static uint32_t shifted(pn_core *c, const pn_state *s, const pn_free_mark *f, uint32_t by)
{
    if (!pn_core_room(c, (void **)&c->todo, &c->cap_todo, s->n, sizeof *c->todo)) return 0;
    for (uint32_t i = 0; i < s->n; i++) {
        const pn_nid id = (pn_nid)(s->e[i] >> 40);
        const uint32_t count = (uint32_t)s->e[i] & 0xfffff;
        c->todo[i] = id >= f->first && id < f->last ? (s->e[i] & ~(pn_element)0xfffff) | ((count + by) & 0xfffff) : s->e[i];
    }
    return pn_core_intern(c, c->todo, s->n);
}

/* The state that has the mask of this one; 0: no memory. */
static uint32_t standing_for(pn_core *c, uint32_t state)
{
    const pn_state *s = c->states[state];
    for (uint32_t i = 0; i < s->n; i++) {
        const pn_node *x = &c->g->nodes[s->e[i] >> 40];
        if (x->kind != N_FREE) continue;
        const pn_free_mark *f = &c->g->frees[x->arg];
        const uint32_t count = (uint32_t)s->e[i] & 0xfffff;
        if (f->least == 0 && f->most == UINT32_MAX) return state;
        const uint32_t standing = standing_count(c, f, count);
        if (standing == UINT32_MAX || standing == count || !is_pure(c, s, f)) return state;
        return shifted(c, s, f, standing - count);
    }
    return state;
}

bool pn_core_mask(pn_core *c, pn_place at, uint32_t *words)
{
    const int32_t room = PN_GRAMMAR_DEPTH - (int32_t)c->frames[at.frame].depth;
    pn_mask *m = c->states[at.state]->mask;
    const uint32_t state = m ? at.state : standing_for(c, at.state);
    if (!state) return false;
    m = c->states[state]->mask;
    if (m) c->masks_cached++;
    else if (!(m = compute_mask(c, state))) return false;
    m->used = ++c->tick;
    if ((int32_t)m->deep > room) {
        walk_place(c, at, room, words);
        return !c->status;
    }
    apply_mask(c, m, words);
    walk_conts(c, m, at, room, words);
    return !c->status;
}
