/* Agents and contemplation. */
#include "api/api.h"

#include <unistd.h>

#include "agents/agents.h"

/* One call on a group: the right process, one thread at a time, our floating-point settings. */
typedef struct frame {
    pn_group *g;
    pn_fenv fenv;
} frame;

static ponder_status enter(frame *f, pn_group *g, pid_t pid)
{
    if (pid != getpid()) return PONDER_E_FORK;
    if (atomic_exchange(&g->busy, true)) return PONDER_E_BUSY;
    f->g = pn_group_hold(g);
    pn_fenv_enter(&f->fenv);
    return PONDER_OK;
}

static ponder_status leave(frame *f, ponder_status st)
{
    pn_fenv_leave(&f->fenv);
    atomic_store(&f->g->busy, false);
    pn_group_release(f->g);
    return st;
}

/* The host's code runs under the host's settings, and may look at the agents. */
static ponder_status tell(frame *f, ponder_on_event on_event, void *user, const ponder_event *e, int32_t *stop)
{
    *stop = 0;
    if (!on_event) return PONDER_OK;
    pn_fenv ours;
    pn_fenv_leave(&f->fenv);
    atomic_store(&f->g->busy, false);
    *stop = on_event(user, e);
    const bool taken = atomic_exchange(&f->g->busy, true);
    pn_fenv_enter(&ours);
    return taken ? PONDER_E_BUSY : PONDER_OK;
}

static uint64_t until_of(uint64_t max_us)
{
    return max_us == UINT64_MAX ? 0 : pn_now_us() + PN_MIN(max_us, UINT64_C(1) << 50);
}

/* ---- agents --------------------------------------------------------------------------------------- */

ponder_status ponder_agent_spawn(ponder_agent **out, ponder_session *s, ponder_config *c)
{
    if (!out) return PONDER_E_ARGUMENT;
    *out = NULL;
    pn_call call;
    ponder_status st = pn_call_begin(&call, s);
    if (st != PONDER_OK) return st;
    pn_group *g;
    pn_session_drop_turn(s);
    st = pn_group_of(&g, s);
    if (st == PONDER_OK && atomic_exchange(&g->busy, true)) return pn_call_end(&call, PONDER_E_BUSY);
    if (st == PONDER_OK) {
        st = pn_agent_prepare(s, c, 0);
        g->limit = s->agent_tokens;
        if (st == PONDER_OK) st = pn_agent_spawn(out, g, s, c, c && c->role.n ? c->role.s[0] : (pn_str){"", 0}, 0);
        atomic_store(&g->busy, false);
    }
    return pn_call_end(&call, st);
}

void ponder_agent_free(ponder_agent *a)
{
    if (!a || a->pid != getpid()) return;
    pn_agent_free(a);
}

const char *ponder_agent_error(const ponder_agent *a) { return a ? a->err.text : ""; }
ponder_session *ponder_agent_session(ponder_agent *a) { return a ? a->session : NULL; }

ponder_status ponder_agent_send(ponder_agent *a, const char *text, size_t bytes)
{
    frame f;
    if (!a || (!text && bytes)) return PONDER_E_ARGUMENT;
    ponder_status st = enter(&f, a->group, a->pid);
    if (st != PONDER_OK) return st;
    pn_error_clear(&a->err);
    return leave(&f, pn_agent_send(a, text, bytes));
}

/* The window of a contemplation's agents is its own; others have the default. */
static uint32_t window_of(const ponder_agent *a)
{
    return a->group->window ? a->group->window : (uint32_t)pn_config_i64(NULL, PONDER_P_CONFIDENCE_WINDOW);
}

ponder_status ponder_agent_status(ponder_agent *a, ponder_agent_info *out)
{
    frame f;
    if (!a || !pn_api_struct(out, sizeof *out)) return PONDER_E_ARGUMENT;
    ponder_status st = enter(&f, a->group, a->pid);
    if (st != PONDER_OK) return st;
    ponder_agent_info info;
    pn_agent_info(a, window_of(a), &info);
    pn_api_write(out, &info, sizeof info);
    return leave(&f, st);
}

