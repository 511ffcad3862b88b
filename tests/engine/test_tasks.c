/* Tasks: work that is no step shares the team with the steps, in slices, from any number of callers. */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "rig.h"

enum { OPS = 20, TILES = 40, CALLERS = 3, TOKENS = 60 };

typedef struct counting {
    _Atomic uint32_t done[OPS][TILES];
    _Atomic uint32_t out_of_order, tiles;
    uint32_t entered, tile_us;
} counting;

static uint32_t enter(void *self, uint32_t op)
{
    counting *c = self;
    if (op != c->entered++) atomic_fetch_add(&c->out_of_order, 1);
    for (uint32_t i = 0; op > 0 && i < TILES; i++)
        if (atomic_load(&c->done[op - 1][i]) != 1) atomic_fetch_add(&c->out_of_order, 1);
    return TILES;
}

static void tile(void *self, uint32_t op, uint32_t i, uint32_t thread)
{
    counting *c = self;
    (void)thread;
    uint64_t until = pn_now_us() + c->tile_us;
    while (pn_now_us() < until) { }
    atomic_fetch_add(&c->done[op][i], 1);
    atomic_fetch_add(&c->tiles, 1);
}

static uint32_t next(void *self, uint32_t op)
{
    (void)self;
    return op + 1;
}

static pn_task *task_of(rig *r, counting *c)
{
    pn_task *t;
    pn_work w = {c, OPS, enter, tile, next, NULL};
    assert_int_equal(pn_task_new(&t, r->e, &w, NULL), PONDER_OK);
    return t;
}

static void all_tiles_once(counting *c)
{
    assert_int_equal(atomic_load(&c->tiles), OPS * TILES);
    assert_int_equal(atomic_load(&c->out_of_order), 0);
}

static void a_task_runs_in_slices(void **state)
{
    (void)state;
    for (uint32_t threads = 1; threads <= 3; threads++) {
        pn_engine_options o = default_options();
        o.threads = threads;
        rig r = rig_new("llama", &o);
        static counting c;
        memset(&c, 0, sizeof c);
        pn_task *t = task_of(&r, &c);
        uint32_t calls = 0, before = 0;
        ponder_status st;
        while ((st = pn_task_advance(t, 1, NULL, NULL)) == PONDER_MORE) { /* a time long past: the least possible */
            uint32_t now = atomic_load(&c.tiles);
            assert_true(now > before && now <= before + threads);
            before = now;
            calls++;
        }
        assert_int_equal(st, PONDER_OK);
        assert_true(calls >= OPS * TILES / threads - 1);
        all_tiles_once(&c);
        assert_int_equal(pn_task_advance(t, 0, NULL, NULL), PONDER_OK);
        pn_task_free(t);
        rig_free(&r);
    }
}

static void a_task_can_be_cancelled_and_taken_up(void **state)
{
    (void)state;
    pn_engine_options o = default_options();
    rig r = rig_new("llama", &o);
    static counting c;
    memset(&c, 0, sizeof c);
    pn_task *t = task_of(&r, &c);
    _Atomic bool cancel = true;
    assert_int_equal(pn_task_advance(t, 0, &cancel, NULL), PONDER_E_CANCELLED);
    assert_true(atomic_load(&c.tiles) < OPS * TILES);
    atomic_store(&cancel, false);
    assert_int_equal(pn_task_advance(t, 0, &cancel, NULL), PONDER_OK);
    all_tiles_once(&c);
    pn_task_free(t);
    rig_free(&r);
}

/* ---- beside steps --------------------------------------------------------------------------- */

typedef struct caller {
    rig *r;
    counting *c;              /* a task, or NULL: generates */
    pn_sequence *s;
    _Atomic uint32_t *tokens;
} caller;

static void *generate(void *user)
{
    caller *me = user;
    for (int i = 0; i < TOKENS; i++) {
        if (pn_sequence_advance(me->s, 0, NULL) != PONDER_OK) return NULL;
        int32_t id = i % 50 + 1;
        if (pn_sequence_append(me->s, &id, 1, NULL) != PONDER_OK) return NULL;
        atomic_fetch_add(me->tokens, 1);
    }
    pn_sequence_rest(me->s);
    return me;
}

static void *encode(void *user)
{
    caller *me = user;
    pn_task *t;
    pn_work w = {me->c, OPS, enter, tile, next, NULL};
    if (pn_task_new(&t, me->r->e, &w, NULL) != PONDER_OK) return NULL;
    ponder_status st = pn_task_advance(t, 0, NULL, NULL);
    pn_task_free(t);
    return st == PONDER_OK ? me : NULL;
}

/* Two tasks and three generating sequences from five threads: everyone gets done, and nobody waits for all of a task. */
static void tasks_and_steps_take_turns(void **state)
{
    (void)state;
    pn_engine_options o = default_options();
    o.threads = 2;
    rig r = rig_new("llama", &o);
    static counting c[2];
    memset(c, 0, sizeof c);
    _Atomic uint32_t tokens = 0;
    caller who[CALLERS + 2];
    pthread_t thread[CALLERS + 2];
    for (int i = 0; i < CALLERS + 2; i++) {
        who[i] = (caller){.r = &r, .tokens = &tokens};
        if (i < CALLERS) {
            int32_t first = i + 1;
            who[i].s = sequence(&r, 100);
            append(who[i].s, &first, 1);
        } else {
            who[i].c = &c[i - CALLERS];
            who[i].c->tile_us = 100; /* 40 ms of one core in all */
        }
    }
    for (int i = 0; i < CALLERS + 2; i++) assert_int_equal(pthread_create(&thread[i], NULL, who[i].c ? encode : generate, &who[i]), 0);
    for (int i = 0; i < CALLERS + 2; i++) {
        void *result;
        pthread_join(thread[i], &result);
        assert_non_null(result);
    }
    assert_int_equal(atomic_load(&tokens), CALLERS * TOKENS);
    for (int i = 0; i < 2; i++) all_tiles_once(&c[i]);
    for (int i = 0; i < CALLERS; i++) pn_sequence_free(who[i].s);
    rig_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_task_runs_in_slices), cmocka_unit_test(a_task_can_be_cancelled_and_taken_up),
        cmocka_unit_test(tasks_and_steps_take_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
