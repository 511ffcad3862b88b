/* Which weights the tower has, by the names of either container, and loading them. */
#include "audio/tower.h"

#include <stdio.h>

/* ---- names and sizes --------------------------------------------------------------------------- */

typedef enum kind { WHOLE, STAGE, BLOCK } kind;
/* What a tensor's sizes are made of, at its stage. */
typedef enum dim { NONE, WIDTH, FOLDED, FF, LAST, OUT, TAPS } dim;

typedef struct entry {
    kind kind;
    dim rows, cols;           /* rows NONE: a vector */
    const char *hf, *gguf;    /* behind the prefix of tower, stage or block; GGUF's are whole, with the number */
} entry;

static const entry table[PN_A_COUNT] = {
    [PN_A_NORM] = {WHOLE, NONE, LAST, "norm.weight", "a.pre_ln.weight"},
    [PN_A_PROJ] = {WHOLE, OUT, LAST, "proj.weight", "mm.a.fc.weight"},
    [PN_A_PROJ_B] = {WHOLE, NONE, OUT, "proj.bias", "mm.a.fc.bias"},
    [PN_A_POST] = {WHOLE, NONE, OUT, "post_proj_norm.weight", "a.post_ln.weight"},
    [PN_A_FOLD] = {STAGE, WIDTH, FOLDED, "patch_embedder.proj.weight", "a.patch.%u.weight"},
    [PN_A_FOLD_B] = {STAGE, NONE, WIDTH, "patch_embedder.proj.bias", "a.patch.%u.bias"},
    [PN_A_FOLD_NORM] = {STAGE, NONE, WIDTH, "patch_embedder.norm.weight", "a.patch.%u.norm.weight"},
    [PN_A_CONV] = {BLOCK, WIDTH, TAPS, "conv.weight", "a.conv1d.%u.weight"},
    [PN_A_CONV_B] = {BLOCK, NONE, WIDTH, "conv.bias", "a.conv1d.%u.bias"},
    [PN_A_BLOCK_NORM] = {BLOCK, NONE, WIDTH, "norm.weight", "a.conv1d.%u.norm.weight"},
    [PN_A_FC1] = {BLOCK, FF, WIDTH, "mlp.fc1.weight", "a.blk.%u.ffn_up.weight"},
    [PN_A_FC1_B] = {BLOCK, NONE, FF, "mlp.fc1.bias", "a.blk.%u.ffn_up.bias"},
    [PN_A_FC2] = {BLOCK, WIDTH, FF, "mlp.fc2.weight", "a.blk.%u.ffn_down.weight"},
    [PN_A_FC2_B] = {BLOCK, NONE, WIDTH, "mlp.fc2.bias", "a.blk.%u.ffn_down.bias"},
};

/* A GGUF numbers blocks across stages. */
static uint32_t number_of(const pn_audio_info *d, uint32_t stage, uint32_t block)
{
    for (uint32_t s = 0; s < stage; s++) block += d->depth[s];
    return block;
}

/* Folders hold the whole model, or its inner part alone. */
static const char *folder_prefix(const pn_checkpoint *c)
{
    if (pn_checkpoint_find(c, "model.audio_tower.layers.0.patch_embedder.proj.weight")) return "model.audio_tower.";
    if (pn_checkpoint_find(c, "audio_tower.layers.0.patch_embedder.proj.weight")) return "audio_tower.";
    return NULL;
}

static void gguf_name(const entry *e, uint32_t number, char name[PN_AUDIO_NAME])
{
    const size_t at = strcspn(e->gguf, "%");
    if (e->kind == WHOLE) snprintf(name, PN_AUDIO_NAME, "%s", e->gguf);
    else snprintf(name, PN_AUDIO_NAME, "%.*s%u%s", (int)at, e->gguf, number, e->gguf + at + 2);
}

const char *pn_audio_name(const pn_checkpoint *c, const pn_audio_info *d, pn_audio_role role, uint32_t stage, uint32_t block,
                          char name[PN_AUDIO_NAME])
{
    const entry *e = &table[role];
    if (pn_checkpoint_is_gguf(c)) {
        gguf_name(e, e->kind == STAGE ? stage : number_of(d, stage, block), name);
        return name;
    }
    const char *prefix = folder_prefix(c);
    if (!prefix) return NULL;
    if (e->kind == WHOLE) snprintf(name, PN_AUDIO_NAME, "%s%s", prefix, e->hf);
    else if (e->kind == STAGE) snprintf(name, PN_AUDIO_NAME, "%slayers.%u.%s", prefix, stage, e->hf);
    else snprintf(name, PN_AUDIO_NAME, "%slayers.%u.conv_blocks.%u.%s", prefix, stage, block, e->hf);
    return name;
}

