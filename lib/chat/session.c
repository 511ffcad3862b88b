/* A session's messages become the values that a template sees. */
#include "chat/value.h"

/* What templates have words for. */
enum { TOOLS = 1, IMAGES = 2, VIDEOS = 4, AUDIO = 8 };

static unsigned has_words_for(pn_template t)
{
    switch (t) {
    case PN_TEMPLATE_MUSE: return TOOLS | IMAGES | VIDEOS | AUDIO;
    case PN_TEMPLATE_GEMMA: return IMAGES;
    case PN_TEMPLATE_QWEN2_5: case PN_TEMPLATE_QWEN3: case PN_TEMPLATE_LLAMA3_1: return TOOLS;
    default: return 0;
    }
}

static bool known(const char *role)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    for (size_t i = 0; i < PN_COUNT(roles); i++)
        if (role && strcmp(role, roles[i]) == 0) return true;
    return false;
}

/* ---- what is refused ---------------------------------------------------------------------------------------------- */

static ponder_status check_parts(pn_template t, const pn_message *m, ponder_error *err)
{
    static const struct { const char *name; unsigned need; } kinds[] = {
        {"text", 0}, {"image", IMAGES}, {"video", VIDEOS}, {"audio", AUDIO}};
    for (size_t i = 0; i < m->n_parts; i++) {
        const unsigned kind = m->parts[i].kind;
        if (kind >= PN_COUNT(kinds)) return pn_fail(err, PONDER_E_RANGE, "%u is no kind of a message's part", kind);
        if (kinds[kind].need & ~has_words_for(t))
            return pn_fail(err, PONDER_E_UNSUPPORTED, "the chat template \"%s\" takes no %s", pn_template_name(t), kinds[kind].name);
    }
    return PONDER_OK;
}

static ponder_status check(pn_template t, const pn_message *m, size_t n, const pn_render_options *o, ponder_error *err)
{
    const bool tools = has_words_for(t) & TOOLS;
    ponder_status st = PONDER_OK;
    if (pn_tools_count(o->tools) && !tools)
        return pn_fail(err, PONDER_E_UNSUPPORTED, "the chat template \"%s\" takes no tools", pn_template_name(t));
    for (size_t i = 0; i < n && st == PONDER_OK; i++) {
        if (!known(m[i].role)) return pn_fail(err, PONDER_E_FORMAT, "\"%s\" is no role of a message", m[i].role ? m[i].role : "");
        if (m[i].calls.n && !tools)
            return pn_fail(err, PONDER_E_UNSUPPORTED, "the chat template \"%s\" writes no calls", pn_template_name(t));
        st = check_parts(t, &m[i], err);
    }
    return st;
}

/* ---- calls -------------------------------------------------------------------------------------------------------- */

/* Whether a text is one JSON object, and nothing behind it. */
static bool is_object(pn_str s)
{
    pn_json_scan scan;
    uint32_t members;
    pn_json_scan_init(&scan, s.p, s.n, 0);
    return pn_json_next(&scan) == PN_J_OPEN && scan.type == PN_V_DICT && pn_json_skip(&scan, &members) && pn_json_next(&scan) == PN_J_END;
}

/* One call in the shape that templates expect, its arguments an object also where they were that object's text. */
static ponder_status put_call(pn_buf *b, const pn_value *call, ponder_error *err)
{
    const pn_value *given = pn_get(call, "function"), *fn = given->type == PN_V_UNDEFINED ? call : given;
    const pn_value *name = pn_get(fn, "name"), *args = pn_get(fn, "arguments"), *id = pn_get(call, "id");
    if (name->type != PN_V_STRING) return pn_fail(err, PONDER_E_FORMAT, "a call has no function's name");
    if (args->type > PN_V_NONE && args->type != PN_V_DICT && !(args->type == PN_V_STRING && is_object(args->text)))
        return pn_fail(err, PONDER_E_FORMAT, "the arguments of a call of \"%.*s\" are no object",
                       (int)PN_MIN(name->text.n, (size_t)128), name->text.p);
    pn_buf_puts(b, "{\"type\": \"function\", ");
    if (id->type == PN_V_STRING) {
        pn_buf_puts(b, "\"id\": ");
        pn_py_json(b, id, 0);
        pn_buf_puts(b, ", ");
    }
    pn_buf_puts(b, "\"function\": {\"name\": ");
    pn_py_json(b, name, 0);
    pn_buf_puts(b, ", \"arguments\": ");
    if (args->type == PN_V_DICT) pn_py_json(b, args, 0);
    else if (args->type == PN_V_STRING) pn_buf_put(b, args->text.p, args->text.n);
    else pn_buf_puts(b, "{}");
    pn_buf_puts(b, "}}");
    return PONDER_OK;
}

