/* Contemplation: what stops it, what comes out, and that cutting its time changes nothing. */
#include "crew.h"

#include <pthread.h>
#include <time.h>

static ponder_contemplation_info info_of(ponder_contemplation *k)
{
    ponder_contemplation_info i = {.size = sizeof i};
    OK(ponder_contemplation_status(k, &i));
    return i;
}

static ponder_agent *agent_of(ponder_contemplation *k, uint32_t number)
{
    ponder_agent *a;
    OK(ponder_contemplation_agent(&a, k, number));
    return a;
}

static const char *answer_of(ponder_contemplation *k)
{
    static char text[MOST_TEXT];
    size_t n;
    OK(ponder_contemplation_answer(k, text, sizeof text - 1, &n));
    text[n] = 0;
    return text;
}

static ponder_config *crew(int64_t agents, int64_t seed, int64_t threads)
{
    ponder_config *c = thinking(1, seed, threads);
    OK(ponder_config_set_i64(c, PONDER_P_AGENTS, agents));
    return c;
}

static ponder_contemplation *contemplate(ponder_session *s, ponder_config *c)
{
    ponder_contemplation *k;
    ponder_status st = ponder_contemplate(&k, s, c, NULL, NULL);
    if (st != PONDER_OK) fail_msg("%s", ponder_session_error(s));
    return k;
}

static ponder_session *asked(ponder_model *m, ponder_config *c, const char *question)
{
    ponder_session *s = new_session(m, c);
    add(s, "user", question);
    return s;
}

/* Every agent runs to its end: each is the session it would be alone, and the answer has the most votes (counted here). */
static void the_majority_answers(void **state)
{
    (void)state;
    enum { N = 16 };
    ponder_config *c = crew(N, 5, 2);
    OK(ponder_config_set_f64(c, PONDER_P_DECIDE, 0));
    ponder_model *m = open_model("seed0", c);
    ponder_session *s = asked(m, c, search_question);
    ponder_contemplation *k = contemplate(s, c);
    const ponder_contemplation_info i = info_of(k);
    uint32_t votes[N] = {0}, most = 0;
    uint64_t tokens = 0, longest = 0;
    static said got[N];
    for (uint32_t a = 0; a < N; a++) {
        got[a] = of_agent(agent_of(k, a));
        const said expected = alone(m, c, 5 + a, search_question);
        same(&got[a], &expected);
        tokens += got[a].tokens;
        longest = got[a].tokens > longest ? got[a].tokens : longest;
        for (uint32_t b = 0; b <= a; b++)
            if (strcmp(got[a].answer, got[b].answer) == 0) {
                votes[b]++;
                most = votes[b] > most ? votes[b] : most;
                break;
            }
    }
    assert_int_equal(i.decided_by, PONDER_DECIDED_ALL);
    assert_int_equal(i.end, PONDER_END_EOS);
    assert_int_equal(i.agents, N);
    assert_int_equal(i.finished, N);
    assert_int_equal(i.voters, N);
    assert_int_equal(i.votes, most);
    assert_int_equal(i.tokens, tokens);
    assert_int_equal(i.critical_tokens, longest);
    bool among = false;
    for (uint32_t a = 0; a < N; a++) among |= votes[a] == most && strcmp(got[a].answer, answer_of(k)) == 0;
    assert_true(among);
    ponder_contemplation_free(k);
    /* The conversation goes on behind the answer. */
    add(s, "user", "From 3 do 1p2t");
    told *t = generate(s);
    free(t);
    ponder_session_free(s);
    ponder_model_free(m);
    ponder_config_free(c);
}

