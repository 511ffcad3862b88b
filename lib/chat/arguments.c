/* A call's name and the types of its arguments.
 *
 * A value stands bare, so its schema says what it is:
 *  - a string's bytes are the string, whatever they look like;
 *  - of any other type: JSON (or Python's True, False, None), as it is; what is none, or holds a number that JSON has no word
 *    for (NaN, 1e999), stays a string, so that the host's own check of the schema can refuse it;
 *  - of several types with a string among them, or of an unknown one: a list, an object, true, false and null, and numbers
 *    whose usual spelling it is (1.10 may be a version); everything else is a string. */
#include <math.h>

#include "chat/parser.h"
#include "chat/value.h"

enum { MOST_DEPTH = 256 };

/* ---- names -------------------------------------------------------------------------------------------------------- */

static int32_t longest_beginning(const pn_tools *tools, pn_str name, size_t *n)
{
    for (*n = name.n; *n > 0; --*n) {
        const bool whole = *n == name.n || name.p[*n] == '.';
        const int32_t i = whole ? pn_tools_find(tools, (pn_str){name.p, *n}) : -1;
        if (i >= 0) return i;
    }
    return -1;
}

int32_t pn_call_tool(const pn_parser *p, pn_str recipient, pn_str *name)
{
    size_t n;
    int32_t i = longest_beginning(p->tools, *name, &n);
    if (i < 0 && recipient.n > name->n && name->n && recipient.p[recipient.n - name->n - 1] == '.' &&
        memcmp(recipient.p + recipient.n - name->n, name->p, name->n) == 0)
        i = pn_tools_find(p->tools, recipient);
    if (i >= 0) *name = pn_tools_name(p->tools, (size_t)i);
    return i;
}

/* ---- values ------------------------------------------------------------------------------------------------------- */

static bool all_finite(const pn_value *root)
{
    for (const pn_value *v = root;;) {
        if (v->type == PN_V_FLOAT && !isfinite(v->real)) return false;
        if (v->first) {
            v = v->first;
            continue;
        }
        while (v != root && !v->next) v = v->parent;
        if (v == root) return true;
        v = v->next;
    }
}

static uint32_t type_of(const pn_value *v)
{
    switch (v->type) {
    case PN_V_NONE: return PN_TYPE_NULL;
    case PN_V_BOOL: return PN_TYPE_BOOLEAN;
    case PN_V_INT: return PN_TYPE_INTEGER | PN_TYPE_NUMBER;
    case PN_V_FLOAT: return PN_TYPE_NUMBER | (v->real == floor(v->real) ? PN_TYPE_INTEGER : 0);
    case PN_V_LIST: return PN_TYPE_ARRAY;
    case PN_V_DICT: return PN_TYPE_OBJECT;
    default: return 0;
    }
}

static pn_str python_word(pn_str s)
{
    static const char *const words[][2] = {{"True", "true"}, {"False", "false"}, {"None", "null"}};
    for (size_t i = 0; i < PN_COUNT(words); i++)
        if (pn_str_eq(s, words[i][0])) return pn_str_of(words[i][1]);
    return s;
}

/* The value's JSON in place of what was written since `from`; false when a string is the better reading. */
static bool typed(pn_buf *out, const pn_value *v, pn_str raw, uint32_t types)
{
    const bool strict = types == 0 || types & PN_TYPE_STRING;
    const size_t from = out->n;
    if (!type_of(v) || !all_finite(v)) return false;
    if (types && strict && !(type_of(v) & types)) return false;
    pn_py_json(out, v, 0);
    if (!strict || out->failed || v->first || (v->type != PN_V_INT && v->type != PN_V_FLOAT)) return true;
    if (out->n - from == raw.n && memcmp(out->p + from, raw.p, raw.n) == 0) return true;
    out->n = from;
    return false;
}

/* Written as JSON unless it is a string. */
static bool as_json(const ponder_alloc *a, pn_buf *out, pn_str raw, uint32_t types)
{
    pn_json doc;
    pn_str s = raw;
    while (s.n && pn_blank(s.p[0])) s.p++, s.n--;
    while (s.n && pn_blank(s.p[s.n - 1])) s.n--;
    if (types && !(types & PN_TYPE_STRING)) s = python_word(s);
    const pn_json_options o = {.depth = MOST_DEPTH};
    const ponder_status st = s.n ? pn_json_read_as(&doc, s.p, s.n, &o, a, NULL) : PONDER_E_FORMAT;
    if (st != PONDER_OK) {
        out->failed |= st == PONDER_E_NOMEM;
        return st == PONDER_E_NOMEM;
    }
    const bool done = typed(out, pn_json_root(&doc), raw, types);
    pn_json_free(&doc);
    return done;
}

void pn_call_value(const ponder_alloc *a, pn_buf *out, pn_str raw, uint32_t types)
{
    const pn_value string = {.type = PN_V_STRING, .text = raw};
    if (types == PN_TYPE_STRING || !as_json(a, out, raw, types)) pn_py_json(out, &string, 0);
}

/* ---- calls that are JSON ------------------------------------------------------------------------------------------ */

static const pn_value *arguments_of(const pn_value *call)
{
    const pn_value *args = pn_get(call, "arguments");
    return args->type == PN_V_UNDEFINED ? pn_get(call, "parameters") : args;
}

static bool put_call(pn_parser *p, pn_str name, const pn_value *args, bool known)
{
    pn_buf text;
    const int32_t tool = pn_call_tool(p, (pn_str){"", 0}, &name);
    if (known && p->tools && tool < 0) return false;
    pn_buf_init(&text, p->a);
    if (args->type == PN_V_DICT) pn_py_json(&text, args, 0);
    else pn_buf_puts(&text, "{}");
    p->failed |= text.failed;
    if (!p->failed) pn_event_call(p, name, tool, (pn_str){text.p, text.n});
    pn_buf_free(&text);
    return true;
}

/* Arguments as a string that is itself JSON: some write it so. */
static bool nested_call(pn_parser *p, pn_str name, pn_str text, bool known)
{
    pn_json doc;
    const ponder_status st = pn_json_read(&doc, text.p, text.n, p->a, NULL);
    p->failed |= st == PONDER_E_NOMEM;
    if (st != PONDER_OK) return false;
    const pn_value *root = pn_json_root(&doc);
    const bool ok = root->type == PN_V_DICT && all_finite(root) && put_call(p, name, root, known);
    pn_json_free(&doc);
    return ok;
}

bool pn_json_call(pn_parser *p, pn_str text, bool known)
{
    pn_json doc;
    const ponder_status st = pn_json_read(&doc, text.p, text.n, p->a, NULL);
    p->failed |= st == PONDER_E_NOMEM;
    if (st != PONDER_OK) return false;
    const pn_value *root = pn_json_root(&doc), *name = pn_get(root, "name"), *args = arguments_of(root);
    bool ok = name->type == PN_V_STRING && name->text.n > 0 && all_finite(root);
    if (ok && args->type == PN_V_STRING) ok = nested_call(p, name->text, args->text, known);
    else ok = ok && (args->type <= PN_V_NONE || args->type == PN_V_DICT) && put_call(p, name->text, args, known);
    pn_json_free(&doc);
    return ok;
}
