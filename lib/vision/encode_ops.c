/* What the tiles of an encoding compute: patches, positions, rotation, attention, merging. Products are in lib/tensor. */
#include "vision/encode.h"

#include <math.h>

uint32_t pn_encode_columns(const pn_encode *e) { return PN_MIN(e->chunk, e->n - PN_MIN(e->at, e->n)); }
uint32_t pn_encode_cells(const pn_encode *e) { return PN_MIN(e->merged_chunk, e->cells - PN_MIN(e->at, e->cells)); }

static float *extra(const pn_encode *e, uint32_t thread)
{
    return (float *)(void *)(e->scratch + (thread + 1) * e->scratch_bytes) - pn_encode_extra(e->d);
}

/* ---- before the blocks ------------------------------------------------------------------- */

/* Angles of one row (i < height) or column of the grid. Positions count from 1, and angles are rounded to float, as in the reference. */
static void angles(pn_encode *e, uint32_t i)
{
    const uint32_t n = e->d->head_dim / 4, pos = (i < e->height ? i : i - e->height) + 1;
    float *to = e->angles + (size_t)i * 2 * n;
    for (uint32_t j = 0; j < n; j++) {
        double s, c;
        pn_sincos((double)((float)pos * e->t->freq[j]), &s, &c);
        to[j] = (float)c;
        to[n + j] = (float)s;
    }
}

static void cut_patch(pn_encode *e, uint32_t i)
{
    float *to = e->patches.x + (size_t)i * e->patches.width;
    const uint32_t n = e->at + i, frames = e->d->frames_summed ? 1 : e->d->frames;
    if (e->in.patches) {
        memcpy(to, e->in.patches + (size_t)n * pn_tower_patch_values(e->d), e->patches.width * sizeof *to);
    } else {
        const uint8_t *pixels[2] = {pn_resize_pixels(e->in.frame[0]), pn_resize_pixels(e->in.frame[1])};
        pn_patches(to, pixels, frames, e->d->patch, e->width, &e->scale, n, n + 1);
    }
    pn_slot_put(&e->k, &e->patches, i);
}

/* Two entries of one axis of the table and their weights: half-pixel centres; outside the table the weight is 0 and the rest stays
 * as it is. In float, step by step as the reference. */
typedef struct taps {
    uint32_t at[2];
    float weight[2];
} taps;

static taps sample(uint32_t i, uint32_t size, uint32_t side)
{
    taps t = {.weight = {0}};
    const float from = ((float)i + 0.5f) * (float)side / (float)size - 0.5f, first = floorf(from);
    for (int k = 0; k < 2; k++) {
        const float at = first + (float)k, weight = 1.0f - fabsf(from - first - (float)k);
        if (at < 0 || at > (float)(side - 1)) continue;
        t.at[k] = (uint32_t)at;
        t.weight[k] = weight > 0 ? weight : 0;
    }
    return t;
}

static void place(pn_encode *e, uint32_t i)
{
    const pn_tower *t = e->t;
    const size_t width = e->d->width;
    const uint32_t n = e->at + i, row = n / e->width, col = n % e->width, side = e->d->side;
    taps down = sample(row, e->height, side), across = sample(col, e->width, side);
    if (e->d->lookup == PN_LOOKUP_SPARK) {
        down = sample(n / e->height, e->width, side);
        across = sample(n % e->height, e->height, side);
    }
    float *x = e->value + i * width;
    for (int a = 0; a < 2; a++)
        for (int b = 0; b < 2; b++) {
            const float weight = down.weight[a] * across.weight[b];
            if (weight != 0) e->k.axpy(x, weight, t->table + ((size_t)down.at[a] * side + across.at[b]) * width, width);
        }
    e->k.layer_norm(e->x + pn_encode_column(e, row, col) * width, x, t->pre_w, t->pre_b, width, e->d->eps);
}

/* ---- in a block ------------------------------------------------------------------------------- */

static void norm_in(pn_encode *e, const float *w, const float *b, uint32_t i)
{
    const size_t width = e->d->width;
    e->k.layer_norm(e->norm.x + i * width, e->x + (e->at + i) * width, w, b, width, PN_BLOCK_EPS);
    pn_slot_put(&e->k, &e->norm, i);
}

/* Cosines and sines of a head for the patch at (row, col): the column's angles, then the row's. */
static const float *turn_of(const pn_encode *e, uint32_t row, uint32_t col, uint32_t thread)
{
    const uint32_t n = e->d->head_dim / 4;
    const float *x = e->angles + ((size_t)e->height + col) * 2 * n, *y = e->angles + (size_t)row * 2 * n;
    float *cs = extra(e, thread);
    memcpy(cs, x, n * sizeof *cs);
    memcpy(cs + n, y, n * sizeof *cs);
    memcpy(cs + 2 * n, x + n, n * sizeof *cs);
    memcpy(cs + 3 * n, y + n, n * sizeof *cs);
    return cs;
}

