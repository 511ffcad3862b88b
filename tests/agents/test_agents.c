/* Agents: what they share, that they are the sessions they would be alone, and that nothing one does reaches another. */
#include "crew.h"

#include <pthread.h>

#define LEAST(a, b) ((a) < (b) ? (a) : (b))

static ponder_agent *spawn(ponder_session *s, ponder_config *c, int64_t seed)
{
    ponder_agent *a;
    OK(ponder_config_set_i64(c, PONDER_P_SEED, seed));
    ponder_status st = ponder_agent_spawn(&a, s, c);
    if (st != PONDER_OK) fail_msg("%s", ponder_session_error(s));
    return a;
}

static ponder_session *asked(ponder_model *m, ponder_config *c, const char *question)
{
    ponder_session *s = new_session(m, c);
    add(s, "user", question);
    return s;
}

static void wait_all(ponder_agent **a, size_t n)
{
    ponder_status st = ponder_agent_wait(a, n, 0, UINT64_MAX, NULL, NULL);
    if (st != PONDER_OK) fail_msg("%s", ponder_agent_error(a[0]));
}

/* Whatever their number, the threads, and how the time is cut: agent i is a session alone with its seed. */
static void an_agent_is_the_session_it_would_be_alone(void **state)
{
    (void)state;
    said expected[MOST_AGENTS];
    for (int64_t threads = 1; threads <= 2; threads++) {
        ponder_config *c = thinking(1, 0, threads);
        ponder_model *m = open_model("seed0", c);
        for (int i = 0; i < MOST_AGENTS; i++) expected[i] = alone(m, c, 100 + i, search_question);
        static const struct { int n; uint64_t slice; } runs[] = {{1, UINT64_MAX}, {3, UINT64_MAX}, {MOST_AGENTS, UINT64_MAX}, {5, 0}, {MOST_AGENTS, 300}};
        for (size_t r = 0; r < COUNT(runs); r++) {
            ponder_session *s = asked(m, c, search_question);
            ponder_agent *a[MOST_AGENTS];
            for (int i = 0; i < runs[r].n; i++) a[i] = spawn(s, c, 100 + i);
            ponder_status st;
            while ((st = ponder_agent_wait(a, (size_t)runs[r].n, 0, runs[r].slice, NULL, NULL)) == PONDER_MORE) { }
            OK(st);
            for (int i = 0; i < runs[r].n; i++) {
                const said s_i = of_agent(a[i]);
                assert_int_equal(status_of(a[i]).number, i);
                same(&s_i, &expected[i]);
                ponder_agent_free(a[i]);
            }
            ponder_session_free(s);
        }
        ponder_model_free(m);
        ponder_config_free(c);
    }
}

/* Spawning computes nothing, and memory is the prefix once and each one's own tokens. */
static void the_prefix_is_shared(void **state)
{
    (void)state;
    enum { N = 8, PREFIX = 4096, OWN = 64 };
    ponder_config *c = thinking(1, 0, 2);
    OK(ponder_config_set_i64(c, PONDER_P_CONTEXT, PREFIX + 256));
    OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, OWN));
    OK(ponder_config_set_i64(c, PONDER_P_IGNORE_EOS, 1));
    ponder_model *m = open_model("seed0", c);
    ponder_session *s = new_session(m, c);
    static char text[PREFIX * 2 - 64];
    for (size_t i = 0; i + 1 < sizeof text; i++) text[i] = "0123456789 "[i * 7 % 11];
    ids v = ids_of_text(m, text, sizeof text - 1, 0);
    assert_true(v.n >= PREFIX);
    OK(ponder_session_prompt_ids(s, v.id, PREFIX));
    OK(ponder_session_prefill(s, UINT64_MAX));
    const int64_t before = model_number(m, PONDER_INFO_KV_BYTES), prefilled = model_number(m, PONDER_INFO_PREFILLED);
    ponder_agent *a[N];
    for (int i = 0; i < N; i++) a[i] = spawn(s, c, i);
    assert_int_equal(model_number(m, PONDER_INFO_PREFILLED), prefilled);
    assert_int_equal(model_number(m, PONDER_INFO_KV_BYTES), before);
    wait_all(a, N);
    /* A page holds 32 tokens: each agent's own are two full ones, for the prefix ends at a page's end. Sliding layers (3 of 4, a
     * window of 64 tokens) keep what they see. */
    const int64_t after = model_number(m, PONDER_INFO_KV_BYTES);
    const double token = 2.0 * 2 * 32 * 4 * 4; /* keys and values, 2 heads of 32, f32, 4 layers */
    const double full = token / 4;             /* of the one full layer */
    const double least = (double)before + N * OWN * full;
    assert_true((double)after >= least);
    assert_true((double)after <= (double)before + N * (OWN * token + 2 * 32 * token));
    for (int i = 0; i < N; i++) {
        assert_int_equal(status_of(a[i]).shared_tokens, PREFIX);
        assert_int_equal(status_of(a[i]).tokens, OWN);
        ponder_agent_free(a[i]);
    }
    assert_int_equal(model_number(m, PONDER_INFO_KV_BYTES), before);
    ponder_session_free(s);
    ponder_model_free(m);
    ponder_config_free(c);
}

