#include "files/checkpoint.h"

#include <stdio.h>

/* How a weight is shaped, in the description's terms. */
typedef enum dim { ONE, WIDTH, VOCAB, HEADS, KV, HEAD, FF, EXPERTS, LATENT, EFF, ROT, TAPS } dim;
/* Where it occurs. */
typedef enum kind { GLOBAL, LAYER, DENSE, SPARSE } kind;

typedef struct weight {
    kind kind;
    dim rows, cols;       /* rows ONE: a vector */
    const char *gguf, *hf; /* after "blk.N." or "layers.N."; NULL: not in this container */
} weight;

static const weight table[PN_W_COUNT] = {
    [PN_W_EMBED] = {GLOBAL, VOCAB, WIDTH, "token_embd.weight", "embed_tokens.weight"},
    [PN_W_NORM] = {GLOBAL, ONE, WIDTH, "output_norm.weight", "norm.weight"},
    [PN_W_HEAD] = {GLOBAL, VOCAB, WIDTH, "output.weight", "lm_head.weight"},
    [PN_W_ROPE_FACTORS] = {GLOBAL, ONE, ROT, "rope_freqs.weight", NULL},
    [PN_W_ATTN_NORM] = {LAYER, ONE, WIDTH, "attn_norm.weight", "input_layernorm.weight"},
    [PN_W_Q] = {LAYER, HEADS, WIDTH, "attn_q.weight", "self_attn.q_proj.weight"},
    [PN_W_K] = {LAYER, KV, WIDTH, "attn_k.weight", "self_attn.k_proj.weight"},
    [PN_W_V] = {LAYER, KV, WIDTH, "attn_v.weight", "self_attn.v_proj.weight"},
    [PN_W_G] = {LAYER, HEADS, WIDTH, "attn_gate.weight", "self_attn.gate_proj.weight"},
    [PN_W_O] = {LAYER, WIDTH, HEADS, "attn_output.weight", "self_attn.o_proj.weight"},
    [PN_W_Q_BIAS] = {LAYER, ONE, HEADS, "attn_q.bias", "self_attn.q_proj.bias"},
    [PN_W_K_BIAS] = {LAYER, ONE, KV, "attn_k.bias", "self_attn.k_proj.bias"},
    [PN_W_V_BIAS] = {LAYER, ONE, KV, "attn_v.bias", "self_attn.v_proj.bias"},
    [PN_W_O_BIAS] = {LAYER, ONE, WIDTH, "attn_output.bias", "self_attn.o_proj.bias"},
    [PN_W_Q_NORM] = {LAYER, ONE, HEAD, "attn_q_norm.weight", "self_attn.q_norm.weight"},
    [PN_W_K_NORM] = {LAYER, ONE, HEAD, "attn_k_norm.weight", "self_attn.k_norm.weight"},
    [PN_W_POST_ATTN] = {LAYER, ONE, WIDTH, "post_attention_norm.weight", "post_attention_layernorm.weight"},
    [PN_W_FFN_NORM] = {LAYER, ONE, WIDTH, "ffn_norm.weight", "pre_feedforward_layernorm.weight"},
    [PN_W_GATE] = {DENSE, FF, WIDTH, "ffn_gate.weight", "mlp.gate_proj.weight"},
    [PN_W_UP] = {DENSE, FF, WIDTH, "ffn_up.weight", "mlp.up_proj.weight"},
    [PN_W_DOWN] = {DENSE, WIDTH, FF, "ffn_down.weight", "mlp.down_proj.weight"},
    [PN_W_POST_FFN] = {LAYER, ONE, WIDTH, "post_ffw_norm.weight", "post_feedforward_layernorm.weight"},
    [PN_W_ATTN_ALPHA] = {LAYER, ONE, WIDTH, "attn_resid_alpha.weight", NULL},
    [PN_W_ATTN_BETA] = {LAYER, ONE, WIDTH, "attn_resid_beta.weight", NULL},
    [PN_W_FFN_ALPHA] = {LAYER, ONE, WIDTH, "ffn_resid_alpha.weight", NULL},
    [PN_W_FFN_BETA] = {LAYER, ONE, WIDTH, "ffn_resid_beta.weight", NULL},
    [PN_W_ATTN_RGATE] = {LAYER, ONE, WIDTH, NULL, "post_attention_residual_gate.gate"},
    [PN_W_FFN_RGATE] = {LAYER, ONE, WIDTH, NULL, "post_feedforward_residual_gate.gate"},
    [PN_W_ROUTER] = {SPARSE, EXPERTS, WIDTH, "ffn_gate_inp.weight", "mlp.gate.weight"},
    [PN_W_ROUTER_BIAS] = {SPARSE, ONE, EXPERTS, "exp_probs_b.bias", "mlp.gate.e_score_correction_bias"},
    [PN_W_LATENT_DOWN] = {SPARSE, LATENT, WIDTH, "ffn_latent_down.weight", "mlp.pre_expert_proj.weight"},
    [PN_W_LATENT_UP] = {SPARSE, WIDTH, LATENT, "ffn_latent_up.weight", "mlp.post_expert_proj.weight"},
    [PN_W_PRE_EXPERT_NORM] = {SPARSE, ONE, LATENT, "ffn_pre_exp_norm.weight", "mlp.pre_expert_norm.weight"},
    [PN_W_POST_EXPERT_NORM] = {SPARSE, ONE, LATENT, "ffn_post_exp_norm.weight", "mlp.experts.post_expert_norm.weight"},
    [PN_W_EXPERTS_GATE] = {SPARSE, EFF, LATENT, "ffn_gate_exps.weight", "mlp.experts.gate_up_proj"},
    [PN_W_EXPERTS_UP] = {SPARSE, EFF, LATENT, "ffn_up_exps.weight", "mlp.experts.gate_up_proj"},
    [PN_W_EXPERTS_DOWN] = {SPARSE, LATENT, EFF, "ffn_down_exps.weight", "mlp.experts.down_proj"},
    [PN_W_CONTEXT] = {GLOBAL, WIDTH, TAPS, "fc.weight", "encoder.fc.weight"},
    [PN_W_CONTEXT_NORM] = {GLOBAL, ONE, WIDTH, "enc.output_norm.weight", "encoder.output_norm_enc.weight"},
};

