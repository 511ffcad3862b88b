/* What one way to fulfil a set says about null, booleans, numbers and strings, all its schemas together. */
#include "grammar/schema.h"

bool pn_count_of(pn_compiler *c, const pn_value *schema, const char *keyword, uint32_t *out)
{
    const pn_value *v = pn_get(schema, keyword);
    double d;
    if (v->type == PN_V_UNDEFINED) return true;
    if (!pn_value_f64(v, &d) || d > COUNT_MOST) {
        pn_schema_fail(c, PONDER_E_RANGE, schema, keyword, "more than 1000000");
        return false;
    }
    *out = (uint32_t)d;
    return true;
}

size_t pn_code_points(pn_str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) n += ((uint8_t)s.p[i] & 0xc0) != 0x80;
    return n;
}

static void tighten(pn_bound *have, const pn_bound *x, bool upper)
{
    const int order = have->set ? pn_bound_compare(x, have) : 0;
    const bool tighter = !have->set || (upper ? order < 0 : order > 0) || (order == 0 && x->open);
    if (tighter) *have = *x;
}

static bool bound(pn_compiler *c, const pn_value *schema, const char *keyword, bool open, bool upper, pn_facts *f)
{
    const pn_value *v = pn_get(schema, keyword);
    pn_bound x;
    if (v->type == PN_V_UNDEFINED) return true;
    if (!pn_bound_read(&x, v)) {
        pn_schema_fail(c, PONDER_E_RANGE, schema, keyword, "more than 20 digits after the point");
        return false;
    }
    x.open = open;
    tighten(upper ? &f->number.hi : &f->number.lo, &x, upper);
    return true;
}

static bool multiple(pn_compiler *c, const pn_value *schema, pn_facts *f)
{
    const pn_value *v = pn_get(schema, "multipleOf");
    double d;
    if (v->type == PN_V_UNDEFINED) return true;
    const bool whole = pn_value_f64(v, &d) && d >= 1 && d <= NUMBER_MULTIPLE && d == (double)(uint32_t)d;
    uint32_t m = whole ? (uint32_t)d : 0, both = f->number.multiple;
    for (uint32_t k = 1; m && both % m && k < NUMBER_MULTIPLE; k++) both += f->number.multiple;
    if (!m || both % m || both > NUMBER_MULTIPLE) {
        pn_schema_fail(c, PONDER_E_UNSUPPORTED, schema, "multipleOf", "only whole numbers from 1 to 128 are supported");
        return false;
    }
    f->number.multiple = both;
    return true;
}

static bool numbers(pn_compiler *c, const pn_value *schema, pn_facts *f)
{
    return bound(c, schema, "minimum", false, false, f) && bound(c, schema, "maximum", false, true, f) &&
           bound(c, schema, "exclusiveMinimum", true, false, f) && bound(c, schema, "exclusiveMaximum", true, true, f) &&
           multiple(c, schema, f);
}

static bool take_pattern(pn_compiler *c, const pn_value *schema, const char *keyword, const pn_value **have, pn_facts *f)
{
    const pn_value *v = pn_get(schema, keyword), *old = f->pattern ? f->pattern : f->format;
    if (v->type == PN_V_UNDEFINED) return true;
    if (old && (!*have || (*have)->text.n != v->text.n || memcmp((*have)->text.p, v->text.p, v->text.n) != 0)) {
        pn_schema_fail(c, PONDER_E_UNSUPPORTED, schema, keyword, "a second pattern or format for one string is not supported");
        return false;
    }
    *have = v;
    f->holder = schema;
    return true;
}

static bool strings(pn_compiler *c, const pn_value *schema, pn_facts *f)
{
    uint32_t least = 0, most = UINT32_MAX;
    if (!pn_count_of(c, schema, "minLength", &least) || !pn_count_of(c, schema, "maxLength", &most)) return false;
    f->least = PN_MAX(f->least, least);
    f->most = PN_MIN(f->most, most);
    return take_pattern(c, schema, "pattern", &f->pattern, f) && take_pattern(c, schema, "format", &f->format, f);
}

static void fixed(const pn_value *schema, pn_facts *f)
{
    const pn_value *one = pn_get(schema, "const"), *list = pn_get(schema, "enum");
    if (f->is_const) return;
    if (one->type != PN_V_UNDEFINED) {
        f->fixed = one;
        f->is_const = true;
    } else if (list->count && !f->fixed) {
        f->fixed = list;
    }
}

