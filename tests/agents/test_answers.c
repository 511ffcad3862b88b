/* When answers are the same, and how votes are counted. Every expectation was written by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "agents/agents.h"

static void normal(char *out, const char *text, pn_form form)
{
    pn_buf b;
    pn_buf_init(&b, NULL);
    assert_int_equal(pn_answer_normal(&b, pn_str_of(text), form, NULL, NULL), PONDER_OK);
    assert_true(b.n < 200);
    if (b.n) memcpy(out, b.p, b.n);
    out[b.n] = 0;
    pn_buf_free(&b);
}

static void each_has_its_normal_form(void **state)
{
    (void)state;
    static const struct { pn_form form; const char *text, *normal; } rows[] = {
        {PN_FORM_ANY, "1000", "1000"}, {PN_FORM_ANY, "1,000", "1000"}, {PN_FORM_ANY, "1000.0", "1000"}, {PN_FORM_ANY, " 1000. ", "1000"},
        {PN_FORM_ANY, "$1,000.00", "1000"}, {PN_FORM_ANY, "+1000", "1000"}, {PN_FORM_ANY, "001000", "1000"}, {PN_FORM_ANY, "-0", "0"},
        {PN_FORM_ANY, "-0.50", "-0.5"}, {PN_FORM_ANY, ".5", "0.5"}, {PN_FORM_ANY, "0", "0"}, {PN_FORM_ANY, "**42**", "42"},
        {PN_FORM_ANY, "\\boxed{42}", "42"}, {PN_FORM_ANY, "$42$", "42"}, {PN_FORM_ANY, "The answer is 42.", "42"}, {PN_FORM_ANY, "Answer: 42", "42"},
        {PN_FORM_ANY, "final answer: **42**", "42"}, {PN_FORM_ANY, "50%", "50%"}, {PN_FORM_ANY, "1e3", "1e3"},
        {PN_FORM_ANY, "1,00", "1,00"}, {PN_FORM_ANY, "12,34,567", "12,34,567"}, {PN_FORM_ANY, "1.2.3", "1.2.3"},
        {PN_FORM_NUMBER, "So 3 + 4 make 7.", "7"}, {PN_FORM_NUMBER, "It is about 1,250 miles", "1250"}, {PN_FORM_NUMBER, "x = -3", "-3"},
        {PN_FORM_NUMBER, "none", "none"},
        {PN_FORM_ANY, "(B)", "B"}, {PN_FORM_ANY, "B.", "B"}, {PN_FORM_ANY, "b", "B"}, {PN_FORM_ANY, "Answer: B", "B"}, {PN_FORM_ANY, "[b]", "B"},
        {PN_FORM_ANY, "The correct answer is (B).", "B"}, {PN_FORM_ANY, "Option C", "C"}, {PN_FORM_ANY, "B) Paris", "b) paris"},
        {PN_FORM_CHOICE, "B) Paris", "B"}, {PN_FORM_CHOICE, "C. It rains", "C"}, {PN_FORM_CHOICE, "A dog", "a dog"}, {PN_FORM_CHOICE, "Bar", "bar"},
        {PN_FORM_ANY, "{\"b\": 1.0, \"a\": [1, 2]}", "{\"1:a:[1,2];\"1:b:1;}"}, {PN_FORM_ANY, "{\"a\":[1.0,2],\"b\":1}", "{\"1:a:[1,2];\"1:b:1;}"},
        {PN_FORM_ANY, "```json\n{\"a\": null}\n```", "{\"1:a:null;}"}, {PN_FORM_ANY, "[true, \"x\"]", "[true,\"1:x]"}, {PN_FORM_ANY, "{broken", "broken"},
        {PN_FORM_JSON, "1.50", "f3ff8000000000000"}, {PN_FORM_JSON, "\"a\"", "a"},
        {PN_FORM_ANY, "Paris", "paris"}, {PN_FORM_ANY, " paris! ", "paris"}, {PN_FORM_ANY, "\"Paris.\"", "paris"}, {PN_FORM_ANY, "New\n York", "new york"},
        {PN_FORM_ANY, "\xc3\x89t\xc3\xa9", "\xc3\xa9t\xc3\xa9"}, {PN_FORM_ANY, "\xd0\x96\xd0\xb8", "\xd0\xb6\xd0\xb8"}, {PN_FORM_ANY, "\xce\x91", "\xce\xb1"},
        {PN_FORM_TEXT, "1,000", "1,000"}, {PN_FORM_TEXT, "B.", "b"}, {PN_FORM_ANY, "", ""}, {PN_FORM_ANY, " ... ", ""}, {PN_FORM_ANY, "Answers differ", "answers differ"},
    };
    for (size_t i = 0; i < PN_COUNT(rows); i++) {
        char got[256];
        normal(got, rows[i].text, rows[i].form);
        if (strcmp(got, rows[i].normal) != 0) fail_msg("\"%s\" became \"%s\" and not \"%s\"", rows[i].text, got, rows[i].normal);
    }
}

static void votes_are_counted(void **state)
{
    (void)state;
    pn_tally t;
    const pn_option *second;
    assert_int_equal(pn_tally_init(&t, 8, false, NULL, NULL), PONDER_OK);
    assert_null(pn_tally_leader(&t, NULL));
    assert_false(pn_tally_decided(&t, 3, 1));
    pn_tally_add(&t, pn_str_of("a"), 0, 0.5);
    pn_tally_add(&t, pn_str_of("b"), 1, 0.9);
    pn_tally_add(&t, pn_str_of(""), 2, 0.9); /* no answer is no vote */
    assert_int_equal(t.voters, 2);
    assert_int_equal(pn_tally_leader(&t, &second)->voice, 1); /* a tie goes to the surer one */
    assert_int_equal(second->voice, 0);
    pn_tally_add(&t, pn_str_of("a"), 3, 0.6);
    assert_int_equal(pn_tally_leader(&t, NULL)->voice, 3); /* the surest voter speaks */
    assert_int_equal(pn_tally_leader(&t, NULL)->votes, 2);
    assert_false(pn_tally_decided(&t, 1, 1)); /* one more could make it a tie */
    assert_true(pn_tally_decided(&t, 0, 1));
    pn_tally_add(&t, pn_str_of("a"), 4, 0.1);
    assert_true(pn_tally_decided(&t, 1, 1));
    assert_false(pn_tally_decided(&t, 2, 1));
    /* 3 to 1: the leader is above one half of a Beta(4, 2) with probability 1 - (1 + 5) / 2^5 = 26/32. */
    assert_true(pn_tally_decided(&t, 5, 26.0 / 32 - 1e-5));
    assert_false(pn_tally_decided(&t, 5, 26.0 / 32 + 1e-5));
    assert_false(pn_tally_decided(&t, 0, 0));
    pn_tally_free(&t);
    /* Weighted: two that doubt against one that is sure. */
    assert_int_equal(pn_tally_init(&t, 4, true, NULL, NULL), PONDER_OK);
    pn_tally_add(&t, pn_str_of("a"), 0, 0.3);
    pn_tally_add(&t, pn_str_of("a"), 1, 0.3);
    pn_tally_add(&t, pn_str_of("b"), 2, 0.9);
    assert_int_equal(pn_tally_leader(&t, NULL)->voice, 2);
    pn_tally_sort(&t);
    assert_int_equal(t.option[0].voice, 2);
    assert_float_equal((float)t.option[0].weight, 0.81f, 1e-6f);
    assert_float_equal((float)t.weight, 0.99f, 1e-6f);
    pn_tally_free(&t);
}

