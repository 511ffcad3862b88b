/* Agents that the model has itself, by the tools subagents.*: ponder_session_run answers the calls here. The tools' definitions
 * are session/tools.c's, for they are told when the conversation begins. */
#include "agents/agents.h"

#include "base/json.h"

/* A session's own agents, counted from 1 as the model does. */
typedef struct crew {
    pn_attached attached;
    const ponder_alloc *a;
    ponder_agent **agent;
    uint32_t n, cap;
} crew;

static void release(pn_attached *at)
{
    crew *c = (crew *)at; /* its first member */
    for (uint32_t i = 0; i < c->n; i++) pn_agent_free(c->agent[i]);
    pn_free(c->a, c->agent, c->cap * sizeof *c->agent);
    pn_free(c->a, c, sizeof *c);
}

static ponder_status crew_of(crew **out, ponder_session *s)
{
    *out = (crew *)s->crew;
    if (*out) return PONDER_OK;
    crew *c = pn_zalloc(s->a, sizeof *c);
    if (!c) return pn_nomem(&s->err, sizeof *c);
    c->attached.release = release;
    c->a = s->a;
    s->crew = &c->attached;
    *out = c;
    return PONDER_OK;
}

static bool room(crew *c)
{
    if (c->n < c->cap) return true;
    const uint32_t cap = c->cap ? 2 * c->cap : 8;
    void *p = pn_grow(c->a, c->agent, c->cap * sizeof *c->agent, cap * sizeof *c->agent);
    if (!p) return false;
    c->agent = p;
    c->cap = cap;
    return true;
}

/* ---- what the calls get ---------------------------------------------------------------------------------- */

static const char *state_of(const ponder_agent *a)
{
    static const char *const names[] = {"idle", "running", "running", "done", "failed", "cancelled"};
    if (a->state == PONDER_AGENT_DONE && a->end != PONDER_END_EOS && a->end != PONDER_END_STOP)
        return a->end == PONDER_END_BUDGET ? "out of tokens" : a->end == PONDER_END_TIME ? "out of time" : "cut off";
    return names[a->state];
}

static void put_state(pn_buf *b, const crew *c, uint32_t i)
{
    pn_buf_printf(b, "{\"agent\": %u, \"state\": \"%s\", \"tokens\": %llu}", i + 1, state_of(c->agent[i]), (unsigned long long)pn_agent_tokens(c->agent[i]));
}

static bool under_way(const ponder_agent *a) { return a->state == PONDER_AGENT_RUNNING || a->state == PONDER_AGENT_CALLS; }

/* An agent that is done makes room for a new one; what it wrote stays. */
static bool below_limit(crew *c, uint32_t limit)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n; i++) n += c->agent[i]->session != NULL;
    for (uint32_t i = 0; i < c->n && n >= limit; i++)
        if (c->agent[i]->session && !under_way(c->agent[i])) {
            pn_agent_retire(c->agent[i]);
            n--;
        }
    return n < limit;
}

/* The conversation as it was when the model was asked, and the task. */
static ponder_status spawn(ponder_session *s, crew *c, pn_str task, pn_buf *out)
{
    pn_group *g;
    ponder_agent *a = NULL;
    if (!room(c)) return pn_nomem(&s->err, c->cap * sizeof *c->agent);
    ponder_status st = pn_group_of(&g, s);
    if (st != PONDER_OK) return st;
    if (s->depth == 0) g->limit = s->agent_tokens;
    st = pn_agent_spawn(&a, g, s, NULL, (pn_str){"", 0}, 0);
    if (st == PONDER_OK) {
        a->state = PONDER_AGENT_IDLE;
        a->models = true;
        st = pn_session_rewind(a->session, s->prompt_at, NULL);
        a->session->sampling.seed = s->sampling.seed + c->n + 1;
        a->shared_tokens = pn_drive_computed(a->session);
        if (st == PONDER_OK) st = pn_agent_send(a, task.p, task.n);
        if (st != PONDER_OK) s->err = a->session->err;
    }
    if (st == PONDER_OK) {
        c->agent[c->n++] = a;
        pn_buf_printf(out, "{\"agent\": %u}", c->n);
        return PONDER_OK;
    }
    pn_agent_free(a);
    if (st == PONDER_E_NOMEM || st == PONDER_E_CONTEXT) { /* the model is told, and goes on */
        pn_buf_puts(out, "{\"error\": \"no room for a further agent\"}");
        return PONDER_OK;
    }
    return st;
}

