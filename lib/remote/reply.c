/* What the events of one answer say: pieces of text, of calls, the end, what was used. Servers differ in names; all known ones
 * are read alike. */
#include "remote/remote.h"

enum { MOST_CALLS = 1024 };

void pn_reply_init(pn_reply *r, const ponder_alloc *a)
{
    *r = (pn_reply){.a = a};
    pn_buf_init(&r->raw, a);
}

static void close_document(pn_reply *r)
{
    if (r->open) pn_json_free(&r->doc);
    r->open = false;
}

static void forget_calls(pn_reply *r)
{
    for (uint32_t i = 0; i < r->n_calls; i++) {
        pn_buf_free(&r->calls[i].id);
        pn_buf_free(&r->calls[i].name);
        pn_buf_free(&r->calls[i].arguments);
    }
    r->n_calls = r->told = 0;
}

void pn_reply_begin(pn_reply *r)
{
    close_document(r);
    forget_calls(r);
    r->ended = r->done = r->has_usage = false;
    r->prompt_tokens = r->cached_tokens = r->output_tokens = r->thought_tokens = 0;
}

void pn_reply_free(pn_reply *r)
{
    pn_reply_begin(r);
    pn_free(r->a, r->calls, r->cap_calls * sizeof *r->calls);
    pn_buf_free(&r->raw);
}

/* ---- errors --------------------------------------------------------------------------------------------------- */

/* A server's words for a prompt that is too long. */
static bool is_context(const pn_value *e, pn_str message)
{
    static const char *const words[] = {"maximum context length", "context size", "context length"};
    if (pn_is(pn_get(e, "type"), "exceed_context_size_error") || pn_is(pn_get(e, "code"), "context_length_exceeded")) return true;
    for (size_t i = 0; i < PN_COUNT(words); i++)
        if (message.n && memmem(message.p, message.n, words[i], strlen(words[i]))) return true;
    return false;
}

static bool message_of(const pn_value *v, const pn_value **e, pn_str *out)
{
    *e = pn_get(v, "error");
    if (pn_value_str(*e, out)) return true;
    if ((*e)->type != PN_V_DICT) *e = v;
    static const char *const names[] = {"message", "detail", "msg"};
    for (size_t i = 0; i < PN_COUNT(names); i++)
        if (pn_value_str(pn_get(*e, names[i]), out)) return true;
    return false;
}

static ponder_status status_of(long http)
{
    switch (http) {
    case 400: case 404: case 405: case 413: case 422: return PONDER_E_ARGUMENT;
    case 501: return PONDER_E_UNSUPPORTED;
    default: return PONDER_E_IO;
    }
}

static ponder_status tell(ponder_error *err, ponder_status st, long http, const char *server, pn_str text)
{
    size_t n = 0;
    while (n < text.n && n < 180 && text.p[n] != '\n' && text.p[n] != '\r') n++;
    if (http) return pn_fail(err, st, "%s: HTTP %ld: %.*s", server, http, (int)n, n ? text.p : "");
    return pn_fail(err, st, "%s: %.*s", server, (int)n, n ? text.p : "");
}

static ponder_status tell_value(const pn_value *v, long http, const char *server, pn_str otherwise, ponder_error *err)
{
    const pn_value *e;
    pn_str text = otherwise;
    int64_t code = http;
    message_of(v, &e, &text);
    if (!http && pn_value_i64(pn_get(e, "code"), 100, 599, &code)) http = (long)code;
    return tell(err, is_context(e, text) ? PONDER_E_CONTEXT : http ? status_of(http) : PONDER_E_IO, http, server, text);
}

ponder_status pn_reply_error(pn_str body, long http, const char *server, const ponder_alloc *a, ponder_error *err)
{
    pn_json doc;
    if (body.n == 0 || pn_json_read(&doc, body.p, body.n, a, NULL) != PONDER_OK) return tell(err, status_of(http), http, server, body);
    ponder_status st = tell_value(pn_json_root(&doc), http, server, (pn_str){0}, err);
    pn_json_free(&doc);
    return st;
}

/* ---- reading -------------------------------------------------------------------------------------------------------- */

