/* Decisions about thoughts, by arithmetic: no model, no tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "think/think.h"

static const pn_think_limits none = {.tokens = -1, .think_us = -1, .soft = -1, .grace = -1, .rank = 3, .patience = 1, .interval = 32,
                                     .probe_share = 0.03, .exit_at = -1};
static const pn_think_cost free_of_limits = {.closer = 1, .behind = 5, .left = UINT64_MAX};

static void take(pn_thought *t, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) pn_thought_token(t, true, true, false, "a", 1);
}

static pn_thought opened(void)
{
    pn_thought t;
    pn_thought_begin(&t);
    pn_thought_token(&t, false, true, false, "<", 1);
    assert_true(t.open);
    assert_int_equal(t.blocks, 1);
    assert_int_equal(t.used, 0); /* the opener does not count */
    return t;
}

/* ---- counting and room -------------------------------------------------------------------------------- */

static void counts(void **state)
{
    (void)state;
    pn_thought t = opened();
    take(&t, 9);
    pn_thought_token(&t, true, false, false, "", 0); /* the closer does */
    assert_int_equal(t.used, 10);
    assert_int_equal(t.why, PONDER_THOUGHT_NATURAL);
    assert_true(t.owed && !t.open);
    pn_thought_token(&t, false, true, false, "", 0);
    take(&t, 3);
    pn_thought_token(&t, true, true, true, "", 0); /* another block without a close between: the token is the first's */
    assert_int_equal(t.blocks, 3);
    assert_int_equal(t.used, 14);
    assert_int_equal(t.block, 0);
}

/* Whatever the cap: what may be taken and the closer are the cap, exactly. */
static void room_and_closer_are_the_cap(void **state)
{
    (void)state;
    for (int64_t cap = 0; cap < 40; cap++)
        for (uint32_t closer = 1; closer < 6; closer++) {
            pn_think_limits l = none;
            pn_think_cost c = free_of_limits;
            l.tokens = cap;
            c.closer = closer;
            pn_thought t;
            pn_thought_begin(&t);
            assert_int_equal(pn_think_may_open(&l, &t, &c), cap > closer); /* a token at least, and the closer */
            if (!pn_think_may_open(&l, &t, &c)) continue;
            t = opened();
            while (pn_think_room_of(&l, &t, &c, false).tokens > 0) take(&t, 1);
            assert_int_equal(t.used + closer, cap);
        }
}

static void message_goes_before_the_cap(void **state)
{
    (void)state;
    pn_think_limits l = none;
    pn_think_cost c = free_of_limits;
    c.message = 5;
    for (l.tokens = 2; l.tokens < 30; l.tokens++) {
        pn_thought t = opened();
        pn_think_room r;
        while ((r = pn_think_room_of(&l, &t, &c, false)).until_cut > 0) take(&t, 1);
        const bool fits = l.tokens >= 1 + 5 + 1; /* a token, the message, the closer */
        assert_int_equal(r.message && r.tokens >= 5, fits);
        assert_int_equal(t.used + (fits ? 5 : 0) + 1, l.tokens);
    }
}

static void scopes(void **state)
{
    (void)state;
    pn_think_limits l = none;
    l.tokens = 10;
    pn_thought t = opened();
    take(&t, 8);
    pn_thought_token(&t, true, false, false, "", 0);
    assert_false(pn_think_may_open(&l, &t, &free_of_limits)); /* one token is left, and that is the closer's */
    l.block = true;
    assert_true(pn_think_may_open(&l, &t, &free_of_limits));
    pn_thought_token(&t, false, true, false, "", 0);
    assert_int_equal(pn_think_room_of(&l, &t, &free_of_limits, false).tokens, 9);
    t.over = true;
    assert_false(pn_think_may_open(&l, &t, &free_of_limits));
}

static void context_and_max_tokens(void **state)
{
    (void)state;
    pn_think_limits l = none;
    pn_think_cost c = free_of_limits;
    pn_thought t = opened();
    c.left = 20;
    assert_int_equal(pn_think_room_of(&l, &t, &c, false).tokens, 20 - 1 - 5 - 1); /* closer, what is behind it, a token of answer */
    l.answer = 8;
    assert_int_equal(pn_think_room_of(&l, &t, &c, false).tokens, 20 - 1 - 5 - 8);
    c.left = 3;
    assert_true(pn_think_room_of(&l, &t, &c, false).tokens <= 0);
}

