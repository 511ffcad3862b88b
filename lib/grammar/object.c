/* Objects: which members, then how they are written: those that are declared in their order, optional ones or not, then others. */
#include "grammar/schema.h"

/* ---- members ---------------------------------------------------------------------------------------------------------------------- */

static size_t slot_of(const pn_object *o, pn_str name)
{
    size_t i = (size_t)pn_hash64(name.p, name.n, 7) & (o->n_slots - 1);
    for (; o->slots[i]; i = (i + 1) & (o->n_slots - 1)) {
        const pn_str have = o->members[o->slots[i] - 1].name;
        if (have.n == name.n && (name.n == 0 || memcmp(have.p, name.p, name.n) == 0)) break;
    }
    return i;
}

const pn_member *pn_object_find(const pn_object *o, pn_str name)
{
    const size_t i = o->n_slots ? slot_of(o, name) : 0;
    return o->n_slots && o->slots[i] ? &o->members[o->slots[i] - 1] : NULL;
}

static bool rehash(pn_compiler *c, pn_object *o)
{
    const size_t n = o->n_slots ? o->n_slots * 2 : 32;
    uint32_t *slots = pn_zalloc_array(c->build.a, n, sizeof *slots);
    if (!slots) {
        c->build.status = pn_nomem(c->build.err, n * sizeof *slots);
        return false;
    }
    pn_free(c->build.a, o->slots, o->n_slots * sizeof *o->slots);
    o->slots = slots;
    o->n_slots = n;
    for (size_t i = 0; i < o->n; i++) o->slots[slot_of(o, o->members[i].name)] = (uint32_t)i + 1;
    return true;
}

static pn_member *member(pn_compiler *c, pn_object *o, pn_str name)
{
    if (!pn_build_work(&c->build, 4) || (o->n * 2 >= o->n_slots && !rehash(c, o))) return NULL;
    const size_t i = slot_of(o, name);
    if (o->slots[i]) return &o->members[o->slots[i] - 1];
    if (!pn_build_room(&c->build, (void **)&o->members, &o->cap, o->n, sizeof *o->members)) return NULL;
    o->members[o->n] = (pn_member){.name = name};
    o->slots[i] = (uint32_t)o->n + 1;
    return &o->members[o->n++];
}

static bool collect(pn_compiler *c, pn_set s, pn_object *o)
{
    for (uint32_t i = 0; i < s.n; i++) {
        const pn_value *properties = pn_get(c->pool[s.at + i], "properties");
        for (const pn_value *m = properties->first; m; m = m->next) {
            pn_member *x = member(c, o, m->key);
            if (!x) return false;
            if (!x->own) x->own = m;
        }
    }
    for (uint32_t i = 0; i < s.n; i++)
        for (const pn_value *m = pn_get(c->pool[s.at + i], "required")->first; m; m = m->next) {
            pn_member *x = member(c, o, m->text);
            if (!x) return false;
            x->required = true;
        }
    return true;
}

static const pn_value *named(pn_compiler *c, const pn_value *properties, pn_str name, const pn_value *likely)
{
    if (likely && likely->parent == properties) return likely;
    for (const pn_value *m = properties->first; m && pn_build_work(&c->build, 1); m = m->next)
        if (m->key.n == name.n && (name.n == 0 || memcmp(m->key.p, name.p, name.n) == 0)) return m;
    return NULL;
}

/* What every schema of the set asks of the member: its own property, or what it says of further ones. */
static bool demand(pn_compiler *c, pn_set s, pn_member *m)
{
    m->set = pn_set_begin(c);
    for (uint32_t i = 0; i < s.n; i++) {
        const pn_value *schema = c->pool[s.at + i], *own = named(c, pn_get(schema, "properties"), m->name, m->own);
        if (!own) own = pn_get(schema, "additionalProperties");
        if (own->type == PN_V_BOOL && !own->flag) m->never = true;
        if (own->type == PN_V_DICT && !pn_set_add(c, &m->set, own)) return false;
    }
    return !c->build.status;
}

static bool further(pn_compiler *c, pn_set s, bool closed, pn_object *o)
{
    bool said = false, declares = false;
    o->open = true;
    o->further = pn_set_begin(c);
    for (uint32_t i = 0; i < s.n; i++) {
        const pn_value *schema = c->pool[s.at + i], *more = pn_get(schema, "additionalProperties");
        declares |= pn_get(schema, "properties")->type != PN_V_UNDEFINED;
        said |= more->type != PN_V_UNDEFINED;
        if (more->type == PN_V_BOOL && !more->flag) o->open = false;
        if (more->type == PN_V_DICT && !pn_set_add(c, &o->further, more)) return false;
    }
    if (closed && declares && !said) o->open = false;
    return true;
}