/* What was decided, by whom, and what the agents that counted wrote do not depend on slices or threads. */
static void slices_change_nothing(void **state)
{
    (void)state;
    static const struct { double quorum, decide, drop; int64_t at_once; } ways[] = {
        {1, 1, 0, 0}, {0.5, 0, 0, 0}, {1, 0.9, 0, 0}, {1, 0, 0.5, 0}, {1, 1, 0, 3}};
    for (size_t w = 0; w < COUNT(ways); w++) {
        char answer[256] = "";
        ponder_contemplation_info first = {0};
        for (int run = 0; run < 4; run++) {
            ponder_config *c = crew(9, w == 3 ? 0 : 40, 1 + run % 2);
            OK(ponder_config_set_f64(c, PONDER_P_QUORUM, ways[w].quorum));
            OK(ponder_config_set_f64(c, PONDER_P_DECIDE, ways[w].decide));
            OK(ponder_config_set_f64(c, PONDER_P_DROP, ways[w].drop));
            OK(ponder_config_set_i64(c, PONDER_P_AT_ONCE, ways[w].at_once));
            OK(ponder_config_set_i64(c, PONDER_P_CONFIDENCE_WINDOW, 6));
            ponder_model *m = open_model("seed0", c);
            ponder_session *s = asked(m, c, search_question);
            ponder_contemplation *k;
            ponder_event e = {.size = sizeof e};
            ponder_status st;
            OK(ponder_contemplation_new(&k, s, c));
            assert_int_equal(ponder_session_add(s, "user", "x", 1), PONDER_E_BUSY);
            do st = ponder_contemplation_step(k, run < 2 ? UINT64_MAX : run == 2 ? 0 : 700, &e);
            while (st == PONDER_MORE || (st == PONDER_OK && !(e.kind == PONDER_EVENT_DONE && e.agent < 0)));
            OK(st);
            assert_int_equal(ponder_contemplation_step(k, 0, &e), PONDER_E_STATE);
            const ponder_contemplation_info i = info_of(k);
            if (run == 0) {
                first = i;
                strcpy(answer, answer_of(k));
                assert_true(i.decided_by != PONDER_DECIDED_NONE);
            }
            assert_string_equal(answer_of(k), answer);
            assert_int_equal(i.decided_by, first.decided_by);
            assert_int_equal(i.finished, first.finished);
            assert_int_equal(i.dropped, first.dropped);
            assert_int_equal(i.votes, first.votes);
            assert_int_equal(i.voters, first.voters);
            assert_int_equal(i.tokens, first.tokens);
            ponder_contemplation_free(k);
            ponder_session_free(s);
            ponder_model_free(m);
            ponder_config_free(c);
        }
        if (w == 1) assert_int_equal(first.decided_by, PONDER_DECIDED_QUORUM);
        if (w == 1) assert_true(first.finished == 5);
        if (w == 3) assert_true(first.dropped > 0);
    }
}

/* ---- refusals ------------------------------------------------------------------------------------------- */

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    ponder_config *c = crew(2, 0, 1);
    ponder_model *m = open_model("seed0", c);
    ponder_contemplation *k;
    ponder_session *s = asked(m, c, search_question);
    assert_int_equal(ponder_contemplation_new(&k, s, c), PONDER_E_ARGUMENT);
    assert_null(k);
    assert_non_null(strstr(ponder_session_error(s), "two agents in a plain vote"));
    OK(ponder_config_set_str(c, PONDER_P_SYNTHESIS, "confidence"));
    OK(ponder_contemplation_new(&k, s, c));
    ponder_contemplation_free(k);
    ponder_contemplation_free(NULL);
    OK(ponder_config_set_f64(c, PONDER_P_TEMPERATURE, 0));
    assert_int_equal(ponder_contemplation_new(&k, s, c), PONDER_E_ARGUMENT);
    OK(ponder_config_set_str(c, PONDER_P_ROLE, "Be bold."));
    assert_int_equal(ponder_contemplation_new(&k, s, c), PONDER_E_ARGUMENT);
    OK(ponder_config_set_str(c, PONDER_P_ROLE, "Be careful."));
    OK(ponder_contemplation_new(&k, s, c)); /* two roles, two agents */
    ponder_contemplation_free(k);
    ponder_session *empty = new_session(m, c);
    assert_int_equal(ponder_contemplation_new(&k, empty, c), PONDER_E_STATE);
    add(empty, "system", "You are brief.");
    assert_int_equal(ponder_contemplation_new(&k, empty, c), PONDER_E_STATE); /* nobody asked anything */
    assert_int_equal(ponder_contemplation_new(NULL, s, c), PONDER_E_ARGUMENT);
    assert_int_equal(ponder_contemplation_new(&k, NULL, c), PONDER_E_ARGUMENT);
    assert_int_equal(ponder_contemplation_step(NULL, 0, NULL), PONDER_E_ARGUMENT);
    assert_int_equal(ponder_config_set_str(c, PONDER_P_SYNTHESIS, "guess"), PONDER_E_RANGE);
    assert_int_equal(ponder_config_set_i64(c, PONDER_P_AGENTS, 0), PONDER_E_RANGE);
    told *t = generate(s); /* none of it has touched the session */
    assert_int_equal(t->end, PONDER_END_EOS);
    free(t);
    ponder_session_free(s);
    ponder_session_free(empty);
    ponder_model_free(m);
    ponder_config_free(c);
}

