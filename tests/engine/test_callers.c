/* Many callers on one engine: everyone is served alike, steps are shared, nobody is woken for nothing, and one that leaves
 * takes nothing from the others. No clock decides anything here. */
#include <pthread.h>
#include <stdatomic.h>

#include "rig.h"

enum { CALLERS = 16, PROMPT = 20, TOKENS = 24, MOST_VOCAB = 512 };

/* ---- threads ------------------------------------------------------------------------------------- */

typedef struct caller {
    pn_sequence *s;
    pthread_t thread;
    const int32_t *ids;
    const float *want;
    uint32_t vocab, tokens;
    bool same;
} caller;

static void *generate(void *arg)
{
    caller *c = arg;
    c->same = true;
    for (uint32_t i = 0; i < c->tokens && c->same; i++) {
        c->same = pn_sequence_advance(c->s, 0, NULL) == PONDER_OK && memcmp(pn_sequence_logits(c->s), c->want + i * c->vocab, c->vocab * sizeof(float)) == 0 &&
                  pn_sequence_append(c->s, c->ids + PROMPT + i, 1, NULL) == PONDER_OK;
    }
    pn_sequence_rest(c->s);
    return NULL;
}

static void alone(const char *model, const int32_t *ids, float *want)
{
    pn_engine_options o = default_options();
    rig r = rig_new(model, &o);
    pn_sequence *s = sequence(&r, 200);
    append(s, ids, PROMPT);
    for (uint32_t i = 0; i < TOKENS; i++) {
        memcpy(want + i * r.vocab, advance(s), r.vocab * sizeof *want);
        append(s, ids + PROMPT + i, 1);
    }
    pn_sequence_free(s);
    rig_free(&r);
}

typedef struct part {
    pthread_t thread;
    void (*fn)(void *ctx, uint32_t part);
    void *ctx;
    uint32_t i;
} part;

static void *run_part(void *arg)
{
    part *p = arg;
    p->fn(p->ctx, p->i);
    return NULL;
}

/* A host's runner with threads of its own. */
static void run_on_threads(void *user, void (*fn)(void *ctx, uint32_t part), void *ctx, uint32_t parts)
{
    part p[8];
    atomic_fetch_add((_Atomic uint32_t *)user, 1);
    for (uint32_t i = 1; i < parts; i++) {
        p[i] = (part){.fn = fn, .ctx = ctx, .i = i};
        pthread_create(&p[i].thread, NULL, run_part, &p[i]);
    }
    fn(ctx, 0);
    for (uint32_t i = 1; i < parts; i++) pthread_join(p[i].thread, NULL);
}

/* Each caller sleeps about once a token: it is woken when its token is there, or to lead, and for nothing else. */
static void crowd(const pn_engine_options *o)
{
    static float want[TOKENS * MOST_VOCAB];
    int32_t ids[PROMPT + TOKENS];
    rig r = rig_new("llama", o);
    assert_true(r.vocab <= MOST_VOCAB);
    make_ids(ids, PROMPT + TOKENS, r.vocab, 8);
    alone("llama", ids, want);
    caller c[CALLERS];
    for (uint32_t i = 0; i < CALLERS; i++) {
        c[i] = (caller){.s = sequence(&r, 200), .ids = ids, .want = want, .vocab = r.vocab, .tokens = TOKENS};
        append(c[i].s, ids, PROMPT);
    }
    for (uint32_t i = 0; i < CALLERS; i++) assert_int_equal(pthread_create(&c[i].thread, NULL, generate, &c[i]), 0);
    for (uint32_t i = 0; i < CALLERS; i++) pthread_join(c[i].thread, NULL);
    for (uint32_t i = 0; i < CALLERS; i++) assert_true(c[i].same);
    pn_engine_counts n;
    pn_engine_read_counts(r.e, &n);
    assert_true(n.sleeps <= 3 * CALLERS * TOKENS);
    for (uint32_t i = 0; i < CALLERS; i++) pn_sequence_free(c[i].s);
    rig_free(&r);
}

