/* The tower's description: config.json as the configuration classes of transformers 5.23 read it (keys that are absent have their
 * defaults), or the keys of a GGUF projector. */
#include "audio/tower.h"

#include <math.h>
#include <stdio.h>

enum { MOST_PATCH = 1 << 12, MOST_SAMPLES = 1 << 20, MOST_WIDTH = 1 << 16, MOST_FF = 1 << 20 };

typedef struct list {
    const char *name;
    uint32_t *to, least, most;
    const uint32_t *otherwise; /* of the released model's four stages; NULL: required */
} list;

/* Lists of equal length, one entry a stage. */
static void read_lists(pn_keys *k, pn_audio_info *d, const list *l, size_t n)
{
    char key[64];
    uint64_t count;
    for (size_t i = 0; i < n && !k->status; i++) {
        snprintf(key, sizeof key, "%s%s", k->prefix, l[i].name);
        const pn_shape shape = pn_checkpoint_shape(k->c, key, &count);
        const bool absent = shape == PN_SHAPE_NONE && l[i].otherwise;
        if (absent) count = 4;
        else if (shape != PN_SHAPE_LIST || count < 1 || count > PN_AUDIO_STAGES)
            k->status = pn_fail(k->err, PONDER_E_FORMAT, "key %s: no list of 1..%d numbers", key, PN_AUDIO_STAGES);
        else if (i > 0 && count != d->stages)
            k->status = pn_fail(k->err, PONDER_E_FORMAT, "key %s: %u stages where %s has %u", key, (uint32_t)count, l[0].name, d->stages);
        if (k->status) return;
        d->stages = (uint32_t)count;
        for (uint32_t s = 0; s < d->stages; s++)
            l[i].to[s] = absent ? l[i].otherwise[s] : pn_keys_u32_at(k, l[i].name, s, l[i].least, l[i].most);
    }
}

static void lists(pn_keys *k, pn_audio_info *d, bool defaults)
{
    static const uint32_t patches[] = {16, 6, 5, 4}, widths[] = {256, 512, 1024, 2048}, depths[] = {2, 2, 2, 2};
    const list l[] = {
        {"patch_sizes", d->patch, 1, MOST_PATCH, defaults ? patches : NULL},
        {"hidden_sizes", d->width, 1, MOST_WIDTH, defaults ? widths : NULL},
        {"depths", d->depth, 0, PN_AUDIO_DEPTH, defaults ? depths : NULL},
    };
    read_lists(k, d, l, PN_COUNT(l));
}

/* ---- config.json --------------------------------------------------------------------------- */

static void folder_ff(pn_keys *k, pn_audio_info *d)
{
    uint64_t n;
    double ratio = 4;
    const char *key = "audio_config.mlp_ratio";
    if (!k->status && pn_checkpoint_shape(k->c, key, &n) != PN_SHAPE_NONE && !pn_checkpoint_f64(k->c, key, &ratio)) ratio = NAN;
    for (uint32_t s = 0; s < d->stages && !k->status; s++) {
        const double ff = floor(d->width[s] * ratio); /* as Python's int() of the product */
        if (!(ff >= 1 && ff <= MOST_FF)) k->status = pn_fail(k->err, PONDER_E_FORMAT, "key %s: no ratio for a width of %u", key, d->width[s]);
        else d->ff[s] = (uint32_t)ff;
    }
}

static ponder_status describe_folder(pn_audio_info *d, const pn_checkpoint *c, ponder_error *err)
{
    pn_keys k = {.c = c, .prefix = "audio_config.", .err = err}, ears = {.c = c, .prefix = "feature_extractor.", .err = err};
    lists(&k, d, true);
    const uint32_t stages = pn_keys_u32(&k, "num_hidden_layers", 4, 0, UINT32_MAX);
    d->taps = pn_keys_u32(&k, "conv_kernel_size", 7, 1, PN_AUDIO_TAPS);
    d->out = pn_keys_u32(&k, "out_hidden_size", 8192, 1, 1u << 20);
    d->eps = pn_keys_f32(&k, "rms_norm_eps", 1e-6);
    pn_keys_text(&k, "hidden_act", "gelu", "gelu");
    folder_ff(&k, d);
    if (!k.status && stages != d->stages)
        return pn_fail(err, PONDER_E_FORMAT, "key audio_config.num_hidden_layers: %u for %u stages", stages, d->stages);
    if (k.status) return k.status;
    d->rate = pn_keys_u32(&ears, "sampling_rate", PN_AUDIO_RATE, PN_AUDIO_MIN_RATE, PN_AUDIO_MAX_RATE);
    return ears.status;
}

/* ---- GGUF ------------------------------------------------------------------------------------ */

