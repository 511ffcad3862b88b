/* Tool definitions: read and checked once, then asked for names and types. */
#include <stdatomic.h>

#include "chat/value.h"

enum { MOST_TOOLS = 1024, MOST_NAME = 128, MOST_BYTES = 16 << 20, MOST_DEPTH = 64 };

typedef struct tool {
    pn_str name;
    const pn_value *schema; /* undefined when it has none */
    size_t from, n;         /* its JSON text */
} tool;

struct pn_tools {
    const ponder_alloc *a;
    _Atomic uint32_t refs;
    pn_json doc;
    pn_buf schemas;
    tool *tools;
    size_t n, cap;
    pn_value list;          /* the definitions as templates take them: bare ones are wrapped */
    pn_value *wraps;        /* two values for each tool */
};

/* ---- checks ------------------------------------------------------------------------------------------------------- */

/* A name stands in headers ("to=ns.fn") and in attributes, unescaped. */
static bool name_ok(pn_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        const unsigned char c = (unsigned char)s.p[i];
        if (c <= ' ' || c == 0x7f || strchr("<>\"'\\", c)) return false;
    }
    return s.n > 0 && s.n <= MOST_NAME && s.p[0] != '.' && s.p[s.n - 1] != '.';
}

static bool reserved(pn_str s)
{
    return pn_str_eq(s, "self") || pn_str_eq(s, "user") || pn_str_eq(s, "commentary");
}

/* Levels below v, found by walking its links. */
static size_t depth_of(const pn_value *v)
{
    const pn_value *const root = v;
    size_t depth = 0, most = 0;
    for (;;) {
        if (v->first) {
            v = v->first;
            if (++depth > most) most = depth;
            continue;
        }
        for (; v != root && !v->next; depth--) v = v->parent;
        if (v == root) return most;
        v = v->next;
    }
}

static ponder_status check_schema(const tool *t, ponder_error *err)
{
    const pn_value *type = pn_get(t->schema, "type"), *properties = pn_get(t->schema, "properties");
    const int n = (int)t->name.n;
    if (t->schema->type != PN_V_DICT)
        return pn_fail(err, PONDER_E_FORMAT, "tool \"%.*s\": parameters is not a JSON Schema object", n, t->name.p);
    if (type->type != PN_V_UNDEFINED && !pn_is(type, "object"))
        return pn_fail(err, PONDER_E_FORMAT, "tool \"%.*s\": the type of parameters is not \"object\"", n, t->name.p);
    if (properties->type > PN_V_NONE && properties->type != PN_V_DICT)
        return pn_fail(err, PONDER_E_FORMAT, "tool \"%.*s\": properties is not an object", n, t->name.p);
    if (depth_of(t->schema) >= MOST_DEPTH)
        return pn_fail(err, PONDER_E_RANGE, "tool \"%.*s\": parameters nested more than %d deep", n, t->name.p, (int)MOST_DEPTH);
    return PONDER_OK;
}

static ponder_status read_tool(pn_tools *all, const pn_value *v, ponder_error *err)
{
    static const pn_value undefined = {0};
    tool *t = &all->tools[all->n];
    const pn_value *given = pn_get(v, "function"), *fn = given->type == PN_V_UNDEFINED ? v : given;
    const pn_value *name = pn_get(fn, "name"), *description = pn_get(fn, "description");
    if (name->type != PN_V_STRING) return pn_fail(err, PONDER_E_FORMAT, "tool %zu has no name", all->n);
    *t = (tool){.name = name->text, .schema = pn_get(fn, "parameters"), .from = all->schemas.n};
    const int n = (int)PN_MIN(t->name.n, (size_t)MOST_NAME);
    if (!name_ok(t->name) || reserved(t->name))
        return pn_fail(err, PONDER_E_FORMAT, "tool %zu: \"%.*s\" cannot be a tool's name", all->n, n, t->name.p);
    if (description->type > PN_V_NONE && description->type != PN_V_STRING)
        return pn_fail(err, PONDER_E_FORMAT, "tool \"%.*s\": description is not a string", n, t->name.p);
    if (pn_tools_find(all, t->name) >= 0) return pn_fail(err, PONDER_E_FORMAT, "tool \"%.*s\" is there twice", n, t->name.p);
    if (t->schema->type == PN_V_NONE) t->schema = &undefined;
    if (t->schema->type == PN_V_UNDEFINED) {
        all->n++;
        return PONDER_OK;
    }
    const ponder_status st = check_schema(t, err);
    if (st != PONDER_OK) return st;
    pn_py_json(&all->schemas, t->schema, 0);
    t->n = all->schemas.n - t->from;
    all->n++;
    return all->schemas.failed ? pn_nomem(err, all->schemas.n) : PONDER_OK;
}