static void shape(const pn_value *schema, pn_facts *f)
{
    static const char *const words[] = {"properties", "required", "items", "prefixItems", "minItems", "maxItems"};
    const pn_value *more = pn_get(schema, "additionalProperties");
    for (size_t i = 0; i < PN_COUNT(words); i++)
        if (pn_get(schema, words[i])->type != PN_V_UNDEFINED) f->shape = schema;
    if (more->type != PN_V_UNDEFINED && !(more->type == PN_V_BOOL && more->flag)) f->shape = schema;
}

bool pn_facts_of(pn_compiler *c, pn_set s, pn_facts *f)
{
    *f = (pn_facts){.types = TYPE_ANY, .most = UINT32_MAX, .number = {.multiple = 1}};
    for (uint32_t i = 0; i < s.n; i++) f->types &= pn_types_of(c->pool[s.at + i]);
    for (uint32_t i = 0; i < s.n; i++) {
        const pn_value *schema = c->pool[s.at + i];
        if ((f->types & (TYPE_INT | TYPE_REAL)) && !numbers(c, schema, f)) return false;
        if ((f->types & TYPE_STRING) && !strings(c, schema, f)) return false;
        fixed(schema, f);
        if (f->types & (TYPE_ARRAY | TYPE_OBJECT)) shape(schema, f);
    }
    f->number.integer = !(f->types & TYPE_REAL);
    return pn_build_work(&c->build, 32 * (s.n + 1));
}

/* ---- values that are given ------------------------------------------------------------------------------------------------------ */

static bool same_scalar(const pn_value *a, const pn_value *b)
{
    pn_bound x, y;
    if (pn_type_of_value(a) != pn_type_of_value(b)) return false;
    switch (a->type) {
    case PN_V_BOOL: return a->flag == b->flag;
    case PN_V_INT: case PN_V_FLOAT:
        return pn_bound_read(&x, a) && pn_bound_read(&y, b) && !x.huge && !y.huge && pn_bound_compare(&x, &y) == 0;
    case PN_V_STRING: return a->text.n == b->text.n && memcmp(a->text.p, b->text.p, a->text.n) == 0;
    default: return true;
    }
}

/* Both at once, member by member in the order they are written; nothing recurses. */
bool pn_value_same(const pn_value *a, const pn_value *b)
{
    const pn_value *const top = a;
    for (;;) {
        if (!same_scalar(a, b) || a->count != b->count) return false;
        if (a != top && (a->key.n != b->key.n || (a->key.n && memcmp(a->key.p, b->key.p, a->key.n) != 0))) return false;
        if (a->first) {
            a = a->first;
            b = b->first;
            continue;
        }
        while (a != top && !a->next) {
            a = a->parent;
            b = b->parent;
        }
        if (a == top) return true;
        a = a->next;
        b = b->next;
    }
}

bool pn_is_member(const pn_value *v, const pn_value *list)
{
    for (const pn_value *m = list->first; m; m = m->next)
        if (pn_value_same(v, m)) return true;
    return false;
}

static bool fits_type(pn_compiler *c, const pn_facts *f, const pn_value *v)
{
    const uint32_t type = pn_type_of_value(v);
    if (!(type & f->types)) return false;
    if (type & (TYPE_INT | TYPE_REAL)) return pn_number_holds(&f->number, v);
    if (type == TYPE_STRING) {
        const size_t n = pn_code_points(v->text);
        if (f->holder) pn_schema_fail(c, PONDER_E_UNSUPPORTED, f->holder, "pattern", "beside enum or const is not supported");
        return n >= f->least && n <= f->most;
    }
    if ((type & (TYPE_ARRAY | TYPE_OBJECT)) && f->shape)
        pn_schema_fail(c, PONDER_E_UNSUPPORTED, f->shape, "enum", "of arrays or objects beside their keywords is not supported");
    return true;
}

bool pn_fixed_holds(pn_compiler *c, const pn_facts *f, pn_set s, const pn_value *v)
{
    if (!fits_type(c, f, v)) return false;
    for (uint32_t i = 0; i < s.n && pn_build_work(&c->build, 8); i++) {
        const pn_value *one = pn_get(c->pool[s.at + i], "const"), *list = pn_get(c->pool[s.at + i], "enum");
        if (one->type != PN_V_UNDEFINED && !pn_value_same(v, one)) return false;
        if (list->count && list != f->fixed && !pn_is_member(v, list)) return false;
    }
    return !c->build.status;
}
