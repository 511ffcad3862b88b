/* A task: work that is no step (a tower's encode), on the engine's team and under its leadership. */
#include "engine/internal.h"

enum { SLICE_LEAST_US = 1000 };

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
    t->cursor.rest = &e->rest;
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

ponder_status pn_task_advance(pn_task *t, uint64_t until, const _Atomic bool *cancel, ponder_error *err)
{
    static const _Atomic bool never;
    pn_engine *e = t->e;
    ponder_status st = PONDER_OK;
    pn_caller me;
    bool began = false;
    pthread_mutex_lock(&e->mutex);
    pn_caller_enter(e, &me, cancel ? cancel : &never, true);
    me.polls = cancel != NULL;
    while (!t->finished && st == PONDER_OK) {
        if (atomic_load(me.cancel)) {
            st = pn_fail(err, PONDER_E_CANCELLED, "cancelled");
        } else if (until && began && pn_now_us() >= until) {
            st = PONDER_MORE;
        } else if (!pn_caller_may_lead(e, &me)) {
            pn_caller_sleep(e, &me, until);
        } else {
            lead(t, until, cancel);
        }
        began = true;
    }
    pn_caller_leave(e, &me);
    pthread_mutex_unlock(&e->mutex);
    return st;
}