static bool which(const crew *c, const pn_value *args, uint32_t *i)
{
    int64_t n;
    if (!pn_value_i64(pn_get(args, "agent"), 1, c->n, &n)) return false;
    *i = (uint32_t)n - 1;
    return true;
}

/* Those that a wait is for: the list, or all. */
static bool settled(const crew *c, const pn_value *list)
{
    int64_t n;
    if (list->type != PN_V_LIST) {
        for (uint32_t i = 0; i < c->n; i++)
            if (under_way(c->agent[i])) return false;
        return true;
    }
    for (const pn_value *v = list->first; v; v = v->next)
        if (pn_value_i64(v, 1, c->n, &n) && under_way(c->agent[n - 1])) return false;
    return true;
}

static void put_states(pn_buf *b, const crew *c)
{
    pn_buf_puts(b, "{\"agents\": [");
    for (uint32_t i = 0; i < c->n; i++) {
        if (i) pn_buf_puts(b, ", ");
        put_state(b, c, i);
    }
    pn_buf_puts(b, "]}");
}

typedef enum verb { SPAWN, STATUS, SEND, WAIT, READ, CANCEL, NONE } verb;

static verb verb_of(pn_str name)
{
    static const char *const names[] = {"subagents.spawn", "subagents.status", "subagents.send_message", "subagents.wait",
                                        "subagents.read_result", "subagents.cancel"};
    for (int v = SPAWN; v < NONE; v++)
        if (pn_str_eq(name, names[v])) return (verb)v;
    return NONE;
}

bool pn_subagents_is(const ponder_session *s, pn_str name) { return s->subagents && verb_of(name) != NONE; }

static ponder_status do_send(crew *c, uint32_t i, const pn_value *args, pn_buf *out)
{
    pn_str message;
    ponder_agent *a = c->agent[i];
    if (!pn_value_str(pn_get(args, "message"), &message)) pn_buf_puts(out, "{\"error\": \"message must be a text\"}");
    else if (under_way(a)) pn_buf_puts(out, "{\"error\": \"the agent is still running: wait for it first\"}");
    else if (!a->session) pn_buf_puts(out, "{\"error\": \"the agent is gone\"}");
    else if (pn_agent_send(a, message.p, message.n) != PONDER_OK) pn_buf_puts(out, "{\"error\": \"the agent cannot take it\"}");
    else put_state(out, c, i);
    return PONDER_OK;
}

static void do_read(const crew *c, uint32_t i, pn_buf *out)
{
    const ponder_agent *a = c->agent[i];
    if (under_way(a)) pn_buf_puts(out, "{\"error\": \"the agent is still running: wait for it first\"}");
    else if (a->text[PN_TEXT_ANSWER].n) pn_buf_put(out, a->text[PN_TEXT_ANSWER].p, a->text[PN_TEXT_ANSWER].n);
    else pn_buf_printf(out, "{\"error\": \"no result: the agent is %s\"}", state_of(a));
}

