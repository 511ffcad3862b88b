/* The tower's description. config.json as the configuration classes of transformers 5.23 read it (keys that are absent have
 * their defaults), or the keys of a GGUF projector; what these files do not say is the rule of the released models. */
#include "vision/tower.h"

#include <math.h>
#include <stdio.h>

static ponder_status unsupported(pn_keys *k, const char *name, uint32_t v, const char *only)
{
    return k->status = pn_fail(k->err, PONDER_E_UNSUPPORTED, "key %s%s: %u, only %s is computed", k->prefix, name, v, only);
}

/* What the released models do, and all that a GGUF has. */
static void usual_layers(pn_tower_info *d)
{
    for (uint32_t i = 0; i < d->layers; i++) d->full[i] = (i + 1) % 4 == 0 || i + 1 == d->layers;
}

/* ---- config.json ----------------------------------------------------------------------------------------------------- */

static void folder_layers(pn_keys *k, pn_tower_info *d)
{
    char key[64];
    uint64_t n;
    pn_str type;
    snprintf(key, sizeof key, "%slayer_types", k->prefix);
    const pn_shape shape = pn_checkpoint_shape(k->c, key, &n);
    if (shape == PN_SHAPE_NONE || k->status) return;
    if (shape != PN_SHAPE_LIST || n != d->layers) {
        k->status = pn_fail(k->err, PONDER_E_FORMAT, "key %s: not a list of %u", key, d->layers);
        return;
    }
    for (uint32_t i = 0; i < d->layers && !k->status; i++) {
        const bool text = pn_checkpoint_str_at(k->c, key, i, &type);
        d->full[i] = text && pn_str_eq(type, "full_attention");
        if (!text || (!d->full[i] && !pn_str_eq(type, "window_attention")))
            k->status = pn_fail(k->err, PONDER_E_UNSUPPORTED, "key %s: entry %u is none of full_attention, window_attention", key, i);
    }
}

static void triple(pn_keys *k, const char *name, float to[3], float otherwise)
{
    char key[64];
    uint64_t n;
    double v;
    snprintf(key, sizeof key, "%s%s", k->prefix, name);
    const pn_shape shape = pn_checkpoint_shape(k->c, key, &n);
    for (uint32_t i = 0; i < 3; i++) {
        to[i] = otherwise;
        if (k->status || shape == PN_SHAPE_NONE) continue;
        const bool is = pn_checkpoint_f64_at(k->c, key, shape == PN_SHAPE_LIST ? i : 0, &v);
        if (is) to[i] = (float)v;
        if (!is || !isfinite(to[i]) || (shape == PN_SHAPE_LIST && n != 3)) k->status = pn_fail(k->err, PONDER_E_FORMAT, "key %s: not three numbers", key);
    }
}

static void divisors(pn_keys *k, pn_tower_info *d)
{
    triple(k, "image_mean", d->mean, 0.5f);
    triple(k, "image_std", d->std, 0.5f);
    for (int i = 0; i < 3 && !k->status; i++)
        if (!(d->std[i] > 0)) k->status = pn_fail(k->err, PONDER_E_FORMAT, "key %simage_std: not positive", k->prefix);
}

/* What the processors beside the model are configured with. */
static ponder_status folder_processors(const pn_checkpoint *c, pn_tower_info *d, ponder_error *err)
{
    pn_keys image = {.c = c, .prefix = "image_processor.", .err = err}, video = {.c = c, .prefix = "video_processor.", .err = err};
    d->max_cells = pn_keys_u32(&image, "max_image_tokens", 4096, 1, 1u << 20);
    divisors(&image, d);
    if (image.status) return image.status;
    d->max_frame_cells = pn_keys_u32(&video, "max_video_frame_tokens", 144, 1, 1u << 20);
    d->video_frames = pn_keys_u32(&video, "num_frames", 96, 1, 1u << 20);
    d->video_rate = pn_keys_f32(&video, "fps", 2);
    if (!video.status && !(d->video_rate > 0)) video.status = pn_fail(err, PONDER_E_FORMAT, "key video_processor.fps: not positive");
    return video.status;
}

