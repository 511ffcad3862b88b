/* The request: messages, settings and what binds the answer, in the dialect of the servers. */
#include "session/distant.h"

#include <math.h>

/* ---- messages -------------------------------------------------------------------------------------------------- */

static void begin_message(pn_buf *b, const char *role)
{
    if (b->n) pn_buf_put(b, ",", 1);
    pn_buf_puts(b, "{\"role\":");
    pn_write_string(b, pn_str_of(role));
}

static ponder_status write_image(ponder_session *s, pn_buf *b, const pn_medium *m)
{
    pn_buf png;
    pn_buf_init(&png, s->a);
    ponder_status st = pn_image_to_png(m->e[0].frame[0], &png, &s->err);
    if (st == PONDER_OK) {
        pn_buf_puts(b, "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,");
        pn_write_base64(b, png.p, png.n);
        pn_buf_puts(b, "\"}}");
    }
    pn_buf_free(&png);
    return st;
}

static ponder_status write_parts(ponder_session *s, pn_buf *b, const pn_pending *m)
{
    ponder_status st = PONDER_OK;
    pn_buf_puts(b, "[");
    for (size_t i = 0; i < m->n_parts && st == PONDER_OK; i++) {
        if (i) pn_buf_put(b, ",", 1);
        if (m->media[i]) {
            st = write_image(s, b, m->media[i]);
            continue;
        }
        pn_buf_puts(b, "{\"type\":\"text\",\"text\":");
        pn_write_string(b, m->parts[i].text);
        pn_buf_puts(b, "}");
    }
    pn_buf_puts(b, "]");
    return st;
}

/* The id of the first call by that name that has no result yet; its own name when there is none. */
static pn_str take_due(pn_distant *d, pn_str name)
{
    for (size_t at = 0; at < d->due.n;) {
        char *p = d->due.p + at;
        const size_t n = strlen(p), id = strlen(p + n + 1);
        at += n + id + 2;
        if (n != name.n || memcmp(p, name.p, n) != 0 || n == 0) continue;
        p[0] = 1; /* answered: no name begins like this */
        return (pn_str){p + n + 1, id};
    }
    return name;
}

static ponder_status write_message(ponder_session *s, const pn_pending *m)
{
    pn_buf *b = &s->distant->history;
    ponder_status st = PONDER_OK;
    begin_message(b, m->role.p);
    if (strcmp(m->role.p, "tool") == 0 && m->name.n) {
        pn_buf_puts(b, ",\"name\":");
        pn_write_string(b, m->name);
        pn_buf_puts(b, ",\"tool_call_id\":");
        pn_write_string(b, take_due(s->distant, m->name));
    }
    pn_buf_puts(b, ",\"content\":");
    if (m->n_parts == 1 && !m->media[0]) pn_write_string(b, m->parts[0].text);
    else st = write_parts(s, b, m);
    pn_buf_puts(b, "}");
    return st;
}

/* The model's own message so far. Thoughts go back only to servers that are known to take them. */
static void write_own(ponder_session *s, pn_buf *b, bool go_on)
{
    const pn_distant *d = s->distant;
    const pn_dialect dialect = pn_fleet_dialect(d->fleet);
    begin_message(b, "assistant");
    if (d->thought.n && dialect != PN_SERVER_OPENAI && (go_on || d->calls.n)) {
        pn_buf_puts(b, ",\"reasoning_content\":");
        pn_write_string(b, (pn_str){d->thought.p, d->thought.n});
    } else if (go_on && dialect == PN_SERVER_LLAMA && !d->answer.n) {
        pn_buf_puts(b, ",\"reasoning_content\":\" \""); /* without a thought it goes on in a way that its own reader refuses */
    }
    pn_buf_puts(b, ",\"content\":");
    if (d->answer.n || go_on || !d->calls.n) pn_write_string(b, (pn_str){d->answer.p, d->answer.n});
    else pn_buf_puts(b, "null");
    if (d->calls.n) {
        pn_buf_puts(b, ",\"tool_calls\":[");
        pn_buf_put(b, d->calls.p, d->calls.n);
        pn_buf_puts(b, "]");
    }
    pn_buf_puts(b, "}");
}

bool pn_distant_close_turn(ponder_session *s)
{
    pn_distant *d = s->distant;
    if (s->open_turn && (d->answer.n || d->calls.n || d->thought.n)) write_own(s, &d->history, false);
    if (d->history.failed) return false;
    d->thought.n = d->answer.n = d->calls.n = 0;
    s->open_turn = s->ended = false;
    return true;
}