/* Everything but a wait that has to wait: then *done is false. */
static ponder_status act(ponder_session *s, verb v, const pn_value *args, pn_buf *out, bool *done)
{
    crew *c;
    uint32_t i = 0;
    pn_str task;
    ponder_status st = crew_of(&c, s);
    *done = true;
    if (st != PONDER_OK) return st;
    const bool one = v == SEND || v == READ || v == CANCEL;
    if (one && !which(c, args, &i)) pn_buf_puts(out, "{\"error\": \"agent must be the number of an agent, as spawn gave it\"}");
    else if (v == SPAWN && s->depth >= s->agent_depth) pn_buf_puts(out, "{\"error\": \"an agent here may have none of its own\"}");
    else if (v == SPAWN && (!pn_value_str(pn_get(args, "task"), &task) || task.n == 0)) pn_buf_puts(out, "{\"error\": \"task must be a text\"}");
    else if (v == SPAWN && !below_limit(c, s->agent_limit)) pn_buf_printf(out, "{\"error\": \"%u agents are running, which is the limit: wait for one first\"}", s->agent_limit);
    else if (v == SPAWN) st = spawn(s, c, task, out);
    else if (v == SEND) st = do_send(c, i, args, out);
    else if (v == READ) do_read(c, i, out);
    else if (v == CANCEL) {
        if (under_way(c->agent[i])) {
            c->agent[i]->state = PONDER_AGENT_CANCELLED;
            pn_agent_retire(c->agent[i]);
        }
        put_state(out, c, i);
    } else if (v == WAIT && !settled(c, pn_get(args, "agents"))) *done = false;
    else put_states(out, c);
    return st;
}

/* ---- agents of agents ---------------------------------------------------------------------------------------- */

/* The calls of an agent whose turn is over, from the first that has no result yet; a wait may keep the rest back. */
static ponder_status settle_agent(ponder_agent *a, ponder_on_call on_call, void *user)
{
    ponder_session *s = a->session;
    pn_buf *text = &a->text[PN_TEXT_CALLS], out;
    const size_t n = text->n;
    pn_json list;
    if (!pn_buf_puts(text, "]")) return pn_nomem(&s->err, n);
    ponder_status st = pn_json_read(&list, text->p, text->n, s->a, &s->err);
    text->n = n;
    if (st != PONDER_OK) return st;
    bool done = true;
    pn_buf_init(&out, s->a);
    for (uint64_t i = a->turn_answered; i < a->turn_calls && st == PONDER_OK && done; i++) {
        const pn_value *call = pn_at(pn_json_root(&list), (size_t)i), *args = pn_get(call, "arguments");
        const pn_str name = pn_get(call, "name")->text;
        out.n = 0;
        bool ours = pn_subagents_is(s, name);
        if (ours) st = act(s, verb_of(name), args, &out, &done);
        else if ((st = pn_session_zoom(s, name, args->text, &ours)) == PONDER_OK && ours) done = true;
        if (st == PONDER_OK && done && (!ours || pn_subagents_is(s, name))) {
            const size_t before = s->n_pending;
            pn_buf_put(&out, "", 1);
            if (!ours && on_call) {
                const ponder_event e = {.size = sizeof e, .kind = PONDER_EVENT_TOOL_CALL, .token = -1, .agent = (int32_t)a->number,
                                        .name = name.p, .name_bytes = name.n, .text = args->text.p ? args->text.p : "{}", .text_bytes = args->text.p ? args->text.n : 2};
                if (on_call(user, s, &e) != 0) st = pn_fail(&s->err, PONDER_E_CANCELLED, "the call was not to be answered");
            }
            char label[128];
            const size_t short_n = PN_MIN(name.n, sizeof label - 1);
            memcpy(label, name.p, short_n);
            label[short_n] = 0;
            if (st == PONDER_OK && s->n_pending == before) st = pn_session_add_result(s, label, out.p, out.failed ? 0 : out.n - 1);
        }
        if (st == PONDER_OK && done) a->turn_answered++;
    }
    pn_buf_free(&out);
    pn_json_free(&list);
    if (st == PONDER_OK && done) st = pn_agent_send(a, NULL, 0);
    return st;
}

static void settle_all(pn_group *g, ponder_on_call on_call, void *user)
{
    for (uint32_t i = 0; i < g->n; i++) {
        ponder_agent *a = g->agent[i];
        if (!a->models || a->state != PONDER_AGENT_CALLS || !a->session) continue;
        const ponder_status st = settle_agent(a, on_call, user);
        if (st == PONDER_OK) continue;
        a->err = a->session->err;
        a->err.status = st;
        a->state = PONDER_AGENT_FAILED;
    }
}

