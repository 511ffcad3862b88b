/* A group: its agents are polled one by one, and when all of them wait for the engine, it is led until one has its token. */
#include "agents/agents.h"

static void release(pn_attached *at) { pn_group_release((pn_group *)at); } /* its first member */

ponder_status pn_group_new(pn_group **out, ponder_model *m, ponder_error *err)
{
    pn_group *g = *out = pn_zalloc(&m->meter.alloc, sizeof *g);
    if (!g) return pn_nomem(err, sizeof *g);
    g->attached.release = release;
    atomic_init(&g->refs, 1);
    g->a = &m->meter.alloc;
    g->model = pn_model_hold(m);
    return PONDER_OK;
}

pn_group *pn_group_hold(pn_group *g)
{
    atomic_fetch_add(&g->refs, 1);
    return g;
}

void pn_group_release(pn_group *g)
{
    if (!g || atomic_fetch_sub(&g->refs, 1) > 1) return;
    ponder_model *m = g->model;
    pn_free(g->a, g->agent, g->cap * sizeof *g->agent);
    pn_free(g->a, g->waiting, g->cap_waiting * sizeof *g->waiting);
    pn_free(g->a, g, sizeof *g);
    pn_model_release(m);
}

ponder_status pn_group_of(pn_group **out, ponder_session *s)
{
    *out = (pn_group *)s->agents;
    if (*out) return PONDER_OK;
    ponder_status st = pn_group_new(out, s->model, &s->err);
    if (st == PONDER_OK) s->agents = &(*out)->attached;
    return st;
}

/* ---- tokens that are shared -------------------------------------------------------------------------------- */

/* Shared tokens are dealt out level by level: an agent may have one more if all that are running could have as many as it
 * will. So the total is never passed, nobody runs away with it, and who gets how much depends on the agents' lengths alone. */
static bool may_go_on(const pn_group *g, const ponder_agent *a)
{
    if (!g->limit) return true;
    const uint64_t want = pn_agent_tokens(a) + 1;
    uint64_t sum = g->gone;
    for (uint32_t i = 0; i < g->n; i++) {
        const uint64_t has = pn_agent_tokens(g->agent[i]);
        sum += pn_agent_runs(g->agent[i]) ? PN_MAX(has, want) : has;
    }
    return sum <= g->limit;
}

/* ---- polling ------------------------------------------------------------------------------------------------- */

/* PONDER_OK: an event. PONDER_MORE: the agent waits for the engine, or is not to go on (*settled), or the time is over. */
static ponder_status poll(pn_group *g, ponder_agent *a, uint64_t until, ponder_event *event, bool *settled)
{
    ponder_status st = PONDER_MORE;
    *settled = false;
    while (st == PONDER_MORE) {
        a->blocked = !(a->end || atomic_load(&a->cancel) || may_go_on(g, a));
        *settled = !pn_agent_runs(a) || a->blocked;
        if (*settled) break;
        st = pn_agent_poll(a, event);
        *settled = st == PONDER_MORE && pn_drive_waits(a->session);
        if (*settled || (until && pn_now_us() >= until)) break;
    }
    return st;
}

static bool any_runs(const pn_group *g)
{
    for (uint32_t i = 0; i < g->n; i++)
        if (pn_agent_runs(g->agent[i])) return true;
    return false;
}

static bool all_blocked(const pn_group *g)
{
    for (uint32_t i = 0; i < g->n; i++)
        if (pn_agent_runs(g->agent[i]) && !g->agent[i]->blocked) return false;
    return true;
}

/* All that run have used up what they share. */
static void end_all(pn_group *g)
{
    for (uint32_t i = 0; i < g->n; i++)
        if (pn_agent_runs(g->agent[i])) pn_agent_end(g->agent[i], PONDER_END_BUDGET);
}

/* Time inside the driver is time inside each of its agents' sessions: theirs may have a budget of it. */
static void enter(pn_group *g, bool wall)
{
    for (uint32_t i = 0; i < g->n; i++) {
        ponder_agent *a = g->agent[i];
        a->entered = pn_agent_runs(a);
        if (a->entered) pn_session_enter(a->session, wall);
    }
}

static void leave(pn_group *g)
{
    for (uint32_t i = 0; i < g->n; i++)
        if (g->agent[i]->entered) pn_session_leave(g->agent[i]->session);
}

static ponder_status next_event(pn_group *g, uint64_t until, ponder_agent **whose, ponder_event *event, ponder_error *err)
{
    ponder_status st = PONDER_OK;
    *event = (ponder_event){.size = sizeof *event};
    while (any_runs(g)) {
        while (g->next < g->n) {
            bool settled;
            *whose = g->agent[g->next];
            st = poll(g, *whose, until, event, &settled);
            if (g->look) g->look(g->looker);
            if (st != PONDER_MORE) return st;
            g->next += settled; /* else it is the first one next time: all are to be in the step */
            if (until && pn_now_us() >= until) return PONDER_MORE;
        }
        g->next = 0;
        if (all_blocked(g)) end_all(g);
        else if ((st = pn_drive_group(g, until, err)) != PONDER_OK) return st;
    }
    return PONDER_OK;
}

ponder_status pn_group_next(pn_group *g, uint64_t until, ponder_agent **whose, ponder_event *event, ponder_error *err)
{
    enter(g, g->wall);
    ponder_status st = next_event(g, until, whose, event, err);
    leave(g);
    return st;
}