static ponder_status put_calls(pn_buf *b, const pn_value *list, ponder_error *err)
{
    ponder_status st = PONDER_OK;
    if (list->type != PN_V_LIST) return pn_fail(err, PONDER_E_FORMAT, "a message's calls are no list");
    pn_buf_puts(b, "[");
    for (const pn_value *v = list->first; v && st == PONDER_OK; v = v->next) {
        if (v != list->first) pn_buf_puts(b, ", ");
        st = put_call(b, v, err);
    }
    pn_buf_puts(b, "]");
    return st == PONDER_OK && b->failed ? pn_nomem(err, b->n) : st;
}

static ponder_status read_calls(pn_json *doc, pn_str calls, const ponder_alloc *a, ponder_error *err)
{
    static const pn_json_options o = {.what = "calls"}, again = {.what = "a call's arguments"};
    pn_json given;
    pn_buf text;
    ponder_status st = pn_json_read_as(&given, calls.p, calls.n, &o, a, err);
    if (st != PONDER_OK) return st;
    pn_buf_init(&text, a);
    st = put_calls(&text, pn_json_root(&given), err);
    if (st == PONDER_OK) st = pn_json_read_as(doc, text.p, text.n, &again, a, err);
    pn_json_free(&given);
    pn_buf_free(&text);
    return st;
}

/* ---- values ------------------------------------------------------------------------------------------------------- */

/* All that one rendering builds. */
typedef struct built {
    const ponder_alloc *a;
    pn_value messages, kwargs, strength, thinking, no_tools;
    pn_value *values;
    size_t n, cap;
    pn_json *docs;         /* one for each message, of those with calls */
    size_t n_docs;
    pn_buf joined;         /* texts of several parts, for templates that know no parts */
} built;

static pn_value *member(built *b, pn_value *dict, const char *key, pn_value_type type, pn_str text)
{
    pn_value *v = &b->values[b->n++];
    *v = (pn_value){.type = type, .key = pn_str_of(key), .text = text};
    pn_value_append(dict, v);
    return v;
}

static void put_parts(built *b, pn_value *message, const pn_message *m)
{
    static const char *const types[] = {"text", "image", "video", "audio"};
    pn_value *list = member(b, message, "content", PN_V_LIST, (pn_str){"", 0});
    for (size_t i = 0; i < m->n_parts; i++) {
        pn_value *part = member(b, list, "", PN_V_DICT, (pn_str){"", 0});
        member(b, part, "type", PN_V_STRING, pn_str_of(types[m->parts[i].kind]));
        if (m->parts[i].kind == PN_PART_TEXT) member(b, part, "text", PN_V_STRING, m->parts[i].text);
    }
}

static void put_content(built *b, pn_template t, pn_value *message, const pn_message *m)
{
    const size_t from = b->joined.n;
    pn_str text = m->text;
    if (m->n_parts && has_words_for(t) & IMAGES) {
        put_parts(b, message, m);
        return;
    }
    for (size_t i = 0; i < m->n_parts; i++) pn_buf_put(&b->joined, m->parts[i].text.p, m->parts[i].text.n); /* reserved: stays */
    if (m->n_parts) text = (pn_str){b->joined.p + from, b->joined.n - from};
    member(b, message, "content", PN_V_STRING, text);
}

