/* The description of a drafter (DFlash) for Muse: config.json as transformers 5.23's muse_glimmer_assistant reads it (absent keys have its
 * defaults), or a GGUF of architecture dflash. It has no vocabulary of its own. */
#include "files/checkpoint.h"

#include <math.h>

enum { WEIGHTS = 3, LAYER_WEIGHTS = 11 };

static void sizes(pn_keys *k, pn_description *d, const char *const names[8], bool defaults)
{
    d->layers = pn_keys_u32(k, names[0], defaults ? 5 : PN_REQUIRED, 1, PN_MAX_LAYERS);
    d->context = pn_keys_u32(k, names[1], defaults ? 131072 : PN_REQUIRED, 1, 1u << 30);
    d->width = pn_keys_u32(k, names[2], defaults ? 6656 : PN_REQUIRED, 1, 1u << 20);
    d->ff = pn_keys_u32(k, names[3], defaults ? 19968 : PN_REQUIRED, 1, 1u << 24);
    d->heads = pn_keys_u32(k, names[4], defaults ? 32 : PN_REQUIRED, 1, 1u << 14);
    d->kv_heads = pn_keys_u32(k, names[5], defaults ? 8 : PN_REQUIRED, 1, 1u << 14);
    d->head_dim = pn_keys_u32(k, names[6], defaults ? 128 : (int64_t)(d->width / d->heads), 1, 1u << 14);
    d->window = pn_keys_u32(k, names[7], defaults ? 2048 : PN_REQUIRED, 1, 1u << 30);
    d->rot_dim = d->head_dim;
    d->attn_scale = (float)(1 / sqrt((double)d->head_dim));
}

static void unsupported(pn_keys *k, const char *key, const char *what)
{
    if (!k->status) k->status = pn_fail(k->err, PONDER_E_UNSUPPORTED, "drafter: key %s: %s", key, what);
}

/* `before`: what the file counts from, beside the layer that a stream enters. */
static void taps(pn_keys *k, pn_description *d, const char *key, const char *name, uint32_t before)
{
    static const uint16_t released[] = {2, 14, 26, 38, 50};
    uint64_t n;
    const pn_shape shape = pn_checkpoint_shape(k->c, key, &n);
    if (k->status) return;
    if (shape == PN_SHAPE_NONE && before) {
        d->n_taps = PN_COUNT(released);
        memcpy(d->tap, released, sizeof released);
    } else if (shape != PN_SHAPE_LIST || n == 0 || n > PN_MAX_TAPS) {
        k->status = pn_fail(k->err, PONDER_E_FORMAT, "key %s: not a list of 1 to %d layers", key, PN_MAX_TAPS);
        return;
    } else {
        d->n_taps = (uint32_t)n;
        for (uint32_t i = 0; i < d->n_taps; i++) d->tap[i] = (uint16_t)(pn_keys_u32_at(k, name, i, 0, PN_MAX_LAYERS) + before);
    }
}

static ponder_status describe_gguf(const pn_checkpoint *c, pn_description *d, ponder_error *err)
{
    static const char *const names[] = {"block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count",
                                        "attention.head_count_kv", "attention.key_length", "attention.sliding_window"};
    static const char pattern[] = "dflash.attention.sliding_window_pattern", value_length[] = "attention.value_length";
    pn_keys k = {.c = c, .prefix = "dflash.", .err = err}, ids = {.c = c, .prefix = "tokenizer.ggml.", .err = err};
    pn_str arch = {0}, act;
    uint64_t n;
    if (!pn_checkpoint_str(c, "general.architecture", &arch) || !pn_str_eq(arch, "dflash"))
        return pn_fail(err, PONDER_E_UNSUPPORTED, "drafter: architecture %.*s, only dflash is computed", SHOWN(arch));
    sizes(&k, d, names, false);
    d->eps = pn_keys_f32(&k, "attention.layer_norm_rms_epsilon", NAN);
    d->theta = pn_keys_f32(&k, "rope.freq_base", 10000);
    d->block = pn_keys_u32(&k, "block_size", PN_REQUIRED, 2, PN_MAX_BLOCK);
    taps(&k, d, "dflash.target_layers", "target_layers", 0);
    if (!k.status && pn_keys_u32(&k, value_length, d->head_dim, 1, 1u << 14) != d->head_dim) unsupported(&k, value_length, "not the keys' length");
    if (!k.status && pn_keys_u32(&k, "rope.dimension_count", d->head_dim, 1, 1u << 14) != d->head_dim) unsupported(&k, "rope.dimension_count", "not the keys' length");
    if (pn_checkpoint_shape(c, "dflash.rope.scaling.factor", &n) != PN_SHAPE_NONE) unsupported(&k, "dflash.rope.scaling.factor", "no scaling is computed");
    if (pn_checkpoint_str(c, "dflash.hidden_act", &act) && !pn_str_eq(act, "silu")) unsupported(&k, "dflash.hidden_act", "only silu is computed");
    const pn_shape shape = pn_checkpoint_shape(c, pattern, &n);
    if (!k.status && (shape != PN_SHAPE_LIST || n != d->layers)) k.status = pn_fail(err, PONDER_E_FORMAT, "key %s: not a list of %u", pattern, d->layers);
    for (uint32_t i = 0; i < d->layers && !k.status; i++)
        if (pn_keys_u32_at(&k, "attention.sliding_window_pattern", i, 0, 1) != 1) unsupported(&k, pattern, "only sliding layers are computed");
    d->mask = (int32_t)pn_keys_u32(&ids, "mask_token_id", PN_REQUIRED, 0, 1u << 30);
    return k.status ? k.status : ids.status;
}

