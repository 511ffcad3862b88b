/* Rows of a stream as a list of operations, and its working memory. */
#include "audio/encode.h"

/* ---- working memory: one walk counts, the next hands out ---------------------------------------- */

/* Columns on shared memory; quantised where a matrix may want them so (pn_acts is in blocks of 32). */
static void view(pn_slot *s, float *x, size_t width, uint32_t cap, uint8_t *quantised)
{
    *s = (pn_slot){.x = x, .width = width, .f = {.k = width, .cap = cap, .x = x, .k_stride = width}};
    if (quantised && width % 32 == 0) pn_acts_bind(&s->q, width, cap, true, quantised);
}

typedef struct sizes {
    size_t x[2], norm, hidden;      /* floats */
    size_t q_fold, q_norm, q_hidden; /* bytes */
} sizes;

static size_t quantised_bytes(size_t width, uint32_t cap) { return width % 32 == 0 ? pn_acts_bytes(width, cap, true) : 0; }

static size_t fold_width(const pn_audio_info *d, uint32_t s) { return (size_t)d->patch[s] * (s ? d->width[s - 1] : 1); }

/* The most that any stage needs. */
static sizes measure(const pn_audio_info *d, const pn_audio_columns *stage, uint32_t chunk)
{
    sizes z = {0};
    for (uint32_t s = 0; s < d->stages; s++) {
        const uint32_t cols = stage[s].each * chunk;
        z.x[s % 2] = PN_MAX(z.x[s % 2], ((size_t)cols + d->taps - 1) * d->width[s]);
        z.norm = PN_MAX(z.norm, (size_t)cols * d->width[s]);
        z.hidden = PN_MAX(z.hidden, (size_t)cols * d->ff[s]);
        z.q_fold = PN_MAX(z.q_fold, quantised_bytes(fold_width(d, s), cols));
        z.q_norm = PN_MAX(z.q_norm, quantised_bytes(d->width[s], cols));
        z.q_hidden = PN_MAX(z.q_hidden, quantised_bytes(d->ff[s], cols));
    }
    return z;
}

static uint32_t count_ops(const pn_audio_info *d)
{
    uint32_t n = 1 + PN_AO_POST - PN_AO_NORM + 1;
    for (uint32_t s = 0; s < d->stages; s++) n += PN_AO_FOLDED - PN_AO_PUT + 1 + d->depth[s] * (PN_AO_ADD - PN_AO_CONV + 1);
    return n;
}

static void give_all(pn_arena *a, pn_audio_encode *e, const pn_audio_info *d, bool quantised)
{
    uint32_t each = d->samples;
    for (uint32_t s = 0; s < d->stages; s++) e->stage[s].each = each /= d->patch[s];
    const sizes z = measure(d, e->stage, e->chunk);
    float *samples = pn_arena_floats(a, (size_t)d->samples * e->chunk), *x[2] = {pn_arena_floats(a, z.x[0]), pn_arena_floats(a, z.x[1])};
    float *norm = pn_arena_floats(a, z.norm), *hidden = pn_arena_floats(a, z.hidden);
    uint8_t *q_fold = quantised ? pn_arena_give(a, z.q_fold, 1) : NULL, *q_norm = quantised ? pn_arena_give(a, z.q_norm, 1) : NULL;
    uint8_t *q_hidden = quantised ? pn_arena_give(a, z.q_hidden, 1) : NULL;
    e->memory = pn_arena_floats(a, pn_audio_memory(d));
    e->ops = pn_arena_give(a, count_ops(d), sizeof *e->ops);
    e->scratch_bytes = (pn_scratch_bytes(0) + 63) / 64 * 64;
    e->scratch = pn_arena_give(a, e->threads, e->scratch_bytes);
    for (uint32_t s = 0; s < d->stages && a->base; s++) {
        pn_audio_columns *c = &e->stage[s];
        const uint32_t cols = c->each * e->chunk;
        c->x = x[s % 2] + (size_t)(d->taps - 1) * d->width[s];
        view(&c->fold, s ? e->stage[s - 1].x : samples, fold_width(d, s), cols, q_fold);
        view(&c->norm, norm, d->width[s], cols, q_norm);
        view(&c->hidden, hidden, d->ff[s], cols, q_hidden);
    }
}

static size_t count_all(pn_audio_encode *e, const pn_audio_info *d, bool quantised, uint32_t n, uint32_t threads)
{
    pn_arena count = {0};
    e->threads = threads;
    e->chunk = PN_MIN(n, (uint32_t)PN_AUDIO_CHUNK);
    give_all(&count, e, d, quantised);
    return count.at;
}

