/* Attention over the pages. Keys are cut into blocks of 32 positions and spans of 16 blocks, both at fixed absolute
 * positions. Within a span the blocks are joined in order; spans are joined in order. A tile computes one span for some
 * queries of one key-value head, so long contexts are shared out among threads and slices without changing a bit. The queries may
 * be those of several sequences: where they share a page, its blocks are read once for all of them. */
#include "decoder/program.h"

#include <math.h>

enum { MAX_QUERIES = PN_TILE_QUERIES, VALUES_A_TILE = 4096 };

typedef struct extent {
    uint32_t first, end;      /* spans that some query of the run sees */
} extent;

/* The first position that `pos` sees: of a sliding layer's window its own is one, a drafter sees as far as the window's length. */
static uint32_t first_seen(const pn_program *p, const pn_layer *l, const pn_run *r, uint32_t pos)
{
    const uint32_t window = p->d->window;
    if (l->group == PN_DRAFTER) return PN_MAX(pos > window ? pos - window : 0, r->from);
    return l->group == PN_SLIDING && pos + 1 > window ? pos + 1 - window : 0;
}

/* Behind the last one: a drafter's block is not causal. */
static uint32_t end_seen(const pn_program *p, const pn_layer *l, const pn_run *r, uint32_t pos)
{
    return l->group == PN_DRAFTER ? PN_MIN(r->n, pos - r->pos + p->d->window + 1) + r->pos : pos + 1;
}

static extent spans_of(const pn_program *p, const pn_layer *l, const pn_run *r)
{
    return (extent){first_seen(p, l, r, r->pos) / SPAN_KEYS, (r->pos + r->n - 1) / SPAN_KEYS + 1};
}

static uint32_t columns_a_tile(const pn_program *p)
{
    uint32_t group = p->d->heads / p->d->kv_heads;
    uint32_t queries = PN_MIN(PN_MAX(VALUES_A_TILE / p->d->head_dim, group), (uint32_t)MAX_QUERIES);
    return PN_MAX(queries / group, 1u);
}

/* Spans of this round that the run has. */
static uint32_t round_spans(const pn_program *p, const pn_layer *l, const pn_run *r, uint32_t *first)
{
    extent e = spans_of(p, l, r);
    *first = e.first + p->span_round * p->spans_a_round;
    return *first >= e.end ? 0 : PN_MIN(e.end - *first, p->spans_a_round);
}

/* Columns a tile: enough that sequences share what they read, few enough that every thread has some tiles. */
static uint32_t share_out(const pn_program *p, uint32_t spans)
{
    enum { LEAST_QUERIES = 8, TILES_A_THREAD = 2 };
    const uint32_t group = p->d->heads / p->d->kv_heads, least = (LEAST_QUERIES + group - 1) / group;
    const uint32_t even = p->columns * spans * p->d->kv_heads / (TILES_A_THREAD * p->limits.threads);
    const uint32_t most = PN_MIN(PN_MAX(even, least), columns_a_tile(p)), tiles = (p->columns + most - 1) / most;
    return (p->columns + tiles - 1) / tiles;
}

uint32_t pn_enter_attend(pn_program *p, uint32_t op)
{
    const pn_layer *l = pn_op_layer(p, op);
    uint32_t most = 1, left = 0, first;
    for (uint32_t r = 0; r < p->n_runs; r++) {
        extent e = spans_of(p, l, &p->runs[r]);
        most = PN_MAX(most, e.end - e.first);
    }
    p->spans_a_round = PN_MIN(most, PN_MAX(p->part_slots / (p->columns * p->d->heads), 1u));
    for (uint32_t r = 0; r < p->n_runs; r++) left = PN_MAX(left, round_spans(p, l, &p->runs[r], &first));
    p->cut.columns = share_out(p, left);
    return left * p->d->kv_heads * ((p->columns + p->cut.columns - 1) / p->cut.columns);
}

/* Where a query's result of one span goes: straight into its state when that is all it sees. */
static void bind_query(pn_program *p, pn_attn_query *q, uint32_t col, uint32_t head, uint32_t slot, bool direct)
{
    const pn_description *d = p->d;
    size_t at = (size_t)col * d->heads + head;
    q->q = p->q + at * d->head_dim;
    if (direct) {
        q->m = p->state_m + at;
        q->l = p->state_l + at;
        q->o = p->attn.x + at * d->head_dim;
    } else {
        size_t part = at * p->spans_a_round + slot;
        q->m = p->part_m + part;
        q->l = p->part_l + part;
        q->o = p->part_o + part * d->head_dim;
    }
    *q->m = -INFINITY;
    *q->l = 0;
    memset(q->o, 0, d->head_dim * sizeof(float));
}

/* Keys of the block from `base` that the query sees. */
static void see(pn_attn_query *q, uint32_t low, uint32_t end, uint32_t base)
{
    q->lo = low > base ? PN_MIN(low - base, (uint32_t)PN_KEYS) : 0;
    q->hi = end > base ? PN_MIN(end - base, (uint32_t)PN_KEYS) : 0;
}

static void add_query(pn_program *p, const pn_layer *l, pn_attn_part *a, uint32_t col, uint32_t head, uint32_t slot)
{
    const pn_run *r = &p->runs[p->run_of[col]];
    const extent e = spans_of(p, l, r);
    uint32_t first;
    if (r->dropped || slot >= round_spans(p, l, r, &first)) return;
    bind_query(p, &a->query[a->n], col, head, slot, e.end - e.first == 1);
    a->pages[a->n] = (const uint8_t *const *)r->pages[l->group] + (first + slot) * SPAN_BLOCKS;
    a->low[a->n] = first_seen(p, l, r, r->pos + (col - r->col));
    a->end[a->n] = end_seen(p, l, r, r->pos + (col - r->col));
    a->base[a->n++] = (first + slot) * SPAN_KEYS;
}