static void turn(const pn_encode *e, float *x, const float *bias, const float *cs)
{
    const uint32_t hd = e->d->head_dim;
    e->k.add(x, bias, e->d->width);
    for (uint32_t h = 0; h < e->d->heads; h++) e->k.rope(x + h * hd, cs, hd, e->d->rope_pairs);
}

static void turn_queries(pn_encode *e, const pn_block *b, uint32_t i, uint32_t thread)
{
    uint32_t row, col;
    pn_encode_window(e, e->at + i, &row, &col);
    turn(e, e->q + (size_t)i * e->d->width, b->q_b, turn_of(e, row, col, thread));
}

static uint8_t *block_at(const pn_encode *e, uint32_t block, uint32_t head)
{
    return e->kv + ((size_t)block * e->d->heads + head) * e->head_bytes;
}

/* Keys and values of columns from..to-1 of the chunk, at most PN_E_PUT. Head by head, since a block's keys lie transposed: the lines that one column
 * touches are those that the next one does. */
void pn_tile_keys(pn_encode *e, const pn_block *b, uint32_t from, uint32_t to, uint32_t thread)
{
    struct { uint32_t block, j; } at[PN_E_PUT];
    const uint32_t hd = e->d->head_dim, n = to - from;
    const size_t width = e->d->width;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t row, col;
        const pn_window w = pn_encode_window(e, e->at + from + i, &row, &col);
        const uint32_t j = e->at + from + i - w.first;
        at[i].block = w.block + j / PN_KEYS;
        at[i].j = j % PN_KEYS;
        turn(e, e->key + (from + i) * width, b->k_b, turn_of(e, row, col, thread));
        e->k.add(e->value + (from + i) * width, b->v_b, width);
    }
    for (uint32_t h = 0; h < e->d->heads; h++)
        for (uint32_t i = 0; i < n; i++) {
            uint8_t *block = block_at(e, at[i].block, h);
            const size_t x = (from + i) * width + h * hd;
            e->k.kv_put(PN_KV_F32, block, block + e->key_bytes, at[i].j, hd, e->key + x, e->value + x);
        }
}

/* ---- attention: a tile is some queries of one window and head over one span of keys. The spans of a query are computed in
 * order, one round each, joining its state as they come. -------------------------------------- */

enum { VALUES_A_TILE = 4096, QUERY_STEP = 8 };

static uint32_t queries_a_tile(const pn_encode *e)
{
    const uint32_t n = VALUES_A_TILE / e->d->head_dim / QUERY_STEP * QUERY_STEP;
    return PN_MIN(PN_MAX(n, (uint32_t)QUERY_STEP), (uint32_t)PN_E_QUERIES);
}

/* Columns that see the same keys: the window's part in this chunk, or all of the chunk. */
typedef struct segment {
    uint32_t from, n;         /* columns of the chunk */
    uint32_t block, blocks;   /* keys */
    uint32_t tiles;           /* of one head */
} segment;

static segment segment_at(const pn_encode *e, bool full, uint32_t i)
{
    segment s = {.from = i, .n = pn_encode_columns(e) - i, .blocks = e->blocks};
    if (!full) {
        uint32_t row, col;
        const pn_window w = pn_encode_window(e, e->at + i, &row, &col);
        s.n = PN_MIN(s.n, w.first + w.n - e->at - i);
        s.block = w.block;
        s.blocks = w.blocks;
    }
    const uint32_t per = queries_a_tile(e);
    s.tiles = e->round * PN_E_SPAN_BLOCKS < s.blocks ? (s.n + per - 1) / per : 0;
    return s;
}

uint32_t pn_enter_attention(pn_encode *e, bool full)
{
    uint32_t tiles = 0;
    for (uint32_t i = 0; i < pn_encode_columns(e);) {
        const segment s = segment_at(e, full, i);
        tiles += s.tiles * e->d->heads;
        i += s.n;
    }
    return tiles;
}

bool pn_attention_again(const pn_encode *e, bool full)
{
    const uint32_t done = (e->round + 1) * PN_E_SPAN_BLOCKS;
    for (uint32_t i = 0; i < pn_encode_columns(e);) {
        const segment s = segment_at(e, full, i);
        if (done < s.blocks) return true;
        i += s.n;
    }
    return false;
}

static void bind(pn_encode *e, pn_attn_query *q, uint32_t i, uint32_t head)
{
    const uint32_t hd = e->d->head_dim;
    const size_t at = (size_t)i * e->d->heads + head;
    *q = (pn_attn_query){.q = e->q + at * hd, .m = e->state_m + at, .l = e->state_l + at, .o = e->attn.x + at * hd};
    if (e->round > 0) return;
    *q->m = -INFINITY;
    *q->l = 0;
    memset(q->o, 0, hd * sizeof(float));
}

/* The window that a block belongs to: found by halving, since windows differ in size. */
static pn_window window_of_block(const pn_encode *e, uint32_t block)
{
    uint32_t low = 0, high = e->n - 1, row, col;
    for (;;) {
        const uint32_t middle = low + (high - low) / 2;
        const pn_window w = pn_encode_window(e, middle, &row, &col);
        if (block < w.block) high = w.first - 1;
        else if (block >= w.block + w.blocks) low = w.first + w.n;
        else return w;
    }
}

