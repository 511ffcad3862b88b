#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/json.h"

static pn_json doc;

static const pn_value *read(const char *text)
{
    pn_json_free(&doc);
    ponder_error e = {.size = sizeof e};
    if (pn_json_read(&doc, text, strlen(text), NULL, &e)) fail_msg("%s: %s", text, e.text);
    return pn_json_root(&doc);
}

static int finish(void **state)
{
    (void)state;
    pn_json_free(&doc);
    return 0;
}

static void members(void **state)
{
    (void)state;
    const pn_value *v = read("{\"a\": 1, \"b\": [true, null], \"a\": \"x\\u0000y\"}");
    pn_str s = {0};
    bool flag = false;
    assert_int_equal(v->count, 2);
    assert_true(pn_value_str(pn_get(v, "a"), &s));
    assert_int_equal(s.n, 3);
    assert_memory_equal(s.p, "x\0y", 3);
    assert_int_equal(pn_get(v, "c")->type, PN_V_UNDEFINED);
    assert_int_equal(pn_get(pn_get(v, "c"), "d")->type, PN_V_UNDEFINED);
    assert_true(pn_value_bool(pn_get(v, "b")->first, &flag) && flag);
    assert_false(pn_value_bool(pn_get(v, "a"), &flag));
    assert_false(pn_value_str(pn_get(v, "b"), &s));
}

static void integers(void **state)
{
    (void)state;
    static const struct { const char *text; bool fits; int64_t value; } cases[] = {
        {"0", true, 0}, {"-0", true, 0}, {"9223372036854775807", true, INT64_MAX}, {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0}, {"-9223372036854775809", false, 0}, {"100000000000000000000", false, 0},
        {"1.0", false, 0}, {"1e3", false, 0}, {"\"1\"", false, 0}, {"true", false, 0}};
    for (size_t i = 0; i < PN_COUNT(cases); i++) {
        int64_t n = 7;
        assert_int_equal(pn_value_i64(read(cases[i].text), INT64_MIN, INT64_MAX, &n), cases[i].fits);
        assert_true(n == (cases[i].fits ? cases[i].value : 7));
    }
    int64_t n = 7;
    assert_false(pn_value_i64(read("11"), 0, 10, &n));
    assert_false(pn_value_i64(read("-1"), 0, 10, &n));
    assert_true(pn_value_i64(read("10"), 0, 10, &n) && n == 10);
}

static void numbers(void **state)
{
    (void)state;
    static const struct { const char *text; bool fits; double value; } cases[] = {
        {"0.5", true, 0.5}, {"-1.25e-2", true, -0.0125}, {"1E5", true, 1e5}, {"18446744073709551616", true, 0x1p64}, {"-3", true, -3},
        {"1e999", false, 0}, {"-1e999", false, 0}, {"1e-999", true, 0}, {"0e99999999999999999999", true, 0},
        {"1e99999999999999999999", false, 0}, {"0.000000000000000000000000000001e30", true, 1}, {"null", false, 0}};
    setlocale(LC_ALL, "de_DE.UTF-8");
    for (size_t i = 0; i < PN_COUNT(cases); i++) {
        double d = 7;
        assert_int_equal(pn_value_f64(read(cases[i].text), &d), cases[i].fits);
        assert_true(d == (cases[i].fits ? cases[i].value : 7));
    }
    setlocale(LC_ALL, "C");
}

/* Half way between two doubles: the digit far behind decides. */
static void a_late_digit_decides(void **state)
{
    (void)state;
    char text[1200] = "9007199254740993.";
    double d = 0;
    size_t n = strlen(text);
    memset(text + n, '0', 1000);
    assert_true(pn_value_f64(read(text), &d) && d == 9007199254740992.0); /* to even */
    text[n + 999] = '1';
    assert_true(pn_value_f64(read(text), &d) && d == 9007199254740994.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members),
        cmocka_unit_test(integers),
        cmocka_unit_test(numbers),
        cmocka_unit_test(a_late_digit_decides),
    };
    return cmocka_run_group_tests(tests, NULL, finish);
}
