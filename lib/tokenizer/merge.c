/* Byte-pair merging of one piece: always the lowest rank first, the leftmost of equals. */
#include "tokenizer/internal.h"

/* Up to this many symbols the lowest rank is found by looking at all of them; beyond, by a heap: n log n. */
enum { SMALL = 48 };

static ponder_status grow_ids(pn_work *w, size_t more)
{
    size_t cap = PN_MAX(*w->cap, 64), need, bytes;
    if (!pn_add(*w->n_ids, more, &need)) return pn_nomem(w->err, SIZE_MAX);
    while (cap < need && cap <= SIZE_MAX / 2) cap *= 2;
    if (!pn_mul(cap, sizeof **w->ids, &bytes) || cap < need) return pn_nomem(w->err, SIZE_MAX);
    int32_t *p = pn_grow(w->a, *w->ids, *w->cap * sizeof *p, bytes);
    if (!p) return pn_nomem(w->err, bytes);
    *w->ids = p;
    *w->cap = cap;
    return PONDER_OK;
}

ponder_status pn_work_room(pn_work *w, size_t more)
{
    return PN_LIKELY(*w->cap - *w->n_ids >= more) ? PONDER_OK : grow_ids(w, more);
}

/* Room for these ids was made. */
static void put(pn_work *w, uint32_t id)
{
    (*w->ids)[(*w->n_ids)++] = (int32_t)id;
    w->after_unknown = false;
}

static void put_unknown(pn_work *w)
{
    if (w->t->unk < 0 || (w->after_unknown && w->t->fuse_unknown)) return;
    put(w, (uint32_t)w->t->unk);
    w->after_unknown = true;
}

/* A symbol that is no token: its bytes, when each of them has a token, else one unknown. */
static void put_symbol(pn_work *w, uint32_t id, const char *p, size_t n)
{
    if (id != NO_ID) {
        put(w, id);
        return;
    }
    bool all = w->t->kind == PN_VOCAB_SPM;
    for (size_t i = 0; i < n && all; i++) all = w->t->byte_id[(uint8_t)p[i]] != NO_ID;
    if (!all) {
        put_unknown(w);
        return;
    }
    for (size_t i = 0; i < n; i++) put(w, w->t->byte_id[(uint8_t)p[i]]);
}

/* Rank and result of joining the symbols [a, b) and [b, c). */
static uint32_t rank_of(const pn_tokenizer *t, const char *p, uint32_t a, uint32_t c, uint32_t left, uint32_t right,
                        uint32_t *merged)
{
    if (t->pair) {
        if (left == NO_ID || right == NO_ID) return NO_RANK;
        const pn_pair *q = pn_tok_pair(t, left, right);
        if (!q) return NO_RANK;
        *merged = q->id;
        return q->rank;
    }
    const uint32_t id = pn_tok_lookup(t, p + a, c - a);
    if (id == NO_ID) return NO_RANK;
    *merged = id;
    return t->rank ? t->rank[id] : id;
}

/* Length and token of the symbol that a piece starts from: a byte, or for SPM a character. */
static uint32_t first_symbol(const pn_tokenizer *t, const char *p, size_t n, uint32_t *id)
{
    if (t->kind == PN_VOCAB_BPE) {
        *id = t->byte_id[(uint8_t)*p];
        return 1;
    }
    pn_utf8 state;
    const uint32_t len = pn_utf8_step((const uint8_t *)p, n, &state);
    *id = pn_tok_lookup(t, p, len);
    return len;
}

/* A byte that the vocabulary lacks, where there is no unknown token either: its neighbours meet, as in the reference. */
static bool dropped(const pn_tokenizer *t, const char *p)
{
    return t->kind == PN_VOCAB_BPE && t->unk < 0 && t->byte_id[(uint8_t)*p] == NO_ID;
}

typedef struct part { uint32_t at, id, rank, merged; } part;

static void rank_part(const pn_tokenizer *t, const char *p, part *v, uint32_t i)
{
    v[i].rank = rank_of(t, p, v[i].at, v[i + 2].at, v[i].id, v[i + 1].id, &v[i].merged);
}

/* n symbols in v[0..n-1]; v[n].at is the piece's end. */
static ponder_status merge_small(pn_work *w, const char *p, part *v, uint32_t n)
{
    const pn_tokenizer *t = w->t;
    for (uint32_t i = 0; i + 1 < n; i++) rank_part(t, p, v, i);
    while (n > 1) {
        uint32_t best = 0;
        for (uint32_t i = 1; i + 1 < n; i++) best = v[i].rank < v[best].rank ? i : best;
        if (v[best].rank == NO_RANK) break;
        v[best].id = v[best].merged;
        memmove(&v[best + 1], &v[best + 2], (n - best - 1) * sizeof *v);
        n--;
        if (best > 0) rank_part(t, p, v, best - 1);
        if (best + 1 < n) rank_part(t, p, v, best);
    }
    for (uint32_t i = 0; i < n; i++) put_symbol(w, v[i].id, p + v[i].at, v[i + 1].at - v[i].at);
    return PONDER_OK;
}