static uint64_t size_of(const pn_description *d, dim which)
{
    switch (which) {
    case ONE: return 1;
    case WIDTH: return d->width;
    case VOCAB: return d->vocab;
    case HEADS: return (uint64_t)d->heads * d->head_dim;
    case KV: return (uint64_t)d->kv_heads * d->head_dim;
    case HEAD: return d->head_dim;
    case FF: return d->ff;
    case EXPERTS: return d->experts;
    case LATENT: return d->expert_width;
    case EFF: return d->expert_ff;
    case ROT: return d->rot_dim / 2;
    case TAPS: return (uint64_t)d->n_taps * d->width;
    }
    return 0;
}

/* Does a model of this description have the weight at all? */
static bool is_used(const pn_checkpoint *c, const pn_description *d, pn_role role, uint32_t layer)
{
    const weight *w = &table[role];
    if (!(c->gguf ? w->gguf : w->hf)) return false;
    if (w->kind == DENSE && d->layer[layer].sparse) return false;
    if (w->kind == SPARSE && !d->layer[layer].sparse) return false;
    switch (role) {
    case PN_W_ROPE_FACTORS: return pn_checkpoint_find(c, w->gguf) != NULL;
    case PN_W_EMBED: case PN_W_HEAD: return d->block == 0; /* a drafter's are its target's */
    case PN_W_CONTEXT: case PN_W_CONTEXT_NORM: return d->block != 0;
    case PN_W_G: return d->gate;
    case PN_W_Q_BIAS: case PN_W_K_BIAS: case PN_W_V_BIAS: return d->qkv_bias;
    case PN_W_O_BIAS: return d->out_bias;
    case PN_W_Q_NORM: case PN_W_K_NORM: return d->qk_norm == PN_USE_WEIGHT;
    case PN_W_POST_ATTN: return d->post_attn == PN_USE_WEIGHT || d->post_attn == PN_USE_INPUT;
    case PN_W_POST_FFN: return d->post_ffn == PN_USE_WEIGHT || d->post_ffn == PN_USE_INPUT;
    case PN_W_ATTN_ALPHA: case PN_W_ATTN_BETA: case PN_W_FFN_ALPHA: case PN_W_FFN_BETA:
    case PN_W_ATTN_RGATE: case PN_W_FFN_RGATE: return d->residual_gate;
    case PN_W_LATENT_DOWN: case PN_W_LATENT_UP: case PN_W_PRE_EXPERT_NORM: case PN_W_POST_EXPERT_NORM: return d->expert_latent;
    default: return true;
    }
}

