/* The list of operations of an encoding, its working memory, and how each operation is cut into tiles. */
#include "vision/encode.h"

/* ---- working memory: one walk counts, the next hands out --------------------------------- */

static void slot(pn_arena *a, pn_slot *s, size_t width, uint32_t cap, bool quantised)
{
    pn_arena_slot(a, s, width, cap, quantised && width % 32 == 0);
}

static void give_all(pn_arena *a, pn_encode *e, bool quantised)
{
    const pn_tower_info *d = e->d;
    const size_t width = d->width, cols = e->chunk;
    e->x = pn_arena_floats(a, e->n * width);
    e->kv = pn_arena_give(a, (size_t)e->blocks * d->heads, e->head_bytes);
    e->angles = pn_arena_floats(a, ((size_t)e->height + e->width) * (d->head_dim / 2));
    slot(a, &e->patches, (size_t)pn_tower_patch_values(d) / (d->frames_summed ? d->frames : 1), e->chunk, quantised);
    slot(a, &e->norm, width, e->chunk, quantised);
    slot(a, &e->attn, width, e->chunk, quantised);
    slot(a, &e->hidden, d->ff, e->chunk, quantised);
    slot(a, &e->merged, (size_t)d->merge * d->merge * width, e->merged_chunk, quantised);
    slot(a, &e->fc1, d->adapter, e->merged_chunk, quantised);
    slot(a, &e->fc2, d->adapter, e->merged_chunk, quantised);
    e->q = pn_arena_floats(a, cols * width);
    e->key = pn_arena_floats(a, cols * width);
    e->value = pn_arena_floats(a, cols * width);
    e->state_m = pn_arena_floats(a, cols * d->heads);
    e->state_l = pn_arena_floats(a, cols * d->heads);
    /* Kernels' own, then the queries of a tile, then a normed patch or one column's angles. */
    e->scratch_bytes = (pn_scratch_bytes(d->head_dim) + PN_E_QUERIES * sizeof(pn_attn_query) + pn_encode_extra(d) * sizeof(float) + 63) / 64 * 64;
    e->scratch = pn_arena_give(a, e->threads, e->scratch_bytes);
}

static size_t count_all(pn_encode *e, const pn_tower_info *d, bool quantised, pn_grid grid, uint32_t threads)
{
    pn_arena count = {0};
    e->d = d;
    e->threads = threads;
    pn_encode_measure(e, grid);
    give_all(&count, e, quantised);
    return count.at;
}

size_t pn_encode_bytes(const pn_tower_info *d, bool quantised, pn_grid grid, uint32_t threads)
{
    pn_encode e = {0};
    return count_all(&e, d, quantised, grid, threads) + sizeof e;
}

/* ---- entering and leaving operations -------------------------------------------------------- */

static const pn_block *block_of(const pn_encode *e, uint32_t op) { return &e->t->blocks[pn_encode_layer(op)]; }
static bool one_chunk(const pn_encode *e) { return e->chunk == e->n; }

static uint32_t products(pn_encode *e, const pn_slot *in, uint32_t columns, const pn_product *p, uint32_t n)
{
    return pn_cut_products(&e->cut, in, columns, p, n, e->threads);
}

static uint32_t enter_block(pn_encode *e, uint32_t kind, uint32_t op)
{
    const uint32_t n = pn_encode_columns(e);
    const pn_block *b = block_of(e, op);
    const size_t width = e->d->width;
    switch (kind) {
    case PN_E_KV: /* all in one chunk: the queries at once, since what is normed now is normed for them */
        return products(e, &e->norm, n, (pn_product[]){{&b->k, e->key}, {&b->v, e->value}, {&b->q, e->q}}, one_chunk(e) ? 3 : 2);
    case PN_E_Q: return one_chunk(e) ? 0 : products(e, &e->norm, n, (pn_product[]){{&b->q, e->q}}, 1);
    case PN_E_Q_IN: return one_chunk(e) ? 0 : pn_cut_columns(&e->cut, n, width * 2, e->threads);
    case PN_E_ATTEND: return pn_enter_attention(e, e->d->full[pn_encode_layer(op)]);
    case PN_E_O: return products(e, &e->attn, n, (pn_product[]){{&b->o, e->value}}, 1);
    case PN_E_UP: return products(e, &e->norm, n, (pn_product[]){{&b->fc1, e->hidden.x}}, 1);
    case PN_E_DOWN: return products(e, &e->hidden, n, (pn_product[]){{&b->fc2, e->value}}, 1);
    case PN_E_GELU: return pn_cut_columns(&e->cut, n, (size_t)e->d->ff * 2, e->threads);
    case PN_E_KV_PUT: return pn_cut_columns(&e->cut, n, PN_MAX(width * 3, (size_t)32768 / PN_E_PUT), e->threads);
    default: return pn_cut_columns(&e->cut, n, width * 3, e->threads);
    }
}

