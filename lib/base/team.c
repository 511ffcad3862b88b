/* A team of worker threads led by the caller. Jobs are cut into parts; whoever is free takes the next part. */
#include "base/base.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { SPIN_US = 200, WORKER_STACK = 256 * 1024, LINE = 64 };

typedef struct worker {
    pthread_t thread;
    struct pn_team *team;
    uint32_t index;
} worker;

/* `job` packs a generation (high 32 bits) and the next part (low 32 bits): a late worker that still holds the previous
 * generation fails its compare-and-swap, so it can never take a part of a job it did not see. */
struct pn_team {
    const ponder_alloc *a;
    ponder_runner runner;
    uint32_t size, started;
    worker *workers;

    _Alignas(LINE) _Atomic uint64_t job;
    _Alignas(LINE) _Atomic uint32_t done;
    _Alignas(LINE) _Atomic bool hot;   /* between begin and end: workers spin for a while before they sleep */
    _Atomic(pn_team_fn) fn;  /* atomic: a late worker may read them while the next job is written, and then takes no part */
    _Atomic(void *) ctx;
    _Atomic uint32_t parts;

    pthread_mutex_t mutex;
    pthread_cond_t wake;
    _Atomic uint32_t sleepers;
    bool quit;
};

static void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static uint32_t generation_of(uint64_t job) { return (uint32_t)(job >> 32); }

/* Takes parts of generation `gen` until there are none. */
static void work(pn_team *t, uint32_t gen, uint32_t thread)
{
    for (;;) {
        uint64_t job = atomic_load_explicit(&t->job, memory_order_acquire);
        uint32_t part = (uint32_t)job;
        if (generation_of(job) != gen || part >= atomic_load_explicit(&t->parts, memory_order_relaxed)) return;
        pn_team_fn fn = atomic_load_explicit(&t->fn, memory_order_relaxed);
        void *ctx = atomic_load_explicit(&t->ctx, memory_order_relaxed);
        if (!atomic_compare_exchange_weak_explicit(&t->job, &job, job + 1, memory_order_acq_rel, memory_order_relaxed)) continue;
        fn(ctx, thread, part);
        atomic_fetch_add_explicit(&t->done, 1, memory_order_release);
    }
}

static void *worker_main(void *arg)
{
    worker *w = arg;
    pn_team *t = w->team;
    pn_fenv saved;
    pn_fenv_enter(&saved);
    uint32_t seen = 0;
    for (;;) {
        uint64_t until = 0;
        uint32_t spins = 0;
        while (generation_of(atomic_load_explicit(&t->job, memory_order_acquire)) == seen) {
            bool sleep = !atomic_load_explicit(&t->hot, memory_order_relaxed);
            if (!sleep && (++spins & 63) == 0) {
                uint64_t now = pn_now_us();
                if (!until) until = now + SPIN_US;
                else if (now > until) sleep = true;
            }
            if (!sleep) {
                cpu_relax();
                continue;
            }
            pthread_mutex_lock(&t->mutex);
            atomic_fetch_add(&t->sleepers, 1);
            while (!t->quit && generation_of(atomic_load(&t->job)) == seen) pthread_cond_wait(&t->wake, &t->mutex);
            atomic_fetch_sub(&t->sleepers, 1);
            bool quit = t->quit;
            pthread_mutex_unlock(&t->mutex);
            if (quit) return NULL;
            until = 0;
            spins = 0;
        }
        seen = generation_of(atomic_load_explicit(&t->job, memory_order_acquire));
        work(t, seen, w->index);
    }
}

static ponder_status start_workers(pn_team *t, ponder_error *err)
{
    pthread_attr_t attr;
    if (pthread_attr_init(&attr) != 0) return pn_fail(err, PONDER_E_THREAD, "no thread attributes");
    pthread_attr_setstacksize(&attr, WORKER_STACK);
    int rc = 0;
    for (uint32_t i = 0; i + 1 < t->size && rc == 0; i++) {
        t->workers[i] = (worker){.team = t, .index = i + 1};
        rc = pthread_create(&t->workers[i].thread, &attr, worker_main, &t->workers[i]);
        if (rc == 0) t->started++;
    }
    pthread_attr_destroy(&attr);
    if (rc != 0) return pn_fail(err, PONDER_E_THREAD, "thread %u of %u could not be started (error %d)", t->started + 2, t->size, rc);
    return PONDER_OK;
}