/* ---- isolation ---------------------------------------------------------------------------------------- */

typedef struct cancelling {
    ponder_agent *who;
    int after;
} cancelling;

static int32_t cancel_after(void *user, const ponder_event *e)
{
    cancelling *c = user;
    if (e->agent == 2 && --c->after == 0) ponder_agent_cancel(c->who);
    return 0;
}

/* Agent 2 ends in another way each time; the others write what they write alone. */
static void the_end_of_one_leaves_the_others(void **state)
{
    (void)state;
    enum { N = 5, WAYS = 5 };
    ponder_config *c = thinking(1, 0, 1);
    ponder_model *m = open_model("seed0", c);
    said expected[N];
    for (int i = 0; i < N; i++) expected[i] = alone(m, c, i, search_question);
    for (int way = 0; way < WAYS; way++) {
        ponder_session *s = asked(m, c, search_question);
        ponder_agent *a[N];
        OK(ponder_session_prefill(s, UINT64_MAX));
        const int64_t prompt = (int64_t)tokens_of(s).n;
        for (int i = 0; i < N; i++) {
            ponder_config *own = thinking(1, i, 1);
            if (i == 2 && way == 0) OK(ponder_config_set_i64(own, PONDER_P_CONTEXT, prompt + 10)); /* full */
            if (i == 2 && way == 1) OK(ponder_config_set_i64(own, PONDER_P_MAX_TOKENS, 7));
            if (i == 2 && way == 2) OK(ponder_config_set_i64(own, PONDER_P_CONTEXT, prompt)); /* no room for its prompt: it fails */
            if (i == 2 && way == 4) OK(ponder_config_set_str(own, PONDER_P_STOP, "a"));
            a[i] = spawn(s, own, i);
            ponder_config_free(own);
        }
        cancelling k = {a[2], way == 3 ? 4 : -1};
        OK(ponder_agent_wait(a, N, 0, UINT64_MAX, cancel_after, &k));
        static const int32_t states[] = {PONDER_AGENT_DONE, PONDER_AGENT_DONE, PONDER_AGENT_FAILED, PONDER_AGENT_CANCELLED, PONDER_AGENT_DONE};
        static const int32_t ends[] = {PONDER_END_CONTEXT, PONDER_END_LENGTH, PONDER_END_FAILED, PONDER_END_CANCELLED, PONDER_END_EOS};
        const ponder_agent_info info = status_of(a[2]);
        assert_int_equal(info.state, states[way]);
        assert_int_equal(info.end, ends[way]);
        if (way == 2) {
            assert_int_equal(info.failure, PONDER_E_CONTEXT);
            assert_true(strlen(ponder_agent_error(a[2])) > 0);
        }
        for (int i = 0; i < N; i++) {
            const said got = of_agent(a[i]);
            if (i != 2) same(&got, &expected[i]);
            ponder_agent_free(a[i]);
        }
        ponder_session_free(s);
    }
    ponder_model_free(m);
    ponder_config_free(c);
}

/* ---- turns of an agent -------------------------------------------------------------------------------------- */

/* Idle until something is sent; a second message goes on where the first ended; the session it came from stays as it was. */
static void agents_are_sent_messages(void **state)
{
    (void)state;
    ponder_config *c = thinking(0, 0, 1);
    ponder_model *m = open_model("seed0", c);
    ponder_session *s = new_session(m, c), *twin = new_session(m, c);
    ponder_agent *a;
    OK(ponder_agent_spawn(&a, s, NULL));
    assert_int_equal(status_of(a).state, PONDER_AGENT_IDLE);
    OK(ponder_agent_wait(&a, 1, 0, UINT64_MAX, NULL, NULL));
    assert_int_equal(ponder_agent_send(a, NULL, 0), PONDER_E_STATE);
    static const char *const questions[] = {"From 3 do 1p2t", "From 6 do 2s1t"};
    uint64_t tokens = 0;
    for (size_t i = 0; i < COUNT(questions); i++) {
        said expected = {.end = -1};
        add(twin, "user", questions[i]);
        OK(ponder_session_generate(twin, hear, &expected));
        OK(ponder_agent_send(a, questions[i], strlen(questions[i])));
        assert_int_equal(status_of(a).state, PONDER_AGENT_RUNNING);
        assert_int_equal(ponder_agent_send(a, "x", 1), PONDER_E_STATE);
        OK(ponder_agent_wait(&a, 1, 0, UINT64_MAX, NULL, NULL));
        said got = of_agent(a);
        tokens += expected.tokens;
        assert_int_equal(got.tokens, tokens);
        assert_string_equal(got.answer, expected.answer);
        assert_string_equal(got.thought, expected.thought);
        assert_int_equal(status_of(a).state, PONDER_AGENT_DONE);
    }
    assert_int_equal(tokens_of(s).n, 0);
    ids x = tokens_of(ponder_agent_session(a)), y = tokens_of(twin);
    same_ids(&x, y.id, y.n);
    ponder_session_free(s); /* its agent lives on */
    OK(ponder_agent_send(a, "From 1 do 1s", 12));
    OK(ponder_agent_wait(&a, 1, 0, UINT64_MAX, NULL, NULL));
    ponder_agent_free(a);
    ponder_session_free(twin);
    ponder_model_free(m);
    ponder_config_free(c);
}

