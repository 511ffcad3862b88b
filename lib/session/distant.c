/* Turns of a remote model: the session's turn (turn.c) calls these where a local one would compute. */
#include "session/distant.h"

enum { MOST_RESTARTS = 8, MOST_CLOSES = 4 };

/* ---- life ------------------------------------------------------------------------------------------------ */

#define EACH_BUFFER(X) X(schema) X(regex) X(tools) X(more) X(history) X(due) X(thought) X(answer) X(calls) X(call_id)

ponder_status pn_distant_new(ponder_session *s, ponder_error *err)
{
    pn_distant *d = pn_zalloc(s->a, sizeof *d);
    if (!d) return pn_nomem(err, sizeof *d);
    d->fleet = s->model->fleet;
#define INIT(name) pn_buf_init(&d->name, s->a);
    EACH_BUFFER(INIT)
#undef INIT
    pn_reply_init(&d->reply, s->a);
    s->distant = d;
    return PONDER_OK;
}

void pn_distant_free(ponder_session *s)
{
    pn_distant *d = s->distant;
    if (!d) return;
    pn_request_free(d->request);
    pn_reply_free(&d->reply);
#define FREE(name) pn_buf_free(&d->name);
    EACH_BUFFER(FREE)
#undef FREE
    pn_free(s->a, d, sizeof *d);
    s->distant = NULL;
}

static bool copy(pn_buf *to, const pn_buf *from)
{
    to->n = 0;
    return pn_buf_put(to, from->p, from->n);
}

ponder_status pn_distant_copy(ponder_session *to, const ponder_session *from)
{
    pn_distant *t = to->distant;
    const pn_distant *f = from->distant;
    const bool ok = copy(&t->tools, &f->tools) && copy(&t->history, &f->history) && copy(&t->due, &f->due) && copy(&t->thought, &f->thought) &&
                    copy(&t->answer, &f->answer) && copy(&t->calls, &f->calls);
    t->no_budget = f->no_budget;
    return ok ? PONDER_OK : pn_nomem(&to->err, f->history.n);
}

ponder_status pn_distant_copy_binding(ponder_session *to, const ponder_session *from)
{
    const bool ok = copy(&to->distant->schema, &from->distant->schema) && copy(&to->distant->regex, &from->distant->regex) &&
                    copy(&to->distant->more, &from->distant->more);
    return ok ? PONDER_OK : pn_nomem(&to->err, from->distant->schema.n);
}

uint64_t pn_distant_bytes(const ponder_session *s)
{
    uint64_t n = sizeof *s->distant;
#define ADD(name) n += s->distant->name.cap;
    EACH_BUFFER(ADD)
#undef ADD
    return n;
}

void pn_distant_wake(ponder_session *s) { pn_fleet_wake(s->distant->fleet); }

void pn_distant_cancel(ponder_session *s)
{
    atomic_store(&s->distant->cancel, true);
    pn_fleet_wake(s->distant->fleet);
}

bool pn_distant_take_cancel(ponder_session *s) { return atomic_exchange(&s->distant->cancel, false); }

void pn_distant_rest(ponder_session *s)
{
    pn_request_free(s->distant->request);
    s->distant->request = NULL;
}

/* Back to what the turn began with: nothing, or the part before a cut. */
static void forget_turn(pn_distant *d)
{
    d->thought.n = d->kept_thought;
    d->answer.n = d->kept_answer;
    d->calls.n = d->kept_calls;
}

void pn_distant_forget(ponder_session *s)
{
    pn_distant *d = s->distant;
    d->kept_thought = d->kept_answer = d->kept_calls = 0;
    forget_turn(d);
    d->history.n = d->due.n = 0;
    s->open_turn = s->ended = s->unprompted = false;
}

bool pn_distant_empty(const ponder_session *s) { return s->distant->history.n == 0; }

/* ---- settings -------------------------------------------------------------------------------------------------- */

/* What needs the model's tokens one by one cannot be done from here, and a server that goes on with no message of the model's own
 * leaves no way to cut a thought. */