/* All or nothing. */
ponder_status pn_distant_add_pending(ponder_session *s)
{
    pn_distant *d = s->distant;
    const size_t before = d->history.n;
    ponder_status st = PONDER_OK;
    if (s->n_pending == 0) return PONDER_OK;
    if (!pn_distant_close_turn(s)) st = PONDER_E_NOMEM;
    const size_t closed = d->history.failed ? before : d->history.n;
    for (size_t i = 0; i < s->n_pending && st == PONDER_OK; i++) st = write_message(s, &s->pending[i]);
    if (d->history.failed) st = pn_nomem(&s->err, d->history.n);
    if (st != PONDER_OK) {
        d->history.failed = false;
        d->history.n = closed;
    }
    s->unprompted = st == PONDER_OK || (s->unprompted && closed == before);
    pn_session_forget_pending(s);
    return st;
}

/* ---- settings ---------------------------------------------------------------------------------------------------- */

static bool is_number(const char *effort) { return *effort >= '0' && *effort <= '9'; }

/* What a server does not know would be left out of the answer silently. */
static const char *unknown_to(const ponder_session *s, pn_dialect at)
{
    const pn_sampling *p = &s->sampling;
    const bool window = (int64_t)p->window != pn_config_i64(NULL, PONDER_P_PENALTY_WINDOW);
    if (s->logprobs >= 0) return "logprobs"; /* an event names tokens by their ids, which servers do not tell */
    if (s->look_closer) return "look_closer";
    if (s->subagents) return "subagents";
    if (s->n_bias) return "a bias";
    if (window && at != PN_SERVER_LLAMA) return "penalty_window";
    if (s->distant->regex.n && at != PN_SERVER_VLLM && at != PN_SERVER_SGLANG) return "regex";
    if (at != PN_SERVER_OPENAI) return NULL;
    if (p->top_k) return "top_k";
    if (p->min_p > 0) return "min_p";
    if (p->repeat != 1) return "repeat_penalty";
    if (s->ignore_eos) return "ignore_eos";
    return is_number(s->effort) ? "an effort in numbers" : NULL;
}

ponder_status pn_distant_check(ponder_session *s)
{
    const pn_dialect at = pn_fleet_dialect(s->distant->fleet);
    const char *what = unknown_to(s, at);
    return what ? pn_fail(&s->err, PONDER_E_UNSUPPORTED, "%s: servers of the kind \"%s\" do not know it", what, pn_dialect_name(at)) : PONDER_OK;
}

static void number(pn_buf *b, const char *name, double v)
{
    pn_buf_printf(b, ",\"%s\":", name);
    pn_write_number(b, v);
}

static void integer(pn_buf *b, const char *name, int64_t v) { pn_buf_printf(b, ",\"%s\":%lld", name, (long long)v); }

/* Servers have defaults of their own, so everything is said that can be said. */
static void write_sampling(const ponder_session *s, pn_dialect at, pn_buf *b)
{
    const pn_sampling *p = &s->sampling;
    number(b, "temperature", p->temperature);
    number(b, "top_p", p->top_p);
    if (p->presence != 0) number(b, "presence_penalty", p->presence);
    if (p->frequency != 0) number(b, "frequency_penalty", p->frequency);
    integer(b, "seed", (int64_t)(p->seed & INT64_MAX) % (at == PN_SERVER_LLAMA ? UINT32_MAX : INT64_MAX)); /* the largest means random there */
    const uint64_t made = s->distant->output_tokens, left = s->max_tokens > made ? s->max_tokens - made : 1;
    if (s->max_tokens) integer(b, at == PN_SERVER_OPENAI ? "max_completion_tokens" : "max_tokens", (int64_t)PN_MIN(left, (uint64_t)INT64_MAX));
    if (at == PN_SERVER_OPENAI) return;
    integer(b, "top_k", p->top_k || at == PN_SERVER_LLAMA ? (int64_t)p->top_k : -1);
    number(b, "min_p", p->min_p);
    number(b, at == PN_SERVER_LLAMA ? "repeat_penalty" : "repetition_penalty", p->repeat);
    if (at == PN_SERVER_LLAMA) integer(b, "repeat_last_n", (int64_t)p->window);
    if (s->ignore_eos) pn_buf_puts(b, ",\"ignore_eos\":true");
}

static void write_effort(const ponder_session *s, pn_dialect at, pn_buf *b)
{
    if (!*s->effort) return;
    if (!is_number(s->effort)) {
        pn_buf_puts(b, ",\"reasoning_effort\":");
        pn_write_string(b, pn_str_of(s->effort));
    }
    if (at == PN_SERVER_OPENAI) return;
    pn_buf_puts(b, ",\"chat_template_kwargs\":{\"reasoning_strength\":"); /* Muse's templates call it so */
    pn_write_string(b, pn_str_of(s->effort));
    pn_buf_puts(b, "}");
}

static void write_tag(pn_buf *b, const char *name, const char *text, bool list)
{
    pn_buf_printf(b, ",\"%s\":%s", name, list ? "[" : "");
    pn_write_string(b, pn_str_of(text));
    if (list) pn_buf_puts(b, "]");
}