/* The places where releases have put the text model. */
static const char *const prefixes[] = {"model.language_model.", "model.", "language_model.model.", ""};
static const char *const head_prefixes[] = {"", "language_model.", "model.", "model.language_model."};
enum { NAME_ROOM = 160 };

static const pn_tensor *find_hf(const pn_checkpoint *c, const weight *w, const char *suffix, bool head, uint32_t layer, char name[NAME_ROOM])
{
    for (size_t i = 0; i < PN_COUNT(prefixes); i++) {
        const char *prefix = head ? head_prefixes[i] : prefixes[i];
        if (w->kind == GLOBAL) snprintf(name, NAME_ROOM, "%s%s", prefix, suffix);
        else snprintf(name, NAME_ROOM, "%slayers.%u.%s", prefix, layer, suffix);
        const pn_tensor *t = pn_checkpoint_find(c, name);
        if (t) return t;
    }
    if (w->kind == GLOBAL) snprintf(name, NAME_ROOM, "%s", suffix);
    else snprintf(name, NAME_ROOM, "layers.%u.%s", layer, suffix);
    return NULL;
}

/* NULL: not there; `name` holds what to call it. */
static const pn_tensor *find_tensor(const pn_checkpoint *c, const pn_description *d, pn_role role, uint32_t layer, char name[NAME_ROOM])
{
    const weight *w = &table[role];
    if (c->gguf) {
        if (w->kind == GLOBAL) snprintf(name, NAME_ROOM, "%s", w->gguf);
        else snprintf(name, NAME_ROOM, "blk.%u.%s", layer, w->gguf);
        return pn_checkpoint_find(c, name);
    }
    /* Models without post-norms call the feed-forward norm by the name that others give the post-attention norm. */
    const char *suffix = w->hf;
    if (role == PN_W_FFN_NORM && d->post_attn == PN_USE_NONE) suffix = "post_attention_layernorm.weight";
    return find_hf(c, w, suffix, role == PN_W_HEAD, layer, name);
}

const pn_tensor *pn_find_embedding(const pn_checkpoint *c)
{
    char name[NAME_ROOM];
    if (c->gguf) return pn_checkpoint_find(c, table[PN_W_EMBED].gguf);
    return find_hf(c, &table[PN_W_EMBED], table[PN_W_EMBED].hf, false, 0, name);
}

const pn_tensor *pn_find_head(const pn_checkpoint *c)
{
    char name[NAME_ROOM];
    if (c->gguf) return pn_checkpoint_find(c, table[PN_W_HEAD].gguf);
    return find_hf(c, &table[PN_W_HEAD], table[PN_W_HEAD].hf, true, 0, name);
}