/* ---- what ends it -------------------------------------------------------------------------------------------- */

/* The first finishers by their tokens; the others end there and do not vote. */
static void a_quorum_is_enough(void **state)
{
    (void)state;
    enum { N = 8, ENOUGH = 6 };
    ponder_config *c = crew(N, 12, 1);
    OK(ponder_config_set_f64(c, PONDER_P_QUORUM, 0.75));
    OK(ponder_config_set_f64(c, PONDER_P_DECIDE, 0));
    ponder_model *m = open_model("seed0", c);
    uint64_t length[N];
    for (int i = 0; i < N; i++) length[i] = alone(m, c, 12 + i, search_question).tokens;
    OK(ponder_config_set_i64(c, PONDER_P_SEED, 12));
    ponder_session *s = asked(m, c, search_question);
    ponder_contemplation *k = contemplate(s, c);
    const ponder_contemplation_info i = info_of(k);
    assert_int_equal(i.decided_by, PONDER_DECIDED_QUORUM);
    assert_int_equal(i.voters, ENOUGH);
    for (uint32_t a = 0; a < N; a++) {
        uint32_t before = 0; /* who is before this one in the order of tokens, then of numbers */
        for (uint32_t b = 0; b < N; b++) before += length[b] < length[a] || (length[b] == length[a] && b < a);
        const said got = of_agent(agent_of(k, a));
        if (before < ENOUGH) assert_int_equal(got.tokens, length[a]);
        else assert_true(got.end == PONDER_END_CANCELLED || got.tokens == length[a]);
    }
    ponder_contemplation_free(k);
    ponder_session_free(s);
    ponder_model_free(m);
    ponder_config_free(c);
}

/* At the end of its time there is no answer unless an agent is done; in slices no time passes between the calls. */
static void a_deadline_ends_it(void **state)
{
    (void)state;
    ponder_config *c = crew(4, 0, 1);
    OK(ponder_config_set_i64(c, PONDER_P_IGNORE_EOS, 1)); /* they never end by themselves */
    OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 0));
    OK(ponder_config_set_i64(c, PONDER_P_CONTEXT, 1 << 16));
    OK(ponder_config_set_i64(c, PONDER_P_DEADLINE_MS, 30));
    ponder_model *m = open_model("seed0", c);
    for (int sliced = 0; sliced < 2; sliced++) {
        ponder_session *s = asked(m, c, search_question);
        ponder_contemplation *k;
        if (!sliced) {
            k = contemplate(s, c);
        } else {
            ponder_event e = {.size = sizeof e};
            ponder_status st;
            OK(ponder_contemplation_new(&k, s, c));
            do st = ponder_contemplation_step(k, 500, &e);
            while (st == PONDER_MORE || (st == PONDER_OK && !(e.kind == PONDER_EVENT_DONE && e.agent < 0)));
            OK(st);
            assert_int_equal(e.end, PONDER_END_TIME);
        }
        const ponder_contemplation_info i = info_of(k);
        assert_int_equal(i.decided_by, PONDER_DECIDED_DEADLINE);
        assert_int_equal(i.end, PONDER_END_TIME);
        assert_int_equal(i.finished, 0);
        assert_true(i.us >= 30000);
        assert_string_equal(answer_of(k), "");
        ponder_contemplation_free(k);
        ponder_session_free(s);
    }
    ponder_model_free(m);
    ponder_config_free(c);
}

