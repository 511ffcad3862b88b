/* Whether two branches of a oneOf can never both hold. Says yes only when it is sure. */
#include "grammar/schema.h"

enum { LOOK_INTO = 2 }; /* members of members that may tell */

static bool below(const pn_bound *hi, const pn_bound *lo)
{
    if (!hi->set || !lo->set || (hi->huge && lo->huge)) return false;
    const int order = pn_bound_compare(hi, lo);
    return order < 0 || (order == 0 && (hi->open || lo->open));
}

static bool may_hold(pn_compiler *c, const pn_facts *g, pn_set sg, const pn_value *v)
{
    if (v->type == PN_V_LIST || v->type == PN_V_DICT) return (g->types & pn_type_of_value(v)) != 0;
    if (g->holder && v->type == PN_V_STRING) return true;
    if (g->fixed && !g->is_const && !pn_is_member(v, g->fixed)) return false;
    return pn_fixed_holds(c, g, sg, v);
}

static bool fixed_apart(pn_compiler *c, const pn_facts *f, const pn_facts *g, pn_set sg)
{
    const pn_value *v = f->is_const ? f->fixed : f->fixed->first;
    for (; v && pn_build_work(&c->build, 1); v = f->is_const ? NULL : v->next)
        if ((pn_type_of_value(v) & f->types) && may_hold(c, g, sg, v)) return false;
    return !c->build.status;
}

static bool sets_apart(pn_compiler *c, pn_set x, pn_set y, uint32_t types, int depth);

/* A member that both must have, of which no value can be both; or one that one must have and the other cannot. */
static bool objects_apart(pn_compiler *c, pn_set x, pn_set y, int depth)
{
    pn_object a = {0}, b = {0};
    bool apart = false;
    if (depth == 0) return false;
    const bool closed = c->mode & MODE_CLOSED;
    if (pn_object_of(c, x, closed, &a) && pn_object_of(c, y, closed, &b)) {
        for (int turn = 0; turn < 2; turn++) {
            const pn_object *p = turn ? &b : &a, *q = turn ? &a : &b;
            for (size_t i = 0; i < p->n && !apart && !c->build.status; i++) {
                if (!p->members[i].required) continue;
                const pn_member *other = pn_object_find(q, p->members[i].name);
                if (!other) apart = !q->open;
                else if (other->never) apart = true;
                else if (other->required) apart = sets_apart(c, p->members[i].set, other->set, TYPE_ANY, depth - 1);
            }
        }
    }
    pn_object_free(c, &a);
    pn_object_free(c, &b);
    return apart;
}

static bool ways_apart(pn_compiler *c, pn_set x, pn_set y, uint32_t types, int depth)
{
    pn_facts f, g;
    if (!pn_facts_of(c, x, &f) || !pn_facts_of(c, y, &g)) return false;
    const uint32_t both = f.types & g.types & types;
    if (!both) return true;
    if (f.fixed) return fixed_apart(c, &f, &g, y);
    if (g.fixed) return fixed_apart(c, &g, &f, x);
    if (both & (TYPE_NULL | TYPE_BOOL | TYPE_ARRAY)) return false;
    if ((both & (TYPE_INT | TYPE_REAL)) && !below(&f.number.hi, &g.number.lo) && !below(&g.number.hi, &f.number.lo)) return false;
    if ((both & TYPE_STRING) && f.most >= g.least && g.most >= f.least) return false;
    return !(both & TYPE_OBJECT) || objects_apart(c, x, y, depth);
}

static bool sets_apart(pn_compiler *c, pn_set x, pn_set y, uint32_t types, int depth)
{
    pn_alternatives a = {0}, b = {0};
    bool apart = true;
    if (pn_expand(c, x, &a) && pn_expand(c, y, &b)) {
        for (size_t i = 0; i < a.n && apart; i++)
            for (size_t k = 0; k < b.n && apart; k++) apart = ways_apart(c, a.sets[i], b.sets[k], types, depth) && !c->build.status;
    }
    pn_alternatives_free(c, &a);
    pn_alternatives_free(c, &b);
    return apart && !c->build.status;
}

bool pn_oneof_apart(pn_compiler *c, const pn_value *x, const pn_value *y, uint32_t types)
{
    const size_t pool = c->n_pool;
    pn_set sx = pn_set_begin(c);
    if (!pn_set_add(c, &sx, x)) return false;
    pn_set sy = pn_set_begin(c);
    if (!pn_set_add(c, &sy, y)) return false;
    c->comparing = true;
    const bool apart = sets_apart(c, sx, sy, types, LOOK_INTO);
    c->comparing = false;
    c->n_pool = pool;
    return apart;
}
