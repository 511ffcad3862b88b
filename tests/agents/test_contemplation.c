/* Contemplation: what stops it, what comes out, and that cutting its time changes nothing. */
#include "crew.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_majority_answers), cmocka_unit_test(slices_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
