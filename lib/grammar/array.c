/* Arrays, and arrays and objects that an enum or const gives. */
#include "grammar/schema.h"

typedef struct items {
    pn_compiler *c;
    pn_set set;
    uint32_t prefix, least, most; /* most: UINT32_MAX is no limit */
    pn_nid close;
} items;

static const pn_value *nth(pn_compiler *c, const pn_value *list, uint32_t i)
{
    const pn_value *m = list->first;
    if (i >= list->count || !pn_build_work(&c->build, i)) return NULL;
    while (i-- > 0) m = m->next;
    return m;
}

static pn_nid item(items *x, uint32_t i, pn_nid next)
{
    pn_compiler *c = x->c;
    pn_set s = pn_set_begin(c);
    for (uint32_t k = 0; k < x->set.n; k++) {
        const pn_value *schema = c->pool[x->set.at + k], *own = nth(c, pn_get(schema, "prefixItems"), i);
        if (!own) own = pn_get(schema, "items");
        if (own->type == PN_V_BOOL && !own->flag) return 0;
        if (own->type == PN_V_DICT && !pn_set_add(c, &s, own)) return 0;
    }
    return pn_schema_value(c, s, next);
}

static pn_nid comma(pn_compiler *c, pn_nid next) { return pn_byte(&c->build, ',', ',', pn_schema_blank(c, next)); }

/* Behind the prefix and any number of further items; *first: where the first of them begins, when there is no prefix. */
static pn_nid tail(items *x, pn_nid *first)
{
    pn_compiler *c = x->c;
    pn_build *b = &c->build;
    const uint32_t least = x->least > x->prefix ? x->least - x->prefix : 0;
    const uint32_t most = x->most == UINT32_MAX ? UINT32_MAX : x->most > x->prefix ? x->most - x->prefix : 0;
    const bool counts = least > 0 || most != UINT32_MAX;
    const pn_nid after = pn_node_new(b, (pn_node){.kind = N_SPLIT}), one = most ? item(x, x->prefix, after) : 0;
    const uint32_t limit = most == UINT32_MAX ? least : most;
    pn_nid more = comma(c, one);
    *first = pn_schema_blank(c, one);
    if (counts) {
        more = pn_count(b, COUNT_ITEMS, limit, most == UINT32_MAX, more);
        *first = pn_count(b, COUNT_ITEMS, limit, most == UINT32_MAX, *first);
    }
    if (b->status) return 0;
    b->g->nodes[after].next = counts ? pn_check(b, COUNT_ITEMS, least, x->close) : x->close;
    b->g->nodes[after].arg = more;
    return after;
}

static pn_nid all_items(items *x)
{
    pn_build *b = &x->c->build;
    pn_nid first = 0, after = tail(x, &first);
    for (uint32_t i = x->prefix; i-- > 0 && !b->status;) { /* after: behind item i */
        const pn_nid one = i < x->most ? item(x, i, after) : 0;
        first = pn_schema_blank(x->c, one);
        after = pn_split(b, i >= x->least ? x->close : 0, comma(x->c, one));
    }
    return pn_split(b, first, x->least == 0 ? x->close : 0);
}

pn_nid pn_array_body(pn_compiler *c, const pn_job *job, uint32_t rule)
{
    items x = {.c = c, .set = job->set, .most = UINT32_MAX};
    for (uint32_t i = 0; i < job->set.n; i++) {
        const pn_value *schema = c->pool[job->set.at + i];
        uint32_t least = 0, most = UINT32_MAX;
        if (!pn_count_of(c, schema, "minItems", &least) || !pn_count_of(c, schema, "maxItems", &most)) return 0;
        x.least = PN_MAX(x.least, least);
        x.most = PN_MIN(x.most, most);
        x.prefix = PN_MAX(x.prefix, (uint32_t)PN_MIN(pn_get(schema, "prefixItems")->count, (size_t)COUNT_MOST));
    }
    if (x.least > x.most) return 0;
    x.close = pn_schema_blank(c, pn_byte(&c->build, ']', ']', pn_final(&c->build, rule)));
    return all_items(&x);
}

static pn_nid const_members(pn_compiler *c, const pn_value *const *members, size_t n, bool object, pn_nid close)
{
    pn_nid at = close;
    if (n == 0) return at;
    for (size_t i = n; i-- > 0 && !c->build.status;) {
        at = pn_schema_const(c, members[i], at);
        if (object) at = pn_schema_key(c, members[i]->key, at);
        if (i > 0) at = comma(c, at);
    }
    return pn_schema_blank(c, at);
}

pn_nid pn_const_body(pn_compiler *c, const pn_job *job, uint32_t rule)
{
    pn_build *b = &c->build;
    const pn_value *v = c->pool[job->set.at];
    const bool object = v->type == PN_V_DICT;
    const uint32_t closing = object ? '}' : ']';
    const pn_nid close = pn_schema_blank(c, pn_byte(b, closing, closing, pn_final(b, rule)));
    const size_t bytes = v->count * sizeof v;
    const pn_value **members = pn_alloc(b->a, bytes);
    size_t n = 0;
    if (!members) {
        b->status = pn_nomem(b->err, bytes);
        return 0;
    }
    for (const pn_value *m = v->first; m; m = m->next) members[n++] = m;
    const pn_nid at = const_members(c, members, n, object, close);
    pn_free(b->a, members, bytes);
    return at;
}