static ponder_status put_message(built *b, pn_template t, const pn_message *m, ponder_error *err)
{
    pn_value *v = member(b, &b->messages, "", PN_V_DICT, (pn_str){"", 0});
    member(b, v, "role", PN_V_STRING, pn_str_of(m->role));
    put_content(b, t, v, m);
    if (m->name.n) member(b, v, "name", PN_V_STRING, m->name);
    if (m->thought.n) member(b, v, "reasoning_content", PN_V_STRING, m->thought);
    if (m->calls.n == 0) return PONDER_OK;
    pn_json *doc = &b->docs[b->n_docs];
    const ponder_status st = read_calls(doc, m->calls, b->a, err);
    b->n_docs++;
    if (st != PONDER_OK) return st;
    pn_value *list = (pn_value *)(uintptr_t)pn_json_root(doc); /* the document is ours */
    list->key = pn_str_of("tool_calls");
    pn_value_append(v, list);
    return PONDER_OK;
}

static ponder_status room(built *b, const pn_message *m, size_t n, ponder_error *err)
{
    enum { EACH = 5, A_PART = 3 }; /* message, role, content, name, thought; part, type, text */
    size_t text = 0;
    bool ok = pn_mul(n, EACH, &b->cap);
    for (size_t i = 0, parts; i < n; i++) {
        ok = ok && pn_mul(m[i].n_parts, A_PART, &parts) && pn_add(b->cap, parts, &b->cap);
        for (size_t k = 0; k < m[i].n_parts; k++) ok = ok && pn_add(text, m[i].parts[k].text.n, &text);
    }
    b->values = ok ? pn_zalloc_array(b->a, b->cap, sizeof *b->values) : NULL;
    b->docs = ok ? pn_zalloc_array(b->a, n, sizeof *b->docs) : NULL;
    ok = b->values && b->docs && pn_buf_reserve(&b->joined, text);
    return ok ? PONDER_OK : pn_nomem(err, n);
}

static void put_away(built *b, size_t n)
{
    for (size_t i = 0; i < b->n_docs; i++) pn_json_free(&b->docs[i]);
    pn_free(b->a, b->docs, b->docs ? n * sizeof *b->docs : 0);
    pn_free(b->a, b->values, b->values ? b->cap * sizeof *b->values : 0);
    pn_buf_free(&b->joined);
}

ponder_status pn_render_turns(pn_template t, const pn_message *m, size_t n, const pn_render_options *o, pn_rendered *out,
                              ponder_error *err)
{
    built b = {.a = out->a, .messages = {.type = PN_V_LIST}, .kwargs = {.type = PN_V_DICT},
               .strength = {.type = PN_V_STRING, .key = pn_str_of("reasoning_strength"), .text = pn_str_of(o->effort)},
               .thinking = {.type = PN_V_BOOL, .key = pn_str_of("enable_thinking"), .flag = false}};
    ponder_status st = check(t, m, n, o, err);
    if (st != PONDER_OK) return st;
    pn_buf_init(&b.joined, out->a);
    st = room(&b, m, n, err);
    for (size_t i = 0; i < n && st == PONDER_OK; i++) st = put_message(&b, t, &m[i], err);
    if (b.strength.text.n) pn_value_append(&b.kwargs, &b.strength);
    if (o->no_thought) pn_value_append(&b.kwargs, &b.thinking);
    pn_chat c = {.out = out, .err = err, .template = t, .messages = &b.messages, .tools = pn_tools_list(o->tools), .kwargs = &b.kwargs,
                 .first = o->first, .session = true, .generation_prompt = o->generation_prompt};
    if (st == PONDER_OK) pn_render_any(&c);
    put_away(&b, n);
    return st == PONDER_OK ? c.status : st;
}

ponder_status pn_render_messages(pn_template t, const pn_message *m, size_t n, bool first, bool generation_prompt,
                                 const char *effort, pn_rendered *out, ponder_error *err)
{
    const pn_render_options o = {.first = first, .generation_prompt = generation_prompt, .effort = effort};
    return pn_render_turns(t, m, n, &o, out, err);
}