void pn_tile_attention(pn_encode *e, bool full, uint32_t tile, uint32_t thread)
{
    segment s = segment_at(e, full, 0);
    while (tile >= s.tiles * e->d->heads) {
        tile -= s.tiles * e->d->heads;
        s = segment_at(e, full, s.from + s.n);
    }
    const uint32_t hd = e->d->head_dim, head = tile / s.tiles, per = queries_a_tile(e), first = tile % s.tiles * per;
    const uint32_t n = PN_MIN(per, s.n - first), from = s.block + e->round * PN_E_SPAN_BLOCKS;
    const uint32_t to = PN_MIN(from + PN_E_SPAN_BLOCKS, s.block + s.blocks);
    uint8_t *scratch = e->scratch + thread * e->scratch_bytes;
    pn_attn_query *q = (pn_attn_query *)(void *)(scratch + pn_scratch_bytes(hd));
    for (uint32_t i = 0; i < n; i++) bind(e, &q[i], s.from + first + i, head);
    pn_window w = window_of_block(e, from);
    const float scale = (float)(1 / sqrt((double)hd));
    for (uint32_t b = from; b < to; b++) {
        /* The last block of each window may be short, also where the keys of all windows are seen. */
        if (b == w.block + w.blocks) w = window_of_block(e, b);
        const uint32_t keys = PN_MIN(w.n - (b - w.block) * PN_KEYS, (uint32_t)PN_KEYS);
        for (uint32_t i = 0; i < n; i++) q[i].hi = keys;
        const uint8_t *at = block_at(e, b, head);
        e->k.attn_block(PN_KV_F32, at, at + e->key_bytes, hd, scale, q, n, NULL, scratch);
    }
}

static void attended(pn_encode *e, uint32_t i)
{
    const uint32_t hd = e->d->head_dim, heads = e->d->heads;
    float *a = e->attn.x + (size_t)i * e->d->width;
    for (uint32_t h = 0; h < heads; h++) e->k.scale(a + h * hd, 1.0f / e->state_l[(size_t)i * heads + h], hd);
    pn_slot_put(&e->k, &e->attn, i);
}

/* ---- the rest of a block --------------------------------------------------------------------- */

static void join_stream(pn_encode *e, const float *bias, uint32_t i)
{
    const size_t width = e->d->width;
    float *t = e->value + i * width;
    e->k.add(t, bias, width);
    e->k.add(e->x + (e->at + i) * width, t, width);
}

static void gelu(pn_encode *e, pn_slot *s, const float *bias, uint32_t i)
{
    float *x = s->x + i * s->width;
    if (bias) e->k.add(x, bias, s->width);
    e->k.gelu_mul(x, x, NULL, s->width);
    pn_slot_put(&e->k, s, i);
}

/* ---- after the blocks -------------------------------------------------------------------------- */

/* The patches of a cell side by side: the channel slow, the position in the cell (row by row) fast. */
static void merge(pn_encode *e, uint32_t i, uint32_t thread)
{
    const uint32_t m = e->d->merge, cell = e->at + i, cols = e->width / m, row = cell / cols * m, col = cell % cols * m;
    const size_t width = e->d->width, unit = (size_t)m * m;
    float *to = e->merged.x + i * e->merged.width, *normed = extra(e, thread);
    for (uint32_t p = 0; p < unit; p++) {
        const float *x = e->x + pn_encode_column(e, row + p / m, col + p % m) * width;
        e->k.layer_norm(normed, x, e->t->post_w, e->t->post_b, width, e->d->eps);
        for (size_t c = 0; c < width; c++) to[c * unit + p] = normed[c];
    }
    pn_slot_put(&e->k, &e->merged, i);
}

void pn_encode_step(pn_encode *e, uint32_t kind, const pn_block *b, uint32_t i, uint32_t thread)
{
    switch (kind) {
    case PN_E_ANGLES: angles(e, i); break;
    case PN_E_PATCHES: cut_patch(e, i); break;
    case PN_E_PLACE: place(e, i); break;
    case PN_E_KV_IN: case PN_E_Q_IN: norm_in(e, b->norm1_w, b->norm1_b, i); break;
    case PN_E_Q_TURN: turn_queries(e, b, i, thread); break;
    case PN_E_ATTENDED: attended(e, i); break;
    case PN_E_MIDDLE:
        join_stream(e, b->o_b, i);
        norm_in(e, b->norm2_w, b->norm2_b, i);
        break;
    case PN_E_GELU: gelu(e, &e->hidden, b->fc1_b, i); break;
    case PN_E_END: join_stream(e, b->fc2_b, i); break;
    case PN_E_MERGE: merge(e, i, thread); break;
    case PN_E_FC1_GELU: gelu(e, &e->fc1, NULL, i); break;
    case PN_E_FC2_GELU: gelu(e, &e->fc2, NULL, i); break;
    default: break;
    }
}