ponder_status ponder_agent_read(ponder_agent *a, int32_t kind, char *text, size_t cap, size_t *n)
{
    static const int where[] = {-1, PN_TEXT_THOUGHT, PN_TEXT_COMMENTARY, PN_TEXT_ANSWER, PN_TEXT_CALLS};
    frame f;
    if (!a) return PONDER_E_ARGUMENT;
    ponder_status st = enter(&f, a->group, a->pid);
    if (st != PONDER_OK) return st;
    pn_error_clear(&a->err);
    if (kind < 1 || kind > PONDER_EVENT_TOOL_CALL) return leave(&f, pn_fail(&a->err, PONDER_E_RANGE, "%d is no kind of text", kind));
    pn_buf *b = &a->text[where[kind]];
    const size_t length = b->n;
    if (kind == PONDER_EVENT_TOOL_CALL && !pn_buf_puts(b, b->n ? "]" : "[]")) {
        b->failed = false;
        return leave(&f, pn_nomem(&a->err, b->n));
    }
    st = pn_api_copy(b->p, b->n, 1, text, cap, n, &a->err);
    b->n = length;
    return leave(&f, st);
}

void ponder_agent_cancel(ponder_agent *a)
{
    if (!a) return;
    atomic_store(&a->cancel, true);
    pn_group_nudge(a->group);
}

static size_t stopped(ponder_agent *const *agents, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) k += !pn_agent_runs(agents[i]);
    return k;
}

ponder_status ponder_agent_wait(ponder_agent *const *agents, size_t n, size_t least, uint64_t max_us, ponder_on_event on_event, void *user)
{
    frame f;
    if (!agents || n == 0) return PONDER_E_ARGUMENT;
    for (size_t i = 0; i < n; i++)
        if (!agents[i] || agents[i]->group != agents[0]->group) return PONDER_E_ARGUMENT;
    pn_group *g = agents[0]->group;
    const uint64_t until = until_of(max_us);
    ponder_status st = enter(&f, g, agents[0]->pid);
    if (st != PONDER_OK) return st;
    if (least == 0 || least > n) least = n;
    g->wall = until == 0;
    while (st == PONDER_OK && stopped(agents, n) < least) {
        ponder_agent *a;
        ponder_event e;
        int32_t stop;
        pn_group_calm(g);
        st = pn_group_next(g, until, &a, &e, &agents[0]->err);
        if (st == PONDER_MORE && !(until && pn_now_us() >= until)) st = PONDER_OK;
        if (st != PONDER_OK || !e.kind) continue;
        st = tell(&f, on_event, user, &e, &stop);
        if (st == PONDER_OK && stop && e.kind != PONDER_EVENT_DONE) atomic_store(&a->cancel, true);
        if (st == PONDER_OK && until && pn_now_us() >= until && stopped(agents, n) < least) st = PONDER_MORE;
    }
    return leave(&f, st);
}

/* ---- contemplation ------------------------------------------------------------------------------------- */

ponder_status ponder_contemplation_new(ponder_contemplation **out, ponder_session *s, ponder_config *c)
{
    if (!out) return PONDER_E_ARGUMENT;
    *out = NULL;
    pn_call call;
    ponder_status st = pn_call_begin(&call, s);
    if (st != PONDER_OK) return st;
    st = pn_contemplation_new(out, s, c);
    if (st != PONDER_OK) return pn_call_end(&call, st);
    pn_fenv_leave(&call.fenv); /* the session stays busy */
    return st;
}

void ponder_contemplation_free(ponder_contemplation *c)
{
    if (!c || pn_contemplation_pid(c) != getpid()) return;
    pn_contemplation_free(c);
}

