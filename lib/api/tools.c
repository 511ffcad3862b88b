/* Tools, the loop that answers their calls, and the parser by itself. */
#include "api/api.h"

#include <unistd.h>

#include "agents/agents.h"

#define BEGIN(s) \
    pn_call call; \
    ponder_status st = pn_call_begin(&call, s); \
    if (st != PONDER_OK) return st
#define END() return pn_call_end(&call, st)

ponder_status ponder_session_tools(ponder_session *s, const char *json, size_t bytes)
{
    BEGIN(s);
    st = !json && bytes ? pn_fail(&s->err, PONDER_E_ARGUMENT, "json: NULL") : pn_session_set_tools(s, json, bytes);
    END();
}

ponder_status ponder_session_add_result(ponder_session *s, const char *name, const char *text, size_t bytes)
{
    BEGIN(s);
    if (!name || (!text && bytes)) st = pn_fail(&s->err, PONDER_E_ARGUMENT, "name or text: NULL");
    else st = pn_session_add_result(s, name, text, bytes);
    END();
}

/* ---- the loop ------------------------------------------------------------------------------------------- */

/* Calls of the turn under way: their names (each with a NUL) and arguments, one behind the other. */
typedef struct loop {
    ponder_on_event on_event;
    ponder_on_call on_call;
    void *user;
    const pn_call *call;      /* the one that agents are driven in */
    pn_buf text, said;        /* said: everything but calls, where announcements are looked for */
    bool subagents, called;   /* the tools are offered; one was called in this turn */
    struct { size_t name, name_bytes, arguments, bytes; } *calls;
    uint32_t n, cap;
    int32_t end;
    const ponder_alloc *a;
    bool failed;
} loop;

static bool keep(loop *l, const ponder_event *e)
{
    if (l->n == l->cap) {
        uint32_t cap = l->cap ? 2 * l->cap : 8;
        void *p = pn_grow(l->a, l->calls, l->cap * sizeof *l->calls, cap * sizeof *l->calls);
        if (!p) return false;
        l->calls = p;
        l->cap = cap;
    }
    l->calls[l->n].name = l->text.n;
    l->calls[l->n].name_bytes = e->name_bytes;
    pn_buf_put(&l->text, e->name, e->name_bytes);
    pn_buf_put(&l->text, "", 1);
    l->calls[l->n].arguments = l->text.n;
    l->calls[l->n].bytes = e->text_bytes;
    pn_buf_put(&l->text, e->text, e->text_bytes);
    l->n++;
    return !l->text.failed;
}

static int32_t watch(void *user, const ponder_event *e)
{
    loop *l = user;
    ponder_event done;
    if (e->kind == PONDER_EVENT_TOOL_CALL) {
        l->failed |= !keep(l, e);
        l->called |= e->name_bytes > 10 && memcmp(e->name, "subagents.", 10) == 0;
    } else if (l->subagents && e->kind != PONDER_EVENT_DONE) {
        pn_buf_put(&l->said, e->text, e->text_bytes);
    }
    if (e->kind == PONDER_EVENT_DONE) {
        l->end = e->end;
        done = *e;
        done.announced = l->subagents && !l->called && e->end == PONDER_END_EOS && pn_subagents_announced((pn_str){l->said.p, l->said.n});
        e = &done;
    }
    int32_t stop = l->on_event ? l->on_event(l->user, e) : 0;
    return l->failed ? 1 : stop;
}

/* Of an agent that the model has. */
static int32_t tell_agent(void *user, const ponder_event *e)
{
    loop *l = user;
    return pn_call_tell(l->call, l->on_event, l->user, e);
}

static int32_t ask_for_agent(void *user, ponder_session *s, const ponder_event *call)
{
    loop *l = user;
    pn_fenv ours;
    if (!l->on_call) return 0;
    pn_fenv_leave(&l->call->fenv);
    int32_t stop = l->on_call(l->user, s, call);
    pn_fenv_enter(&ours);
    return stop;
}

/* The library's own tools: image.zoom and subagents.*. Every other call is the host's to answer. */
static ponder_status own_call(loop *l, ponder_session *s, pn_str name, pn_str arguments, bool *ours)
{
    BEGIN(s);
    const pn_subagents_host host = {tell_agent, ask_for_agent, l};
    l->call = &call;
    st = pn_session_zoom(s, name, arguments, ours);
    if (st == PONDER_OK && !*ours) st = pn_subagents_answer(s, name, arguments, &host, ours);
    END();
}

static ponder_status answer(loop *l, ponder_session *s, ponder_on_call on_call, void *user)
{
    ponder_status st = PONDER_OK;
    for (uint32_t i = 0; i < l->n && st == PONDER_OK; i++) {
        const pn_str name = {l->text.p + l->calls[i].name, l->calls[i].name_bytes}, args = {l->text.p + l->calls[i].arguments, l->calls[i].bytes};
        const ponder_event e = {.size = sizeof e, .kind = PONDER_EVENT_TOOL_CALL, .token = -1, .agent = -1, .name = name.p, .name_bytes = name.n,
                                .text = args.p, .text_bytes = args.n};
        bool ours = false;
        if ((st = own_call(l, s, name, args, &ours)) != PONDER_OK || ours) continue;
        const size_t before = s->n_pending;
        if (on_call && on_call(user, s, &e) != 0) {
            pn_fail(&s->err, PONDER_E_CANCELLED, "the call of %.*s was not to be answered", (int)PN_MIN(name.n, (size_t)64), name.p);
            return PONDER_E_CANCELLED;
        }
        if (s->n_pending == before) st = ponder_session_add_result(s, name.p, "", 0);
    }
    return st;
}

