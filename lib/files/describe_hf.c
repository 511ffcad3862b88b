#include "files/checkpoint.h"

#include <math.h>

/* config.json as transformers 5.23 reads it: keys that are absent or null have its classes' defaults. The first failure
 * latches in `status`. */
typedef struct reader {
    const pn_checkpoint *c;
    const json_t *o; /* the text model's object */
    pn_description *d;
    ponder_error *err;
    ponder_status status;
} reader;

/* Defaults of the configuration classes; -1: none, derived. */
typedef struct defaults {
    const char *arch;
    int32_t vocab, width, ff, layers, heads, kv_heads, head_dim, context, window, bos, eos;
    double eps;
    bool tied;
} defaults;

static const defaults classes[] = {
    {"llama", 32000, 4096, 11008, 32, 32, -1, -1, 2048, 0, 1, 2, 1e-6, false},
    {"qwen2", 151936, 4096, 22016, 32, 32, 32, -1, 32768, 4096, -1, -1, 1e-6, false},
    {"qwen3", 151936, 4096, 22016, 32, 32, 32, 128, 32768, 4096, -1, -1, 1e-6, false},
    {"gemma3", 262208, 2304, 9216, 26, 8, 4, 256, 131072, 4096, 2, 1, 1e-6, true},
    {"muse-glimmer", 202048, 6656, 19968, 52, 32, 2, 128, 131072, 2048, 200000, 200001, 1e-5, false},
    {"muse-spark", 202048, 8192, 16384, 62, 128, 16, 64, 1048576, 2048, 200000, 200001, 1e-5, false},
};

static const json_t *get(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_null(v) ? NULL : v;
}

static uint32_t number_of(reader *r, const json_t *o, const char *key, int64_t otherwise, uint32_t least, uint32_t most)
{
    const json_t *v = get(o, key);
    json_int_t n = v ? json_integer_value(v) : otherwise;
    if (r->status) return least;
    if (v && !json_is_integer(v)) r->status = pn_fail(r->err, PONDER_E_FORMAT, "%s: no integer", key);
    else if (n < least || n > most)
        r->status = pn_fail(r->err, PONDER_E_FORMAT, "%s: %lld is outside %u..%u", key, (long long)n, least, most);
    return r->status ? least : (uint32_t)n;
}

static uint32_t number(reader *r, const char *key, int64_t otherwise, uint32_t least, uint32_t most)
{
    return number_of(r, r->o, key, otherwise, least, most);
}

/* NAN: required */
static float real_of(reader *r, const json_t *o, const char *key, double otherwise)
{
    const json_t *v = get(o, key);
    double n = v ? json_number_value(v) : otherwise;
    if (r->status) return 1;
    if (v && !json_is_number(v)) r->status = pn_fail(r->err, PONDER_E_FORMAT, "%s: no number", key);
    else if (isnan(n)) r->status = pn_fail(r->err, PONDER_E_FORMAT, "%s is missing", key);
    else if (!isfinite((float)n)) r->status = pn_fail(r->err, PONDER_E_FORMAT, "%s: too large", key);
    return r->status ? 1 : (float)n;
}

static float real(reader *r, const char *key, double otherwise)
{
    return real_of(r, r->o, key, otherwise);
}

static bool flag_of(reader *r, const json_t *o, const char *key, bool otherwise)
{
    const json_t *v = get(o, key);
    if (v && !json_is_boolean(v) && !r->status) r->status = pn_fail(r->err, PONDER_E_FORMAT, "%s: neither true nor false", key);
    return v ? json_is_true(v) : otherwise;
}

static void unsupported(reader *r, const char *key, const char *what)
{
    if (!r->status) r->status = pn_fail(r->err, PONDER_E_UNSUPPORTED, "%s: %.96s", key, what);
}

static void sizes(reader *r, const defaults *k)
{
    pn_description *d = r->d;
    d->layers = number(r, "num_hidden_layers", k->layers, 1, PN_MAX_LAYERS);
    d->context = number(r, "max_position_embeddings", k->context, 1, 1u << 30);
    d->width = number(r, "hidden_size", k->width, 1, 1u << 20);
    d->heads = number(r, "num_attention_heads", k->heads, 1, 1u << 14);
    /* A class default that is a number counts only when the key is absent; null means as many as query heads. */
    const bool null_kv = json_is_null(json_object_get(r->o, "num_key_value_heads"));
    d->kv_heads = number(r, "num_key_value_heads", k->kv_heads < 0 || null_kv ? (int64_t)d->heads : k->kv_heads, 1, 1u << 14);
    d->head_dim = number(r, "head_dim", k->head_dim < 0 ? (int64_t)(d->width / d->heads) : k->head_dim, 1, 1u << 14);
    d->rot_dim = d->head_dim;
    d->ff = number(r, "intermediate_size", k->ff, 1, 1u << 24);
    d->eps = real(r, "rms_norm_eps", k->eps);
    d->attn_scale = (float)(1 / sqrt((double)d->head_dim));
    d->qkv_bias |= flag_of(r, r->o, "attention_bias", false) && strcmp(k->arch, "qwen2") != 0;
    d->out_bias = flag_of(r, r->o, "attention_bias", false) && strcmp(k->arch, "qwen2") != 0;
    if (flag_of(r, r->o, "mlp_bias", false)) unsupported(r, "mlp_bias", "true");
}

