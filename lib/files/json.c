#include "files/checkpoint.h"

/* jansson recurses for every [ and {, a few hundred bytes a level: its own limit of 2048 would pass 64 KB of stack.
 * No configuration is nested deeper than this. */
enum { MAX_DEPTH = 32 };

ponder_status pn_json_parse(json_t **out, const void *p, size_t n, bool big_numbers, const char *what, ponder_error *err)
{
    *out = NULL;
    if (!pn_json_depth_ok(p, n, MAX_DEPTH)) return pn_fail(err, PONDER_E_FORMAT, "%s: nested deeper than %d levels", what, MAX_DEPTH);
    json_error_t e = {0}; /* jansson leaves it alone when its very first allocation fails */
    /* Integers beyond 64 bits occur (model_max_length): as reals they do no harm. */
    *out = json_loadb(p, n, big_numbers ? JSON_DECODE_INT_AS_REAL : 0, &e);
    if (*out) return PONDER_OK;
    if (!e.text[0] || json_error_code(&e) == json_error_out_of_memory) return pn_fail(err, PONDER_E_NOMEM, "%s: no memory", what);
    return pn_fail(err, PONDER_E_FORMAT, "%s: line %d, column %d: %s", what, e.line, e.column, e.text);
}

ponder_status pn_json_source(json_t **out, pn_source *s, bool big_numbers, const char *what, ponder_error *err)
{
    enum { MAX_BYTES = 64 << 20 };
    *out = NULL;
    uint64_t n = pn_source_size(s);
    if (n > MAX_BYTES) return pn_fail(err, PONDER_E_FORMAT, "%s: larger than 64 MB", what);
    const uint8_t *p = pn_source_view(s, 0, n);
    if (!p) return pn_fail(err, PONDER_E_IO, "%s: cannot be mapped", what);
    ponder_status status = pn_json_parse(out, p, (size_t)n, big_numbers, what, err);
    if (status == PONDER_OK && !json_is_object(*out)) {
        json_decref(*out);
        *out = NULL;
        return pn_fail(err, PONDER_E_FORMAT, "%s: not a JSON object", what);
    }
    return status;
}

uint32_t pn_json_ids(const json_t *v, int32_t *ids, uint32_t cap)
{
    uint32_t n = 0;
    size_t many = json_is_array(v) ? json_array_size(v) : 1;
    for (size_t i = 0; i < many && n < cap; i++) {
        const json_t *e = json_is_array(v) ? json_array_get(v, i) : v;
        if (!json_is_integer(e)) continue;
        json_int_t id = json_integer_value(e);
        if (id >= 0 && id <= INT32_MAX) ids[n++] = (int32_t)id;
    }
    return n;
}