static void time_is_tokens(void **state)
{
    (void)state;
    pn_think_limits l = none;
    pn_think_cost c = free_of_limits;
    pn_thought t = opened();
    l.think_us = 1000;
    assert_int_equal(pn_think_room_of(&l, &t, &c, false).tokens, INT64_MAX); /* no speed is known */
    c.step_us = 100;
    t.used_us = t.block_us = 450;
    pn_think_room r = pn_think_room_of(&l, &t, &c, false);
    assert_int_equal(r.tokens, 5);
    assert_true(r.by_time);
    t.used_us = 901; /* a whole step does not fit any more */
    assert_int_equal(pn_think_room_of(&l, &t, &c, false).tokens, 0);
    t.used_us = UINT64_C(1) << 60;
    assert_int_equal(pn_think_room_of(&l, &t, &c, false).tokens, 0);
    l.block = true; /* the block's own time */
    assert_int_equal(pn_think_room_of(&l, &t, &c, false).tokens, 5);
    assert_int_equal(pn_think_room_of(&l, &t, &c, true).tokens, 10);
    l = none;
    l.turn_us = 2000;
    l.answer = 4;
    c.turn_us = 500;
    assert_int_equal(pn_think_room_of(&l, &t, &c, false).tokens, 10); /* 1500 us less five steps */
    l.think_us = 0;
    assert_false(pn_think_may_open(&l, &t, &c));
}

static void regions(void **state)
{
    (void)state;
    pn_think_limits l = none;
    l.tokens = 101;
    for (uint64_t used = 0; used < 100; used += 5) {
        pn_thought t = opened();
        take(&t, used);
        const pn_think_room r = pn_think_room_of(&l, &t, &free_of_limits, false);
        assert_int_equal(r.tokens, 100 - (int64_t)used);
        assert_int_equal(pn_think_in_soft(&l, &t, &r), used >= 50);  /* automatic: a half */
        assert_int_equal(pn_think_in_grace(&l, &t, &r), used >= 50); /* half */
        pn_think_limits own = l;
        own.soft = 10;
        own.grace = 0;
        assert_int_equal(pn_think_in_soft(&own, &t, &r), used >= 90);
        assert_false(pn_think_in_grace(&own, &t, &r));
        own.least = 95;
        assert_int_equal(pn_think_in_soft(&own, &t, &r), used >= 95);
        assert_int_equal(pn_think_held_back(&own, &t), used < 95);
    }
}

/* ---- text ------------------------------------------------------------------------------------------------------ */

static bool ends(const char *text, const char *next) { return pn_think_boundary(text, strlen(text), next, strlen(next)); }

static void sentences(void **state)
{
    (void)state;
    static const char *const yes[][2] = {{"So it is.", " The"}, {"Is it?", " "}, {"It is!", " No"}, {"He said \"no.\"", " Then"}, {"(as shown.)", " Then"},
                                         {"it is 42.", " Next"}, {"a line\n", "b"}, {"a line", "\n"}, {"Steps:", "\n"}, {"\xe5\xa5\xbd\xe3\x80\x82", "\xe5"},
                                         {"so do I.", " It"}, {"**Done.**", " It"}, {"version 2.0.", " It"}};
    static const char *const no[][2] = {{"3.", "14"}, {"e.g.", " this"}, {"i.e.", " that"}, {"Dr.", " No"}, {"the U.S.", " is"}, {"1.", " First"},
                                        {"text\n2.", " Second"}, {"So it is", " not"}, {"so it is,", " and"}, {"at 3:", "30"}, {"", " The"}, {"Hm.", "5"},
                                        {"cf.", " above"}, {"J.", " Smith"}, {"Steps:", " one"}};
    for (size_t i = 0; i < PN_COUNT(yes); i++)
        if (!ends(yes[i][0], yes[i][1])) fail_msg("no end between \"%s\" and \"%s\"", yes[i][0], yes[i][1]);
    for (size_t i = 0; i < PN_COUNT(no); i++)
        if (ends(no[i][0], no[i][1])) fail_msg("an end between \"%s\" and \"%s\"", no[i][0], no[i][1]);
}

static void characters(void **state)
{
    (void)state;
    static const struct { const char *text; uint32_t lacks; } cases[] = {
        {"", 0}, {"a", 0}, {"\xc3", 1}, {"\xc3\xa9", 0}, {"\xe4", 2}, {"\xe4\xb8", 1}, {"\xe4\xb8\xad", 0}, {"\xf0", 3}, {"\xf0\x9f", 2},
        {"\xf0\x9f\x98", 1}, {"\xf0\x9f\x98\x80", 0}, {"ab\xe4\xb8", 1}, {"\xb8\xad", 0}, {"\xff", 0}, {"\xc1", 0}};
    for (size_t i = 0; i < PN_COUNT(cases); i++)
        assert_int_equal(pn_think_unfinished(cases[i].text, strlen(cases[i].text)), cases[i].lacks);
}

