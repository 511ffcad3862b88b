/* Turns with drafts tell what turns without them tell, event by event, whatever the drafts are: those of the look-up, of a drafter, and
 * others that are right, wrong or mixed, put in by a proposer that has seen the turn without drafts. */
#include <math.h>
#include <pthread.h>

#include "session/session.h"
#include "use.h"

enum { MOST_TRACE = 1 << 19, DRAFTS = 6 };

/* ---- what is compared: all events and ids of a scene ------------------------------------------------------ */

typedef struct record {
    char trace[MOST_TRACE];
    size_t n;
    ids all[4];               /* ids of its sessions at the end */
    uint64_t drafted, accepted;
    uint32_t stop_after;      /* the callback says stop after so many events of a turn; 0: never */
    uint32_t events;
} record;

static void put(record *r, const void *p, size_t n)
{
    assert_true(r->n + n < MOST_TRACE);
    memcpy(r->trace + r->n, p, n);
    r->n += n;
}

static int32_t note(void *user, const ponder_event *e)
{
    record *r = user;
    const uint64_t numbers[] = {(uint64_t)e->kind, (uint64_t)e->end, (uint64_t)(int64_t)e->token, e->prompt_tokens, e->reused_tokens, e->output_tokens,
                                e->thought_tokens, e->calls, e->message, e->n_top, e->text_bytes};
    put(r, numbers, sizeof numbers);
    put(r, &e->logprob, sizeof e->logprob);
    put(r, e->text, e->text_bytes);
    if (e->n_top) put(r, e->top, e->n_top * sizeof *e->top);
    r->events++;
    if (e->kind == PONDER_EVENT_DONE) {
        r->drafted += e->drafted;
        r->accepted += e->accepted;
        r->events = 0;
    }
    return r->stop_after && r->events >= r->stop_after;
}

static void turn(ponder_session *s, record *r)
{
    if (ponder_session_generate(s, note, r) != PONDER_OK) fail_msg("%s", ponder_session_error(s));
}

/* ---- ways to draft ------------------------------------------------------------------------------------------ */

typedef struct way {
    const char *name;
    int wrong;                /* of 100; or */
    const record *truth;      /* NULL: no drafts */
    uint64_t random;
} way;

enum { LOOKUP = -1, DRAFTER = -2 };

typedef struct oracle {
    way *w;
    uint32_t which;           /* session of the scene */
    uint64_t random;          /* its own: sessions may run on threads */
} oracle;

static uint32_t propose(void *user, const int32_t *known, uint32_t n, int32_t *out, float *chance, uint32_t most)
{
    oracle *o = user;
    const ids *truth = &o->w->truth->all[o->which];
    (void)known;
    for (uint32_t i = 0; i < most; i++) {
        o->random = o->random * 6364136223846793005u + 1442695040888963407u;
        const bool wrong = (int)((o->random >> 33) % 100) < o->w->wrong;
        out[i] = n + i < truth->n && !wrong ? truth->id[n + i] : (int32_t)((o->random >> 40) % SEED_VOCAB);
        chance[i] = 1;
    }
    return most;
}

static oracle oracles[4];

/* The session's drafts are this way's, from here on. */
static void draft(ponder_session *s, way *w, uint32_t which)
{
    oracles[which] = (oracle){w, which, w->random + which};
    if (w->truth && w->wrong >= 0) pn_sequence_propose(s->seq, propose, &oracles[which]);
}

static void drafting(ponder_config *c, const way *w)
{
    OK(ponder_config_set_str(c, PONDER_P_DRAFT, !w->truth ? "" : w->wrong == DRAFTER ? "drafter" : "lookup"));
    OK(ponder_config_set_i64(c, PONDER_P_DRAFT_TOKENS, DRAFTS));
}

static ponder_config *config_of(const way *w)
{
    ponder_config *c = new_config();
    OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 120));
    OK(ponder_config_set_str(c, PONDER_P_EFFORT, "high"));
    drafting(c, w);
    return c;
}

