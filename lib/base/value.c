/* What the readers of JSON ask of a value. */
#include "base/json.h"

#include <math.h>

static const pn_value undefined;

const pn_value *pn_json_root(const pn_json *doc)
{
    return doc->values ? doc->values : &undefined;
}

const pn_value *pn_named(const pn_value *v, pn_str key)
{
    if (v->type == PN_V_DICT)
        for (const pn_value *m = v->first; m; m = m->next)
            if (m->key.n == key.n && memcmp(m->key.p, key.p, key.n) == 0) return m;
    return &undefined;
}

const pn_value *pn_get(const pn_value *v, const char *key)
{
    return pn_named(v, pn_str_of(key));
}

const pn_value *pn_at(const pn_value *v, size_t i)
{
    if (v->type == PN_V_LIST)
        for (const pn_value *m = v->first; m; m = m->next)
            if (i-- == 0) return m;
    return &undefined;
}

bool pn_is(const pn_value *v, const char *text)
{
    return v->type == PN_V_STRING && pn_str_eq(v->text, text);
}

bool pn_truth(const pn_value *v)
{
    switch (v->type) {
    case PN_V_BOOL: return v->flag;
    case PN_V_INT: return !pn_str_eq(v->text, "0");
    case PN_V_FLOAT: return v->real != 0;
    case PN_V_STRING: return v->text.n > 0;
    case PN_V_LIST: case PN_V_DICT: return v->count > 0;
    default: return false;
    }
}

bool pn_digits_i64(pn_str digits, int64_t lo, int64_t hi, int64_t *out)
{
    const bool minus = digits.p[0] == '-';
    int64_t n = 0;
    for (size_t i = minus; i < digits.n; i++) { /* downwards for a negative one: -2^63 has no positive twin */
        const int digit = digits.p[i] - '0';
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, minus ? -digit : digit, &n)) return false;
    }
    if (n < lo || n > hi) return false;
    *out = n;
    return true;
}

bool pn_value_i64(const pn_value *v, int64_t lo, int64_t hi, int64_t *out)
{
    return v->type == PN_V_INT && pn_digits_i64(v->text, lo, hi, out);
}

bool pn_value_f64(const pn_value *v, double *out)
{
    if (v->type != PN_V_INT && v->type != PN_V_FLOAT) return false;
    const double d = v->type == PN_V_INT ? pn_decimal(v->text) : v->real;
    if (!isfinite(d)) return false;
    *out = d;
    return true;
}

bool pn_value_bool(const pn_value *v, bool *out)
{
    if (v->type != PN_V_BOOL) return false;
    *out = v->flag;
    return true;
}

bool pn_value_str(const pn_value *v, pn_str *out)
{
    if (v->type != PN_V_STRING) return false;
    *out = v->text;
    return true;
}