ponder_status pn_distant_check_thinking(ponder_session *s, const ponder_config *c)
{
    static const ponder_param by_token[] = {PONDER_P_THINK_LEAST, PONDER_P_THINK_RANK, PONDER_P_THINK_CONTINUE, PONDER_P_THINK_EXIT, PONDER_P_THINK_EXIT_AT,
        PONDER_P_THINK_PATIENCE, PONDER_P_THINK_INTERVAL, PONDER_P_THINK_PROBE_SHARE, PONDER_P_THINK_START};
    static const ponder_param limits[] = {PONDER_P_THINK_TOKENS, PONDER_P_THINK_MS, PONDER_P_ANSWER_TOKENS, PONDER_P_THINK_SCOPE, PONDER_P_THINK_MESSAGE};
    const pn_dialect at = pn_fleet_dialect(s->distant->fleet);
    const char *what = pn_config_first_set(c, by_token, PN_COUNT(by_token));
    if (pn_config_i64(c, PONDER_P_THINK_SOFT) > 0) what = "think_soft";
    if (pn_config_i64(c, PONDER_P_THINK_GRACE) > 0) what = "think_grace";
    if (what) return pn_fail(&s->err, PONDER_E_UNSUPPORTED, "%s: it needs the tokens of a model, which a remote one keeps to itself", what);
    what = at == PN_SERVER_OPENAI ? pn_config_first_set(c, limits, PN_COUNT(limits)) : NULL;
    if (what)
        return pn_fail(&s->err, PONDER_E_UNSUPPORTED, "%s: servers of the kind \"%s\" keep no such limit, and cannot be made to from here", what, pn_dialect_name(at));
    if (pn_config_i64(c, PONDER_P_ANSWER_TOKENS) && !pn_config_i64(c, PONDER_P_MAX_TOKENS))
        return pn_fail(&s->err, PONDER_E_UNSUPPORTED, "answer_tokens: of a remote model's turn only max_tokens is known here, and it is not set");
    return PONDER_OK;
}

static ponder_status set_json(pn_buf *to, const char *text, const char *what, ponder_session *s)
{
    pn_json doc;
    ponder_status st = PONDER_OK;
    to->n = 0;
    if (!*text) return PONDER_OK;
    st = pn_json_read_as(&doc, text, strlen(text), &(pn_json_options){.what = what}, s->a, &s->err);
    if (st != PONDER_OK) return st;
    if (pn_json_root(&doc)->type != PN_V_DICT) st = pn_fail(&s->err, PONDER_E_FORMAT, "%s: no JSON object", what);
    else if (!pn_buf_puts(to, text)) st = pn_nomem(&s->err, strlen(text));
    pn_json_free(&doc);
    return st;
}

ponder_status pn_distant_bind(ponder_session *s, const char *schema, const char *regex)
{
    pn_distant *d = s->distant;
    ponder_status st = set_json(&d->schema, schema, "schema", s);
    d->regex.n = 0;
    if (st == PONDER_OK && !pn_buf_puts(&d->regex, regex)) st = pn_nomem(&s->err, strlen(regex));
    return st;
}

ponder_status pn_distant_configure(ponder_session *s, const ponder_config *c)
{
    if (pn_config_i64(c, PONDER_P_CONTEXT)) return pn_fail(&s->err, PONDER_E_UNSUPPORTED, "context: the server of a remote model has its own");
    s->distant->restart = pn_config_i64(c, PONDER_P_REMOTE_RESTART) != 0;
    return set_json(&s->distant->more, pn_config_str(c, PONDER_P_REMOTE_BODY), "remote_body", s);
}

/* Each tool's function, whatever form it was given in. */
static ponder_status add_tool(ponder_session *s, pn_buf *to, const char *json, size_t from, size_t n)
{
    pn_json_scan in;
    size_t at = from, bytes = n;
    uint32_t members;
    pn_json_scan_init(&in, json + from, n, 0);
    for (pn_json_event e = pn_json_next(&in); e != PN_J_END && e != PN_J_WRONG; e = pn_json_next(&in)) {
        const bool function = e == PN_J_KEY && in.depth == 1 && pn_str_eq(in.text, "function");
        if (!function || pn_json_next(&in) != PN_J_OPEN) continue;
        at = from + in.at - 1;
        if (!pn_json_skip(&in, &members)) break;
        bytes = from + in.at - at;
        break;
    }
    pn_buf_put(to, json + at, bytes);
    return pn_buf_put(to, "", 1) ? PONDER_OK : pn_nomem(&s->err, bytes);
}

