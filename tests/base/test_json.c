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

/* ---- how a text is read ---- */

typedef struct counter { size_t calls, fail_at, live; } counter;

static void *count_alloc(void *user, size_t n, size_t align)
{
    counter *c = user;
    (void)align;
    if (++c->calls == c->fail_at) return NULL;
    c->live += n;
    return malloc(n);
}

static void count_free(void *user, void *p, size_t n)
{
    ((counter *)user)->live -= n;
    free(p);
}

static ponder_status read_counted(counter *c, const char *text, ponder_error *e)
{
    const ponder_alloc a = {.size = sizeof a, .user = c, .alloc = count_alloc, .free = count_free};
    pn_json d;
    *e = (ponder_error){.size = sizeof *e};
    const ponder_status s = pn_json_read(&d, text, strlen(text), &a, e);
    pn_json_free(&d);
    assert_int_equal(c->live, 0);
    return s;
}

static void memory_is_counted(void **state)
{
    (void)state;
    ponder_error e;
    counter c = {0};
    assert_int_equal(read_counted(&c, "{\"a\": [1, 2, 3], \"b\": \"c\"}", &e), PONDER_OK);
    assert_int_equal(c.calls, 2); /* the values, and a table while they are made */
    for (size_t at = 1; at <= 2; at++) {
        c = (counter){.fail_at = at};
        assert_int_equal(read_counted(&c, "[{}]", &e), PONDER_E_NOMEM);
        assert_non_null(strstr(e.text, "no memory"));
    }
    c = (counter){0};
    assert_int_equal(read_counted(&c, "[1, 2, 3, 4, \"5]", &e), PONDER_E_FORMAT);
    assert_int_equal(c.calls, 0); /* a wrong text costs none */
}

static void says_where_it_is_wrong(void **state)
{
    (void)state;
    static const struct { const char *text, *says; } cases[] = {
        {"", "JSON: line 1, column 1: an early end"}, {"{\n \"a\": 1,\n \"b\": x\n}", "JSON: line 3, column 7: something that is no value"},
        {"[1] 2", "JSON: line 1, column 5: more than one value"}, {"[1 2]", "JSON: line 1, column 4: a missing comma"},
        {"{\"a\" 1}", "JSON: line 1, column 6: a name without a value"}, {"{1: 2}", "JSON: line 1, column 2: a member without a name"},
        {"\n\n\"\\ud800\"", "JSON: line 3, column 2: half a surrogate pair"}};
    for (size_t i = 0; i < PN_COUNT(cases); i++) {
        counter c = {0};
        ponder_error e;
        assert_int_equal(read_counted(&c, cases[i].text, &e), PONDER_E_FORMAT);
        assert_string_equal(e.text, cases[i].says);
    }
}

static ponder_status read_as(const char *text, const pn_json_options *o, ponder_error *e)
{
    pn_json_free(&doc);
    *e = (ponder_error){.size = sizeof *e};
    return pn_json_read_as(&doc, text, strlen(text), o, NULL, e);
}

static void options(void **state)
{
    (void)state;
    ponder_error e;
    const pn_json_options two = {.what = "two.json", .depth = 2}, unique = {.what = "u", .unique = true};
    assert_int_equal(read_as("[[], {}]", &two, &e), PONDER_OK);
    assert_int_equal(read_as("[[], [{}]]", &two, &e), PONDER_E_FORMAT);
    assert_string_equal(e.text, "two.json: line 1, column 7: nested deeper than is allowed");
    assert_int_equal(read_as("{\"a\": {\"b\": 1}, \"b\": {\"b\": 2}}", &unique, &e), PONDER_OK);
    assert_int_equal(read_as("{\"a\": 1, \"\\u0061\": 2}", &unique, &e), PONDER_E_FORMAT);
    assert_non_null(strstr(e.text, "u: line 1"));
    assert_non_null(strstr(e.text, "a repeated name"));
}

/* Members that stay text: counted, checked, and walked. */
static void raw_members(void **state)
{
    (void)state;
    static const char *const names[] = {"long", NULL};
    static const char text[] = "{\"x\": [\"long\"], \"long\": {\"a\": 1, \"b\\n\": [2, {\"c\": 3}], \"a\": 4}, \"y\": {\"l\\u006fng\": [ ]}}";
    const pn_json_options o = {.raw = names};
    static const pn_json_event events[] = {PN_J_OPEN, PN_J_KEY, PN_J_VALUE, PN_J_KEY, PN_J_OPEN, PN_J_VALUE, PN_J_OPEN, PN_J_KEY, PN_J_VALUE,
                                           PN_J_CLOSE, PN_J_CLOSE, PN_J_KEY, PN_J_VALUE, PN_J_CLOSE, PN_J_END, PN_J_END};
    ponder_error e;
    pn_json_scan s;
    assert_int_equal(read_as(text, &o, &e), PONDER_OK);
    const pn_value *root = pn_json_root(&doc), *raw = pn_get(root, "long"), *empty = pn_get(pn_get(root, "y"), "long");
    assert_int_equal(raw->type, PN_V_DICT);
    assert_int_equal(raw->count, 3);
    assert_null(raw->first);
    assert_true(pn_str_eq(raw->text, "{\"a\": 1, \"b\\n\": [2, {\"c\": 3}], \"a\": 4}"));
    assert_true(empty->type == PN_V_LIST && empty->count == 0 && pn_str_eq(empty->text, "[ ]"));
    assert_true(pn_is(pn_at(pn_get(root, "x"), 0), "long"));
    pn_json_scan_init(&s, raw->text.p, raw->text.n, 0);
    for (size_t i = 0; i < PN_COUNT(events); i++) assert_int_equal(pn_json_next(&s), events[i]);
    assert_int_equal(read_as("{\"long\": [1, [2}]}", &o, &e), PONDER_E_FORMAT);
    assert_int_equal(read_as("{\"long\": 5}", &o, &e), PONDER_OK);
    assert_int_equal(pn_get(pn_json_root(&doc), "long")->type, PN_V_INT);
}

static void escapes_are_decoded(void **state)
{
    (void)state;
    static const char text[] = "\"a\\u00e9\\ud83d\\ude00\\n\"", want[] = "a\xc3\xa9\xf0\x9f\x98\x80\n";
    pn_json_scan s;
    pn_str out;
    pn_buf b;
    pn_buf_init(&b, NULL);
    pn_json_scan_init(&s, text, strlen(text), 0);
    assert_int_equal(pn_json_next(&s), PN_J_VALUE);
    assert_int_equal(s.decoded, strlen(want));
    assert_true(pn_json_string(&s, &b, &out) && pn_str_eq(out, want));
    pn_json_scan_init(&s, "\"plain\"", 7, 0);
    assert_int_equal(pn_json_next(&s), PN_J_VALUE);
    assert_true(pn_json_string(&s, &b, &out) && out.p == s.text.p && pn_str_eq(out, "plain")); /* where it lies */
    pn_buf_free(&b);
    assert_true(pn_is(read(text), want));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members),
        cmocka_unit_test(integers),
        cmocka_unit_test(numbers),
        cmocka_unit_test(a_late_digit_decides),
        cmocka_unit_test(memory_is_counted),
        cmocka_unit_test(says_where_it_is_wrong),
        cmocka_unit_test(options),
        cmocka_unit_test(raw_members),
        cmocka_unit_test(escapes_are_decoded),
    };
    return cmocka_run_group_tests(tests, NULL, finish);
}
