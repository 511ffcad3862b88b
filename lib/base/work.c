/* The cursor: a work's operations and tiles, computed by the team as one job. Whoever finishes the last tile of an
 * operation enters the next, so there is no thread that all must wait for. */
#include "base/work.h"

#include <time.h>

enum { TILE_BITS = 24, SPINS_BEFORE_SLEEP = 4000, SLEEP_NS = 20000 };

static uint32_t next_tile(uint64_t job) { return (uint32_t)job & ((1u << TILE_BITS) - 1); }
static uint32_t tiles_of(uint64_t job) { return (uint32_t)(job >> TILE_BITS) & ((1u << TILE_BITS) - 1); }

static void publish(pn_cursor *c, uint32_t tiles)
{
    atomic_store_explicit(&c->done, 0, memory_order_relaxed);
    c->generation++;
    uint64_t job = (uint64_t)c->generation << (2 * TILE_BITS) | (uint64_t)tiles << TILE_BITS;
    atomic_store_explicit(&c->job, job, memory_order_release);
}

/* Enters `op` or the first one after it that has tiles. */
static void enter_from(pn_cursor *c, uint32_t op)
{
    const pn_work *w = &c->work;
    uint32_t n = w->n_ops, tiles = 0;
    while (op < n && (tiles = w->enter(w->self, op)) == 0) op = w->next(w->self, op);
    c->op = op;
    if (op >= n) atomic_store_explicit(&c->finished, true, memory_order_release);
    else publish(c, tiles);
}

void pn_cursor_begin(pn_cursor *c)
{
    atomic_store(&c->finished, false);
    enter_from(c, 0);
}

static bool is_set(const _Atomic bool *flag) { return flag && atomic_load_explicit(flag, memory_order_relaxed); }

static bool must_stop(pn_cursor *c)
{
    if (atomic_load_explicit(&c->stop, memory_order_relaxed)) return true;
    if (!is_set(c->cancel) && !is_set(c->rest) && !(c->until && pn_now_us() >= c->until)) return false;
    atomic_store_explicit(&c->stop, true, memory_order_relaxed);
    return true;
}

static void relax(uint32_t *spins)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
    /* The thread we wait for may have lost its core to somebody: leave ours to it. */
    if (++*spins < SPINS_BEFORE_SLEEP) return;
    struct timespec t = {0, SLEEP_NS};
    nanosleep(&t, NULL);
}

static void work(void *ctx, uint32_t thread, uint32_t part)
{
    (void)part;
    pn_cursor *c = ctx;
    uint32_t spins = 0;
    /* Time is looked at after a tile, so that the shortest slice still gets on. */
    while (!atomic_load_explicit(&c->finished, memory_order_acquire) && !atomic_load_explicit(&c->stop, memory_order_relaxed)) {
        uint64_t job = atomic_load_explicit(&c->job, memory_order_acquire);
        if (next_tile(job) >= tiles_of(job)) {
            if (!c->work.idle || !c->work.idle(c->work.self)) relax(&spins);
            if (must_stop(c)) return;
            continue;
        }
        if (!atomic_compare_exchange_weak_explicit(&c->job, &job, job + 1, memory_order_acq_rel, memory_order_relaxed)) continue;
        spins = 0;
        c->work.tile(c->work.self, c->op, next_tile(job), thread);
        if (atomic_fetch_add_explicit(&c->done, 1, memory_order_acq_rel) + 1 == tiles_of(job))
            enter_from(c, c->work.next(c->work.self, c->op));
        if (must_stop(c)) return;
    }
}

bool pn_cursor_run(pn_cursor *c, uint64_t until, const _Atomic bool *cancel)
{
    c->until = until;
    c->cancel = cancel;
    atomic_store_explicit(&c->stop, false, memory_order_relaxed);
    pn_team_run(c->team, work, c, pn_team_size(c->team));
    return atomic_load(&c->finished);
}