static void activation(reader *r, const char *key, const char *otherwise)
{
    const json_t *v = get(r->o, key);
    const char *name = v ? json_string_value(v) : otherwise;
    if (!name) name = "?";
    if (!strcmp(name, "silu") || !strcmp(name, "swish")) r->d->act = PN_ACT_SILU;
    else if (!strcmp(name, "gelu_pytorch_tanh") || !strcmp(name, "gelu_new")) r->d->act = PN_ACT_GELU_TANH;
    else if (!strcmp(name, "gelu")) r->d->act = PN_ACT_GELU;
    else unsupported(r, key, name);
}

/* ---- rotary encoding ------------------------------------------------------------------------------------------------ */

static const char *rope_type(const json_t *p)
{
    const json_t *v = get(p, "rope_type");
    if (!v) v = get(p, "type");
    if (!v) return "default";
    return json_is_string(v) ? json_string_value(v) : "?";
}

static void scaling(reader *r, const json_t *p)
{
    pn_description *d = r->d;
    const char *type = rope_type(p);
    const json_t *partial = get(p, "partial_rotary_factor");
    if (!partial) partial = get(r->o, "partial_rotary_factor");
    if (partial && json_number_value(partial) != 1) unsupported(r, "partial_rotary_factor", "not 1");
    if (!strcmp(type, "default")) return;
    if (strcmp(type, "linear") && strcmp(type, "llama3")) {
        unsupported(r, "rope_type", type);
        return;
    }
    d->rope_scaling = 1;
    d->rope_factor = real_of(r, p, "factor", NAN);
    if (strcmp(type, "llama3")) return;
    d->rope_scaling = 2;
    d->rope_low = real_of(r, p, "low_freq_factor", NAN);
    d->rope_high = real_of(r, p, "high_freq_factor", NAN);
    /* The configuration's own key, where there is one, stands above the parameter. */
    const json_t *from = get(r->o, "original_max_position_embeddings") ? r->o : p;
    d->rope_original = number_of(r, from, "original_max_position_embeddings", d->context, 1, 1u << 30);
}

/* One set of parameters for all layers: rope_scaling (the old key), else rope_parameters; the base inside it, else beside. */
static void rope(reader *r)
{
    const json_t *p = get(r->o, "rope_scaling");
    if (!json_is_object(p) || json_object_size(p) == 0) p = get(r->o, "rope_parameters");
    double beside = 10000;
    /* The class of muse-spark fills in parameters of its own when there are none at all, base included. */
    if (!p && !strcmp(r->d->arch, "muse-spark")) beside = 500000;
    else beside = real(r, "rope_theta", beside);
    r->d->theta = real_of(r, p, "rope_theta", beside);
    scaling(r, p);
}

/* gemma3: one set for each kind of layer; old files keep the bases beside and scale the full layers alone. */
static void gemma_rope(reader *r)
{
    const json_t *all = get(r->o, "rope_parameters"), *old = get(r->o, "rope_scaling");
    const json_t *full = get(all, "full_attention"), *local = get(all, "sliding_attention");
    r->d->theta = real_of(r, get(old, "rope_theta") ? old : full, "rope_theta", real(r, "rope_theta", 1000000));
    r->d->theta_local = real_of(r, local, "rope_theta", real(r, "rope_local_base_freq", 10000));
    /* The old key must say rope_type: the older "type" is passed over for the default that stands there already. */
    scaling(r, get(old, "rope_type") ? old : full);
    if (strcmp(rope_type(local), "default")) unsupported(r, "rope_parameters.sliding_attention.rope_type", rope_type(local));
}

/* ---- layers ----------------------------------------------------------------------------------------------------------- */

