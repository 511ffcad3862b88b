/* What the readers of JSON ask of a value. */
#include "base/json.h"

#include <math.h>

const pn_value *pn_get(const pn_value *v, const char *key)
{
    static const pn_value undefined = {0};
    if (v->type == PN_V_DICT)
        for (const pn_value *m = v->first; m; m = m->next)
            if (pn_str_eq(m->key, key)) return m;
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

bool pn_value_i64(const pn_value *v, int64_t lo, int64_t hi, int64_t *out)
{
    if (v->type != PN_V_INT) return false;
    const bool minus = v->text.p[0] == '-';
    int64_t n = 0;
    for (size_t i = minus; i < v->text.n; i++) { /* downwards for a negative one: -2^63 has no positive twin */
        const int digit = v->text.p[i] - '0';
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, minus ? -digit : digit, &n)) return false;
    }
    if (n < lo || n > hi) return false;
    *out = n;
    return true;
}

bool pn_value_f64(const pn_value *v, double *out)
{
    double d = v->real;
    if (v->type == PN_V_INT) {
        const bool minus = v->text.p[0] == '-';
        d = pn_decimal(v->text.p + minus, v->text.n - minus, 0);
        if (minus) d = -d;
    } else if (v->type != PN_V_FLOAT) {
        return false;
    }
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
