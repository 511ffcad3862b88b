/* A whole JSON document as values. A first pass checks and measures it, so that a wrong text costs no memory and a right
 * one a single piece of it; the second fills that. */
#include "base/json.h"

enum { INT_DIGITS = 4300 }; /* as many as Python's int() takes */

typedef struct size {
    size_t values, members, text;
} size;

typedef struct builder {
    pn_json *doc;
    const pn_json_options *o;
    pn_json_scan scan;
    char *text;        /* where the next bytes go */
    size_t n, cap;     /* values made, and room for them */
    size_t text_left;
    pn_value *inside;  /* the list or dict that is open */
    pn_value *member;  /* of a dict: made by its key, waiting for its value */
    uint32_t *slots;   /* open addressing over (dict, key): which value, plus 1 */
    size_t mask;
} builder;

/* Whether the key just read names members that stay text. */
static bool stays_raw(const pn_json_scan *s, const pn_json_options *o)
{
    char key[32];
    if (!o->raw || s->decoded >= sizeof key) return false;
    pn_json_decode(s, key);
    for (const char *const *name = o->raw; *name; name++)
        if (pn_str_eq((pn_str){key, s->decoded}, *name)) return true;
    return false;
}

/* ---- the first pass ---- */

static bool measure(pn_json_scan *s, const pn_json_options *o, size *z)
{
    bool raw = false;
    uint32_t skipped;
    *z = (size){0};
    for (;;) {
        const pn_json_event e = pn_json_next(s);
        if (e == PN_J_WRONG) return false;
        if (e == PN_J_END) return true;
        z->values += e == PN_J_VALUE || e == PN_J_OPEN;
        z->members += e == PN_J_KEY;
        if (e == PN_J_KEY || (e == PN_J_VALUE && s->type == PN_V_STRING)) z->text += s->decoded;
        if (e == PN_J_VALUE && s->type == PN_V_INT) {
            z->text += s->text.n;
            if (s->text.n > INT_DIGITS + (s->text.p[0] == '-')) s->problem = "an integer of more than 4300 digits";
            if (s->problem) return false;
        }
        if (raw && e == PN_J_OPEN && !pn_json_skip(s, &skipped)) return false;
        raw = e == PN_J_KEY && stays_raw(s, o);
    }
}

/* ---- the second pass ---- */

void pn_value_append(pn_value *parent, pn_value *child)
{
    child->parent = parent;
    if (parent->last) parent->last->next = child;
    else parent->first = child;
    parent->last = child;
    parent->count++;
}

/* A file that is changed between the passes must not pass the room that the first one measured. */
static void *changed(builder *b)
{
    b->scan.problem = "changed while it was read";
    return NULL;
}

static pn_value *new_value(builder *b)
{
    if (b->n == b->cap) return changed(b);
    pn_value *v = &b->doc->values[b->n++];
    *v = (pn_value){0};
    return v;
}

/* A dict's member of that name: new, or the one that is to be overwritten. NULL: there must be none. */
static pn_value *named(builder *b, pn_str key)
{
    const pn_value *values = b->doc->values;
    size_t i = (size_t)pn_hash64(key.p, key.n, (uint64_t)(b->inside - values)) & b->mask;
    for (; b->slots[i]; i = (i + 1) & b->mask) {
        pn_value *v = &b->doc->values[b->slots[i] - 1];
        if (v->parent != b->inside || v->key.n != key.n || memcmp(v->key.p, key.p, key.n) != 0) continue;
        if (b->o->unique) {
            b->scan.problem = "a repeated name";
            return NULL;
        }
        for (pn_value *m = v->first; m; m = m->next) m->parent = NULL; /* or a new member would find them again */
        *v = (pn_value){.key = v->key, .parent = v->parent, .next = v->next};
        return v;
    }
    pn_value *v = new_value(b);
    if (!v) return NULL;
    v->key = key;
    pn_value_append(b->inside, v);
    b->slots[i] = (uint32_t)(v - values) + 1;
    return v;
}

static bool take(builder *b, size_t n, pn_str *out)
{
    if (n > b->text_left) return changed(b) != NULL;
    *out = (pn_str){b->text, n};
    b->text += n;
    b->text_left -= n;
    return true;
}

static bool take_string(builder *b, pn_str *out)
{
    char *to = b->text;
    if (!take(b, b->scan.decoded, out)) return false;
    pn_json_decode(&b->scan, to);
    return true;
}