static void tails(void **state)
{
    (void)state;
    pn_thought t = opened();
    for (int i = 0; i < 100; i++) {
        char text[40];
        const int n = snprintf(text, sizeof text, "%0*d", 1 + i * 7 % 37, i);
        pn_thought_token(&t, true, true, false, text, (size_t)n);
        assert_true(t.n_tail <= PN_THINK_TAIL);
        const size_t same = PN_MIN((size_t)n, (size_t)PN_THINK_TAIL);
        assert_memory_equal(t.tail + t.n_tail - same, text + (size_t)n - same, same);
    }
    assert_int_equal(t.n_tail, PN_THINK_TAIL);
}

/* ---- numbers -------------------------------------------------------------------------------------------------------- */

static void ranks(void **state)
{
    (void)state;
    const float x[] = {1, 5, 3, 3, -2};
    assert_int_equal(pn_think_rank(x, 5, 1, 0), 0);
    assert_int_equal(pn_think_rank(x, 5, 2, 0), 1);
    assert_int_equal(pn_think_rank(x, 5, 3, 0), 2); /* of equals the lower id is first */
    assert_int_equal(pn_think_rank(x, 5, 4, 0), 4);
    assert_int_equal(pn_think_rank(x, 5, 4, 6.5f), 1);
}

static void choices(void **state)
{
    (void)state;
    uint32_t times[3] = {0};
    for (uint64_t i = 0; i < 3000; i++) {
        const uint32_t k = pn_think_choice(7, i, 3);
        assert_true(k < 3);
        assert_int_equal(k, pn_think_choice(7, i, 3));
        times[k]++;
    }
    for (int i = 0; i < 3; i++) assert_in_range(times[i], 900, 1100); /* 1000, 4 deviations of 26 */
}

static void probes(void **state)
{
    (void)state;
    pn_think_limits l = none;
    pn_thought t = opened();
    take(&t, 500);
    assert_false(pn_think_probe_due(&l, &t, 6));
    l.exit = PN_EXIT_ENTROPY;
    l.patience = 2;
    assert_true(pn_think_probe_due(&l, &t, 6));
    assert_false(pn_think_probed(&l, &t, 0.1, 6)); /* once is not twice */
    assert_false(pn_think_probe_due(&l, &t, 6));
    take(&t, 31);
    assert_false(pn_think_probe_due(&l, &t, 6));
    take(&t, 1);
    assert_true(pn_think_probe_due(&l, &t, 6));
    assert_false(pn_think_probed(&l, &t, 0.3, 6)); /* not sure: counts anew */
    assert_false(pn_think_probed(&l, &t, 0.1, 6));
    assert_true(pn_think_probed(&l, &t, 0.1, 6));
    assert_int_equal(t.probes, 4);
    assert_int_equal(t.probe_tokens, 24);
    /* The share is kept whatever the interval. */
    l.interval = 1;
    t = opened();
    uint64_t computed = 0;
    for (int i = 0; i < 2000; i++) {
        take(&t, 1);
        if (!pn_think_probe_due(&l, &t, 6)) continue;
        pn_think_probed(&l, &t, 9, 6);
        computed += 6;
        assert_true((double)computed <= 0.03 * (double)t.used);
    }
    assert_int_equal(computed, 60);
    l.exit = PN_EXIT_ANSWER;
    l.patience = 1;
    assert_true(pn_think_probed(&l, &t, -0.04, 6));  /* 0.961 */
    assert_false(pn_think_probed(&l, &t, -0.06, 6)); /* 0.942 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts), cmocka_unit_test(room_and_closer_are_the_cap), cmocka_unit_test(message_goes_before_the_cap), cmocka_unit_test(scopes),
        cmocka_unit_test(context_and_max_tokens), cmocka_unit_test(time_is_tokens), cmocka_unit_test(regions), cmocka_unit_test(sentences),
        cmocka_unit_test(characters), cmocka_unit_test(tails), cmocka_unit_test(ranks), cmocka_unit_test(choices), cmocka_unit_test(probes),
    };
    return cmocka_run_group_tests_name("think", tests, NULL, NULL);
}
