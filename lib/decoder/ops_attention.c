/* Attention over the pages. Keys are cut into blocks of 32 positions and spans of 16 blocks, both at fixed absolute
 * positions. Within a span the blocks are joined in order; spans are joined in order. A tile computes one span for some
 * queries of one key-value head, so long contexts are shared out among threads and slices without changing a bit. */
#include "decoder/program.h"

#include <math.h>

enum { MAX_QUERIES = 64, VALUES_A_TILE = 4096 };

typedef struct extent {
    uint32_t first, end;      /* spans that some query of the run sees */
} extent;

static extent spans_of(const pn_program *p, const pn_layer *l, const pn_run *r)
{
    uint32_t low = 0;
    if (l->group == PN_SLIDING && r->pos + 1 > p->d->window) low = r->pos + 1 - p->d->window;
    return (extent){low / SPAN_KEYS, (r->pos + r->n - 1) / SPAN_KEYS + 1};
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

static uint32_t run_tiles(const pn_program *p, const pn_layer *l, const pn_run *r)
{
    uint32_t first, per = columns_a_tile(p);
    return round_spans(p, l, r, &first) * p->d->kv_heads * ((r->n + per - 1) / per);
}

uint32_t pn_enter_attend(pn_program *p, uint32_t op)
{
    const pn_layer *l = pn_op_layer(p, op);
    uint32_t most = 1, tiles = 0;
    for (uint32_t r = 0; r < p->n_runs; r++) {
        extent e = spans_of(p, l, &p->runs[r]);
        most = PN_MAX(most, e.end - e.first);
    }
    p->spans_a_round = PN_MIN(most, PN_MAX(p->part_slots / (p->columns * p->d->heads), 1u));
    for (uint32_t r = 0; r < p->n_runs; r++) tiles += run_tiles(p, l, &p->runs[r]);
    return tiles;
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

/* Keys of the block from `base` that position pos sees. */
static void see(const pn_program *p, const pn_layer *l, pn_attn_query *q, uint32_t pos, uint32_t base)
{
    uint32_t low = l->group == PN_SLIDING && pos + 1 > p->d->window ? pos + 1 - p->d->window : 0;
    q->lo = low > base ? PN_MIN(low - base, (uint32_t)PN_KEYS) : 0;
    q->hi = pos >= base ? PN_MIN(pos - base + 1, (uint32_t)PN_KEYS) : 0;
}

static void attend_span(pn_program *p, const pn_layer *l, const pn_run *r, uint32_t kv_head, uint32_t span,
                        pn_attn_query *queries, uint32_t n_q, uint32_t first_pos, void *scratch)
{
    const uint32_t group = p->d->heads / p->d->kv_heads, last = first_pos + n_q / group - 1;
    const size_t at = l->index * p->kv.layer_bytes + kv_head * p->kv.head_bytes;
    for (uint32_t b = span * SPAN_BLOCKS; b < (span + 1) * SPAN_BLOCKS && b * PN_KEYS <= last; b++) {
        bool any = false;
        for (uint32_t i = 0; i < n_q; i++) {
            see(p, l, &queries[i], first_pos + i / group, b * PN_KEYS);
            any |= queries[i].lo < queries[i].hi;
        }
        if (!any) continue;
        const uint8_t *block = r->pages[l->group][b] + at;
        p->k.attn_block(p->kv.type, block, block + p->kv.key_bytes, p->d->head_dim, p->d->attn_scale, queries, n_q, scratch);
    }
}

void pn_tile_attend(pn_program *p, uint32_t op, uint32_t tile, uint32_t thread)
{
    const pn_layer *l = pn_op_layer(p, op);
    const pn_run *r = p->runs;
    for (uint32_t n; tile >= (n = run_tiles(p, l, r)); r++) tile -= n;
    if (r->dropped) return;
    uint32_t first, spans = round_spans(p, l, r, &first), per = columns_a_tile(p);
    uint32_t slot = tile % spans, kv_head = tile / spans % p->d->kv_heads, from = tile / spans / p->d->kv_heads * per;
    uint32_t n = PN_MIN(per, r->n - from), group = p->d->heads / p->d->kv_heads;
    extent e = spans_of(p, l, r);
    uint8_t *scratch = p->scratch + thread * p->scratch_bytes;
    pn_attn_query *queries = (pn_attn_query *)(void *)(scratch + p->scratch_bytes) - MAX_QUERIES;
    /* More heads than a tile's queries share a key-value head: go over the blocks once for each part. */
    for (uint32_t done = 0; done < n * group;) {
        uint32_t n_q = PN_MIN(n * group - done, (uint32_t)MAX_QUERIES);
        if (group <= MAX_QUERIES) n_q = n_q / group * group;
        for (uint32_t i = 0; i < n_q; i++) {
            uint32_t c = (done + i) / group, h = kv_head * group + (done + i) % group;
            bind_query(p, &queries[i], r->col + from + c, h, slot, e.end - e.first == 1);
        }
        attend_span(p, l, r, kv_head, first + slot, queries, n_q, r->pos + from + done / group, scratch);
        done += n_q;
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
    return any ? pn_cut_columns(&p->cut, p->columns, (size_t)p->d->heads * p->d->head_dim * p->spans_a_round) : 0;
}

void pn_tile_join(pn_program *p, uint32_t op, uint32_t col)
{
    const pn_description *d = p->d;
    const pn_layer *l = pn_op_layer(p, op);
    const pn_run *r = &p->runs[p->run_of[col]];
    extent e = spans_of(p, l, r);
    uint32_t first, spans = round_spans(p, l, r, &first);
    if (e.end - e.first == 1) return;
    for (uint32_t h = 0; h < d->heads; h++) {
        size_t at = (size_t)col * d->heads + h;
        float *o = p->attn.x + at * d->head_dim;
        if (p->span_round == 0) {
            p->state_m[at] = -INFINITY;
            p->state_l[at] = 0;
            memset(o, 0, d->head_dim * sizeof(float));
        }
        for (uint32_t s = 0; s < spans; s++) {
            size_t part = at * p->spans_a_round + s;
            p->k.attn_join(&p->state_m[at], &p->state_l[at], o, p->part_m[part], p->part_l[part], p->part_o + part * d->head_dim, d->head_dim);
        }
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