static bool take_integer(builder *b, pn_str *out)
{
    char *to = b->text;
    const pn_str from = b->scan.text;
    if (!take(b, from.n, out)) return false;
    memcpy(to, from.p, from.n);
    if (pn_str_eq(*out, "-0")) *out = (pn_str){out->p + 1, 1}; /* Python's -0 is 0 */
    return true;
}

/* Where the value goes that comes now. */
static pn_value *place(builder *b)
{
    pn_value *v = b->member;
    b->member = NULL;
    if (v) return v;
    v = new_value(b);
    if (v && b->inside) pn_value_append(b->inside, v);
    return v;
}

static bool scalar(builder *b)
{
    const pn_json_scan *s = &b->scan;
    pn_value *v = place(b);
    if (!v) return false;
    v->type = s->type;
    if (s->type == PN_V_STRING) return take_string(b, &v->text);
    if (s->type == PN_V_INT) return take_integer(b, &v->text);
    if (s->type == PN_V_FLOAT) v->real = pn_decimal(s->text);
    else if (s->type == PN_V_BOOL) v->flag = s->flag;
    return true;
}

static bool opened(builder *b, bool raw)
{
    const char *from = b->scan.p + b->scan.at - 1;
    pn_value *v = place(b);
    if (!v) return false;
    v->type = b->scan.type;
    if (!raw) b->inside = v;
    if (!raw) return true;
    if (!pn_json_skip(&b->scan, &v->count)) return false;
    v->text = (pn_str){from, (size_t)(b->scan.p + b->scan.at - from)};
    return true;
}

static bool named_now(builder *b)
{
    pn_str key;
    b->member = take_string(b, &key) ? named(b, key) : NULL;
    return b->member != NULL;
}

static bool build(builder *b)
{
    bool raw = false;
    for (;;) {
        const pn_json_event e = pn_json_next(&b->scan);
        bool ok = true;
        switch (e) {
        case PN_J_KEY: ok = named_now(b); break;
        case PN_J_VALUE: ok = scalar(b); break;
        case PN_J_OPEN: ok = opened(b, raw); break;
        case PN_J_CLOSE: b->inside = b->inside->parent; break;
        default: return e == PN_J_END;
        }
        if (!ok) return false;
        raw = e == PN_J_KEY && stays_raw(&b->scan, b->o);
    }
}

static bool room(builder *b, const size *z)
{
    size_t slots = 4;
    while (slots / 2 < z->members) slots *= 2;
    b->mask = slots - 1;
    if (!pn_mul(z->values, sizeof(pn_value), &b->doc->bytes) || !pn_add(b->doc->bytes, z->text, &b->doc->bytes)) return false;
    b->doc->values = pn_alloc(b->doc->a, b->doc->bytes);
    b->slots = pn_zalloc_array(b->doc->a, slots, sizeof *b->slots);
    if (!b->doc->values || !b->slots) return false;
    b->cap = z->values;
    b->text = (char *)(b->doc->values + z->values);
    b->text_left = z->text;
    return true;
}

void pn_json_free(pn_json *doc)
{
    pn_free(doc->a, doc->values, doc->bytes);
    *doc = (pn_json){0};
}

ponder_status pn_json_read_as(pn_json *doc, const char *p, size_t n, const pn_json_options *o, const ponder_alloc *a,
                              ponder_error *err)
{
    const char *what = o->what ? o->what : "JSON";
    builder b = {.doc = doc, .o = o};
    size z;
    *doc = (pn_json){.a = a};
    if (n >= UINT32_MAX) return pn_fail(err, PONDER_E_FORMAT, "%s: larger than 4 GB", what); /* so that counts fit 32 bits */
    pn_json_scan_init(&b.scan, p, n, o->depth);
    if (!measure(&b.scan, o, &z)) return pn_json_wrong(&b.scan, what, err);
    pn_json_scan_init(&b.scan, p, n, o->depth);
    ponder_status s = PONDER_OK;
    if (!room(&b, &z)) s = pn_fail(err, PONDER_E_NOMEM, "%s: no memory for %zu bytes", what, doc->bytes);
    else if (!build(&b)) s = pn_json_wrong(&b.scan, what, err);
    pn_free(a, b.slots, (b.mask + 1) * sizeof *b.slots);
    if (s) pn_json_free(doc);
    return s;
}

ponder_status pn_json_read(pn_json *doc, const char *p, size_t n, const ponder_alloc *a, ponder_error *err)
{
    static const pn_json_options python = {0};
    return pn_json_read_as(doc, p, n, &python, a, err);
}