static ponder_status describe_folder(pn_tower_info *d, const pn_checkpoint *c, ponder_error *err)
{
    pn_keys k = {.c = c, .prefix = "vision_config.", .err = err}, top = {.c = c, .prefix = "", .err = err};
    d->layers = pn_keys_u32(&k, "num_hidden_layers", 50, 1, PN_MAX_LAYERS);
    d->width = pn_keys_u32(&k, "hidden_size", 1536, 1, 1u << 16);
    d->heads = pn_keys_u32(&k, "num_attention_heads", 16, 1, 1u << 10);
    d->ff = pn_keys_u32(&k, "intermediate_size", 8960, 1, 1u << 20);
    d->patch = pn_keys_u32(&k, "patch_size", 14, 1, 256);
    d->frames = pn_keys_u32(&k, "patch_temporal", 2, 1, 256);
    d->merge = pn_keys_u32(&k, "merge_size", 2, 1, 16);
    d->side = pn_keys_u32(&k, "pos_emb_height", 32, 1, 1024);
    const uint32_t across = pn_keys_u32(&k, "pos_emb_width", 32, 1, 1024);
    d->eps = pn_keys_f32(&k, "layer_norm_eps", 1e-5);
    d->theta = pn_keys_f32(&k, "rope_parameters.rope_theta", pn_keys_f32(&k, "rope_theta", 10000));
    pn_keys_text(&k, "rope_parameters.rope_type", "axial", "axial");
    pn_keys_text(&k, "hidden_act", "gelu", "gelu");
    usual_layers(d);
    folder_layers(&k, d);
    if (!k.status && d->frames != 2) unsupported(&k, "patch_temporal", d->frames, "2");
    if (!k.status && across != d->side) unsupported(&k, "pos_emb_width", across, "a square table");
    if (k.status) return k.status;
    const uint32_t merged = pn_keys_u32(&top, "out_hidden_size", 6144, 1, 1u << 30);
    d->adapter = pn_keys_u32(&top, "projector_hidden_size", 4096, 1, 1u << 20);
    pn_keys_text(&top, "projector_hidden_act", "gelu", "gelu");
    if (!top.status && merged != d->merge * d->merge * d->width)
        return pn_fail(err, PONDER_E_FORMAT, "key out_hidden_size: %u, but %u patches of %u merge", merged, d->merge * d->merge, d->width);
    return top.status ? top.status : folder_processors(c, d, err);
}

/* ---- GGUF ------------------------------------------------------------------------------------------------------------ */

/* Rows of a tensor whose sizes the metadata does not say; 0: not there. */
static uint64_t rows_of(const pn_checkpoint *c, pn_tower_role role)
{
    char name[PN_TOWER_NAME];
    const pn_tensor *t = pn_checkpoint_find(c, pn_tower_name(c, role, 0, name));
    return t && t->n_dims == 2 ? t->ne[1] : 0;
}

static ponder_status tensor_sizes(pn_tower_info *d, const pn_checkpoint *c, ponder_error *err)
{
    const uint64_t table = rows_of(c, PN_T_TABLE), adapter = rows_of(c, PN_T_FC1);
    while ((uint64_t)d->side * d->side < table && d->side < 1024) d->side++;
    if (table == 0 || (uint64_t)d->side * d->side != table)
        return pn_fail(err, PONDER_E_FORMAT, "tensor v.position_embd.weight: no square table (%llu rows)", (unsigned long long)table);
    if (adapter == 0 || adapter > 1u << 20)
        return pn_fail(err, PONDER_E_FORMAT, "tensor mm.0.weight: %llu rows", (unsigned long long)adapter);
    d->adapter = (uint32_t)adapter;
    return PONDER_OK;
}