static void callers_are_woken_for_a_reason(void **state)
{
    (void)state;
    pn_engine_options o = default_options();
    crowd(&o);
    o.threads = 3;
    crowd(&o);
    o.sequences = 5;
    crowd(&o);
}

static void callers_share_the_hosts_runner(void **state)
{
    (void)state;
    _Atomic uint32_t runs = 0;
    ponder_runner runner = {sizeof runner, &runs, 3, 0, run_on_threads};
    pn_engine_options o = default_options();
    o.runner = &runner;
    crowd(&o);
    assert_true(atomic_load(&runs) >= TOKENS);
}

/* ---- one thread, so that every step is known ---------------------------------------------------------- */

/* Takes up whatever is done: one token more for each. */
static uint32_t serve(pn_sequence **s, uint32_t n, uint32_t *served)
{
    uint32_t done = 0;
    for (uint32_t i = 0; i < n; i++) {
        const int32_t id = (int32_t)(i + 1);
        if (!pn_sequence_logits(s[i])) continue;
        append(s[i], &id, 1);
        pn_sequence_submit(s[i]);
        served[i]++;
        done++;
    }
    return done;
}

/* More callers than a step takes, and a long prompt among them: all are served alike, and the prompt a chunk a step. */
static void more_callers_than_fit(void **state)
{
    (void)state;
    enum { MANY = 11, FIT = 4, CHUNK = 6, STEPS = 110, LONG = 1000 };
    for (int joining = 0; joining < 2; joining++) {
        pn_engine_options o = default_options();
        o.sequences = FIT;
        o.chunk = CHUNK;
        rig r = rig_new("llama", &o);
        int32_t ids[LONG];
        make_ids(ids, LONG, r.vocab, 4);
        pn_sequence *s[MANY], *reader = sequence(&r, 1100);
        uint32_t served[MANY] = {0}, least = UINT32_MAX, most = 0;
        pn_engine_counts n, before;
        for (uint32_t i = 0; i < MANY; i++) {
            s[i] = sequence(&r, 300);
            append(s[i], ids + i, 3);
            advance(s[i]);
        }
        serve(s, MANY, served);
        append(reader, ids, LONG);
        if (joining) pn_sequence_submit(reader);
        pn_engine_read_counts(r.e, &before);
        for (uint32_t step = 1; step <= STEPS; step++) {
            /* Whoever waits longest has its turn in this step. */
            uint32_t next = 0;
            for (uint32_t i = 1; i < MANY; i++)
                if (served[i] < served[next]) next = i;
            advance(s[next]);
            pn_engine_read_counts(r.e, &n);
            assert_int_equal(n.steps - before.steps, step);
            if (joining) assert_int_equal(pn_sequence_computed(reader), CHUNK * step);
            assert_int_equal(serve(s, MANY, served), joining ? FIT - 1 : FIT);
        }
        for (uint32_t i = 0; i < MANY; i++) {
            least = PN_MIN(least, served[i]);
            most = PN_MAX(most, served[i]);
            pn_sequence_free(s[i]);
        }
        assert_true(most - least <= 1);
        pn_sequence_free(reader);
        rig_free(&r);
    }
}

/* Slices of the least size; how many the step takes. */
static uint32_t finish(pn_sequence *s)
{
    uint32_t calls = 1;
    ponder_status st;
    while ((st = pn_sequence_advance(s, 1, NULL)) == PONDER_MORE) calls++;
    assert_int_equal(st, PONDER_OK);
    return calls;
}

/* Whatever the moment in a step at which a sequence is cancelled, goes back or is freed, the others lose nothing of the step:
 * not a tile is done again, and their bits are those of running alone. */