static void read_usage(pn_reply *r, const pn_value *u)
{
    int64_t n;
    if (u->type != PN_V_DICT) return;
    r->has_usage = true;
    if (pn_value_i64(pn_get(u, "prompt_tokens"), 0, INT64_MAX, &n)) r->prompt_tokens = (uint64_t)n;
    if (pn_value_i64(pn_get(u, "completion_tokens"), 0, INT64_MAX, &n)) r->output_tokens = (uint64_t)n;
    if (pn_value_i64(pn_get(pn_get(u, "prompt_tokens_details"), "cached_tokens"), 0, INT64_MAX, &n)) r->cached_tokens = (uint64_t)n;
    if (pn_value_i64(pn_get(pn_get(u, "completion_tokens_details"), "reasoning_tokens"), 0, INT64_MAX, &n) ||
        pn_value_i64(pn_get(u, "reasoning_tokens"), 0, INT64_MAX, &n)) r->thought_tokens = (uint64_t)n;
}

static const pn_value *choice(const pn_reply *r) { return pn_at(pn_get(pn_json_root(&r->doc), "choices"), 0); }

/* A stream has a delta, an answer in one piece a message. */
static const pn_value *delta(const pn_reply *r)
{
    const pn_value *c = choice(r), *d = pn_get(c, "delta");
    return d->type == PN_V_DICT ? d : pn_get(c, "message");
}

/* The call that a piece belongs to: by its index, else by its id, else the last one. */
static pn_reply_call *call_of(pn_reply *r, const pn_value *piece, size_t nth)
{
    int64_t index = -1;
    pn_str id = {0};
    bool numbered = pn_value_i64(pn_get(piece, "index"), 0, INT32_MAX, &index);
    bool named = pn_value_str(pn_get(piece, "id"), &id) && id.n;
    for (uint32_t i = 0; i < r->n_calls; i++)
        if (numbered ? r->calls[i].index == index : named && r->calls[i].id.n == id.n && memcmp(r->calls[i].id.p, id.p, id.n) == 0) return &r->calls[i];
    if (!numbered && !named && nth == 0 && r->n_calls && pn_get(pn_get(piece, "function"), "name")->type != PN_V_STRING) return &r->calls[r->n_calls - 1];
    if (r->n_calls == r->cap_calls) {
        uint32_t cap = r->cap_calls ? 2 * r->cap_calls : 4;
        pn_reply_call *p = cap > MOST_CALLS ? NULL : pn_grow(r->a, r->calls, r->cap_calls * sizeof *p, cap * sizeof *p);
        if (!p) return NULL;
        r->calls = p;
        r->cap_calls = cap;
    }
    pn_reply_call *c = &r->calls[r->n_calls++];
    c->index = index;
    pn_buf_init(&c->id, r->a);
    pn_buf_init(&c->name, r->a);
    pn_buf_init(&c->arguments, r->a);
    return c;
}

static bool same(const pn_buf *b, pn_str s) { return b->n == s.n && memcmp(b->p, s.p, s.n) == 0; }

static bool join_call(pn_reply *r, const pn_value *piece, size_t nth)
{
    pn_str s;
    const pn_value *f = pn_get(piece, "function");
    pn_reply_call *c = call_of(r, piece, nth);
    if (!c) return false;
    if (pn_value_str(pn_get(piece, "id"), &s) && c->id.n == 0) pn_buf_put(&c->id, s.p, s.n);
    if (pn_value_str(pn_get(f, "name"), &s) && s.n && !(c->name.n && same(&c->name, s))) pn_buf_put(&c->name, s.p, s.n);
    if (pn_value_str(pn_get(f, "arguments"), &s)) pn_buf_put(&c->arguments, s.p, s.n);
    return !c->id.failed && !c->name.failed && !c->arguments.failed;
}

static ponder_status join_calls(pn_reply *r, ponder_error *err)
{
    size_t nth = 0;
    const pn_value *list = pn_get(delta(r), "tool_calls");
    for (const pn_value *v = list->type == PN_V_LIST ? list->first : NULL; v; v = v->next, nth++)
        if (!join_call(r, v, nth)) return pn_nomem(err, sizeof *r->calls);
    return PONDER_OK;
}

static bool blank(pn_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != ' ' && s.p[i] != '\t') return false;
    return true;
}