static ponder_status check_shape(const pn_tensor *t, const uint64_t ne[4], ponder_error *err)
{
    if (memcmp(t->ne, ne, sizeof t->ne) == 0) return PONDER_OK;
    return pn_fail(err, PONDER_E_FORMAT, "tensor %.96s: shape [%llu, %llu, %llu, %llu] where [%llu, %llu, %llu, %llu] is needed", t->name,
                   (unsigned long long)t->ne[3], (unsigned long long)t->ne[2], (unsigned long long)t->ne[1],
                   (unsigned long long)t->ne[0], (unsigned long long)ne[3], (unsigned long long)ne[2], (unsigned long long)ne[1],
                   (unsigned long long)ne[0]);
}

/* All of a tensor: `batch` matrices of `rows`. The shape was checked, so that the products do not overflow. */
static ponder_status slice(const pn_tensor *t, uint64_t batch, uint64_t rows, uint64_t cols, pn_slice *out, ponder_error *err)
{
    size_t row;
    if (!pn_type_known((uint32_t)t->type))
        return pn_fail(err, PONDER_E_UNSUPPORTED, "tensor %.96s: element type %s (%u)", t->name, pn_element_name(t), (unsigned)t->type);
    if (!pn_row_bytes(t->type, cols, &row) || t->bytes != (uint64_t)row * rows * batch)
        return pn_fail(err, PONDER_E_FORMAT, "tensor %.96s: rows of %llu values", t->name, (unsigned long long)cols);
    *out = (pn_slice){.tensor = t, .rows = rows, .cols = cols, .row_stride = row, .batch = batch, .batch_stride = rows * row};
    return PONDER_OK;
}

ponder_status pn_slice_named(pn_slice *out, const pn_checkpoint *c, const char *name, const uint64_t ne[4], uint64_t rows,
                             ponder_error *err)
{
    uint64_t want[4], total = 1;
    const pn_tensor *t = pn_checkpoint_find(c, name);
    *out = (pn_slice){0};
    if (!t) return pn_fail(err, PONDER_E_FORMAT, "tensor %.96s is missing", name);
    for (int i = 0; i < 4; i++) want[i] = PN_MAX(ne[i], (uint64_t)1);
    ponder_status s = check_shape(t, want, err);
    if (s) return s;
    for (int i = 0; i < 4; i++) total *= want[i];
    return slice(t, 1, rows, total / rows, out, err);
}

ponder_status pn_find_weight(const pn_checkpoint *c, const pn_description *d, pn_role role, uint32_t layer, pn_slice *out,
                             bool *found, ponder_error *err)
{
    char name[NAME_ROOM];
    *found = false;
    *out = (pn_slice){0};
    if ((uint32_t)role >= PN_W_COUNT || (table[role].kind != GLOBAL && layer >= d->layers))
        return pn_fail(err, PONDER_E_ARGUMENT, "no weight %d of layer %u", (int)role, layer);
    if (role == PN_W_HEAD && d->tied) role = PN_W_EMBED;
    if (!is_used(c, d, role, layer)) return PONDER_OK;
    const pn_tensor *t = find_tensor(c, d, role, layer, name);
    if (!t) return pn_fail(err, PONDER_E_FORMAT, "tensor %s is missing", name);
    const uint64_t rows = size_of(d, table[role].rows), cols = size_of(d, table[role].cols);
    const bool experts = role == PN_W_EXPERTS_GATE || role == PN_W_EXPERTS_UP || role == PN_W_EXPERTS_DOWN;
    const bool fused = d->fused_gate_up && experts && role != PN_W_EXPERTS_DOWN;
    const uint64_t batch = experts ? d->experts : 1, ne[4] = {cols, fused ? rows * 2 : rows, batch, 1};
    ponder_status s = check_shape(t, ne, err);
    if (s == PONDER_OK) s = slice(t, batch, ne[1], cols, out, err);
    if (fused && role == PN_W_EXPERTS_UP) out->from = rows * out->row_stride;
    out->rows = rows;
    *found = s == PONDER_OK;
    return s;
}