static void set(ponder_config *c, ponder_param id, int64_t v) { OK(ponder_config_set_i64(c, id, v)); }
static void set_text(ponder_config *c, ponder_param id, const char *v) { OK(ponder_config_set_str(c, id, v)); }
static void set_real(ponder_config *c, ponder_param id, double v) { OK(ponder_config_set_f64(c, id, v)); }

static ponder_session *asked(ponder_model *m, ponder_config *c, way *w, uint32_t which)
{
    static const char *const questions[] = {"From B do 1p2t3s4p", "Which 3 of 91462 sum to 11?", "From C do 1t2p3p4q5t6s", "Add 861+524"};
    ponder_session *s = new_session(m, c);
    add(s, "user", questions[which]);
    draft(s, w, which);
    return s;
}

static void end(ponder_session *s, record *r, uint32_t which)
{
    r->all[which] = tokens_of(s);
    ponder_session_free(s);
}

/* ---- scenes --------------------------------------------------------------------------------------------------- */

static void greedy(ponder_model *m, way *w, record *r)
{
    ponder_config *c = config_of(w);
    set(c, PONDER_P_IGNORE_EOS, 1); /* long, and it repeats itself */
    set(c, PONDER_P_MAX_TOKENS, 300);
    ponder_session *s = asked(m, c, w, 0);
    turn(s, r);
    end(s, r, 0);
    ponder_config_free(c);
}

static void seeded(ponder_model *m, way *w, record *r)
{
    ponder_config *c = config_of(w);
    set(c, PONDER_P_SEED, 12345);
    set(c, PONDER_P_TOP_K, 40);
    set(c, PONDER_P_LOGPROBS, 3);
    set(c, PONDER_P_PENALTY_WINDOW, 8);
    set_real(c, PONDER_P_TEMPERATURE, 1);
    set_real(c, PONDER_P_TOP_P, 0.95);
    set_real(c, PONDER_P_REPEAT_PENALTY, 1.1);
    set(c, PONDER_P_IGNORE_EOS, 1);
    ponder_session *s = asked(m, c, w, 1);
    OK(ponder_session_bias(s, 40, 1.5f));
    turn(s, r);
    end(s, r, 1);
    ponder_config_free(c);
}

static void bound(ponder_model *m, way *w, record *r)
{
    static const char schema[] = "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":5,"
                                 "\"maxItems\":9},\"b\":{\"enum\":[\"yes\",\"no\"]}},\"required\":[\"a\",\"b\"],\"additionalProperties\":false}";
    for (uint32_t i = 0; i < 2; i++) {
        ponder_config *c = config_of(w);
        set_real(c, PONDER_P_TEMPERATURE, i);
        set(c, PONDER_P_THINK_TOKENS, 30);
        set_text(c, i ? PONDER_P_SCHEMA : PONDER_P_REGEX, i ? schema : "((yes|no), [0-9]{3}; ){6}end");
        ponder_session *s = asked(m, c, w, i);
        turn(s, r);
        end(s, r, i);
        ponder_config_free(c);
    }
}

/* Caps, a least thought, messages that are put in, and probes, which try tokens and take them back. */
static void budgets(ponder_model *m, way *w, record *r)
{
    for (uint32_t i = 0; i < 4; i++) {
        ponder_config *c = config_of(w);
        set_real(c, PONDER_P_TEMPERATURE, i % 2);
        set(c, PONDER_P_THINK_TOKENS, i == 0 ? 7 : 40);
        set(c, PONDER_P_THINK_LEAST, i == 1 ? 30 : 0);
        if (i == 2) set_text(c, PONDER_P_THINK_MESSAGE, " so: ");
        if (i >= 2) set_text(c, PONDER_P_THINK_EXIT, i == 2 ? "answer" : "entropy");
        set_real(c, PONDER_P_THINK_EXIT_AT, i == 2 ? 0.999 : 0.001);
        set(c, PONDER_P_THINK_INTERVAL, 3);
        set_real(c, PONDER_P_THINK_PROBE_SHARE, 100);
        ponder_session *s = asked(m, c, w, i);
        turn(s, r);
        end(s, r, i);
        ponder_config_free(c);
    }
}