typedef struct stopping {
    uint32_t events, at;
    ponder_contemplation *k;
    ponder_session *s;
} stopping;

static int32_t stop_at(void *user, const ponder_event *e)
{
    stopping *t = user;
    (void)e;
    return ++t->events == t->at;
}

/* From the callback, at any event: the session is left with its question, and can be asked for the answer itself. */
static void a_cancel_leaves_the_session(void **state)
{
    (void)state;
    ponder_config *c = crew(3, 0, 1);
    ponder_model *m = open_model("seed0", c);
    const said expected = alone(m, c, 0, search_question);
    OK(ponder_config_set_i64(c, PONDER_P_SEED, 0));
    for (uint32_t at = 1; at < 60; at += 7) {
        ponder_session *s = asked(m, c, search_question);
        ponder_contemplation *k;
        stopping t = {.at = at};
        OK(ponder_contemplate(&k, s, c, stop_at, &t));
        if (info_of(k).end == PONDER_END_CANCELLED) {
            assert_int_equal(info_of(k).decided_by, PONDER_DECIDED_CANCELLED);
            assert_string_equal(answer_of(k), "");
            said got = {.end = -1};
            OK(ponder_session_generate(s, hear, &got));
            assert_string_equal(got.answer, expected.answer);
            assert_string_equal(got.thought, expected.thought);
        }
        ponder_contemplation_free(k);
        ponder_session_free(s);
    }
    ponder_model_free(m);
    ponder_config_free(c);
}

static void *cancel_it(void *user)
{
    stopping *t = user;
    struct timespec wait = {0, 3000000};
    nanosleep(&wait, NULL);
    if (t->at) ponder_contemplation_cancel(t->k);
    else ponder_session_cancel(t->s);
    return NULL;
}

static void another_thread_cancels_it(void **state)
{
    (void)state;
    for (uint32_t way = 0; way < 2; way++) {
        ponder_config *c = crew(6, 0, 2);
        OK(ponder_config_set_i64(c, PONDER_P_IGNORE_EOS, 1));
        OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 0));
        OK(ponder_config_set_i64(c, PONDER_P_CONTEXT, 1 << 15));
        ponder_model *m = open_model("seed0", c);
        ponder_session *s = asked(m, c, search_question);
        ponder_contemplation *k;
        ponder_event e = {.size = sizeof e};
        ponder_status st;
        pthread_t thread;
        OK(ponder_contemplation_new(&k, s, c));
        stopping t = {.at = way, .k = k, .s = s};
        pthread_create(&thread, NULL, cancel_it, &t);
        do st = ponder_contemplation_step(k, UINT64_MAX, &e);
        while (st == PONDER_MORE || (st == PONDER_OK && !(e.kind == PONDER_EVENT_DONE && e.agent < 0)));
        OK(st);
        pthread_join(thread, NULL);
        assert_int_equal(e.end, PONDER_END_CANCELLED);
        ponder_contemplation_free(k);
        ponder_session_free(s);
        ponder_model_free(m);
        ponder_config_free(c);
    }
}

/* Its agents have no more than the total together; that some are done is enough. */
static void tokens_are_shared(void **state)
{
    (void)state;
    ponder_config *c = crew(6, 0, 1);
    OK(ponder_config_set_f64(c, PONDER_P_DECIDE, 0));
    ponder_model *m = open_model("seed0", c);
    for (int64_t total = 6; total < 220; total += 30) {
        OK(ponder_config_set_i64(c, PONDER_P_AGENT_TOKENS, total));
        ponder_session *s = asked(m, c, search_question);
        ponder_contemplation *k = contemplate(s, c);
        const ponder_contemplation_info i = info_of(k);
        assert_true(i.tokens <= (uint64_t)total);
        if (i.decided_by == PONDER_DECIDED_TOKENS) assert_int_equal(i.end, i.finished || i.votes ? PONDER_END_EOS : PONDER_END_BUDGET);
        else assert_int_equal(i.decided_by, PONDER_DECIDED_ALL);
        ponder_contemplation_free(k);
        ponder_session_free(s);
    }
    ponder_model_free(m);
    ponder_config_free(c);
}