const char *ponder_contemplation_error(const ponder_contemplation *c)
{
    return c ? pn_contemplation_error((ponder_contemplation *)(uintptr_t)c)->text : "";
}

void ponder_contemplation_cancel(ponder_contemplation *c)
{
    if (c) pn_contemplation_cancel(c);
}

static ponder_status enter_contemplation(frame *f, ponder_contemplation *c)
{
    return enter(f, pn_contemplation_group(c), pn_contemplation_pid(c));
}

/* A contemplation that is over, or failed, lets go of its session. */
static ponder_status next(ponder_contemplation *c, uint64_t until, ponder_event *event)
{
    ponder_status st = pn_contemplation_next(c, until, event);
    if (st < 0 || pn_contemplation_over(c)) pn_contemplation_unclaim(c);
    return st;
}

ponder_status ponder_contemplation_step(ponder_contemplation *c, uint64_t max_us, ponder_event *out)
{
    frame f;
    ponder_event event;
    if (!c || !pn_api_struct(out, PN_EVENT_FIRST)) return PONDER_E_ARGUMENT;
    ponder_status st = enter_contemplation(&f, c);
    if (st != PONDER_OK) return st;
    f.g->wall = false;
    st = next(c, pn_now_us() + PN_MIN(max_us, UINT64_C(1) << 50), &event);
    if (st >= PONDER_OK) pn_api_write(out, &event, sizeof event);
    return leave(&f, st);
}

ponder_status ponder_contemplation_status(ponder_contemplation *c, ponder_contemplation_info *out)
{
    frame f;
    if (!c || !pn_api_struct(out, sizeof *out)) return PONDER_E_ARGUMENT;
    ponder_status st = enter_contemplation(&f, c);
    if (st != PONDER_OK) return st;
    ponder_contemplation_info info;
    pn_contemplation_info(c, &info);
    pn_api_write(out, &info, sizeof info);
    return leave(&f, st);
}

ponder_status ponder_contemplation_answer(ponder_contemplation *c, char *text, size_t cap, size_t *n)
{
    frame f;
    if (!c) return PONDER_E_ARGUMENT;
    ponder_status st = enter_contemplation(&f, c);
    if (st != PONDER_OK) return st;
    const pn_str s = pn_contemplation_answer(c);
    return leave(&f, pn_api_copy(s.p, s.n, 1, text, cap, n, pn_contemplation_error(c)));
}

ponder_status ponder_contemplation_agent(ponder_agent **out, ponder_contemplation *c, uint32_t number)
{
    frame f;
    if (!out) return PONDER_E_ARGUMENT;
    *out = NULL;
    if (!c) return PONDER_E_ARGUMENT;
    ponder_status st = enter_contemplation(&f, c);
    if (st != PONDER_OK) return st;
    *out = pn_contemplation_agent(c, number);
    return leave(&f, *out ? PONDER_OK : pn_fail(pn_contemplation_error(c), PONDER_E_RANGE, "there is no agent %u", number));
}

ponder_status ponder_contemplate(ponder_contemplation **out, ponder_session *s, ponder_config *config, ponder_on_event on_event, void *user)
{
    ponder_contemplation *c;
    if (out) *out = NULL;
    ponder_status st = ponder_contemplation_new(&c, s, config);
    if (st != PONDER_OK) return st;
    frame f;
    ponder_event e = {0};
    st = enter_contemplation(&f, c);
    pn_contemplation_group(c)->wall = true;
    while (st == PONDER_OK) {
        int32_t stop;
        st = next(c, 0, &e);
        if (st == PONDER_OK) st = tell(&f, on_event, user, &e, &stop);
        if (st == PONDER_OK && stop) pn_contemplation_cancel(c);
        if (st == PONDER_OK && e.kind == PONDER_EVENT_DONE && e.agent < 0) break;
    }
    if (st < 0) s->err = *pn_contemplation_error(c);
    leave(&f, st);
    if (out) *out = c;
    else pn_contemplation_free(c);
    return st;
}