ponder_status pn_reply_read(pn_reply *r, pn_str data, ponder_error *err)
{
    close_document(r);
    if (blank(data)) return PONDER_OK;
    if (pn_str_eq(data, "[DONE]")) {
        r->done = true;
        return PONDER_OK;
    }
    ponder_status st = pn_json_read_as(&r->doc, data.p, data.n, &(pn_json_options){.what = "the server's event"}, r->a, err);
    if (st != PONDER_OK) return st;
    r->open = true;
    r->stage = 0;
    const pn_value *root = pn_json_root(&r->doc);
    const bool failed = pn_truth(pn_get(root, "error")) || (pn_is(pn_get(root, "object"), "error"));
    if (failed) {
        st = tell_value(root, 0, "the server", pn_str_of("an error without words"), err);
        close_document(r);
        return st;
    }
    read_usage(r, pn_get(root, "usage"));
    return join_calls(r, err);
}

/* ---- pieces ---------------------------------------------------------------------------------------------------------- */

/* Servers that are asked for it list the ids of what they send. */
static uint32_t tokens_of(const pn_reply *r)
{
    const pn_value *ids = pn_get(choice(r), "token_ids");
    return ids->type == PN_V_LIST && ids->count ? ids->count : 1;
}

static bool text_piece(pn_reply *r, const char *member, pn_piece_of_reply kind, pn_reply_piece *out)
{
    if (!pn_value_str(pn_get(delta(r), member), &out->text) || out->text.n == 0) return false;
    out->kind = kind;
    out->tokens = tokens_of(r);
    return true;
}

/* The whole of a call. What is no JSON object comes out raw, name and all. */
static ponder_status tell_call(pn_reply *r, pn_reply_call *c, pn_reply_piece *out, ponder_error *err)
{
    pn_json doc;
    const pn_str args = c->arguments.n ? (pn_str){c->arguments.p, c->arguments.n} : pn_str_of("{}");
    ponder_status st = pn_json_read(&doc, args.p, args.n, r->a, err);
    if (st == PONDER_E_NOMEM) return st;
    bool good = st == PONDER_OK && pn_json_root(&doc)->type == PN_V_DICT && c->name.n;
    if (st == PONDER_OK) pn_json_free(&doc);
    if (err) pn_error_clear(err);
    if (good) {
        *out = (pn_reply_piece){.kind = PN_REPLY_CALL, .text = args, .name = {c->name.p, c->name.n}, .id = {c->id.n ? c->id.p : "", c->id.n}};
        return PONDER_OK;
    }
    r->raw.n = 0;
    pn_buf_put(&r->raw, c->name.p, c->name.n);
    pn_buf_put(&r->raw, "(", 1);
    pn_buf_put(&r->raw, c->arguments.p, c->arguments.n);
    if (!pn_buf_put(&r->raw, ")", 1)) return pn_nomem(err, c->arguments.n);
    *out = (pn_reply_piece){.kind = PN_REPLY_RAW, .text = {r->raw.p, r->raw.n}};
    return PONDER_OK;
}

static ponder_status at_end(pn_reply *r, pn_str reason, pn_reply_piece *out, ponder_error *err)
{
    if (r->told < r->n_calls) return tell_call(r, &r->calls[r->told++], out, err);
    if (r->ended) return PONDER_OK;
    r->ended = true;
    *out = (pn_reply_piece){.kind = PN_REPLY_END, .text = reason};
    return PONDER_OK;
}

/* In this order they come out of one document. "reasoning" and "reasoning_content" are two names of one thing: some servers send both. */
static const struct {
    const char *member;
    pn_piece_of_reply kind;
    uint32_t next;
} texts[] = {
    {"reasoning_content", PN_REPLY_THOUGHT, 2}, {"reasoning", PN_REPLY_THOUGHT, 2}, {"content", PN_REPLY_TEXT, 3}, {"refusal", PN_REPLY_TEXT, 4},
};

ponder_status pn_reply_next(pn_reply *r, bool end, pn_reply_piece *out, ponder_error *err)
{
    pn_str reason = {0};
    *out = (pn_reply_piece){0};
    while (r->open && r->stage < PN_COUNT(texts)) {
        const uint32_t i = r->stage++;
        if (!text_piece(r, texts[i].member, texts[i].kind, out)) continue;
        r->stage = texts[i].next;
        return PONDER_OK;
    }
    if (r->open && pn_value_str(pn_get(choice(r), "finish_reason"), &reason) && reason.n) return at_end(r, reason, out, err);
    return r->done || end ? at_end(r, reason, out, err) : PONDER_OK;
}