/* ---- more than a vote ------------------------------------------------------------------------------------------ */

static bool shown(ponder_model *m, const ids *v, const char *text)
{
    static char all[MOST_TEXT];
    size_t n = text_of_ids(m, v->id, v->n, true, all);
    all[n < MOST_TEXT ? n : MOST_TEXT - 1] = 0;
    return strstr(all, text) != NULL;
}

/* What an agent of a later round, and the writer, are shown is read where they have it: in their sessions. */
typedef struct witness {
    ponder_contemplation *k;
    ponder_model *m;
    uint32_t peers, writer;
} witness;

static void look_inside(witness *w, int32_t number, const char *text, uint32_t *count)
{
    ponder_session *s = ponder_agent_session(agent_of(w->k, (uint32_t)number));
    if (!s) return;
    ids v = tokens_of(s);
    *count += shown(w->m, &v, text);
}

static void rounds_and_a_writer(void **state)
{
    (void)state;
    enum { N = 3, ROUNDS = 2 };
    ponder_config *c = crew(N, 0, 1);
    OK(ponder_config_set_i64(c, PONDER_P_CONTEXT, 3000));
    OK(ponder_config_set_i64(c, PONDER_P_ROUNDS, ROUNDS));
    OK(ponder_config_set_i64(c, PONDER_P_PEERS, 2));
    OK(ponder_config_set_str(c, PONDER_P_SYNTHESIS, "written"));
    OK(ponder_config_set_str(c, PONDER_P_PEERS_TEXT, "Others:"));
    OK(ponder_config_set_str(c, PONDER_P_WRITER_TEXT, "Write it."));
    ponder_model *m = open_model("seed0", c);
    ponder_session *s = asked(m, c, search_question);
    ponder_event e = {.size = sizeof e};
    ponder_status st;
    witness w = {.m = m};
    OK(ponder_contemplation_new(&w.k, s, c));
    do {
        st = ponder_contemplation_step(w.k, UINT64_MAX, &e);
        if (st != PONDER_OK || e.agent < 0 || e.kind == PONDER_EVENT_DONE) continue;
        if (e.agent >= N && e.agent < N * ROUNDS) look_inside(&w, e.agent, "Others:\n\n1. ", &w.peers);
        if (e.agent == N * ROUNDS) look_inside(&w, e.agent, "\n\nWrite it.", &w.writer);
    } while (st == PONDER_MORE || (st == PONDER_OK && !(e.kind == PONDER_EVENT_DONE && e.agent < 0)));
    OK(st);
    const ponder_contemplation_info i = info_of(w.k);
    assert_int_equal(i.agents, N * ROUNDS + 1);
    assert_int_equal(i.round, ROUNDS - 1);
    assert_true(w.peers >= N);
    assert_true(w.writer >= 1);
    const said written = of_agent(agent_of(w.k, N * ROUNDS));
    if (i.writer >= 0) {
        assert_int_equal(i.writer, N * ROUNDS);
        assert_string_equal(answer_of(w.k), written.answer);
    } else {
        assert_true(i.fallback != PONDER_OK); /* it wrote nothing: the vote stepped in */
        assert_true(answer_of(w.k)[0]);
    }
    ponder_contemplation_free(w.k);
    ponder_session_free(s);
    ponder_model_free(m);
    ponder_config_free(c);
}

