/* A value: its alternatives, one beside the other. */
#include "grammar/schema.h"

static const char closer[] = "</atem:parameter>";

pn_nid pn_schema_blank(pn_compiler *c, pn_nid next)
{
    pn_build *b = &c->build;
    if (!next || (c->mode & MODE_COMPACT)) return next;
    const pn_nid loop = pn_node_new(b, (pn_node){.kind = N_SPLIT});
    const pn_nid tab = pn_byte(b, '\t', '\t', loop), space = pn_byte(b, ' ', ' ', loop);
    const pn_nid more = pn_count(b, COUNT_CHARS, BLANKS_MOST, false, pn_split(b, space, tab)), done = pn_check(b, COUNT_CHARS, 0, next);
    if (b->status) return 0;
    b->g->nodes[loop].next = more;
    b->g->nodes[loop].arg = done;
    return pn_split(b, next, pn_split(b, pn_byte(b, ' ', ' ', next), pn_byte(b, '\n', '\n', loop)));
}

pn_nid pn_schema_colon(pn_compiler *c, pn_nid next)
{
    if (!(c->mode & MODE_COMPACT)) next = pn_split(&c->build, next, pn_byte(&c->build, ' ', ' ', next));
    return pn_byte(&c->build, ':', ':', next);
}

static void put_string(pn_compiler *c, pn_buf *out, pn_str s)
{
    pn_buf_puts(out, "\"");
    pn_spell(out, s.p, s.n, SPELL_JSON, c->mode & MODE_MUSE);
    pn_buf_puts(out, "\"");
}

static pn_nid literal(pn_compiler *c, pn_buf *text, pn_nid next)
{
    if (text->failed && !c->build.status) c->build.status = pn_nomem(c->build.err, text->n);
    const pn_nid at = c->build.status ? 0 : pn_literal(&c->build, text->p, text->n, next);
    pn_buf_free(text);
    return at;
}

pn_nid pn_schema_key(pn_compiler *c, pn_str name, pn_nid next)
{
    pn_buf text;
    pn_buf_init(&text, c->build.a);
    put_string(c, &text, name);
    return literal(c, &text, pn_schema_colon(c, next));
}

static void put_scalar(pn_compiler *c, pn_buf *out, const pn_value *v, bool bare)
{
    switch (v->type) {
    case PN_V_STRING:
        if (bare) pn_buf_put(out, v->text.p, v->text.n);
        else put_string(c, out, v->text);
        break;
    case PN_V_INT: case PN_V_FLOAT: pn_number_spell(out, v); break;
    case PN_V_BOOL: pn_buf_puts(out, v->flag ? "true" : "false"); break;
    default: pn_buf_puts(out, "null");
    }
}

static bool is_container(const pn_value *v) { return v->type == PN_V_LIST || v->type == PN_V_DICT; }

pn_nid pn_schema_const(pn_compiler *c, const pn_value *v, pn_nid next)
{
    pn_buf text;
    if (is_container(v)) {
        pn_set one = pn_set_begin(c);
        if (!pn_set_add(c, &one, v)) return 0;
        return pn_call(&c->build, pn_schema_rule(c, BODY_CONST, one, NULL, v->type == PN_V_DICT ? '{' : '['), next);
    }
    pn_buf_init(&text, c->build.a);
    put_scalar(c, &text, v, false);
    return literal(c, &text, next);
}

/* ---- enums: the scalars as one trie, so that ten thousand of them stay narrow ------------------------------------------------------- */

typedef struct texts {
    pn_buf bytes;
    size_t *ends;
    size_t n, cap;
} texts;

static pn_nid literals(pn_compiler *c, texts *t, pn_nid next)
{
    pn_build *b = &c->build;
    const size_t bytes = t->n * sizeof(pn_str);
    pn_str *all = pn_alloc(b->a, bytes);
    pn_nid at = 0;
    if (!all || t->bytes.failed) b->status = b->status ? b->status : pn_nomem(b->err, bytes);
    for (size_t i = 0, from = 0; i < t->n && !b->status; from = t->ends[i++]) all[i] = (pn_str){t->bytes.p + from, t->ends[i] - from};
    if (!b->status) at = pn_literals(b, all, t->n, next);
    pn_free(b->a, all, bytes);
    return at;
}

static bool contains(pn_str text, const char *what)
{
    const size_t n = strlen(what);
    for (size_t i = 0; i + n <= text.n; i++)
        if (memcmp(text.p + i, what, n) == 0) return true;
    return false;
}