static void stops(ponder_model *m, way *w, record *r)
{
    static const char *const stop[] = {"C4", "uH2", "5"};
    for (uint32_t i = 0; i < COUNT(stop); i++) {
        ponder_config *c = config_of(w);
        set_text(c, PONDER_P_TEMPLATE, "llama3"); /* without channels: all of it is answer */
        set_text(c, PONDER_P_STOP, stop[i]);
        set_text(c, PONDER_P_STOP, "never this");
        ponder_session *s = new_session(m, c);
        draft(s, w, i);
        static const char prompt[] = "<|start|>user<|message|>From B do 1p2t3s4p<|eot|><|start|>assistant";
        OK(ponder_session_prompt(s, prompt, sizeof prompt - 1, PONDER_TOKENIZE_SPECIAL));
        turn(s, r);
        turn(s, r); /* and on behind the stop */
        end(s, r, i);
        ponder_config_free(c);
    }
}

/* Cut after so many tokens, and on, and on; a second question at the end. */
static void lengths(ponder_model *m, way *w, record *r)
{
    for (uint32_t i = 0; i < 4; i++) {
        ponder_config *c = config_of(w);
        set(c, PONDER_P_MAX_TOKENS, 1 + 3 * i);
        set(c, PONDER_P_IGNORE_EOS, i % 2);
        ponder_session *s = asked(m, c, w, i);
        for (int k = 0; k < 12 && s->end != PONDER_END_EOS; k++) turn(s, r);
        add(s, "user", "Add 12+99");
        for (int k = 0; k < 5 && (k == 0 || s->end != PONDER_END_EOS); k++) turn(s, r);
        end(s, r, i);
        ponder_config_free(c);
    }
}

static void cancels(ponder_model *m, way *w, record *r)
{
    for (uint32_t i = 0; i < 4; i++) {
        ponder_config *c = config_of(w);
        set(c, PONDER_P_LOGPROBS, 0); /* an event for every token */
        ponder_session *s = asked(m, c, w, i);
        r->stop_after = 2 + i;
        for (int k = 0; k < 6 && s->end != PONDER_END_EOS; k++) turn(s, r);
        r->stop_after = 0;
        if (s->end != PONDER_END_EOS) turn(s, r);
        end(s, r, i);
        ponder_config_free(c);
    }
}

static bool slice(ponder_session *s, uint64_t us, record *r)
{
    ponder_event e = {.size = sizeof e};
    const ponder_status st = ponder_session_step(s, us, &e);
    if (st == PONDER_MORE) return false;
    if (st != PONDER_OK) fail_msg("%s", ponder_session_error(s));
    note(r, &e);
    return e.kind == PONDER_EVENT_DONE;
}

static void slices(ponder_model *m, way *w, record *r)
{
    static const uint64_t us[] = {0, 1, 60, 3000};
    for (uint32_t i = 0; i < COUNT(us); i++) {
        ponder_config *c = config_of(w);
        ponder_session *s = asked(m, c, w, i);
        while (!slice(s, us[i], r)) { }
        end(s, r, i);
        ponder_config_free(c);
    }
}

static void forks(ponder_model *m, way *w, record *r)
{
    ponder_config *c = config_of(w);
    set(c, PONDER_P_MAX_TOKENS, 17);
    set(c, PONDER_P_IGNORE_EOS, 1);
    set_real(c, PONDER_P_TEMPERATURE, 1);
    ponder_session *s[3] = {asked(m, c, w, 0)};
    turn(s[0], r);
    for (uint32_t i = 1; i < 3; i++) {
        set(c, PONDER_P_SEED, i);
        set(c, PONDER_P_MAX_TOKENS, 60);
        OK(ponder_session_fork(&s[i], s[0], c));
        draft(s[i], w, i);
    }
    for (uint32_t i = 3; i-- > 0;) turn(s[i], r);
    for (uint32_t i = 0; i < 3; i++) end(s[i], r, i);
    ponder_config_free(c);
}

static void rewinds(ponder_model *m, way *w, record *r)
{
    ponder_config *c = config_of(w);
    set(c, PONDER_P_MAX_TOKENS, 40);
    set(c, PONDER_P_IGNORE_EOS, 1);
    ponder_session *s = asked(m, c, w, 2);
    turn(s, r);
    const size_t n = tokens_of(s).n;
    static const size_t back[] = {1, 7, 40, 23};
    for (size_t i = 0; i < COUNT(back); i++) {
        size_t again;
        OK(ponder_session_rewind(s, n - back[i], &again));
        put(r, &again, sizeof again);
        turn(s, r);
    }
    end(s, r, 2);
    ponder_config_free(c);
}

