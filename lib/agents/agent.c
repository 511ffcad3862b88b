/* One agent: a forked session, what it said, and where it is. */
#include "agents/agents.h"

#include <math.h>
#include <unistd.h>

/* ---- life ---------------------------------------------------------------------------------------------- */

/* An effort is written once, where the conversation begins. */
static ponder_status check_effort(ponder_session *s, const ponder_config *c)
{
    const char *effort = pn_config_str(c, PONDER_P_EFFORT);
    if (!c || !*effort || strcmp(effort, s->effort) == 0 || s->template != PN_TEMPLATE_MUSE || pn_drive_empty(s)) return PONDER_OK;
    return pn_fail(&s->err, PONDER_E_STATE, "the effort \"%s\" differs from the one that is written at the conversation's beginning, \"%s\"",
                   effort, s->effort);
}

/* What the session has becomes computed, unless the agents are to begin it otherwise. */
ponder_status pn_agent_prepare(ponder_session *s, const ponder_config *c, uint64_t until)
{
    ponder_status st = check_effort(s, c);
    const bool begins = pn_drive_empty(s);
    if (st != PONDER_OK || (begins && s->n_pending == 0)) return st;
    if (begins && c && strcmp(pn_config_str(c, PONDER_P_EFFORT), s->effort) != 0) return st;
    if (begins && !s->asked && s->template == PN_TEMPLATE_GEMMA) return st; /* its system is written with the first question */
    return s->distant ? st : pn_session_prefill(s, until);
}

/* Room for one more in a list of `each` bytes an item. */
static bool room(const pn_group *g, void **list, uint32_t *cap, size_t each)
{
    if (g->n < *cap) return true;
    const uint32_t more = *cap ? 2 * *cap : 16;
    void *p = pn_grow(g->a, *list, *cap * each, more * each);
    if (!p) return false;
    *list = p;
    *cap = more;
    return true;
}

static ponder_status enter(ponder_agent *a, pn_group *g)
{
    void *agents = g->agent, *waiting = g->waiting;
    const bool ok = room(g, &agents, &g->cap, sizeof *g->agent) && room(g, &waiting, &g->cap_waiting, sizeof *g->waiting);
    g->agent = agents;
    g->waiting = waiting;
    if (!ok) return pn_nomem(&a->err, g->n * sizeof *g->agent);
    a->group = pn_group_hold(g);
    a->at = g->n;
    a->number = g->spawned++;
    g->agent[g->n++] = a;
    return PONDER_OK;
}

static void leave(ponder_agent *a)
{
    pn_group *g = a->group;
    if (!g) return;
    g->gone += pn_agent_tokens(a);
    for (uint32_t i = a->at; i + 1 < g->n; i++) {
        g->agent[i] = g->agent[i + 1];
        g->agent[i]->at = i;
    }
    g->n--;
    if (g->next > a->at) g->next--;
    pn_group_release(g);
}

static ponder_status add_role(ponder_agent *a, pn_str role)
{
    ponder_session *s = a->session;
    if (role.n == 0) return PONDER_OK;
    const bool begins = pn_drive_empty(s) && s->n_pending == 0;
    return pn_session_add(s, begins ? "system" : "user", role.p, role.n);
}

ponder_status pn_agent_spawn(ponder_agent **out, pn_group *g, ponder_session *s, const ponder_config *c, pn_str role, uint32_t tokens)
{
    *out = NULL;
    ponder_agent *a = pn_zalloc(g->a, sizeof *a);
    if (!a) return pn_nomem(&s->err, sizeof *a);
    a->pid = getpid();
    for (int i = 0; i < PN_TEXTS; i++) pn_buf_init(&a->text[i], g->a);
    pn_buf_init(&a->trail, g->a);
    ponder_status st = pn_session_fork_sized(&a->session, s, c, tokens);
    const bool waits = st == PONDER_OK && pn_session_waits(a->session);
    if (st == PONDER_OK && (st = add_role(a, role)) != PONDER_OK) s->err = a->session->err;
    if (st == PONDER_OK && (st = enter(a, g)) != PONDER_OK) s->err = a->err;
    if (st != PONDER_OK) {
        pn_session_free(a->session);
        pn_free(g->a, a, sizeof *a);
        return st;
    }
    a->session->agents = &pn_group_hold(g)->attached;
    a->session->depth = s->depth + 1;
    a->session->sampler.want_logprob = true;
    a->shared_tokens = pn_drive_computed(a->session);
    if (waits) a->state = PONDER_AGENT_RUNNING;
    *out = a;
    return PONDER_OK;
}