/* layer_types, or `sliding(i)` by a period: kind 0 none, 1 from the front, 2 counted from the last layer back. */
static void layer_types(reader *r, uint32_t period, bool from_last)
{
    pn_description *d = r->d;
    const json_t *list = get(r->o, "layer_types");
    if (r->status) return;
    if (list && (!json_is_array(list) || json_array_size(list) != d->layers)) {
        r->status = pn_fail(r->err, PONDER_E_FORMAT, "layer_types: not a list of %u", d->layers);
        return;
    }
    for (uint32_t i = 0; i < d->layers; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        const uint32_t count = from_last ? d->layers - 1 - i : i + 1;
        d->layer[i].rope = true;
        if (!list) d->layer[i].sliding = period && count % period != 0;
        else if (name && !strcmp(name, "sliding_attention")) d->layer[i].sliding = true;
        else if (!name || strcmp(name, "full_attention")) unsupported(r, "layer_types", name ? name : "?");
    }
}

/* qwen: a window counts only when use_sliding_window says so, and then from max_window_layers on. */
static void qwen_layers(reader *r, const defaults *k)
{
    pn_description *d = r->d;
    layer_types(r, 0, false);
    const bool null_window = json_is_null(json_object_get(r->o, "sliding_window"));
    const bool use = flag_of(r, r->o, "use_sliding_window", false) && !null_window;
    const uint32_t first = number(r, "max_window_layers", 28, 0, 1u << 30);
    if (use) d->window = number(r, "sliding_window", k->window, 1, 1u << 30);
    for (uint32_t i = 0; use && !get(r->o, "layer_types") && i < d->layers; i++) d->layer[i].sliding = i >= first;
}

static void gemma3(reader *r, const defaults *k)
{
    pn_description *d = r->d;
    /* The reference multiplies by the root as a tensor of the weights' type. In float32, which is what it computes a
     * bfloat16 checkpoint in when asked for float32, that is the float32 root. */
    d->embed_scale = (float)sqrt((double)d->width);
    d->norm_offset = d->final_norm_offset = d->qk_norm_offset = 1;
    d->post_eps = d->eps;
    d->window = number(r, "sliding_window", k->window, 0, 1u << 30);
    d->attn_scale = (float)(1 / sqrt((double)number(r, "query_pre_attn_scalar", 256, 1, 1u << 20)));
    /* Only the text model caps its logits; inside the multimodal one the key is not read. */
    if (r->o == r->c->config) d->softcap = real(r, "final_logit_softcapping", 0);
    if (flag_of(r, r->o, "use_bidirectional_attention", false)) unsupported(r, "use_bidirectional_attention", "true");
    layer_types(r, number(r, get(r->o, "sliding_window_pattern") ? "sliding_window_pattern" : "_sliding_window_pattern", 6, 1, 1u << 20), false);
    for (uint32_t i = 0; i < d->layers; i++) d->layer[i].local_rope = d->layer[i].sliding;
}

static void spark(reader *r)
{
    pn_description *d = r->d;
    const json_t *types = get(r->o, "mlp_layer_types");
    d->expert_width = number(r, "moe_hidden_size", 4096, 1, 1u << 20);
    d->expert_ff = number(r, "moe_intermediate_size", 4096, 1, 1u << 23);
    d->experts = number(r, "num_local_experts", 256, 1, 1u << 16);
    d->experts_used = number(r, "num_experts_per_tok", 8, 1, 1u << 16);
    d->routed_scale = real(r, "routed_scaling_factor", 1);
    d->residual_temperature = real(r, "residual_gate_temperature", 0.3);
    d->router_scale = d->logit_scale;
    d->experts_norm = d->fused_gate_up = true;
    if (!r->status && d->residual_temperature <= 0) r->status = pn_fail(r->err, PONDER_E_FORMAT, "residual_gate_temperature: not positive");
    if (!r->status && types && json_array_size(types) != d->layers)
        r->status = pn_fail(r->err, PONDER_E_FORMAT, "mlp_layer_types: not a list of %u", d->layers);
    for (uint32_t i = 0; i < d->layers && !r->status; i++) {
        const char *name = types ? json_string_value(json_array_get(types, i)) : "sparse";
        if (!name || (strcmp(name, "sparse") && strcmp(name, "dense"))) unsupported(r, "mlp_layer_types", name ? name : "?");
        else d->layer[i].sparse = !strcmp(name, "sparse");
    }
}

