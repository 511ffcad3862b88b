/* Which weights the tower has, by the names of either container, and loading them. */
#include "vision/tower.h"

#include <stdio.h>

/* What a tensor's sizes are made of. */
typedef enum dim { NONE, WIDTH, FF, PATCH, MERGED, ADAPTER, OUT, TABLE } dim;

typedef struct entry {
    bool block;               /* one a layer */
    dim rows, cols;           /* rows NONE: a vector */
    const char *hf, *gguf;    /* after the container's prefix */
} entry;

#define NORM(role, name_hf, name_gguf, in_block) \
    [role##_W] = {in_block, NONE, WIDTH, name_hf ".weight", name_gguf ".weight"}, \
    [role##_B] = {in_block, NONE, WIDTH, name_hf ".bias", name_gguf ".bias"}
#define LINEAR(role, n_out, n_in, name_hf, name_gguf) \
    [role] = {true, n_out, n_in, name_hf ".weight", name_gguf ".weight"}, \
    [role##_B] = {true, NONE, n_out, name_hf ".bias", name_gguf ".bias"}

static const entry table[PN_T_COUNT] = {
    [PN_T_EMBED] = {false, WIDTH, PATCH, "vision_tower.patch_embedder.patch_embedding.weight", "v.patch_embd.weight"},
    [PN_T_TABLE] = {false, TABLE, WIDTH, "vision_tower.patch_embedder.position_embedding_table.weight", "v.position_embd.weight"},
    NORM(PN_T_PRE, "vision_tower.ln_pre", "v.pre_ln", false),
    NORM(PN_T_POST, "vision_tower.ln_post", "v.post_ln", false),
    [PN_T_FC1] = {false, ADAPTER, MERGED, "vision_adapter.fc1.weight", "mm.0.weight"},
    [PN_T_FC2] = {false, ADAPTER, ADAPTER, "vision_adapter.fc2.weight", "mm.1.weight"},
    [PN_T_PROJECTION] = {false, OUT, ADAPTER, "vision_projection.weight", "mm.2.weight"},
    NORM(PN_T_NORM1, "norm1", "ln1", true),
    LINEAR(PN_T_Q, WIDTH, WIDTH, "attn.q_proj", "attn_q"),
    LINEAR(PN_T_K, WIDTH, WIDTH, "attn.k_proj", "attn_k"),
    LINEAR(PN_T_V, WIDTH, WIDTH, "attn.v_proj", "attn_v"),
    LINEAR(PN_T_O, WIDTH, WIDTH, "attn.proj", "attn_out"),
    NORM(PN_T_NORM2, "norm2", "ln2", true),
    LINEAR(PN_T_UP, FF, WIDTH, "mlp.fc1", "ffn_up"),
    LINEAR(PN_T_DOWN, WIDTH, FF, "mlp.fc2", "ffn_down"),
};

/* Folders hold the whole model, or its inner part alone. */
static const char *folder_prefix(const pn_checkpoint *c)
{
    if (pn_checkpoint_find(c, "model.vision_tower.patch_embedder.patch_embedding.weight")) return "model.";
    if (pn_checkpoint_find(c, "vision_tower.patch_embedder.patch_embedding.weight")) return "";
    return NULL;
}

const char *pn_tower_name(const pn_checkpoint *c, pn_tower_role role, uint32_t layer, char name[PN_TOWER_NAME])
{
    const entry *e = &table[role];
    const bool gguf = pn_checkpoint_is_gguf(c);
    const char *prefix = gguf ? "" : folder_prefix(c);
    if (!prefix) return NULL;
    if (!e->block) snprintf(name, PN_TOWER_NAME, "%s%s", prefix, gguf ? e->gguf : e->hf);
    else if (gguf) snprintf(name, PN_TOWER_NAME, "v.blk.%u.%s", layer, e->gguf);
    else snprintf(name, PN_TOWER_NAME, "%svision_tower.layers.%u.%s", prefix, layer, e->hf);
    return name;
}

static uint64_t size_of(const pn_tower_info *d, dim which)
{
    switch (which) {
    case WIDTH: return d->width;
    case FF: return d->ff;
    case PATCH: return pn_tower_patch_values(d);
    case MERGED: return (uint64_t)d->merge * d->merge * d->width;
    case ADAPTER: return d->adapter;
    case OUT: return d->out;
    case TABLE: return (uint64_t)d->side * d->side;
    case NONE: break;
    }
    return 1;
}

static ponder_status find(pn_slice *s, const pn_checkpoint *c, const pn_tower_info *d, pn_tower_role role, uint32_t layer,
                          ponder_error *err)
{
    char name[PN_TOWER_NAME];
    const entry *e = &table[role];
    const uint64_t rows = size_of(d, e->rows), ne[4] = {size_of(d, e->cols), rows};
    const uint64_t picture[4] = {d->patch, d->patch, 3, d->width};
    if (!pn_tower_name(c, role, layer, name)) return pn_fail(err, PONDER_E_FORMAT, "no tensors of a vision tower");
    return pn_slice_named(s, c, name, role == PN_T_EMBED && d->frames_summed ? picture : ne, rows, err);
}

/* ---- the walk ---------------------------------------------------------------------------------------------------------- */

typedef struct place {
    pn_tower_role role;
    size_t at;                /* of the pn_weight or float pointer in pn_tower, or in pn_block */
} place;

#define T(member) offsetof(pn_tower, member)
#define B(member) offsetof(pn_block, member)
static const place whole[] = {
    {PN_T_EMBED, T(embed)}, {PN_T_TABLE, T(table)}, {PN_T_PRE_W, T(pre_w)}, {PN_T_PRE_B, T(pre_b)}, {PN_T_POST_W, T(post_w)},
    {PN_T_POST_B, T(post_b)}, {PN_T_FC1, T(fc1)}, {PN_T_FC2, T(fc2)}, {PN_T_PROJECTION, T(projection)},
};
static const place in_block[] = {
    {PN_T_NORM1_W, B(norm1_w)}, {PN_T_NORM1_B, B(norm1_b)}, {PN_T_Q, B(q)}, {PN_T_Q_B, B(q_b)}, {PN_T_K, B(k)}, {PN_T_K_B, B(k_b)},
    {PN_T_V, B(v)}, {PN_T_V_B, B(v_b)}, {PN_T_O, B(o)}, {PN_T_O_B, B(o_b)}, {PN_T_NORM2_W, B(norm2_w)}, {PN_T_NORM2_B, B(norm2_b)},
    {PN_T_UP, B(fc1)}, {PN_T_UP_B, B(fc1_b)}, {PN_T_DOWN, B(fc2)}, {PN_T_DOWN_B, B(fc2_b)},
};

/* What is walked: a description, and the tower that is filled (NULL: counted only). */
typedef struct walking {
    const pn_tower_info *d;
    pn_tower *t;
} walking;

static ponder_status take(pn_loader *l, const pn_tower_info *d, const place *p, uint32_t layer, void *base, ponder_error *err)
{
    pn_slice s;
    pn_treatment t;
    uint8_t *at = base ? (uint8_t *)base + p->at : NULL;
    ponder_status st = find(&s, l->c, d, p->role, layer, err);
    if (st != PONDER_OK) return st;
    if (table[p->role].rows == NONE || p->role == PN_T_TABLE) return pn_load_vector(l, (float **)(void *)at, &s, 0, err);
    return pn_load_matrix(l, (pn_weight *)(void *)at, &s, PN_LOAD_NOW, &t, err);
}

static ponder_status walk(void *ctx, pn_loader *l, ponder_error *err)
{
    const walking *w = ctx;
    ponder_status st = PONDER_OK;
    for (size_t i = 0; i < PN_COUNT(whole) && st == PONDER_OK; i++) st = take(l, w->d, &whole[i], 0, w->t, err);
    for (uint32_t b = 0; b < w->d->layers; b++)
        for (size_t i = 0; i < PN_COUNT(in_block) && st == PONDER_OK; i++)
            st = take(l, w->d, &in_block[i], b, w->t ? &w->t->blocks[b] : NULL, err);
    float *freq = pn_load_floats(l, w->d->head_dim / 4);
    if (freq && st == PONDER_OK) {
        w->t->freq = freq;
        pn_rope_frequencies(freq, w->d->head_dim / 2, w->d->theta);
    }
    return st;
}

/* ---- the whole ---------------------------------------------------------------------------------------------------------- */

static ponder_status load(pn_tower *t, pn_checkpoint *c, const pn_load_options *o, ponder_error *err)
{
    walking w = {&t->d, t};
    t->blocks = pn_zalloc_array(t->a, t->d.layers, sizeof *t->blocks);
    if (!t->blocks) return pn_nomem(err, t->d.layers * sizeof *t->blocks);
    return pn_load(&t->store, c, o, walk, &w, t->a, err);
}

ponder_status pn_tower_load(pn_tower **out, pn_checkpoint *c, const char *text_arch, uint32_t text_width, const pn_load_options *o,
                            const ponder_alloc *a, ponder_error *err)
{
    bool found;
    pn_tower_info d;
    *out = NULL;
    ponder_status st = pn_tower_describe(&d, &found, c, text_arch, text_width, err);
    if (st != PONDER_OK || !found) return st;
    pn_tower *t = pn_zalloc(a, sizeof *t);
    if (!t) return pn_nomem(err, sizeof *t);
    t->d = d;
    t->a = t->store.a = a;
    st = load(t, c, o, err);
    if (st == PONDER_OK) *out = t;
    else pn_tower_free(t);
    return st;
}

void pn_tower_free(pn_tower *t)
{
    if (!t) return;
    pn_store_free(&t->store);
    pn_free(t->a, t->blocks, t->d.layers * sizeof *t->blocks);
    pn_free(t->a, t, sizeof *t);
}

const pn_tower_info *pn_tower_about(const pn_tower *t) { return &t->d; }
const pn_store *pn_tower_store(const pn_tower *t) { return &t->store; }

size_t pn_tower_bytes(const pn_tower *t)
{
    return pn_store_bytes(&t->store) + sizeof *t + t->d.layers * sizeof(pn_block);
}

ponder_status pn_tower_plan(pn_load_plan *out, pn_checkpoint *c, const pn_tower_info *d, const pn_load_options *o, ponder_error *err)
{
    walking w = {d, NULL};
    ponder_status st = pn_load_count(out, c, o, walk, &w, err);
    out->owned += sizeof(pn_tower) + d->layers * sizeof(pn_block);
    return st;
}