static uint64_t size_of(const pn_audio_info *d, dim which, uint32_t stage)
{
    switch (which) {
    case WIDTH: return d->width[stage];
    case FOLDED: return (uint64_t)d->patch[stage] * (stage ? d->width[stage - 1] : 1);
    case FF: return d->ff[stage];
    case LAST: return d->width[d->stages - 1];
    case OUT: return d->out;
    case TAPS: return d->taps;
    case NONE: break;
    }
    return 1;
}

static ponder_status find(pn_slice *s, const pn_checkpoint *c, const pn_audio_info *d, pn_audio_role role, uint32_t stage, uint32_t block,
                          ponder_error *err)
{
    char name[PN_AUDIO_NAME];
    const entry *e = &table[role];
    const uint64_t rows = size_of(d, e->rows, stage), cols = size_of(d, e->cols, stage);
    const uint64_t ne[4] = {cols, rows}, filter[4] = {cols, 1, rows};
    if (!pn_audio_name(c, d, role, stage, block, name)) return pn_fail(err, PONDER_E_FORMAT, "no tensors of an audio tower");
    return pn_slice_named(s, c, name, role == PN_A_CONV ? filter : ne, rows, err);
}

/* ---- the walk ------------------------------------------------------------------------------------- */

typedef struct place {
    pn_audio_role role;
    size_t at;                /* of the pn_weight or float pointer in pn_audio, pn_audio_stage or pn_audio_block */
} place;

static const place whole[] = {
    {PN_A_NORM, offsetof(pn_audio, norm)}, {PN_A_PROJ, offsetof(pn_audio, proj)}, {PN_A_PROJ_B, offsetof(pn_audio, proj_b)},
    {PN_A_POST, offsetof(pn_audio, post_norm)},
};
static const place in_stage[] = {
    {PN_A_FOLD, offsetof(pn_audio_stage, fold)}, {PN_A_FOLD_B, offsetof(pn_audio_stage, fold_b)},
    {PN_A_FOLD_NORM, offsetof(pn_audio_stage, fold_norm)},
};
#define B(member) offsetof(pn_audio_block, member)
static const place in_block[] = {
    {PN_A_CONV, B(conv_w)}, {PN_A_CONV_B, B(conv_b)}, {PN_A_BLOCK_NORM, B(norm)}, {PN_A_FC1, B(fc1)}, {PN_A_FC1_B, B(fc1_b)},
    {PN_A_FC2, B(fc2)}, {PN_A_FC2_B, B(fc2_b)},
};

/* What is walked: a description, and the tower that is filled (NULL: counted only). */
typedef struct walking {
    const pn_audio_info *d;
    pn_audio *t;
} walking;

/* The file has a channel's taps side by side; computing goes channel by channel. */
static ponder_status take_filter(pn_loader *l, float **to, const pn_slice *s, ponder_error *err)
{
    float taps[PN_AUDIO_TAPS];
    float *w = pn_load_floats(l, (size_t)(s->rows * s->cols));
    if (!w) {
        l->store->parameters += s->rows * s->cols;
        return pn_load_read(l, NULL, s, err);
    }
    ponder_status st = PONDER_OK;
    pn_slice one = *s;
    one.rows = 1;
    for (uint64_t r = 0; r < s->rows && st == PONDER_OK; r++, one.from += s->row_stride) {
        st = pn_load_read(l, taps, &one, err);
        for (uint64_t j = 0; j < s->cols && st == PONDER_OK; j++) w[j * s->rows + r] = taps[j];
    }
    *to = w;
    return st;
}

static ponder_status take(pn_loader *l, const pn_audio_info *d, const place *p, uint32_t stage, uint32_t block, void *base, ponder_error *err)
{
    pn_slice s;
    pn_treatment t;
    void *at = base ? (uint8_t *)base + p->at : NULL;
    ponder_status st = find(&s, l->c, d, p->role, stage, block, err);
    if (st != PONDER_OK) return st;
    if (p->role == PN_A_CONV) return take_filter(l, at, &s, err);
    if (table[p->role].rows == NONE) return pn_load_vector(l, at, &s, 0, err);
    return pn_load_matrix(l, at, &s, PN_LOAD_NOW, &t, err);
}

