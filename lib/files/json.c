#include "files/checkpoint.h"

/* No configuration is nested deeper than this. */
enum { MAX_DEPTH = 32, MAX_BYTES = 64 << 20 };

ponder_status pn_json_object(pn_json *out, const void *p, size_t n, const char *what, const ponder_alloc *a, ponder_error *err)
{
    const pn_json_options o = {.what = what, .depth = MAX_DEPTH};
    ponder_status s = pn_json_read_as(out, p, n, &o, a, err);
    if (s || pn_json_root(out)->type == PN_V_DICT) return s;
    pn_json_free(out);
    return pn_fail(err, PONDER_E_FORMAT, "%s: not a JSON object", what);
}

ponder_status pn_json_source(pn_json *out, pn_source *s, const char *what, const ponder_alloc *a, ponder_error *err)
{
    *out = (pn_json){0};
    uint64_t n = pn_source_size(s);
    if (n > MAX_BYTES) return pn_fail(err, PONDER_E_FORMAT, "%s: larger than 64 MB", what);
    const uint8_t *p = pn_source_view(s, 0, n);
    if (!p) return pn_fail(err, PONDER_E_IO, "%s: cannot be mapped", what);
    return pn_json_object(out, p, (size_t)n, what, a, err);
}

uint32_t pn_json_ids(const pn_value *v, int32_t *ids, uint32_t cap)
{
    uint32_t n = 0;
    const bool list = v->type == PN_V_LIST;
    for (const pn_value *e = list ? v->first : v; e && n < cap; e = list ? e->next : NULL) {
        int64_t id;
        if (pn_value_i64(e, 0, INT32_MAX, &id)) ids[n++] = (int32_t)id;
    }
    return n;
}
