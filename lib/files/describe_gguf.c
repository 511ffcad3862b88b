#include "files/checkpoint.h"

#include <math.h>
#include <stdio.h>

/* The first failure latches in `status`: a run of reads needs one check. */
typedef struct reader {
    const pn_checkpoint *c;
    pn_description *d;
    ponder_error *err;
    ponder_status status;
    char key[80];
} reader;

enum { REQUIRED = -1 };

/* Architecture "." suffix. */
static const pn_kv *find(reader *r, const char *suffix)
{
    snprintf(r->key, sizeof r->key, "%s.%s", r->d->arch, suffix);
    return pn_kv_find(r->c, r->key);
}

static void missing(reader *r)
{
    r->status = pn_fail(r->err, PONDER_E_FORMAT, "key %s is missing", r->key);
}

/* An integer within least..most. Some keys may be arrays, one value a layer: taken when they are all the same. */
static uint32_t number(reader *r, const char *suffix, int64_t otherwise, uint32_t least, uint32_t most)
{
    if (r->status) return least;
    const pn_kv *kv = find(r, suffix);
    int64_t v = otherwise, w;
    if (!kv && otherwise == REQUIRED) missing(r);
    if (kv && !pn_kv_i64(kv, 0, &v)) r->status = pn_fail(r->err, PONDER_E_FORMAT, "key %s: no integer", r->key);
    for (uint64_t i = 1; kv && !r->status && i < kv->count; i++)
        if (pn_kv_i64(kv, i, &w) && w != v)
            r->status = pn_fail(r->err, PONDER_E_UNSUPPORTED, "key %s: %lld and %lld in one model", r->key, (long long)v, (long long)w);
    if (r->status) return least;
    if (v < least || v > most) {
        r->status = pn_fail(r->err, PONDER_E_FORMAT, "key %s: %lld is outside %u..%u", r->key, (long long)v, least, most);
        return least;
    }
    return (uint32_t)v;
}

/* NAN: required */
static float real(reader *r, const char *suffix, double otherwise)
{
    double v = otherwise;
    if (r->status) return 1;
    const pn_kv *kv = find(r, suffix);
    if (!kv && isnan(otherwise)) missing(r);
    if (kv && (kv->array || !pn_kv_f64(kv, 0, &v))) r->status = pn_fail(r->err, PONDER_E_FORMAT, "key %s: no number", r->key);
    if (kv && !r->status && !isfinite((float)v)) r->status = pn_fail(r->err, PONDER_E_FORMAT, "key %s: not finite", r->key);
    return r->status ? 1 : (float)v;
}

static void sizes(reader *r)
{
    pn_description *d = r->d;
    d->layers = number(r, "block_count", REQUIRED, 1, PN_MAX_LAYERS);
    d->context = number(r, "context_length", REQUIRED, 1, 1u << 30);
    d->width = number(r, "embedding_length", REQUIRED, 1, 1u << 20);
    d->heads = number(r, "attention.head_count", REQUIRED, 1, 1u << 14);
    d->kv_heads = number(r, "attention.head_count_kv", d->heads, 1, 1u << 14);
    d->head_dim = number(r, "attention.key_length", d->width / d->heads, 1, 1u << 14);
    const uint32_t value_dim = number(r, "attention.value_length", d->head_dim, 1, 1u << 14);
    d->rot_dim = number(r, "rope.dimension_count", d->head_dim, 1, 1u << 14);
    d->ff = number(r, "feed_forward_length", d->expert_latent ? 0 : REQUIRED, d->expert_latent ? 0 : 1, 1u << 24);
    if (!r->status && value_dim != d->head_dim)
        r->status = pn_fail(r->err, PONDER_E_UNSUPPORTED, "%s.attention.value_length: %u, keys have %u", d->arch, value_dim, d->head_dim);
    d->eps = real(r, "attention.layer_norm_rms_epsilon", NAN);
    d->theta = real(r, "rope.freq_base", 10000);
    d->attn_scale = (float)(1 / sqrt((double)d->head_dim));
}