/* The text was read as tools before: it is right. */
ponder_status pn_distant_set_tools(ponder_session *s, const char *json, size_t n)
{
    pn_json_scan in;
    uint32_t members;
    pn_buf list;
    ponder_status st = PONDER_OK;
    pn_buf_init(&list, s->a);
    pn_json_scan_init(&in, json, n, 0);
    if (n) pn_json_next(&in);
    while (n && st == PONDER_OK && pn_json_next(&in) == PN_J_OPEN) {
        const size_t from = in.at - 1;
        if (!pn_json_skip(&in, &members)) break;
        st = add_tool(s, &list, json, from, in.at - from);
    }
    if (st != PONDER_OK) {
        pn_buf_free(&list);
        return st;
    }
    pn_buf_free(&s->distant->tools);
    s->distant->tools = list;
    return PONDER_OK;
}

/* ---- a turn -------------------------------------------------------------------------------------------------------- */

/* Servers of the plain kind take no message of the model's own to go on with; vLLM goes on with its text, never inside its thought. */
static ponder_status can_go_on(ponder_session *s, pn_go_on how)
{
    const pn_dialect at = pn_fleet_dialect(s->distant->fleet);
    if (at == PN_SERVER_LLAMA || (at != PN_SERVER_OPENAI && how == PN_GO_ANSWER)) return PONDER_OK;
    return pn_fail(&s->err, PONDER_E_UNSUPPORTED, "servers of the kind \"%s\" cannot go on with a turn that was cut%s: add a message", pn_dialect_name(at),
                   how == PN_GO_THOUGHT ? " in its thought" : "");
}

/* Whoever reads Muse's channels on the server waits for a header that stands in the prompt already, and streams nothing. */
static bool streams_on(const ponder_session *s)
{
    const pn_dialect at = pn_fleet_dialect(s->distant->fleet);
    return at == PN_SERVER_LLAMA || pn_parser_kind_of(s->template) != PN_PARSER_MUSE;
}

static ponder_status send(ponder_session *s, pn_go_on go_on)
{
    pn_distant *d = s->distant;
    pn_buf body;
    pn_buf_init(&body, s->a);
    d->whole = d->whole || (go_on != PN_GO_NEW && !streams_on(s));
    ponder_status st = pn_distant_body(s, go_on, &body);
    pn_distant_rest(s);
    if (st == PONDER_OK) st = pn_request_new(&d->request, d->fleet, "/chat/completions", (pn_str){body.p, body.n}, &s->err);
    pn_buf_free(&body);
    pn_reply_begin(&d->reply);
    d->going_on = go_on;
    d->over = d->ended = d->told = d->closing = false;
    d->before_output = d->output_tokens;
    d->before_thought = d->thought_tokens;
    return st;
}

/* Text that the server did not take apart is read here, when the host has named the model's template. */
static ponder_status open_parser(ponder_session *s)
{
    pn_parse_options o = {.kind = pn_parser_kind_of(s->template), .template = s->template, .tools = s->tools, .calls = s->calls,
                          .think_open = pn_str_of(s->think.open), .think_close = pn_str_of(s->think.close)};
    const pn_distant *d = s->distant;
    pn_session_forget_parser(s);
    if (o.kind == PN_PARSER_MUSE && (d->thought.n || d->answer.n)) o.kind = PN_PARSER_PLAIN; /* it does take it apart; or goes on in the answer */
    if (d->answer.n) o.start = PN_PARSE_ANSWER;
    return pn_parser_new(&s->parser, &o, s->a, &s->err);
}

ponder_status pn_distant_prepare(ponder_session *s)
{
    pn_distant *d = s->distant;
    ponder_status st = pn_distant_check(s);
    d->first = s->n_pending || !s->open_turn ? PN_GO_NEW : d->thought.n && !d->answer.n ? PN_GO_THOUGHT : PN_GO_ANSWER;
    if (st == PONDER_OK && d->first == PN_GO_NEW) st = pn_distant_add_pending(s);
    if (st == PONDER_OK && d->history.n == 0) st = pn_fail(&s->err, PONDER_E_STATE, "the session is empty: add a message first");
    if (st == PONDER_OK && d->first != PN_GO_NEW) st = can_go_on(s, d->first);
    if (st != PONDER_OK) return st;
    d->kept_thought = d->thought.n;
    d->kept_answer = d->answer.n;
    d->kept_calls = d->calls.n;
    d->restarts = d->closes = 0;
    d->whole = false;
    pn_thought_begin(&s->think.t);
    d->thought_tokens = d->output_tokens = d->prompt_tokens = d->cached_tokens = 0;
    d->end = PONDER_END_NONE;
    if ((st = send(s, d->first)) != PONDER_OK) return st;
    s->open_turn = true;
    s->ended = s->unprompted = false;
    s->thought_before = 0;
    s->calls_before = s->calls;
    if ((st = open_parser(s)) == PONDER_OK) s->phase = PN_TURN;
    return st;
}