/* The cap goes to servers that keep one; llama-server has to be told Muse's markers, for its own table does not have them. What
 * comes is counted here all the same. */
static void write_budget(const ponder_session *s, pn_dialect at, pn_buf *b)
{
    const pn_thinking *t = &s->think;
    const int64_t cap = t->t.over ? 0 : pn_session_distant_cap(s);
    if (cap < 0 || at == PN_SERVER_OPENAI || at == PN_SERVER_SGLANG) return;
    if (at == PN_SERVER_VLLM) pn_buf_puts(b, ",\"return_token_ids\":true");
    if (*t->message || (s->distant->no_budget && at == PN_SERVER_VLLM)) return; /* a message is written from here */
    if (at == PN_SERVER_VLLM) {
        if (!t->t.over) integer(b, "thinking_token_budget", cap);
        return;
    }
    const bool muse = pn_session_is_muse(s);
    integer(b, "reasoning_budget_tokens", PN_MIN(cap, (int64_t)INT32_MAX));
    if (!muse && !*t->open) return;
    write_tag(b, "reasoning_budget_start_tag", muse ? " to=self<|message|>" : t->open, false);
    write_tag(b, "reasoning_budget_end_tags", muse ? "<|eom|>" : t->close, true);
}

static void write_tools(const ponder_session *s, pn_buf *b)
{
    const pn_buf *t = &s->distant->tools;
    for (size_t at = 0; at < t->n; at += strlen(t->p + at) + 1) {
        pn_buf_puts(b, at ? "," : ",\"tools\":[");
        pn_buf_puts(b, "{\"type\":\"function\",\"function\":{");
        if (s->strict_tools) pn_buf_puts(b, "\"strict\":true,");
        pn_buf_puts(b, t->p + at + 1);
        pn_buf_puts(b, "}");
    }
    if (t->n) pn_buf_puts(b, "]");
}

static void write_binding(const pn_distant *d, pn_dialect at, pn_buf *b)
{
    if (d->schema.n) {
        pn_buf_puts(b, ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"answer\",\"strict\":true,\"schema\":");
        pn_buf_put(b, d->schema.p, d->schema.n);
        pn_buf_puts(b, "}}");
    }
    if (!d->regex.n) return;
    pn_buf_puts(b, at == PN_SERVER_VLLM ? ",\"structured_outputs\":{\"regex\":" : ",\"regex\":");
    pn_write_string(b, (pn_str){d->regex.p, d->regex.n});
    if (at == PN_SERVER_VLLM) pn_buf_puts(b, "}");
}

/* The host's own members, without their braces. */
static void write_more(const pn_buf *more, pn_buf *b)
{
    size_t from = 0, end = more->n;
    while (from < end && more->p[from] != '{') from++;
    while (end > from && more->p[end - 1] != '}') end--;
    if (end <= from + 1) return;
    for (from++, end--; from < end && strchr(" \t\r\n", more->p[from]); from++) { }
    if (from == end) return;
    pn_buf_put(b, ",", 1);
    pn_buf_put(b, more->p + from, end - from);
}

ponder_status pn_distant_body(ponder_session *s, pn_go_on go_on, pn_buf *b)
{
    const pn_distant *d = s->distant;
    const pn_dialect at = pn_fleet_dialect(d->fleet);
    pn_buf_puts(b, "{\"model\":");
    pn_write_string(b, pn_str_of(pn_fleet_model(d->fleet)));
    pn_buf_puts(b, d->whole ? ",\"stream\":false,\"messages\":[" : ",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"messages\":[");
    const size_t from = b->n;
    pn_buf_put(b, d->history.p, d->history.n);
    if (go_on) {
        pn_buf own;
        pn_buf_init(&own, s->a);
        write_own(s, &own, true);
        if (b->n > from) pn_buf_put(b, ",", 1);
        pn_buf_put(b, own.p, own.n);
        if (own.failed) b->failed = true;
        pn_buf_free(&own);
    }
    pn_buf_puts(b, "]");
    if (go_on) pn_buf_puts(b, ",\"add_generation_prompt\":false");
    if (go_on && at != PN_SERVER_LLAMA) pn_buf_puts(b, ",\"continue_final_message\":true");
    else if (go_on) pn_buf_printf(b, ",\"continue_final_message\":\"%s\"", go_on == PN_GO_THOUGHT ? "reasoning_content" : "content");
    write_sampling(s, at, b);
    write_effort(s, at, b);
    write_budget(s, at, b);
    write_tools(s, b);
    write_binding(d, at, b);
    if (s->template != PN_TEMPLATE_NONE && (at == PN_SERVER_VLLM || at == PN_SERVER_SGLANG)) pn_buf_puts(b, ",\"skip_special_tokens\":false");
    write_more(&d->more, b);
    pn_buf_puts(b, "}");
    return b->failed ? pn_nomem(&s->err, b->n) : PONDER_OK;
}
