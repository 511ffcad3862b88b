/* Agents that the model has itself. seed0 knows no tools, so its calls are written for it but for the last byte, which the
 * binding of calls makes it write; everything behind that is the library's. */
#include "offered.h"

static void the_model_has_agents(void **state)
{
    (void)state;
    ponder_config *c = offering(3, 1, 0);
    ponder_model *m = open_model("seed0", c);
    ponder_session *s = new_session(m, c);
    heard h = {0};
    assert_string_equal(call(m, s, "status", "", &h), "{\"agents\": []}");
    /* An agent is the conversation up to the question, and its task, with the next seed. */
    ponder_session *twin;
    OK(ponder_session_fork(&twin, s, NULL));
    assert_string_equal(call(m, s, "spawn", TASK("Which 3 of 91462 sum to 11?"), &h), "{\"agent\": 1}");
    add(twin, "user", "Go on.");
    add(twin, "user", search_question);
    said expected = {.end = -1};
    ponder_config *seeded = offering(3, 1, 0);
    OK(ponder_config_set_i64(seeded, PONDER_P_SEED, 41));
    OK(ponder_session_configure(twin, seeded));
    OK(ponder_session_generate(twin, hear, &expected));
    assert_string_equal(call(m, s, "spawn", TASK("Add 861+524"), &h), "{\"agent\": 2}");
    assert_non_null(strstr(call(m, s, "read_result", AGENT(1), &h), "still running"));
    assert_int_equal(h.agents_done, 0);
    const char *states = call(m, s, "wait", "", &h);
    assert_non_null(strstr(states, "\"agent\": 1"));
    assert_non_null(strstr(states, "\"agent\": 2"));
    assert_null(strstr(states, "running"));
    assert_int_equal(h.agents_done, 2);
    if (expected.answer[0]) assert_string_equal(call(m, s, "read_result", AGENT(1), &h), expected.answer);
    else assert_non_null(strstr(call(m, s, "read_result", AGENT(1), &h), "no result"));
    char tokens[64];
    snprintf(tokens, sizeof tokens, "\"tokens\": %u", (unsigned)expected.tokens);
    assert_non_null(strstr(states = call(m, s, "status", "", &h), tokens));
    /* Cancel, send, and numbers that are none. */
    assert_string_equal(call(m, s, "spawn", TASK("Add 1+2"), &h), "{\"agent\": 3}");
    assert_non_null(strstr(call(m, s, "cancel", AGENT(3), &h), "cancelled"));
    assert_non_null(strstr(call(m, s, "read_result", AGENT(3), &h), "cancelled"));
    assert_non_null(strstr(call(m, s, "read_result", AGENT(9), &h), "error"));
    assert_non_null(strstr(call(m, s, "send_message", AGENT(2) "<atem:parameter name=\"message\">Add 5+6</atem:parameter>\n", &h), "running"));
    assert_non_null(strstr(call(m, s, "wait", "<atem:parameter name=\"agents\">[2]</atem:parameter>\n", &h), "\"agent\": 2"));
    ponder_session_free(twin);
    ponder_session_free(s);
    ponder_model_free(m);
    ponder_config_free(c);
    ponder_config_free(seeded);
}

static void limits_are_kept(void **state)
{
    (void)state;
    ponder_config *c = offering(2, 1, 30);
    ponder_model *m = open_model("seed0", c);
    ponder_session *s = new_session(m, c);
    heard h = {0};
    assert_string_equal(call(m, s, "spawn", TASK("Add 861+524"), &h), "{\"agent\": 1}");
    assert_string_equal(call(m, s, "spawn", TASK("Add 861+524"), &h), "{\"agent\": 2}");
    assert_non_null(strstr(call(m, s, "spawn", TASK("Add 861+524"), &h), "limit"));
    const char *states = call(m, s, "wait", "", &h);
    unsigned first = 0, second = 0;
    assert_int_equal(sscanf(states, "{\"agents\": [{\"agent\": 1, \"state\": %*[^,], \"tokens\": %u}, {\"agent\": 2, \"state\": %*[^,], \"tokens\": %u}]}", &first, &second), 2);
    assert_true(first + second <= 30 && first > 0 && second > 0);
    assert_string_equal(call(m, s, "spawn", TASK("Add 1+2"), &h), "{\"agent\": 3}"); /* the others are done and make room */
    ponder_session_free(s);
    ponder_model_free(m);
    ponder_config_free(c);
}

/* The word without the deed. The answer is written for the model; it has the end to write. */
static void announcements_are_noticed(void **state)
{
    (void)state;
    static const struct { const char *text; int32_t announced; } words[] = {
        {"I will now spawn three sub-agents for this.", 1}, {"Let me launch an agent. Wait.", 1}, {"We start with the agency. It is big.", 0},
        {"The agent did it. I start now.", 0}, {"All done", 0}};
    ponder_config *c = offering(4, 1, 0);
    ponder_model *m = open_model("seed0", c);
    for (size_t i = 0; i < COUNT(words); i++) {
        /* What was written for it is not reported, so it has to say the words itself: a pattern leaves it nothing else. */
        char pattern[128] = "";
        for (const char *p = words[i].text; *p; p++) {
            const size_t n = strlen(pattern);
            snprintf(pattern + n, sizeof pattern - n, *p == '.' ? "\\." : "%c", *p);
        }
        OK(ponder_config_set_str(c, PONDER_P_REGEX, pattern));
        OK(ponder_config_set_i64(c, PONDER_P_STRICT_TOOLS, 0));
        OK(ponder_config_set_i64(c, PONDER_P_MAX_TOKENS, 300));
        ponder_session *s = new_session(m, c);
        add(s, "user", "Go on.");
        OK(ponder_session_prompt(s, " to=user<|message|>", 19, PONDER_TOKENIZE_SPECIAL));
        heard h = {0};
        OK(ponder_session_run(s, watch, NULL, &h, 2));
        assert_int_equal(h.announced, words[i].announced);
        ponder_session_free(s);
    }
    ponder_model_free(m);
    ponder_config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_model_has_agents), cmocka_unit_test(limits_are_kept), cmocka_unit_test(announcements_are_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
