/* What is behind a session, an engine or a server: nothing else in this room knows which. */
#include "agents/agents.h"
#include "session/distant.h"

uint32_t pn_drive_count(const ponder_session *s) { return s->distant ? 0 : pn_sequence_count(s->seq); }
uint32_t pn_drive_computed(const ponder_session *s) { return s->distant ? 0 : pn_sequence_computed(s->seq); }
uint32_t pn_drive_limit(const ponder_session *s) { return s->distant ? 0 : pn_sequence_limit(s->seq); }
bool pn_drive_empty(const ponder_session *s) { return s->distant ? pn_distant_empty(s) : pn_sequence_count(s->seq) == 0; }
bool pn_drive_in_step(const ponder_session *s) { return !s->distant; }
bool pn_drive_waits(const ponder_session *s) { return s->distant ? s->phase == PN_TURN : pn_sequence_submitted(s->seq); }
uint64_t pn_drive_bytes(const ponder_session *s, bool own) { return s->distant ? 0 : pn_sequence_kv_bytes(s->seq, own); }

bool pn_drive_cancelled(const ponder_session *s)
{
    return atomic_load(s->distant ? &s->distant->cancel : pn_sequence_cancelled(s->seq));
}

void pn_drive_forget_cancel(ponder_session *s)
{
    if (s->distant) pn_distant_take_cancel(s);
    else pn_sequence_take_cancel(s->seq);
}

void pn_group_nudge(pn_group *g)
{
    atomic_store(&g->nudge, true);
    if (g->model->fleet) pn_fleet_wake(g->model->fleet);
    else pn_engine_nudge(g->model->engine);
}

static bool takes_part(const ponder_agent *a) { return pn_agent_runs(a) && !a->blocked && pn_drive_waits(a->session); }

static ponder_status wait_for_servers(pn_group *g, uint64_t until)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->n; i++)
        if (takes_part(g->agent[i]) && g->agent[i]->session->distant->request) g->waiting[n++].request = g->agent[i]->session->distant->request;
    if (n == 0) return PONDER_OK;
    return pn_fleet_wait(g->model->fleet, &g->waiting[0].request, n, until, &g->nudge);
}

ponder_status pn_drive_group(pn_group *g, uint64_t until, ponder_error *err)
{
    uint32_t n = 0;
    ponder_status st;
    if (g->model->fleet) {
        st = wait_for_servers(g, until);
    } else {
        for (uint32_t i = 0; i < g->n; i++)
            if (takes_part(g->agent[i])) g->waiting[n++].seq = g->agent[i]->session->seq;
        st = pn_engine_advance_any(g->model->engine, &g->waiting[0].seq, n, until, &g->nudge, err);
    }
    return st == PONDER_E_CANCELLED ? PONDER_MORE : st;
}