/* The next definition, taken from the list as read, as {"type": "function", "function": ...}. */
static void wrap(pn_tools *t, pn_value *v)
{
    pn_value *const whole = &t->wraps[2 * t->list.count], *const type = whole + 1;
    const bool bare = pn_get(v, "function")->type == PN_V_UNDEFINED;
    v->next = NULL;
    if (bare) {
        *whole = (pn_value){.type = PN_V_DICT};
        *type = (pn_value){.type = PN_V_STRING, .key = pn_str_of("type"), .text = pn_str_of("function")};
        v->key = pn_str_of("function");
        pn_value_append(whole, type);
        pn_value_append(whole, v);
    }
    pn_value_append(&t->list, bare ? whole : v);
}

static ponder_status wrap_all(pn_tools *t, ponder_error *err)
{
    pn_value *next = pn_json_root(&t->doc)->first;
    t->list.type = PN_V_LIST;
    t->wraps = pn_zalloc_array(t->a, t->cap, 2 * sizeof *t->wraps);
    if (!t->wraps) return pn_nomem(err, t->cap * 2 * sizeof *t->wraps);
    for (pn_value *v = next; v; v = next) {
        next = v->next;
        wrap(t, v);
    }
    pn_mark_namespaces(&t->list);
    return PONDER_OK;
}

static ponder_status read_all(pn_tools *t, ponder_error *err)
{
    const pn_value *root = pn_json_root(&t->doc);
    if (root->type != PN_V_LIST) return pn_fail(err, PONDER_E_FORMAT, "tools: not a JSON list");
    if (root->count > MOST_TOOLS) return pn_fail(err, PONDER_E_RANGE, "tools: %u of them, more than %d", root->count, (int)MOST_TOOLS);
    t->cap = root->count;
    t->tools = pn_zalloc_array(t->a, t->cap, sizeof *t->tools);
    if (!t->tools) return pn_nomem(err, t->cap * sizeof *t->tools);
    for (const pn_value *v = root->first; v; v = v->next) {
        if (v->type != PN_V_DICT) return pn_fail(err, PONDER_E_FORMAT, "tool %zu is not an object", t->n);
        const ponder_status st = read_tool(t, v, err);
        if (st != PONDER_OK) return st;
    }
    return wrap_all(t, err);
}

ponder_status pn_tools_read(pn_tools **out, const char *json, size_t n, const ponder_alloc *a, ponder_error *err)
{
    *out = NULL;
    if (n > MOST_BYTES) return pn_fail(err, PONDER_E_RANGE, "tools: more than %d bytes", (int)MOST_BYTES);
    pn_tools *t = pn_zalloc(a, sizeof *t);
    if (!t) return pn_nomem(err, sizeof *t);
    t->a = a;
    atomic_init(&t->refs, 1);
    pn_buf_init(&t->schemas, a);
    const pn_json_options o = {.what = "tools"};
    ponder_status st = pn_json_read_as(&t->doc, json, n, &o, a, err);
    if (st == PONDER_OK) st = read_all(t, err);
    if (st == PONDER_OK) *out = t;
    else pn_tools_free(t);
    return st;
}

pn_tools *pn_tools_hold(const pn_tools *t)
{
    pn_tools *own = (pn_tools *)(uintptr_t)t;
    if (own) atomic_fetch_add(&own->refs, 1);
    return own;
}

void pn_tools_free(const pn_tools *t)
{
    pn_tools *own = (pn_tools *)(uintptr_t)t;
    if (!own || atomic_fetch_sub(&own->refs, 1) != 1) return;
    pn_json_free(&own->doc);
    pn_buf_free(&own->schemas);
    pn_free(own->a, own->tools, own->tools ? own->cap * sizeof *own->tools : 0);
    pn_free(own->a, own->wraps, own->wraps ? own->cap * 2 * sizeof *own->wraps : 0);
    pn_free(own->a, own, sizeof *own);
}

/* ---- questions ---------------------------------------------------------------------------------------------------- */

const pn_value *pn_tools_list(const pn_tools *t)
{
    static const pn_value undefined = {0};
    return t && t->n ? &t->list : &undefined;
}

size_t pn_tools_count(const pn_tools *t)
{
    return t ? t->n : 0;
}

pn_str pn_tools_name(const pn_tools *t, size_t i)
{
    return i < pn_tools_count(t) ? t->tools[i].name : (pn_str){"", 0};
}

pn_str pn_tools_parameters(const pn_tools *t, size_t i)
{
    if (i >= pn_tools_count(t) || !t->tools[i].n) return (pn_str){"", 0};
    return (pn_str){t->schemas.p + t->tools[i].from, t->tools[i].n};
}