void pn_agent_retire(ponder_agent *a)
{
    if (a->session) pn_session_free(a->session);
    a->session = NULL;
}

void pn_agent_free(ponder_agent *a)
{
    if (!a) return;
    pn_group *g = pn_group_hold(a->group);
    pn_agent_retire(a);
    leave(a);
    for (int i = 0; i < PN_TEXTS; i++) pn_buf_free(&a->text[i]);
    pn_buf_free(&a->trail);
    pn_free(g->a, a, sizeof *a);
    pn_group_release(g);
}

/* ---- turns ------------------------------------------------------------------------------------------------ */

ponder_status pn_agent_send(ponder_agent *a, const char *text, size_t n)
{
    if (!a->session) return pn_fail(&a->err, PONDER_E_STATE, "its contemplation is over");
    if (pn_agent_runs(a)) return pn_fail(&a->err, PONDER_E_STATE, "the agent is running");
    ponder_status st = text ? pn_session_add(a->session, "user", text, n) : PONDER_OK;
    if (st != PONDER_OK) {
        a->err = a->session->err;
        return st;
    }
    if (!pn_session_waits(a->session)) return pn_fail(&a->err, PONDER_E_STATE, "nothing was added since the agent's last turn");
    atomic_store(&a->cancel, false);
    a->state = PONDER_AGENT_RUNNING;
    a->end = PONDER_END_NONE;
    a->turn_calls = a->turn_answered = 0;
    for (int i = 0; i < PN_TEXTS; i++) a->text[i].n = 0;
    return PONDER_OK;
}

void pn_agent_end(ponder_agent *a, int32_t end)
{
    a->end = end;
    pn_session_end_turn(a->session, end);
}

static void put_call(pn_buf *b, const ponder_event *e)
{
    pn_buf_puts(b, b->n ? ", {\"name\": \"" : "[{\"name\": \"");
    for (size_t i = 0; i < e->name_bytes; i++) {
        const char c = e->name[i];
        if ((unsigned char)c < 0x20) pn_buf_printf(b, "\\u%04x", (unsigned)c);
        else if (c == '"' || c == '\\') pn_buf_printf(b, "\\%c", c);
        else pn_buf_put(b, &c, 1);
    }
    pn_buf_puts(b, "\", \"arguments\": ");
    pn_buf_put(b, e->text, e->text_bytes);
    pn_buf_puts(b, "}");
}

static ponder_status keep(ponder_agent *a, const ponder_event *e)
{
    static const int where[] = {[PONDER_EVENT_THOUGHT] = PN_TEXT_THOUGHT, [PONDER_EVENT_COMMENTARY] = PN_TEXT_COMMENTARY,
                                [PONDER_EVENT_ANSWER] = PN_TEXT_ANSWER, [PONDER_EVENT_TOOL_CALL] = PN_TEXT_CALLS,
                                [PONDER_EVENT_RAW] = PN_TEXT_ANSWER};
    if (e->kind == PONDER_EVENT_RESTART) { /* a server's stream broke: the turn begins again */
        for (int i = 0; i < PN_TEXTS; i++) a->text[i].n = 0;
        return PONDER_OK;
    }
    pn_buf *b = &a->text[where[e->kind]];
    if (e->kind == PONDER_EVENT_TOOL_CALL) put_call(b, e);
    else if (e->kind != PONDER_EVENT_RAW) pn_buf_put(b, e->text, e->text_bytes);
    if (!b->failed) return PONDER_OK;
    b->failed = false;
    return pn_nomem(&a->session->err, b->n + e->text_bytes);
}