static ponder_status describe_gguf(pn_tower_info *d, const pn_checkpoint *c, ponder_error *err)
{
    pn_keys k = {.c = c, .prefix = "clip.vision.", .err = err};
    d->layers = pn_keys_u32(&k, "block_count", PN_REQUIRED, 1, PN_MAX_LAYERS);
    d->width = pn_keys_u32(&k, "embedding_length", PN_REQUIRED, 1, 1u << 16);
    d->heads = pn_keys_u32(&k, "attention.head_count", PN_REQUIRED, 1, 1u << 10);
    d->ff = pn_keys_u32(&k, "feed_forward_length", PN_REQUIRED, 1, 1u << 20);
    d->patch = pn_keys_u32(&k, "patch_size", PN_REQUIRED, 1, 256);
    d->merge = pn_keys_u32(&k, "spatial_merge_size", 2, 1, 16);
    d->out = pn_keys_u32(&k, "projection_dim", PN_REQUIRED, 1, 1u << 20);
    d->eps = pn_keys_f32(&k, "attention.layer_norm_epsilon", NAN);
    divisors(&k, d);
    if (k.status) return k.status;
    usual_layers(d);
    d->frames = 2;
    d->frames_summed = d->rope_pairs = true;
    d->theta = 10000;
    d->max_cells = 4096;
    d->max_frame_cells = 144;
    d->video_frames = 96;
    d->video_rate = 2;
    return tensor_sizes(d, c, err);
}

/* A file of towers: is there one for pictures, and of the kind that is computed here? */
static ponder_status find_gguf(bool *found, const pn_checkpoint *c, ponder_error *err)
{
    pn_str arch = {"", 0}, type = {"", 0};
    int64_t has = 0;
    pn_checkpoint_str(c, "general.architecture", &arch);
    if (!pn_str_eq(arch, "clip") || !pn_checkpoint_i64(c, "clip.has_vision_encoder", &has) || !has) return PONDER_OK;
    if (!pn_checkpoint_str(c, "clip.vision.projector_type", &type)) pn_checkpoint_str(c, "clip.projector_type", &type);
    if (!pn_str_eq(type, "muse-glimmer"))
        return pn_fail(err, PONDER_E_UNSUPPORTED, "key clip.projector_type: \"%.*s\", only \"muse-glimmer\" is computed",
                       (int)PN_MIN(type.n, (size_t)64), type.p);
    *found = true;
    return PONDER_OK;
}

/* ---- both ------------------------------------------------------------------------------------------------------------ */

static ponder_status check(pn_tower_info *d, uint32_t text_width, ponder_error *err)
{
    if (d->width % d->heads != 0) return pn_fail(err, PONDER_E_FORMAT, "vision tower: width %u does not divide into %u heads", d->width, d->heads);
    d->head_dim = d->width / d->heads;
    if (d->head_dim % 4 != 0) return pn_fail(err, PONDER_E_UNSUPPORTED, "vision tower: heads of %u values have no rotation on two axes", d->head_dim);
    if (d->out && d->out != text_width)
        return pn_fail(err, PONDER_E_FORMAT, "the vision tower's rows have %u values, the text model's %u", d->out, text_width);
    d->out = text_width;
    if (!(d->eps > 0 && d->eps < 1)) return pn_fail(err, PONDER_E_FORMAT, "vision tower: the norms' epsilon is outside 0..1");
    if (!(d->theta > 0)) return pn_fail(err, PONDER_E_FORMAT, "vision tower: the base of the rotary encoding is not positive");
    return PONDER_OK;
}

ponder_status pn_tower_describe(pn_tower_info *d, bool *found, const pn_checkpoint *c, const char *text_arch, uint32_t text_width,
                                ponder_error *err)
{
    char name[PN_TOWER_NAME];
    ponder_status s = PONDER_OK;
    *d = (pn_tower_info){0};
    *found = false;
    if (pn_checkpoint_is_gguf(c)) s = find_gguf(found, c, err);
    else *found = pn_tower_name(c, PN_T_EMBED, 0, name) != NULL;
    if (s || !*found) return s;
    *found = false;
    const bool spark = !strcmp(text_arch, "muse-spark");
    if (!spark && strcmp(text_arch, "muse-glimmer"))
        return pn_fail(err, PONDER_E_UNSUPPORTED, "a muse vision tower beside a text model of architecture %.32s", text_arch);
    d->lookup = spark ? PN_LOOKUP_SPARK : PN_LOOKUP_GLIMMER;
    s = pn_checkpoint_is_gguf(c) ? describe_gguf(d, c, err) : describe_folder(d, c, err);
    if (s == PONDER_OK) s = check(d, text_width, err);
    *found = s == PONDER_OK;
    return s;
}