bool pn_object_of(pn_compiler *c, pn_set s, bool closed, pn_object *out)
{
    *out = (pn_object){0};
    if (!collect(c, s, out)) return false;
    for (size_t i = 0; i < out->n; i++)
        if (!demand(c, s, &out->members[i])) return false;
    return further(c, s, closed, out);
}

void pn_object_free(pn_compiler *c, pn_object *o)
{
    pn_free(c->build.a, o->members, o->cap * sizeof *o->members);
    pn_free(c->build.a, o->slots, o->n_slots * sizeof *o->slots);
    *o = (pn_object){0};
}

/* ---- further members: any name but the declared ones ----------------------------------------------------------------------------------- */

static pn_nid other_name(pn_compiler *c, const pn_object *o, pn_nid next)
{
    pn_build *b = &c->build;
    const size_t bytes = o->n * sizeof(pn_str), ends_bytes = o->n * sizeof(size_t);
    pn_str *names = pn_alloc(b->a, bytes);
    size_t *ends = pn_alloc(b->a, ends_bytes);
    pn_buf text;
    pn_nid at = 0;
    pn_buf_init(&text, b->a);
    for (size_t i = 0; ends && i < o->n; i++) {
        pn_spell(&text, o->members[i].name.p, o->members[i].name.n, SPELL_JSON, c->mode & MODE_MUSE);
        ends[i] = text.n;
    }
    if (!names || !ends || text.failed) b->status = b->status ? b->status : pn_nomem(b->err, bytes + text.n);
    for (size_t i = 0, from = 0; i < o->n && !b->status; from = ends[i++]) names[i] = (pn_str){text.p + from, ends[i] - from};
    if (!b->status) at = pn_text_except(b, names, o->n, SPELL_JSON, c->mode & MODE_MUSE, '"', next);
    pn_buf_free(&text);
    pn_free(b->a, names, bytes);
    pn_free(b->a, ends, ends_bytes);
    return pn_byte(b, '"', '"', at);
}

/* Where further members begin; *after: behind one. close: where the object may end. */
static pn_nid further_members(pn_compiler *c, const pn_object *o, pn_nid close, pn_nid *after)
{
    pn_build *b = &c->build;
    *after = pn_node_new(b, (pn_node){.kind = N_SPLIT});
    const pn_nid value = pn_schema_value(c, o->further, *after), name = other_name(c, o, pn_schema_colon(c, value));
    const pn_nid more = pn_byte(b, ',', ',', pn_schema_blank(c, name));
    if (b->status) return 0;
    b->g->nodes[*after].next = close;
    b->g->nodes[*after].arg = more;
    return name;
}

/* ---- the rule ----------------------------------------------------------------------------------------------------------------------------- */

static pn_nid members(pn_compiler *c, const pn_object *o, pn_nid close)
{
    pn_build *b = &c->build;
    pn_nid after = close, choose = 0; /* behind a member; where the next one is chosen (a comma has been written) */
    bool may_close = true;
    if (o->open) choose = further_members(c, o, close, &after);
    for (size_t i = o->n; i-- > 0 && !b->status;) {
        const pn_member *m = &o->members[i];
        const pn_nid value = m->never ? 0 : pn_schema_value(c, m->set, after), own = value ? pn_schema_key(c, m->name, value) : 0;
        choose = m->required ? own : pn_split(b, own, choose);
        may_close &= !m->required;
        after = pn_split(b, may_close ? close : 0, pn_byte(b, ',', ',', pn_schema_blank(c, choose)));
    }
    return pn_split(b, pn_schema_blank(c, choose), may_close ? close : 0);
}

pn_nid pn_object_body(pn_compiler *c, const pn_job *job, uint32_t rule)
{
    pn_object o;
    pn_nid start = 0;
    const pn_nid close = pn_schema_blank(c, pn_byte(&c->build, '}', '}', pn_final(&c->build, rule)));
    if (pn_object_of(c, job->set, job->mode & MODE_CLOSED, &o)) start = members(c, &o, close);
    pn_object_free(c, &o);
    return start;
}
