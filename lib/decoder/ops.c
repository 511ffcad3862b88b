/* The operations between the matrix products, column by column. */
#include "decoder/program.h"

#include <math.h>

void pn_rope_table(const pn_network *n, float *to, int table, uint32_t pos)
{
    uint32_t half = n->d.rot_dim / 2;
    for (uint32_t i = 0; i < half; i++) {
        double s, c;
        pn_sincos((double)((float)pos * n->freq[table][i]), &s, &c); /* the angle in float, as the reference has it */
        to[i] = (float)c;
        to[half + i] = (float)s;
    }
}

static void norm_in(pn_program *p, const float *weight, uint32_t col)
{
    const size_t w = p->d->width;
    p->k.norm(PN_NORM_PLAIN, p->in.x + col * w, p->x + col * w, weight, w, p->d->eps);
    pn_slot_put(&p->k, &p->in, col);
}

static void embed_token(pn_program *p, int32_t id, float *x)
{
    pn_matrix m = pn_weight_pin(&p->n->embed, 0);
    pn_matrix_row(&m, (uint32_t)id, x);
    pn_weight_unpin(&p->n->embed, 0);
    if (p->d->embed_scale != 1) p->k.scale(x, p->d->embed_scale, p->d->width);
}

void pn_tile_embed(pn_program *p, uint32_t col)
{
    const pn_description *d = p->d;
    const pn_run *r = &p->runs[p->run_of[col]];
    uint32_t i = col - r->col;
    if (r->dropped) return;
    float *x = p->x + (size_t)col * d->width;
    if (r->rows && r->rows[i]) memcpy(x, r->rows[i], d->width * sizeof(float));
    else embed_token(p, d->block && i > 0 ? d->mask : r->ids[i], x);
    if (d->embed_norm) p->k.norm(PN_NORM_PLAIN, x, x, NULL, d->width, d->eps);
    float *rope = p->rope + (size_t)col * 2 * d->rot_dim;
    for (int t = 0; t < 2; t++)
        if (p->rotates[t]) pn_rope_table(p->n, rope + t * d->rot_dim, t, r->pos + i);
    norm_in(p, p->n->layers[0].attn_norm, col);
}

static void head_norms(const pn_program *p, float *x, uint32_t heads, const float *weight, float scale)
{
    const pn_description *d = p->d;
    for (uint32_t h = 0; h < heads; h++, x += d->head_dim) {
        if (d->qk_norm != PN_USE_NONE) p->k.norm(PN_NORM_PLAIN, x, x, weight, d->head_dim, d->eps);
        if (scale != 1) p->k.scale(x, scale, d->head_dim);
    }
}

void pn_put_heads(const pn_program *p, const pn_kv_layout *kv, const pn_description *d, uint8_t *block, uint32_t pos, float *k, float *v)
{
    for (uint32_t h = 0; h < d->kv_heads; h++, k += d->head_dim, v += d->head_dim, block += kv->head_bytes) {
        if (kv->type == PN_KV_Q4) {
            p->k.turn(k, d->head_dim, false);
            p->k.turn(v, d->head_dim, false);
        }
        p->k.kv_put(kv->type, block, block + kv->key_bytes, pos % PN_KEYS, d->head_dim, k, v);
    }
}

/* Biases, norms, rotation; then keys and values go to their page. */
void pn_tile_heads(pn_program *p, const pn_layer *l, uint32_t col)
{
    const pn_description *d = p->d;
    const pn_run *r = &p->runs[p->run_of[col]];
    const pn_layer_info *info = &d->layer[l - p->n->layers];
    if (r->dropped) return;
    size_t nq = (size_t)d->heads * d->head_dim, nk = (size_t)d->kv_heads * d->head_dim;
    float *q = p->q + col * nq, *k = p->kk + col * nk, *v = p->v + col * nk;
    if (l->q_bias) p->k.add(q, l->q_bias, nq);
    if (l->k_bias) p->k.add(k, l->k_bias, nk);
    if (l->v_bias) p->k.add(v, l->v_bias, nk);
    head_norms(p, q, d->heads, l->q_norm, d->q_scale);
    head_norms(p, k, d->kv_heads, l->k_norm, 1);
    if (info->rope) {
        const float *cs = p->rope + ((size_t)col * 2 + (info->local_rope ? 1 : 0)) * d->rot_dim;
        for (uint32_t h = 0; h < d->heads; h++) p->k.rope(q + h * d->head_dim, cs, d->rot_dim, d->rope_pairs);
        for (uint32_t h = 0; h < d->kv_heads; h++) p->k.rope(k + h * d->head_dim, cs, d->rot_dim, d->rope_pairs);
    }
    if (p->kv.type == PN_KV_Q4)
        for (uint32_t h = 0; h < d->heads; h++) p->k.turn(q + h * d->head_dim, d->head_dim, false);
    uint32_t pos = r->pos + (col - r->col);
    pn_put_heads(p, &p->kv, d, r->pages[l->group][pos / PN_KEYS] + l->index * p->kv.layer_bytes, pos, k, v);
}