/* layer_types chooses the mask alone, layer_rope_theta whether a layer rotates at all: its value is never the base. */
static void muse_layers(reader *r)
{
    pn_description *d = r->d;
    const json_t *thetas = get(r->o, "layer_rope_theta");
    layer_types(r, 4, true);
    if (!r->status && thetas && (!json_is_array(thetas) || json_array_size(thetas) < d->layers))
        r->status = pn_fail(r->err, PONDER_E_FORMAT, "layer_rope_theta: not a list of %u", d->layers);
    for (uint32_t i = 0; i < d->layers && !r->status; i++) {
        const json_t *v = json_array_get(thetas, i);
        if (thetas && !json_is_number(v)) r->status = pn_fail(r->err, PONDER_E_FORMAT, "layer_rope_theta: entry %u is no number", i);
        d->layer[i].rope = thetas ? json_number_value(v) != 0 : (d->layers - 1 - i) % 4 != 0;
    }
}

static void muse(reader *r, const defaults *k)
{
    pn_description *d = r->d;
    const bool is_spark = d->expert_latent;
    d->norm_offset = 1;
    d->qk_norm = PN_USE_BARE;
    d->q_scale = real(r, "qk_scale_factor", is_spark ? 5.4730064863875 : 3.87);
    d->logit_scale = real(r, "output_multiplier", is_spark ? 0.1767766952966369 : 0.19611613513818404);
    d->softcap = real(r, "final_logit_softcapping", 20);
    d->post_eps = real(r, "post_norm_eps", 1e-8);
    d->window = number(r, "sliding_window", k->window, 0, 1u << 30);
    muse_layers(r);
    if (is_spark) spark(r);
}

/* ---- the whole ---------------------------------------------------------------------------------------------------------- */

static void tokens(reader *r, const defaults *k)
{
    pn_description *d = r->d;
    int32_t id;
    /* Only the outer configuration's flag counts, and a head that is in the file stands above it. */
    d->tied = flag_of(r, r->c->config, "tie_word_embeddings", k->tied) && !pn_find_head(r->c);
    if (!r->status) r->status = pn_describe_vocab(r->c, d, r->err);
    const uint32_t vocab = number(r, "vocab_size", k->vocab, 1, 1u << 24);
    if (!r->status && get(r->o, "vocab_size") && vocab != d->vocab)
        r->status = pn_fail(r->err, PONDER_E_FORMAT, "vocab_size: %u, but the embedding has %u rows", vocab, d->vocab);
    d->bos = k->bos;
    d->eos = k->eos;
    if (json_object_get(r->o, "bos_token_id")) d->bos = pn_json_ids(json_object_get(r->o, "bos_token_id"), &id, 1) ? id : -1;
    if (json_object_get(r->o, "eos_token_id")) d->eos = pn_json_ids(json_object_get(r->o, "eos_token_id"), &id, 1) ? id : -1;
    if (d->bos >= (int64_t)d->vocab) d->bos = -1;
    if (d->eos >= (int64_t)d->vocab) d->eos = -1;
}

/* "muse_spark_text" -> "muse-spark" */
static bool arch_of(const json_t *o, char name[24])
{
    const char *type = json_string_value(json_object_get(o, "model_type"));
    size_t n = type ? strlen(type) : 0;
    if (n > 5 && !strcmp(type + n - 5, "_text")) n -= 5;
    if (n == 0 || n >= 24) return false;
    for (size_t i = 0; i < n; i++) name[i] = type[i] == '_' ? '-' : type[i];
    name[n] = 0;
    return true;
}

static const defaults *find_class(reader *r)
{
    char name[24];
    const char *type = json_string_value(json_object_get(r->c->config, "model_type"));
    if (!type) {
        r->status = pn_fail(r->err, PONDER_E_FORMAT, "config.json: model_type is missing");
        return NULL;
    }
    if (arch_of(r->c->config, name))
        for (size_t i = 0; i < PN_COUNT(classes); i++)
            if (!strcmp(classes[i].arch, name)) return &classes[i];
    unsupported(r, "model_type", type);
    return NULL;
}

ponder_status pn_describe_hf(const pn_checkpoint *c, pn_description *d, ponder_error *err)
{
    reader r = {.c = c, .o = pn_folder_text(c), .d = d, .err = err};
    const defaults *k = find_class(&r);
    if (!k) return r.status;
    pn_describe_arch(d, k->arch);
    if (get(c->config, "quantization_config")) unsupported(&r, "quantization_config", "quantised safetensors");
    sizes(&r, k);
    activation(&r, d->post_attn && !d->residual_gate ? "hidden_activation" : "hidden_act", d->act == PN_ACT_SILU ? "silu" : "gelu_pytorch_tanh");
    if (d->gate) {
        rope(&r);
        muse(&r, k);
    } else if (d->post_attn) {
        gemma_rope(&r);
        gemma3(&r, k);
    } else {
        rope(&r);
        qwen_layers(&r, k);
    }
    tokens(&r, k);
    return r.status;
}