pn_nid pn_schema_given(pn_compiler *c, pn_set s, const pn_facts *f, bool bare, pn_nid next)
{
    pn_build *b = &c->build;
    texts t = {0};
    pn_nid at = 0;
    pn_buf_init(&t.bytes, b->a);
    const pn_value *v = f->is_const ? f->fixed : f->fixed->first;
    for (; v && pn_build_work(b, 1); v = f->is_const ? NULL : v->next) {
        if (!pn_fixed_holds(c, f, s, v) || (bare && v->type == PN_V_STRING && contains(v->text, closer))) continue;
        if (is_container(v)) {
            at = pn_split(b, at, pn_schema_const(c, v, next));
        } else if (pn_build_room(b, (void **)&t.ends, &t.cap, t.n, sizeof *t.ends)) {
            put_scalar(c, &t.bytes, v, bare);
            t.ends[t.n++] = t.bytes.n;
        }
    }
    if (t.n) at = pn_split(b, at, literals(c, &t, next));
    pn_free(b->a, t.ends, t.cap * sizeof *t.ends);
    pn_buf_free(&t.bytes);
    return at;
}

/* ---- strings ------------------------------------------------------------------------------------------------------------------------ */

static pn_nid shaped_string(pn_compiler *c, const pn_facts *f, pn_spelling spelling, pn_nid next)
{
    char where[64] = "schema";
    pn_pattern_spec p = {.spelling = spelling, .avoid_lt = c->mode & MODE_MUSE, .least = f->least, .most = f->most, .where = where};
    if (f->pattern) return pn_pattern(&c->build, f->pattern->text, &p, next);
    const char *pattern = pn_format_pattern(f->format);
    p.whole = true;
    if (pattern) return pn_pattern(&c->build, pn_str_of(pattern), &p, next);
    pn_schema_fail(c, PONDER_E_UNSUPPORTED, f->holder, "format", "only date, time, date-time, uuid, ipv4 and email are supported");
    return 0;
}

pn_nid pn_schema_string(pn_compiler *c, const pn_facts *f, bool bare, pn_nid next)
{
    pn_build *b = &c->build;
    pn_text_spec any = {.spelling = bare ? SPELL_RAW : SPELL_ANY, .least = f->least, .most = f->most};
    if (f->least > f->most) return 0;
    if (c->mode & MODE_MUSE) any.avoid = pn_str_of(closer);
    if (!bare) next = pn_byte(b, '"', '"', next);
    const pn_nid at = f->holder ? shaped_string(c, f, bare ? SPELL_RAW : SPELL_JSON, next) : pn_text_any(b, &any, next);
    return bare ? at : pn_byte(b, '"', '"', at);
}

/* ---- everything ----------------------------------------------------------------------------------------------------------------------- */

/* Only the schemas that say something about arrays (objects): the fewer sets there are, the fewer rules. */
static pn_set about(pn_compiler *c, pn_set s, pn_body body)
{
    static const char *const object[] = {"properties", "required", "additionalProperties", NULL};
    static const char *const array[] = {"items", "prefixItems", "minItems", "maxItems", NULL};
    pn_set out = pn_set_begin(c);
    for (uint32_t i = 0; i < s.n; i++)
        for (const char *const *w = body == BODY_OBJECT ? object : array; *w; w++)
            if (pn_get(c->pool[s.at + i], *w)->type != PN_V_UNDEFINED) pn_set_add(c, &out, c->pool[s.at + i]);
    return out;
}

static pn_nid container(pn_compiler *c, pn_set s, pn_body body, pn_nid next)
{
    const pn_set own = about(c, s, body);
    return pn_call(&c->build, pn_schema_rule(c, body, own, NULL, body == BODY_OBJECT ? '{' : '['), next);
}

pn_nid pn_schema_way(pn_compiler *c, pn_set s, const pn_facts *f, uint32_t types, pn_nid next)
{
    pn_build *b = &c->build;
    pn_nid at = 0;
    types &= f->types;
    if (types & TYPE_NULL) at = pn_literal(b, "null", 4, next);
    if (types & TYPE_BOOL) at = pn_split(b, at, pn_split(b, pn_literal(b, "true", 4, next), pn_literal(b, "false", 5, next)));
    if (types & (TYPE_INT | TYPE_REAL)) at = pn_split(b, at, pn_number(b, &f->number, next));
    if (types & TYPE_STRING) at = pn_split(b, at, pn_schema_string(c, f, false, next));
    if (types & TYPE_ARRAY) at = pn_split(b, at, container(c, s, BODY_ARRAY, next));
    if (types & TYPE_OBJECT) at = pn_split(b, at, container(c, s, BODY_OBJECT, next));
    return at;
}

pn_nid pn_schema_value(pn_compiler *c, pn_set s, pn_nid next)
{
    pn_alternatives ways;
    pn_facts f;
    pn_nid at = 0;
    if (!next || !pn_expand(c, s, &ways)) return 0;
    for (size_t i = 0; i < ways.n && pn_facts_of(c, ways.sets[i], &f); i++)
        at = pn_split(&c->build, at, f.fixed ? pn_schema_given(c, ways.sets[i], &f, false, next) : pn_schema_way(c, ways.sets[i], &f, TYPE_ANY, next));
    pn_alternatives_free(c, &ways);
    return at;
}