size_t pn_audio_encode_bytes(const pn_audio_info *d, bool quantised, uint32_t n, uint32_t threads)
{
    pn_audio_encode e = {0};
    return count_all(&e, d, quantised, n, threads) + sizeof e;
}

/* ---- entering operations --------------------------------------------------------------------------- */

static uint32_t columns_of(const pn_audio_encode *e, uint32_t s) { return e->stage[s].each * e->now; }

/* In front of the block's columns come those that its convolution remembers; what it will remember next time is kept before
 * the columns change. */
static void remember(pn_audio_encode *e, const pn_audio_op *o)
{
    const pn_audio_info *d = &e->t->d;
    const size_t width = d->width[o->stage], n = (d->taps - 1) * width;
    size_t at = 0;
    for (uint32_t s = 0, first = 0; s <= o->stage; first += d->depth[s++])
        at += (s < o->stage ? d->depth[s] : o->block - first) * (size_t)d->width[s] * (d->taps - 1);
    float *x = e->stage[o->stage].x;
    memcpy(x - n, e->s->memory + at, n * sizeof *x);
    memcpy(e->memory + at, x + columns_of(e, o->stage) * width - n, n * sizeof *x);
}

static uint32_t products(pn_audio_encode *e, const pn_slot *in, uint32_t columns, const pn_weight *w, float *y)
{
    return pn_cut_products(&e->cut, in, columns, &(pn_product){w, y}, 1, e->threads);
}

static uint32_t enter(void *self, uint32_t op)
{
    pn_audio_encode *e = self;
    const pn_audio *t = e->t;
    const pn_audio_op *o = &e->ops[op];
    const pn_audio_columns *c = &e->stage[o->stage];
    const pn_audio_block *b = &t->blocks[o->block];
    const size_t width = t->d.width[o->stage];
    if (op == 0) e->now = PN_MIN(e->chunk, e->n - e->done);
    const uint32_t cols = columns_of(e, o->stage);
    e->cut = (pn_cut){0};
    switch ((pn_audio_kind)o->kind) {
    case PN_AO_TAKE: return 1;
    case PN_AO_PUT: return c->fold.q.q ? pn_cut_columns(&e->cut, cols, c->fold.width * 2, e->threads) : 0;
    case PN_AO_FOLD: return products(e, &c->fold, cols, &t->stage[o->stage].fold, c->x);
    case PN_AO_CONV: remember(e, o); return pn_cut_columns(&e->cut, cols, width * (t->d.taps + 3), e->threads);
    case PN_AO_FC1: return products(e, &c->norm, cols, &b->fc1, c->hidden.x);
    case PN_AO_GELU: return pn_cut_columns(&e->cut, cols, c->hidden.width * 2, e->threads);
    case PN_AO_FC2: return products(e, &c->hidden, cols, &b->fc2, c->norm.x); /* nobody reads the normed columns any more */
    case PN_AO_PROJ: return products(e, &c->norm, e->now, &t->proj, e->rows + (size_t)e->done * t->d.out);
    case PN_AO_POST: return pn_cut_columns(&e->cut, e->now, (size_t)t->d.out * 3, e->threads);
    case PN_AO_FOLDED: case PN_AO_ADD: case PN_AO_NORM: break;
    }
    return pn_cut_columns(&e->cut, cols, width * 3, e->threads);
}

static uint32_t next(void *self, uint32_t op)
{
    pn_audio_encode *e = self;
    if (op + 1 < e->work.n_ops) return op + 1;
    pn_audio_stream_commit(e->s, e->now, e->hash, e->memory);
    e->done += e->now;
    return e->done < e->n ? 0 : op + 1;
}

/* ---- columns ------------------------------------------------------------------------------------------ */

static void column(pn_audio_encode *e, const pn_audio_op *o, uint32_t i)
{
    const pn_audio *t = e->t;
    const pn_audio_stage *stage = &t->stage[o->stage];
    const pn_audio_block *b = &t->blocks[o->block];
    pn_audio_columns *c = &e->stage[o->stage];
    const size_t width = t->d.width[o->stage], ff = c->hidden.width, out = t->d.out;
    const float eps = t->d.eps;
    float *x = c->x + i * width, *norm = c->norm.x + i * width, *hidden = c->hidden.x + i * ff;
    switch ((pn_audio_kind)o->kind) {
    case PN_AO_PUT: pn_slot_put(&e->k, &c->fold, i); break;
    case PN_AO_FOLDED:
        e->k.add(x, stage->fold_b, width);
        e->k.norm(PN_NORM_PLAIN, x, x, stage->fold_norm, width, eps);
        break;
    case PN_AO_CONV:
        e->k.conv_row(norm, x - (t->d.taps - 1) * width, b->conv_w, b->conv_b, width, t->d.taps);
        e->k.norm(PN_NORM_PLAIN, norm, norm, b->norm, width, eps);
        pn_slot_put(&e->k, &c->norm, i);
        break;
    case PN_AO_GELU:
        e->k.add(hidden, b->fc1_b, ff);
        e->k.gelu_mul(hidden, hidden, NULL, ff);
        pn_slot_put(&e->k, &c->hidden, i);
        break;
    case PN_AO_ADD:
        e->k.add(norm, b->fc2_b, width);
        e->k.add(x, norm, width);
        break;
    case PN_AO_NORM:
        e->k.norm(PN_NORM_PLAIN, norm, x, t->norm, width, eps);
        pn_slot_put(&e->k, &c->norm, i);
        break;
    default: { /* PN_AO_POST */
        float *row = e->rows + (size_t)(e->done + i) * out;
        e->k.add(row, t->proj_b, out);
        e->k.norm(PN_NORM_PLAIN, row, row, t->post_norm, out, eps);
    }
    }
}