/* Nothing of the turn counts: its question waits for another try. */
void pn_distant_failed(ponder_session *s)
{
    pn_distant *d = s->distant;
    if (s->phase != PN_TURN && s->phase != PN_FLUSH) return; /* it did not begin */
    forget_turn(d);
    s->open_turn = d->first != PN_GO_NEW;
    s->ended = false;
    s->unprompted = !s->open_turn;
}

static int32_t end_of(const ponder_session *s, pn_str reason)
{
    static const char *const stops[] = {"stop", "eos", "eos_token", "stop_sequence", "end_turn", "tool_calls", "function_call", "tool_use"};
    for (size_t i = 0; i < PN_COUNT(stops); i++)
        if (pn_str_eq(reason, stops[i])) return PONDER_END_EOS;
    if (!pn_str_eq(reason, "length") && !pn_str_eq(reason, "max_tokens")) return PONDER_END_FAILED;
    const pn_distant *d = s->distant;
    const uint64_t made = d->before_output + (d->reply.output_tokens ? d->reply.output_tokens : d->output_tokens - d->before_output);
    return s->max_tokens && made >= s->max_tokens ? PONDER_END_LENGTH : PONDER_END_CONTEXT;
}

static ponder_status take_end(ponder_session *s, pn_str reason)
{
    pn_distant *d = s->distant;
    const bool mute = d->going_on != PN_GO_NEW && !d->told && !d->whole && pn_fleet_dialect(d->fleet) != PN_SERVER_LLAMA;
    if (mute) { /* it waits for a header in vain (streams_on): once more, in one piece */
        d->whole = true;
        return send(s, d->going_on);
    }
    if (reason.n == 0 && !d->reply.done && !d->whole) return pn_fail(&s->err, PONDER_E_IO, "%s: the stream ended before the answer did", pn_request_server(d->request));
    d->ended = true;
    d->end = reason.n ? end_of(s, reason) : PONDER_END_EOS;
    if (d->end != PONDER_END_FAILED) return PONDER_OK;
    return pn_fail(&s->err, PONDER_E_IO, "%s: it ended the answer for the reason \"%.*s\"", pn_request_server(d->request), (int)PN_MIN(reason.n, (size_t)60), reason.p);
}

/* The form of the first text tells a server that takes Muse's channels apart from one that does not. */
static ponder_status put_text(ponder_session *s, pn_str text)
{
    pn_distant *d = s->distant;
    static const char header[] = " to=";
    const bool first = d->answer.n == 0 && d->output_tokens == d->before_output;
    const bool muse = pn_session_is_muse(s);
    if (muse && first && memcmp(text.p, header, PN_MIN(text.n, sizeof header - 1)) != 0 && text.p[0] != '<') {
        pn_session_forget_parser(s);
        const pn_parse_options o = {.kind = PN_PARSER_PLAIN, .tools = s->tools, .calls = s->calls};
        ponder_status st = pn_parser_new(&s->parser, &o, s->a, &s->err);
        if (st != PONDER_OK) return st;
    }
    return pn_parser_put(s->parser, text.p, text.n, &s->err);
}

/* The thought ends here: the stream is closed, the host's message told, and the answer asked for behind the thought so far. */
static ponder_status close_thought(ponder_session *s, int32_t why)
{
    pn_distant *d = s->distant;
    const char *message = s->think.message;
    ponder_status st = can_go_on(s, PN_GO_ANSWER);
    if (st != PONDER_OK) return st;
    if (d->closes++ == MOST_CLOSES) return pn_fail(&s->err, PONDER_E_IO, "%s: the model goes on thinking behind a close", pn_request_server(d->request));
    pn_session_distant_closed(s, why);
    pn_distant_rest(s);
    d->closing = true;
    if (*message && why != PONDER_THOUGHT_NATURAL && d->closes == 1) s->parsed = (pn_parsed){.kind = PN_PARSED_THOUGHT, .text = pn_str_of(message)};
    return PONDER_OK;
}

