/* Tool calls: Muse's markup, and JSON with a name and arguments. */
#include "grammar/schema.h"

static const char parameter_opening[] = "<atem:parameter name=\"", parameter_closing[] = "</atem:parameter>\n";

static pn_nid text(pn_compiler *c, const char *s, pn_nid next) { return pn_literal(&c->build, s, strlen(s), next); }

static pn_set parameters_of(pn_compiler *c, const pn_tool_schema *tool)
{
    const pn_value *root = pn_schema_text(c, tool->parameters);
    pn_set s = pn_set_begin(c);
    if (root) pn_set_add(c, &s, root);
    return s;
}

/* ---- {"name": ..., "arguments": ...} ------------------------------------------------------------------------------------------------ */

static pn_nid object_of(pn_compiler *c, pn_set s, pn_nid next)
{
    pn_alternatives ways;
    pn_facts f;
    pn_nid at = 0;
    if (!next || !pn_expand(c, s, &ways)) return 0;
    for (size_t i = 0; i < ways.n && pn_facts_of(c, ways.sets[i], &f); i++) {
        f.types &= TYPE_OBJECT;
        at = pn_split(&c->build, at, f.fixed ? pn_schema_given(c, ways.sets[i], &f, false, next) : pn_schema_way(c, ways.sets[i], &f, TYPE_OBJECT, next));
    }
    pn_alternatives_free(c, &ways);
    return at;
}

pn_nid pn_tools_body(pn_compiler *c, const pn_job *job, uint32_t rule)
{
    pn_build *b = &c->build;
    const pn_nid close = pn_schema_blank(c, pn_byte(b, '}', '}', pn_final(b, rule)));
    pn_nid all = 0;
    for (size_t i = 0; i < job->tools->n_tools && !b->status; i++) {
        const pn_tool_schema *tool = &job->tools->tools[i];
        const pn_value name = {.type = PN_V_STRING, .text = tool->name};
        pn_nid at = object_of(c, parameters_of(c, tool), close);
        at = pn_schema_key(c, pn_str_of("arguments"), at);
        at = pn_schema_const(c, &name, pn_byte(b, ',', ',', pn_schema_blank(c, at)));
        all = pn_split(b, all, pn_schema_key(c, pn_str_of("name"), at));
    }
    return pn_schema_blank(c, all);
}

/* ---- Muse -------------------------------------------------------------------------------------------------------------------------------- */

static bool name_ok(pn_compiler *c, pn_str name, const char *of)
{
    for (size_t i = 0; i < name.n; i++) {
        const uint8_t ch = (uint8_t)name.p[i];
        if (ch >= 0x20 && ch != '"' && ch != '<' && ch != '>') continue;
        pn_build_fail(&c->build, PONDER_E_UNSUPPORTED, "schema: the name of a %s holds a control character or one of \" < >", of);
        return false;
    }
    return true;
}

/* Whether a free string is among the ways, and whether a limited one stands beside an array or object: then '{' could begin
 * either, and what follows would not tell. */
static bool look(pn_compiler *c, const pn_alternatives *ways, bool *free, bool *mixed)
{
    bool strings = false, containers = false;
    pn_facts f;
    *free = false;
    for (size_t i = 0; i < ways->n; i++) {
        if (!pn_facts_of(c, ways->sets[i], &f)) return false;
        const pn_value *v = f.is_const ? f.fixed : f.fixed ? f.fixed->first : NULL;
        for (; v && pn_build_work(&c->build, 1); v = f.is_const ? NULL : v->next) {
            strings |= v->type == PN_V_STRING && (f.types & TYPE_STRING);
            containers |= (v->type == PN_V_LIST || v->type == PN_V_DICT) && (f.types & pn_type_of_value(v));
        }
        if (f.fixed) continue;
        strings |= (f.types & TYPE_STRING) != 0;
        containers |= (f.types & (TYPE_ARRAY | TYPE_OBJECT)) != 0;
        *free |= (f.types & TYPE_STRING) && !f.holder && f.least == 0 && f.most == UINT32_MAX;
    }
    *mixed = strings && containers;
    return !c->build.status;
}

static pn_nid bare_way(pn_compiler *c, pn_set s, const pn_facts *f, pn_nid next)
{
    if (f->fixed) return pn_schema_given(c, s, f, true, next);
    pn_nid at = pn_schema_way(c, s, f, TYPE_ANY & ~(uint32_t)TYPE_STRING, next);
    if (f->types & TYPE_STRING) at = pn_split(&c->build, at, pn_schema_string(c, f, true, next));
    return at;
}