static ponder_status walk_stage(const walking *w, pn_loader *l, uint32_t s, ponder_error *err)
{
    pn_audio_stage *stage = w->t ? &w->t->stage[s] : NULL;
    ponder_status st = PONDER_OK;
    for (size_t i = 0; i < PN_COUNT(in_stage) && st == PONDER_OK; i++) st = take(l, w->d, &in_stage[i], s, 0, stage, err);
    for (uint32_t b = 0; b < w->d->depth[s]; b++)
        for (size_t i = 0; i < PN_COUNT(in_block) && st == PONDER_OK; i++)
            st = take(l, w->d, &in_block[i], s, b, stage ? &stage->blocks[b] : NULL, err);
    return st;
}

static ponder_status walk(void *ctx, pn_loader *l, ponder_error *err)
{
    const walking *w = ctx;
    ponder_status st = PONDER_OK;
    for (uint32_t s = 0; s < w->d->stages && st == PONDER_OK; s++) st = walk_stage(w, l, s, err);
    for (size_t i = 0; i < PN_COUNT(whole) && st == PONDER_OK; i++) st = take(l, w->d, &whole[i], 0, 0, w->t, err);
    return st;
}

/* ---- the whole --------------------------------------------------------------------------------------- */

static ponder_status load(pn_audio *t, pn_checkpoint *c, const pn_load_options *o, ponder_error *err)
{
    const pn_audio_info *d = &t->d;
    walking w = {d, t};
    t->n_blocks = number_of(d, d->stages, 0);
    t->blocks = pn_zalloc_array(t->a, t->n_blocks, sizeof *t->blocks);
    if (!t->blocks) return pn_nomem(err, t->n_blocks * sizeof *t->blocks);
    for (uint32_t s = 0; s < d->stages; s++) t->stage[s].blocks = t->blocks + number_of(d, s, 0);
    return pn_load(&t->store, c, o, walk, &w, t->a, err);
}

ponder_status pn_audio_load(pn_audio **out, pn_checkpoint *c, const char *text_arch, uint32_t text_width, const pn_load_options *o,
                            const ponder_alloc *a, ponder_error *err)
{
    bool found;
    pn_audio_info d;
    *out = NULL;
    ponder_status st = pn_audio_describe(&d, &found, c, text_arch, text_width, err);
    if (st != PONDER_OK || !found) return st;
    pn_audio *t = pn_zalloc(a, sizeof *t);
    if (!t) return pn_nomem(err, sizeof *t);
    t->d = d;
    t->a = t->store.a = a;
    st = load(t, c, o, err);
    if (st == PONDER_OK) *out = t;
    else pn_audio_free(t);
    return st;
}

void pn_audio_free(pn_audio *t)
{
    if (!t) return;
    pn_store_free(&t->store);
    pn_free(t->a, t->blocks, t->n_blocks * sizeof *t->blocks);
    pn_free(t->a, t, sizeof *t);
}

const pn_audio_info *pn_audio_about(const pn_audio *t) { return &t->d; }
const pn_store *pn_audio_store(const pn_audio *t) { return &t->store; }

static bool in_blocks(const pn_weight *w) { return !pn_type_is_float(w->first.type); }

bool pn_audio_quantised(const pn_audio *t)
{
    bool any = in_blocks(&t->proj);
    for (uint32_t s = 0; s < t->d.stages; s++) any |= in_blocks(&t->stage[s].fold);
    for (uint32_t b = 0; b < t->n_blocks; b++) any |= in_blocks(&t->blocks[b].fc1) || in_blocks(&t->blocks[b].fc2);
    return any;
}

size_t pn_audio_bytes(const pn_audio *t)
{
    return pn_store_bytes(&t->store) + sizeof *t + number_of(&t->d, t->d.stages, 0) * sizeof(pn_audio_block);
}

ponder_status pn_audio_plan(pn_load_plan *out, pn_checkpoint *c, const pn_audio_info *d, const pn_load_options *o, ponder_error *err)
{
    walking w = {d, NULL};
    ponder_status st = pn_load_count(out, c, o, walk, &w, err);
    out->owned += sizeof(pn_audio) + number_of(d, d->stages, 0) * sizeof(pn_audio_block);
    return st;
}