static void saved(ponder_model *m, way *w, record *r)
{
    ponder_config *c = config_of(w);
    set(c, PONDER_P_MAX_TOKENS, 25);
    set(c, PONDER_P_IGNORE_EOS, 1);
    ponder_session *s[2] = {asked(m, c, w, 0), new_session(m, c)};
    turn(s[0], r);
    size_t n;
    OK(ponder_session_save(s[0], NULL, 0, &n));
    char *bytes = malloc(n);
    OK(ponder_session_save(s[0], bytes, n, &n));
    OK(ponder_session_load(s[1], bytes, n));
    static size_t without;
    if (!w->truth) without = n;
    assert_true(w->wrong == DRAFTER ? n > without : n == without); /* what a drafter knows is saved too */
    free(bytes);
    draft(s[1], w, 1);
    for (uint32_t i = 0; i < 2; i++) {
        turn(s[i], r);
        end(s[i], r, i);
    }
    ponder_config_free(c);
}

/* Four in slices, in turn: steps have columns of all of them, and drafts. */
static void in_turn(ponder_model *m, way *w, record *r)
{
    ponder_config *c = config_of(w);
    ponder_session *s[4];
    static record own[4];
    bool done[4] = {false};
    for (uint32_t i = 0; i < 4; i++) {
        set(c, PONDER_P_SEED, i);
        set_real(c, PONDER_P_TEMPERATURE, i % 2);
        s[i] = asked(m, c, w, i);
        own[i].n = 0;
        own[i].drafted = own[i].accepted = 0;
    }
    for (uint32_t left = 4; left;)
        for (uint32_t i = 0; i < 4; i++)
            if (!done[i] && (done[i] = slice(s[i], 40 * i, &own[i]))) left--;
    for (uint32_t i = 0; i < 4; i++) {
        put(r, own[i].trace, own[i].n);
        r->drafted += own[i].drafted;
        r->accepted += own[i].accepted;
        end(s[i], r, i);
    }
    ponder_config_free(c);
}

static void *run(void *arg)
{
    turn(((void **)arg)[0], ((void **)arg)[1]);
    return NULL;
}

static void on_threads(ponder_model *m, way *w, record *r)
{
    ponder_config *c = config_of(w);
    static record own[4];
    void *args[4][2];
    pthread_t thread[4];
    for (uint32_t i = 0; i < 4; i++) {
        set(c, PONDER_P_SEED, i);
        set_real(c, PONDER_P_TEMPERATURE, i % 2);
        own[i].n = 0;
        own[i].drafted = own[i].accepted = 0;
        args[i][0] = asked(m, c, w, i);
        args[i][1] = &own[i];
    }
    for (uint32_t i = 0; i < 4; i++) assert_int_equal(pthread_create(&thread[i], NULL, run, args[i]), 0);
    for (uint32_t i = 0; i < 4; i++) {
        pthread_join(thread[i], NULL);
        put(r, own[i].trace, own[i].n);
        r->drafted += own[i].drafted;
        r->accepted += own[i].accepted;
        end(args[i][0], r, i);
    }
    ponder_config_free(c);
}

static void full(ponder_model *m, way *w, record *r)
{
    ponder_config *c = config_of(w);
    set(c, PONDER_P_CONTEXT, 150);
    set(c, PONDER_P_MAX_TOKENS, 0);
    set(c, PONDER_P_IGNORE_EOS, 1);
    ponder_session *s = asked(m, c, w, 0);
    turn(s, r);
    assert_int_equal(s->end, PONDER_END_CONTEXT);
    end(s, r, 0);
    ponder_config_free(c);
}

/* ---- every scene, every way ----------------------------------------------------------------------------------- */

/* The same model, and beside a drafter that is asked whatever it costs. */
static ponder_model *plain, *beside;