/* A factor without a type means linear to the peer. llama3's scaling is a tensor of factors instead (rope_freqs.weight). */
static void rope_scaling(reader *r)
{
    pn_str type = {"linear", 6};
    float factor = real(r, "rope.scaling.factor", 0);
    if (!r->status && !find(r, "rope.scaling.factor")) factor = real(r, "rope.scale_linear", 0);
    if (r->status) return;
    find(r, "rope.scaling.type");
    pn_checkpoint_str(r->c, r->key, &type);
    if (pn_str_eq(type, "none") || (pn_str_eq(type, "linear") && factor == 0)) return;
    if (!pn_str_eq(type, "linear")) {
        r->status = pn_fail(r->err, PONDER_E_UNSUPPORTED, "key %s: %.*s", r->key, SHOWN(type));
        return;
    }
    r->d->rope_scaling = factor == 1 ? 0 : 1;
    r->d->rope_factor = factor;
}

/* Which layers slide. An array (bool or integer) speaks for its layers and leaves the rest full; a scalar n, or `period`
 * without the key, makes every n-th layer full, counted from the first. period 0: an array is required. */
static void sliding_pattern(reader *r, uint32_t period)
{
    if (r->status) return;
    const pn_kv *kv = find(r, "attention.sliding_window_pattern");
    int64_t v = period;
    if (!kv && period == 0) missing(r);
    if (kv && (!pn_kv_i64(kv, 0, &v) && kv->count)) r->status = pn_fail(r->err, PONDER_E_FORMAT, "key %s: neither flags nor integers", r->key);
    if (kv && !r->status && !kv->array && (v < 0 || period == 0)) r->status = pn_fail(r->err, PONDER_E_FORMAT, "key %s: %lld", r->key, (long long)v);
    for (uint32_t i = 0; i < r->d->layers && !r->status; i++) {
        int64_t on = v == 0 || (int64_t)i % v < v - 1;
        if (kv && kv->array && !pn_kv_i64(kv, i, &on)) on = 0;
        r->d->layer[i].sliding = on != 0;
    }
}

static void llama_like(reader *r)
{
    pn_description *d = r->d;
    d->rope_pairs = !strcmp(d->arch, "llama");
    d->qkv_bias = pn_checkpoint_find(r->c, "blk.0.attn_q.bias") != NULL;
    d->out_bias = pn_checkpoint_find(r->c, "blk.0.attn_output.bias") != NULL;
    if (number(r, "expert_count", 0, 0, 1u << 16) > 0 && !r->status)
        r->status = pn_fail(r->err, PONDER_E_UNSUPPORTED, "%s.expert_count: experts in this architecture", d->arch);
    for (uint32_t i = 0; i < d->layers; i++) d->layer[i].rope = true;
}

static void gemma3(reader *r)
{
    pn_description *d = r->d;
    d->embed_scale = sqrtf((float)d->width);
    d->softcap = real(r, "final_logit_softcapping", 0);
    d->window = number(r, "attention.sliding_window", 0, 0, 1u << 30);
    d->theta_local = real(r, "rope.freq_base_swa", 10000);
    d->post_eps = d->eps;
    if (d->layers == 62) d->attn_scale = (float)(1 / sqrt((double)d->width / d->heads)); /* the 27B, which no key tells */
    if (d->window) sliding_pattern(r, 6);
    for (uint32_t i = 0; i < d->layers; i++) {
        d->layer[i].rope = true;
        d->layer[i].local_rope = d->layer[i].sliding;
    }
}

