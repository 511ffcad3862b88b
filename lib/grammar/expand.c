/* allOf, anyOf, oneOf and $ref, taken apart: a set of schemas becomes the ways to fulfil it. */
#include "grammar/schema.h"

pn_set pn_set_begin(pn_compiler *c) { return (pn_set){(uint32_t)c->n_pool, 0}; }

bool pn_set_add(pn_compiler *c, pn_set *s, const pn_value *schema)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (c->pool[s->at + i] == schema) return true;
    if (s->n == SET_MOST) {
        pn_schema_fail(c, PONDER_E_RANGE, schema, "", "too many schemas for one value");
        return false;
    }
    if (c->n_pool >= UINT32_MAX / 2 || !pn_build_room(&c->build, (void **)&c->pool, &c->cap_pool, c->n_pool, sizeof *c->pool)) return false;
    c->pool[c->n_pool++] = schema;
    s->n++;
    return true;
}

/* One way under way: the schemas met so far, the first `at` of them done. `from` is where a schema came from, so that one
 * that leads back to itself is seen. */
typedef struct entry { const pn_value *schema; uint32_t from; } entry;
typedef struct way {
    uint32_t n, at, stage; /* stage of entry `at`: 0 nothing done, 1 allOf and $ref, 2 anyOf too */
    entry e[CHAIN_MOST];
} way;

typedef struct expansion {
    pn_compiler *c;
    way **ways; /* a stack */
    size_t n, cap, made;
    pn_alternatives *out;
} expansion;

static void add_entry(pn_compiler *c, way *w, const pn_value *schema, uint32_t from)
{
    if (c->build.status || !pn_build_work(&c->build, 4)) return;
    for (uint32_t up = from; up != UINT32_MAX; up = w->e[up].from) {
        if (w->e[up].schema != schema) continue;
        pn_schema_fail(c, PONDER_E_RANGE, schema, "$ref", "leads back to itself without an array or object between");
        return;
    }
    if (schema->type != PN_V_DICT && schema->type != PN_V_BOOL) pn_schema_fail(c, PONDER_E_FORMAT, schema, "", "is no schema");
    else if (w->n == CHAIN_MOST) pn_schema_fail(c, PONDER_E_RANGE, schema, "", "too many schemas in a chain of $ref, allOf, anyOf and oneOf");
    else w->e[w->n++] = (entry){schema, from};
}

static way *new_way(expansion *x, const way *like)
{
    pn_compiler *c = x->c;
    if (x->made++ >= ALTERNATIVES_MOST) {
        pn_schema_fail(c, PONDER_E_RANGE, like ? like->e[like->at].schema : c->pool[0], "", "anyOf and oneOf multiply to too many ways");
        return NULL;
    }
    if (!pn_build_work(&c->build, 64) || !pn_build_room(&c->build, (void **)&x->ways, &x->cap, x->n, sizeof *x->ways)) return NULL;
    way *w = pn_alloc(c->build.a, sizeof *w);
    if (!w) {
        c->build.status = pn_nomem(c->build.err, sizeof *w);
        return NULL;
    }
    w->n = w->at = w->stage = 0;
    if (like) {
        w->n = like->n;
        w->at = like->at;
        w->stage = like->stage;
        memcpy(w->e, like->e, like->n * sizeof *w->e);
    }
    x->ways[x->n++] = w;
    return w;
}

/* Keywords of its own, which say something about a value? */
static bool is_plain(const pn_value *schema)
{
    static const char *const plain[] = {"type", "enum", "const", "properties", "required", "additionalProperties", "items",
        "prefixItems", "minItems", "maxItems", "minLength", "maxLength", "pattern", "format", "minimum", "maximum",
        "exclusiveMinimum", "exclusiveMaximum", "multipleOf"};
    for (size_t i = 0; i < PN_COUNT(plain); i++)
        if (pn_get(schema, plain[i])->type != PN_V_UNDEFINED) return true;
    return false;
}