static void confidence_is_a_mean(void **state)
{
    (void)state;
    const float half = -0.6931472f, tenth = -2.3025851f, p[] = {0, 0, half, half, 0, 0}, none[] = {(float)(0.0 / 0.0)}, mixed[] = {half, (float)(0.0 / 0.0), tenth};
    pn_confidence c = pn_confidence_of(p, 6, 2);
    assert_float_equal((float)c.mean, 0.7937005f, 1e-6f); /* 2^(-1/3) */
    assert_float_equal((float)c.lowest, 0.5f, 1e-6f);
    assert_float_equal((float)pn_confidence_of(p, 6, 100).lowest, 0.7937005f, 1e-6f);
    assert_float_equal((float)pn_confidence_of(none, 1, 2).mean, -1, 0);
    assert_float_equal((float)pn_confidence_of(NULL, 0, 2).mean, -1, 0);
    assert_float_equal((float)pn_confidence_of(mixed, 3, 2).mean, 0.2236068f, 1e-6f); /* sqrt(0.05) */
    assert_float_equal((float)pn_confidence_of(mixed, 3, 2).lowest, 0.1f, 1e-6f);
    assert_float_equal((float)pn_confidence_at(p, 4, 2), 0.5f, 1e-6f);
    assert_float_equal((float)pn_confidence_at(p, 2, 2), 1, 1e-6f);
}

static void results_are_chosen_and_cut(void **state)
{
    (void)state;
    uint32_t a[4], b[4];
    for (uint64_t seed = 0; seed < 100; seed++) {
        assert_int_equal(pn_results_choose(a, 4, 9, seed), 4);
        assert_int_equal(pn_results_choose(b, 4, 9, seed), 4);
        assert_memory_equal(a, b, sizeof a);
        for (int i = 0; i < 4; i++)
            for (int k = 0; k < i; k++) assert_int_not_equal(a[i], a[k]);
    }
    assert_int_equal(pn_results_choose(a, 4, 2, 1), 2);
    assert_int_equal(pn_results_choose(a, 4, 0, 1), 0);
    char text[5001];
    for (int i = 0; i < 5000; i += 2) memcpy(text + i, "\xc3\xa4", 2);
    const pn_result r[] = {{{"  146\n", 6}, 3}, {{text, 5000}, 0}};
    pn_buf out;
    pn_buf_init(&out, NULL);
    assert_int_equal(pn_results_write(&out, "A", r, 2, "B", NULL), PONDER_OK);
    assert_memory_equal(out.p, "A\n\n1. (3 times) 146\n2. \xc3\xa4", 25);
    assert_true(out.n < 1300);
    for (size_t i = 0; i < out.n; i++)
        if ((unsigned char)out.p[i] == 0xc3) assert_int_equal((unsigned char)out.p[i + 1], 0xa4);
    pn_buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_has_its_normal_form), cmocka_unit_test(votes_are_counted), cmocka_unit_test(confidence_is_a_mean),
        cmocka_unit_test(results_are_chosen_and_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
