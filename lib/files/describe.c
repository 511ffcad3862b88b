#include "files/checkpoint.h"

#include <math.h>

/* What an architecture is, whatever the container; numbers come from the metadata. */
bool pn_describe_arch(pn_description *d, const char *arch)
{
    const bool glimmer = !strcmp(arch, "muse-glimmer"), spark = !strcmp(arch, "muse-spark"), gemma = !strcmp(arch, "gemma3");
    if (!glimmer && !spark && !gemma && strcmp(arch, "llama") && strcmp(arch, "qwen2") && strcmp(arch, "qwen3")) return false;
    memcpy(d->arch, arch, strlen(arch) + 1);
    d->embed_scale = d->q_scale = d->logit_scale = d->router_scale = d->routed_scale = 1;
    d->bos = d->eos = -1;
    d->act = gemma ? PN_ACT_GELU_TANH : PN_ACT_SILU;
    d->qkv_bias = !strcmp(arch, "qwen2");
    if (glimmer || spark || gemma || !strcmp(arch, "qwen3")) d->qk_norm = PN_USE_WEIGHT;
    if (glimmer || gemma) d->post_attn = d->post_ffn = PN_USE_WEIGHT;
    if (spark) {
        d->post_attn = PN_USE_BARE;
        d->post_ffn = PN_USE_INPUT;
    }
    d->embed_norm = d->gate = glimmer || spark;
    d->head_norm = d->residual_gate = d->expert_latent = spark;
    return true;
}

/* The embedding's rows; the metadata's own count, where there is one, must agree. */
ponder_status pn_describe_vocab(const pn_checkpoint *c, pn_description *d, ponder_error *err)
{
    const pn_tensor *t = pn_find_embedding(c);
    const uint64_t most = 1 << 24;
    if (!t) return pn_fail(err, PONDER_E_FORMAT, "the embedding tensor (%s) is missing", c->gguf ? "token_embd.weight" : "embed_tokens.weight");
    if (t->n_dims != 2 || t->ne[1] == 0 || t->ne[1] > most)
        return pn_fail(err, PONDER_E_FORMAT, "tensor %.96s: %llu rows", t->name, (unsigned long long)t->ne[1]);
    d->vocab = (uint32_t)t->ne[1];
    return PONDER_OK;
}

static bool all_finite(const pn_description *d)
{
    const float all[] = {d->eps, d->post_eps, d->embed_scale, d->q_scale, d->residual_temperature, d->attn_scale, d->theta,
                         d->theta_local, d->rope_factor, d->rope_low, d->rope_high, d->logit_scale, d->softcap,
                         d->router_scale, d->routed_scale};
    for (size_t i = 0; i < PN_COUNT(all); i++)
        if (!isfinite(all[i])) return false;
    return true;
}

static ponder_status check_shape(const pn_description *d, ponder_error *err)
{
    if (d->heads % d->kv_heads != 0)
        return pn_fail(err, PONDER_E_FORMAT, "%u heads do not divide into %u key-value heads", d->heads, d->kv_heads);
    if ((uint64_t)d->heads * d->head_dim > 1 << 24)
        return pn_fail(err, PONDER_E_FORMAT, "%u heads of %u values", d->heads, d->head_dim);
    if (d->rot_dim == 0 || d->rot_dim > d->head_dim || d->rot_dim % 2 != 0)
        return pn_fail(err, PONDER_E_FORMAT, "rotary dimension %u of a head of %u", d->rot_dim, d->head_dim);
    if (d->experts_used > d->experts)
        return pn_fail(err, PONDER_E_FORMAT, "%u experts used of %u", d->experts_used, d->experts);
    return PONDER_OK;
}

static ponder_status check_layers(const pn_description *d, ponder_error *err)
{
    for (uint32_t i = 0; i < d->layers; i++) {
        const pn_layer_info *l = &d->layer[i];
        if (l->sliding && d->window == 0) return pn_fail(err, PONDER_E_FORMAT, "sliding_window is 0, yet layer %u is sliding", i);
        if (l->sparse && (d->experts == 0 || d->experts_used == 0 || d->expert_ff == 0 || d->expert_width == 0))
            return pn_fail(err, PONDER_E_FORMAT, "layer %u is sparse, but there are no experts", i);
        if (!l->sparse && d->ff == 0) return pn_fail(err, PONDER_E_FORMAT, "layer %u is dense, but the feed-forward length is 0", i);
    }
    return PONDER_OK;
}

static ponder_status check_numbers(const pn_description *d, ponder_error *err)
{
    if (!all_finite(d)) return pn_fail(err, PONDER_E_FORMAT, "a number of the configuration is not finite");
    if (d->eps < 0 || d->eps >= 1 || d->post_eps < 0 || d->post_eps >= 1)
        return pn_fail(err, PONDER_E_FORMAT, "the norms' epsilon is outside 0..1");
    if (d->theta <= 0 || d->theta_local < 0) return pn_fail(err, PONDER_E_FORMAT, "the base of the rotary encoding is not positive");
    if (d->attn_scale <= 0) return pn_fail(err, PONDER_E_FORMAT, "the attention scale is not positive");
    if (d->softcap < 0) return pn_fail(err, PONDER_E_FORMAT, "final_logit_softcapping is negative");
    if (d->rope_scaling && d->rope_factor <= 0) return pn_fail(err, PONDER_E_FORMAT, "the rotary scaling factor is not positive");
    if (d->rope_scaling == 2 && (d->rope_low <= 0 || d->rope_high <= d->rope_low || d->rope_original == 0))
        return pn_fail(err, PONDER_E_FORMAT, "llama3 rotary scaling: low_freq_factor, high_freq_factor do not fit");
    return PONDER_OK;
}

ponder_status pn_describe_check(const pn_description *d, ponder_error *err)
{
    ponder_status s = check_numbers(d, err);
    if (s == PONDER_OK) s = check_shape(d, err);
    return s == PONDER_OK ? check_layers(d, err) : s;
}

ponder_status pn_describe(const pn_checkpoint *c, pn_description *d, ponder_error *err)
{
    memset(d, 0, sizeof *d);
    ponder_status s = c->gguf ? pn_describe_gguf(c, d, err) : pn_describe_hf(c, d, err);
    return s == PONDER_OK ? pn_describe_check(d, err) : s;
}