int32_t pn_tools_find(const pn_tools *t, pn_str name)
{
    for (size_t i = 0; i < pn_tools_count(t); i++) {
        const pn_str s = t->tools[i].name;
        if (s.n == name.n && memcmp(s.p, name.p, s.n) == 0) return (int32_t)i;
    }
    return -1;
}

/* ---- types -------------------------------------------------------------------------------------------------------- */

static uint32_t type_of_name(const pn_value *v)
{
    static const char *const names[] = {"string", "integer", "number", "boolean", "null", "array", "object"};
    for (size_t i = 0; i < PN_COUNT(names); i++)
        if (pn_is(v, names[i])) return 1u << i;
    return 0;
}

static uint32_t type_of_value(const pn_value *v)
{
    switch (v->type) {
    case PN_V_STRING: return PN_TYPE_STRING;
    case PN_V_INT: return PN_TYPE_INTEGER;
    case PN_V_FLOAT: return PN_TYPE_NUMBER;
    case PN_V_BOOL: return PN_TYPE_BOOLEAN;
    case PN_V_NONE: return PN_TYPE_NULL;
    case PN_V_LIST: return PN_TYPE_ARRAY;
    case PN_V_DICT: return PN_TYPE_OBJECT;
    default: return 0;
    }
}

/* "#/$defs/Name/..." from the tool's own schema; undefined for what is not found and for references to elsewhere. */
static const pn_value *refer(const pn_value *root, pn_str path)
{
    static const pn_value undefined = {0};
    const pn_value *v = root;
    if (path.n == 0 || path.p[0] != '#') return &undefined;
    for (size_t at = 1; at < path.n;) {
        if (path.p[at++] != '/') return &undefined;
        const char *slash = memchr(path.p + at, '/', path.n - at);
        const size_t end = slash ? (size_t)(slash - path.p) : path.n;
        v = pn_named(v, (pn_str){path.p + at, end - at});
        at = end;
    }
    return v;
}

/* Schemas still to be looked at: unions and references lead on, and may lead round in a circle. */
typedef struct walk {
    const pn_value *root, *open[32];
    size_t n;
    unsigned left;
    bool unknown;
} walk;

static void lead_on(walk *w, const pn_value *schema)
{
    if (w->n < PN_COUNT(w->open)) w->open[w->n++] = schema;
    else w->unknown = true;
}

static bool lead_list(walk *w, const pn_value *list)
{
    if (list->type != PN_V_LIST || !list->first) return false;
    for (const pn_value *v = list->first; v; v = v->next) lead_on(w, v);
    return true;
}

static uint32_t types_named(const pn_value *type)
{
    uint32_t types = type_of_name(type);
    for (const pn_value *v = type->type == PN_V_LIST ? type->first : NULL; v; v = v->next) types |= type_of_name(v);
    return types;
}

static uint32_t types_listed(const pn_value *schema)
{
    const pn_value *list = pn_get(schema, "enum");
    uint32_t types = type_of_value(pn_get(schema, "const"));
    for (const pn_value *v = list->type == PN_V_LIST ? list->first : NULL; v; v = v->next) types |= type_of_value(v);
    return types;
}

/* What one schema says by itself; else where it leads. */
static uint32_t types_here(walk *w, const pn_value *schema)
{
    uint32_t types = types_named(pn_get(schema, "type"));
    if (!types) types = types_listed(schema);
    if (!types && pn_get(schema, "properties")->type == PN_V_DICT) types = PN_TYPE_OBJECT;
    if (!types && pn_get(schema, "items")->type == PN_V_DICT) types = PN_TYPE_ARRAY;
    if (types) return types | (pn_truth(pn_get(schema, "nullable")) ? PN_TYPE_NULL : 0);
    const pn_value *ref = pn_get(schema, "$ref");
    if (ref->type == PN_V_STRING) lead_on(w, refer(w->root, ref->text));
    else if (!lead_list(w, pn_get(schema, "anyOf")) && !lead_list(w, pn_get(schema, "oneOf")) && !lead_list(w, pn_get(schema, "allOf")))
        w->unknown = true;
    return 0;
}

uint32_t pn_tools_types(const pn_tools *t, size_t i, pn_str parameter)
{
    if (i >= pn_tools_count(t)) return 0;
    walk w = {.root = t->tools[i].schema, .left = 256};
    const pn_value *schema = pn_named(pn_get(w.root, "properties"), parameter);
    if (schema->type == PN_V_UNDEFINED) schema = pn_get(w.root, "additionalProperties");
    uint32_t types = 0;
    for (lead_on(&w, schema); w.n && w.left; w.left--) types |= types_here(&w, w.open[--w.n]);
    return w.unknown || w.n ? 0 : types;
}
