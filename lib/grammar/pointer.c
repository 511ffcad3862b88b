/* Where in a schema something is: for error texts, and for $ref. */
#include "grammar/schema.h"

static size_t index_of(const pn_value *v)
{
    size_t i = 0;
    for (const pn_value *m = v->parent->first; m && m != v; m = m->next) i++;
    return i;
}

static void put_escaped(pn_buf *b, pn_str key)
{
    for (size_t i = 0; i < key.n; i++) {
        if (key.p[i] == '~') pn_buf_puts(b, "~0");
        else if (key.p[i] == '/') pn_buf_puts(b, "~1");
        else pn_buf_put(b, &key.p[i], key.p[i] != 0);
    }
}

/* From the end backwards there may be hundreds of levels; an error text holds few, so only the last ones are told. */
static void put_pointer(pn_buf *b, const pn_value *v)
{
    const pn_value *way[12];
    size_t n = 0;
    for (; v->parent && n < PN_COUNT(way); v = v->parent) way[n++] = v;
    pn_buf_puts(b, v->parent ? "#/..." : "#");
    while (n-- > 0) {
        pn_buf_puts(b, "/");
        if (way[n]->parent->type == PN_V_DICT) put_escaped(b, way[n]->key);
        else pn_buf_printf(b, "%zu", index_of(way[n]));
    }
    pn_buf_put(b, "", 1);
}

void pn_schema_fail(pn_compiler *c, ponder_status status, const pn_value *at, const char *keyword, const char *text)
{
    pn_buf b;
    if (c->build.status) return;
    pn_buf_init(&b, c->build.a);
    put_pointer(&b, at);
    if (b.failed) c->build.status = pn_nomem(c->build.err, 64);
    else pn_build_fail(&c->build, status, "schema: %.100s: %s%s%s", b.p, keyword, *keyword ? ": " : "", text);
    pn_buf_free(&b);
}

static int hex(char c)
{
    const int lower = c | 0x20;
    return c >= '0' && c <= '9' ? c - '0' : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* One character of a pointer's step inside a URI fragment: %7E and ~0, ~1. */
static bool next_char(pn_str *s, char *c)
{
    *c = *s->p;
    size_t used = 1;
    if (*c == '%') {
        if (s->n < 3 || hex(s->p[1]) < 0 || hex(s->p[2]) < 0) return false;
        *c = (char)(hex(s->p[1]) * 16 + hex(s->p[2]));
        used = 3;
    }
    s->p += used;
    s->n -= used;
    return true;
}

static bool step_name(pn_str *left, pn_buf *name)
{
    char c;
    name->n = 0;
    while (left->n > 0 && *left->p != '/') {
        if (!next_char(left, &c)) return false;
        if (c == '~') {
            if (left->n == 0 || (*left->p != '0' && *left->p != '1')) return false;
            c = *left->p == '0' ? '~' : '/';
            left->p++;
            left->n--;
        }
        pn_buf_put(name, &c, 1);
    }
    return true;
}

static const pn_value *step_to(pn_compiler *c, const pn_value *v, pn_str name)
{
    size_t i = 0, at = 0;
    if (v->type == PN_V_LIST) {
        if (name.n == 0 || name.n > 6) return NULL;
        for (size_t k = 0; k < name.n; k++) {
            if (name.p[k] < '0' || name.p[k] > '9') return NULL;
            at = at * 10 + (size_t)(name.p[k] - '0');
        }
    }
    if (v->type != PN_V_LIST && v->type != PN_V_DICT) return NULL;
    for (const pn_value *m = v->first; m && pn_build_work(&c->build, 1); m = m->next, i++) {
        if (v->type == PN_V_LIST ? i == at : m->key.n == name.n && memcmp(m->key.p, name.p, name.n) == 0) return m;
    }
    return NULL;
}

static const pn_value *follow(pn_compiler *c, const pn_value *root, pn_str left)
{
    pn_buf name;
    const pn_value *at = root;
    pn_buf_init(&name, c->build.a);
    pn_buf_reserve(&name, 1);
    while (at && left.n > 0) {
        const bool ok = *left.p == '/';
        left.p++;
        left.n--;
        at = ok && step_name(&left, &name) && !name.failed ? step_to(c, at, (pn_str){name.p, name.n}) : NULL;
    }
    if (name.failed && !c->build.status) c->build.status = pn_nomem(c->build.err, 64);
    pn_buf_free(&name);
    return at;
}

const pn_value *pn_schema_ref(pn_compiler *c, const pn_value *schema, const pn_value *ref)
{
    const pn_value *root = schema, *to;
    while (root->parent) root = root->parent;
    if (ref->text.n == 0 || ref->text.p[0] != '#' || (ref->text.n > 1 && ref->text.p[1] != '/')) {
        pn_schema_fail(c, PONDER_E_UNSUPPORTED, schema, "$ref", "only #, #/... (a pointer into the same schema) is supported");
        return NULL;
    }
    to = follow(c, root, (pn_str){ref->text.p + 1, ref->text.n - 1});
    if (!to) pn_schema_fail(c, PONDER_E_FORMAT, schema, "$ref", "leads nowhere");
    return to;
}