static bool finish(expansion *x, const way *w)
{
    pn_compiler *c = x->c;
    pn_alternatives *out = x->out;
    if (!pn_build_room(&c->build, (void **)&out->sets, &out->cap, out->n, sizeof *out->sets)) return false;
    pn_set s = pn_set_begin(c);
    for (uint32_t i = 0; i < w->n; i++)
        if (w->e[i].schema->type == PN_V_DICT && is_plain(w->e[i].schema) && !pn_set_add(c, &s, w->e[i].schema)) return false;
    out->sets[out->n++] = s;
    return true;
}

/* Types that the schemas around a oneOf leave. */
static uint32_t types_around(const way *w)
{
    uint32_t types = TYPE_ANY;
    for (uint32_t i = 0; i < w->n; i++)
        if (w->e[i].schema->type == PN_V_DICT) types &= pn_types_of(w->e[i].schema);
    return types;
}

static bool branches_apart(pn_compiler *c, const way *w, const pn_value *list)
{
    if (c->comparing) return true; /* already inside such a comparison, which may take more for possible than is */
    const uint32_t types = types_around(w);
    for (const pn_value *a = list->first; a; a = a->next)
        for (const pn_value *b = a->next; b; b = b->next) {
            if (pn_oneof_apart(c, a, b, types)) continue;
            pn_schema_fail(c, PONDER_E_UNSUPPORTED, w->e[w->at].schema, "oneOf", "its branches cannot be told apart by types, enums, ranges or a required member (anyOf is supported)");
            return false;
        }
    return true;
}

static void branch(expansion *x, const way *w, const pn_value *list, uint32_t stage)
{
    if (stage == 3 && !branches_apart(x->c, w, list)) return;
    for (const pn_value *m = list->first; m && !x->c->build.status; m = m->next) {
        way *copy = new_way(x, w);
        if (!copy) return;
        copy->stage = stage;
        add_entry(x->c, copy, m, w->at);
    }
}

static void conjoin(pn_compiler *c, way *w)
{
    const pn_value *schema = w->e[w->at].schema, *ref = pn_get(schema, "$ref"), *all = pn_get(schema, "allOf");
    if (ref->type == PN_V_STRING) {
        const pn_value *to = pn_schema_ref(c, schema, ref);
        if (to) add_entry(c, w, to, w->at);
    }
    for (const pn_value *m = all->first; m && !c->build.status; m = m->next) add_entry(c, w, m, w->at);
    w->stage = 1;
}

/* Goes on with a way until it is whole, dies (false) or branches (false; its copies are on the stack). */
static bool go_on(expansion *x, way *w)
{
    pn_compiler *c = x->c;
    for (; w->at < w->n && !c->build.status; w->at++, w->stage = 0) {
        const pn_value *schema = w->e[w->at].schema;
        if (schema->type == PN_V_BOOL) {
            if (!schema->flag) return false;
            continue;
        }
        if (!pn_keywords_ok(c, schema)) return false;
        if (w->stage == 0) conjoin(c, w);
        const pn_value *any = pn_get(schema, "anyOf"), *one = pn_get(schema, "oneOf");
        if (w->stage == 1 && any->count) {
            branch(x, w, any, 2);
            return false;
        }
        if (w->stage <= 2 && one->count) {
            branch(x, w, one, 3);
            return false;
        }
    }
    return !c->build.status;
}

bool pn_expand(pn_compiler *c, pn_set s, pn_alternatives *out)
{
    expansion x = {.c = c, .out = out};
    *out = (pn_alternatives){0};
    way *first = new_way(&x, NULL);
    for (uint32_t i = 0; first && i < s.n; i++) add_entry(c, first, c->pool[s.at + i], UINT32_MAX);
    while (x.n > 0) {
        way *w = x.ways[--x.n];
        if (!c->build.status && go_on(&x, w)) finish(&x, w);
        pn_free(c->build.a, w, sizeof *w);
    }
    pn_free(c->build.a, x.ways, x.cap * sizeof *x.ways);
    if (!c->build.status) return true;
    pn_alternatives_free(c, out);
    return false;
}

void pn_alternatives_free(pn_compiler *c, pn_alternatives *x)
{
    pn_free(c->build.a, x->sets, x->cap * sizeof *x->sets);
    *x = (pn_alternatives){0};
}