/* The metadata have one width of the feed-forward halves for all stages: the tensors say which each has. */
static ponder_status gguf_ff(pn_audio_info *d, const pn_checkpoint *c, ponder_error *err)
{
    char name[PN_AUDIO_NAME];
    for (uint32_t s = 0; s < d->stages; s++) {
        const pn_tensor *t = d->depth[s] ? pn_checkpoint_find(c, pn_audio_name(c, d, PN_A_FC1, s, 0, name)) : NULL;
        if (!d->depth[s]) continue;
        if (!t || t->n_dims != 2 || t->ne[1] > MOST_FF)
            return pn_fail(err, PONDER_E_FORMAT, "tensor %s: %s", name, t ? "no matrix" : "missing");
        d->ff[s] = (uint32_t)t->ne[1];
    }
    return PONDER_OK;
}

static ponder_status describe_gguf(pn_audio_info *d, const pn_checkpoint *c, ponder_error *err)
{
    pn_keys k = {.c = c, .prefix = "clip.audio.", .err = err};
    lists(&k, d, false);
    d->taps = pn_keys_u32(&k, "conv_kernel_size", PN_REQUIRED, 1, PN_AUDIO_TAPS);
    d->out = pn_keys_u32(&k, "projection_dim", PN_REQUIRED, 1, 1u << 20);
    d->eps = pn_keys_f32(&k, "attention.layer_norm_epsilon", NAN);
    const uint32_t blocks = pn_keys_u32(&k, "block_count", PN_REQUIRED, 0, UINT32_MAX);
    d->rate = PN_AUDIO_RATE;
    if (k.status) return k.status;
    uint32_t sum = 0;
    for (uint32_t s = 0; s < d->stages; s++) sum += d->depth[s];
    if (sum != blocks) return pn_fail(err, PONDER_E_FORMAT, "key clip.audio.block_count: %u where the depths make %u", blocks, sum);
    return gguf_ff(d, c, err);
}

static ponder_status find_gguf(bool *found, const pn_checkpoint *c, ponder_error *err)
{
    pn_str arch = {"", 0}, type = {"", 0};
    int64_t has = 0;
    pn_checkpoint_str(c, "general.architecture", &arch);
    if (!pn_str_eq(arch, "clip") || !pn_checkpoint_i64(c, "clip.has_audio_encoder", &has) || !has) return PONDER_OK;
    if (!pn_checkpoint_str(c, "clip.audio.projector_type", &type)) pn_checkpoint_str(c, "clip.projector_type", &type);
    if (!pn_str_eq(type, "muse-spark-audio"))
        return pn_fail(err, PONDER_E_UNSUPPORTED, "key clip.audio.projector_type: \"%.*s\", only \"muse-spark-audio\" is computed",
                       (int)PN_MIN(type.n, (size_t)64), type.p);
    *found = true;
    return PONDER_OK;
}

/* ---- both ------------------------------------------------------------------------------------- */

static ponder_status check(pn_audio_info *d, uint32_t text_width, ponder_error *err)
{
    uint64_t samples = 1;
    for (uint32_t s = 0; s < d->stages; s++) {
        samples *= d->patch[s];
        if (samples > MOST_SAMPLES) return pn_fail(err, PONDER_E_FORMAT, "audio tower: patches of more than %d samples", MOST_SAMPLES);
    }
    d->samples = (uint32_t)samples;
    if (d->out != text_width)
        return pn_fail(err, PONDER_E_FORMAT, "the audio tower's rows have %u values, the text model's %u", d->out, text_width);
    if (!(d->eps > 0 && d->eps < 1)) return pn_fail(err, PONDER_E_FORMAT, "audio tower: the norms' epsilon is outside 0..1");
    return PONDER_OK;
}

ponder_status pn_audio_describe(pn_audio_info *d, bool *found, const pn_checkpoint *c, const char *text_arch, uint32_t text_width,
                                ponder_error *err)
{
    char name[PN_AUDIO_NAME];
    ponder_status st = PONDER_OK;
    bool there = false;
    *d = (pn_audio_info){0};
    *found = false;
    if (pn_checkpoint_is_gguf(c)) st = find_gguf(&there, c, err);
    else there = pn_audio_name(c, d, PN_A_FOLD, 0, 0, name) != NULL;
    if (st != PONDER_OK || !there) return st;
    if (strcmp(text_arch, "muse-spark"))
        return pn_fail(err, PONDER_E_UNSUPPORTED, "an audio tower for a text model of architecture \"%.24s\": only muse-spark hears", text_arch);
    st = pn_checkpoint_is_gguf(c) ? describe_gguf(d, c, err) : describe_folder(d, c, err);
    if (st == PONDER_OK) st = check(d, text_width, err);
    *found = st == PONDER_OK;
    return st;
}