static void turn_over(ponder_agent *a, const ponder_event *e)
{
    a->tokens += e->output_tokens;
    a->thought_tokens += e->thought_tokens;
    a->prompt_tokens += e->prompt_tokens;
    a->calls += e->calls;
    a->turn_calls = e->calls;
    a->turn_tokens = 0;
    a->ended_us = pn_now_us();
    a->end = e->end;
    if (e->end == PONDER_END_CANCELLED) a->state = PONDER_AGENT_CANCELLED;
    else a->state = e->calls > 0 && e->end == PONDER_END_EOS ? PONDER_AGENT_CALLS : PONDER_AGENT_DONE;
}

/* An agent that failed says so as the last event of its turn; its fellows do not notice. */
static void fail_agent(ponder_agent *a, ponder_status st, ponder_event *event)
{
    a->err = a->session->err;
    a->err.status = st;
    pn_session_drop_turn(a->session);
    *event = (ponder_event){.size = sizeof *event, .kind = PONDER_EVENT_DONE, .end = PONDER_END_FAILED, .token = -1,
                            .text = a->err.text, .text_bytes = strlen(a->err.text), .output_tokens = a->turn_tokens};
    turn_over(a, event);
    a->state = PONDER_AGENT_FAILED;
}

/* The session's newest tokens on the trail. */
static ponder_status follow(ponder_agent *a)
{
    const ponder_session *s = a->session;
    while (a->turn_tokens < s->output_tokens) { /* of several, the last was sampled */
        a->turn_tokens++;
        const float p = a->turn_tokens == s->output_tokens ? s->sampler.logprob : NAN;
        if (!pn_buf_put(&a->trail, &p, sizeof p)) {
            a->trail.failed = false;
            return pn_nomem(&a->session->err, a->trail.n);
        }
    }
    return PONDER_OK;
}

/* A turn that ends before it began. */
static ponder_status end_at_once(ponder_agent *a, int32_t end, ponder_event *event)
{
    *event = (ponder_event){.size = sizeof *event, .kind = PONDER_EVENT_DONE, .end = end, .token = -1, .text = "", .agent = (int32_t)a->number};
    turn_over(a, event);
    return PONDER_OK;
}

ponder_status pn_agent_poll(ponder_agent *a, ponder_event *event)
{
    ponder_session *s = a->session;
    if (!a->began_us) a->began_us = pn_now_us();
    const bool cancelled = atomic_exchange(&a->cancel, false);
    if (s->phase == PN_IDLE && (cancelled || a->end)) return end_at_once(a, cancelled ? PONDER_END_CANCELLED : a->end, event);
    if (cancelled) pn_session_cancel(s);
    pn_error_clear(&s->err);
    s->sampler.logprob = NAN;
    ponder_status st = pn_session_next(s, PN_POLL, event), kept = PONDER_OK;
    if (st >= PONDER_OK) kept = follow(a);
    if (st == PONDER_OK && kept == PONDER_OK && event->kind != PONDER_EVENT_DONE) kept = keep(a, event);
    if (kept != PONDER_OK) st = kept;
    if (st < 0) {
        fail_agent(a, st, event);
        st = PONDER_OK;
    } else if (st == PONDER_OK && event->kind == PONDER_EVENT_DONE) {
        turn_over(a, event);
    }
    event->agent = (int32_t)a->number;
    return st;
}

/* ---- what is known of it -------------------------------------------------------------------------------------- */

void pn_agent_info(const ponder_agent *a, uint32_t window, ponder_agent_info *out)
{
    const pn_confidence c = pn_confidence_of((const float *)(const void *)a->trail.p, a->trail.n / sizeof(float), window);
    *out = (ponder_agent_info){
        .size = sizeof *out, .state = a->state, .end = a->end, .number = (int32_t)a->number,
        .failure = a->state == PONDER_AGENT_FAILED ? a->err.status : PONDER_OK, .round = a->round, .dropped = a->dropped,
        .tokens = pn_agent_tokens(a), .thought_tokens = a->thought_tokens, .calls = a->calls, .prompt_tokens = a->prompt_tokens,
        .shared_tokens = a->shared_tokens, .confidence = c.mean, .lowest = c.lowest,
    };
    if (a->began_us) out->us = (pn_agent_runs(a) ? pn_now_us() : a->ended_us) - a->began_us;
}
