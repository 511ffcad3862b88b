/* A task: work that is no step (a tower's encode), on the engine's team and under its leadership. */
#include "engine/internal.h"

enum { CANCEL_POLL_US = 5000, SLICE_LEAST_US = 1000 };

struct pn_task {
    pn_engine *e;
    pn_cursor cursor;
    bool finished;
};

ponder_status pn_task_new(pn_task **out, pn_engine *e, const pn_work *w, ponder_error *err)
{
    pn_task *t = *out = pn_alloc_aligned(e->a, sizeof *t, 64);
    if (!t) return pn_nomem(err, sizeof *t);
    memset(t, 0, sizeof *t);
    t->e = e;
    t->cursor.work = *w;
    t->cursor.team = e->team;
    pn_cursor_begin(&t->cursor);
    return PONDER_OK;
}

void pn_task_free(pn_task *t)
{
    if (t) pn_free(t->e->a, t, sizeof *t);
}

/* While callers wait for a step, a slice as long as a step; alone, until its own caller's time. */
static void lead(pn_task *t, uint64_t until, const _Atomic bool *cancel)
{
    pn_engine *e = t->e;
    if (e->n_callers || e->n_tasks > 1) {
        uint64_t slice = pn_now_us() + PN_MAX(e->step_us, (uint64_t)SLICE_LEAST_US);
        until = until ? PN_MIN(until, slice) : slice;
    }
    t->finished = pn_engine_lead(e, &t->cursor, until, cancel);
    e->tasks_turn = false;
}

static bool must_wait(const pn_engine *e) { return e->leading || e->pausers || (!e->tasks_turn && e->n_callers); }

ponder_status pn_task_advance(pn_task *t, uint64_t until, const _Atomic bool *cancel, ponder_error *err)
{
    pn_engine *e = t->e;
    ponder_status st = PONDER_OK;
    bool began = false;
    pthread_mutex_lock(&e->mutex);
    e->n_tasks++;
    pn_team_begin(e->team);
    while (!t->finished && st == PONDER_OK) {
        if (cancel && atomic_load(cancel)) {
            st = pn_fail(err, PONDER_E_CANCELLED, "cancelled");
        } else if (until && began && pn_now_us() >= until) {
            st = PONDER_MORE;
        } else if (must_wait(e)) {
            pn_engine_wait(e, PN_MIN(until ? until : UINT64_MAX, pn_now_us() + CANCEL_POLL_US));
        } else {
            lead(t, until, cancel);
        }
        began = true;
    }
    e->n_tasks--;
    if (e->n_waiting == 0 && e->n_tasks == 0) pn_team_end(e->team);
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->mutex);
    return st;
}