/* ---- the session's own calls --------------------------------------------------------------------------------- */

/* Drives the group until the wait is over, its time is, or the session is cancelled. */
static ponder_status wait_for(ponder_session *s, const crew *c, const pn_value *args, const pn_subagents_host *host)
{
    pn_group *g = (pn_group *)s->agents;
    double seconds;
    const uint64_t until = pn_value_f64(pn_get(args, "timeout_seconds"), &seconds) && seconds >= 0 ? pn_now_us() + (uint64_t)(PN_MIN(seconds, 1e6) * 1e6) : 0;
    ponder_status st = PONDER_OK;
    g->wall = true;
    while (st == PONDER_OK && !settled(c, pn_get(args, "agents"))) {
        ponder_agent *a;
        ponder_event e;
        pn_group_calm(g);
        settle_all(g, host->on_call, host->user);
        if (pn_drive_cancelled(s)) return pn_fail(&s->err, PONDER_E_CANCELLED, "cancelled");
        if (until && pn_now_us() >= until) return PONDER_OK;
        st = pn_group_next(g, until, &a, &e, &s->err);
        if (st == PONDER_MORE) st = PONDER_OK;
        if (st != PONDER_OK || !e.kind) continue;
        if (host->tell(host->user, &e) != 0) return pn_fail(&s->err, PONDER_E_CANCELLED, "cancelled");
    }
    return st;
}

ponder_status pn_subagents_answer(ponder_session *s, pn_str name, pn_str arguments, const pn_subagents_host *host, bool *ours)
{
    *ours = pn_subagents_is(s, name);
    if (!*ours) return PONDER_OK;
    const verb v = verb_of(name);
    pn_json doc = {0};
    pn_buf out;
    bool done = true;
    crew *c;
    ponder_status st = pn_json_read(&doc, arguments.p, arguments.n, s->a, &s->err);
    if (st != PONDER_OK) return st == PONDER_E_NOMEM ? st : pn_session_add_result(s, name.p, "{\"error\": \"the arguments are no JSON\"}", 38);
    pn_buf_init(&out, s->a);
    const pn_value *args = pn_json_root(&doc);
    st = act(s, v, args, &out, &done);
    if (st == PONDER_OK && !done && (st = crew_of(&c, s)) == PONDER_OK && (st = wait_for(s, c, args, host)) == PONDER_OK) put_states(&out, c);
    if (st == PONDER_OK && out.failed) st = pn_nomem(&s->err, out.n);
    if (st == PONDER_OK) st = pn_session_add_result(s, name.p, out.n ? out.p : "", out.n);
    pn_buf_free(&out);
    pn_json_free(&doc);
    return st;
}

/* ---- words without deeds ------------------------------------------------------------------------------------------ */

static bool starts(pn_str s, size_t at, const char *word)
{
    const size_t n = strlen(word);
    for (size_t i = 0; i < n; i++)
        if (at + i >= s.n || (s.p[at + i] | 0x20) != word[i]) return false;
    return true;
}

/* English, and no more than this: a verb of starting, and "agent" behind it in the same sentence. */
bool pn_subagents_announced(pn_str s)
{
    static const char *const verbs[] = {"spawn", "launch", "start", "deploy", "dispatch", "create", "delegat", "spin up"};
    enum { NEAR = 80 };
    for (size_t i = 0; i < s.n; i++)
        for (size_t v = 0; v < PN_COUNT(verbs); v++) {
            if (!starts(s, i, verbs[v]) || (i > 0 && (s.p[i - 1] | 0x20) >= 'a' && (s.p[i - 1] | 0x20) <= 'z')) continue;
            for (size_t k = i; k < s.n && k < i + NEAR && s.p[k] != '.' && s.p[k] != '!' && s.p[k] != '?' && s.p[k] != '\n'; k++)
                if (starts(s, k, "agent")) return true;
        }
    return false;
}