/* There is no room for the results: the writer fails, and the vote stands. */
static void the_vote_stands_in_for_the_writer(void **state)
{
    (void)state;
    ponder_config *c = crew(3, 5, 1);
    OK(ponder_config_set_f64(c, PONDER_P_DECIDE, 0));
    OK(ponder_config_set_i64(c, PONDER_P_CONTEXT, 160));
    OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 0));
    ponder_model *m = open_model("seed0", c);
    char voted[64];
    for (int way = 0; way < 2; way++) {
        static char much[1024];
        memset(much, '7', sizeof much - 1);
        if (way) OK(ponder_config_set_str(c, PONDER_P_SYNTHESIS, "written"));
        if (way) OK(ponder_config_set_str(c, PONDER_P_WRITER_TEXT, much));
        ponder_session *s = asked(m, c, search_question);
        ponder_contemplation *k = contemplate(s, c);
        if (!way) strcpy(voted, answer_of(k));
        assert_string_equal(answer_of(k), voted);
        if (way) assert_int_equal(info_of(k).fallback, PONDER_E_CONTEXT);
        assert_int_equal(info_of(k).writer, -1);
        ponder_contemplation_free(k);
        ponder_session_free(s);
    }
    ponder_model_free(m);
    ponder_config_free(c);
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

typedef struct scarce {
    uint64_t left;
    int64_t bytes;
} scarce;

static void *take(void *user, size_t bytes, size_t align)
{
    scarce *s = user;
    if (s->left == 0) return NULL;
    s->left--;
    s->bytes += (int64_t)bytes;
    return aligned_alloc(align < 16 ? 16 : align, (bytes + 63) / 64 * 64);
}

static void give(void *user, void *p, size_t bytes)
{
    ((scarce *)user)->bytes -= (int64_t)bytes;
    free(p);
}

/* Each allocation of a contemplation fails in turn: a status or an agent less, never a crash, and nothing is left behind. */
static void memory_fails_at_every_place(void **state)
{
    (void)state;
    const char *every = getenv("PONDER_TEST_EVERY");
    const uint64_t step = every ? strtoull(every, NULL, 10) : 1;
    scarce s = {.left = UINT64_MAX};
    const ponder_alloc alloc = {sizeof alloc, &s, take, give};
    ponder_config *c;
    OK(ponder_config_new(&c, &alloc));
    OK(ponder_config_set_i64(c, PONDER_P_THREADS, 1));
    OK(ponder_config_set_i64(c, PONDER_P_CONTEXT, 256));
    OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 30));
    OK(ponder_config_set_i64(c, PONDER_P_AGENTS, 3));
    OK(ponder_config_set_i64(c, PONDER_P_ROUNDS, 2));
    OK(ponder_config_set_f64(c, PONDER_P_TEMPERATURE, 1));
    OK(ponder_config_set_str(c, PONDER_P_SYNTHESIS, "written"));
    OK(ponder_config_set_str(c, PONDER_P_ROLE, "Hm."));
    ponder_model *m = open_model("seed0", c);
    const int64_t before = s.bytes;
    bool through = false;
    for (uint64_t n = 0; n < 200000 && !through; n += step) {
        ponder_session *session = NULL;
        ponder_contemplation *k = NULL;
        s.left = n;
        ponder_status st = ponder_session_new(&session, m, c);
        if (st == PONDER_OK) st = ponder_session_add(session, "user", search_question, sizeof search_question - 1);
        if (st == PONDER_OK) st = ponder_contemplate(&k, session, c, NULL, NULL);
        through = s.left > 0;
        if (!through) assert_true(st == PONDER_OK || st == PONDER_E_NOMEM || st == PONDER_E_STATE);
        else OK(st);
        s.left = UINT64_MAX;
        ponder_contemplation_free(k);
        ponder_session_free(session);
        assert_int_equal(s.bytes, before);
    }
    assert_true(through);
    ponder_model_free(m);
    ponder_config_free(c);
    assert_int_equal(s.bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_majority_answers), cmocka_unit_test(slices_change_nothing),
        cmocka_unit_test(what_makes_no_sense_is_refused), cmocka_unit_test(a_quorum_is_enough), cmocka_unit_test(a_deadline_ends_it),
        cmocka_unit_test(a_cancel_leaves_the_session), cmocka_unit_test(another_thread_cancels_it), cmocka_unit_test(tokens_are_shared),
        cmocka_unit_test(rounds_and_a_writer), cmocka_unit_test(the_vote_stands_in_for_the_writer), cmocka_unit_test(memory_fails_at_every_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