ponder_status ponder_session_run(ponder_session *s, ponder_on_event on_event, ponder_on_call on_call, void *user, uint32_t rounds)
{
    if (!s) return PONDER_E_ARGUMENT;
    loop l = {.on_event = on_event, .on_call = on_call, .user = user, .a = s->a, .subagents = s->subagents};
    ponder_status st = PONDER_OK;
    pn_buf_init(&l.text, s->a);
    pn_buf_init(&l.said, s->a);
    for (uint32_t round = 0; st == PONDER_OK; round++) {
        if (round == rounds) {
            st = PONDER_MORE;
            break;
        }
        l.n = 0;
        l.text.n = l.said.n = 0;
        l.called = false;
        st = ponder_session_generate(s, watch, &l);
        if (l.failed) st = pn_nomem(&s->err, l.text.n);
        if (st != PONDER_OK || l.n == 0 || l.end != PONDER_END_EOS) break;
        if (round + 1 < rounds) st = answer(&l, s, on_call, user);
    }
    pn_buf_free(&l.text);
    pn_buf_free(&l.said);
    pn_free(l.a, l.calls, l.cap * sizeof *l.calls);
    return st;
}

/* ---- the parser ------------------------------------------------------------------------------------------ */

struct ponder_parser {
    ponder_alloc alloc;
    pn_parser *parser;
    ponder_error err;
    uint64_t message;
    bool ended;
};

static ponder_status open_parser(ponder_parser *h, pn_template t, const char *tools_json, size_t n, ponder_error *err)
{
    const ponder_alloc *a = h->alloc.alloc ? &h->alloc : NULL;
    pn_tools *tools = NULL;
    ponder_status st = n > 0 ? pn_tools_read(&tools, tools_json, n, a, err) : PONDER_OK;
    const pn_parse_options o = {.kind = pn_parser_kind_of(t), .template = t, .tools = tools};
    if (st == PONDER_OK) st = pn_parser_new(&h->parser, &o, a, err);
    pn_tools_free(tools);
    return st;
}

ponder_status ponder_parser_new(ponder_parser **out, const char *template_name, const char *tools_json, size_t bytes, ponder_config *c)
{
    if (!out) return PONDER_E_ARGUMENT;
    *out = NULL;
    ponder_error *err = pn_api_config_error(c);
    if (!template_name || (!tools_json && bytes)) return pn_fail(err, PONDER_E_ARGUMENT, "NULL where a value is needed");
    pn_template t = pn_template_by_name(template_name);
    if (t == PN_TEMPLATE_NONE) return pn_fail(err, PONDER_E_UNKNOWN, "no template is called \"%s\"", template_name);
    const ponder_alloc *a = c && c->alloc.alloc ? &c->alloc : NULL;
    ponder_parser *h = pn_zalloc(a, sizeof *h);
    if (!h) return pn_nomem(err, sizeof *h);
    if (a) h->alloc = *a;
    h->err.size = sizeof h->err;
    ponder_status st = open_parser(h, t, tools_json, bytes, err);
    if (st != PONDER_OK) pn_free(a, h, sizeof *h);
    else *out = h;
    return st;
}

void ponder_parser_free(ponder_parser *h)
{
    if (!h) return;
    ponder_alloc a = h->alloc;
    pn_parser_free(h->parser);
    pn_free(a.alloc ? &a : NULL, h, sizeof *h);
}

const char *ponder_parser_error(const ponder_parser *h) { return h ? h->err.text : ""; }

ponder_status ponder_parser_feed(ponder_parser *h, const char *text, size_t bytes)
{
    if (!h) return PONDER_E_ARGUMENT;
    h->err.text[0] = 0;
    if (!text && bytes) return pn_fail(&h->err, PONDER_E_ARGUMENT, "text: NULL");
    if (bytes > PTRDIFF_MAX) return pn_fail(&h->err, PONDER_E_RANGE, "text: %zu bytes, and nothing is that long", bytes);
    if (h->ended) return pn_fail(&h->err, PONDER_E_STATE, "the stream has ended: what follows needs a parser of its own");
    h->ended = bytes == 0;
    return bytes ? pn_parser_put(h->parser, text, bytes, &h->err) : pn_parser_finish(h->parser, &h->err);
}

ponder_status ponder_parser_next(ponder_parser *h, ponder_event *out)
{
    pn_parsed p;
    if (!h) return PONDER_E_ARGUMENT;
    h->err.text[0] = 0;
    if (!pn_api_struct(out, PN_EVENT_FIRST)) return pn_fail(&h->err, PONDER_E_ARGUMENT, "event: NULL or without its size");
    ponder_event e = {.size = sizeof e, .token = -1, .text = "", .agent = -1};
    do {
        if (!pn_parser_next(h->parser, &p)) return PONDER_MORE;
        e.kind = pn_event_kind(p.kind);
        h->message += p.kind == PN_PARSED_MESSAGE_END;
    } while (!e.kind && p.kind != PN_PARSED_TURN_END);
    e.message = h->message;
    if (p.kind == PN_PARSED_TURN_END) {
        e.kind = PONDER_EVENT_DONE;
        e.end = PONDER_END_EOS;
        h->message = 0;
    } else {
        e.text = p.text.n ? p.text.p : "";
        e.text_bytes = p.text.n;
        e.name = p.name.p;
        e.name_bytes = p.name.n;
    }
    pn_api_write(out, &e, sizeof e);
    return PONDER_OK;
}