/* ---- long pieces: nodes indexed by byte, a heap of rank << 32 | node ---- */

static void heap_push(pn_work *w, uint64_t key)
{
    uint64_t *h = w->heap;
    size_t i = w->heap_n++;
    for (; i > 0 && h[(i - 1) / 2] > key; i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
    h[i] = key;
}

static uint64_t heap_pop(pn_work *w)
{
    uint64_t *h = w->heap;
    const uint64_t top = h[0], last = h[--w->heap_n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < w->heap_n; i = child) {
        if (child + 1 < w->heap_n && h[child + 1] < h[child]) child++;
        if (h[child] >= last) break;
        h[i] = h[child];
    }
    h[i] = last;
    return top;
}

static void rank_node(pn_work *w, const char *p, uint32_t i, uint32_t n)
{
    pn_node *v = &w->node[i];
    v->rank = NO_RANK;
    if (v->next >= n) return;
    const pn_node *r = &w->node[v->next];
    v->rank = rank_of(w->t, p, i, r->next, v->id, r->id, &v->merged);
    if (v->rank != NO_RANK) heap_push(w, (uint64_t)v->rank << 32 | i);
}

/* Each merge takes at least one key and adds two at most, so 2 n keys are room enough. */
static ponder_status nodes_room(pn_work *w, size_t n)
{
    if (n <= w->node_cap) return PONDER_OK;
    pn_free(w->a, w->node, w->node_cap * sizeof *w->node);
    pn_free(w->a, w->heap, 2 * w->node_cap * sizeof *w->heap);
    w->node_cap = 0;
    w->heap = NULL;
    w->node = pn_alloc(w->a, n * sizeof *w->node);
    if (!w->node) return pn_nomem(w->err, n * sizeof *w->node);
    w->heap = pn_alloc(w->a, 2 * n * sizeof *w->heap);
    if (!w->heap) {
        pn_free(w->a, w->node, n * sizeof *w->node);
        w->node = NULL;
        return pn_nomem(w->err, 2 * n * sizeof *w->heap);
    }
    w->node_cap = n;
    return PONDER_OK;
}

/* The first node. */
static uint32_t nodes_start(pn_work *w, const char *p, uint32_t n)
{
    uint32_t prev = NO_ID, head = n;
    for (uint32_t i = 0; i < n;) {
        if (dropped(w->t, p + i)) {
            i++;
            continue;
        }
        pn_node *v = &w->node[i];
        v->prev = prev;
        if (prev == NO_ID) head = i;
        else w->node[prev].next = i;
        prev = i;
        i += first_symbol(w->t, p + i, n - i, &v->id);
        v->next = n;
    }
    w->heap_n = 0;
    for (uint32_t i = head; i < n; i = w->node[i].next) rank_node(w, p, i, n);
    return head;
}

static ponder_status merge_long(pn_work *w, const char *p, uint32_t n)
{
    ponder_status s = nodes_room(w, n);
    if (s) return s;
    const uint32_t head = nodes_start(w, p, n);
    while (w->heap_n > 0) {
        const uint64_t key = heap_pop(w);
        const uint32_t i = (uint32_t)key;
        pn_node *v = &w->node[i];
        if (v->rank != key >> 32) continue; /* merged meanwhile */
        pn_node *gone = &w->node[v->next];
        v->id = v->merged;
        v->next = gone->next;
        gone->rank = NO_RANK;
        if (v->next < n) w->node[v->next].prev = i;
        if (v->prev != NO_ID) rank_node(w, p, v->prev, n);
        rank_node(w, p, i, n);
    }
    for (uint32_t i = head; i < n; i = w->node[i].next) put_symbol(w, w->node[i].id, p + i, w->node[i].next - i);
    return PONDER_OK;
}

ponder_status pn_merge(pn_work *w, const char *p, size_t n)
{
    const pn_tokenizer *t = w->t;
    ponder_status s = pn_work_room(w, n);
    if (s || n == 0) return s;
    if (t->whole_first) {
        const uint32_t id = pn_tok_lookup(t, p, n);
        if (id != NO_ID) {
            put(w, id);
            return PONDER_OK;
        }
    }
    part v[SMALL + 1];
    uint32_t count = 0, at = 0;
    while (at < n && count < SMALL) {
        if (dropped(t, p + at)) {
            at++;
            continue;
        }
        v[count].at = at;
        at += first_symbol(t, p + at, n - at, &v[count].id);
        count++;
    }
    v[count].at = at;
    return at < n ? merge_long(w, p, (uint32_t)n) : merge_small(w, p, v, count);
}

void pn_work_free(pn_work *w)
{
    pn_split_end(w);
    pn_free(w->a, w->node, w->node_cap * sizeof *w->node);
    pn_free(w->a, w->heap, 2 * w->node_cap * sizeof *w->heap);
}