static void spark(reader *r)
{
    pn_description *d = r->d;
    int64_t norm = 0;
    d->post_eps = real(r, "post_norm_epsilon", NAN);
    d->theta = real(r, "rope.freq_base_swa", NAN);
    d->expert_width = number(r, "moe_latent_size", REQUIRED, 1, 1u << 20);
    d->experts = number(r, "expert_count", REQUIRED, 1, 1u << 16);
    d->experts_used = number(r, "expert_used_count", REQUIRED, 1, 1u << 16);
    d->expert_ff = number(r, "expert_feed_forward_length", REQUIRED, 1, 1u << 24);
    d->routed_scale = real(r, "expert_weights_scale", NAN);
    const uint32_t gating = number(r, "expert_gating_func", REQUIRED, 0, 1u << 16);
    if (!r->status && gating != 2)
        r->status = pn_fail(r->err, PONDER_E_UNSUPPORTED, "key %s: %u, only 2 (sigmoid) is computed", r->key, gating);
    if (!r->status && (!find(r, "expert_weights_norm") || !pn_checkpoint_i64(r->c, r->key, &norm))) missing(r);
    d->experts_norm = norm != 0;
    for (uint32_t i = 0; i < d->layers; i++) d->layer[i].sparse = true;
}

static void muse(reader *r)
{
    pn_description *d = r->d;
    const bool is_spark = d->expert_latent;
    d->rope_pairs = true;
    d->post_eps = 1e-8f; /* glimmer's file does not say it */
    d->theta = real(r, "rope.freq_base_swa", d->theta);
    d->logit_scale = real(r, "logit_scale", NAN);
    d->softcap = real(r, "final_logit_softcapping", 0);
    d->window = number(r, "attention.sliding_window", REQUIRED, 1, 1u << 30);
    sliding_pattern(r, is_spark ? 0 : 4);
    for (uint32_t i = 0; i < d->layers; i++) d->layer[i].rope = d->layer[i].sliding;
    if (is_spark) spark(r);
}

static void tokens(reader *r)
{
    pn_description *d = r->d;
    int64_t id;
    if (r->status) return;
    r->status = pn_describe_vocab(r->c, d, r->err);
    const pn_kv *list = pn_kv_find(r->c, "tokenizer.ggml.tokens");
    if (!r->status && list && list->array && list->count != d->vocab)
        r->status = pn_fail(r->err, PONDER_E_FORMAT, "tokenizer.ggml.tokens: %llu tokens, but token_embd.weight has %u rows",
                            (unsigned long long)list->count, d->vocab);
    if (pn_checkpoint_i64(r->c, "tokenizer.ggml.bos_token_id", &id) && id >= 0 && id < d->vocab) d->bos = (int32_t)id;
    if (pn_checkpoint_i64(r->c, "tokenizer.ggml.eos_token_id", &id) && id >= 0 && id < d->vocab) d->eos = (int32_t)id;
}

ponder_status pn_describe_gguf(const pn_checkpoint *c, pn_description *d, ponder_error *err)
{
    reader r = {.c = c, .d = d, .err = err};
    pn_str arch;
    char name[24];
    if (!pn_checkpoint_str(c, "general.architecture", &arch)) return pn_fail(err, PONDER_E_FORMAT, "key general.architecture is missing");
    if (arch.n >= sizeof name) return pn_fail(err, PONDER_E_UNSUPPORTED, "architecture %.*s", SHOWN(arch));
    memcpy(name, arch.p, arch.n);
    name[arch.n] = 0;
    if (!strcmp(name, "dflash")) return pn_fail(err, PONDER_E_UNSUPPORTED, "architecture dflash: a drafter, which is loaded beside its model");
    if (!pn_describe_arch(d, name)) return pn_fail(err, PONDER_E_UNSUPPORTED, "architecture %.*s", SHOWN(arch));
    sizes(&r);
    rope_scaling(&r);
    if (d->gate) muse(&r);
    else if (d->post_attn) gemma3(&r);
    else llama_like(&r);
    d->tied = !d->gate && !pn_find_head(c);
    tokens(&r);
    return r.status;
}