static void tile(void *self, uint32_t op, uint32_t i, uint32_t thread)
{
    pn_audio_encode *e = self;
    const pn_audio_op *o = &e->ops[op];
    switch ((pn_audio_kind)o->kind) {
    case PN_AO_TAKE: pn_audio_stream_take(e->s, e->now, e->stage[0].fold.x, &e->hash); return;
    case PN_AO_FOLD: case PN_AO_FC1: case PN_AO_FC2: case PN_AO_PROJ:
        pn_tile_products(&e->cut, &e->k, i, e->scratch + thread * e->scratch_bytes);
        return;
    default: break;
    }
    const uint32_t from = i * e->cut.columns, to = PN_MIN(from + e->cut.columns, e->cut.total_columns);
    for (uint32_t c = from; c < to; c++) column(e, o, c);
}

/* ---- making one ------------------------------------------------------------------------------------------ */

static uint32_t list(pn_audio_op *ops, const pn_audio_info *d)
{
    uint32_t n = 0, block = 0;
    ops[n++] = (pn_audio_op){.kind = PN_AO_TAKE};
    for (uint32_t s = 0; s < d->stages; s++) {
        for (uint32_t k = PN_AO_PUT; k <= PN_AO_FOLDED; k++) ops[n++] = (pn_audio_op){(uint8_t)k, (uint8_t)s, 0};
        for (uint32_t b = 0; b < d->depth[s]; b++, block++)
            for (uint32_t k = PN_AO_CONV; k <= PN_AO_ADD; k++) ops[n++] = (pn_audio_op){(uint8_t)k, (uint8_t)s, (uint16_t)block};
    }
    for (uint32_t k = PN_AO_NORM; k <= PN_AO_POST; k++) ops[n++] = (pn_audio_op){(uint8_t)k, (uint8_t)(d->stages - 1), 0};
    return n;
}

ponder_status pn_audio_encode_new(pn_audio_encode **out, pn_audio_stream *s, uint32_t n, float *rows, const pn_kernels *k,
                                  uint32_t threads, const ponder_alloc *a, ponder_error *err)
{
    *out = NULL;
    const uint64_t ready = pn_audio_stream_ready(s);
    if (n == 0 || n > ready)
        return pn_fail(err, PONDER_E_RANGE, "%u rows of a sound that has samples for %llu", n, (unsigned long long)ready);
    pn_audio_encode *e = pn_zalloc(a, sizeof *e);
    if (!e) return pn_nomem(err, sizeof *e);
    const pn_audio_info *d = &s->t->d;
    const bool quantised = pn_audio_quantised(s->t);
    e->s = s;
    e->t = s->t;
    e->k = *k;
    e->a = a;
    e->rows = rows;
    e->n = n;
    e->block_bytes = count_all(e, d, quantised, n, threads);
    e->block = pn_alloc_aligned(a, e->block_bytes, 64);
    if (!e->block) {
        ponder_status st = pn_nomem(err, e->block_bytes);
        pn_audio_encode_free(e);
        return st;
    }
    pn_arena give_out = {.base = e->block};
    give_all(&give_out, e, d, quantised);
    e->work = (pn_work){.self = e, .n_ops = list(e->ops, d), .enter = enter, .tile = tile, .next = next};
    *out = e;
    return PONDER_OK;
}

void pn_audio_encode_free(pn_audio_encode *e)
{
    if (!e) return;
    pn_free(e->a, e->block, e->block_bytes);
    pn_free(e->a, e, sizeof *e);
}

const pn_work *pn_audio_encode_work(const pn_audio_encode *e) { return &e->work; }
uint32_t pn_audio_encode_done(const pn_audio_encode *e) { return e->done; }