static ponder_status take_thought(ponder_session *s, const pn_reply_piece *p)
{
    pn_distant *d = s->distant;
    const int32_t why = s->think.t.over ? s->think.t.why : pn_session_distant_over(s, p->tokens);
    if (why) return close_thought(s, why);
    pn_session_distant_piece(s, true, p->tokens);
    s->parsed = (pn_parsed){.kind = PN_PARSED_THOUGHT, .text = p->text};
    d->thought_tokens += p->tokens;
    return PONDER_OK;
}

/* Thoughts that the server leaves in its text cannot be cut: where they would go on from is not known. */
static ponder_status take_text(ponder_session *s, pn_str text)
{
    ponder_status st = put_text(s, text);
    if (st != PONDER_OK || pn_parser_channel(s->parser) != PN_CHANNEL_THOUGHT || !s->think.on) return st;
    return pn_fail(&s->err, PONDER_E_UNSUPPORTED, "%s leaves thoughts in its text (no reasoning parser): their limits cannot be kept",
                   pn_request_server(s->distant->request));
}

static ponder_status take_piece(ponder_session *s, const pn_reply_piece *p)
{
    pn_distant *d = s->distant;
    ponder_status st = PONDER_OK;
    if (!s->first_us) s->first_us = pn_now_us();
    d->call_id.n = 0;
    if (p->kind == PN_REPLY_THOUGHT) st = take_thought(s, p);
    else pn_session_distant_piece(s, false, 0);
    if (d->closing) return st;
    switch (p->kind) {
    case PN_REPLY_THOUGHT: break;
    case PN_REPLY_TEXT: st = take_text(s, p->text); break;
    case PN_REPLY_CALL:
        s->parsed = (pn_parsed){.kind = PN_PARSED_CALL, .text = p->text, .name = p->name, .id = p->id, .tool = -1};
        if (!pn_buf_put(&d->call_id, p->id.p, p->id.n)) st = pn_nomem(&s->err, p->id.n);
        break;
    case PN_REPLY_RAW: s->parsed = (pn_parsed){.kind = PN_PARSED_RAW, .text = p->text}; break;
    case PN_REPLY_END: return take_end(s, p->text);
    }
    d->output_tokens += p->tokens;
    d->told = true;
    return st;
}

/* What the server counted is better than what was counted here. */
static void take_usage(ponder_session *s)
{
    pn_distant *d = s->distant;
    const pn_reply *r = &d->reply;
    if (!r->has_usage) return;
    if (r->output_tokens) d->output_tokens = d->before_output + r->output_tokens;
    if (r->thought_tokens) d->thought_tokens = d->before_thought + r->thought_tokens;
    if (d->prompt_tokens == 0) {
        d->prompt_tokens = r->prompt_tokens;
        d->cached_tokens = PN_MIN(r->cached_tokens, r->prompt_tokens);
    }
}

static bool says(const ponder_error *e, const char *word) { return strstr(e->text, word) != NULL; }

/* vLLM keeps thinking budgets only when it was told the markers of thoughts. */
static bool no_budget_there(const ponder_session *s, ponder_status st)
{
    return st == PONDER_E_ARGUMENT && !s->distant->no_budget && pn_session_distant_cap(s) >= 0 && says(&s->err, "thinking_token_budget");
}

/* A stream that broke: from its start elsewhere, if nothing was reported of it. */
static ponder_status broke(ponder_session *s, ponder_status st, ponder_event *event)
{
    pn_distant *d = s->distant;
    if (d->ended) {
        d->over = true; /* only the usage is missing */
        return PONDER_OK;
    }
    if (no_budget_there(s, st)) {
        d->no_budget = true;
        pn_error_clear(&s->err);
        return send(s, d->going_on);
    }
    if (st != PONDER_E_IO) return st;
    if (!d->told && pn_request_again(d->request)) {
        pn_reply_begin(&d->reply);
        return PONDER_OK;
    }
    if (!d->told || !d->restart || d->restarts++ >= MOST_RESTARTS) return st;
    forget_turn(d);
    d->thought_tokens = d->output_tokens = 0;
    s->held.n = 0;
    s->parsed.kind = 0;
    event->kind = PONDER_EVENT_RESTART;
    if ((st = send(s, d->first)) == PONDER_OK) st = open_parser(s);
    return st;
}

/* Behind a thought that was cut. */
static ponder_status send_answer(ponder_session *s)
{
    ponder_status st = send(s, PN_GO_ANSWER);
    return st == PONDER_OK ? open_parser(s) : st;
}