static uint32_t resize_tiles(const pn_encode *e, uint32_t phase)
{
    if (e->in.patches) return 0;
    uint32_t tiles = pn_resize_tiles(e->in.frame[0], phase);
    if (e->in.frame[1] != e->in.frame[0]) tiles += pn_resize_tiles(e->in.frame[1], phase);
    return tiles;
}

static uint32_t enter(void *self, uint32_t op)
{
    pn_encode *e = self;
    const pn_tower *t = e->t;
    const uint32_t kind = pn_encode_kind(op, e->d->layers), cells = pn_encode_cells(e);
    e->cut = (pn_cut){0};
    switch (kind) {
    case PN_E_RESIZE_ACROSS: case PN_E_RESIZE_DOWN: return resize_tiles(e, kind - PN_E_RESIZE_ACROSS);
    case PN_E_ANGLES: return pn_cut_columns(&e->cut, e->height + e->width, (size_t)e->d->head_dim * 8, e->threads);
    case PN_E_PATCHES: return pn_cut_columns(&e->cut, pn_encode_columns(e), e->patches.width * 2, e->threads);
    case PN_E_EMBED: return products(e, &e->patches, pn_encode_columns(e), (pn_product[]){{&t->embed, e->value}}, 1);
    case PN_E_PLACE: return pn_cut_columns(&e->cut, pn_encode_columns(e), (size_t)e->d->width * 6, e->threads);
    case PN_E_MERGE: return pn_cut_columns(&e->cut, cells, e->merged.width * 4, e->threads);
    case PN_E_FC1: return products(e, &e->merged, cells, (pn_product[]){{&t->fc1, e->fc1.x}}, 1);
    case PN_E_FC2: return products(e, &e->fc1, cells, (pn_product[]){{&t->fc2, e->fc2.x}}, 1);
    case PN_E_FC1_GELU: case PN_E_FC2_GELU: return pn_cut_columns(&e->cut, cells, (size_t)e->d->adapter * 2, e->threads);
    case PN_E_PROJECT: return products(e, &e->fc2, cells, (pn_product[]){{&t->projection, e->out + (size_t)e->at * e->d->out}}, 1);
    default: return enter_block(e, kind, op);
    }
}

/* The next chunk goes through the same operations; after the last one it goes on. */
static uint32_t round_again(pn_encode *e, uint32_t op, uint32_t ops, uint32_t chunk, uint32_t all)
{
    e->at += chunk;
    if (e->at < all) return op - ops + 1;
    e->at = 0;
    return op + 1;
}

static uint32_t next(void *self, uint32_t op)
{
    pn_encode *e = self;
    switch (pn_encode_kind(op, e->d->layers)) {
    case PN_E_PLACE: return round_again(e, op, PN_E_PLACE - PN_E_PATCHES + 1, e->chunk, e->n);
    case PN_E_KV_PUT: return round_again(e, op, PN_E_KV_PUT - PN_E_KV_IN + 1, e->chunk, e->n);
    case PN_E_END: return round_again(e, op, PN_E_END - PN_E_Q_IN + 1, e->chunk, e->n);
    case PN_E_PROJECT: return round_again(e, op, PN_E_TAIL_OPS, e->merged_chunk, e->cells);
    case PN_E_ATTEND:
        if (pn_attention_again(e, e->d->full[pn_encode_layer(op)])) {
            e->round++;
            return op;
        }
        e->round = 0;
        return op + 1;
    default: return op + 1;
    }
}

static void resize_tile(const pn_encode *e, uint32_t phase, uint32_t tile)
{
    const uint32_t first = pn_resize_tiles(e->in.frame[0], phase);
    if (tile < first) pn_resize_tile(e->in.frame[0], phase, tile);
    else pn_resize_tile(e->in.frame[1], phase, tile - first);
}

