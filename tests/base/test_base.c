#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/base.h"

static void error_text_is_one_whole_line(void **state)
{
    (void)state;
    ponder_error e = {.size = sizeof e};
    assert_int_equal(pn_fail(&e, PONDER_E_FORMAT, "bad %s\n%d", "key", 7), PONDER_E_FORMAT);
    assert_string_equal(e.text, "bad key?7");
    char longer[600];
    for (size_t i = 0; i + 2 < sizeof longer; i += 2) memcpy(longer + i, "\xc3\xa9", 2);
    longer[598] = 0;
    pn_fail(&e, PONDER_E_FORMAT, "x%s", longer);
    size_t n = strlen(e.text);
    assert_true(n < sizeof e.text && n % 2 == 1); /* x and whole two-byte characters */
    assert_int_equal(pn_fail(NULL, PONDER_E_IO, "unused"), PONDER_E_IO);
}

static void status_names(void **state)
{
    (void)state;
    assert_string_equal(ponder_status_name(PONDER_OK), "PONDER_OK");
    assert_string_equal(ponder_status_name(PONDER_E_INTERNAL), "PONDER_E_INTERNAL");
    assert_string_equal(ponder_status_name(PONDER_E_FORK), "PONDER_E_FORK");
    assert_string_equal(ponder_status_name(PONDER_MORE), "PONDER_MORE");
    assert_string_equal(ponder_status_name(-99), "PONDER_E_?");
    assert_string_equal(ponder_status_name(INT32_MIN), "PONDER_E_?");
}

static void buffer_grows(void **state)
{
    (void)state;
    pn_buf b;
    pn_buf_init(&b, NULL);
    for (int i = 0; i < 1000; i++) assert_true(pn_buf_printf(&b, "%d,", i));
    assert_memory_equal(b.p, "0,1,2,3,", 8);
    assert_int_equal(b.n, 10 * 2 + 90 * 3 + 900 * 4);
    assert_false(pn_buf_reserve(&b, SIZE_MAX - 10));
    assert_false(pn_buf_puts(&b, "x"));
    pn_buf_free(&b);
}

typedef struct counts { _Atomic uint32_t seen[997]; } counts;

static void count_part(void *ctx, uint32_t thread, uint32_t part)
{
    assert_true(thread < 4);
    atomic_fetch_add(&((counts *)ctx)->seen[part], 1);
}

static void team_runs_each_part_once(void **state)
{
    (void)state;
    pn_team *t;
    assert_int_equal(pn_team_new(&t, 4, NULL, NULL, NULL), PONDER_OK);
    static counts c;
    uint32_t rounds = 0;
    pn_team_begin(t);
    for (uint32_t parts = 1; parts <= 997; parts += 83)
        for (int again = 0; again < 20; again++) {
            memset(&c, 0, sizeof c);
            pn_team_run(t, count_part, &c, parts);
            for (uint32_t i = 0; i < 997; i++) assert_int_equal(c.seen[i], i < parts ? 1 : 0);
            rounds++;
        }
    pn_team_end(t);
    assert_int_equal(rounds, 13 * 20);
    pn_team_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_text_is_one_whole_line),
        cmocka_unit_test(status_names),
        cmocka_unit_test(buffer_grows),
        cmocka_unit_test(team_runs_each_part_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
