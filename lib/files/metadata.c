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
static const pn_value *json_at(const pn_checkpoint *c, const char *key)
{
    const pn_value *o = pn_json_root(&c->config);
    for (bool first = true; *key && o; first = false) {
        const pn_str name = {key, strcspn(key, ".")};
        if (first && pn_str_eq(name, "image_processor")) o = c->image_processor;
        else if (first && pn_str_eq(name, "video_processor")) o = c->video_processor;
        else if (first && pn_str_eq(name, "feature_extractor")) o = c->feature_extractor;
        else o = pn_named(o, name);
        key += key[name.n] ? name.n + 1 : name.n;
    }
    return o && o->type > PN_V_NONE ? o : NULL;
}

static const pn_value *element(const pn_checkpoint *c, const char *key, uint64_t i)
{
    const pn_value *v = json_at(c, key);
    if (v && v->type == PN_V_LIST) v = pn_at(v, (size_t)i);
    else if (i > 0) v = NULL;
    return v && v->type != PN_V_UNDEFINED ? v : NULL;
}

static bool is_folder(const pn_checkpoint *c)
{
    return c->config.values != NULL;
}

pn_shape pn_checkpoint_shape(const pn_checkpoint *c, const char *key, uint64_t *n)
{
    *n = 0;
    if (!is_folder(c)) {
        const pn_kv *kv = pn_kv_find(c, key);
        if (kv) *n = kv->array ? kv->count : 1;
        return !kv ? PN_SHAPE_NONE : kv->array ? PN_SHAPE_LIST : PN_SHAPE_ONE;
    }
    const pn_value *v = json_at(c, key);
    if (!v) return PN_SHAPE_NONE;
    *n = v->type == PN_V_LIST ? v->count : 1;
    return v->type == PN_V_LIST ? PN_SHAPE_LIST : PN_SHAPE_ONE;
}

bool pn_checkpoint_i64_at(const pn_checkpoint *c, const char *key, uint64_t i, int64_t *out)
{
    bool flag;
    if (!is_folder(c)) {
        const pn_kv *kv = pn_kv_find(c, key);
        return kv && pn_kv_i64(kv, i, out);
    }
    const pn_value *v = element(c, key, i);
    if (!v || !pn_value_bool(v, &flag)) return v && pn_value_i64(v, INT64_MIN, INT64_MAX, out);
    *out = flag;
    return true;
}

bool pn_checkpoint_f64_at(const pn_checkpoint *c, const char *key, uint64_t i, double *out)
{
    if (!is_folder(c)) {
        const pn_kv *kv = pn_kv_find(c, key);
        return kv && pn_kv_f64(kv, i, out);
    }
    const pn_value *v = element(c, key, i);
    return v && pn_value_f64(v, out);
}

bool pn_checkpoint_str_at(const pn_checkpoint *c, const char *key, uint64_t i, pn_str *out)
{
    if (is_folder(c)) {
        const pn_value *v = element(c, key, i);
        return v && pn_value_str(v, out);
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

pn_str pn_checkpoint_name(const pn_checkpoint *c)
{
    pn_str s = {"", 0};
    if (c->gguf) pn_checkpoint_str(c, "general.name", &s);
    else pn_value_str(pn_get(pn_json_root(&c->config), "_name_or_path"), &s);
    return s;
}

/* tokenizer_config.json: a template, or a list of named ones of which "default" is meant. */
static bool template_of(const pn_value *v, pn_str *out)
{
    for (const pn_value *e = v->type == PN_V_LIST ? v->first : NULL; e; e = e->next)
        if (pn_is(pn_get(e, "name"), "default")) return pn_value_str(pn_get(e, "template"), out);
    return pn_value_str(v, out);
}

bool pn_checkpoint_template(const pn_checkpoint *c, pn_str *out)
{
    if (c->gguf) return pn_checkpoint_str(c, "tokenizer.chat_template", out);
    if (!c->jinja) return template_of(pn_get(pn_json_root(&c->tokenizer_config), "chat_template"), out);
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
    const pn_value *v = pn_get(pn_json_root(&c->generation), "eos_token_id");
    if (v->type <= PN_V_NONE) v = pn_get(pn_json_root(&c->config), "eos_token_id");
    if (v->type <= PN_V_NONE) v = pn_get(pn_folder_text(c), "eos_token_id");
    return pn_json_ids(v, ids, cap);
}
