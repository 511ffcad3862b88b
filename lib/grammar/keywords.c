/* Which keywords there are, and what their values must be. Whatever is not in the table is refused. */
#include "grammar/schema.h"

typedef enum shape { ANYTHING, SCHEMA, SCHEMAS, SCHEMA_MAP, COUNT, NUMBER, STRING, STRINGS, VALUES, TYPES, ZERO, FALSE } shape;

static const struct keyword { const char *name; shape shape; } table[] = {
    {"type", TYPES}, {"enum", VALUES}, {"const", ANYTHING}, {"properties", SCHEMA_MAP}, {"required", STRINGS},
    {"additionalProperties", SCHEMA}, {"items", SCHEMA}, {"prefixItems", SCHEMAS}, {"minItems", COUNT}, {"maxItems", COUNT},
    {"minLength", COUNT}, {"maxLength", COUNT}, {"pattern", STRING}, {"format", STRING}, {"minimum", NUMBER}, {"maximum", NUMBER},
    {"exclusiveMinimum", NUMBER}, {"exclusiveMaximum", NUMBER}, {"multipleOf", NUMBER}, {"anyOf", SCHEMAS}, {"oneOf", SCHEMAS},
    {"allOf", SCHEMAS}, {"$ref", STRING}, {"$defs", ANYTHING}, {"definitions", ANYTHING},
    {"title", ANYTHING}, {"description", ANYTHING}, {"default", ANYTHING}, {"examples", ANYTHING}, {"example", ANYTHING},
    {"$schema", ANYTHING}, {"$id", ANYTHING}, {"$comment", ANYTHING}, {"$anchor", ANYTHING}, {"deprecated", ANYTHING},
    {"readOnly", ANYTHING}, {"writeOnly", ANYTHING}, {"discriminator", ANYTHING}, {"contentMediaType", ANYTHING},
    {"contentEncoding", ANYTHING}, {"uniqueItems", FALSE}, {"minProperties", ZERO}};

static const char *const type_names[] = {"null", "boolean", "integer", "number", "string", "array", "object"};

static bool is_type(const pn_value *v)
{
    for (size_t i = 0; i < PN_COUNT(type_names); i++)
        if (pn_is(v, type_names[i])) return true;
    return false;
}

static bool is_schema(const pn_value *v) { return v->type == PN_V_DICT || v->type == PN_V_BOOL; }

static bool each(const pn_value *v, pn_value_type type, bool (*test)(const pn_value *))
{
    if (v->type != type) return false;
    for (const pn_value *m = v->first; m; m = m->next)
        if (!test(m)) return false;
    return true;
}

static bool is_string(const pn_value *v) { return v->type == PN_V_STRING; }
static bool is_number(const pn_value *v) { return v->type == PN_V_INT || v->type == PN_V_FLOAT; }
static bool is_count(const pn_value *v) { return is_number(v) && (v->type == PN_V_INT ? v->text.p[0] != '-' : v->real >= 0 && v->real <= 1e15 && v->real == (double)(int64_t)v->real); }

/* NULL: the value is well formed. */
static const char *problem(shape s, const pn_value *v)
{
    switch (s) {
    case SCHEMA: return is_schema(v) ? NULL : "must be a schema (an object, true or false)";
    case SCHEMAS: return each(v, PN_V_LIST, is_schema) && v->count ? NULL : "must be a list of schemas, not empty";
    case SCHEMA_MAP: return each(v, PN_V_DICT, is_schema) ? NULL : "must be an object of schemas";
    case COUNT: return is_count(v) ? NULL : "must be an integer of at least 0";
    case NUMBER: return is_number(v) ? NULL : "must be a number";
    case STRING: return is_string(v) ? NULL : "must be a string";
    case STRINGS: return each(v, PN_V_LIST, is_string) ? NULL : "must be a list of strings";
    case VALUES: return v->type == PN_V_LIST && v->count ? NULL : "must be a list, not empty";
    case TYPES: return is_type(v) || (each(v, PN_V_LIST, is_type) && v->count) ? NULL : "must be null, boolean, integer, number, string, array, object, or a list of them";
    default: return NULL;
    }
}