static ponder_status describe_folder(const pn_checkpoint *c, pn_description *d, ponder_error *err)
{
    static const char *const names[] = {"num_hidden_layers", "max_position_embeddings", "hidden_size", "intermediate_size", "num_attention_heads",
                                        "num_key_value_heads", "head_dim", "sliding_window"};
    pn_keys k = {.c = c, .prefix = "", .err = err};
    pn_str type;
    uint64_t n;
    pn_keys_text(&k, "model_type", "", "muse_glimmer_assistant");
    if (k.status) return k.status;
    sizes(&k, d, names, true);
    d->eps = pn_keys_f32(&k, "rms_norm_eps", 1e-5);
    d->theta = pn_keys_f32(&k, "rope_parameters.rope_theta", 500000);
    pn_keys_text(&k, "rope_parameters.rope_type", "default", "default");
    pn_keys_text(&k, "hidden_act", "silu", "silu");
    d->block = pn_keys_u32(&k, "block_size", 16, 2, PN_MAX_BLOCK);
    d->mask = (int32_t)pn_keys_u32(&k, "mask_token_id", 201818, 0, 1u << 30);
    taps(&k, d, "target_layer_ids", "target_layer_ids", 1);
    const pn_shape shape = pn_checkpoint_shape(c, "layer_types", &n);
    if (!k.status && shape != PN_SHAPE_NONE && (shape != PN_SHAPE_LIST || n != d->layers))
        k.status = pn_fail(err, PONDER_E_FORMAT, "key layer_types: not a list of %u", d->layers);
    for (uint32_t i = 0; i < d->layers && shape == PN_SHAPE_LIST; i++)
        if (!pn_checkpoint_str_at(c, "layer_types", i, &type) || !pn_str_eq(type, "sliding_attention")) unsupported(&k, "layer_types", "only sliding layers are computed");
    return k.status;
}

static ponder_status check_target(const pn_description *d, const pn_description *target, ponder_error *err)
{
    if (d->width != target->width) return pn_fail(err, PONDER_E_MISMATCH, "the drafter's width is %u, the model's %u", d->width, target->width);
    if ((uint32_t)d->mask >= target->vocab)
        return pn_fail(err, PONDER_E_MISMATCH, "the drafter's mask token %d is outside the model's vocabulary of %u", d->mask, target->vocab);
    for (uint32_t i = 0; i < d->n_taps; i++)
        if (d->tap[i] == 0 || d->tap[i] >= target->layers)
            return pn_fail(err, PONDER_E_MISMATCH, "the drafter reads what enters layer %u, the model has layers 0..%u", d->tap[i], target->layers - 1);
    return PONDER_OK;
}

/* Other drafters that go by the same name have further tensors. */
static ponder_status check_all_known(const pn_checkpoint *c, const pn_description *d, ponder_error *err)
{
    const uint64_t known = WEIGHTS + (uint64_t)LAYER_WEIGHTS * d->layers;
    if (pn_checkpoint_count(c) == known) return PONDER_OK;
    return pn_fail(err, PONDER_E_UNSUPPORTED, "drafter: %u tensors, where a drafter of %u layers has %llu", pn_checkpoint_count(c), d->layers, (unsigned long long)known);
}

ponder_status pn_describe_drafter(const pn_checkpoint *c, const pn_description *target, pn_description *d, ponder_error *err)
{
    *d = (pn_description){.arch = "dflash", .act = PN_ACT_SILU, .qk_norm = PN_USE_WEIGHT, .embed_scale = target->embed_scale, .q_scale = 1,
                          .logit_scale = 1, .router_scale = 1, .routed_scale = 1, .vocab = target->vocab, .bos = -1, .eos = -1};
    ponder_status st = c->gguf ? describe_gguf(c, d, err) : describe_folder(c, d, err);
    for (uint32_t i = 0; i < d->layers; i++) d->layer[i] = (pn_layer_info){.sliding = true, .rope = true};
    if (st == PONDER_OK) st = pn_describe_check(d, err);
    if (st == PONDER_OK) st = check_target(d, target, err);
    return st == PONDER_OK ? check_all_known(c, d, err) : st;
}