static void tile(void *self, uint32_t op, uint32_t i, uint32_t thread)
{
    pn_encode *e = self;
    const uint32_t kind = pn_encode_kind(op, e->d->layers);
    const bool in_block = kind >= PN_E_KV_IN && kind < PN_E_MERGE;
    switch (kind) {
    case PN_E_RESIZE_ACROSS: case PN_E_RESIZE_DOWN:
        resize_tile(e, kind - PN_E_RESIZE_ACROSS, i);
        return;
    case PN_E_EMBED: case PN_E_KV: case PN_E_Q: case PN_E_O: case PN_E_UP: case PN_E_DOWN: case PN_E_FC1: case PN_E_FC2: case PN_E_PROJECT:
        pn_tile_products(&e->cut, &e->k, i, e->scratch + thread * e->scratch_bytes);
        return;
    case PN_E_ATTEND: pn_tile_attention(e, e->d->full[pn_encode_layer(op)], i, thread); return;
    default: break;
    }
    const uint32_t from = i * e->cut.columns, to = PN_MIN(from + e->cut.columns, e->cut.total_columns);
    if (kind == PN_E_KV_PUT) pn_tile_keys(e, block_of(e, op), from, to, thread);
    else for (uint32_t c = from; c < to; c++) pn_encode_step(e, kind, in_block ? block_of(e, op) : NULL, c, thread);
}

/* ---- making one ---------------------------------------------------------------------------------- */

static bool weight_quantised(const pn_weight *w) { return !pn_type_is_float(w->first.type); }

bool pn_tower_quantised(const pn_tower *t)
{
    bool any = weight_quantised(&t->embed) || weight_quantised(&t->fc1) || weight_quantised(&t->fc2) || weight_quantised(&t->projection);
    for (uint32_t i = 0; i < t->d.layers && !any; i++) {
        const pn_block *b = &t->blocks[i];
        any = weight_quantised(&b->q) || weight_quantised(&b->k) || weight_quantised(&b->v) || weight_quantised(&b->o) ||
              weight_quantised(&b->fc1) || weight_quantised(&b->fc2);
    }
    return any;
}

static ponder_status check_grid(const pn_tower_info *d, pn_grid g, ponder_error *err)
{
    const uint64_t most = PN_ENCODE_PATCHES, unit = d->merge;
    if (g.rows > 0 && g.cols > 0 && g.rows <= most && g.cols <= most && g.rows * unit * g.cols * unit <= most) return PONDER_OK;
    return pn_fail(err, PONDER_E_RANGE, "a grid of %u x %u cells: at most %llu patches", g.rows, g.cols, (unsigned long long)most);
}

/* Weights that have the frames summed see one picture twice. */
static ponder_status check_frames(const pn_tower_info *d, const pn_encode_input *in, ponder_error *err)
{
    const size_t values = pn_tower_patch_values(d), half = values / 2, n = (size_t)in->grid.rows * in->grid.cols * d->merge * d->merge;
    bool same = in->patches || in->frame[0] == in->frame[1];
    for (size_t i = 0; in->patches && same && i < n; i++)
        same = memcmp(in->patches + i * values, in->patches + i * values + half, half * sizeof(float)) == 0;
    if (same || !d->frames_summed) return PONDER_OK;
    return pn_fail(err, PONDER_E_UNSUPPORTED, "this vision tower's file has the two frames of a patch summed (v.patch_embd.weight): "
                                              "a pair of different video frames cannot be computed from it");
}

ponder_status pn_encode_new(pn_encode **out, const pn_tower *t, const pn_encode_input *in, float *rows, const pn_kernels *k,
                            uint32_t threads, const ponder_alloc *a, ponder_error *err)
{
    *out = NULL;
    ponder_status st = check_grid(&t->d, in->grid, err);
    if (st == PONDER_OK) st = check_frames(&t->d, in, err);
    if (st != PONDER_OK) return st;
    pn_encode *e = pn_zalloc(a, sizeof *e);
    if (!e) return pn_nomem(err, sizeof *e);
    const bool quantised = pn_tower_quantised(t);
    e->t = t;
    e->k = *k;
    e->in = *in;
    e->out = rows;
    e->a = a;
    e->bytes = count_all(e, &t->d, quantised, in->grid, threads);
    e->memory = pn_alloc_aligned(a, e->bytes, 64);
    if (!e->memory) {
        st = pn_nomem(err, e->bytes);
        pn_encode_free(e);
        return st;
    }
    pn_arena give_out = {.base = e->memory};
    give_all(&give_out, e, quantised);
    pn_pixel_scale_init(&e->scale, t->d.mean, t->d.std);
    e->work = (pn_work){.self = e, .n_ops = PN_E_HEAD_OPS + t->d.layers * PN_E_BLOCK_OPS + PN_E_TAIL_OPS, .enter = enter, .tile = tile, .next = next};
    *out = e;
    return PONDER_OK;
}

void pn_encode_free(pn_encode *e)
{
    if (!e) return;
    pn_free(e->a, e->memory, e->bytes);
    pn_free(e->a, e, sizeof *e);
}

const pn_work *pn_encode_work(const pn_encode *e) { return &e->work; }
