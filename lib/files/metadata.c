#include "files/checkpoint.h"

const pn_kv *pn_kv_find(const pn_checkpoint *c, const char *key)
{
    for (uint32_t i = 0; i < c->n_kv; i++)
        if (pn_str_eq(c->kv[i].key, key)) return &c->kv[i];
    return NULL;
}

bool pn_kv_i64(const pn_kv *kv, uint64_t i, int64_t *out)
{
    const uint8_t *p = kv->data;
    if (i >= kv->count) return false;
    switch (kv->type) {
    case KV_U8: *out = p[i]; return true;
    case KV_I8: *out = (int8_t)p[i]; return true;
    case KV_BOOL: *out = p[i] != 0; return true;
    case KV_U16: *out = (uint16_t)(p[2 * i] | p[2 * i + 1] << 8); return true;
    case KV_I16: *out = (int16_t)(uint16_t)(p[2 * i] | p[2 * i + 1] << 8); return true;
    case KV_U32: *out = pn_get32(p + 4 * i); return true;
    case KV_I32: *out = (int32_t)pn_get32(p + 4 * i); return true;
    case KV_U64: *out = (int64_t)pn_get64(p + 8 * i); return *out >= 0;
    case KV_I64: *out = (int64_t)pn_get64(p + 8 * i); return true;
    default: return false;
    }
}

bool pn_kv_f64(const pn_kv *kv, uint64_t i, double *out)
{
    int64_t v;
    if (i >= kv->count) return false;
    if (kv->type == KV_F32) {
        float f;
        memcpy(&f, kv->data + 4 * i, 4);
        *out = f;
        return true;
    }
    if (kv->type == KV_F64) {
        memcpy(out, kv->data + 8 * i, 8);
        return true;
    }
    if (kv->type == KV_BOOL || !pn_kv_i64(kv, i, &v)) return false;
    *out = (double)v;
    return true;
}

/* ---- any container ------------------------------------------------------------------------------------------------ */

/* A folder's value by its path: config.json, or what its processors are configured with. NULL: absent or null. */
static const json_t *json_at(const pn_checkpoint *c, const char *key)
{
    const json_t *o = c->config;
    for (bool first = true; *key; first = false) {
        const size_t n = strcspn(key, ".");
        if (first && n == 15 && !memcmp(key, "image_processor", n)) o = c->image_processor;
        else if (first && n == 15 && !memcmp(key, "video_processor", n)) o = c->video_processor;
        else o = json_object_getn(o, key, n);
        key += key[n] ? n + 1 : n;
    }
    return json_is_null(o) ? NULL : o;
}

static const json_t *element(const pn_checkpoint *c, const char *key, uint64_t i)
{
    const json_t *v = json_at(c, key);
    if (json_is_array(v)) return json_array_get(v, (size_t)i);
    return i == 0 ? v : NULL;
}

pn_shape pn_checkpoint_shape(const pn_checkpoint *c, const char *key, uint64_t *n)
{
    *n = 0;
    if (!c->config) {
        const pn_kv *kv = pn_kv_find(c, key);
        if (kv) *n = kv->array ? kv->count : 1;
        return !kv ? PN_SHAPE_NONE : kv->array ? PN_SHAPE_LIST : PN_SHAPE_ONE;
    }
    const json_t *v = json_at(c, key);
    if (v) *n = json_is_array(v) ? json_array_size(v) : 1;
    return !v ? PN_SHAPE_NONE : json_is_array(v) ? PN_SHAPE_LIST : PN_SHAPE_ONE;
}

bool pn_checkpoint_i64_at(const pn_checkpoint *c, const char *key, uint64_t i, int64_t *out)
{
    if (!c->config) {
        const pn_kv *kv = pn_kv_find(c, key);
        return kv && pn_kv_i64(kv, i, out);
    }
    const json_t *v = element(c, key, i);
    if (!json_is_integer(v) && !json_is_boolean(v)) return false;
    *out = json_is_boolean(v) ? json_is_true(v) : json_integer_value(v);
    return true;
}