/* An effort of its own where the agent begins the conversation; refused where it is written already. */
static void an_effort_is_never_ignored(void **state)
{
    (void)state;
    ponder_config *c = thinking(0, 0, 1), *low = thinking(0, 0, 1);
    OK(ponder_config_set_str(low, PONDER_P_EFFORT, "low"));
    ponder_model *m = open_model("seed0", c);
    ponder_session *s = asked(m, c, "From 3 do 1p2t");
    ponder_agent *a[2];
    OK(ponder_agent_spawn(&a[0], s, low));
    OK(ponder_agent_spawn(&a[1], s, c));
    wait_all(a, 2);
    const said quick = alone(m, low, 0, "From 3 do 1p2t"), slow = alone(m, c, 0, "From 3 do 1p2t");
    const said x = of_agent(a[0]), y = of_agent(a[1]);
    same(&x, &quick);
    same(&y, &slow);
    assert_true(quick.tokens < slow.tokens);
    ponder_agent *none;
    assert_int_equal(ponder_agent_spawn(&none, s, low), PONDER_E_STATE); /* the second agent had it computed */
    assert_non_null(strstr(ponder_session_error(s), "effort"));
    assert_null(none);
    ponder_agent_free(a[0]);
    ponder_agent_free(a[1]);
    ponder_session_free(s);
    ponder_model_free(m);
    ponder_config_free(c);
    ponder_config_free(low);
}

/* ---- shared tokens ------------------------------------------------------------------------------------------- */

/* Dealt out level by level: who is shorter than the level ends by itself, the others all at the level where the total would be
 * passed. The numbers follow from the lengths alone. */
static void a_total_is_shared(void **state)
{
    (void)state;
    enum { N = 6 };
    ponder_config *c = thinking(1, 0, 1);
    ponder_model *m = open_model("seed0", c);
    uint64_t length[N], all = 0;
    for (int i = 0; i < N; i++) all += length[i] = alone(m, c, i, search_question).tokens;
    for (uint64_t total = N; total < all + 10; total += 17) {
        uint64_t level = 0;
        for (uint64_t sum = 0; sum <= total && level <= 200; level++) {
            sum = 0;
            for (int i = 0; i < N; i++) sum += LEAST(length[i], level + 1);
            if (sum > total) break;
        }
        OK(ponder_config_set_i64(c, PONDER_P_AGENT_TOKENS, (int64_t)total));
        for (int sliced = 0; sliced < 2; sliced++) {
            ponder_session *s = asked(m, c, search_question);
            ponder_agent *a[N];
            for (int i = 0; i < N; i++) a[i] = spawn(s, c, i);
            while (ponder_agent_wait(a, N, 0, sliced ? 0 : UINT64_MAX, NULL, NULL) == PONDER_MORE) { }
            uint64_t spent = 0;
            for (int i = 0; i < N; i++) {
                const ponder_agent_info info = status_of(a[i]);
                spent += info.tokens;
                assert_int_equal(info.tokens, LEAST(length[i], level));
                assert_int_equal(info.end, length[i] <= level ? PONDER_END_EOS : PONDER_END_BUDGET);
                ponder_agent_free(a[i]);
            }
            assert_true(spent <= total);
            ponder_session_free(s);
        }
        OK(ponder_config_set_i64(c, PONDER_P_AGENT_TOKENS, 0));
    }
    ponder_model_free(m);
    ponder_config_free(c);
}

/* ---- other threads ---------------------------------------------------------------------------------------------- */

typedef struct other {
    ponder_agent *agent;
    ponder_session *session;
    said heard;
    _Atomic int go;
} other;

static void *cancel_soon(void *user)
{
    other *o = user;
    while (!o->go) { }
    ponder_agent_cancel(o->agent);
    return NULL;
}

