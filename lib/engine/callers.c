/* Callers inside a wait: who leads, who sleeps, who is woken.
 *
 * A caller sleeps on a condition of its own and is woken for a reason of its own: what it waits for is done, it was
 * cancelled, or it is to lead. While callers wait and nobody computes, at least one of them is awake: whoever goes to sleep
 * or leaves without computing passes the lead on. */
#include "engine/internal.h"

#include <time.h>

enum { CANCEL_POLL_US = 5000, GATHER_POLL_US = 1000 };

void pn_callers_init(pn_engine *e)
{
    pthread_mutex_init(&e->mutex, NULL);
    pthread_condattr_init(&e->clock);
    pthread_condattr_setclock(&e->clock, CLOCK_MONOTONIC);
    pthread_cond_init(&e->rested, &e->clock);
}

void pn_callers_free(pn_engine *e)
{
    pthread_cond_destroy(&e->rested);
    pthread_condattr_destroy(&e->clock);
    pthread_mutex_destroy(&e->mutex);
}

void pn_caller_wake(pn_caller *c)
{
    if (!c->asleep) return;
    c->asleep = false;
    pthread_cond_signal(&c->wake);
}

/* The first caller whose kind of work has its turn is to lead. */
static void pass_on(pn_engine *e)
{
    if (e->leading || e->pausers || e->heir) return;
    bool task = e->n_tasks && (e->tasks_turn || !e->n_callers);
    for (pn_caller *c = e->callers; c && !e->heir; c = c->next)
        if (c->asleep && c->task == task) e->heir = c;
    if (e->heir) pn_caller_wake(e->heir);
}

void pn_caller_enter(pn_engine *e, pn_caller *c, const _Atomic bool *cancel, bool task)
{
    *c = (pn_caller){.cancel = cancel, .task = task, .prev = e->last_caller};
    pthread_cond_init(&c->wake, &e->clock);
    if (e->last_caller) e->last_caller->next = c;
    else e->callers = c;
    e->last_caller = c;
    if (task) e->n_tasks++;
    else e->n_callers++;
    pn_team_begin(e->team);
}

void pn_caller_leave(pn_engine *e, pn_caller *c)
{
    if (c->prev) c->prev->next = c->next;
    else e->callers = c->next;
    if (c->next) c->next->prev = c->prev;
    else e->last_caller = c->prev;
    if (c->task) e->n_tasks--;
    else e->n_callers--;
    if (e->n_waiting == 0 && e->n_tasks == 0) pn_team_end(e->team);
    pass_on(e);
    pthread_cond_destroy(&c->wake);
}

void pn_caller_sleep(pn_engine *e, pn_caller *c, uint64_t until)
{
    pass_on(e);
    if (c->polls) until = PN_MIN(until ? until : UINT64_MAX, pn_now_us() + CANCEL_POLL_US);
    struct timespec t = {(time_t)(until / 1000000), (long)(until % 1000000) * 1000};
    c->asleep = true;
    e->sleeps++;
    if (until) pthread_cond_timedwait(&c->wake, &e->mutex, &t);
    else pthread_cond_wait(&c->wake, &e->mutex);
    c->asleep = false;
    if (e->heir == c) e->heir = NULL;
}

bool pn_caller_may_lead(const pn_engine *e, const pn_caller *c)
{
    if (e->leading || e->pausers) return false;
    return c->task ? e->tasks_turn || !e->n_callers : !e->tasks_turn || !e->n_tasks;
}

/* A cancel is a flag, for signal handlers may set it: whoever leads sees it at the next tile and wakes who is meant. */
static void wake_cancelled(pn_engine *e)
{
    for (pn_caller *c = e->callers; c; c = c->next)
        if (atomic_load(c->cancel)) pn_caller_wake(c);
}

/* After computing or gathering. */
static void rest(pn_engine *e)
{
    e->leading = false;
    if (atomic_exchange(&e->rest, false)) wake_cancelled(e);
    if (e->pausers) pthread_cond_broadcast(&e->rested);
}

bool pn_engine_lead(pn_engine *e, pn_cursor *c, uint64_t until, const _Atomic bool *cancel)
{
    e->leading = true;
    pthread_mutex_unlock(&e->mutex);
    bool finished = pn_cursor_run(c, until, cancel);
    pthread_mutex_lock(&e->mutex);
    rest(e);
    return finished;
}

void pn_caller_gather(pn_engine *e, pn_caller *c, uint64_t until)
{
    uint64_t now;
    e->leading = true;
    e->gatherer = c;
    while (pn_gather_more(e) && (now = pn_now_us()) < until && !e->pausers && !atomic_load(&e->rest))
        pn_caller_sleep(e, c, PN_MIN(until, now + GATHER_POLL_US));
    e->gatherer = NULL;
    rest(e);
}

void pn_engine_pause(pn_engine *e)
{
    e->pausers++;
    while (e->leading) {
        atomic_store(&e->rest, true);
        if (e->gatherer) pn_caller_wake(e->gatherer);
        pthread_cond_wait(&e->rested, &e->mutex);
    }
}

void pn_engine_resume(pn_engine *e)
{
    e->pausers--;
    pass_on(e);
}
