#include "files/checkpoint.h"

#include <math.h>

/* config.json as transformers 5.23 reads it: keys that are absent or null have its classes' defaults. The first failure
 * latches in `status`. */
typedef struct reader {
    const pn_checkpoint *c;
    const pn_value *config, *o; /* the outer object, the text model's */
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

/* NULL: absent or null; also when o is. */
static const pn_value *get(const pn_value *o, const char *key)
{
    const pn_value *v = o ? pn_get(o, key) : NULL;
    return v && v->type > PN_V_NONE ? v : NULL;
}

static bool is_null(const pn_value *o, const char *key)
{
    return pn_get(o, key)->type == PN_V_NONE;
}

static pn_str text_or(const pn_value *v, const char *otherwise)
{
    pn_str s = pn_str_of(otherwise);
    if (v) pn_value_str(v, &s);
    return s;
}

static uint32_t number_of(reader *r, const pn_value *o, const char *key, int64_t otherwise, uint32_t least, uint32_t most)
{
    const pn_value *v = get(o, key);
    int64_t n = otherwise;
    if (r->status) return least;
    if (v && v->type != PN_V_INT) r->status = pn_fail(r->err, PONDER_E_FORMAT, "%s: no integer", key);
    else if (v && !pn_value_i64(v, least, most, &n))
        r->status = pn_fail(r->err, PONDER_E_FORMAT, "%s: %.*s is outside %u..%u", key, SHOWN(v->text), least, most);
    else if (n < least || n > most)
        r->status = pn_fail(r->err, PONDER_E_FORMAT, "%s: %lld is outside %u..%u", key, (long long)n, least, most);
    return r->status ? least : (uint32_t)n;
}

static uint32_t number(reader *r, const char *key, int64_t otherwise, uint32_t least, uint32_t most)
{
    return number_of(r, r->o, key, otherwise, least, most);
}

/* NAN: required */
static float real_of(reader *r, const pn_value *o, const char *key, double otherwise)
{
    const pn_value *v = get(o, key);
    double n = otherwise;
    if (r->status) return 1;
    if (v && v->type != PN_V_INT && v->type != PN_V_FLOAT) r->status = pn_fail(r->err, PONDER_E_FORMAT, "%s: no number", key);
    else if (!v && isnan(n)) r->status = pn_fail(r->err, PONDER_E_FORMAT, "%s is missing", key);
    else if ((v && !pn_value_f64(v, &n)) || !isfinite((float)n)) r->status = pn_fail(r->err, PONDER_E_FORMAT, "%s: too large", key);
    return r->status ? 1 : (float)n;
}

static float real(reader *r, const char *key, double otherwise)
{
    return real_of(r, r->o, key, otherwise);
}

static bool flag_of(reader *r, const pn_value *o, const char *key, bool otherwise)
{
    const pn_value *v = get(o, key);
    if (v && !pn_value_bool(v, &otherwise) && !r->status)
        r->status = pn_fail(r->err, PONDER_E_FORMAT, "%s: neither true nor false", key);
    return otherwise;
}

static void unsupported_text(reader *r, const char *key, pn_str what)
{
    if (!r->status) r->status = pn_fail(r->err, PONDER_E_UNSUPPORTED, "%s: %.*s", key, SHOWN(what));
}

static void unsupported(reader *r, const char *key, const char *what)
{
    unsupported_text(r, key, pn_str_of(what));
}

static void sizes(reader *r, const defaults *k)
{
    pn_description *d = r->d;
    d->layers = number(r, "num_hidden_layers", k->layers, 1, PN_MAX_LAYERS);
    d->context = number(r, "max_position_embeddings", k->context, 1, 1u << 30);
    d->width = number(r, "hidden_size", k->width, 1, 1u << 20);
    d->heads = number(r, "num_attention_heads", k->heads, 1, 1u << 14);
    /* A class default that is a number counts only when the key is absent; null means as many as query heads. */
    const bool null_kv = is_null(r->o, "num_key_value_heads");
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
    const pn_value *v = get(r->o, key);
    const pn_str name = text_or(v, v ? "?" : otherwise);
    if (pn_str_eq(name, "silu") || pn_str_eq(name, "swish")) r->d->act = PN_ACT_SILU;
    else if (pn_str_eq(name, "gelu_pytorch_tanh") || pn_str_eq(name, "gelu_new")) r->d->act = PN_ACT_GELU_TANH;
    else if (pn_str_eq(name, "gelu")) r->d->act = PN_ACT_GELU;
    else unsupported_text(r, key, name);
}

/* ---- rotary encoding ------------------------------------------------------------------------------------------------ */

static pn_str rope_type(const pn_value *p)
{
    const pn_value *v = get(p, "rope_type");
    if (!v) v = get(p, "type");
    return text_or(v, v ? "?" : "default");
}

static void scaling(reader *r, const pn_value *p)
{
    pn_description *d = r->d;
    const pn_str type = rope_type(p);
    const pn_value *partial = get(p, "partial_rotary_factor");
    double share = 0;
    if (!partial) partial = get(r->o, "partial_rotary_factor");
    if (partial && (!pn_value_f64(partial, &share) || share != 1)) unsupported(r, "partial_rotary_factor", "not 1");
    if (pn_str_eq(type, "default")) return;
    if (!pn_str_eq(type, "linear") && !pn_str_eq(type, "llama3")) {
        unsupported_text(r, "rope_type", type);
        return;
    }
    d->rope_scaling = 1;
    d->rope_factor = real_of(r, p, "factor", NAN);
    if (!pn_str_eq(type, "llama3")) return;
    d->rope_scaling = 2;
    d->rope_low = real_of(r, p, "low_freq_factor", NAN);
    d->rope_high = real_of(r, p, "high_freq_factor", NAN);
    /* The configuration's own key, where there is one, stands above the parameter. */
    const pn_value *from = get(r->o, "original_max_position_embeddings") ? r->o : p;
    d->rope_original = number_of(r, from, "original_max_position_embeddings", d->context, 1, 1u << 30);
}

/* One set of parameters for all layers: rope_scaling (the old key), else rope_parameters; the base inside it, else beside. */
static void rope(reader *r)
{
    const pn_value *p = get(r->o, "rope_scaling");
    if (!p || p->type != PN_V_DICT || p->count == 0) p = get(r->o, "rope_parameters");
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
    const pn_value *all = get(r->o, "rope_parameters"), *old = get(r->o, "rope_scaling");
    const pn_value *full = get(all, "full_attention"), *local = get(all, "sliding_attention");
    r->d->theta = real_of(r, get(old, "rope_theta") ? old : full, "rope_theta", real(r, "rope_theta", 1000000));
    r->d->theta_local = real_of(r, local, "rope_theta", real(r, "rope_local_base_freq", 10000));
    /* The old key must say rope_type: the older "type" is passed over for the default that stands there already. */
    scaling(r, get(old, "rope_type") ? old : full);
    if (!pn_str_eq(rope_type(local), "default"))
        unsupported_text(r, "rope_parameters.sliding_attention.rope_type", rope_type(local));
}

/* ---- layers ----------------------------------------------------------------------------------------------------------- */

static bool is_list(const pn_value *v, size_t least, size_t most)
{
    return v->type == PN_V_LIST && v->count >= least && v->count <= most;
}

/* layer_types, or `sliding(i)` by a period: kind 0 none, 1 from the front, 2 counted from the last layer back. */
static void layer_types(reader *r, uint32_t period, bool from_last)
{
    pn_description *d = r->d;
    const pn_value *list = get(r->o, "layer_types"), *v = list ? list->first : NULL;
    if (r->status) return;
    if (list && !is_list(list, d->layers, d->layers)) {
        r->status = pn_fail(r->err, PONDER_E_FORMAT, "layer_types: not a list of %u", d->layers);
        return;
    }
    for (uint32_t i = 0; i < d->layers; i++) {
        const uint32_t count = from_last ? d->layers - 1 - i : i + 1;
        d->layer[i].rope = true;
        if (!list) d->layer[i].sliding = period && count % period != 0;
        else if (pn_is(v, "sliding_attention")) d->layer[i].sliding = true;
        else if (!pn_is(v, "full_attention")) unsupported_text(r, "layer_types", text_or(v, "?"));
        if (list) v = v->next;
    }
}

/* qwen: a window counts only when use_sliding_window says so, and then from max_window_layers on. */
static void qwen_layers(reader *r, const defaults *k)
{
    pn_description *d = r->d;
    layer_types(r, 0, false);
    const bool null_window = is_null(r->o, "sliding_window");
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
    if (r->o == r->config) d->softcap = real(r, "final_logit_softcapping", 0);
    if (flag_of(r, r->o, "use_bidirectional_attention", false)) unsupported(r, "use_bidirectional_attention", "true");
    layer_types(r, number(r, get(r->o, "sliding_window_pattern") ? "sliding_window_pattern" : "_sliding_window_pattern", 6, 1, 1u << 20), false);
    for (uint32_t i = 0; i < d->layers; i++) d->layer[i].local_rope = d->layer[i].sliding;
}

static void spark(reader *r)
{
    pn_description *d = r->d;
    const pn_value *types = get(r->o, "mlp_layer_types"), *v = types ? types->first : NULL;
    d->expert_width = number(r, "moe_hidden_size", 4096, 1, 1u << 20);
    d->expert_ff = number(r, "moe_intermediate_size", 4096, 1, 1u << 23);
    d->experts = number(r, "num_local_experts", 256, 1, 1u << 16);
    d->experts_used = number(r, "num_experts_per_tok", 8, 1, 1u << 16);
    d->routed_scale = real(r, "routed_scaling_factor", 1);
    d->residual_temperature = real(r, "residual_gate_temperature", 0.3);
    d->router_scale = d->logit_scale;
    d->experts_norm = d->fused_gate_up = true;
    if (!r->status && d->residual_temperature <= 0) r->status = pn_fail(r->err, PONDER_E_FORMAT, "residual_gate_temperature: not positive");
    if (!r->status && types && !is_list(types, d->layers, d->layers))
        r->status = pn_fail(r->err, PONDER_E_FORMAT, "mlp_layer_types: not a list of %u", d->layers);
    for (uint32_t i = 0; i < d->layers && !r->status; i++) {
        d->layer[i].sparse = !types || pn_is(v, "sparse");
        if (types && !pn_is(v, "sparse") && !pn_is(v, "dense")) unsupported_text(r, "mlp_layer_types", text_or(v, "?"));
        if (types) v = v->next;
    }
}

/* layer_types chooses the mask alone, layer_rope_theta whether a layer rotates at all: its value is never the base. */
static void muse_layers(reader *r)
{
    pn_description *d = r->d;
    const pn_value *thetas = get(r->o, "layer_rope_theta"), *v = thetas ? thetas->first : NULL;
    layer_types(r, 4, true);
    if (!r->status && thetas && !is_list(thetas, d->layers, SIZE_MAX))
        r->status = pn_fail(r->err, PONDER_E_FORMAT, "layer_rope_theta: not a list of %u", d->layers);
    for (uint32_t i = 0; i < d->layers && !r->status; i++) {
        double theta = 0;
        if (thetas && !pn_value_f64(v, &theta)) r->status = pn_fail(r->err, PONDER_E_FORMAT, "layer_rope_theta: entry %u is no number", i);
        d->layer[i].rope = thetas ? theta != 0 : (d->layers - 1 - i) % 4 != 0;
        if (thetas) v = v->next;
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
    d->tied = flag_of(r, r->config, "tie_word_embeddings", k->tied) && !pn_find_head(r->c);
    if (!r->status) r->status = pn_describe_vocab(r->c, d, r->err);
    const uint32_t vocab = number(r, "vocab_size", k->vocab, 1, 1u << 24);
    if (!r->status && get(r->o, "vocab_size") && vocab != d->vocab)
        r->status = pn_fail(r->err, PONDER_E_FORMAT, "vocab_size: %u, but the embedding has %u rows", vocab, d->vocab);
    d->bos = k->bos;
    d->eos = k->eos;
    const pn_value *bos = pn_get(r->o, "bos_token_id"), *eos = pn_get(r->o, "eos_token_id");
    if (bos->type) d->bos = pn_json_ids(bos, &id, 1) ? id : -1;
    if (eos->type) d->eos = pn_json_ids(eos, &id, 1) ? id : -1;
    if (d->bos >= (int64_t)d->vocab) d->bos = -1;
    if (d->eos >= (int64_t)d->vocab) d->eos = -1;
}

/* "muse_spark_text" -> "muse-spark" */
static bool arch_of(pn_str type, char name[24])
{
    size_t n = type.n;
    if (n > 5 && !memcmp(type.p + n - 5, "_text", 5)) n -= 5;
    if (n == 0 || n >= 24) return false;
    for (size_t i = 0; i < n; i++) name[i] = type.p[i] == '_' ? '-' : type.p[i];
    name[n] = 0;
    return true;
}

static const defaults *find_class(reader *r)
{
    char name[24];
    pn_str type;
    if (!pn_value_str(pn_get(r->config, "model_type"), &type)) {
        r->status = pn_fail(r->err, PONDER_E_FORMAT, "config.json: model_type is missing");
        return NULL;
    }
    if (arch_of(type, name))
        for (size_t i = 0; i < PN_COUNT(classes); i++)
            if (!strcmp(classes[i].arch, name)) return &classes[i];
    unsupported_text(r, "model_type", type);
    return NULL;
}

ponder_status pn_describe_hf(const pn_checkpoint *c, pn_description *d, ponder_error *err)
{
    reader r = {.c = c, .config = pn_json_root(&c->config), .o = pn_folder_text(c), .d = d, .err = err};
    const defaults *k = find_class(&r);
    if (!k) return r.status;
    pn_describe_arch(d, k->arch);
    if (get(r.config, "quantization_config")) unsupported(&r, "quantization_config", "quantised safetensors");
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