/* The page of block b for query i; NULL: it sees nothing there. */
static const uint8_t *page_seen(pn_attn_part *a, uint32_t i, uint32_t b)
{
    pn_attn_query *q = &a->query[i];
    see(q, a->low[i], a->end[i], a->base[i] + b * PN_KEYS);
    return q->lo < q->hi ? a->pages[i][b] : NULL;
}

/* Blocks of the span that somebody sees: first .. end. */
static extent blocks_of(const pn_attn_part *a)
{
    extent e = {SPAN_BLOCKS, 0};
    for (uint32_t i = 0; i < a->n; i++) {
        const uint32_t base = a->base[i], low = a->low[i], end = a->end[i];
        e.first = PN_MIN(e.first, low > base ? (low - base) / PN_KEYS : 0);
        if (end > base) e.end = PN_MAX(e.end, PN_MIN((end - base - 1) / PN_KEYS + 1, (uint32_t)SPAN_BLOCKS));
    }
    return e;
}

static void attend_part(pn_program *p, const pn_layer *l, pn_attn_part *a, uint32_t kv_head, void *scratch)
{
    const size_t at = l->index * p->kv.layer_bytes + kv_head * p->kv.head_bytes;
    const extent blocks = blocks_of(a);
    for (uint32_t b = blocks.first; b < blocks.end; b++) {
        const uint8_t *page = page_seen(a, 0, b), *next = NULL;
        for (uint32_t from = 0, to; from < a->n; from = to, page = next) {
            for (to = from + 1; to < a->n && (next = page_seen(a, to, b)) == page;) to++;
            if (!page) continue;
            const bool more = b + 1 < blocks.end && a->base[0] + (b + 1) * PN_KEYS < a->end[0]; /* others may be longer than the first */
            const uint8_t *soon = to < a->n ? next : more ? a->pages[0][b + 1] : NULL;
            p->k.attn_block(p->kv.type, page + at, page + at + p->kv.key_bytes, p->d->head_dim, p->d->attn_scale, a->query + from,
                            to - from, soon ? soon + at : NULL, scratch);
        }
    }
}

void pn_tile_attend(pn_program *p, uint32_t op, uint32_t tile, uint32_t thread)
{
    const pn_layer *l = pn_op_layer(p, op);
    const uint32_t group = p->d->heads / p->d->kv_heads, kv_head = tile % p->d->kv_heads, per = p->cut.columns;
    const uint32_t chunks = (p->columns + per - 1) / per, from = tile / p->d->kv_heads % chunks * per, slot = tile / p->d->kv_heads / chunks;
    const uint32_t n = PN_MIN(per, p->columns - from) * group;
    uint8_t *scratch = p->scratch + thread * p->scratch_bytes;
    pn_attn_part *a = (pn_attn_part *)(void *)(scratch + p->scratch_bytes) - 1;
    /* More heads than a tile's queries share a key-value head: go over the blocks once for each part. */
    for (uint32_t done = 0; done < n;) {
        const uint32_t most = group <= MAX_QUERIES ? MAX_QUERIES / group * group : MAX_QUERIES, end = PN_MIN(done + most, n);
        a->n = 0;
        for (; done < end; done++) add_query(p, l, a, from + done / group, kv_head * group + done % group, slot);
        attend_part(p, l, a, kv_head, scratch);
    }
}

uint32_t pn_enter_join(pn_program *p, uint32_t op)
{
    const pn_layer *l = pn_op_layer(p, op);
    bool any = false;
    for (uint32_t r = 0; r < p->n_runs; r++) {
        extent e = spans_of(p, l, &p->runs[r]);
        any |= e.end - e.first > 1;
    }
    return any ? pn_cut_columns(&p->cut, p->columns * p->d->heads, (size_t)p->d->head_dim * p->spans_a_round, p->limits.threads) : 0;
}

/* One head of one column: a long context has hundreds of spans. */
void pn_tile_join(pn_program *p, uint32_t op, uint32_t at)
{
    const pn_description *d = p->d;
    const pn_layer *l = pn_op_layer(p, op);
    const pn_run *r = &p->runs[p->run_of[at / d->heads]];
    extent e = spans_of(p, l, r);
    uint32_t first, spans = round_spans(p, l, r, &first);
    if (e.end - e.first == 1) return;
    float *o = p->attn.x + (size_t)at * d->head_dim;
    if (p->span_round == 0) {
        p->state_m[at] = -INFINITY;
        p->state_l[at] = 0;
        memset(o, 0, d->head_dim * sizeof(float));
    }
    for (uint32_t s = 0; s < spans; s++) {
        size_t part = (size_t)at * p->spans_a_round + s;
        p->k.attn_join(&p->state_m[at], &p->state_l[at], o, p->part_m[part], p->part_l[part], p->part_o + part * d->head_dim, d->head_dim);
    }
}

bool pn_attend_again(pn_program *p, uint32_t op)
{
    const pn_layer *l = pn_op_layer(p, op);
    p->span_round++;
    for (uint32_t r = 0; r < p->n_runs; r++) {
        uint32_t first;
        if (round_spans(p, l, &p->runs[r], &first)) return true;
    }
    p->span_round = 0;
    return false;
}