ponder_status pn_team_new(pn_team **out, uint32_t threads, const ponder_runner *runner, const ponder_alloc *a, ponder_error *err)
{
    *out = NULL;
    if (runner) threads = PN_MAX(runner->threads, 1u);
    if (threads == 0) threads = 1;
    pn_team *t = pn_alloc_aligned(a, sizeof *t, LINE);
    if (!t) return pn_nomem(err, sizeof *t);
    memset(t, 0, sizeof *t);
    t->a = a;
    t->size = threads;
    if (runner) t->runner = *runner;
    pthread_mutex_init(&t->mutex, NULL);
    pthread_cond_init(&t->wake, NULL);
    if (!runner && threads > 1) {
        t->workers = pn_zalloc_array(a, threads - 1, sizeof *t->workers);
        ponder_status st = t->workers ? start_workers(t, err) : pn_nomem(err, (threads - 1) * sizeof *t->workers);
        if (st != PONDER_OK) {
            pn_team_free(t);
            return st;
        }
    }
    *out = t;
    return PONDER_OK;
}

void pn_team_free(pn_team *t)
{
    if (!t) return;
    pthread_mutex_lock(&t->mutex);
    t->quit = true;
    pthread_cond_broadcast(&t->wake);
    pthread_mutex_unlock(&t->mutex);
    atomic_store(&t->hot, false);
    for (uint32_t i = 0; i < t->started; i++) pthread_join(t->workers[i].thread, NULL);
    pn_free(t->a, t->workers, (t->size - 1) * sizeof *t->workers);
    pthread_cond_destroy(&t->wake);
    pthread_mutex_destroy(&t->mutex);
    pn_free(t->a, t, sizeof *t);
}

uint32_t pn_team_size(const pn_team *t) { return t->size; }
void pn_team_begin(pn_team *t) { atomic_store_explicit(&t->hot, true, memory_order_relaxed); }
void pn_team_end(pn_team *t) { atomic_store_explicit(&t->hot, false, memory_order_relaxed); }

/* The runner knows no thread number; slots are handed out as parts start and given back as they end. */
typedef struct runner_job {
    pn_team_fn fn;
    void *ctx;
    _Atomic uint64_t free_slots;
} runner_job;

static void runner_part(void *ctx, uint32_t part)
{
    runner_job *j = ctx;
    uint64_t slots = atomic_load(&j->free_slots);
    uint32_t slot;
    for (;;) {
        if (!slots) { /* more callers than it promised: wait for one to end */
            cpu_relax();
            slots = atomic_load(&j->free_slots);
            continue;
        }
        slot = (uint32_t)__builtin_ctzll(slots);
        if (atomic_compare_exchange_weak(&j->free_slots, &slots, slots & (slots - 1))) break;
    }
    pn_fenv saved;
    pn_fenv_enter(&saved);
    j->fn(j->ctx, slot, part);
    pn_fenv_leave(&saved);
    atomic_fetch_or(&j->free_slots, UINT64_C(1) << slot);
}

void pn_team_run(pn_team *t, pn_team_fn fn, void *ctx, uint32_t parts)
{
    if (parts == 0) return;
    if (t->size == 1 || parts == 1) {
        for (uint32_t i = 0; i < parts; i++) fn(ctx, 0, i);
        return;
    }
    if (t->runner.run) {
        uint32_t n = PN_MIN(t->size, 64u);
        runner_job j = {.fn = fn, .ctx = ctx};
        atomic_init(&j.free_slots, n == 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1);
        t->runner.run(t->runner.user, runner_part, &j, parts);
        return;
    }
    uint32_t gen = generation_of(atomic_load_explicit(&t->job, memory_order_relaxed)) + 1;
    atomic_store_explicit(&t->fn, fn, memory_order_relaxed);
    atomic_store_explicit(&t->ctx, ctx, memory_order_relaxed);
    atomic_store_explicit(&t->done, 0, memory_order_relaxed);
    atomic_store_explicit(&t->parts, parts, memory_order_relaxed);
    atomic_store(&t->job, (uint64_t)gen << 32);
    if (atomic_load(&t->sleepers) > 0) {
        pthread_mutex_lock(&t->mutex);
        pthread_cond_broadcast(&t->wake);
        pthread_mutex_unlock(&t->mutex);
    }
    work(t, gen, 0);
    uint32_t spins = 0;
    while (atomic_load_explicit(&t->done, memory_order_acquire) < parts) {
        cpu_relax();
        /* A worker that lost its core holds a part: give it ours. */
        if (++spins > 2000) {
            struct timespec ts = {0, 1000};
            nanosleep(&ts, NULL);
            spins = 1900;
        }
    }
}