static void a_leaver_takes_nothing_along(void **state)
{
    (void)state;
    static const char *const models[] = {"llama", "muse-glimmer", "muse-spark"};
    enum { N = 40 };
    int32_t ids[N + 9];
    make_ids(ids, N + 9, 150, 12);
    for (size_t m = 0; m < PN_COUNT(models); m++) {
        pn_engine_options o = default_options();
        rig r = rig_new(models[m], &o);
        assert_true(r.vocab <= MOST_VOCAB);
        float want[MOST_VOCAB], other[MOST_VOCAB];
        pn_sequence *a = sequence(&r, 200), *b = sequence(&r, 200);
        append(a, ids, N);
        memcpy(want, advance(a), r.vocab * sizeof *want);
        append(b, ids + 9, N - 17);
        memcpy(other, advance(b), r.vocab * sizeof *other);
        uint32_t whole = 0;
        for (uint32_t at = 0; whole == 0 || at < whole; at += 1 + at / 3) {
            assert_int_equal(pn_sequence_rewind(a, 0, NULL, NULL), PONDER_OK);
            assert_int_equal(pn_sequence_rewind(b, 0, NULL, NULL), PONDER_OK);
            append(a, ids, N);
            append(b, ids + 9, N - 17);
            pn_sequence_submit(b);
            if (whole == 0) { /* undisturbed */
                whole = finish(a);
                advance(b);
                continue;
            }
            pn_engine_counts before, after;
            pn_engine_read_counts(r.e, &before);
            for (uint32_t i = 0; i < at; i++) assert_int_equal(pn_sequence_advance(a, 1, NULL), PONDER_MORE);
            if (at % 3 == 0) {
                pn_sequence_cancel(b);
                assert_int_equal(pn_sequence_advance(b, 1, NULL), PONDER_E_CANCELLED);
                pn_sequence_take_cancel(b);
            } else if (at % 3 == 1) {
                assert_int_equal(pn_sequence_rewind(b, 5, NULL, NULL), PONDER_OK);
                append(b, ids + 14, N - 22);
            } else {
                pn_sequence_free(b);
                b = sequence(&r, 200);
                append(b, ids + 9, N - 17);
            }
            assert_true(at + finish(a) <= whole + 1);
            pn_engine_read_counts(r.e, &after);
            assert_int_equal(after.steps - before.steps, 1);
            same_bits(pn_sequence_logits(a), want, r.vocab, models[m], at);
            same_bits(advance(b), other, r.vocab, "the one that left", at);
        }
        assert_true(whole > 20);
        pn_sequence_free(a);
        pn_sequence_free(b);
        rig_free(&r);
    }
}

/* ---- a caller with little time beside one that leads --------------------------------------------------- */

typedef struct leader {
    pn_sequence *s;
    _Atomic bool back;
    ponder_status st;
} leader;

static void *lead(void *arg)
{
    leader *l = arg;
    l->st = pn_sequence_advance(l->s, 0, NULL);
    atomic_store(&l->back, true);
    return NULL;
}

/* It comes back again and again while the other's prompt is far from done, and both get what they asked for. */
static void little_time_is_kept_while_others_lead(void **state)
{
    (void)state;
    enum { LONG = 1500 };
    int32_t ids[LONG];
    pn_engine_options o = default_options();
    o.columns = 512;
    rig r = rig_new("seed0", &o);
    make_ids(ids, LONG, 300, 2);
    pn_sequence *prompt = sequence(&r, 1600), *brief = sequence(&r, 1600);
    append(prompt, ids, LONG);
    append(brief, ids, LONG);
    leader l = {.s = prompt};
    pthread_t thread;
    uint32_t calls = 0;
    ponder_status st = PONDER_MORE;
    pthread_create(&thread, NULL, lead, &l);
    while (!atomic_load(&l.back) && st == PONDER_MORE) {
        st = pn_sequence_advance(brief, 1, NULL);
        calls++;
    }
    pthread_join(thread, NULL);
    assert_int_equal(l.st, PONDER_OK);
    assert_true(calls > 3);
    while (st == PONDER_MORE) st = pn_sequence_advance(brief, 1, NULL);
    assert_int_equal(st, PONDER_OK);
    same_bits(pn_sequence_logits(brief), pn_sequence_logits(prompt), r.vocab, "little time", LONG);
    pn_sequence_free(prompt);
    pn_sequence_free(brief);
    rig_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(callers_are_woken_for_a_reason), cmocka_unit_test(callers_share_the_hosts_runner),
        cmocka_unit_test(more_callers_than_fit), cmocka_unit_test(a_leaver_takes_nothing_along),
        cmocka_unit_test(little_time_is_kept_while_others_lead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