bool pn_checkpoint_f64_at(const pn_checkpoint *c, const char *key, uint64_t i, double *out)
{
    if (!c->config) {
        const pn_kv *kv = pn_kv_find(c, key);
        return kv && pn_kv_f64(kv, i, out);
    }
    const json_t *v = element(c, key, i);
    if (json_is_number(v)) *out = json_number_value(v);
    return json_is_number(v);
}

bool pn_checkpoint_str_at(const pn_checkpoint *c, const char *key, uint64_t i, pn_str *out)
{
    if (c->config) {
        const json_t *v = element(c, key, i);
        if (json_is_string(v)) *out = (pn_str){json_string_value(v), json_string_length(v)};
        return json_is_string(v);
    }
    const pn_kv *kv = pn_kv_find(c, key);
    if (!kv || kv->type != KV_STR || i >= kv->count) return false;
    const uint8_t *p = kv->data; /* an array's extents were checked when the file was read */
    for (uint64_t k = 0; k < i; k++) p += 8 + pn_get64(p);
    *out = (pn_str){(const char *)p + 8, (size_t)pn_get64(p)};
    return true;
}

static bool single(const pn_checkpoint *c, const char *key)
{
    uint64_t n;
    return pn_checkpoint_shape(c, key, &n) == PN_SHAPE_ONE;
}

bool pn_checkpoint_i64(const pn_checkpoint *c, const char *key, int64_t *out)
{
    return single(c, key) && pn_checkpoint_i64_at(c, key, 0, out);
}

bool pn_checkpoint_f64(const pn_checkpoint *c, const char *key, double *out)
{
    return single(c, key) && pn_checkpoint_f64_at(c, key, 0, out);
}

bool pn_checkpoint_str(const pn_checkpoint *c, const char *key, pn_str *out)
{
    return single(c, key) && pn_checkpoint_str_at(c, key, 0, out);
}

static pn_str json_text(const json_t *v)
{
    if (!json_is_string(v)) return (pn_str){"", 0};
    return (pn_str){json_string_value(v), json_string_length(v)};
}

pn_str pn_checkpoint_name(const pn_checkpoint *c)
{
    pn_str s = {"", 0};
    if (!c->gguf) return json_text(json_object_get(c->config, "_name_or_path"));
    pn_checkpoint_str(c, "general.name", &s);
    return s;
}

/* tokenizer_config.json: a template, or a list of named ones of which "default" is meant. */
static bool template_of(const json_t *v, pn_str *out)
{
    size_t i;
    json_t *e;
    json_array_foreach(v, i, e) {
        const char *name = json_string_value(json_object_get(e, "name"));
        if (name && strcmp(name, "default") == 0) return template_of(json_object_get(e, "template"), out);
    }
    *out = json_text(v);
    return json_is_string(v);
}

bool pn_checkpoint_template(const pn_checkpoint *c, pn_str *out)
{
    if (c->gguf) return pn_checkpoint_str(c, "tokenizer.chat_template", out);
    if (!c->jinja) return template_of(json_object_get(c->tokenizer_config, "chat_template"), out);
    const size_t n = (size_t)pn_source_size(c->jinja);
    *out = (pn_str){(const char *)pn_source_view(c->jinja, 0, n), n};
    return out->p != NULL;
}

static uint32_t gguf_ends(const pn_checkpoint *c, int32_t *ids, uint32_t cap)
{
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"};
    uint32_t n = 0;
    for (size_t k = 0; k < PN_COUNT(keys) && n < cap; k++) {
        int64_t id;
        if (!pn_checkpoint_i64(c, keys[k], &id) || id < 0 || id > INT32_MAX) continue;
        if (n == 0 || ids[0] != (int32_t)id) ids[n++] = (int32_t)id;
    }
    return n;
}

uint32_t pn_checkpoint_ends(const pn_checkpoint *c, int32_t *ids, uint32_t cap)
{
    if (c->gguf) return gguf_ends(c, ids, cap);
    const json_t *v = json_object_get(c->generation, "eos_token_id");
    if (!v || json_is_null(v)) v = json_object_get(c->config, "eos_token_id");
    if (!v || json_is_null(v)) v = json_object_get(pn_folder_text(c), "eos_token_id");
    return pn_json_ids(v, ids, cap);
}