static void check(void (*scene)(ponder_model *, way *, record *), const char *name)
{
    static record truth, got;
    way ways[] = {{"look-up", LOOKUP, &truth, 1}, {"drafter", DRAFTER, &truth, 1}, {"all right", 0, &truth, 2}, {"some wrong", 25, &truth, 3}, {"all wrong", 100, &truth, 4}}, off = {.name = "off"};
    memset(&truth, 0, sizeof truth);
    scene(plain, &off, &truth);
    assert_int_equal(truth.drafted, 0);
    for (size_t i = 0; i < COUNT(ways); i++) {
        memset(&got, 0, sizeof got);
        scene(ways[i].wrong == DRAFTER ? beside : plain, &ways[i], &got);
        if (got.n != truth.n || memcmp(got.trace, truth.trace, got.n) != 0) fail_msg("%s, %s: other events than without drafts", name, ways[i].name);
        for (size_t k = 0; k < COUNT(got.all); k++) same_ids(&truth.all[k], got.all[k].id, got.all[k].n);
        assert_true(got.accepted <= got.drafted);
        if (ways[i].wrong != LOOKUP) assert_true(got.drafted > 0);
        if (ways[i].wrong == 0) assert_true(got.accepted > 10);
        if (ways[i].wrong == LOOKUP && scene == greedy) assert_true(got.accepted > 30);
        if (ways[i].wrong == DRAFTER) assert_true(got.accepted > 0);
        if (ways[i].wrong == DRAFTER) print_message("%s: %u of the drafter's %u guesses came\n", name, (unsigned)got.accepted, (unsigned)got.drafted);
    }
}

#define SCENE(name) static void test_##name(void **state) { (void)state; check(name, #name); }
SCENE(greedy) SCENE(seeded) SCENE(bound) SCENE(budgets) SCENE(stops) SCENE(lengths) SCENE(cancels) SCENE(slices) SCENE(forks) SCENE(rewinds)
SCENE(saved) SCENE(in_turn) SCENE(on_threads) SCENE(full)

/* The model's counts are the sum of its sessions'; steps are saved, one for each draft that was accepted. */
static void counted(void **state)
{
    static record truth, got;
    way off = {.name = "off"}, right = {"all right", 0, &truth, 2};
    int64_t steps[3], drafted[3], accepted[3];
    (void)state;
    memset(&truth, 0, sizeof truth);
    memset(&got, 0, sizeof got);
    for (int i = 0; i < 3; i++) {
        OK(ponder_model_info_i64(plain, PONDER_INFO_STEPS, &steps[i]));
        OK(ponder_model_info_i64(plain, PONDER_INFO_DRAFTED, &drafted[i]));
        OK(ponder_model_info_i64(plain, PONDER_INFO_ACCEPTED, &accepted[i]));
        if (i < 2) greedy(plain, i ? &right : &off, i ? &got : &truth);
    }
    assert_int_equal(drafted[1], drafted[0]);
    assert_int_equal(drafted[2] - drafted[1], got.drafted);
    assert_int_equal(accepted[2] - accepted[1], got.accepted);
    assert_int_equal((steps[1] - steps[0]) - (steps[2] - steps[1]), got.accepted);
}

static int open_all(void **state)
{
    (void)state;
    ponder_config *c = new_config();
    plain = open_model("seed0", c);
    OK(ponder_config_set_str(c, PONDER_P_DRAFTER, data_path("seed0-drafter/model.gguf")));
    beside = open_model("seed0", c);
    pn_engine_always_draft(beside->engine);
    ponder_config_free(c);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    ponder_model_free(plain);
    ponder_model_free(beside);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy), cmocka_unit_test(test_seeded), cmocka_unit_test(test_bound), cmocka_unit_test(test_budgets),
        cmocka_unit_test(test_stops), cmocka_unit_test(test_lengths), cmocka_unit_test(test_cancels), cmocka_unit_test(test_slices),
        cmocka_unit_test(test_forks), cmocka_unit_test(test_rewinds), cmocka_unit_test(test_saved), cmocka_unit_test(test_in_turn),
        cmocka_unit_test(test_on_threads), cmocka_unit_test(test_full), cmocka_unit_test(counted),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