static void *generate_there(void *user)
{
    other *o = user;
    OK(ponder_session_generate(o->session, hear, &o->heard));
    return NULL;
}

static int32_t say_go(void *user, const ponder_event *e)
{
    (void)e;
    ((other *)user)->go = 1;
    return 0;
}

/* One agent is cancelled from elsewhere while a session of another thread shares the steps: the rest is as alone. */
static void other_threads_share_the_steps(void **state)
{
    (void)state;
    enum { N = 4, TIMES = 10 };
    ponder_config *c = thinking(1, 0, 2);
    ponder_model *m = open_model("seed0", c);
    said expected[N], there = alone(m, c, 77, "Add 861+524");
    for (int i = 0; i < N; i++) expected[i] = alone(m, c, i, search_question);
    for (int t = 0; t < TIMES; t++) {
        ponder_session *s = asked(m, c, search_question);
        OK(ponder_config_set_i64(c, PONDER_P_SEED, 77));
        other o = {.session = asked(m, c, "Add 861+524")};
        ponder_agent *a[N];
        for (int i = 0; i < N; i++) a[i] = spawn(s, c, i);
        o.agent = a[1];
        pthread_t canceller, generator;
        pthread_create(&canceller, NULL, cancel_soon, &o);
        pthread_create(&generator, NULL, generate_there, &o);
        OK(ponder_agent_wait(a, N, 0, UINT64_MAX, say_go, &o));
        pthread_join(canceller, NULL);
        pthread_join(generator, NULL);
        for (int i = 0; i < N; i++) {
            const said got = of_agent(a[i]);
            if (i != 1) same(&got, &expected[i]);
            else assert_true(got.end == PONDER_END_CANCELLED || got.end == PONDER_END_EOS);
            ponder_agent_free(a[i]);
        }
        same(&o.heard, &there);
        ponder_session_free(o.session);
        ponder_session_free(s);
    }
    ponder_model_free(m);
    ponder_config_free(c);
}

/* ---- what is refused ------------------------------------------------------------------------------------------------ */

static void wrong_calls_are_refused(void **state)
{
    (void)state;
    ponder_config *c = thinking(1, 0, 1);
    ponder_model *m = open_model("seed0", c);
    ponder_session *s = asked(m, c, "From 3 do 1p2t"), *t = asked(m, c, "From 3 do 1p2t");
    ponder_agent *a[2], *none;
    size_t n;
    char text[4];
    OK(ponder_agent_spawn(&a[0], s, c));
    OK(ponder_agent_spawn(&a[1], t, c));
    assert_int_equal(ponder_agent_wait(a, 2, 0, UINT64_MAX, NULL, NULL), PONDER_E_ARGUMENT); /* of two groups */
    assert_int_equal(ponder_agent_wait(NULL, 1, 0, 0, NULL, NULL), PONDER_E_ARGUMENT);
    assert_int_equal(ponder_agent_wait(a, 0, 0, 0, NULL, NULL), PONDER_E_ARGUMENT);
    assert_int_equal(ponder_agent_read(a[0], 9, NULL, 0, &n), PONDER_E_RANGE);
    OK(ponder_agent_read(a[0], PONDER_EVENT_TOOL_CALL, text, sizeof text, &n));
    assert_int_equal(n, 2);
    assert_memory_equal(text, "[]", 2);
    assert_int_equal(ponder_agent_spawn(NULL, s, c), PONDER_E_ARGUMENT);
    assert_int_equal(ponder_agent_spawn(&none, NULL, c), PONDER_E_ARGUMENT);
    assert_int_equal(ponder_agent_status(a[0], NULL), PONDER_E_ARGUMENT);
    assert_null(ponder_agent_session(NULL));
    ponder_agent_cancel(NULL);
    ponder_agent_free(NULL);
    ponder_agent_cancel(a[0]);
    OK(ponder_agent_wait(a, 1, 0, UINT64_MAX, NULL, NULL)); /* cancelled before it began */
    assert_int_equal(status_of(a[0]).state, PONDER_AGENT_CANCELLED);
    assert_int_equal(status_of(a[0]).tokens, 0);
    ponder_agent_free(a[0]);
    ponder_session_free(s);
    ponder_session_free(t);
    ponder_agent_free(a[1]);
    ponder_model_free(m);
    ponder_config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_agent_is_the_session_it_would_be_alone), cmocka_unit_test(the_prefix_is_shared),
        cmocka_unit_test(the_end_of_one_leaves_the_others), cmocka_unit_test(agents_are_sent_messages),
        cmocka_unit_test(an_effort_is_never_ignored), cmocka_unit_test(a_total_is_shared),
        cmocka_unit_test(other_threads_share_the_steps), cmocka_unit_test(wrong_calls_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