/* Strings as they are, everything else as JSON. Where any string will do, so will any text, whatever else it may be read as. */
static pn_nid bare_value(pn_compiler *c, pn_set s, const pn_value *where, pn_nid next)
{
    pn_alternatives ways;
    pn_facts f = {.types = TYPE_STRING, .most = UINT32_MAX};
    bool free, mixed;
    pn_nid at = 0;
    if (!next || !pn_expand(c, s, &ways)) return 0;
    if (!look(c, &ways, &free, &mixed)) {
        pn_alternatives_free(c, &ways);
        return 0;
    }
    if (free) {
        at = pn_schema_string(c, &f, true, next);
    } else if (mixed) {
        pn_schema_fail(c, PONDER_E_UNSUPPORTED, where, "type", "a parameter that is a limited string or else an array or object");
    } else {
        for (size_t i = 0; i < ways.n && pn_facts_of(c, ways.sets[i], &f); i++)
            at = pn_split(&c->build, at, bare_way(c, ways.sets[i], &f, next));
    }
    pn_alternatives_free(c, &ways);
    return at;
}

static pn_nid other_parameters(pn_compiler *c, const pn_object *o, const pn_value *where, pn_nid end)
{
    pn_build *b = &c->build;
    const size_t bytes = (o->n + 1) * sizeof(pn_str);
    pn_str *names = pn_zalloc(b->a, bytes);
    if (!names) {
        b->status = pn_nomem(b->err, bytes);
        return 0;
    }
    for (size_t i = 0; i < o->n; i++) names[i] = o->members[i].name; /* the last one stays empty: nor may that be a name */
    const pn_nid loop = pn_node_new(b, (pn_node){.kind = N_SPLIT});
    pn_nid at = bare_value(c, o->further, where, text(c, parameter_closing, loop));
    at = pn_text_except(b, names, o->n + 1, SPELL_RAW, true, '"', pn_byte(b, '>', '>', at));
    at = text(c, parameter_opening, at);
    pn_free(b->a, names, bytes);
    if (b->status) return 0;
    b->g->nodes[loop].next = end;
    b->g->nodes[loop].arg = at;
    return loop;
}

static pn_nid parameter(pn_compiler *c, const pn_member *m, const pn_value *where, pn_nid next)
{
    pn_nid at = m->never ? 0 : bare_value(c, m->set, m->own ? m->own : where, text(c, parameter_closing, next));
    if (!at || !name_ok(c, m->name, "parameter")) return 0;
    at = text(c, "\">", at);
    return text(c, parameter_opening, pn_literal(&c->build, m->name.p, m->name.n, at));
}

static bool says_more(const pn_compiler *c, pn_set s)
{
    for (uint32_t i = 0; i < s.n; i++)
        if (pn_get(c->pool[s.at + i], "additionalProperties")->type != PN_V_UNDEFINED) return true;
    return false;
}

static pn_nid parameters(pn_compiler *c, pn_set s, const pn_value *where, pn_nid end)
{
    pn_object o;
    pn_nid at = end;
    if (!pn_object_of(c, s, true, &o)) at = 0;
    else if (o.open && says_more(c, s)) at = other_parameters(c, &o, where, end);
    for (size_t i = o.n; i-- > 0 && !c->build.status;) {
        const pn_nid own = parameter(c, &o.members[i], where, at);
        at = o.members[i].required ? own : pn_split(&c->build, own, at);
    }
    pn_object_free(c, &o);
    return at;
}

static pn_nid muse_tool(pn_compiler *c, const pn_tool_schema *tool, pn_nid end)
{
    const pn_set set = parameters_of(c, tool);
    pn_alternatives ways;
    pn_facts f;
    pn_nid all = 0;
    if (c->build.status || !name_ok(c, tool->name, "tool") || !pn_expand(c, set, &ways)) return 0;
    const pn_value *where = c->pool[set.at];
    for (size_t i = 0; i < ways.n && pn_facts_of(c, ways.sets[i], &f); i++) {
        if (f.fixed) pn_schema_fail(c, PONDER_E_UNSUPPORTED, where, f.is_const ? "const" : "enum", "for all arguments together is not supported");
        if (f.types & TYPE_OBJECT) all = pn_split(&c->build, all, parameters(c, ways.sets[i], where, end));
    }
    pn_alternatives_free(c, &ways);
    return pn_literal(&c->build, tool->name.p, tool->name.n, text(c, "\">\n", all));
}

pn_nid pn_call_muse(pn_compiler *c, const pn_piece *p, pn_nid next)
{
    const pn_nid end = text(c, "</atem:invoke>\n</atem:function_calls>", next);
    pn_nid all = 0;
    c->mode |= MODE_MUSE;
    for (size_t i = 0; i < p->n_tools && !c->build.status; i++) all = pn_split(&c->build, all, muse_tool(c, &p->tools[i], end));
    return text(c, "<atem:function_calls>\n<atem:invoke name=\"", all);
}
