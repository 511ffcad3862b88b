#include "files/checkpoint.h"

#include <math.h>
#include <stdio.h>

enum { KEY_ROOM = 128 };

static const char *full(const pn_keys *k, const char *name, char key[KEY_ROOM])
{
    snprintf(key, KEY_ROOM, "%s%s", k->prefix, name);
    return key;
}

static uint32_t bounded(pn_keys *k, const char *key, int64_t v, uint32_t least, uint32_t most)
{
    if (v >= least && v <= most) return (uint32_t)v;
    k->status = pn_fail(k->err, PONDER_E_FORMAT, "key %s: %lld is outside %u..%u", key, (long long)v, least, most);
    return least;
}

uint32_t pn_keys_u32(pn_keys *k, const char *name, int64_t otherwise, uint32_t least, uint32_t most)
{
    char key[KEY_ROOM];
    uint64_t n;
    int64_t v = otherwise;
    if (k->status) return least;
    full(k, name, key);
    const pn_shape shape = pn_checkpoint_shape(k->c, key, &n);
    if (shape == PN_SHAPE_NONE && otherwise == PN_REQUIRED) k->status = pn_fail(k->err, PONDER_E_FORMAT, "key %s is missing", key);
    else if (shape != PN_SHAPE_NONE && !pn_checkpoint_i64(k->c, key, &v)) k->status = pn_fail(k->err, PONDER_E_FORMAT, "key %s: no integer", key);
    return k->status ? least : bounded(k, key, v, least, most);
}

uint32_t pn_keys_u32_at(pn_keys *k, const char *name, uint64_t i, uint32_t least, uint32_t most)
{
    char key[KEY_ROOM];
    int64_t v;
    if (k->status) return least;
    if (pn_checkpoint_i64_at(k->c, full(k, name, key), i, &v)) return bounded(k, key, v, least, most);
    k->status = pn_fail(k->err, PONDER_E_FORMAT, "key %s: no integer at %llu", key, (unsigned long long)i);
    return least;
}

float pn_keys_f32(pn_keys *k, const char *name, double otherwise)
{
    char key[KEY_ROOM];
    uint64_t n;
    double v = otherwise;
    if (k->status) return 1;
    full(k, name, key);
    const pn_shape shape = pn_checkpoint_shape(k->c, key, &n);
    if (shape == PN_SHAPE_NONE && isnan(otherwise)) k->status = pn_fail(k->err, PONDER_E_FORMAT, "key %s is missing", key);
    else if (shape != PN_SHAPE_NONE && !pn_checkpoint_f64(k->c, key, &v)) k->status = pn_fail(k->err, PONDER_E_FORMAT, "key %s: no number", key);
    else if (!isfinite((float)v)) k->status = pn_fail(k->err, PONDER_E_FORMAT, "key %s: not finite", key);
    return k->status ? 1 : (float)v;
}

void pn_keys_text(pn_keys *k, const char *name, const char *otherwise, const char *want)
{
    char key[KEY_ROOM];
    uint64_t n;
    pn_str v = pn_str_of(otherwise);
    if (k->status) return;
    full(k, name, key);
    if (pn_checkpoint_shape(k->c, key, &n) != PN_SHAPE_NONE && !pn_checkpoint_str(k->c, key, &v))
        k->status = pn_fail(k->err, PONDER_E_FORMAT, "key %s: no text", key);
    else if (!pn_str_eq(v, want))
        k->status = pn_fail(k->err, PONDER_E_UNSUPPORTED, "key %s: \"%.*s\", only \"%s\" is computed", key, SHOWN(v), want);
}