ponder_status pn_distant_generate(ponder_session *s, uint64_t until, ponder_event *event)
{
    pn_distant *d = s->distant;
    pn_reply_piece p;
    pn_str data;
    if (d->closing) return send_answer(s);
    for (;;) {
        ponder_status st = pn_reply_next(&d->reply, d->over, &p, &s->err);
        if (st != PONDER_OK) return st;
        if (p.kind && (st = take_piece(s, &p)) != PONDER_OK && p.kind == PN_REPLY_END && !d->ended) st = broke(s, st, event);
        if (st != PONDER_OK || event->kind) return pn_fleet_scrub(d->fleet, st, &s->err);
        if (p.kind && p.kind != PN_REPLY_END) return PONDER_OK;
        if (p.kind) continue;
        if (s->think.t.open && !d->over) {
            const int32_t why = pn_session_distant_over(s, 0);
            if (why) return close_thought(s, why);
        }
        if (d->over) {
            take_usage(s);
            pn_session_finish(s, d->end);
            return PONDER_OK;
        }
        const uint64_t look = pn_session_distant_until(s, until);
        st = pn_request_next(d->request, look, &d->cancel, &data, &d->over, &s->err);
        if (st == PONDER_MORE && look != until && (!until || pn_now_us() < until)) continue;
        if (st == PONDER_MORE || st == PONDER_E_CANCELLED) return st;
        if (st == PONDER_OK && !d->over) {
            st = pn_fleet_scrub(d->fleet, pn_reply_read(&d->reply, data, &s->err), &s->err);
            d->over = d->reply.done;
        }
        if (st != PONDER_OK && (st = broke(s, st, event)) != PONDER_OK) return st;
        if (event->kind) return PONDER_OK;
    }
}

/* ---- what was reported ------------------------------------------------------------------------------------------------ */

static bool note_call(ponder_session *s, const ponder_event *e)
{
    pn_distant *d = s->distant;
    char own[32];
    pn_buf number;
    pn_buf_init(&number, s->a);
    if (d->call_id.n == 0) {
        pn_buf_printf(&number, "call_%llu", (unsigned long long)s->calls);
        const size_t n = PN_MIN(number.n, sizeof own);
        memcpy(own, number.p, number.failed ? 0 : n);
        pn_buf_put(&d->call_id, own, n);
    }
    bool ok = !number.failed;
    pn_buf_free(&number);
    if (d->calls.n) pn_buf_put(&d->calls, ",", 1);
    pn_buf_puts(&d->calls, "{\"id\":");
    pn_write_string(&d->calls, (pn_str){d->call_id.p, d->call_id.n});
    pn_buf_puts(&d->calls, ",\"type\":\"function\",\"function\":{\"name\":");
    pn_write_string(&d->calls, (pn_str){e->name, e->name_bytes});
    pn_buf_puts(&d->calls, ",\"arguments\":");
    pn_write_string(&d->calls, (pn_str){e->text, e->text_bytes});
    pn_buf_puts(&d->calls, "}}");
    pn_buf_put(&d->due, e->name, e->name_bytes);
    pn_buf_put(&d->due, "", 1);
    pn_buf_put(&d->due, d->call_id.p, d->call_id.n);
    pn_buf_put(&d->due, "", 1);
    d->call_id.n = 0;
    return ok && !d->calls.failed && !d->due.failed && !d->call_id.failed;
}

/* What the host was told becomes the model's message. */
ponder_status pn_distant_note(ponder_session *s, ponder_event *e)
{
    pn_distant *d = s->distant;
    bool ok = true;
    switch (e->kind) {
    case PONDER_EVENT_THOUGHT: ok = pn_buf_put(&d->thought, e->text, e->text_bytes); break;
    case PONDER_EVENT_COMMENTARY:
    case PONDER_EVENT_ANSWER:
    case PONDER_EVENT_RAW: ok = pn_buf_put(&d->answer, e->text, e->text_bytes); break;
    case PONDER_EVENT_TOOL_CALL: ok = note_call(s, e); break;
    case PONDER_EVENT_DONE:
        if (d->thought_tokens == 0) d->thought_tokens = s->think.t.used = s->thought_tokens; /* taken out of the text here */
        e->prompt_tokens = d->prompt_tokens - d->cached_tokens;
        e->reused_tokens = d->cached_tokens;
        e->output_tokens = d->output_tokens;
        e->thought_tokens = s->thought_tokens = d->thought_tokens;
        break;
    default: break;
    }
    return ok ? PONDER_OK : pn_nomem(&s->err, e->text_bytes);
}