/* The attention result: normalise the softmax, turn back what the store had turned, norm of each head, output gate. */
void pn_tile_attended(pn_program *p, const pn_layer *l, uint32_t col)
{
    const pn_description *d = p->d;
    size_t n = (size_t)d->heads * d->head_dim;
    float *a = p->attn.x + col * n;
    for (uint32_t h = 0; h < d->heads; h++) {
        p->k.scale(a + h * d->head_dim, 1.0f / p->state_l[(size_t)col * d->heads + h], d->head_dim);
        if (p->kv.type == PN_KV_Q4) p->k.turn(a + h * d->head_dim, d->head_dim, true);
        if (d->head_norm) p->k.norm(PN_NORM_PLAIN, a + h * d->head_dim, a + h * d->head_dim, NULL, d->head_dim, d->eps);
    }
    if (l->g.batch) p->k.sigmoid_mul(a, a, p->g + col * n, n);
    pn_slot_put(&p->k, &p->attn, col);
}

static void post_norm(const pn_program *p, pn_norm_use use, float *t, const float *weight)
{
    if (use == PN_USE_NONE) return;
    p->k.norm(use == PN_USE_INPUT ? PN_NORM_INPUT : PN_NORM_PLAIN, t, t, use == PN_USE_BARE ? NULL : weight, p->d->width, p->d->post_eps);
}

static void join_stream(const pn_program *p, uint32_t col, const float *alpha, const float *beta)
{
    float *x = p->x + (size_t)col * p->d->width;
    const float *t = p->t + (size_t)col * p->d->width;
    if (p->d->residual_gate) p->k.gate_add(x, alpha, beta, t, p->d->width);
    else p->k.add(x, t, p->d->width);
}

void pn_tile_middle(pn_program *p, const pn_layer *l, uint32_t col)
{
    float *t = p->t + (size_t)col * p->d->width;
    if (l->o_bias) p->k.add(t, l->o_bias, p->d->width);
    post_norm(p, p->d->post_attn, t, l->post_attn);
    join_stream(p, col, l->attn_alpha, l->attn_beta);
    norm_in(p, l->ffn_norm, col);
}

void pn_tile_activate(pn_program *p, uint32_t col)
{
    size_t n = p->d->ff;
    float *g = p->ff.x + col * n;
    const float *u = p->up + col * n;
    if (p->d->act == PN_ACT_SILU) p->k.silu_mul(g, g, u, n);
    else if (p->d->act == PN_ACT_GELU_TANH) p->k.gelu_tanh_mul(g, g, u, n);
    else p->k.gelu_mul(g, g, u, n);
    pn_slot_put(&p->k, &p->ff, col);
}

void pn_tile_end(pn_program *p, uint32_t op, uint32_t col)
{
    const pn_layer *l = pn_op_layer(p, op);
    const uint32_t layer = p->ops[op].layer;
    const size_t width = p->d->width;
    post_norm(p, p->d->post_ffn, p->t + col * width, l->post_ffn);
    join_stream(p, col, l->ffn_alpha, l->ffn_beta);
    const pn_run *r = &p->runs[p->run_of[col]];
    if (r->hidden && r->hidden_layer == layer) memcpy(r->hidden + (col - r->col) * width, p->x + col * width, width * sizeof(float));
    if (p->n->drafter) pn_take_tap(p, layer + 1, col);
    if (layer + 1 < p->d->layers) norm_in(p, p->n->layers[layer + 1].attn_norm, col);
}

void pn_tile_final_norm(pn_program *p, uint32_t out)
{
    const size_t width = p->d->width;
    uint32_t col = p->col_of[out];
    float *y = p->out.x + out * width;
    p->k.norm(PN_NORM_PLAIN, y, p->x + col * width, p->n->norm, width, p->d->eps);
    const pn_run *r = &p->runs[p->run_of[col]];
    if (r->hidden && r->hidden_layer == p->d->layers) memcpy(r->hidden + (out - r->out) * width, y, width * sizeof(float));
    pn_slot_put(&p->k, &p->out, out);
}

/* A head's outputs are cut too: the largest vocabularies have 200,000 of them. */
enum { LOGITS_A_TILE = 32768 };

uint32_t pn_logits_a_tile(const pn_program *p) { return PN_MIN(p->d->vocab, (uint32_t)LOGITS_A_TILE); }

uint32_t pn_logits_pieces(const pn_description *d) { return (d->vocab + LOGITS_A_TILE - 1) / LOGITS_A_TILE; }

uint32_t pn_enter_logits(pn_program *p) { return p->outputs * pn_logits_pieces(p->d); }

void pn_tile_logits(pn_program *p, uint32_t tile)
{
    const pn_description *d = p->d;
    const uint32_t pieces = pn_logits_pieces(d), out = tile / pieces, piece = tile % pieces;
    const uint32_t from = piece * LOGITS_A_TILE, n = PN_MIN(d->vocab - from, (uint32_t)LOGITS_A_TILE);
    const pn_run *r = &p->runs[p->run_of[p->col_of[out]]];
    if (r->dropped || (!r->logits && !d->block)) return;
    float *y = p->logits + (size_t)out * d->vocab + from;
    if (d->softcap != 0 || d->logit_scale != 1) p->k.softcap(y, d->logit_scale, d->softcap, n);
    if (r->logits) memcpy(r->logits + (size_t)(out - r->out) * d->vocab + from, y, n * sizeof(float));
    if (d->block) pn_pick_piece(p, out, piece, y, from, n);
}
