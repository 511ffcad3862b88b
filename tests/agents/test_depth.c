/* Agents of a model's agents: inside the room, for no host reaches their sessions. What an agent calls is written into its turn but for
 * the last byte, as in test_subagents.c. */
#include "offered.h"

#include "agents/agents.h"

static const char spawns[] = " to=subagents.spawn<|message|><atem:function_calls>\n<atem:invoke name=\"subagents.spawn\">\n" TASK("Add 861+524")
                             "</atem:invoke>\n</atem:function_calls";

static ponder_agent *agent_at(ponder_session *s, uint32_t i)
{
    const pn_group *g = (const pn_group *)s->agents;
    assert_non_null(g);
    assert_true(i < g->n);
    return g->agent[i];
}

static uint64_t tokens_of_all(ponder_session *s)
{
    const pn_group *g = (const pn_group *)s->agents;
    uint64_t n = g->gone;
    for (uint32_t i = 0; i < g->n; i++) n += pn_agent_tokens(g->agent[i]);
    return n;
}

/* The agent's turn begins with a call of spawn. */
static void have_it_spawn(ponder_agent *a)
{
    if (pn_session_prompt(a->session, spawns, sizeof spawns - 1, PONDER_TOKENIZE_SPECIAL) != PONDER_OK) fail_msg("%s", a->session->err.text);
}

/* What the agent's conversation got for its call. */
static bool was_told(ponder_agent *a, const char *what)
{
    static char text[MOST_TEXT];
    size_t n = 0;
    const int32_t *all = pn_sequence_ids(a->session->seq);
    for (uint32_t i = 0; i < pn_sequence_count(a->session->seq) && n + 64 < sizeof text; i++) {
        size_t k;
        const char *p = pn_tokenizer_bytes(a->session->model->core->tokenizer, all[i], &k);
        memcpy(text + n, p, k);
        n += k;
    }
    text[n] = 0;
    char result[256];
    snprintf(result, sizeof result, "<tool_output name=\"subagents.spawn\">\n%s", what);
    return strstr(text, result) != NULL;
}

static void agents_have_agents(void **state)
{
    (void)state;
    ponder_config *c = offering(2, 2, 0);
    ponder_model *m = open_model("seed0", c);
    ponder_session *s = new_session(m, c);
    heard h = {0};
    assert_string_equal(call(m, s, "spawn", TASK("Add 1+2"), &h), "{\"agent\": 1}");
    ponder_agent *first = agent_at(s, 0);
    have_it_spawn(first);
    assert_non_null(strstr(call(m, s, "wait", "", &h), "\"agent\": 1"));
    assert_true(was_told(first, "{\"agent\": 1}")); /* its own are counted anew */
    ponder_agent *second = agent_at(s, 1);
    assert_int_equal(first->session->depth, 1);
    assert_int_equal(second->session->depth, 2);
    assert_true(pn_agent_tokens(first) > 1); /* it went on after the result */
    call(m, first->session, "wait", "", &h); /* the second may run still: the session's wait was for the first */
    /* At the limit of depth: told, and it goes on. */
    ponder_session *deep = second->session;
    assert_non_null(strstr(call(m, deep, "wait", "", &h), "\"agents\": []"));
    assert_string_equal(call(m, deep, "spawn", TASK("Add 1+2"), &h), "{\"error\": \"an agent here may have none of its own\"}");
    assert_string_equal(call(m, deep, "status", "", &h), "{\"agents\": []}");
    /* At the limit of number: of the first agent's own. */
    assert_string_equal(call(m, first->session, "spawn", TASK("Add 1+2"), &h), "{\"agent\": 2}");
    assert_string_equal(call(m, first->session, "spawn", TASK("Add 1+2"), &h), "{\"agent\": 3}"); /* the one that is done makes room */
    assert_non_null(strstr(call(m, first->session, "spawn", TASK("Add 1+2"), &h), "2 agents are running, which is the limit"));
    assert_string_equal(call(m, s, "spawn", TASK("Add 1+2"), &h), "{\"agent\": 2}"); /* the session's are others */
    ponder_session_free(s); /* with all that run */
    ponder_model_free(m);
    ponder_config_free(c);
}

static void depth_one_is_told_no(void **state)
{
    (void)state;
    ponder_config *c = offering(2, 1, 0);
    ponder_model *m = open_model("seed0", c);
    ponder_session *s = new_session(m, c);
    heard h = {0};
    assert_string_equal(call(m, s, "spawn", TASK("Add 1+2"), &h), "{\"agent\": 1}");
    have_it_spawn(agent_at(s, 0));
    assert_null(strstr(call(m, s, "wait", "", &h), "running"));
    assert_true(was_told(agent_at(s, 0), "{\"error\": \"an agent here may have none of its own\"}"));
    assert_int_equal(((pn_group *)s->agents)->n, 1);
    ponder_session_free(s);
    ponder_model_free(m);
    ponder_config_free(c);
}

/* One number of tokens for all levels: whoever is deep takes of it too, and none is left over it. */
static void tokens_are_shared_by_all_levels(void **state)
{
    (void)state;
    for (int64_t limit = 1; limit <= 19; limit = limit * 2 + 5) {
        ponder_config *c = offering(3, 3, limit);
        ponder_model *m = open_model("seed0", c);
        ponder_session *s = new_session(m, c);
        heard h = {0};
        assert_string_equal(call(m, s, "spawn", TASK("Add 1+2"), &h), "{\"agent\": 1}");
        assert_string_equal(call(m, s, "spawn", TASK("Add 3+4"), &h), "{\"agent\": 2}");
        have_it_spawn(agent_at(s, 0));
        have_it_spawn(agent_at(s, 1));
        assert_null(strstr(call(m, s, "wait", "", &h), "running"));
        const pn_group *g = (const pn_group *)s->agents;
        if (limit >= 4) {
            assert_int_equal(g->n, 4); /* each has one of its own */
            call(m, agent_at(s, 0)->session, "wait", "", &h);
            call(m, agent_at(s, 1)->session, "wait", "", &h);
            assert_true(pn_agent_tokens(agent_at(s, 2)) + pn_agent_tokens(agent_at(s, 3)) > 0);
        }
        assert_true(tokens_of_all(s) <= (uint64_t)limit);
        assert_true(tokens_of_all(s) + g->n > (uint64_t)limit); /* and what there is is used: less than one each is left */
        /* One more may be had, and writes what is left at most. */
        const uint64_t before = tokens_of_all(s);
        assert_string_equal(call(m, s, "spawn", TASK("Add 5+6"), &h), "{\"agent\": 3}");
        assert_non_null(strstr(call(m, s, "wait", "", &h), "{\"agent\": 3, \"state\": \"out of tokens\""));
        assert_true(tokens_of_all(s) >= before && tokens_of_all(s) <= (uint64_t)limit);
        ponder_session_free(s);
        ponder_model_free(m);
        ponder_config_free(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agents_have_agents), cmocka_unit_test(depth_one_is_told_no), cmocka_unit_test(tokens_are_shared_by_all_levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