static bool check(pn_compiler *c, const pn_value *schema, const pn_value *v)
{
    char name[48];
    const size_t n = PN_MIN(v->key.n, sizeof name - 1);
    memcpy(name, v->key.p, n);
    name[n] = 0;
    if (v->key.n >= 2 && v->key.p[0] == 'x' && v->key.p[1] == '-') return true; /* by custom, notes for programs */
    for (size_t i = 0; i < PN_COUNT(table); i++) {
        if (!pn_str_eq(v->key, table[i].name)) continue;
        if (pn_str_eq(v->key, "items") && v->type == PN_V_LIST) break;
        if ((table[i].shape == FALSE && pn_truth(v)) || (table[i].shape == ZERO && pn_truth(v))) break;
        const char *wrong = problem(table[i].shape, v);
        if (wrong) pn_schema_fail(c, PONDER_E_FORMAT, schema, name, wrong);
        return !wrong;
    }
    pn_schema_fail(c, PONDER_E_UNSUPPORTED, schema, name, v->type == PN_V_LIST && pn_str_eq(v->key, "items")
        ? "a list is not supported here (write prefixItems)" : "this keyword is not supported");
    return false;
}

static size_t slot_of(const pn_compiler *c, const pn_value *schema)
{
    const size_t mask = c->cap_checked - 1;
    size_t i = (size_t)((uint64_t)(uintptr_t)schema * 0x9e3779b97f4a7c15u >> 20) & mask;
    while (c->checked[i] && c->checked[i] != schema) i = (i + 1) & mask;
    return i;
}

static bool grow(pn_compiler *c)
{
    const size_t old_n = c->cap_checked, n = old_n ? old_n * 2 : 64;
    const pn_value **old = c->checked, **more = pn_zalloc_array(c->build.a, n, sizeof *more);
    if (!more) {
        c->build.status = pn_nomem(c->build.err, n * sizeof *more);
        return false;
    }
    c->checked = more;
    c->cap_checked = n;
    for (size_t i = 0; i < old_n; i++)
        if (old[i]) c->checked[slot_of(c, old[i])] = old[i];
    pn_free(c->build.a, old, old_n * sizeof *old);
    return true;
}

bool pn_keywords_ok(pn_compiler *c, const pn_value *schema)
{
    if (c->build.status || (c->n_checked * 2 >= c->cap_checked && !grow(c))) return false;
    const size_t i = slot_of(c, schema);
    if (c->checked[i]) return true;
    for (const pn_value *m = schema->first; m && pn_build_work(&c->build, 8); m = m->next)
        if (!check(c, schema, m)) return false;
    c->checked[i] = schema;
    c->n_checked++;
    return !c->build.status;
}

static uint32_t type_bits(const pn_value *v)
{
    static const uint32_t bits[] = {TYPE_NULL, TYPE_BOOL, TYPE_INT, TYPE_INT | TYPE_REAL, TYPE_STRING, TYPE_ARRAY, TYPE_OBJECT};
    for (size_t i = 0; i < PN_COUNT(type_names); i++)
        if (pn_is(v, type_names[i])) return bits[i];
    return 0;
}

uint32_t pn_types_of(const pn_value *schema)
{
    const pn_value *v = pn_get(schema, "type");
    uint32_t all = 0;
    if (v->type == PN_V_UNDEFINED) return TYPE_ANY;
    if (v->type != PN_V_LIST) return type_bits(v);
    for (const pn_value *m = v->first; m; m = m->next) all |= type_bits(m);
    return all;
}

uint32_t pn_type_of_value(const pn_value *v)
{
    switch (v->type) {
    case PN_V_NONE: return TYPE_NULL;
    case PN_V_BOOL: return TYPE_BOOL;
    case PN_V_INT: return TYPE_INT;
    case PN_V_FLOAT: return v->real >= -1e15 && v->real <= 1e15 && v->real == (double)(int64_t)v->real ? TYPE_INT : TYPE_REAL;
    case PN_V_STRING: return TYPE_STRING;
    case PN_V_LIST: return TYPE_ARRAY;
    default: return TYPE_OBJECT;
    }
}
